//! What a scenario came to: text, JSON, and a page to print.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::by_worker;
use super::figures::{Verdict, short};
use super::model::{Kind, Scenario};
use super::record::{End, Measured, Point, Record, Worker, latencies};
use crate::page::plot::{self, Axis, Drawing, Series};
use crate::page::{Cell, Page};
use crate::report::Latency;

/// Everything there is to be told.
#[derive(Debug)]
pub struct Told<'a> {
    /// What was to be done.
    pub scenario: &'a Scenario,
    /// The file as it was, with what `--set` put into it beside.
    pub text: &'a str,
    /// `--set`.
    pub sets: &'a [String],
    /// When it began, milliseconds since 1970.
    pub began_ms: u64,
    /// The machine that made the load.
    pub machine: &'a [(&'static str, String)],
    /// Phases and points.
    pub record: &'a Record,
    /// Correctness.
    pub end: &'a End,
    /// All figures.
    pub figures: &'a BTreeMap<String, f64>,
    /// What had to be.
    pub verdicts: &'a [Verdict],
}

#[derive(Serialize)]
struct Json<'a> {
    name: &'a str,
    pass: bool,
    began_ms: u64,
    version: &'static str,
    machine: BTreeMap<&'static str, &'a str>,
    verdicts: &'a [Verdict],
    figures: &'a BTreeMap<String, f64>,
    end: &'a End,
    points: &'a [Point],
    #[serde(skip_serializing_if = "<[Worker]>::is_empty")]
    workers: &'a [Worker],
}

