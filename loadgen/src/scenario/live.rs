//! How a scenario is while it runs: a few lines that are redrawn in place, or plain lines where there is no terminal.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};

use super::figures::short;
use super::model::{Kind, Scenario};
use super::record::{Point, Record, Worker};

/// Points in the small plots.
const COLUMNS: usize = 44;
/// Points that the latencies of "the last seconds" are of.
const LAST: usize = 5;
/// Without a terminal a line is written so many points apart.
const EVERY: usize = 10;
/// Workers that have a line of their own; the others are counted.
const WORKERS: usize = 8;
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Where it is shown.
#[derive(Debug)]
pub struct Live {
    quiet: bool,
    terminal: bool,
    /// Lines that stand there and are drawn over.
    drawn: usize,
    phase: Option<usize>,
    told: usize,
}

impl Live {
    /// On standard output, when that is a terminal and nothing else is written to it (`is_free`); plain lines go to standard error.
    #[must_use]
    pub fn new(quiet: bool, is_free: bool) -> Self {
        Self {
            quiet,
            terminal: is_free && std::io::stdout().is_terminal(),
            drawn: 0,
            phase: None,
            told: 0,
        }
    }

    /// Shows how it is.
    pub fn show(&mut self, scenario: &Scenario, record: &Record) {
        if self.quiet {
            return;
        }
        if self.terminal {
            let text = screen(scenario, record);
            // Up to where the last one began, and nothing of it is left.
            let up = if self.drawn > 0 {
                format!("\x1b[{}A", self.drawn)
            } else {
                String::new()
            };
            let mut out = std::io::stdout().lock();
            let lines: String = text
                .lines()
                .map(|line| format!("\x1b[2K{line}\n"))
                .collect();
            // Who closes the terminal does not want to see it.
            // Without wrapping, so that a line of a narrow terminal stays one.
            let _ = write!(out, "\x1b[?7l{up}{lines}\x1b[?7h");
            let _ = out.flush();
            self.drawn = text.lines().count();
            return;
        }
        let at = record.phases.len().checked_sub(1);
        if let Some(phase) = at
            .filter(|_| at != self.phase)
            .and_then(|at| scenario.phases.get(at))
        {
            self.phase = at;
            eprintln!(
                "{:>8.1} s  phase {}: {}",
                now_s(record),
                phase.name,
                phase.kind.words()
            );
        }
        if record.points.len() >= self.told + EVERY {
            self.told = record.points.len();
            if let Some(point) = record.points.last() {
                eprintln!("{:>8.1} s  {}", point.at_s, line(point));
            }
        }
    }
}

fn now_s(record: &Record) -> f64 {
    record.phases.last().map_or(0.0, |phase| phase.to_s)
}

fn line(point: &Point) -> String {
    let rss = point
        .rss
        .map_or_else(String::new, |rss| format!(", server {} MiB", rss >> 20));
    let cpu = point
        .cpu_pct
        .map_or_else(String::new, |cpu| format!(" and {cpu:.0} % of a core"));
    format!(
        "{} live, {:.0} sent/s, {:.0} delivered/s, p50 {:.2} ms, p99 {:.2} ms{rss}{cpu}",
        point.live,
        point.sent_per_s,
        point.delivered_per_s,
        point.deliver.p50_ms,
        point.deliver.p99_ms
    )
}

/// What stands on the terminal: as many lines each time.
fn screen(scenario: &Scenario, record: &Record) -> String {
    let mut out = String::new();
    let at = record.phases.len().saturating_sub(1);
    let (phase, measured) = (scenario.phases.get(at), record.phases.last());
    let (name, words) = phase.map_or(("", String::new()), |phase| {
        (phase.name.as_str(), phase.kind.words())
    });
    let spent = measured.map_or(0.0, |measured| measured.to_s - measured.from_s);
    let wanted = phase.and_then(|phase| seconds(&phase.kind));
    let of = wanted.map_or_else(String::new, |wanted| format!(" of {wanted:.0}"));
    let words: String = words.chars().take(90).collect();
    let _ = writeln!(
        out,
        "{}  phase {} of {}, {name}: {spent:.0}{of} s",
        scenario.name,
        at + 1,
        scenario.phases.len()
    );
    let _ = writeln!(out, "  {words}");
    rows(&mut out, &record.points);
    let counts = measured.map_or_else(Default::default, |measured| measured.counts.1);
    let errors: u64 = record.phases.iter().map(|phase| phase.window.errors).sum();
    let shed: u64 = record.phases.iter().map(|phase| phase.window.shed).sum();
    let _ = writeln!(
        out,
        "  {} refused, {errors} errors, {} closed, {} failed, {shed} shed, {} reconnects, {} moved",
        counts.refused, counts.closed, counts.failed, counts.reconnects, counts.moved
    );
    workers(&mut out, &record.workers);
    out
}

