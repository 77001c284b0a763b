//! What recovery found and did.

use crate::log::Topic;
use std::path::PathBuf;

/// A partition that was cut back to its last good record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truncated {
    /// Topic.
    pub topic: Topic,
    /// Partition.
    pub partition: u32,
    /// First offset that is gone.
    pub from: u64,
    /// End of the partition before.
    pub to: u64,
}

/// What opening the database found. Also written to the log, once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// The database was there before.
    pub existed: bool,
    /// It had been closed in order.
    pub clean: bool,
    /// Bytes cut off the end of the journal, 0 when it was whole. What was never acknowledged
    /// (a write that a crash interrupted) counts here too.
    pub journal_bytes_cut: u64,
    /// Where what was cut is kept.
    pub set_aside: Option<PathBuf>,
    /// Why the journal was cut.
    pub journal_fault: Option<&'static str>,
    /// Acknowledged batches that are known to be gone; `None` when that cannot be known (the
    /// machine has rebooted since).
    pub batches_lost: Option<u64>,
    /// Partitions cut back to their last good record.
    pub truncated: Vec<Truncated>,
    /// Topics whose generation rose, and to what.
    pub raised: Vec<(Topic, u16)>,
}

impl RecoveryReport {
    /// Whether something that could have been acknowledged is gone.
    #[must_use]
    pub fn lossy(&self) -> bool {
        !self.raised.is_empty()
    }

    pub(super) fn log(&self) {
        if let Some(fault) = self.journal_fault {
            let bytes = self.journal_bytes_cut;
            let aside = self.set_aside.as_ref().map(|p| p.display().to_string());
            tracing::warn!(
                fault,
                bytes,
                aside,
                "the journal was cut after its last good batch"
            );
        }
        for cut in &self.truncated {
            let (topic, partition) = (cut.topic.name(), cut.partition);
            let (from, to) = (cut.from, cut.to);
            tracing::error!(
                topic,
                partition,
                from,
                to,
                "bad records: cut back to the last good one"
            );
        }
        for (topic, generation) in &self.raised {
            let topic = topic.name();
            let lost = self.batches_lost;
            tracing::error!(
                topic,
                generation,
                lost,
                "acknowledged records may be gone: a new generation"
            );
        }
    }
}
