//! Fixed layouts of `Send` and of the message record.

use super::FrameError;
use super::layout::{Fields, len8, text};
use crate::ids::{ChatId, ClientMsgId, DeviceId, MessageId, Seq, UserId};
use crate::limits::{BODY_BYTES_MAX, ENVELOPE_BYTES_MAX, ENVELOPES_MAX};
use crate::message::{Envelope, MessageRecord, MessageType, Send};
use bytes::Bytes;

/// Fixed part of a Send body, bytes.
pub const SEND_FIXED_BYTES: usize = 36;
/// Fixed part of a message record, bytes.
pub const RECORD_FIXED_BYTES: usize = 84;

const SEND: &str = "Send";
const RECORD: &str = "message record";
const FLAG_RETRY: u8 = 1;

impl Send {
    /// Appends the body of a Send frame.
    pub fn encode_body(&self, out: &mut Vec<u8>) {
        let chat = self.chat.as_str().as_bytes();
        out.extend_from_slice(&self.client_msg_id.0);
        out.extend_from_slice(&self.send_ts_ms.to_le_bytes());
        let shape = u8::from(!self.envelopes.is_empty());
        let flags = if self.retry { FLAG_RETRY } else { 0 };
        out.extend_from_slice(&[self.message_type.0, shape, len8(chat.len()), flags]);
        let count = u16::try_from(self.envelopes.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&count.to_le_bytes());
        out.extend_from_slice(&[0, 1]);
        let body_len = u32::try_from(self.body.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&body_len.to_le_bytes());
        out.extend_from_slice(chat);
        out.extend_from_slice(&self.body);
        out.extend_from_slice(&crate::record::encode_envelopes(&self.envelopes));
    }

    /// Reads the body of a Send frame; the payload is a slice of the same memory.
    ///
    /// # Errors
    /// See [`FrameError`]: the peer's fault.
    pub fn decode_body(body: &Bytes) -> Result<Self, FrameError> {
        let mut fields = Fields::new(body, SEND);
        let client_msg_id = ClientMsgId(fields.array()?);
        let send_ts_ms = fields.u64()?;
        let message_type = MessageType(fields.u8()?);
        let shape = fields.u8()?;
        let chat_len = usize::from(fields.u8()?);
        let flags = fields.u8()?;
        let count = usize::from(fields.u16()?);
        let (part, parts) = (fields.u8()?, fields.u8()?);
        let body_len = fields.u32()? as usize;
        if part != 0 || parts != 1 {
            return Err(FrameError::Malformed {
                what: "Send in parts (not in this version)",
            });
        }
        if shape > 1 || (shape == 0 && count != 0) {
            return Err(FrameError::Malformed { what: "Send shape" });
        }
        if body_len > BODY_BYTES_MAX {
            return Err(FrameError::BodyTooLarge { len: body_len });
        }
        if count > ENVELOPES_MAX {
            return Err(FrameError::TooMany {
                what: "envelopes",
                found: count,
                max: ENVELOPES_MAX,
            });
        }
        let chat = ChatId::new(text(&fields.take(chat_len)?)?)?;
        let payload = fields.take(body_len)?;
        let mut envelopes = Vec::with_capacity(count.min(64));
        for _ in 0..count {
            envelopes.push(envelope(&mut fields)?);
        }
        fields.end()?;
        let retry = flags & FLAG_RETRY != 0;
        Ok(Self {
            client_msg_id,
            send_ts_ms,
            message_type,
            retry,
            chat,
            body: payload,
            envelopes,
        })
    }
}

fn envelope(fields: &mut Fields) -> Result<Envelope, FrameError> {
    let (user_len, device_len) = (usize::from(fields.u8()?), usize::from(fields.u8()?));
    let len = usize::from(fields.u16()?);
    if len > ENVELOPE_BYTES_MAX {
        return Err(FrameError::TooMany {
            what: "envelope bytes",
            found: len,
            max: ENVELOPE_BYTES_MAX,
        });
    }
    let user = UserId::new(text(&fields.take(user_len)?)?)?;
    let device = DeviceId::new(text(&fields.take(device_len)?)?)?;
    Ok(Envelope {
        user,
        device,
        bytes: fields.take(len)?,
    })
}

