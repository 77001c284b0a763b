//! What users have spent of their rates who have no session here any more, until it is full again: a reconnect refills
//! nothing.

use ahash::AHashMap;
use hawser_protocol::ids::UserId;
use hawser_protocol::server::UserRates;
use std::collections::VecDeque;

/// Users kept per core; beyond, the first of the line is forgotten. Some 200 bytes each.
const USERS_MAX: usize = 65_536;
/// Of these, looked at in one round.
const USERS_PER_ROUND: usize = 1_024;

/// See the module.
#[derive(Default)]
pub(crate) struct Rested {
    /// `None`: the user came back, and is in the line still.
    rates: AHashMap<UserId, Option<UserRates>>,
    /// The same users, in the order in which they are looked at.
    line: VecDeque<UserId>,
}

impl Rested {
    /// Keeps what a user has spent who leaves, if anything.
    pub(crate) fn keep(&mut self, user: UserId, rates: UserRates, now_ms: u64) {
        if rates.is_full(now_ms) {
            return;
        }
        if let Some(known) = self.rates.get_mut(&user) {
            *known = Some(rates);
            return;
        }
        if self.line.len() >= USERS_MAX
            && let Some(first) = self.line.pop_front()
        {
            self.rates.remove(&first);
        }
        self.line.push_back(user.clone());
        self.rates.insert(user, Some(rates));
    }

    /// Gives back what a user has spent who comes again.
    pub(crate) fn take(&mut self, user: &UserId) -> Option<UserRates> {
        self.rates.get_mut(user).and_then(Option::take)
    }

    /// Forgets those who came back or of whom nothing is spent any more; bounded work.
    pub(crate) fn forget(&mut self, now_ms: u64) {
        for _ in 0..self.line.len().min(USERS_PER_ROUND) {
            let Some(user) = self.line.pop_front() else {
                return;
            };
            match self.rates.get(&user) {
                Some(Some(rates)) if !rates.is_full(now_ms) => self.line.push_back(user),
                _ => drop(self.rates.remove(&user)),
            }
        }
    }

    /// Users in the line.
    pub(crate) fn len(&self) -> usize {
        self.line.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hawser_protocol::server::Settings;

    /// A user lacks three seconds' worth at time 0.
    const SETTINGS: Settings = Settings {
        heartbeat_ms: 30_000,
        window_frames: 1,
        window_bytes: 1,
        sends_per_second: 1,
        sends_burst: 4,
        bytes_per_second: 1_000,
    };

    fn user(n: usize) -> UserId {
        UserId::new(&format!("user{n}")).expect("an id")
    }

    #[test]
    fn f24_what_is_spent_is_kept_until_it_is_full_again() {
        let mut rested = Rested::default();
        let spent = UserRates::unknown(&SETTINGS, 0);
        rested.keep(user(1), spent, 0);
        rested.forget(2_999);
        assert_eq!(rested.take(&user(1)), Some(spent));
        assert_eq!(rested.take(&user(1)), None, "it is here");
        for _ in 0..9 {
            rested.keep(user(1), spent, 1_000);
            assert_eq!(rested.take(&user(1)), Some(spent));
        }
        rested.keep(user(1), spent, 1_000);
        assert_eq!(rested.len(), 1, "once in the line, however often it comes");
        rested.forget(3_000);
        assert_eq!((rested.len(), rested.rates.len()), (0, 0));
        rested.keep(user(2), UserRates::default(), 0);
        assert_eq!(rested.len(), 0, "nothing is spent");
    }

    #[test]
    fn who_is_kept_is_bounded() {
        let mut rested = Rested::default();
        let spent = UserRates::unknown(&SETTINGS, 0);
        for n in 0..USERS_MAX + 10 {
            rested.keep(user(n), spent, 0);
        }
        assert_eq!((rested.len(), rested.rates.len()), (USERS_MAX, USERS_MAX));
        assert_eq!(rested.take(&user(9)), None);
        assert_eq!(rested.take(&user(10)), Some(spent));
    }
}
