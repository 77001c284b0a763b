//! A client's head.

use super::HttpError;
use super::head::{self, HEADERS_MAX, Header};

/// The head of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// As sent: `GET`, …
    pub method: Box<str>,
    /// As sent: the path with its query, or an absolute URL.
    pub target: Box<str>,
    /// HTTP/1.1, not HTTP/1.0.
    pub is_http_11: bool,
    /// In order; at most [`HEADERS_MAX`].
    pub headers: Vec<Header>,
}

impl Request {
    /// The head at the front of `bytes` and its length, or `None` when its end is not there yet. Give the same bytes with
    /// more behind them; bytes after the head are not looked at.
    ///
    /// # Errors
    /// The client's fault; answer with [`HttpError::status`] and close.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, HttpError> {
        let Some(end) = head::end(bytes)? else {
            return Ok(None);
        };
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut parsed = httparse::Request::new(&mut headers);
        match parsed.parse(&bytes[..end]).map_err(head::error)? {
            httparse::Status::Complete(used) if used == end => {}
            _ => return Err(HttpError::Malformed),
        }
        let (Some(method), Some(target), Some(minor)) =
            (parsed.method, parsed.path, parsed.version)
        else {
            return Err(HttpError::Malformed);
        };
        let request = Self {
            method: method.into(),
            target: target.into(),
            is_http_11: minor == 1,
            headers: head::owned(parsed.headers)?,
        };
        if request.is_http_11 && request.header("host").is_none() {
            return Err(HttpError::NoHost);
        }
        Ok(Some((request, end)))
    }

    /// The first header of this name, where it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        head::named(&self.headers, name)
            .next()
            .and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The target without its query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target
            .split_once('?')
            .map_or(&*self.target, |(path, _)| path)
    }

    /// The value of a query parameter, as it stands (not decoded).
    #[must_use]
    pub fn query(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        query.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key == name).then_some(value)
        })
    }

    /// The client asks for an upgrade to a WebSocket, rightly or not.
    #[must_use]
    pub fn wants_websocket(&self) -> bool {
        head::lists(&self.headers, "upgrade", "websocket")
    }

    /// Bytes of body that follow the head; `None` when they come in chunks.
    #[must_use]
    pub fn body_len(&self) -> Option<u64> {
        if self.header("transfer-encoding").is_some() {
            return None;
        }
        Some(
            self.header("content-length")
                .map_or(0, |len| len.parse().unwrap_or(u64::MAX)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::HEAD_BYTES_MAX;
    use super::*;

    fn parse(text: &str) -> Result<Option<(Request, usize)>, HttpError> {
        Request::parse(text.as_bytes())
    }

    #[test]
    fn a_head_is_read_and_what_follows_is_left() {
        let head = "GET /ws?token=a%20b&x HTTP/1.1\r\nHost: h\r\nX-Thing:  v \r\n\r\n";
        let (request, used) = parse(&format!("{head}rest")).unwrap().unwrap();
        assert_eq!(used, head.len());
        assert_eq!((&*request.method, request.path()), ("GET", "/ws"));
        assert_eq!(request.query("token"), Some("a%20b"));
        assert_eq!(request.query("x"), Some(""));
        assert_eq!(request.query("y"), None);
        assert_eq!(request.header("x-thing"), Some("v"));
        assert_eq!(request.body_len(), Some(0));
    }

    #[test]
    fn every_cut_of_a_head_waits_for_more() {
        let head = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        for cut in 0..head.len() {
            assert_eq!(parse(&head[..cut]), Ok(None), "{cut}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for (headers, error) in [
            ("Host: a\r\nHost: b\r\n", HttpError::Duplicate("host")),
            ("Host: a\r\nhOST: a\r\n", HttpError::Duplicate("host")),
            (
                "Host: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n",
                HttpError::TwoLengths,
            ),
            (
                "Host: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n",
                HttpError::Duplicate("content-length"),
            ),
            ("Host: a\r\nContent-Length: +3\r\n", HttpError::BadLength),
            ("Host: a\r\nContent-Length: \r\n", HttpError::BadLength),
            ("", HttpError::NoHost),
            ("Host: a\nX: b\r\n", HttpError::BareLineFeed),
            ("Host: a\rX: b\r\n", HttpError::BareLineFeed),
            ("Host : a\r\n", HttpError::Malformed),
            ("Host: a\r\n folded\r\n", HttpError::Malformed),
            ("Host: a\0b\r\n", HttpError::Malformed),
        ] {
            let result = parse(&format!("GET / HTTP/1.1\r\n{headers}\r\n"));
            assert_eq!(result, Err(error), "{headers:?}");
            assert_eq!(error.status(), 400);
        }
    }

    #[test]
    fn oversized_headers_are_refused_before_they_are_whole() {
        let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "a".repeat(100_000));
        assert_eq!(parse(&long), Err(HttpError::TooLarge));
        assert_eq!(parse(&long[..HEAD_BYTES_MAX]), Err(HttpError::TooLarge));
        assert_eq!(parse(&long[..HEAD_BYTES_MAX - 1]), Ok(None));
        let many = format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
            "X: b\r\n".repeat(HEADERS_MAX)
        );
        assert_eq!(parse(&many), Err(HttpError::TooLarge));
        assert_eq!(HttpError::TooLarge.status(), 431);
    }

    #[test]
    fn a_client_hello_on_a_plain_port_is_told_by_its_first_byte() {
        assert_eq!(Request::parse(&[0x16]), Err(HttpError::Malformed));
    }
}
