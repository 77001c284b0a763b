//! One delivery partition as its owner core reads it: the consumers of `delivery` and of typing,
//! woken by the log, polled in bounded batches.

use super::cursors::DeviceCursor;
use super::marks::HighWaterMarks;
use super::past::each_record;
use hawser_engines::log::{Consumer, Log, ReadError, Record, Start, Topic, Wake, Watermarks};
use hawser_protocol::partition::partition;
use hawser_protocol::record::{CursorRecord, DeliveryView, ViewKind};
use hawser_protocol::shards::ShardTable;
use hawser_ring::Waker;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Records of a partition that are read again at the start, so that who reconnects after a restart
/// finds them in memory: at most this many.
const WARM_RECORDS: u64 = 2_048;
/// Pause after the log could not be read.
const RETRY_MS: u64 = 500;

/// A consumer and the flag that its wake sets.
pub(crate) struct Flagged {
    consumer: Box<dyn Consumer>,
    flag: Arc<Flag>,
    retry_at_ms: u64,
}

struct Flag {
    ready: AtomicBool,
    core: Waker,
}

impl Wake for Flag {
    fn wake(&self) {
        self.ready.store(true, Ordering::Release);
        self.core.wake();
    }
}

/// What a poll came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Polled {
    /// There may be more at once.
    More,
    /// Nothing now; the wake will tell.
    Idle,
    /// The log no longer holds what came next; reading goes on at `low`, and what was between is
    /// lost to this reader.
    Skipped {
        /// First offset that exists.
        low: u64,
    },
    /// Failed; it is tried again by itself.
    Failed(ReadError),
}

impl Flagged {
    /// A consumer that is polled at once.
    ///
    /// # Errors
    /// The log cannot be reached.
    pub(crate) fn open(
        log: &dyn Log,
        topic: Topic,
        partition: u32,
        start: Start,
        core: &Waker,
    ) -> Result<Self, ReadError> {
        let flag = Arc::new(Flag {
            ready: AtomicBool::new(true),
            core: core.clone(),
        });
        let consumer = log.consumer(topic, partition, start, flag.clone())?;
        Ok(Self {
            consumer,
            flag,
            retry_at_ms: 0,
        })
    }

    /// Appends at most `max` records to `out`.
    pub(crate) fn poll(&mut self, max: usize, now_ms: u64, out: &mut Vec<Record>) -> Polled {
        if now_ms < self.retry_at_ms || !self.flag.ready.swap(false, Ordering::AcqRel) {
            return Polled::Idle;
        }
        match self.consumer.poll(max, &mut |record| out.push(record)) {
            Ok(0) => Polled::Idle,
            Ok(_) => {
                // Only an empty poll promises another wake.
                self.flag.ready.store(true, Ordering::Release);
                Polled::More
            }
            Err(error) => self.recover(error, now_ms),
        }
    }

    fn recover(&mut self, error: ReadError, now_ms: u64) -> Polled {
        self.flag.ready.store(true, Ordering::Release);
        let to = match &error {
            ReadError::OutOfRange { wanted, low, .. } if wanted < low => *low,
            ReadError::Corrupt { offset } => offset + 1,
            ReadError::OutOfRange { .. } | ReadError::Unavailable { .. } => {
                self.retry_at_ms = now_ms + RETRY_MS;
                return Polled::Failed(error);
            }
        };
        if self.consumer.seek(to).is_err() {
            self.retry_at_ms = now_ms + RETRY_MS;
            return Polled::Failed(error);
        }
        Polled::Skipped { low: to }
    }
}

/// A partition that this core reads.
pub(crate) struct Partition {
    pub(crate) id: u32,
    pub(crate) delivery: Flagged,
    pub(crate) typing: Flagged,
    pub(crate) marks: HighWaterMarks,
    /// Members of edge-sharded groups.
    pub(crate) shards: ShardTable,
    /// First offset that the replay ring of this partition begins with.
    pub(crate) first: u64,
    /// Where the log ended when it was opened: up to there it is read before anybody is served.
    pub(crate) warm_to: u64,
    /// It was.
    pub(crate) warm: bool,
}

