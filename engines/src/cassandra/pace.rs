//! How long one try may take: longer while Cassandra is slow, so that a delay above the time-out does not stop
//! everything.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The present time-out of tries.
#[derive(Debug)]
pub(super) struct Pace {
    base_us: u64,
    max_us: u64,
    now_us: AtomicU64,
}

impl Pace {
    /// From `base`, and at most half of the deadline of an operation, so that two tries fit.
    pub(super) fn new(base: Duration, deadline: Duration) -> Self {
        let base_us = micros(base);
        Self {
            base_us,
            max_us: base_us.max(micros(deadline) / 2),
            now_us: AtomicU64::new(base_us),
        }
    }

    /// What a try that begins now may take.
    pub(super) fn timeout(&self) -> Duration {
        Duration::from_micros(self.now_us.load(Ordering::Relaxed))
    }

    /// A try was not answered within this time-out: the next may take twice as long.
    pub(super) fn late(&self, timeout: Duration) {
        let next = (micros(timeout) * 2).min(self.max_us);
        self.now_us.fetch_max(next, Ordering::Relaxed);
    }

    /// A try was answered.
    pub(super) fn answered(&self, took: Duration) {
        if micros(took) < self.base_us / 2 {
            self.now_us.store(self.base_us, Ordering::Relaxed);
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_answers_lengthen_it_up_to_half_the_deadline_and_a_quick_one_ends_that() {
        let second = Duration::from_secs(1);
        let pace = Pace::new(second * 2, second * 10);
        assert_eq!(pace.timeout(), second * 2);
        pace.late(second * 2);
        pace.late(second * 2);
        assert_eq!(
            pace.timeout(),
            second * 4,
            "many that are late together count once"
        );
        pace.late(second * 4);
        assert_eq!(pace.timeout(), second * 5);
        pace.answered(second * 2);
        assert_eq!(pace.timeout(), second * 5, "it is still slow");
        pace.answered(second / 2);
        assert_eq!(pace.timeout(), second * 2);
    }
}
