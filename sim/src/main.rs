//! Wiring only: seeds in, a progress bar, the first violation out.

use clap::{Args, Parser, Subcommand};
use hawser_sim::{
    Break, FAN_OUT_HEAD, Options, Outcome, OwnersBreak, OwnersOptions, OwnersOutcome, Violation,
    fan_out, run, run_owners,
};
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
    /// Runs seeds of gateways that own partitions by the leases log, until one breaks a promise.
    Owners(Owners),
    /// Prints what a message costs the delivery topic by size of its group: records and bytes as ingest makes them.
    FanOut(FanOutArgs),
}

#[derive(Args)]
struct FanOutArgs {
    /// Delivery partitions, a power of two.
    #[arg(long, default_value_t = 1_024, value_parser = power_of_two)]
    partitions: u32,
}

fn power_of_two(text: &str) -> Result<u32, String> {
    let number: u32 = text.parse().map_err(|_| "no number".to_owned())?;
    match number.is_power_of_two() {
        true => Ok(number),
        false => Err("not a power of two".to_owned()),
    }
}

#[derive(Args)]
struct Run {
    #[command(flatten)]
    seeds: Seeds,
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
}

#[derive(Args)]
struct Owners {
    #[command(flatten)]
    seeds: Seeds,
    /// Steps of each storm: what fails, who comes and goes.
    #[arg(long, default_value_t = OwnersOptions::default().steps)]
    steps: u64,
    /// Breaks something on purpose: the oracles must notice.
    #[arg(long, value_enum)]
    r#break: Option<OwnersBreak>,
    /// Prints every record, step and fault; for one seed.
    #[arg(long)]
    trace: bool,
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => run_all(&args),
        Command::Owners(args) => run_all_owners(&args),
        Command::FanOut(args) => print_fan_out(args.partitions),
    }
}

fn print_fan_out(partitions: u32) -> ExitCode {
    match fan_out(partitions) {
        Ok(rows) => {
            println!("{FAN_OUT_HEAD}");
            rows.iter().for_each(|row| println!("{row}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("hawser-sim: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_all(args: &Run) -> ExitCode {
    let options = Options {
        steps: args.steps,
        broken: args.r#break,
        torn: !args.whole_store,
        trace: args.trace,
    };
    let mut total = Total::default();
    let code = args.seeds.run(|seed| {
        let outcome = run(seed, &options);
        total.add(&outcome);
        outcome.violation.map(|found| (found, replay(seed, args)))
    });
    println!("{total}");
    code
}

fn run_all_owners(args: &Owners) -> ExitCode {
    let options = OwnersOptions {
        steps: args.steps,
        broken: args.r#break,
        trace: args.trace,
    };
    let mut total = OwnersTotal::default();
    let code = args.seeds.run(|seed| {
        let outcome = run_owners(seed, &options);
        total.add(&outcome);
        outcome
            .violation
            .map(|found| (found, replay_owners(seed, args)))
    });
    println!("{total}");
    code
}

/// Which seeds, and whether a violation ends the run.
#[derive(Args)]
struct Seeds {
    /// How many seeds.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    start: u64,
    /// Goes on after a violation and counts them.
    #[arg(long)]
    keep_going: bool,
}

impl Seeds {
    /// Runs them beside a progress bar; a broken promise is a failure.
    fn run(&self, mut one: impl FnMut(u64) -> Option<(Violation, String)>) -> ExitCode {
        let style =
            ProgressStyle::with_template("{bar:40} {pos}/{len} seeds, {per_sec}, {eta} left {msg}");
        let bar = ProgressBar::new(self.seeds);
        if let Ok(style) = style {
            bar.set_style(style);
        }
        let mut code = ExitCode::SUCCESS;
        for seed in self.start..self.start.saturating_add(self.seeds) {
            let found = one(seed);
            bar.inc(1);
            if let Some((violation, line)) = found {
                code = ExitCode::FAILURE;
                bar.suspend(|| println!("seed {seed}: {violation}"));
                bar.suspend(|| println!("  replay: {line}"));
                if !self.keep_going {
                    break;
                }
            }
        }
        bar.finish_and_clear();
        code
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

/// The same for a seed of owners.
fn replay_owners(seed: u64, args: &Owners) -> String {
    let steps = args.steps;
    let mut line = format!("hawser-sim owners --start {seed} --seeds 1 --steps {steps} --trace");
    if let Some(broken) = args.r#break {
        line += &format!(" --break {}", format!("{broken:?}").to_lowercase());
    }
    line
}

#[derive(Default)]
struct OwnersTotal {
    seeds: u64,
    sum: OwnersOutcome,
    violations: u64,
}

impl OwnersTotal {
    fn add(&mut self, outcome: &OwnersOutcome) {
        self.seeds += 1;
        let sum = &mut self.sum;
        sum.events += outcome.events;
        sum.records += outcome.records;
        sum.claims += outcome.claims;
        sum.handed_over += outcome.handed_over;
        sum.called_gone += outcome.called_gone;
        sum.fenced += outcome.fenced;
        sum.compacted += outcome.compacted;
        self.violations += u64::from(outcome.violation.is_some());
    }
}

impl std::fmt::Display for OwnersTotal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sum = &self.sum;
        write!(
            f,
            "{} seeds, {} events: {} records ({} compacted), {} claims ({} of a living node's), {} called gone, {} fenced; {} violations",
            self.seeds,
            sum.events,
            sum.records,
            sum.compacted,
            sum.claims,
            sum.handed_over,
            sum.called_gone,
            sum.fenced,
            self.violations
        )
    }
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
    fetched: u64,
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
        self.fetched += outcome.fetched;
        self.violations += u64::from(outcome.violation.is_some());
    }
}

impl std::fmt::Display for Total {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} seeds, {} events: {} messages delivered ({} replayed), {} sessions resumed and {} synced, {} messages in lanes ({} times sent on), {} bodies fetched; {} violations",
            self.seeds,
            self.events,
            self.delivered,
            self.replayed,
            self.recovered,
            self.unrecovered,
            self.in_lanes,
            self.sent_on,
            self.fetched,
            self.violations
        )
    }
}
