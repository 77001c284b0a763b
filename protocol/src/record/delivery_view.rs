//! A delivery record as the edge reads it: checked once, nothing copied, nothing allocated.

use super::delivery::{MEMBERS, MESSAGE, RECEIPT, REFERENCE, RESULT, REVOKE};
use super::read::Reader;
use super::revoke::{RevokeView, parse_revoke};
use super::shard::{SHARD, ShardView};
use super::{BodyKey, Envelopes, RecordError, Referred};
use crate::ids::Seq;
use crate::limits::{FRAME_BYTES_MAX, GROUP_LISTED_MAX, USER_ID_BYTES_MAX};
use crate::pb;
use prost::Message as _;
use std::ops::Range;

/// All members of a group in one partition (those a change removes were among them before it).
const RECIPIENTS_MAX: usize = GROUP_LISTED_MAX;

/// A checked delivery record, borrowed from the log record's value.
#[derive(Debug, Clone)]
pub struct DeliveryView<'a> {
    /// Partition of `chat-messages` that it comes from.
    pub source_partition: u32,
    /// Place of the source record; `Seq::NONE`: from none, always process it.
    pub source_seq: Seq,
    /// Distinguishes several records from one source record, from 0.
    pub sub_index: u16,
    /// What to deliver.
    pub kind: ViewKind<'a>,
}

/// What to deliver.
#[derive(Debug, Clone)]
pub enum ViewKind<'a> {
    /// A message.
    Message(MessageView<'a>),
    /// The outcome of a Send that is no new message.
    Result(ResultView<'a>),
    /// Watermarks moved.
    Receipt(ReceiptView<'a>),
    /// What is revoked, or lifted: sessions are judged anew.
    Revoke(RevokeView<'a>),
    /// A message whose record travels apart.
    Reference(ReferenceView<'a>),
    /// Members of an edge-sharded group.
    Shard(ShardView<'a>),
}

/// A message to deliver.
#[derive(Debug, Clone)]
pub struct MessageView<'a> {
    value: &'a [u8],
    to: Addressed<'a>,
    record: Range<usize>,
}

/// Whom a message is for.
#[derive(Debug, Clone, Copy)]
pub struct Addressed<'a> {
    recipients: Recipients<'a>,
    members: Option<bool>,
    sender: Option<(&'a str, &'a str)>,
    envelopes: Envelopes<'a>,
}

/// A message to deliver whose record travels apart.
#[derive(Debug, Clone, Copy)]
pub struct ReferenceView<'a> {
    /// Whom it is for.
    pub to: Addressed<'a>,
    /// The chat that the message is stored in.
    pub chat: &'a str,
    /// Which record of it.
    pub referred: Referred,
}

/// The outcome of a Send.
#[derive(Debug, Clone, Copy)]
pub struct ResultView<'a> {
    /// The sender.
    pub user: &'a str,
    /// The only device that gets it.
    pub device: &'a str,
    encoded: &'a [u8],
}

/// Watermarks that moved.
#[derive(Debug, Clone)]
pub struct ReceiptView<'a> {
    recipients: Recipients<'a>,
    /// Where.
    pub chat: &'a str,
    /// Whose.
    pub user: &'a str,
    /// Delivered up to.
    pub delivered: Seq,
    /// Read up to.
    pub read: Seq,
    /// Log time, milliseconds.
    pub ts_ms: u64,
}

impl<'a> DeliveryView<'a> {
    /// Checks a whole record: lengths, counts and UTF-8 (the alphabet of ids is the writer's word).
    ///
    /// # Errors
    /// The bytes are no delivery record of this version.
    pub fn parse(value: &'a [u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new(value);
        let kind = reader.head()?;
        let sub_index = reader.u16()?;
        let source_partition = reader.u32()?;
        let source_seq = reader.seq()?;
        let kind = match kind {
            MESSAGE => ViewKind::Message(parse_message(&mut reader, value)?),
            RESULT => ViewKind::Result(parse_result(&mut reader)?),
            RECEIPT => ViewKind::Receipt(parse_receipt(&mut reader)?),
            REVOKE => ViewKind::Revoke(parse_revoke(&mut reader)?),
            REFERENCE => ViewKind::Reference(parse_reference(&mut reader)?),
            SHARD => ViewKind::Shard(ShardView::parse(&mut reader)?),
            found => return Err(RecordError::Kind { found }),
        };
        reader.end()?;
        Ok(Self {
            source_partition,
            source_seq,
            sub_index,
            kind,
        })
    }

