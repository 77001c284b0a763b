//! What ingest has done, for metrics.

use super::plan::Verdict;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters, shared with whoever shows them.
#[derive(Debug, Default)]
pub struct IngestCounters {
    accepted: AtomicU64,
    duplicates: AtomicU64,
    forwarded: AtomicU64,
    changes: AtomicU64,
    receipts: AtomicU64,
    rejected: AtomicU64,
    poison: AtomicU64,
    retries: AtomicU64,
    bodies: AtomicU64,
    bodies_lost: AtomicU64,
}

/// Their values. A replay counts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IngestCounts {
    /// Messages accepted.
    pub accepted: u64,
    /// Messages found to be duplicates.
    pub duplicates: u64,
    /// Messages sent on to their lane.
    pub forwarded: u64,
    /// Changes of groups.
    pub changes: u64,
    /// Receipts.
    pub receipts: u64,
    /// Messages, changes and receipts refused.
    pub rejected: u64,
    /// Records moved to dead-letters.
    pub poison: u64,
    /// Times that a driver began again from its last commit.
    pub retries: u64,
    /// Bodies put on a lane.
    pub bodies: u64,
    /// Bodies that a lane did not take.
    pub bodies_lost: u64,
}

impl IngestCounters {
    /// Reads them.
    #[must_use]
    pub fn read(&self) -> IngestCounts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        IngestCounts {
            accepted: get(&self.accepted),
            duplicates: get(&self.duplicates),
            forwarded: get(&self.forwarded),
            changes: get(&self.changes),
            receipts: get(&self.receipts),
            rejected: get(&self.rejected),
            poison: get(&self.poison),
            retries: get(&self.retries),
            bodies: get(&self.bodies),
            bodies_lost: get(&self.bodies_lost),
        }
    }

    pub(super) fn count(&self, verdict: Verdict) {
        let counter = match verdict {
            Verdict::Accepted => &self.accepted,
            Verdict::Duplicate => &self.duplicates,
            Verdict::Forwarded => &self.forwarded,
            Verdict::Changed => &self.changes,
            Verdict::Receipt => &self.receipts,
            Verdict::Rejected(_) => &self.rejected,
            Verdict::Poison => &self.poison,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn referred(&self, sent: u64, lost: u64) {
        self.bodies.fetch_add(sent, Ordering::Relaxed);
        self.bodies_lost.fetch_add(lost, Ordering::Relaxed);
    }

    pub(super) fn retried(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }
}
