//! What a scenario measures, by name, and what is expected of it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::model::{Expect, Kind, Op, Scenario};
use super::record::{End, Measured, Record, latencies, ticks};

/// Memory is compared with that of an earlier hold when there it was of so many fewer sessions.
const SLOPE_SESSIONS: u64 = 1_000;
const MIB: f64 = (1 << 20) as f64;
/// Figures of the whole run.
const RUN: [&str; 16] = [
    "lost",
    "duplicated",
    "reordered",
    "seq_regressed",
    "foreign",
    "acknowledged",
    "refused",
    "unanswered",
    "unjudged",
    "delivered",
    "closed",
    "failed",
    "reconnects",
    "moved",
    "shed",
    "errors",
];
/// Of the server over the whole run.
const SERVER: [&str; 4] = [
    "server.rss_growth_pct",
    "server.rss_mib",
    "server.rss_max_mib",
    "server.cpu_s",
];
/// Of every phase.
const PHASE: [&str; 14] = [
    "seconds",
    "sessions",
    "sent",
    "delivered",
    "sent_per_s",
    "delivered_per_s",
    "refused",
    "errors",
    "shed",
    "failed",
    "closed",
    "reconnects",
    "moved",
    "own_cpu_pct",
];
/// Of every phase, of the server.
const PHASE_SERVER: [&str; 5] = [
    "rss_mib",
    "rss_growth_pct",
    "cpu_pct",
    "cpu_us_per_delivery",
    "bytes_per_session",
];
const LATENCIES: [&str; 4] = ["connect", "queued", "send_result", "deliver"];
const QUANTILES: [&str; 6] = ["mean", "p50", "p90", "p99", "p999", "max"];

/// Figures that phases of a kind alone have.
fn special(kind: &Kind) -> &'static [&'static str] {
    match kind {
        Kind::Ramp { .. } => &["ramp_s", "not_opened", "cpu_us_per_connect"],
        Kind::Hold { .. } | Kind::Mix { .. } | Kind::Soak { .. } => &[],
        Kind::Storm { pace: None, .. } => &[
            "cut",
            "back",
            "not_back",
            "back_s",
            "most_per_s",
            "resumed",
            "told",
        ],
        Kind::Storm { .. } => &[
            "cut",
            "back",
            "not_back",
            "back_s",
            "most_per_s",
            "resumed",
            "told",
            "stated_s",
            "pace_worst_pct",
        ],
        Kind::SlowReaders { .. } => &["slow", "caught_up_s", "held_back"],
        Kind::Drain { .. } => &["drained_s", "left", "not_back", "sent_elsewhere"],
    }
}

/// All figures of a phase of a kind.
fn names(kind: &Kind) -> Vec<String> {
    let owned = |name: &&str| (*name).to_owned();
    let mut all: Vec<String> = PHASE
        .iter()
        .chain(&PHASE_SERVER)
        .chain(special(kind))
        .map(owned)
        .collect();
    for latency in LATENCIES {
        all.push(format!("{latency}_count"));
        all.extend(
            QUANTILES
                .iter()
                .map(|quantile| format!("{latency}_{quantile}_ms")),
        );
    }
    all
}

/// What is wrong with an expectation, if anything.
pub(super) fn check(scenario: &Scenario, expect: &Expect) -> Result<(), String> {
    if !expect.value.is_finite() {
        return Err("value is to be a number".to_owned());
    }
    let metric = expect.metric.as_str();
    let mut known: Vec<String> = RUN
        .iter()
        .chain(&SERVER)
        .map(|name| (*name).to_owned())
        .collect();
    let phase = metric
        .split_once('.')
        .and_then(|(name, _)| scenario.phases.iter().find(|phase| phase.name == name));
    if let Some(phase) = phase {
        known = names(&phase.kind)
            .iter()
            .map(|name| format!("{}.{name}", phase.name))
            .collect();
    }
    if !known.iter().any(|name| name == metric) {
        let nearest = known.iter().min_by_key(|name| distance(name, metric));
        let phases: Vec<&str> = scenario
            .phases
            .iter()
            .map(|phase| phase.name.as_str())
            .collect();
        return Err(format!(
            "there is no such figure: did you mean {}? Give PHASE.FIGURE with a phase of {}, or a figure of the whole run (docs/loadgen.md)",
            nearest.map_or("lost", String::as_str),
            phases.join(", ")
        ));
    }
    let figure = metric.rsplit('.').next().unwrap_or_default();
    let of_server = SERVER.contains(&metric)
        || PHASE_SERVER.contains(&figure)
        || figure == "cpu_us_per_connect";
    if of_server && scenario.target.server_pid.is_empty() {
        return Err("is read from the server's process: give target.server_pid (--set target.server_pid=[PID])".to_owned());
    }
    Ok(())
}

