//! How far a worker's clocks are from the coordinator's: of several questions the one that was answered soonest says it best.

use std::collections::VecDeque;

/// Answers that are remembered: clocks drift, and an old one says less.
const KEPT: usize = 32;

/// One question and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Between question and answer, nanoseconds.
    pub rtt_ns: u64,
    /// The worker's run clock minus the coordinator's, nanoseconds.
    pub ahead_ns: i64,
    /// The worker's time of day minus the coordinator's, microseconds.
    pub wall_us: i64,
}

impl Sample {
    /// Of a question sent and an answer that came at these instants of the coordinator, the answer made halfway at those of the
    /// worker.
    #[must_use]
    pub fn new(ours_ns: (u64, u64), theirs_ns: u64, wall_us: (u64, u64)) -> Self {
        let rtt_ns = ours_ns.1.saturating_sub(ours_ns.0);
        let halfway_ns = ours_ns.0.saturating_add(rtt_ns / 2);
        let halfway_us = wall_us.0.saturating_sub(rtt_ns / 2_000);
        Self {
            rtt_ns,
            ahead_ns: between(halfway_ns, theirs_ns),
            wall_us: between(halfway_us, wall_us.1),
        }
    }
}

fn between(ours: u64, theirs: u64) -> i64 {
    let between = i128::from(theirs) - i128::from(ours);
    i64::try_from(between).unwrap_or(if between < 0 { i64::MIN } else { i64::MAX })
}

/// The latest samples.
#[derive(Debug, Clone, Default)]
pub struct Clock(VecDeque<Sample>);

impl Clock {
    /// Adds one.
    pub fn add(&mut self, sample: Sample) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    /// How many there are.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.0.len()
    }

    /// The one with the shortest way; its half is by how much it may be wrong.
    #[must_use]
    pub fn best(&self) -> Option<Sample> {
        self.0.iter().min_by_key(|sample| sample.rtt_ns).copied()
    }

    /// An instant of the coordinator on the worker's run clock, nanoseconds.
    #[must_use]
    pub fn there(&self, ours_ns: u64) -> u64 {
        ours_ns.saturating_add_signed(self.best().map_or(0, |sample| sample.ahead_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soonest_answer_says_how_far_the_clocks_are_apart() {
        let mut clock = Clock::default();
        assert_eq!(clock.there(5), 5);
        // The worker is 1 s ahead, its time of day 2 ms behind; an answer that had to wait says otherwise.
        clock.add(Sample::new((0, 8_000_000), 1_007_000_000, (10_000, 11_000)));
        clock.add(Sample::new(
            (10_000_000, 10_200_000),
            1_010_100_000,
            (10_200, 8_100),
        ));
        clock.add(Sample::new(
            (20_000_000, 29_000_000),
            1_020_000_000,
            (10_000, 90_000),
        ));
        let best = clock.best().expect("three");
        assert_eq!(
            (best.ahead_ns, best.wall_us, best.rtt_ns),
            (1_000_000_000, -2_000, 200_000)
        );
        assert_eq!(clock.there(7), 1_000_000_007);
        for _ in 0..KEPT {
            clock.add(Sample::new((0, 1_000_000), 500_000, (500, 0)));
        }
        assert_eq!(
            clock.best().map(|best| best.ahead_ns),
            Some(0),
            "what was long ago is forgotten"
        );
        assert_eq!(
            Sample::new((5, 0), u64::MAX, (0, u64::MAX)).ahead_ns,
            i64::MAX,
            "whatever a worker says"
        );
    }
}
