//! What a record comes to, and the fan-out by partition.

use super::IngestConfig;
use super::reference::Delivered;
use bytes::Bytes;
use hawser_engines::directory::GroupNews;
use hawser_engines::log::{Produce, Record, Topic};
use hawser_engines::store::StoreOp;
use hawser_protocol::codes::ErrorCode;
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, Seq, UserId};
use hawser_protocol::message::Envelope;
use hawser_protocol::partition::partition;
use hawser_protocol::pb;
use hawser_protocol::record::{Audience, DeliveryKind, DeliveryRecord, Referred};
use std::collections::{BTreeMap, BTreeSet};

/// What one record comes to. Every part may be applied again.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Rows of the store, to be written before anything is produced.
    pub store: Vec<StoreOp>,
    /// Delivery records and dead letters, in order.
    pub produce: Vec<Produce>,
    /// What the delivery records refer to: a value of `bodies`, for the lanes of the nodes that they are for. It goes
    /// before them, and may be lost.
    pub body: Option<Bytes>,
    /// What changes of groups come to, each with its seq.
    pub groups: Vec<(GroupNews, Seq)>,
    /// In a word.
    pub verdict: Verdict,
}

/// How a record was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A message, new or replayed.
    Accepted,
    /// A message that had been accepted under a smaller seq.
    Duplicate,
    /// A message of another lane of the chat, where it was sent on to.
    Forwarded,
    /// A change of a group, new or replayed.
    Changed,
    /// Watermarks.
    Receipt,
    /// A message or a change that is refused; watermarks of one who is no member.
    Rejected(ErrorCode),
    /// A record that can never be processed: it is in `dead-letters`.
    Poison,
}

impl Plan {
    /// Nothing to do.
    pub(super) fn empty(verdict: Verdict) -> Self {
        Self {
            store: Vec::new(),
            produce: Vec::new(),
            body: None,
            groups: Vec::new(),
            verdict,
        }
    }

    /// Delivers a message.
    pub(super) fn deliver(&mut self, delivered: Delivered) {
        self.produce.extend(delivered.produce);
        self.body = delivered.body;
    }
}

/// Where a record stands: what every part of its plan is derived from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) config: &'a IngestConfig,
    pub(super) partition: u32,
    pub(super) seq: Seq,
    /// The record's time, clamped.
    pub(super) time_ms: u64,
}

