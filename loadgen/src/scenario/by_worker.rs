//! What each of several processes did, in words and as a table.

use super::figures::short;
use super::record::Worker;
use crate::page::{Cell, Page};

/// A worker before it begins.
#[must_use]
pub fn introduced(worker: &Worker) -> String {
    let last = (worker.first_user + worker.users).saturating_sub(1);
    format!(
        "worker {}: users {} to {last}, {}, clock {}",
        worker.name,
        worker.first_user,
        worker.machine,
        clock(worker)
    )
}

fn clock(worker: &Worker) -> String {
    format!("{:+.2} ms ± {:.2}", worker.clock_ms, worker.clock_error_ms)
}

/// A line for terminals.
pub(super) fn line(worker: &Worker) -> String {
    let c = &worker.counts;
    format!(
        "worker {}: {} of {} live, {} sent, {} delivered, {} refused, {} failed, {} closed, {:.1} s of CPU, {} MiB",
        worker.name,
        c.live,
        worker.users,
        c.sent,
        c.delivered,
        c.refused,
        c.failed,
        c.closed,
        worker.cpu_s,
        worker.rss_max >> 20
    )
}

/// The same on paper, where there are several.
pub(super) fn table(page: &mut Page, workers: &[Worker]) {
    if workers.is_empty() {
        return;
    }
    page.heading("Workers");
    let row = |worker: &Worker| {
        let c = &worker.counts;
        let count = |value: u64| short(value as f64);
        let mut row = vec![worker.name.clone(), worker.machine.clone()];
        let counts = [
            u64::from(worker.users),
            c.live,
            c.sent,
            c.delivered,
            c.refused,
            c.failed,
            c.closed,
        ];
        row.extend(counts.map(count));
        row.push(short(worker.cpu_s));
        row.push(count(worker.rss_max >> 20));
        row.push(clock(worker));
        row
    };
    let rows: Vec<Vec<String>> = workers.iter().map(row).collect();
    page.table(
        &[
            ("worker", Cell::Text),
            ("machine", Cell::Text),
            ("users", Cell::Number),
            ("live", Cell::Number),
            ("sent", Cell::Number),
            ("delivered", Cell::Number),
            ("refused", Cell::Number),
            ("failed", Cell::Number),
            ("closed", Cell::Number),
            ("CPU s", Cell::Number),
            ("MiB at most", Cell::Number),
            ("clock", Cell::Number),
        ],
        &rows,
    );
    page.paragraph(
        "Each conversation is within one worker, so that no latency is between two clocks; histograms are merged, not their \
         quantiles. The clock is the worker's time of day beside the coordinator's, from the soonest of several answers.",
    );
}
