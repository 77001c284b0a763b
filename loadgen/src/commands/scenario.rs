//! `hawser-loadgen scenario`: phases and what has to come of them, from a file.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use super::{FOUND, NO_RUN, USAGE};
use crate::engine::wall_ms;
use crate::scenario::live::Live;
use crate::scenario::model::Scenario;
use crate::scenario::show::Told;
use crate::scenario::{figures, play, read, server};

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
    if args.check {
        print!("{}", outline(&scenario));
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
    let played = play::play(&scenario, &mut |record, _| live.show(&scenario, record));
    let (record, end) = played.map_err(|error| Fault::NoRun(format!("{error:#}")))?;
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
