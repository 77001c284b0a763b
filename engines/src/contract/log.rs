//! Facts of the `log` port.

use super::{Fact, PATIENCE, run, unique};
use crate::log::{
    AppendOutcome, Appended, Consumer, Log, Produce, ProduceError, ReadError, Record, Start, Topic,
    Wake,
};
use bytes::Bytes;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Runs all facts; `make` may give the same log each time.
pub fn log_suite(make: impl Fn() -> Arc<dyn Log>) {
    run("log", FACTS, make);
}

/// All facts.
pub const FACTS: &[Fact<dyn Log>] = &[
    (
        "partitions_are_a_power_of_two_and_generations_begin_at_1",
        partitions_and_generations,
    ),
    ("an_appended_record_is_read_as_it_was", as_it_was),
    ("empty_and_binary_keys_and_values_survive", empty_and_binary),
    (
        "a_value_of_1_mib_survives_and_a_larger_one_is_refused",
        large_values,
    ),
    (
        "records_of_one_thread_keep_their_order_and_offsets_grow",
        order_and_offsets,
    ),
    ("every_produce_is_answered_exactly_once", answered_once),
    ("partitions_do_not_see_each_other", partitions_are_apart),
    ("topics_do_not_see_each_other", topics_are_apart),
    (
        "a_partition_that_does_not_exist_is_refused",
        no_such_partition,
    ),
    ("watermarks_follow_the_appends", watermarks_follow),
    (
        "read_is_bounded_in_records_and_bytes_and_gives_at_least_one",
        read_bounds,
    ),
    (
        "read_at_the_end_is_empty_and_beyond_it_out_of_range",
        read_at_the_end,
    ),
    (
        "a_consumer_at_latest_sees_only_what_comes_after",
        consumer_latest,
    ),
    ("a_consumer_at_an_offset_begins_there", consumer_at),
    (
        "a_consumer_at_earliest_begins_at_the_low_watermark",
        consumer_earliest,
    ),
    (
        "a_live_consumer_sees_every_record_once_and_in_order",
        consumer_live,
    ),
    (
        "two_consumers_of_a_partition_each_see_everything",
        two_consumers,
    ),
    (
        "poll_hands_out_at_most_max_and_moves_the_position",
        poll_bounds,
    ),
    ("seek_goes_back_and_forth", seek),
    ("a_consumer_is_woken_when_records_arrive", wakes),
    ("dropping_a_consumer_disturbs_nobody", drop_consumer),
    (
        "committed_positions_are_kept_per_group_and_partition",
        committed,
    ),
    (
        "ephemeral_records_reach_consumers_that_are_there",
        ephemeral,
    ),
    ("a_log_that_works_is_writable", writable),
];

type Told = (u64, AppendOutcome);

struct Outcomes(Mutex<Sender<Told>>);

impl Appended for Outcomes {
    fn appended(&self, tag: u64, outcome: AppendOutcome) {
        let sender = self.0.lock().expect("no holder panics");
        // A test that has seen enough has dropped its end.
        let _ = sender.send((tag, outcome));
    }
}

fn outcomes() -> (Arc<dyn Appended>, Receiver<Told>) {
    let (sender, receiver) = channel();
    (Arc::new(Outcomes(Mutex::new(sender))), receiver)
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// One partition as one fact uses it: its own key tells its records from others'.
struct Probe<'a> {
    log: &'a dyn Log,
    topic: Topic,
    partition: u32,
    key: Bytes,
}

impl<'a> Probe<'a> {
    fn new(log: &'a Arc<dyn Log>, topic: Topic) -> Self {
        let key = unique();
        let partition = key.bytes().map(u32::from).sum::<u32>() % log.partitions(topic);
        Self {
            log: &**log,
            topic,
            partition,
            key: Bytes::from(key),
        }
    }

    fn record(&self, value: impl Into<Bytes>) -> Produce {
        Produce {
            topic: self.topic,
            partition: self.partition,
            key: self.key.clone(),
            value: value.into(),
            timestamp_ms: 1_700_000_000_123,
        }
    }

