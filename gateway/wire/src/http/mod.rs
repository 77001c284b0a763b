//! The HTTP/1.1 upgrade to a WebSocket (RFC 6455 section 4), as server and as client.
//!
//! Only heads are read here, never bodies. What could be read in two ways (two hosts, two lengths, a bare line feed) is
//! refused rather than guessed at.

mod deflate;
mod head;
mod request;
mod response;
mod upgrade;

pub use deflate::{DeflateOffer, deflate};
pub use head::{HEAD_BYTES_MAX, HEADERS_MAX, Header};
pub use request::Request;
pub use response::{Response, refuse, switch};
pub use upgrade::{
    Accepted, ClientError, ClientUpgrade, Switched, UpgradeError, client_request, client_response,
    upgrade,
};

/// How a peer's head is wrong; [`HttpError::status`] is what to answer a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The head is longer than [`HEAD_BYTES_MAX`] or has more than [`HEADERS_MAX`] headers.
    #[error("the head is longer than 8 KiB or has more than 64 headers")]
    TooLarge,
    /// The bytes are not a head of HTTP/1.0 or HTTP/1.1.
    #[error("not an HTTP/1.1 head")]
    Malformed,
    /// A line ends otherwise than by CR LF.
    #[error("a line that does not end with CR LF")]
    BareLineFeed,
    /// A request of HTTP/1.1 without a host.
    #[error("no Host header")]
    NoHost,
    /// A header that may stand once stands twice.
    #[error("the header {0} stands twice")]
    Duplicate(&'static str),
    /// Content-Length and Transfer-Encoding together.
    #[error("Content-Length and Transfer-Encoding together")]
    TwoLengths,
    /// Content-Length is not a number.
    #[error("Content-Length is not a number")]
    BadLength,
}

impl HttpError {
    /// The status that tells the client: 400 or 431.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::TooLarge => 431,
            Self::Malformed
            | Self::BareLineFeed
            | Self::NoHost
            | Self::Duplicate(_)
            | Self::TwoLengths
            | Self::BadLength => 400,
        }
    }
}
