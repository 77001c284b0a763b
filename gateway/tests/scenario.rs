//! Scenarios of the load generator against nodes of this process: what it does to them, and what it says came of that.

mod support;

use hawser_gateway::counters::Gauge;
use hawser_gateway::node::NodeHandle;
use hawser_gateway::node::config::NodeConfig;
use hawser_loadgen::scenario::crew::{Local, Part};
use hawser_loadgen::scenario::{figures, play, read};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use support::Node;
use support::cluster::{self, eventually};

/// Short, so that the test is.
const LEASE_MS: u64 = 900;

fn member(settings: &mut NodeConfig, name: &str) {
    settings.drain_ms = 8_000;
    settings.admin = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    settings.cluster = cluster::member(name, LEASE_MS);
}

/// Everything measured, and the lines that fail.
fn played(text: &str) -> (BTreeMap<String, f64>, Vec<String>) {
    let scenario = read::scenario(text, "test", &[]).expect("a scenario");
    let part = Part::whole(&scenario);
    let mut crew = Local::start(&scenario, &part, &|| true).expect("a crew");
    let played = play::play(&scenario, &mut crew, &mut |_, _| ());
    let (record, end) = played.expect("it is played");
    let figures = figures::all(&scenario, &record, &end);
    let verdicts = figures::judge(&scenario, &figures);
    let failed = verdicts.iter().filter(|verdict| !verdict.pass);
    let mut told: Vec<String> = failed.map(figures::Verdict::line).collect();
    if !told.is_empty() {
        told.extend(end.failures);
    }
    (figures, told)
}

#[test]
fn a_drain_moves_the_sessions_of_one_of_two_nodes_and_fails_no_send() {
    let a = Node::with(|_| (), |n| member(n, "a"));
    let (b, at_b) = a.beside(|n| member(n, "b"));
    let owned = |handle: &NodeHandle| handle.counters().sum(Gauge::PartitionsOwned);
    eventually("each has its half", || {
        owned(a.handle()) == 8 && owned(&b) == 8
    });
    let admin = |handle: &NodeHandle| handle.admin_addr().expect("an admin listener");
    let expect = |metric: &str, op: &str, value: u32| {
        format!("[[expect]]\nmetric = \"{metric}\"\nop = \"{op}\"\nvalue = {value}\n")
    };
    let text = format!(
        "[target]\nurl = \"ws://{}/v1/ws\"\nalso = [\"{}\"]\nadmin = [\"{}\", \"{}\"]\nkey = \"{}\"\n\
         [sessions]\ncount = 60\nsettle_s = 5\n[[phase]]\nkind = \"ramp\"\nto = 60\nper_second = 60\n\
         [[phase]]\nkind = \"drain\"\ngateway = 0\nseconds = 30\nrate = 30\nbody = 200\n\
         [[phase]]\nkind = \"mix\"\nseconds = 1\nrate = 30\nbody = 200\n{}{}{}{}{}",
        a.plain.addr,
        at_b.addr,
        admin(a.handle()),
        admin(&b),
        a.config.node.data_dir,
        expect("drain.left", "==", 0),
        expect("drain.not_back", "==", 0),
        expect("drain.closed", "==", 0),
        expect("refused", "==", 0),
        expect("mix.sessions", "==", 60),
    );
    let (figures, failed) = played(&text);
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(figures["drain.drained_s"].is_finite(), "{figures:?}");
    assert!(figures["drain.sent_elsewhere"] > 0.0, "{figures:?}");
    assert!(figures["mix.delivered"] > 0.0, "{figures:?}");
    eventually("all is the other's", || owned(&b) == 16);
    b.join().expect("a clean end");
}
