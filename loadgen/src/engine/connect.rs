//! Connections: opened at the ramp's pace, opened again after a pause.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use hawser_protocol::client::{BACKOFF_BASE_MS, BACKOFF_CAP_MS};
use hawser_protocol::codes::ReconnectPolicy;
use hawser_protocol::pb;
use hawser_ring::RingError;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{Counters, Engine, Timer, wall_ms};
use crate::history::Op;
use crate::session::Stage;

/// Handshakes under way at most, over all threads; whoever else would connect waits. More are only more to be timed out, and
/// each that the server does not take yet knocks again every second.
const CONNECTING_MAX: u32 = 4_096;
/// A thread may have so many at least.
const CONNECTING_MIN: u32 = 32;
/// Who finds no room looks again after about so long.
const CROWDED_MS: u64 = 250;
/// The first pause before another attempt, and the longest, beside what the server wishes.
const PAUSE_MS: u64 = 400;
const PAUSE_MS_MAX: u64 = 5_000;
/// A connection is open within this, and a Hello answered: as the protocol's client has it.
const OPEN_MS: u64 = 10_000;
const WELCOME_MS: u64 = 10_000;
/// Why a storm ends connections.
const CUT_OFF: &str = "cut off";

impl Engine {
    /// Begins the connections that are due. Returns when the next one is.
    pub(super) fn connects(&mut self) -> u64 {
        let now = self.shared.now_ns();
        let interval = self.ramp_interval_ns();
        let target = self.shared.sessions();
        if self.next_connect_ns == 0 {
            self.next_connect_ns = now;
        }
        while self.next_connect_ns <= now {
            let waits = self
                .sessions
                .get(self.to_connect)
                .is_none_or(|next| next.user >= target);
            if waits || self.crowded() {
                // Time that passes without a connection is not made up for.
                self.next_connect_ns = now;
                return u64::MAX;
            }
            self.next_connect_ns += interval;
            let at = u32::try_from(self.to_connect).unwrap_or(u32::MAX);
            self.to_connect += 1;
            self.connect(at);
        }
        self.next_connect_ns
    }

    /// As many connections are being made as there may be.
    fn crowded(&self) -> bool {
        let share = CONNECTING_MAX / self.shared.threads.max(1);
        self.connecting >= share.max(CONNECTING_MIN)
    }

    pub(super) fn connect(&mut self, at: u32) {
        let now = self.shared.now_ns();
        let session = &mut self.sessions[at as usize];
        if session.stage != Stage::Waiting {
            return;
        }
        // In a storm everybody knocks.
        if self.orders.storm.is_none() && self.crowded() {
            let pause = CROWDED_MS + self.random.below(CROWDED_MS);
            let at_ms = self.now_ms() + pause;
            self.wheel.insert(at_ms, (at, Timer::Connect));
            return;
        }
        let session = &mut self.sessions[at as usize];
        session.stage = Stage::Connecting;
        session.begun_ns = now;
        self.connecting += 1;
        let source = match self.shared.sources.as_slice() {
            [] => None,
            sources => sources.get(session.user as usize % sources.len()).copied(),
        };
        let gateways = &self.shared.addresses;
        let turn = session.user as usize / 2 + session.attempts as usize;
        let epoch = session.epoch;
        let deadline_ms = now / 1_000_000 + OPEN_MS;
        self.wheel.insert(deadline_ms, (at, Timer::Open(epoch)));
        let session = &self.sessions[at as usize];
        let home = self.shared.gateway(session.home);
        let address = home.unwrap_or(gateways[turn % gateways.len()]);
        let fd = match dial(address, source.map(IpAddr::V4)) {
            Ok(fd) => fd,
            Err(error) => return self.drop_connection(at, 0, &format!("connect: {error}")),
        };
        match self.ring.adopt(fd) {
            Ok(key) => {
                self.by_socket[key.index()] = at;
                self.sessions[at as usize].key = Some(key);
                if self.ring.poll_writable(key).is_err() {
                    self.drop_connection(at, 0, "no wait for the connection");
                }
            }
            // Sockets that a storm has cut are still being closed: no fault of the server's.
            Err((_, RingError::Full)) => {
                self.connecting -= 1;
                self.sessions[at as usize].disconnected();
                let pause = CROWDED_MS + self.random.below(CROWDED_MS);
                let at_ms = self.now_ms() + pause;
                self.wheel.insert(at_ms, (at, Timer::Connect));
            }
            Err((_, error)) => self.drop_connection(at, 0, &error.to_string()),
        }
    }

