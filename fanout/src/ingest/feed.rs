//! What other services are told of a change of a group: `group-members` says who is in it from now on, `audit-logs`
//! who did it. Both are JSON, keyed by chat, in the order of the chat's changes; a replay tells the same again, and
//! `seq` tells that it is the same.

use super::membership::{MembershipBody, MembershipOp};
use super::memory::{DedupKey, GroupState};
use super::plan::Place;
use bytes::Bytes;
use hawser_engines::log::{Produce, Topic};
use hawser_protocol::ids::{ChatId, UserId};
use hawser_protocol::message::MessageRecord;
use hawser_protocol::partition::slot;
use serde::Serialize;

/// Version of both forms; fields are only ever added.
const VERSION: u8 = 1;

/// A record of `group-members`.
#[derive(Serialize)]
struct Members<'a> {
    v: u8,
    chat: &'a str,
    /// Decimal, as everywhere in JSON.
    seq: String,
    at_ms: u64,
    op: MembershipOp,
    by: &'a str,
    /// All of them, however many.
    joined: Vec<&'a str>,
    left: Vec<&'a str>,
    /// Of `users` in an `admin` change.
    #[serde(skip_serializing_if = "Option::is_none")]
    admin: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    users: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    picture: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lanes: Option<u8>,
}

/// A record of `audit-logs`.
#[derive(Serialize)]
struct Audit<'a> {
    v: u8,
    at_ms: u64,
    actor: &'a str,
    action: &'static str,
    chat: &'a str,
    seq: String,
    /// Whom it concerns, the first of them.
    users: &'a [String],
    /// How many.
    count: usize,
    /// 0, or the code it was refused with.
    error: u16,
}

/// What is told of an accepted change, which stands in the chat as this message.
pub(super) fn accepted(
    place: &Place<'_>,
    group: &GroupState,
    record: &MessageRecord,
) -> Vec<Produce> {
    // Lanes follow; and what ingest wrote itself can be read.
    let Ok(body) = serde_json::from_slice::<MembershipBody>(&record.body) else {
        return Vec::new();
    };
    if record.chat.lane() != 0 {
        return Vec::new();
    }
    let joins = |user: &&UserId| {
        let member = group.members.get(*user);
        member.is_some_and(|m| m.intervals.iter().any(|i| i.joined == record.seq))
    };
    let leaves = |user: &&UserId| {
        let member = group.members.get(*user);
        member.is_some_and(|m| m.intervals.iter().any(|i| i.left == Some(record.seq)))
    };
    let names = |which: &dyn Fn(&&UserId) -> bool| -> Vec<&str> {
        let all = group.members.keys().filter(which);
        all.map(UserId::as_str).collect()
    };
    let members = Members {
        v: VERSION,
        chat: record.chat.as_str(),
        seq: record.seq.0.to_string(),
        at_ms: record.stored_ts_ms,
        op: body.op,
        by: record.sender.as_str(),
        joined: names(&joins),
        left: names(&leaves),
        admin: body.admin,
        users: match body.op {
            MembershipOp::Admin => body.users.iter().map(String::as_str).collect(),
            _ => Vec::new(),
        },
        name: body.name.as_deref(),
        picture: body.picture.as_deref(),
        lanes: body.lanes,
    };
    let audit = Audit {
        v: VERSION,
        at_ms: record.stored_ts_ms,
        actor: record.sender.as_str(),
        action: action(body.op),
        chat: record.chat.as_str(),
        seq: record.seq.0.to_string(),
        users: &body.users,
        count: body.count,
        error: 0,
    };
    vec![
        tell(place, Topic::GroupMembers, &record.chat, &members),
        tell(place, Topic::AuditLogs, &record.chat, &audit),
    ]
}

/// What is told of a change that was refused.
pub(super) fn refused(place: &Place<'_>, key: &DedupKey, error: u16) -> Vec<Produce> {
    let (actor, _, chat, _) = key;
    if chat.lane() != 0 {
        return Vec::new();
    }
    let audit = Audit {
        v: VERSION,
        at_ms: place.time_ms,
        actor: actor.as_str(),
        action: "group",
        chat: chat.as_str(),
        seq: place.seq.0.to_string(),
        users: &[],
        count: 0,
        error,
    };
    vec![tell(place, Topic::AuditLogs, chat, &audit)]
}

fn action(op: MembershipOp) -> &'static str {
    match op {
        MembershipOp::Create => "group.create",
        MembershipOp::Add => "group.add",
        MembershipOp::Remove => "group.remove",
        MembershipOp::Leave => "group.leave",
        MembershipOp::Update => "group.update",
        MembershipOp::Admin => "group.admin",
        MembershipOp::Order => "group.order",
    }
}

fn tell(place: &Place<'_>, topic: Topic, chat: &ChatId, what: &impl Serialize) -> Produce {
    let partitions = match topic {
        Topic::GroupMembers => place.config.group_members_partitions,
        _ => place.config.audit_partitions,
    };
    Produce {
        topic,
        partition: slot(chat.as_str()) % partitions.max(1),
        key: Bytes::copy_from_slice(chat.as_str().as_bytes()),
        // Strings and numbers always serialize.
        value: Bytes::from(serde_json::to_vec(what).unwrap_or_default()),
        timestamp_ms: place.time_ms,
    }
}
