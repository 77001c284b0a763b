//! One thread of connections on one ring: due work, then what the ring has, then a bounded sleep.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hawser_ring::{Event, Key, RecvOutcome, Ring, RingConfig, RingError, SendOutcome, TimerWheel};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::body::Stamp;
use super::link::{Ask, Inbound, Link, Scratch};
use super::shared::{Job, Shared};
use super::speech::{Ack, Heard, NoSetting, Speech, To, Who};

const EVENTS_PER_TURN: usize = 2_048;
const TIMERS_PER_TURN: usize = 2_048;
/// The loop looks at what the conductor says at least so often.
const TURN_MAX: Duration = Duration::from_millis(10);
/// Precision of timers.
const TICK_MS: u64 = 5;
/// Connections being opened at a time, per thread.
const OPENING_MAX: u32 = 256;
/// A connection is ready within this.
const READY_MS: u64 = 20_000;
/// Connections per source address: below the 28,000 ports of one.
const PER_SOURCE: u32 = 10_000;

/// Why a thread ended early.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// There is no io_uring, or its table cannot be as large.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The caller's fault.
    #[error(transparent)]
    Setting(#[from] NoSetting),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    Connecting,
    Opening,
    Ready,
    Lost,
}

struct Connection {
    number: u32,
    stage: Stage,
    key: Option<Key>,
    link: Link,
    speech: Box<dyn Speech>,
    out: Vec<u8>,
    sending: bool,
    ack_timer: bool,
}

#[derive(Clone, Copy)]
enum Timer {
    Ack,
    Ready,
    Heartbeat(u32),
}

/// One thread.
pub struct Engine {
    shared: Arc<Shared>,
    ring: Ring,
    connections: Vec<Connection>,
    /// Connection of a socket, by the key's index.
    by_socket: Vec<u32>,
    wheel: TimerWheel<(u32, Timer)>,
    scratch: Scratch,
    next_open: usize,
    next_open_ns: u64,
    opening: u32,
    /// The publisher's place, and where the pairs begin, in the first thread.
    speakers_from: Option<u32>,
    job: Option<Job>,
    ticked: u32,
    /// Latencies of a turn, before they are handed over.
    came_ns: Vec<u64>,
}