impl MessageRecord {
    /// The record's bytes, the same for every recipient.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let (chat, sender) = (
            self.chat.as_str().as_bytes(),
            self.sender.as_str().as_bytes(),
        );
        let device = self.sender_device.as_str().as_bytes();
        let mut out = Vec::with_capacity(
            RECORD_FIXED_BYTES + chat.len() + sender.len() + device.len() + self.body.len(),
        );
        for word in [self.seq.0, self.prev_seq.0, self.ordinal] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(&self.message_id.0);
        out.extend_from_slice(&self.client_msg_id.0);
        out.extend_from_slice(&self.send_ts_ms.to_le_bytes());
        out.extend_from_slice(&self.stored_ts_ms.to_le_bytes());
        out.extend_from_slice(&[
            self.message_type.0,
            0,
            len8(chat.len()),
            len8(sender.len()),
            len8(device.len()),
            0,
            0,
            0,
        ]);
        let body_len = u32::try_from(self.body.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&body_len.to_le_bytes());
        for part in [chat, sender, device, &self.body] {
            out.extend_from_slice(part);
        }
        out.into()
    }

    /// Reads a record; the payload is a slice of the same memory.
    ///
    /// # Errors
    /// See [`FrameError`].
    pub fn decode(bytes: &Bytes) -> Result<Self, FrameError> {
        let view = MessageView::parse(bytes)?;
        Ok(Self {
            seq: view.seq(),
            prev_seq: view.prev_seq(),
            ordinal: view.ordinal(),
            message_id: view.message_id(),
            client_msg_id: view.client_msg_id(),
            send_ts_ms: view.send_ts_ms(),
            stored_ts_ms: view.stored_ts_ms(),
            message_type: view.message_type(),
            sender: UserId::new(view.sender())?,
            sender_device: DeviceId::new(view.sender_device())?,
            chat: ChatId::new(view.chat())?,
            body: bytes.slice(view.body_at()..),
        })
    }
}

/// A message record, borrowed: lengths and texts are checked once, nothing is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageView<'a> {
    fixed: &'a [u8; RECORD_FIXED_BYTES],
    chat: &'a str,
    sender: &'a str,
    sender_device: &'a str,
    body: &'a [u8],
}

impl<'a> MessageView<'a> {
    /// Checks the layout.
    ///
    /// # Errors
    /// The lengths do not add up, or a text is no UTF-8.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, FrameError> {
        let malformed = FrameError::Malformed { what: RECORD };
        let (fixed, rest) = bytes
            .split_first_chunk::<RECORD_FIXED_BYTES>()
            .ok_or(malformed)?;
        let body_len = u32::from_le_bytes([fixed[80], fixed[81], fixed[82], fixed[83]]) as usize;
        if body_len > BODY_BYTES_MAX {
            return Err(FrameError::BodyTooLarge { len: body_len });
        }
        let cut =
            |rest: &'a [u8], len: u8| rest.split_at_checked(usize::from(len)).ok_or(malformed);
        let (chat, rest) = cut(rest, fixed[74])?;
        let (sender, rest) = cut(rest, fixed[75])?;
        let (sender_device, body) = cut(rest, fixed[76])?;
        if body.len() != body_len {
            return Err(malformed);
        }
        Ok(Self {
            fixed,
            chat: text(chat)?,
            sender: text(sender)?,
            sender_device: text(sender_device)?,
            body,
        })
    }

    fn word(&self, at: usize) -> u64 {
        let mut word = [0; 8];
        word.copy_from_slice(&self.fixed[at..at + 8]);
        u64::from_le_bytes(word)
    }

    fn uuid(&self, at: usize) -> [u8; 16] {
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&self.fixed[at..at + 16]);
        uuid
    }

    fn body_at(&self) -> usize {
        RECORD_FIXED_BYTES + self.chat.len() + self.sender.len() + self.sender_device.len()
    }

    /// Place in the chat.
    #[must_use]
    pub fn seq(&self) -> Seq {
        Seq(self.word(0))
    }

    /// The accepted message before it.
    #[must_use]
    pub fn prev_seq(&self) -> Seq {
        Seq(self.word(8))
    }

    /// Dense number.
    #[must_use]
    pub fn ordinal(&self) -> u64 {
        self.word(16)
    }

    /// Identity.
    #[must_use]
    pub fn message_id(&self) -> MessageId {
        MessageId(self.uuid(24))
    }

    /// As the sender named it.
    #[must_use]
    pub fn client_msg_id(&self) -> ClientMsgId {
        ClientMsgId(self.uuid(40))
    }

    /// The sender's clock, milliseconds.
    #[must_use]
    pub fn send_ts_ms(&self) -> u64 {
        self.word(56)
    }

    /// The log's clock, milliseconds.
    #[must_use]
    pub fn stored_ts_ms(&self) -> u64 {
        self.word(64)
    }

    /// What the payload is.
    #[must_use]
    pub fn message_type(&self) -> MessageType {
        MessageType(self.fixed[72])
    }

    /// Chat id.
    #[must_use]
    pub fn chat(&self) -> &'a str {
        self.chat
    }

    /// Sender.
    #[must_use]
    pub fn sender(&self) -> &'a str {
        self.sender
    }

    /// Sender's device.
    #[must_use]
    pub fn sender_device(&self) -> &'a str {
        self.sender_device
    }

    /// Payload.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        self.body
    }
}
