//! Sockets of the session rings: receiving while there is room, one send at a time, closing in order.

use super::guard::guarded;
use super::turn::Reactor;
use crate::counters::Counter;
use crate::session::SessionId;
use crate::session::connection::{Begun, Connection, Role, Stage};
use crate::session::output::Went;
use hawser_protocol::server::{Action, UserRates};
use hawser_ring::{Event, Key, Piece, RecvBuf, RecvOutcome, SendOutcome};
use hawser_wire::record::Layer;

/// While so many bytes wait to go out, nothing more is received: a client that asks and does not
/// read stops itself.
const WAITING_BYTES_MAX: usize = 128 << 10;
/// How long a peer may take to answer our close, milliseconds.
const CLOSE_MS: u64 = 2_000;

/// What became of bytes that were to be posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Posted {
    /// They are in the ring.
    Yes,
    /// They are sealed, and go the other way.
    Sealed,
    /// They are as they were.
    No,
}

impl Reactor {
    /// One completion.
    pub(super) fn ring_event(&mut self, ring: usize, event: Event) {
        let id = |key: Key| SessionId {
            ring: u16::try_from(ring).unwrap_or(u16::MAX),
            key,
        };
        match event {
            Event::Readable { key, .. } => self.with(id(key), |reactor, connection| {
                connection.unread = true;
                reactor.receive(connection);
            }),
            Event::Received { key, outcome } => self.with(id(key), |reactor, connection| {
                connection.receiving = false;
                reactor.received(connection, outcome);
            }),
            Event::Writable { key, .. } => self.with(id(key), |reactor, connection| {
                connection.output.writable();
                reactor.touch(connection);
            }),
            Event::Sent {
                key,
                buf,
                from,
                outcome,
            } => self.sent(id(key), buf, from, outcome),
            Event::ShutDown { .. } | Event::Gone { .. } | Event::Woken => {}
        }
    }

    /// Does one step for one connection: a panic in it ends that connection alone.
    pub(super) fn with(&mut self, id: SessionId, step: impl FnOnce(&mut Self, &mut Connection)) {
        let Some(mut connection) = self.take(id) else {
            return;
        };
        if guarded(|| step(self, &mut connection)).is_err() {
            self.counters.inc(Counter::Panics);
            self.drop_socket(&mut connection);
        }
        self.settle(connection);
    }

    /// Asks for what waits in the socket, if this is the time for it.
    pub(super) fn receive(&mut self, connection: &mut Connection) {
        let full = connection.output.waiting() > WAITING_BYTES_MAX && connection.is_open();
        let held = matches!(connection.stage, Stage::Resuming | Stage::Waiting);
        if connection.receiving || !connection.unread || full || held {
            return;
        }
        if connection.paused_until_ms > self.node.clock.now_ms() {
            return;
        }
        let id = connection.id;
        let ring = &mut self.rings[usize::from(id.ring)].ring;
        if ring.recv(id.key).is_ok() {
            connection.unread = false;
            connection.receiving = true;
        }
    }

    fn received(&mut self, connection: &mut Connection, outcome: RecvOutcome) {
        match outcome {
            RecvOutcome::Data { data, more } => {
                connection.unread |= more;
                self.counters.add(Counter::BytesIn, data.len() as u64);
                self.data(connection, data);
                self.receive(connection);
            }
            RecvOutcome::WouldBlock => self.receive(connection),
            RecvOutcome::NoBuffers => {
                // They come back within this turn.
                connection.unread = true;
                self.receive(connection);
            }
            RecvOutcome::End => {
                if connection.is_open() && connection.layer.is_tls() {
                    self.counters.inc(Counter::TlsTruncated);
                }
                self.ended_by_peer(connection);
            }
            RecvOutcome::Failed(_) => self.drop_socket(connection),
        }
    }

    fn data(&mut self, connection: &mut Connection, mut data: RecvBuf) {
        if !connection.is_open() {
            return;
        }
        self.pace(connection, data.len());
        if connection.layer.is_tls() {
            self.open(connection, &data);
        } else {
            self.messages(connection, &mut data);
        }
    }

    /// Bytes of the peer's: beyond its rate nothing more is received for a while.
    pub(super) fn pace(&mut self, connection: &mut Connection, bytes: usize) {
        let pause_ms = self.heard(connection, bytes);
        if pause_ms > 0 {
            connection.paused_until_ms = self.node.clock.now_ms() + u64::from(pause_ms);
            let at = connection.paused_until_ms;
            self.arm(connection, at);
        }
    }

