//! What an operator asks of a core through the admin listener: bounded work each, answered within the turn.

use super::delivery::lines_of;
use super::inbox::Encoding;
use super::turn::Reactor;
use crate::owners::Peer;
use crate::session::SessionId;
use crate::session::connection::{Connection, Role, Stage};
use ahash::AHashMap;
use hawser_protocol::codes::{CloseCode, ErrorCode};
use hawser_protocol::ids::{DeviceId, UserId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::sync::oneshot::Sender;

/// Sessions of a user that one question is about; of more it is said how many there are.
pub(crate) const SESSIONS_MAX: usize = 1_000;
/// Places of the tables that one question about a partition looks at: a few milliseconds.
const PLACES_MAX: usize = 8_192;
/// Slots of one user's sessions are spread over so long, milliseconds.
const USER_SLOTS_MS: u64 = 1_000;

/// A question, and where the answer goes. One whose asker has given up by the time is passed over.
pub(crate) enum Question {
    /// A user's sessions.
    Sessions {
        user: UserId,
        answer: Sender<Bounded<SessionView>>,
    },
    /// Close a user's sessions: all, or one device's.
    Kick {
        user: UserId,
        device: Option<DeviceId>,
        /// The client is not to come back by itself.
        stay_out: bool,
        reason: String,
        answer: Sender<Bounded<String>>,
    },
    /// Tell a user's sessions to go to a node, or to the owner.
    RelocateUser {
        user: UserId,
        to: Option<Arc<Peer>>,
        answer: Sender<Told>,
    },
    /// The same for a partition's sessions, from a place on.
    RelocatePartition {
        partition: u32,
        to: Option<Arc<Peer>>,
        from: Place,
        answer: Sender<(Told, Option<Place>)>,
    },
    /// How many sessions there are of each partition, from a place on.
    Count {
        from: Place,
        answer: Sender<(AHashMap<u32, Count>, Option<Place>)>,
    },
    /// How far each partition is read: the next offset.
    Positions { answer: Sender<Vec<(u32, u64)>> },
}

/// At most [`SESSIONS_MAX`] of something.
#[derive(Debug, Default)]
pub(crate) struct Bounded<T> {
    pub(crate) items: Vec<T>,
    /// How many more there are.
    pub(crate) more: usize,
}

/// Where a walk over a core's tables goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Place {
    ring: usize,
    index: usize,
}

/// Sessions of a partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) sessions: usize,
    /// Of those, whose clients cannot go elsewhere.
    pub(crate) stay: usize,
}

/// What became of sessions that were to go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    /// Told where to go.
    pub(crate) told: usize,
    /// Cannot go elsewhere (`redirect_never`).
    pub(crate) stay: usize,
    /// The node has no address for their kind of connection.
    pub(crate) no_address: usize,
    /// Are where they belong, as far as this node knows.
    pub(crate) here: usize,
    /// Beyond what one question is about: ask again.
    pub(crate) more: usize,
}

impl Told {
    /// Adds another core's.
    pub(crate) fn add(&mut self, other: Self) {
        self.told += other.told;
        self.stay += other.stay;
        self.no_address += other.no_address;
        self.here += other.here;
        self.more += other.more;
    }
}

/// A session, as its core's table has it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct SessionView {
    /// As in Welcome.
    pub(crate) session: String,
    pub(crate) device: String,
    pub(crate) core: usize,
    /// As far as it is kept: an IPv6 address's /64; not that of this machine, nor where `admission.per_address` is 0.
    pub(crate) address: Option<String>,
    /// `wss` or `ws`.
    pub(crate) transport: String,
    /// `binary` or `json`.
    pub(crate) encoding: String,
    /// `resuming`, `syncing`, `behind`, `live` or `closing`.
    pub(crate) state: String,
    /// The partition is another node's.
    pub(crate) guest: bool,
    /// It cannot go elsewhere.
    pub(crate) stays: bool,
    /// Next offset to be sent.
    pub(crate) position: u64,
    /// Next offset of the partition, as far as this node has read it.
    pub(crate) head: u64,
    /// Records for the user at or after the position that are in memory.
    pub(crate) lag: u64,
    pub(crate) unacked_frames: usize,
    pub(crate) unacked_bytes: usize,
    /// Bytes that the socket has not taken.
    pub(crate) unsent_bytes: usize,
    /// Sends without a result.
    pub(crate) sends_in_flight: usize,
    /// Since the client last sent a byte, milliseconds.
    pub(crate) quiet_ms: u64,
    /// Ping interval agreed on, milliseconds.
    pub(crate) heartbeat_ms: u32,
    /// Since 1970, milliseconds.
    pub(crate) token_expires_at_ms: u64,
}

impl Reactor {
    /// Answers a question.
    pub(super) fn question(&mut self, question: Question) {
        // An answer that nobody waits for any more is nobody's loss.
        match question {
            Question::Sessions { user, answer } if !answer.is_closed() => {
                let _ = answer.send(self.sessions_of(&user));
            }
            Question::Kick {
                user,
                device,
                stay_out,
                reason,
                answer,
            } if !answer.is_closed() => {
                let _ = answer.send(self.kick(&user, device.as_ref(), stay_out, &reason));
            }
            Question::RelocateUser { user, to, answer } if !answer.is_closed() => {
                let _ = answer.send(self.relocate_user(&user, to.as_ref()));
            }
            Question::RelocatePartition {
                partition,
                to,
                from,
                answer,
            } if !answer.is_closed() => {
                let _ = answer.send(self.relocate_partition(partition, to.as_ref(), from));
            }
            Question::Count { from, answer } if !answer.is_closed() => {
                let _ = answer.send(self.count(from));
            }
            Question::Positions { answer } if !answer.is_closed() => {
                let partitions = self.partitions.iter().map(|partition| partition.id);
                let _ = answer.send(partitions.map(|id| (id, self.head(id))).collect());
            }
            _ => {}
        }
    }

