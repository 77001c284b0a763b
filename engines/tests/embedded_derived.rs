//! A hook that derives records of `chat-messages` from one: they are judged in the same batch, in offset order.

mod support;

use hawser_engines::embedded::{CommitHook, HookBatch, INGEST_GROUP};
use hawser_engines::log::{Log, Record, Topic};
use hawser_engines::store::Store;
use std::sync::{Arc, Mutex};
use support::{append, open, outcomes, record, values};

/// Every record it was given: (partition, offset).
type Seen = Arc<Mutex<Vec<(u32, u64)>>>;

/// For each "seed" one record in every other partition, lower ones among them; each record is copied to `delivery`.
struct Sower(Seen);

impl CommitHook for Sower {
    fn record(&mut self, partition: u32, record: &Record, _: &dyn Store, out: &mut HookBatch) {
        self.0
            .lock()
            .expect("valid")
            .push((partition, record.offset));
        if &record.value[..] == b"seed" {
            let others = (0..4).filter(|p| *p != partition);
            out.produce
                .extend(others.map(|p| support::record(Topic::ChatMessages, p, b"plant")));
        }
        out.produce
            .push(support::record(Topic::Delivery, partition, &record.value));
    }
}

/// Six seeds and what grew of them, once each, in order.
fn check(log: &dyn Log, seen: &Seen) {
    for partition in 0..4 {
        let own: Vec<u64> = {
            let seen = seen.lock().expect("valid");
            let own = seen.iter().filter(|s| s.0 == partition);
            own.map(|s| s.1).collect()
        };
        let here = values(log, Topic::ChatMessages, partition, 0);
        assert_eq!(own, (0..here.len() as u64).collect::<Vec<_>>());
        assert_eq!(values(log, Topic::Delivery, partition, 0), here);
        let seeds = here.iter().filter(|v| v[..] == *b"seed").count();
        assert_eq!(here.len() - seeds, 6 - seeds, "partition {partition}");
        let position = log.committed(INGEST_GROUP, Topic::ChatMessages, partition);
        assert_eq!(position.expect("readable"), Some(here.len() as u64));
    }
}

#[test]
fn derived_records_are_judged_with_those_that_they_come_from() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let seen = Seen::default();
    engine.set_hook(Box::new(Sower(seen.clone()))).unwrap();
    let log = engine.log();
    let (done, outcome) = outcomes();
    for i in 0..6_u64 {
        let partition = u32::try_from(i % 3 + 1).unwrap();
        let seed = record(Topic::ChatMessages, partition, b"seed");
        log.produce(seed, i, &done).unwrap();
    }
    for _ in 0..6 {
        let (_, offset) = outcome.recv_timeout(support::PATIENCE).unwrap();
        offset.unwrap();
    }
    check(&*log, &seen);
}

#[test]
fn a_hook_that_catches_up_is_given_what_its_records_derive_in_partitions_that_were_done() {
    let dir = tempfile::tempdir().unwrap();
    {
        let engine = open(dir.path());
        for i in 0..6_u32 {
            let seed = record(Topic::ChatMessages, i % 3 + 1, b"seed");
            append(&*engine.log(), seed).unwrap();
        }
    }
    let engine = open(dir.path());
    let seen = Seen::default();
    assert_eq!(engine.set_hook(Box::new(Sower(seen.clone()))).unwrap(), 24);
    check(&*engine.log(), &seen);
}