    fn append(&self, value: impl Into<Bytes>) -> u64 {
        append(self.log, self.record(value)).expect("a healthy log appends")
    }

    fn append_many(&self, n: u32) -> Vec<u64> {
        let (done, told) = outcomes();
        for i in 0..n {
            let record = self.record(i.to_le_bytes().to_vec());
            self.log
                .produce(record, u64::from(i), &done)
                .expect("room in the queue");
        }
        let mut offsets = vec![0; n as usize];
        for _ in 0..n {
            let (tag, outcome) = told.recv_timeout(PATIENCE).expect("an outcome");
            let at = usize::try_from(tag).expect("as given");
            offsets[at] = outcome.expect("a healthy log appends").expect("an offset");
        }
        offsets
    }

    fn high(&self) -> u64 {
        let marks = self.log.watermarks(self.topic, self.partition);
        marks.expect("a healthy log answers").high
    }

    fn consumer(&self, start: Start) -> Box<dyn Consumer> {
        self.waking(start, Arc::default())
    }

    fn waking(&self, start: Start, wakes: Arc<Wakes>) -> Box<dyn Consumer> {
        let consumer = self.log.consumer(self.topic, self.partition, start, wakes);
        consumer.expect("a healthy log gives consumers")
    }

    fn mine(&self, record: &Record) -> bool {
        record.key == self.key
    }