    /// Opens ciphertext and reads the messages in it.
    pub(super) fn open(&mut self, connection: &mut Connection, bytes: &[u8]) {
        let mut cipher = std::mem::take(&mut self.scratch.cipher);
        let mut plain = std::mem::take(&mut self.scratch.plain);
        cipher.clear();
        plain.clear();
        if let Some(begun) = connection.incoming.take() {
            cipher.extend_from_slice(&begun.0);
        }
        cipher.extend_from_slice(bytes);
        let mut answer = Vec::new();
        let opened = connection.layer.open(&mut cipher, &mut plain, &mut answer);
        connection.output.put_sealed(&answer, &mut self.pool);
        if connection.output.tail() > 0 {
            self.touch(connection);
        }
        self.messages(connection, &mut plain);
        match opened {
            Ok(opened) => {
                if !cipher.is_empty() && connection.is_open() {
                    connection.incoming = Some(Box::new(Begun(cipher.clone())));
                }
                if opened.closed {
                    self.ended_by_peer(connection);
                }
            }
            Err(_) => {
                self.counters.inc(Counter::TlsRecordErrors);
                self.begin_closing(connection);
            }
        }
        self.scratch.cipher = cipher;
        self.scratch.plain = plain;
    }

    /// The peer sends no more: what is in the output may still reach it.
    fn ended_by_peer(&mut self, connection: &mut Connection) {
        connection.peer_ended = true;
        let shut = matches!(connection.stage, Stage::Closing { shut: true, .. });
        if shut || connection.output.waiting() == 0 {
            self.drop_socket(connection);
        } else {
            self.begin_closing(connection);
        }
    }

    /// Nothing more is said to the peer but what is in the output already.
    pub(super) fn begin_closing(&mut self, connection: &mut Connection) {
        if matches!(connection.stage, Stage::Closing { .. }) {
            return;
        }
        let deadline_ms = self.node.clock.now_ms() + CLOSE_MS;
        connection.stage = Stage::Closing {
            deadline_ms,
            shut: false,
        };
        connection.incoming = None;
        self.departed(connection);
        self.arm(connection, deadline_ms);
        self.touch(connection);
        // What still comes must be read, or our last word is overtaken by a reset.
        self.receive(connection);
    }

    fn sent(&mut self, id: SessionId, buffer: Vec<u8>, from: usize, outcome: SendOutcome) {
        let Some(mut connection) = self.take(id) else {
            self.pool.give(buffer);
            return;
        };
        // What was posted has been counted.
        if let SendOutcome::Sent(bytes) = outcome
            && connection.output.in_flight()
        {
            self.counters.add(Counter::BytesOut, bytes as u64);
        }
        let now_ms = self.node.clock.now_ms();
        let output = &mut connection.output;
        match output.sent(buffer, from, outcome, now_ms, &mut self.pool) {
            Went::All => self.went(&mut connection),
            Went::Full => {
                let polled = self.rings[usize::from(id.ring)].ring.poll_writable(id.key);
                if polled.is_err() {
                    self.drop_socket(&mut connection);
                }
                let slow_ms = self.node.config.session.slow_reader_ms;
                let since = connection.output.full_since_ms().unwrap_or(now_ms);
                self.arm(&mut connection, since + slow_ms);
            }
            Went::Broken => self.drop_socket(&mut connection),
        }
        self.settle(connection);
    }

    /// Sends what waits, for every connection that has something.
    pub(super) fn flush(&mut self) {
        let dirty = std::mem::take(&mut self.dirty);
        for id in &dirty {
            let Some(mut connection) = self.take(*id) else {
                continue;
            };
            connection.dirty = false;
            self.send(&mut connection);
            self.settle(connection);
        }
        // The memory is used again; whatever became dirty meanwhile comes with the next turn.
        let mut dirty = dirty;
        dirty.clear();
        dirty.append(&mut self.dirty);
        self.dirty = dirty;
    }

    /// Bytes have gone out, so that others may follow.
    fn went(&mut self, connection: &mut Connection) {
        if connection.output.waiting() > 0 || !connection.is_open() {
            self.touch(connection);
        }
        self.receive(connection);
        self.queue_if_behind(connection);
    }

    fn send(&mut self, connection: &mut Connection) {
        let id = connection.id;
        let ring = &self.rings[usize::from(id.ring)].ring;
        if !connection.output.in_flight() && !ring.may_send(id.key) {
            // Something of it was posted in this turn, or has come back: that goes first. One that is closed is dropped.
            if ring.is_live(id.key) {
                self.touch(connection);
            }
            return;
        }
        if let Some(bytes) = connection.output.postable() {
            let mut sealed = std::mem::take(&mut self.scratch.sealed);
            let posted = self.post(id, &mut connection.layer, bytes, &mut sealed, None);
            if posted != Posted::No {
                connection.output.posted(&mut self.pool);
            }
            if posted == Posted::Sealed {
                connection.output.put_sealed(&sealed, &mut self.pool);
            }
            self.scratch.sealed = sealed;
            if posted == Posted::Yes {
                return self.went(connection);
            }
        }
        let next = connection
            .output
            .next(&mut connection.layer, &mut self.pool);
        match next {
            Ok(Some((buffer, from))) => {
                self.counters.inc(Counter::SocketSends);
                let ring = &mut self.rings[usize::from(id.ring)].ring;
                if let Err((buffer, _)) = ring.send(id.key, buffer, from) {
                    self.pool.give(buffer);
                    self.drop_socket(connection);
                }
            }
            Ok(None) => self.shut_if_done(connection),
            Err(_) => self.drop_socket(connection),
        }
    }

