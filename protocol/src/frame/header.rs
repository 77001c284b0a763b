//! The frame header, cutting a message into frames, and what can be wrong with a frame.

use crate::codes::{CloseCode, ErrorCode};
use crate::ids::IdError;
use crate::limits::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES};
use bytes::{Buf, Bytes};

/// Frame type, the header's first byte. Below 0x80 a client sends it, from 0x80 a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FrameType(pub u8);

#[expect(missing_docs, reason = "each is named as its frame")]
impl FrameType {
    pub const HELLO: Self = Self(0x01);
    pub const SEND: Self = Self(0x02);
    pub const ACK: Self = Self(0x03);
    pub const RECEIPT: Self = Self(0x04);
    pub const TYPING: Self = Self(0x05);
    pub const WATCH: Self = Self(0x06);
    pub const SYNC: Self = Self(0x07);
    pub const PING: Self = Self(0x08);
    pub const REFRESH_TOKEN: Self = Self(0x09);
    pub const BYE: Self = Self(0x0a);
    pub const WELCOME: Self = Self(0x81);
    pub const REDIRECT: Self = Self(0x82);
    pub const QUEUED: Self = Self(0x83);
    pub const SEND_RESULT: Self = Self(0x84);
    pub const DELIVER: Self = Self(0x85);
    pub const CAUGHT_UP: Self = Self(0x86);
    pub const RECEIPT_UPDATE: Self = Self(0x87);
    pub const TYPING_UPDATE: Self = Self(0x88);
    pub const PRESENCE_UPDATE: Self = Self(0x89);
    pub const SYNC_PAGE: Self = Self(0x8a);
    pub const RELOCATE: Self = Self(0x8b);
    pub const PONG: Self = Self(0x8c);
    pub const ERROR: Self = Self(0x8d);
    pub const TOKEN_ACCEPTED: Self = Self(0x8e);

    /// Whether only servers send it.
    #[must_use]
    pub fn is_server(self) -> bool {
        self.0 >= 0x80
    }
}

/// Why bytes are no frame: the peer's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The message ends within a frame.
    #[error("the message ends within a frame")]
    Truncated,
    /// Header says more than a frame may have.
    #[error("a frame of {len} bytes exceeds the limit")]
    TooLarge {
        /// Header and body (in JSON: the message), bytes.
        len: usize,
    },
    /// The payload is too large.
    #[error(
        "a body of {len} bytes exceeds the limit of {}",
        crate::limits::BODY_BYTES_MAX
    )]
    BodyTooLarge {
        /// Bytes.
        len: usize,
    },
    /// A fixed layout whose lengths do not add up, or a value that it must not hold.
    #[error("malformed frame: {what}")]
    Malformed {
        /// Field.
        what: &'static str,
    },
    /// A user, device or chat id of no allowed form.
    #[error("bad id: {0}")]
    BadId(#[from] IdError),
    /// A `client_msg_id` that is no UUID text (JSON only; in binary any 16 bytes can be read).
    #[error("client_msg_id is no hyphenated UUID")]
    BadClientMsgId,
    /// More elements than allowed.
    #[error("{what}: {found} exceeds the limit of {max}")]
    TooMany {
        /// Field.
        what: &'static str,
        /// Found.
        found: usize,
        /// Allowed.
        max: usize,
    },
    /// A server's frame type from a client, or the reverse.
    #[error("unexpected frame type {0:#04x}")]
    Unexpected(u8),
}

impl FrameError {
    /// The code for the `Error` frame.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Truncated | Self::Malformed { .. } => ErrorCode::BadFrame,
            Self::TooLarge { .. } => ErrorCode::FrameTooLarge,
            Self::BodyTooLarge { .. } => ErrorCode::BodyTooLarge,
            Self::BadId(_) => ErrorCode::BadId,
            Self::BadClientMsgId => ErrorCode::BadClientMsgId,
            Self::TooMany { .. } => ErrorCode::TooMany,
            Self::Unexpected(_) => ErrorCode::UnexpectedFrame,
        }
    }

    /// The close code, when the session cannot go on: the stream of frames is out of step, or its
    /// sender does not speak the protocol. `None`: answered by an `Error`, the session lives.
    #[must_use]
    pub fn close(&self) -> Option<CloseCode> {
        match self {
            Self::Truncated | Self::Malformed { .. } => Some(CloseCode::ProtocolError),
            Self::TooLarge { .. } => Some(CloseCode::FrameTooLarge),
            _ => None,
        }
    }
}

/// The fixed header: type u8, flags u8, channel u16, body length u32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Type.
    pub frame_type: FrameType,
    /// Reserved, 0; ignored on receipt.
    pub flags: u8,
    /// Reserved, 0; ignored on receipt.
    pub channel: u16,
    /// Body, bytes.
    pub body_len: u32,
}

impl Header {
    /// The header of a body; bodies are bounded by the encoders' callers.
    #[must_use]
    pub fn new(frame_type: FrameType, body_len: usize) -> Self {
        let body_len = u32::try_from(body_len).unwrap_or(u32::MAX);
        Self {
            frame_type,
            flags: 0,
            channel: 0,
            body_len,
        }
    }

    /// On the wire.
    #[must_use]
    pub fn encode(&self) -> [u8; FRAME_HEADER_BYTES] {
        let mut out = [0; FRAME_HEADER_BYTES];
        out[0] = self.frame_type.0;
        out[1] = self.flags;
        out[2..4].copy_from_slice(&self.channel.to_le_bytes());
        out[4..8].copy_from_slice(&self.body_len.to_le_bytes());
        out
    }

    /// From the wire.
    #[must_use]
    pub fn decode(bytes: &[u8; FRAME_HEADER_BYTES]) -> Self {
        Self {
            frame_type: FrameType(bytes[0]),
            flags: bytes[1],
            channel: u16::from_le_bytes([bytes[2], bytes[3]]),
            body_len: u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        }
    }
}

/// One frame whose body is not looked into yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawFrame {
    /// Type.
    pub frame_type: FrameType,
    /// Body.
    pub body: Bytes,
}

/// Cuts the next frame off a message; `None` at its end.
///
/// # Errors
/// The message ends within a frame, or the frame is above the limit: the peer's fault.
pub fn split(message: &mut Bytes) -> Result<Option<RawFrame>, FrameError> {
    if message.is_empty() {
        return Ok(None);
    }
    let Some(head) = message.first_chunk::<FRAME_HEADER_BYTES>() else {
        return Err(FrameError::Truncated);
    };
    let header = Header::decode(head);
    let len = (header.body_len as usize).saturating_add(FRAME_HEADER_BYTES);
    if len > FRAME_BYTES_MAX {
        return Err(FrameError::TooLarge { len });
    }
    if message.len() < len {
        return Err(FrameError::Truncated);
    }
    message.advance(FRAME_HEADER_BYTES);
    let body = message.split_to(len - FRAME_HEADER_BYTES);
    Ok(Some(RawFrame {
        frame_type: header.frame_type,
        body,
    }))
}
