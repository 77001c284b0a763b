//! What clients send.

use super::{FrameError, FrameType, Header, RawFrame};
use crate::limits::FRAME_HEADER_BYTES;
use crate::message::Send;
use crate::pb;
use bytes::Bytes;
use prost::Message;

/// "Everything up to and including `offset` is persisted by this device."
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// Delivery offset; [`Ack::ADOPT`] adopts the head of a session that was not recovered.
    pub offset: u64,
}

impl Ack {
    /// The offset that means "I have synced: start me at the head of my Welcome".
    pub const ADOPT: u64 = u64::MAX;
}

/// A frame of a client's.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientFrame {
    /// First frame.
    Hello(pb::Hello),
    /// A message.
    Send(Send),
    /// Cumulative acknowledgement.
    Ack(Ack),
    /// Delivered or read up to.
    Receipt(pb::Receipt),
    /// Typing.
    Typing(pb::Typing),
    /// Whom to watch.
    Watch(pb::Watch),
    /// Asks for history.
    Sync(pb::Sync),
    /// Heartbeat.
    Ping(pb::Ping),
    /// A fresh token.
    RefreshToken(pb::RefreshToken),
    /// Leaves.
    Bye(pb::Bye),
    /// A type of a later version: ignored.
    Unknown(FrameType),
}

impl ClientFrame {
    /// Its type.
    #[must_use]
    pub fn frame_type(&self) -> FrameType {
        match self {
            Self::Hello(_) => FrameType::HELLO,
            Self::Send(_) => FrameType::SEND,
            Self::Ack(_) => FrameType::ACK,
            Self::Receipt(_) => FrameType::RECEIPT,
            Self::Typing(_) => FrameType::TYPING,
            Self::Watch(_) => FrameType::WATCH,
            Self::Sync(_) => FrameType::SYNC,
            Self::Ping(_) => FrameType::PING,
            Self::RefreshToken(_) => FrameType::REFRESH_TOKEN,
            Self::Bye(_) => FrameType::BYE,
            Self::Unknown(other) => *other,
        }
    }

    /// Reads a frame that [`super::split`] cut off.
    ///
    /// # Errors
    /// See [`FrameError`]: the client's fault.
    pub fn decode(raw: &RawFrame) -> Result<Self, FrameError> {
        let body = &raw.body;
        Ok(match raw.frame_type {
            FrameType::HELLO => Self::Hello(control(body, "Hello")?),
            FrameType::SEND => Self::Send(Send::decode_body(body)?),
            FrameType::ACK => Self::Ack(ack(body)?),
            FrameType::RECEIPT => Self::Receipt(control(body, "Receipt")?),
            FrameType::TYPING => Self::Typing(control(body, "Typing")?),
            FrameType::WATCH => Self::Watch(control(body, "Watch")?),
            FrameType::SYNC => Self::Sync(control(body, "Sync")?),
            FrameType::PING => Self::Ping(control(body, "Ping")?),
            FrameType::REFRESH_TOKEN => Self::RefreshToken(control(body, "RefreshToken")?),
            FrameType::BYE => Self::Bye(control(body, "Bye")?),
            other if other.is_server() => return Err(FrameError::Unexpected(other.0)),
            other => Self::Unknown(other),
        })
    }

    /// Appends the whole frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Hello(m) => put(FrameType::HELLO, m, out),
            Self::Send(send) => framed(FrameType::SEND, out, |out| send.encode_body(out)),
            Self::Ack(ack) => framed(FrameType::ACK, out, |out| {
                out.extend_from_slice(&ack.offset.to_le_bytes());
            }),
            Self::Receipt(m) => put(FrameType::RECEIPT, m, out),
            Self::Typing(m) => put(FrameType::TYPING, m, out),
            Self::Watch(m) => put(FrameType::WATCH, m, out),
            Self::Sync(m) => put(FrameType::SYNC, m, out),
            Self::Ping(m) => put(FrameType::PING, m, out),
            Self::RefreshToken(m) => put(FrameType::REFRESH_TOKEN, m, out),
            Self::Bye(m) => put(FrameType::BYE, m, out),
            Self::Unknown(other) => framed(*other, out, |_| ()),
        }
    }
}

fn ack(body: &Bytes) -> Result<Ack, FrameError> {
    // The most frequent frame of all: no share of its bytes is taken.
    let malformed = |_| FrameError::Malformed { what: "Ack" };
    let offset = <[u8; 8]>::try_from(&body[..]).map_err(malformed)?;
    Ok(Ack {
        offset: u64::from_le_bytes(offset),
    })
}

/// Reads a protobuf body.
pub(super) fn control<M: Message + Default>(
    body: &Bytes,
    what: &'static str,
) -> Result<M, FrameError> {
    M::decode(body.clone()).map_err(|_| FrameError::Malformed { what })
}

/// Appends a frame with a protobuf body.
pub(super) fn put<M: Message>(frame_type: FrameType, message: &M, out: &mut Vec<u8>) {
    out.extend_from_slice(&Header::new(frame_type, message.encoded_len()).encode());
    // A Vec grows as needed, so this cannot fail.
    let _ = message.encode(out);
}

/// Appends a frame whose body `write` appends.
pub(super) fn framed(frame_type: FrameType, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
    write(out);
    let body_len = out.len() - at - FRAME_HEADER_BYTES;
    out[at..at + FRAME_HEADER_BYTES].copy_from_slice(&Header::new(frame_type, body_len).encode());
}