impl Told<'_> {
    /// Everything is as it had to be.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.verdicts.iter().all(|verdict| verdict.pass)
    }

    /// For terminals.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = format!("{}\n", self.scenario.name);
        let _ = writeln!(
            out,
            "{:<16} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "phase", "seconds", "sessions", "sent/s", "deliv/s", "p50 ms", "p99 ms", "p99.9 ms"
        );
        for (phase, measured) in self.scenario.phases.iter().zip(&self.record.phases) {
            let q = measured.window.deliver.summary();
            let of = |figure: &str| self.figure(&phase.name, figure);
            let latency = |value: f64| {
                if q.count > 0 {
                    short(value)
                } else {
                    "-".to_owned()
                }
            };
            let _ = writeln!(
                out,
                "{:<16} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
                phase.name,
                of("seconds"),
                of("sessions"),
                of("sent_per_s"),
                of("delivered_per_s"),
                latency(q.p50_ms),
                latency(q.p99_ms),
                latency(q.p999_ms)
            );
        }
        for worker in &self.record.workers {
            let _ = writeln!(out, "{}", by_worker::line(worker));
        }
        for words in &self.end.failures {
            let _ = writeln!(out, "failure  {words}");
        }
        for verdict in self.verdicts {
            let _ = writeln!(out, "{}", verdict.line());
        }
        let _ = writeln!(out, "{}", self.sentence());
        out
    }

    /// For programs.
    ///
    /// # Errors
    /// There is none: numbers that JSON does not have are `null`.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(&Json {
            name: &self.scenario.name,
            pass: self.passes(),
            began_ms: self.began_ms,
            version: env!("CARGO_PKG_VERSION"),
            machine: self
                .machine
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect(),
            verdicts: self.verdicts,
            figures: self.figures,
            end: self.end,
            points: &self.record.points,
            workers: &self.record.workers,
        })
    }

    /// For paper.
    #[must_use]
    pub fn html(&self) -> String {
        let mut page = Page::new(&format!(
            "{}: {}",
            self.scenario.name,
            if self.passes() { "passed" } else { "FAILED" }
        ));
        page.paragraph(&format!(
            "Made by hawser-loadgen {} scenario, {}, against {}. {}",
            env!("CARGO_PKG_VERSION"),
            date(self.began_ms),
            self.scenario.target.url,
            self.sentence()
        ));
        page.heading("Verdict");
        let rows: Vec<Vec<String>> = self
            .verdicts
            .iter()
            .map(|verdict| {
                vec![
                    if verdict.pass { "pass" } else { "FAIL" }.to_owned(),
                    verdict.metric.clone(),
                    verdict.figure.map_or("not measured".to_owned(), short),
                    format!("{} {}", verdict.op.word(), short(verdict.value)),
                ]
            })
            .collect();
        page.table(
            &[
                ("", Cell::Text),
                ("figure", Cell::Code),
                ("measured", Cell::Number),
                ("has to be", Cell::Number),
            ],
            &rows,
        );
        if !self.end.failures.is_empty() {
            page.list(self.end.failures.iter().map(|words| (true, words.as_str())));
        }
        self.phases(&mut page);
        self.latencies(&mut page);
        page.heading("Over time");
        page.drawings(&self.over_time());
        page.heading("Latencies by quantile");
        page.paragraph("Each line is one phase: how long that share of the messages took at most. Latencies count from when the \
            open-loop schedule wanted a message sent, so that a server that stalls is charged for what had to wait.");
        page.drawings(&self.quantiles());
        page.heading("Where the load was made");
        let rows: Vec<Vec<String>> = self
            .machine
            .iter()
            .map(|(name, value)| vec![(*name).to_owned(), value.clone()])
            .collect();
        page.table(&[("", Cell::Text), ("", Cell::Text)], &rows);
        by_worker::table(&mut page, &self.record.workers);
        page.heading("The scenario");
        let lines = self.text.lines().filter(|line| !line.trim().is_empty());
        let mut rows: Vec<Vec<String>> = lines.map(|line| vec![line.to_owned()]).collect();
        rows.extend(self.sets.iter().map(|set| vec![format!("--set {set}")]));
        page.table(&[("as it was given", Cell::Code)], &rows);
        page.finish()
    }

    fn sentence(&self) -> String {
        let failed = self.verdicts.iter().filter(|verdict| !verdict.pass).count();
        match failed {
            0 => format!("All {} were as they had to be.", self.verdicts.len()),
            n => format!("{n} of {} WERE NOT AS THEY HAD TO BE.", self.verdicts.len()),
        }
    }

    fn figure(&self, phase: &str, figure: &str) -> String {
        let found = self.figures.get(&format!("{phase}.{figure}"));
        found.map_or_else(|| "-".to_owned(), |value| short(*value))
    }

    fn phases(&self, page: &mut Page) {
        page.heading("Phases");
        let columns = [
            ("phase", Cell::Text),
            ("s", Cell::Number),
            ("sessions", Cell::Number),
            ("sent/s", Cell::Number),
            ("delivered/s", Cell::Number),
            ("errors", Cell::Number),
            ("server MiB", Cell::Number),
            ("CPU %", Cell::Number),
            ("µs/delivery", Cell::Number),
        ];
        let figures = [
            "seconds",
            "sessions",
            "sent_per_s",
            "delivered_per_s",
            "errors",
            "rss_mib",
            "cpu_pct",
            "cpu_us_per_delivery",
        ];
        let rows: Vec<Vec<String>> = self
            .scenario
            .phases
            .iter()
            .map(|phase| {
                let special = self.special(&phase.name, &phase.kind);
                let mut row = vec![format!("{}: {}{special}", phase.name, phase.kind.words())];
                row.extend(
                    figures
                        .iter()
                        .map(|figure| self.figure(&phase.name, figure)),
                );
                row
            })
            .collect();
        page.table(&columns, &rows);
        page.paragraph("CPU is that of the server's processes, in percent of one core, with user and system time.");
    }

    fn latencies(&self, page: &mut Page) {
        page.heading("Latencies, milliseconds");
        let columns = [
            ("phase", Cell::Text),
            ("", Cell::Text),
            ("count", Cell::Number),
            ("mean", Cell::Number),
            ("p50", Cell::Number),
            ("p90", Cell::Number),
            ("p99", Cell::Number),
            ("p99.9", Cell::Number),
            ("max", Cell::Number),
        ];
        let mut rows = Vec::new();
        for (phase, measured) in self.scenario.phases.iter().zip(&self.record.phases) {
            for (_, title, latency) in latencies(&measured.window) {
                let q = latency.summary();
                if q.count > 0 {
                    let values = [
                        q.count as f64,
                        q.mean_ms,
                        q.p50_ms,
                        q.p90_ms,
                        q.p99_ms,
                        q.p999_ms,
                        q.max_ms,
                    ];
                    let cells = [phase.name.clone(), title.to_owned()].into_iter();
                    rows.push(cells.chain(values.map(short)).collect());
                }
            }
        }
        page.table(&columns, &rows);
    }

    /// What phases of this kind alone have.
    fn special(&self, phase: &str, kind: &Kind) -> String {
        let of = |figure: &str| self.figure(phase, figure);
        match kind {
            Kind::Ramp { .. } => format!("; took {} s", of("ramp_s")),
            Kind::Hold { .. } => format!(
                "; {} bytes of the server's memory per session",
                of("bytes_per_session")
            ),
            Kind::Mix { .. } => String::new(),
            Kind::Soak { .. } => format!("; memory grew by {} %", of("rss_growth_pct")),
            Kind::Storm { .. } => format!(
                "; {} of {} were back after {} s",
                of("back"),
                of("cut"),
                of("back_s")
            ),
            Kind::SlowReaders { .. } => format!(
                "; {} messages were held back and read within {} s",
                of("held_back"),
                of("caught_up_s")
            ),
            Kind::Drain { .. } => format!(
                "; drained after {} s, {} sent elsewhere",
                of("drained_s"),
                of("sent_elsewhere")
            ),
        }
    }

    fn over_time(&self) -> Vec<(Drawing, &'static str)> {
        let latency = |of: fn(&Point) -> f64| {
            move |point: &Point| (point.deliver.count > 0).then(|| of(point))
        };
        let sessions = vec![self.line("sessions", &|point| Some(point.live as f64))];
        let messages = vec![
            self.line("sent", &|point| Some(point.sent_per_s)),
            self.line("delivered", &|point| Some(point.delivered_per_s)),
        ];
        let deliver = vec![
            self.line("p50", &latency(|point| point.deliver.p50_ms)),
            self.line("p99", &latency(|point| point.deliver.p99_ms)),
            self.line("p99.9", &latency(|point| point.deliver.p999_ms)),
        ];
        let cpu = vec![
            self.line("server", &|point| point.cpu_pct),
            self.line("load generator", &|point| Some(point.own_cpu_pct)),
        ];
        let mut all = vec![
            (
                drawn("Sessions", "live sessions", false, &sessions),
                "Live at each second.",
            ),
            (
                drawn("Messages", "per second", false, &messages),
                "A message to a group is delivered to each other member.",
            ),
            (
                drawn("Send → Deliver", "milliseconds", true, &deliver),
                "Of the messages that came in each second.",
            ),
        ];
        if self.record.points.iter().any(|point| point.rss.is_some()) {
            let mib = |point: &Point| point.rss.map(|rss| rss as f64 / f64::from(1 << 20));
            let memory = [self.line("server", &mib)];
            all.push((
                drawn("Memory of the server", "MiB resident", false, &memory),
                "All processes of target.server_pid.",
            ));
        }
        all.push((
            drawn("CPU", "percent of one core", false, &cpu),
            "Where both share a machine, the load generator's takes from the server's.",
        ));
        all
    }

    /// What was not measured at a point is no point of the line.
    fn line(&self, name: &str, of: &dyn Fn(&Point) -> Option<f64>) -> Series {
        let points = self.record.points.iter();
        Series {
            name: name.to_owned(),
            points: points
                .filter_map(|point| Some((point.at_s, of(point)?)))
                .collect(),
        }
    }

    fn quantiles(&self) -> Vec<(Drawing, &'static str)> {
        let of = |title: &str, caption: &'static str, of: fn(&Measured) -> &Latency| {
            let phases = self.scenario.phases.iter().zip(&self.record.phases);
            let series: Vec<Series> = phases
                .filter_map(|(phase, measured)| {
                    let points = of(measured).curve();
                    (!points.is_empty()).then(|| Series {
                        name: phase.name.clone(),
                        points,
                    })
                })
                .collect();
            let x = Axis {
                title: "one message in so many is slower: 10 is p90, 100 is p99",
                logarithmic: true,
            };
            let drawing = plot::lines(
                title,
                x,
                Axis {
                    title: "milliseconds",
                    logarithmic: true,
                },
                &series,
                &short,
            );
            (!series.is_empty()).then_some((drawing, caption))
        };
        [
            of(
                "Send → Deliver",
                "From due to each receiver.",
                |measured| &measured.window.deliver,
            ),
            of(
                "Send → SendResult",
                "From due to the sender's answer.",
                |measured| &measured.window.send_result,
            ),
            of(
                "Connect → Welcome",
                "TCP, TLS, upgrade and Hello.",
                |measured| &measured.window.connect,
            ),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

fn drawn(title: &str, unit: &str, logarithmic: bool, series: &[Series]) -> Drawing {
    let x = Axis {
        title: "seconds of the run",
        logarithmic: false,
    };
    let y = Axis {
        title: unit,
        logarithmic,
    };
    plot::lines(title, x, y, series, &short)
}

/// A day and time of day, UTC.
fn date(ms: u64) -> String {
    let (days, second) = (ms / 86_400_000, ms / 1_000 % 86_400);
    // Days since 1 March of the year 0, as in Hinnant's "chrono-compatible low-level date algorithms".
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z - era * 146_097;
    let year = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let (day, month) = (
        day_of_year - (153 * shifted + 2) / 5 + 1,
        if shifted < 10 {
            shifted + 3
        } else {
            shifted - 9
        },
    );
    let year = year + era * 400 + u64::from(month <= 2);
    format!(
        "{year}-{month:02}-{day:02} {:02}:{:02} UTC",
        second / 3_600,
        second / 60 % 60
    )
}

#[cfg(test)]
#[path = "show_tests.rs"]
mod tests;
