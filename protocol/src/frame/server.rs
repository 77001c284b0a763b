//! What servers send.

use super::client::{control, framed, put};
use super::layout::Fields;
use super::{FrameError, FrameType, Header, RawFrame};
use crate::limits::FRAME_HEADER_BYTES;
use crate::message::MessageRecord;
use crate::pb;
use bytes::Bytes;

/// What stands before the shared record bytes in a Deliver frame without envelope: the frame header
/// and the per-connection prefix. Bytes.
pub const DELIVER_PREFIX_BYTES: usize = FRAME_HEADER_BYTES + 16;

/// Flags of a Deliver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeliverFlags(pub u16);

impl DeliverFlags {
    /// Sent from the replay ring or the log, before CaughtUp.
    pub const REPLAYED: Self = Self(1);
    /// Nobody waits for the acknowledgement: it may ride on the next Ping, or wait for the next one that somebody waits for.
    pub const ACK_LATER: Self = Self(2);

    /// Whether all of `flags` are set.
    #[must_use]
    pub fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// These and those.
    #[must_use]
    pub fn with(self, flags: Self) -> Self {
        Self(self.0 | flags.0)
    }
}

/// A message for this device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deliver {
    /// Delivery offset, to be acknowledged.
    pub offset: u64,
    /// Flags.
    pub flags: DeliverFlags,
    /// This device's envelope, or empty.
    pub envelope: Bytes,
    /// The record.
    pub record: MessageRecord,
}

/// Header and prefix of a Deliver frame; the envelope and then the shared record bytes follow.
/// `envelope_len` is at most 4 KiB and `record_len` at most a frame, both by construction.
#[must_use]
pub fn deliver_prefix(
    offset: u64,
    flags: DeliverFlags,
    envelope_len: usize,
    record_len: usize,
) -> [u8; DELIVER_PREFIX_BYTES] {
    let mut out = [0; DELIVER_PREFIX_BYTES];
    let header = Header::new(FrameType::DELIVER, 16 + envelope_len + record_len);
    out[..8].copy_from_slice(&header.encode());
    out[8..16].copy_from_slice(&offset.to_le_bytes());
    out[16..18].copy_from_slice(
        &u16::try_from(envelope_len)
            .unwrap_or(u16::MAX)
            .to_le_bytes(),
    );
    out[18..20].copy_from_slice(&flags.0.to_le_bytes());
    out
}

/// A frame of a server's.
#[derive(Debug, Clone, PartialEq)]
pub enum ServerFrame {
    /// Answer to Hello.
    Welcome(pb::Welcome),
    /// Go elsewhere.
    Redirect(pb::Redirect),
    /// The log has a Send.
    Queued(pb::Queued),
    /// Final answer to a Send.
    SendResult(pb::SendResult),
    /// A message.
    Deliver(Deliver),
    /// Replay has ended.
    CaughtUp(pb::CaughtUp),
    /// A watermark moved.
    ReceiptUpdate(pb::ReceiptUpdate),
    /// Somebody types.
    TypingUpdate(pb::TypingUpdate),
    /// Somebody came or went.
    PresenceUpdate(pb::PresenceUpdate),
    /// History.
    SyncPage(pb::SyncPage),
    /// Move soon.
    Relocate(pb::Relocate),
    /// Answer to Ping.
    Pong(pb::Pong),
    /// Something was refused.
    Error(pb::Error),
    /// Answer to RefreshToken.
    TokenAccepted(pb::TokenAccepted),
    /// A type of a later version: ignored.
    Unknown(FrameType),
}

impl ServerFrame {
    /// Reads a frame that [`super::split`] cut off.
    ///
    /// # Errors
    /// See [`FrameError`]: the server's fault.
    pub fn decode(raw: &RawFrame) -> Result<Self, FrameError> {
        let body = &raw.body;
        Ok(match raw.frame_type {
            FrameType::WELCOME => Self::Welcome(control(body, "Welcome")?),
            FrameType::REDIRECT => Self::Redirect(control(body, "Redirect")?),
            FrameType::QUEUED => Self::Queued(control(body, "Queued")?),
            FrameType::SEND_RESULT => Self::SendResult(control(body, "SendResult")?),
            FrameType::DELIVER => Self::Deliver(deliver(body)?),
            FrameType::CAUGHT_UP => Self::CaughtUp(control(body, "CaughtUp")?),
            FrameType::RECEIPT_UPDATE => Self::ReceiptUpdate(control(body, "ReceiptUpdate")?),
            FrameType::TYPING_UPDATE => Self::TypingUpdate(control(body, "TypingUpdate")?),
            FrameType::PRESENCE_UPDATE => Self::PresenceUpdate(control(body, "PresenceUpdate")?),
            FrameType::SYNC_PAGE => Self::SyncPage(control(body, "SyncPage")?),
            FrameType::RELOCATE => Self::Relocate(control(body, "Relocate")?),
            FrameType::PONG => Self::Pong(control(body, "Pong")?),
            FrameType::ERROR => Self::Error(control(body, "Error")?),
            FrameType::TOKEN_ACCEPTED => Self::TokenAccepted(control(body, "TokenAccepted")?),
            other if !other.is_server() => return Err(FrameError::Unexpected(other.0)),
            other => Self::Unknown(other),
        })
    }

    /// Appends the whole frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Welcome(m) => put(FrameType::WELCOME, m, out),
            Self::Redirect(m) => put(FrameType::REDIRECT, m, out),
            Self::Queued(m) => put(FrameType::QUEUED, m, out),
            Self::SendResult(m) => put(FrameType::SEND_RESULT, m, out),
            Self::Deliver(d) => {
                let record = d.record.encode();
                out.extend_from_slice(&deliver_prefix(
                    d.offset,
                    d.flags,
                    d.envelope.len(),
                    record.len(),
                ));
                out.extend_from_slice(&d.envelope);
                out.extend_from_slice(&record);
            }
            Self::CaughtUp(m) => put(FrameType::CAUGHT_UP, m, out),
            Self::ReceiptUpdate(m) => put(FrameType::RECEIPT_UPDATE, m, out),
            Self::TypingUpdate(m) => put(FrameType::TYPING_UPDATE, m, out),
            Self::PresenceUpdate(m) => put(FrameType::PRESENCE_UPDATE, m, out),
            Self::SyncPage(m) => put(FrameType::SYNC_PAGE, m, out),
            Self::Relocate(m) => put(FrameType::RELOCATE, m, out),
            Self::Pong(m) => put(FrameType::PONG, m, out),
            Self::Error(m) => put(FrameType::ERROR, m, out),
            Self::TokenAccepted(m) => put(FrameType::TOKEN_ACCEPTED, m, out),
            Self::Unknown(other) => framed(*other, out, |_| ()),
        }
    }
}

fn deliver(body: &Bytes) -> Result<Deliver, FrameError> {
    let mut fields = Fields::new(body, "Deliver");
    let offset = fields.u64()?;
    let envelope_len = usize::from(fields.u16()?);
    let flags = DeliverFlags(fields.u16()?);
    fields.u32()?;
    let envelope = fields.take(envelope_len)?;
    let record = MessageRecord::decode(&body.slice(16 + envelope_len..))?;
    Ok(Deliver {
        offset,
        flags,
        envelope,
        record,
    })
}
