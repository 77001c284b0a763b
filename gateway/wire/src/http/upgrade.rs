//! The opening handshake of RFC 6455, both ends.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tungstenite::handshake::derive_accept_key;

use super::deflate::{self, DeflateOffer, OFFER};
use super::head::{items, lists, named};
use super::response::field;
use super::{HttpError, Request, Response};
use crate::ws::Deflate;

/// A request that may be answered by [`super::switch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The first subprotocol of the client's list that is one of ours, as an index into ours.
    pub protocol: Option<usize>,
    /// The client listed subprotocols at all.
    pub offered: bool,
    /// The value of Sec-WebSocket-Accept.
    pub accept: String,
    /// The client offers to compress ([`super::deflate()`]), and the caller wants it; `None` of [`upgrade`].
    pub deflate: Option<DeflateOffer>,
}

/// Why a request is not an opening handshake; [`UpgradeError::status`] is what to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpgradeError {
    /// The method is not GET.
    #[error("the method of a WebSocket upgrade is GET")]
    Method,
    /// Below HTTP/1.1.
    #[error("a WebSocket upgrade needs HTTP/1.1")]
    Version,
    /// No `Upgrade: websocket` with `Connection: Upgrade`.
    #[error("this place speaks WebSocket: send an upgrade")]
    NotAnUpgrade,
    /// Sec-WebSocket-Version is not 13.
    #[error("only version 13 of WebSocket is spoken here")]
    WebSocketVersion,
    /// Sec-WebSocket-Key is not 16 bytes in base64.
    #[error("Sec-WebSocket-Key is not 16 bytes in base64")]
    Key,
    /// A body comes with the request.
    #[error("a WebSocket upgrade has no body")]
    Body,
}

impl UpgradeError {
    /// The status that tells the client: 400, 405 or 426.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Method => 405,
            Self::NotAnUpgrade | Self::WebSocketVersion => 426,
            Self::Version | Self::Key | Self::Body => 400,
        }
    }

    /// The headers that go with the status.
    #[must_use]
    pub fn headers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Method => &[("Allow", "GET")],
            Self::NotAnUpgrade | Self::WebSocketVersion => {
                &[("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
            }
            Self::Version | Self::Key | Self::Body => &[],
        }
    }
}

/// Judges an opening handshake (RFC 6455 section 4.2.1). `protocols` are the subprotocols spoken here; that none of them
/// was offered is no error here. Origin, path and authority are the caller's to judge.
///
/// # Errors
/// The client's fault; answer with [`UpgradeError::status`].
pub fn upgrade(request: &Request, protocols: &[&str]) -> Result<Accepted, UpgradeError> {
    let headers = &request.headers;
    if &*request.method != "GET" {
        return Err(UpgradeError::Method);
    }
    if !lists(headers, "connection", "upgrade") || !request.wants_websocket() {
        return Err(UpgradeError::NotAnUpgrade);
    }
    if !request.is_http_11 {
        return Err(UpgradeError::Version);
    }
    if request.header("sec-websocket-version") != Some("13") {
        return Err(UpgradeError::WebSocketVersion);
    }
    if request.body_len() != Some(0) {
        return Err(UpgradeError::Body);
    }
    let key = named(headers, "sec-websocket-key")
        .next()
        .unwrap_or_default();
    if !BASE64_STANDARD.decode(key).is_ok_and(|key| key.len() == 16) {
        return Err(UpgradeError::Key);
    }
    let mut offered = items(headers, "sec-websocket-protocol").peekable();
    Ok(Accepted {
        offered: offered.peek().is_some(),
        protocol: offered.find_map(|offer| protocols.iter().position(|ours| *ours == offer)),
        accept: derive_accept_key(key),
        deflate: None,
    })
}

/// What a client asks for.
#[derive(Clone, Copy, Debug)]
pub struct ClientUpgrade<'a> {
    /// The authority of the URL: `host:port`.
    pub host: &'a str,
    /// The path with its query.
    pub target: &'a str,
    /// Subprotocols, the most wanted first.
    pub protocols: &'a [&'a str],
    /// Headers more, as `Origin`.
    pub headers: &'a [(&'a str, &'a str)],
    /// Offers to compress, without context in either direction.
    pub deflate: bool,
    /// 16 fresh random bytes.
    pub key: [u8; 16],
}

