//! Whether an arriving client goes on where it was: decided from memory, or after one or two looks
//! into the log by the control thread.

use super::turn::Reactor;
use crate::accept::slots::Turn;
use crate::control::ToControl;
use crate::counters::Counter;
use crate::node::memory::Pressure;
use crate::session::connection::{Connection, Held, Pending, Resuming, Role, Stage, Waiting};
use hawser_engines::log::{ReadError, Record};
use hawser_protocol::codes::CloseCode;
use hawser_protocol::pb;
use hawser_protocol::resume::record_checksum;
use hawser_protocol::server::Start;
use hawser_protocol::server::resume::{self, LogState, NotRecovered};

/// For the log to answer, milliseconds.
pub(super) const ANSWER_MS: u64 = 10_000;
/// One record is enough to know that a place exists.
const LOOK_BYTES: usize = 1;

impl Reactor {
    /// Decides where an arriving session begins, now or after asking the log.
    pub(super) fn resume(&mut self, connection: &mut Connection, hello: pb::Hello, held: Held) {
        let wall_ms = self.node.clock.wall_ms();
        let Role::Session(device) = &mut connection.role else {
            return;
        };
        if hello.resume_token.is_empty() {
            return self.fresh(connection, &hello, held);
        }
        let Ok(token) = self.resume_key.open(&hello.resume_token) else {
            self.counters.inc(Counter::ResumeTokenBad);
            return self.fresh(connection, &hello, held);
        };
        let (generation, partition) = (self.shape.generation, device.partition);
        let (user, of) = (&device.user, &device.device);
        let places = self.shape.places(user.as_str());
        let claim = resume::claim(&hello, &token, user, of, places, wall_ms);
        let claim = match claim {
            Ok(claim) => claim,
            Err(NotRecovered::Foreign) => {
                self.counters.inc(Counter::ResumeTokenBad);
                return self.fresh(connection, &hello, held);
            }
            Err(_) => {
                self.counters.inc(Counter::NotRecovered);
                return self.fresh(connection, &hello, held);
            }
        };
        let (low, high) = self.replay.span(partition).unwrap_or((0, 0));
        let check_at = claim.check.map(|(at, _)| at);
        let found = check_at.and_then(|at| self.replay.record(partition, at));
        let checksum = found.map(|value| record_checksum(value));
        let from_known = (low..=high).contains(&claim.from);
        let check_known = check_at.is_none() || checksum.is_some();
        if from_known && check_known {
            let log = LogState {
                generation,
                partition,
                low,
                high,
            };
            let decided = resume::decide(&claim, &log, checksum);
            return self.decided(connection, &hello, decided, held);
        }
        connection.stage = Stage::Resuming;
        let deadline_ms = self.node.clock.now_ms() + ANSWER_MS;
        device.pending = Some(Box::new(Pending::Log(Resuming {
            hello,
            claim,
            checksum,
            from_known,
            held,
        })));
        self.arm(connection, deadline_ms);
        self.look(connection);
    }

    /// Asks the log for the next thing that is not known.
    fn look(&mut self, connection: &mut Connection) {
        let id = connection.id;
        let Some(device) = connection.device() else {
            return;
        };
        let Some(Pending::Log(resuming)) = device.pending.as_deref() else {
            return;
        };
        let from = match resuming.claim.check {
            Some((at, _)) if resuming.checksum.is_none() => at,
            _ => resuming.claim.from.saturating_sub(1),
        };
        let asked = ToControl::ReadLog {
            core: self.index,
            session: id,
            generation: self.shape.generation,
            partition: device.partition,
            from,
            max: 1,
            bytes: LOOK_BYTES,
        };
        if !self.node.to_control(asked) {
            self.counters.inc(Counter::ControlShed);
            let retry_ms = self.node.come_again_ms();
            self.overloaded(connection, "the log cannot be asked now", retry_ms);
        }
    }

