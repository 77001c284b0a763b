//! What the commit thread, the readers and the handles share.

use super::config::EmbeddedConfig;
use super::ephemeral::Ring;
use super::feed::{Feed, Refill};
use super::queue::Queue;
use super::stats::Counters;
use super::tables::Tables;
use crate::log::{ReadError, Topic, Watermarks};
use ahash::AHashMap;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// A partition of a topic, as readers see it.
pub(super) struct Partition {
    low: AtomicU64,
    high: AtomicU64,
    /// Live consumers.
    pub(super) feeds: Mutex<Vec<Arc<Feed>>>,
    /// Records of an ephemeral topic; unused in durable ones.
    pub(super) ring: Mutex<Ring>,
}

impl Partition {
    pub(super) fn watermarks(&self) -> Watermarks {
        // `low` first: it never passes the `high` that is read after it.
        let low = self.low.load(Ordering::Acquire);
        Watermarks {
            low,
            high: self.high.load(Ordering::Acquire).max(low),
        }
    }

    pub(super) fn publish(&self, low: u64, high: u64) {
        self.high.store(high, Ordering::Release);
        self.low.store(low, Ordering::Release);
    }
}

/// A topic.
pub(super) struct TopicState {
    pub(super) generation: AtomicU16,
    pub(super) partitions: Vec<Partition>,
}

/// Positions of consumer groups. In memory at once, on disk with the next commit.
#[derive(Default)]
pub(super) struct Positions {
    pub(super) rows: AHashMap<PositionKey, u64>,
    pub(super) dirty: Vec<PositionKey>,
}

/// Whose position, where.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct PositionKey {
    pub(super) group: Arc<str>,
    pub(super) topic: Topic,
    pub(super) partition: u32,
}

/// The shared core.
pub(super) struct Core {
    pub(super) config: EmbeddedConfig,
    /// `None` while the database is closed or opened anew.
    tables: RwLock<Option<Arc<Tables>>>,
    pub(super) queue: Queue,
    topics: Vec<TopicState>,
    pub(super) counters: Counters,
    /// Why appends are refused now; `None` when they are not.
    down: RwLock<Option<Arc<str>>>,
    pub(super) positions: Mutex<Positions>,
    pub(super) refill: Sender<Refill>,
}

/// Locks, also after a panic of another holder: the data are plain and stay usable.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Core {
    pub(super) fn new(config: EmbeddedConfig, refill: Sender<Refill>) -> Self {
        let partition = || Partition {
            low: AtomicU64::new(0),
            high: AtomicU64::new(0),
            feeds: Mutex::default(),
            ring: Mutex::default(),
        };
        let topics = Topic::ALL
            .iter()
            .map(|_| TopicState {
                generation: AtomicU16::new(1),
                partitions: (0..config.partitions).map(|_| partition()).collect(),
            })
            .collect();
        Self {
            tables: RwLock::default(),
            queue: Queue::new(config.queue_records_max, config.queue_bytes_max),
            topics,
            counters: Counters::default(),
            down: RwLock::default(),
            positions: Mutex::default(),
            refill,
            config,
        }
    }

    /// The database, or why it cannot be asked now. Do not keep it beyond one call.
    pub(super) fn tables(&self) -> Result<Arc<Tables>, String> {
        let guard = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        guard.clone().ok_or_else(|| {
            self.down()
                .map_or_else(|| "the engine is closed".to_owned(), |r| r.to_string())
        })
    }

    pub(super) fn set_tables(&self, tables: Option<Arc<Tables>>) -> Option<Arc<Tables>> {
        let mut guard = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut guard, tables)
    }

    pub(super) fn topic(&self, topic: Topic) -> &TopicState {
        &self.topics[topic as usize]
    }

    /// `None` when there is no such partition.
    pub(super) fn partition(&self, topic: Topic, partition: u32) -> Option<&Partition> {
        self.topic(topic).partitions.get(partition as usize)
    }

    /// As `partition`, for readers.
    pub(super) fn existing(&self, topic: Topic, partition: u32) -> Result<&Partition, ReadError> {
        self.partition(topic, partition)
            .ok_or_else(|| ReadError::Unavailable {
                reason: format!("{} has no partition {partition}", topic.name()),
            })
    }

    pub(super) fn down(&self) -> Option<Arc<str>> {
        let guard = self.down.read().unwrap_or_else(PoisonError::into_inner);
        guard.clone()
    }

    pub(super) fn set_down(&self, reason: Option<&str>) {
        let mut guard = self.down.write().unwrap_or_else(PoisonError::into_inner);
        *guard = reason.map(Arc::from);
    }

    pub(super) fn now_ms(&self) -> u64 {
        (self.config.clock)()
    }
}
