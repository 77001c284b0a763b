//! What the engines and ingest count, for the exporter.

use crate::admin::{Family, MetricsSource};
use hawser_engines::embedded::{EmbeddedEngine, EmbeddedStats};
use hawser_fanout::ingest::IngestCounters;
use std::sync::Arc;

/// The engine's numbers, for as long as it lives.
pub(super) fn engine(engine: &Arc<EmbeddedEngine>) -> MetricsSource {
    let engine = Arc::downgrade(engine);
    Arc::new(move || {
        let Some(engine) = engine.upgrade() else {
            return Vec::new();
        };
        let stats = engine.stats();
        let mut families = commits(&stats);
        families.extend(faults(&stats));
        families
    })
}

/// What ingest has judged.
pub(super) fn ingest(counters: Arc<IngestCounters>) -> MetricsSource {
    Arc::new(move || {
        let counts = counters.read();
        vec![
            grows(
                "hawser_ingest_accepted_total",
                "Messages accepted.",
                counts.accepted,
            ),
            grows(
                "hawser_ingest_duplicates_total",
                "Messages found to be duplicates.",
                counts.duplicates,
            ),
            grows(
                "hawser_ingest_changes_total",
                "Changes of groups.",
                counts.changes,
            ),
            grows("hawser_ingest_receipts_total", "Receipts.", counts.receipts),
            grows(
                "hawser_ingest_rejected_total",
                "Messages, changes and receipts refused.",
                counts.rejected,
            ),
            grows(
                "hawser_ingest_poison_total",
                "Records moved to dead-letters.",
                counts.poison,
            ),
            grows(
                "hawser_ingest_retries_total",
                "Times that ingest began again from its last commit.",
                counts.retries,
            ),
        ]
    })
}

fn commits(stats: &EmbeddedStats) -> Vec<Family> {
    vec![
        grows(
            "hawser_log_batches_total",
            "Batches that the embedded engine committed.",
            stats.batches,
        ),
        grows(
            "hawser_log_appended_total",
            "Records appended to durable topics.",
            stats.appended,
        ),
        grows(
            "hawser_log_appended_bytes_total",
            "Bytes of keys and values appended.",
            stats.appended_bytes,
        ),
        grows(
            "hawser_log_commit_nanoseconds_total",
            "Time spent in commits, fsync included.",
            stats.commit_ns,
        ),
        level(
            "hawser_log_commit_nanoseconds_max",
            "The longest commit.",
            stats.commit_ns_max,
        ),
        grows(
            "hawser_log_expired_records_total",
            "Records removed by retention.",
            stats.expired_records,
        ),
        level(
            "hawser_log_queued",
            "Appends waiting for the commit thread.",
            stats.queued,
        ),
    ]
}

fn faults(stats: &EmbeddedStats) -> Vec<Family> {
    let full = "1 while appends are refused because the disk is full: raise an alarm.";
    vec![
        level("hawser_log_disk_full", full, u64::from(stats.disk_full)),
        grows(
            "hawser_log_refused_overloaded_total",
            "Appends refused: the queue was full.",
            stats.refused_overloaded,
        ),
        grows(
            "hawser_log_refused_disk_full_total",
            "Appends refused: the disk was full.",
            stats.refused_disk_full,
        ),
        grows(
            "hawser_log_refused_other_total",
            "Appends refused for another reason.",
            stats.refused_other,
        ),
        grows(
            "hawser_log_commit_failures_total",
            "Commits of unknown outcome.",
            stats.commit_failures,
        ),
        grows(
            "hawser_log_reopened_total",
            "Times that the database was opened anew.",
            stats.reopened,
        ),
        grows(
            "hawser_log_corrupt_reads_total",
            "Reads that found a wrong checksum.",
            stats.corrupt_reads,
        ),
        grows(
            "hawser_log_consumers_lagged_total",
            "Times that a consumer fell behind.",
            stats.consumers_lagged,
        ),
        grows(
            "hawser_ingest_aborts_total",
            "Records that ingest could not judge.",
            stats.hook_aborts,
        ),
    ]
}

fn grows(name: &'static str, help: &'static str, value: u64) -> Family {
    Family {
        grows: true,
        ..level(name, help, value)
    }
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus' numbers are f64")]
fn level(name: &'static str, help: &'static str, value: u64) -> Family {
    Family {
        name,
        help,
        value: value as f64,
        grows: false,
    }
}
