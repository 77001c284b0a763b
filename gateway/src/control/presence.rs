//! Who is online through this node: refreshed in batches, never one call per heartbeat, and told to
//! others only when it changes.

use ahash::{AHashMap, AHashSet};
use hawser_protocol::ids::UserId;
use hawser_protocol::limits::PRESENCE_TTL_MS;

/// Every user is refreshed twice per TTL.
pub(crate) const REFRESH_MS: u64 = PRESENCE_TTL_MS / 2;
/// A user whose last session closed stays online for so long: a reconnect is no news.
pub(crate) const GRACE_MS: u64 = 3_000;
/// Users per call of the presence engine.
pub(crate) const BATCH: usize = 1_024;

/// The users of this node, and what is to be told to the presence engine.
#[derive(Default)]
pub(crate) struct OnlineUsers {
    /// When each is to be refreshed next.
    users: AHashMap<UserId, u64>,
    /// Came since the last look.
    fresh: AHashSet<UserId>,
    /// Left, and when that becomes true.
    leaving: AHashMap<UserId, u64>,
}

/// What is due.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PresenceDue {
    /// To be refreshed; at most `BATCH`.
    pub(crate) refresh: Vec<UserId>,
    /// Gone for good; at most `BATCH`.
    pub(crate) leave: Vec<UserId>,
}

impl OnlineUsers {
    /// A user's first session opened.
    pub(crate) fn came(&mut self, user: UserId, now_ms: u64) {
        if self.leaving.remove(&user).is_some() {
            return;
        }
        if self
            .users
            .insert(user.clone(), now_ms + REFRESH_MS)
            .is_none()
        {
            self.fresh.insert(user);
        }
    }

    /// A user's last session closed.
    pub(crate) fn left(&mut self, user: UserId, now_ms: u64) {
        if self.users.contains_key(&user) {
            self.leaving.insert(user, now_ms + GRACE_MS);
        }
    }

    /// Whether the user has a session here, or had one a moment ago.
    #[cfg(test)]
    pub(crate) fn contains(&self, user: &UserId) -> bool {
        self.users.contains_key(user)
    }

    /// What to tell the engine now: one batch; call again while it is full.
    pub(crate) fn due(&mut self, now_ms: u64) -> PresenceDue {
        let mut due = PresenceDue::default();
        let gone = self.leaving.iter().filter(|(_, at)| **at <= now_ms);
        due.leave = gone.map(|(user, _)| user.clone()).take(BATCH).collect();
        for user in &due.leave {
            self.leaving.remove(user);
            self.users.remove(user);
            self.fresh.remove(user);
        }
        due.refresh = self.fresh.iter().take(BATCH).cloned().collect();
        for user in &due.refresh {
            self.fresh.remove(user);
        }
        let stale = self.users.iter_mut().filter(|(_, at)| **at <= now_ms);
        for (user, at) in stale.take(BATCH - due.refresh.len()) {
            *at = now_ms + REFRESH_MS;
            due.refresh.push(user.clone());
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).expect("an id")
    }

    #[test]
    fn a_user_is_refreshed_at_once_then_twice_per_ttl() {
        let mut online = OnlineUsers::default();
        online.came(user("a"), 0);
        assert_eq!(online.due(1).refresh, [user("a")]);
        assert_eq!(online.due(2), PresenceDue::default());
        assert_eq!(online.due(REFRESH_MS).refresh, [user("a")]);
        assert_eq!(online.due(REFRESH_MS + 1), PresenceDue::default());
        assert_eq!(online.due(2 * REFRESH_MS).refresh, [user("a")]);
    }

    #[test]
    fn a_reconnect_within_the_grace_is_no_news() {
        let mut online = OnlineUsers::default();
        online.came(user("a"), 0);
        online.due(0);
        online.left(user("a"), 10);
        online.came(user("a"), 20);
        assert_eq!(online.due(10 + GRACE_MS), PresenceDue::default());
        online.left(user("a"), 5_000);
        assert!(online.contains(&user("a")));
        assert_eq!(online.due(5_000 + GRACE_MS).leave, [user("a")]);
        assert!(!online.contains(&user("a")));
        assert_eq!(online.due(5_001 + GRACE_MS), PresenceDue::default());
    }

    #[test]
    fn batches_are_bounded() {
        let mut online = OnlineUsers::default();
        for i in 0..BATCH + 5 {
            online.came(user(&format!("u{i}")), 0);
        }
        assert_eq!(online.due(0).refresh.len(), BATCH);
        assert_eq!(online.due(0).refresh.len(), 5);
    }
}
