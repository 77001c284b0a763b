//! The log port on the embedded database.

use super::codec::decode_record;
use super::core::{Core, PositionKey, lock};
use super::feed::EmbeddedConsumer;
use super::queue::{Ack, Job, refused};
use super::stats::add;
use super::tables::{Table, Tables, log_key, log_key_offset, topic_id};
use crate::log::{
    Appended, Consumer, Log, Produce, ProduceError, ReadError, Record, Start, Topic, Wake,
    Watermarks,
};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Largest value of a record, bytes.
pub(super) const VALUE_BYTES_MAX: usize = 1 << 20;

/// The log. Durable topics complete on the commit thread; ephemeral ones inside `produce`.
pub(super) struct EmbeddedLog(pub(super) Arc<Core>);

impl EmbeddedLog {
    fn check(&self, record: &Produce) -> Result<(), ProduceError> {
        let fault = if record.value.len() > VALUE_BYTES_MAX {
            "a value of more than 1 MiB"
        } else if record.key.len() > usize::from(u16::MAX) {
            "a key of more than 65,535 bytes"
        } else if self.0.partition(record.topic, record.partition).is_none() {
            "no such partition"
        } else if let Some(reason) = self.0.down() {
            let counters = &self.0.counters;
            let full = counters.disk_full.load(Ordering::Relaxed);
            add(
                if full {
                    &counters.refused_disk_full
                } else {
                    &counters.refused_other
                },
                1,
            );
            return Err(refused(&reason, 1_000));
        } else {
            return Ok(());
        };
        add(&self.0.counters.refused_other, 1);
        Err(refused(fault, 0))
    }

    fn produce_ephemeral(&self, record: Produce, tag: u64, done: &Arc<dyn Appended>) {
        if let Some(offset) = self.0.tell_fleeting(record) {
            done.appended(tag, Ok(Some(offset)));
        }
    }
}

impl Core {
    /// Gives a record of an ephemeral topic to whoever reads there; its offset, unless there is no such partition.
    pub(super) fn tell_fleeting(&self, record: Produce) -> Option<u64> {
        let partition = self.partition(record.topic, record.partition)?;
        let now_ms = self.now_ms();
        let mut ring = lock(&partition.ring);
        let record = ring.push(record, now_ms, self.config.ephemeral);
        partition.publish(ring.low(), ring.high());
        for feed in lock(&partition.feeds).iter() {
            feed.offer_ephemeral(self, &record);
        }
        drop(ring);
        add(&self.counters.ephemeral, 1);
        Some(record.offset)
    }
}

impl Log for EmbeddedLog {
    fn partitions(&self, _topic: Topic) -> u32 {
        self.0.config.partitions
    }

    fn generation(&self, topic: Topic) -> u16 {
        self.0.topic(topic).generation.load(Ordering::Acquire)
    }

    fn produce(
        &self,
        record: Produce,
        tag: u64,
        done: &Arc<dyn Appended>,
    ) -> Result<(), ProduceError> {
        if record.topic.ephemeral() {
            if record.value.len() > VALUE_BYTES_MAX
                || self.0.partition(record.topic, record.partition).is_none()
            {
                return self.check(&record);
            }
            self.produce_ephemeral(record, tag, done);
            return Ok(());
        }
        self.check(&record)?;
        self.0
            .queue
            .push(Job::Produce {
                record,
                ack: Ack::new(tag, Arc::clone(done)),
            })
            .inspect_err(|_| add(&self.0.counters.refused_overloaded, 1))
    }

    fn consumer(
        &self,
        topic: Topic,
        partition: u32,
        start: Start,
        wake: Arc<dyn Wake>,
    ) -> Result<Box<dyn Consumer>, ReadError> {
        let marks = self.0.existing(topic, partition)?.watermarks();
        let from = match start {
            _ if topic.ephemeral() => marks.high,
            Start::At(offset) if offset > marks.high => {
                return Err(ReadError::OutOfRange {
                    wanted: offset,
                    low: marks.low,
                    high: marks.high,
                });
            }
            Start::At(offset) => offset.max(marks.low),
            Start::Earliest => marks.low,
            Start::Latest => marks.high,
        };
        let core = Arc::clone(&self.0);
        EmbeddedConsumer::register(core, topic, partition, from, wake)
            .map(|consumer| Box::new(consumer) as Box<dyn Consumer>)
    }

