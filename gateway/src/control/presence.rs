//! Who is online through this node: refreshed in batches, never one call per heartbeat, and told to
//! others only when it changes.

use ahash::AHashMap;
use hawser_protocol::ids::UserId;
use hawser_protocol::limits::PRESENCE_TTL_MS;
use std::collections::VecDeque;

/// Every user is refreshed twice per TTL.
pub(crate) const REFRESH_MS: u64 = PRESENCE_TTL_MS / 2;
/// A user whose last session closed stays online for so long: a reconnect is no news.
pub(crate) const GRACE_MS: u64 = 3_000;
/// Users per call of the presence engine.
pub(crate) const BATCH: usize = 1_024;

/// The users of this node, and what is to be told to the presence engine. Looking costs what is due, not who is here:
/// lines are in the order of their times, and what no longer holds is passed over.
#[derive(Default)]
pub(crate) struct OnlineUsers {
    /// When each is to be refreshed next.
    users: AHashMap<UserId, u64>,
    refresh: VecDeque<(UserId, u64)>,
    /// Came since the last look.
    fresh: VecDeque<UserId>,
    /// Left, and when that becomes true.
    leaving: AHashMap<UserId, u64>,
    leave: VecDeque<(UserId, u64)>,
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
        if self.users.contains_key(&user) {
            return;
        }
        let at_ms = now_ms + REFRESH_MS;
        self.users.insert(user.clone(), at_ms);
        self.refresh.push_back((user.clone(), at_ms));
        self.fresh.push_back(user);
    }

    /// A user's last session closed.
    pub(crate) fn left(&mut self, user: UserId, now_ms: u64) {
        if self.users.contains_key(&user) {
            let at_ms = now_ms + GRACE_MS;
            self.leaving.insert(user.clone(), at_ms);
            self.leave.push_back((user, at_ms));
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
        while due.leave.len() < BATCH
            && let Some((user, at_ms)) = ended(&mut self.leave, now_ms)
        {
            if self.leaving.get(&user) == Some(&at_ms) {
                self.leaving.remove(&user);
                self.users.remove(&user);
                due.leave.push(user);
            }
        }
        while due.refresh.len() < BATCH
            && let Some(user) = self.fresh.pop_front()
        {
            if self.users.contains_key(&user) {
                due.refresh.push(user);
            }
        }
        while due.refresh.len() < BATCH
            && let Some((user, at_ms)) = ended(&mut self.refresh, now_ms)
        {
            if let Some(next_ms) = self.users.get_mut(&user)
                && *next_ms == at_ms
            {
                *next_ms = now_ms + REFRESH_MS;
                self.refresh.push_back((user.clone(), *next_ms));
                due.refresh.push(user);
            }
        }
        due
    }
}

/// The first of a line, if its time has come.
fn ended(line: &mut VecDeque<(UserId, u64)>, now_ms: u64) -> Option<(UserId, u64)> {
    line.pop_front_if(|(_, at_ms)| *at_ms <= now_ms)
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
    fn who_comes_again_is_refreshed_once_per_interval() {
        let mut online = OnlineUsers::default();
        online.came(user("a"), 0);
        online.came(user("a"), 5);
        assert_eq!(online.due(5).refresh, [user("a")]);
        assert_eq!(online.due(REFRESH_MS + 5).refresh, [user("a")]);
        online.left(user("a"), REFRESH_MS + 6);
        assert_eq!(online.due(REFRESH_MS + 6 + GRACE_MS).leave, [user("a")]);
        online.came(user("a"), REFRESH_MS + 7 + GRACE_MS);
        let at_ms = REFRESH_MS + 8 + GRACE_MS;
        assert_eq!(online.due(at_ms).refresh, [user("a")], "it is new");
        assert_eq!(online.due(2 * REFRESH_MS + 5), PresenceDue::default());
        let at_ms = 2 * REFRESH_MS + 7 + GRACE_MS;
        assert_eq!(online.due(at_ms).refresh, [user("a")]);
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
