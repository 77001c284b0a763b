//! What the threads of the client and its conductor tell each other.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::link::Tls;
use super::speech::{Dialect, HawserSetting, Who};

/// Latencies above this are counted as this: ten minutes.
const LATENCY_NS_MAX: u64 = 600_000_000_000;
/// Connections of one ring at most: a table is bounded by RLIMIT_NOFILE, which is 20,000 on small machines.
pub const CONNECTIONS_PER_THREAD_MAX: u32 = 16_000;

/// Where, as whom, and how fast connections are opened.
pub struct Plan {
    /// The server; loopback only.
    pub address: SocketAddr,
    /// How connections are secured.
    pub tls: Tls,
    /// What is spoken.
    pub dialect: Dialect,
    /// For Hawser.
    pub setting: Option<Arc<HawserSetting>>,
    /// Subscribers in all.
    pub recipients: u32,
    /// Members of pairs; an even number.
    pub pair_members: u32,
    /// Connections opened per second.
    pub ramp: u32,
    /// How long an acknowledgement waits for company, milliseconds.
    pub ack_ms: u64,
    /// Threads, each with a ring of its own.
    pub threads: u32,
}

impl Plan {
    /// Connections in all: subscribers first, then the publisher, then the pairs.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.recipients + 1 + self.pair_members
    }

    /// Who the connection of this number is.
    #[must_use]
    pub fn who(&self, number: u32) -> Who {
        match number.checked_sub(self.recipients) {
            None => Who::Subscriber(number),
            Some(0) => Who::Publisher,
            Some(pair) => Who::Pair(pair - 1),
        }
    }

    /// The thread that drives it; everybody who speaks is on the first.
    #[must_use]
    pub fn thread(&self, number: u32) -> u32 {
        match self.who(number) {
            Who::Subscriber(number) => number % self.threads,
            Who::Publisher | Who::Pair(_) => 0,
        }
    }
}

/// What is said, on one schedule.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    /// In every body of it.
    pub number: u32,
    /// By pairs, or to all.
    pub is_pair: bool,
    /// Bytes of a body.
    pub body: usize,
    /// When the first is due, nanoseconds of [`Shared::now_ns`].
    pub first_ns: u64,
    /// From one instant to the next.
    pub every_ns: u64,
    /// Instants.
    pub ticks: u32,
    /// Bodies at each.
    pub burst: u32,
}

/// One run of the client.
pub struct Shared {
    /// Where to.
    pub plan: Plan,
    epoch: Instant,
    target: AtomicU32,
    ended: AtomicBool,
    /// Connections that are ready.
    pub ready: AtomicU32,
    /// Connections that could not be made, or broke.
    pub lost: AtomicU32,
    /// Bodies of the present job that came.
    pub delivered: AtomicU64,
    /// Instants of the present job whose bodies were handed to sockets.
    pub said: AtomicU32,
    job: Mutex<Option<Job>>,
    job_number: AtomicU32,
    latency: Mutex<Histogram<u64>>,
    faults: Mutex<BTreeMap<String, u64>>,
}

impl Shared {
    /// Before the first connection.
    ///
    /// # Errors
    /// None in practice: the histogram's bounds are constants.
    pub fn new(plan: Plan) -> Result<Self, hdrhistogram::CreationError> {
        Ok(Self {
            plan,
            epoch: Instant::now(),
            target: AtomicU32::new(0),
            ended: AtomicBool::new(false),
            ready: AtomicU32::new(0),
            lost: AtomicU32::new(0),
            delivered: AtomicU64::new(0),
            said: AtomicU32::new(0),
            job: Mutex::new(None),
            job_number: AtomicU32::new(0),
            latency: Mutex::new(Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3)?),
            faults: Mutex::new(BTreeMap::new()),
        })
    }

    /// Nanoseconds since the run began; one clock for all threads.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Connections below this number are to be open.
    #[must_use]
    pub fn target(&self) -> u32 {
        self.target.load(Ordering::Acquire)
    }

    /// Says so.
    pub fn set_target(&self, connections: u32) {
        self.target.store(connections, Ordering::Release);
    }

    /// The threads end.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// Whether they do.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Begins a job a tenth of a second from now: its number. What was measured of the last one is forgotten.
    pub fn begin(&self, mut job: Job) -> u32 {
        let number = self.job_number.load(Ordering::Acquire) + 1;
        job.number = number;
        job.first_ns = self.now_ns() + 100_000_000;
        self.latency().reset();
        self.delivered.store(0, Ordering::Release);
        self.said.store(0, Ordering::Release);
        *lock(&self.job) = Some(job);
        self.job_number.store(number, Ordering::Release);
        number
    }

    /// The number of the present job; 0: none yet.
    #[must_use]
    pub fn job_number(&self) -> u32 {
        self.job_number.load(Ordering::Acquire)
    }

    /// The present job.
    #[must_use]
    pub fn job(&self) -> Option<Job> {
        *lock(&self.job)
    }

    /// Latencies of the present job, nanoseconds.
    pub fn latency(&self) -> MutexGuard<'_, Histogram<u64>> {
        lock(&self.latency)
    }

    /// Notes what went wrong.
    pub fn fault(&self, words: String) {
        let mut faults = lock(&self.faults);
        if faults.len() < 20 || faults.contains_key(&words) {
            *faults.entry(words).or_default() += 1;
        }
    }

    /// What went wrong, and how often.
    #[must_use]
    pub fn faults(&self) -> BTreeMap<String, u64> {
        lock(&self.faults).clone()
    }

    /// A time until an instant of the run.
    #[must_use]
    pub fn until(&self, at_ns: u64) -> Duration {
        Duration::from_nanos(at_ns.saturating_sub(self.now_ns()))
    }
}

/// What a thread that panicked left is still numbers.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
