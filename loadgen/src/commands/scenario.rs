//! `hawser-loadgen scenario`: phases and what has to come of them, from a file.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;

use super::{FOUND, NO_RUN, USAGE};
use crate::engine::wall_ms;
use crate::scenario::crew::{Local, Part};
use crate::scenario::live::Live;
use crate::scenario::model::Scenario;
use crate::scenario::record::{End, Record, Tick};
use crate::scenario::show::Told;
use crate::scenario::{by_worker, figures, play, read, server};
use crate::workers::WORKERS_MAX;
use crate::workers::children::Children;
use crate::workers::fleet::{Fleet, Workers};
use crate::workers::split::Split;
use crate::workers::token::Token;

/// Plays a scenario: ramps, holds, mixes of messages, storms, slow readers, drains and soaks in the order of a file, and what has to
/// come of them. Every key is in docs/loadgen.md; examples are in examples/scenarios.
///
/// Exit codes: 0 when everything was as it had to be, 1 when something was not, 2 for a wrong file or command line, 3 when it could
/// not be played.
#[derive(Debug, Clone, Parser)]
#[command(after_help = EXAMPLES)]
pub struct ScenarioArgs {
    /// The scenario (TOML).
    pub file: PathBuf,
    /// A value in the place of the file's: target.url=.., sessions.count=.., phase.NAME.rate=.. May come again.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
    /// Writes the result as JSON, `-` for standard output instead of the text.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Writes a page to print: one file that needs nothing else.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Workers that play it together, HOST:PORT each, where `hawser-loadgen worker --listen` runs: the sessions are divided among
    /// them, what they measure is merged.
    #[arg(long, value_delimiter = ',', value_name = "HOST:PORT")]
    pub workers: Vec<String>,
    /// The token that these workers take jobs with: the same as in their --token-file.
    #[arg(long, value_name = "FILE")]
    pub workers_token_file: Option<PathBuf>,
    /// Plays it in so many processes of this host, which are started for it and end with it.
    #[arg(long, value_name = "N", conflicts_with = "workers", value_parser = clap::value_parser!(u32).range(1..=i64::from(WORKERS_MAX)))]
    pub processes: Option<u32>,
    /// Reads the file, says what it would do, and ends.
    #[arg(long)]
    pub check: bool,
    /// Shows nothing while it runs.
    #[arg(long)]
    pub quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  hawser-loadgen scenario examples/scenarios/quick.toml --set target.key=hawser-data
      against `hawser-gateway --embedded`, a minute
  hawser-loadgen scenario evening.toml --set target.server_pid=[4711] --html report.html --json report.json
      with the server's memory and CPU, and a report
  hawser-loadgen scenario evening.toml --processes 4 --html report.html
      made by four processes of this host
  hawser-loadgen scenario evening.toml --workers 10.0.0.11:7077,10.0.0.12:7077 --workers-token-file workers.token
      made by two other hosts, on each of which `hawser-loadgen worker` listens
  hawser-loadgen scenario evening.toml --check
      what is wrong with the file, or what it would do";

/// What ends it without a result.
enum Fault {
    Usage(String),
    NoRun(String),
}

/// Plays. `words` begins with the program's name.
#[must_use]
pub fn main(words: Vec<OsString>) -> ExitCode {
    let args = ScenarioArgs::parse_from(words);
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FOUND),
        Err(Fault::Usage(text)) => {
            eprintln!("hawser-loadgen scenario: {}: {text}", args.file.display());
            ExitCode::from(USAGE)
        }
        Err(Fault::NoRun(text)) => {
            eprintln!("hawser-loadgen scenario: {text}");
            ExitCode::from(NO_RUN)
        }
    }
}

