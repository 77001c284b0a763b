//! Ingest against a log that is not embedded: a turn takes what the partitions have, judges it,
//! stores it, delivers it in order, and commits.
//!
//! Up to `in_flight_max` records are in flight. The store is written first, in one batch; then
//! delivery records are produced in offset order; when all are acknowledged, every partition's next
//! offset is committed. Whatever fails or times out ends the turn: memory is forgotten, and each
//! partition begins again from its last commit. Every step may be repeated, the store tells what is
//! a replay; nothing is ever skipped.

use super::{Core, IngestConfig, IngestCounters, Plan};
use hawser_engines::directory::Directory;
use hawser_engines::embedded::INGEST_GROUP;
use hawser_engines::log::{
    Appended, Consumer, Log, Produce, ProduceError, ReadError, Record, Start, Topic, Wake,
};
use hawser_engines::store::{Store, StoreOp};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long an idle thread sleeps at most: commits and reads are also tried without a wake.
const IDLE: Duration = Duration::from_millis(500);
/// First and longest wait before a partition begins again.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// How long a full producer queue is waited for, per look.
const REFUSED_WAIT: Duration = Duration::from_millis(5);

/// How a driver runs.
#[derive(Debug, Clone)]
pub struct DriverConfig {
    /// What plans depend on.
    pub ingest: IngestConfig,
    /// Threads; partition p belongs to thread p mod threads. Default 1, from 1 to 64.
    pub threads: u32,
    /// Records of one thread between the log and the commit. Default 1,024.
    pub in_flight_max: usize,
    /// How long delivery records may take to be acknowledged before the turn is given up.
    /// Default 30 s.
    pub produce_timeout: Duration,
}

impl DriverConfig {
    /// The defaults for a log.
    #[must_use]
    pub fn of(log: &dyn Log, cell: u8) -> Self {
        IngestConfig::of(log, cell).into()
    }
}

impl From<IngestConfig> for DriverConfig {
    fn from(ingest: IngestConfig) -> Self {
        Self {
            ingest,
            threads: 1,
            in_flight_max: 1_024,
            produce_timeout: Duration::from_secs(30),
        }
    }
}

/// Why a driver does not start.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// A setting is out of bounds: the operator's fault.
    #[error("{key} must be {rule}")]
    Setting {
        /// Which.
        key: &'static str,
        /// What it must be.
        rule: &'static str,
    },
    /// The system gives no thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// The running driver; dropping it stops it like [`Driver::stop`].
pub struct Driver {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    log: Arc<dyn Log>,
    store: Arc<dyn Store>,
    directory: Arc<dyn Directory>,
    config: DriverConfig,
    counters: Arc<IngestCounters>,
    stop: AtomicBool,
    bells: Vec<Arc<Bell>>,
    /// Why the last turn failed; `None` once one has succeeded.
    trouble: Mutex<Option<String>>,
}

impl Driver {
    /// Starts the threads.
    ///
    /// # Errors
    /// See [`DriverError`]. Engines that cannot be reached are no error: the driver waits for them.
    pub fn start(
        log: Arc<dyn Log>,
        store: Arc<dyn Store>,
        directory: Arc<dyn Directory>,
        config: impl Into<DriverConfig>,
    ) -> Result<Self, DriverError> {
        let config: DriverConfig = config.into();
        let bound = |ok: bool, key, rule| {
            if ok {
                Ok(())
            } else {
                Err(DriverError::Setting { key, rule })
            }
        };
        bound(
            (1..=64).contains(&config.threads),
            "threads",
            "from 1 to 64",
        )?;
        bound(config.in_flight_max > 0, "in_flight_max", "above 0")?;
        let threads = config.threads;
        let shared = Arc::new(Shared {
            log,
            store,
            directory,
            config,
            counters: Arc::default(),
            stop: AtomicBool::new(false),
            bells: (0..threads).map(|_| Arc::default()).collect(),
            trouble: Mutex::new(None),
        });
        let mut driver = Self {
            shared: Arc::clone(&shared),
            threads: Vec::new(),
        };
        for index in 0..threads {
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new()
                .name(format!("hawser-ingest-{index}"))
                .spawn(move || Worker { shared, index }.run())?;
            driver.threads.push(thread);
        }
        Ok(driver)
    }

    /// What it does, for metrics.
    #[must_use]
    pub fn counters(&self) -> Arc<IngestCounters> {
        Arc::clone(&self.shared.counters)
    }

    /// Why it makes no progress now, for readiness.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        lock(&self.shared.trouble).clone()
    }

    /// Ends the threads after their present turn; what is not committed is replayed next time.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.bells.iter().for_each(|bell| bell.ring());
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("an ingest thread panicked");
            }
        }
    }
}

