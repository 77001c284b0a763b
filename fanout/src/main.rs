//! Wiring only: command line, settings, roles.

use clap::Parser;
use hawser_fanout::program::{self, Cli};
use std::process::ExitCode;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    program::main(&Cli::parse())
}
