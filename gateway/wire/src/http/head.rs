//! What requests and responses share: where a head ends, and its headers.

use super::HttpError;

/// Bytes of one head, its empty line included.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;

/// Headers of one head.
pub const HEADERS_MAX: usize = 64;

/// One header; the name as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Compare it without regard to case.
    pub name: Box<str>,
    /// Any bytes but control characters.
    pub value: Box<[u8]>,
}

/// The length of the whole head at the front of `bytes`, or `None` when its end is not there yet. A caller that reads
/// byte by byte costs one vectorised search of at most [`HEAD_BYTES_MAX`] each, not a parse.
pub(super) fn end(bytes: &[u8]) -> Result<Option<usize>, HttpError> {
    let window = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
    // A TLS ClientHello on a plain port, or noise, is told at once; a method or version begins with a letter.
    if window
        .first()
        .is_some_and(|first| !first.is_ascii_alphabetic())
    {
        return Err(HttpError::Malformed);
    }
    let Some(at) = memchr::memmem::find(window, b"\r\n\r\n") else {
        if bytes.len() >= HEAD_BYTES_MAX {
            return Err(HttpError::TooLarge);
        }
        return Ok(None);
    };
    let end = at + 4;
    let mut before = None;
    for byte in &window[..end] {
        if (*byte == b'\n') != (before == Some(b'\r')) {
            return Err(HttpError::BareLineFeed);
        }
        before = Some(*byte);
    }
    Ok(Some(end))
}

/// Owned headers, refused where two readers could disagree.
pub(super) fn owned(headers: &[httparse::Header<'_>]) -> Result<Vec<Header>, HttpError> {
    let headers: Vec<Header> = headers
        .iter()
        .map(|header| Header {
            name: header.name.into(),
            value: header.value.into(),
        })
        .collect();
    for once in [
        "host",
        "content-length",
        "transfer-encoding",
        "sec-websocket-key",
        "sec-websocket-version",
        "sec-websocket-accept",
        "origin",
        "authorization",
    ] {
        if named(&headers, once).count() > 1 {
            return Err(HttpError::Duplicate(once));
        }
    }
    let length = named(&headers, "content-length").next();
    if length.is_some() && named(&headers, "transfer-encoding").next().is_some() {
        return Err(HttpError::TwoLengths);
    }
    if length.is_some_and(|value| value.is_empty() || !value.iter().all(u8::is_ascii_digit)) {
        return Err(HttpError::BadLength);
    }
    Ok(headers)
}

/// The values of every header of this name, in order.
pub(super) fn named<'h>(headers: &'h [Header], name: &str) -> impl Iterator<Item = &'h [u8]> {
    headers
        .iter()
        .filter(move |header| header.name.eq_ignore_ascii_case(name))
        .map(|header| &*header.value)
}

/// The comma-separated items of every header of this name, in order; what is not text is left out.
pub(super) fn items<'h>(headers: &'h [Header], name: &str) -> impl Iterator<Item = &'h str> {
    named(headers, name)
        .filter_map(|value| std::str::from_utf8(value).ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

/// Whether such a header lists this item, without regard to case.
pub(super) fn lists(headers: &[Header], name: &str, item: &str) -> bool {
    items(headers, name).any(|listed| listed.eq_ignore_ascii_case(item))
}

/// What httparse found wrong.
pub(super) fn error(error: httparse::Error) -> HttpError {
    match error {
        httparse::Error::TooManyHeaders => HttpError::TooLarge,
        _ => HttpError::Malformed,
    }
}
