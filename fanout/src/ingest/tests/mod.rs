//! Facts of ingest, a file per topic.

mod crash;
mod drive;
mod generation;
mod giant;
mod groups;
mod lanes;
mod messages;
mod pipeline;
mod references;
mod shared;

use crate::ingest::{Core, IngestConfig, Plan, Verdict};
use crate::rig::engine::{CONFIG, PARTITIONS};
use crate::rig::memory_store::MemoryStore;
use crate::rig::{at, deliveries, gist};
use hawser_engines::log::Record;
use hawser_engines::store::Store;
use hawser_protocol::codes::ErrorCode;
use hawser_protocol::partition::partition;
use hawser_protocol::record::SourceRecord;

/// A core over a store in memory, with the next offset of every partition.
struct Bench {
    core: Core,
    store: MemoryStore,
    next: Vec<u64>,
}

impl Bench {
    fn new() -> Self {
        Self::with(CONFIG)
    }

    fn with(config: IngestConfig) -> Self {
        Self {
            core: Core::new(config, 1),
            store: MemoryStore::default(),
            next: vec![10; PARTITIONS as usize],
        }
    }

    /// Places a record without judging it.
    fn place(&mut self, source: &SourceRecord) -> (u32, Record) {
        let partition = partition(source.chat().as_str(), PARTITIONS);
        let next = &mut self.next[partition as usize];
        *next += 1;
        (partition, at(*next - 1, source))
    }

    /// Judges a record and writes what it came to.
    fn take(&mut self, source: &SourceRecord) -> Plan {
        let (partition, record) = self.place(source);
        let plan = self.core.judge(partition, &record, &self.store).unwrap();
        self.store.write(&plan.store).unwrap();
        self.core.committed();
        plan
    }

    /// As `take`: the code it is refused with, `None` when it is not.
    fn refusal(&mut self, source: &SourceRecord) -> Option<ErrorCode> {
        match self.take(source).verdict {
            Verdict::Rejected(code) => Some(code),
            _ => None,
        }
    }
}

/// What a plan delivers, in words.
fn told(plan: &Plan) -> Vec<String> {
    let all = deliveries(&plan.produce);
    all.iter().map(|(_, record)| gist(record)).collect()
}
