//! Which delivery partitions this core reads: those that the node owns or is about to, and those that have sessions here.
//!
//! A session whose partition is not read yet waits until it is open and its recent records are here. Opening and closing
//! block, so the control thread does both. A node that is alone opens all at its start.

use super::resuming::ANSWER_MS;
use super::turn::Reactor;
use crate::control::ToControl;
use crate::counters::{Counter, Gauge};
use crate::deliver::partition::Opened;
use crate::reactor::core::CoreError;
use crate::session::SessionId;
use crate::session::connection::{Connection, Held, Pending, Stage};
use hawser_engines::log::ReadError;
use hawser_protocol::pb;

/// Recent records that do not come are waited for so long: the end of a log may hold none.
const WARM_MS: u64 = 2_000;
/// Pause before a partition that could not be opened is tried again.
const AGAIN_MS: u64 = 500;
/// An answer that has not come by then is lost.
const OPENING_MS: u64 = 10_000;
/// A partition that nobody needs stays open for so many leases: who left may come back.
const LINGER_LEASES: u64 = 3;

/// A partition of this core, in a cluster.
#[derive(Default)]
pub(super) struct Reading {
    state: State,
    /// The node is to be ready for it.
    held: bool,
    /// It was said that this core is.
    said_ready: bool,
    /// Sessions of its users.
    sessions: usize,
    /// Those that wait until it is read.
    waiting: Vec<SessionId>,
    /// Since when nobody needs it.
    idle_since_ms: Option<u64>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Closed,
    /// Asked for, until then.
    Opening(u64),
    /// Failed; asked for again then.
    Again(u64),
    /// It reads its recent past, until then.
    Warming(u64),
    Open,
}

impl Reading {
    /// One more session of its users.
    pub(super) fn count_in(&mut self) {
        self.sessions += 1;
    }

    /// A session goes on once it is read.
    pub(super) fn wait(&mut self, session: SessionId) {
        self.waiting.push(session);
    }

    pub(super) fn said_ready(&self) -> bool {
        self.said_ready
    }

    fn is_needed(&self) -> bool {
        self.held || self.sessions > 0
    }
}

impl Reactor {
    /// Opens what a node that is alone reads: all. Blocks on the log.
    pub(super) fn open_all(&mut self) -> Result<(), CoreError> {
        if self.node.owners.in_cluster() {
            return Ok(());
        }
        let core = u32::try_from(self.index).unwrap_or(u32::MAX);
        let ids: Vec<u32> = self.shards().partitions_of(core).collect();
        for id in ids {
            let generation = self.shape.generation;
            let mut opened = Opened::open(&*self.node.log, id, generation, &self.waker)?;
            // Nobody is let in before all is.
            opened.partition.warm = true;
            self.adopt_partition(opened);
        }
        Ok(())
    }

    fn adopt_partition(&mut self, opened: Opened) {
        let Opened { partition, cursors } = opened;
        self.replay.open(partition.id, partition.first);
        self.cursors.open(partition.id, self.node.clock.now_ms());
        self.cursors.load(partition.id, cursors);
        self.cold += usize::from(!partition.warm);
        self.partitions.push(partition);
    }

    /// A session arrives: it begins now, or when its partition is read.
    pub(super) fn await_partition(
        &mut self,
        connection: &mut Connection,
        hello: pb::Hello,
        held: Held,
    ) {
        let id = connection.id;
        let Some(device) = connection.device() else {
            return;
        };
        if !self.node.owners.in_cluster() {
            return self.resume(connection, hello, held);
        }
        let partition = device.partition;
        let reading = self.readings.entry(partition).or_default();
        reading.count_in();
        if reading.state == State::Open {
            return self.resume(connection, hello, held);
        }
        reading.waiting.push(id);
        device.pending = Some(Box::new(Pending::Partition(hello, held)));
        connection.stage = Stage::Resuming;
        let now_ms = self.node.clock.now_ms();
        self.arm(connection, now_ms + ANSWER_MS);
        self.look_at(partition, now_ms);
    }

    /// A session of a partition has left.
    pub(super) fn leave_partition(&mut self, partition: u32) {
        if let Some(reading) = self.readings.get_mut(&partition) {
            reading.sessions = reading.sessions.saturating_sub(1);
        }
    }

    /// Who owns what has changed: what this node holds is read.
    pub(super) fn hold_what_is_ours(&mut self) {
        let core = u32::try_from(self.index).unwrap_or(u32::MAX);
        let map = self.node.owners.map();
        let now_ms = self.node.clock.now_ms();
        let held = |partition: u32| map.held.get(partition as usize).copied() == Some(true);
        let ours: Vec<u32> = self.shards().partitions_of(core).collect();
        for partition in ours {
            let held = held(partition);
            if held || self.readings.contains_key(&partition) {
                self.readings.entry(partition).or_default().held = held;
                self.look_at(partition, now_ms);
            }
        }
    }

    /// What is due by time.
    pub(super) fn look_at_readings(&mut self, now_ms: u64) {
        let all: Vec<u32> = self.readings.keys().copied().collect();
        for partition in all {
            self.look_at(partition, now_ms);
        }
    }

    /// Sessions of partitions that are another node's, and those that wait for theirs to be read.
    pub(super) fn gauge_readings(&self) {
        self.counters.set(Gauge::Guests, self.guests());
        let waiting = self.readings.values().map(|r| r.waiting.len()).sum();
        self.counters.set(Gauge::WaitingForPartition, waiting);
    }