    fn sessions_of(&mut self, user: &UserId) -> Bounded<SessionView> {
        let (sessions, more) = self.some_of(user, None);
        let views = sessions.into_iter().filter_map(|id| self.view(id));
        Bounded {
            items: views.collect(),
            more,
        }
    }

    fn view(&mut self, id: SessionId) -> Option<SessionView> {
        let connection = self.take(id)?;
        let view = self.view_of(&connection);
        self.put(connection);
        view
    }

    fn view_of(&self, connection: &Connection) -> Option<SessionView> {
        let Role::Session(device) = &connection.role else {
            return None;
        };
        let session = &device.session;
        let position = session.position();
        let (unacked_frames, unacked_bytes) = session.unacknowledged();
        let state = match connection.stage {
            Stage::Resuming => "resuming",
            Stage::Waiting => "waiting",
            Stage::Closing { .. } => "closing",
            Stage::Open if session.syncing() => "syncing",
            Stage::Open if session.lagging() => "behind",
            Stage::Open => "live",
        };
        let encoding = match device.encoding {
            Encoding::Binary => "binary",
            Encoding::Json => "json",
        };
        let user = device.user.as_str();
        Some(SessionView {
            session: self.name_of(connection.id),
            device: device.device.as_str().to_owned(),
            core: self.index,
            address: connection.address.address(),
            transport: if connection.layer.is_tls() {
                "wss"
            } else {
                "ws"
            }
            .to_owned(),
            encoding: encoding.to_owned(),
            state: state.to_owned(),
            guest: self.node.owners.elsewhere(device.partition).is_some(),
            stays: device.stays,
            position,
            head: self.head(device.partition),
            lag: self.replay.lag(
                device.partition,
                lines_of(&self.partitions, device.partition, user),
                position,
            ),
            unacked_frames,
            unacked_bytes,
            unsent_bytes: connection.output.waiting(),
            sends_in_flight: session.sends_in_flight(),
            quiet_ms: self.node.clock.now_ms().saturating_sub(session.heard_ms()),
            heartbeat_ms: session.heartbeat_ms(),
            token_expires_at_ms: session.token_expires_ms(),
        })
    }

    /// Sessions of a user, or of one device, and how many more there are.
    fn some_of(&self, user: &UserId, device: Option<&DeviceId>) -> (Vec<SessionId>, usize) {
        let all = self.users.sessions(user.as_str()).iter();
        let all = all.filter(|present| device.is_none_or(|device| present.device == *device));
        let mut sessions: Vec<SessionId> = all.map(|present| present.session).collect();
        let more = sessions.len().saturating_sub(SESSIONS_MAX);
        sessions.truncate(SESSIONS_MAX);
        (sessions, more)
    }

    fn kick(
        &mut self,
        user: &UserId,
        device: Option<&DeviceId>,
        stay_out: bool,
        reason: &str,
    ) -> Bounded<String> {
        let (sessions, more) = self.some_of(user, device);
        let mut items = Vec::with_capacity(sessions.len());
        for id in sessions {
            let name = self.find(id).and_then(Connection::device);
            items.extend(name.map(|device| device.device.as_str().to_owned()));
            match stay_out {
                true => self.close_with(id, ErrorCode::Revoked, CloseCode::Revoked, reason),
                false => self.with(id, |reactor, connection| {
                    reactor.close(connection, CloseCode::Moved.number(), reason);
                }),
            }
        }
        Bounded { items, more }
    }

    fn relocate_user(&mut self, user: &UserId, to: Option<&Arc<Peer>>) -> Told {
        let (sessions, more) = self.some_of(user, None);
        let mut told = Told {
            more,
            ..Told::default()
        };
        for id in sessions {
            self.with(id, |reactor, connection| {
                reactor.send_to(connection, to, Some(USER_SLOTS_MS), &mut told);
            });
        }
        told
    }

    fn relocate_partition(
        &mut self,
        partition: u32,
        to: Option<&Arc<Peer>>,
        from: Place,
    ) -> (Told, Option<Place>) {
        let mut concerned = Vec::new();
        let next = self.walk(from, PLACES_MAX, |connection| {
            let Role::Session(device) = &connection.role else {
                return;
            };
            if device.partition == partition {
                concerned.push(connection.id);
            }
        });
        let mut told = Told::default();
        for id in concerned {
            self.with(id, |reactor, connection| {
                reactor.send_to(connection, to, None, &mut told);
            });
        }
        (told, next)
    }

    fn count(&self, from: Place) -> (AHashMap<u32, Count>, Option<Place>) {
        let mut counts: AHashMap<u32, Count> = AHashMap::new();
        let next = self.walk(from, PLACES_MAX, |connection| {
            let Role::Session(device) = &connection.role else {
                return;
            };
            if !device.departed {
                let count = counts.entry(device.partition).or_default();
                count.sessions += 1;
                count.stay += usize::from(device.stays);
            }
        });
        (counts, next)
    }

    /// Looks at so many places; returns where to go on, if there are more.
    pub(super) fn walk(
        &self,
        from: Place,
        places_max: usize,
        mut each: impl FnMut(&Connection),
    ) -> Option<Place> {
        let mut left = places_max;
        for (ring, table) in self.rings.iter().enumerate().skip(from.ring) {
            let first = if ring == from.ring { from.index } else { 0 };
            let rest = table.connections.get(first..).unwrap_or_default();
            for connection in rest.iter().take(left).flatten() {
                each(connection);
            }
            if rest.len() > left {
                let index = first + left;
                return Some(Place { ring, index });
            }
            left -= rest.len();
        }
        None
    }
}
