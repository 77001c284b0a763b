//! Shared by the tests: a caller that waits, and small makers.
#![allow(dead_code, reason = "each test file uses its part")]

#[cfg(feature = "cassandra")]
pub(crate) mod cassandra;
#[cfg(feature = "cassandra")]
pub(crate) mod cql_server;
#[cfg(feature = "kafka")]
pub(crate) mod kafka;

use hawser_engines::embedded::{Durability, EmbeddedConfig, EmbeddedEngine};
use hawser_engines::log::{
    AppendOutcome, Appended, Log, Produce, ProduceError, Record, Topic, Wake,
};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long a test waits before it says that something does not happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// (tag, outcome) of a produce.
pub(crate) type Told = (u64, AppendOutcome);

/// Sends every outcome to a channel.
pub(crate) struct Outcomes(Mutex<Sender<Told>>);

impl Appended for Outcomes {
    fn appended(&self, tag: u64, outcome: AppendOutcome) {
        let sender = self.0.lock().expect("no holder panics");
        let _ = sender.send((tag, outcome));
    }
}

/// A callback and what it receives.
pub(crate) fn outcomes() -> (Arc<dyn Appended>, Receiver<Told>) {
    let (sender, receiver) = channel();
    (Arc::new(Outcomes(Mutex::new(sender))), receiver)
}

/// Wakes nobody: for tests that poll.
pub(crate) struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

/// A record for a partition.
pub(crate) fn record(topic: Topic, partition: u32, value: &[u8]) -> Produce {
    Produce {
        topic,
        partition,
        key: bytes::Bytes::from_static(b"g:key"),
        value: bytes::Bytes::copy_from_slice(value),
        timestamp_ms: 1_700_000_000_000,
    }
}

/// Appends and waits until it is durable; its offset.
pub(crate) fn append(log: &dyn Log, produce: Produce) -> Result<u64, ProduceError> {
    append_somewhere(log, produce).map(|offset| offset.expect("an offset"))
}

/// The same where answers may be lost, and the offset with them.
pub(crate) fn append_somewhere(log: &dyn Log, produce: Produce) -> AppendOutcome {
    let (done, outcome) = outcomes();
    log.produce(produce, 0, &done)?;
    outcome.recv_timeout(PATIENCE).expect("an outcome").1
}

/// A small engine without fsync: tests kill processes, not machines.
pub(crate) fn config(dir: &Path) -> EmbeddedConfig {
    let mut config = EmbeddedConfig::new(dir);
    config.partitions = 4;
    config.durability = Durability::Os;
    config.disk_reserve_bytes = 0;
    config
}

/// Opens with `config`.
pub(crate) fn open(dir: &Path) -> EmbeddedEngine {
    EmbeddedEngine::open(config(dir)).expect("it opens")
}

/// Values of a partition from `from`.
pub(crate) fn values(log: &dyn Log, topic: Topic, partition: u32, from: u64) -> Vec<Vec<u8>> {
    read_all(log, topic, partition, from)
        .into_iter()
        .map(|r| r.value.to_vec())
        .collect()
}

/// Records of a partition from `from` to the end.
pub(crate) fn read_all(log: &dyn Log, topic: Topic, partition: u32, from: u64) -> Vec<Record> {
    let (mut out, mut at) = (Vec::new(), from);
    loop {
        let page = log
            .read(topic, partition, at, 100, 1 << 20)
            .expect("it reads");
        let Some(last) = page.last() else { return out };
        at = last.offset + 1;
        out.extend(page);
    }
}
