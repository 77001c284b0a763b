//! A log whose appends to `delivery` fail on demand.

use hawser_engines::log::{
    AppendOutcome, Appended, Consumer, Log, Produce, ProduceError, ReadError, Record, Start,
    Stream, Topic, Wake, Watermarks,
};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// How an append fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// At once: the queue is full.
    Full,
    /// Appended, but told to be unknown.
    Unknown,
    /// Never appended, and told to be unknown.
    Lost,
}

pub(crate) struct FlakyLog {
    log: Arc<dyn Log>,
    /// (append to `delivery`, counted from 0, and how it fails).
    flaws: Mutex<Vec<(u32, Flaw)>>,
    appends: AtomicU32,
}

impl FlakyLog {
    pub(crate) fn new(log: Arc<dyn Log>, flaws: Vec<(u32, Flaw)>) -> Self {
        let appends = AtomicU32::new(0);
        Self {
            log,
            flaws: Mutex::new(flaws),
            appends,
        }
    }

    /// Whether every failure has happened.
    pub(crate) fn spent(&self) -> bool {
        self.flaws.lock().unwrap().is_empty()
    }
}

fn unknown() -> ProduceError {
    ProduceError::Unknown {
        reason: "a fault of the test".to_owned(),
    }
}

/// Tells "unknown", whatever came of it.
struct Unknown(Arc<dyn Appended>);

impl Appended for Unknown {
    fn appended(&self, tag: u64, _outcome: AppendOutcome) {
        self.0.break_off();
        self.0.appended(tag, Err(unknown()));
    }

    fn stream(&self) -> Option<&Stream> {
        self.0.stream()
    }
}

impl Log for FlakyLog {
    fn produce(
        &self,
        record: Produce,
        tag: u64,
        done: &Arc<dyn Appended>,
    ) -> Result<(), ProduceError> {
        if record.topic != Topic::Delivery {
            return self.log.produce(record, tag, done);
        }
        if done.is_broken() {
            return Err(ProduceError::Refused {
                reason: "the stream is broken".to_owned(),
                retry_after_ms: 1,
            });
        }
        let count = self.appends.fetch_add(1, Ordering::SeqCst);
        let mut flaws = self.flaws.lock().unwrap();
        let due = flaws.iter().position(|(at, _)| *at <= count);
        let flaw = due.map(|at| flaws.remove(at).1);
        drop(flaws);
        match flaw {
            None => self.log.produce(record, tag, done),
            Some(Flaw::Full) => Err(ProduceError::Refused {
                reason: "a fault of the test".to_owned(),
                retry_after_ms: 1,
            }),
            Some(Flaw::Unknown) => {
                let told: Arc<dyn Appended> = Arc::new(Unknown(Arc::clone(done)));
                self.log.produce(record, tag, &told)
            }
            Some(Flaw::Lost) => {
                done.break_off();
                done.appended(tag, Err(unknown()));
                Ok(())
            }
        }
    }
    fn partitions(&self, topic: Topic) -> u32 {
        self.log.partitions(topic)
    }
    fn generation(&self, topic: Topic) -> u16 {
        self.log.generation(topic)
    }
    fn consumer(
        &self,
        topic: Topic,
        partition: u32,
        start: Start,
        wake: Arc<dyn Wake>,
    ) -> Result<Box<dyn Consumer>, ReadError> {
        self.log.consumer(topic, partition, start, wake)
    }
    fn read(
        &self,
        topic: Topic,
        partition: u32,
        from: u64,
        max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Record>, ReadError> {
        self.log.read(topic, partition, from, max, bytes_max)
    }
    fn watermarks(&self, topic: Topic, partition: u32) -> Result<Watermarks, ReadError> {
        self.log.watermarks(topic, partition)
    }
    fn commit(
        &self,
        group: &str,
        topic: Topic,
        partition: u32,
        next: u64,
    ) -> Result<(), ReadError> {
        self.log.commit(group, topic, partition, next)
    }
    fn committed(
        &self,
        group: &str,
        topic: Topic,
        partition: u32,
    ) -> Result<Option<u64>, ReadError> {
        self.log.committed(group, topic, partition)
    }
    fn writable(&self) -> Result<(), String> {
        self.log.writable()
    }
}
