//! What operators do with running nodes, through their admin listeners: look at them, and move what they hold.

pub mod args;
mod calls;
mod drain;
mod progress;
mod show;
mod tables;
mod users;

use crate::cli::RunArgs;
use crate::run::Failure;
use args::{AskArgs, Operation};
use std::io::{self, Write};

/// Does one of them.
///
/// # Errors
/// A node that does not answer, or answers no; the text names it and what to do.
pub(crate) fn run(run: &RunArgs, operation: &Operation) -> Result<(), Failure> {
    let runtime = crate::run::runtime()?;
    runtime.block_on(async {
        match operation {
            Operation::Nodes(args) => show::nodes(run, args).await,
            Operation::Partitions(args) => show::partitions(run, args).await,
            Operation::Lag(args) => show::lag(run, args).await,
            Operation::Sessions(args) => users::sessions(run, args).await,
            Operation::Kick(args) => users::kick(run, args).await,
            Operation::Relocate(args) => users::relocate(run, args).await,
            Operation::Drain(args) => drain::drain(run, args).await,
        }
    })
}

/// The admin listener to ask first: `--ask`, or this machine's by its configuration.
fn link(run: &RunArgs, args: &AskArgs) -> Result<String, Failure> {
    if let Some(link) = &args.ask {
        return Ok(link.clone());
    }
    let admin = run.settings()?.admin_addr()?;
    let none = || Failure::Argument("listen.admin is empty: name the node with --ask".to_owned());
    Ok(admin.ok_or_else(none)?.to_string())
}

/// As JSON, or as the text that `people` makes of it.
fn print<T: serde::Serialize>(
    json: bool,
    value: &T,
    people: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    let text = match json {
        true => {
            let json = serde_json::to_string_pretty(value);
            json.map_err(|e| Failure::Running(e.to_string()))? + "\n"
        }
        false => people(value),
    };
    crate::run::print(text);
    Ok(())
}

/// A line beside the answer.
fn say(words: &str) {
    // Nobody reads it where that fails.
    let _ = writeln!(io::stderr(), "{words}");
}

/// A failure when somebody did not answer: what was printed is not all.
fn whole(missing: &[String]) -> Result<(), Failure> {
    if missing.is_empty() {
        return Ok(());
    }
    let words = format!("this is not all: {}", missing.join("; "));
    Err(Failure::Running(words))
}
