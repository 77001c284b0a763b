//! The store on a Cassandra that is slow, silent, gone, or whose answers are lost (fault F4 of the guarantees): behind a
//! proxy, so that no other test's Cassandra is disturbed.
#![cfg(feature = "cassandra")]
#![expect(clippy::unwrap_used, reason = "a test may panic, its makers too")]

#[path = "support/proxy.rs"]
mod proxy;
mod support;

use hawser_engines::cassandra::CassandraStore;
use hawser_engines::store::{Store, StoreError, StoreOp};
use hawser_protocol::ids::ChatId;
use proxy::Proxy;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use support::cassandra::{Keyspace, assert_whole, head, message, nodes};

/// How long something that must happen may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A store that reaches its Cassandra through a proxy alone.
struct Behind {
    proxy: Proxy,
    keyspace: Keyspace,
    store: Arc<CassandraStore>,
    chat: ChatId,
}

/// With time-outs that a test can wait for.
fn behind(test: &str, in_flight_max: usize) -> Option<Behind> {
    let nodes = nodes()?;
    if nodes.len() > 1 {
        eprintln!("SKIPPED: the other nodes would be reached beside the proxy");
        return None;
    }
    let mut keyspace = Keyspace::new(&nodes, test);
    drop(keyspace.open());
    let proxy = Proxy::start(nodes[0].parse().unwrap());
    keyspace.config.contact_points = vec![proxy.place()];
    keyspace.config.request_timeout = Duration::from_millis(300);
    keyspace.config.deadline = Duration::from_secs(4);
    keyspace.config.in_flight_max = in_flight_max;
    let store = Arc::new(keyspace.open());
    let chat = ChatId::new(&format!("g:{test}")).unwrap();
    Some(Behind {
        proxy,
        keyspace,
        store,
        chat,
    })
}

impl Behind {
    fn batch(&self, ordinals: std::ops::RangeInclusive<u64>) -> Vec<StoreOp> {
        let last = *ordinals.end();
        let mut ops: Vec<_> = ordinals.map(|o| message(&self.chat, o)).collect();
        ops.push(head(&self.chat, last));
        ops
    }

    /// As ingest does: the same again until it is stored.
    fn write_at_last(&self, ops: &[StoreOp]) {
        let until = Instant::now() + PATIENCE;
        while let Err(error) = self.store.write(ops) {
            assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
            assert!(Instant::now() < until, "{error}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Rows of the one chat, past the store.
    fn rows(&self) -> i64 {
        let chat = &self.chat;
        self.keyspace
            .cql(&format!(
                "SELECT count(*) FROM KS.messages_by_chat WHERE chat = '{chat}' AND bucket = 0"
            ))
            .unwrap()
    }

    /// Nothing missing, nothing twice.
    fn assert_whole(&self, last: u64) {
        assert_whole(self.store.as_ref(), &self.chat, last);
        assert_eq!(self.rows(), i64::try_from(last).unwrap());
    }
}

#[test]
fn a_write_whose_answer_was_lost_is_repeated_until_it_is_known_to_be_there() {
    let Some(behind) = behind("lost_answers", 64) else {
        return;
    };
    behind.proxy.deafen(true);
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| behind.store.write(&behind.batch(1..=10)));
        // The first phase is applied, and nobody hears of it; the first message waits for its bucket's row.
        let until = Instant::now() + PATIENCE;
        while behind.rows() < 9 {
            assert!(Instant::now() < until, "nothing arrives");
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(400));
        assert!(!writing.is_finished(), "it was not answered");
        behind.proxy.deafen(false);
        let outcome = writing.join().unwrap();
        // The store may have given up by then; its caller does not.
        let known = matches!(outcome, Ok(()) | Err(StoreError::Unavailable { .. }));
        assert!(known, "{outcome:?}");
    });
    behind.write_at_last(&behind.batch(1..=10));
    let stats = behind.store.stats();
    assert!(stats.timeouts >= 9 && stats.retries >= 9, "{stats:?}");
    behind.assert_whole(10);
}

#[test]
fn a_cassandra_that_is_slower_than_the_time_out_is_still_written_to() {
    let Some(behind) = behind("slow", 64) else {
        return;
    };
    // 600 ms there and back, where a try has 300 ms at first.
    behind.proxy.delay(Duration::from_millis(300));
    behind.write_at_last(&behind.batch(1..=8));
    behind.assert_whole(8);
    assert!(behind.store.stats().timeouts > 0);
    behind.proxy.delay(Duration::ZERO);
    behind.write_at_last(&behind.batch(1..=12));
    behind.assert_whole(12);
    assert_eq!(behind.store.trouble(), None);
}

