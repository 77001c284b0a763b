//! F8: torn last records and flipped bits on the disk of a closed database. The checksum finds them,
//! the log is cut back to the last good record, and the report and a new generation say so.

#![expect(clippy::unwrap_used, reason = "a test may panic, its makers too")]

mod support;

use hawser_engines::embedded::{EmbeddedEngine, OpenError, RecoveryReport};
use hawser_engines::log::{Log, ReadError, Topic};
use proptest::test_runner::TestRng;
use std::path::{Path, PathBuf};
use support::{append, config, open, outcomes, read_all, record};

const PARTITIONS: u32 = 4;
/// Records that `fill` appends to each partition of `delivery`.
const EACH: u64 = 50;

fn value(partition: u32, offset: u64) -> Vec<u8> {
    format!("value {partition} {offset} {}", "y".repeat(200)).into_bytes()
}

/// A closed database with `EACH` records in each partition of `delivery`, one batch each.
fn fill(dir: &Path) {
    let engine = open(dir);
    let log = engine.log();
    for offset in 0..EACH {
        for partition in 0..PARTITIONS {
            let value = value(partition, offset);
            let got = append(&*log, record(Topic::Delivery, partition, &value)).unwrap();
            assert_eq!(got, offset);
        }
    }
    drop(engine);
    trim(&journal(dir));
}

/// The one journal of a small database.
fn journal(dir: &Path) -> PathBuf {
    let found: Vec<PathBuf> = std::fs::read_dir(dir.join("db"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "jnl"))
        .collect();
    assert_eq!(found.len(), 1);
    found[0].clone()
}

/// Cuts off the zeros that the storage engine allocates ahead.
fn trim(journal: &Path) {
    let bytes = std::fs::read(journal).unwrap();
    let end = bytes.iter().rposition(|b| *b != 0).unwrap() + 1;
    std::fs::write(journal, &bytes[..end]).unwrap();
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Every partition is a beginning of what was written; returns how many records are missing.
fn missing(log: &dyn Log, each: u64, value: impl Fn(u32, u64) -> Vec<u8>) -> u64 {
    let mut missing = 0;
    for partition in 0..PARTITIONS {
        let records = read_all(log, Topic::Delivery, partition, 0);
        let high = log.watermarks(Topic::Delivery, partition).unwrap().high;
        assert_eq!(records.len() as u64, high);
        for (offset, record) in (0..).zip(&records) {
            assert_eq!(record.offset, offset);
            assert_eq!(record.value, value(partition, offset));
        }
        missing += each - high;
    }
    missing
}

/// It goes on working, and what it writes then is there after another opening.
fn goes_on(dir: &Path, engine: EmbeddedEngine) {
    let generation = engine.log().generation(Topic::Delivery);
    let offset = append(&*engine.log(), record(Topic::Delivery, 2, b"after")).unwrap();
    drop(engine);
    let engine = open(dir);
    assert_eq!(
        *engine.recovery(),
        RecoveryReport {
            existed: true,
            clean: true,
            batches_lost: Some(0),
            ..RecoveryReport::default()
        }
    );
    assert_eq!(engine.log().generation(Topic::Delivery), generation);
    let last = read_all(&*engine.log(), Topic::Delivery, 2, offset);
    assert_eq!(last[0].value, "after");
}

#[test]
fn a_torn_last_record_is_cut_off_said_and_raises_the_generation() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let journal = journal(dir.path());
    let len = std::fs::metadata(&journal).unwrap().len();
    // Into the last batch of records; behind it are only the engine's own rows of closing.
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(&journal)
        .unwrap();
    file.set_len(len - 20).unwrap();
    let engine = open(dir.path());
    let report = engine.recovery().clone();
    assert_eq!(report.journal_fault, Some("a torn batch"));
    assert!(report.journal_bytes_cut > 0);
    assert_eq!(report.batches_lost, Some(1));
    assert!(report.raised.contains(&(Topic::Delivery, 2)), "{report:?}");
    let aside = report.set_aside.unwrap();
    assert!(std::fs::read_dir(aside).unwrap().count() > 0);
    assert_eq!(missing(&*engine.log(), EACH, value), 1);
    assert_eq!(engine.log().generation(Topic::Delivery), 2);
    assert_eq!(engine.log().generation(Topic::Cursors), 1, "lost nothing");
    goes_on(dir.path(), engine);
}

