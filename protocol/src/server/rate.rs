//! A rate limit in eight bytes: the generic cell rate algorithm (ITU-T I.371), in nanoseconds.

/// Nanoseconds of a millisecond.
const MS: u64 = 1_000_000;

/// A bucket: the time at which it will be full again. Rate and burst are given with each call, so
/// that a session holds only this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rate {
    full_at_ns: u64,
}

impl Rate {
    /// A bucket that lacks `tokens` at `now_ms`.
    #[must_use]
    pub fn spent(tokens: u32, per_second: u32, now_ms: u64) -> Self {
        let each = 1_000_000_000 / u64::from(per_second.max(1));
        Self {
            full_at_ns: now_ms.saturating_mul(MS) + each * u64::from(tokens),
        }
    }

    /// Takes `tokens` at `now_ms`.
    ///
    /// # Errors
    /// There are not enough: the milliseconds until there are, at least 1. Nothing was taken.
    pub fn take(
        &mut self,
        tokens: u32,
        per_second: u32,
        burst: u32,
        now_ms: u64,
    ) -> Result<(), u32> {
        let each = 1_000_000_000 / u64::from(per_second.max(1));
        let now = now_ms.saturating_mul(MS);
        let full_at = self.full_at_ns.max(now) + each * u64::from(tokens);
        let depth = each * u64::from(burst.max(tokens));
        match full_at.checked_sub(now + depth) {
            None | Some(0) => {
                self.full_at_ns = full_at;
                Ok(())
            }
            Some(over) => Err(u32::try_from(over.div_ceil(MS)).unwrap_or(u32::MAX)),
        }
    }

    /// Takes `tokens` even where there are not enough, going into debt. Returns the milliseconds
    /// until the debt is paid; 0: none.
    pub fn force(&mut self, tokens: u32, per_second: u32, burst: u32, now_ms: u64) -> u32 {
        let each = 1_000_000_000 / u64::from(per_second.max(1));
        let now = now_ms.saturating_mul(MS);
        self.full_at_ns = self.full_at_ns.max(now) + each * u64::from(tokens);
        let over = self
            .full_at_ns
            .saturating_sub(now + each * u64::from(burst));
        u32::try_from(over.div_ceil(MS)).unwrap_or(u32::MAX)
    }

    /// Whether nothing of it is spent: it need not be kept.
    #[must_use]
    pub fn is_full(&self, now_ms: u64) -> bool {
        self.full_at_ns <= now_ms.saturating_mul(MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_that_lacks_some_gives_the_rest() {
        let mut rate = Rate::spent(7, 10, 5_000);
        assert!((0..3).all(|_| rate.take(1, 10, 10, 5_000).is_ok()));
        assert_eq!(rate.take(1, 10, 10, 5_000), Err(100));
    }

    #[test]
    fn it_gives_its_burst_then_its_rate() {
        let mut rate = Rate::default();
        assert!((0..3).all(|_| rate.take(1, 10, 3, 5_000).is_ok()));
        assert_eq!(rate.take(1, 10, 3, 5_000), Err(100));
        assert_eq!(rate.take(1, 10, 3, 5_099), Err(1));
        assert_eq!(rate.take(1, 10, 3, 5_100), Ok(()));
        assert!(
            (0..3).all(|_| rate.take(1, 10, 3, 99_000).is_ok()),
            "idle time fills it"
        );
        assert!(rate.take(1, 10, 3, 99_000).is_err(), "no further");
    }

    #[test]
    fn a_clock_that_goes_backwards_gives_nothing() {
        let mut rate = Rate::default();
        assert_eq!(rate.take(3, 10, 3, 5_000), Ok(()));
        assert_eq!(rate.take(1, 10, 3, 4_000), Err(1_100));
    }

    #[test]
    fn debt_is_paid_by_waiting() {
        let mut rate = Rate::default();
        assert_eq!(rate.force(4_000, 1_000, 4_000, 0), 0);
        assert_eq!(rate.force(500, 1_000, 4_000, 0), 500);
        assert_eq!(rate.force(0, 1_000, 4_000, 499), 1);
        assert_eq!(rate.force(0, 1_000, 4_000, 500), 0);
        assert!(!rate.is_full(4_499) && rate.is_full(4_500));
    }
}
