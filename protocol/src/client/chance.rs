//! Jitter and ids, out of a seed of the caller's.

/// A deterministic generator (SplitMix64, Steele, Lea and Flood 2014): the session has no
/// randomness of its own, so the same seed gives the same run.
#[derive(Debug, Clone)]
pub struct Chance {
    state: u64,
}

impl Chance {
    /// Starts from a seed; drivers take one from the system, tests write one down.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub fn word(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, ceiling); 0 when the ceiling is 0.
    pub fn below(&mut self, ceiling: u64) -> u64 {
        let wide = u128::from(self.word()) * u128::from(ceiling);
        // The high half of a product of two 64-bit words fits 64 bits.
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// Random part of an id.
    pub fn id_bytes(&mut self) -> [u8; 10] {
        let mut out = [0; 10];
        out[..8].copy_from_slice(&self.word().to_le_bytes());
        out[8..].copy_from_slice(&self.word().to_le_bytes()[..2]);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_stays_below_and_reaches_both_halves() {
        let mut chance = Chance::new(7);
        let drawn: Vec<u64> = (0..1_000).map(|_| chance.below(10)).collect();
        assert!(drawn.iter().all(|n| *n < 10));
        assert!(drawn.iter().any(|n| *n < 5) && drawn.iter().any(|n| *n >= 5));
        assert_eq!(chance.below(0), 0);
    }

    #[test]
    fn one_seed_is_one_run() {
        let run = |seed| {
            let mut chance = Chance::new(seed);
            [chance.word(), chance.word(), chance.below(99)]
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }
}
