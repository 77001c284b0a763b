//! Before the upgrade: what an HTTP client, a slow one and a hostile one are told, over real sockets.

mod support;

use hawser_gateway::backing;
use hawser_gateway::counters::Counter;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::Node;
use support::client::{Stream, Target};

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
const UPGRADE: &str = "Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
const PROTOCOL: &str = "Sec-WebSocket-Protocol: hawser.v1\r\n";

/// Sends bytes and reads to the end of the connection.
fn answer(target: &Target, request: &str) -> String {
    let mut stream = target.open();
    stream
        .write_all(request.as_bytes())
        .expect("the node reads");
    rest(&mut stream)
}

fn rest(stream: &mut Stream) -> String {
    let mut bytes = Vec::new();
    // A TLS stream that ends is an end all the same.
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

fn upgrade(path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\n{UPGRADE}{KEY}{more}\r\n")
}

/// Sends an upgrade that succeeds; the connection stays open, so only the head is read.
fn upgraded(target: &Target, request: &str) -> String {
    let mut stream = target.open();
    stream
        .write_all(request.as_bytes())
        .expect("the node reads");
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

#[test]
fn a_wrong_subprotocol_is_400_with_the_right_ones_named() {
    let node = Node::start();
    for target in [&node.plain, &node.tls] {
        for more in ["", "Sec-WebSocket-Protocol: hawser.v2, chat\r\n"] {
            let answer = answer(target, &upgrade("/v1/ws", more));
            assert_eq!(status(&answer), "400", "{answer}");
            assert!(answer.contains("hawser.v1+json"), "{answer}");
        }
    }
    node.counted(Counter::SubprotocolRefused, 4);
    let json = upgraded(
        &node.plain,
        &upgrade("/v1/ws", "Sec-WebSocket-Protocol: x, hawser.v1+json\r\n"),
    );
    assert_eq!(status(&json), "101", "{json}");
    assert!(
        json.contains("Sec-WebSocket-Protocol: hawser.v1+json\r\n"),
        "{json}"
    );
}

#[test]
fn f25_a_cross_site_upgrade_is_403_and_the_nodes_own_page_is_not() {
    let node = Node::start();
    for origin in [
        "http://evil.example",
        "null",
        "http://127.0.0.1:1",
        "https://localhost.evil.example",
    ] {
        let more = format!("{PROTOCOL}Origin: {origin}\r\n");
        let answer = answer(&node.plain, &upgrade("/v1/ws", &more));
        assert_eq!(status(&answer), "403", "{origin}: {answer}");
    }
    node.counted(Counter::OriginRefused, 4);
    let own = format!(
        "{PROTOCOL}Origin: http://localhost:{}\r\n",
        node.plain.addr.port()
    );
    assert_eq!(
        status(&upgraded(&node.plain, &upgrade("/v1/ws", &own))),
        "101"
    );
    assert_eq!(
        status(&upgraded(&node.tls, &upgrade("/v1/ws", &own))),
        "101"
    );
}

#[test]
fn a_listed_origin_may_connect() {
    let node = Node::with(
        |c| c.listen.origins = vec!["https://chat.example".to_owned()],
        |_| (),
    );
    let more = format!("{PROTOCOL}Origin: https://chat.example\r\n");
    assert_eq!(
        status(&upgraded(&node.tls, &upgrade("/v1/ws", &more))),
        "101"
    );
}

#[test]
fn f25_what_two_readers_could_read_differently_is_400() {
    let node = Node::start();
    for request in [
        format!("GET /v1/ws HTTP/1.1\r\nHost: other\r\n{UPGRADE}{KEY}{PROTOCOL}\r\n"),
        "POST /v1/demo/login HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x".to_owned(),
        "POST /v1/demo/login HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\nHost: a\n\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n".to_owned(),
    ] {
        let answer = answer(&node.plain, &request);
        assert_eq!(status(&answer), "400", "{request:?}: {answer}");
    }
    node.counted(Counter::HttpBad, 6);
}

#[test]
fn f25_oversized_heads_are_431() {
    let node = Node::start();
    let long = format!("X-Long: {}\r\n", "a".repeat(100_000));
    let many = "X: y\r\n".repeat(65);
    for more in [long, many] {
        for target in [&node.plain, &node.tls] {
            let answer = answer(target, &upgrade("/v1/ws", &format!("{PROTOCOL}{more}")));
            assert_eq!(status(&answer), "431", "{answer}");
        }
    }
    node.counted(Counter::HttpHeadTooLarge, 4);
}

#[test]
fn upgrades_that_are_none_say_what_is_wrong() {
    let node = Node::start();
    for (request, code) in [
        (upgrade("/v1/elsewhere", PROTOCOL), "404"),
        (
            format!("POST /v1/ws HTTP/1.1\r\n{UPGRADE}{KEY}{PROTOCOL}\r\n"),
            "405",
        ),
        (
            format!("GET /v1/ws HTTP/1.1\r\nHost: a\r\n{PROTOCOL}\r\n"),
            "426",
        ),
        (
            format!("GET /v1/ws HTTP/1.1\r\n{UPGRADE}{PROTOCOL}Sec-WebSocket-Version: 8\r\n\r\n"),
            "426",
        ),
        (
            format!("GET /v1/ws HTTP/1.1\r\n{UPGRADE}{PROTOCOL}Sec-WebSocket-Version: 13\r\n\r\n"),
            "400",
        ),
    ] {
        let answer = answer(&node.plain, &request);
        assert_eq!(status(&answer), code, "{request:?}: {answer}");
    }
}

#[test]
fn the_echo_path_is_not_there_unless_configured() {
    let node = Node::with(|c| c.listen.echo = false, |_| ());
    assert_eq!(
        status(&answer(&node.plain, &upgrade("/v1/echo", ""))),
        "404"
    );
}

#[test]
fn page_and_api_answer_on_every_listener_with_keep_alive() {
    let node = Node::start();
    for target in [&node.plain, &node.tls] {
        let mut stream = target.open();
        for last in [false, true] {
            let connection = if last { "close" } else { "keep-alive" };
            let request = format!(
                "GET /v1/demo/users HTTP/1.1\r\nHost: a\r\nConnection: {connection}\r\n\r\n"
            );
            stream
                .write_all(request.as_bytes())
                .expect("the node reads");
        }
        let both = rest(&mut stream);
        assert_eq!(both.matches("HTTP/1.1 200 OK").count(), 2, "{both}");
        assert_eq!(both.matches("alice").count(), 2, "{both}");
        let unknown = answer(
            target,
            "GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        );
        assert_eq!(status(&unknown), "404", "{unknown}");
    }
}

#[test]
fn a_head_at_one_byte_a_second_is_408_at_the_deadline() {
    let node = Node::with(|c| c.session.hello_ms = 700, |_| ());
    let begun = Instant::now();
    let mut stream = TcpStream::connect(node.plain.addr).expect("the node listens");
    stream
        .set_read_timeout(Some(Duration::from_millis(100)))
        .expect("an option");
    let mut answer = Vec::new();
    let mut bytes = b"GET / HTTP/1.1\r\nHost: a".iter();
    let ended = loop {
        if let Some(byte) = bytes.next() {
            let _ = stream.write_all(&[*byte]);
        }
        let mut more = [0; 512];
        match stream.read(&mut more) {
            Ok(0) => break true,
            Ok(n) => answer.extend_from_slice(&more[..n]),
            Err(_) if begun.elapsed() > Duration::from_secs(10) => break false,
            Err(_) => {}
        }
    };
    assert!(ended, "the node closes");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert_eq!(status(&answer), "408", "{answer}");
    assert!(begun.elapsed() >= Duration::from_millis(650));
    node.counted(Counter::HandshakeTimeouts, 1);
}

#[test]
fn tls_that_is_none_or_cut_short_is_counted_and_others_do_not_notice() {
    let node = Node::with(|c| c.session.hello_ms = 700, |_| ());
    // Plain HTTP on a TLS port.
    let mut noise = TcpStream::connect(node.tls.addr).expect("the node listens");
    noise
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .expect("the node reads");
    let mut alert = Vec::new();
    let _ = noise.read_to_end(&mut alert);
    assert_eq!(alert.first(), Some(&21), "a TLS alert: {alert:?}");
    // A ClientHello cut in the middle.
    let mut cut = TcpStream::connect(node.tls.addr).expect("the node listens");
    cut.write_all(&[22, 3, 1, 2, 0, 1, 0, 1])
        .expect("the node reads");
    // One that has gone before it is let in is another thing.
    node.counted(Counter::Accepted, 2);
    cut.shutdown(Shutdown::Both).expect("closed");
    node.counted(Counter::TlsFailures, 2);
    // One that never goes on.
    let mut slow = TcpStream::connect(node.tls.addr).expect("the node listens");
    slow.write_all(&[22, 3, 1, 2, 0]).expect("the node reads");
    node.counted(Counter::HandshakeTimeouts, 1);
    // TLS whose stream ends without close_notify.
    let tls = node.tls.open();
    let mut tls = tls;
    tls.write_all(b"GET ").expect("the node reads");
    tls.tcp().shutdown(Shutdown::Write).expect("closed");
    node.counted(Counter::TlsTruncated, 1);
    node.live("alice", "phone");
}

#[test]
fn tls_12_is_refused_unless_configured() {
    let node = Node::start();
    let mut roots = rustls::RootCertStore::empty();
    let path = backing::keys_dir(&node.config).join("self-made.pem");
    roots
        .add(CertificateDer::from_pem_file(path).expect("a certificate"))
        .expect("an anchor");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .expect("a version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let old = Target {
        addr: node.tls.addr,
        tls: Some(Arc::new(config)),
    };
    let mut stream = old.open();
    let refused = stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .and_then(|()| stream.flush());
    assert!(
        refused.is_err() || rest(&mut stream).is_empty(),
        "no answer over TLS 1.2"
    );
    node.counted(Counter::TlsFailures, 1);
}

#[test]
fn a_flood_of_unfinished_handshakes_is_bounded_and_leaves_nothing() {
    let node = Node::with(
        |c| c.session.hello_ms = 1_000,
        |n| n.admission.handshakes_max = 50,
    );
    let idle: Vec<_> = (0..120)
        .filter_map(|_| TcpStream::connect(node.plain.addr).ok())
        .collect();
    assert_eq!(idle.len(), 120, "the backlog takes them");
    // Those that it has no room for wait until the first have run out of time, and are told no less.
    node.counted(Counter::HandshakeTimeouts, 50);
    assert!(node.handle().counters().total(Counter::Accepted) <= 100);
    node.counted(Counter::AcceptPausedHandshakes, 1);
    node.counted(Counter::HandshakeTimeouts, 120);
    drop(idle);
    let deadline = Instant::now() + Duration::from_secs(10);
    while node
        .handle()
        .counters()
        .sum(hawser_gateway::counters::Gauge::Handshakes)
        > 0
    {
        assert!(Instant::now() < deadline, "handshakes stay");
        std::thread::sleep(Duration::from_millis(20));
    }
    node.live("alice", "phone");
}
