//! Wiring only: command line, configuration, the node.

use clap::Parser;
use hawser_gateway::cli::{self, Cli, Command};
use std::process::ExitCode;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = Cli::parse();
    if let Some(Command::ConfigReference) = args.command {
        print!("{}", cli::reference());
        return ExitCode::SUCCESS;
    }
    ExitCode::SUCCESS
}