    /// Polls until `n` records of this fact have come.
    fn collect(&self, consumer: &mut dyn Consumer, n: usize) -> Vec<Record> {
        let until = Instant::now() + PATIENCE;
        let mut got = Vec::new();
        while got.len() < n {
            assert!(Instant::now() < until, "{} of {n} records came", got.len());
            let polled = consumer.poll(100, &mut |record| {
                if self.mine(&record) {
                    got.push(record);
                }
            });
            if polled.expect("a healthy log polls") == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        got
    }

    /// All records of this fact from `from` to the end.
    fn read_all(&self, from: u64) -> Vec<Record> {
        let (mut at, mut got) = (from, Vec::new());
        let high = self.high();
        while at < high {
            let page = self
                .log
                .read(self.topic, self.partition, at, 1_000, 8 << 20);
            let page = page.expect("a healthy log reads");
            let last = page.last().expect("there is a record below the end");
            at = last.offset + 1;
            got.extend(page.into_iter().filter(|r| self.mine(r)));
        }
        got
    }
}

fn append(log: &dyn Log, record: Produce) -> Result<u64, ProduceError> {
    outcome(log, record).map(|offset| offset.expect("an offset"))
}

fn outcome(log: &dyn Log, record: Produce) -> AppendOutcome {
    let (done, told) = outcomes();
    log.produce(record, 7, &done)?;
    let (tag, outcome) = told.recv_timeout(PATIENCE).expect("an outcome");
    assert_eq!(tag, 7);
    outcome
}

fn partitions_and_generations(log: &Arc<dyn Log>) {
    for topic in Topic::ALL {
        assert!(log.partitions(*topic).is_power_of_two(), "{}", topic.name());
        assert!(log.generation(*topic) >= 1, "{}", topic.name());
    }
}

fn as_it_was(log: &Arc<dyn Log>) {
    for topic in [
        Topic::ChatMessages,
        Topic::Delivery,
        Topic::Cursors,
        Topic::AuditLogs,
    ] {
        let probe = Probe::new(log, topic);
        let offset = probe.append("value");
        let found = probe.read_all(offset);
        let expected = Record {
            offset,
            timestamp_ms: 1_700_000_000_123,
            key: probe.key.clone(),
            value: Bytes::from_static(b"value"),
        };
        assert_eq!(found, [expected], "{}", topic.name());
    }
}

fn empty_and_binary(log: &Arc<dyn Log>) {
    let probe = Probe::new(log, Topic::DeadLetters);
    let all: Vec<u8> = (0..=255).collect();
    let offset = probe.append(Bytes::new());
    probe.append(all.clone());
    let mut bare = probe.record(all.clone());
    bare.key = Bytes::new();
    let last = append(&**log, bare).expect("a healthy log appends");
    let found = probe.read_all(offset);
    assert!(found[0].value.is_empty());
    assert_eq!(found[1].value, all);
    let page = log.read(Topic::DeadLetters, probe.partition, last, 1, 1 << 20);
    let record = &page.expect("a healthy log reads")[0];
    assert_eq!((record.key.len(), &record.value[..]), (0, &all[..]));
}

fn large_values(log: &Arc<dyn Log>) {
    let probe = Probe::new(log, Topic::DeadLetters);
    let value = vec![7_u8; 1 << 20];
    let offset = probe.append(value.clone());
    assert_eq!(probe.read_all(offset)[0].value, value);
    let refused = append(&**log, probe.record(vec![7; (1 << 20) + 1]));
    assert!(
        matches!(refused, Err(ProduceError::Refused { .. })),
        "{refused:?}"
    );
}

fn order_and_offsets(log: &Arc<dyn Log>) {
    let probe = Probe::new(log, Topic::ChatMessages);
    let offsets = probe.append_many(300);
    assert!(offsets.windows(2).all(|w| w[0] < w[1]), "{offsets:?}");
    let found = probe.read_all(offsets[0]);
    assert_eq!(found.len(), 300);
    for (i, record) in (0_u32..).zip(&found) {
        assert_eq!(record.value[..], i.to_le_bytes());
    }
}

fn answered_once(log: &Arc<dyn Log>) {
    let probe = Probe::new(log, Topic::Delivery);
    let (done, told) = outcomes();
    for tag in 0..200 {
        log.produce(probe.record("x"), tag, &done).expect("room");
    }
    drop(done);
    let mut tags = Vec::new();
    // The callback is dropped by the log after its last use: that ends the wait.
    while let Ok((tag, _)) = told.recv_timeout(PATIENCE) {
        tags.push(tag);
        if tags.len() == 200 {
            break;
        }
    }
    assert!(
        told.recv_timeout(Duration::from_millis(50)).is_err(),
        "one came twice"
    );
    tags.sort_unstable();
    assert_eq!(tags, (0..200).collect::<Vec<_>>());
}

fn partitions_are_apart(log: &Arc<dyn Log>) {
    let mut probe = Probe::new(log, Topic::Delivery);
    if log.partitions(Topic::Delivery) < 2 {
        return;
    }
    probe.partition = 0;
    let first = probe.append("zero");
    probe.partition = 1;
    let second = probe.append("one");
    assert_eq!(probe.read_all(second)[0].value, "one");
    probe.partition = 0;
    assert_eq!(probe.read_all(first).len(), 1);
}

fn topics_are_apart(log: &Arc<dyn Log>) {
    let probe = Probe::new(log, Topic::Delivery);
    let before = log.watermarks(Topic::Delivery, probe.partition);
    let before = before.expect("a healthy log answers").high;
    let mut other = Probe::new(log, Topic::AuditLogs);
    other.partition = probe.partition % log.partitions(Topic::AuditLogs);
    other.append("audit");
    let offset = probe.append("delivery");
    assert!(offset >= before);
    assert!(
        other
            .read_all(other.low())
            .iter()
            .all(|r| r.value == "audit")
    );
}

impl Probe<'_> {
    fn low(&self) -> u64 {
        let marks = self.log.watermarks(self.topic, self.partition);
        marks.expect("a healthy log answers").low
    }
}

fn no_such_partition(log: &Arc<dyn Log>) {
    let mut probe = Probe::new(log, Topic::Delivery);
    probe.partition = log.partitions(Topic::Delivery);
    let refused = append(&**log, probe.record("x"));
    assert!(
        matches!(refused, Err(ProduceError::Refused { .. })),
        "{refused:?}"
    );
    assert!(log.read(Topic::Delivery, probe.partition, 0, 1, 1).is_err());
}

fn watermarks_follow(log: &Arc<dyn Log>) {
    let probe = Probe::new(log, Topic::Delivery);
    let offset = probe.append("x");
    let marks = log.watermarks(Topic::Delivery, probe.partition);
    let marks = marks.expect("a healthy log answers");
    assert!(
        marks.low <= offset && offset < marks.high,
        "{marks:?} {offset}"
    );
}

