//! Who may see users' addresses and change something: whoever is on this machine, or has a token with the scope `admin`.
//! A page in a browser may neither.

use super::Admin;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{AUTHORIZATION, FORWARDED, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, Method};
use axum::middleware::Next;
use axum::response::Response;
use hawser_fanout::api::{ApiError, bearer};
use hawser_fanout::auth::Claims;
use hawser_protocol::codes::ErrorCode;
use hawser_protocol::ids::UserId;
use std::net::{IpAddr, SocketAddr};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Lets through who may.
pub(super) async fn guard(
    State(admin): State<Admin>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let peer = peer.map(|ConnectInfo(addr)| addr.ip());
    let node = &admin.node;
    let by = judge(request.headers(), peer, |headers| {
        bearer(headers, &node.verifier, node.clock.wall_ms())
    })?;
    if request.method() == Method::POST {
        let by = by.as_ref().map_or("this machine", UserId::as_str);
        tracing::info!(by, path = request.uri().path(), "an operator");
    }
    Ok(next.run(request).await)
}

/// The rules; `peer`: who is at the other end, where that is known. Returns whose token it was, if there was one.
fn judge(
    headers: &HeaderMap,
    peer: Option<IpAddr>,
    verify: impl FnOnce(&HeaderMap) -> Result<Claims, ApiError>,
) -> Result<Option<UserId>, ApiError> {
    let refused = |words: &str| Err(ApiError::new(ErrorCode::Forbidden, words));
    let site = headers.get(SEC_FETCH_SITE);
    let other_site = site.is_some_and(|site| site != "none" && site != "same-origin");
    if headers.contains_key(ORIGIN) || other_site {
        return refused("not for pages in browsers (the request has an Origin)");
    }
    if headers.contains_key(AUTHORIZATION) {
        let claims = verify(headers)?;
        if claims.admin {
            return Ok(Some(claims.user));
        }
        return refused(
            "the token lacks the scope admin: make one by `hawser-gateway token --admin-scope`, or at your issuer",
        );
    }
    let here = peer.is_some_and(|ip| ip.to_canonical().is_loopback());
    let proxied = headers.contains_key(FORWARDED) || headers.contains_key(X_FORWARDED_FOR);
    if !here || proxied {
        return refused(
            "only from this machine, or with a token of the scope admin: Authorization: Bearer <token> \
             (`hawser-gateway token --admin-scope`, --token, HAWSER_ADMIN_TOKEN)",
        );
    }
    // A name that an attacker's DNS points here: the browser takes us for the attacker's site.
    let host = headers.get(HOST).map(|host| host.to_str().unwrap_or(""));
    if !host.is_none_or(is_literal) {
        return refused("without a token ask by address (127.0.0.1, [::1] or localhost)");
    }
    Ok(None)
}

/// Whether a Host header is an address or `localhost`.
fn is_literal(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(name, _)| name),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    /// Who is at the other end, headers, what comes of it.
    type Row = (
        Option<&'static str>,
        Vec<(HeaderName, &'static str)>,
        Result<(), ErrorCode>,
    );

    fn asked(peer: Option<&str>, headers: &[(HeaderName, &'static str)]) -> Result<(), ErrorCode> {
        let pairs = headers
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
        let headers: HeaderMap = pairs.collect();
        let verify = |headers: &HeaderMap| {
            let token = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
            if !matches!(token, Some(b"Bearer admin" | b"Bearer user")) {
                return Err(ApiError::new(ErrorCode::Unauthenticated, ""));
            }
            Ok(Claims {
                user: UserId::new("u").expect("an id"),
                device: None,
                expires_at_ms: u64::MAX,
                issued_at_ms: 0,
                admin: token == Some(b"Bearer admin"),
                jti: None,
            })
        };
        let peer = peer.map(|ip| ip.parse().expect("an address"));
        let judged = judge(&headers, peer, verify);
        judged.map(|_| ()).map_err(|error| error.code())
    }

    #[test]
    fn who_is_here_or_has_an_admins_token_may_and_a_browsers_page_may_not() {
        const FAR: Option<&str> = Some("192.0.2.7");
        const HERE: Option<&str> = Some("127.0.0.1");
        let (no, bad) = (Err(ErrorCode::Forbidden), Err(ErrorCode::Unauthenticated));
        let host = |value| (HOST, value);
        let token = |value| (AUTHORIZATION, value);
        let rows: Vec<Row> = vec![
            (HERE, vec![host("127.0.0.1:9090")], Ok(())),
            (HERE, vec![host("[::1]:9090")], Ok(())),
            (HERE, vec![host("LocalHost")], Ok(())),
            (HERE, vec![], Ok(())),
            (Some("::1"), vec![], Ok(())),
            (Some("::ffff:127.0.0.1"), vec![], Ok(())),
            (FAR, vec![host("127.0.0.1:9090")], no),
            (Some("::ffff:192.0.2.7"), vec![], no),
            (None, vec![], no),
            (FAR, vec![token("Bearer admin")], Ok(())),
            (FAR, vec![token("Bearer admin"), host("gw-1:9090")], Ok(())),
            (FAR, vec![token("Bearer user")], no),
            (FAR, vec![token("Bearer wrong")], bad),
            // A token that was sent counts, wherever it was sent from.
            (HERE, vec![token("Bearer user")], no),
            (HERE, vec![token("Bearer wrong")], bad),
            (HERE, vec![(X_FORWARDED_FOR, "192.0.2.7")], no),
            (HERE, vec![(FORWARDED, "for=192.0.2.7")], no),
            (HERE, vec![host("evil.example:9090")], no),
            (HERE, vec![(HOST, "127.0.0.1.evil.example")], no),
            (HERE, vec![(ORIGIN, "https://evil.example")], no),
            (HERE, vec![(ORIGIN, "null")], no),
            (HERE, vec![(ORIGIN, "http://127.0.0.1:9090")], no),
            (
                FAR,
                vec![(ORIGIN, "https://evil.example"), token("Bearer admin")],
                no,
            ),
            (HERE, vec![(SEC_FETCH_SITE, "cross-site")], no),
            (HERE, vec![(SEC_FETCH_SITE, "same-site")], no),
            (HERE, vec![(SEC_FETCH_SITE, "none")], Ok(())),
        ];
        for (peer, headers, wanted) in rows {
            assert_eq!(asked(peer, &headers), wanted, "{peer:?} {headers:?}");
        }
    }
}
