//! Counters of the embedded engine, for metrics and alarms.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Live counters; relaxed, for metrics only.
        #[derive(Default)]
        pub(super) struct Counters {
            $(pub(super) $name: AtomicU64,)*
            pub(super) disk_full: AtomicBool,
        }

        /// A reading of the counters. All count from the opening of the engine.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct EmbeddedStats {
            $($(#[$doc])* pub $name: u64,)*
            /// Whether appends are refused now because the disk is full: raise an alarm.
            pub disk_full: bool,
            /// Jobs waiting for the commit thread.
            pub queued: u64,
        }

        impl Counters {
            pub(super) fn read(&self, queued: usize) -> EmbeddedStats {
                EmbeddedStats {
                    $($name: self.$name.load(Ordering::Relaxed),)*
                    disk_full: self.disk_full.load(Ordering::Relaxed),
                    queued: queued as u64,
                }
            }
        }
    };
}

counters! {
    /// Batches committed.
    batches,
    /// Records appended to durable topics.
    appended,
    /// Bytes of their keys and values.
    appended_bytes,
    /// Records put on ephemeral topics.
    ephemeral,
    /// Nanoseconds spent in commits, fsync included.
    commit_ns,
    /// The longest commit, nanoseconds.
    commit_ns_max,
    /// Produces refused because the queue was full.
    refused_overloaded,
    /// Produces refused because the disk was full.
    refused_disk_full,
    /// Produces refused for any other reason.
    refused_other,
    /// Times that the disk became full (the alarm's counter).
    disk_full_alarms,
    /// Commits that failed with an unknown outcome.
    commit_failures,
    /// Times the database was opened anew after a failure.
    reopened,
    /// Records that the hook could not judge.
    hook_aborts,
    /// Reads that found a wrong checksum.
    corrupt_reads,
    /// Times that a live consumer fell behind its queue and went to the database.
    consumers_lagged,
    /// Records removed by retention.
    expired_records,
    /// Dedup rows removed after their window.
    expired_dedup_rows,
}

pub(super) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}
