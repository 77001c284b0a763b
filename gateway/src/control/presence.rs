//! Who is online through this node: refreshed in batches, never one call per heartbeat, and told to
//! others only when it changes.

use crate::rows::{Row, Rows};
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
    users: Rows<Online>,
    /// Places of all users, in the order in which they are to be refreshed; each is once in it.
    refresh: VecDeque<u32>,
    /// Places of those who came since the last look.
    fresh: VecDeque<u32>,
    /// Who may have left, and when that becomes true.
    leave: VecDeque<(u32, u64)>,
}

/// One user. The row is kept until its turn to be refreshed, also when the user has left.
struct Online {
    user: UserId,
    refresh_at_ms: u64,
    leaves: Leaves,
}

const _: () = assert!(size_of::<Online>() <= 40);

/// Whether a user leaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaves {
    /// The user has a session.
    No,
    /// The last session has closed; it becomes true at this time.
    At(u64),
    /// It has become true.
    Gone,
}

impl Row for Online {
    type Key<'a> = &'a str;

    fn key(&self) -> &str {
        self.user.as_str()
    }

    fn is(&self, key: &&str) -> bool {
        self.user.as_str() == *key
    }
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
        let place = match self.users.find(&user.as_str()) {
            Some(place) => {
                let Some(online) = self.users.get_mut(place) else {
                    return;
                };
                if std::mem::replace(&mut online.leaves, Leaves::No) != Leaves::Gone {
                    return;
                }
                place
            }
            None => {
                let place = self.users.insert(Online {
                    user,
                    refresh_at_ms: now_ms + REFRESH_MS,
                    leaves: Leaves::No,
                });
                self.refresh.push_back(place);
                place
            }
        };
        self.fresh.push_back(place);
    }

    /// A user's last session closed.
    pub(crate) fn left(&mut self, user: &UserId, now_ms: u64) {
        let at_ms = now_ms + GRACE_MS;
        if let Some(place) = self.users.find(&user.as_str())
            && let Some(online) = self.users.get_mut(place)
            && online.leaves != Leaves::Gone
        {
            online.leaves = Leaves::At(at_ms);
            self.leave.push_back((place, at_ms));
        }
    }

    /// Whether the user has a session here, or had one a moment ago.
    #[cfg(test)]
    pub(crate) fn contains(&self, user: &UserId) -> bool {
        let place = self.users.find(&user.as_str());
        let online = place.and_then(|place| self.users.get(place));
        online.is_some_and(|online| online.leaves != Leaves::Gone)
    }

    /// What to tell the engine now: one batch; call again while it is full.
    pub(crate) fn due(&mut self, now_ms: u64) -> PresenceDue {
        let mut due = PresenceDue::default();
        while due.leave.len() < BATCH
            && let Some((place, at_ms)) = self.leave.pop_front_if(|(_, at_ms)| *at_ms <= now_ms)
        {
            // A row that has become another user's does not leave at this time, or does.
            if let Some(online) = self.users.get_mut(place)
                && online.leaves == Leaves::At(at_ms)
            {
                online.leaves = Leaves::Gone;
                due.leave.push(online.user.clone());
            }
        }
        while due.refresh.len() < BATCH
            && let Some(place) = self.fresh.pop_front()
        {
            if let Some(online) = self.users.get(place)
                && online.leaves != Leaves::Gone
            {
                due.refresh.push(online.user.clone());
            }
        }
        while due.refresh.len() < BATCH
            && let Some(place) = self.refresh.front().copied()
            && let Some(online) = self.users.get_mut(place)
            && online.refresh_at_ms <= now_ms
        {
            self.refresh.pop_front();
            if online.leaves == Leaves::Gone {
                self.users.remove(place);
                continue;
            }
            online.refresh_at_ms = now_ms + REFRESH_MS;
            due.refresh.push(online.user.clone());
            self.refresh.push_back(place);
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
        online.left(&user("a"), 10);
        online.came(user("a"), 20);
        assert_eq!(online.due(10 + GRACE_MS), PresenceDue::default());
        online.left(&user("a"), 5_000);
        assert!(online.contains(&user("a")));
        assert_eq!(online.due(5_000 + GRACE_MS).leave, [user("a")]);
        assert!(!online.contains(&user("a")));
        assert_eq!(online.due(5_001 + GRACE_MS), PresenceDue::default());
    }

    #[test]
    fn who_comes_again_is_told_at_once_and_keeps_its_turn() {
        let mut online = OnlineUsers::default();
        online.came(user("a"), 0);
        online.came(user("a"), 5);
        assert_eq!(online.due(5).refresh, [user("a")]);
        assert_eq!(online.due(REFRESH_MS + 5).refresh, [user("a")]);
        online.left(&user("a"), REFRESH_MS + 6);
        assert_eq!(online.due(REFRESH_MS + 6 + GRACE_MS).leave, [user("a")]);
        online.came(user("a"), REFRESH_MS + 7 + GRACE_MS);
        let at_ms = REFRESH_MS + 8 + GRACE_MS;
        assert_eq!(online.due(at_ms).refresh, [user("a")], "it is new");
        assert_eq!(online.due(2 * REFRESH_MS + 4), PresenceDue::default());
        assert_eq!(online.due(2 * REFRESH_MS + 5).refresh, [user("a")]);
        assert_eq!(online.due(3 * REFRESH_MS + 4), PresenceDue::default());
    }

    #[test]
    fn who_has_left_costs_nothing_after_its_turn() {
        let mut online = OnlineUsers::default();
        for i in 0..100 {
            online.came(user(&format!("u{i}")), 0);
        }
        online.due(0);
        for i in 0..100 {
            online.left(&user(&format!("u{i}")), 1);
        }
        assert_eq!(online.due(1 + GRACE_MS).leave.len(), 100);
        assert_eq!(online.due(REFRESH_MS), PresenceDue::default());
        assert_eq!(online.users.len(), 0);
        assert!(online.refresh.is_empty());
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
