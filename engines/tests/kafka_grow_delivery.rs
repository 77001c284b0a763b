//! Growing `delivery` on a real Kafka while it is written to: what was in a partition comes first in those that it becomes, at
//! the same offsets; later records lie above; nothing is lost or there twice; interrupted at every step it goes on
//! (`docs/adr/0024-growing-delivery.md`).
#![cfg(feature = "kafka")]
#![expect(clippy::unwrap_used, reason = "a test may panic, its makers too")]

mod support;

use bytes::Bytes;
use hawser_engines::kafka::{GrowError, GrowStep, KafkaLog, grow};
use hawser_engines::log::{
    Consumer, Log, Past, Produce, ProduceError, ReadError, Record, Shape, Start, Topic,
};
use hawser_protocol::partition::partition;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use support::kafka::{brokers, config, grow_stopped_after};
use support::{NoWake, PATIENCE, append, outcomes, read_all};

const DELIVERY: Topic = Topic::Delivery;

fn silently(_: &GrowStep) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE * 2;
    while !done() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn to(partition: u32, value: &str) -> Produce {
    Produce {
        topic: DELIVERY,
        partition,
        key: Bytes::from_static(b"g:key"),
        value: Bytes::copy_from_slice(value.as_bytes()),
        timestamp_ms: 1_700_000_000_000,
    }
}

/// As ingest does it: for the generation that the partition was computed for.
fn append_in(log: &dyn Log, generation: u16, record: Produce) -> Result<Option<u64>, ProduceError> {
    let (done, outcome) = outcomes();
    log.produce_in(generation, record, 0, &done)?;
    outcome.recv_timeout(PATIENCE).unwrap().1
}