    /// Sessions of partitions that are another node's.
    pub(super) fn guests(&self) -> usize {
        let owners = &self.node.owners;
        let elsewhere = |partition: u32| owners.elsewhere(partition).is_some();
        let guests = self.readings.iter().filter(|(p, _)| elsewhere(**p));
        guests.map(|(_, reading)| reading.sessions).sum()
    }

    fn look_at(&mut self, partition: u32, now_ms: u64) {
        let linger_ms = self.node.config.cluster.as_ref();
        let linger_ms = linger_ms.map_or(0, |c| c.lease_ms) * LINGER_LEASES;
        let Some(reading) = self.readings.get_mut(&partition) else {
            return;
        };
        let needed = reading.is_needed();
        match reading.state {
            State::Closed if !needed => {
                self.readings.remove(&partition);
            }
            State::Closed => self.ask_to_open(partition, now_ms),
            State::Again(at_ms) | State::Opening(at_ms) if now_ms >= at_ms => {
                reading.state = State::Closed;
                self.look_at(partition, now_ms);
            }
            State::Again(_) | State::Opening(_) | State::Warming(_) => {}
            State::Open if needed => reading.idle_since_ms = None,
            State::Open => {
                let since_ms = *reading.idle_since_ms.get_or_insert(now_ms);
                if now_ms >= since_ms + linger_ms {
                    self.close_partition(partition);
                }
            }
        }
    }

    fn ask_to_open(&mut self, partition: u32, now_ms: u64) {
        let asked = self.node.to_control(ToControl::OpenPartition {
            core: self.index,
            partition,
            generation: self.shape.generation,
            waker: self.waker.clone(),
        });
        let state = match asked {
            true => State::Opening(now_ms + OPENING_MS),
            false => {
                self.counters.inc(Counter::ControlShed);
                State::Again(now_ms + AGAIN_MS)
            }
        };
        if let Some(reading) = self.readings.get_mut(&partition) {
            reading.state = state;
        }
    }

    /// The control thread has opened a partition, or could not.
    pub(super) fn opened(
        &mut self,
        generation: u16,
        id: u32,
        result: Result<Box<Opened>, ReadError>,
    ) {
        if generation != self.shape.generation {
            // It was asked for before `delivery` grew, when another was called so.
            return;
        }
        let now_ms = self.node.clock.now_ms();
        let reading = self.readings.get_mut(&id);
        let reading = reading.filter(|reading| matches!(reading.state, State::Opening(_)));
        let (Some(reading), result) = (reading, result) else {
            // It came too late, and is open or not needed.
            return;
        };
        match result {
            Ok(opened) => {
                reading.state = State::Warming(now_ms + WARM_MS);
                self.adopt_partition(*opened);
                self.look_for_warm(now_ms);
            }
            Err(error) => {
                reading.state = State::Again(now_ms + AGAIN_MS);
                self.counters.inc(Counter::ReadErrors);
                tracing::warn!(%error, partition = id, "a delivery partition cannot be opened");
            }
        }
    }

    /// Begins the sessions of partitions whose recent records are here.
    pub(super) fn look_for_warm(&mut self, now_ms: u64) {
        if self.cold == 0 {
            return;
        }
        let core = u32::try_from(self.index).unwrap_or(u32::MAX);
        let shards = self.shards();
        for at in 0..self.partitions.len() {
            let partition = &self.partitions[at];
            let (id, warm_to) = (partition.id, partition.warm_to);
            let late = self.readings.get(&id).is_none_or(
                |reading| matches!(reading.state, State::Warming(until_ms) if now_ms >= until_ms),
            );
            if partition.warm || (self.head(id) < warm_to && !late) {
                continue;
            }
            self.partitions[at].warm = true;
            self.cold -= 1;
            let Some(reading) = self.readings.get_mut(&id) else {
                continue;
            };
            reading.state = State::Open;
            let waiting = std::mem::take(&mut reading.waiting);
            // Of a partition that is read for strays alone, other cores say it.
            reading.said_ready = shards.reads(core, id);
            if reading.said_ready {
                self.node.owners.set_ready(id, true);
            }
            for session in waiting {
                self.with(session, |reactor, connection| reactor.go_on(connection));
            }
        }
    }

    /// The partition of a session is read now.
    fn go_on(&mut self, connection: &mut Connection) {
        if connection.is_open() {
            // It was live, and has read another partition before (`growing`).
            return self.queue_if_behind(connection);
        }
        // One that is closing has left what it waited for.
        if connection.stage != Stage::Resuming {
            return;
        }
        let Some(device) = connection.device() else {
            return;
        };
        if let Some(Pending::Partition(hello, held)) = device.pending.take().map(|p| *p) {
            self.resume(connection, hello, held);
        }
    }

    fn close_partition(&mut self, id: u32) {
        let Some(at) = self.partitions.iter().position(|p| p.id == id) else {
            return;
        };
        let mut due = Vec::new();
        self.cursors.close(id, &mut |d| due.push(d));
        for due in due {
            self.write_cursors(due);
        }
        self.replay.forget(id);
        let partition = self.partitions.swap_remove(at);
        let reading = self.readings.remove(&id);
        if reading.is_some_and(|reading| reading.said_ready) {
            self.node.owners.set_ready(id, false);
        }
        // Where there is no room for it, it is closed here and now.
        self.node
            .to_control(ToControl::ClosePartition(Box::new(partition)));
    }
}
