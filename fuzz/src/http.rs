//! Heads of HTTP, in both directions.

use hawser_wire::http::{
    ClientUpgrade, Request, Response, client_request, client_response, deflate, upgrade,
};

const OURS: [&str; 2] = ["hawser.v1", "hawser.v1+json"];

/// Any bytes as a head: a prefix that is whole reads as the whole does, and judging never panics.
pub fn head(bytes: &[u8]) {
    let whole = Request::parse(bytes);
    if let Ok(Some((request, used))) = &whole {
        assert!(*used <= bytes.len());
        assert_eq!(
            Request::parse(&bytes[..*used]),
            whole,
            "what follows a head is not looked at"
        );
        for cut in [used / 2, used - 1] {
            assert_eq!(
                Request::parse(&bytes[..cut]),
                Ok(None),
                "a part of a head waits"
            );
        }
        let _ = (request.path(), request.query("token"), request.body_len());
        if let Ok(accepted) = upgrade(request, &OURS) {
            assert_eq!(accepted.accept.len(), 28);
            assert!(accepted.protocol.is_none() || accepted.offered);
        }
        if let Some(offer) = deflate(request) {
            assert!((8..=15).contains(&offer.agreed.window_bits()));
            assert!(offer.answer().starts_with("permessage-deflate; "));
        }
    }
    if let Ok(Some((_, used))) = Response::parse(bytes) {
        assert!(used <= bytes.len());
    }
    let _ = client_response(bytes, &asked());
}

fn asked() -> ClientUpgrade<'static> {
    ClientUpgrade {
        host: "localhost",
        target: "/v1/ws",
        protocols: &OURS,
        headers: &[("Origin", "http://localhost")],
        deflate: false,
        key: *b"the sample nonce",
    }
}

/// Heads that are right.
#[must_use]
pub fn heads() -> Vec<Vec<u8>> {
    let mut request = Vec::new();
    client_request(&asked(), &mut request);
    let mut heads = vec![request.clone()];
    if let Ok(Some((request, _))) = Request::parse(&request)
        && let Ok(accepted) = upgrade(&request, &OURS)
    {
        let mut answer = Vec::new();
        hawser_wire::http::switch(&accepted, Some(OURS[0]), &mut answer);
        heads.push(answer);
    }
    let extended = |answer: &str| format!("Sec-WebSocket-Extensions: x, {answer}\r\n\r\n");
    let offer = "permessage-deflate; server_max_window_bits=\"10\"; client_max_window_bits";
    if let Some(head) = heads[0].strip_suffix(b"\r\n") {
        heads.push([head, extended(offer).as_bytes()].concat());
    }
    let mut refusal = Vec::new();
    hawser_wire::http::refuse(503, "full", &[("Retry-After", "1")], &mut refusal);
    heads.push(refusal);
    heads.push(
        b"POST /v1/groups?x=1&y HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\nhello, world"
            .to_vec(),
    );
    heads.push(b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec());
    heads
}
