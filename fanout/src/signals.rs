//! Ephemeral signals: typing, presence and who serves a guest: records that are never stored, never replayed.

use bytes::Bytes;
use hawser_engines::log::{Produce, Topic};
use hawser_engines::presence::Presence;
use hawser_engines::store::{Store, StoreError};
use hawser_protocol::codes::ErrorCode;
use hawser_protocol::ids::{ChatId, UserId};
use hawser_protocol::partition::partition;
use hawser_protocol::record::{EphemeralPresence, EphemeralRecord, Served};
use std::collections::BTreeMap;

/// Largest group in which typing is told; in a larger one nobody looks at it and every keystroke
/// would cost the whole group.
pub const TYPING_MEMBERS_MAX: usize = 256;

/// The records that tell a chat's other members that a user types: one per touched partition of
/// `chat-typing`. Also for the user's own other devices. Blocks for a read of the store.
///
/// # Errors
/// `NotMember` when there is no such chat or the user is not in it; `Unavailable` when the store
/// cannot be read.
pub fn typing(
    store: &dyn Store,
    user: &UserId,
    chat: &ChatId,
    stopped: bool,
    partitions: u32,
    now_ms: u64,
) -> Result<Vec<Produce>, ErrorCode> {
    let members = members(store, user, chat)?;
    let Some(members) = members.filter(|members| members.len() <= TYPING_MEMBERS_MAX) else {
        return Ok(Vec::new());
    };
    let mut spread: BTreeMap<u32, Vec<UserId>> = BTreeMap::new();
    for member in members {
        let at = partition(member.as_str(), partitions);
        spread.entry(at).or_default().push(member);
    }
    let of = |(partition, recipients)| {
        let record = EphemeralRecord::Typing {
            chat: chat.clone(),
            user: user.clone(),
            stopped,
            recipients,
        };
        Produce {
            topic: Topic::ChatTyping,
            partition,
            key: Bytes::copy_from_slice(chat.as_str().as_bytes()),
            value: record.encode(),
            timestamp_ms: now_ms,
        }
    };
    Ok(spread.into_iter().map(of).collect())
}

/// The record that tells everybody that a user came or went.
#[must_use]
pub fn presence(user: &UserId, state: Presence, partitions: u32, now_ms: u64) -> Produce {
    let (state, last_seen_ms) = match state {
        Presence::Online => (EphemeralPresence::Online, 0),
        Presence::Offline { last_seen_ms } => (EphemeralPresence::Offline, last_seen_ms),
        Presence::Unknown => (EphemeralPresence::Unknown, 0),
    };
    let record = EphemeralRecord::Presence {
        user: user.clone(),
        state,
        last_seen_ms,
    };
    Produce {
        topic: Topic::ChatPresence,
        partition: partition(user.as_str(), partitions),
        key: Bytes::copy_from_slice(user.as_str().as_bytes()),
        value: record.encode(),
        timestamp_ms: now_ms,
    }
}

/// The record that tells every node that a device has its session at one.
#[must_use]
pub fn served(served: &Served, partitions: u32, now_ms: u64) -> Produce {
    let user = served.user.as_str();
    Produce {
        topic: Topic::ChatPresence,
        partition: partition(user, partitions),
        key: Bytes::copy_from_slice(user.as_bytes()),
        value: EphemeralRecord::Served(served.clone()).encode(),
        timestamp_ms: now_ms,
    }
}

/// The chat's present members, the user among them; `None`: too many to be listed.
fn members(
    store: &dyn Store,
    user: &UserId,
    chat: &ChatId,
) -> Result<Option<Vec<UserId>>, ErrorCode> {
    let unavailable = |_: StoreError| ErrorCode::Unavailable;
    if let Some((a, b)) = chat.dm_users() {
        return match *user == a || *user == b {
            true if a == b => Ok(Some(vec![a])),
            true => Ok(Some(vec![a, b])),
            false => Err(ErrorCode::NotMember),
        };
    }
    // One row first, so that who is not in a chat costs no more than that.
    let own = store.member(chat, user).map_err(unavailable)?;
    if !own.is_some_and(|m| m.current()) {
        return Err(ErrorCode::NotMember);
    }
    let info = store.chat(chat).map_err(unavailable)?;
    if info.is_some_and(|info| info.sharded.is_some()) {
        return Ok(None);
    }
    let all = store.members(chat).map_err(unavailable)?;
    let now = all.into_iter().filter(|m| m.current());
    Ok(Some(now.map(|m| m.user).collect()))
}
