//! The driver, over the embedded log used as a plain one.

use crate::ingest::{Driver, DriverConfig};
use crate::rig::engine::{CONFIG, PARTITIONS, Rig, open, until};
use crate::rig::flaky_log::{FlakyLog, Flaw};
use crate::rig::memory_store::{Fault, MemoryStore};
use crate::rig::{chat, create, plain, sent};
use hawser_engines::directory::Directory;
use hawser_engines::embedded::INGEST_GROUP;
use hawser_engines::log::Topic;
use hawser_engines::store::Store;
use hawser_protocol::partition::partition;
use hawser_protocol::record::{DeliveryKind, DeliveryRecord};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

fn start(rig: &Rig, store: Arc<dyn Store>) -> Driver {
    let mut config = DriverConfig::from(CONFIG);
    config.threads = 2;
    config.in_flight_max = 64;
    let directory: Arc<dyn Directory> = rig.directory.clone();
    Driver::start(rig.log.clone(), store, directory, config).unwrap()
}

fn committed(rig: &Rig, of: &str) -> u64 {
    let at = partition(of, PARTITIONS);
    rig.log
        .committed(INGEST_GROUP, Topic::ChatMessages, at)
        .unwrap()
        .unwrap_or(0)
}

/// Distinct messages delivered, and whether within each partition each source's places rise but for
/// repeats of a whole tail.
fn messages(rig: &Rig) -> BTreeMap<Vec<u8>, usize> {
    let mut messages = BTreeMap::new();
    for (_, record) in rig.delivered() {
        if let DeliveryKind::Message {
            record,
            sender_entry: Some(_),
            ..
        } = record.kind
        {
            *messages.entry(record.to_vec()).or_insert(0) += 1;
        }
    }
    messages
}

#[test]
fn the_driver_stores_delivers_in_order_and_commits() {
    let rig = Rig::plain();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let driver = start(&rig, store.clone());
    rig.append(&[create("alice", 900, "g:crew", &["bob"])]);
    let sources: Vec<_> = (0..300)
        .map(|n| {
            sent(
                "alice",
                plain(["dm:alice:bob", "g:crew"][usize::from(n % 2)], n),
            )
        })
        .collect();
    let last = rig.append(&sources);
    until("the commit", || {
        committed(&rig, "g:crew") == last[299] + 1
            && committed(&rig, "dm:alice:bob") == last[298] + 1
    });
    assert_eq!(store.head(&chat("dm:alice:bob")).unwrap().ordinal, 150);
    assert_eq!(store.head(&chat("g:crew")).unwrap().ordinal, 151);
    assert!(rig.directory.group(&chat("g:crew")).unwrap().is_some());
    let mut marks: BTreeMap<(u32, u32), (u64, u16)> = BTreeMap::new();
    for (
        at,
        DeliveryRecord {
            source_partition,
            source_seq,
            sub_index,
            ..
        },
    ) in rig.delivered()
    {
        let mark = marks.entry((at, source_partition)).or_default();
        assert!((source_seq.0, sub_index) > *mark, "source order");
        *mark = (source_seq.0, sub_index);
    }
    assert_eq!(messages(&rig).len(), 300);
    assert!(driver.trouble().is_none());
    driver.stop();
}

#[test]
fn g1_nothing_is_delivered_while_the_store_refuses() {
    let rig = Rig::plain();
    let store = Arc::new(MemoryStore::default());
    store.fail(&[Fault::Nothing; 4]);
    let driver = start(&rig, store.clone());
    rig.append(&[sent("alice", plain("dm:alice:bob", 1))]);
    until("trouble", || driver.trouble().is_some());
    assert!(store.rows().messages.is_empty());
    assert!(
        messages(&rig).is_empty(),
        "a result before the message is stored"
    );
    assert_eq!(committed(&rig, "dm:alice:bob"), 0);
    until("the store's return", || messages(&rig).len() == 1);
    assert_eq!(store.head(&chat("dm:alice:bob")).unwrap().ordinal, 1);
    until("the end of trouble", || driver.trouble().is_none());
    assert!(driver.counters().read().retries >= 4);
}

