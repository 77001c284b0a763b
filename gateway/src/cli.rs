//! The command line of `hawser-gateway`: flags over the configuration file over the defaults.

use crate::config::{Config, REFERENCE_INTRO, REFERENCE_TITLE};
use crate::operate::args::Operation;
use clap::{Args, Parser, Subcommand};
use hawser_fanout::settings::{self, SettingsError};
use std::path::PathBuf;

/// Hawser's edge node: holds WebSocket sessions on io_uring and delivers to them straight from the log.
///
/// Exit codes: 0 after a drain (SIGTERM, SIGINT), 1 when something fails at run time, 2 for a wrong
/// command line, configuration or password, or a newer schema (the key is named), 3 when the machine lacks what the
/// node needs (io_uring), 4 when an address is taken, 5 when the data directory cannot be used, 6 when an engine did
/// not answer for engines.wait_for_engines_s.
#[derive(Debug, Parser)]
#[command(
    name = "hawser-gateway",
    version,
    max_term_width = 100,
    after_help = EXAMPLES,
    args_override_self = true
)]
pub struct Cli {
    /// What to do instead of running the node.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Time of a drain with `--embedded`, unless configured.
const EMBEDDED_DRAIN_MS: i64 = 3_000;

const EXAMPLES: &str = "\
Examples:
  hawser-gateway --embedded
      everything in one process; open http://127.0.0.1:8080
  hawser-gateway --embedded --set log.kind=kafka
      the same with its log on Apache Kafka at 127.0.0.1:9092 (needs a build with --features engines)
  hawser-gateway --config /etc/hawser/gateway.toml
      an edge node beside Kafka, Cassandra, Redis and Postgres: docs/running.md
  hawser-gateway --config /etc/hawser/gateway.toml --check-config
      says whether a configuration is sound, and which key is not
  hawser-gateway nodes --ask 127.0.0.1:9090
      which nodes there are, as that one knows it; also: partitions, lag, sessions, kick, relocate, drain
  hawser-gateway token --user alice --device laptop
      prints a token of the embedded issuer, for clients of your own

Signals: SIGTERM and SIGINT drain and exit; SIGHUP reloads certificates, keys and revocations.";

/// How to run the node.
#[derive(Debug, Args, Clone, Default)]
pub struct RunArgs {
    /// Configuration file (TOML); every key is in docs/config.md.
    #[arg(
        long,
        value_name = "FILE",
        env = "HAWSER_GATEWAY_CONFIG",
        global = true
    )]
    pub config: Option<PathBuf>,
    /// Everything that no section places elsewhere in one process: log, store, presence, directory, ingest, API, and
    /// a demo page with seeded users. Listens on loopback; turns on `auth.demo`, allows a Kafka of one broker and a
    /// Cassandra of one node, and drains within 3 s, unless the configuration says otherwise.
    #[arg(long)]
    pub embedded: bool,
    /// Overrides one key of the configuration; may be given several times.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE", global = true)]
    pub set: Vec<String>,
    /// Same as --set node.data_dir=DIR.
    #[arg(long, value_name = "DIR", global = true)]
    pub data_dir: Option<PathBuf>,
    /// Same as --set listen.http=ADDR: page, API and plain WebSocket (loopback).
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Same as --set listen.wss=ADDR: TLS WebSocket.
    #[arg(long, value_name = "ADDR")]
    pub wss: Option<String>,
    /// Same as --set listen.admin=ADDR: metrics, health, readiness.
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<String>,
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
    /// Prints a token signed by the embedded issuer of this data directory.
    Token(TokenArgs),
    /// What is done with running nodes.
    #[command(flatten)]
    Operate(Operation),
    /// Prints the reference page of the configuration (docs/config.md).
    ConfigReference,
}

/// For whom a token is.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// User, `sub` of the token.
    #[arg(long)]
    pub user: String,
    /// Device, `dev` of the token; Hello must name the same.
    #[arg(long)]
    pub device: String,
    /// Life of the token, seconds.
    #[arg(long, default_value_t = 86_400)]
    pub ttl_s: u64,
    /// Gives the scope `admin`.
    #[arg(long)]
    pub admin_scope: bool,
}

