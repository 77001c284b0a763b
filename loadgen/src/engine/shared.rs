//! What the threads of a run and its conductor tell each other.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::orders::{Load, Orders, Storm, Window};
use crate::args::Args;
use crate::link::Target;
use crate::plan::Plan;
use crate::tokens::Signer;

/// What a run is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum Phase {
    /// Sessions are opened up to the target.
    Ramp = 0,
    /// Each session sends and receives once.
    Warm = 1,
    /// Messages by the schedule.
    Load = 2,
    /// No new messages.
    Rest = 3,
    /// Every chat is read back into the history.
    Sweep = 4,
    /// The threads end.
    End = 5,
}

/// Counters that the conductor reads while threads run.
#[derive(Debug, Default)]
pub struct Counters {
    /// Sessions that are live.
    pub live: AtomicU64,
    /// Sessions that are warm.
    pub warm: AtomicU64,
    /// Sends without an answer.
    pub in_flight: AtomicU64,
    /// Messages sent.
    pub sent: AtomicU64,
    /// Final answers.
    pub answered: AtomicU64,
    /// Deliveries.
    pub delivered: AtomicU64,
    /// Deliveries that the messages acknowledged so far should make.
    pub expected: AtomicU64,
    /// Attempts that failed.
    pub failed: AtomicU64,
    /// Live sessions that ended without being asked.
    pub closed: AtomicU64,
    /// Chats read back.
    pub swept: AtomicU64,
    /// Sessions and attempts that went to another gateway because they were sent there.
    pub moved: AtomicU64,
    /// Sessions welcomed again.
    pub reconnects: AtomicU64,
    /// Sessions that a storm has cut.
    pub cut: AtomicU64,
    /// Of these, welcomed again.
    pub back: AtomicU64,
    /// Messages that the schedule wanted and that no session could take.
    pub shed: AtomicU64,
    /// Refused Sends.
    pub refused: AtomicU64,
}

impl Counters {
    /// Adds to a counter.
    pub fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    /// Takes from a counter.
    pub fn take(counter: &AtomicU64, count: u64) {
        counter.fetch_sub(count, Ordering::Relaxed);
    }

    /// Reads a counter.
    pub fn read(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}

/// [`Counters`] at an instant, of one process or of several together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Sessions that are live.
    pub live: u64,
    /// Sessions that are warm.
    pub warm: u64,
    /// Sends without an answer.
    pub in_flight: u64,
    /// Messages sent.
    pub sent: u64,
    /// Deliveries.
    pub delivered: u64,
    /// Deliveries that the messages acknowledged so far should make.
    pub expected: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Live sessions that ended without being asked, those that storms have cut among them.
    pub closed: u64,
    /// Sessions and attempts that went to another gateway because they were sent there.
    pub moved: u64,
    /// Sessions welcomed again.
    pub reconnects: u64,
    /// Sessions that a storm has cut.
    pub cut: u64,
    /// Of these, welcomed again.
    pub back: u64,
    /// Refused Sends.
    pub refused: u64,
}

impl Totals {
    /// As the counters are.
    #[must_use]
    pub fn read(counters: &Counters) -> Self {
        let read = Counters::read;
        Self {
            live: read(&counters.live),
            warm: read(&counters.warm),
            in_flight: read(&counters.in_flight),
            sent: read(&counters.sent),
            delivered: read(&counters.delivered),
            expected: read(&counters.expected),
            failed: read(&counters.failed),
            closed: read(&counters.closed),
            moved: read(&counters.moved),
            reconnects: read(&counters.reconnects),
            cut: read(&counters.cut),
            back: read(&counters.back),
            refused: read(&counters.refused),
        }
    }

    /// Adds another process's.
    pub fn add(&mut self, other: &Self) {
        for (sum, more) in [
            (&mut self.live, other.live),
            (&mut self.warm, other.warm),
            (&mut self.in_flight, other.in_flight),
            (&mut self.sent, other.sent),
            (&mut self.delivered, other.delivered),
            (&mut self.expected, other.expected),
            (&mut self.failed, other.failed),
            (&mut self.closed, other.closed),
            (&mut self.moved, other.moved),
            (&mut self.reconnects, other.reconnects),
            (&mut self.cut, other.cut),
            (&mut self.back, other.back),
            (&mut self.refused, other.refused),
        ] {
            *sum = sum.saturating_add(more);
        }
    }
}