    /// What the body of a reference is known by.
    #[must_use]
    pub fn body_key(&self) -> BodyKey {
        BodyKey {
            source_partition: self.source_partition,
            seq: self.source_seq,
        }
    }
}

impl<'a> Addressed<'a> {
    /// Users whose delivery partition this is, the sender included; none where [`members`](Self::members) says so.
    #[must_use]
    pub fn recipients(&self) -> Recipients<'a> {
        self.recipients
    }

    /// `Some`: it is for the chat's members as the reader knows them; with `true` for those too whom it adds or
    /// removes.
    #[must_use]
    pub fn members(&self) -> Option<bool> {
        self.members
    }

    /// In the sender's partition: (user, device) that gets a SendResult instead of a Deliver.
    #[must_use]
    pub fn sender(&self) -> Option<(&'a str, &'a str)> {
        self.sender
    }

    /// Envelopes of this partition's devices.
    #[must_use]
    pub fn envelopes(&self) -> Envelopes<'a> {
        self.envelopes
    }

    /// The envelope of one device; empty when there is none.
    #[must_use]
    pub fn envelope(&self, user: &str, device: &str) -> &'a [u8] {
        self.envelopes.of(user, device).unwrap_or_default()
    }
}

impl<'a> MessageView<'a> {
    /// Whom it is for.
    #[must_use]
    pub fn to(&self) -> Addressed<'a> {
        self.to
    }

    /// Users whose delivery partition this is, the sender included; none where [`members`](Self::members) says so.
    #[must_use]
    pub fn recipients(&self) -> Recipients<'a> {
        self.to.recipients
    }

    /// As [`Addressed::members`].
    #[must_use]
    pub fn members(&self) -> Option<bool> {
        self.to.members
    }

    /// In the sender's partition: (user, device) that gets a SendResult instead of a Deliver.
    #[must_use]
    pub fn sender(&self) -> Option<(&'a str, &'a str)> {
        self.to.sender
    }

    /// The encoded message record: the same bytes for every recipient.
    #[must_use]
    pub fn record(&self) -> &'a [u8] {
        self.value.get(self.record.clone()).unwrap_or_default()
    }

    /// Where the message record is in the value, to slice the value's `Bytes`.
    #[must_use]
    pub fn record_range(&self) -> Range<usize> {
        self.record.clone()
    }

    /// Envelopes of this partition's devices.
    #[must_use]
    pub fn envelopes(&self) -> Envelopes<'a> {
        self.to.envelopes
    }

    /// The envelope of one device; empty when there is none.
    #[must_use]
    pub fn envelope(&self, user: &str, device: &str) -> &'a [u8] {
        self.to.envelope(user, device)
    }
}

impl ResultView<'_> {
    /// The result, without offset.
    ///
    /// # Errors
    /// The bytes are no SendResult.
    pub fn result(&self) -> Result<pb::SendResult, RecordError> {
        pb::SendResult::decode(self.encoded).map_err(|_| RecordError::BadForm { what: "result" })
    }
}

impl<'a> ReceiptView<'a> {
    /// Users who are told.
    #[must_use]
    pub fn recipients(&self) -> Recipients<'a> {
        self.recipients
    }
}

/// Iterates over users without allocation.
#[derive(Debug, Clone, Copy)]
pub struct Recipients<'a> {
    /// (length, user)*, checked.
    text: &'a str,
    left: usize,
}

impl<'a> Recipients<'a> {
    /// Those that are left as they are written: for each its length in a byte, and the id.
    #[must_use]
    pub fn text(&self) -> &'a str {
        self.text
    }
}

impl<'a> Iterator for Recipients<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let len = usize::from(*self.text.as_bytes().first()?);
        let user = self.text.get(1..=len)?;
        self.text = self.text.get(1 + len..)?;
        self.left = self.left.saturating_sub(1);
        Some(user)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Recipients<'_> {}

