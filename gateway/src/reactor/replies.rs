//! Frames of the edge's own: replies, pongs, and what is counted of refusals.

use super::delivery::lines_of;
use super::turn::Reactor;
use crate::counters::Counter;
use crate::session::connection::{Connection, Device, Role};
use crate::session::write;
use aws_lc_rs::rand;
use bytes::Bytes;
use hawser_protocol::codes::{CloseCode, ErrorCode};
use hawser_protocol::frame::ServerFrame;
use hawser_protocol::pb;
use hawser_protocol::resume::{ResumeToken, record_checksum};

/// A Pong carries a fresher resume token at most so often, milliseconds.
const TOKEN_EVERY_MS: u64 = 300_000;

impl Reactor {
    /// Sends one frame.
    pub(super) fn reply(&mut self, connection: &mut Connection, frame: &ServerFrame) {
        let open = connection.is_open();
        let Role::Session(device) = &connection.role else {
            return;
        };
        if !open {
            return;
        }
        let out = connection.output.plain(&mut self.pool);
        let from = out.len();
        write::frame(device.encoding, frame, &mut self.scratch.frame, out);
        self.compress(connection, from);
        self.counters.inc(Counter::FramesOut);
        self.touch(connection);
    }

    pub(super) fn pong(&mut self, connection: &mut Connection, client_time_ms: u64) {
        let now = self.now();
        let Role::Session(device) = &mut connection.role else {
            return;
        };
        let position = device.session.position();
        let lag = if device.session.lagging() {
            let user = device.user.as_str();
            let lines = lines_of(&self.partitions, device.partition, user);
            self.replay.lag(device.partition, lines, position)
        } else {
            0
        };
        let due = device.token_at_ms == 0 || now.ms >= device.token_at_ms + TOKEN_EVERY_MS;
        let resume_token = if due && !device.session.syncing() {
            self.resume_token(device, position)
        } else {
            Bytes::new()
        };
        let pong = pb::Pong {
            client_time_ms,
            server_time_ms: now.wall_ms,
            lag,
            resume_token,
            ingest_lag_ms: self.node.lag.age_ms(now.wall_ms),
        };
        self.reply(connection, &ServerFrame::Pong(pong));
    }

    /// A token for resuming at `offset`; empty when no random bytes can be had.
    pub(super) fn resume_token(&mut self, device: &mut Device, offset: u64) -> Bytes {
        let now = self.now();
        let mut nonce = [0; 12];
        if rand::fill(&mut nonce).is_err() {
            return Bytes::new();
        }
        let last = offset.checked_sub(1);
        let record = last.and_then(|last| self.replay.record(device.partition, last));
        device.token_at_ms = now.ms;
        let token = ResumeToken {
            user: device.user.clone(),
            device: device.device.clone(),
            generation: self.shape.generation,
            partition: device.partition,
            offset,
            checksum: record.map_or(0, |value| record_checksum(value)),
            expires_ms: now.wall_ms + self.node.config.session.resume_ms,
        };
        self.resume_key.seal(&token, nonce)
    }

    /// Counts what a client was refused for.
    pub(super) fn count_error(&self, code: u32) {
        let code = u16::try_from(code).ok().and_then(ErrorCode::from_number);
        match code {
            Some(ErrorCode::RateLimited | ErrorCode::TooManyInFlight) => {
                self.counters.inc(Counter::RateLimited);
            }
            Some(_) => self.counters.inc(Counter::FrameErrors),
            None => {}
        }
    }

    /// Counts why a session was closed.
    pub(super) fn count_close(&self, code: u16) {
        let counter = match CloseCode::from_number(code) {
            Some(CloseCode::TokenExpired) => Counter::TokenExpiries,
            Some(CloseCode::Revoked) => Counter::Revocations,
            Some(CloseCode::IdleTimeout) => Counter::IdleTimeouts,
            Some(CloseCode::SlowReader) => Counter::SlowReaders,
            Some(CloseCode::Displaced) => Counter::SessionsDisplaced,
            Some(CloseCode::ProtocolError | CloseCode::FrameTooLarge | CloseCode::AckAhead) => {
                Counter::ProtocolCloses
            }
            Some(CloseCode::Moved) => Counter::Relocated,
            _ => return,
        };
        self.counters.inc(counter);
    }
}
