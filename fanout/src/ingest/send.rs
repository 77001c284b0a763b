//! A Send: refused, found to be a duplicate, or stored and delivered.

use super::lane::{self, Lane};
use super::memory::{DedupKey, Memory};
use super::plan::{Place, Plan, Sender, Verdict};
use super::shard;
use super::window::NODE_SKEW_MS_MAX;
use bytes::Bytes;
use hawser_engines::store::{
    ChatHead, DedupRow, Interval, Membership, Page, Store, StoreError, StoreOp,
};
use hawser_protocol::codes::ErrorCode;
use hawser_protocol::frame::RECORD_FIXED_BYTES;
use hawser_protocol::ids::{ChatId, MessageId, Seq, UserId};
use hawser_protocol::limits::{CLOCK_SKEW_MS_MAX, DEDUP_WINDOW_MS, FRAME_BYTES_MAX};
use hawser_protocol::message::{MessageRecord, MessageType, Send};
use hawser_protocol::pb;
use hawser_protocol::record::{SourceRecord, encode_envelopes};

/// Room that a Deliver frame needs besides record and envelope, bytes.
const DELIVER_BYTES: usize = 64;

pub(super) fn judge(
    place: &Place<'_>,
    memory: &mut Memory,
    store: &dyn Store,
    sender: Sender<'_>,
    send: &Send,
) -> Result<Plan, StoreError> {
    let refused = |code| {
        let mut plan = Plan::empty(Verdict::Rejected(code));
        plan.produce
            .push(place.refuse(sender, send.client_msg_id, send.chat.as_str(), code));
        Ok(plan)
    };
    if let Err(code) = check(place, sender, send) {
        return refused(code);
    }
    match lane::of(place, memory, store, &send.chat, &send.client_msg_id)? {
        Lane::Here => {}
        Lane::NotOpen => return refused(ErrorCode::Overloaded),
        Lane::Elsewhere(chat) => {
            let mut plan = Plan::empty(Verdict::Forwarded);
            let record = SourceRecord::Send {
                sender: sender.user.clone(),
                device: sender.device.clone(),
                send: Box::new(Send {
                    chat,
                    ..send.clone()
                }),
            };
            plan.produce.push(lane::send_on(place, &record));
            return Ok(plan);
        }
    }
    let key: DedupKey = (
        sender.user.clone(),
        sender.device.clone(),
        send.chat.clone(),
        send.client_msg_id,
    );
    if let Some((chat, row)) = first(place, memory, store, &key)? {
        if let Some(code) = ErrorCode::from_number(row.error).filter(|_| row.error != 0) {
            return refused(code);
        }
        let mut plan = Plan::empty(Verdict::Duplicate);
        let answer = duplicate(place, store, sender, (&chat, send), &row)?;
        plan.produce.push(answer);
        return Ok(plan);
    }
    let Some(recipients) = recipients(place, memory, store, sender.user, &send.chat)? else {
        return refused(ErrorCode::NotMember);
    };
    let previous = memory.head_before(&send.chat, place.seq, store)?;
    let record = message(place, sender, send, previous);
    let plan = accept(place, sender, send, (&record, previous), &recipients);
    let head = ChatHead {
        seq: place.seq,
        ordinal: record.ordinal,
    };
    memory.accepted(&send.chat, head);
    memory
        .concern()
        .wrote(&send.chat, previous.seq, place.seq, sender.user);
    memory.remember(&key, dedup_row(&record));
    Ok(plan)
}

/// The copy of a message that was accepted before this one, and the chat that it is in: this one, or, of a group that
/// was set to relaxed order a moment ago, the group's own lane.
fn first(
    place: &Place<'_>,
    memory: &mut Memory,
    store: &dyn Store,
    key: &DedupKey,
) -> Result<Option<(ChatId, DedupRow)>, StoreError> {
    let (user, device, chat, id) = key;
    if let Some(row) = memory.dedup(key, store)? {
        return Ok((row.seq < place.seq).then(|| (chat.clone(), row)));
    }
    if chat.lane() == 0 {
        return Ok(None);
    }
    let info = memory.group(chat, store)?.info.as_ref();
    let since = info.map_or(0, |info| info.lanes_since_ms);
    // A clock that is ahead stamped it as later than the change, which it came before; and the node that took it may
    // have been ahead of the one that took the change.
    if id.timestamp_ms() > since.saturating_add(CLOCK_SKEW_MS_MAX + NODE_SKEW_MS_MAX) {
        return Ok(None);
    }
    let base = chat.base();
    let row = store.dedup(user, device, &base, id)?;
    Ok(row.map(|row| (base, row)))
}

/// What can be said of the Send alone, judged by the record's time.
fn check(place: &Place<'_>, sender: Sender<'_>, send: &Send) -> Result<(), ErrorCode> {
    let stamped = send.client_msg_id.timestamp_ms();
    if !send.client_msg_id.is_v7() || stamped > place.time_ms + CLOCK_SKEW_MS_MAX {
        return Err(ErrorCode::BadClientMsgId);
    }
    if stamped.saturating_add(DEDUP_WINDOW_MS) < place.time_ms {
        return Err(ErrorCode::TooOld);
    }
    if send.message_type == MessageType::MEMBERSHIP {
        return Err(ErrorCode::Forbidden);
    }
    let ids = send.chat.as_str().len() + sender.user.as_str().len() + sender.device.as_str().len();
    let envelope = send.envelopes.iter().map(|e| e.bytes.len()).max();
    let frame = RECORD_FIXED_BYTES + ids + send.body.len() + envelope.unwrap_or(0) + DELIVER_BYTES;
    if frame > FRAME_BYTES_MAX {
        return Err(ErrorCode::BodyTooLarge);
    }
    Ok(())
}

