//! A new generation of `chat-messages` while the driver runs.

use crate::ingest::{Driver, DriverConfig};
use crate::rig::engine::{CONFIG, PARTITIONS, Rig, until};
use crate::rig::memory_store::MemoryStore;
use crate::rig::{chat, plain, sent};
use bytes::Bytes;
use hawser_engines::embedded::{Durability, EmbeddedConfig, EmbeddedEngine, INGEST_GROUP};
use hawser_engines::log::{
    AppendOutcome, Appended, Consumer, Log, Produce, ProduceError, ReadError, Record, Start, Topic,
    Wake, Watermarks,
};
use hawser_engines::store::Store;
use hawser_protocol::message::MessageRecord;
use hawser_protocol::partition::partition;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const GROWN: u32 = PARTITIONS * 2;
const DM: &str = "dm:alice:bob";

/// `chat-messages` is in another log once it is switched; everything else stays where it was.
struct Switched {
    before: Arc<dyn Log>,
    after: Arc<dyn Log>,
    now: AtomicBool,
}

impl Switched {
    fn of(&self, topic: Topic) -> &Arc<dyn Log> {
        match topic == Topic::ChatMessages && self.now.load(Ordering::SeqCst) {
            true => &self.after,
            false => &self.before,
        }
    }
}

impl Log for Switched {
    fn produce(
        &self,
        record: Produce,
        tag: u64,
        done: &Arc<dyn Appended>,
    ) -> Result<(), ProduceError> {
        self.of(record.topic).produce(record, tag, done)
    }
    fn partitions(&self, topic: Topic) -> u32 {
        self.of(topic).partitions(topic)
    }
    fn generation(&self, topic: Topic) -> u16 {
        1 + u16::from(topic == Topic::ChatMessages && self.now.load(Ordering::SeqCst))
    }
    fn consumer(
        &self,
        topic: Topic,
        partition: u32,
        start: Start,
        wake: Arc<dyn Wake>,
    ) -> Result<Box<dyn Consumer>, ReadError> {
        self.of(topic).consumer(topic, partition, start, wake)
    }
    fn read(
        &self,
        topic: Topic,
        partition: u32,
        from: u64,
        max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Record>, ReadError> {
        self.of(topic).read(topic, partition, from, max, bytes_max)
    }
    fn watermarks(&self, topic: Topic, partition: u32) -> Result<Watermarks, ReadError> {
        self.of(topic).watermarks(topic, partition)
    }
    fn commit(&self, group: &str, topic: Topic, at: u32, next: u64) -> Result<(), ReadError> {
        self.of(topic).commit(group, topic, at, next)
    }
    fn committed(&self, group: &str, topic: Topic, at: u32) -> Result<Option<u64>, ReadError> {
        self.of(topic).committed(group, topic, at)
    }
    fn writable(&self) -> Result<(), String> {
        Ok(())
    }
}

struct Nobody;

impl Appended for Nobody {
    fn appended(&self, _tag: u64, _outcome: AppendOutcome) {}
}

fn append(log: &dyn Log, numbers: std::ops::Range<u16>) {
    let done: Arc<dyn Appended> = Arc::new(Nobody);
    for n in numbers {
        let source = sent("alice", plain(DM, n));
        let record = Produce {
            topic: Topic::ChatMessages,
            partition: partition(DM, log.partitions(Topic::ChatMessages)),
            key: Bytes::from_static(DM.as_bytes()),
            value: source.encode(),
            timestamp_ms: crate::rig::NOW_MS,
        };
        log.produce(record, 0, &done).unwrap();
    }
}

#[test]
fn g3_g4_a_chat_goes_on_in_the_next_generation_with_more_partitions() {
    let rig = Rig::plain();
    let dir = tempfile::tempdir().unwrap();
    let mut config = EmbeddedConfig::new(dir.path());
    config.partitions = GROWN;
    config.durability = Durability::Os;
    config.disk_reserve_bytes = 0;
    let grown = EmbeddedEngine::open(config).unwrap();
    let log = Arc::new(Switched {
        before: rig.log.clone(),
        after: grown.log(),
        now: AtomicBool::new(false),
    });
    let store = Arc::new(MemoryStore::default());
    let mut config = DriverConfig::from(CONFIG);
    config.threads = 3;
    let driver = Driver::start(log.clone(), store.clone(), rig.directory.clone(), config).unwrap();
    append(&*log, 0..50);
    let done = |of: u64| {
        let at = partition(DM, log.partitions(Topic::ChatMessages));
        let committed = log.committed(INGEST_GROUP, Topic::ChatMessages, at);
        committed.unwrap().unwrap_or(0) == of
    };
    until("the old is drained", || done(50));
    log.now.store(true, Ordering::SeqCst);
    // Thirty that were sent before, without a word of it, and thirty new ones.
    append(&*log, 20..80);
    until("the new is done", || done(60));
    let head = store.head(&chat(DM)).unwrap();
    assert_eq!((head.ordinal, head.seq.generation()), (80, 2));
    let mut before = 0;
    for row in store.rows().messages.values() {
        let record = MessageRecord::decode(&row.record).unwrap();
        assert_eq!(record.prev_seq.0, before);
        before = record.seq.0;
    }
    assert_eq!(driver.counters().read().duplicates, 30);
    // Threads without a record of it notice the new generation a moment later.
    until("every partition of the new is read", || {
        driver.lags().len() == GROWN as usize
    });
    driver.stop();
}
