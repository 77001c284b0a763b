//! The embedded engine as its callers meet it: opening, closing, the hook, order of callbacks.

mod support;

use hawser_engines::embedded::{CommitHook, EmbeddedEngine, HookBatch, INGEST_GROUP, OpenError};
use hawser_engines::log::{Record, Topic};
use hawser_engines::store::{ChatHead, Store, StoreOp};
use hawser_protocol::ids::{ChatId, Seq};
use std::sync::{Arc, Mutex};
use support::{append, config, open, outcomes, record, values};

#[test]
fn what_is_acknowledged_is_there_after_an_orderly_close() {
    let dir = tempfile::tempdir().unwrap();
    {
        let engine = open(dir.path());
        let log = engine.log();
        for i in 0..100_u8 {
            assert_eq!(
                append(&*log, record(Topic::Delivery, 1, &[i])).unwrap(),
                u64::from(i)
            );
        }
        log.commit("edge", Topic::Delivery, 1, 40).unwrap();
    }
    let engine = open(dir.path());
    assert!(engine.recovery().existed && engine.recovery().clean && !engine.recovery().lossy());
    let log = engine.log();
    let expected: Vec<Vec<u8>> = (0..100).map(|i| vec![i]).collect();
    assert_eq!(values(&*log, Topic::Delivery, 1, 0), expected);
    assert_eq!(log.generation(Topic::Delivery), 1);
    assert_eq!(log.committed("edge", Topic::Delivery, 1).unwrap(), Some(40));
}

#[test]
fn a_second_engine_on_the_same_folder_is_refused_and_names_the_holder() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let error = EmbeddedEngine::open(config(dir.path())).err().unwrap();
    assert!(
        error.to_string().contains(&std::process::id().to_string()),
        "{error}"
    );
    drop(engine);
    open(dir.path());
}

#[test]
fn an_unknown_format_is_refused_and_names_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let path = dir.path().join("FORMAT");
    std::fs::write(&path, r#"{"format":9,"written_by":"hawser 9.1.0","new":1}"#).unwrap();
    let error = EmbeddedEngine::open(config(dir.path())).err().unwrap();
    assert!(matches!(error, OpenError::UnknownFormat { found: 9, .. }));
    assert!(error.to_string().contains("hawser 9.1.0"), "{error}");
    std::fs::remove_file(&path).unwrap();
    let error = EmbeddedEngine::open(config(dir.path())).err().unwrap();
    assert!(matches!(error, OpenError::NoFormat { .. }), "{error}");
}

#[test]
fn another_number_of_partitions_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let mut other = config(dir.path());
    other.partitions = 8;
    let error = EmbeddedEngine::open(other).err().unwrap();
    assert!(
        matches!(
            error,
            OpenError::Partitions {
                stored: 4,
                wanted: 8,
                ..
            }
        ),
        "{error}"
    );
}

/// (partition, offset) of every record that a hook was given.
type Seen = Arc<Mutex<Vec<(u32, u64)>>>;

/// Copies each record to `delivery`, and keeps a head per partition.
struct Copier {
    generation: u16,
    seen: Seen,
    committed: Arc<Mutex<usize>>,
}

impl CommitHook for Copier {
    fn begin(&mut self, generation: u16) {
        self.generation = generation;
    }

    fn record(&mut self, partition: u32, record: &Record, _: &dyn Store, out: &mut HookBatch) {
        self.seen
            .lock()
            .expect("valid")
            .push((partition, record.offset));
        if &record.value[..] == b"poison" {
            out.abort = Some("a row that cannot be read".to_owned());
            return;
        }
        let mut copy = support::record(Topic::Delivery, partition, &record.value);
        copy.key = record.key.clone();
        out.produce.push(copy);
        out.store.push(StoreOp::Head {
            chat: ChatId::new(&format!("g:{partition}")).expect("valid"),
            head: ChatHead {
                seq: Seq::new(self.generation, record.offset),
                ordinal: record.offset + 1,
            },
        });
    }

    fn batch_committed(&mut self) {
        *self.committed.lock().expect("valid") += 1;
    }
}

fn copier() -> (Box<Copier>, Seen) {
    let seen = Arc::default();
    let hook = Copier {
        generation: 0,
        seen: Arc::clone(&seen),
        committed: Arc::default(),
    };
    (Box::new(hook), seen)
}

#[test]
fn the_hook_runs_in_offset_order_and_its_effects_are_visible_when_the_record_is_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let (hook, seen) = copier();
    assert_eq!(engine.set_hook(hook).unwrap(), 0);
    let (log, store) = (engine.log(), engine.store());
    let (done, outcome) = outcomes();
    for i in 0..500_u64 {
        let produce = record(Topic::ChatMessages, (i % 2) as u32, &i.to_le_bytes());
        log.produce(produce, i, &done).unwrap();
    }
    for _ in 0..500 {
        let (tag, offset) = outcome.recv_timeout(support::PATIENCE).unwrap();
        assert_eq!(offset.unwrap(), Some(tag / 2));
    }
    for partition in [0, 1] {
        let chat = ChatId::new(&format!("g:{partition}")).unwrap();
        assert_eq!(store.head(&chat).unwrap().ordinal, 250);
        assert_eq!(values(&*log, Topic::Delivery, partition, 0).len(), 250);
        let position = log.committed(INGEST_GROUP, Topic::ChatMessages, partition);
        assert_eq!(position.unwrap(), Some(250));
        let order: Vec<u64> = seen
            .lock()
            .unwrap()
            .iter()
            .filter(|s| s.0 == partition)
            .map(|s| s.1)
            .collect();
        assert_eq!(order, (0..250).collect::<Vec<_>>());
    }
}

#[test]
fn records_beyond_the_ingest_commit_go_through_a_hook_that_is_set_later_and_only_once() {
    let dir = tempfile::tempdir().unwrap();
    {
        let engine = open(dir.path());
        for i in 0..600_u32 {
            append(&*engine.log(), record(Topic::ChatMessages, i % 4, &[1])).unwrap();
        }
    }
    {
        let engine = open(dir.path());
        let (hook, seen) = copier();
        assert_eq!(engine.set_hook(hook).unwrap(), 600);
        assert_eq!(seen.lock().unwrap().len(), 600);
        assert_eq!(values(&*engine.log(), Topic::Delivery, 3, 0).len(), 150);
    }
    let engine = open(dir.path());
    let (hook, _) = copier();
    assert_eq!(engine.set_hook(hook).unwrap(), 0);
}

#[test]
fn a_record_that_the_hook_cannot_judge_is_refused_and_takes_nobody_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    engine.set_hook(copier().0).unwrap();
    let log = engine.log();
    let (done, outcome) = outcomes();
    for i in 0..30_u64 {
        let value: &[u8] = if i == 17 { b"poison" } else { b"good" };
        log.produce(record(Topic::ChatMessages, 0, value), i, &done)
            .unwrap();
    }
    let mut refused = Vec::new();
    for _ in 0..30 {
        let (tag, result) = outcome.recv_timeout(support::PATIENCE).unwrap();
        if result.is_err() {
            refused.push(tag);
        }
    }
    assert_eq!(refused, [17]);
    assert_eq!(values(&*log, Topic::ChatMessages, 0, 0).len(), 29);
    assert_eq!(values(&*log, Topic::Delivery, 0, 0).len(), 29);
    assert_eq!(engine.stats().hook_aborts, 1);
}
