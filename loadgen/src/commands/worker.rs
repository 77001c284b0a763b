//! `hawser-loadgen worker`: waits for scenarios of a coordinator.

use std::ffi::OsString;
use std::io::{BufRead as _, Write as _};
use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use super::{NO_RUN, USAGE};
use crate::workers::token::Token;
use crate::workers::worker::Worker;

/// Waits for scenarios of a coordinator (`hawser-loadgen scenario FILE --workers ..`) and makes its part of their load, one run after
/// the other. Files that a scenario names (target.key, target.ca) are read on this machine; --key and --ca stand in their place.
///
/// Beyond loopback it listens with a token alone. Both sides prove that they know it without sending it; the connection is not
/// encrypted, so that it belongs into a network of your own. It stops a run when the coordinator is gone, or not heard for 10 s.
///
/// Exit codes: 0 after the run with --once, 2 for a wrong command line, 3 when it cannot listen.
#[derive(Debug, Clone, Parser)]
#[command(after_help = EXAMPLES)]
pub struct WorkerArgs {
    /// Where it waits, HOST:PORT.
    #[arg(long, value_name = "HOST:PORT", required_unless_present = "child")]
    pub listen: Option<String>,
    /// The token whose knowledge makes a coordinator, 16 bytes or more: `openssl rand -hex 32 > workers.token`.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Key or data directory that tokens of users are signed with, in the place of the scenario's target.key.
    #[arg(long, value_name = "PATH")]
    pub key: Option<PathBuf>,
    /// Certificates (PEM) that the server's is checked against, in the place of the scenario's target.ca.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Ends after one run.
    #[arg(long)]
    pub once: bool,
    /// Says nothing but where it listens.
    #[arg(long)]
    pub quiet: bool,
    /// Of a coordinator on this host: the token comes first on standard input, and it ends when that does.
    #[arg(long, hide = true, conflicts_with_all = ["listen", "token_file"])]
    pub child: bool,
}

const EXAMPLES: &str = "\
Examples:
  hawser-loadgen worker --listen 0.0.0.0:7077 --token-file workers.token --key issuer.p8
      on each host that is to make load
  hawser-loadgen scenario evening.toml --workers 10.0.0.11:7077,10.0.0.12:7077 --workers-token-file workers.token
      on the one that coordinates";

/// What ends it at once.
enum Fault {
    Usage(String),
    NoRun(String),
}

/// Waits. `words` begins with the program's name.
#[must_use]
pub fn main(words: Vec<OsString>) -> ExitCode {
    let args = WorkerArgs::parse_from(words);
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Fault::Usage(text)) => {
            eprintln!("hawser-loadgen worker: {text}");
            ExitCode::from(USAGE)
        }
        Err(Fault::NoRun(text)) => {
            eprintln!("hawser-loadgen worker: {text}");
            ExitCode::from(NO_RUN)
        }
    }
}

fn run(args: &WorkerArgs) -> Result<(), Fault> {
    let no_run = |error: std::io::Error| Fault::NoRun(error.to_string());
    let (address, token) = if args.child {
        (
            SocketAddr::from(([127, 0, 0, 1], 0)),
            parent().map_err(no_run)?,
        )
    } else {
        place(args)?
    };
    let listener = TcpListener::bind(address)
        .map_err(|error| Fault::NoRun(format!("--listen {address}: {error}")))?;
    let address = listener.local_addr().map_err(no_run)?;
    if args.child {
        println!("{address}");
    } else {
        println!("listening on {address}");
    }
    std::io::stdout().flush().map_err(no_run)?;
    let worker = Worker {
        token,
        key: args.key.clone(),
        ca: args.ca.clone(),
        once: args.once || args.child,
        quiet: args.quiet || args.child,
    };
    worker
        .serve(listener)
        .map_err(|error| Fault::NoRun(error.to_string()))
}

/// Where it listens, and with which token.
fn place(args: &WorkerArgs) -> Result<(SocketAddr, Token), Fault> {
    let listen = args.listen.as_deref().unwrap_or_default();
    let found = listen.to_socket_addrs().ok().and_then(|mut all| all.next());
    let address = found.ok_or_else(|| {
        Fault::Usage(format!("--listen {listen}: give HOST:PORT of this machine"))
    })?;
    let token = match &args.token_file {
        Some(path) => {
            Token::read(path).map_err(|error| Fault::Usage(format!("--token-file: {error}")))?
        }
        None if address.ip().is_loopback() => Token::none(),
        None => {
            return Err(Fault::Usage(format!(
                "--listen {listen} can be reached from other machines: give --token-file FILE (openssl rand -hex 32 makes a token), or listen on 127.0.0.1"
            )));
        }
    };
    Ok((address, token))
}

/// The token of the process that started this one, which ends with it.
fn parent() -> std::io::Result<Token> {
    let mut secret = String::new();
    std::io::stdin().lock().read_line(&mut secret)?;
    std::thread::Builder::new()
        .name("parent".to_owned())
        .spawn(|| {
            let mut rest = Vec::new();
            // Nothing more comes; the end does.
            let _ = std::io::stdin().lock().read_until(b'\n', &mut rest);
            std::process::exit(0);
        })?;
    Ok(Token::of(secret.trim().as_bytes()))
}
