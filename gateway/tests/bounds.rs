//! Memory has bounds (G7), and silence has an end.

mod support;

use hawser_gateway::counters::{Counter, Gauge};
use hawser_protocol::frame::ClientFrame;
use hawser_protocol::pb;
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use support::client::{Client, Closed};
use support::{Node, dm};

/// Resident bytes of this process, the node in it included.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("a Linux");
    let pages: usize = statm
        .split(' ')
        .nth(1)
        .expect("resident")
        .parse()
        .expect("a number");
    pages * 4_096
}

/// Writes until the socket takes nothing for a moment; bytes written.
fn pour(client: &mut Client, bytes: &[u8], rounds: usize) -> usize {
    let tcp = client.socket.get_ref().tcp();
    tcp.set_write_timeout(Some(Duration::from_millis(50)))
        .expect("an option");
    let mut written = 0;
    for _ in 0..rounds {
        match client.socket.get_mut().write(bytes) {
            Ok(n) if n == bytes.len() => written += n,
            // A cut message would be another fault than the one of this test: stop here.
            Ok(_) => break,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(_) => break,
        }
    }
    written
}

#[test]
fn g7_clients_that_ask_and_never_read_cost_no_more_than_a_full_node() {
    const SESSIONS: usize = 60;
    let node = Node::with(
        |c| c.node.max_sessions = u32::try_from(SESSIONS + 1).expect("small"),
        |n| {
            n.session.bytes_per_second = 1 << 30;
            n.session.sends_burst = 1_000;
            // Beyond what the kernel takes, so that what waits here is at its bound.
            n.session.window_bytes = 16 << 20;
            n.socket.send_buffer_bytes = 16_384;
        },
    );
    let mut alice = node.live("alice", "phone");
    let mut frozen: Vec<Client> = (0..SESSIONS)
        .map(|i| node.live("bob", &format!("frozen{i}")))
        .collect();
    for client in &mut frozen {
        client.auto_ack = false;
    }
    // The configured maximum: every place taken, every window full and nobody reads.
    for _ in 0..200 {
        let id = alice.send(&dm("alice", "bob"), &[0x55; 30_000]);
        assert_eq!(alice.result(id).error, 0);
    }
    node.counted(Counter::Lagged, SESSIONS as u64);
    let full = resident();
    let pings: Vec<u8> = [
        0x89, 0x8a, 0, 0, 0, 0, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57,
    ]
    .repeat(1_000);
    for client in &mut frozen {
        pour(client, &pings, 200);
    }
    let _crowd: Vec<TcpStream> = (0..300)
        .map(|_| TcpStream::connect(node.plain.addr).expect("the backlog"))
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    let attacked = resident();
    assert!(
        attacked <= full + full / 5,
        "{attacked} bytes under attack, {full} at the configured maximum"
    );
    assert!(node.handle().counters().sum(Gauge::Sessions) <= SESSIONS as u64 + 1);
    let id = alice.send(&dm("alice", "carol"), b"nobody else notices");
    assert_eq!(alice.result(id).error, 0);
}

#[test]
fn silence_of_one_and_a_half_heartbeats_closes_and_a_ping_prevents_it() {
    let node = Node::with(|_| (), |n| n.session.heartbeat_ms = 5_000);
    let mut silent = node.live("alice", "silent");
    let mut pinging = node.live("alice", "pinging");
    assert_eq!(silent.welcome.heartbeat_ms, 5_000);
    let began = Instant::now();
    let ping = ClientFrame::Ping(pb::Ping {
        offset: None,
        client_time_ms: 7,
    });
    while began.elapsed() < Duration::from_secs(6) {
        pinging.send_frame(&ping);
        std::thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(silent.closed(), Closed::Code(4203));
    assert!(
        began.elapsed() >= Duration::from_millis(7_000),
        "{:?}",
        began.elapsed()
    );
    let id = pinging.send(&dm("alice", "bob"), b"alive");
    assert_eq!(pinging.result(id).error, 0);
    node.counted(Counter::IdleTimeouts, 1);
}
