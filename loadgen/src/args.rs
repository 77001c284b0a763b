//! The command line of `hawser-loadgen`.

use clap::{Parser, ValueEnum};
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// Opens many sessions to a Hawser gateway, sends messages by an open-loop schedule, measures latencies
/// free of coordinated omission, and checks that nothing acknowledged was lost, duplicated or reordered.
///
/// Sessions are driven by io_uring with direct descriptors, so one process holds more connections than its
/// descriptor limit. Users are named PREFIX0, PREFIX1, …; pairs (0,1), (2,3), … talk 1:1, and every
/// --group-size users in a row share a group.
///
/// Exit codes: 0 clean, 1 when messages were lost, duplicated or reordered (or --fail-* bounds are broken),
/// 2 for a wrong command line, 3 when the run could not be made.
#[derive(Debug, Clone, Parser)]
#[command(name = "hawser-loadgen", version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Args {
    /// Where to connect, ws:// or wss://. Load goes to loopback addresses unless --anywhere is given.
    #[arg(long, default_value = "wss://127.0.0.1:8443/v1/ws")]
    pub url: String,
    /// More gateways of the same cluster, HOST:PORT; users are spread over all of them, and one whose connection failed tries
    /// the next.
    #[arg(long, value_delimiter = ',', value_name = "HOST:PORT")]
    pub also: Vec<String>,
    /// HTTP API, for users and groups.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub api: String,
    /// Ed25519 key that tokens are signed with: a PKCS#8 file (DER or PEM), or the data directory of an embedded gateway,
    /// which keeps its own there.
    #[arg(long, visible_alias = "data-dir", value_name = "PATH")]
    pub key: PathBuf,
    /// `kid` of that key; default: as an embedded gateway derives it.
    #[arg(long)]
    pub kid: Option<String>,
    /// `iss` of the tokens.
    #[arg(long, default_value = "hawser-embedded")]
    pub issuer: String,
    /// `aud` of the tokens.
    #[arg(long, default_value = "hawser")]
    pub audience: String,
    /// `tenant` of the tokens.
    #[arg(long, default_value = "default")]
    pub tenant: String,
    /// Certificates (PEM) that the server's is checked against; default: none on loopback.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Sessions to open.
    #[arg(long, short = 'n', default_value_t = 1_000)]
    pub connections: u32,
    /// Sessions to open per second; the handshakes are spread evenly.
    #[arg(long, default_value_t = 1_000)]
    pub ramp: u32,
    /// Messages per second over all sessions.
    #[arg(long, default_value_t = 100.0)]
    pub rate: f64,
    /// Seconds of load after the ramp.
    #[arg(long, default_value_t = 30)]
    pub duration_s: u64,
    /// The load ends as soon as this file exists, when that is before its seconds are over: for whoever cannot know beforehand.
    #[arg(long, value_name = "FILE")]
    pub until: Option<PathBuf>,
    /// Body of a message, bytes.
    #[arg(long, default_value_t = 5_120)]
    pub body: usize,
    /// Share of messages that go to groups, 0 to 1.
    #[arg(long, default_value_t = 0.1)]
    pub group_share: f64,
    /// Members of each group.
    #[arg(long, default_value_t = 20)]
    pub group_size: u32,
    /// Further members of each group, who never connect: with enough of them it is a giant group.
    #[arg(long, default_value_t = 0)]
    pub away_members: u32,
    /// Share of deliveries answered by a read receipt, 0 to 1.
    #[arg(long, default_value_t = 0.1)]
    pub receipt_share: f64,
    /// Typing signals per message, 0 to 1.
    #[arg(long, default_value_t = 0.1)]
    pub typing_share: f64,
    /// How arrivals are spaced.
    #[arg(long, value_enum, default_value_t = Arrivals::Poisson)]
    pub arrivals: Arrivals,
    /// Threads, each with its own ring; at least one per 16,000 sessions, which is what a ring's table holds here.
    #[arg(long, default_value_t = 1)]
    pub threads: u16,
    /// Source addresses to spread connections over (28,000 per address and port); default: on loopback, one of 127.0.0.0/8
    /// per 10,000 sessions.
    #[arg(long, value_delimiter = ',')]
    pub source: Vec<Ipv4Addr>,
    /// Heartbeat asked for in Hello, milliseconds; 0: the server's default.
    #[arg(long, default_value_t = 0)]
    pub heartbeat_ms: u32,
    /// Each session sends once, gets one delivery, acknowledges and pings once right after the ramp
    /// (what "idle" means when memory is measured); with --server-pid, memory is then sampled at two counts of sessions.
    #[arg(long)]
    pub warm: bool,
    /// After the load, keep all sessions open for so many seconds without messages.
    #[arg(long, default_value_t = 0)]
    pub hold_s: u64,
    /// Outstanding answers and deliveries are waited for at the end until none came for so many seconds, or ten times as long in all.
    #[arg(long, default_value_t = 20)]
    pub settle_s: u64,
    /// The number in the name of the first user: of one process of several.
    #[arg(skip)]
    pub first_user: u32,
    /// Prefix of the users' names.
    #[arg(long, default_value = "load")]
    pub prefix: String,
    /// Seed of the schedule.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Writes the result as JSON, `-` for standard output.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Writes what every client did and saw into this folder, and reads every chat back at the end; `hawser-loadgen check DIR`
    /// judges it, docs/reliability.md says how.
    #[arg(long, value_name = "DIR")]
    pub history: Option<PathBuf>,
    /// Bound of that history over all threads, MiB; a history that reached it proves nothing, and says so.
    #[arg(long, default_value_t = 4_096, value_name = "MIB")]
    pub history_mib: u64,
    /// Offers permessage-deflate and compresses what gets smaller by it; bodies compress to a half then, as text does.
    #[arg(long)]
    pub deflate: bool,
    /// Process to read memory and CPU time of (the gateway's pid).
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,
    /// Fails when the p99 of Send → Deliver is above this, milliseconds.
    #[arg(long)]
    pub fail_p99_ms: Option<f64>,
    /// No progress bars.
    #[arg(long)]
    pub quiet: bool,
    /// Allows targets beyond loopback. Only for servers of your own.
    #[arg(long)]
    pub anywhere: bool,
}

