//! From the command line to a running node and back: settings, engines, node, signals, drain.

use crate::accept::listener::BindError;
use crate::backing::{self, Backing, BackingError};
use crate::banner::Banner;
use crate::certs::{self, CertError, Certificates, Source};
use crate::cli::{self, Cli, Command, RunArgs, TokenArgs};
use crate::config::Config;
use crate::config::node::{node_config, sessions_drain_ms};
use crate::node::config::NodeConfig;
use crate::node::{self, NodeHandle, StartError, descriptors, host};
use crate::operate;
use crate::reload::Reloads;
use hawser_fanout::engines::end_by;
use hawser_fanout::settings::{self, SettingsError};
use hawser_protocol::ids::{DeviceId, UserId};
use hawser_ring::Ring;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;

/// A client that was sent here before the others heard that this node drains comes within this time, mostly.
const ON_THEIR_WAY: Duration = Duration::from_millis(1_500);
/// How often a drain looks whether the sessions have gone.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// An end may always take so long, for engines to be closed in order.
const END_MIN: Duration = Duration::from_secs(2);

/// Why the program ends with another code than 0; each says the way out.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Command line or configuration.
    #[error("{0}")]
    Settings(#[from] SettingsError),
    /// A value of the command line.
    #[error("{0}")]
    Argument(String),
    /// Certificate or key.
    #[error("{0}")]
    Certificate(#[from] CertError),
    /// TLS itself.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// Engines, keys, secrets.
    #[error("{0}")]
    Backing(#[from] BackingError),
    /// The node.
    #[error("{0}")]
    Start(#[from] StartError),
    /// While running.
    #[error("{0}")]
    Running(String),
}

impl Failure {
    /// As `--help` says.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Settings(_) | Self::Argument(_) | Self::Certificate(_) | Self::Tls(_) => 2,
            Self::Backing(error) => match error {
                BackingError::Engines(error) => error.exit_code(),
                BackingError::Tokens(error) => error.exit_code(),
                BackingError::Settings(_)
                | BackingError::Secret { .. }
                | BackingError::Issuer(_) => 2,
                BackingError::NoDirectory { .. } | BackingError::Ingest(_) => 5,
                BackingError::Thread(_) => 1,
            },
            Self::Start(error) => match error {
                StartError::NoIoUring(_) => 3,
                StartError::Bind(BindError::PlainBeyondLoopback { .. }) => 2,
                StartError::Bind(_) => 4,
                _ => 1,
            },
            Self::Running(_) => 1,
        }
    }
}

/// Does what the command line says; errors are written to standard error.
#[must_use]
pub fn main(args: &Cli) -> ExitCode {
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let mut stderr = io::stderr().lock();
            // Nobody is left to tell where that fails.
            let _ = writeln!(stderr, "hawser-gateway: {failure}");
            ExitCode::from(failure.code())
        }
    }
}

fn run(args: &Cli) -> Result<(), Failure> {
    match &args.command {
        Some(Command::ConfigReference) => {
            print(cli::reference());
            return Ok(());
        }
        Some(Command::Token(token)) => return print_token(&args.run, token),
        Some(Command::Operate(operation)) => return operate::run(&args.run, operation),
        None => {}
    }
    let config = args.run.settings()?;
    if args.run.print_config {
        print(settings::print(&config));
        return Ok(());
    }
    if args.run.check_config {
        print("the configuration is sound\n");
        return Ok(());
    }
    if let Some(key) = config.engine_sections().embedded().first()
        && !args.run.embedded
    {
        let text = format!(
            "{key} is `embedded`, which is for one process that does everything: run with --embedded, or name the real \
             engine there (docs/running.md)"
        );
        return Err(Failure::Argument(text));
    }
    serve(&config)
}

/// Runs the node until a signal ends it.
fn serve(config: &Config) -> Result<(), Failure> {
    start_output(config)?;
    // Before anything is made: without io_uring there is nothing to serve.
    Ring::probe().map_err(StartError::NoIoUring)?;
    backing::make_data_dir(config)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let certificates = Certificates::open(certificate_source(config), provider.clone())?;
    let tls = certs::server_config(certificates.clone(), provider, config.tls.tls12)?;
    let descriptors = descriptors::raise();
    let mut backing = Backing::open(config)?;
    let node_config = node_config(config, &tls, backing.resume_key, descriptors)?;
    tell_of_host(config, &node_config, descriptors);
    let started = node::start(
        node_config,
        backing.services.clone(),
        backing.verifier.clone(),
    );
    let node = match started {
        Ok(node) => node,
        Err(error) => {
            backing.close();
            return Err(error.into());
        }
    };
    backing.follow_revocations(node.rechecker())?;
    let banner = Banner {
        config,
        node: &node,
        certificates: &certificates,
        recovery: &backing.recovery(),
    };
    print(banner.to_string());
    let reloads = Reloads {
        certificates,
        verifier: backing.verifier.clone(),
    };
    let every = Duration::from_millis(config.tls.reload_ms);
    let whole = Duration::from_millis(config.node.drain_ms).max(END_MIN);
    let drain = Duration::from_millis(sessions_drain_ms(config));
    let waited = wait(&node, &reloads, every, drain, whole);
    let joined = node.join().map_err(Failure::Running);
    drop(reloads);
    backing.close();
    waited.and(joined)
}

