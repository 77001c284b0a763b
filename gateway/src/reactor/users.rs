//! Who is here: the sessions of each user of this core, and who watches whom.

use crate::session::SessionId;
use ahash::AHashMap;
use hawser_protocol::ids::{DeviceId, UserId};

/// One session of a user.
#[derive(Debug, Clone)]
pub(crate) struct Present {
    pub(crate) device: DeviceId,
    pub(crate) session: SessionId,
}

/// Users with sessions, and watchers of presence.
#[derive(Default)]
pub(crate) struct Users {
    here: AHashMap<UserId, Vec<Present>>,
    watchers: AHashMap<UserId, Vec<SessionId>>,
}

/// What an arrival changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// The user had no session here.
    pub(crate) first: bool,
    /// The older session of the same device, now forgotten.
    pub(crate) displaced: Option<SessionId>,
}

impl Users {
    /// A device's new session; an older one of the same device gives way.
    pub(crate) fn arrive(
        &mut self,
        user: &UserId,
        device: &DeviceId,
        session: SessionId,
    ) -> Arrival {
        let sessions = match self.here.get_mut(user) {
            Some(sessions) => sessions,
            None => self
                .here
                .entry(user.clone())
                .or_insert(Vec::with_capacity(1)),
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
        Arrival { first, displaced }
    }

    /// A session ended. Returns whether it was the user's last; one that was displaced changes nothing.
    pub(crate) fn depart(&mut self, user: &str, session: SessionId) -> bool {
        let Some(sessions) = self.here.get_mut(user) else {
            return false;
        };
        let before = sessions.len();
        sessions.retain(|p| p.session != session);
        if before > 0 && sessions.is_empty() {
            self.here.remove(user);
            return true;
        }
        false
    }

    /// Sessions of a user; empty when none is here.
    pub(crate) fn sessions(&self, user: &str) -> &[Present] {
        self.here.get(user).map_or(&[], Vec::as_slice)
    }

    /// Users with at least one session.
    pub(crate) fn len(&self) -> usize {
        self.here.len()
    }

    /// Every user with a session, and the sessions.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&UserId, &[Present])> {
        self.here.iter().map(|(user, list)| (user, list.as_slice()))
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
