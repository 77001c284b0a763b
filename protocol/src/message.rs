//! The message: `Send` as a client makes it, and the record that every recipient gets.
//!
//! Field meanings follow the seed design's Message {message_id, sender, receiver or group, content,
//! send_ts, receive_ts, status, type}; receive_ts is `stored_ts_ms`, status is told by watermarks.

use crate::ids::{ChatId, ClientMsgId, DeviceId, MessageId, Seq, UserId};
use bytes::Bytes;

/// What the payload is; the server looks at `MEMBERSHIP` only. Unknown values are relayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MessageType(pub u8);

impl MessageType {
    /// Text, UTF-8 (opaque once encrypted).
    pub const TEXT: Self = Self(1);
    /// A reference to media.
    pub const MEDIA: Self = Self(2);
    /// Written by ingest alone: a change of the group; body is JSON, see docs/protocol.md.
    pub const MEMBERSHIP: Self = Self(3);
    /// Anything of the application's own.
    pub const CUSTOM: Self = Self(16);
}

/// A per-device part of a Send (end-to-end encryption).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Recipient.
    pub user: UserId,
    /// Recipient's device.
    pub device: DeviceId,
    /// At most `ENVELOPE_BYTES_MAX`; opaque.
    pub bytes: Bytes,
}

/// A client's Send: one body for all, or one body plus a table of envelopes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Send {
    /// UUIDv7 stamped with server time; the dedup key together with sender device and chat.
    pub client_msg_id: ClientMsgId,
    /// The client's clock, milliseconds.
    pub send_ts_ms: u64,
    /// What the payload is.
    pub message_type: MessageType,
    /// Marked as a retry: the dedup store is asked on a window miss.
    pub retry: bool,
    /// Where to.
    pub chat: ChatId,
    /// Opaque payload, at most `BODY_BYTES_MAX`.
    pub body: Bytes,
    /// Empty, or one per recipient device.
    pub envelopes: Vec<Envelope>,
}

/// The message record: the same bytes for every recipient, written once by ingest
/// (its encoding is the tail of a Deliver frame and an element of SyncPage.records).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageRecord {
    /// Place in the chat.
    pub seq: Seq,
    /// The accepted message before it in this chat; `Seq::NONE` for the first.
    pub prev_seq: Seq,
    /// Dense number within the chat, from 1.
    pub ordinal: u64,
    /// Derived identity.
    pub message_id: MessageId,
    /// As the sender named it.
    pub client_msg_id: ClientMsgId,
    /// The sender's clock, milliseconds.
    pub send_ts_ms: u64,
    /// The log's clock (the seed's receive_ts), milliseconds.
    pub stored_ts_ms: u64,
    /// What the payload is.
    pub message_type: MessageType,
    /// Set by the server from the sender's token.
    pub sender: UserId,
    /// Set by the server from the sender's token.
    pub sender_device: DeviceId,
    /// Where to.
    pub chat: ChatId,
    /// Opaque payload: byte-identical to what was sent.
    pub body: Bytes,
}
