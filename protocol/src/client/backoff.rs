//! Full-jitter backoff: uniform in [0, min(cap, base * 2^attempt)).

use super::Chance;

/// Ceiling of the first wait, milliseconds.
pub const BACKOFF_BASE_MS: u64 = 500;
/// Ceiling of every wait, milliseconds.
pub const BACKOFF_CAP_MS: u64 = 30_000;

/// Waits between attempts; they grow until [`Backoff::reset`].
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    attempt: u32,
}

impl Backoff {
    /// Milliseconds to wait; `at_least_ms` is the server's `retry_after_ms`.
    pub fn next_ms(&mut self, at_least_ms: u64, chance: &mut Chance) -> u64 {
        let ceiling = BACKOFF_CAP_MS.min(BACKOFF_BASE_MS << self.attempt.min(16));
        self.attempt = self.attempt.saturating_add(1);
        at_least_ms.saturating_add(chance.below(ceiling))
    }

    /// No wait for the first attempt after a success, then as [`Backoff::next_ms`].
    pub fn at_once_ms(&mut self, chance: &mut Chance) -> u64 {
        if self.attempt > 0 {
            return self.next_ms(0, chance);
        }
        self.attempt = 1;
        0
    }

    /// It worked: the next failure waits little again.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_jittered_below_a_doubling_capped_ceiling() {
        let mut chance = Chance::new(3);
        let mut sums = [0_u64; 10];
        for _ in 0..400 {
            let mut backoff = Backoff::default();
            for (attempt, sum) in sums.iter_mut().enumerate() {
                let wait = backoff.next_ms(0, &mut chance);
                assert!(wait < (500 << attempt).min(30_000));
                *sum += wait;
            }
        }
        let means = sums.map(|sum| sum / 400);
        assert!((200..300).contains(&means[0]), "{means:?}");
        assert!((13_500..16_500).contains(&means[9]), "{means:?}");
    }

    #[test]
    fn the_servers_wish_is_a_floor_and_the_first_try_may_be_at_once() {
        let mut chance = Chance::new(3);
        let mut backoff = Backoff::default();
        assert_eq!(backoff.at_once_ms(&mut chance), 0);
        assert!(backoff.next_ms(5_000, &mut chance) >= 5_000);
        backoff.reset();
        assert_eq!(backoff.at_once_ms(&mut chance), 0);
    }
}
