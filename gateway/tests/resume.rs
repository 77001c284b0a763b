//! Reconnects: exactly what was missed, or an explicit "not recovered".

mod support;

use hawser_gateway::counters::Counter;
use hawser_protocol::frame::{Ack, DeliverFlags, ServerFrame};
use std::time::Duration;
use support::client::{Client, Closed, Resume};
use support::{Node, dm};

/// Reads until CaughtUp; the bodies of the messages before it.
fn replayed(client: &mut Client) -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    client.until(|frame| match frame {
        ServerFrame::Deliver(d) => {
            assert_eq!(d.flags, DeliverFlags::REPLAYED);
            bodies.push(d.record.body.to_vec());
            None
        }
        ServerFrame::CaughtUp(_) => Some(()),
        _ => None,
    });
    bodies
}

#[test]
fn a_resume_gives_exactly_what_was_missed_then_caught_up_then_live() {
    let node = Node::start();
    let mut alice = node.live("alice", "phone");
    let mut bob = node.live("bob", "laptop");
    let chat = dm("alice", "bob");
    let id = alice.send(&chat, b"before");
    alice.result(id);
    bob.deliver();
    let resume = bob.resume();
    drop(bob);
    for n in 0..10_u8 {
        let id = alice.send(&chat, &[n]);
        alice.result(id);
    }
    let mut bob = node.resumed("bob", "laptop", resume);
    assert!(bob.welcome.recovered);
    let expected: Vec<Vec<u8>> = (0..10_u8).map(|n| vec![n]).collect();
    assert_eq!(replayed(&mut bob), expected);
    let id = alice.send(&chat, b"live");
    alice.result(id);
    let deliver = bob.deliver();
    assert_eq!(
        (&deliver.record.body[..], deliver.flags),
        (&b"live"[..], DeliverFlags(0))
    );
}

#[test]
fn a_resume_works_after_a_restart_of_the_node() {
    let node = Node::start();
    let mut alice = node.live("alice", "phone");
    let mut bob = node.live("bob", "laptop");
    let chat = dm("alice", "bob");
    let id = alice.send(&chat, b"before");
    alice.result(id);
    bob.deliver();
    let resume = bob.resume();
    drop(bob);
    let id = alice.send(&chat, b"missed");
    alice.result(id);
    drop(alice);
    let node = node.restart();
    let mut bob = node.resumed("bob", "laptop", resume);
    assert!(bob.welcome.recovered);
    assert_eq!(replayed(&mut bob), [b"missed"]);
}

#[test]
fn a_resume_below_the_replay_ring_reads_the_log() {
    let node = Node::with(|_| (), |n| n.replay_bytes = 40_000);
    let mut alice = node.live("alice", "phone");
    let mut bob = node.live("bob", "laptop");
    let chat = dm("alice", "bob");
    let id = alice.send(&chat, b"before");
    alice.result(id);
    bob.deliver();
    let resume = bob.resume();
    drop(bob);
    for n in 0..60_u8 {
        let id = alice.send(&chat, &[n; 3_000]);
        alice.result(id);
    }
    let mut bob = node.resumed("bob", "laptop", resume);
    assert!(bob.welcome.recovered);
    let bodies = replayed(&mut bob);
    let expected: Vec<Vec<u8>> = (0..60_u8).map(|n| vec![n; 3_000]).collect();
    assert_eq!(bodies, expected);
    node.counted(Counter::LagLogReads, 1);
}

#[test]
fn the_result_of_a_send_is_replayed_on_resume() {
    let node = Node::start();
    let mut alice = node.live("alice", "phone");
    let resume = alice.resume();
    let id = alice.send(&dm("alice", "bob"), b"sent and gone");
    drop(alice);
    node.counted(Counter::SendsQueued, 1);
    std::thread::sleep(Duration::from_millis(100));
    let mut alice = node.resumed("alice", "phone", resume);
    assert!(alice.welcome.recovered);
    assert_eq!(alice.result(id).error, 0);
}

