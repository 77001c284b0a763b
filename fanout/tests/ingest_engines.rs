//! Ingest between a real Kafka and a real Cassandra, cut off at any time and begun again: nothing is lost, nothing is
//! there twice, and the order is that of the log (G1 to G4). `dev/engines up kafka cassandra`, then
//! HAWSER_TEST_KAFKA=127.0.0.1:9092 HAWSER_TEST_CASSANDRA=127.0.0.1:9042.
#![cfg(feature = "engines")]
#![expect(clippy::unwrap_used, reason = "a test may panic, its makers too")]

use bytes::Bytes;
use hawser_engines::bridge::Bridge;
use hawser_engines::cassandra::{CassandraConfig, CassandraStore, Replication};
use hawser_engines::embedded::{Durability, EmbeddedConfig, EmbeddedEngine, INGEST_GROUP};
use hawser_engines::kafka::{KafkaConfig, KafkaLog};
use hawser_engines::log::{
    AppendOutcome, Appended, Consumer, Log, Produce, ProduceError, ReadError, Record, Start, Topic,
    Wake, Watermarks,
};
use hawser_engines::store::{Page, Store};
use hawser_fanout::ingest::{Driver, DriverConfig};
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, UserId};
use hawser_protocol::message::{MessageRecord, MessageType, Send};
use hawser_protocol::partition::partition;
use hawser_protocol::record::{DeliveryKind, DeliveryRecord, SourceRecord};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const PARTITIONS: u32 = 4;
const ROUNDS: u16 = 6;
const PER_ROUND: u16 = 60;
const PATIENCE: Duration = Duration::from_secs(120);

/// A log that a process which is cut off reaches no more: what it appends and commits then is lost.
struct Cut {
    log: Arc<dyn Log>,
    off: AtomicBool,
}

impl Cut {
    fn off(&self) -> bool {
        self.off.load(Ordering::SeqCst)
    }
}

