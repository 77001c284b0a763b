//! Bad input on live sessions: each fault has its answer, and other sessions do not notice.

mod support;

use hawser_fanout::auth::Revocation;
use hawser_gateway::counters::Counter;
use hawser_protocol::frame::{ClientFrame, ServerFrame};
use hawser_protocol::ids::{ChatId, DeviceId, UserId};
use hawser_protocol::limits::{BODY_BYTES_MAX, FRAME_BYTES_MAX};
use hawser_protocol::message::{MessageType, Send};
use hawser_protocol::pb;
use std::io::Write;
use std::time::Duration;
use support::client::{Client, Closed, Resume, new_id, now_ms};
use support::{Node, dm};
use tungstenite::Message;

/// A masked frame (mask 0) with these first two bytes' meaning and payload.
fn raw(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | u8::try_from(len).expect("small")),
        len @ 126..=65_535 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&u16::try_from(len).expect("fits").to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend_from_slice(&u64::try_from(len).expect("fits").to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
    out
}

fn write(client: &mut Client, bytes: &[u8]) {
    // It may be closed while it writes: reading says how.
    let _ = client.socket.get_mut().write_all(bytes);
}

/// A witness: somebody else's conversation goes on.
fn unharmed(node: &Node) {
    let mut carol = node.live("carol", "witness");
    let mut dave = node.live("dave", "witness");
    let id = carol.send(&dm("carol", "dave"), b"undisturbed");
    assert_eq!(carol.result(id).error, 0);
    assert_eq!(&dave.deliver().record.body[..], b"undisturbed");
}

fn error(client: &mut Client) -> pb::Error {
    client.until(|frame| match frame {
        ServerFrame::Error(error) => Some(error),
        _ => None,
    })
}

#[test]
fn f16_broken_websocket_frames_close_with_their_codes() {
    let node = Node::start();
    let mut unmasked = raw(0x82, b"abc");
    unmasked[1] &= 0x7f;
    let mut huge = vec![0x82, 0xff];
    huge.extend_from_slice(&(1_u64 << 63).to_be_bytes());
    let cases: [(&str, Vec<u8>, u16); 9] = [
        ("reserved bits", raw(0xc2, b"x"), 1002),
        ("unmasked", unmasked, 1002),
        ("a bad opcode", raw(0x83, b"x"), 1002),
        ("a fragmented control frame", raw(0x09, b"x"), 1002),
        ("a long control frame", raw(0x89, &[0; 126]), 1002),
        ("a length of 2^63", huge, 1002),
        ("a continuation of nothing", raw(0x80, b"x"), 1002),
        ("bad UTF-8", raw(0x81, &[0xff, 0xfe]), 1007),
        ("a close of one byte", raw(0x88, &[3]), 1002),
    ];
    for target in [&node.plain, &node.tls] {
        for (what, bytes, code) in &cases {
            let mut client = node.live_at(target, "alice", "phone");
            write(&mut client, bytes);
            assert_eq!(client.closed(), Closed::Code(*code), "{what}");
        }
    }
    node.counted(Counter::WsProtocolErrors, 18);
    unharmed(&node);
}

#[test]
fn f17_oversize_by_one_and_by_ten_times_and_endless_fragments_are_refused_unbuffered() {
    let node = Node::start();
    let oversized = |len: usize| raw(0x82, &vec![0; len]);
    let mut fragments = raw(0x02, b"x");
    for _ in 0..100_000 {
        fragments.extend_from_slice(&raw(0x00, b"x"));
    }
    let cases = [
        ("by one", oversized(FRAME_BYTES_MAX + 1), 1009),
        ("ten times", oversized(FRAME_BYTES_MAX * 10), 1009),
        ("100,000 fragments", fragments, 1008),
    ];
    for (what, bytes, code) in cases {
        let mut client = node.live("alice", "phone");
        write(&mut client, &bytes);
        assert_eq!(client.closed(), Closed::Code(code), "{what}");
    }
    unharmed(&node);
}

