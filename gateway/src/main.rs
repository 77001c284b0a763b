//! Wiring only: the allocator, the command line.

use clap::Parser;
use hawser_gateway::{cli::Cli, run};
use std::process::ExitCode;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    run::main(&Cli::parse())
}
