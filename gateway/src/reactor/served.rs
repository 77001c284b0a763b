//! A device has one session, over all nodes too. A node that serves a guest says so on `chat-presence`, which every node reads;
//! who has a session of that device that began later answers, and whose began earlier closes it. What is lost is said again.

use super::appends::Purpose;
use super::turn::Reactor;
use crate::counters::Counter;
use crate::session::connection::{Connection, Device, Role};
use hawser_engines::log::Topic;
use hawser_fanout::signals;
use hawser_protocol::codes::CloseCode;
use hawser_protocol::ownership::NodeName;
use hawser_protocol::record::Served;

/// A guest that does not go elsewhere is told of so often, milliseconds.
const STAYS_MS: u64 = 5_000;
/// A guest that was told to move, and has not; most have moved by then.
const MOVES_MS: u64 = 30_000;
/// One session is not told of sooner than this again, whoever asks.
const AGAIN_MS: u64 = 500;
/// Guests told of in one look, a second apart; the others are told of in the next.
const TOLD_PER_LOOK: usize = 256;

impl Reactor {
    /// A session began; where it is a guest that stays, others hear of it at once.
    pub(super) fn tell_of_new(&mut self, connection: &mut Connection) {
        let now_ms = self.node.clock.now_ms();
        let Role::Session(device) = &mut connection.role else {
            return;
        };
        device.told_of_ms = now_ms;
        if !device.stays || self.node.owners.elsewhere(device.partition).is_none() {
            return;
        }
        if let Some(cluster) = &self.node.config.cluster {
            let served = served(device, &cluster.name);
            self.tell_served(&served);
        }
    }

    /// Tells again of guests that are still here; a walk over the table while there are any.
    pub(super) fn tell_of_guests(&mut self, now_ms: u64) {
        let node = self.node.clone();
        let Some(cluster) = &node.config.cluster else {
            return;
        };
        if self.guests() == 0 {
            return;
        }
        let mut due = Vec::new();
        let tables = self.rings.iter_mut().map(|ring| &mut ring.connections);
        for connection in tables.flat_map(|table| table.iter_mut().flatten()) {
            if due.len() == TOLD_PER_LOOK {
                break;
            }
            let open = connection.is_open();
            let Some(device) = connection.device().filter(|_| open) else {
                continue;
            };
            let every_ms = if device.stays { STAYS_MS } else { MOVES_MS };
            if now_ms < device.told_of_ms + every_ms {
                continue;
            }
            device.told_of_ms = now_ms;
            if node.owners.elsewhere(device.partition).is_some() {
                due.push(served(device, &cluster.name));
            }
        }
        for served in &due {
            self.tell_served(served);
        }
    }

    /// Another node serves a device that may have a session here: the one that began earlier gives way.
    pub(super) fn served_elsewhere(&mut self, theirs: &Served) {
        let node = self.node.clone();
        let cluster = node.config.cluster.as_ref();
        let Some(cluster) = cluster.filter(|cluster| cluster.name != theirs.node) else {
            return;
        };
        let mut sessions = self.users.sessions(theirs.user.as_str()).iter();
        let same = sessions.find(|present| present.device == theirs.device);
        let Some(session) = same.map(|present| present.session) else {
            return;
        };
        let now_ms = self.node.clock.now_ms();
        self.with(session, |reactor, connection| {
            let open = connection.is_open();
            let Some(device) = connection.device().filter(|_| open) else {
                return;
            };
            let ours = served(device, &cluster.name);
            if (ours.began_ms, ours.node.as_str()) < (theirs.began_ms, theirs.node.as_str()) {
                let code = CloseCode::Displaced;
                reactor.close(connection, code.number(), "the device connected elsewhere");
            } else if now_ms >= device.told_of_ms + AGAIN_MS {
                device.told_of_ms = now_ms;
                reactor.tell_served(&ours);
            }
        });
    }

    fn tell_served(&mut self, served: &Served) {
        let partitions = self.node.log.partitions(Topic::ChatPresence);
        let record = signals::served(served, partitions, self.node.clock.wall_ms());
        // A lost one is said again.
        match self.appends.produce(record, Purpose::Served) {
            Ok(()) => self.counters.inc(Counter::ServedTold),
            Err(_) => self.counters.inc(Counter::PresenceShed),
        }
    }
}

fn served(device: &Device, node: &NodeName) -> Served {
    Served {
        user: device.user.clone(),
        device: device.device.clone(),
        node: node.clone(),
        began_ms: device.began_ms,
    }
}
