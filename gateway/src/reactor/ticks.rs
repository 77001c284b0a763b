//! Time: deadlines of connections, and what a core does now and then.

use super::appends::Purpose;
use super::arrivals::ECHO_IDLE_MS;
use super::turn::Reactor;
use crate::counters::{Counter, Gauge};
use crate::deliver::cursors::Due;
use crate::session::connection::{Connection, Role, Stage};
use bytes::Bytes;
use hawser_engines::log::{Produce, Topic};
use hawser_protocol::codes::CloseCode;
use hawser_protocol::record::{CursorRecord, DeviceCursor};

/// Receipts wait so long for others of their chat: unnoticed by people, one append for a burst.
const RECEIPTS_MS: u64 = 200;
/// Receipts of one flush.
const RECEIPTS_PER_FLUSH: usize = 2_048;
/// The table is walked for its gauges at most so often.
const GAUGE_MS: u64 = 1_000;
/// Places of the table of connections that one tick looks at for that: some hundred microseconds.
const PLACES_PER_TICK: usize = 16_384;

/// How far a walk over the connections is, and what it has found.
#[derive(Debug, Default)]
pub(super) struct Walk {
    ring: usize,
    at: usize,
    lagging: usize,
    tails: usize,
    bytes: usize,
}

impl Walk {
    fn look(&mut self, connection: &mut Connection) {
        let tail = connection.output.tail();
        self.tails += usize::from(tail > 0);
        self.bytes += tail;
        let device = connection.device();
        self.lagging += usize::from(device.is_some_and(|d| d.session.lagging()));
    }
}
/// After the last of their slots, sessions that were told to come again have so long.
pub(super) const MOVED_LATE_MS: u64 = 10_000;
/// Time for the last closes to go out.
pub(super) const STOP_MS: u64 = 300;

impl Reactor {
    /// Looks at connections whose time has come. Returns whether there are more.
    pub(super) fn deadlines(&mut self, max: usize) -> bool {
        let now_ms = self.node.clock.now_ms();
        let mut due = Vec::new();
        let more = self.timers.advance(now_ms, max, |id| due.push(id));
        for id in due {
            self.with(id, |reactor, connection| {
                connection.timer = None;
                reactor.timeout(connection);
            });
        }
        more
    }

    fn timeout(&mut self, connection: &mut Connection) {
        let now = self.now();
        if let Stage::Closing { deadline_ms, .. } = connection.stage {
            if now.ms >= deadline_ms {
                self.drop_socket(connection);
            } else {
                self.arm(connection, deadline_ms);
            }
            return;
        }
        if connection.stage == Stage::Resuming {
            let code = CloseCode::Unavailable;
            return self.close(connection, code.number(), "the log does not answer");
        }
        if connection.stage == Stage::Waiting {
            return self.turn_comes(connection);
        }
        let slow_ms = self.node.config.session.slow_reader_ms;
        let slow_at = connection.output.full_since_ms().map(|at| at + slow_ms);
        if slow_at.is_some_and(|at| now.ms >= at) {
            self.counters.inc(Counter::SlowReaders);
            // Its socket takes nothing, so there is no way to tell it why.
            return self.drop_socket(connection);
        }
        self.receive(connection);
        let next_ms = match &mut connection.role {
            Role::Echo { heard_ms } if now.ms >= *heard_ms + ECHO_IDLE_MS => {
                let code = CloseCode::IdleTimeout;
                return self.close(connection, code.number(), code.name());
            }
            Role::Echo { heard_ms } => *heard_ms + ECHO_IDLE_MS,
            Role::Session(device) => {
                let mut actions = std::mem::take(&mut self.scratch.actions);
                device.session.timeout(now, &mut actions);
                let next_ms = device.session.next_timeout(now);
                self.perform(connection, actions);
                next_ms
            }
        };
        if !connection.is_open() {
            return;
        }
        let paused = Some(connection.paused_until_ms).filter(|at| *at > now.ms);
        let next_ms = slow_at.into_iter().chain(paused).fold(next_ms, u64::min);
        self.arm(connection, next_ms);
        self.queue_if_behind(connection);
    }

