//! Reading the `leases` topic: all of it at the start, then what is added.

use super::config::KafkaConfig;
use super::context::Context;
use super::live::{bury, list, unavailable};
use super::marks::Marks;
use crate::log::ReadError;
use rdkafka::Offset;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError as Native, RDKafkaErrorCode as Code};
use rdkafka::message::Message;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Records taken per look: the watch has other things to do.
const TAKE_MAX: usize = 256;

/// The reader, and what it has read.
pub(super) struct Leases {
    /// `None` only while being dropped.
    consumer: Option<BaseConsumer<Context>>,
    marks: Marks,
    next: u64,
}

impl Leases {
    /// Begins at the beginning of the topic, which exists.
    pub(super) fn new(
        config: &KafkaConfig,
        context: &Context,
        topic: &str,
    ) -> Result<Self, ReadError> {
        let client = config.leases_consumer();
        let consumer = BaseConsumer::from_config_and_context(&client, context.clone());
        let consumer = consumer.map_err(|error| unavailable(&error))?;
        let assigned = consumer.assign(&list(&(Arc::from(topic), 0), Offset::Beginning));
        assigned.map_err(|error| unavailable(&error))?;
        Ok(Self {
            consumer: Some(consumer),
            marks: Marks::default(),
            next: 0,
        })
    }

    /// Takes what has come, without waiting for more than this. Returns whether a mark changed, and whether the
    /// end was seen.
    pub(super) fn take(&mut self, within: Duration) -> (bool, bool) {
        let (mut changed, mut within) = (false, within);
        for _ in 0..TAKE_MAX {
            let Some(consumer) = &self.consumer else {
                break;
            };
            match consumer.poll(within) {
                None => break,
                Some(Ok(message)) => {
                    self.next = u64::try_from(message.offset()).unwrap_or(0) + 1;
                    let key = message.key().unwrap_or_default();
                    changed |= self.marks.apply(key, message.payload().unwrap_or_default());
                }
                Some(Err(Native::PartitionEOF(_))) => return (changed, true),
                Some(Err(error)) => match error.rdkafka_error_code() {
                    // Compaction was faster than the reader: what it removed is told again later in the log.
                    Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => self.again(),
                    _ => tracing::debug!(%error, "reading leases"),
                },
            }
            within = Duration::ZERO;
        }
        (changed, false)
    }

    fn again(&mut self) {
        if let Some(consumer) = &self.consumer
            && let Ok(assignment) = consumer.assignment()
        {
            let topic = assignment.elements().first().map(|e| e.topic().to_owned());
            drop(assignment);
            if let Some(topic) = topic {
                let _ = consumer.assign(&list(&(Arc::from(topic), 0), Offset::Beginning));
            }
        }
    }

    /// Reads to the end.
    pub(super) fn catch_up(&mut self, timeout: Duration) -> Result<(), ReadError> {
        let until = Instant::now() + timeout;
        while !self.take(Duration::from_millis(50)).1 {
            if Instant::now() >= until {
                return Err(ReadError::Unavailable {
                    reason: "the leases topic cannot be read in time".to_owned(),
                });
            }
        }
        Ok(())
    }

    /// What counts, as far as it was read.
    pub(super) fn marks(&self) -> &Marks {
        &self.marks
    }

    /// The offset after the last record read.
    pub(super) fn next(&self) -> u64 {
        self.next
    }
}

impl Drop for Leases {
    fn drop(&mut self) {
        bury(self.consumer.take().into_iter().collect());
    }
}
