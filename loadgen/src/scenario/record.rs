//! What came of a scenario, while it runs and after: a tick each second, added up to points over time and to phases.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::check::Findings;
use crate::engine::{Totals, Window};
use crate::report::{Latency, Quantiles};
use crate::usage::Usage;

/// Points are apart at least so long, seconds: rates over less say nothing.
const POINT_S: f64 = 0.5;
/// Failures that are told in words, of all processes.
const FAILURES_MAX: usize = 10;

/// Counters at an instant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Live sessions.
    pub live: u64,
    /// Messages sent.
    pub sent: u64,
    /// Deliveries.
    pub delivered: u64,
    /// Refused Sends.
    pub refused: u64,
    /// Connections that failed.
    pub failed: u64,
    /// Live sessions that ended without being asked, those that a storm cut not among them.
    pub closed: u64,
    /// Sessions welcomed again.
    pub reconnects: u64,
    /// Sessions sent to another gateway.
    pub moved: u64,
    /// Cut by storms.
    pub cut: u64,
}

impl Counts {
    /// As they are.
    #[must_use]
    pub fn of(totals: &Totals) -> Self {
        Self {
            live: totals.live,
            sent: totals.sent,
            delivered: totals.delivered,
            refused: totals.refused,
            failed: totals.failed,
            // Whom a storm cuts is counted as closed too.
            closed: totals.closed.saturating_sub(totals.cut),
            reconnects: totals.reconnects,
            moved: totals.moved,
            cut: totals.cut,
        }
    }
}

/// How a run is, a second after the tick before.
#[derive(Debug, Clone)]
pub struct Tick {
    /// Seconds since the run began.
    pub at_s: f64,
    /// Index of the phase.
    pub phase: usize,
    /// Since the beginning.
    pub counts: Counts,
    /// Recorded since the tick before.
    pub window: Window,
    /// The server's processes.
    pub server: Option<Usage>,
    /// This load generator, all its processes.
    pub own: Usage,
    /// One by one, where there are several.
    pub workers: Vec<Worker>,
}

/// One of several processes that make the load, as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Worker {
    /// Its address, or which of this host's processes it is.
    pub name: String,
    /// The machine it is on.
    pub machine: String,
    /// Its first user, and how many are its own.
    pub first_user: u32,
    /// See `first_user`.
    pub users: u32,
    /// Its time of day minus that of the coordinator as the run began, milliseconds, and by how much that may be wrong.
    pub clock_ms: f64,
    /// See `clock_ms`.
    pub clock_error_ms: f64,
    /// Counters since the run began.
    pub counts: Counts,
    /// CPU time since the run began, seconds.
    pub cpu_s: f64,
    /// Resident set, bytes.
    pub rss: u64,
    /// The largest that was seen, bytes.
    pub rss_max: u64,
}

/// One point over time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Point {
    /// Seconds since the run began.
    pub at_s: f64,
    /// Index of the phase.
    pub phase: usize,
    /// Live sessions.
    pub live: u64,
    /// Messages sent per second.
    pub sent_per_s: f64,
    /// Deliveries per second.
    pub delivered_per_s: f64,
    /// Send → Deliver of those that came since the point before.
    pub deliver: Quantiles,
    /// Refusals and `Error` frames since the point before.
    pub errors: u64,
    /// The server's resident set, bytes.
    pub rss: Option<u64>,
    /// Of one core, percent, since the point before.
    pub cpu_pct: Option<f64>,
    /// This load generator's.
    pub own_cpu_pct: f64,
}

/// What happened in one phase.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    /// When it began, seconds of the run.
    pub from_s: f64,
    /// When it had ended, with the wait for what was under way.
    pub to_s: f64,
    /// For how long messages were begun, seconds; 0 where none were.
    pub load_s: f64,
    /// Counters as it began and as it had ended.
    pub counts: (Counts, Counts),
    /// Everything recorded.
    pub window: Window,
    /// The server as it began and as it had ended.
    pub server: Option<(Usage, Usage)>,
    /// This load generator.
    pub own: (Usage, Usage),
    /// The server's resident set at each tick: seconds of the run, bytes.
    pub rss: Vec<(f64, u64)>,
    /// Figures of its kind alone, by name.
    pub special: BTreeMap<&'static str, f64>,
}

/// Adds ticks up.
#[derive(Debug, Default)]
pub struct Record {
    /// In the order of the scenario; those that were begun.
    pub phases: Vec<Measured>,
    /// Over time.
    pub points: Vec<Point>,
    /// The processes as they were at the last tick, where there are several.
    pub workers: Vec<Worker>,
    /// The last tick's, without its window.
    last: Option<State>,
    /// The last point's, and what was recorded since.
    base: Option<State>,
    pending: Window,
}

/// A tick without its window.
#[derive(Debug, Clone, Copy)]
struct State {
    at_s: f64,
    counts: Counts,
    server: Option<Usage>,
    own: Usage,
}

/// What is known once all threads have ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// Correctness.
    pub findings: Findings,
    /// Deliveries that are not what was sent.
    pub foreign: u64,
    /// Users whose deliveries were not judged.
    pub unjudged: u64,
    /// Refusals and `Error` frames by code.
    pub errors: BTreeMap<u32, u64>,
    /// Closes by code.
    pub closes: BTreeMap<u16, u64>,
    /// The first failures in words.
    pub failures: Vec<String>,
}

