//! What the embedded engine counts, for the exporter.

use crate::admin::MetricsSource;
use hawser_engines::embedded::{EmbeddedEngine, EmbeddedStats};
use hawser_fanout::engines::Number;
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

fn commits(stats: &EmbeddedStats) -> Vec<Number> {
    vec![
        Number::grows(
            "hawser_log_batches_total",
            "Batches that the embedded engine committed.",
            stats.batches,
        ),
        Number::grows(
            "hawser_log_appended_total",
            "Records appended to durable topics.",
            stats.appended,
        ),
        Number::grows(
            "hawser_log_appended_bytes_total",
            "Bytes of keys and values appended.",
            stats.appended_bytes,
        ),
        Number::grows(
            "hawser_log_commit_nanoseconds_total",
            "Time spent in commits, fsync included.",
            stats.commit_ns,
        ),
        Number::level(
            "hawser_log_commit_nanoseconds_max",
            "The longest commit.",
            stats.commit_ns_max,
        ),
        Number::grows(
            "hawser_log_expired_records_total",
            "Records removed by retention.",
            stats.expired_records,
        ),
        Number::level(
            "hawser_log_queued",
            "Appends waiting for the commit thread.",
            stats.queued,
        ),
    ]
}

fn faults(stats: &EmbeddedStats) -> Vec<Number> {
    let full = "1 while appends are refused because the disk is full: raise an alarm.";
    vec![
        Number::level("hawser_log_disk_full", full, u64::from(stats.disk_full)),
        Number::grows(
            "hawser_log_refused_overloaded_total",
            "Appends refused: the queue was full.",
            stats.refused_overloaded,
        ),
        Number::grows(
            "hawser_log_refused_disk_full_total",
            "Appends refused: the disk was full.",
            stats.refused_disk_full,
        ),
        Number::grows(
            "hawser_log_refused_other_total",
            "Appends refused for another reason.",
            stats.refused_other,
        ),
        Number::grows(
            "hawser_log_commit_failures_total",
            "Commits of unknown outcome.",
            stats.commit_failures,
        ),
        Number::grows(
            "hawser_log_reopened_total",
            "Times that the database was opened anew.",
            stats.reopened,
        ),
        Number::grows(
            "hawser_log_corrupt_reads_total",
            "Reads that found a wrong checksum.",
            stats.corrupt_reads,
        ),
        Number::grows(
            "hawser_log_consumers_lagged_total",
            "Times that a consumer fell behind.",
            stats.consumers_lagged,
        ),
        Number::grows(
            "hawser_ingest_aborts_total",
            "Records that ingest could not judge.",
            stats.hook_aborts,
        ),
    ]
}
