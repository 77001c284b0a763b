//! Slow readers (F10, G8): they keep an offset, harm nobody and lose nothing.

mod support;

use hawser_gateway::counters::{Counter, Gauge};
use std::time::{Duration, Instant};
use support::{Node, dm};

#[test]
fn g8_a_reader_at_nothing_costs_an_offset_loses_nothing_and_others_do_not_wait() {
    let node = Node::with(
        |_| (),
        |n| {
            n.session.sends_burst = 10_000;
            n.session.window_bytes = 1 << 20;
            n.socket.send_buffer_bytes = 8_192;
        },
    );
    let mut alice = node.live("alice", "phone");
    let mut frozen = node.live("bob", "frozen");
    let mut swift = node.live("bob", "swift");
    frozen.auto_ack = false;
    let chat = dm("alice", "bob");
    let total = 400_u32;
    let body = |n: u32| {
        let mut body = vec![0x33; 8_000];
        body[..4].copy_from_slice(&n.to_le_bytes());
        body
    };
    for n in 0..total {
        let began = Instant::now();
        let id = alice.send(&chat, &body(n));
        assert_eq!(alice.result(id).error, 0);
        assert_eq!(swift.deliver().record.body, body(n));
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "nobody waits for the frozen one"
        );
    }
    let gauges = node.handle().counters();
    let tails = gauges.sum(Gauge::TailBytes);
    assert!(tails <= 256 << 10, "{tails} bytes wait for one session");
    frozen.auto_ack = true;
    for n in 0..total {
        assert_eq!(frozen.deliver().record.body, body(n), "message {n}");
    }
}

#[test]
fn a_tail_that_does_not_drain_in_time_closes_the_session_whose_position_lives() {
    let node = Node::with(
        |_| (),
        |n| {
            n.session.slow_reader_ms = 1_000;
            n.session.sends_burst = 10_000;
            n.session.window_bytes = 1 << 20;
            n.socket.send_buffer_bytes = 8_192;
        },
    );
    let mut alice = node.live("alice", "phone");
    let mut bob = node.live("bob", "frozen");
    bob.auto_ack = false;
    let chat = dm("alice", "bob");
    let id = alice.send(&chat, b"first");
    alice.result(id);
    bob.deliver();
    let resume = bob.resume();
    // More than both kernels hold between them.
    for _ in 0..1_000 {
        let id = alice.send(&chat, &[0x44; 16_000]);
        assert_eq!(alice.result(id).error, 0);
        if node.handle().counters().total(Counter::SlowReaders) > 0 {
            break;
        }
    }
    node.counted(Counter::SlowReaders, 1);
    drop(bob);
    let mut bob = node.resumed("bob", "frozen", resume);
    assert!(bob.welcome.recovered);
    assert_eq!(bob.deliver().record.body.len(), 16_000);
}