fn parse_message<'a>(
    reader: &mut Reader<'a>,
    value: &'a [u8],
) -> Result<MessageView<'a>, RecordError> {
    let to = parse_addressed(reader)?;
    let len = reader.len("message record", FRAME_BYTES_MAX)?;
    Ok(MessageView {
        value,
        to,
        record: reader.range(len)?,
    })
}

fn parse_reference<'a>(reader: &mut Reader<'a>) -> Result<ReferenceView<'a>, RecordError> {
    let to = parse_addressed(reader)?;
    let chat = reader.short("chat")?;
    let ordinal = reader.u64()?;
    let len = reader.len("message record", FRAME_BYTES_MAX)?;
    Ok(ReferenceView {
        to,
        chat,
        referred: Referred {
            ordinal,
            len: u32::try_from(len).unwrap_or(u32::MAX),
            checksum: reader.u32()?,
        },
    })
}

fn parse_addressed<'a>(reader: &mut Reader<'a>) -> Result<Addressed<'a>, RecordError> {
    let (recipients, members) = parse_audience(reader)?;
    let (user, device) = (reader.short("sender")?, reader.short("sender device")?);
    let sender = match (user.is_empty(), device.is_empty()) {
        (false, false) => Some((user, device)),
        (true, true) => None,
        _ => return Err(RecordError::BadForm { what: "sender" }),
    };
    let table = reader.len("envelopes", FRAME_BYTES_MAX)?;
    Ok(Addressed {
        recipients,
        members,
        sender,
        envelopes: Envelopes::parse(reader.take(table)?)?,
    })
}

fn parse_result<'a>(reader: &mut Reader<'a>) -> Result<ResultView<'a>, RecordError> {
    let (user, device) = (reader.short("user")?, reader.short("device")?);
    let len = reader.len("result", FRAME_BYTES_MAX)?;
    Ok(ResultView {
        user,
        device,
        encoded: reader.take(len)?,
    })
}

fn parse_receipt<'a>(reader: &mut Reader<'a>) -> Result<ReceiptView<'a>, RecordError> {
    Ok(ReceiptView {
        recipients: parse_recipients(reader)?,
        chat: reader.short("chat")?,
        user: reader.short("user")?,
        delivered: reader.seq()?,
        read: reader.seq()?,
        ts_ms: reader.u64()?,
    })
}

fn parse_audience<'a>(
    reader: &mut Reader<'a>,
) -> Result<(Recipients<'a>, Option<bool>), RecordError> {
    let mut ahead = reader.clone();
    if ahead.u32()? != MEMBERS {
        return Ok((parse_recipients(reader)?, None));
    }
    let changed = match ahead.u32()? {
        0 => false,
        1 => true,
        _ => return Err(RecordError::BadForm { what: "audience" }),
    };
    *reader = ahead;
    let nobody = Recipients { text: "", left: 0 };
    Ok((nobody, Some(changed)))
}

/// Checks count and lengths against the bytes, so that iterating cannot fail. Lengths are below
/// 0x80, so a text of lengths and ASCII ids is valid UTF-8 as a whole and is checked in one go.
fn parse_recipients<'a>(reader: &mut Reader<'a>) -> Result<Recipients<'a>, RecordError> {
    const WHAT: &str = "recipients";
    let left = reader.len(WHAT, RECIPIENTS_MAX)?;
    let bytes = reader.len(WHAT, RECIPIENTS_MAX * (1 + USER_ID_BYTES_MAX))?;
    let bytes = reader.take(bytes)?;
    if !bytes.is_ascii() {
        return Err(RecordError::BadForm { what: WHAT });
    }
    let (mut at, mut found) = (0, 0);
    while at < bytes.len() {
        let len = usize::from(bytes[at]);
        if len == 0 || len > USER_ID_BYTES_MAX {
            return Err(RecordError::BadForm { what: WHAT });
        }
        at += 1 + len;
        found += 1;
    }
    if at != bytes.len() || found != left {
        return Err(RecordError::BadForm { what: WHAT });
    }
    let text = std::str::from_utf8(bytes).map_err(|_| RecordError::BadForm { what: WHAT })?;
    Ok(Recipients { text, left })
}