fn read_bounds(log: &Arc<dyn Log>) {
    let probe = Probe::new(log, Topic::Delivery);
    let first = probe.append_many(20)[0];
    let read = |max, bytes| {
        let page = log.read(Topic::Delivery, probe.partition, first, max, bytes);
        page.expect("a healthy log reads").len()
    };
    assert_eq!(read(3, 1 << 20), 3);
    assert_eq!(read(100, 1), 1, "at least one");
    assert!(read(100, 1 << 20) >= 20);
    assert_eq!(read(0, 1 << 20), 0);
}

fn read_at_the_end(log: &Arc<dyn Log>) {
    let probe = Probe::new(log, Topic::Cursors);
    probe.append("x");
    let high = probe.high();
    let page = log.read(Topic::Cursors, probe.partition, high, 10, 1 << 20);
    assert_eq!(page, Ok(Vec::new()));
    let beyond = log.read(
        Topic::Cursors,
        probe.partition,
        high + 1_000_000,
        10,
        1 << 20,
    );
    assert!(
        matches!(beyond, Err(ReadError::OutOfRange { .. })),
        "{beyond:?}"
    );
}

fn consumer_latest(log: &Arc<dyn Log>) {
    let probe = Probe::new(log, Topic::Delivery);
    probe.append("before");
    let mut consumer = probe.consumer(Start::Latest);
    let offset = probe.append("after");
    let got = probe.collect(&mut *consumer, 1);
    assert_eq!((got[0].offset, &got[0].value[..]), (offset, &b"after"[..]));
    assert!(consumer.position() > offset);
}

fn consumer_at(log: &Arc<dyn Log>) {
    let probe = Probe::new(log, Topic::Delivery);
    let offsets = probe.append_many(10);
    let mut consumer = probe.consumer(Start::At(offsets[4]));
    let got = probe.collect(&mut *consumer, 6);
    let expected: Vec<u64> = offsets[4..].to_vec();
    assert_eq!(got.iter().map(|r| r.offset).collect::<Vec<_>>(), expected);
}

fn consumer_earliest(log: &Arc<dyn Log>) {
    let probe = Probe::new(log, Topic::AuditLogs);
    let offset = probe.append("x");
    let low = probe.low();
    let mut consumer = probe.consumer(Start::Earliest);
    assert!(consumer.position() >= low && consumer.position() <= offset);
    assert_eq!(probe.collect(&mut *consumer, 1)[0].offset, offset);
}

fn consumer_live(log: &Arc<dyn Log>) {
    const N: u32 = 3_000;
    let probe = Probe::new(log, Topic::Delivery);
    let start = probe.high();
    let mut consumer = probe.consumer(Start::At(start));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..6 {
                probe.append_many(N / 6);
            }
        });
        let got = probe.collect(&mut *consumer, N as usize);
        assert!(got.windows(2).all(|w| w[0].offset < w[1].offset));
        for (i, record) in (0..N).zip(&got) {
            assert_eq!(record.value[..], (i % (N / 6)).to_le_bytes(), "record {i}");
        }
    });
    let more = consumer.poll(10, &mut |record| assert!(!probe.mine(&record)));
    more.expect("a healthy log polls");
}

fn two_consumers(log: &Arc<dyn Log>) {
    let probe = Probe::new(log, Topic::Delivery);
    let start = probe.high();
    let mut a = probe.consumer(Start::At(start));
    let mut b = probe.consumer(Start::At(start));
    probe.append_many(50);
    assert_eq!(probe.collect(&mut *a, 50), probe.collect(&mut *b, 50));
}

fn poll_bounds(log: &Arc<dyn Log>) {
    let probe = Probe::new(log, Topic::Delivery);
    let start = probe.high();
    let mut consumer = probe.consumer(Start::At(start));
    assert_eq!(consumer.position(), start);
    probe.append_many(20);
    let until = Instant::now() + PATIENCE;
    let mut total = 0;
    while total < 20 {
        assert!(Instant::now() < until, "{total} of 20 came");
        let mut last = None;
        let n = consumer.poll(3, &mut |record| last = Some(record.offset));
        let n = n.expect("a healthy log polls");
        assert!(n <= 3);
        if let Some(last) = last {
            assert_eq!(consumer.position(), last + 1);
        }
        total += n;
    }
}

