//! Edge-sharded groups: past a size no record lists their members. Who is in one is told to the delivery partitions of
//! those whom a change concerns, before the message that tells of it, and kept in `shards` for who reads a partition
//! later.

use super::plan::{self, Place};
use super::reference::Delivered;
use bytes::Bytes;
use hawser_engines::log::{Produce, Topic};
use hawser_engines::store::Membership;
use hawser_protocol::ids::{ChatId, DeviceId, UserId};
use hawser_protocol::partition::slot;
use hawser_protocol::record::{Audience, DeliveryKind, Referred, SHARD_BYTES_MAX, ShardMember};
use std::collections::BTreeMap;

/// Of the records of a change in one partition the message is the last, however many tell of members: on a replay they
/// may be more, as users have joined and left since, and what has passed must be known by its number.
const LAST: u16 = u16::MAX;

/// A message to all members: one record for each partition, which lists no one.
pub(super) fn deliver(
    place: &Place<'_>,
    chat: &ChatId,
    record: &Bytes,
    sender: Option<(&UserId, &DeviceId)>,
) -> Delivered {
    let told = Message::new(place, chat, record, false);
    let partitions = 0..place.config.delivery_partitions;
    let of = |partition| told.at((partition, 0), sender);
    Delivered {
        produce: partitions.map(of).collect(),
        body: told.body(),
    }
}

/// The message that tells of a change, behind the members whom it concerns.
pub(super) fn change<'m>(
    place: &Place<'_>,
    chat: &ChatId,
    record: &Bytes,
    members: impl Iterator<Item = &'m Membership>,
) -> Delivered {
    let message = Message::new(place, chat, record, true);
    let mut told = Vec::new();
    // By partition: records, and bytes that are left in the last one.
    let mut parts: BTreeMap<u32, (Vec<Vec<ShardMember>>, usize)> = BTreeMap::new();
    for member in members.filter(|member| !member.intervals.is_empty()) {
        let member = as_told(member);
        told.push(kept(place, chat, &member));
        let partition = place.partition_of(&member.user);
        let len = member.encoded_len();
        let (records, left) = parts.entry(partition).or_default();
        match records.last_mut().filter(|_| len <= *left) {
            Some(record) => {
                *left -= len;
                record.push(member);
            }
            None => {
                *left = SHARD_BYTES_MAX.saturating_sub(len);
                records.push(vec![member]);
            }
        }
    }
    for partition in 0..place.config.delivery_partitions {
        let (records, _) = parts.remove(&partition).unwrap_or_default();
        for (sub_index, members) in (0..).zip(records) {
            let kind = DeliveryKind::Shard {
                chat: chat.clone(),
                members,
            };
            told.push(place.delivery((partition, sub_index), chat.as_str(), kind));
        }
        told.push(message.at((partition, LAST), None));
    }
    Delivered {
        produce: told,
        body: message.body(),
    }
}

/// A message to all members, whole or as a reference.
struct Message<'a> {
    place: &'a Place<'a>,
    chat: &'a ChatId,
    record: &'a Bytes,
    reference: Option<Referred>,
    changed: bool,
}

impl<'a> Message<'a> {
    fn new(place: &'a Place<'a>, chat: &'a ChatId, record: &'a Bytes, changed: bool) -> Self {
        let touched = place.config.delivery_partitions as usize;
        Self {
            place,
            chat,
            record,
            reference: place.reference(record, touched),
            changed,
        }
    }

    fn at(&self, at: (u32, u16), sender: Option<(&UserId, &DeviceId)>) -> Produce {
        let changed = self.changed;
        let here = sender.filter(|(user, _)| self.place.partition_of(user) == at.0);
        let sender_entry = here.map(|(user, device)| (user.clone(), device.clone()));
        let to = (Audience::Members { changed }, Vec::new(), sender_entry);
        let kind = plan::message(self.chat, self.record, self.reference, to);
        self.place.delivery(at, self.chat.as_str(), kind)
    }

    fn body(&self) -> Option<Bytes> {
        self.reference.map(|_| self.place.body(self.record))
    }
}

fn as_told(member: &Membership) -> ShardMember {
    ShardMember {
        user: member.user.clone(),
        spans: member
            .intervals
            .iter()
            .map(|interval| (interval.joined, interval.left))
            .collect(),
    }
}

/// One member as `shards` keeps it.
fn kept(place: &Place<'_>, chat: &ChatId, member: &ShardMember) -> Produce {
    let user = &member.user;
    let kind = DeliveryKind::Shard {
        chat: chat.clone(),
        members: vec![member.clone()],
    };
    let partition = slot(user.as_str()) % place.config.shard_partitions.max(1);
    Produce {
        topic: Topic::Shards,
        // `/` is in neither alphabet.
        key: Bytes::from(format!("{chat}/{user}")),
        ..place.delivery((partition, 0), chat.as_str(), kind)
    }
}
