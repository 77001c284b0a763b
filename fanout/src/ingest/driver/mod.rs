//! Ingest against a log that is not embedded: a pipeline per partition of `chat-messages`.
//!
//! What the partition has is read; what judging will need of the store is asked for at once; the records are judged
//! in order; their rows are written, many writes at a time; what is to be delivered leaves in offset order, each
//! record once it and all before it are stored; the position up to which everything is done is committed five times
//! a second. Up to `in_flight_max` records of a partition are between the first step and the last, and no partition
//! waits for another.
//!
//! A write, a question or a commit that fails is repeated as it is: while the store is away, everything waits. An
//! append that fails or is not acknowledged in time ends the session of its partition: memory is forgotten, and it
//! begins again from its last commit. Every step may be repeated, the store tells what is a replay; nothing is ever
//! skipped.

mod bell;
mod bodies;
mod errands;
mod hot;
mod known;
mod pipe;
mod recall;
mod share;
mod source;
mod stages;
mod worker;
mod writes;

pub use hot::{HotBounds, HotChat};
pub use share::IngestShare;
pub use stages::{Stage, StageTimes};

use super::{IngestConfig, IngestCounters, MemoryBounds};
use bell::{Bell, lock};
use errands::Errands;
use hawser_engines::directory::Directory;
use hawser_engines::log::{Log, Topic};
use hawser_engines::store::Store;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use worker::Worker;

/// Between two looks at the ends of the partitions.
const ENDS_EVERY: Duration = Duration::from_secs(1);
/// How long what is on its way is waited for at the end, or when its partition becomes another's. What is not done by
/// then is seen again.
const DRAIN: Duration = Duration::from_secs(5);
/// Threads for calls that block.
const ERRAND_THREADS: u32 = 8;
/// What the memories of all partitions keep together: some 400 MiB when all is full.
const HEADS_MAX: usize = 524_288;
const MEMBERS_MAX: usize = 400_000;
const IDS_MAX: usize = 1_048_576;
/// What each keeps at least.
const SHARE_MIN: usize = 4_096;

/// How a driver runs.
#[derive(Debug, Clone)]
pub struct DriverConfig {
    /// What plans depend on; the partitions of `chat-messages` are the log's, whatever is said here.
    pub ingest: IngestConfig,
    /// Threads; partition p belongs to thread p mod threads. Default 1, from 1 to 64.
    pub threads: u32,
    /// Records of one partition between the log and the commit. Default 1,024.
    pub in_flight_max: usize,
    /// How long delivery records may take to be acknowledged before a partition begins again from its last commit.
    /// Default 30 s.
    pub produce_timeout: Duration,
    /// From when on a chat is called hot.
    pub hot: HotBounds,
    /// What is ingested here, where several share the work; `None`: everything. Default `None`.
    pub share: Option<IngestShare>,
}

impl DriverConfig {
    /// The defaults for a log.
    #[must_use]
    pub fn of(log: &dyn Log, cell: u8) -> Self {
        IngestConfig::of(log, cell).into()
    }

    fn check(&self) -> Result<(), DriverError> {
        let bound = |ok: bool, key, rule| {
            if ok {
                Ok(())
            } else {
                Err(DriverError::Setting { key, rule })
            }
        };
        bound((1..=64).contains(&self.threads), "threads", "from 1 to 64")?;
        bound(self.in_flight_max > 0, "in_flight_max", "above 0")
    }
}

impl From<IngestConfig> for DriverConfig {
    fn from(ingest: IngestConfig) -> Self {
        Self {
            ingest,
            threads: 1,
            in_flight_max: 1_024,
            produce_timeout: Duration::from_secs(30),
            hot: HotBounds::default(),
            share: None,
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
    bells: Vec<Arc<Bell>>,
    threads: Vec<JoinHandle<()>>,
}

/// How a partition stands.
#[derive(Debug, Clone, Copy, Default)]
struct Standing {
    committed: u64,
    end: Option<u64>,
    oldest_ms: Option<u64>,
}

struct Shared {
    log: Arc<dyn Log>,
    store: Arc<dyn Store>,
    directory: Arc<dyn Directory>,
    config: DriverConfig,
    counters: Arc<IngestCounters>,
    /// Questions to the store. Apart from all others: messages wait for them.
    questions: Errands,
    /// Calls to the log: while a group's coordinator moves, commits wait for seconds.
    calls: Errands,
    /// Groups that changed, to the directory, which may be away.
    changes: Errands,
    stages: stages::Stages,
    stop: AtomicBool,
    /// Numbers of sessions.
    sessions: AtomicU64,
    generation: AtomicU16,
    /// Why partitions make no progress now.
    troubles: Mutex<BTreeMap<u32, String>>,
    standings: Mutex<BTreeMap<u32, Standing>>,
    /// When the ends were looked at last.
    ends_at: Mutex<Option<Instant>>,
    hot: Mutex<BTreeMap<u32, Vec<HotChat>>>,
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
        config.check()?;
        let threads = config.threads;
        let shared = Arc::new(Shared {
            log,
            store,
            directory,
            config,
            counters: Arc::default(),
            questions: Errands::start("ask", ERRAND_THREADS)?,
            calls: Errands::start("log", ERRAND_THREADS)?,
            changes: Errands::start("groups", ERRAND_THREADS)?,
            stages: stages::Stages::default(),
            stop: AtomicBool::new(false),
            sessions: AtomicU64::new(1),
            generation: AtomicU16::new(0),
            troubles: Mutex::default(),
            standings: Mutex::default(),
            ends_at: Mutex::default(),
            hot: Mutex::default(),
        });
        let mut driver = Self {
            shared: Arc::clone(&shared),
            bells: (0..threads).map(|_| Arc::default()).collect(),
            threads: Vec::new(),
        };
        if let Some(share) = &shared.config.share {
            share.ring(&driver.bells);
        }
        for index in 0..threads {
            let worker = Worker {
                shared: Arc::clone(&shared),
                bell: Arc::clone(&driver.bells[index as usize]),
                index,
            };
            let thread = std::thread::Builder::new()
                .name(format!("hawser-ingest-{index}"))
                .spawn(move || worker.run())?;
            driver.threads.push(thread);
        }
        Ok(driver)
    }

    /// What it does, for metrics.
    #[must_use]
    pub fn counters(&self) -> Arc<IngestCounters> {
        Arc::clone(&self.shared.counters)
    }

    /// Why it makes no progress now, for readiness; of the first partition that does not.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let share = self.shared.config.share.as_ref();
        if share.is_some_and(|share| !share.is_in_place()) {
            return Some("it has no place among the others: its beats do not come back".to_owned());
        }
        let troubles = lock(&self.shared.troubles);
        let (partition, reason) = troubles.first_key_value()?;
        Some(format!("partition {partition}: {reason}"))
    }