/// One run.
pub struct Shared {
    /// The command line.
    pub args: Args,
    /// Threads of this run.
    pub threads: u32,
    /// Who talks to whom.
    pub plan: Plan,
    /// Where to.
    pub target: Target,
    /// The socket addresses of its gateways, at least one.
    pub addresses: Vec<std::net::SocketAddr>,
    /// Source addresses; empty: the system's choice.
    pub sources: Vec<std::net::Ipv4Addr>,
    /// Signs tokens.
    pub signer: Signer,
    /// Sizes of bodies that are sent in this run, bytes.
    pub bodies: Vec<usize>,
    /// Live counters.
    pub counters: Counters,
    epoch: Instant,
    phase: AtomicU8,
    sessions: AtomicU32,
    orders: Mutex<Orders>,
    /// Rises with every change of `orders` and `sessions`.
    changes: AtomicU32,
    windows: Mutex<Vec<(u32, Window)>>,
}

impl Shared {
    /// Before the ramp.
    #[must_use]
    pub fn new(
        args: Args,
        threads: u32,
        plan: Plan,
        target: Target,
        addresses: Vec<std::net::SocketAddr>,
        sources: Vec<std::net::Ipv4Addr>,
        signer: Signer,
    ) -> Self {
        let load = Arc::new(Load::of(&args));
        Self {
            bodies: vec![args.body],
            args,
            threads,
            plan,
            target,
            addresses,
            sources,
            signer,
            counters: Counters::default(),
            epoch: Instant::now(),
            phase: AtomicU8::new(Phase::Ramp as u8),
            sessions: AtomicU32::new(0),
            orders: Mutex::new(Orders::new(load)),
            changes: AtomicU32::new(0),
            windows: Mutex::default(),
        }
    }

    /// Where a gateway of our list is, by its index.
    pub(crate) fn gateway(&self, index: Option<u16>) -> Option<std::net::SocketAddr> {
        self.addresses.get(usize::from(index?)).copied()
    }

    /// Changes what the threads are to do; they follow within a turn, 20 ms at most.
    pub fn order(&self, change: impl FnOnce(&mut Orders)) {
        change(&mut locked(&self.orders));
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// What the threads are to do.
    #[must_use]
    pub fn orders(&self) -> Orders {
        locked(&self.orders).clone()
    }

    /// Rises with every change of what the threads are to do.
    #[must_use]
    pub fn changes(&self) -> u32 {
        self.changes.load(Ordering::Acquire)
    }

    /// Says what a storm is to cut.
    pub fn set_storm(&self, storm: Storm) {
        self.order(|orders| orders.storm = Some(storm));
    }

    /// Cuts all sessions off that a storm is to cut.
    pub fn cut(&self) {
        let now_ns = self.now_ns();
        self.order(|orders| orders.cut_ns = now_ns);
    }

    /// Asks the threads for what they have recorded since the last time, and begins the next window. Less than all of it where
    /// one does not answer within this time.
    pub(crate) fn gather(&self, within: Duration) -> Window {
        let mut all = Window::default();
        let asked = Instant::now();
        let (mut number, mut came) = (0, 0);
        self.order(|orders| {
            orders.windows += 1;
            number = orders.windows;
        });
        while came < self.threads && asked.elapsed() < within {
            for (answered, part) in self.take_windows() {
                all.add(&part);
                // One that is late answers an earlier asking.
                came += u32::from(answered >= number);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        all
    }

    /// A thread hands over what it has recorded since it did so before; `asked` is the [`Orders::windows`] that it answers.
    pub(super) fn hand_over(&self, asked: u32, window: Window) {
        locked(&self.windows).push((asked, window));
    }

    /// What the threads have handed over, and for which asking.
    pub(crate) fn take_windows(&self) -> Vec<(u32, Window)> {
        std::mem::take(&mut *locked(&self.windows))
    }

    /// Nanoseconds since the run began; one clock for all threads.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// What is to be done.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Ramp,
            1 => Phase::Warm,
            2 => Phase::Load,
            3 => Phase::Rest,
            4 => Phase::Sweep,
            _ => Phase::End,
        }
    }

    /// Says what is to be done.
    pub fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// Users below this one are to be connected.
    #[must_use]
    pub fn sessions(&self) -> u32 {
        self.sessions.load(Ordering::Acquire)
    }

    /// Says how many users are to be connected.
    pub fn set_sessions(&self, sessions: u32) {
        self.sessions.store(sessions, Ordering::Release);
        self.changes.fetch_add(1, Ordering::Release);
    }
}

/// What is behind these locks is whole at any instant, also after a panic.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Milliseconds since 1970.
#[must_use]
pub fn wall_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
