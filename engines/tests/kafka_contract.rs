//! The log port on a real Kafka: `dev/engines up kafka`, then HAWSER_TEST_KAFKA=127.0.0.1:9092.
//! Without that variable every test here says that it was skipped.
#![cfg(feature = "kafka")]
#![expect(clippy::unwrap_used, reason = "a test may panic, its makers too")]

mod support;

use hawser_engines::contract::log_suite;
use hawser_engines::kafka::{Compression, KafkaConfig, KafkaError, KafkaLog, Lag};
use hawser_engines::log::{Log, ReadError, Start, Topic};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::kafka::{brokers, config};
use support::{NoWake, PATIENCE, append, outcomes, read_all, record, values};

fn open(brokers: &str, test: &str) -> Arc<dyn Log> {
    Arc::new(KafkaLog::open(config(brokers, test)).unwrap())
}

#[test]
fn the_log_on_kafka_keeps_the_contract() {
    let Some(brokers) = brokers() else { return };
    let log = open(&brokers, "contract");
    log_suite(|| Arc::clone(&log));
}

/// Opening is refused as unsafe, and what is said names all these.
fn refused_as_unsafe(config: &KafkaConfig, parts: &[&str]) {
    let error = KafkaLog::open(config.clone()).err().unwrap();
    let KafkaError::Unsafe(found) = &error else {
        panic!("{error}");
    };
    assert!(found.iter().all(|f| !f.topic.contains("typing")), "{error}");
    let said = error.to_string();
    for part in parts {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
}

#[test]
fn unsafe_settings_refuse_to_start_and_name_the_setting_and_the_fix() {
    let Some(brokers) = brokers() else { return };
    let mut config = config(&brokers, "unsafe");
    config.replication = 1;
    config.min_insync = 1;
    config.allow_unsafe = false;
    let faults = [
        "chat-messages has replication factor = 1",
        "chat-messages has min.insync.replicas = 1",
        "allow_unsafe_log = true",
    ];
    refused_as_unsafe(&config, &faults);
    refused_as_unsafe(&config, &["Set replication = 3", "Set min_insync = 2"]);
    config.allow_unsafe = true;
    let log = KafkaLog::open(config.clone()).unwrap();
    assert_eq!(log.writable(), Ok(()));
    // A broker may be some moments late with the settings of a new topic.
    std::thread::sleep(Duration::from_secs(1));
    config.allow_unsafe = false;
    refused_as_unsafe(&config, &faults);
    refused_as_unsafe(&config, &["kafka-configs.sh", "min.insync.replicas=2"]);
}

#[test]
fn more_copies_than_brokers_cannot_be_made_and_the_way_out_is_named() {
    let Some(brokers) = brokers() else { return };
    let mut config = config(&brokers, "copies");
    config.replication = 9;
    let said = KafkaLog::open(config).err().unwrap().to_string();
    assert!(
        said.contains("fewer than 9 brokers") && said.contains("lower replication"),
        "{said}"
    );
}

#[test]
fn a_missing_topic_that_may_not_be_made_is_named() {
    let Some(brokers) = brokers() else { return };
    let mut config = config(&brokers, "missing");
    config.create_topics = false;
    let name = format!("{}chat-messages", config.prefix);
    let error = KafkaLog::open(config).err().unwrap();
    assert_eq!(error, KafkaError::NoTopic { name });
}

#[test]
fn a_kafka_that_is_not_there_is_an_error_that_names_the_brokers() {
    let mut config = KafkaConfig::new("127.0.0.1:9");
    config.call_timeout = Duration::from_secs(1);
    let began = Instant::now();
    let error = KafkaLog::open(config).err().unwrap();
    assert!(matches!(&error, KafkaError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("127.0.0.1:9"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn another_node_finds_the_same_topics_records_and_positions() {
    let Some(brokers) = brokers() else { return };
    let config = config(&brokers, "again");
    let first = KafkaLog::open(config.clone()).unwrap();
    for value in [b"a", b"b", b"c"] {
        append(&first, record(Topic::ChatMessages, 2, value)).unwrap();
    }
    first.commit("ingest", Topic::ChatMessages, 2, 2).unwrap();
    drop(first);
    let second = KafkaLog::open(config).unwrap();
    assert_eq!(second.partitions(Topic::ChatMessages), 4);
    assert_eq!(second.generation(Topic::ChatMessages), 1);
    assert_eq!(
        second.committed("ingest", Topic::ChatMessages, 2),
        Ok(Some(2))
    );
    assert_eq!(
        values(&second, Topic::ChatMessages, 2, 0),
        [b"a", b"b", b"c"]
    );
}

/// What retention does, at once.
fn delete_before(brokers: &str, topic: &str, partition: i32, before: i64) {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", brokers);
    let admin: AdminClient<DefaultClientContext> = client.create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(before))
        .unwrap();
    let options = AdminOptions::new();
    let deleted = admin.delete_records(&list, &options);
    wait(deleted).unwrap();
}

fn wait<T>(call: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut call = std::pin::pin!(call);
    loop {
        match call.as_mut().poll(&mut context) {
            std::task::Poll::Ready(value) => return value,
            std::task::Poll::Pending => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

#[test]
fn a_reader_that_retention_has_overtaken_is_told_the_bounds_and_seeks_on() {
    let Some(brokers) = brokers() else { return };
    let config = config(&brokers, "retention");
    let name = format!("{}delivery", config.prefix);
    let log = KafkaLog::open(config).unwrap();
    let (done, told) = outcomes();
    for n in 0..100_u64 {
        let value = n.to_string();
        log.produce(record(Topic::Delivery, 0, value.as_bytes()), n, &done)
            .unwrap();
    }
    for _ in 0..100 {
        told.recv_timeout(PATIENCE).unwrap().1.unwrap();
    }
    let wake = Arc::new(NoWake);
    let mut consumer = log
        .consumer(Topic::Delivery, 0, Start::At(10), wake)
        .unwrap();
    let poll = |consumer: &mut Box<dyn hawser_engines::log::Consumer>| {
        let until = Instant::now() + PATIENCE;
        loop {
            let mut first = None;
            match consumer.poll(1, &mut |record| first = Some(record.offset)) {
                Ok(0) => std::thread::sleep(Duration::from_millis(2)),
                Ok(_) => return Ok(first.unwrap()),
                Err(error) => return Err(error),
            }
            assert!(Instant::now() < until, "nothing comes");
        }
    };
    assert_eq!(poll(&mut consumer), Ok(10));
    delete_before(&brokers, &name, 0, 60);
    consumer.seek(20).unwrap();
    let outside = ReadError::OutOfRange {
        wanted: 20,
        low: 60,
        high: 100,
    };
    assert_eq!(poll(&mut consumer), Err(outside.clone()));
    assert_eq!(poll(&mut consumer), Err(outside.clone()), "until it seeks");
    assert_eq!(consumer.position(), 20);
    consumer.seek(60).unwrap();
    assert_eq!(poll(&mut consumer), Ok(60));
    assert_eq!(log.read(Topic::Delivery, 0, 20, 10, 1_000), Err(outside));
    assert_eq!(read_all(&log, Topic::Delivery, 0, 60).len(), 40);
    // At the low watermark when what was asked for is gone.
    let wake = Arc::new(NoWake);
    let consumer = log
        .consumer(Topic::Delivery, 0, Start::At(5), wake)
        .unwrap();
    assert_eq!(consumer.position(), 60);
}

/// Opening is refused, and what is said names all these.
fn refused(config: KafkaConfig, parts: &[&str]) {
    let said = KafkaLog::open(config).err().unwrap().to_string();
    for part in parts {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
}

#[test]
fn another_number_of_partitions_than_there_are_is_refused_and_names_the_key() {
    let Some(brokers) = brokers() else { return };
    let mut config = config(&brokers, "count");
    drop(KafkaLog::open(config.clone()).unwrap());
    config.partitions = 16;
    refused(config, &["chat-messages", "has 4", "log.partitions = 4"]);
}

#[test]
fn two_clusters_that_share_a_prefix_are_noticed_and_the_second_makes_nothing() {
    let Some(brokers) = brokers() else { return };
    let mut config = config(&brokers, "shared");
    config.cluster = "east".to_owned();
    let first = KafkaLog::open(config.clone()).unwrap();
    let id = first.cluster_id().to_owned();
    assert_eq!(id.len(), 36, "{id}");
    let again = KafkaLog::open(config.clone()).unwrap();
    assert_eq!(again.cluster_id(), id, "the same for every node");
    config.cluster = "west".to_owned();
    refused(config, &["log.prefix", "log.cluster", "east", "west", &id]);
}

#[test]
fn nodes_that_start_at_once_agree_on_the_cluster() {
    let Some(brokers) = brokers() else { return };
    let config = config(&brokers, "at-once");
    let opened: Vec<_> = (0..3)
        .map(|_| {
            let config = config.clone();
            std::thread::spawn(move || KafkaLog::open(config).unwrap())
        })
        .collect();
    let logs: Vec<_> = opened.into_iter().map(|t| t.join().unwrap()).collect();
    for log in &logs {
        assert_eq!(log.cluster_id(), logs[0].cluster_id());
    }
}

#[test]
fn topics_of_a_newer_version_are_refused() {
    let Some(brokers) = brokers() else { return };
    let config = config(&brokers, "newer");
    let log = KafkaLog::open(config.clone()).unwrap();
    let mut mark = record(
        Topic::Leases,
        0,
        br#"{"version":2,"layout":7,"id":"x","name":"hawser"}"#,
    );
    mark.key = bytes::Bytes::from_static(b"cluster");
    append(&log, mark).unwrap();
    drop(log);
    refused(config, &["layout 7", "newer version", "upgrade"]);
}

#[test]
fn leases_are_compacted_in_one_partition_and_every_topic_is_there() {
    let Some(brokers) = brokers() else { return };
    let log = KafkaLog::open(config(&brokers, "topics")).unwrap();
    for topic in Topic::ALL {
        let expected = if *topic == Topic::Leases { 1 } else { 4 };
        assert_eq!(log.partitions(*topic), expected, "{}", topic.name());
        let ends = log.ends(*topic).unwrap();
        assert_eq!(ends.len(), expected as usize, "{}", topic.name());
    }
    assert!(
        log.ends(Topic::Leases).unwrap()[0] > 0,
        "the cluster's record"
    );
}

#[test]
fn lags_are_between_what_is_committed_and_the_end() {
    let Some(brokers) = brokers() else { return };
    let log = KafkaLog::open(config(&brokers, "lags")).unwrap();
    for value in [b"a", b"b", b"c"] {
        append(&log, record(Topic::ChatMessages, 2, value)).unwrap();
    }
    let of = |lags: &[Lag]| lags.iter().map(Lag::records).collect::<Vec<_>>();
    assert_eq!(of(&log.lags().unwrap()), [0, 0, 3, 0]);
    log.commit("ingest", Topic::ChatMessages, 2, 2).unwrap();
    let lags = log.lags().unwrap();
    assert_eq!(of(&lags), [0, 0, 1, 0]);
    assert_eq!((lags[2].committed, lags[2].end), (Some(2), 3));
    assert_eq!(lags[1].committed, None);
    assert_eq!(log.ends(Topic::ChatMessages), Ok(vec![0, 0, 3, 0]));
}

#[test]
fn a_start_waits_for_absent_brokers_as_long_as_it_is_told() {
    let mut config = KafkaConfig::new("127.0.0.1:9");
    config.call_timeout = Duration::from_millis(500);
    config.open_timeout = Duration::from_secs(3);
    let began = Instant::now();
    let error = KafkaLog::open(config).err().unwrap();
    assert!(matches!(&error, KafkaError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
    let took = began.elapsed();
    assert!(
        took > Duration::from_millis(2_500) && took < Duration::from_secs(6),
        "{took:?}"
    );
}

#[test]
fn every_compression_carries_records_as_they_were() {
    let Some(brokers) = brokers() else { return };
    for codec in Compression::ALL {
        let mut config = config(&brokers, codec.name());
        config.compression = *codec;
        let log = KafkaLog::open(config).unwrap();
        let value = vec![b'x'; 100_000];
        append(&log, record(Topic::ChatMessages, 1, &value)).unwrap();
        assert_eq!(
            values(&log, Topic::ChatMessages, 1, 0),
            [value],
            "{codec:?}"
        );
    }
}
