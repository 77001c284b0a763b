//! A group set to relaxed order: its messages are spread over lanes, each a chat of its own with an order of its own.
//!
//! Changes of the group are judged in the group's own lane, number 0, and told to the others by records that ingest
//! writes into their partitions; each takes effect at its own seq there. A message in the wrong lane is sent on: which
//! is the right one depends on its id and on how the group is spread, and on nothing else.

use super::API_DEVICE;
use super::change::Change;
use super::group::{Effects, accept};
use super::membership::{MembershipBody, MembershipOp};
use super::memory::{DedupKey, GroupState, Memory};
use super::plan::{Place, Plan, Verdict};
use bytes::Bytes;
use hawser_engines::log::{Produce, Topic};
use hawser_engines::store::{ChatInfo, Store, StoreError};
use hawser_protocol::codes::ErrorCode;
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, UserId};
use hawser_protocol::lanes::Lanes;
use hawser_protocol::limits::LANES_NOTICE_MS;
use hawser_protocol::partition::partition;
use hawser_protocol::record::{GroupOp, LaneOp, SourceRecord};

/// Where a message belongs.
pub(super) enum Lane {
    /// Where it is.
    Here,
    /// To another lane of the group.
    Elsewhere(ChatId),
    /// Here perhaps, but the lane has not begun yet.
    NotOpen,
}

/// How a chat is spread as of a record; `None`: not at all.
pub(super) fn spread(place: &Place<'_>, chat: &ChatId, info: Option<&ChatInfo>) -> Option<Lanes> {
    let info = info?;
    // In a lane the record that opened it came first.
    let begun = match chat.lane() {
        0 => info.relaxed_seq < place.seq,
        _ => info.created_seq < place.seq,
    };
    begun.then(|| Lanes::new(info.lanes, info.lanes_since_ms))?
}

/// Where a message belongs that came to this chat.
pub(super) fn of(
    place: &Place<'_>,
    memory: &mut Memory,
    store: &dyn Store,
    chat: &ChatId,
    id: &ClientMsgId,
) -> Result<Lane, StoreError> {
    if !chat.is_group() {
        return Ok(Lane::Here);
    }
    let group = memory.group(chat, store)?;
    let Some(lanes) = spread(place, chat, group.info.as_ref()) else {
        return Ok(match chat.lane() {
            0 => Lane::Here,
            _ => Lane::NotOpen,
        });
    };
    let right = lanes.of(id);
    if right == chat.lane() {
        return Ok(Lane::Here);
    }
    // The number is below the count of lanes.
    Ok(chat.in_lane(right).map_or(Lane::Here, Lane::Elsewhere))
}

/// A record for another lane of the chat.
pub(super) fn send_on(place: &Place<'_>, record: &SourceRecord) -> Produce {
    let chat = record.chat().as_str();
    Produce {
        topic: Topic::ChatMessages,
        partition: partition(chat, place.config.source_partitions),
        key: Bytes::copy_from_slice(chat.as_bytes()),
        value: record.encode(),
        timestamp_ms: place.time_ms,
    }
}

/// What the other lanes, and the edge nodes, are told of a change of the group. The same on every replay, but for who
/// is admin, which is of no consequence in a lane.
pub(super) fn tell(
    place: &Place<'_>,
    (actor, op_id): (&UserId, ClientMsgId),
    chat: &ChatId,
    op: &GroupOp,
    group: &GroupState,
) -> Vec<Produce> {
    let Some(info) = group.info.as_ref().filter(|i| i.relaxed_seq <= place.seq) else {
        return Vec::new();
    };
    let Some(lanes) = Lanes::new(info.lanes, info.lanes_since_ms) else {
        return Vec::new();
    };
    let relaxed = info.relaxed_seq == place.seq;
    let op = if relaxed {
        LaneOp::Open {
            name: info.name.clone(),
            picture: info.picture.clone(),
            members: group.at(place.seq).map(|m| m.user.clone()).collect(),
            admins: group
                .at(place.seq)
                .filter(|m| m.admin)
                .map(|m| m.user.clone())
                .collect(),
            lanes,
        }
    } else {
        LaneOp::Change(op.clone())
    };
    let numbers = (1..lanes.lanes).filter_map(|lane| chat.in_lane(lane).ok());
    let mut told: Vec<Produce> = numbers
        .map(|chat| {
            let record = SourceRecord::Lane {
                actor: actor.clone(),
                op_id,
                chat,
                op: op.clone(),
            };
            send_on(place, &record)
        })
        .collect();
    if relaxed {
        told.push(notice(place, chat, lanes));
    }
    told
}

/// What edge nodes read: key `lanes/<chat>`, value [`Lanes`] as JSON.
fn notice(place: &Place<'_>, chat: &ChatId, lanes: Lanes) -> Produce {
    Produce {
        topic: Topic::Leases,
        partition: 0,
        key: Bytes::from(format!("lanes/{chat}")),
        // Two numbers always serialize.
        value: Bytes::from(serde_json::to_vec(&lanes).unwrap_or_default()),
        timestamp_ms: place.time_ms,
    }
}

/// How a group that is set to relaxed order now is spread.
pub(super) fn from_now(place: &Place<'_>, lanes: u8) -> Option<Lanes> {
    Lanes::new(lanes, place.time_ms.saturating_add(LANES_NOTICE_MS))
}

/// A record that tells a lane of a change.
pub(super) fn judge(
    place: &Place<'_>,
    memory: &mut Memory,
    store: &dyn Store,
    (actor, op_id): (&UserId, ClientMsgId),
    chat: &ChatId,
    op: &LaneOp,
) -> Result<Plan, StoreError> {
    if chat.lane() == 0 {
        return Ok(Plan::empty(Verdict::Rejected(ErrorCode::BadId)));
    }
    // The name is a constant of the right form.
    let device = DeviceId::new(API_DEVICE).expect("a plain word");
    let key: DedupKey = (actor.clone(), device, chat.clone(), op_id);
    let change = match op {
        LaneOp::Change(op) => op,
        // It names everybody, and a lane's group is whole.
        LaneOp::Open { .. } => &GroupOp::Leave,
    };
    if let Some(known) = super::group::known(place, memory, store, &key, change)? {
        return Ok(known);
    }
    let previous = memory.head_before(chat, place.seq, store)?;
    let decided = super::group::decided(place, store, &key)?;
    let group = memory.group(chat, store)?;
    let mut change = Change::new(place, previous.ordinal + 1, group, decided).allowed();
    let done = match op {
        LaneOp::Open {
            name,
            picture,
            members,
            admins,
            lanes,
        } => change.open((name, picture), members, admins, *lanes),
        LaneOp::Change(op) => change.perform(actor, op, None),
    };
    match done {
        Ok(body) => {
            let effects = Effects {
                body,
                touched: change.touched(),
            };
            Ok(accept(place, memory, store, &key, previous, effects)?)
        }
        Err(code) => {
            tracing::warn!(%chat, code = code.number(), "a change does not fit the lane");
            Ok(super::group::refuse(place, memory, &key, code))
        }
    }
}

/// The body that tells of relaxed order.
pub(super) fn body(lanes: Lanes) -> MembershipBody {
    let mut body = MembershipBody::about(MembershipOp::Order, [].iter());
    body.lanes = Some(lanes.lanes);
    body
}
