//! `hawser-loadgen plan`: how many of everything a load needs, and why.

use std::ffi::OsString;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory as _, FromArgMatches as _, Parser};

use super::{NO_RUN, USAGE};
use crate::capacity::Plan;
use crate::capacity::input::{Input, InputError, Origin};
use crate::capacity::keys::{self, SECTIONS};
use crate::capacity::measured;
use crate::capacity::preset::{self, PRESETS, Preset};
use crate::capacity::show::{html, json, markdown, text};

/// Calculates how many edge nodes, brokers, Cassandra and Redis nodes a load needs, with what binds each number, bandwidth, pushes,
/// blast radius, drain and reconnect times; every figure with its formula.
///
/// Values come from, the later the stronger: defaults, --preset, --from, --file, and a flag for each value. No server is
/// needed, and nothing is sent anywhere.
///
/// Exit codes: 0, 2 for a key or value that cannot be, 3 when a file could not be read or written.
#[derive(Debug, Clone, Parser)]
#[command(after_help = EXAMPLES)]
pub struct PlanArgs {
    /// Begins with the values of a size that the original design calculates, and shows what that said: 20m or 200m.
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// Values as TOML; --defaults prints one.
    #[arg(long, short, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Measured figures of a node, out of a result of hawser-loadgen: --json of a load with --server-pid (memory with --warm and 10,000
    /// sessions, CPU of 1:1 messages with --group-share 0, of deliveries with --group-share 1), of a storm, or latency.json. May
    /// come again.
    #[arg(long, value_name = "RESULT.json")]
    pub from: Vec<PathBuf>,
    /// Prints all values as commented TOML, with what was given so far, and ends.
    #[arg(long)]
    pub defaults: bool,
    /// Leaves formulas out of the text.
    #[arg(long)]
    pub short: bool,
    /// Prints JSON instead: stable names, base units.
    #[arg(long, conflicts_with = "markdown")]
    pub json: bool,
    /// Prints Markdown tables instead.
    #[arg(long)]
    pub markdown: bool,
    /// Writes a page to print as well: one file that needs nothing else.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Chats by their share of messages and their members, the sender included: 0.9:2,0.1:20.
    #[arg(long, value_name = "SHARE:MEMBERS,..")]
    pub mix: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  hawser-loadgen plan --preset 20m
      20 million daily users, beside what the original design said
  hawser-loadgen plan --users 3e6 --devices-per-user 2 --message-bytes 800 --html plan.html
      another size, as a page to print
  hawser-loadgen plan --from result.json --file ours.toml --json
      with what was measured of a node, for a program";

/// What ends it.
enum Fault {
    /// The operator's.
    Usage(String),
    /// A file could not be read or written.
    File(String),
}

/// Plans. `words` begins with the program's name.
#[must_use]
pub fn main(words: Vec<OsString>) -> ExitCode {
    let matches = command().get_matches_from(words);
    match plan(&matches) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            let (text, code) = match fault {
                Fault::Usage(text) => (text, USAGE),
                Fault::File(text) => (text, NO_RUN),
            };
            eprintln!("hawser-loadgen plan: {text}");
            ExitCode::from(code)
        }
    }
}

/// The command line: [`PlanArgs`] and a flag for each key.
#[must_use]
pub fn command() -> Command {
    let mut command = PlanArgs::command();
    for (section, about) in SECTIONS {
        for key in keys::all().filter(|key| key.section == section) {
            let default = Input::default().value(key.name);
            let flag = Arg::new(key.name)
                .long(key.name.replace('_', "-"))
                .action(ArgAction::Set)
                .value_name(key.unit)
                .allow_negative_numbers(true)
                .hide_short_help(true)
                .help_heading(about)
                .help(format!("{} [default: {default}]", key.meaning));
            let flag = match key.name {
                "message_bytes" => flag.visible_alias("body-bytes"),
                _ => flag,
            };
            command = command.arg(flag);
        }
    }
    command
}

fn plan(matches: &ArgMatches) -> Result<(), Fault> {
    let args =
        PlanArgs::from_arg_matches(matches).map_err(|error| Fault::Usage(error.to_string()))?;
    let (input, preset) = input(&args, matches)?;
    if args.defaults {
        return say(&input.toml());
    }
    let plan = Plan::new(input, preset).map_err(|error| Fault::Usage(error.to_string()))?;
    if let Some(path) = &args.html {
        std::fs::write(path, html::html(&plan))
            .map_err(|error| Fault::File(format!("--html {}: {error}", path.display())))?;
    }
    if args.json {
        say(&format!("{:#}\n", json::json(&plan)))
    } else if args.markdown {
        say(&markdown::markdown(&plan))
    } else {
        say(&text::text(&plan, !args.short))
    }
}

/// To standard output; who reads only its beginning (`| head`) has all that is wanted.
fn say(text: &str) -> Result<(), Fault> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Fault::File(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

fn input(args: &PlanArgs, matches: &ArgMatches) -> Result<(Input, Option<&'static Preset>), Fault> {
    let usage = |error: InputError| Fault::Usage(error.to_string());
    let mut input = Input::default();
    let mut preset = None;
    if let Some(name) = &args.preset {
        let known = preset::named(name).ok_or_else(|| {
            let names: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
            Fault::Usage(format!(
                "--preset {name}: there are {}",
                names.join(" and ")
            ))
        })?;
        preset = Some(known);
        for (key, value) in known.values {
            let origin = Origin::Preset(known.name.to_owned());
            input.set(key, *value, origin).map_err(usage)?;
        }
    }
    for path in &args.from {
        let text = read("--from", path)?;
        let origin = Origin::Result(name_of(path));
        let found = measured::apply(&text, &origin, &mut input)
            .map_err(|error| Fault::Usage(format!("--from {}: {error}", path.display())))?;
        for one in found {
            eprintln!("{}: {} = {:.1}", path.display(), one.key, one.value);
        }
    }
    if let Some(path) = &args.file {
        let text = read("--file", path)?;
        let origin = Origin::File(name_of(path));
        input
            .read_toml(&text, &origin)
            .map_err(|error| Fault::Usage(format!("--file {}: {error}", path.display())))?;
    }
    for key in keys::all() {
        if let Some(text) = matches.get_one::<String>(key.name) {
            input
                .set_text(key.name, text, Origin::Flag)
                .map_err(usage)?;
        }
    }
    if let Some(text) = &args.mix {
        input.set_mix_text(text, Origin::Flag).map_err(usage)?;
    }
    Ok((input, preset))
}

/// A file's name without where it is on this machine.
fn name_of(path: &Path) -> String {
    path.file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn read(flag: &str, path: &Path) -> Result<String, Fault> {
    std::fs::read_to_string(path)
        .map_err(|error| Fault::File(format!("{flag} {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        command().debug_assert();
        assert!(command().get_arguments().count() > keys::all().count());
    }
}
