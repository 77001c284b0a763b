//! Wiring only.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;
use hawser_loadgen::args::Args;
use hawser_loadgen::commands::{self, FOUND, NO_RUN, USAGE};
use hawser_loadgen::run::run;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = commands::named(&words) {
        return code;
    }
    let args = Args::parse();
    if let Err(fault) = args.check() {
        eprintln!("hawser-loadgen: {fault}");
        return ExitCode::from(USAGE);
    }
    let (json, fail_p99_ms) = (args.json.clone(), args.fail_p99_ms);
    let report = match run(args) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("hawser-loadgen: {error:#}");
            return ExitCode::from(NO_RUN);
        }
    };
    let to_stdout = json.as_deref().is_some_and(|path| path.as_os_str() == "-");
    if to_stdout {
        eprint!("{}", report.text());
    } else {
        print!("{}", report.text());
    }
    if let Some(path) = json {
        let written = match serde_json::to_string_pretty(&report) {
            Ok(text) if to_stdout => {
                println!("{text}");
                Ok(())
            }
            Ok(text) => std::fs::write(&path, text + "\n"),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = written {
            eprintln!("hawser-loadgen: --json {}: {error}", path.display());
            return ExitCode::from(NO_RUN);
        }
    }
    let too_slow = fail_p99_ms.is_some_and(|bound| report.deliver.p99_ms > bound);
    if too_slow {
        eprintln!("hawser-loadgen: the p99 of Send → Deliver is above --fail-p99-ms");
    }
    if report.clean() && !too_slow {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FOUND)
    }
}