#[test]
fn f17_a_body_of_the_limit_passes_and_one_byte_more_is_body_too_large() {
    let node = Node::start();
    let mut alice = node.live("alice", "phone");
    let mut bob = node.live("bob", "laptop");
    let chat = dm("alice", "bob");
    let id = alice.send(&chat, &vec![7; BODY_BYTES_MAX]);
    assert_eq!(alice.result(id).error, 0);
    assert_eq!(bob.deliver().record.body.len(), BODY_BYTES_MAX);
    alice.send(&chat, &vec![7; BODY_BYTES_MAX + 1]);
    assert_eq!(error(&mut alice).code, 3);
    let id = alice.send(&chat, b"the session lives");
    assert_eq!(alice.result(id).error, 0);
}

#[test]
fn f17_a_flood_of_pings_is_answered_at_the_readers_pace_and_others_do_not_notice() {
    let node = Node::start();
    let mut alice = node.live("alice", "phone");
    let mut pings = Vec::new();
    for _ in 0..10_000 {
        pings.extend_from_slice(&raw(0x89, b"0123456789"));
    }
    write(&mut alice, &pings);
    unharmed(&node);
    let id = alice.send(&dm("alice", "bob"), b"after the flood");
    assert_eq!(alice.result(id).error, 0);
}

#[test]
fn frames_that_are_none_are_bad_frame_and_the_session_closes() {
    let node = Node::start();
    let cases: [(&str, Message, u32, u16); 4] = [
        (
            "cut short",
            Message::Binary(vec![0x03, 0, 0].into()),
            1,
            4000,
        ),
        (
            "ends within a frame",
            Message::Binary(vec![0x03, 0, 0, 0, 9, 0, 0, 0, 1].into()),
            1,
            4000,
        ),
        (
            "says more than a frame may have",
            Message::Binary(vec![0x03, 0, 0, 0, 0, 0, 1, 0].into()),
            2,
            4004,
        ),
        ("text on hawser.v1", Message::Text("{}".into()), 1, 4000),
    ];
    for (what, message, code, close) in cases {
        let mut client = node.live("alice", "phone");
        client.socket.send(message).expect("it reads");
        assert_eq!(error(&mut client).code, code, "{what}");
        assert_eq!(client.closed(), Closed::Code(close), "{what}");
    }
    let mut client = node.live("alice", "phone");
    let server_frame = Message::Binary(vec![0x85, 0, 0, 0, 0, 0, 0, 0].into());
    client.socket.send(server_frame).expect("it reads");
    assert_eq!(
        error(&mut client).code,
        10,
        "a server's frame from a client"
    );
    let later = Message::Binary(vec![0x55, 0, 0, 0, 0, 0, 0, 0].into());
    client.socket.send(later).expect("it reads");
    let id = client.send(&dm("alice", "bob"), b"a later version's frame is ignored");
    assert_eq!(client.result(id).error, 0);
    unharmed(&node);
}

#[test]
fn a_second_hello_closes() {
    let node = Node::start();
    let mut alice = node.live("alice", "phone");
    alice.send_frame(&ClientFrame::Hello(pb::Hello::default()));
    assert_eq!(error(&mut alice).code, 7);
    assert_eq!(alice.closed(), Closed::Code(4000));
}

#[test]
fn too_fast_is_rate_limited_with_a_hint_and_then_closed() {
    let node = Node::with(
        |_| (),
        |n| {
            n.session.sends_per_second = 1;
            n.session.sends_burst = 5;
        },
    );
    let mut alice = node.live("alice", "phone");
    let chat = dm("alice", "bob");
    let ids: Vec<_> = (0..6).map(|_| alice.send(&chat, b"fast")).collect();
    let refused = alice.result(ids[5]);
    assert_eq!(refused.error, 40);
    assert!(refused.retry_after_ms > 0 && refused.retry_after_ms <= 1_000);
    for _ in 0..300 {
        alice.try_send_as(new_id(), &chat, b"faster");
    }
    assert_eq!(alice.closed(), Closed::Code(4201));
    unharmed(&node);
}