    /// TCP is there: TLS or the upgrade begins.
    pub(super) fn connected(&mut self, at: u32) {
        let key_bytes = self.random_bytes();
        let session = &mut self.sessions[at as usize];
        let Some(key) = session.key else {
            return;
        };
        let begun = session
            .link
            .begin(&self.shared.target, key_bytes, &mut session.out);
        if let Err(error) = begun {
            return self.drop_connection(at, 0, &error.to_string());
        }
        if self.ring.poll_readable(key).is_err() {
            return self.drop_connection(at, 0, "no wait for bytes");
        }
        self.flush(at);
    }

    /// The upgrade is done: says who it is.
    pub(super) fn greet(&mut self, at: u32) {
        let unique = self.random.bits();
        let session = &mut self.sessions[at as usize];
        session.stage = Stage::Greeting;
        let epoch = session.epoch;
        let deadline_ms = self.shared.now_ns() / 1_000_000 + WELCOME_MS;
        self.wheel.insert(deadline_ms, (at, Timer::Welcome(epoch)));
        let user = self.shared.plan.name(session.user);
        let token = self
            .shared
            .signer
            .token(&user, DEVICE, wall_ms() / 1_000, unique);
        let hello = session.hello(token, DEVICE, self.shared.args.heartbeat_ms);
        self.write(at, &hello);
    }

    /// Ends a connection and plans the next one as the close code asks.
    pub(super) fn drop_connection(&mut self, at: u32, code: u16, why: &str) {
        let counters = &self.shared.counters;
        let session = &mut self.sessions[at as usize];
        let mut sent_to = None;
        match session.stage {
            Stage::Waiting | Stage::Banned => return,
            Stage::Connecting | Stage::Greeting => {
                self.connecting -= 1;
                // Where it was sent is not there: whoever is asked next is asked to serve.
                sent_to = self.shared.gateway(session.home.take());
                session.stays |= sent_to.is_some();
                Counters::add(&counters.failed, 1);
                self.found
                    .failure(format!("{}: {why}", self.shared.plan.name(session.user)));
            }
            Stage::Live => {
                Counters::take(&counters.live, 1);
                Counters::add(&counters.closed, 1);
                *self.found.closes.entry(code).or_default() += 1;
                // What was done on purpose is no failure.
                if why != CUT_OFF {
                    self.found.failure(format!(
                        "{} was live: {why}",
                        self.shared.plan.name(session.user)
                    ));
                }
            }
        }
        let user = session.user;
        if let Some(key) = session.key {
            let _ = self.ring.close(key);
        }
        session.disconnected();
        if code != 0 && ReconnectPolicy::of_close(code) == ReconnectPolicy::Never {
            session.stage = Stage::Banned;
            return;
        }
        self.note(user, || Op::Close {
            code,
            why: match sent_to {
                Some(address) => format!("{why}, where it was sent: {address}"),
                None => why.to_owned(),
            },
        });
        let session = &mut self.sessions[at as usize];
        // In a storm exactly as the protocol says; otherwise sooner, so that a fault is over sooner.
        let (first, most) = match self.orders.storm {
            Some(_) => (BACKOFF_BASE_MS, BACKOFF_CAP_MS),
            None => (PAUSE_MS, PAUSE_MS_MAX),
        };
        let ceiling = (first << session.attempts.min(16)).min(most);
        session.attempts = session.attempts.saturating_add(1);
        let wished = u64::from(std::mem::take(&mut session.retry_after_ms));
        let pause = 1 + wished + self.random.below(ceiling);
        let now_ms = self.now_ms();
        self.wheel.insert(now_ms + pause, (at, Timer::Connect));
    }

