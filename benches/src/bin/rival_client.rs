//! The neutral client of `dev/rivals`: one load for Hawser and for others, and the table of what it found.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand};
use hawser_benches::rivals::conduct::{self, Wish};
use hawser_benches::rivals::outcome::{About, Outcome, Scenario};
use hawser_benches::rivals::shared::{CONNECTIONS_PER_THREAD_MAX, Plan, Shared};
use hawser_benches::rivals::speech::Dialect;
use hawser_benches::rivals::{group, plot, table, tls};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rest before memory is read.
const IDLE: Duration = Duration::from_secs(2);

/// One load for Hawser and other servers of WebSocket, and the table of what it found.
#[derive(Debug, Parser)]
#[command(name = "hawser-rival-client", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes the certificate that all servers use.
    Certificate {
        /// Folder of cert.pem and key.pem.
        folder: PathBuf,
    },
    /// Measures one server that runs already; the outcome is one line of JSON.
    Run(Box<Run>),
    /// Makes the tables and the plot of outcomes.
    Table {
        /// Lines of JSON that `run` printed.
        outcomes: PathBuf,
        /// What was measured where: JSON.
        #[arg(long)]
        about: PathBuf,
        /// Folder that gets rivals.md, rivals.json and rivals.svg.
        #[arg(long)]
        out: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Run {
    /// Name of the server.
    #[arg(long)]
    server: String,
    /// Its version.
    #[arg(long, default_value = "")]
    server_version: String,
    /// Its process; those that descend from it are counted too.
    #[arg(long)]
    pid: u32,
    /// Where it listens; loopback only.
    #[arg(long)]
    address: SocketAddr,
    /// What it speaks.
    #[arg(long, value_enum)]
    dialect: Dialect,
    /// Folder of the certificate: connections are of TLS.
    #[arg(long)]
    tls: Option<PathBuf>,
    /// Hawser's API, http://HOST:PORT.
    #[arg(long)]
    api: Option<String>,
    /// Hawser's data directory, for tokens.
    #[arg(long)]
    key: Option<PathBuf>,
    /// Subscribers.
    #[arg(long, short = 'n', default_value_t = 10_000)]
    recipients: u32,
    /// Members of pairs beside them.
    #[arg(long, default_value_t = 100)]
    pair_members: u32,
    /// Connections opened per second.
    #[arg(long, default_value_t = 500)]
    ramp: u32,
    /// Deliveries per second of fan-outs and bursts.
    #[arg(long, default_value_t = 20_000.0)]
    rate: f64,
    /// Messages per second of pairs.
    #[arg(long, default_value_t = 500.0)]
    pair_rate: f64,
    /// Length of each scenario, seconds.
    #[arg(long, default_value_t = 8.0)]
    seconds: f64,
    /// Sizes of bodies, bytes.
    #[arg(long, value_delimiter = ',', default_values_t = [200, 5_120])]
    bodies: Vec<usize>,
    /// How long an acknowledgement of Hawser's protocol waits for company, milliseconds: its client library's delay.
    #[arg(long, default_value_t = 40)]
    ack_ms: u64,
    /// Round, for the table.
    #[arg(long, default_value_t = 1)]
    round: u32,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Certificate { folder } => tls::certificate(&folder),
        Command::Run(run) => {
            let outcome = measure(&run)?;
            println!("{}", serde_json::to_string(&outcome)?);
            Ok(())
        }
        Command::Table {
            outcomes,
            about,
            out,
        } => {
            let text = std::fs::read_to_string(&outcomes)
                .with_context(|| outcomes.display().to_string())?;
            let outcomes: Vec<Outcome> = text
                .lines()
                .map(serde_json::from_str)
                .collect::<Result<_, _>>()?;
            let about: About = serde_json::from_str(&std::fs::read_to_string(about)?)?;
            std::fs::create_dir_all(&out)?;
            let markdown = table::markdown(&outcomes, &about);
            println!("{markdown}");
            std::fs::write(out.join("rivals.md"), markdown)?;
            let json = serde_json::json!({"about": about, "outcomes": outcomes});
            std::fs::write(
                out.join("rivals.json"),
                serde_json::to_string_pretty(&json)?,
            )?;
            std::fs::write(out.join("rivals.svg"), plot::costs(&outcomes))?;
            Ok(())
        }
    }
}

fn measure(run: &Run) -> anyhow::Result<Outcome> {
    if !run.address.ip().is_loopback() {
        bail!("--address {}: load goes to loopback alone", run.address);
    }
    let setting = match (&run.api, &run.key) {
        (Some(api), Some(key)) => Some(Arc::new(group::setting(api, key, run.recipients)?)),
        _ => None,
    };
    let connections = run.recipients + 1 + run.pair_members;
    let plan = Plan {
        address: run.address,
        tls: run.tls.as_deref().map(tls::client).transpose()?.flatten(),
        dialect: run.dialect,
        setting,
        recipients: run.recipients,
        pair_members: run.pair_members.next_multiple_of(2),
        ramp: run.ramp,
        ack_ms: run.ack_ms,
        threads: connections.div_ceil(CONNECTIONS_PER_THREAD_MAX),
    };
    let wish = Wish {
        server: run.server.clone(),
        version: run.server_version.clone(),
        round: run.round,
        pid: run.pid,
        rate: run.rate,
        pair_rate: run.pair_rate,
        bodies: run.bodies.clone(),
        scenarios: Scenario::ALL.to_vec(),
        seconds: run.seconds,
        idle: IDLE,
    };
    conduct::run(&Arc::new(Shared::new(plan)?), &wish)
}
