//! F7: the disk is full. Appends are refused with a hint and an alarm, nothing that was acknowledged is
//! damaged, nothing that is not stored is acknowledged, and appends go on when there is space again.

#![expect(clippy::unwrap_used, reason = "a test may panic, its makers too")]

mod support;

use hawser_engines::embedded::{Durability, EmbeddedEngine};
use hawser_engines::log::{Log, ProduceError, Topic};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::{PATIENCE, append, config, outcomes, read_all, record};

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "{what} does not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn below_the_reserve_appends_are_refused_with_an_alarm_until_there_is_space() {
    let dir = tempfile::tempdir().unwrap();
    let free = Arc::new(AtomicU64::new(1 << 30));
    let mut config = config(dir.path());
    config.disk_reserve_bytes = 1 << 20;
    let seen = Arc::clone(&free);
    config.disk = Arc::new(move |_| Some(seen.load(Ordering::SeqCst)));
    let engine = EmbeddedEngine::open(config).unwrap();
    let log = engine.log();
    append(&*log, record(Topic::Delivery, 0, b"before")).unwrap();

    free.store(1 << 19, Ordering::SeqCst);
    eventually("the alarm", || log.writable().is_err());
    let refused = append(&*log, record(Topic::Delivery, 0, b"while"));
    let Err(ProduceError::Refused {
        retry_after_ms,
        reason,
    }) = refused
    else {
        panic!("{refused:?}");
    };
    assert!(retry_after_ms > 0 && reason.contains("disk"), "{reason}");
    let stats = engine.stats();
    assert!(stats.disk_full && stats.disk_full_alarms == 1);
    assert!(stats.refused_disk_full > 0);
    let read = read_all(&*log, Topic::Delivery, 0, 0);
    assert_eq!(read.len(), 1, "what is stored is read, nothing else");

    free.store(1 << 30, Ordering::SeqCst);
    eventually("the end of the alarm", || log.writable().is_ok());
    let offset = append(&*log, record(Topic::Delivery, 0, b"after")).unwrap();
    assert_eq!(offset, 1, "what was refused has left no trace");
    assert!(!engine.stats().disk_full);
}

/// A small file system of its own, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where this process may not mount.
    fn new(at: &Path, mib: u32) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"]);
        let mounted = mount.arg(at).output().is_ok_and(|o| o.status.success());
        mounted.then(|| Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Appends until the log refuses; returns what was acknowledged, by offset.
fn fill(log: &dyn Log, limit: u64) -> Vec<(u64, Vec<u8>)> {
    let (done, told) = outcomes();
    let value = |tag: u64| format!("{tag} {}", "f".repeat(20_000)).into_bytes();
    let (mut acked, mut refused) = (Vec::new(), 0);
    for tag in 0..limit {
        let sent = log.produce(record(Topic::Delivery, 1, &value(tag)), tag, &done);
        let outcome = match sent {
            Ok(()) => told.recv_timeout(PATIENCE).expect("an outcome").1,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(offset) => acked.push((offset.expect("an offset"), value(tag))),
            Err(_) => refused += 1,
        }
        if refused > 20 {
            return acked;
        }
    }
    panic!("the disk does not become full");
}

#[test]
fn a_disk_without_a_free_byte_corrupts_nothing_and_appends_go_on_when_there_is_space() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_disk) = SmallDisk::new(dir.path(), 160) else {
        println!("SKIPPED: this process may not mount a small disk; run as root");
        return;
    };
    let ballast = dir.path().join("ballast");
    std::fs::write(&ballast, vec![1; 64 << 20]).unwrap();
    let data = dir.path().join("data");
    let mut settings = config(&data);
    settings.durability = Durability::Fsync;
    // No reserve: the writes themselves meet the end of the disk.
    settings.disk_reserve_bytes = 0;
    settings.write_buffer_bytes = 4 << 20;
    let engine = EmbeddedEngine::open(settings.clone()).unwrap();
    let log = engine.log();
    let acked = fill(&*log, 20_000);
    assert!(acked.len() > 100, "{}", acked.len());
    assert!(log.writable().is_err());

    std::fs::remove_file(&ballast).unwrap();
    eventually("a working database", || log.writable().is_ok());
    let offset = append(&*log, record(Topic::Delivery, 1, b"after")).unwrap();
    check(&*log, &acked, offset);
    drop(engine);
    let engine = EmbeddedEngine::open(settings).unwrap();
    check(&*engine.log(), &acked, offset);
}

fn check(log: &dyn Log, acked: &[(u64, Vec<u8>)], after: u64) {
    let records = read_all(log, Topic::Delivery, 1, 0);
    for (offset, value) in acked {
        let at = usize::try_from(*offset).unwrap();
        assert_eq!(records[at].value, value, "offset {offset}");
    }
    assert_eq!(records[usize::try_from(after).unwrap()].value, "after");
    let found = u64::try_from(records.len()).unwrap();
    assert_eq!(found, after + 1, "offsets are dense");
}
