//! Faults of a real Kafka: three brokers of this test's own (dev/engines), the leader killed, then all
//! (F2, G1, G2, G10). Runs when HAWSER_TEST_KAFKA is set, which says that Kafka can be had here.
#![cfg(feature = "kafka")]
#![expect(clippy::unwrap_used, reason = "a test may panic, its makers too")]

mod support;

use hawser_engines::kafka::{KafkaConfig, KafkaLog, KafkaRetention};
use hawser_engines::log::{Appended, Log, ProduceError, Start, Topic};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::{NoWake, PATIENCE, Told, append, read_all, record};

/// Three brokers on ports of their own, ended and removed when dropped.
struct Cluster {
    folder: tempfile::TempDir,
}

impl Cluster {
    fn up() -> Option<Self> {
        if std::env::var("HAWSER_TEST_KAFKA").is_err() {
            println!("SKIPPED: HAWSER_TEST_KAFKA is not set (dev/engines up kafka prints it)");
            return None;
        }
        let cluster = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        cluster.engines(&["up", "kafka", "--brokers", "3"]);
        Some(cluster)
    }

    fn engines(&self, arguments: &[&str]) {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../dev/engines");
        let output = Command::new(script)
            .args(arguments)
            .env("HAWSER_ENGINES_RUN", self.folder.path())
            .env("HAWSER_KAFKA_PORT", "29092")
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }

    fn open(&self) -> Arc<dyn Log> {
        let mut config = KafkaConfig::new("127.0.0.1:29092,127.0.0.1:29102,127.0.0.1:29112");
        config.partitions = 4;
        // The records are stamped years ago.
        config.chat_messages = KafkaRetention {
            time_ms: u64::MAX,
            bytes: u64::MAX,
        };
        Arc::new(KafkaLog::open(config).unwrap())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.engines(&["down", "--wipe"]);
    }
}

/// What a client of the log saw: values by the offset that was acknowledged for them.
#[derive(Default)]
struct Seen {
    acked: BTreeMap<(u32, u64), String>,
    unknown: BTreeSet<String>,
    refused: usize,
    longest: Duration,
}