    /// What is due now and then, whatever happens.
    pub(super) fn tick(&mut self) {
        let now_ms = self.node.clock.now_ms();
        if self
            .stop_at_ms
            .is_some_and(|at| now_ms >= at || self.sessions == 0)
        {
            self.stopped = true;
        }
        if self.receipts.full() {
            self.flush_receipts();
        }
        if now_ms < self.tick_at_ms {
            return;
        }
        self.tick_at_ms = now_ms + RECEIPTS_MS;
        self.follow_growth();
        self.flush_records(false);
        self.tell_all(now_ms);
        if self.last_call_at_ms.is_some_and(|at| now_ms >= at) {
            self.last_call();
        }
        if self.strays_at_ms.is_some_and(|at| now_ms >= at) {
            self.close_strays();
        }
        if self.drain_at_ms.is_some_and(|at| now_ms >= at) {
            for session in self.all_sessions() {
                self.with(session, |reactor, connection| {
                    let code = CloseCode::Moved;
                    reactor.close(connection, code.number(), "the node drains");
                });
            }
        }
        self.look_at_readings(now_ms);
        self.retry_bodies();
        self.promises.forget(now_ms);
        self.users.forget_rested(now_ms);
        self.gauge();
        if now_ms >= self.gauge_at_ms {
            self.gauge_at_ms = now_ms + GAUGE_MS;
            self.gauge_readings();
            self.tell_of_guests(now_ms);
            self.walk.get_or_insert_default();
        }
        self.gauge_tails();
    }

    /// Receipts, and the cursors that are due (or all that changed).
    pub(super) fn flush_records(&mut self, all: bool) {
        self.flush_receipts();
        let now_ms = self.node.clock.now_ms();
        let mut due = Vec::new();
        self.cursors.due(now_ms, all, &mut |d| due.push(d));
        for due in due {
            self.write_cursors(due);
        }
    }

    fn flush_receipts(&mut self) {
        for _ in 0..RECEIPTS_PER_FLUSH {
            let Some(record) = self.receipts.pop() else {
                return;
            };
            let produce = self.source(&record);
            let purpose = Purpose::Receipt(Box::new(record));
            match self.appends.produce(produce, purpose) {
                Ok(()) => self.counters.inc(Counter::ReceiptsDelivered),
                Err((_, purpose)) => {
                    self.counters.inc(Counter::ReceiptsShed);
                    if let Purpose::Receipt(record) = purpose {
                        self.receipts.put_back(&record);
                    }
                    return;
                }
            }
        }
    }

    pub(super) fn write_cursors(&mut self, due: Due) {
        let cursors = due.devices.into_iter();
        let record = CursorRecord {
            snapshot: due.snapshot,
            generation: self.shape.generation,
            cursors: cursors
                .map(|(user, device, offset)| DeviceCursor {
                    user,
                    device,
                    offset,
                })
                .collect(),
        };
        let produce = Produce {
            topic: Topic::Cursors,
            partition: due.partition,
            key: Bytes::copy_from_slice(&due.partition.to_le_bytes()),
            value: record.encode(),
            timestamp_ms: self.node.clock.wall_ms(),
        };
        match self.appends.produce(produce, Purpose::Cursors) {
            Ok(()) => self.counters.inc(Counter::CursorRecords),
            Err(_) => self.counters.inc(Counter::CursorErrors),
        }
    }

    /// Who lags and what waits: a walk over the table, a piece of it per tick.
    fn gauge_tails(&mut self) {
        let Some(mut walk) = self.walk.take() else {
            return;
        };
        let mut left = PLACES_PER_TICK;
        while let Some(ring) = self.rings.get_mut(walk.ring) {
            let rest = ring.connections.get_mut(walk.at..).unwrap_or_default();
            let piece = rest.len().min(left);
            for connection in rest[..piece].iter_mut().flatten() {
                walk.look(connection);
            }
            left -= piece;
            walk.at += piece;
            if left == 0 {
                self.walk = Some(walk);
                return;
            }
            (walk.ring, walk.at) = (walk.ring + 1, 0);
        }
        self.counters.set(Gauge::Lagging, walk.lagging);
        self.counters.set(Gauge::Tails, walk.tails);
        self.counters.set(Gauge::TailBytes, walk.bytes);
    }
}