/// Appends the opening handshake.
pub fn client_request(upgrade: &ClientUpgrade<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"GET ");
    out.extend(upgrade.target.bytes().filter(u8::is_ascii_graphic));
    out.extend_from_slice(b" HTTP/1.1\r\n");
    field("Host", upgrade.host, out);
    field("Upgrade", "websocket", out);
    field("Connection", "Upgrade", out);
    field("Sec-WebSocket-Version", "13", out);
    field(
        "Sec-WebSocket-Key",
        &BASE64_STANDARD.encode(upgrade.key),
        out,
    );
    if !upgrade.protocols.is_empty() {
        field("Sec-WebSocket-Protocol", &upgrade.protocols.join(", "), out);
    }
    if upgrade.deflate {
        field("Sec-WebSocket-Extensions", OFFER, out);
    }
    for (name, value) in upgrade.headers {
        field(name, value, out);
    }
    out.extend_from_slice(b"\r\n");
}

/// What a server agreed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switched {
    /// The subprotocol, as an index into those offered.
    pub protocol: Option<usize>,
    /// Both ends compress.
    pub deflate: Option<Deflate>,
    /// Bytes of the head; WebSocket begins behind it.
    pub used: usize,
}

/// Judges the answer to [`client_request`] at the front of `bytes`; `None` when the end of its head is not there yet.
///
/// # Errors
/// The server refused, or did not answer as a WebSocket server does.
pub fn client_response(
    bytes: &[u8],
    upgrade: &ClientUpgrade<'_>,
) -> Result<Option<Switched>, ClientError> {
    let Some((response, used)) = Response::parse(bytes)? else {
        return Ok(None);
    };
    if response.status != 101 {
        return Err(ClientError::Refused {
            status: response.status,
        });
    }
    let key = BASE64_STANDARD.encode(upgrade.key);
    let is_switch = lists(&response.headers, "upgrade", "websocket")
        && lists(&response.headers, "connection", "upgrade")
        && response.header("sec-websocket-accept") == Some(&derive_accept_key(key.as_bytes()));
    let deflate = deflate::answered(&response).map_err(|()| ClientError::NotASwitch)?;
    if !is_switch || (deflate.is_some() && !upgrade.deflate) {
        return Err(ClientError::NotASwitch);
    }
    let protocol = match response.header("sec-websocket-protocol") {
        None => None,
        Some(chosen) => match upgrade.protocols.iter().position(|ours| *ours == chosen) {
            Some(index) => Some(index),
            None => return Err(ClientError::Protocol),
        },
    };
    Ok(Some(Switched {
        protocol,
        deflate,
        used,
    }))
}

/// Why a client has no WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The server answered with another status than 101.
    #[error("the server refused the upgrade with status {status}")]
    Refused {
        /// 100 to 999.
        status: u16,
    },
    /// Headers of the answer are missing, wrong or not asked for.
    #[error("the answer is not that of a WebSocket server")]
    NotASwitch,
    /// The server chose a subprotocol that was not offered.
    #[error("the server chose a subprotocol that was not offered")]
    Protocol,
    /// The answer is not HTTP.
    #[error(transparent)]
    Http(#[from] HttpError),
}

#[cfg(test)]
mod tests {
    use super::super::{refuse, switch};
    use super::*;

    const OURS: [&str; 2] = ["chat.v2", "chat.v1"];

    fn request(edit: impl Fn(&str) -> String) -> Request {
        let head = "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: WebSocket\r\n\
                    Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                    Sec-WebSocket-Protocol: other, chat.v1,chat.v2\r\nSec-WebSocket-Version: 13\r\n\r\n";
        Request::parse(edit(head).as_bytes()).unwrap().unwrap().0
    }