impl Log for Cut {
    fn produce(
        &self,
        record: Produce,
        tag: u64,
        done: &Arc<dyn Appended>,
    ) -> Result<(), ProduceError> {
        if self.off() {
            return Err(ProduceError::Unknown {
                reason: "cut off".to_owned(),
            });
        }
        self.log.produce(record, tag, done)
    }
    fn commit(&self, group: &str, topic: Topic, at: u32, next: u64) -> Result<(), ReadError> {
        if self.off() {
            return Err(ReadError::Unavailable {
                reason: "cut off".to_owned(),
            });
        }
        self.log.commit(group, topic, at, next)
    }
    fn partitions(&self, topic: Topic) -> u32 {
        self.log.partitions(topic)
    }
    fn generation(&self, topic: Topic) -> u16 {
        self.log.generation(topic)
    }
    fn consumer(
        &self,
        topic: Topic,
        at: u32,
        start: Start,
        wake: Arc<dyn Wake>,
    ) -> Result<Box<dyn Consumer>, ReadError> {
        self.log.consumer(topic, at, start, wake)
    }
    fn read(
        &self,
        topic: Topic,
        at: u32,
        from: u64,
        max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Record>, ReadError> {
        self.log.read(topic, at, from, max, bytes_max)
    }
    fn watermarks(&self, topic: Topic, at: u32) -> Result<Watermarks, ReadError> {
        self.log.watermarks(topic, at)
    }
    fn committed(&self, group: &str, topic: Topic, at: u32) -> Result<Option<u64>, ReadError> {
        self.log.committed(group, topic, at)
    }
    fn writable(&self) -> Result<(), String> {
        self.log.writable()
    }
}

struct Outcomes(Mutex<Sender<AppendOutcome>>);

impl Appended for Outcomes {
    fn appended(&self, _tag: u64, outcome: AppendOutcome) {
        let _ = self.0.lock().unwrap().send(outcome);
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

fn kafka(brokers: &str) -> Arc<dyn Log> {
    let mut config = KafkaConfig::new(brokers);
    config.prefix = format!("ingest-{}-{}.", std::process::id(), now_ms());
    config.partitions = PARTITIONS;
    config.replication = 1;
    config.min_insync = 1;
    config.allow_unsafe = true;
    Arc::new(KafkaLog::open(config).unwrap())
}

fn cassandra(nodes: &str) -> Arc<dyn Store> {
    let nodes = nodes.split(',').map(str::to_owned).collect();
    let mut config = CassandraConfig::new(nodes);
    config.keyspace = format!("ingest_{}_{}", std::process::id(), now_ms() % 1_000_000);
    config.replication = Replication::Copies(1);
    config.allow_unsafe = true;
    let bridge = Bridge::start("cassandra-test").unwrap();
    Arc::new(CassandraStore::open(config, bridge).unwrap())
}

/// Message `n` of a chat, stamped now.
fn message(chat: &ChatId, n: u16, stamped_ms: u64) -> SourceRecord {
    let mut random = [7; 10];
    random[8..].copy_from_slice(&n.to_be_bytes());
    SourceRecord::Send {
        sender: UserId::new("alice").unwrap(),
        device: DeviceId::new("phone").unwrap(),
        send: Box::new(Send {
            client_msg_id: ClientMsgId::new(stamped_ms, random),
            send_ts_ms: stamped_ms,
            message_type: MessageType::TEXT,
            retry: false,
            chat: chat.clone(),
            body: Bytes::from(format!("m{n}")),
            envelopes: Vec::new(),
        }),
    }
}

fn append(log: &dyn Log, records: &[SourceRecord]) {
    let (sender, outcomes) = channel();
    let done: Arc<dyn Appended> = Arc::new(Outcomes(Mutex::new(sender)));
    for source in records {
        let chat = source.chat().as_str();
        let record = Produce {
            topic: Topic::ChatMessages,
            partition: partition(chat, PARTITIONS),
            key: Bytes::copy_from_slice(chat.as_bytes()),
            value: source.encode(),
            timestamp_ms: now_ms(),
        };
        log.produce(record, 0, &done).unwrap();
    }
    for _ in records {
        outcomes.recv_timeout(PATIENCE).unwrap().unwrap();
    }
}

fn all_committed(log: &dyn Log) -> bool {
    (0..PARTITIONS).all(|at| {
        let end = log.watermarks(Topic::ChatMessages, at).unwrap().high;
        let done = log.committed(INGEST_GROUP, Topic::ChatMessages, at);
        done.unwrap().unwrap_or(0) == end
    })
}

/// Dense ordinals, a chain of seqs, each id once.
fn check_store(store: &dyn Store, chat: &ChatId, count: u64) {
    let page = Page {
        from: 1,
        to: count + 10,
        backwards: false,
        limit: usize::from(u16::MAX),
        bytes_max: usize::MAX,
    };
    let rows = store.messages(chat, page).unwrap();
    let (mut before, mut ids) = (0, BTreeSet::new());
    for (n, row) in (1..).zip(&rows) {
        let record = MessageRecord::decode(&row.record).unwrap();
        assert_eq!((row.ordinal, record.ordinal), (n, n), "{chat}");
        assert_eq!(record.prev_seq.0, before, "{chat} at {n}");
        assert!(ids.insert(record.client_msg_id.0), "an id twice in {chat}");
        before = record.seq.0;
    }
    assert_eq!(rows.len() as u64, count, "{chat}");
    let head = store.head(chat).unwrap();
    assert_eq!((head.ordinal, head.seq.0), (count, before), "{chat}");
}

/// What an edge that keeps a mark per source partition hands on, by chat.
fn delivered(log: &dyn Log) -> BTreeMap<String, Vec<u64>> {
    let mut seen = BTreeMap::<String, Vec<u64>>::new();
    for at in 0..log.partitions(Topic::Delivery) {
        let (mut marks, mut next) = (BTreeMap::new(), 0);
        let end = log.watermarks(Topic::Delivery, at).unwrap().high;
        while next < end {
            let records = log
                .read(Topic::Delivery, at, next, 4_096, 16 << 20)
                .unwrap();
            for record in records {
                next = record.offset + 1;
                let delivery = DeliveryRecord::decode(&record.value).unwrap();
                let mark = marks.entry(delivery.source_partition).or_insert((0, 0));
                let place = (delivery.source_seq.0, delivery.sub_index);
                if place <= *mark {
                    continue;
                }
                *mark = place;
                if let DeliveryKind::Message {
                    record,
                    sender_entry: Some(_),
                    ..
                } = &delivery.kind
                {
                    let message = MessageRecord::decode(record).unwrap();
                    let chat = seen.entry(message.chat.to_string()).or_default();
                    chat.push(message.ordinal);
                }
            }
        }
    }
    seen
}

#[test]
fn g2_g3_g4_ingest_that_is_cut_off_at_any_time_loses_and_doubles_nothing() {
    let env = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (Some(brokers), Some(nodes)) = (env("HAWSER_TEST_KAFKA"), env("HAWSER_TEST_CASSANDRA"))
    else {
        println!("SKIPPED: set HAWSER_TEST_KAFKA and HAWSER_TEST_CASSANDRA (dev/engines)");
        return;
    };
    let (log, store) = (kafka(&brokers), cassandra(&nodes));
    let dir = tempfile::tempdir().unwrap();
    let mut settings = EmbeddedConfig::new(dir.path());
    settings.durability = Durability::Os;
    let engine = EmbeddedEngine::open(settings).unwrap();
    let chats: Vec<ChatId> = ["bob", "carol", "dave", "erin"]
        .map(|to| ChatId::new(&format!("dm:alice:{to}")).unwrap())
        .to_vec();
    let begin_ms = now_ms();
    for round in 0..ROUNDS {
        let cut = Arc::new(Cut {
            log: Arc::clone(&log),
            off: AtomicBool::new(false),
        });
        let config = DriverConfig::of(&*cut, 0);
        let driver = Driver::start(cut.clone(), store.clone(), engine.directory(), config).unwrap();
        for n in round * PER_ROUND..(round + 1) * PER_ROUND {
            let each = chats.iter().map(|chat| message(chat, n, begin_ms));
            append(&*log, &each.collect::<Vec<_>>());
        }
        // Some of the last round once more, as a client does that heard nothing.
        let again = (round * PER_ROUND / 2..round * PER_ROUND).step_by(3);
        let again: Vec<_> = again.map(|n| message(&chats[0], n, begin_ms)).collect();
        append(&*log, &again);
        std::thread::sleep(Duration::from_millis(u64::from(round) * 17));
        cut.off.store(true, Ordering::SeqCst);
        drop(driver);
    }
    let config = DriverConfig::of(&*log, 0);
    let driver = Driver::start(log.clone(), store.clone(), engine.directory(), config).unwrap();
    let since = Instant::now();
    while !all_committed(&*log) {
        assert!(since.elapsed() < PATIENCE, "{:?}", driver.trouble());
        std::thread::sleep(Duration::from_millis(50));
    }
    let count = u64::from(ROUNDS * PER_ROUND);
    let seen = delivered(&*log);
    for chat in &chats {
        check_store(&*store, chat, count);
        assert_eq!(
            seen[chat.as_str()],
            (1..=count).collect::<Vec<_>>(),
            "{chat}"
        );
    }
    println!(
        "retries {}, {:?}",
        driver.counters().read().retries,
        driver.stages()
    );
    driver.stop();
}
