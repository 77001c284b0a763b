//! `hawser-loadgen latency`: the table of latencies by rate and body, stage by stage.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Parser;
use serde::Serialize;

use crate::args::Args;
use crate::plot;
use crate::report::{Quantiles, Report};
use crate::run::run_observed;
use crate::scrape::{self, Page};
use crate::usage::Usage;

/// Clock ticks of /proc are 10 ms.
const TICK_MS: f64 = 10.0;

/// Measures Send → Queued, Send → SendResult and Send → Deliver at several rates and sizes of bodies, by an open-loop
/// schedule: a latency counts from the instant at which the schedule wanted the message sent, so a stall is in the figures of
/// everything that should have been sent meanwhile (no coordinated omission). All clients and Hawser's processes share this
/// machine and its clocks.
///
/// Arguments behind `--` go to every run as they are: --url, --api, --key, -n, --group-share and so on.
/// Exit codes: 0, 1 when a message was lost, doubled or reordered, 3 when a run could not be made.
#[derive(Debug, Clone, Parser)]
#[command(after_help = EXAMPLES)]
pub struct LatencyArgs {
    /// Messages per second.
    #[arg(long, value_delimiter = ',', default_values_t = [500.0, 2_000.0, 5_000.0])]
    pub rates: Vec<f64>,
    /// Bytes of a body.
    #[arg(long, value_delimiter = ',', default_values_t = [200, 5_120])]
    pub bodies: Vec<usize>,
    /// Seconds of load of each cell.
    #[arg(long, default_value_t = 20)]
    pub seconds: u64,
    /// The whole table so many times, interleaved; each figure is the median.
    #[arg(long, default_value_t = 1)]
    pub repeat: u32,
    /// Seconds of load at the lowest rate before the first cell, not counted.
    #[arg(long, default_value_t = 5)]
    pub warm_s: u64,
    /// Admin addresses of all gateways and fanouts, for the stages: http://127.0.0.1:9090,http://127.0.0.1:9192.
    #[arg(long, value_delimiter = ',')]
    pub metrics: Vec<String>,
    /// Processes whose CPU time per message is told: gateway=PID,ingest=PID,kafka=PID; the same name may come again.
    #[arg(long, value_delimiter = ',')]
    pub process: Vec<String>,
    /// Folder for latency.json, latency.md and latency.svg.
    #[arg(long, default_value = ".")]
    pub out: PathBuf,
    /// What every run is told.
    #[arg(last = true)]
    pub run: Vec<String>,
}

const EXAMPLES: &str = "\
Example:
  hawser-loadgen latency --metrics http://127.0.0.1:9090,http://127.0.0.1:9192 --process gateway=4711 --out out -- \\
      --url ws://127.0.0.1:8080/v1/ws --api http://127.0.0.1:8080 --key keys -n 1000";

/// Stages in the order in which a message passes them: metric (mean in its unit), microseconds per unit, title.
const STAGES: [(&str, f64, &str); 7] = [
    ("hawser_append_microseconds", 1.0, "edge → log acknowledged"),
    ("hawser_ingest_stage/log", 1.0, "edge → log → ingest"),
    ("hawser_ingest_stage/judge", 1.0, "judge"),
    ("hawser_ingest_stage/store", 1.0, "store"),
    ("hawser_ingest_stage/order", 1.0, "order"),
    (
        "hawser_ingest_stage/deliver",
        1.0,
        "delivery log acknowledged",
    ),
    (
        "hawser_delivery_lag_milliseconds",
        1_000.0,
        "delivery log → edge",
    ),
];
/// Of these, the ones that follow each other between the edge and the delivery log.
const BEFORE_DELIVERY: [usize; 4] = [1, 2, 3, 4];
/// A delivery record has its message's time: this one is measured from the edge on, and told from the delivery log on.
const FROM_THE_EDGE_ON: usize = 6;