/// Whom a message is for.
enum To {
    Listed(Vec<UserId>),
    /// The members of an edge-sharded group.
    Members,
}

/// The members as of the record, the sender among them; `None` when the sender is not.
fn recipients(
    place: &Place<'_>,
    memory: &mut Memory,
    store: &dyn Store,
    sender: &UserId,
    chat: &ChatId,
) -> Result<Option<To>, StoreError> {
    if let Some((a, b)) = chat.dm_users() {
        let member = *sender == a || *sender == b;
        let both = if a == b { vec![a] } else { vec![a, b] };
        return Ok(member.then_some(To::Listed(both)));
    }
    let group = memory.group_with(chat, &[sender], place.seq, store)?;
    let members = || match group.sharded(place.seq) {
        true => To::Members,
        false => To::Listed(group.at(place.seq).map(|m| m.user.clone()).collect()),
    };
    Ok(group.has(sender, place.seq).then(members))
}

fn message(
    place: &Place<'_>,
    sender: Sender<'_>,
    send: &Send,
    previous: ChatHead,
) -> MessageRecord {
    MessageRecord {
        seq: place.seq,
        prev_seq: previous.seq,
        ordinal: previous.ordinal + 1,
        message_id: message_id(place, place.time_ms, place.seq),
        client_msg_id: send.client_msg_id,
        send_ts_ms: send.send_ts_ms,
        stored_ts_ms: place.time_ms,
        message_type: send.message_type,
        sender: sender.user.clone(),
        sender_device: sender.device.clone(),
        chat: send.chat.clone(),
        body: send.body.clone(),
    }
}

/// The id that a record's place and time give.
pub(super) fn message_id(place: &Place<'_>, stored_ts_ms: u64, seq: Seq) -> MessageId {
    // At most 65,536 partitions, so that the number fits.
    let partition = u16::try_from(place.partition).unwrap_or(u16::MAX);
    MessageId::derive(stored_ts_ms, place.config.cell, partition, seq)
}

pub(super) fn dedup_row(record: &MessageRecord) -> DedupRow {
    DedupRow {
        seq: record.seq,
        error: 0,
        ordinal: record.ordinal,
        prev_seq: record.prev_seq,
        stored_ts_ms: record.stored_ts_ms,
    }
}

fn accept(
    place: &Place<'_>,
    sender: Sender<'_>,
    send: &Send,
    (record, previous): (&MessageRecord, ChatHead),
    recipients: &To,
) -> Plan {
    let bytes = record.encode();
    let mut plan = Plan::empty(Verdict::Accepted);
    plan.store.push(StoreOp::Message {
        chat: send.chat.clone(),
        ordinal: record.ordinal,
        seq: record.seq,
        record: bytes.clone(),
        envelopes: Bytes::from(encode_envelopes(&send.envelopes)),
    });
    plan.store.push(StoreOp::Head {
        chat: send.chat.clone(),
        head: ChatHead {
            seq: record.seq,
            ordinal: record.ordinal,
        },
    });
    if let To::Listed(users) = recipients
        && previous.seq == Seq::NONE
        && !send.chat.is_group()
    {
        // The first message of a 1:1 chat puts it on both users' lists.
        for user in users {
            plan.store.push(StoreOp::Member {
                chat: send.chat.clone(),
                member: always(user),
                write_seq: record.seq,
            });
        }
    }
    plan.store.push(StoreOp::Dedup {
        user: sender.user.clone(),
        device: sender.device.clone(),
        chat: send.chat.clone(),
        client_msg_id: send.client_msg_id,
        row: dedup_row(record),
    });
    let from = Some((sender.user, sender.device));
    plan.deliver(match recipients {
        To::Listed(users) => place.deliver(&send.chat, &bytes, users, &send.envelopes, from),
        To::Members => shard::deliver(place, &send.chat, &bytes, from),
    });
    plan
}

/// A user of a 1:1 chat was always in it.
fn always(user: &UserId) -> Membership {
    Membership {
        user: user.clone(),
        intervals: vec![Interval {
            joined: Seq::NONE,
            joined_ordinal: 0,
            left: None,
            left_ordinal: None,
        }],
        admin: false,
    }
}

/// The answer that the first copy got.
fn duplicate(
    place: &Place<'_>,
    store: &dyn Store,
    sender: Sender<'_>,
    (chat, send): (&ChatId, &Send),
    row: &DedupRow,
) -> Result<hawser_engines::log::Produce, StoreError> {
    let here = *chat == send.chat && row.seq.generation() == place.seq.generation();
    let id = match here {
        true => message_id(place, row.stored_ts_ms, row.seq),
        // It came from another partition: its row tells the id.
        false => stored_id(store, chat, row)?
            .unwrap_or_else(|| message_id(place, row.stored_ts_ms, row.seq)),
    };
    let result = pb::SendResult {
        client_msg_id: Bytes::copy_from_slice(&send.client_msg_id.0),
        chat: chat.to_string(),
        message_id: Bytes::copy_from_slice(&id.0),
        seq: row.seq.0,
        prev_seq: row.prev_seq.0,
        ordinal: row.ordinal,
        stored_ts_ms: row.stored_ts_ms,
        duplicate: true,
        ..Default::default()
    };
    Ok(place.answer(sender, result))
}

/// The id of a stored message; `None` when retention has removed it.
fn stored_id(
    store: &dyn Store,
    chat: &ChatId,
    row: &DedupRow,
) -> Result<Option<MessageId>, StoreError> {
    let page = Page::one(row.ordinal);
    let stored = store.messages(chat, page)?.into_iter().next();
    let record = stored.filter(|stored| stored.seq == row.seq);
    let record = record.and_then(|stored| MessageRecord::decode(&stored.record).ok());
    Ok(record.map(|record| record.message_id))
}
