//! A new generation of `chat-messages`, or of `delivery`, while the driver runs.

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
use hawser_protocol::record::DeliveryRecord;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const GROWN: u32 = PARTITIONS * 2;
const DM: &str = "dm:alice:bob";

/// One topic is in another log once it is switched; everything else stays where it was.
struct Switched {
    topic: Topic,
    before: Arc<dyn Log>,
    after: Arc<dyn Log>,
    /// The one before takes no more records.
    fenced: AtomicBool,
    now: AtomicBool,
}

impl Switched {
    fn of(&self, topic: Topic) -> &Arc<dyn Log> {
        match topic == self.topic && self.now.load(Ordering::SeqCst) {
            true => &self.after,
            false => &self.before,
        }
    }

    fn new(topic: Topic, rig: &Rig, grown: &EmbeddedEngine) -> Arc<Self> {
        Arc::new(Self {
            topic,
            before: rig.log.clone(),
            after: grown.log(),
            fenced: AtomicBool::new(false),
            now: AtomicBool::new(false),
        })
    }
}

fn grown(dir: &std::path::Path) -> EmbeddedEngine {
    let mut config = EmbeddedConfig::new(dir);
    config.partitions = GROWN;
    config.durability = Durability::Os;
    config.disk_reserve_bytes = 0;
    EmbeddedEngine::open(config).unwrap()
}

/// Whether so many records of the chat are done.
fn done(log: &dyn Log, of: u64) -> bool {
    let at = partition(DM, log.partitions(Topic::ChatMessages));
    let committed = log.committed(INGEST_GROUP, Topic::ChatMessages, at);
    committed.unwrap().unwrap_or(0) == of
}

impl Log for Switched {
    fn produce(
        &self,
        record: Produce,
        tag: u64,
        done: &Arc<dyn Appended>,
    ) -> Result<(), ProduceError> {
        let old = record.topic == self.topic && !self.now.load(Ordering::SeqCst);
        if old && self.fenced.load(Ordering::SeqCst) {
            return Err(ProduceError::Refused {
                reason: "it is being grown".to_owned(),
                retry_after_ms: 1_000,
            });
        }
        self.of(record.topic).produce(record, tag, done)
    }
    fn partitions(&self, topic: Topic) -> u32 {
        self.of(topic).partitions(topic)
    }
    fn generation(&self, topic: Topic) -> u16 {
        1 + u16::from(topic == self.topic && self.now.load(Ordering::SeqCst))
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
    let grown = grown(dir.path());
    let log = Switched::new(Topic::ChatMessages, &rig, &grown);
    let store = Arc::new(MemoryStore::default());
    let mut config = DriverConfig::from(CONFIG);
    config.threads = 3;
    let driver = Driver::start(log.clone(), store.clone(), rig.directory.clone(), config).unwrap();
    append(&*log, 0..50);
    until("the old is drained", || done(&*log, 50));
    log.now.store(true, Ordering::SeqCst);
    // Thirty that were sent before, without a word of it, and thirty new ones.
    append(&*log, 20..80);
    until("the new is done", || done(&*log, 60));
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

#[test]
fn what_delivery_refused_before_it_grew_goes_to_the_partitions_that_it_has_then() {
    let rig = Rig::plain();
    let dir = tempfile::tempdir().unwrap();
    let grown = grown(dir.path());
    let log = Switched::new(Topic::Delivery, &rig, &grown);
    let store = Arc::new(MemoryStore::default());
    let mut config = DriverConfig::from(CONFIG);
    config.threads = 3;
    let driver = Driver::start(log.clone(), store, rig.directory.clone(), config).unwrap();
    append(&*log, 0..50);
    until("all is delivered", || done(&*log, 50));
    log.fenced.store(true, Ordering::SeqCst);
    append(&*log, 50..80);
    until("it waits", || driver.trouble().is_some());
    log.now.store(true, Ordering::SeqCst);
    until("it goes on", || done(&*log, 80));
    driver.stop();
    let of = |log: &dyn Log, at| {
        let all = log.read(Topic::Delivery, at, 0, 1_000, 16 << 20).unwrap();
        let all = all
            .iter()
            .map(|r| DeliveryRecord::decode(&r.value).unwrap());
        all.map(|record| record.source_seq.offset())
            .collect::<Vec<u64>>()
    };
    for (log, partitions, expected) in [
        (&log.before, PARTITIONS, 0..50),
        (&log.after, GROWN, 50..80),
    ] {
        let theirs = ["alice", "bob"].map(|user| partition(user, partitions));
        for at in 0..partitions {
            let found = of(&**log, at);
            match theirs.contains(&at) {
                true => assert_eq!(found, expected.clone().collect::<Vec<u64>>(), "{at}"),
                false => assert!(found.is_empty(), "nobody of the chat is in {at}"),
            }
        }
    }
}
