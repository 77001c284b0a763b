//! The driver over a store with round trips, which is slow, fails, is torn, or is away.

use crate::ingest::{Driver, DriverConfig, IngestShare};
use crate::rig::engine::{CONFIG, PARTITIONS, Rig, until};
use crate::rig::flaky_log::{FlakyLog, Flaw};
use crate::rig::slow_store::{Slow, SlowStore, TOO_MUCH};
use crate::rig::{chat, create, group_op, id, plain, sent, user, users};
use bytes::Bytes;
use hawser_engines::embedded::INGEST_GROUP;
use hawser_engines::log::{Log, Topic};
use hawser_protocol::codes::ErrorCode;
use hawser_protocol::message::MessageRecord;
use hawser_protocol::partition::partition;
use hawser_protocol::record::{DeliveryKind, GroupOp, SourceRecord};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const DM: &str = "dm:alice:bob";

fn start(rig: &Rig, log: Arc<dyn Log>, store: &Arc<SlowStore>) -> Driver {
    start_with(rig, log, store, None)
}

pub(super) fn start_with(
    rig: &Rig,
    log: Arc<dyn Log>,
    store: &Arc<SlowStore>,
    share: Option<IngestShare>,
) -> Driver {
    let mut config = DriverConfig::from(CONFIG);
    config.threads = 2;
    config.share = share;
    let store = Arc::new(Slow(Arc::clone(store)));
    Driver::start(log, store, rig.directory.clone(), config).unwrap()
}

pub(super) fn committed(rig: &Rig, of: &str) -> u64 {
    let at = partition(of, PARTITIONS);
    let group = rig.log.committed(INGEST_GROUP, Topic::ChatMessages, at);
    group.unwrap().unwrap_or(0)
}

/// Waits until ingest has done all that the log holds.
pub(super) fn done(rig: &Rig) {
    until("everything is committed", || {
        (0..PARTITIONS).all(|p| {
            let end = rig.log.watermarks(Topic::ChatMessages, p).unwrap().high;
            let group = rig.log.committed(INGEST_GROUP, Topic::ChatMessages, p);
            group.unwrap().unwrap_or(0) == end
        })
    });
}

/// What the store must hold of a chat: dense ordinals, a chain of seqs, each client message id once.
pub(super) fn whole(store: &SlowStore, of: &str, count: u64) -> Vec<String> {
    let rows = store.rows.rows();
    let all: Vec<_> = rows
        .messages
        .iter()
        .filter(|(key, _)| key.0 == chat(of))
        .collect();
    let (mut before, mut bodies, mut ids) = (0, Vec::new(), BTreeMap::new());
    for (n, (key, row)) in (1..).zip(&all) {
        let record = MessageRecord::decode(&row.record).unwrap();
        assert_eq!((key.1, record.ordinal), (n, n));
        assert_eq!(record.prev_seq.0, before, "the chain of {of} at {n}");
        assert!(
            ids.insert(record.client_msg_id.0, n).is_none(),
            "an id twice in {of}"
        );
        before = record.seq.0;
        bodies.push(String::from_utf8_lossy(&record.body).into_owned());
    }
    assert_eq!(all.len() as u64, count, "messages of {of}");
    assert_eq!(rows.heads[&chat(of)].seq.0, before);
    bodies
}

/// Messages in the order in which an edge that keeps a mark per source sees them, by chat.
pub(super) fn seen(rig: &Rig) -> BTreeMap<String, Vec<u64>> {
    let (mut marks, mut seen) = (BTreeMap::new(), BTreeMap::<String, Vec<u64>>::new());
    for (at, record) in rig.delivered() {
        let mark = marks.entry((at, record.source_partition)).or_insert((0, 0));
        let place = (record.source_seq.0, record.sub_index);
        if place <= *mark {
            continue;
        }
        *mark = place;
        if let DeliveryKind::Message {
            record,
            sender_entry: Some(_),
            ..
        } = &record.kind
        {
            let message = MessageRecord::decode(record).unwrap();
            seen.entry(message.chat.to_string())
                .or_default()
                .push(message.ordinal);
        }
    }
    seen
}

pub(super) fn texts(to: &str, numbers: std::ops::Range<u16>) -> Vec<SourceRecord> {
    numbers.map(|n| sent("alice", plain(to, n))).collect()
}

#[test]
fn g4_writes_that_end_in_any_order_are_delivered_in_the_order_of_the_log() {
    let rig = Rig::plain();
    let store = Arc::new(SlowStore::new(20, 0));
    let driver = start(&rig, rig.log.clone(), &store);
    // Appended one by one, so that they are judged in many batches.
    for part in 0..30 {
        rig.append(&texts(DM, part * 10..part * 10 + 10));
    }
    done(&rig);
    whole(&store, DM, 300);
    assert_eq!(seen(&rig)[DM], (1..=300).collect::<Vec<_>>());
    let stages = driver.stages();
    assert!(stages.iter().all(|stage| stage.count >= 300), "{stages:?}");
    assert_eq!(driver.counters().read().retries, 0);
    driver.stop();
}