#[test]
fn a_cassandra_that_is_gone_is_refused_at_once_and_found_again_by_itself() {
    let Some(behind) = behind("gone", 64) else {
        return;
    };
    behind.write_at_last(&behind.batch(1..=5));
    behind.proxy.cut(true);
    let until = Instant::now() + PATIENCE;
    while behind.store.trouble().is_none() {
        let written = behind.store.write(&behind.batch(6..=30));
        assert!(written.is_err(), "{written:?}");
        assert!(Instant::now() < until, "it is not noticed");
    }
    // Refused, not waited for; one in a while is let through and fails soon.
    let since = Instant::now();
    for _ in 0..20 {
        let error = behind.store.head(&behind.chat).unwrap_err();
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    }
    assert!(since.elapsed() < Duration::from_secs(10));
    let stats = behind.store.stats();
    assert!(stats.opened >= 1 && stats.refused > 0, "{stats:?}");
    behind.proxy.cut(false);
    behind.write_at_last(&behind.batch(6..=30));
    assert_eq!(behind.store.trouble(), None);
    behind.assert_whole(30);
}

#[test]
fn a_cassandra_that_hangs_is_asked_no_more_than_the_bound_and_everybody_is_told_once() {
    let Some(behind) = behind("hangs", 8) else {
        return;
    };
    const BATCHES: u64 = 64;
    behind.proxy.stall(true);
    let (told, outcomes) = channel();
    for batch in 0..BATCHES {
        let ops = behind.batch(batch * 4 + 1..=batch * 4 + 4);
        let told = told.clone();
        let tell = move |outcome| told.send((batch, outcome)).unwrap();
        behind.store.write_later(ops, Box::new(tell));
    }
    let mut outcome = vec![None; usize::try_from(BATCHES).unwrap()];
    for _ in 0..BATCHES {
        let in_flight = behind.store.stats().in_flight;
        assert!(in_flight <= 8, "{in_flight} under way");
        let (batch, told) = outcomes.recv_timeout(PATIENCE).unwrap();
        let slot = &mut outcome[usize::try_from(batch).unwrap()];
        assert!(
            slot.replace(told).is_none(),
            "batch {batch} was told of twice"
        );
    }
    assert!(outcome.iter().flatten().all(Result::is_err));
    assert!(behind.store.trouble().is_some());
    behind.proxy.stall(false);
    for batch in 0..BATCHES {
        behind.write_at_last(&behind.batch(batch * 4 + 1..=batch * 4 + 4));
    }
    assert_eq!(behind.store.stats().in_flight, 0);
    behind.assert_whole(BATCHES * 4);
}

#[test]
fn whatever_happens_meanwhile_no_row_is_missing_or_doubled_in_the_end() {
    let Some(behind) = behind("weather", 64) else {
        return;
    };
    const LAST: u64 = 400;
    let (done, written) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for first in (1..=LAST).step_by(8) {
                behind.write_at_last(&behind.batch(first..=first + 7));
                written.store(first + 7, Ordering::Release);
                std::thread::sleep(Duration::from_millis(20));
            }
            done.store(true, Ordering::Release);
        });
        // Who reads meanwhile finds no head without its message, and no hole that was answered for.
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                let known = written.load(Ordering::Acquire);
                let Ok(head) = behind.store.head(&behind.chat) else {
                    continue;
                };
                assert!(head.ordinal >= known, "{head:?} after {known}");
            }
        });
        let pause = || std::thread::sleep(Duration::from_millis(500));
        while !done.load(Ordering::Acquire) {
            behind.proxy.deafen(true);
            pause();
            behind.proxy.deafen(false);
            pause();
            behind.proxy.delay(Duration::from_millis(200));
            pause();
            behind.proxy.delay(Duration::ZERO);
            behind.proxy.stall(true);
            pause();
            behind.proxy.stall(false);
            behind.proxy.cut(true);
            pause();
            behind.proxy.cut(false);
            pause();
        }
    });
    let stats = behind.store.stats();
    assert!(stats.timeouts > 0, "{stats:?}");
    behind.assert_whole(LAST);
}
