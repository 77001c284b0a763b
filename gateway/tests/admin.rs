//! The admin listener: metrics, health, readiness.

mod support;

use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use support::{Node, dm};

fn get(addr: SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(addr).expect("the admin listener");
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("read");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.to_owned(), body.to_owned())
}

fn node() -> (Node, SocketAddr) {
    let node = Node::with(|c| c.listen.admin = "127.0.0.1:0".to_owned(), |_| ());
    let addr = node.handle().admin_addr().expect("an admin listener");
    (node, addr)
}

/// The sum of a metric over its labels.
fn value(text: &str, name: &str) -> f64 {
    let lines = text
        .lines()
        .filter(|l| l.starts_with(&format!("{name}{{")) || l.starts_with(&format!("{name} ")));
    lines
        .filter_map(|l| l.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum()
}

#[test]
fn metrics_count_what_happened_in_the_text_format() {
    let (node, admin) = node();
    let mut alice = node.live("alice", "phone");
    let mut bob = node.live("bob", "laptop");
    let id = alice.send(&dm("alice", "bob"), b"counted");
    assert_eq!(alice.result(id).error, 0);
    bob.deliver();
    let (head, text) = get(admin, "/metrics");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(
        head.to_lowercase()
            .contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    for (name, least) in [
        ("hawser_sessions_opened_total", 2.0),
        ("hawser_upgrades_total", 2.0),
        ("hawser_sends_total", 1.0),
        ("hawser_delivered_total", 1.0),
        ("hawser_ingest_accepted_total", 1.0),
        ("hawser_log_appended_total", 1.0),
        ("hawser_handshake_microseconds_count", 2.0),
        ("process_resident_memory_bytes", 1e6),
        ("process_open_fds", 3.0),
        ("hawser_build_info", 1.0),
    ] {
        assert!(
            value(&text, name) >= least,
            "{name} is {} in\n{text}",
            value(&text, name)
        );
    }
    for line in text.lines() {
        assert!(
            line.starts_with("# ") || line.rsplit_once(' ').is_some(),
            "{line:?}"
        );
    }
    assert!(!text.contains("counted"), "no content in metrics");
}

#[test]
fn histograms_are_cumulative_and_end_with_their_count() {
    let (node, admin) = node();
    node.live("alice", "phone");
    let (_, text) = get(admin, "/metrics");
    let of = |part: &str| {
        let name = format!("hawser_handshake_microseconds{part}{{core=\"0\"");
        let values = text.lines().filter(|l| l.starts_with(&name));
        values
            .filter_map(|l| l.rsplit_once(' ')?.1.parse::<u64>().ok())
            .collect::<Vec<_>>()
    };
    let buckets = of("_bucket");
    assert!(buckets.len() > 20 && buckets.is_sorted(), "{buckets:?}");
    assert_eq!(buckets.last(), of("_count").first());
    assert!(
        text.contains("hawser_handshake_microseconds_bucket{core=\"0\",le=\"+Inf\"}"),
        "{text}"
    );
}

#[test]
fn readiness_ends_with_the_drain_and_health_does_not() {
    let (node, admin) = node();
    let (head, body) = get(admin, "/readyz");
    let ready: Value = serde_json::from_str(&body).expect("JSON");
    assert!(
        head.starts_with("HTTP/1.1 200") && ready["ready"] == true,
        "{head} {body}"
    );
    assert_eq!(get(admin, "/healthz").1, "ok\n");
    node.handle().drain();
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let (head, body) = get(admin, "/readyz");
        let ready: Value = serde_json::from_str(&body).expect("JSON");
        if head.starts_with("HTTP/1.1 503") {
            assert_eq!(ready["reasons"][0], "draining");
            break;
        }
        assert!(Instant::now() < deadline, "{head} {body}");
    }
    assert_eq!(get(admin, "/healthz").1, "ok\n");
    assert!(TcpStream::connect(node.plain.addr).is_err() || node.handle().sessions() == 0);
}