impl Place<'_> {
    /// The record at this place among those of its source in a partition.
    pub(super) fn delivery(
        &self,
        (partition, sub_index): (u32, u16),
        chat: &str,
        kind: DeliveryKind,
    ) -> Produce {
        let record = DeliveryRecord {
            source_partition: self.partition,
            source_seq: self.seq,
            sub_index,
            kind,
        };
        Produce {
            topic: Topic::Delivery,
            partition,
            key: Bytes::copy_from_slice(chat.as_bytes()),
            value: record.encode(),
            timestamp_ms: self.time_ms,
        }
    }

    pub(super) fn partition_of(&self, user: &UserId) -> u32 {
        partition(user.as_str(), self.config.delivery_partitions)
    }

    /// Recipients by partition; partitions and, within one, recipients keep a fixed order.
    fn spread<'u>(
        &self,
        recipients: impl IntoIterator<Item = &'u UserId>,
    ) -> BTreeMap<u32, Vec<UserId>> {
        let mut spread: BTreeMap<u32, Vec<UserId>> = BTreeMap::new();
        for user in recipients {
            let at = spread.entry(self.partition_of(user)).or_default();
            at.push(user.clone());
        }
        spread
    }

    /// One delivery record per touched partition, with the message record or a reference to it.
    pub(super) fn deliver<'u>(
        &self,
        chat: &ChatId,
        record: &Bytes,
        recipients: impl IntoIterator<Item = &'u UserId>,
        envelopes: &[Envelope],
        sender: Option<(&UserId, &DeviceId)>,
    ) -> Delivered {
        let spread = self.spread(recipients);
        let reference = self.reference(record, spread.len());
        let of = |partition: u32, recipients: Vec<UserId>| {
            // Recipients come in order: members by id, the two users of a 1:1 chat too.
            let mine = envelopes
                .iter()
                .filter(|e| recipients.binary_search(&e.user).is_ok());
            let sender_entry = sender
                .filter(|(user, _)| self.partition_of(user) == partition)
                .map(|(user, device)| (user.clone(), device.clone()));
            let envelopes = mine.cloned().collect();
            let to = (Audience::Listed(recipients), envelopes, sender_entry);
            let kind = message(chat, record, reference, to);
            self.delivery((partition, 0), chat.as_str(), kind)
        };
        Delivered {
            produce: spread.into_iter().map(|(p, users)| of(p, users)).collect(),
            body: reference.map(|_| self.body(record)),
        }
    }

    /// Watermarks, one record per touched partition.
    pub(super) fn tell_receipt(
        &self,
        chat: &ChatId,
        user: &UserId,
        (delivered, read): (Seq, Seq),
        recipients: &BTreeSet<UserId>,
    ) -> Vec<Produce> {
        let spread = self.spread(recipients);
        let of = |(partition, recipients)| {
            let kind = DeliveryKind::Receipt {
                recipients,
                chat: chat.clone(),
                user: user.clone(),
                delivered,
                read,
                ts_ms: self.time_ms,
            };
            self.delivery((partition, 0), chat.as_str(), kind)
        };
        spread.into_iter().map(of).collect()
    }

    /// The answer to a Send that is no new message.
    pub(super) fn answer(&self, to: Sender<'_>, result: pb::SendResult) -> Produce {
        let chat = result.chat.clone();
        let kind = DeliveryKind::Result {
            user: to.user.clone(),
            device: to.device.clone(),
            result,
        };
        self.delivery((self.partition_of(to.user), 0), &chat, kind)
    }

    /// The refusal of a Send.
    pub(super) fn refuse(
        &self,
        to: Sender<'_>,
        id: ClientMsgId,
        chat: &str,
        code: ErrorCode,
    ) -> Produce {
        let result = pb::SendResult {
            client_msg_id: Bytes::copy_from_slice(&id.0),
            chat: chat.to_owned(),
            error: u32::from(code.number()),
            stored_ts_ms: self.time_ms,
            text: text(code).to_owned(),
            ..Default::default()
        };
        self.answer(to, result)
    }

    /// The whole record, for people to look at.
    pub(super) fn dead_letter(&self, record: &Record) -> Produce {
        Produce {
            topic: Topic::DeadLetters,
            partition: self.partition % self.config.dead_letter_partitions.max(1),
            key: record.key.clone(),
            value: record.value.clone(),
            timestamp_ms: self.time_ms,
        }
    }
}

/// Whom a message is for in one partition: recipients, their envelopes, and the sender's device where it is there.
pub(super) type To = (Audience, Vec<Envelope>, Option<(UserId, DeviceId)>);

/// A message, whole or as a reference.
pub(super) fn message(
    chat: &ChatId,
    record: &Bytes,
    reference: Option<Referred>,
    (recipients, envelopes, sender_entry): To,
) -> DeliveryKind {
    match reference {
        None => DeliveryKind::Message {
            recipients,
            record: record.clone(),
            envelopes,
            sender_entry,
        },
        Some(referred) => DeliveryKind::Reference {
            recipients,
            envelopes,
            sender_entry,
            chat: chat.clone(),
            referred,
        },
    }
}

/// Who sent, and from where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sender<'a> {
    pub(super) user: &'a UserId,
    pub(super) device: &'a DeviceId,
}

/// Words for people beside the code.
fn text(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::NotMember => "no such chat, or you are not in it",
        ErrorCode::TooOld => "the client_msg_id is older than the dedup window: sync first",
        ErrorCode::BadClientMsgId => "the client_msg_id is no UUIDv7 of about now",
        ErrorCode::BodyTooLarge => "body and envelope do not fit one frame",
        ErrorCode::Forbidden => "messages of this type are the server's",
        ErrorCode::BadFrame => "the message cannot be read",
        ErrorCode::Overloaded => "the chat is being spread over lanes: send it again",
        _ => "refused",
    }
}