/// Why a turn was given up.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("{0}")]
    Read(#[from] ReadError),
    #[error("{0}")]
    Store(#[from] hawser_engines::store::StoreError),
    #[error("{0}")]
    Directory(#[from] hawser_engines::directory::DirectoryError),
    #[error("{0}")]
    Produce(#[from] ProduceError),
    #[error("delivery records were not acknowledged in time")]
    Timeout,
    #[error("stopped")]
    Stopped,
}

/// One thread.
struct Worker {
    shared: Arc<Shared>,
    index: u32,
}

/// One partition as this thread reads it.
struct Source {
    partition: u32,
    consumer: Box<dyn Consumer>,
    committed: u64,
}

impl Worker {
    fn run(&self) {
        let mut wait = RETRY_FIRST;
        while !self.stopped() {
            let since = Instant::now();
            match self.session() {
                Ok(()) | Err(Failed::Stopped) => {}
                Err(error) => {
                    self.shared.counters.retried();
                    let reason = error.to_string();
                    tracing::error!(reason, "ingest begins again from its last commit");
                    *lock(&self.shared.trouble) = Some(reason);
                    if since.elapsed() > RETRY_MAX {
                        wait = RETRY_FIRST;
                    }
                    let until = Instant::now() + wait;
                    while !self.stopped() && Instant::now() < until {
                        self.bell().wait(until - Instant::now());
                    }
                    wait = (wait * 2).min(RETRY_MAX);
                }
            }
        }
    }

    /// From the last commits until something fails.
    fn session(&self) -> Result<(), Failed> {
        let shared = &self.shared;
        let generation = shared.log.generation(Topic::ChatMessages);
        let mut core = Core::new(shared.config.ingest, generation);
        let mut sources = self.sources()?;
        while !self.stopped() {
            let taken = self.take(&mut sources)?;
            if taken.is_empty() {
                *lock(&shared.trouble) = None;
                self.bell().wait(IDLE);
                continue;
            }
            self.turn(&mut core, &taken)?;
            for source in &mut sources {
                let next = source.consumer.position();
                if next != source.committed {
                    shared
                        .log
                        .commit(INGEST_GROUP, Topic::ChatMessages, source.partition, next)?;
                    source.committed = next;
                }
            }
            core.committed();
            *lock(&shared.trouble) = None;
        }
        Ok(())
    }

    fn sources(&self) -> Result<Vec<Source>, Failed> {
        let (log, config) = (&self.shared.log, &self.shared.config);
        let mine =
            (0..config.ingest.source_partitions).filter(|p| p % config.threads == self.index);
        mine.map(|partition| {
            let topic = Topic::ChatMessages;
            let committed = log.committed(INGEST_GROUP, topic, partition)?;
            let low = log.watermarks(topic, partition)?.low;
            if let Some(lost) = committed.filter(|c| *c < low) {
                tracing::error!(
                    partition,
                    from = lost,
                    to = low,
                    "records expired before ingest saw them"
                );
            }
            let from = committed.unwrap_or(low).max(low);
            let wake: Arc<dyn Wake> = self.bell().clone();
            Ok(Source {
                partition,
                consumer: log.consumer(topic, partition, Start::At(from), wake)?,
                committed: from,
            })
        })
        .collect()
    }

    /// What the partitions have, in offset order each, within the bound in all.
    fn take(&self, sources: &mut [Source]) -> Result<Vec<(u32, Record)>, Failed> {
        let max = self.shared.config.in_flight_max;
        // A fair share each, so that a busy partition does not starve the others.
        let share = max.div_ceil(sources.len().max(1));
        let mut taken = Vec::new();
        for most in [share, max] {
            for source in sources.iter_mut() {
                let room = most.min(max - taken.len());
                let partition = source.partition;
                source
                    .consumer
                    .poll(room, &mut |record| taken.push((partition, record)))?;
            }
        }
        Ok(taken)
    }

    fn turn(&self, core: &mut Core, taken: &[(u32, Record)]) -> Result<(), Failed> {
        let shared = &self.shared;
        let (mut ops, mut groups, mut produce): (Vec<StoreOp>, Vec<_>, Vec<Produce>) =
            Default::default();
        for (partition, record) in taken {
            let plan: Plan = core.judge(*partition, record, shared.store.as_ref())?;
            shared.counters.count(plan.verdict);
            ops.extend(plan.store);
            groups.extend(plan.groups);
            produce.extend(plan.produce);
        }
        // The view goes first: who finds the outcome in the store finds the group as well.
        for (group, seq) in &groups {
            shared.directory.apply_group(group, *seq)?;
        }
        shared.store.write(&ops)?;
        self.deliver(produce)
    }

    /// Produces in order and waits for all.
    fn deliver(&self, produce: Vec<Produce>) -> Result<(), Failed> {
        let until = Instant::now() + self.shared.config.produce_timeout;
        let acks = Arc::new(Acks::default());
        let done: Arc<dyn Appended> = acks.clone();
        let mut asked = 0;
        for record in produce {
            loop {
                match self.shared.log.produce(record.clone(), 0, &done) {
                    Ok(()) => break,
                    // Nothing after it was produced yet: waiting keeps the order.
                    Err(ProduceError::Refused { .. }) if Instant::now() < until => {
                        if self.stopped() {
                            return Err(Failed::Stopped);
                        }
                        std::thread::sleep(REFUSED_WAIT);
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            asked += 1;
        }
        acks.wait(asked, until)
    }

    fn bell(&self) -> &Arc<Bell> {
        &self.shared.bells[self.index as usize]
    }

    fn stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Acquire)
    }
}

/// Outcomes of one turn's produces.
#[derive(Default)]
struct Acks {
    state: Mutex<(usize, Option<ProduceError>)>,
    changed: Condvar,
}

impl Acks {
    fn wait(&self, asked: usize, until: Instant) -> Result<(), Failed> {
        let mut state = lock(&self.state);
        loop {
            if let Some(error) = state.1.take() {
                return Err(error.into());
            }
            if state.0 >= asked {
                return Ok(());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Failed::Timeout);
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Appended for Acks {
    fn appended(&self, _tag: u64, outcome: Result<u64, ProduceError>) {
        let mut state = lock(&self.state);
        match outcome {
            Ok(_) => state.0 += 1,
            Err(error) => state.1 = Some(error),
        }
        self.changed.notify_all();
    }
}

/// Wakes a thread.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    fn ring(&self) {
        *lock(&self.rung) = true;
        self.changed.notify_all();
    }

    fn wait(&self, timeout: Duration) {
        let rung = lock(&self.rung);
        let waited = self
            .changed
            .wait_timeout_while(rung, timeout, |rung| !*rung);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

impl Wake for Bell {
    fn wake(&self) {
        self.ring();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
