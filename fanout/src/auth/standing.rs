//! Where revocations stand in this process: the list as far as it was read from the directory, and ahead of it what control
//! records in delivery partitions have told.
//!
//! Every entry has its place in the directory's list, and a control record names it. So a record that is read late, or once
//! more, says nothing new where the list was read up to its place: what was lifted since stays lifted, whenever the record
//! was written. No clock takes part.

use super::Claims;
use super::revocations::{Revocation, Revocations, RevocationsError};
use hawser_protocol::ids::UserId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Entries that records told ahead of the list; one more is not kept, and is in force once the list is read
/// (`engines.revocations_ms`). Some 200 bytes each.
pub const AHEAD_MAX: usize = 1_024;

/// What a control record told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learnt {
    /// Nothing: the list says it, or what took its place; or it was told before.
    Known,
    /// It is in force here from now on.
    New,
    /// It is news for which there is no room (`AHEAD_MAX`): in force once the list is read.
    NoRoom,
}

/// See the module. Pure.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    list: Arc<Revocations>,
    /// The list is whole up to this place.
    read_to: u64,
    /// By the record's user, in the order of their places: all above `read_to`.
    ahead: BTreeMap<UserId, Vec<(u64, Revocation)>>,
    /// Entries of `ahead`.
    count: usize,
}

impl Standing {
    /// Takes over an entry of the list.
    ///
    /// # Errors
    /// The list is full.
    pub fn read(&mut self, entry: &Revocation) -> Result<(), RevocationsError> {
        Arc::make_mut(&mut self.list).add(entry)
    }

    /// The list holds all entries up to a place: what records told of those is dropped. A place before the last one is of
    /// another list, after this one was lost: then all is.
    pub fn read_up_to(&mut self, place: u64) {
        if place < self.read_to {
            self.ahead.clear();
        }
        self.read_to = place;
        self.ahead.retain(|_, entries| {
            entries.retain(|(at, _)| *at > place);
            !entries.is_empty()
        });
        self.count = self.ahead.values().map(Vec::len).sum();
    }

    /// Takes what a control record of a user's partition tells.
    pub fn learn(&mut self, user: &UserId, place: u64, revocation: &Revocation) -> Learnt {
        if self.knows(user, place) {
            return Learnt::Known;
        }
        if self.count >= AHEAD_MAX {
            return Learnt::NoRoom;
        }
        let entries = self.ahead.entry(user.clone()).or_default();
        let at = entries.partition_point(|(at, _)| *at < place);
        entries.insert(at, (place, revocation.clone()));
        self.count += 1;
        Learnt::New
    }

    /// Whether a control record of this place says nothing new.
    #[must_use]
    pub fn knows(&self, user: &UserId, place: u64) -> bool {
        let told = |entries: &Vec<(u64, Revocation)>| entries.iter().any(|(at, _)| *at == place);
        place <= self.read_to || self.ahead.get(user).is_some_and(told)
    }

    /// Whether a token is void.
    #[must_use]
    pub fn revoked(&self, claims: &Claims) -> bool {
        let Some(ahead) = self.ahead.get(&claims.user) else {
            return self.list.concerns(claims);
        };
        // A pardon lifts what stands before it, be it told or of the list.
        let is_pardon = |entry: &(u64, Revocation)| matches!(entry.1, Revocation::Pardon { .. });
        let lifted = ahead.iter().rposition(is_pardon);
        let of_user = |entry: &Revocation| matches!(entry, Revocation::User { .. });
        let told = ahead.iter().enumerate().any(|(at, (_, entry))| {
            let stands = !of_user(entry) || lifted.is_none_or(|lifted| at > lifted);
            stands && voids(entry, claims)
        });
        told || self.list.concerns_one(claims)
            || lifted.is_none() && self.list.concerns_user(claims)
    }

    pub(super) fn list(&self) -> &Arc<Revocations> {
        &self.list
    }

    /// The same with another list.
    pub(super) fn with_list(&self, list: Arc<Revocations>) -> Self {
        Self {
            list,
            ..self.clone()
        }
    }
}