/// How arrivals are spaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Arrivals {
    /// Independent arrivals, as many people make them.
    Poisson,
    /// Evenly spaced.
    Even,
}

const EXAMPLES: &str = "\
Other things it does; each has its own --help:
  hawser-loadgen check DIR      judges a history, offline
  hawser-loadgen churn          connections broken off at the worst moments, and what is left of them
  hawser-loadgen storm          everybody cut off at once, and how they come back
  hawser-loadgen latency        the table of latencies by rate and body, stage by stage
  hawser-loadgen scenario FILE  phases and what has to come of them, from a file; a report to print (docs/loadgen.md)
  hawser-loadgen worker         waits for scenarios of a coordinator, so that several hosts make one load
  hawser-loadgen plan           how many nodes a load needs, with every formula; no server is needed

Examples:
  hawser-loadgen --key hawser-data -n 1000 --rate 200
      a thousand sessions against `hawser-gateway --embedded`
  hawser-loadgen --key hawser-data -n 20000 --rate 1000 --duration-s 600 --json result.json
      the ten-minute soak with 20,000 TLS sessions
  hawser-loadgen plan --preset 20m --html plan.html
      what 20 million daily users need, as a page to print
  hawser-loadgen scenario examples/scenarios/evening.toml --set target.key=hawser-data --html report.html
      an evening's load with pass and FAIL lines, and a report to attach to an order";

impl Args {
    /// What is wrong with the command line, if anything.
    ///
    /// # Errors
    /// Names the flag and the way out.
    pub fn check(&self) -> Result<(), String> {
        let share = |name: &str, value: f64| {
            if (0.0..=1.0).contains(&value) {
                Ok(())
            } else {
                Err(format!("--{name} {value} is not between 0 and 1"))
            }
        };
        share("group-share", self.group_share)?;
        share("receipt-share", self.receipt_share)?;
        share("typing-share", self.typing_share)?;
        if self.connections < 2 || !self.connections.is_multiple_of(2) {
            return Err(
                "--connections must be even and at least 2: people talk in pairs".to_owned(),
            );
        }
        if self.body > hawser_protocol::limits::BODY_BYTES_MAX {
            return Err(format!(
                "--body {} is above the protocol's limit of {}",
                self.body,
                hawser_protocol::limits::BODY_BYTES_MAX
            ));
        }
        if self.rate.is_nan() || self.rate < 0.0 || self.ramp == 0 || self.threads == 0 {
            return Err(
                "--rate must not be negative, and --ramp and --threads must not be zero".to_owned(),
            );
        }
        if !(1..=1_048_576).contains(&self.history_mib) {
            return Err(format!(
                "--history-mib {} is not between 1 and 1048576",
                self.history_mib
            ));
        }
        if self.group_share > 0.0 && !(2..=1_000).contains(&self.group_size) {
            return Err(format!(
                "--group-size {} is not between 2 and 1000",
                self.group_size
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(extra: &[&str]) -> Result<(), String> {
        let base = ["hawser-loadgen", "--key", "k.pem"];
        Args::try_parse_from(base.iter().chain(extra))
            .expect("parses")
            .check()
    }

    #[test]
    fn impossible_wishes_are_named() {
        assert_eq!(check(&[]), Ok(()));
        assert!(
            check(&["--body", "100000"])
                .expect_err("body")
                .contains("61440")
        );
        assert!(
            check(&["--group-share", "1.5"])
                .expect_err("share")
                .contains("--group-share")
        );
        assert!(check(&["-n", "1"]).expect_err("one").contains("pairs"));
    }
}
