//! How long calls of an engine take: counters that a scrape turns into a histogram.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets, microseconds; what is slower is in the last, unbounded one.
pub const BOUNDS_US: [u64; 11] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 250_000, 1_000_000,
];

/// Durations counted by bucket; shared by threads without a lock.
#[derive(Debug, Default)]
pub(crate) struct Latency {
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Latency {
    /// Counts one.
    pub(crate) fn record(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|bound| *bound < us);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub(crate) fn counted(&self) -> Latencies {
        let each = |i: usize| self.buckets[i].load(Ordering::Relaxed);
        Latencies {
            buckets: std::array::from_fn(each),
            sum_us: self.sum_us.load(Ordering::Relaxed),
        }
    }
}

/// Durations by bucket, since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Latencies {
    /// How many in each bucket of [`BOUNDS_US`], and above.
    pub buckets: [u64; BOUNDS_US.len() + 1],
    /// Their sum, microseconds.
    pub sum_us: u64,
}

impl Latencies {
    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_first_bucket_that_holds_it() {
        let latency = Latency::default();
        for us in [0, 100, 101, 1_000_000, 1_000_001] {
            latency.record(Duration::from_micros(us));
        }
        let counted = latency.counted();
        assert_eq!(counted.buckets[..2], [2, 1]);
        assert_eq!(counted.buckets[10..], [1, 1]);
        assert_eq!((counted.count(), counted.sum_us), (5, 2_000_202));
    }
}
