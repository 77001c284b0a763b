//! One thread of sessions on one ring: a loop of due work, then what the ring has, then a bounded sleep.

mod connect;
mod orders;
mod receive;
mod send;
mod shared;
mod sweep;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use hawser_protocol::ids::ClientMsgId;
use hawser_ring::{Event, Key, RecvOutcome, Ring, RingConfig, RingError, SendOutcome, TimerWheel};

pub use orders::{Load, Orders, Storm, Window};
pub use shared::{Counters, Phase, Shared, Totals, wall_ms};

use crate::check::{Checker, Numbers};
use crate::history::{Entry, Id, Op, Writer};
use crate::link::Scratch;
use crate::random::Random;
use crate::report::Latency;
use crate::session::{PONG_MS, Session, Stage};

/// Sessions of one ring at most: a table is bounded by RLIMIT_NOFILE, which is 20,000 on small machines.
pub const SESSIONS_PER_THREAD_MAX: u32 = 16_000;
/// Events taken in one turn.
const EVENTS_PER_TURN: usize = 2_048;
/// Timers taken in one turn.
const TIMERS_PER_TURN: usize = 2_048;
/// The loop looks at the phase at least so often.
const TURN_MAX: Duration = Duration::from_millis(20);
/// Precision of timers.
const TICK_MS: u64 = 10;

/// What a thread found.
#[derive(Default)]
pub struct Found {
    /// Its receivers' side.
    pub checker: Checker,
    /// TCP connect to Welcome.
    pub connect: Latency,
    /// Due to Queued.
    pub queued: Latency,
    /// An attempt to its refusal (or to the word that its outcome is unknown), where that was the first answer.
    pub refused: Latency,
    /// Due to SendResult.
    pub send_result: Latency,
    /// Due to Deliver.
    pub deliver: Latency,
    /// The same of what was due after a storm began.
    pub deliver_in_storm: Latency,
    /// When those were welcomed again that the storm had cut, nanoseconds since it began.
    pub back_ns: Vec<u64>,
    /// Of these, resumed.
    pub resumed: u64,
    /// What those who were to come later were told, milliseconds.
    pub told_ms: Vec<u32>,
    /// `Error` frames and refusals by code.
    pub errors: BTreeMap<u32, u64>,
    /// Closes by code; 0: without one.
    pub closes: BTreeMap<u16, u64>,
    /// The first failures in words.
    pub failures: Vec<String>,
    /// Messages that the schedule wanted and that no session could take.
    pub shed: u64,
    /// Messages whose sender or body is not what was sent.
    pub foreign: u64,
    /// Users whose deliveries cannot be judged: never live, or their place in the log was lost.
    pub unjudged: Vec<u32>,
}

impl Found {
    /// What this thread's senders know.
    #[must_use]
    pub fn lanes(&self) -> AHashMap<(u32, u32), Numbers> {
        self.checker.lanes()
    }