/// A partition that is open, and what its devices have acknowledged.
pub(crate) struct Opened {
    pub(crate) partition: Partition,
    pub(crate) cursors: Vec<DeviceCursor>,
}

impl Opened {
    /// Opens the consumers and reads the cursors of this generation. Blocks.
    ///
    /// # Errors
    /// The log cannot be reached.
    pub(crate) fn open(
        log: &dyn Log,
        id: u32,
        generation: u16,
        core: &Waker,
    ) -> Result<Self, ReadError> {
        of_one_generation(log, generation, || {
            let cursors = read_cursors(log, id, generation)?;
            let mut partition = Partition::open(log, id, core)?;
            // Afterwards: what was told in this partition before its first record was kept there before.
            partition.shards = read_shards(log, id)?;
            Ok(Self { partition, cursors })
        })
    }
}

/// What a look at `delivery` gives, if all of it was at this generation.
///
/// # Errors
/// The generation is over, or has not begun here: whoever asked is about to go over to another.
pub(crate) fn of_one_generation<T>(
    log: &dyn Log,
    generation: u16,
    look: impl FnOnce() -> Result<T, ReadError>,
) -> Result<T, ReadError> {
    let over = || ReadError::Unavailable {
        reason: format!("generation {generation} of delivery is not in use"),
    };
    if log.generation(Topic::Delivery) != generation {
        return Err(over());
    }
    let found = look();
    // Generations do not come back.
    match log.generation(Topic::Delivery) == generation {
        true => found,
        false => Err(over()),
    }
}

fn read_cursors(
    log: &dyn Log,
    partition: u32,
    generation: u16,
) -> Result<Vec<DeviceCursor>, ReadError> {
    let mut all = Vec::new();
    each_record(log, Topic::Cursors, partition, |record| {
        // What another version or generation wrote says nothing of this log.
        if let Ok(decoded) = CursorRecord::decode(&record.value)
            && decoded.generation == generation
        {
            let cursors = decoded.cursors.into_iter();
            all.extend(cursors.map(|c| (c.user, c.device, c.offset)));
        }
    })?;
    Ok(all)
}

/// Members of edge-sharded groups whose partition this is.
fn read_shards(log: &dyn Log, id: u32) -> Result<ShardTable, ReadError> {
    let delivery = log.partitions(Topic::Delivery);
    let shards = log.partitions(Topic::Shards);
    let ours = |user: &str| partition(user, delivery) == id;
    let mut table = ShardTable::default();
    // Both count slots, modulo powers of two.
    let common = delivery.min(shards);
    for from in (0..shards).filter(|p| p % common == id % common) {
        each_record(log, Topic::Shards, from, |record| {
            if let Ok(DeliveryView {
                kind: ViewKind::Shard(shard),
                ..
            }) = DeliveryView::parse(&record.value)
            {
                table.apply(&shard, ours);
            }
        })?;
    }
    Ok(table)
}

impl Partition {
    /// Opens the consumers: delivery a little before the end, typing at the end. Blocks.
    ///
    /// # Errors
    /// The log cannot be reached.
    pub(crate) fn open(log: &dyn Log, id: u32, core: &Waker) -> Result<Self, ReadError> {
        let Watermarks { low, high } = log.watermarks(Topic::Delivery, id)?;
        let seam = log.seam(Topic::Delivery, id)?;
        let first = warm_from(high, seam).max(low);
        Ok(Self {
            id,
            delivery: Flagged::open(log, Topic::Delivery, id, Start::At(first), core)?,
            typing: Flagged::open(log, Topic::ChatTyping, id, Start::Latest, core)?,
            marks: HighWaterMarks::default(),
            shards: ShardTable::default(),
            first,
            warm_to: high,
            warm: false,
        })
    }
}

