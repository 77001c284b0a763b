//! The presence port in memory: soft state with expiry, bounded, gone with the process.

use super::core::lock;
use crate::presence::{Presence, PresenceStore};
use ahash::AHashMap;
use hawser_protocol::ids::{ChatId, UserId};
use hawser_protocol::limits::{PRESENCE_TTL_MS, TYPING_TTL_MS};
use std::collections::VecDeque;
use std::sync::Mutex;

/// "Last seen" entries in each of two generations; the older is dropped when the newer is full.
/// About 100 bytes each.
const LAST_SEEN_MAX: usize = 500_000;
/// Users remembered as typing in one chat; more are not shown.
const TYPING_PER_CHAT_MAX: usize = 64;
/// Chats with someone typing; more are not shown until others expire.
const TYPING_CHATS_MAX: usize = 100_000;

/// Presence and typing of this process.
#[derive(Default)]
pub struct EmbeddedPresence(Mutex<State>);

#[derive(Default)]
struct State {
    /// User → last refresh.
    online: AHashMap<UserId, u64>,
    /// (refresh, user) in order of refreshing; an entry that is not the user's last is void.
    order: VecDeque<(u64, UserId)>,
    seen: AHashMap<UserId, u64>,
    seen_before: AHashMap<UserId, u64>,
    typing: AHashMap<ChatId, Vec<(UserId, u64)>>,
}

impl State {
    fn is_online(&self, user: &UserId, now_ms: u64) -> bool {
        self.online
            .get(user)
            .is_some_and(|refreshed| now_ms < refreshed.saturating_add(PRESENCE_TTL_MS))
    }

    fn set_seen(&mut self, user: UserId, at_ms: u64) {
        if self.seen.len() >= LAST_SEEN_MAX {
            self.seen_before = std::mem::take(&mut self.seen);
        }
        self.seen.insert(user, at_ms);
    }

    fn last_seen(&self, user: &UserId) -> u64 {
        let seen = self.seen.get(user).or_else(|| self.seen_before.get(user));
        // Expired but not swept yet: seen when last refreshed.
        let refreshed = self.online.get(user);
        seen.into_iter()
            .chain(refreshed)
            .copied()
            .max()
            .unwrap_or(0)
    }

    fn sweep_typing(&mut self, now_ms: u64) {
        self.typing.retain(|_, users| {
            users.retain(|(_, until)| now_ms < *until);
            !users.is_empty()
        });
    }
}

impl PresenceStore for EmbeddedPresence {
    fn refresh(&self, users: &[UserId], now_ms: u64) -> Vec<UserId> {
        let mut state = lock(&self.0);
        let mut came = Vec::new();
        for user in users {
            if !state.is_online(user, now_ms) {
                came.push(user.clone());
            }
            state.online.insert(user.clone(), now_ms);
            state.order.push_back((now_ms, user.clone()));
        }
        // Void entries are swept as they expire; a caller that refreshes far more often than the
        // TTL must not grow the queue without bound.
        if state.order.len() > 1_024 + 8 * state.online.len() {
            let State { order, online, .. } = &mut *state;
            order.retain(|(at, user)| online.get(user) == Some(at));
        }
        came
    }

    fn leave(&self, user: &UserId, now_ms: u64) {
        let mut state = lock(&self.0);
        state.online.remove(user);
        state.set_seen(user.clone(), now_ms);
    }

    fn get(&self, users: &[UserId], now_ms: u64) -> Vec<Presence> {
        let state = lock(&self.0);
        let each = |user: &UserId| {
            if state.is_online(user, now_ms) {
                Presence::Online
            } else {
                Presence::Offline {
                    last_seen_ms: state.last_seen(user),
                }
            }
        };
        users.iter().map(each).collect()
    }

    fn expired(&self, now_ms: u64) -> Vec<UserId> {
        let mut state = lock(&self.0);
        state.sweep_typing(now_ms);
        let mut gone = Vec::new();
        while let Some((at_ms, _)) = state.order.front() {
            if now_ms < at_ms.saturating_add(PRESENCE_TTL_MS) {
                break;
            }
            let Some((at_ms, user)) = state.order.pop_front() else {
                break;
            };
            if state.online.get(&user) == Some(&at_ms) {
                state.online.remove(&user);
                state.set_seen(user.clone(), at_ms);
                gone.push(user);
            }
        }
        gone
    }

    fn set_typing(&self, user: &UserId, chat: &ChatId, typing: bool, now_ms: u64) {
        let mut state = lock(&self.0);
        if state.typing.len() >= TYPING_CHATS_MAX && !state.typing.contains_key(chat) {
            state.sweep_typing(now_ms);
            if state.typing.len() >= TYPING_CHATS_MAX {
                return;
            }
        }
        let users = state.typing.entry(chat.clone()).or_default();
        users.retain(|(other, until)| other != user && now_ms < *until);
        if typing && users.len() < TYPING_PER_CHAT_MAX {
            users.push((user.clone(), now_ms + TYPING_TTL_MS));
        }
        if users.is_empty() {
            state.typing.remove(chat);
        }
    }

    fn typing(&self, chat: &ChatId, now_ms: u64) -> Vec<UserId> {
        let state = lock(&self.0);
        let users = state.typing.get(chat).map_or(&[][..], Vec::as_slice);
        let fresh = users.iter().filter(|(_, until)| now_ms < *until);
        fresh.map(|(user, _)| user.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refreshing_often_does_not_grow_memory() {
        let presence = EmbeddedPresence::default();
        let users = [UserId::new("a").unwrap(), UserId::new("b").unwrap()];
        for now in 0..20_000 {
            presence.refresh(&users, now);
        }
        assert!(lock(&presence.0).order.len() <= 1_024 + 8 * 2 + 2);
        assert!(presence.expired(20_000).is_empty());
        assert_eq!(presence.expired(20_000 + PRESENCE_TTL_MS).len(), 2);
    }
}