/// How many letters two words differ by.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let cost = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Everything measured: figures of the run under their names, those of phases as PHASE.FIGURE. What was not measured is missing.
#[must_use]
pub fn all(scenario: &Scenario, record: &Record, end: &End) -> BTreeMap<String, f64> {
    let mut all = BTreeMap::new();
    let start = record.phases.first().and_then(|phase| phase.server);
    let mut base = start.map(|server| (server.0.rss, 0));
    let mut held = Vec::new();
    for (phase, measured) in scenario.phases.iter().zip(&record.phases) {
        let (live, server) = (measured.counts.1.live, measured.server);
        let fewer = |held: &&(u64, u64)| held.1 + SLOPE_SESSIONS <= live;
        base = held.iter().rfind(fewer).copied().or(base);
        for (name, value) in of_phase(&phase.kind, measured, base) {
            all.insert(format!("{}.{name}", phase.name), value);
        }
        if matches!(phase.kind, Kind::Hold { .. }) {
            held.extend(server.map(|server| (server.1.rss, live)));
        }
    }
    let f = &end.findings;
    let last = record
        .phases
        .last()
        .map_or_else(Default::default, |phase| phase.counts.1);
    let sum = |of: fn(&Measured) -> u64| record.phases.iter().map(of).sum::<u64>();
    let run = [
        f.lost,
        f.duplicated,
        f.reordered,
        f.seq_regressed,
        end.foreign,
        f.acknowledged,
        f.refused,
        f.unanswered,
        end.unjudged,
        f.delivered,
        last.closed,
        last.failed,
        last.reconnects,
        last.moved,
        sum(|phase| phase.window.shed),
        sum(|phase| phase.window.errors),
    ];
    all.extend(
        RUN.iter()
            .zip(run)
            .map(|(name, value)| ((*name).to_owned(), value as f64)),
    );
    all.extend(of_server(scenario, record).into_iter().flatten());
    all
}

fn of_server(scenario: &Scenario, record: &Record) -> Option<[(String, f64); 4]> {
    let mut played = scenario.phases.iter().zip(&record.phases);
    // Growth begins where all sessions are there.
    let ramp = played.rfind(|(phase, _)| matches!(phase.kind, Kind::Ramp { .. }))?;
    let ramped = ramp.1.server?.1;
    let first = record.phases.first()?.server?.0;
    let last = record.phases.last()?.server?.1;
    let most = record
        .phases
        .iter()
        .flat_map(|phase| &phase.rss)
        .map(|(_, rss)| *rss)
        .max()?;
    let [growth, rss, rss_max, cpu] = SERVER.map(str::to_owned);
    Some([
        (growth, grown(ramped.rss as f64, last.rss as f64)),
        (rss, last.rss as f64 / MIB),
        (rss_max, most as f64 / MIB),
        (
            cpu,
            ticks(&last).saturating_sub(ticks(&first)) as f64 / 100.0,
        ),
    ])
}

fn of_phase(kind: &Kind, measured: &Measured, base: Option<(u64, u64)>) -> Vec<(String, f64)> {
    let (from, to) = measured.counts;
    let since = |of: fn(&super::record::Counts) -> u64| of(&to).saturating_sub(of(&from)) as f64;
    let seconds = measured.to_s - measured.from_s;
    let load_s = if measured.load_s > 0.0 {
        measured.load_s
    } else {
        seconds.max(1e-3)
    };
    let percent = |before: &crate::usage::Usage, now: &crate::usage::Usage| {
        ticks(now).saturating_sub(ticks(before)) as f64 / seconds.max(1e-3)
    };
    let window = &measured.window;
    let values = [
        seconds,
        to.live as f64,
        since(|c| c.sent),
        since(|c| c.delivered),
        since(|c| c.sent) / load_s,
        since(|c| c.delivered) / load_s,
        since(|c| c.refused),
        window.errors as f64,
        window.shed as f64,
        since(|c| c.failed),
        since(|c| c.closed),
        since(|c| c.reconnects),
        since(|c| c.moved),
        percent(&measured.own.0, &measured.own.1),
    ];
    let mut all: Vec<(String, f64)> = PHASE
        .iter()
        .zip(values)
        .map(|(name, value)| ((*name).to_owned(), value))
        .collect();
    for (name, _, latency) in latencies(window) {
        let q = latency.summary();
        all.push((format!("{name}_count"), q.count as f64));
        // Of nothing there is no quantile.
        let values = [q.mean_ms, q.p50_ms, q.p90_ms, q.p99_ms, q.p999_ms, q.max_ms];
        let named = QUANTILES.iter().zip(values).filter(|_| q.count > 0);
        all.extend(named.map(|(quantile, value)| (format!("{name}_{quantile}_ms"), value)));
    }
    let mut add = |name: &str, value: f64| all.push((name.to_owned(), value));
    measured
        .special
        .iter()
        .for_each(|(name, value)| add(name, *value));
    if matches!(kind, Kind::Storm { .. }) {
        add("resumed", window.resumed as f64);
        add("told", window.told as f64);
    }
    if let (Some((before, now)), Some((rss, live))) = (measured.server, base) {
        add("rss_mib", now.rss as f64 / MIB);
        let growth = match kind {
            Kind::Soak { .. } => soaked(&measured.rss),
            _ => Some(grown(before.rss as f64, now.rss as f64)),
        };
        if let Some(growth) = growth {
            add("rss_growth_pct", growth);
        }
        add("cpu_pct", percent(&before, &now));
        let us = ticks(&now).saturating_sub(ticks(&before)) as f64 * 10_000.0;
        if since(|c| c.delivered) > 0.0 {
            add("cpu_us_per_delivery", us / since(|c| c.delivered));
        }
        if to.live > live {
            let bytes = now.rss as f64 - rss as f64;
            add("bytes_per_session", bytes / (to.live - live) as f64);
        }
        let connects = window.connect.summary().count;
        if matches!(kind, Kind::Ramp { .. }) && connects > 0 {
            add("cpu_us_per_connect", us / connects as f64);
        }
    }
    all
}

