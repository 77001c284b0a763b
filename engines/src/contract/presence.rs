//! Facts of the `presence` port.

use super::{Fact, run, unique};
use crate::presence::{Presence, PresenceStore};
use hawser_protocol::ids::{ChatId, UserId};
use hawser_protocol::limits::{PRESENCE_TTL_MS, TYPING_TTL_MS};
use std::sync::Arc;

/// Runs all facts. They set the time themselves: for an engine that expires by the time it is given.
pub fn presence_suite(make: impl Fn() -> Arc<dyn PresenceStore>) {
    run("presence", FACTS, &make);
    run("expiry of presence", FACTS_OF_EXPIRY, make);
}

/// Runs the facts that an engine with a clock of its own can keep; it has tests of its own for expiry.
pub fn presence_suite_on_its_own_clock(make: impl Fn() -> Arc<dyn PresenceStore>) {
    run("presence", FACTS, make);
}

/// When a user's time is over.
pub const FACTS_OF_EXPIRY: &[Fact<dyn PresenceStore>] = &[
    (
        "online_ends_with_the_ttl_and_last_seen_is_the_last_refresh",
        expires,
    ),
    ("expired_names_each_user_once", expired_once),
];

/// All other facts.
pub const FACTS: &[Fact<dyn PresenceStore>] = &[
    ("who_was_never_seen_is_offline_since_0", never_seen),
    (
        "a_refresh_makes_online_and_names_who_was_not_before",
        refresh,
    ),
    ("a_refresh_in_time_keeps_online", kept),
    ("leaving_is_offline_at_once_and_is_no_expiry", leaving),
    ("many_leave_in_one_call", leaving_all),
    ("typing_ends_after_its_ttl_or_when_stopped", typing),
    ("typing_is_per_chat", typing_per_chat),
];

const NOW: u64 = 1_700_000_000_000;

fn user() -> UserId {
    UserId::new(&unique()).expect("valid")
}

fn chat() -> ChatId {
    ChatId::new(&format!("g:{}", unique())).expect("valid")
}

fn offline(last_seen_ms: u64) -> Presence {
    Presence::Offline { last_seen_ms }
}

fn never_seen(presence: &Arc<dyn PresenceStore>) {
    assert_eq!(presence.get(&[user()], NOW), [offline(0)]);
    assert!(presence.get(&[], NOW).is_empty());
}

fn refresh(presence: &Arc<dyn PresenceStore>) {
    let (a, b) = (user(), user());
    let came = presence.refresh(std::slice::from_ref(&a), NOW);
    assert_eq!(came, std::slice::from_ref(&a));
    let came = presence.refresh(&[a.clone(), b.clone()], NOW + 1);
    assert_eq!(came, std::slice::from_ref(&b));
    let states = presence.get(&[b, user(), a], NOW + 2);
    assert_eq!(states, [Presence::Online, offline(0), Presence::Online]);
}

fn expires(presence: &Arc<dyn PresenceStore>) {
    let a = [user()];
    presence.refresh(&a, NOW);
    let last = NOW + PRESENCE_TTL_MS - 1;
    assert_eq!(presence.get(&a, last), [Presence::Online]);
    assert_eq!(presence.get(&a, last + 1), [offline(NOW)]);
    presence.expired(last + 1);
    assert_eq!(presence.get(&a, last + 2), [offline(NOW)]);
    assert_eq!(presence.refresh(&a, last + 3), a, "it comes back as new");
}

fn expired_once(presence: &Arc<dyn PresenceStore>) {
    let a = user();
    presence.refresh(std::slice::from_ref(&a), NOW);
    let mine = |now| {
        presence
            .expired(now)
            .into_iter()
            .filter(|u| *u == a)
            .count()
    };
    assert_eq!(mine(NOW + PRESENCE_TTL_MS - 1), 0);
    assert_eq!(mine(NOW + PRESENCE_TTL_MS), 1);
    assert_eq!(mine(NOW + PRESENCE_TTL_MS + 1), 0);
}

fn kept(presence: &Arc<dyn PresenceStore>) {
    let a = [user()];
    for i in 0..5 {
        presence.refresh(&a, NOW + i * PRESENCE_TTL_MS / 2);
    }
    let now = NOW + 2 * PRESENCE_TTL_MS + 1;
    assert!(!presence.expired(now).contains(&a[0]));
    assert_eq!(presence.get(&a, now), [Presence::Online]);
}

fn leaving(presence: &Arc<dyn PresenceStore>) {
    let a = [user()];
    presence.refresh(&a, NOW);
    presence.leave(&a[0], NOW + 10);
    assert_eq!(presence.get(&a, NOW + 11), [offline(NOW + 10)]);
    assert!(!presence.expired(NOW + PRESENCE_TTL_MS * 2).contains(&a[0]));
}

fn leaving_all(presence: &Arc<dyn PresenceStore>) {
    let users: Vec<UserId> = (0..1_500).map(|_| user()).collect();
    let stays = [user()];
    assert_eq!(presence.refresh(&users, NOW), users);
    presence.refresh(&stays, NOW);
    presence.leave_all(&users, NOW + 5);
    assert_eq!(
        presence.get(&users, NOW + 6),
        vec![offline(NOW + 5); users.len()]
    );
    assert_eq!(presence.get(&stays, NOW + 6), [Presence::Online]);
    presence.leave_all(&[], NOW + 7);
}

fn typing(presence: &Arc<dyn PresenceStore>) {
    let (a, b, chat) = (user(), user(), chat());
    presence.set_typing(&a, &chat, true, NOW);
    presence.set_typing(&b, &chat, true, NOW + 1);
    let mut both = presence.typing(&chat, NOW + 2);
    both.sort();
    let mut expected = vec![a.clone(), b.clone()];
    expected.sort();
    assert_eq!(both, expected);
    presence.set_typing(&b, &chat, false, NOW + 3);
    assert_eq!(presence.typing(&chat, NOW + TYPING_TTL_MS - 1), [a]);
    assert!(presence.typing(&chat, NOW + TYPING_TTL_MS).is_empty());
    presence.set_typing(&b, &chat, false, NOW + 4);
}

fn typing_per_chat(presence: &Arc<dyn PresenceStore>) {
    let (a, one, two) = (user(), chat(), chat());
    presence.set_typing(&a, &one, true, NOW);
    assert_eq!(presence.typing(&one, NOW + 1), [a]);
    assert!(presence.typing(&two, NOW + 1).is_empty());
}
