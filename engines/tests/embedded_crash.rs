//! kill -9 in the middle of traffic: what was acknowledged is there, whole and once (G2, G3).

#![expect(clippy::unwrap_used, reason = "a test may panic, its makers too")]

mod support;

use hawser_engines::embedded::{CommitHook, Durability, EmbeddedEngine, HookBatch, INGEST_GROUP};
use hawser_engines::log::{Record, Topic};
use hawser_engines::store::{ChatHead, Store, StoreOp};
use hawser_protocol::ids::{ChatId, Seq};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use support::{config, outcomes, read_all, record};

const DIR: &str = "HAWSER_TEST_CRASH_DIR";
const FSYNC: &str = "HAWSER_TEST_CRASH_FSYNC";

/// Copies each record to `delivery` and counts them in a head.
struct Copier(u16);

impl CommitHook for Copier {
    fn begin(&mut self, generation: u16) {
        self.0 = generation;
    }

    fn record(&mut self, partition: u32, record: &Record, _: &dyn Store, out: &mut HookBatch) {
        out.produce
            .push(support::record(Topic::Delivery, partition, &record.value));
        out.store.push(StoreOp::Head {
            chat: chat(partition),
            head: ChatHead {
                seq: Seq::new(self.0, record.offset),
                ordinal: record.offset + 1,
            },
        });
    }
}

fn chat(partition: u32) -> ChatId {
    ChatId::new(&format!("g:{partition}")).expect("valid")
}

/// Appends until it is killed, and prints what was acknowledged.
#[test]
#[ignore = "the child of the tests below"]
fn child_appends_until_it_is_killed() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let mut config = config(Path::new(&dir));
    if std::env::var(FSYNC).is_ok() {
        config.durability = Durability::Fsync;
    }
    let engine = EmbeddedEngine::open(config).unwrap();
    engine.set_hook(Box::new(Copier(0))).unwrap();
    let log = engine.log();
    let (done, told) = outcomes();
    let mut values = BTreeMap::new();
    for tag in 0_u64.. {
        let partition = (tag % 4) as u32;
        let value = format!(
            "{}-{tag}-{}",
            std::process::id(),
            "x".repeat((tag % 700) as usize)
        );
        while log
            .produce(
                record(Topic::ChatMessages, partition, value.as_bytes()),
                tag,
                &done,
            )
            .is_err()
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        values.insert(tag, (partition, value));
        while let Ok((tag, outcome)) = told.try_recv() {
            let (partition, value) = values.remove(&tag).unwrap();
            println!("acked {partition} {} {value}", outcome.unwrap().unwrap());
            std::io::stdout().flush().unwrap();
        }
        if values.len() > 2_000 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Runs the child for a while, kills it, and returns what it had acknowledged.
fn run_and_kill(dir: &Path, lines: usize, fsync: bool) -> Vec<(u32, u64, String)> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "child_appends_until_it_is_killed",
            "--ignored",
            "--nocapture",
        ])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    if fsync {
        command.env(FSYNC, "1");
    }
    let mut child = command.spawn().unwrap();
    let mut acked = Vec::new();
    let mut killed = false;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        // The test harness prints the test's name before the first line.
        let Some((_, line)) = line.split_once("acked ") else {
            continue;
        };
        let mut fields = line.splitn(3, ' ');
        let partition = fields.next().unwrap().parse().unwrap();
        let offset = fields.next().unwrap().parse().unwrap();
        // The last line may be torn by the kill: its acknowledgement was still going out.
        if let Some(value) = fields.next() {
            acked.push((partition, offset, value.to_owned()));
        }
        if acked.len() >= lines && !killed {
            killed = true;
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(
        killed,
        "the child ended by itself after {} records",
        acked.len()
    );
    acked
}

fn check(dir: &Path, acked: &[(u32, u64, String)]) {
    let engine = EmbeddedEngine::open(config(dir)).unwrap();
    let report = engine.recovery();
    assert!(
        report.existed && !report.clean && !report.lossy(),
        "{report:?}"
    );
    // Nothing is left for the hook: record and effects were one.
    assert_eq!(engine.set_hook(Box::new(Copier(0))).unwrap(), 0);
    let (log, store) = (engine.log(), engine.store());
    for partition in 0..4 {
        let records = read_all(&*log, Topic::ChatMessages, partition, 0);
        for (_, offset, value) in acked.iter().filter(|a| a.0 == partition) {
            let found = &records[usize::try_from(*offset).unwrap()];
            assert!(value.len() <= found.value.len() && found.value.starts_with(value.as_bytes()));
        }
        let copies = read_all(&*log, Topic::Delivery, partition, 0);
        assert!(
            records
                .iter()
                .map(|r| &r.value)
                .eq(copies.iter().map(|r| &r.value))
        );
        let n = records.len() as u64;
        assert_eq!(store.head(&chat(partition)).unwrap().ordinal, n);
        let position = log.committed(INGEST_GROUP, Topic::ChatMessages, partition);
        assert_eq!(position.unwrap(), Some(n).filter(|n| *n > 0));
    }
}

#[test]
fn kill_9_loses_nothing_acknowledged_and_leaves_no_batch_in_part() {
    let dir = tempfile::tempdir().unwrap();
    let mut acked = Vec::new();
    for round in 0..6 {
        acked.extend(run_and_kill(dir.path(), 200 + round * 700, false));
        check(dir.path(), &acked);
    }
}

#[test]
fn kill_9_with_fsync_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let acked = run_and_kill(dir.path(), 500, true);
    check(dir.path(), &acked);
}
