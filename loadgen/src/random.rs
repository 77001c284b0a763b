//! Seeded pseudo-random numbers (splitmix64): the same seed makes the same load.

use std::time::Duration;

/// One step of splitmix64; also a good mixer of its argument.
#[must_use]
pub fn step(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A generator.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// From a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        step(self.0)
    }

    /// Below `bound` (which is at least 1); the bias is below 2^-32 for the bounds used here.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "an empty range has no number");
        let wide = u128::from(self.bits()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// In (0, 1].
    pub fn unit(&mut self) -> f64 {
        ((self.bits() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Time to the next of Poisson arrivals at `per_second`, nanoseconds.
    pub fn exponential_ns(&mut self, per_second: f64) -> u64 {
        nanoseconds(-self.unit().ln() / per_second)
    }
}

/// Seconds as whole nanoseconds; what is no time or too long is the largest time that sums of it do not overflow.
#[must_use]
pub fn nanoseconds(seconds: f64) -> u64 {
    let time = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
    u64::try_from(time.as_nanos())
        .unwrap_or(u64::MAX)
        .min(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_another_others() {
        let take = |seed| {
            let mut random = Random::new(seed);
            (0..8).map(|_| random.bits()).collect::<Vec<_>>()
        };
        assert_eq!(take(1), take(1));
        assert_ne!(take(1), take(2));
    }

    #[test]
    fn arrivals_have_the_asked_mean() {
        let mut random = Random::new(7);
        let total: u64 = (0..100_000).map(|_| random.exponential_ns(1_000.0)).sum();
        let mean_ms = total as f64 / 100_000.0 / 1e6;
        assert!((mean_ms - 1.0).abs() < 0.02, "{mean_ms}");
    }
}
