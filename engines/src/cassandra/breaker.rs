//! When nothing is asked of Cassandra: after many failures in a row, until one request that is let through succeeds.

use std::time::{Duration, Instant};

/// Failures in a row that open the breaker.
const FAILURES_MAX: u32 = 16;
/// First and longest time that it stays open before one request is let through.
const OPEN_FIRST: Duration = Duration::from_millis(250);
const OPEN_MAX: Duration = Duration::from_secs(2);

/// Closed: requests pass. Open until a time: then one passes and decides.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// In a row.
    failures: u32,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    until: Instant,
    wait: Duration,
    /// Until then the answer to the one that passed is waited for.
    probe: Option<Instant>,
    reason: String,
}

impl Breaker {
    /// Whether a request may be sent; otherwise why not, and when to come again. A request that is let through an open
    /// breaker is to be told of within `patience`.
    pub(super) fn admit(&mut self, now: Instant, patience: Duration) -> Result<(), String> {
        let refusal = self.refusal(now);
        if let Some(open) = &mut self.open
            && refusal.is_none()
        {
            open.probe = Some(now + patience);
        }
        refusal.map_or(Ok(()), Err)
    }

    /// Why a request would not be let through.
    pub(super) fn refusal(&self, now: Instant) -> Option<String> {
        let open = self.open.as_ref()?;
        let next = open.probe.map_or(open.until, |probe| open.until.max(probe));
        let left = next.saturating_duration_since(now);
        (!left.is_zero()).then(|| {
            let ms = left.min(open.wait).as_millis();
            format!(
                "Cassandra does not answer: {}; try again in {ms} ms",
                open.reason
            )
        })
    }

    /// Cassandra answered. Tells whether this closes the breaker.
    pub(super) fn succeeded(&mut self) -> bool {
        self.failures = 0;
        self.open.take().is_some()
    }

    /// A request failed. Tells whether this opens the breaker.
    pub(super) fn failed(&mut self, now: Instant, reason: &str) -> bool {
        self.failures = self.failures.saturating_add(1);
        match &mut self.open {
            Some(open) => {
                // Others that were under way fail too.
                if open.probe.take().is_none() {
                    return false;
                }
                open.wait = (open.wait * 2).min(OPEN_MAX);
                open.until = now + open.wait;
                reason.clone_into(&mut open.reason);
                false
            }
            None if self.failures < FAILURES_MAX => false,
            None => {
                self.open = Some(Open {
                    until: now + OPEN_FIRST,
                    wait: OPEN_FIRST,
                    probe: None,
                    reason: reason.to_owned(),
                });
                true
            }
        }
    }

    /// Why it is open.
    pub(super) fn reason(&self) -> Option<&str> {
        self.open.as_ref().map(|open| open.reason.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        let opened: Vec<bool> = (0..FAILURES_MAX)
            .map(|_| breaker.failed(now, "gone"))
            .collect();
        assert_eq!(opened.iter().filter(|opened| **opened).count(), 1);
        breaker
    }

    #[test]
    fn only_failures_in_a_row_open_it() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..4 {
            for _ in 1..FAILURES_MAX {
                assert!(!breaker.failed(now, "gone"));
            }
            assert!(!breaker.succeeded(), "it was not open");
        }
        assert_eq!(breaker.admit(now, PATIENCE), Ok(()));
    }

    #[test]
    fn an_open_one_refuses_with_the_reason_and_lets_one_through_after_a_while() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let refusal = breaker.admit(now, PATIENCE).expect_err("open");
        assert!(refusal.contains("gone") && refusal.contains("250 ms"));
        let later = now + OPEN_FIRST;
        assert_eq!(breaker.admit(later, PATIENCE), Ok(()));
        assert!(breaker.admit(later, PATIENCE).is_err(), "one, not two");
        assert_eq!(
            breaker.admit(later + PATIENCE, PATIENCE),
            Ok(()),
            "one that was never told of does not keep it open"
        );
    }

    #[test]
    fn a_probe_that_fails_doubles_the_wait_and_one_that_succeeds_closes_it() {
        let mut now = Instant::now();
        let mut breaker = opened(now);
        let mut wait = OPEN_FIRST;
        for _ in 0..6 {
            now += wait;
            assert_eq!(breaker.admit(now, PATIENCE), Ok(()));
            assert!(!breaker.failed(now, "still gone"));
            wait = (wait * 2).min(OPEN_MAX);
            assert!(breaker.admit(now + wait / 2, PATIENCE).is_err());
        }
        assert_eq!(wait, OPEN_MAX);
        assert_eq!(breaker.reason(), Some("still gone"));
        assert!(breaker.succeeded());
        assert_eq!(
            (breaker.admit(now, PATIENCE), breaker.reason()),
            (Ok(()), None)
        );
    }
}