    /// By partition: records that are not committed, as of the last second, and the time, milliseconds since 1970, of
    /// the oldest that is here and not done.
    #[must_use]
    pub fn lags(&self) -> Vec<(u32, u64, Option<u64>)> {
        let standings = lock(&self.shared.standings);
        let lag = |s: &Standing| s.end.map_or(0, |end| end.saturating_sub(s.committed));
        let all = standings.iter();
        all.map(|(partition, s)| (*partition, lag(s), s.oldest_ms))
            .collect()
    }

    /// Chats that took more than their share of a partition in its last ten seconds.
    #[must_use]
    pub fn hot(&self) -> Vec<HotChat> {
        let all = lock(&self.shared.hot);
        all.values().flatten().cloned().collect()
    }

    /// How long records took from stage to stage.
    #[must_use]
    pub fn stages(&self) -> Vec<StageTimes> {
        self.shared.stages.read()
    }

    /// Reads no more, waits some seconds for what is on its way, and commits; what is not done by then is replayed next
    /// time.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.bells.iter().for_each(|bell| bell.ring());
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("an ingest thread panicked");
            }
        }
    }
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Whether this is the first to begin with a generation.
    fn began(&self, generation: u16) -> bool {
        let first = self.generation.swap(generation, Ordering::AcqRel) != generation;
        if first {
            lock(&self.standings).clear();
            lock(&self.troubles).clear();
        }
        first
    }

    /// What the memory of one of so many partitions may keep.
    fn bounds(&self, partitions: u32) -> MemoryBounds {
        let share = |all: usize| (all / (partitions.max(1) as usize)).max(SHARE_MIN);
        MemoryBounds {
            heads_max: share(HEADS_MAX),
            members_max: share(MEMBERS_MAX),
            ids_max: share(IDS_MAX).max(self.config.in_flight_max),
        }
    }

    /// A partition is another's: nothing is known of it.
    fn forget(&self, partition: u32) {
        lock(&self.standings).remove(&partition);
        lock(&self.troubles).remove(&partition);
        lock(&self.hot).remove(&partition);
    }

    fn show(&self, partition: u32, committed: u64, oldest_ms: Option<u64>) {
        let mut standings = lock(&self.standings);
        let standing = standings.entry(partition).or_default();
        (standing.committed, standing.oldest_ms) = (committed, oldest_ms);
    }

    /// Looks at the ends once a second, whichever thread comes first.
    fn look_at_ends(self: &Arc<Self>, now: Instant) {
        let mut at = lock(&self.ends_at);
        if at.is_some_and(|at| now < at + ENDS_EVERY) {
            return;
        }
        *at = Some(now);
        drop(at);
        let shared = Arc::clone(self);
        self.calls.run(move || {
            // The log's trouble is told by whoever reads from it.
            let Ok(ends) = shared.log.ends(Topic::ChatMessages) else {
                return;
            };
            let mut standings = lock(&shared.standings);
            for (partition, end) in (0..).zip(ends) {
                if let Some(standing) = standings.get_mut(&partition) {
                    standing.end = Some(end);
                }
            }
        });
    }

    /// Names the chats that are hot now and were not before.
    fn found_hot(&self, partition: u32, found: Vec<HotChat>) {
        let mut hot = lock(&self.hot);
        let before = hot.remove(&partition).unwrap_or_default();
        for chat in &found {
            if !before.iter().any(|known| known.chat == chat.chat) {
                let share = format!("{:.0} %", chat.share * 100.0);
                let per_second = format!("{:.0}", chat.per_second);
                tracing::warn!(
                    chat = chat.chat,
                    partition,
                    share,
                    per_second,
                    "a hot chat: a group may be set to relaxed order"
                );
            }
        }
        if !found.is_empty() {
            hot.insert(partition, found);
        }
    }
}
