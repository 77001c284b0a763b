//! Whether brokers answer, decided from few signals: acknowledgements that arrive, a client that lost
//! every broker, and a probe. While they do not, appends are refused at once instead of queued.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Shared by the producers' callbacks (which report) and the watch (which decides).
#[derive(Debug)]
pub(super) struct Health {
    began: Instant,
    down: AtomicBool,
    suspected: AtomicBool,
    /// Milliseconds since `began` of the last sign of life.
    heard_ms: AtomicU64,
    told: Mutex<Told>,
}

/// librdkafka's last words about brokers that it cannot use.
#[derive(Debug, Default)]
struct Told {
    complaint: Option<String>,
    refused: Option<(Refusal, String)>,
}

/// Why a broker and this client will not come together, however long one waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The broker does not believe who we are.
    Credentials,
    /// We do not believe who the broker is.
    Certificate,
}

impl Health {
    /// Up, until something says otherwise.
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            down: AtomicBool::new(false),
            suspected: AtomicBool::new(false),
            heard_ms: AtomicU64::new(0),
            told: Mutex::default(),
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A broker acknowledged something.
    pub(super) fn heard(&self) {
        self.heard_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// A mark to ask later whether anything was heard since.
    pub(super) fn mark(&self) -> u64 {
        self.heard_ms.load(Ordering::Relaxed)
    }

    /// Whether a broker acknowledged something since that mark.
    pub(super) fn heard_since(&self, mark: u64) -> bool {
        self.mark() > mark
    }

    /// A client cannot reach any broker: worth a probe at once.
    pub(super) fn suspect(&self) {
        self.suspected.store(true, Ordering::Relaxed);
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client has something to say of a broker.
    pub(super) fn complain(&self, reason: &str, refusal: Option<Refusal>) {
        let mut told = self.told();
        told.complaint = Some(reason.to_owned());
        if let Some(refusal) = refusal {
            told.refused = Some((refusal, reason.to_owned()));
        }
    }

    /// The last complaint.
    pub(super) fn complaint(&self) -> Option<String> {
        self.told().complaint.clone()
    }

    /// The last refusal, in librdkafka's words.
    pub(super) fn refused(&self) -> Option<(Refusal, String)> {
        self.told().refused.clone()
    }

    /// Whether appends are refused.
    pub(super) fn down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    /// Whether a probe is due, given how long the oldest record waits for its acknowledgement.
    pub(super) fn probe_due(&self, oldest: Option<Duration>) -> bool {
        let suspected = self.suspected.swap(false, Ordering::Relaxed);
        let silent = Duration::from_millis(
            self.now_ms()
                .saturating_sub(self.heard_ms.load(Ordering::Relaxed)),
        );
        let stuck = oldest.is_some_and(|age| age >= STUCK) && silent >= STUCK;
        self.down() || suspected || stuck || silent >= IDLE
    }

    /// Takes the answer of a probe. Returns whether the state changed.
    pub(super) fn probed(&self, answered: bool) -> bool {
        if answered {
            self.heard();
        }
        self.down.swap(!answered, Ordering::Relaxed) == answered
    }
}

/// A record that waits this long while nothing is acknowledged calls for a probe.
const STUCK: Duration = Duration::from_millis(250);
/// After this long without a sign of life, a probe says whether the next record would be taken.
const IDLE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_healthy_log_is_not_probed_and_a_stuck_one_is() {
        let health = Health::new();
        health.heard();
        assert!(!health.probe_due(None));
        assert!(!health.probe_due(Some(Duration::from_millis(100))));
        std::thread::sleep(STUCK);
        assert!(health.probe_due(Some(STUCK)));
        assert!(!health.probe_due(None));
        health.heard();
        assert!(
            !health.probe_due(Some(Duration::from_secs(5))),
            "others are acknowledged: one partition is slow, not the log down"
        );
    }

    #[test]
    fn an_acknowledgement_during_a_probe_is_a_sign_of_life() {
        let health = Health::new();
        let mark = health.mark();
        assert!(!health.heard_since(mark));
        std::thread::sleep(Duration::from_millis(3));
        health.heard();
        assert!(health.heard_since(mark));
    }

    #[test]
    fn a_suspicion_is_probed_once() {
        let health = Health::new();
        health.heard();
        health.suspect();
        assert!(health.probe_due(None));
        assert!(!health.probe_due(None));
    }

    #[test]
    fn down_and_up_are_changes_once_each_and_down_is_probed_until_it_ends() {
        let health = Health::new();
        assert!(!health.probed(true));
        assert!(health.probed(false));
        assert!(!health.probed(false));
        assert!(health.down() && health.probe_due(None));
        assert!(health.probed(true));
        assert!(!health.down());
    }
}