/// Sends one record after the other, each until it is acknowledged, for a while.
fn send(log: &dyn Log, seen: &mut Seen, name: &str, during: Duration) {
    let until = Instant::now() + during;
    for n in 0_u32.. {
        if Instant::now() >= until {
            return;
        }
        let partition = n % 4;
        let value = format!("{name}-{n}");
        let began = Instant::now();
        let offset = loop {
            match append(
                log,
                record(Topic::ChatMessages, partition, value.as_bytes()),
            ) {
                Ok(offset) => break offset,
                Err(ProduceError::Refused { .. }) => seen.refused += 1,
                Err(ProduceError::Unknown { .. }) => {
                    seen.unknown.insert(value.clone());
                }
            }
            assert!(began.elapsed() < PATIENCE * 3, "{value} is never taken");
            std::thread::sleep(Duration::from_millis(20));
        };
        seen.longest = seen.longest.max(began.elapsed());
        seen.acked.insert((partition, offset), value);
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Every acknowledged record is where it was said to be, and twice only what was unknown and sent again.
fn check(log: &dyn Log, seen: &Seen) {
    let mut times = BTreeMap::<String, usize>::new();
    for partition in 0..4 {
        for found in read_all(log, Topic::ChatMessages, partition, 0) {
            let value = String::from_utf8(found.value.to_vec()).unwrap();
            if let Some(acked) = seen.acked.get(&(partition, found.offset)) {
                assert_eq!(*acked, value, "{partition} {}", found.offset);
            }
            *times.entry(value).or_default() += 1;
        }
    }
    for value in seen.acked.values() {
        let n = times.get(value).copied().unwrap_or(0);
        assert!(n >= 1, "{value} was acknowledged and is lost");
        assert!(n == 1 || seen.unknown.contains(value), "{value}: {n} times");
    }
}

fn outage_of_all(cluster: &Cluster, log: &dyn Log, seen: &mut Seen) {
    // In flight at the moment of the outage.
    let (sender, told) = channel();
    let done: Arc<dyn Appended> = Arc::new(Timed(Mutex::new(sender)));
    let killer = std::thread::scope(|scope| {
        let killed = scope.spawn(|| {
            cluster.engines(&["kill", "kafka-1", "kafka-2", "kafka-3"]);
            Instant::now()
        });
        let mut sent = Vec::new();
        while !killed.is_finished() {
            let tag = sent.len() as u64;
            let value = format!("flight-{tag}");
            if log
                .produce(record(Topic::ChatMessages, 0, value.as_bytes()), tag, &done)
                .is_ok()
            {
                sent.push((Instant::now(), value));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let at = killed.join().unwrap();
        answered_within_a_second(&told, &sent, seen);
        at
    });
    // From now on: refused at once, with a hint.
    let until = killer + Duration::from_secs(1);
    while log.writable().is_ok() {
        assert!(Instant::now() < until, "still called writable");
        std::thread::sleep(Duration::from_millis(10));
    }
    for n in 0..20 {
        let began = Instant::now();
        let refused = append(log, record(Topic::ChatMessages, 1, b"during the outage"));
        assert!(
            matches!(refused, Err(ProduceError::Refused { retry_after_ms, .. }) if retry_after_ms > 0),
            "{n}: {refused:?}"
        );
        assert!(
            began.elapsed() < Duration::from_millis(50),
            "{:?}",
            began.elapsed()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Brokers that take connections and answer nothing.
fn outage_of_the_hanging_kind(cluster: &Cluster, log: &dyn Log) {
    let names = ["kafka-1", "kafka-2", "kafka-3"];
    cluster.engines(&[&["stop"], &names[..]].concat());
    let began = Instant::now();
    let outcome = append(log, record(Topic::ChatMessages, 2, b"to nobody"));
    assert!(outcome.is_err(), "{outcome:?}");
    assert!(
        began.elapsed() < Duration::from_millis(1_500),
        "{:?}",
        began.elapsed()
    );
    assert!(log.writable().is_err());
    cluster.engines(&[&["cont"], &names[..]].concat());
}

/// Outcomes with the moment in which each came.
struct Timed(Mutex<Sender<(Told, Instant)>>);

impl Appended for Timed {
    fn appended(&self, tag: u64, outcome: Result<u64, ProduceError>) {
        let sender = self.0.lock().unwrap();
        let _ = sender.send(((tag, outcome), Instant::now()));
    }
}

fn answered_within_a_second(
    told: &Receiver<(Told, Instant)>,
    sent: &[(Instant, String)],
    seen: &mut Seen,
) {
    let (mut left, mut longest) = (sent.len(), Duration::ZERO);
    while left > 0 {
        let ((tag, outcome), at) = told
            .recv_timeout(PATIENCE)
            .expect("every record is answered");
        left -= 1;
        let (since, value) = &sent[usize::try_from(tag).unwrap()];
        let waited = at.saturating_duration_since(*since);
        longest = longest.max(waited);
        match outcome {
            Ok(offset) => {
                seen.acked.insert((0, offset), value.clone());
            }
            Err(ProduceError::Unknown { .. }) => {
                seen.unknown.insert(value.clone());
            }
            Err(ProduceError::Refused { .. }) => {}
        }
        assert!(
            waited < Duration::from_millis(1_200),
            "{value} waited {waited:?}"
        );
    }
    println!("all killed: longest wait for an answer {longest:?}");
}

#[test]
fn a_killed_leader_and_a_killed_cluster_lose_nothing_acknowledged_and_are_answered_for() {
    let Some(cluster) = Cluster::up() else { return };
    let log = cluster.open();
    let start = Start::Earliest;
    let mut consumer = log
        .consumer(Topic::ChatMessages, 0, start, Arc::new(NoWake))
        .unwrap();
    let mut seen = Seen::default();
    send(&*log, &mut seen, "calm", Duration::from_secs(1));
    assert_eq!((seen.refused, seen.unknown.len()), (0, 0));

    // Each broker leads some partition: whichever dies, leaders change.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(300));
            cluster.engines(&["kill", "kafka-2"]);
        });
        send(&*log, &mut seen, "failover", Duration::from_secs(6));
    });
    println!(
        "leader killed: longest append {:?}, refused {}, unknown {}",
        seen.longest,
        seen.refused,
        seen.unknown.len()
    );
    cluster.engines(&["start", "kafka-2"]);
    send(&*log, &mut seen, "again", Duration::from_secs(2));
    check(&*log, &seen);

    outage_of_all(&cluster, &*log, &mut seen);
    let back = Instant::now();
    cluster.engines(&["start", "kafka-1", "kafka-2", "kafka-3"]);
    let up = back.elapsed();
    while log.writable().is_err() {
        assert!(back.elapsed() < PATIENCE * 3, "never writable again");
        std::thread::sleep(Duration::from_millis(20));
    }
    let writable = back.elapsed();
    append(&*log, record(Topic::ChatMessages, 3, b"first")).unwrap();
    let taken = back.elapsed();
    println!(
        "brokers listen after {up:?}, writable after {writable:?}, a record taken after {taken:?}"
    );
    send(&*log, &mut seen, "back", Duration::from_secs(2));
    check(&*log, &seen);

    outage_of_the_hanging_kind(&cluster, &*log);
    send(&*log, &mut seen, "awake", Duration::from_secs(1));
    check(&*log, &seen);

    // A reader from before the faults has missed nothing either.
    let expected: BTreeSet<u64> = seen
        .acked
        .keys()
        .filter(|k| k.0 == 0)
        .map(|k| k.1)
        .collect();
    let mut got = BTreeSet::new();
    let until = Instant::now() + PATIENCE;
    while !expected.is_subset(&got) {
        assert!(
            Instant::now() < until,
            "{} of {}",
            got.len(),
            expected.len()
        );
        // Errors of the outage come first and pass.
        let _ = consumer.poll(1_000, &mut |record| assert!(got.insert(record.offset)));
        std::thread::sleep(Duration::from_millis(5));
    }
}