    /// Cuts every session off that the storm is to cut.
    pub(super) fn cut(&mut self) {
        let Some(storm) = self.orders.storm else {
            return;
        };
        for at in 0..u32::try_from(self.sessions.len()).unwrap_or(u32::MAX) {
            let session = &mut self.sessions[at as usize];
            if session.stage == Stage::Live && self.orders.is_cut(session.user) {
                session.fresh = storm.fresh;
                Counters::add(&self.shared.counters.cut, 1);
                self.drop_connection(at, 0, CUT_OFF);
            }
        }
    }

    /// Another gateway owns the user's partition.
    pub(super) fn redirected(&mut self, at: u32, redirect: &pb::Redirect) {
        if self.sessions[at as usize].stage != Stage::Greeting {
            return;
        }
        self.sessions[at as usize].home = self.gateway_of(&redirect.url);
        // One that is not on the list is not gone to.
        self.sessions[at as usize].stays = self.sessions[at as usize].home.is_none();
        let pause = self.random.below(u64::from(redirect.jitter_ms).max(1));
        self.connecting -= 1;
        self.move_on(at, pause);
    }

    /// It does from now on.
    pub(super) fn relocated(&mut self, at: u32, relocate: &pb::Relocate) {
        let home = self.gateway_of(&relocate.url);
        let session = &mut self.sessions[at as usize];
        if home.is_none() || session.stage != Stage::Live {
            return;
        }
        session.home = home;
        let (epoch, deadline) = (session.epoch, self.now_ms() + u64::from(relocate.slot_ms));
        self.wheel.insert(deadline, (at, Timer::Move(epoch)));
    }

    /// Leaves this gateway, for the one that is its home now. (What is in flight is sent again there.)
    pub(super) fn move_on(&mut self, at: u32, pause_ms: u64) {
        let counters = &self.shared.counters;
        Counters::add(&counters.moved, 1);
        let session = &mut self.sessions[at as usize];
        if session.stage == Stage::Live {
            Counters::take(&counters.live, 1);
        }
        let (user, sent_to) = (session.user, self.shared.gateway(session.home));
        if let Some(key) = session.key {
            let _ = self.ring.close(key);
        }
        session.disconnected();
        self.note(user, || Op::Close {
            code: 1_000,
            why: sent_to.map_or_else(String::new, |address| format!("goes to {address}")),
        });
        let now_ms = self.now_ms();
        self.wheel
            .insert(now_ms + pause_ms.max(1), (at, Timer::Connect));
    }

    /// Which of our gateways an address names.
    fn gateway_of(&self, url: &str) -> Option<u16> {
        let (_, rest) = url.split_once("://")?;
        let authority = rest.split('/').next()?;
        let address: SocketAddr = authority.parse().ok()?;
        let found = self.shared.addresses.iter().position(|a| *a == address)?;
        u16::try_from(found).ok()
    }

    pub(super) fn random_bytes(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.random.bits().to_le_bytes());
        bytes[8..].copy_from_slice(&self.random.bits().to_le_bytes());
        bytes
    }
}

/// Every user has this one device.
pub(super) const DEVICE: &str = "load";

/// A socket that is connecting.
fn dial(address: SocketAddr, source: Option<IpAddr>) -> std::io::Result<OwnedFd> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source {
        socket.bind(&SockAddr::from(SocketAddr::new(source, 0)))?;
    }
    match socket.connect(&SockAddr::from(address)) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(IN_PROGRESS) => {}
        Err(error) => return Err(error),
    }
    Ok(socket.into())
}

/// EINPROGRESS on Linux.
const IN_PROGRESS: i32 = 115;
