//! Sessions that are better off on another node: told where, each at a slot of its own.

use super::questions::Told;
use super::turn::Reactor;
use crate::counters::Counter;
use crate::owners::Peer;
use crate::session::connection::{Connection, Role};
use hawser_protocol::partition::murmur2;
use std::sync::Arc;

/// Of the time for a drain, the clients' slots fill this share, in percent.
const SLOTS_PERCENT: u64 = 70;
/// A draining node waits for this share of the time to hear who takes its place, in percent.
const HEIRS_PERCENT: u64 = 25;
/// Slots of sessions that move without a drain are spread over at least so long, milliseconds, and at most so long.
const SLOTS_MS_MIN: u64 = 1_000;
const SLOTS_MS_MAX: u64 = 60_000;

impl Reactor {
    /// Tells every session whose partition is another node's to go there.
    pub(super) fn send_all_home(&mut self) {
        for session in self.all_sessions() {
            self.with(session, |reactor, connection| reactor.send_home(connection));
        }
    }

    /// The same for one session; those that stay are guests here.
    pub(super) fn send_home(&mut self, connection: &mut Connection) {
        if !connection.is_open() {
            // Told once it is welcomed.
            return;
        }
        let tls = self.is_tls(connection);
        let Role::Session(device) = &mut connection.role else {
            return;
        };
        let Some(owner) = self.node.owners.elsewhere(device.partition) else {
            device.told = 0;
            return;
        };
        let told = murmur2(owner.name.as_str().as_bytes()) | 1;
        let url = owner.url_for(tls);
        let Some(url) = url.filter(|_| !device.stays && device.told != told) else {
            return;
        };
        device.told = told;
        self.counters.inc(Counter::SentHome);
        self.tell_to_move(connection, url, None);
    }

    /// An operator sends a session to a node, or to the owner of its partition, at a slot within `slots_ms`; what became of
    /// it is counted. Told it is also who was told before.
    pub(super) fn send_to(
        &mut self,
        connection: &mut Connection,
        to: Option<&Arc<Peer>>,
        slots_ms: Option<u64>,
        out: &mut Told,
    ) {
        let (tls, open) = (self.is_tls(connection), connection.is_open());
        let Role::Session(device) = &mut connection.role else {
            return;
        };
        if !open {
            return;
        }
        let owner = || self.node.owners.elsewhere(device.partition);
        let node = to.cloned().or_else(owner);
        let me = self.node.name();
        let Some(node) = node.filter(|node| node.name.as_str() != me) else {
            out.here += 1;
            return;
        };
        if device.stays {
            out.stay += 1;
            return;
        }
        let Some(url) = node.url_for(tls) else {
            out.no_address += 1;
            return;
        };
        device.told = murmur2(node.name.as_str().as_bytes()) | 1;
        out.told += 1;
        self.counters.inc(Counter::SentHome);
        self.tell_to_move(connection, url, slots_ms);
    }

    /// Tells everybody to move, each at its slot; what is left at the deadline is closed.
    pub(super) fn drain(&mut self, deadline_ms: u64) {
        let now_ms = self.node.clock.now_ms();
        self.drain_at_ms = Some(now_ms + deadline_ms);
        if self.node.owners.in_cluster() {
            self.last_call_at_ms = Some(now_ms + deadline_ms * HEIRS_PERCENT / 100);
            return self.send_all_home();
        }
        self.last_call();
    }

    /// While draining: who was told of no other node goes wherever this node's own address leads by then.
    pub(super) fn last_call(&mut self) {
        self.last_call_at_ms = None;
        for session in self.all_sessions() {
            self.with(session, |reactor, connection| {
                if connection.device().is_some_and(|device| device.told == 0) {
                    reactor.relocate(connection);
                }
            });
        }
    }

    /// Tells one session to open its next at this node's own address.
    pub(super) fn relocate(&mut self, connection: &mut Connection) {
        let url = self.node.public_url(self.is_tls(connection)).to_owned();
        self.tell_to_move(connection, &url, None);
    }

    fn tell_to_move(&mut self, connection: &mut Connection, url: &str, slots_ms: Option<u64>) {
        let now_ms = self.node.clock.now_ms();
        let left_ms = self.drain_at_ms.map(|at| at.saturating_sub(now_ms));
        let range_ms = match left_ms {
            Some(left_ms) => left_ms * SLOTS_PERCENT / 100,
            None => slots_ms.unwrap_or_else(|| self.moving_ms()),
        };
        let Role::Session(device) = &mut connection.role else {
            return;
        };
        // Spread by user and device, so that it is the same when it is told twice.
        let of = murmur2(device.device.as_str().as_bytes());
        let spread = u64::from(of ^ murmur2(device.user.as_str().as_bytes()));
        let number = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        let slot_ms = number(spread % range_ms.max(1));
        let deadline_ms = number(left_ms.unwrap_or(0));
        let mut actions = self.actions();
        device
            .session
            .drain(url, slot_ms, deadline_ms, &mut actions);
        self.perform(connection, actions);
    }

    /// As long as another node takes to accept all that are here, were they all to move.
    pub(super) fn moving_ms(&self) -> u64 {
        let per_second = u64::from(self.node.config.admission.accepts_per_second).max(1);
        let all_ms = self.sessions as u64 * 1_000 / per_second;
        all_ms.clamp(SLOTS_MS_MIN, SLOTS_MS_MAX)
    }

    /// Whether the client came over TLS, to us or to a proxy in front.
    pub(super) fn is_tls(&self, connection: &Connection) -> bool {
        connection.layer.is_tls() || self.node.config.plain_anywhere
    }
}