    /// The log has answered.
    pub(super) fn looked(
        &mut self,
        connection: &mut Connection,
        from: u64,
        result: Result<Vec<Record>, ReadError>,
    ) {
        let Some(device) = connection.device() else {
            return;
        };
        let Some(Pending::Log(resuming)) = device.pending.as_deref_mut() else {
            return;
        };
        let claim = resuming.claim;
        let asked_check = claim.check.is_some() && resuming.checksum.is_none();
        let verdict = match result {
            Ok(records) => {
                let first = records.first().filter(|record| record.offset == from);
                if asked_check {
                    // A place without a record (a gap of a real log) vouches for nothing.
                    resuming.checksum = Some(first.map_or(0, |r| record_checksum(&r.value)));
                }
                if claim.from == 0 || claim.from == from + 1 && first.is_some() {
                    resuming.from_known = true;
                }
                match (resuming.from_known, asked_check, records.is_empty()) {
                    (true, _, _) => Some(Ok(())),
                    (false, true, _) => None,
                    (false, false, false) => Some(Ok(())),
                    (false, false, true) => Some(Err(NotRecovered::Ahead)),
                }
            }
            Err(ReadError::OutOfRange { low, high, .. }) => {
                if claim.from < low {
                    Some(Err(NotRecovered::Below))
                } else if claim.from > high || from >= high && asked_check {
                    Some(Err(NotRecovered::Ahead))
                } else {
                    // What was looked at is below retention; what is missed is not.
                    Some(Ok(()))
                }
            }
            Err(ReadError::Corrupt { .. }) => Some(Err(NotRecovered::Checksum)),
            Err(ReadError::Unavailable { .. }) => {
                let code = CloseCode::Unavailable;
                return self.close(connection, code.number(), "the log cannot be read now");
            }
        };
        let Some(verdict) = verdict else {
            return self.look(connection);
        };
        let checksum = resuming.checksum;
        let mismatch = matches!(
            (claim.check, checksum),
            (Some((_, wanted)), Some(found)) if wanted != found
        );
        let decided = match verdict {
            Ok(()) if mismatch => Err(NotRecovered::Checksum),
            Ok(()) => Ok(claim.from),
            Err(reason) => Err(reason),
        };
        let Some(Pending::Log(Resuming { hello, held, .. })) = device.pending.take().map(|p| *p)
        else {
            return;
        };
        self.decided(connection, &hello, decided, held);
    }

    fn decided(
        &mut self,
        connection: &mut Connection,
        hello: &pb::Hello,
        decided: Result<u64, NotRecovered>,
        held: Held,
    ) {
        match decided {
            Ok(from) => {
                self.counters.inc(Counter::Resumed);
                self.welcome(connection, hello.heartbeat_ms, Start::Resumed(from), held);
            }
            Err(_) => {
                self.counters.inc(Counter::NotRecovered);
                self.fresh(connection, hello, held);
            }
        }
    }

    /// A session without a past begins at the head. Its client will read history, so it is paced, unless it wants none.
    fn fresh(&mut self, connection: &mut Connection, hello: &pb::Hello, held: Held) {
        let heartbeat_ms = hello.heartbeat_ms;
        if self.node.pressure() > Pressure::None {
            self.counters.inc(Counter::RefusedMemory);
            let retry_ms = self.node.come_again_ms();
            return self.overloaded(connection, "memory is short", retry_ms);
        }
        if hello.live_only {
            let start = Start::Live(self.head_of(connection));
            return self.welcome(connection, heartbeat_ms, start, held);
        }
        let Role::Session(device) = &mut connection.role else {
            return;
        };
        let client = self.client_hash.hash_one((&device.user, &device.device));
        let now_ms = self.node.clock.now_ms();
        match self.promises.ask(&self.node.fresh, client, now_ms) {
            Turn::Now => {
                let start = Start::Head(self.head_of(connection));
                self.welcome(connection, heartbeat_ms, start, held);
            }
            Turn::At(at_ms) => {
                self.counters.inc(Counter::FreshHeld);
                self.waiting += 1;
                device.pending = Some(Box::new(Pending::Turn(Waiting {
                    at_ms,
                    heartbeat_ms,
                    held,
                })));
                connection.stage = Stage::Waiting;
                self.arm(connection, at_ms);
            }
            Turn::Later(retry_ms) => {
                self.counters.inc(Counter::FreshLater);
                let text = "too many sessions begin now";
                self.overloaded(connection, text, retry_ms);
            }
        }
    }

    /// A session that waits for its turn is looked at.
    pub(super) fn turn_comes(&mut self, connection: &mut Connection) {
        let Role::Session(device) = &mut connection.role else {
            return;
        };
        let Some(Pending::Turn(Waiting { at_ms, .. })) = device.pending.as_deref() else {
            return;
        };
        let at_ms = *at_ms;
        if self.node.clock.now_ms() < at_ms {
            return self.arm(connection, at_ms);
        }
        let Some(Pending::Turn(waiting)) = device.pending.take().map(|pending| *pending) else {
            return;
        };
        self.waiting -= 1;
        let start = Start::Head(self.head_of(connection));
        self.welcome(connection, waiting.heartbeat_ms, start, waiting.held);
    }

    fn head_of(&self, connection: &Connection) -> u64 {
        match &connection.role {
            Role::Session(device) => self.head(device.partition),
            Role::Echo { .. } => 0,
        }
    }
}
