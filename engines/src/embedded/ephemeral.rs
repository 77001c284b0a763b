//! The bounded memory of one partition of an ephemeral topic.

use super::config::Retention;
use crate::log::{Produce, Record};
use std::collections::VecDeque;

/// Records kept per partition at most, whatever their size.
const RECORDS_MAX: usize = 1_024;

/// The newest records; older ones give way.
#[derive(Default)]
pub(super) struct Ring {
    records: VecDeque<(u64, Record)>,
    bytes: u64,
    next: u64,
}

impl Ring {
    /// Appends; returns the record with its offset.
    pub(super) fn push(&mut self, produce: Produce, now_ms: u64, keep: Retention) -> Record {
        let record = Record {
            offset: self.next,
            timestamp_ms: produce.timestamp_ms,
            key: produce.key,
            value: produce.value,
        };
        self.next += 1;
        self.bytes += size(&record);
        self.records.push_back((now_ms, record.clone()));
        while let Some((appended_ms, oldest)) = self.records.front() {
            let old = now_ms.saturating_sub(*appended_ms) > keep.time_ms;
            if !old && self.bytes <= keep.bytes && self.records.len() <= RECORDS_MAX {
                break;
            }
            self.bytes -= size(oldest);
            self.records.pop_front();
        }
        record
    }

    /// Offset of the oldest record, or the next one.
    pub(super) fn low(&self) -> u64 {
        self.records.front().map_or(self.next, |(_, r)| r.offset)
    }

    /// Offset of the next record.
    pub(super) fn high(&self) -> u64 {
        self.next
    }

    /// Records from `from`, at most `max` and about `bytes_max`.
    pub(super) fn read(&self, from: u64, max: usize, bytes_max: usize) -> Vec<Record> {
        let mut bytes = 0;
        self.records
            .iter()
            .map(|(_, record)| record)
            .filter(|record| record.offset >= from)
            .take(max)
            .take_while(|record| {
                let fits = bytes == 0 || bytes < bytes_max;
                bytes += record.key.len() + record.value.len() + 1;
                fits
            })
            .cloned()
            .collect()
    }
}

fn size(record: &Record) -> u64 {
    (record.key.len() + record.value.len()) as u64 + 64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Topic;
    use bytes::Bytes;

    fn produce(n: usize) -> Produce {
        Produce {
            topic: Topic::ChatTyping,
            partition: 0,
            key: Bytes::new(),
            value: vec![0; n].into(),
            timestamp_ms: 0,
        }
    }

    #[test]
    fn the_ring_is_bounded_in_records_bytes_and_time() {
        let keep = Retention {
            time_ms: 1_000,
            bytes: 10_000,
        };
        let mut ring = Ring::default();
        for i in 0..5_000 {
            ring.push(produce(0), 0, keep);
            assert!(
                ring.records.len() <= RECORDS_MAX && ring.bytes <= 10_000,
                "{i}"
            );
        }
        ring.push(produce(20_000), 0, keep);
        assert_eq!(
            ring.low(),
            ring.high(),
            "one record above the bound is not kept"
        );
        ring.push(produce(1), 500, keep);
        ring.push(produce(1), 1_400, keep);
        assert_eq!(ring.high() - ring.low(), 2);
        ring.push(produce(1), 1_600, keep);
        assert_eq!(ring.high() - ring.low(), 2);
        assert_eq!(ring.read(ring.low(), 1, 1_000).len(), 1);
    }
}
