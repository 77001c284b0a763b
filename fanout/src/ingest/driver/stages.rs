//! How long records take from stage to stage of ingest.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets: eight per doubling, so that a value is known to an eighth; the last begins at some 70 minutes.
const BUCKETS: usize = 256;
const PER_DOUBLING: u32 = 8;

/// The stages, in the order in which a record passes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// From the record's CreateTime until ingest has it: the log, and waiting in it.
    Log,
    /// Questions to the store, and judging.
    Judge,
    /// From judged until stored.
    Store,
    /// From stored until everything before it is stored too.
    Order,
    /// From given to the log until acknowledged.
    Deliver,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Log,
        Self::Judge,
        Self::Store,
        Self::Order,
        Self::Deliver,
    ];

    /// The name that metrics show.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Judge => "judge",
            Self::Store => "store",
            Self::Order => "order",
            Self::Deliver => "deliver",
        }
    }
}

/// What one stage has taken since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageTimes {
    /// Which.
    pub stage: Stage,
    /// Records that have passed it.
    pub count: u64,
    /// All their time, microseconds.
    pub sum_us: u64,
    /// What half of them took at most, microseconds, to an eighth.
    pub p50_us: u64,
    /// What 99 of 100 took at most.
    pub p99_us: u64,
}

/// Histograms of all stages.
#[derive(Debug)]
pub(super) struct Stages([Histogram; Stage::ALL.len()]);

impl Default for Stages {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Histogram::default()))
    }
}

impl Stages {
    pub(super) fn took(&self, stage: Stage, time: Duration) {
        self.0[stage as usize].add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    pub(super) fn read(&self) -> Vec<StageTimes> {
        let all = Stage::ALL.iter().zip(&self.0);
        all.map(|(stage, histogram)| histogram.read(*stage))
            .collect()
    }
}

#[derive(Debug)]
struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: std::array::from_fn(|_| AtomicU64::new(0)),
            sum_us: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    fn add(&self, us: u64) {
        self.buckets[bucket(us)].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    fn read(&self, stage: Stage) -> StageTimes {
        let counts: Vec<u64> = self
            .buckets
            .iter()
            .map(|b| b.load(Ordering::Relaxed))
            .collect();
        let count: u64 = counts.iter().sum();
        let at = |percent: u64| {
            let rank = (count * percent).div_ceil(100).max(1);
            let mut seen = 0;
            let found = counts.iter().position(|n| {
                seen += n;
                seen >= rank
            });
            found.map_or(0, ends_at)
        };
        StageTimes {
            stage,
            count,
            sum_us: self.sum_us.load(Ordering::Relaxed),
            p50_us: at(50),
            p99_us: at(99),
        }
    }
}

/// Values below eight have a bucket each.
fn bucket(us: u64) -> usize {
    if us < u64::from(PER_DOUBLING) {
        return usize::try_from(us).unwrap_or(0);
    }
    let doubling = us.ilog2();
    let within = (us >> (doubling - 3)) & 7;
    let at = (doubling - 2) * PER_DOUBLING + u32::try_from(within).unwrap_or(7);
    usize::try_from(at).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// The largest value of a bucket.
fn ends_at(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < u64::from(PER_DOUBLING) {
        return bucket;
    }
    let doubling = bucket / 8 + 2;
    let within = bucket % 8;
    ((8 + within + 1) << (doubling - 3)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_known_to_an_eighth() {
        for us in (0..100_000).chain([1 << 20, (1 << 30) + 12_345, 1 << 31]) {
            let end = ends_at(bucket(us));
            assert!(us <= end && end - us <= us / 8, "{us}: {end}");
        }
    }

    #[test]
    fn percentiles_are_of_what_was_counted() {
        let stages = Stages::default();
        for ms in 1..=100 {
            stages.took(Stage::Store, Duration::from_millis(ms));
        }
        let read = stages.read()[2];
        assert_eq!((read.stage.name(), read.count), ("store", 100));
        assert!((50_000..57_000).contains(&read.p50_us), "{read:?}");
        assert!((99_000..112_000).contains(&read.p99_us), "{read:?}");
        assert_eq!(read.sum_us, 5_050_000);
    }
}