impl RunArgs {
    /// The configuration in force: defaults, then the file, then `--embedded`, then `--set` and the other flags.
    ///
    /// # Errors
    /// The first problem, naming the key and the way out.
    pub fn settings(&self) -> Result<Config, SettingsError> {
        let mut table = match &self.config {
            Some(path) => {
                let read = std::fs::read_to_string(path);
                let text = read.map_err(|e| SettingsError::Unreadable {
                    path: path.display().to_string(),
                    reason: e.to_string(),
                })?;
                // Parsed once as it stands, so that an error speaks of the file's own line.
                settings::parse::<Config>(&text)?;
                text.parse::<toml::Table>()
                    .map_err(|e| SettingsError::Malformed {
                        reason: e.to_string(),
                    })?
            }
            None => toml::Table::new(),
        };
        if self.embedded {
            put_default(&mut table, "auth", "demo", toml::Value::Boolean(true));
            // One broker is what a laptop has; what that can lose is said at every start.
            put_default(
                &mut table,
                "log",
                "allow_unsafe_log",
                toml::Value::Boolean(true),
            );
            put_default(
                &mut table,
                "store",
                "allow_unsafe",
                toml::Value::Boolean(true),
            );
            // A person who stops it does not wait; browsers reconnect anyway.
            put_default(
                &mut table,
                "node",
                "drain_ms",
                toml::Value::Integer(EMBEDDED_DRAIN_MS),
            );
        }
        for (key, value) in [
            ("listen.http", &self.listen),
            ("listen.wss", &self.wss),
            ("listen.admin", &self.admin),
        ] {
            if let Some(value) = value {
                settings::set::<Config>(&mut table, key, value)?;
            }
        }
        if let Some(dir) = &self.data_dir {
            settings::set::<Config>(&mut table, "node.data_dir", &dir.display().to_string())?;
        }
        for pair in &self.set {
            let (key, value) =
                pair.split_once('=')
                    .ok_or_else(|| SettingsError::Contradiction {
                        key: pair.clone(),
                        reason: "write it as --set section.key=value".to_owned(),
                    })?;
            settings::set::<Config>(&mut table, key.trim(), value.trim())?;
        }
        settings::parse(
            &toml::to_string(&table).map_err(|e| SettingsError::Malformed {
                reason: e.to_string(),
            })?,
        )
    }
}

/// The reference page.
#[must_use]
pub fn reference() -> String {
    settings::reference::<Config>(REFERENCE_TITLE, REFERENCE_INTRO)
}

fn put_default(table: &mut toml::Table, section: &str, key: &str, value: toml::Value) {
    let section = table
        .entry(section)
        .or_insert_with(|| toml::Value::Table(toml::Table::new()));
    if let Some(section) = section.as_table_mut() {
        section.entry(key).or_insert(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(args: &[&str]) -> Result<Config, SettingsError> {
        let all = std::iter::once("hawser-gateway").chain(args.iter().copied());
        Cli::try_parse_from(all)
            .expect("command line")
            .run
            .settings()
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_the_defaults() {
        let dir = tempfile::tempdir().expect("dir");
        let file = dir.path().join("g.toml");
        std::fs::write(
            &file,
            "[listen]\nhttp = [\"127.0.0.1:1\"]\nwss = [\"127.0.0.1:2\"]\n",
        )
        .expect("write");
        let path = file.display().to_string();
        let config = settings(&["--config", &path, "--listen", "127.0.0.1:9"]).expect("sound");
        assert_eq!(config.listen.http, ["127.0.0.1:9"]);
        assert_eq!(config.listen.wss, ["127.0.0.1:2"]);
        assert_eq!(config.session, Config::default().session);
    }

    #[test]
    fn set_takes_numbers_flags_and_lists() {
        let config = settings(&[
            "--set",
            "session.heartbeat_ms=5000",
            "--set",
            "listen.echo=true",
            "--set",
            "listen.wss=127.0.0.1:1,127.0.0.1:2",
        ]);
        let config = config.expect("sound");
        assert_eq!(config.session.heartbeat_ms, 5_000);
        assert!(config.listen.echo);
        assert_eq!(config.listen.wss.len(), 2);
    }

    #[test]
    fn a_mistyped_set_names_the_nearest_key() {
        let err = settings(&["--set", "session.heartbeat=5000"]).expect_err("unknown");
        assert_eq!(
            err.to_string(),
            "unknown key `session.heartbeat`: did you mean `session.heartbeat_ms`?"
        );
        let err = settings(&["--set", "session.heartbeat_ms=soon"]).expect_err("no number");
        assert!(err.to_string().contains("`soon` is no number"), "{err}");
    }

    #[test]
    fn embedded_turns_the_demo_on_unless_told_otherwise() {
        assert!(settings(&["--embedded"]).expect("sound").auth.demo);
        assert!(
            !settings(&["--embedded", "--set", "auth.demo=false"])
                .expect("sound")
                .auth
                .demo
        );
        assert!(!settings(&[]).expect("sound").auth.demo);
    }
}