    fn read(
        &self,
        topic: Topic,
        partition: u32,
        from: u64,
        max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Record>, ReadError> {
        read_log(&self.0, topic, partition, from, max, bytes_max)
    }

    fn watermarks(&self, topic: Topic, partition: u32) -> Result<Watermarks, ReadError> {
        Ok(self.0.existing(topic, partition)?.watermarks())
    }

    fn commit(
        &self,
        group: &str,
        topic: Topic,
        partition: u32,
        next: u64,
    ) -> Result<(), ReadError> {
        self.0.existing(topic, partition)?;
        let key = PositionKey {
            group: group.into(),
            topic,
            partition,
        };
        let mut positions = lock(&self.0.positions);
        if positions.rows.insert(key.clone(), next) != Some(next) && !positions.dirty.contains(&key)
        {
            positions.dirty.push(key);
        }
        Ok(())
    }

    fn committed(
        &self,
        group: &str,
        topic: Topic,
        partition: u32,
    ) -> Result<Option<u64>, ReadError> {
        let key = PositionKey {
            group: group.into(),
            topic,
            partition,
        };
        Ok(lock(&self.0.positions).rows.get(&key).copied())
    }

    fn writable(&self) -> Result<(), String> {
        self.0
            .down()
            .map_or(Ok(()), |reason| Err(reason.to_string()))
    }
}

/// Reads [from, ..) of a partition; see [`Log::read`].
pub(super) fn read_log(
    core: &Core,
    topic: Topic,
    partition: u32,
    from: u64,
    max: usize,
    bytes_max: usize,
) -> Result<Vec<Record>, ReadError> {
    let state = core.existing(topic, partition)?;
    let marks = state.watermarks();
    let out_of_range = |marks: Watermarks| ReadError::OutOfRange {
        wanted: from,
        low: marks.low,
        high: marks.high,
    };
    if from < marks.low || from > marks.high {
        return Err(out_of_range(marks));
    }
    let Some(id) = topic_id(topic) else {
        return Ok(lock(&state.ring).read(from, max, bytes_max));
    };
    let to = marks.high.min(from.saturating_add(max as u64));
    if from >= to {
        return Ok(Vec::new());
    }
    let tables = core
        .tables()
        .map_err(|reason| ReadError::Unavailable { reason })?;
    let records =
        scan(&tables, (id, partition), from..to, bytes_max).or_else(|error| match error {
            // A range begins by opening neighbouring blocks as well: one of them may be the bad one.
            ReadError::Corrupt { .. } => one_by_one(&tables, (id, partition), from..to, bytes_max),
            error => Err(error),
        });
    records.map_err(|error| fault(core, state.watermarks(), error, from))
}

/// Records of [from, to), at least one, or the reason why the first cannot be read.
fn scan(
    tables: &Tables,
    (topic, partition): (u8, u32),
    offsets: Range<u64>,
    bytes_max: usize,
) -> Result<Vec<Record>, ReadError> {
    let from = log_key(topic, partition, offsets.start);
    let range = from..log_key(topic, partition, offsets.end);
    let (mut records, mut bytes, mut next) = (Vec::new(), 0, offsets.start);
    for row in tables.space(Table::Log).range(range) {
        let outcome = row
            .into_inner()
            .map_err(|error| read_error(&error, next))
            .and_then(|(key, value)| {
                let offset = log_key_offset(&key).unwrap_or(u64::MAX);
                let logged = (offset == next)
                    .then(|| decode_record(offset, value))
                    .flatten();
                logged.ok_or(ReadError::Corrupt { offset: next })
            });
        match outcome {
            Ok(logged) => {
                next += 1;
                bytes += logged.record.key.len() + logged.record.value.len();
                records.push(logged.record);
            }
            // What is good before it is handed out; the next read begins at the fault.
            Err(_) if !records.is_empty() => return Ok(records),
            Err(error) => return Err(error),
        }
        if bytes >= bytes_max {
            break;
        }
    }
    if records.is_empty() {
        return Err(ReadError::Corrupt { offset: next });
    }
    Ok(records)
}

/// The same with one look-up per record, which touches no block but the record's own.
fn one_by_one(
    tables: &Tables,
    (topic, partition): (u8, u32),
    offsets: Range<u64>,
    bytes_max: usize,
) -> Result<Vec<Record>, ReadError> {
    let (mut records, mut bytes) = (Vec::new(), 0);
    for offset in offsets {
        let value = tables.get(Table::Log, &log_key(topic, partition, offset));
        let logged = value
            .map_err(|error| read_error(&error, offset))
            .and_then(|value| {
                value
                    .and_then(|v| decode_record(offset, v))
                    .ok_or(ReadError::Corrupt { offset })
            });
        match logged {
            Ok(logged) => {
                bytes += logged.record.key.len() + logged.record.value.len();
                records.push(logged.record);
            }
            Err(_) if !records.is_empty() => break,
            Err(error) => return Err(error),
        }
        if bytes >= bytes_max {
            break;
        }
    }
    Ok(records)
}

/// Retention may have removed what was asked for meanwhile: then that is the answer.
fn fault(core: &Core, marks: Watermarks, error: ReadError, from: u64) -> ReadError {
    if from < marks.low {
        return ReadError::OutOfRange {
            wanted: from,
            low: marks.low,
            high: marks.high,
        };
    }
    if matches!(error, ReadError::Corrupt { .. }) {
        add(&core.counters.corrupt_reads, 1);
    }
    error
}

fn read_error(error: &fjall::Error, offset: u64) -> ReadError {
    if is_io(error) {
        ReadError::Unavailable {
            reason: error.to_string(),
        }
    } else {
        ReadError::Corrupt { offset }
    }
}

/// Whether the operating system failed, and not the bytes.
pub(super) fn is_io(error: &fjall::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => {
            // A file that ends early, or does not parse, is bytes.
            !matches!(error.kind(), InvalidData | UnexpectedEof)
        }
        _ => false,
    }
}