/// Whether a revocation alone makes a token void.
#[must_use]
pub fn voids(revocation: &Revocation, claims: &Claims) -> bool {
    let up_to = |until: &Option<u64>| until.is_none_or(|ms| claims.issued_at_ms <= ms);
    match revocation {
        Revocation::User { user, until_ms } => *user == claims.user && up_to(until_ms),
        Revocation::Device {
            user,
            device,
            until_ms,
        } => *user == claims.user && claims.device.as_ref() == Some(device) && up_to(until_ms),
        Revocation::Token { jti, .. } => claims.jti.as_ref() == Some(jti),
        Revocation::Pardon { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hawser_protocol::ids::DeviceId;

    fn alice() -> UserId {
        UserId::new("alice").unwrap()
    }

    fn claims(device: &str, issued_at_ms: u64) -> Claims {
        Claims {
            user: alice(),
            device: Some(DeviceId::new(device).unwrap()),
            expires_at_ms: u64::MAX,
            issued_at_ms,
            admin: false,
            jti: Some(format!("{device}-{issued_at_ms}")),
        }
    }

    fn ban() -> Revocation {
        Revocation::User {
            user: alice(),
            until_ms: None,
        }
    }

    fn pardon() -> Revocation {
        Revocation::Pardon { user: alice() }
    }

    #[test]
    fn a_record_is_in_force_before_the_list_and_one_of_before_the_list_says_nothing() {
        let mut standing = Standing::default();
        standing.read_up_to(6);
        assert_eq!(standing.learn(&alice(), 6, &ban()), Learnt::Known);
        assert!(!standing.revoked(&claims("phone", 5)));
        assert_eq!(standing.learn(&alice(), 7, &ban()), Learnt::New);
        assert_eq!(standing.learn(&alice(), 7, &ban()), Learnt::Known, "twice");
        assert!(standing.revoked(&claims("phone", 5)));
        standing.read(&ban()).unwrap();
        standing.read_up_to(7);
        assert!(standing.revoked(&claims("phone", 5)), "by the list");
    }

    #[test]
    fn g9_an_old_record_read_again_voids_nothing_of_a_user_who_was_pardoned_since() {
        // By the list.
        let mut standing = Standing::default();
        standing.read(&pardon()).unwrap();
        standing.read_up_to(9);
        assert_eq!(standing.learn(&alice(), 8, &ban()), Learnt::Known);
        assert!(!standing.revoked(&claims("phone", 5)));
        // By records alone, whatever came first; the list of before still has the ban.
        for order in [[8, 9], [9, 8]] {
            let mut standing = Standing::default();
            standing.read(&ban()).unwrap();
            for place in order {
                let what = if place == 8 { ban() } else { pardon() };
                standing.learn(&alice(), place, &what);
            }
            assert!(!standing.revoked(&claims("phone", 5)), "{order:?}");
            standing.learn(&alice(), 10, &ban());
            assert!(standing.revoked(&claims("phone", 5)), "banned again");
        }
    }

    #[test]
    fn a_device_and_a_token_are_judged_alone_and_by_when_they_were_issued() {
        let mut standing = Standing::default();
        let device = Revocation::Device {
            user: alice(),
            device: DeviceId::new("phone").unwrap(),
            until_ms: Some(5),
        };
        standing.learn(&alice(), 1, &device);
        standing.learn(&alice(), 2, &pardon());
        assert!(
            standing.revoked(&claims("phone", 5)),
            "a pardon is a user's"
        );
        assert!(!standing.revoked(&claims("phone", 6)), "issued later");
        assert!(!standing.revoked(&claims("web", 5)), "another device");
        let token = Revocation::Token {
            jti: "web-5".into(),
            expires_at_ms: 9,
        };
        standing.learn(&alice(), 3, &token);
        assert!(standing.revoked(&claims("web", 5)));
        assert!(!standing.revoked(&claims("web", 6)));
    }

    #[test]
    fn beyond_the_bound_nothing_is_kept_until_the_list_is_read_on_and_a_lost_list_drops_all() {
        let mut standing = Standing::default();
        let one = |n: u64| UserId::new(&format!("user{n}")).unwrap();
        let ban_of = |n| Revocation::User {
            user: one(n),
            until_ms: None,
        };
        let max = AHEAD_MAX as u64;
        for n in 1..=max {
            assert_eq!(standing.learn(&one(n), n, &ban_of(n)), Learnt::New);
        }
        assert_eq!(standing.learn(&alice(), max + 1, &ban()), Learnt::NoRoom);
        assert!(!standing.revoked(&claims("phone", 5)));
        standing.read_up_to(1);
        assert_eq!(standing.learn(&alice(), max + 1, &ban()), Learnt::New);
        assert!(standing.revoked(&claims("phone", 5)));
        standing.read_up_to(0);
        assert!(!standing.revoked(&claims("phone", 5)), "of another list");
        assert_eq!(standing.count, 0);
    }
}
