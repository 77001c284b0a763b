//! The tables: medians over rounds with their spread, and Hawser against the best rival in each.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::goals;
use super::outcome::{About, Cell, Connections, Outcome, Scenario};

/// The name under which Hawser itself is measured.
pub const HAWSER: &str = "hawser";

/// Several measurements of one thing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The one in the middle (the lower of two).
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

impl Spread {
    /// Of all numbers that are numbers; `None` where there is none.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|one| one.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        Some(Self {
            median: *values.get(values.len().checked_sub(1)? / 2)?,
            least: *values.first()?,
            most: *values.last()?,
        })
    }

    fn told(self, digits: usize) -> String {
        let Self {
            median,
            least,
            most,
        } = self;
        if least == most {
            format!("{median:.digits$}")
        } else {
            format!("{median:.digits$} ({least:.digits$}–{most:.digits$})")
        }
    }
}

/// Outcomes that are compared with one another: one way of connection, one number of recipients.
pub struct Family<'a> {
    /// Whether connections are of TLS.
    pub tls: bool,
    /// Subscribers.
    pub recipients: u32,
    /// By server.
    pub servers: BTreeMap<&'a str, Vec<&'a Outcome>>,
}

/// What a row of a table is about.
pub type Measure = fn(&Cell) -> f64;

impl<'a> Family<'a> {
    /// All families, plain before TLS, few recipients before many.
    #[must_use]
    pub fn all(outcomes: &'a [Outcome]) -> Vec<Self> {
        let mut found: BTreeMap<(u32, bool), BTreeMap<&str, Vec<&Outcome>>> = BTreeMap::new();
        for outcome in outcomes {
            let family = found.entry((outcome.recipients, outcome.tls)).or_default();
            family.entry(&outcome.server).or_default().push(outcome);
        }
        let families = found.into_iter();
        families
            .map(|((recipients, tls), servers)| Self {
                tls,
                recipients,
                servers,
            })
            .collect()
    }

    /// A measure of connections.
    #[must_use]
    pub fn of_runs(&self, server: &str, measure: fn(&Connections) -> f64) -> Option<Spread> {
        let runs = self.servers.get(server)?.iter();
        Spread::of(runs.filter_map(|run| Some(measure(run.connections.as_ref()?))))
    }

    /// A measure of a scenario; runs in which messages were lost do not count.
    #[must_use]
    pub fn of_cells(
        &self,
        server: &str,
        scenario: Scenario,
        body: usize,
        measure: Measure,
    ) -> Option<Spread> {
        let runs = self.servers.get(server)?.iter();
        let cells = runs.flat_map(|run| &run.cells);
        let ours = cells.filter(|cell| {
            cell.scenario == scenario && cell.body == body && cell.delivered >= cell.expected
        });
        Spread::of(ours.map(measure))
    }

