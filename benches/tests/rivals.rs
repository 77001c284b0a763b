//! The neutral client against the rival that needs no package: a second of everything, plain and with TLS.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use hawser_benches::rivals::conduct::{self, Wish};
use hawser_benches::rivals::outcome::{About, Outcome, Scenario};
use hawser_benches::rivals::shared::{Plan, Shared};
use hawser_benches::rivals::speech::Dialect;
use hawser_benches::rivals::{table, tls};

/// Ends the server whatever a test does.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn outcome(certificates: Option<&Path>) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hawser-rival-tungstenite"));
    command.args(["--listen", "127.0.0.1:0"]);
    if let Some(folder) = certificates {
        command.arg("--tls").arg(folder);
    }
    let child = command.stdout(Stdio::piped()).spawn().expect("starts");
    let mut server = Server(child);
    let mut line = String::new();
    let stdout = server.0.stdout.take().expect("a pipe");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    let address = line.trim().rsplit(' ').next().expect("an address");
    let plan = Plan {
        address: address.parse().expect("an address"),
        tls: certificates.and_then(|folder| tls::client(folder).expect("a certificate")),
        dialect: Dialect::Raw,
        setting: None,
        recipients: 50,
        pair_members: 4,
        ramp: 200,
        ack_ms: 40,
        threads: 2,
    };
    let wish = Wish {
        server: "tungstenite".to_owned(),
        version: "test".to_owned(),
        round: 1,
        pid: server.0.id(),
        rate: 5_000.0,
        pair_rate: 100.0,
        bodies: vec![200, 5_120],
        scenarios: Scenario::ALL.to_vec(),
        seconds: 0.3,
        idle: Duration::from_millis(50),
    };
    let shared = Arc::new(Shared::new(plan).expect("bounds of a histogram"));
    conduct::run(&shared, &wish).expect("a run")
}

fn judge(outcome: &Outcome) {
    assert_eq!(outcome.gave_up, None);
    assert_eq!(outcome.lost, 0, "{:?}", outcome.faults);
    assert!(outcome.faults.is_empty(), "{:?}", outcome.faults);
    assert!(outcome.connections.is_some());
    assert_eq!(outcome.cells.len(), 6);
    for cell in &outcome.cells {
        assert_eq!(cell.delivered, cell.expected, "{cell:?}");
        let each = match cell.scenario {
            Scenario::Fanout => 50,
            Scenario::Burst => 400,
            Scenario::Pair => 1,
        };
        assert!(cell.expected >= 3 * each && cell.expected.is_multiple_of(each));
        assert!(cell.p50_ms > 0.0 && cell.p50_ms <= cell.p99_ms, "{cell:?}");
    }
}

#[test]
fn everything_that_is_said_is_heard_once_plain_and_with_tls() {
    let folder = tempfile::tempdir().expect("a folder");
    tls::certificate(folder.path()).expect("a certificate");
    let outcomes = [outcome(None), outcome(Some(folder.path()))];
    outcomes.iter().for_each(judge);
    assert!(!outcomes[0].tls && outcomes[1].tls);
    let text = table::markdown(&outcomes, &About::default());
    assert!(text.contains("TLS 1.3, 50 recipients"), "{text}");
    assert!(!text.contains("What went wrong"), "{text}");
}

#[test]
fn a_server_that_is_not_there_is_an_outcome_and_no_failure() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port");
    let plan = Plan {
        address: port,
        tls: None,
        dialect: Dialect::Nats,
        setting: None,
        recipients: 4,
        pair_members: 2,
        ramp: 100,
        ack_ms: 40,
        threads: 1,
    };
    let wish = Wish {
        server: "none".to_owned(),
        version: String::new(),
        round: 1,
        pid: std::process::id(),
        rate: 10.0,
        pair_rate: 10.0,
        bodies: vec![200],
        scenarios: Scenario::ALL.to_vec(),
        seconds: 0.1,
        idle: Duration::from_millis(50),
    };
    let shared = Arc::new(Shared::new(plan).expect("bounds of a histogram"));
    let outcome = conduct::run(&shared, &wish).expect("a run");
    assert!(outcome.gave_up.is_some());
    assert!(outcome.lost > 0);
    let line = serde_json::to_string(&outcome).expect("JSON");
    let back: Outcome = serde_json::from_str(&line).expect("reads back");
    assert_eq!(back, outcome);
}
