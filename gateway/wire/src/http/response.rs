//! A server's head, written and read.

use super::head::{self, HEADERS_MAX, Header};
use super::{Accepted, HttpError};

/// The head of one response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// 100 to 999.
    pub status: u16,
    /// In order; at most [`HEADERS_MAX`].
    pub headers: Vec<Header>,
}

impl Response {
    /// The head at the front of `bytes` and its length, or `None` when its end is not there yet.
    ///
    /// # Errors
    /// The server's fault.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, HttpError> {
        let Some(end) = head::end(bytes)? else {
            return Ok(None);
        };
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut parsed = httparse::Response::new(&mut headers);
        match parsed.parse(&bytes[..end]).map_err(head::error)? {
            httparse::Status::Complete(used) if used == end => {}
            _ => return Err(HttpError::Malformed),
        }
        let status = parsed.code.ok_or(HttpError::Malformed)?;
        let headers = head::owned(parsed.headers)?;
        Ok(Some((Self { status, headers }, end)))
    }

    /// The first header of this name, where it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        head::named(&self.headers, name)
            .next()
            .and_then(|value| std::str::from_utf8(value).ok())
    }
}

/// Appends `101 Switching Protocols`; `protocol` is the subprotocol agreed on. An offer to compress that is left in
/// `accepted` is accepted.
pub fn switch(accepted: &Accepted, protocol: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
    );
    out.extend_from_slice(accepted.accept.as_bytes());
    out.extend_from_slice(b"\r\n");
    if let Some(protocol) = protocol {
        field("Sec-WebSocket-Protocol", protocol, out);
    }
    if let Some(offer) = accepted.deflate {
        field("Sec-WebSocket-Extensions", &offer.answer(), out);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends a whole response that ends the connection: status, a line of text as its body, and headers more. What would
/// break out of a header is left out.
pub fn refuse(status: u16, text: &str, headers: &[(&str, &str)], out: &mut Vec<u8>) {
    let body = format!("{text}\n");
    out.extend_from_slice(format!("HTTP/1.1 {status} {}\r\n", reason(status)).as_bytes());
    for (name, value) in headers {
        field(name, value, out);
    }
    field("Content-Type", "text/plain; charset=utf-8", out);
    field("Content-Length", &body.len().to_string(), out);
    field("Connection", "close", out);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body.as_bytes());
}

/// Appends one header line.
pub(super) fn field(name: &str, value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend(value.bytes().filter(|byte| !byte.is_ascii_control()));
    out.extend_from_slice(b"\r\n");
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_whole_response() {
        let mut out = Vec::new();
        refuse(
            503,
            "the node is full",
            &[("Retry-After", "5\r\nEvil: 1")],
            &mut out,
        );
        let (response, used) = Response::parse(&out).unwrap().unwrap();
        assert_eq!(response.status, 503);
        assert_eq!(response.header("retry-after"), Some("5Evil: 1"));
        assert_eq!(response.header("evil"), None);
        assert_eq!(response.header("content-length"), Some("17"));
        assert_eq!(&out[used..], b"the node is full\n");
    }
}
