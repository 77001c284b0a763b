//! The WebSocket protocol (RFC 6455) on byte slices, over tungstenite's frame types.
//!
//! A reserved bit is an error, unless both ends have agreed on permessage-deflate ([`Deflate`]): then the first one says that
//! a message is compressed.

mod decode;
mod deflate;
mod encode;
mod frame;
mod mask;
mod utf8;

pub use decode::{Close, Decoder, Limits, Message, Role};
pub use deflate::{Deflate, Deflated, Deflater, Inflater};
pub use encode::{deflated_header, encode, encode_close, header, header_len};
pub use mask::apply_mask;
pub use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

/// A control frame's payload is at most this many bytes (RFC 6455 section 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

/// A frame's header is at most this many bytes.
pub const HEADER_BYTES_MAX: usize = 14;

/// The first reserved bit of a frame's first byte: the message is compressed (RFC 7692 section 6).
const RSV1: u8 = 0x40;

/// How a peer broke the protocol; [`WsError::close_code`] is what to tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WsError {
    /// A reserved bit is set where no extension was negotiated that gives it a meaning.
    #[error("a reserved bit is set")]
    ReservedBits,
    /// The opcode has no meaning.
    #[error("opcode {0} is reserved")]
    ReservedOpcode(u8),
    /// A client's frame must be masked.
    #[error("a client's frame is not masked")]
    Unmasked,
    /// A server's frame must not be masked.
    #[error("a server's frame is masked")]
    Masked,
    /// A control frame is a message of its own.
    #[error("a control frame is fragmented")]
    FragmentedControl,
    /// A control frame holds at most [`CONTROL_BYTES_MAX`].
    #[error("a control frame is longer than 125 bytes")]
    LongControl,
    /// A continuation without a message to continue.
    #[error("a continuation without a beginning")]
    UnexpectedContinuation,
    /// A new message inside a fragmented one.
    #[error("a new message before the last one ended")]
    UnfinishedMessage,
    /// The top bit of a 64-bit length is set.
    #[error("a length of 2^63 or more")]
    BadLength,
    /// A close frame of one byte, or with a code that must not be sent.
    #[error("a close frame with a bad code")]
    BadClose,
    /// A text message or a close reason is not UTF-8.
    #[error("text that is not UTF-8")]
    BadUtf8,
    /// The message is longer than [`Limits::message_bytes_max`].
    #[error("a message above the limit")]
    TooLong,
    /// The message has more fragments than [`Limits::fragments_max`].
    #[error("a message of too many fragments")]
    TooManyFragments,
    /// A compressed message is not whole DEFLATE blocks that refer to nothing outside of the message.
    #[error("a compressed message that cannot be decompressed")]
    BadDeflate,
}

impl WsError {
    /// The close code that tells the peer: 1002, 1007, 1008 or 1009.
    #[must_use]
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::BadUtf8 | Self::BadDeflate => CloseCode::Invalid,
            Self::TooLong => CloseCode::Size,
            Self::TooManyFragments => CloseCode::Policy,
            Self::ReservedBits
            | Self::ReservedOpcode(_)
            | Self::Unmasked
            | Self::Masked
            | Self::FragmentedControl
            | Self::LongControl
            | Self::UnexpectedContinuation
            | Self::UnfinishedMessage
            | Self::BadLength
            | Self::BadClose => CloseCode::Protocol,
        }
    }
}