/// A line for each of several processes.
fn workers(out: &mut String, workers: &[Worker]) {
    for worker in workers.iter().take(WORKERS) {
        let counts = &worker.counts;
        let _ = writeln!(
            out,
            "  {}: {} live, {} sent, {} delivered, {} failed, {:.1} s of CPU, {} MiB",
            worker.name,
            counts.live,
            counts.sent,
            counts.delivered,
            counts.failed + counts.refused + counts.closed,
            worker.cpu_s,
            worker.rss >> 20
        );
    }
    if let Some(more) = workers.len().checked_sub(WORKERS).filter(|more| *more > 0) {
        let _ = writeln!(out, "  and {more} workers more");
    }
}

/// What is measured: as it is, the worst of the last seconds for latencies, and how it was.
fn rows(out: &mut String, points: &[Point]) {
    let last: Vec<&Point> = points.iter().rev().take(LAST).collect();
    let mut row = |name: &str, is_worst: bool, of: &dyn Fn(&Point) -> Option<f64>| {
        let values = last.iter().map(|point| of(point).unwrap_or(0.0));
        let value = match (is_worst, last.first().and_then(|point| of(point))) {
            (true, _) => format!("{:.2}", values.fold(0.0, f64::max)),
            (false, Some(now)) => short(now.round()),
            (false, None) => "-".to_owned(),
        };
        let past = plot(points, &|point| of(point).unwrap_or(0.0));
        let _ = writeln!(out, "  {name:<14} {value:>12}  {past}");
    };
    row("sessions", false, &|point| Some(point.live as f64));
    row("sent/s", false, &|point| Some(point.sent_per_s));
    row("delivered/s", false, &|point| Some(point.delivered_per_s));
    row("p50 ms", true, &|point| Some(point.deliver.p50_ms));
    row("p99 ms", true, &|point| Some(point.deliver.p99_ms));
    row("server MiB", false, &|point| {
        Some((point.rss? >> 20) as f64)
    });
    row("server CPU %", false, &|point| point.cpu_pct);
}

/// How long a phase is, where that is known.
fn seconds(kind: &Kind) -> Option<f64> {
    match kind {
        Kind::Hold { seconds } | Kind::Mix { seconds, .. } | Kind::SlowReaders { seconds, .. } => {
            Some(*seconds as f64)
        }
        Kind::Soak { minutes, .. } => Some(minutes * 60.0),
        Kind::Ramp { .. } | Kind::Storm { .. } | Kind::Drain { .. } => None,
    }
}

/// The last points, each as high as its share of the highest.
fn plot(points: &[Point], of: &dyn Fn(&Point) -> f64) -> String {
    let shown = &points[points.len().saturating_sub(COLUMNS)..];
    let most = shown.iter().map(of).fold(0.0, f64::max);
    let block = |point: &Point| {
        let share = if most > 0.0 { of(point) / most } else { 0.0 };
        let step = (0..BLOCKS.len()).rfind(|step| share * 7.0 + 0.5 >= *step as f64);
        BLOCKS[step.unwrap_or(0)]
    };
    shown.iter().map(block).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Quantiles;

    fn point(live: u64) -> Point {
        Point {
            at_s: 0.0,
            phase: 0,
            live,
            sent_per_s: 0.0,
            delivered_per_s: 0.0,
            deliver: Quantiles::default(),
            errors: 0,
            rss: None,
            cpu_pct: None,
            own_cpu_pct: 0.0,
        }
    }

    #[test]
    fn a_plot_is_as_high_as_its_points_and_bounded() {
        let points: Vec<Point> = [0, 50, 100].map(point).into();
        assert_eq!(plot(&points, &|point| point.live as f64), "▁▅█");
        let many: Vec<Point> = (0..500).map(point).collect();
        assert_eq!(
            plot(&many, &|point| point.live as f64).chars().count(),
            COLUMNS
        );
        assert_eq!(
            plot(&points[..1], &|point| point.live as f64),
            "▁",
            "nothing above zero"
        );
    }

    #[test]
    fn the_screen_has_as_many_lines_whatever_there_is_to_see() {
        let text = "[target]\nurl = \"ws://127.0.0.1:1/\"\nkey = \"k\"\n[sessions]\ncount = 2\n\
                    [[phase]]\nkind = \"ramp\"\nto = 2\nper_second = 1\n";
        let scenario = super::super::read::scenario(text, "s", &[]).expect("a scenario");
        let empty = screen(&scenario, &Record::default());
        let mut record = Record::default();
        record.points = vec![point(1), point(2)];
        assert_eq!(
            empty.lines().count(),
            screen(&scenario, &record).lines().count()
        );
        record.workers = vec![Worker::default(); WORKERS + 2];
        assert_eq!(
            screen(&scenario, &record).lines().count(),
            empty.lines().count() + WORKERS + 1
        );
    }
}
