//! What this process knows by itself: whom it refreshed, when; and whom it called lapsed unasked.

use ahash::{AHashMap, AHashSet};
use hawser_protocol::ids::UserId;
use hawser_protocol::limits::PRESENCE_TTL_MS;
use std::collections::VecDeque;

/// Users looked at per call of `due`; more come with the next call.
const DUE_MAX: usize = 4_096;

/// Users of this process. As many as the caller refreshes; about 120 bytes each.
#[derive(Debug, Default)]
pub(super) struct Local {
    /// User → last refresh.
    refreshed: AHashMap<UserId, u64>,
    /// (refresh, user) in order of refreshing; an entry that is not the user's last is void.
    order: VecDeque<(u64, UserId)>,
    /// Called lapsed while Redis could not be asked: news when they are refreshed again.
    lapsed: AHashSet<UserId>,
}

impl Local {
    /// A user was refreshed in Redis, `was_online` there. Returns whether that is news.
    pub(super) fn refreshed(&mut self, user: &UserId, was_online: bool, now_ms: u64) -> bool {
        self.put(user.clone(), now_ms);
        // Void entries go as they become due; a caller that refreshes far more often than the TTL
        // must not grow the queue without bound.
        if self.order.len() > 1_024 + 8 * self.refreshed.len() {
            let Self {
                order, refreshed, ..
            } = self;
            order.retain(|(at, user)| refreshed.get(user) == Some(at));
        }
        self.lapsed.remove(user) || !was_online
    }

    /// A user left.
    pub(super) fn left(&mut self, user: &UserId) {
        self.refreshed.remove(user);
        self.lapsed.remove(user);
    }

    /// Takes users whose TTL has run out as far as this process knows.
    pub(super) fn due(&mut self, now_ms: u64) -> Vec<UserId> {
        let mut due = Vec::new();
        while due.len() < DUE_MAX {
            let front = self.order.front();
            if front.is_none_or(|(at_ms, _)| now_ms < at_ms.saturating_add(PRESENCE_TTL_MS)) {
                break;
            }
            let Some((at_ms, user)) = self.order.pop_front() else {
                break;
            };
            if self.refreshed.get(&user) == Some(&at_ms) {
                self.refreshed.remove(&user);
                due.push(user);
            }
        }
        due
    }

    /// A user's TTL is about to run out in Redis: to be looked at again with the next call.
    pub(super) fn again(&mut self, user: UserId, now_ms: u64) {
        let at_ms = now_ms.saturating_sub(PRESENCE_TTL_MS);
        self.refreshed.insert(user.clone(), at_ms);
        self.order.push_front((at_ms, user));
    }

    /// A user was called lapsed without asking Redis.
    pub(super) fn lapsed(&mut self, user: UserId) {
        self.lapsed.insert(user);
    }

    fn put(&mut self, user: UserId, now_ms: u64) {
        self.refreshed.insert(user.clone(), now_ms);
        self.order.push_back((now_ms, user));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    #[test]
    fn who_is_not_refreshed_is_due_once_and_who_left_is_not() {
        let mut local = Local::default();
        for name in ["a", "b", "c"] {
            assert!(local.refreshed(&user(name), false, 0));
        }
        assert!(!local.refreshed(&user("b"), true, 10));
        local.left(&user("c"));
        assert!(local.due(PRESENCE_TTL_MS - 1).is_empty());
        assert_eq!(local.due(PRESENCE_TTL_MS), [user("a")]);
        assert!(local.due(PRESENCE_TTL_MS).is_empty());
        assert_eq!(local.due(PRESENCE_TTL_MS + 10), [user("b")]);
        local.again(user("b"), PRESENCE_TTL_MS + 10);
        assert_eq!(local.due(PRESENCE_TTL_MS + 11), [user("b")]);
    }

    #[test]
    fn who_was_called_lapsed_unasked_is_news_when_refreshed() {
        let mut local = Local::default();
        local.lapsed(user("a"));
        local.lapsed(user("b"));
        local.left(&user("b"));
        assert!(local.refreshed(&user("a"), true, 0));
        assert!(!local.refreshed(&user("a"), true, 1));
        assert!(!local.refreshed(&user("b"), true, 1));
    }

    #[test]
    fn refreshing_often_does_not_grow_memory() {
        let mut local = Local::default();
        for now in 0..20_000 {
            local.refreshed(&user("a"), true, now);
        }
        assert!(local.order.len() <= 1_024 + 8 + 1);
        assert_eq!(local.due(20_000 + PRESENCE_TTL_MS).len(), 1);
    }
}