/// Where the last records begin; where there is none is not counted, and never begun.
fn warm_from(high: u64, seam: Option<Range<u64>>) -> u64 {
    match seam {
        Some(seam) if high > seam.end => match WARM_RECORDS.checked_sub(high - seam.end) {
            Some(before) => seam.start.saturating_sub(before),
            None => high - WARM_RECORDS,
        },
        _ => high.saturating_sub(WARM_RECORDS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::collections::VecDeque;

    struct Script(VecDeque<Result<Vec<u64>, ReadError>>, u64);

    impl Consumer for Script {
        fn poll(&mut self, _: usize, each: &mut dyn FnMut(Record)) -> Result<usize, ReadError> {
            let offsets = self.0.pop_front().unwrap_or_else(|| Ok(Vec::new()))?;
            for offset in &offsets {
                each(Record {
                    offset: *offset,
                    timestamp_ms: 0,
                    key: Bytes::new(),
                    value: Bytes::new(),
                });
            }
            Ok(offsets.len())
        }

        fn position(&self) -> u64 {
            self.1
        }

        fn seek(&mut self, to: u64) -> Result<(), ReadError> {
            self.1 = to;
            Ok(())
        }
    }

    fn flagged(script: Vec<Result<Vec<u64>, ReadError>>) -> Flagged {
        Flagged {
            consumer: Box::new(Script(script.into(), 0)),
            flag: Arc::new(Flag {
                ready: AtomicBool::new(true),
                core: Waker::new().expect("an eventfd"),
            }),
            retry_at_ms: 0,
        }
    }

    #[test]
    fn the_last_records_are_counted_across_a_seam_and_a_ring_never_begins_in_one() {
        assert_eq!(warm_from(10_000, None), 10_000 - WARM_RECORDS);
        assert_eq!(warm_from(10, None), 0);
        let seam = || Some(5_000..9_000);
        assert_eq!(warm_from(5_000, seam()), 5_000 - WARM_RECORDS, "none since");
        assert_eq!(warm_from(9_001, seam()), 5_001 - WARM_RECORDS);
        assert_eq!(warm_from(9_000 + WARM_RECORDS, seam()), 5_000);
        assert_eq!(warm_from(9_001 + WARM_RECORDS, seam()), 9_001);
        assert_eq!(warm_from(30, Some(3..20)), 0);
    }

    #[test]
    fn it_polls_until_empty_and_then_only_when_woken() {
        let mut consumer = flagged(vec![Ok(vec![1, 2]), Ok(vec![]), Ok(vec![3])]);
        let mut out = Vec::new();
        assert_eq!(consumer.poll(8, 0, &mut out), Polled::More);
        assert_eq!(consumer.poll(8, 0, &mut out), Polled::Idle, "empty");
        assert_eq!(consumer.poll(8, 0, &mut out), Polled::Idle, "not woken");
        assert_eq!(out.len(), 2);
        consumer.flag.wake();
        assert_eq!(consumer.poll(8, 0, &mut out), Polled::More);
        assert_eq!(out.len(), 3);
    }

    #[test]
    fn an_unreachable_log_is_tried_again_after_a_pause() {
        let down = ReadError::Unavailable {
            reason: "down".to_owned(),
        };
        let mut consumer = flagged(vec![Err(down.clone()), Ok(vec![1])]);
        let mut out = Vec::new();
        assert_eq!(consumer.poll(8, 1_000, &mut out), Polled::Failed(down));
        assert_eq!(consumer.poll(8, 1_001, &mut out), Polled::Idle);
        assert_eq!(consumer.poll(8, 1_000 + RETRY_MS, &mut out), Polled::More);
    }

    #[test]
    fn what_retention_removed_and_what_is_corrupt_is_skipped_and_told() {
        let gone = ReadError::OutOfRange {
            wanted: 3,
            low: 50,
            high: 90,
        };
        let corrupt = ReadError::Corrupt { offset: 60 };
        let mut consumer = flagged(vec![Err(gone), Err(corrupt), Ok(vec![61])]);
        let mut out = Vec::new();
        assert_eq!(consumer.poll(8, 0, &mut out), Polled::Skipped { low: 50 });
        assert_eq!(consumer.consumer.position(), 50);
        assert_eq!(consumer.poll(8, 0, &mut out), Polled::Skipped { low: 61 });
        assert_eq!(consumer.poll(8, 0, &mut out), Polled::More);
    }
}
