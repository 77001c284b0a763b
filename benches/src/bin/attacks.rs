//! The attacker of `dev/attacks`: floods and slow readers against one gateway, and the tables of what came of them.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use hawser_benches::attacks::conduct::{self, Size};
use hawser_benches::attacks::outcome::{About, Outcome};
use hawser_benches::attacks::site::{Place, Site};
use hawser_benches::attacks::{plans, plot, slow, storm, table};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bodies of F10, bytes.
const SLOW_BODIES: [usize; 2] = [200, 5_120];

/// Floods and slow readers against one gateway, beside sessions that talk: what each cost, what the others noticed, how the
/// attacker's connections ended. Load goes to loopback alone.
#[derive(Debug, Parser)]
#[command(name = "hawser-attacks", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Names of all attacks.
    List,
    /// Attacks the gateway that the environment names (`dev/with-gateway`); each outcome is a line of outcomes.jsonl.
    Run(Box<Run>),
    /// Makes attacks.md, attacks.json and attacks.svg of outcomes.jsonl. Exit code 1 where a goal was missed.
    Table(Table),
}

#[derive(Debug, Args)]
struct Run {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    sizes: Sizes,
    /// These alone: faults or attacks by name, separated by commas. Without it all but the storm, which wants a pace of its own.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Folder of outcomes.jsonl, to which lines are added.
    #[arg(long)]
    out: PathBuf,
}

/// How large.
#[derive(Debug, Args)]
struct Sizes {
    /// Lengths and numbers.
    #[arg(long, value_enum, default_value_t = Scale::Full)]
    size: Scale,
    /// Bystanders.
    #[arg(long)]
    bystanders: Option<u32>,
    /// Messages per second among them.
    #[arg(long)]
    rate: Option<f64>,
    /// Seconds of each attack.
    #[arg(long)]
    seconds: Option<f64>,
    /// Attackers per second, as a multiple of what is usual.
    #[arg(long)]
    scale: Option<f64>,
    /// Pairs of spans with slow readers and without.
    #[arg(long)]
    pairs: Option<u32>,
    /// Sessions that the storm cuts off.
    #[arg(long)]
    connections: Option<u32>,
    /// Sessions per second at which the gateway is configured to let them in.
    #[arg(long)]
    pace: Option<u32>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Scale {
    /// For figures.
    Full,
    /// A minute or two.
    Quick,
    /// That everything is done.
    Tiny,
}

#[derive(Debug, Args)]
struct Table {
    /// Folder of outcomes.jsonl; the tables go there.
    #[arg(long)]
    out: PathBuf,
    /// Day of the run.
    #[arg(long, default_value = "")]
    date: String,
    /// The machine, in words.
    #[arg(long, default_value = "")]
    machine: String,
    /// How it was run.
    #[arg(long, default_value = "")]
    told: String,
}

impl Sizes {
    fn size(&self) -> Size {
        let mut size = match self.size {
            Scale::Full => Size::full(),
            Scale::Quick => Size::quick(),
            Scale::Tiny => Size::tiny(),
        };
        size.bystanders = self.bystanders.unwrap_or(size.bystanders);
        size.rate = self.rate.unwrap_or(size.rate);
        size.attack_s = self.seconds.unwrap_or(size.attack_s);
        size.scale = self.scale.unwrap_or(size.scale);
        size.pairs = self.pairs.unwrap_or(size.pairs);
        size.cut = self.connections.unwrap_or(size.cut);
        size.pace = self.pace.unwrap_or(size.pace);
        size
    }
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::List => {
            for (fault, name, words) in everything() {
                println!("{fault} {name:16} {words}");
            }
            Ok(true)
        }
        Command::Run(run) => attack(&run).map(|()| true),
        Command::Table(table) => tell(&table),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("hawser-attacks: {error:#}");
            ExitCode::from(3)
        }
    }
}

/// Fault, name and words of every attack, in their order.
fn everything() -> Vec<(String, String, String)> {
    let own =
        |(fault, name, words): (&str, String, &str)| (fault.to_owned(), name, words.to_owned());
    let slow = SLOW_BODIES.map(|body| ("F10", format!("slow-{body}"), "slow readers in groups"));
    let storm = ("F13", "storm".to_owned(), "everybody comes back at once");
    let named = plans::all();
    let plans = named
        .iter()
        .map(|plan| (plan.fault, plan.name.to_owned(), plan.words));
    slow.into_iter()
        .chain([storm])
        .chain(plans)
        .map(own)
        .collect()
}

fn attack(run: &Run) -> anyhow::Result<()> {
    let all = everything();
    let is = |word: &str, fault: &str, name: &str| word.eq_ignore_ascii_case(fault) || word == name;
    let known = |word: &&String| all.iter().any(|(fault, name, _)| is(word, fault, name));
    if let Some(word) = run.only.iter().find(|word| !known(word)) {
        bail!("--only {word}: no attack is called so; hawser-attacks list names all");
    }
    let wanted = |fault: &str, name: &str| match run.only.as_slice() {
        [] => name != "storm",
        some => some.iter().any(|word| is(word, fault, name)),
    };
    std::fs::create_dir_all(&run.out)?;
    let lines = run.out.join("outcomes.jsonl");
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&lines)
        .with_context(|| lines.display().to_string())?;
    let mut told = |outcome: &Outcome| -> anyhow::Result<()> {
        eprintln!("{}", table::line(outcome));
        Ok(writeln!(file, "{}", serde_json::to_string(outcome)?)?)
    };
    let (site, size) = (Arc::new(Site::open(run.place.clone())?), run.sizes.size());
    for body in SLOW_BODIES {
        if wanted("F10", &format!("slow-{body}")) {
            told(&slow::run(&site, &size, body)?)?;
        }
    }
    if wanted("F13", "storm") {
        told(&storm::run(&site, &size)?)?;
    }
    for plan in plans::all() {
        if wanted(plan.fault, plan.name) {
            told(&conduct::connections(&site, &size, &plan)?)?;
        }
    }
    Ok(())
}

fn tell(table: &Table) -> anyhow::Result<bool> {
    let lines = table.out.join("outcomes.jsonl");
    let text = std::fs::read_to_string(&lines).with_context(|| lines.display().to_string())?;
    let outcomes: Vec<Outcome> = text
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let about = About {
        date: table.date.clone(),
        machine: table.machine.clone(),
        command: table.told.clone(),
    };
    let markdown = table::markdown(&outcomes, &about);
    println!("{markdown}");
    std::fs::write(table.out.join("attacks.md"), markdown)?;
    let json = serde_json::json!({"about": about, "outcomes": outcomes});
    let json = serde_json::to_string_pretty(&json)? + "\n";
    std::fs::write(table.out.join("attacks.json"), json)?;
    std::fs::write(table.out.join("attacks.svg"), plot::attacks(&outcomes))?;
    Ok(!outcomes.is_empty() && outcomes.iter().all(Outcome::holds))
}
