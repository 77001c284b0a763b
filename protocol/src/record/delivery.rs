//! Value of `delivery`: one record per (source record, touched partition), listing its recipients
//! there. The owned form, for who writes it; the edge reads through [`super::DeliveryView`].

use super::delivery_view::{Addressed, DeliveryView, ViewKind};
use super::revoke::put_revoke;
use super::shard::{SHARD, ShardMember, put_shard};
use super::write::Writer;
use super::{BodyKey, RecordError, Referred, encode_envelopes};
use crate::ids::{ChatId, DeviceId, Seq, UserId};
use crate::message::Envelope;
use crate::pb;
use crate::revocation::Revocation;
use bytes::Bytes;
use prost::Message as _;

pub(super) const MESSAGE: u8 = 1;
pub(super) const RESULT: u8 = 2;
pub(super) const RECEIPT: u8 = 3;
pub(super) const REVOKE: u8 = 4;
pub(super) const REFERENCE: u8 = 5;

/// Whom a message is for, in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// These users, the sender included where it is a member.
    Listed(Vec<UserId>),
    /// The members of the message's chat, as the edge knows them from [`DeliveryKind::Shard`]: the record lists no one.
    Members {
        /// Those too whom this very message adds or removes.
        changed: bool,
    },
}

impl Default for Audience {
    fn default() -> Self {
        Self::Listed(Vec::new())
    }
}

impl Audience {
    /// Users in the list.
    fn listed(&self) -> usize {
        match self {
            Self::Listed(users) => users.len(),
            Self::Members { .. } => 0,
        }
    }
}

/// One delivery record.
#[derive(Debug, Clone, PartialEq)]
pub struct DeliveryRecord {
    /// Partition of `chat-messages` that it comes from.
    pub source_partition: u32,
    /// Place of the source record; `Seq::NONE` when it comes from no source record (a revocation):
    /// such a record is always processed, the high-water mark neither asked nor moved.
    pub source_seq: Seq,
    /// Distinguishes several records from one source record in one partition, from 0.
    /// A reader keeps the largest (source_seq, sub_index) per source partition and drops what is
    /// not above it.
    pub sub_index: u16,
    /// What to deliver.
    pub kind: DeliveryKind,
}

/// What to deliver.
#[derive(Debug, Clone, PartialEq)]
pub enum DeliveryKind {
    /// A message.
    Message {
        /// Recipients whose delivery partition this is.
        recipients: Audience,
        /// Encoded `MessageRecord`: the tail of every Deliver frame.
        record: Bytes,
        /// Envelopes of this partition's devices.
        envelopes: Vec<Envelope>,
        /// In the sender's partition: this device gets a SendResult made from the record, the
        /// sender's other devices a Deliver. `None` elsewhere and for what the API caused.
        sender_entry: Option<(UserId, DeviceId)>,
    },
    /// The outcome of a Send that is no new message: rejected, or a duplicate.
    Result {
        /// The sender.
        user: UserId,
        /// The only device that gets it.
        device: DeviceId,
        /// Without offset: the edge fills it.
        result: pb::SendResult,
    },
    /// Watermarks moved.
    Receipt {
        /// Who is told.
        recipients: Vec<UserId>,
        /// Where.
        chat: ChatId,
        /// Whose watermarks.
        user: UserId,
        /// Delivered up to.
        delivered: Seq,
        /// Read up to.
        read: Seq,
        /// Log time, milliseconds.
        ts_ms: u64,
    },
    /// A message whose record travels apart from this one: once per node, as a [`super::BodyRecord`], and in the store.
    Reference {
        /// As of a `Message`.
        recipients: Audience,
        /// As of a `Message`.
        envelopes: Vec<Envelope>,
        /// As of a `Message`.
        sender_entry: Option<(UserId, DeviceId)>,
        /// The chat that the message is stored in.
        chat: ChatId,
        /// Which record of it.
        referred: Referred,
    },
    /// What is revoked from here on: a ban, a device, a token; or that a ban is lifted.
    Revoke {
        /// Whose sessions are judged; that of `revocation`, where it names one.
        user: UserId,
        /// Place of the revocation in the directory's list: whoever has read the list up to there learns nothing new.
        number: u64,
        /// What is revoked, or lifted.
        revocation: Revocation,
        /// For the closing frame; at most 256 bytes.
        reason: String,
    },
    /// Members of an edge-sharded group, whole or as far as a change concerns them. Comes before the message that
    /// tells of the change, with a smaller sub_index.
    Shard {
        /// Which group.
        chat: ChatId,
        /// Users whose delivery partition this is; at most `SHARD_BYTES_MAX` of them in a record.
        members: Vec<ShardMember>,
    },
}

