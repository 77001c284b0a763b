//! The pace at which a core lets connections in, before TLS.

/// What a second's tokens are divided by for a burst that leaves the rate flat: 50 ms' worth.
const BURST_SHARE: u32 = 20;
/// Tokens saved up at least: fewer, and a late timer would cost some of the rate.
const BURST_MIN: u32 = 4;

/// The burst of a pace: as configured, or 50 ms' worth where that is 0.
#[must_use]
pub fn burst(per_second: u32, configured: u32) -> u32 {
    match configured {
        0 => (per_second / BURST_SHARE).max(BURST_MIN),
        burst => burst,
    }
}

/// A token bucket in whole tokens; `now_ms` is monotonic time.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    per_second: u64,
    burst: u64,
    /// Thousandths of a token.
    level: u64,
    at_ms: u64,
}

impl TokenBucket {
    /// A full bucket.
    #[must_use]
    pub fn new(per_second: u32, burst: u32, now_ms: u64) -> Self {
        Self {
            per_second: u64::from(per_second),
            burst: u64::from(burst) * 1_000,
            level: u64::from(burst) * 1_000,
            at_ms: now_ms,
        }
    }

    /// Takes a token; false leaves the bucket as it is. Time that goes backwards adds nothing.
    pub fn take(&mut self, now_ms: u64) -> bool {
        if self.wait_ms(now_ms) > 0 {
            return false;
        }
        self.level -= 1_000;
        true
    }

    /// Milliseconds until there is a token; 0: there is one.
    #[must_use]
    pub fn wait_ms(&mut self, now_ms: u64) -> u64 {
        let passed = now_ms.saturating_sub(self.at_ms);
        self.at_ms = self.at_ms.max(now_ms);
        // per_second tokens a second are per_second thousandths a millisecond.
        self.level = (self.level + passed.saturating_mul(self.per_second)).min(self.burst);
        1_000_u64
            .saturating_sub(self.level)
            .div_ceil(self.per_second.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_then_its_rate() {
        let mut bucket = TokenBucket::new(10, 3, 0);
        assert!((0..3).all(|_| bucket.take(0)));
        assert!(!bucket.take(0));
        assert_eq!(bucket.wait_ms(0), 100);
        assert!(!bucket.take(99));
        assert_eq!(bucket.wait_ms(99), 1);
        assert!(bucket.take(100));
        assert!(!bucket.take(100));
        assert!((0..3).all(|_| bucket.take(10_000)));
        assert!(!bucket.take(10_000), "no more than the burst is saved up");
    }

    #[test]
    fn time_that_goes_backwards_gives_no_tokens() {
        let mut bucket = TokenBucket::new(1_000, 1, 5_000);
        assert!(bucket.take(5_000));
        assert!(!bucket.take(1_000));
        assert!(!bucket.take(5_000), "nor does it count the way back");
    }

    #[test]
    fn a_crowd_that_waits_is_let_in_at_the_pace_within_a_twentieth() {
        for per_second in [80, 333, 2_000, 50_000] {
            let mut bucket = TokenBucket::new(per_second, burst(per_second, 0), 0);
            let (mut now_ms, mut seconds) = (0, [0_u32; 10]);
            let mut late = [0, 3, 1, 7, 0, 2].into_iter().cycle();
            while now_ms < 10_000 {
                match bucket.wait_ms(now_ms) {
                    0 => {
                        assert!(bucket.take(now_ms));
                        seconds[usize::try_from(now_ms / 1_000).expect("small")] += 1;
                    }
                    // As a timer of a busy core does, it comes late.
                    wait_ms => now_ms += wait_ms + late.next().expect("endless"),
                }
            }
            for count in seconds {
                let off = count.abs_diff(per_second);
                assert!(off * 20 <= per_second, "{count} of {per_second}");
            }
        }
    }
}