/// Writes numbers for one user in turn, each until it is acknowledged.
struct Writer {
    user: String,
    acked: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    fn start(log: &Arc<KafkaLog>, user: String) -> Self {
        let acked: Arc<AtomicU64> = Arc::default();
        let stop: Arc<AtomicBool> = Arc::default();
        let shared = (Arc::clone(&acked), Arc::clone(&stop), Arc::clone(log));
        let of = user.clone();
        let thread = std::thread::spawn(move || {
            let (acked, stop, log) = shared;
            for number in 0_u64.. {
                loop {
                    if stop.load(Ordering::Acquire) {
                        return;
                    }
                    let shape = log.shape(DELIVERY);
                    let record = to(partition(&of, shape.partitions), &format!("{of}/{number}"));
                    match append_in(&*log, shape.generation, record) {
                        Ok(_) => break,
                        Err(ProduceError::Refused { .. }) => {}
                        Err(error @ ProduceError::Unknown { .. }) => panic!("{error}"),
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
                acked.store(number + 1, Ordering::Release);
                std::thread::sleep(Duration::from_millis(3));
            }
        });
        Self {
            user,
            acked,
            stop,
            thread: Some(thread),
        }
    }

    fn acked(&self) -> u64 {
        self.acked.load(Ordering::Acquire)
    }

    fn finish(&mut self) -> u64 {
        self.stop.store(true, Ordering::Release);
        self.thread.take().unwrap().join().unwrap();
        self.acked()
    }
}

/// Everything from there to the end, as a live reader hands it out.
fn drain(consumer: &mut dyn Consumer, end: u64) -> Vec<Record> {
    let mut out = Vec::new();
    wait_until("the reader comes to the end", || {
        consumer.poll(50, &mut |record| out.push(record)).unwrap();
        consumer.position() >= end
    });
    out
}

fn reader(log: &dyn Log, partition: u32, start: Start) -> Box<dyn Consumer> {
    let wake = Arc::new(NoWake);
    log.consumer(DELIVERY, partition, start, wake).unwrap()
}

#[test]
fn delivery_grows_under_traffic_and_every_users_records_go_on_in_their_order() {
    let Some(brokers) = brokers() else { return };
    let config = config(&brokers, "deliver");
    let nodes = [(); 2].map(|()| Arc::new(KafkaLog::open(config.clone()).unwrap()));
    let users = (0..12).map(|n| format!("user-{n}"));
    let mut writers: Vec<Writer> = users
        .enumerate()
        .map(|(n, user)| Writer::start(&nodes[n % 2], user))
        .collect();
    std::thread::sleep(Duration::from_secs(1));
    let mut old = reader(&*nodes[0], 1, Start::Earliest);
    let began = Instant::now();
    let mut steps = Vec::new();
    grow(config.clone(), DELIVERY, 16, &mut |step| {
        println!("{:?}: {step}", began.elapsed());
        steps.push(step.clone());
        ControlFlow::Continue(())
    })
    .unwrap();
    let done = GrowStep::Done {
        generation: 2,
        partitions: 16,
    };
    assert_eq!(steps.last(), Some(&done));
    let grown = Shape {
        generation: 2,
        partitions: 16,
        past: Some(Past {
            generation: 1,
            partitions: 4,
        }),
    };
    for node in &nodes {
        wait_until("the node follows", || node.shape(DELIVERY) == grown);
        for topic in [Topic::Cursors, Topic::ChatTyping] {
            assert_eq!((node.partitions(topic), node.generation(topic)), (16, 2));
        }
        for topic in [Topic::ChatMessages, Topic::ChatPresence] {
            assert_eq!((node.partitions(topic), node.generation(topic)), (4, 1));
        }
    }
    let before: Vec<u64> = writers.iter().map(Writer::acked).collect();
    wait_until("everybody goes on", || {
        let mut all = writers.iter().zip(&before);
        all.all(|(writer, before)| writer.acked() > before + 20)
    });
    let late = KafkaLog::open(config).unwrap();
    assert_eq!(late.shape(DELIVERY), grown, "who starts now finds the same");
    let acked: Vec<u64> = writers.iter_mut().map(Writer::finish).collect();
    for (writer, acked) in writers.iter().zip(acked) {
        let user = writer.user.clone();
        let at = partition(&user, 16);
        let all = read_all(&late, DELIVERY, at, 0);
        assert!(all.windows(2).all(|w| w[0].offset < w[1].offset), "{user}");
        let prefix = format!("{user}/");
        let values = all
            .iter()
            .map(|r| String::from_utf8(r.value.to_vec()).unwrap());
        let numbers: Vec<u64> = values
            .filter_map(|value| value.strip_prefix(&prefix)?.parse().ok())
            .collect();
        let expected: Vec<u64> = (0..acked).collect();
        assert_eq!(&numbers[..expected.len()], &expected[..], "{user}");
        assert!(
            numbers.len() <= expected.len() + 1,
            "{user}: none is there twice"
        );
        let seam = late.seam(DELIVERY, at).unwrap();
        let since = |r: &&Record| seam.as_ref().is_some_and(|seam| r.offset >= seam.end);
        let marks = late.watermarks(DELIVERY, at).unwrap();
        assert!(
            all.iter().filter(since).count() > 0 || seam.is_none(),
            "{user}"
        );
        // A live reader hands out the same, from wherever it begins.
        let whole = drain(&mut *reader(&late, at, Start::Earliest), marks.high);
        assert!(whole == all, "{user}: the same records");
        let half = all[all.len() / 2].offset;
        let rest = drain(&mut *reader(&late, at, Start::At(half)), marks.high);
        assert!(rest == all[all.len() / 2..], "{user}: the same from there");
    }
    // Who read the old one comes to its end, and that is all.
    let end = late.seam(DELIVERY, 1).unwrap().map_or(0, |seam| seam.start);
    let read = drain(&mut *old, end);
    let all = read_all(&late, DELIVERY, 1, 0);
    let past: Vec<Record> = all.into_iter().filter(|r| r.offset < end).collect();
    assert!(read == past && !read.is_empty());
}

/// Three records in partition 1 of four, and one each in the others; then sixteen.
fn grown(brokers: &str, test: &str) -> (hawser_engines::kafka::KafkaConfig, KafkaLog) {
    let config = config(brokers, test);
    let log = KafkaLog::open(config.clone()).unwrap();
    for (at, value) in [(1, "a"), (1, "b"), (1, "c"), (0, "x"), (2, "y"), (3, "z")] {
        append(&log, to(at, value)).unwrap();
    }
    grow(config.clone(), DELIVERY, 16, &mut silently).unwrap();
    wait_until("it follows", || log.generation(DELIVERY) == 2);
    (config, log)
}

fn values(log: &dyn Log, partition: u32, from: u64) -> Vec<(u64, String)> {
    let all = read_all(log, DELIVERY, partition, from).into_iter();
    all.map(|r| (r.offset, String::from_utf8(r.value.to_vec()).unwrap()))
        .collect()
}

#[test]
fn a_partition_begins_with_what_it_was_a_part_of_and_goes_on_at_the_base() {
    let Some(brokers) = brokers() else { return };
    let (_, log) = grown(&brokers, "seam");
    let marks = |at| {
        log.watermarks(DELIVERY, at)
            .map(|m| (m.low, m.high))
            .unwrap()
    };
    assert_eq!([marks(5), marks(13), marks(4)], [(0, 3), (0, 3), (0, 1)]);
    assert_eq!(
        log.seam(DELIVERY, 5),
        Ok(None),
        "the longest: nothing is between"
    );
    assert_eq!(log.seam(DELIVERY, 4), Ok(Some(1..3)));
    assert_eq!(log.ends(DELIVERY).unwrap()[3..6], [1, 1, 3]);
    let mut live = reader(&log, 4, Start::Latest);
    let mut whole = reader(&log, 4, Start::Earliest);
    assert_eq!(live.position(), 3);
    // For the generation before nothing is taken any more, for this one it is.
    let stale = append_in(&log, 1, to(0, "stale"));
    assert!(
        matches!(stale, Err(ProduceError::Refused { .. })),
        "{stale:?}"
    );
    assert_eq!(append_in(&log, 2, to(4, "first")), Ok(Some(3)));
    assert_eq!(append(&log, to(4, "second")), Ok(4));
    let text = |offset, value: &str| (offset, value.to_owned());
    let all = [text(0, "x"), text(3, "first"), text(4, "second")];
    assert_eq!(values(&log, 4, 0), all);
    for from in 1..=3 {
        assert_eq!(values(&log, 4, from), all[1..], "from {from}");
    }
    assert_eq!(values(&log, 5, 1), [text(1, "b"), text(2, "c")]);
    assert_eq!(values(&log, 4, 5), []);
    let beyond = log.read(DELIVERY, 4, 6, 1, 1);
    let outside = ReadError::OutOfRange {
        wanted: 6,
        low: 3,
        high: 5,
    };
    assert_eq!(beyond, Err(outside));
    assert_eq!(marks(4), (0, 5));
    let offsets = |all: Vec<Record>| all.iter().map(|r| r.offset).collect::<Vec<_>>();
    assert_eq!(offsets(drain(&mut *live, 5)), [3, 4]);
    assert_eq!(offsets(drain(&mut *whole, 5)), [0, 3, 4]);
    for (to, expected) in [(4, vec![4]), (0, vec![0, 3, 4]), (2, vec![3, 4])] {
        whole.seek(to).unwrap();
        assert_eq!(offsets(drain(&mut *whole, 5)), expected, "sought to {to}");
    }
}

#[test]
fn it_grows_again_and_what_is_two_generations_back_is_no_longer_there() {
    let Some(brokers) = brokers() else { return };
    let (config, log) = grown(&brokers, "again");
    for value in ["d", "e"] {
        append(&log, to(5, value)).unwrap();
    }
    let began = Instant::now();
    grow(config.clone(), DELIVERY, 32, &mut |step| {
        println!("{:?}: {step}", began.elapsed());
        ControlFlow::Continue(())
    })
    .unwrap();
    wait_until("it follows", || log.generation(DELIVERY) == 3);
    let marks = log.watermarks(DELIVERY, 21).unwrap();
    assert_eq!((marks.low, marks.high), (3, 5));
    assert_eq!(append(&log, to(21, "f")), Ok(5));
    let text = |offset, value: &str| (offset, value.to_owned());
    assert_eq!(
        values(&log, 21, 3),
        [text(3, "d"), text(4, "e"), text(5, "f")]
    );
    assert!(matches!(
        log.read(DELIVERY, 21, 2, 1, 1),
        Err(ReadError::OutOfRange {
            wanted: 2,
            low: 3,
            ..
        })
    ));
    // Without the topic of the generation before, the log begins with the present one.
    delete(&brokers, &format!("{}delivery-g2", config.prefix));
    let late = KafkaLog::open(config).unwrap();
    assert_eq!(late.shape(DELIVERY).past, None);
    for log in [&log, &late] {
        wait_until("the old one is gone", || {
            log.watermarks(DELIVERY, 21).is_ok_and(|m| m.low == 5)
        });
        assert_eq!(values(log, 21, 5), [text(5, "f")]);
        assert_eq!(log.seam(DELIVERY, 21), Ok(None));
    }
}

fn delete(brokers: &str, topic: &str) {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", brokers);
    let admin: AdminClient<DefaultClientContext> = client.create().unwrap();
    let deleted = admin.delete_topics(&[topic], &AdminOptions::new());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut deleted = std::pin::pin!(deleted);
    let until = Instant::now() + PATIENCE;
    while deleted.as_mut().poll(&mut context).is_pending() {
        assert!(Instant::now() < until, "{topic} is not deleted");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_growth_interrupted_at_any_step_goes_on_when_it_is_run_again() {
    let Some(brokers) = brokers() else { return };
    let config = config(&brokers, "resume");
    let node = Arc::new(KafkaLog::open(config.clone()).unwrap());
    let mut writer = Writer::start(&node, "one".to_owned());
    let stop_at = |steps| grow_stopped_after(&config, DELIVERY, steps);
    // Claimed, made: nobody notices, and another growth waits for its turn.
    stop_at(0);
    stop_at(1);
    let before = writer.acked();
    wait_until("it is written to", || writer.acked() > before + 5);
    let late = KafkaLog::open(config.clone()).unwrap();
    assert_eq!(
        (late.partitions(DELIVERY), late.partitions(Topic::Cursors)),
        (4, 4)
    );
    let other = grow(config.clone(), Topic::ChatMessages, 8, &mut silently);
    assert_eq!(other, Err(GrowError::Other { topic: "delivery" }));
    let more = grow(config.clone(), DELIVERY, 16, &mut silently);
    assert_eq!(more, Err(GrowError::Unfinished { partitions: 8 }));
    // Fenced, and once the ends are known.
    stop_at(2);
    stop_at(3);
    let fenced = append(&*node, to(0, "none"));
    assert!(
        matches!(fenced, Err(ProduceError::Refused { retry_after_ms, .. }) if retry_after_ms > 0)
    );
    let late = KafkaLog::open(config.clone()).unwrap();
    assert!(append(&late, to(0, "none")).is_err());
    grow(config.clone(), DELIVERY, 8, &mut silently).unwrap();
    let before = writer.acked();
    wait_until("it is written to again", || writer.acked() > before + 20);
    let acked = writer.finish();
    let all = values(&*node, partition("one", 8), 0);
    let numbers: Vec<String> = all.into_iter().map(|(_, value)| value).collect();
    let expected: Vec<String> = (0..acked).map(|n| format!("one/{n}")).collect();
    assert_eq!(numbers, expected);
    let topic = "delivery";
    for wanted in [4, 8] {
        let refused = grow(config.clone(), DELIVERY, wanted, &mut silently);
        let now = 8;
        assert_eq!(refused, Err(GrowError::NotMore { topic, now, wanted }));
    }
    let none = grow(config, Topic::Cursors, 16, &mut silently);
    assert_eq!(none, Err(GrowError::Topic { topic: "cursors" }));
}