/// One rate and one body.
#[derive(Debug, Clone, Serialize)]
pub struct Cell {
    /// Asked for, messages per second.
    pub rate: f64,
    /// Bytes.
    pub body: usize,
    /// Runs that the figures are medians of.
    pub runs: u32,
    /// Messages sent per second.
    pub sent_per_s: f64,
    /// Deliveries per second.
    pub delivered_per_s: f64,
    /// Due to Queued.
    pub queued: Quantiles,
    /// Due to SendResult.
    pub send_result: Quantiles,
    /// Due to Deliver.
    pub deliver: Quantiles,
    /// Mean per stage, milliseconds; `None`: that metric was not there.
    pub stages_ms: Vec<(&'static str, Option<f64>)>,
    /// What is left of Send → Deliver: the client's side, its edge, and the way to the receiver's socket; mean, milliseconds.
    pub ends_ms: Option<f64>,
    /// CPU time per message sent, microseconds, by process.
    pub cpu_us: Vec<(String, f64)>,
    /// Refused, shed or without an answer.
    pub not_sent: u64,
    /// Every promise was kept.
    pub clean: bool,
}

/// Looked at as the load begins and as it ends.
struct Look {
    page: Page,
    ticks: Vec<(String, u64)>,
}

/// Makes the table. Says whether every run was clean.
///
/// # Errors
/// A run could not be made, or a file not written.
pub fn run(args: &LatencyArgs) -> anyhow::Result<bool> {
    if args.repeat == 0 || args.rates.is_empty() || args.bodies.is_empty() {
        bail!("--repeat, --rates and --bodies must not be empty");
    }
    let processes = args
        .process
        .iter()
        .map(|text| process(text))
        .collect::<anyhow::Result<Vec<_>>>()?;
    std::fs::create_dir_all(&args.out).with_context(|| format!("--out {}", args.out.display()))?;
    let mut number = 0;
    if args.warm_s > 0 {
        let slow = args.rates.iter().copied().fold(f64::INFINITY, f64::min);
        let all = one(args, number, slow, args.bodies[0], args.warm_s)?;
        run_observed(all, &mut |_| ())?;
    }
    let mut runs: Vec<Vec<Cell>> = Vec::new();
    for _ in 0..args.repeat {
        let mut at = 0;
        for body in &args.bodies {
            for rate in &args.rates {
                number += 1;
                let cell = measure(args, &processes, number, *rate, *body)?;
                eprintln!(
                    "{rate:>6} messages/s of {body} B: Send → Deliver p50 {:.1} ms, p99 {:.1} ms",
                    cell.deliver.p50_ms, cell.deliver.p99_ms
                );
                if runs.len() <= at {
                    runs.push(Vec::new());
                }
                runs[at].push(cell);
                at += 1;
            }
        }
    }
    let cells: Vec<Cell> = runs.into_iter().filter_map(median).collect();
    let write = |name: &str, text: String| {
        let path = args.out.join(name);
        std::fs::write(&path, text).with_context(|| path.display().to_string())
    };
    write("latency.json", serde_json::to_string_pretty(&cells)? + "\n")?;
    write("latency.svg", plot::latencies(&cells))?;
    let text = markdown(&cells);
    write("latency.md", text.clone())?;
    print!("{text}");
    Ok(cells.iter().all(|cell| cell.clean))
}

fn process(text: &str) -> anyhow::Result<(String, u32)> {
    let wrong = || format!("--process {text}: give NAME=PID");
    let (name, pid) = text.split_once('=').with_context(wrong)?;
    Ok((name.to_owned(), pid.parse().with_context(wrong)?))
}

fn one(
    args: &LatencyArgs,
    number: u32,
    rate: f64,
    body: usize,
    seconds: u64,
) -> anyhow::Result<Args> {
    let own = [
        "hawser-loadgen".to_owned(),
        format!("--rate={rate}"),
        format!("--body={body}"),
        format!("--duration-s={seconds}"),
        format!("--prefix=lat{}x{number}u", std::process::id()),
        "--quiet".to_owned(),
    ];
    let run = Args::try_parse_from(own.iter().chain(&args.run))?;
    run.check().map_err(anyhow::Error::msg)?;
    Ok(run)
}

fn measure(
    args: &LatencyArgs,
    processes: &[(String, u32)],
    number: u32,
    rate: f64,
    body: usize,
) -> anyhow::Result<Cell> {
    let run = one(args, number, rate, body, args.seconds)?;
    let mut looks = Vec::new();
    let report = run_observed(run, &mut |_| looks.push(look(args, processes)))?;
    let looks = looks.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let [begin, end] = &looks[..] else {
        bail!("the load had no begin and end");
    };
    Ok(cell(rate, body, &report, begin, end))
}

fn look(args: &LatencyArgs, processes: &[(String, u32)]) -> anyhow::Result<Look> {
    let page = scrape::pages(&args.metrics)?;
    let mut ticks: Vec<(String, u64)> = Vec::new();
    let own = ("load generator".to_owned(), std::process::id());
    for (name, pid) in processes.iter().chain([&own]) {
        let usage = Usage::read(*pid)
            .with_context(|| format!("--process {name}={pid}: it is not there"))?;
        let used = usage.user_ticks + usage.system_ticks;
        match ticks.iter_mut().find(|(known, _)| known == name) {
            Some((_, sum)) => *sum += used,
            None => ticks.push((name.clone(), used)),
        }
    }
    Ok(Look { page, ticks })
}

fn cell(rate: f64, body: usize, report: &Report, begin: &Look, end: &Look) -> Cell {
    let mean = |(metric, us, _): &(&'static str, f64, &'static str)| {
        end.page
            .mean_since(&begin.page, metric)
            .map(|mean| mean * us / 1_000.0)
    };
    let mut stages: Vec<Option<f64>> = STAGES.iter().map(mean).collect();
    let before: Option<f64> = BEFORE_DELIVERY.iter().map(|at| stages[*at]).sum();
    let between_edges = stages[FROM_THE_EDGE_ON];
    stages[FROM_THE_EDGE_ON] = between_edges
        .zip(before)
        .map(|(whole, before)| (whole - before).max(0.0));
    let sent = (report.sent_per_s * report.load_s).max(1.0);
    let cpu = |((name, before), (_, after)): (&(String, u64), &(String, u64))| {
        let ms = after.saturating_sub(*before) as f64 * TICK_MS;
        (name.clone(), ms * 1_000.0 / sent)
    };
    Cell {
        rate,
        body,
        runs: 1,
        sent_per_s: report.sent_per_s,
        delivered_per_s: report.delivered_per_s,
        queued: report.queued,
        send_result: report.send_result,
        deliver: report.deliver,
        stages_ms: STAGES
            .iter()
            .map(|(_, _, title)| *title)
            .zip(stages)
            .collect(),
        ends_ms: between_edges.map(|whole| (report.deliver.mean_ms - whole).max(0.0)),
        cpu_us: begin.ticks.iter().zip(&end.ticks).map(cpu).collect(),
        not_sent: report.shed + report.findings.refused + report.findings.unanswered,
        clean: report.clean(),
    }
}

/// The run in the middle by the p99 of Send → Deliver, with every quantile the median over runs.
fn median(mut cells: Vec<Cell>) -> Option<Cell> {
    cells.sort_by(|a, b| a.deliver.p99_ms.total_cmp(&b.deliver.p99_ms));
    let middle = |of: &dyn Fn(&Cell) -> f64| {
        let mut values: Vec<f64> = cells.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    let quantiles = |of: &dyn Fn(&Cell) -> Quantiles| Quantiles {
        count: cells.iter().map(|cell| of(cell).count).sum(),
        mean_ms: middle(&|cell| of(cell).mean_ms),
        p50_ms: middle(&|cell| of(cell).p50_ms),
        p90_ms: middle(&|cell| of(cell).p90_ms),
        p99_ms: middle(&|cell| of(cell).p99_ms),
        p999_ms: middle(&|cell| of(cell).p999_ms),
        max_ms: cells.iter().map(|cell| of(cell).max_ms).fold(0.0, f64::max),
    };
    let typical = cells.get(cells.len() / 2)?;
    Some(Cell {
        runs: u32::try_from(cells.len()).unwrap_or(u32::MAX),
        queued: quantiles(&|cell| cell.queued),
        send_result: quantiles(&|cell| cell.send_result),
        deliver: quantiles(&|cell| cell.deliver),
        not_sent: cells.iter().map(|cell| cell.not_sent).sum(),
        clean: cells.iter().all(|cell| cell.clean),
        ..typical.clone()
    })
}

/// The tables of docs/performance.md.
fn markdown(cells: &[Cell]) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "| messages/s | body | sent/s, deliveries/s | Send → Queued p50 / p99 | Send → SendResult p50 / p99 | \
         Send → Deliver p50 / p99 / p99.9 | not sent | promises |\n| --- | --- | --- | --- | --- | --- | --- | --- |"
    );
    for c in cells {
        let _ = writeln!(
            out,
            "| {} | {} B | {:.0}, {:.0} | {:.1} / {:.1} ms | {:.1} / {:.1} ms | {:.1} / {:.1} / {:.1} ms | {} | {} |",
            c.rate,
            c.body,
            c.sent_per_s,
            c.delivered_per_s,
            c.queued.p50_ms,
            c.queued.p99_ms,
            c.send_result.p50_ms,
            c.send_result.p99_ms,
            c.deliver.p50_ms,
            c.deliver.p99_ms,
            c.deliver.p999_ms,
            c.not_sent,
            if c.clean { "kept" } else { "BROKEN" }
        );
    }
    let runs = cells.first().map_or(0, |cell| cell.runs);
    let _ = writeln!(
        out,
        "\nQuantiles: median of {runs} run(s).\n\nMean milliseconds, stage by stage:\n"
    );
    let titles: Vec<&str> = STAGES.iter().map(|(_, _, title)| *title).collect();
    let _ = writeln!(
        out,
        "| messages/s | body | {} | client, edges, socket | Send → Deliver |",
        titles.join(" | ")
    );
    let _ = writeln!(out, "|{}", " --- |".repeat(titles.len() + 4));
    let known = |ms: Option<f64>| ms.map_or_else(|| "–".to_owned(), |ms| format!("{ms:.2}"));
    for c in cells {
        let stages: Vec<String> = c.stages_ms.iter().map(|(_, ms)| known(*ms)).collect();
        let (rate, body, ends) = (c.rate, c.body, known(c.ends_ms));
        let _ = writeln!(
            out,
            "| {rate} | {body} B | {} | {ends} | {:.2} |",
            stages.join(" | "),
            c.deliver.mean_ms
        );
    }
    let names: Vec<&str> = cells.first().map_or_else(Vec::new, |c| {
        c.cpu_us.iter().map(|(n, _)| n.as_str()).collect()
    });
    let _ = writeln!(
        out,
        "\nCPU microseconds per message sent:\n\n| messages/s | body | {} |",
        names.join(" | ")
    );
    let _ = writeln!(out, "|{}", " --- |".repeat(names.len() + 2));
    for c in cells {
        let used: Vec<String> = c.cpu_us.iter().map(|(_, us)| format!("{us:.0}")).collect();
        let _ = writeln!(out, "| {} | {} B | {} |", c.rate, c.body, used.join(" | "));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Latency;

    fn cell_of(p99_ms: u64, clean: bool) -> Cell {
        let mut latency = Latency::new();
        latency.record(p99_ms * 1_000_000);
        let q = latency.summary();
        Cell {
            rate: 500.0,
            body: 200,
            runs: 1,
            sent_per_s: 500.0,
            delivered_per_s: 900.0,
            queued: q,
            send_result: q,
            deliver: q,
            stages_ms: vec![("store", Some(1.0))],
            ends_ms: None,
            cpu_us: vec![("gateway".to_owned(), 30.0)],
            not_sent: 1,
            clean,
        }
    }

    #[test]
    fn a_repeated_cell_is_the_median_and_is_clean_only_if_every_run_was() {
        let cell =
            median(vec![cell_of(9, true), cell_of(3, false), cell_of(5, true)]).expect("a cell");
        assert!(
            (cell.deliver.p99_ms - 5.0).abs() < 0.1,
            "{:?}",
            cell.deliver
        );
        assert!((cell.deliver.max_ms - 9.0).abs() < 0.1);
        assert_eq!((cell.runs, cell.not_sent, cell.clean), (3, 3, false));
        let text = markdown(&[cell]);
        assert!(
            text.contains("BROKEN") && text.contains("| gateway |"),
            "{text}"
        );
    }

    #[test]
    fn a_process_without_a_pid_is_named() {
        assert_eq!(process("kafka=12").expect("a pid").1, 12);
        assert!(
            process("kafka")
                .expect_err("no pid")
                .to_string()
                .contains("NAME=PID")
        );
    }
}