#[test]
fn f24_a_users_rate_is_shared_by_its_devices_and_survives_reconnects() {
    let node = Node::with(
        |_| (),
        |n| {
            n.session.sends_per_second = 1;
            n.session.sends_burst = 20;
        },
    );
    let chat = dm("alice", "bob");
    let begun = std::time::Instant::now();
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..8 {
        // Another device each time, and without a resume token.
        let mut alice = node.live("alice", &format!("device{}", round % 4));
        let mut beside = node.live("alice", "laptop");
        for client in [&mut alice, &mut beside] {
            for _ in 0..3 {
                let id = client.send(&chat, b"fast");
                match client.result(id).error {
                    0 => accepted += 1,
                    error => {
                        assert_eq!(error, 40);
                        refused += 1;
                    }
                }
            }
        }
    }
    let earned = begun.elapsed().as_secs() + 1;
    assert!((20..=20 + earned).contains(&accepted), "{accepted}");
    assert_eq!(accepted + refused, 48);
    let mut carol = node.live("carol", "phone");
    let id = carol.send(&dm("bob", "carol"), b"another user");
    assert_eq!(carol.result(id).error, 0);
}

#[test]
fn f22_a_chat_that_is_none_of_yours_is_not_member_whether_it_exists_or_not() {
    let node = Node::start();
    let mut alice = node.live("alice", "phone");
    for chat in [dm("bob", "carol"), ChatId::new("g:nowhere").expect("an id")] {
        let id = alice.send(&chat, b"let me in");
        assert_eq!(alice.result(id).error, 30, "{chat}");
        alice.send_frame(&ClientFrame::Sync(pb::Sync {
            sync_id: 5,
            chat: chat.as_str().to_owned(),
            ..pb::Sync::default()
        }));
        let page = alice.until(|frame| match frame {
            ServerFrame::SyncPage(page) => Some(page),
            _ => None,
        });
        assert_eq!((page.error, page.records.len()), (30, 0), "{chat}");
    }
}

#[test]
fn ids_the_server_alone_may_write_are_refused_at_the_edge() {
    let node = Node::start();
    let mut alice = node.live("alice", "phone");
    let send = |id, message_type| {
        ClientFrame::Send(Send {
            client_msg_id: id,
            send_ts_ms: now_ms(),
            message_type,
            retry: false,
            chat: dm("alice", "bob"),
            body: bytes::Bytes::from_static(b"x"),
            envelopes: Vec::new(),
        })
    };
    let mut no_v7 = new_id();
    no_v7.0[6] = 0x40;
    alice.send_frame(&send(no_v7, MessageType::TEXT));
    assert_eq!(alice.result(no_v7).error, 5);
    let id = new_id();
    alice.send_frame(&send(id, MessageType::MEMBERSHIP));
    assert_eq!(alice.result(id).error, 24);
}

#[test]
fn g9_a_token_that_expires_closes_the_live_session_unless_it_is_refreshed() {
    let node = Node::start();
    let token = node.token_for("alice", "phone", 2);
    let mut short = Client::connect(&node.plain, &token, "phone", Resume::default());
    let token = node.token_for("bob", "laptop", 2);
    let mut renewed = Client::connect(&node.plain, &token, "laptop", Resume::default());
    renewed.send_frame(&ClientFrame::RefreshToken(pb::RefreshToken {
        token: node.token("bob", "laptop"),
    }));
    renewed.until(|frame| matches!(frame, ServerFrame::TokenAccepted(_)).then_some(()));
    renewed.send_frame(&ClientFrame::RefreshToken(pb::RefreshToken {
        token: node.token("alice", "laptop"),
    }));
    assert_eq!(error(&mut renewed).code, 20, "somebody else's token");
    assert_eq!(error(&mut short).code, 21);
    assert_eq!(short.closed(), Closed::Code(4100));
    assert!(renewed.quiet(Duration::from_secs(1)), "it lives on");
}

