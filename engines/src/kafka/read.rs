//! Blocking reads of a stretch of a partition, each on a consumer of its own, taken from a small pool.

use super::config::KafkaConfig;
use super::context::Context;
use super::live::{bury, list, offset, record, serve, unavailable};
use crate::log::{ReadError, Record};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError as Native, RDKafkaErrorCode as Code};
use rdkafka::message::Message;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Default)]
struct Pool {
    idle: Vec<BaseConsumer<Context>>,
    made: usize,
}

/// The pool.
pub(super) struct Readers {
    config: KafkaConfig,
    context: Context,
    pool: Mutex<Pool>,
    returned: Condvar,
}

/// What is wanted of a partition.
#[derive(Debug, Clone)]
pub(super) struct Stretch {
    pub(super) place: (Arc<str>, u32),
    /// [from, to), not empty.
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) records_max: usize,
    pub(super) bytes_max: usize,
}

impl Readers {
    pub(super) fn new(config: &KafkaConfig, context: &Context) -> Self {
        Self {
            config: config.clone(),
            context: context.clone(),
            pool: Mutex::default(),
            returned: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// At least one record of the stretch, or why not.
    pub(super) fn read(&self, stretch: &Stretch) -> Result<Vec<Record>, ReadError> {
        let until = Instant::now() + self.config.call_timeout;
        let consumer = self.take(until)?;
        let found = fetch(&consumer, stretch, until);
        if let Err(error) = consumer.unassign() {
            tracing::warn!(%error, "a Kafka reader cannot be used again");
            self.lock().made -= 1;
            bury(vec![consumer]);
        } else {
            self.lock().idle.push(consumer);
        }
        self.returned.notify_one();
        found
    }

    fn take(&self, until: Instant) -> Result<BaseConsumer<Context>, ReadError> {
        let mut pool = self.lock();
        loop {
            if let Some(consumer) = pool.idle.pop() {
                return Ok(consumer);
            }
            if pool.made < self.config.readers_max {
                let client = self.config.read_consumer();
                let made = BaseConsumer::from_config_and_context(&client, self.context.clone());
                let made = made.map_err(|error| unavailable(&error))?;
                pool.made += 1;
                return Ok(made);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ReadError::Unavailable {
                    reason: format!("{} reads are under way", self.config.readers_max),
                });
            }
            pool = self
                .returned
                .wait_timeout(pool, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Serves the log lines of the readers at rest.
    pub(super) fn serve(&self) {
        self.lock().idle.iter().for_each(serve);
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        bury(std::mem::take(&mut self.lock().idle));
    }
}

fn fetch(
    consumer: &BaseConsumer<Context>,
    stretch: &Stretch,
    until: Instant,
) -> Result<Vec<Record>, ReadError> {
    let assigned = consumer.assign(&list(&stretch.place, offset(stretch.from)));
    assigned.map_err(|error| unavailable(&error))?;
    let (mut found, mut bytes, mut next) = (Vec::new(), 0, stretch.from);
    let mut last = "no broker answers in time".to_owned();
    while found.len() < stretch.records_max && bytes < stretch.bytes_max && next < stretch.to {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        match consumer.poll(left.min(Duration::from_millis(100))) {
            None => {}
            Some(Ok(message)) => {
                let one = record(&message);
                if *message.topic() == *stretch.place.0 && one.offset >= next {
                    next = one.offset + 1;
                    bytes += one.key.len() + one.value.len();
                    found.push(one);
                }
            }
            Some(Err(Native::PartitionEOF(_))) => break,
            Some(Err(error)) => match error.rdkafka_error_code() {
                Some(Code::BadMessage | Code::InvalidMessage) if found.is_empty() => {
                    return Err(ReadError::Corrupt { offset: next });
                }
                Some(Code::BadMessage | Code::InvalidMessage) => break,
                // Retention was faster.
                Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => {
                    return Err(ReadError::OutOfRange {
                        wanted: stretch.from,
                        low: stretch.from + 1,
                        high: stretch.to,
                    });
                }
                _ => last = error.to_string(),
            },
        }
    }
    if found.is_empty() && next == stretch.from {
        return Err(ReadError::Unavailable { reason: last });
    }
    Ok(found)
}