#[test]
fn a_torn_batch_that_nobody_was_promised_is_cut_off_and_raises_nothing() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let journal = journal(dir.path());
    // As a crash in the middle of the next write leaves it: the beginning of a batch.
    let mut bytes = std::fs::read(&journal).unwrap();
    bytes.extend_from_slice(&[1, 3, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 2, 0]);
    std::fs::write(&journal, bytes).unwrap();
    let engine = open(dir.path());
    let report = engine.recovery();
    assert_eq!(report.journal_fault, Some("a torn batch"));
    assert!(!report.lossy(), "{report:?}");
    assert_eq!(missing(&*engine.log(), EACH, value), 0);
    goes_on(dir.path(), engine);
}

#[test]
fn a_journal_cut_between_two_batches_is_noticed_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let journal = journal(dir.path());
    let bytes = std::fs::read(&journal).unwrap();
    // Every batch ends with the storage engine's magic and version.
    let ends: Vec<usize> = (4..=bytes.len())
        .filter(|i| &bytes[i - 4..*i] == b"FJL\x03")
        .collect();
    std::fs::write(&journal, &bytes[..ends[ends.len() - 11]]).unwrap();
    let engine = open(dir.path());
    let report = engine.recovery();
    assert_eq!(report.journal_fault, None, "the journal itself looks whole");
    assert_eq!(report.batches_lost, Some(10));
    assert!(report.raised.contains(&(Topic::Delivery, 2)), "{report:?}");
    assert_eq!(missing(&*engine.log(), EACH, value), 10);
    goes_on(dir.path(), engine);
}

#[test]
fn after_a_reboot_a_torn_tail_raises_generations_because_the_note_may_be_old() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let note = dir.path().join("ACKED");
    let mut bytes = std::fs::read(&note).unwrap();
    bytes[4] = 0;
    bytes[5] ^= 1;
    let end = bytes.len() - 4;
    let crc = crc32fast::hash(&bytes[..end]);
    bytes[end..].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&note, &bytes).unwrap();
    let whole = tempfile::tempdir().unwrap();
    copy(dir.path(), whole.path());
    let mut fsync = config(whole.path());
    fsync.durability = hawser_engines::embedded::Durability::Fsync;
    assert!(
        !EmbeddedEngine::open(fsync).unwrap().recovery().lossy(),
        "a whole journal"
    );
    let journal = journal(dir.path());
    let len = std::fs::metadata(&journal).unwrap().len();
    std::fs::OpenOptions::new()
        .write(true)
        .open(&journal)
        .unwrap()
        .set_len(len - 3)
        .unwrap();
    let engine = open(dir.path());
    assert_eq!(
        engine.recovery().raised.len(),
        10,
        "{:?}",
        engine.recovery()
    );
}

#[test]
fn a_database_without_its_note_counts_as_restored_and_raises_generations() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    std::fs::remove_file(dir.path().join("ACKED")).unwrap();
    let engine = open(dir.path());
    assert_eq!(engine.recovery().raised.len(), 10);
    assert_eq!(missing(&*engine.log(), EACH, value), 0);
    goes_on(dir.path(), engine);
}

/// Small seeded randomness; the seed is in the name of what fails.
fn random(seed: u64) -> TestRng {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRng::from_seed(proptest::test_runner::RngAlgorithm::ChaCha, &bytes)
}

fn below(rng: &mut TestRng, n: u64) -> u64 {
    use proptest::prelude::Rng;
    rng.next_u64() % n
}

#[test]
fn any_flipped_bit_of_the_journal_leaves_a_beginning_of_the_log_and_is_said_when_it_cost_something()
{
    let original = tempfile::tempdir().unwrap();
    fill(original.path());
    let mut costly = 0;
    for seed in 0..60 {
        let dir = tempfile::tempdir().unwrap();
        copy(original.path(), dir.path());
        let journal = journal(dir.path());
        let mut bytes = std::fs::read(&journal).unwrap();
        let bit = below(&mut random(seed), bytes.len() as u64 * 8);
        bytes[usize::try_from(bit / 8).unwrap()] ^= 1 << (bit % 8);
        std::fs::write(&journal, bytes).unwrap();
        let engine = open(dir.path());
        let lost = missing(&*engine.log(), EACH, value);
        let report = engine.recovery();
        assert!(report.journal_fault.is_some(), "seed {seed}: {report:?}");
        assert_eq!(
            lost > 0,
            engine.log().generation(Topic::Delivery) == 2,
            "seed {seed}: {report:?}"
        );
        costly += u64::from(lost > 0);
    }
    assert!(costly > 50, "{costly}");
}

/// A database whose tables are on disk: small write buffers and larger values.
fn fill_tables(dir: &Path) -> u64 {
    const N: u64 = 400;
    let mut config = config(dir);
    config.write_buffer_bytes = 64 << 10;
    let engine = EmbeddedEngine::open(config).unwrap();
    let (done, told) = outcomes();
    for offset in 0..N {
        for partition in 0..PARTITIONS {
            let record = record(Topic::Delivery, partition, &table_value(partition, offset));
            engine.log().produce(record, 0, &done).unwrap();
        }
        // One at a time, so that there are many batches and many flushes.
        for _ in 0..PARTITIONS {
            told.recv_timeout(support::PATIENCE).unwrap().1.unwrap();
        }
    }
    N
}