impl Engine {
    /// The connections of the thread with this index.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn new(shared: Arc<Shared>, index: u32) -> Result<Self, EngineError> {
        let plan = &shared.plan;
        let own = (0..plan.connections()).filter(|number| plan.thread(*number) == index);
        let connections = own
            .map(|number| {
                Ok(Connection {
                    number,
                    stage: Stage::Waiting,
                    key: None,
                    link: Link::default(),
                    speech: plan
                        .dialect
                        .speech(plan.who(number), plan.setting.as_ref())?,
                    out: Vec::new(),
                    sending: false,
                    ack_timer: false,
                })
            })
            .collect::<Result<Vec<_>, NoSetting>>()?;
        let place = connections
            .iter()
            .position(|one| plan.who(one.number) == Who::Publisher);
        let files = u32::try_from(connections.len())
            .unwrap_or(u32::MAX)
            .saturating_add(16);
        Ok(Self {
            ring: Ring::new(RingConfig {
                files,
                ..RingConfig::default()
            })?,
            by_socket: vec![u32::MAX; files as usize],
            wheel: TimerWheel::new(shared.now_ns() / 1_000_000, TICK_MS),
            scratch: Scratch::default(),
            next_open: 0,
            next_open_ns: 0,
            opening: 0,
            speakers_from: place.and_then(|place| u32::try_from(place).ok()),
            job: None,
            ticked: 0,
            came_ns: Vec::new(),
            connections,
            shared,
        })
    }

    /// Runs until the conductor says so.
    ///
    /// # Errors
    /// The ring failed for good.
    pub fn run(mut self) -> Result<(), EngineError> {
        let mut events = Vec::with_capacity(EVENTS_PER_TURN);
        while !self.shared.is_ended() {
            self.timers();
            let next_ns = self.open_due().min(self.say_due());
            while events.len() < EVENTS_PER_TURN
                && let Some(event) = self.ring.next_event()
            {
                events.push(event);
            }
            for event in events.drain(..) {
                self.event(event);
            }
            self.hand_over();
            if self.ring.has_events() {
                self.ring.submit()?;
                continue;
            }
            let wait = self
                .shared
                .until(next_ns)
                .clamp(Duration::from_micros(50), TURN_MAX);
            self.ring.submit_and_wait(wait)?;
        }
        Ok(())
    }

    fn now_ms(&self) -> u64 {
        self.shared.now_ns() / 1_000_000
    }

    fn hand_over(&mut self) {
        if self.came_ns.is_empty() {
            return;
        }
        let count = self.came_ns.len() as u64;
        let mut latency = self.shared.latency();
        for ns in self.came_ns.drain(..) {
            latency.saturating_record(ns);
        }
        drop(latency);
        self.shared.delivered.fetch_add(count, Ordering::AcqRel);
    }

    fn timers(&mut self) {
        let now_ms = self.now_ms();
        let mut due = Vec::new();
        self.wheel
            .advance(now_ms, TIMERS_PER_TURN, |timer| due.push(timer));
        for (at, timer) in due {
            let connection = &mut self.connections[at as usize];
            match timer {
                Timer::Ack if connection.stage == Stage::Ready => {
                    connection.ack_timer = false;
                    let ack = connection.speech.ack();
                    self.write(at, &Vec::from_iter(ack));
                }
                Timer::Heartbeat(every_ms) if connection.stage == Stage::Ready => {
                    let beat = connection.speech.heartbeat();
                    self.write(at, &Vec::from_iter(beat));
                    self.wheel.insert(now_ms + u64::from(every_ms), (at, timer));
                }
                Timer::Ready if matches!(connection.stage, Stage::Connecting | Stage::Opening) => {
                    self.lose(at, "not ready in time");
                }
                Timer::Ack | Timer::Heartbeat(_) | Timer::Ready => {}
            }
        }
    }

    /// Opens what is due by the ramp. Returns when the next one is.
    fn open_due(&mut self) -> u64 {
        let plan = &self.shared.plan;
        let every = 1_000_000_000 * u64::from(plan.threads) / u64::from(plan.ramp.max(1));
        let target = self.shared.target();
        loop {
            let now = self.shared.now_ns();
            let next = self.connections.get(self.next_open);
            if next.is_none_or(|next| next.number >= target) || self.opening >= OPENING_MAX {
                // Time that passes without a connection is not made up for.
                self.next_open_ns = now;
                return u64::MAX;
            }
            if self.next_open_ns > now {
                return self.next_open_ns;
            }
            self.next_open_ns += every;
            let at = u32::try_from(self.next_open).unwrap_or(u32::MAX);
            self.next_open += 1;
            self.open(at);
        }
    }

    fn open(&mut self, at: u32) {
        let connection = &mut self.connections[at as usize];
        connection.stage = Stage::Connecting;
        self.opening += 1;
        let source =
            Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 0, 1, 1)) + connection.number / PER_SOURCE);
        let deadline = self.now_ms() + READY_MS;
        self.wheel.insert(deadline, (at, Timer::Ready));
        let fd = match dial(self.shared.plan.address, source) {
            Ok(fd) => fd,
            Err(error) => return self.lose(at, &format!("connect: {error}")),
        };
        match self.ring.adopt(fd) {
            Ok(key) => {
                self.by_socket[key.index()] = at;
                self.connections[at as usize].key = Some(key);
                if self.ring.poll_writable(key).is_err() {
                    self.lose(at, "no wait for the connection");
                }
            }
            Err((_, error)) => self.lose(at, &error.to_string()),
        }
    }

    /// Says what is due of the job, each body stamped with the instant that the schedule has for it.
    fn say_due(&mut self) -> u64 {
        let Some(first) = self.speakers_from else {
            return u64::MAX;
        };
        let number = self.shared.job_number();
        if self.job.map_or(0, |job| job.number) != number {
            self.job = self.shared.job();
            self.ticked = 0;
        }
        let Some(job) = self.job else {
            return u64::MAX;
        };
        while self.ticked < job.ticks {
            let due_ns = job.first_ns + job.every_ns * u64::from(self.ticked);
            if due_ns > self.shared.now_ns() {
                return due_ns;
            }
            let stamp = Stamp {
                job: job.number,
                due_ns,
            };
            let body = stamp.encode(job.body);
            let (at, to) = if job.is_pair {
                let pair = self.ticked % self.shared.plan.pair_members.max(1);
                (first + 1 + pair, To::Peer(Who::peer(pair)))
            } else {
                (first, To::All)
            };
            let mut say = Vec::new();
            if let Some(speaker) = self.connections.get_mut(at as usize) {
                for _ in 0..job.burst {
                    speaker.speech.publish(to, &body, &mut say);
                }
                self.write(at, &say);
            }
            self.ticked += 1;
            self.shared.said.fetch_add(1, Ordering::AcqRel);
        }
        u64::MAX
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Readable { key, .. } => {
                // Busy: the receive under way will say that more waits.
                let _ = self.ring.recv(key);
            }
            Event::Received { key, outcome } => self.received(key, outcome),
            Event::Writable { key, hangup } => {
                if let Some(at) = self.connection_of(key) {
                    self.writable(at, hangup);
                }
            }
            Event::Sent {
                key,
                buf,
                from,
                outcome,
            } => {
                if let Some(at) = self.connection_of(key) {
                    self.sent(at, buf, from, outcome);
                }
            }
            Event::Gone { .. } | Event::ShutDown { .. } | Event::Woken => {}
        }
    }

    fn connection_of(&self, key: Key) -> Option<u32> {
        let at = *self.by_socket.get(key.index())?;
        let connection = self.connections.get(at as usize)?;
        (connection.key == Some(key)).then_some(at)
    }

    fn received(&mut self, key: Key, outcome: RecvOutcome) {
        let Some(at) = self.connection_of(key) else {
            return;
        };
        match outcome {
            RecvOutcome::Data { data, more } => {
                self.feed(at, &data);
                drop(data);
                if more {
                    let _ = self.ring.recv(key);
                }
            }
            RecvOutcome::NoBuffers => {
                let _ = self.ring.recv(key);
            }
            RecvOutcome::WouldBlock => {}
            RecvOutcome::End => self.lose(at, "the server ended the stream"),
            RecvOutcome::Failed(errno) => self.lose(at, &format!("receive: {errno:?}")),
        }
    }

    fn feed(&mut self, at: u32, bytes: &[u8]) {
        let connection = &mut self.connections[at as usize];
        let Connection {
            link, speech, out, ..
        } = connection;
        let mut heard = Heard::default();
        let fed = link.feed(bytes, &mut self.scratch, out, |item| match item {
            Inbound::Opened => speech.opened(&mut heard),
            Inbound::Message(message) => speech.message(message, &mut heard),
        });
        let now_ns = self.shared.now_ns();
        let job = self.shared.job_number();
        let ours = heard.stamps.iter().filter(|stamp| stamp.job == job);
        self.came_ns
            .extend(ours.map(|stamp| now_ns.saturating_sub(stamp.due_ns)));
        for words in heard.faults.drain(..) {
            self.shared.fault(words);
        }
        if let Err(error) = fed {
            return self.lose(at, &error.to_string());
        }
        self.answer(at, heard);
    }

    fn answer(&mut self, at: u32, mut heard: Heard) {
        let now_ms = self.now_ms();
        let delay_ms = self.shared.plan.ack_ms;
        let connection = &mut self.connections[at as usize];
        if heard.ready && connection.stage == Stage::Opening {
            connection.stage = Stage::Ready;
            self.opening -= 1;
            self.shared.ready.fetch_add(1, Ordering::AcqRel);
        }
        if heard.heartbeat_ms > 0 {
            // The first is jittered by the number, so that a ramp does not become a wave.
            let every = u64::from(heard.heartbeat_ms);
            let first = 1 + u64::from(connection.number) * 7_919 % every;
            let beat = Timer::Heartbeat(heard.heartbeat_ms);
            self.wheel.insert(now_ms + first, (at, beat));
        }
        if heard.ack == Ack::Now {
            heard.say.extend(connection.speech.ack());
        } else if heard.ack == Ack::Soon && !connection.ack_timer {
            connection.ack_timer = true;
            self.wheel.insert(now_ms + delay_ms, (at, Timer::Ack));
        }
        self.write(at, &heard.say);
    }

    /// Messages as one send, with what the transport has to say.
    fn write(&mut self, at: u32, messages: &[Vec<u8>]) {
        let connection = &mut self.connections[at as usize];
        if !messages.is_empty() {
            let is_text = connection.speech.is_text();
            let Connection { link, out, .. } = connection;
            if let Err(error) = link.send(messages, is_text, &mut self.scratch, out) {
                return self.lose(at, &error.to_string());
            }
        }
        self.flush(at);
    }

    fn flush(&mut self, at: u32) {
        let connection = &mut self.connections[at as usize];
        let Some(key) = connection.key else {
            return;
        };
        if connection.sending || connection.out.is_empty() {
            return;
        }
        let out = std::mem::take(&mut connection.out);
        connection.sending = true;
        if let Err((_, error)) = self.ring.send(key, out, 0) {
            self.lose(at, &error.to_string());
        }
    }

    fn writable(&mut self, at: u32, hangup: bool) {
        let connection = &mut self.connections[at as usize];
        if connection.stage != Stage::Connecting {
            connection.sending = false;
            return self.flush(at);
        }
        let Some(key) = connection.key.filter(|_| !hangup) else {
            return self.lose(at, "connection refused");
        };
        connection.stage = Stage::Opening;
        let ask = Ask {
            host: self.shared.plan.address.to_string(),
            path: connection.speech.path(),
            protocol: connection.speech.protocol(),
        };
        let begun = connection
            .link
            .begin(&self.shared.plan.tls, ask, &mut connection.out);
        if let Err(error) = begun {
            return self.lose(at, &error.to_string());
        }
        if self.ring.poll_readable(key).is_err() {
            return self.lose(at, "no wait for bytes");
        }
        self.flush(at);
    }

    fn sent(&mut self, at: u32, mut buf: Vec<u8>, from: usize, outcome: SendOutcome) {
        let connection = &mut self.connections[at as usize];
        let done = match outcome {
            SendOutcome::Sent(sent) => from + sent,
            SendOutcome::WouldBlock => from,
            SendOutcome::Failed(errno) => return self.lose(at, &format!("send: {errno:?}")),
        };
        if done < buf.len() {
            // What came meanwhile goes behind the rest.
            buf.drain(..done);
            buf.append(&mut connection.out);
            connection.out = buf;
        }
        if let (SendOutcome::WouldBlock, Some(key)) = (outcome, connection.key) {
            if self.ring.poll_writable(key).is_err() {
                self.lose(at, "no wait for room");
            }
            return;
        }
        connection.sending = false;
        self.flush(at);
    }

    /// A connection that broke is not made again: the run says so.
    fn lose(&mut self, at: u32, why: &str) {
        let connection = &mut self.connections[at as usize];
        match connection.stage {
            Stage::Lost | Stage::Waiting => return,
            Stage::Connecting | Stage::Opening => self.opening -= 1,
            Stage::Ready => {
                self.shared.ready.fetch_sub(1, Ordering::AcqRel);
            }
        }
        connection.stage = Stage::Lost;
        self.shared.lost.fetch_add(1, Ordering::AcqRel);
        self.shared.fault(why.to_owned());
        if let Some(key) = connection.key.take() {
            let _ = self.ring.close(key);
        }
    }
}

/// A socket that is connecting. Its close is a reset, so that the next server's run finds no port taken.
fn dial(address: SocketAddr, source: Ipv4Addr) -> std::io::Result<OwnedFd> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_linger(Some(Duration::ZERO))?;
    socket.bind(&SockAddr::from(SocketAddr::new(IpAddr::V4(source), 0)))?;
    match socket.connect(&SockAddr::from(address)) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(IN_PROGRESS) => {}
        Err(error) => return Err(error),
    }
    Ok(socket.into())
}

/// EINPROGRESS on Linux.
const IN_PROGRESS: i32 = 115;