#[test]
fn g2_g3_a_store_that_is_torn_and_times_out_comes_to_the_same_rows() {
    let rig = Rig::plain();
    let store = Arc::new(SlowStore::new(4, 3));
    let driver = start(&rig, rig.log.clone(), &store);
    rig.append(&[create("alice", 900, "g:crew", &["bob"])]);
    for part in 0..20 {
        let mut sources = texts(DM, part * 5..part * 5 + 5);
        sources.extend(texts("g:crew", part * 5..part * 5 + 5));
        let op = match part % 2 {
            0 => GroupOp::Add {
                users: users(&["carol"]),
            },
            _ => GroupOp::Remove {
                users: users(&["carol"]),
            },
        };
        sources.push(group_op("alice", 1_000 + part, "g:crew", op));
        // A client that repeats itself without saying so.
        sources.extend(texts(DM, part * 5..part * 5 + 2));
        rig.append(&sources);
    }
    done(&rig);
    whole(&store, DM, 100);
    whole(&store, "g:crew", 121);
    let rows = store.rows.rows();
    let carol = &rows.members[&(chat("g:crew"), user("carol"))].0;
    assert_eq!((carol.intervals.len(), carol.current()), (10, false));
    assert!(driver.counters().read().retries > 0);
    driver.stop();
}

#[test]
fn f4_while_the_store_is_away_nothing_is_lost_and_lag_is_told() {
    let rig = Rig::plain();
    let store = Arc::new(SlowStore::new(2, 0));
    let driver = start(&rig, rig.log.clone(), &store);
    rig.append(&texts(DM, 0..20));
    done(&rig);
    store.down.store(true, Ordering::SeqCst);
    rig.append(&texts(DM, 20..220));
    let at = partition(DM, PARTITIONS);
    let lag = || driver.lags().into_iter().find(|lag| lag.0 == at).unwrap();
    until("the lag", || lag().1 == 200 && lag().2.is_some());
    until("trouble", || driver.trouble().is_some());
    assert_eq!(seen(&rig)[DM].len(), 20);
    store.down.store(false, Ordering::SeqCst);
    done(&rig);
    whole(&store, DM, 220);
    assert_eq!(seen(&rig)[DM], (1..=220).collect::<Vec<_>>());
    until("the end of it", || {
        lag().1 == 0 && driver.trouble().is_none()
    });
    driver.stop();
}

#[test]
fn g3_a_repeat_without_the_retry_flag_is_found_after_a_restart() {
    let rig = Rig::plain();
    let store = Arc::new(SlowStore::new(1, 0));
    let driver = start(&rig, rig.log.clone(), &store);
    rig.append(&texts(DM, 0..50));
    done(&rig);
    let asked = store.dedup_reads.load(Ordering::SeqCst);
    assert_eq!(
        asked, 0,
        "the log was seen from its start: what is not known is new"
    );
    driver.stop();
    let driver = start(&rig, rig.log.clone(), &store);
    rig.append(&texts(DM, 0..60));
    done(&rig);
    whole(&store, DM, 60);
    assert_eq!(driver.counters().read().duplicates, 50);
    driver.stop();
}

#[test]
fn a_record_that_the_store_will_never_take_is_parked_and_stops_nobody() {
    let rig = Rig::plain();
    let store = Arc::new(SlowStore::new(3, 0));
    let driver = start(&rig, rig.log.clone(), &store);
    let mut sources = texts(DM, 0..100);
    if let SourceRecord::Send { send, .. } = &mut sources[40] {
        send.body = Bytes::from_static(TOO_MUCH);
    }
    rig.append(&sources);
    done(&rig);
    let bodies = whole(&store, DM, 100);
    assert_eq!(bodies[40], "", "its place stays");
    assert_eq!(bodies[41], "m41");
    assert_eq!(rig.read(Topic::DeadLetters).len(), 1);
    let told = rig
        .delivered()
        .into_iter()
        .find_map(|(_, record)| match record.kind {
            DeliveryKind::Result { result, .. } => Some(result),
            _ => None,
        });
    let told = told.expect("its sender is told");
    assert_eq!(told.client_msg_id[..], id(40).0[..]);
    assert_eq!(told.error, u32::from(ErrorCode::BadFrame.number()));
    assert!(driver.counters().read().poison >= 1);
    driver.stop();
}

#[test]
fn g2_stopping_and_failing_at_any_time_loses_and_doubles_nothing() {
    let rig = Rig::plain();
    let store = Arc::new(SlowStore::new(6, 7));
    for round in 0..6u16 {
        let flaws = vec![(5, Flaw::Lost), (17, Flaw::Unknown), (40, Flaw::Full)];
        let log = Arc::new(FlakyLog::new(rig.log.clone(), flaws));
        let driver = start(&rig, log, &store);
        rig.append(&texts(DM, round * 40..round * 40 + 40));
        rig.append(&texts("dm:alice:carol", round * 40..round * 40 + 40));
        std::thread::sleep(std::time::Duration::from_millis(u64::from(round) * 9));
        driver.stop();
    }
    let driver = start(&rig, rig.log.clone(), &store);
    done(&rig);
    whole(&store, DM, 240);
    whole(&store, "dm:alice:carol", 240);
    assert!(committed(&rig, DM) > 0);
    driver.stop();
}

#[test]
fn records_that_come_while_others_are_asked_about_are_read_at_once() {
    let rig = Rig::plain();
    let store = Arc::new(SlowStore::new(1, 0));
    let mut config = DriverConfig::from(CONFIG);
    // Full again and again: each time there is room, what waits is read without a wake of the log.
    config.in_flight_max = 8;
    let port = Arc::new(Slow(Arc::clone(&store)));
    let driver = Driver::start(rig.log.clone(), port, rig.directory.clone(), config).unwrap();
    let since = std::time::Instant::now();
    rig.append(&texts(DM, 0..400));
    done(&rig);
    // Fifty times full; half a second for each is what a missed wake costs.
    assert!(since.elapsed() < std::time::Duration::from_secs(12));
    whole(&store, DM, 400);
    driver.stop();
}