impl DeliveryRecord {
    /// Encodes. Layout: version, kind, sub_index u16, source_partition u32, source_seq u64, then
    /// the kind's fields.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        match &self.kind {
            DeliveryKind::Message {
                recipients,
                record,
                envelopes,
                sender_entry,
            } => {
                let table = encode_envelopes(envelopes);
                let extra = record.len() + table.len() + recipients.listed() * 24;
                let mut out = self.begin(MESSAGE, extra);
                put_addressed(&mut out, recipients, sender_entry.as_ref(), &table);
                out.long(record);
                out.finish()
            }
            DeliveryKind::Reference {
                recipients,
                envelopes,
                sender_entry,
                chat,
                referred,
            } => {
                let table = encode_envelopes(envelopes);
                let extra = 64 + table.len() + recipients.listed() * 24;
                let mut out = self.begin(REFERENCE, extra);
                put_addressed(&mut out, recipients, sender_entry.as_ref(), &table);
                out.short(chat.as_str()).u64(referred.ordinal);
                out.u32(referred.len).u32(referred.checksum);
                out.finish()
            }
            DeliveryKind::Result {
                user,
                device,
                result,
            } => {
                let mut out = self.begin(RESULT, 256);
                out.short(user.as_str()).short(device.as_str());
                out.long(&result.encode_to_vec());
                out.finish()
            }
            DeliveryKind::Receipt {
                recipients,
                chat,
                user,
                delivered,
                read,
                ts_ms,
            } => {
                let mut out = self.begin(RECEIPT, 256 + recipients.len() * 24);
                put_recipients(&mut out, recipients);
                out.short(chat.as_str()).short(user.as_str());
                out.seq(*delivered).seq(*read).u64(*ts_ms);
                out.finish()
            }
            DeliveryKind::Revoke {
                user,
                number,
                revocation,
                reason,
            } => {
                let mut out = self.begin(REVOKE, 256);
                put_revoke(&mut out, user, *number, revocation, reason);
                out.finish()
            }
            DeliveryKind::Shard { chat, members } => {
                let mut out = self.begin(SHARD, 64 + members.len() * 48);
                put_shard(&mut out, chat, members);
                out.finish()
            }
        }
    }

    /// Decodes into owned parts, checking the form of every id; payloads share memory.
    ///
    /// # Errors
    /// The bytes are no delivery record of this version.
    pub fn decode(value: &Bytes) -> Result<Self, RecordError> {
        let view = DeliveryView::parse(value)?;
        let users =
            |names: super::Recipients<'_>| names.map(UserId::new).collect::<Result<Vec<_>, _>>();
        let kind = match &view.kind {
            ViewKind::Message(message) => DeliveryKind::Message {
                recipients: owned_audience(message.to())?,
                record: value.slice(message.record_range()),
                envelopes: owned_envelopes(value, message.envelopes())?,
                sender_entry: owned_sender(message.sender())?,
            },
            ViewKind::Reference(reference) => DeliveryKind::Reference {
                recipients: owned_audience(reference.to)?,
                envelopes: owned_envelopes(value, reference.to.envelopes())?,
                sender_entry: owned_sender(reference.to.sender())?,
                chat: ChatId::new(reference.chat)?,
                referred: reference.referred,
            },
            ViewKind::Result(result) => DeliveryKind::Result {
                user: UserId::new(result.user)?,
                device: DeviceId::new(result.device)?,
                result: result.result()?,
            },
            ViewKind::Receipt(receipt) => DeliveryKind::Receipt {
                recipients: users(receipt.recipients())?,
                chat: ChatId::new(receipt.chat)?,
                user: UserId::new(receipt.user)?,
                delivered: receipt.delivered,
                read: receipt.read,
                ts_ms: receipt.ts_ms,
            },
            ViewKind::Revoke(revoke) => DeliveryKind::Revoke {
                user: UserId::new(revoke.user)?,
                number: revoke.number,
                revocation: revoke.revocation()?,
                reason: revoke.reason.into(),
            },
            ViewKind::Shard(shard) => DeliveryKind::Shard {
                chat: ChatId::new(shard.chat)?,
                members: shard
                    .members()
                    .map(|member| {
                        Ok(ShardMember {
                            user: UserId::new(member.user)?,
                            spans: member.spans().collect(),
                        })
                    })
                    .collect::<Result<_, RecordError>>()?,
            },
        };
        Ok(Self {
            source_partition: view.source_partition,
            source_seq: view.source_seq,
            sub_index: view.sub_index,
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

    fn begin(&self, kind: u8, capacity: usize) -> Writer {
        let mut out = Writer::new(kind, 64 + capacity);
        out.u16(self.sub_index).u32(self.source_partition);
        out.seq(self.source_seq);
        out
    }
}

/// Whom it is for, then sender and device (each u8 length and text, both empty: none), then the envelopes with a u32
/// length.
fn put_addressed(
    out: &mut Writer,
    recipients: &Audience,
    sender: Option<&(UserId, DeviceId)>,
    envelopes: &[u8],
) {
    put_audience(out, recipients);
    let (user, device) = sender.map_or(("", ""), |(user, device)| (user.as_str(), device.as_str()));
    out.short(user).short(device).long(envelopes);
}

fn owned_audience(to: Addressed<'_>) -> Result<Audience, RecordError> {
    Ok(match to.members() {
        Some(changed) => Audience::Members { changed },
        None => {
            let users = to.recipients().map(UserId::new);
            Audience::Listed(users.collect::<Result<_, _>>()?)
        }
    })
}

fn owned_sender(sender: Option<(&str, &str)>) -> Result<Option<(UserId, DeviceId)>, RecordError> {
    match sender {
        Some((user, device)) => Ok(Some((UserId::new(user)?, DeviceId::new(device)?))),
        None => Ok(None),
    }
}

/// In the place of the count: the record lists no one.
pub(super) const MEMBERS: u32 = u32::MAX;

/// As recipients; or `MEMBERS` u32, changed u32.
fn put_audience(out: &mut Writer, audience: &Audience) {
    match audience {
        Audience::Listed(users) => put_recipients(out, users),
        Audience::Members { changed } => {
            out.u32(MEMBERS).u32(u32::from(*changed));
        }
    }
}

/// Count u32, bytes u32, then (length u8, user)*: so that a reader checks the text in one go.
fn put_recipients(out: &mut Writer, recipients: &[UserId]) {
    let bytes = recipients.iter().map(|user| 1 + user.as_str().len()).sum();
    out.len(recipients.len()).len(bytes);
    for user in recipients {
        out.short(user.as_str());
    }
}

fn owned_envelopes(
    value: &Bytes,
    table: super::Envelopes<'_>,
) -> Result<Vec<Envelope>, RecordError> {
    let owned = table.iter().map(|entry| {
        Ok(Envelope {
            user: UserId::new(entry.user)?,
            device: DeviceId::new(entry.device)?,
            bytes: value.slice_ref(entry.bytes),
        })
    });
    owned.collect()
}