    /// Seals bytes and posts them with the next submit. `piece`: the bytes themselves, where they are in the ring
    /// already and need no seal.
    pub(super) fn post(
        &mut self,
        id: SessionId,
        layer: &mut Layer,
        bytes: &[u8],
        sealed: &mut Vec<u8>,
        piece: Option<&mut Option<Piece>>,
    ) -> Posted {
        let ring = &mut self.rings[usize::from(id.ring)].ring;
        let whole = match layer.is_tls() {
            true => {
                sealed.clear();
                if layer.seal(bytes, sealed).is_err() {
                    return Posted::No;
                }
                &sealed[..]
            }
            false => bytes,
        };
        let left = match layer.is_tls() {
            true => Posted::Sealed,
            false => Posted::No,
        };
        let mut fresh = None;
        let piece = piece.filter(|_| !layer.is_tls()).unwrap_or(&mut fresh);
        // Once more where the ring was full, or has forgotten the piece.
        for _ in 0..2 {
            let Some(it) = piece.or_else(|| ring.put(whole)) else {
                return left;
            };
            *piece = Some(it);
            match ring.post(id.key, it) {
                Ok(()) => {
                    self.counters.inc(Counter::SocketSends);
                    self.counters.add(Counter::BytesOut, whole.len() as u64);
                    return Posted::Yes;
                }
                Err(_) => {
                    *piece = None;
                    if ring.submit().is_err() {
                        return left;
                    }
                }
            }
        }
        left
    }

    /// While closing: once everything has gone out, our direction ends.
    fn shut_if_done(&mut self, connection: &mut Connection) {
        let Stage::Closing { deadline_ms, shut } = connection.stage else {
            return;
        };
        if shut || connection.output.waiting() > 0 {
            return;
        }
        let mut last = Vec::new();
        connection.layer.close_notify(&mut last);
        connection.output.put_sealed(&last, &mut self.pool);
        if connection.output.tail() > 0 {
            self.send(connection);
            return;
        }
        connection.stage = Stage::Closing {
            deadline_ms,
            shut: true,
        };
        let id = connection.id;
        let ring = &mut self.rings[usize::from(id.ring)].ring;
        if connection.peer_ended || ring.shutdown_write(id.key).is_err() {
            self.drop_socket(connection);
        }
    }

    /// Ends the connection at once.
    pub(super) fn drop_socket(&mut self, connection: &mut Connection) {
        let id = connection.id;
        // Closed already where it is stale.
        let _ = self.rings[usize::from(id.ring)].ring.close(id.key);
        self.departed(connection);
    }

    /// Puts a connection that was in hand into its place, unless it was closed.
    fn settle(&mut self, mut connection: Box<Connection>) {
        let id = connection.id;
        if self.rings[usize::from(id.ring)].ring.is_live(id.key) {
            self.put(connection);
            return;
        }
        self.departed(&mut connection);
        if let Some((handle, _)) = connection.timer.take() {
            self.timers.cancel(handle);
        }
        self.sessions -= 1;
        self.counters.inc(Counter::SessionsClosed);
    }

    /// Bytes of the peer's. Returns for how long nothing more should be received, milliseconds.
    fn heard(&mut self, connection: &mut Connection, bytes: usize) -> u32 {
        let now = self.now();
        match &mut connection.role {
            Role::Session(device) => {
                let mut gone = UserRates::default();
                let rates = self.users.rates(device.place, &device.user);
                let rates = rates.unwrap_or(&mut gone);
                device.session.heard(&self.settings, rates, bytes, now)
            }
            Role::Echo { heard_ms } => {
                *heard_ms = now.ms;
                0
            }
        }
    }

    /// Looks at a connection again at this time, or before.
    pub(super) fn arm(&mut self, connection: &mut Connection, at_ms: u64) {
        if let Some((handle, set_ms)) = connection.timer {
            if set_ms <= at_ms {
                return;
            }
            self.timers.cancel(handle);
        }
        let handle = self.timers.insert(at_ms, connection.id);
        connection.timer = Some((handle, at_ms));
    }

    /// Takes the scratch list of actions, empty; give it back by [`Reactor::perform`].
    pub(super) fn actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.scratch.actions)
    }
}