fn grown(before: f64, now: f64) -> f64 {
    (now / before.max(1.0) - 1.0) * 100.0
}

/// By how much memory has grown: the median of the last fifth beside that of the second fifth, for the first is the warming
/// up. `None`: fewer than ten samples.
fn soaked(rss: &[(f64, u64)]) -> Option<f64> {
    let fifth = rss.len() / 5;
    if fifth < 2 {
        return None;
    }
    let median = |part: &[(f64, u64)]| {
        let mut sorted: Vec<u64> = part.iter().map(|(_, rss)| *rss).collect();
        sorted.sort_unstable();
        sorted[sorted.len() / 2] as f64
    };
    Some(grown(
        median(&rss[fifth..2 * fifth]),
        median(&rss[rss.len() - fifth..]),
    ))
}

/// Something that had to be, and how it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// Which figure.
    pub metric: String,
    /// How it is compared.
    pub op: Op,
    /// With what.
    pub value: f64,
    /// The figure; `None`: it was not measured, which is no pass.
    pub figure: Option<f64>,
    /// It is as it had to be.
    pub pass: bool,
}

impl Verdict {
    /// For people.
    #[must_use]
    pub fn line(&self) -> String {
        let word = if self.pass { "pass" } else { "FAIL" };
        let figure = self.figure.map_or("not measured".to_owned(), short);
        format!(
            "{word}  {} = {figure} ({} {})",
            self.metric,
            self.op.word(),
            short(self.value)
        )
    }
}

/// Holds figures against what always has to be, what a soak says, and what the scenario expects.
#[must_use]
pub fn judge(scenario: &Scenario, figures: &BTreeMap<String, f64>) -> Vec<Verdict> {
    let always = [
        "lost",
        "duplicated",
        "reordered",
        "seq_regressed",
        "foreign",
    ];
    let always = always.iter().map(|metric| Expect {
        metric: (*metric).to_owned(),
        op: Op::Equal,
        value: 0.0,
    });
    let soaks = scenario.phases.iter().filter_map(|phase| match phase.kind {
        Kind::Soak { rss_growth_pct, .. } if !scenario.target.server_pid.is_empty() => {
            Some(Expect {
                metric: format!("{}.rss_growth_pct", phase.name),
                op: Op::AtMost,
                value: rss_growth_pct,
            })
        }
        _ => None,
    });
    let all = always.chain(soaks).chain(scenario.expects.iter().cloned());
    all.map(|expect| {
        let figure = figures.get(&expect.metric).copied();
        Verdict {
            pass: figure.is_some_and(|figure| expect.op.holds(figure, expect.value)),
            metric: expect.metric,
            op: expect.op,
            value: expect.value,
            figure,
        }
    })
    .collect()
}

/// A number with four digits that count, for people.
#[must_use]
pub fn short(value: f64) -> String {
    if !value.is_finite() {
        return "never".to_owned();
    }
    let digits = match value.abs() {
        size if size >= 1_000.0 || value.fract() == 0.0 => 0,
        size if size >= 100.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    let whole = text
        .trim_start_matches('-')
        .split('.')
        .next()
        .unwrap_or_default();
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    text.replacen(whole, &grouped, 1)
}

#[cfg(test)]
#[path = "figures_tests.rs"]
mod tests;