    #[test]
    fn the_example_of_the_rfc() {
        let accepted = upgrade(&request(str::to_owned), &OURS).unwrap();
        assert_eq!(accepted.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(accepted.protocol, Some(1), "the client's order decides");
        assert!(accepted.offered);
    }

    #[test]
    fn each_fault_has_its_status() {
        for (from, to, status) in [
            ("GET", "POST", 405),
            ("Upgrade: WebSocket\r\n", "", 426),
            ("keep-alive, Upgrade", "keep-alive", 426),
            ("HTTP/1.1", "HTTP/1.0", 400),
            ("Version: 13", "Version: 8", 426),
            ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ==", 400),
            ("dGhlIHNhbXBsZSBub25jZQ==", "not base64 at all", 400),
            ("Sec-WebSocket-Key", "X-Key", 400),
            ("Host: ", "Content-Length: 5\r\nHost: ", 400),
            ("Host: ", "Transfer-Encoding: chunked\r\nHost: ", 400),
        ] {
            let error = upgrade(&request(|head| head.replacen(from, to, 1)), &OURS).unwrap_err();
            assert_eq!(error.status(), status, "{from:?} -> {to:?}: {error}");
        }
    }

    #[test]
    fn no_common_subprotocol_is_told_apart_from_none_offered() {
        let none = upgrade(&request(str::to_owned), &["x"]).unwrap();
        assert_eq!((none.protocol, none.offered), (None, true));
        let head =
            request(|head| head.replace("Sec-WebSocket-Protocol: other, chat.v1,chat.v2\r\n", ""));
        let none = upgrade(&head, &OURS).unwrap();
        assert_eq!((none.protocol, none.offered), (None, false));
    }

    fn asked() -> ClientUpgrade<'static> {
        ClientUpgrade {
            host: "localhost:80",
            target: "/v1/ws?x=1",
            protocols: &["chat.v1", "chat.v2"],
            headers: &[("Origin", "http://localhost")],
            deflate: false,
            key: *b"the sample nonce",
        }
    }

    #[test]
    fn our_client_and_server_agree() {
        let mut head = Vec::new();
        client_request(&asked(), &mut head);
        let (request, used) = Request::parse(&head).unwrap().unwrap();
        assert_eq!(used, head.len());
        assert_eq!(request.header("origin"), Some("http://localhost"));
        let accepted = upgrade(&request, &OURS).unwrap();
        let mut answer = Vec::new();
        switch(
            &accepted,
            accepted.protocol.map(|index| OURS[index]),
            &mut answer,
        );
        let whole = answer.len();
        for cut in 0..whole {
            assert_eq!(client_response(&answer[..cut], &asked()), Ok(None));
        }
        answer.extend_from_slice(b"\x81\x00");
        assert_eq!(
            client_response(&answer, &asked()),
            Ok(Some(Switched {
                protocol: Some(0),
                deflate: None,
                used: whole
            }))
        );
    }

    #[test]
    fn both_ends_agree_to_compress_only_where_both_want_to() {
        let offering = ClientUpgrade {
            deflate: true,
            ..asked()
        };
        let answer = |upgrade_of: &ClientUpgrade<'_>, wanted: bool| {
            let mut head = Vec::new();
            client_request(upgrade_of, &mut head);
            let (request, _) = Request::parse(&head).unwrap().unwrap();
            let mut accepted = upgrade(&request, &OURS).unwrap();
            assert_eq!(accepted.deflate, None, "the caller's to want");
            if wanted {
                accepted.deflate = deflate::deflate(&request);
            }
            let mut answer = Vec::new();
            switch(&accepted, Some("chat.v1"), &mut answer);
            client_response(&answer, upgrade_of)
                .unwrap()
                .unwrap()
                .deflate
        };
        assert_eq!(answer(&offering, true), Some(Deflate::default()));
        assert_eq!(answer(&offering, false), None);
        assert_eq!(answer(&asked(), true), None);
    }

    #[test]
    fn a_client_trusts_no_answer_but_the_right_one() {
        let answer = |accept: &str, protocol: &str| {
            format!(
                "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n"
            )
        };
        let right = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
        let judge = |text: String| client_response(text.as_bytes(), &asked());
        assert!(judge(answer(right, "chat.v2")).is_ok());
        assert_eq!(
            judge(answer("AAAA", "chat.v2")),
            Err(ClientError::NotASwitch)
        );
        assert_eq!(judge(answer(right, "chat.v3")), Err(ClientError::Protocol));
        let extended = answer(right, "chat.v1")
            .replace("Upgrade: w", "Sec-WebSocket-Extensions: x\r\nUpgrade: w");
        assert_eq!(judge(extended), Err(ClientError::NotASwitch));
        let compressed = format!("Sec-WebSocket-Extensions: {OFFER}\r\nUpgrade: w");
        let compressed = answer(right, "chat.v1").replace("Upgrade: w", &compressed);
        assert_eq!(judge(compressed), Err(ClientError::NotASwitch), "unasked");
        let mut refused = Vec::new();
        refuse(403, "no", &[], &mut refused);
        let result = client_response(&refused, &asked());
        assert_eq!(result, Err(ClientError::Refused { status: 403 }));
    }
}
