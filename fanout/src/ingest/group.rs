//! A change of a group: authorised, applied to intervals, written as a message into the chat.

use super::API_DEVICE;
use super::change::Change;
use super::membership::MembershipBody;
use super::memory::{DedupKey, GroupState, Memory};
use super::plan::{Place, Plan, Verdict};
use super::reference::Delivered;
use super::send::{dedup_row, message_id};
use super::{feed, lane, shard};
use bytes::Bytes;
use hawser_engines::directory::GroupNews;
use hawser_engines::store::{ChatHead, DedupRow, Interval, Page, Store, StoreError, StoreOp};
use hawser_protocol::codes::ErrorCode;
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, Seq, UserId};
use hawser_protocol::message::{MessageRecord, MessageType};
use hawser_protocol::record::GroupOp;
use std::collections::BTreeSet;

pub(super) fn judge(
    place: &Place<'_>,
    memory: &mut Memory,
    store: &dyn Store,
    (actor, op_id): (&UserId, ClientMsgId),
    chat: &ChatId,
    op: &GroupOp,
) -> Result<Plan, StoreError> {
    // The name is a constant of the right form.
    let device = DeviceId::new(API_DEVICE).expect("a plain word");
    let key: DedupKey = (actor.clone(), device, chat.clone(), op_id);
    memory.group_with(chat, &about(actor, op), place.seq, store)?;
    let plan = match known(place, memory, store, &key, op)? {
        Some(plan) => plan,
        None => {
            let decided = decided(place, store, &key)?;
            let previous = memory.head_before(chat, place.seq, store)?;
            let group = memory.group(chat, store)?;
            let mut change = Change::new(place, previous.ordinal + 1, group, decided);
            match change.apply(place, actor, chat, op) {
                Ok(body) => {
                    let touched = change.touched();
                    let effects = Effects { body, touched };
                    accept(place, memory, store, &key, previous, effects)?
                }
                Err(code) => return Ok(refuse(place, memory, &key, code)),
            }
        }
    };
    let mut plan = plan;
    if plan.verdict == Verdict::Changed {
        let group = memory.group(chat, store)?;
        let told = lane::tell(place, (actor, op_id), chat, op, group);
        plan.produce.extend(told);
    }
    Ok(plan)
}

/// Whom a change names.
fn about<'a>(actor: &'a UserId, op: &'a GroupOp) -> Vec<&'a UserId> {
    let named: &[UserId] = match op {
        GroupOp::Create { members, .. } => members,
        GroupOp::Add { users } | GroupOp::Remove { users } => users,
        GroupOp::SetAdmin { user, .. } => std::slice::from_ref(user),
        GroupOp::Leave | GroupOp::Update { .. } | GroupOp::Relax { .. } => &[],
    };
    named.iter().chain([actor]).collect()
}

/// What is to be done for a change that has been judged before: nothing, where the record is another one; else what
/// was done then.
pub(super) fn known(
    place: &Place<'_>,
    memory: &mut Memory,
    store: &dyn Store,
    key: &DedupKey,
    op: &GroupOp,
) -> Result<Option<Plan>, StoreError> {
    match memory.dedup(key, store)? {
        Some(row) if row.seq < place.seq => Ok(Some(Plan::empty(Verdict::Duplicate))),
        Some(row) if row.seq == place.seq => replay(place, memory, store, key, &row, op).map(Some),
        _ => Ok(None),
    }
}

/// Whether this very record was found to be allowed before, though not all that follows from it may be written. The
/// decision is stored before everything else, so that where there is none, nothing is written.
pub(super) fn decided(
    place: &Place<'_>,
    store: &dyn Store,
    key: &DedupKey,
) -> Result<bool, StoreError> {
    let row = store.dedup(&key.0, &decided_device(), &key.2, &key.3)?;
    Ok(row.is_some_and(|row| row.seq == place.seq))
}

/// Device under which decisions are remembered.
pub(super) fn decided_device() -> DeviceId {
    // The name is a constant of the right form.
    DeviceId::new("api-decided").expect("plain words")
}

/// What a change that is allowed comes to.
pub(super) struct Effects {
    pub(super) body: MembershipBody,
    pub(super) touched: BTreeSet<UserId>,
}

/// Writes an applied change as a message into the chat.
pub(super) fn accept(
    place: &Place<'_>,
    memory: &mut Memory,
    store: &dyn Store,
    key: &DedupKey,
    previous: ChatHead,
    effects: Effects,
) -> Result<Plan, StoreError> {
    let Effects { body, touched } = effects;
    let record = MessageRecord {
        seq: place.seq,
        prev_seq: previous.seq,
        ordinal: previous.ordinal + 1,
        message_id: message_id(place, place.time_ms, place.seq),
        client_msg_id: key.3,
        send_ts_ms: place.time_ms,
        stored_ts_ms: place.time_ms,
        message_type: MessageType::MEMBERSHIP,
        sender: key.0.clone(),
        sender_device: key.1.clone(),
        chat: key.2.clone(),
        // Strings and numbers always serialize.
        body: Bytes::from(serde_json::to_vec(&body).unwrap_or_default()),
    };
    let group = memory.group(&record.chat, store)?;
    let plan = planned(place, key, &record, group, &touched);
    let head = ChatHead {
        seq: record.seq,
        ordinal: record.ordinal,
    };
    memory.accepted(&record.chat, head);
    memory
        .concern()
        .wrote(&record.chat, record.prev_seq, record.seq, &record.sender);
    memory.touched(touched.len());
    memory.remember(key, dedup_row(&record));
    Ok(plan)
}

