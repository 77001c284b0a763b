//! An embedded engine in a temporary folder.

use super::NOW_MS;
use crate::ingest::{EmbeddedIngest, IngestConfig};
use bytes::Bytes;
use hawser_engines::directory::Directory;
use hawser_engines::embedded::{Durability, EmbeddedConfig, EmbeddedEngine};
use hawser_engines::log::{AppendOutcome, Appended, Log, Produce, Record, Topic};
use hawser_engines::store::Store;
use hawser_protocol::partition::partition;
use hawser_protocol::record::{DeliveryRecord, SourceRecord};
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Partitions of every topic.
pub(crate) const PARTITIONS: u32 = 4;
/// How long a test waits before it says that something does not happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Rig {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) engine: Option<EmbeddedEngine>,
    pub(crate) dir: tempfile::TempDir,
}

/// Without fsync: tests kill processes, not machines.
pub(crate) fn open(dir: &Path) -> EmbeddedEngine {
    let mut config = EmbeddedConfig::new(dir);
    config.partitions = PARTITIONS;
    config.durability = Durability::Os;
    config.disk_reserve_bytes = 0;
    EmbeddedEngine::open(config).unwrap()
}

pub(crate) const CONFIG: IngestConfig = IngestConfig {
    cell: 3,
    source_partitions: PARTITIONS,
    delivery_partitions: PARTITIONS,
    dead_letter_partitions: PARTITIONS,
    group_members_partitions: PARTITIONS,
    audit_partitions: PARTITIONS,
    shard_partitions: PARTITIONS,
    listed_max: 10_000,
    reference_bytes: 0,
};

impl Rig {
    /// With ingest in the commit.
    pub(crate) fn new() -> Self {
        let rig = Self::plain();
        let hook = Box::new(EmbeddedIngest::new(CONFIG));
        rig.engine.as_ref().unwrap().set_hook(hook).unwrap();
        rig
    }

    /// A plain log.
    pub(crate) fn plain() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let engine = open(dir.path());
        Self {
            log: engine.log(),
            store: engine.store(),
            directory: engine.directory(),
            engine: Some(engine),
            dir,
        }
    }

    /// Appends all, then waits for all; gives their offsets.
    pub(crate) fn append(&self, sources: &[SourceRecord]) -> Vec<u64> {
        let values = sources.iter().map(|s| (s.chat().as_str(), s.encode()));
        self.append_raw(values.collect())
    }

    pub(crate) fn append_raw(&self, records: Vec<(&str, Bytes)>) -> Vec<u64> {
        struct Outcomes(Mutex<Sender<(u64, AppendOutcome)>>);
        impl Appended for Outcomes {
            fn appended(&self, tag: u64, outcome: AppendOutcome) {
                let _ = self.0.lock().unwrap().send((tag, outcome));
            }
        }
        let (sender, outcomes) = channel();
        let done: Arc<dyn Appended> = Arc::new(Outcomes(Mutex::new(sender)));
        let mut offsets = vec![0; records.len()];
        for (tag, (chat, value)) in (0..).zip(records) {
            let record = Produce {
                topic: Topic::ChatMessages,
                partition: partition(chat, PARTITIONS),
                key: Bytes::copy_from_slice(chat.as_bytes()),
                value,
                timestamp_ms: NOW_MS,
            };
            self.log.produce(record, tag, &done).unwrap();
        }
        for _ in 0..offsets.len() {
            let (tag, outcome) = outcomes.recv_timeout(PATIENCE).unwrap();
            offsets[usize::try_from(tag).unwrap()] = outcome.unwrap().unwrap();
        }
        offsets
    }

    /// Everything in a topic, by partition.
    pub(crate) fn read(&self, topic: Topic) -> Vec<(u32, Record)> {
        let of = |p| {
            let all = self.log.read(topic, p, 0, 10_000, 64 << 20).unwrap();
            all.into_iter().map(move |record| (p, record))
        };
        (0..PARTITIONS).flat_map(of).collect()
    }

    pub(crate) fn delivered(&self) -> Vec<(u32, DeliveryRecord)> {
        let all = self.read(Topic::Delivery).into_iter();
        all.map(|(p, r)| (p, DeliveryRecord::decode(&r.value).unwrap()))
            .collect()
    }
}

/// Waits until something is so.
pub(crate) fn until(what: &str, so: impl Fn() -> bool) {
    let since = Instant::now();
    while !so() {
        assert!(since.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