/// Says what of the kernel holds the node back; one that does everything by itself is for trying things out.
fn tell_of_host(config: &Config, node: &NodeConfig, descriptors: u64) {
    let alone = !config.engine_sections().embedded().is_empty();
    for finding in host::findings(Path::new("/"), node, descriptors) {
        let knob = finding.knob;
        match alone {
            true => tracing::debug!(knob, "{finding}"),
            false => tracing::warn!(
                knob,
                "held back: {finding} (kernel-tuning/tune verify --profile edge)"
            ),
        }
    }
}

/// Serves signals until the node is to stop, and drained.
fn wait(
    node: &NodeHandle,
    reloads: &Reloads,
    every: Duration,
    drain: Duration,
    whole: Duration,
) -> Result<(), Failure> {
    runtime()?.block_on(async {
        let mut signals = Signals::new().map_err(|e| Failure::Running(format!("signals: {e}")))?;
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                wish = signals.next() => match wish {
                    Wish::End => break,
                    Wish::Reload => {
                        tracing::info!("SIGHUP: certificates, keys and revocations are read again");
                        reloads.verifier.refresh();
                        reloads.reload(node);
                    }
                },
                _ = ticks.tick() => reloads.reload(node),
                () = node.end_asked() => break,
                reason = node.ended() => return Err(Failure::Running(reason)),
            }
        }
        tracing::info!(sessions = node.sessions(), "draining");
        end_by(whole);
        node.drain();
        let begun = Instant::now();
        let ends = |after: Duration| begun.elapsed() >= after;
        // Others may have sent clients here before they heard of it: these are told where to go.
        let done = || {
            let left = node.left();
            left.is_nothing() && (left.others == 0 || ends(ON_THEIR_WAY))
        };
        while !(done() || ends(drain)) {
            tokio::select! {
                wish = signals.next() => if wish == Wish::End { break },
                () = tokio::time::sleep(DRAIN_LOOK) => {}
            }
        }
        tracing::info!(left = node.sessions(), "drained");
        Ok(())
    })
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Returns when a signal comes.
    async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::End,
            _ = self.interrupt.recv() => Wish::End,
            _ = self.hangup.recv() => Wish::Reload,
        }
    }
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    End,
    Reload,
}

fn print_token(run: &RunArgs, args: &TokenArgs) -> Result<(), Failure> {
    let config = run.settings()?;
    let wrong = |what: &str, e: &dyn std::fmt::Display| Failure::Argument(format!("--{what}: {e}"));
    let user = UserId::new(&args.user).map_err(|e| wrong("user", &e))?;
    let device = DeviceId::new(&args.device).map_err(|e| wrong("device", &e))?;
    let issuer = backing::issuer(&config)?;
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let now_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    let token = issuer.issue(&user, Some(&device), args.ttl_s, args.admin_scope, now_ms);
    print(format!("{token}\n"));
    Ok(())
}

pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::Running(e.to_string()))
}

fn certificate_source(config: &Config) -> Source {
    let tls = &config.tls;
    if tls.cert.is_empty() {
        return Source::SelfMade {
            dir: backing::keys_dir(config),
            names: tls.names.clone(),
        };
    }
    Source::Files {
        cert: PathBuf::from(&tls.cert),
        key: PathBuf::from(&tls.key),
    }
}

/// Structured logs, to standard error.
fn start_output(config: &Config) -> Result<(), Failure> {
    let filter = tracing_subscriber::EnvFilter::try_new(&config.output.filter).map_err(|e| {
        SettingsError::Contradiction {
            key: "output.filter".to_owned(),
            reason: e.to_string(),
        }
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    let installed = match config.output.format.as_str() {
        "json" => builder.json().try_init(),
        _ => builder.with_target(false).try_init(),
    };
    installed.map_err(|e| Failure::Running(e.to_string()))
}

pub(crate) fn print(text: impl AsRef<str>) {
    let mut stdout = io::stdout().lock();
    // A closed pipe is the reader's choice.
    let _ = stdout.write_all(text.as_ref().as_bytes());
    let _ = stdout.flush();
}

#[cfg(test)]
mod tests {
    use super::*;
    use hawser_fanout::engines::{EngineError, OpenEnginesError};
    use hawser_ring::RingError;

    #[test]
    fn every_failure_has_the_code_that_help_says() {
        let dir = PathBuf::from("d");
        let io = || io::Error::from(io::ErrorKind::PermissionDenied);
        let addr = "127.0.0.1:1".parse().expect("an address");
        let bind = |error| Failure::Start(StartError::Bind(error));
        let (log, key) = ("log", "log.bootstrap");
        let absent = EngineError::Absent {
            engine: log,
            key,
            waited_s: 0,
            reason: String::new(),
        };
        let refused = EngineError::Refused {
            engine: log,
            key,
            reason: String::new(),
        };
        let engine = |error| Failure::Backing(BackingError::Engines(OpenEnginesError::from(error)));
        for (failure, code) in [
            (Failure::Argument(String::new()), 2),
            (
                Failure::Start(StartError::NoIoUring(RingError::Unsupported("a thing"))),
                3,
            ),
            (bind(BindError::Taken { addr }), 4),
            (bind(BindError::PlainBeyondLoopback { addr }), 2),
            (
                Failure::Backing(BackingError::NoDirectory { dir, source: io() }),
                5,
            ),
            (engine(absent), 6),
            (engine(refused), 2),
            (Failure::Running(String::new()), 1),
        ] {
            assert_eq!(failure.code(), code, "{failure}");
        }
    }
}