fn run(args: &ScenarioArgs) -> Result<bool, Fault> {
    let text =
        std::fs::read_to_string(&args.file).map_err(|error| Fault::Usage(error.to_string()))?;
    let stem = args
        .file
        .file_stem()
        .map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let scenario = read::scenario(&text, &stem, &args.sets)
        .map_err(|error| Fault::Usage(error.to_string()))?;
    let split = split(args, &scenario)?;
    if args.check {
        print!("{}", outline(&scenario));
        if let Some(split) = &split {
            print!("{}", shares(args, split));
        }
        return Ok(true);
    }
    if scenario
        .target
        .server_pid
        .iter()
        .any(|pid| server::usage(&[*pid]).is_none())
    {
        return Err(Fault::Usage(
            "target.server_pid: such a process is not there, or may not be read".to_owned(),
        ));
    }
    let to_stdout = args
        .json
        .as_ref()
        .is_some_and(|path| path.as_os_str() == "-");
    let (machine, began_ms) = (server::machine(), wall_ms());
    let mut live = Live::new(args.quiet, !to_stdout);
    let (record, end) = played(args, &scenario, split, &mut live)
        .map_err(|error| Fault::NoRun(format!("{error:#}")))?;
    let figures = figures::all(&scenario, &record, &end);
    let verdicts = figures::judge(&scenario, &figures);
    let told = Told {
        scenario: &scenario,
        text: &text,
        sets: &args.sets,
        began_ms,
        machine: &machine,
        record: &record,
        end: &end,
        figures: &figures,
        verdicts: &verdicts,
    };
    let write = |flag: &str, path: &PathBuf, text: String| {
        std::fs::write(path, text)
            .map_err(|error| Fault::NoRun(format!("{flag} {}: {error}", path.display())))
    };
    if let Some(path) = &args.html {
        write("--html", path, told.html())?;
    }
    let json = || told.json().map_err(|error| Fault::NoRun(error.to_string()));
    match &args.json {
        Some(_) if to_stdout => println!("{}", json()?),
        Some(path) => {
            write("--json", path, json()? + "\n")?;
            print!("{}", told.text());
        }
        None => print!("{}", told.text()),
    }
    Ok(told.passes())
}

/// How the users are divided, where several processes play; what is wrong with that.
fn split(args: &ScenarioArgs, scenario: &Scenario) -> Result<Option<Split>, Fault> {
    let given = u32::try_from(args.workers.len()).unwrap_or(u32::MAX);
    let count = args.processes.unwrap_or(given);
    if count == 0 {
        return match &args.workers_token_file {
            None => Ok(None),
            Some(_) => Err(Fault::Usage(
                "--workers-token-file is for --workers HOST:PORT,..".to_owned(),
            )),
        };
    }
    if count > WORKERS_MAX {
        return Err(Fault::Usage(format!(
            "{count} workers: give {WORKERS_MAX} at most"
        )));
    }
    let mut named = std::collections::BTreeSet::new();
    if let Some(twice) = args.workers.iter().find(|place| !named.insert(*place)) {
        return Err(Fault::Usage(format!(
            "--workers names {twice} twice: a worker plays one part"
        )));
    }
    let split = Split::new(scenario, count).map_err(|error| Fault::Usage(error.to_string()))?;
    Ok(Some(split))
}

/// Plays it here, or with workers, which have ended when it returns.
fn played(
    args: &ScenarioArgs,
    scenario: &Scenario,
    split: Option<Split>,
    live: &mut Live,
) -> anyhow::Result<(Record, End)> {
    let see = &mut |record: &Record, _: &Tick| live.show(scenario, record);
    let Some(split) = split else {
        let mut crew = Local::start(scenario, &Part::whole(scenario), &|| true)?;
        return play::play(scenario, &mut crew, see);
    };
    let workers = match args.processes {
        Some(count) => Workers::Here(Children::start(count)?),
        None => {
            let token = match &args.workers_token_file {
                Some(path) => Token::read(path).context("--workers-token-file")?,
                None => Token::none(),
            };
            Workers::There(args.workers.clone(), token)
        }
    };
    let mut fleet = Fleet::start(scenario, split, workers)?;
    if !args.quiet {
        for worker in fleet.workers() {
            eprintln!("{}", by_worker::introduced(&worker));
        }
    }
    play::play(scenario, &mut fleet, see)
}

/// Which users would be whose.
fn shares(args: &ScenarioArgs, split: &Split) -> String {
    let parts = split.parts().into_iter();
    let line = |part: Part| {
        let place = args.workers.get(part.index as usize).cloned();
        let name = place.unwrap_or_else(|| format!("process {}", part.index + 1));
        let last = part.first + part.count - 1;
        format!("     {name}: users {} to {last}\n", part.first)
    };
    parts.map(line).collect()
}

/// What a scenario would do.
fn outline(scenario: &Scenario) -> String {
    let phases = scenario.phases.iter().enumerate();
    let phases = phases
        .map(|(at, phase)| format!("{:>3}  {}: {}\n", at + 1, phase.name, phase.kind.words()));
    let expects = scenario.expects.iter().map(|expect| {
        format!(
            "     {} {} {}\n",
            expect.metric,
            expect.op.word(),
            expect.value
        )
    });
    format!(
        "{}: {} sessions to {}\n{}{}",
        scenario.name,
        scenario.sessions.count,
        scenario.target.url,
        phases.collect::<String>(),
        expects.collect::<String>()
    )
}