    /// The rival with the least median, and that median.
    #[must_use]
    pub fn best(&self, of: impl Fn(&str) -> Option<Spread>) -> Option<(&'a str, f64)> {
        let rivals = self.servers.keys().filter(|name| **name != HAWSER);
        let medians = rivals.filter_map(|name| Some((*name, of(name)?.median)));
        medians.min_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// Sizes of bodies that were measured.
    #[must_use]
    pub fn bodies(&self) -> Vec<usize> {
        let runs = self.servers.values().flatten();
        let mut bodies: Vec<usize> = runs
            .flat_map(|run| run.cells.iter().map(|cell| cell.body))
            .collect();
        bodies.sort_unstable();
        bodies.dedup();
        bodies
    }

    /// Its heading.
    #[must_use]
    pub fn name(&self) -> String {
        let way = if self.tls { "TLS 1.3" } else { "plain" };
        format!("{way}, {} recipients", thousands(self.recipients))
    }
}

/// The whole report.
#[must_use]
pub fn markdown(outcomes: &[Outcome], about: &About) -> String {
    let mut out = String::from("# Hawser and rivals under one load\n\n");
    let _ = writeln!(
        out,
        "{}. {}. `{}`\n",
        about.date, about.machine, about.command
    );
    for missing in &about.missing {
        let _ = writeln!(out, "**Incomplete: {missing}.**\n");
    }
    versions(outcomes, &mut out);
    let families = Family::all(outcomes);
    for family in &families {
        let _ = writeln!(out, "\n## {}\n", family.name());
        connections(family, &mut out);
        for scenario in Scenario::ALL {
            for body in family.bodies() {
                cells(family, scenario, body, &mut out);
            }
        }
    }
    let _ = writeln!(
        out,
        "\n## Goals\n\n| goal | Hawser | against | |\n| --- | --- | --- | --- |"
    );
    for goal in families.iter().flat_map(goals::judge) {
        let _ = writeln!(out, "{goal}");
    }
    troubles(outcomes, &mut out);
    out
}

fn versions(outcomes: &[Outcome], out: &mut String) {
    let versions: BTreeMap<&str, &str> = outcomes
        .iter()
        .map(|one| (one.server.as_str(), one.version.as_str()))
        .collect();
    let told: Vec<String> = versions
        .into_iter()
        .map(|(server, version)| format!("{server}: {version}"))
        .collect();
    let _ = writeln!(out, "Versions: {}.", told.join("; "));
}

fn connections(family: &Family<'_>, out: &mut String) {
    let _ = writeln!(
        out,
        "| server | CPU µs per connect (user) | RSS bytes per idle connection | slab bytes, both ends |\n| --- | --- | --- | --- |"
    );
    for server in family.servers.keys() {
        let told = |measure: fn(&Connections) -> f64, digits| {
            let spread = family.of_runs(server, measure);
            spread.map_or_else(|| "–".to_owned(), |spread| spread.told(digits))
        };
        let _ = writeln!(
            out,
            "| {server} | {} ({}) | {} | {} |",
            told(|one| one.cpu_us, 0),
            told(|one| one.user_us, 0),
            told(|one| one.rss_bytes, 0),
            told(|one| one.slab_bytes, 0),
        );
    }
}

fn cells(family: &Family<'_>, scenario: Scenario, body: usize, out: &mut String) {
    let of = |server: &str, measure: Measure| family.of_cells(server, scenario, body, measure);
    let rate = Spread::of(
        family
            .servers
            .keys()
            .filter_map(|server| Some(of(server, |cell| cell.rate)?.median)),
    );
    let _ = writeln!(
        out,
        "\n{}, {} B, {} deliveries/s:\n\n| server | CPU µs per delivery | user µs | p50 ms | p99 ms | CPU against the best rival |\n| --- | --- | --- | --- | --- | --- |",
        scenario.name(),
        body,
        rate.map_or_else(|| "?".to_owned(), |rate| rate.told(0)),
    );
    let best = family.best(|server| of(server, |cell| cell.cpu_us));
    for server in family.servers.keys() {
        let told = |measure: Measure, digits| {
            of(server, measure).map_or_else(|| "–".to_owned(), |spread| spread.told(digits))
        };
        let ratio = match (of(server, |cell| cell.cpu_us), best) {
            (Some(own), Some((_, best))) if best > 0.0 => format!("{:.2} ×", own.median / best),
            _ => "–".to_owned(),
        };
        let _ = writeln!(
            out,
            "| {server} | {} | {} | {} | {} | {ratio} |",
            told(|cell| cell.cpu_us, 2),
            told(|cell| cell.user_us, 2),
            told(|cell| cell.p50_ms, 1),
            told(|cell| cell.p99_ms, 1),
        );
    }
}

/// What went wrong is part of the result.
fn troubles(outcomes: &[Outcome], out: &mut String) {
    let mut lines = Vec::new();
    for one in outcomes {
        let way = if one.tls { "TLS" } else { "plain" };
        let name = format!("{} ({way}, round {})", one.server, one.round);
        if let Some(why) = &one.gave_up {
            lines.push(format!("{name} was given up: {why}"));
        }
        for cell in one
            .cells
            .iter()
            .filter(|cell| cell.delivered < cell.expected)
        {
            let (delivered, expected) = (cell.delivered, cell.expected);
            let what = cell.scenario.name();
            lines.push(format!(
                "{name}, {what} of {} B: {delivered} of {expected} came",
                cell.body
            ));
        }
        for (words, count) in &one.faults {
            lines.push(format!("{name}: {words} ({count} times)"));
        }
    }
    if !lines.is_empty() {
        let _ = writeln!(out, "\n## What went wrong\n");
    }
    for line in lines {
        let _ = writeln!(out, "- {line}");
    }
}

fn thousands(number: u32) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Outcomes as tests want them.
#[cfg(test)]
pub(crate) fn outcome(server: &str, tls: bool, round: u32, cpu_us: f64) -> Outcome {
    let cell = |scenario, body| Cell {
        scenario,
        body,
        rate: 20_000.0,
        expected: 10,
        delivered: 10,
        cpu_us,
        user_us: cpu_us / 10.0,
        client_us: 1.0,
        p50_ms: cpu_us,
        p99_ms: cpu_us * 2.0,
    };
    let bodies = [200, 5_120];
    let cells = Scenario::ALL
        .iter()
        .flat_map(|scenario| bodies.map(|body| cell(*scenario, body)));
    Outcome {
        server: server.to_owned(),
        version: "1".to_owned(),
        tls,
        recipients: 10_000,
        round,
        connections: Some(Connections {
            cpu_us: 100.0,
            user_us: 50.0,
            rss_bytes: 1_000.0,
            slab_bytes: 9_000.0,
        }),
        cells: cells.collect(),
        lost: 0,
        faults: BTreeMap::new(),
        gave_up: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_of_numbers_alone() {
        let spread = Spread::of([3.0, f64::NAN, 1.0, 2.0]);
        let expected = Spread {
            median: 2.0,
            least: 1.0,
            most: 3.0,
        };
        assert_eq!(spread, Some(expected));
        assert_eq!(expected.told(1), "2.0 (1.0–3.0)");
        assert_eq!(Spread::of([f64::NAN]), None);
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(thousands(999), "999");
    }

    #[test]
    fn the_best_is_a_rival_and_lost_messages_do_not_count() {
        let mut cheap = outcome("cheap", false, 1, 1.0);
        for cell in &mut cheap.cells {
            cell.delivered = 9;
        }
        let outcomes = [
            outcome(HAWSER, false, 1, 2.0),
            outcome("a", false, 1, 8.0),
            outcome("a", false, 2, 10.0),
            outcome("a", false, 3, 12.0),
            cheap,
        ];
        let families = Family::all(&outcomes);
        let best = families[0]
            .best(|server| families[0].of_cells(server, Scenario::Fanout, 200, |cell| cell.cpu_us));
        assert_eq!(best, Some(("a", 10.0)));
        let text = markdown(&outcomes, &About::default());
        assert!(
            text.contains("| hawser | 2.00 | 0.20 | 2.0 | 4.0 | 0.20 × |"),
            "{text}"
        );
        assert!(text.contains("| a | 10.00 (8.00–12.00) |"), "{text}");
        assert!(text.contains("cheap (plain, round 1), fan-out of 200 B: 9 of 10 came"));
    }

    #[test]
    fn what_is_missing_stands_above_the_tables() {
        let about = About {
            missing: vec!["uWebSockets not measured".to_owned()],
            ..About::default()
        };
        let text = markdown(&[outcome("a", true, 1, 8.0)], &about);
        let mark = text.find("**Incomplete: uWebSockets not measured.**");
        assert!(mark.is_some_and(|at| at < text.find("## TLS").unwrap_or(0)));
    }
}