fn seek(log: &Arc<dyn Log>) {
    let probe = Probe::new(log, Topic::Delivery);
    let offsets = probe.append_many(10);
    let mut consumer = probe.consumer(Start::At(offsets[0]));
    probe.collect(&mut *consumer, 10);
    consumer.seek(offsets[3]).expect("it exists");
    assert_eq!(consumer.position(), offsets[3]);
    let got = probe.collect(&mut *consumer, 7);
    assert_eq!(got[0].offset, offsets[3]);
    consumer.seek(offsets[8]).expect("it exists");
    let next = probe.append("next");
    let got = probe.collect(&mut *consumer, 3);
    let expected = [offsets[8], offsets[9], next];
    assert_eq!(got.iter().map(|r| r.offset).collect::<Vec<_>>(), expected);
}

fn wakes(log: &Arc<dyn Log>) {
    let probe = Probe::new(log, Topic::Delivery);
    let wakes = Arc::new(Wakes::default());
    let mut consumer = probe.waking(Start::Latest, Arc::clone(&wakes));
    // Settle: spurious wakes are allowed.
    while consumer
        .poll(100, &mut |_| {})
        .expect("a healthy log polls")
        > 0
    {}
    std::thread::sleep(Duration::from_millis(50));
    for round in 0..3 {
        while consumer
            .poll(100, &mut |_| {})
            .expect("a healthy log polls")
            > 0
        {}
        let before = wakes.0.load(Ordering::SeqCst);
        probe.append("x");
        let until = Instant::now() + PATIENCE;
        while wakes.0.load(Ordering::SeqCst) == before {
            assert!(Instant::now() < until, "no wake in round {round}");
            std::thread::sleep(Duration::from_millis(1));
        }
        probe.collect(&mut *consumer, 1);
    }
}

fn drop_consumer(log: &Arc<dyn Log>) {
    let probe = Probe::new(log, Topic::Delivery);
    let start = probe.high();
    let gone = probe.consumer(Start::At(start));
    let mut stays = probe.consumer(Start::At(start));
    probe.append_many(10);
    drop(gone);
    probe.append_many(10);
    assert_eq!(probe.collect(&mut *stays, 20).len(), 20);
}

fn committed(log: &Arc<dyn Log>) {
    let (a, b) = (unique(), unique());
    let topic = Topic::Delivery;
    assert_eq!(log.committed(&a, topic, 0), Ok(None));
    log.commit(&a, topic, 0, 5).expect("a healthy log commits");
    log.commit(&b, topic, 0, 9).expect("a healthy log commits");
    log.commit(&a, topic, 0, 6).expect("a healthy log commits");
    assert_eq!(log.committed(&a, topic, 0), Ok(Some(6)));
    assert_eq!(log.committed(&b, topic, 0), Ok(Some(9)));
    assert_eq!(log.committed(&b, Topic::Cursors, 0), Ok(None));
}

fn ephemeral(log: &Arc<dyn Log>) {
    for topic in [Topic::ChatTyping, Topic::ChatPresence, Topic::Bodies] {
        let probe = Probe::new(log, topic);
        let mut consumer = probe.consumer(Start::Latest);
        let until = Instant::now() + PATIENCE;
        let mut got = 0;
        // A consumer may take a while to stand at the end: repeat until one arrives.
        while got == 0 {
            assert!(Instant::now() < until, "nothing came on {}", topic.name());
            let queued = outcome(&**log, probe.record("typing"));
            queued.expect("ephemeral records are queued at once");
            std::thread::sleep(Duration::from_millis(5));
            let polled = consumer.poll(100, &mut |record| got += usize::from(probe.mine(&record)));
            polled.expect("a healthy log polls");
        }
    }
}

fn writable(log: &Arc<dyn Log>) {
    assert_eq!(log.writable(), Ok(()));
}
