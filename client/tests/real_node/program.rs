//! The program `hawser`, as scripts use it.

use crate::node::Node;
use serde_json::Value;
use std::process::{Command, Output};

fn hawser(node: &Node, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hawser"));
    command.args(args).env("HAWSER_URL", node.url());
    command.env("HAWSER_DATA_DIR", node.clients());
    command.output().expect("hawser runs")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn send_says_by_its_exit_code_what_became_of_the_message() {
    let Some(mut node) = Node::start() else {
        return;
    };
    let sent = hawser(
        &node,
        &["send", "-u", "alice", "-t", "bob", "--json", "one"],
    );
    assert_eq!(sent.status.code(), Some(0), "{sent:?}");
    let line: Value = serde_json::from_str(&out(&sent)).expect("json");
    assert_eq!(
        (&line["event"], &line["body"]),
        (&"sent".into(), &"one".into())
    );

    let refused = hawser(
        &node,
        &["send", "-u", "alice", "-t", "g:nowhere", "--json", "x"],
    );
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let line: Value = serde_json::from_str(&out(&refused)).expect("json");
    assert_eq!(
        (&line["event"], &line["code"]),
        (&"refused".into(), &30.into())
    );

    node.kill();
    let kept = hawser(
        &node,
        &["send", "-u", "alice", "-t", "bob", "--wait", "1", "two"],
    );
    assert_eq!(kept.status.code(), Some(3), "{kept:?}");
    let why = String::from_utf8_lossy(&kept.stderr).into_owned();
    assert!(
        why.contains("kept for the next start: cannot reach"),
        "{why}"
    );

    node.up();
    let both = hawser(&node, &["send", "-u", "alice", "-t", "bob", "three"]);
    assert_eq!(both.status.code(), Some(0), "{both:?}");
    let heard = hawser(
        &node,
        &[
            "listen", "-u", "bob", "--json", "--chat", "alice", "--count", "3", "--for", "60",
        ],
    );
    let lines = out(&heard);
    let events = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("json"));
    let bodies: Vec<Value> = events
        .filter(|e| e["event"] == "message")
        .map(|e| e["body"].clone())
        .collect();
    assert_eq!(bodies, ["one", "two", "three"]);
}

#[test]
fn a_login_prints_a_token_that_connects() {
    let Some(node) = Node::start() else { return };
    let login = hawser(&node, &["login", "-u", "carol", "--device", "script"]);
    assert_eq!(login.status.code(), Some(0), "{login:?}");
    let token = out(&login).trim().to_owned();
    let sent = hawser(
        &node,
        &["send", "--token", &token, "-t", "carol", "note to self"],
    );
    assert_eq!(sent.status.code(), Some(0), "{sent:?}");
    let junk = hawser(&node, &["send", "--token", "junk", "-t", "carol", "x"]);
    assert_eq!(junk.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&junk.stderr).contains("no JWT"));
}

#[test]
fn chat_needs_a_terminal_and_says_so() {
    let Some(node) = Node::start() else { return };
    let chat = hawser(&node, &["chat", "-u", "alice"]);
    assert_eq!(chat.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&chat.stderr).contains("needs a terminal"));
}