#[test]
fn g2_timeouts_whose_write_was_applied_neither_lose_nor_double_a_message() {
    let rig = Rig::plain();
    let store = Arc::new(MemoryStore::default());
    let faults = [
        Fault::Applied,
        Fault::Nothing,
        Fault::Applied,
        Fault::Applied,
    ];
    store.fail(&faults);
    let driver = start(&rig, store.clone());
    let sources: Vec<_> = (0..100)
        .map(|n| sent("alice", plain("dm:alice:bob", n)))
        .collect();
    let last = rig.append(&sources);
    until("the commit", || {
        committed(&rig, "dm:alice:bob") == last[99] + 1
    });
    assert_eq!(store.head(&chat("dm:alice:bob")).unwrap().ordinal, 100);
    let messages = messages(&rig);
    assert_eq!(
        messages.len(),
        100,
        "each message once, though perhaps repeated"
    );
    driver.stop();
}

#[test]
fn g2_a_restarted_driver_goes_on_from_the_commit() {
    let mut rig = Rig::plain();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let first: Vec<_> = (0..40)
        .map(|n| sent("alice", plain("dm:alice:bob", n)))
        .collect();
    let second: Vec<_> = (20..60)
        .map(|n| sent("alice", plain("dm:alice:bob", n)))
        .collect();
    let last = rig.append(&first);
    let driver = start(&rig, store.clone());
    until("the first commit", || {
        committed(&rig, "dm:alice:bob") == last[39] + 1
    });
    driver.stop();
    let last = rig.append(&second);
    // The process goes, the log comes back.
    drop(rig.engine.take());
    let engine = open(rig.dir.path());
    (rig.log, rig.directory) = (engine.log(), engine.directory());
    rig.engine = Some(engine);
    let driver = start(&rig, store.clone());
    until("the second commit", || {
        committed(&rig, "dm:alice:bob") == last[39] + 1
    });
    assert_eq!(store.head(&chat("dm:alice:bob")).unwrap().ordinal, 60);
    assert_eq!(
        messages(&rig).values().sum::<usize>(),
        60,
        "no repeats without a crash"
    );
    driver.stop();
}

#[test]
fn g2_failed_appends_are_replayed_and_never_skipped() {
    let rig = Rig::plain();
    let flaws = [
        (3, Flaw::Full),
        (10, Flaw::Lost),
        (30, Flaw::Unknown),
        (31, Flaw::Full),
        (60, Flaw::Lost),
        (150, Flaw::Unknown),
    ];
    let flaky = Arc::new(FlakyLog::new(rig.log.clone(), flaws.to_vec()));
    let store = Arc::new(MemoryStore::default());
    let mut config = DriverConfig::from(CONFIG);
    config.in_flight_max = 32;
    let driver =
        Driver::start(flaky.clone(), store.clone(), rig.directory.clone(), config).unwrap();
    let sources: Vec<_> = (0..200)
        .map(|n| sent("alice", plain("dm:alice:bob", n)))
        .collect();
    let last = rig.append(&sources);
    until("the commit", || {
        committed(&rig, "dm:alice:bob") == last[199] + 1
    });
    assert!(flaky.spent());
    // A turn makes at most 64 appends: the first flaws end one turn, the last another.
    assert!(driver.counters().read().retries >= 2);
    assert_eq!(store.head(&chat("dm:alice:bob")).unwrap().ordinal, 200);
    assert_eq!(messages(&rig).len(), 200);
    // An edge takes what is not above the last of its source for a repetition: nothing may be missed so.
    let mut marks: BTreeMap<(u32, u32), (u64, u16)> = BTreeMap::new();
    let (mut all, mut passed) = (BTreeSet::new(), BTreeSet::new());
    for (at, record) in rig.delivered() {
        all.insert((at, record.source_seq));
        let mark = marks.entry((at, record.source_partition)).or_default();
        let place = (record.source_seq.0, record.sub_index);
        if place > *mark {
            *mark = place;
            passed.insert((at, record.source_seq));
        }
    }
    assert_eq!(passed, all);
    driver.stop();
}

#[test]
fn settings_out_of_bounds_are_named() {
    let rig = Rig::plain();
    let mut config = DriverConfig::from(CONFIG);
    config.threads = 0;
    let started = Driver::start(
        rig.log.clone(),
        rig.store.clone(),
        rig.directory.clone(),
        config,
    );
    let error = started.map(drop).unwrap_err().to_string();
    assert!(error.contains("threads"), "{error}");
}