/// The refusal is remembered, so that whoever asked can read it.
pub(super) fn refuse(
    place: &Place<'_>,
    memory: &mut Memory,
    key: &DedupKey,
    code: ErrorCode,
) -> Plan {
    let mut plan = Plan::empty(Verdict::Rejected(code));
    let row = DedupRow {
        seq: place.seq,
        error: code.number(),
        ordinal: 0,
        prev_seq: Seq::NONE,
        stored_ts_ms: place.time_ms,
    };
    plan.store.push(dedup_op(key, row.clone()));
    plan.produce = feed::refused(place, key, row.error);
    memory.remember(key, row);
    plan
}

fn dedup_op(key: &DedupKey, row: DedupRow) -> StoreOp {
    StoreOp::Dedup {
        user: key.0.clone(),
        device: key.1.clone(),
        chat: key.2.clone(),
        client_msg_id: key.3,
        row,
    }
}

fn planned(
    place: &Place<'_>,
    key: &DedupKey,
    record: &MessageRecord,
    group: &GroupState,
    touched: &BTreeSet<UserId>,
) -> Plan {
    let chat = &record.chat;
    let bytes = record.encode();
    let mut plan = Plan::empty(Verdict::Changed);
    let decision = (key.0.clone(), decided_device(), key.2.clone(), key.3);
    plan.store.push(dedup_op(&decision, dedup_row(record)));
    plan.store.push(StoreOp::Message {
        chat: chat.clone(),
        ordinal: record.ordinal,
        seq: record.seq,
        record: bytes.clone(),
        envelopes: Bytes::new(),
    });
    plan.store.push(StoreOp::Head {
        chat: chat.clone(),
        head: ChatHead {
            seq: record.seq,
            ordinal: record.ordinal,
        },
    });
    for member in touched.iter().filter_map(|user| group.members.get(user)) {
        plan.store.push(StoreOp::Member {
            chat: chat.clone(),
            member: member.clone(),
            write_seq: record.seq,
        });
    }
    if let Some(info) = &group.info {
        plan.store.push(StoreOp::Chat {
            chat: chat.clone(),
            info: info.clone(),
        });
    }
    plan.store.push(dedup_op(key, dedup_row(record)));
    plan.deliver(deliver(place, chat, &bytes, group, touched));
    plan.produce.extend(feed::accepted(place, group, record));
    plan.groups.extend(shown(place, chat, group, touched));
    plan
}

/// The message of a change, to all whom it concerns.
fn deliver(
    place: &Place<'_>,
    chat: &ChatId,
    record: &Bytes,
    group: &GroupState,
    touched: &BTreeSet<UserId>,
) -> Delivered {
    let sharded = group.info.as_ref().and_then(|info| info.sharded);
    match sharded {
        Some(sharded) if sharded.seq == place.seq => {
            shard::change(place, chat, record, group.members.values())
        }
        Some(sharded) if sharded.seq < place.seq => {
            let told = touched.iter().filter_map(|user| group.members.get(user));
            shard::change(place, chat, record, told)
        }
        _ => place.deliver(chat, record, concerned(group, place.seq), &[], None),
    }
}

/// As the directory shows the group; a lane is none of its own.
fn shown(
    place: &Place<'_>,
    chat: &ChatId,
    group: &GroupState,
    touched: &BTreeSet<UserId>,
) -> Option<(GroupNews, Seq)> {
    match chat.lane() {
        0 => group.news(chat, place.seq, touched),
        _ => None,
    }
}

/// Who sees a change: the members before it and those after it.
fn concerned(group: &GroupState, seq: Seq) -> impl Iterator<Item = &UserId> {
    let touches = move |i: &Interval| i.joined <= seq && i.left.is_none_or(|left| seq <= left);
    let all = group.members.values();
    all.filter(move |m| m.intervals.iter().any(touches))
        .map(|m| &m.user)
}

/// The record has been here before, and all its rows are written (the dedup row is the last of
/// them): delivers what is stored once more, and shows the directory the group as it is.
fn replay(
    place: &Place<'_>,
    memory: &mut Memory,
    store: &dyn Store,
    key: &DedupKey,
    row: &DedupRow,
    op: &GroupOp,
) -> Result<Plan, StoreError> {
    let (actor, _, chat, _) = key;
    if row.error != 0 {
        // A number that this version does not know was written by a later one.
        let code = ErrorCode::from_number(row.error).unwrap_or(ErrorCode::Internal);
        return Ok(Plan::empty(Verdict::Rejected(code)));
    }
    let mut plan = Plan::empty(Verdict::Changed);
    let page = Page::one(row.ordinal);
    // Retention may have removed it: then it is nobody's to get.
    let stored = store.messages(chat, page)?.into_iter().next();
    memory.refresh(chat, place.seq);
    let about = about(actor, op);
    let group = memory.group_with(chat, &about, place.seq, store)?;
    let touched: BTreeSet<UserId> = about.into_iter().cloned().collect();
    if let Some(stored) = stored.filter(|stored| stored.seq == place.seq) {
        plan.deliver(deliver(place, chat, &stored.record, group, &touched));
        // What ingest wrote itself can be read.
        if let Ok(record) = MessageRecord::decode(&stored.record) {
            plan.produce.extend(feed::accepted(place, group, &record));
        }
    }
    plan.groups.extend(shown(place, chat, group, &touched));
    let previous = memory.head_before(chat, place.seq, store)?;
    let head = ChatHead {
        seq: place.seq,
        ordinal: row.ordinal,
    };
    memory.accepted(chat, head);
    // A receipt that covers it is told to its author, as the first time.
    memory.concern().wrote(chat, previous.seq, place.seq, actor);
    Ok(plan)
}
