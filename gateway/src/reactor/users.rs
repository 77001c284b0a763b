//! Who is here: the sessions of each user of this core, what the user has spent of its rates, and who watches whom.

use super::rested::Rested;
use crate::session::SessionId;
use ahash::AHashMap;
use hawser_protocol::ids::{DeviceId, UserId};
use hawser_protocol::server::UserRates;
use std::cell::Cell;
use std::rc::Rc;

/// One session of a user.
#[derive(Debug, Clone)]
pub(crate) struct Present {
    pub(crate) device: DeviceId,
    pub(crate) session: SessionId,
}

/// A user with a session.
struct Here {
    sessions: Vec<Present>,
    rates: Rc<Cell<UserRates>>,
}

/// Users with sessions, and watchers of presence.
#[derive(Default)]
pub(crate) struct Users {
    here: AHashMap<UserId, Here>,
    rested: Rested,
    watchers: AHashMap<UserId, Vec<SessionId>>,
}

/// What an arrival changed.
pub(crate) struct Arrival {
    /// The user had no session here.
    pub(crate) first: bool,
    /// The older session of the same device, now forgotten.
    pub(crate) displaced: Option<SessionId>,
    /// The user's, shared by its sessions.
    pub(crate) rates: Rc<Cell<UserRates>>,
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
        let Here { sessions, rates } = match self.here.get_mut(user) {
            Some(here) => here,
            None => {
                let known = self.rested.take(user).unwrap_or(unknown);
                self.here.entry(user.clone()).or_insert(Here {
                    sessions: Vec::with_capacity(1),
                    rates: Rc::new(Cell::new(known)),
                })
            }
        };
        let first = sessions.is_empty();
        let displaced = match sessions.iter_mut().find(|p| p.device == *device) {
            Some(present) => Some(std::mem::replace(&mut present.session, session)),
            None => {
                let device = device.clone();
                sessions.push(Present { device, session });
                None
            }
        };
        let rates = rates.clone();
        Arrival {
            first,
            displaced,
            rates,
        }
    }

    /// A session ended. Returns whether it was the user's last; one that was displaced changes nothing.
    pub(crate) fn depart(&mut self, user: &str, session: SessionId, now_ms: u64) -> bool {
        let Some(Here { sessions, .. }) = self.here.get_mut(user) else {
            return false;
        };
        let before = sessions.len();
        sessions.retain(|p| p.session != session);
        if before == 0 || !sessions.is_empty() {
            return false;
        }
        if let Some((user, here)) = self.here.remove_entry(user) {
            self.rested.keep(user, here.rates.get(), now_ms);
        }
        true
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
        self.here.get(user).map_or(&[], |here| &here.sessions)
    }

    /// Users with at least one session.
    pub(crate) fn len(&self) -> usize {
        self.here.len()
    }

    /// Every user with a session, and the sessions.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&UserId, &[Present])> {
        let here = self.here.iter();
        here.map(|(user, here)| (user, here.sessions.as_slice()))
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
