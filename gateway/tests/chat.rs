//! Conversations over real sockets.

mod support;

use hawser_protocol::frame::{ClientFrame, DeliverFlags, ServerFrame};
use hawser_protocol::pb;
use std::time::Duration;
use support::client::Target;
use support::{Node, dm};

fn two_users_chat(node: &Node, target: &Target) {
    let mut alice = node.live_at(target, "alice", "phone");
    let mut bob = node.live_at(target, "bob", "laptop");
    let chat = dm("alice", "bob");
    let id = alice.send(&chat, b"hello bob");
    let result = alice.result(id);
    assert_eq!(result.error, 0, "{result:?}");
    let deliver = bob.deliver();
    assert_eq!(&deliver.record.body[..], b"hello bob");
    assert_eq!(deliver.record.seq.0, result.seq);
    assert_eq!(deliver.record.message_id.0[..], result.message_id[..]);
    assert_eq!(deliver.record.sender.as_str(), "alice");
    let id = bob.send(&chat, &[7; 5_000]);
    assert_eq!(bob.result(id).error, 0);
    let deliver = alice.deliver();
    assert_eq!(deliver.record.body.len(), 5_000);
    assert_eq!(deliver.record.prev_seq.0, result.seq);
}

#[test]
fn two_users_chat_over_plain_websocket() {
    let node = Node::start();
    two_users_chat(&node, &node.plain);
}

#[test]
fn two_users_chat_over_tls() {
    let node = Node::start();
    two_users_chat(&node, &node.tls);
}

#[test]
fn a_message_is_queued_then_sent_and_its_ack_is_the_senders_delivered_tick() {
    let node = Node::start();
    let mut alice = node.live("alice", "phone");
    let mut bob = node.live("bob", "laptop");
    let chat = dm("alice", "bob");
    let id = alice.send(&chat, b"tick");
    let result = alice.result(id);
    bob.deliver();
    let update = alice.until(|frame| match frame {
        ServerFrame::ReceiptUpdate(update) => Some(update),
        _ => None,
    });
    assert_eq!(
        (update.user.as_str(), update.delivered_seq),
        ("bob", result.seq)
    );
    bob.send_frame(&ClientFrame::Receipt(pb::Receipt {
        chat: chat.as_str().to_owned(),
        delivered_seq: 0,
        read_seq: result.seq,
    }));
    let update = alice.until(|frame| match frame {
        ServerFrame::ReceiptUpdate(update) if update.read_seq > 0 => Some(update),
        _ => None,
    });
    assert_eq!(update.read_seq, result.seq);
}

#[test]
fn the_senders_other_device_gets_a_deliver_and_the_sending_one_a_result() {
    let node = Node::start();
    let mut phone = node.live("alice", "phone");
    let mut tablet = node.live("alice", "tablet");
    let id = phone.send(&dm("alice", "bob"), b"from the phone");
    let result = phone.result(id);
    let deliver = tablet.deliver();
    assert_eq!(deliver.record.seq.0, result.seq);
    assert_eq!(deliver.record.sender_device.as_str(), "phone");
    assert!(deliver.flags.contains(DeliverFlags::ACK_LATER));
    assert!(
        phone.quiet(Duration::from_millis(300)),
        "{:?}",
        phone.next()
    );
}

#[test]
fn a_client_msg_id_sent_twice_is_one_message_with_one_result() {
    let node = Node::start();
    let mut alice = node.live("alice", "phone");
    let mut bob = node.live("bob", "laptop");
    let chat = dm("alice", "bob");
    let id = alice.send(&chat, b"once");
    let first = alice.result(id);
    alice.send_as(id, &chat, b"once");
    let second = alice.result(id);
    assert_eq!(
        (first.seq, &first.message_id),
        (second.seq, &second.message_id)
    );
    assert!(second.duplicate);
    bob.deliver();
    let id = alice.send(&chat, b"next");
    alice.result(id);
    assert_eq!(&bob.deliver().record.body[..], b"next");
}

#[test]
fn history_is_synced_over_the_session() {
    let node = Node::start();
    let mut alice = node.live("alice", "phone");
    let chat = dm("alice", "bob");
    for n in 0..5_u8 {
        let id = alice.send(&chat, &[n]);
        alice.result(id);
    }
    let mut bob = node.fresh(&node.plain, "bob", "new");
    assert!(!bob.welcome.recovered);
    bob.send_frame(&ClientFrame::Sync(pb::Sync {
        sync_id: 9,
        chat: chat.as_str().to_owned(),
        ..pb::Sync::default()
    }));
    let page = bob.until(|frame| match frame {
        ServerFrame::SyncPage(page) => Some(page),
        _ => None,
    });
    assert_eq!((page.sync_id, page.error, page.records.len()), (9, 0, 5));
}

#[test]
fn typing_reaches_who_watches_the_chat() {
    let node = Node::start();
    let mut alice = node.live("alice", "phone");
    let mut bob = node.live("bob", "laptop");
    let chat = dm("alice", "bob").as_str().to_owned();
    bob.send_frame(&ClientFrame::Watch(pb::Watch {
        users: vec!["alice".to_owned()],
        chats: vec![chat.clone()],
    }));
    let presence = bob.until(|frame| match frame {
        ServerFrame::PresenceUpdate(update) => Some(update),
        _ => None,
    });
    assert_eq!(presence.user, "alice");
    alice.send_frame(&ClientFrame::Typing(pb::Typing {
        chat: chat.clone(),
        stopped: false,
    }));
    let update = bob.until(|frame| match frame {
        ServerFrame::TypingUpdate(update) => Some(update),
        _ => None,
    });
    assert_eq!((update.user.as_str(), update.chat), ("alice", chat));
}

#[test]
fn two_cores_hand_over_and_everybody_hears_everybody() {
    let node = Node::with(|c| c.node.cores = 2, |_| ());
    for target in [&node.plain, &node.tls] {
        two_users_chat(&node, target);
        let users = ["alice", "bob", "carol", "dave"];
        let mut clients: Vec<_> = users
            .iter()
            .map(|user| node.live_at(target, user, "x"))
            .collect();
        for (i, from) in users.iter().enumerate() {
            for (j, to) in users.iter().enumerate().filter(|(j, _)| *j != i) {
                let id = clients[i].send(&dm(from, to), from.as_bytes());
                assert_eq!(clients[i].result(id).error, 0);
                let deliver = clients[j].until(|frame| match frame {
                    ServerFrame::Deliver(d) if d.record.client_msg_id == id => Some(d),
                    _ => None,
                });
                assert_eq!(&deliver.record.body[..], from.as_bytes());
            }
        }
        clients.clear();
    }
}
