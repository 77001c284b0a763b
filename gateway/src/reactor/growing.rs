//! `delivery` has grown: sessions go on under other partitions, at the offsets that they were at
//! (`docs/adr/0024-growing-delivery.md`).
//!
//! A session is a position in the log of its user's records, and a growth continues that log: what was in the user's
//! partition comes first in the one that it is in now. So a core closes what it reads, puts each of its sessions under its new
//! partition, as one that is behind at the place up to which the old one was read, and opens the new ones: what came
//! meanwhile, and what the old one still had, is read from there, in order. Nothing of it is seen by clients, unless the user's
//! core is another now: those sessions are strays, served here and told to come again, each at a slot of its own.

use super::inbox::ToCore;
use super::reading::Reading;
use super::ticks::MOVED_LATE_MS;
use super::turn::Reactor;
use crate::control::ToControl;
use crate::counters::Counter;
use crate::deliver::cursors::{DEVICES_PER_RECORD, DeviceCursor, Due};
use crate::node::shards::Shards;
use crate::session::SessionId;
use crate::session::connection::{Connection, Role, Stage};
use ahash::AHashMap;
use hawser_engines::log::{Shape, Topic};
use hawser_protocol::codes::CloseCode;
use hawser_protocol::ids::UserId;

/// How far each partition was read, by its number.
type Heads = AHashMap<u32, u64>;

impl Reactor {
    /// Which core has which user, as this core has gone over to it.
    pub(super) fn shards(&self) -> Shards {
        self.node.shards_of(self.shape.partitions)
    }

    /// Goes over to the generation of `delivery` that counts, if that is another than this core's.
    pub(super) fn follow_growth(&mut self) {
        let shape = self.node.log.shape(Topic::Delivery);
        if shape.generation == self.shape.generation {
            return;
        }
        let before = std::mem::replace(&mut self.shape, shape);
        let continues = continues(&before, &shape);
        tracing::info!(
            core = self.index,
            generation = shape.generation,
            partitions = shape.partitions,
            continues,
            "delivery has grown"
        );
        let heads = self.leave_partitions(continues);
        let connections = self.rings.iter().flat_map(|ring| &ring.connections);
        let sessions = connections.flatten().filter(|c| match &c.role {
            Role::Session(device) => !device.departed,
            Role::Echo { .. } => false,
        });
        let sessions: Vec<SessionId> = sessions.map(|connection| connection.id).collect();
        for session in sessions {
            self.with(session, |reactor, connection| {
                reactor.go_over(connection, &heads, continues);
            });
        }
        self.hold_what_is_ours();
        self.look_at_readings(self.node.clock.now_ms());
    }

    /// Reads nothing any more. What is known of cursors is written to where it belongs now.
    fn leave_partitions(&mut self, continues: bool) -> Heads {
        let mut heads = Heads::new();
        let mut cursors: AHashMap<u32, Vec<DeviceCursor>> = AHashMap::new();
        let shards = self.shards();
        for partition in std::mem::take(&mut self.partitions) {
            let id = partition.id;
            heads.insert(id, self.head(id));
            for cursor in self.cursors.take(id) {
                let at = shards.partition(cursor.0.as_str());
                cursors.entry(at).or_default().push(cursor);
            }
            self.replay.forget(id);
            if self.readings.get(&id).is_some_and(Reading::said_ready) {
                self.node.owners.set_ready(id, false);
            }
            self.node
                .to_control(ToControl::ClosePartition(Box::new(partition)));
        }
        self.readings.clear();
        self.cold = 0;
        if continues {
            for (partition, cursors) in cursors {
                for chunk in cursors.chunks(DEVICES_PER_RECORD) {
                    self.write_cursors(Due {
                        partition,
                        snapshot: false,
                        devices: chunk.to_vec(),
                    });
                }
            }
        }
        heads
    }

    /// One session goes over. One that has not begun comes again; so does every one where the log does not go on.
    fn go_over(&mut self, connection: &mut Connection, heads: &Heads, continues: bool) {
        let (id, stage, shards) = (connection.id, connection.stage, self.shards());
        let Role::Session(device) = &mut connection.role else {
            return;
        };
        let partition = shards.partition(device.user.as_str());
        let before = std::mem::replace(&mut device.partition, partition);
        self.readings.entry(partition).or_default().count_in();
        if matches!(stage, Stage::Closing { .. }) {
            return;
        }
        let head = heads.get(&before).copied();
        let Some(head) = head.filter(|_| continues && stage == Stage::Open) else {
            let code = CloseCode::Moved;
            return self.close(connection, code.number(), "the log has grown");
        };
        device.session.read_anew(head);
        // The next Pong has a resume token of the new generation; the one that the client has is good until then.
        device.token_at_ms = 0;
        self.counters.inc(Counter::GrownInPlace);
        self.cursors.open(partition, self.node.clock.now_ms());
        self.readings.entry(partition).or_default().wait(id);
        self.send_stray(connection);
    }

    /// Tells a session whose user's core is another to come again; until then it is served here.
    pub(super) fn send_stray(&mut self, connection: &mut Connection) {
        let Role::Session(device) = &connection.role else {
            return;
        };
        if self.home(&device.user).is_none() {
            return;
        }
        self.counters.inc(Counter::Strays);
        let now_ms = self.node.clock.now_ms();
        let late_ms = now_ms + self.moving_ms() + MOVED_LATE_MS;
        self.strays_at_ms = Some(self.strays_at_ms.unwrap_or(0).max(late_ms));
        if self.node.public_url(self.is_tls(connection)).is_empty() {
            let code = CloseCode::Moved;
            return self.close(connection, code.number(), "the log has grown");
        }
        self.relocate(connection);
    }

    /// Closes the strays that are left.
    pub(super) fn close_strays(&mut self) {
        self.strays_at_ms = None;
        for session in self.all_sessions() {
            self.with(session, |reactor, connection| {
                let device = connection.device();
                if device.is_some_and(|device| reactor.home(&device.user).is_some()) {
                    let code = CloseCode::Moved;
                    reactor.close(connection, code.number(), "the log has grown");
                }
            });
        }
    }

    /// The core of a user, if it is another.
    pub(super) fn home(&self, user: &UserId) -> Option<usize> {
        let core = self.shards().core(user.as_str()) as usize;
        (core != self.index).then_some(core)
    }

    /// A user's last session here has ended: the user has left, unless there are others where the user belongs.
    pub(super) fn left(&mut self, user: UserId) {
        if let Some(core) = self.home(&user) {
            let asked = ToCore::LeftElsewhere { user: user.clone() };
            if self.node.cores[core].try_send(asked).is_ok() {
                return;
            }
        }
        self.tell(user, false);
    }
}

/// Whether positions of one are positions of the other.
fn continues(before: &Shape, now: &Shape) -> bool {
    let of = (before.generation, before.partitions);
    now.past
        .is_some_and(|past| (past.generation, past.partitions) == of)
}