impl End {
    /// Adds another process's, whose failures are told with its name.
    pub fn add(&mut self, other: &Self, name: &str) {
        self.findings.add(&other.findings);
        self.foreign = self.foreign.saturating_add(other.foreign);
        self.unjudged = self.unjudged.saturating_add(other.unjudged);
        for (code, count) in &other.errors {
            let sum = self.errors.entry(*code).or_default();
            *sum = sum.saturating_add(*count);
        }
        for (code, count) in &other.closes {
            let sum = self.closes.entry(*code).or_default();
            *sum = sum.saturating_add(*count);
        }
        let room = FAILURES_MAX.saturating_sub(self.failures.len());
        let told = other
            .failures
            .iter()
            .map(|words| format!("{name}: {words}"));
        self.failures.extend(told.take(room));
    }
}

impl Record {
    /// Adds a tick.
    pub fn add(&mut self, tick: &Tick) {
        self.workers.clone_from(&tick.workers);
        let now = State {
            at_s: tick.at_s,
            counts: tick.counts,
            server: tick.server,
            own: tick.own,
        };
        let before = self.last.replace(now).unwrap_or(now);
        if self.phases.len() <= tick.phase {
            self.phases.push(Measured {
                from_s: before.at_s,
                counts: (before.counts, before.counts),
                server: before.server.map(|server| (server, server)),
                own: (before.own, before.own),
                ..Measured::default()
            });
        }
        if let Some(phase) = self.phases.get_mut(tick.phase) {
            phase.to_s = tick.at_s;
            phase.counts.1 = tick.counts;
            phase.own.1 = tick.own;
            phase.window.add(&tick.window);
            if let (Some(both), Some(now)) = (&mut phase.server, tick.server) {
                both.1 = now;
                phase.rss.push((tick.at_s, now.rss));
            }
        }
        self.pending.add(&tick.window);
        let base = *self.base.get_or_insert(now);
        if now.at_s - base.at_s >= POINT_S {
            self.base = Some(now);
            let window = std::mem::take(&mut self.pending);
            self.points
                .push(Point::between(&base, &now, tick.phase, &window));
        }
    }
}

impl Point {
    fn between(base: &State, now: &State, phase: usize, window: &Window) -> Self {
        let seconds = now.at_s - base.at_s;
        let rate = |before: u64, now: u64| now.saturating_sub(before) as f64 / seconds;
        let servers = base.server.zip(now.server);
        Self {
            at_s: now.at_s,
            phase,
            live: now.counts.live,
            sent_per_s: rate(base.counts.sent, now.counts.sent),
            delivered_per_s: rate(base.counts.delivered, now.counts.delivered),
            deliver: window.deliver.summary(),
            errors: window.errors,
            rss: now.server.map(|server| server.rss),
            cpu_pct: servers.map(|(before, now)| rate(ticks(&before), ticks(&now))),
            own_cpu_pct: rate(ticks(&base.own), ticks(&now.own)),
        }
    }
}

/// CPU time in ticks of 10 ms: so many per second are so many percent of a core.
#[must_use]
pub fn ticks(usage: &Usage) -> u64 {
    usage.user_ticks + usage.system_ticks
}

/// How the histograms of a phase are shown, with their names in figures.
#[must_use]
pub fn latencies(window: &Window) -> [(&'static str, &'static str, &Latency); 4] {
    [
        ("connect", "Connect → Welcome", &window.connect),
        ("queued", "Send → Queued", &window.queued),
        ("send_result", "Send → SendResult", &window.send_result),
        ("deliver", "Send → Deliver", &window.deliver),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(at_s: f64, phase: usize, sent: u64, rss: u64, cpu: u64, latency_ms: u64) -> Tick {
        let mut window = Window::default();
        window.deliver.record(latency_ms * 1_000_000);
        let usage = Usage {
            rss,
            user_ticks: cpu,
            ..Usage::default()
        };
        Tick {
            at_s,
            phase,
            counts: Counts {
                sent,
                ..Counts::default()
            },
            window,
            server: Some(usage),
            own: Usage::default(),
            workers: Vec::new(),
        }
    }

    #[test]
    fn ticks_make_points_and_phases_that_begin_where_the_one_before_ended() {
        let mut record = Record::default();
        record.add(&tick(1.0, 0, 0, 100, 0, 1));
        record.add(&tick(3.0, 0, 50, 110, 100, 3));
        let point = record.points.last().expect("a point");
        assert_eq!((point.sent_per_s, point.cpu_pct), (25.0, Some(50.0)));
        assert_eq!(point.deliver.count, 2, "both ticks' are in it");
        record.add(&tick(4.0, 1, 150, 150, 100, 9));
        let [first, second] = &record.phases[..] else {
            panic!("two phases")
        };
        assert_eq!(
            (first.from_s, first.to_s, second.from_s, second.to_s),
            (1.0, 3.0, 3.0, 4.0)
        );
        assert_eq!(second.counts.1.sent - second.counts.0.sent, 100);
        assert_eq!(
            first.window.deliver.summary().count,
            2,
            "histograms are merged"
        );
        assert!((first.window.deliver.summary().max_ms - 3.0).abs() < 0.01);
        assert_eq!(second.window.deliver.summary().count, 1);
        assert_eq!(second.server.map(|(a, b)| (a.rss, b.rss)), Some((110, 150)));
    }
}
