//! The program `hawser-fanout`: roles `ingest` and `api` in a process of their own.

mod config;
mod run;

pub use config::{Config, Roles};

use crate::api;
use crate::settings::{self, SettingsError};
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// The tier behind Hawser's edge: judges what was appended to chat-messages, and serves the HTTP API.
///
/// In this version the store and the directory are embedded, and an embedded data directory belongs to
/// one process. So this program does not stand beside a running gateway, which runs both roles itself
/// (hawser-gateway --embedded, its log embedded or on Kafka). What it is good for now: serving the API
/// and history of a data directory while no gateway runs on it; finishing ingest of what a log still
/// holds; and running ingest from Kafka into a store of its own. A directory that another process has
/// open is refused, with that process's id; never let two processes with different stores ingest one
/// Kafka prefix: they would share one commit position and each miss what the other took.
/// Shared engines, and with them fanout as a tier of its own, come later behind the same ports.
///
/// Exit codes: 0 after SIGTERM or SIGINT, 1 when something fails at run time, 2 for a wrong command
/// line or configuration (the key is named), 4 when an address is taken, 5 when the data directory
/// cannot be used.
#[derive(Debug, Parser)]
#[command(name = "hawser-fanout", version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do instead of running.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Configuration file (TOML); --print-config shows every key.
    #[arg(long, value_name = "FILE", env = "HAWSER_FANOUT_CONFIG")]
    pub config: Option<PathBuf>,
    /// Overrides one key of the configuration; may be given several times.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
    /// Same as --set fanout.data_dir=DIR.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Checks the configuration, says what is wrong, and exits (0 sound, 2 not).
    #[arg(long)]
    pub check_config: bool,
    /// Prints the configuration in force, every key with its meaning, and exits.
    #[arg(long)]
    pub print_config: bool,
}

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Prints the OpenAPI document of the HTTP API (docs/openapi.json).
    Openapi,
}

const EXAMPLES: &str = "\
Examples:
  hawser-fanout --data-dir hawser-data
      ingest and the API of a stopped gateway's data directory, on http://127.0.0.1:8090/v1/
  hawser-fanout --set log.kind=kafka --set log.bootstrap=127.0.0.1:9092 --set fanout.roles=ingest
      ingest from Kafka into a store of its own (needs a build with --features engines)
  hawser-fanout --config /etc/hawser/fanout.toml --check-config
      says whether a configuration is sound, and which key is not
  hawser-fanout openapi > docs/openapi.json
      the API's description

Signals: SIGTERM and SIGINT finish what is in flight and exit; SIGHUP reloads keys and revocations.";

impl Cli {
    /// The configuration in force: defaults, then the file, then the flags.
    ///
    /// # Errors
    /// The first problem, naming the key and the way out.
    pub fn settings(&self) -> Result<Config, SettingsError> {
        let mut pairs = Vec::new();
        if let Some(dir) = &self.data_dir {
            pairs.push(format!("fanout.data_dir={}", dir.display()));
        }
        pairs.extend(self.set.iter().cloned());
        settings::load_with(self.config.as_deref(), &pairs)
    }
}

/// Runs the program; what goes wrong is said on standard error.
#[must_use]
pub fn main(cli: &Cli) -> ExitCode {
    if let Some(Command::Openapi) = cli.command {
        print!("{}", api::document());
        return ExitCode::SUCCESS;
    }
    let config = match cli.settings() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("hawser-fanout: {error}");
            return ExitCode::from(2);
        }
    };
    if cli.print_config {
        print!("{}", settings::print(&config));
        return ExitCode::SUCCESS;
    }
    if cli.check_config {
        println!("the configuration is sound");
        return ExitCode::SUCCESS;
    }
    match run::run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hawser-fanout: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
