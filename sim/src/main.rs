//! Wiring only: seeds in, a progress bar, the first violation out.

use clap::{Args, Parser, Subcommand};
use hawser_sim::{Break, Options, Outcome, run};
use indicatif::{ProgressBar, ProgressStyle};
use std::process::ExitCode;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs protocol and ingest in a simulated world of crashes, cuts, delays and repeats.
///
/// Every seed is one deterministic run; oracles watch for lost, duplicated, reordered and partly
/// resumed messages. Exit code 0: none found; 1: found, and how to replay it is printed.
#[derive(Parser)]
#[command(version, name = "hawser-sim")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs seeds until one breaks a promise.
    Run(Run),
}

#[derive(Args)]
struct Run {
    /// How many seeds.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    start: u64,
    /// Steps of each storm: what users do and what breaks.
    #[arg(long, default_value_t = Options::default().steps)]
    steps: u64,
    /// Breaks something on purpose: the oracles must notice.
    #[arg(long, value_enum)]
    r#break: Option<Break>,
    /// A store whose batches are atomic, as the embedded one's; else a crash may leave a part of one, as Cassandra's.
    #[arg(long)]
    whole_store: bool,
    /// Prints every frame and fault; for one seed.
    #[arg(long)]
    trace: bool,
    /// Goes on after a violation and counts them.
    #[arg(long)]
    keep_going: bool,
}

fn main() -> ExitCode {
    let Command::Run(args) = Cli::parse().command;
    let options = Options {
        steps: args.steps,
        broken: args.r#break,
        torn: !args.whole_store,
        trace: args.trace,
    };
    let style =
        ProgressStyle::with_template("{bar:40} {pos}/{len} seeds, {per_sec}, {eta} left {msg}");
    let bar = ProgressBar::new(args.seeds);
    if let Ok(style) = style {
        bar.set_style(style);
    }
    let mut total = Total::default();
    for seed in args.start..args.start.saturating_add(args.seeds) {
        let outcome = run(seed, &options);
        bar.inc(1);
        total.add(&outcome);
        if let Some(violation) = &outcome.violation {
            let line = replay(seed, &args);
            bar.suspend(|| println!("seed {seed}: {violation}"));
            bar.suspend(|| println!("  replay: {line}"));
            if !args.keep_going {
                break;
            }
        }
    }
    bar.finish_and_clear();
    println!("{total}");
    if total.violations == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The one line that runs a seed again.
fn replay(seed: u64, args: &Run) -> String {
    let mut line = format!(
        "hawser-sim run --start {seed} --seeds 1 --steps {} --trace",
        args.steps
    );
    if args.whole_store {
        line += " --whole-store";
    }
    if let Some(broken) = args.r#break {
        line += &format!(" --break {}", format!("{broken:?}").to_lowercase());
    }
    line
}

#[derive(Default)]
struct Total {
    seeds: u64,
    events: u64,
    delivered: u64,
    replayed: u64,
    recovered: u64,
    unrecovered: u64,
    sent_on: u64,
    in_lanes: u64,
    violations: u64,
}

impl Total {
    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.events += outcome.events;
        self.delivered += outcome.delivered;
        self.replayed += outcome.replayed;
        self.recovered += outcome.recovered;
        self.unrecovered += outcome.unrecovered;
        self.sent_on += outcome.sent_on;
        self.in_lanes += outcome.in_lanes;
        self.violations += u64::from(outcome.violation.is_some());
    }
}

impl std::fmt::Display for Total {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} seeds, {} events: {} messages delivered ({} replayed), {} sessions resumed and {} synced, {} messages in lanes ({} times sent on); {} violations",
            self.seeds,
            self.events,
            self.delivered,
            self.replayed,
            self.recovered,
            self.unrecovered,
            self.in_lanes,
            self.sent_on,
            self.violations
        )
    }
}
