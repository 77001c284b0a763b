//! Growing `chat-messages` on a real Kafka while nodes send and ingest works: nothing is lost, chats keep their
//! order, nobody starts anew; interrupted at every step it goes on (G2, G4).
#![cfg(feature = "kafka")]
#![expect(clippy::unwrap_used, reason = "a test may panic, its makers too")]

mod support;

use bytes::Bytes;
use hawser_engines::embedded::INGEST_GROUP;
use hawser_engines::kafka::{GrowError, GrowStep, KafkaConfig, KafkaLog, grow};
use hawser_engines::log::{Consumer, Log, Produce, ProduceError, Start, Topic};
use hawser_protocol::partition::partition;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use support::kafka::{brokers, config, grow_stopped_after};
use support::{NoWake, PATIENCE, append};

/// What ingest saw of a chat: (generation, partition, offset, number), in the order in which it came.
type Seen = BTreeMap<String, Vec<(u16, u32, u64, u64)>>;

/// As fanout's driver: reads every partition of the generation that counts, commits, and begins anew on the next
/// one when it counts.
struct Ingest {
    seen: Arc<Mutex<Seen>>,
    paused: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ingest {
    fn start(config: KafkaConfig) -> Self {
        let (seen, paused, stop): (Arc<Mutex<Seen>>, Arc<AtomicBool>, Arc<AtomicBool>) =
            Default::default();
        let shared = (Arc::clone(&seen), Arc::clone(&paused), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let log = KafkaLog::open(config).unwrap();
            let (seen, paused, stop) = shared;
            while !stop.load(Ordering::Acquire) {
                session(&log, &seen, &paused, &stop);
            }
        });
        Self {
            seen,
            paused,
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _ = self.thread.take().unwrap().join();
    }
}

fn session(log: &KafkaLog, seen: &Mutex<Seen>, paused: &AtomicBool, stop: &AtomicBool) {
    let topic = Topic::ChatMessages;
    let generation = log.generation(topic);
    let mut sources: Vec<(u32, Box<dyn Consumer>)> = (0..log.partitions(topic))
        .map(|p| {
            let from = log.committed(INGEST_GROUP, topic, p).unwrap().unwrap_or(0);
            let wake = Arc::new(NoWake);
            (p, log.consumer(topic, p, Start::At(from), wake).unwrap())
        })
        .collect();
    while log.generation(topic) == generation && !stop.load(Ordering::Acquire) {
        std::thread::sleep(Duration::from_millis(5));
        if paused.load(Ordering::Acquire) {
            continue;
        }
        for (partition, consumer) in &mut sources {
            let mut taken = 0;
            let polled = consumer.poll(64, &mut |record| {
                taken += 1;
                let chat = String::from_utf8(record.key.to_vec()).unwrap();
                let number = std::str::from_utf8(&record.value).unwrap().parse().unwrap();
                let place = (generation, *partition, record.offset, number);
                seen.lock().unwrap().entry(chat).or_default().push(place);
            });
            polled.unwrap();
            if taken > 0 {
                let next = consumer.position();
                log.commit_in(generation, INGEST_GROUP, topic, *partition, next)
                    .unwrap();
            }
        }
    }
}

/// One chat's sender: numbers in turn, each until it is acknowledged.
struct Sender {
    acked: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sender {
    fn start(log: &Arc<KafkaLog>, chat: &str) -> Self {
        let (acked, refused): (Arc<AtomicU64>, Arc<AtomicU64>) = Default::default();
        let stop = Arc::new(AtomicBool::new(false));
        let shared = (Arc::clone(&acked), Arc::clone(&refused), Arc::clone(&stop));
        let (log, chat) = (Arc::clone(log), chat.to_owned());
        let thread = std::thread::spawn(move || {
            let (acked, refused, stop) = shared;
            for number in 0_u64.. {
                let began = Instant::now();
                loop {
                    if stop.load(Ordering::Acquire) {
                        return;
                    }
                    match append(&*log, send(&*log, &chat, number)) {
                        Ok(_) => break,
                        Err(ProduceError::Refused { retry_after_ms, .. }) => {
                            assert!(retry_after_ms > 0, "a hint");
                            refused.fetch_add(1, Ordering::AcqRel);
                        }
                        Err(error @ ProduceError::Unknown { .. }) => panic!("{error}"),
                    }
                    assert!(began.elapsed() < PATIENCE * 3, "{chat} {number}");
                    std::thread::sleep(Duration::from_millis(20));
                }
                acked.store(number + 1, Ordering::Release);
                std::thread::sleep(Duration::from_millis(3));
            }
        });
        Self {
            acked,
            refused,
            stop,
            thread: Some(thread),
        }
    }

    /// How many were acknowledged, once it has ended.
    fn finish(mut self) -> u64 {
        self.stop.store(true, Ordering::Release);
        self.thread.take().unwrap().join().unwrap();
        self.acked.load(Ordering::Acquire)
    }
}

/// As the edge makes it: the partition computed from what the log says now.
fn send(log: &dyn Log, chat: &str, number: u64) -> Produce {
    Produce {
        topic: Topic::ChatMessages,
        partition: partition(chat, log.partitions(Topic::ChatMessages)),
        key: Bytes::copy_from_slice(chat.as_bytes()),
        value: Bytes::from(number.to_string()),
        timestamp_ms: 1_700_000_000_000,
    }
}

fn not_more(now: u32, wanted: u32) -> GrowError {
    let topic = "chat-messages";
    GrowError::NotMore { topic, now, wanted }
}

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

/// All that was acknowledged came once, in order, on one partition of each generation.
fn check(seen: &Seen, chat: &str, acked: u64, partitions: &[(u16, u32)]) {
    let places = &seen[chat];
    let numbers: Vec<u64> = places.iter().map(|p| p.3).collect();
    let expected: Vec<u64> = (0..acked).collect();
    assert_eq!(&numbers[..expected.len()], &expected[..], "{chat}");
    assert!(
        numbers.len() <= expected.len() + 1,
        "{chat}: the last one may be on its way"
    );
    let in_order = places
        .windows(2)
        .all(|w| (w[0].0, w[0].2) < (w[1].0, w[1].2));
    assert!(in_order, "{chat}: seq grows: {places:?}");
    for (generation, found, ..) in places {
        let of = partitions.iter().find(|(g, _)| g == generation).unwrap().1;
        assert_eq!(*found, partition(chat, of), "{chat}");
    }
}

#[test]
fn chat_messages_grows_under_traffic_without_loss_disorder_or_a_restart() {
    let Some(brokers) = brokers() else { return };
    let config = config(&brokers, "grow");
    let ingest = Ingest::start(config.clone());
    let nodes = [(); 2].map(|()| Arc::new(KafkaLog::open(config.clone()).unwrap()));
    let chats: Vec<String> = (0..12).map(|n| format!("g:chat-{n}")).collect();
    let senders: Vec<Sender> = chats
        .iter()
        .enumerate()
        .map(|(n, chat)| Sender::start(&nodes[n % 2], chat))
        .collect();
    std::thread::sleep(Duration::from_secs(1));
    let began = Instant::now();
    let mut steps = Vec::new();
    grow(config.clone(), Topic::ChatMessages, 16, &mut |step| {
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
    for node in &nodes {
        wait_until("the node follows", || {
            node.generation(Topic::ChatMessages) == 2
        });
        assert_eq!(node.partitions(Topic::ChatMessages), 16);
        assert_eq!(node.partitions(Topic::Delivery), 4, "only chat-messages");
    }
    let before: Vec<u64> = senders
        .iter()
        .map(|s| s.acked.load(Ordering::Acquire))
        .collect();
    wait_until("everybody goes on", || {
        let mut all = senders.iter().zip(&before);
        all.all(|(s, before)| s.acked.load(Ordering::Acquire) > before + 20)
    });
    let refused: u64 = senders
        .iter()
        .map(|s| s.refused.load(Ordering::Acquire))
        .sum();
    assert!(refused > 0, "sends meanwhile are refused with a hint");
    let acked: Vec<u64> = senders.into_iter().map(Sender::finish).collect();
    println!(
        "{} acknowledged, {refused} refused",
        acked.iter().sum::<u64>()
    );
    wait_until("ingest sees all", || {
        let seen = ingest.seen.lock().unwrap();
        let mut all = chats.iter().zip(&acked);
        all.all(|(chat, acked)| seen[chat].len() as u64 >= *acked)
    });
    let seen = ingest.seen.lock().unwrap();
    for (chat, acked) in chats.iter().zip(&acked) {
        check(&seen, chat, *acked, &[(1, 4), (2, 16)]);
        let of_both = [1, 2].map(|g| seen[chat].iter().filter(|p| p.0 == g).count());
        assert!(of_both.iter().all(|n| *n > 5), "{chat}: {of_both:?}");
    }
    drop(seen);
    // A position of the old generation that comes late is no position of the new one.
    let topic = Topic::ChatMessages;
    let before = nodes[0].committed(INGEST_GROUP, topic, 0);
    let late = nodes[0].commit_in(1, INGEST_GROUP, topic, 0, 1_000_000);
    assert_eq!(late, Ok(()));
    assert_eq!(nodes[0].committed(INGEST_GROUP, topic, 0), before);
    // A node that starts now finds the new generation, and its configured count is the other topics'.
    let late = KafkaLog::open(config).unwrap();
    assert_eq!(late.generation(Topic::ChatMessages), 2);
    assert_eq!(late.partitions(Topic::ChatMessages), 16);
    assert!(late.lags().unwrap().iter().all(|lag| lag.records() == 0));
}

#[test]
fn a_growth_interrupted_at_any_step_goes_on_when_it_is_run_again() {
    let Some(brokers) = brokers() else { return };
    let config = config(&brokers, "resume");
    let ingest = Ingest::start(config.clone());
    let node = Arc::new(KafkaLog::open(config.clone()).unwrap());
    let sender = Sender::start(&node, "g:one");
    std::thread::sleep(Duration::from_millis(500));
    let stop_at = |steps| grow_stopped_after(&config, Topic::ChatMessages, steps);
    // Claimed, made: nobody notices.
    stop_at(0);
    stop_at(1);
    let before = sender.acked.load(Ordering::Acquire);
    wait_until("sends go on", || {
        sender.acked.load(Ordering::Acquire) > before + 5
    });
    let late = KafkaLog::open(config.clone()).unwrap();
    assert_eq!(
        late.generation(Topic::ChatMessages),
        1,
        "what is half made does not count"
    );
    // Another number is not begun meanwhile.
    let other = grow(config.clone(), Topic::ChatMessages, 16, &mut silently);
    assert_eq!(other, Err(GrowError::Unfinished { partitions: 8 }));
    // Fenced, and while ingest is behind.
    ingest.paused.store(true, Ordering::Release);
    stop_at(2);
    stop_at(3);
    let fenced = append(&*node, send(&*node, "g:one", 0));
    assert!(
        matches!(fenced, Err(ProduceError::Refused { retry_after_ms, .. }) if retry_after_ms > 0)
    );
    // A node may start in this state, and does as the others.
    let late = KafkaLog::open(config.clone()).unwrap();
    assert!(append(&late, send(&late, "g:one", 0)).is_err());
    ingest.paused.store(false, Ordering::Release);
    let mut resumed = None;
    grow(config.clone(), Topic::ChatMessages, 8, &mut |step| {
        if let GrowStep::Claimed { resumed: was, .. } = step {
            resumed = Some(*was);
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(resumed, Some(true));
    let before = sender.acked.load(Ordering::Acquire);
    wait_until("sends go on", || {
        sender.acked.load(Ordering::Acquire) > before + 20
    });
    let acked = sender.finish();
    wait_until("ingest sees all", || {
        ingest.seen.lock().unwrap()["g:one"].len() as u64 >= acked
    });
    check(
        &ingest.seen.lock().unwrap(),
        "g:one",
        acked,
        &[(1, 4), (2, 8)],
    );
    // And once more, from there.
    grow(config.clone(), Topic::ChatMessages, 16, &mut silently).unwrap();
    wait_until("the node follows", || {
        node.generation(Topic::ChatMessages) == 3
    });
}

#[test]
fn it_never_shrinks_and_only_one_grows_at_a_time() {
    let Some(brokers) = brokers() else { return };
    let config = config(&brokers, "one");
    let ingest = Ingest::start(config.clone());
    let node = KafkaLog::open(config.clone()).unwrap();
    let grown = |partitions| {
        grow(
            config.clone(),
            Topic::ChatMessages,
            partitions,
            &mut silently,
        )
    };
    assert_eq!(grown(12), Err(GrowError::Partitions { wanted: 12 }));
    for wanted in [2, 4] {
        assert_eq!(grown(wanted), Err(not_more(4, wanted)));
    }
    ingest.paused.store(true, Ordering::Release);
    append(&node, send(&node, "g:one", 0)).unwrap();
    let (sender, draining) = std::sync::mpsc::channel();
    let first = std::thread::spawn({
        let config = config.clone();
        move || {
            grow(config, Topic::ChatMessages, 8, &mut |step| {
                let _ = sender.send(step.clone());
                ControlFlow::Continue(())
            })
        }
    });
    let left = GrowStep::Draining {
        left: 1,
        partitions: 1,
    };
    while draining.recv_timeout(PATIENCE).unwrap() != left {}
    assert_eq!(grown(8), Err(GrowError::UnderWay { partitions: 8 }));
    assert_eq!(grown(32), Err(GrowError::UnderWay { partitions: 8 }));
    ingest.paused.store(false, Ordering::Release);
    assert_eq!(first.join().unwrap(), Ok(()));
    assert_eq!(grown(8), Err(not_more(8, 8)));
}