    fn failure(&mut self, words: String) {
        if self.failures.len() < 5 {
            self.failures.push(words);
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Timer {
    Heartbeat(u32),
    /// A Ping is to be answered by now.
    Pong(u32),
    Ack(u32),
    /// Sends of unknown outcome.
    Again(u32),
    Connect,
    /// The connection is to be open by now.
    Open(u32),
    /// The Hello is to be answered by now.
    Welcome(u32),
    /// Another gateway's turn has come.
    Move(u32),
}

/// One thread.
pub struct Engine {
    shared: Arc<Shared>,
    ring: Ring,
    sessions: Vec<Session>,
    /// Session of a socket, by the key's index.
    by_socket: Vec<u32>,
    wheel: TimerWheel<(u32, Timer)>,
    random: Random,
    scratch: Scratch,
    found: Found,
    /// Next number per (user, conversation).
    numbers: AHashMap<(u32, u32), u32>,
    /// Recent seqs per (user, conversation), the filter that makes redelivery invisible.
    recent: AHashMap<(u32, u32), receive::Recent>,
    next_connect_ns: u64,
    to_connect: usize,
    connecting: u32,
    next_arrival_ns: u64,
    next_warm_ns: u64,
    to_warm: usize,
    /// Server's clock minus ours, milliseconds.
    clock_ms: i64,
    history: Option<Writer>,
    sweep: sweep::Sweep,
    /// Sessions that send: those before it in the list.
    speakers: u64,
    orders: Orders,
    /// The changes of [`Shared::changes`] that were seen.
    obeyed: u32,
    window: Option<Box<Window>>,
    /// As [`Orders::slow_from`] was until those read again, and when that was.
    was_slow_from: u32,
    read_again_ns: u64,
}

impl Engine {
    /// The sessions of the thread with this index.
    ///
    /// # Errors
    /// There is no io_uring, or its table cannot be as large.
    pub fn new(shared: Arc<Shared>, index: u32) -> Result<Self, RingError> {
        let users = (0..shared.plan.users()).filter(|user| shared.plan.thread(*user) == index);
        let sessions: Vec<Session> = users.map(Session::new).collect();
        let files = u32::try_from(sessions.len())
            .unwrap_or(u32::MAX)
            .saturating_add(256);
        let ring = Ring::new(RingConfig {
            files,
            ..RingConfig::default()
        })?;
        let by_socket = vec![u32::MAX; files as usize];
        let seed = shared
            .args
            .seed
            .wrapping_mul(1_000_003)
            .wrapping_add(u64::from(index));
        let mut orders = shared.orders();
        // A window that is asked for already is begun in the first turn, as a storm is.
        (orders.windows, orders.cut_ns) = (0, u64::MAX);
        Ok(Self {
            speakers: 0,
            orders,
            // The first turn looks.
            obeyed: u32::MAX,
            window: None,
            was_slow_from: u32::MAX,
            read_again_ns: 0,
            ring,
            sessions,
            by_socket,
            wheel: TimerWheel::new(shared.now_ns() / 1_000_000, TICK_MS),
            random: Random::new(seed),
            scratch: Scratch::default(),
            found: Found::default(),
            numbers: AHashMap::new(),
            recent: AHashMap::new(),
            next_connect_ns: 0,
            to_connect: 0,
            connecting: 0,
            next_arrival_ns: 0,
            next_warm_ns: 0,
            to_warm: 0,
            clock_ms: 0,
            history: None,
            sweep: sweep::Sweep::new(&shared, index),
            shared,
        })
    }

    /// What its sessions do and see goes there too.
    #[must_use]
    pub fn recorded(mut self, history: Option<Writer>) -> Self {
        self.history = history;
        self
    }

    /// Runs until the conductor says so.
    ///
    /// # Errors
    /// The ring failed for good.
    pub fn run(mut self) -> Result<Found, RingError> {
        let mut events = Vec::with_capacity(EVENTS_PER_TURN);
        while self.shared.phase() != Phase::End {
            self.obey();
            self.timers();
            let next = match self.shared.phase() {
                Phase::Load => self.arrivals(),
                Phase::Warm => self.warm(),
                Phase::Sweep => self.sweep(),
                _ => {
                    self.next_arrival_ns = 0;
                    self.next_warm_ns = 0;
                    u64::MAX
                }
            };
            let next = next.min(self.connects());
            while events.len() < EVENTS_PER_TURN
                && let Some(event) = self.ring.next_event()
            {
                events.push(event);
            }
            for event in events.drain(..) {
                self.event(event);
            }
            if self.ring.has_events() {
                self.ring.submit()?;
                continue;
            }
            let wait = Duration::from_nanos(next.saturating_sub(self.shared.now_ns()));
            self.ring
                .submit_and_wait(wait.min(TURN_MAX).max(Duration::from_micros(50)))?;
        }
        self.end_history();
        if let Some(window) = self.window.take() {
            self.shared.hand_over(u32::MAX, *window);
        }
        let unjudged = self
            .sessions
            .iter()
            .filter(|session| !session.was_live || session.lost_place);
        self.found.unjudged = unjudged.map(|session| session.user).collect();
        Ok(self.found)
    }

    /// Adds to the history, where there is one.
    fn note(&mut self, user: u32, op: impl FnOnce() -> Op) {
        if let Some(history) = &mut self.history {
            let (t, u, op) = (self.shared.now_ns(), user, op());
            history.add(&Entry { t, u, op });
        }
    }

    /// What has no answer by now has an unknown outcome.
    fn end_history(&mut self) {
        let open: Vec<(u32, ClientMsgId)> = self
            .sessions
            .iter()
            .flat_map(|session| session.in_flight.iter().map(|send| (session.user, send.id)))
            .collect();
        for (user, id) in open {
            self.note(user, || Op::Unknown { id: Id(id.0) });
        }
        let whole = self.history.as_mut().is_none_or(Writer::finish);
        if !whole {
            self.found
                .failure("the history was cut: --history-mib, or a full disk".to_owned());
        }
    }

    /// Milliseconds of the run.
    fn now_ms(&self) -> u64 {
        self.shared.now_ns() / 1_000_000
    }

    fn timers(&mut self) {
        let mut due = Vec::new();
        let now_ms = self.now_ms();
        self.wheel
            .advance(now_ms, TIMERS_PER_TURN, |timer| due.push(timer));
        for (at, timer) in due {
            let Some(session) = self.sessions.get_mut(at as usize) else {
                continue;
            };
            match timer {
                Timer::Connect => self.connect(at),
                Timer::Ack(epoch) if epoch == session.epoch && session.stage == Stage::Live => {
                    session.ack_timer = false;
                    if let Some(frame) = session.ack() {
                        self.write(at, &frame);
                    }
                }
                Timer::Heartbeat(epoch)
                    if epoch == session.epoch && session.stage == Stage::Live =>
                {
                    let ping = session.ping(wall_ms(), now_ms);
                    let heartbeat_ms = u64::from(session.heartbeat_ms);
                    self.write(at, &ping);
                    self.wheel.insert(now_ms + heartbeat_ms, (at, timer));
                    self.wheel
                        .insert(now_ms + PONG_MS, (at, Timer::Pong(epoch)));
                }
                Timer::Pong(epoch)
                    if epoch == session.epoch
                        && session.stage == Stage::Live
                        && session.misses_pong(now_ms)
                        && !self.orders.is_slow(session.user) =>
                {
                    self.drop_connection(at, 0, "no Pong in time");
                }
                Timer::Again(epoch) if epoch == session.epoch && session.stage == Stage::Live => {
                    self.put_again(at, false);
                }
                Timer::Move(epoch) if epoch == session.epoch && session.stage == Stage::Live => {
                    self.move_on(at, 0);
                }
                Timer::Open(epoch)
                    if epoch == session.epoch && session.stage == Stage::Connecting =>
                {
                    self.drop_connection(at, 0, "not open in time");
                }
                Timer::Welcome(epoch)
                    if epoch == session.epoch && session.stage == Stage::Greeting =>
                {
                    self.drop_connection(at, 0, "no Welcome in time");
                }
                Timer::Open(_) | Timer::Welcome(_) | Timer::Pong(_) => {}
                Timer::Ack(_) | Timer::Heartbeat(_) | Timer::Again(_) | Timer::Move(_) => {}
            }
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Readable { key, .. } => {
                if self.session_of(key).is_some_and(|at| self.is_slow(at)) {
                    return;
                }
                // Busy: the receive under way will say that more waits.
                let _ = self.ring.recv(key);
            }
            Event::Received { key, outcome } => self.received(key, outcome),
            Event::Writable { key, hangup } => {
                if let Some(at) = self.session_of(key) {
                    self.writable(at, hangup);
                }
            }
            Event::Sent {
                key,
                buf,
                from,
                outcome,
            } => {
                if let Some(at) = self.session_of(key) {
                    self.sent(at, buf, from, outcome);
                }
            }
            Event::Gone { .. } | Event::ShutDown { .. } | Event::Woken => {}
        }
    }

    fn session_of(&self, key: Key) -> Option<u32> {
        let at = *self.by_socket.get(key.index())?;
        let session = self.sessions.get(at as usize)?;
        (session.key == Some(key)).then_some(at)
    }

    fn received(&mut self, key: Key, outcome: RecvOutcome) {
        let Some(at) = self.session_of(key) else {
            return;
        };
        match outcome {
            RecvOutcome::Data { data, more } => {
                self.feed(at, &data);
                drop(data);
                if more && !self.is_slow(at) {
                    let _ = self.ring.recv(key);
                }
            }
            RecvOutcome::NoBuffers => {
                let _ = self.ring.recv(key);
            }
            RecvOutcome::WouldBlock => {}
            RecvOutcome::End => self.drop_connection(at, 0, "the server ended the stream"),
            RecvOutcome::Failed(errno) => {
                self.drop_connection(at, 0, &format!("receive: {errno:?}"));
            }
        }
    }

    fn writable(&mut self, at: u32, hangup: bool) {
        let session = &mut self.sessions[at as usize];
        if session.stage != Stage::Connecting || !session.out.is_empty() || session.sending {
            session.sending = false;
            self.flush(at);
        } else if hangup {
            self.drop_connection(at, 0, "connection refused");
        } else {
            self.connected(at);
        }
    }

    fn sent(&mut self, at: u32, mut buf: Vec<u8>, from: usize, outcome: SendOutcome) {
        let session = &mut self.sessions[at as usize];
        let done = match outcome {
            SendOutcome::Sent(sent) => from + sent,
            SendOutcome::WouldBlock => from,
            SendOutcome::Failed(errno) => {
                self.drop_connection(at, 0, &format!("send: {errno:?}"));
                return;
            }
        };
        if done < buf.len() {
            // What came meanwhile goes behind the rest.
            buf.drain(..done);
            buf.append(&mut session.out);
            session.out = buf;
        }
        match (outcome, session.key) {
            (SendOutcome::WouldBlock, Some(key)) => {
                if self.ring.poll_writable(key).is_err() {
                    self.drop_connection(at, 0, "no wait for room");
                }
            }
            _ => {
                session.sending = false;
                self.flush(at);
            }
        }
    }

    /// Sends what waits, unless a send is under way.
    fn flush(&mut self, at: u32) {
        let session = &mut self.sessions[at as usize];
        let Some(key) = session.key else {
            return;
        };
        if session.sending || session.out.is_empty() {
            return;
        }
        let out = std::mem::take(&mut session.out);
        session.sending = true;
        if let Err((out, error)) = self.ring.send(key, out, 0) {
            session.sending = false;
            session.out = out;
            self.drop_connection(at, 0, &error.to_string());
        }
    }
}