#[test]
fn g9_a_revocation_closes_the_live_session_at_once() {
    let node = Node::start();
    let mut alice = node.live("alice", "phone");
    let mut tablet = node.live("alice", "tablet");
    let revocation = Revocation::Device {
        user: UserId::new("alice").expect("an id"),
        device: DeviceId::new("phone").expect("an id"),
        until_ms: None,
    };
    let verifier = &node.backing().verifier;
    verifier.revoke(&revocation, now_ms()).expect("written");
    node.handle().recheck();
    assert_eq!(error(&mut alice).code, 22);
    assert_eq!(alice.closed(), Closed::Code(4003));
    assert!(tablet.quiet(Duration::from_millis(200)), "another device");
}

#[test]
fn g9_a_revocation_that_another_process_wrote_closes_the_live_session_within_seconds() {
    let node = Node::start();
    let mut alice = node.live("alice", "phone");
    let ban = Revocation::User {
        user: UserId::new("alice").expect("an id"),
        until_ms: None,
    };
    let since = std::time::Instant::now();
    // As an API process does on another machine: in the directory, and nowhere else.
    let directory = &node.backing().services.directory;
    directory.put_revocation(&ban).expect("written");
    assert_eq!(error(&mut alice).code, 22);
    assert_eq!(alice.closed(), Closed::Code(4003));
    assert!(
        since.elapsed() < Duration::from_secs(10),
        "{:?}",
        since.elapsed()
    );
}

#[test]
fn a_drain_tells_every_session_where_to_go_and_then_closes_it_as_moved() {
    let node = Node::with(|_| (), |n| n.drain_ms = 500);
    let mut alice = node.live("alice", "phone");
    node.handle().drain();
    let relocate = alice.until(|frame| match frame {
        ServerFrame::Relocate(relocate) => Some(relocate),
        _ => None,
    });
    assert!(relocate.url.starts_with("ws://") && relocate.slot_ms <= relocate.deadline_ms);
    let id = alice.send(&dm("alice", "bob"), b"it serves until then");
    assert_eq!(alice.result(id).error, 0);
    assert_eq!(alice.closed(), Closed::Code(4300));
}

#[test]
fn more_sessions_than_one_ring_holds_are_spread_over_the_cores_rings() {
    let node = Node::with(
        |_| (),
        |n| {
            n.ring.rings_per_core = 3;
            n.ring.files_per_ring = 16;
        },
    );
    let mut clients: Vec<Client> = (0..40)
        .map(|i| node.live("alice", &format!("device{i}")))
        .collect();
    let mut bob = node.live("bob", "laptop");
    let id = bob.send(&dm("alice", "bob"), b"to all forty");
    assert_eq!(bob.result(id).error, 0);
    for client in &mut clients {
        assert_eq!(&client.deliver().record.body[..], b"to all forty");
    }
}

#[test]
fn when_every_ring_is_full_a_connection_is_told_overloaded() {
    let node = Node::with(
        |_| (),
        |n| {
            n.ring.rings_per_core = 1;
            n.ring.files_per_ring = 2;
        },
    );
    let _one = node.live("alice", "phone");
    let _two = node.live("bob", "laptop");
    let token = node.token("carol", "tablet");
    let third = Client::try_connect(&node.plain, &token, "tablet", Resume::default());
    assert_eq!(third.err(), Some(Closed::Code(4200)));
}

#[test]
fn the_echo_gives_back_what_it_gets_over_plain_and_tls() {
    let node = Node::start();
    for target in [&node.plain, &node.tls] {
        let request = target.request("/v1/echo", "");
        let (mut socket, _) = tungstenite::client(request, target.open()).expect("an upgrade");
        for len in [0, 1, 125, 126, 65_535, 65_536, 1 << 20] {
            let message = Message::Binary(vec![0x5a; len].into());
            socket.send(message.clone()).expect("it reads");
            assert_eq!(socket.read().expect("an echo"), message);
        }
        let message = Message::Text("κόσμε".into());
        socket.send(message.clone()).expect("it reads");
        assert_eq!(socket.read().expect("an echo"), message);
    }
}
