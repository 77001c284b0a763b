//! Who is here: the sessions of each user of this core, what the user has spent of its rates, and who watches whom.

use super::rested::Rested;
use crate::rows::{Row, Rows};
use crate::session::SessionId;
use ahash::AHashMap;
use hawser_protocol::ids::{DeviceId, UserId};
use hawser_protocol::server::UserRates;

/// One session of a user.
#[derive(Debug, Clone)]
pub(crate) struct Present {
    pub(crate) device: DeviceId,
    pub(crate) session: SessionId,
}

/// A user with a session.
struct Here {
    user: UserId,
    sessions: Sessions,
    rates: UserRates,
}

const _: () = assert!(size_of::<Here>() <= 64);

impl Row for Here {
    type Key<'a> = &'a str;

    fn key(&self) -> &str {
        self.user.as_str()
    }

    fn is(&self, key: &&str) -> bool {
        self.user.as_str() == *key
    }
}

/// A user's sessions; most have one.
enum Sessions {
    One(Present),
    Several(Vec<Present>),
}

impl Sessions {
    fn all(&self) -> &[Present] {
        match self {
            Self::One(present) => std::slice::from_ref(present),
            Self::Several(all) => all,
        }
    }

    fn all_mut(&mut self) -> &mut [Present] {
        match self {
            Self::One(present) => std::slice::from_mut(present),
            Self::Several(all) => all,
        }
    }

    fn push(&mut self, present: Present) {
        match self {
            Self::One(first) => *self = Self::Several(vec![first.clone(), present]),
            Self::Several(all) => all.push(present),
        }
    }

    /// Without one of them; whether any is left.
    fn remove(&mut self, session: SessionId) -> bool {
        match self {
            Self::One(present) => present.session != session,
            Self::Several(all) => {
                all.retain(|present| present.session != session);
                !all.is_empty()
            }
        }
    }
}

/// Users with sessions, and watchers of presence.
#[derive(Default)]
pub(crate) struct Users {
    here: Rows<Here>,
    rested: Rested,
    watchers: AHashMap<UserId, Vec<SessionId>>,
}

/// What an arrival changed.
pub(crate) struct Arrival {
    /// The user had no session here.
    pub(crate) first: bool,
    /// The older session of the same device, now forgotten.
    pub(crate) displaced: Option<SessionId>,
    /// The user's place, for [`Users::rates`].
    pub(crate) place: u32,
}

impl Users {
    /// A device's new session; an older one of the same device gives way. `unknown` are the rates of a user of whom nothing
    /// is known.
    pub(crate) fn arrive(
        &mut self,
        user: &UserId,
        device: &DeviceId,
        session: SessionId,
        unknown: UserRates,
    ) -> Arrival {
        let present = Present {
            device: device.clone(),
            session,
        };
        let Some(place) = self.here.find(&user.as_str()) else {
            let place = self.here.insert(Here {
                user: user.clone(),
                sessions: Sessions::One(present),
                rates: self.rested.take(user).unwrap_or(unknown),
            });
            return Arrival {
                first: true,
                displaced: None,
                place,
            };
        };
        let mut displaced = None;
        if let Some(Here { sessions, .. }) = self.here.get_mut(place) {
            let mut all = sessions.all_mut().iter_mut();
            match all.find(|known| known.device == *device) {
                Some(known) => displaced = Some(std::mem::replace(&mut known.session, session)),
                None => sessions.push(present),
            }
        }
        Arrival {
            first: false,
            displaced,
            place,
        }
    }

    /// A session ended. Returns whether it was the user's last; one that was displaced changes nothing.
    pub(crate) fn depart(&mut self, user: &str, session: SessionId, now_ms: u64) -> bool {
        let Some(place) = self.here.find(&user) else {
            return false;
        };
        let Some(here) = self.here.get_mut(place) else {
            return false;
        };
        if here.sessions.remove(session) {
            return false;
        }
        if let Some(Here { user, rates, .. }) = self.here.remove(place) {
            self.rested.keep(user, rates, now_ms);
        }
        true
    }

    /// What a user has spent of its rates, over all its sessions. `place` is where the user was as the session arrived; of
    /// one that has ended it may be another's.
    pub(crate) fn rates(&mut self, place: u32, user: &UserId) -> Option<&mut UserRates> {
        let here = self.here.get_mut(place);
        let here = here.filter(|here| here.user == *user);
        here.map(|here| &mut here.rates)
    }

    /// Forgets those of whom nothing is spent any more; bounded work.
    pub(crate) fn forget_rested(&mut self, now_ms: u64) {
        self.rested.forget(now_ms);
    }

    /// Users without a session of whom it is known what they have spent.
    pub(crate) fn rested(&self) -> usize {
        self.rested.len()
    }

    /// Sessions of a user; empty when none is here.
    pub(crate) fn sessions(&self, user: &str) -> &[Present] {
        let here = self.here.find(&user).and_then(|place| self.here.get(place));
        here.map_or(&[], |here| here.sessions.all())
    }

    /// Users with at least one session.
    pub(crate) fn len(&self) -> usize {
        self.here.len()
    }

    /// Every user with a session, and the sessions.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&UserId, &[Present])> {
        let here = self.here.iter();
        here.map(|here| (&here.user, here.sessions.all()))
    }

    /// Adds a watcher of a user's presence.
    pub(crate) fn watch(&mut self, user: &UserId, session: SessionId) {
        let watchers = self.watchers.entry(user.clone()).or_default();
        if !watchers.contains(&session) {
            watchers.push(session);
        }
    }

    /// Removes a watcher.
    pub(crate) fn unwatch(&mut self, user: &str, session: SessionId) {
        if let Some(watchers) = self.watchers.get_mut(user) {
            watchers.retain(|s| *s != session);
            if watchers.is_empty() {
                self.watchers.remove(user);
            }
        }
    }

    /// Who watches a user.
    pub(crate) fn watchers(&self, user: &str) -> &[SessionId] {
        self.watchers.get(user).map_or(&[], Vec::as_slice)
    }
}