#[test]
fn a_session_that_has_not_adopted_the_head_gets_only_the_results_of_its_sends() {
    let node = Node::start();
    let mut alice = node.live("alice", "phone");
    let mut bob = node.fresh(&node.plain, "bob", "laptop");
    let chat = dm("alice", "bob");
    let id = alice.send(&chat, b"while you sync");
    alice.result(id);
    let id = bob.send(&chat, b"from the sync");
    let result = bob.result(id);
    assert_eq!(
        (result.error, result.offset),
        (0, 0),
        "not to be acknowledged"
    );
    assert!(bob.quiet(Duration::from_millis(200)));
    bob.adopt();
    let deliver = bob.deliver();
    assert_eq!(&deliver.record.body[..], b"while you sync");
    assert!(deliver.offset >= bob.welcome.head);
    bob.caught_up();
}

#[test]
fn another_devices_token_an_altered_one_and_an_offset_ahead_are_not_recovered() {
    let node = Node::start();
    let mut alice = node.live("alice", "phone");
    let id = alice.send(&dm("alice", "bob"), b"x");
    alice.result(id);
    let sound = alice.resume();
    let mut altered = sound.clone();
    altered.token[20] ^= 1;
    let mut ahead = sound.clone();
    ahead.last_offset = Some(1_000_000);
    for (device, resume) in [
        ("tablet", sound.clone()),
        ("phone", altered),
        ("phone", ahead),
    ] {
        let mut client = node.resumed("alice", device, resume);
        assert!(!client.welcome.recovered, "{device}");
        client.adopt();
        client.caught_up();
    }
    assert!(node.resumed("alice", "phone", sound).welcome.recovered);
}

#[test]
fn a_lagging_reader_gets_everything_in_order_once_it_acks() {
    let node = Node::with(|_| (), |n| n.session.sends_burst = 1_000);
    let mut alice = node.live("alice", "phone");
    let mut bob = node.live("bob", "laptop");
    bob.auto_ack = false;
    let chat = dm("alice", "bob");
    let total = 700_u32;
    for n in 0..total {
        let id = alice.send(&chat, &n.to_le_bytes());
        assert_eq!(alice.result(id).error, 0);
    }
    node.counted(Counter::Lagged, 1);
    for n in 0..256_u32 {
        assert_eq!(bob.deliver().record.body[..], n.to_le_bytes());
    }
    assert!(bob.quiet(Duration::from_millis(200)), "its window is full");
    bob.ack(bob.last_offset.expect("delivered"));
    bob.auto_ack = true;
    for n in 256..total {
        assert_eq!(bob.deliver().record.body[..], n.to_le_bytes());
    }
}

#[test]
fn a_newer_session_of_the_device_displaces_the_older() {
    let node = Node::start();
    let mut older = node.live("alice", "phone");
    let mut newer = node.live("alice", "phone");
    assert_eq!(older.closed(), Closed::Code(4301));
    node.counted(Counter::SessionsDisplaced, 1);
    let id = newer.send(&dm("alice", "bob"), b"still here");
    assert_eq!(newer.result(id).error, 0);
}

#[test]
fn an_ack_of_what_was_not_sent_closes_with_its_code() {
    let node = Node::start();
    let mut alice = node.live("alice", "phone");
    alice.ack(Ack::ADOPT - 1);
    let error = alice.until(|frame| match frame {
        ServerFrame::Error(error) => Some(error),
        _ => None,
    });
    assert_eq!(error.code, 8);
    assert_eq!(alice.closed(), Closed::Code(4005));
}

#[test]
fn live_only_starts_at_the_head_at_once() {
    let node = Node::start();
    let resume = Resume {
        live_only: true,
        ..Resume::default()
    };
    let mut bot = node.resumed("carol", "bot", resume);
    bot.caught_up();
    let mut alice = node.live("alice", "phone");
    let id = alice.send(&dm("alice", "carol"), b"hi bot");
    alice.result(id);
    assert_eq!(&bot.deliver().record.body[..], b"hi bot");
}