fn table_value(partition: u32, offset: u64) -> Vec<u8> {
    // Every other one is large enough to be kept apart from its key.
    let size = if offset.is_multiple_of(2) { 300 } else { 2_000 };
    format!("{partition} {offset} {}", "z".repeat(size)).into_bytes()
}

fn table_files(dir: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![dir.join("db").join("keyspaces")]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if name.contains("/tables/") || name.contains("/blobs/") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn any_flipped_bit_of_a_table_is_never_handed_out_as_a_record() {
    let original = tempfile::tempdir().unwrap();
    let each = fill_tables(original.path());
    assert!(
        table_files(original.path()).len() > 4,
        "there are tables to damage"
    );
    let (mut refused, mut cut, mut harmless) = (0, 0, 0);
    for seed in 0..40 {
        let dir = tempfile::tempdir().unwrap();
        copy(original.path(), dir.path());
        let files = table_files(dir.path());
        let mut rng = random(seed);
        let file = &files[usize::try_from(below(&mut rng, files.len() as u64)).unwrap()];
        let mut bytes = std::fs::read(file).unwrap();
        let bit = below(&mut rng, bytes.len() as u64 * 8);
        bytes[usize::try_from(bit / 8).unwrap()] ^= 1 << (bit % 8);
        std::fs::write(file, bytes).unwrap();
        match EmbeddedEngine::open(config(dir.path())) {
            Err(error) => {
                assert!(
                    matches!(error, OpenError::Damaged { .. }),
                    "seed {seed}: {error}"
                );
                assert!(error.to_string().contains("Restore"), "{error}");
                refused += 1;
            }
            Ok(engine) => {
                let lost = missing(&*engine.log(), each, table_value);
                let raised = engine.log().generation(Topic::Delivery) == 2;
                assert_eq!(lost > 0, raised, "seed {seed}: {:?}", engine.recovery());
                assert_eq!(lost > 0, !engine.recovery().truncated.is_empty());
                if lost > 0 { cut += 1 } else { harmless += 1 }
            }
        }
    }
    assert!(cut > 0, "refused {refused}, cut {cut}, harmless {harmless}");
}

#[test]
fn a_bad_record_that_opening_did_not_look_at_is_an_error_of_the_read_and_can_be_passed() {
    let dir = tempfile::tempdir().unwrap();
    fill_tables(dir.path());
    let blobs: Vec<PathBuf> = table_files(dir.path())
        .into_iter()
        .filter(|p| p.to_string_lossy().contains("/blobs/"))
        .collect();
    let needle = b"3 101 zzz";
    let hit = blobs.iter().find_map(|path| {
        let bytes = std::fs::read(path).unwrap();
        let at = bytes.windows(needle.len()).position(|w| w == needle)?;
        Some((path, bytes, at))
    });
    let (path, mut bytes, at) = hit.expect("record 101 of partition 3 is in a blob file");
    bytes[at + 50] ^= 4;
    std::fs::write(path, bytes).unwrap();
    let mut config = config(dir.path());
    config.verify_bytes_max = 4_096;
    let engine = EmbeddedEngine::open(config).unwrap();
    assert!(!engine.recovery().lossy());
    let log = engine.log();
    let read = |from| log.read(Topic::Delivery, 3, from, 10, 1 << 20);
    assert_eq!(read(95).unwrap().len(), 6, "the good ones before it");
    assert_eq!(read(101), Err(ReadError::Corrupt { offset: 101 }));
    assert_eq!(read(102).unwrap()[0].offset, 102);
    assert!(engine.stats().corrupt_reads > 0);
    let start = hawser_engines::log::Start::At(100);
    let wake = std::sync::Arc::new(support::NoWake);
    let mut consumer = log.consumer(Topic::Delivery, 3, start, wake).unwrap();
    let mut got = Vec::new();
    let until = std::time::Instant::now() + support::PATIENCE;
    while got.len() < 5 {
        assert!(std::time::Instant::now() < until, "{got:?}");
        match consumer.poll(1, &mut |r| got.push(r.offset)) {
            Ok(_) => std::thread::yield_now(),
            Err(error) => {
                assert_eq!(error, ReadError::Corrupt { offset: 101 });
                assert_eq!(
                    consumer.position(),
                    101,
                    "an error does not move the position"
                );
                consumer.seek(102).unwrap();
            }
        }
    }
    assert_eq!(got, [100, 102, 103, 104, 105]);
}
