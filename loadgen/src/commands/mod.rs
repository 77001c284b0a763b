//! What the program does beside load: `hawser-loadgen NAME ..`.

pub mod check;
pub mod churn;
pub mod latency;
pub mod plan;
pub mod scenario;
pub mod storm;
pub mod worker;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;

/// Something was found that must not be.
pub const FOUND: u8 = 1;
/// The command line is wrong.
pub const USAGE: u8 = 2;
/// It could not be done.
pub const NO_RUN: u8 = 3;

/// Does what the first word names; `None` when it is no name of ours, and load is meant.
#[must_use]
pub fn named(words: &[OsString]) -> Option<ExitCode> {
    let name = words.get(1)?.to_str()?;
    let rest = std::iter::once(OsString::from(format!("hawser-loadgen {name}")));
    let rest: Vec<OsString> = rest.chain(words[2..].iter().cloned()).collect();
    let outcome = match name {
        "check" => check::run(&check::CheckArgs::parse_from(rest)),
        "churn" => churn::run(&churn::ChurnArgs::parse_from(rest)),
        "latency" => latency::run(&latency::LatencyArgs::parse_from(rest)),
        "plan" => return Some(plan::main(rest)),
        "scenario" => return Some(scenario::main(rest)),
        "worker" => return Some(worker::main(rest)),
        "storm" => storm::run(&storm::StormArgs::parse_from(rest)),
        _ => return None,
    };
    Some(match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FOUND),
        Err(error) => {
            eprintln!("hawser-loadgen {name}: {error:#}");
            ExitCode::from(NO_RUN)
        }
    })
}
