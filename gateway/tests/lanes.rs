//! A group in relaxed order, over real sockets.

mod support;

use hawser_gateway::counters::Counter;
use hawser_protocol::frame::{ClientFrame, ServerFrame};
use hawser_protocol::ids::{ChatId, ClientMsgId, Seq};
use hawser_protocol::lanes::Lanes;
use hawser_protocol::limits::LANES_NOTICE_MS;
use hawser_protocol::message::MessageType;
use hawser_protocol::pb;
use hawser_protocol::record::GroupOp;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use support::Node;
use support::client::{Client, now_ms};
use support::groups::{change, create};

const HALL: &str = "g:hall";
const LANES: u8 = 4;
const EACH: usize = 40;

/// What is compared of a message.
struct Said {
    chat: ChatId,
    id: ClientMsgId,
    prev_seq: Seq,
    seq: Seq,
}

fn hall() -> ChatId {
    ChatId::new(HALL).expect("a group")
}

/// An id as a client makes it some minutes later, within what clocks may differ.
fn later(n: usize) -> ClientMsgId {
    let mut random = [0; 10];
    random[2..].copy_from_slice(&(n as u64).to_be_bytes());
    ClientMsgId::new(now_ms() + LANES_NOTICE_MS + 60_000, random)
}

fn text(client: &mut Client) -> Said {
    client.until(|frame| match frame {
        ServerFrame::Deliver(d) if d.record.message_type == MessageType::TEXT => Some(Said {
            chat: d.record.chat.clone(),
            id: d.record.client_msg_id,
            prev_seq: d.record.prev_seq,
            seq: d.record.seq,
        }),
        _ => None,
    })
}

#[test]
fn a_relaxed_group_is_spread_over_lanes_and_loses_and_doubles_nothing() {
    let node = Node::start();
    let log = Arc::clone(&node.backing().services.log);
    create(&*log, &hall(), &["bob"]);
    change(&*log, &hall(), GroupOp::Relax { lanes: LANES });
    let mut alice = node.live("alice", "phone");
    let mut bob = node.live("bob", "laptop");
    // The first goes before the node may have heard of it: wherever it lands, it is one message of its lane.
    let ids: Vec<ClientMsgId> = (0..EACH).map(later).collect();
    for id in &ids {
        alice.send_as(*id, &hall(), b"to a lane");
        let result = alice.result(*id);
        assert_eq!(result.error, 0, "{result:?}");
    }
    let mut heard: BTreeMap<String, Vec<Said>> = BTreeMap::new();
    for _ in 0..EACH {
        let said = text(&mut bob);
        heard.entry(said.chat.to_string()).or_default().push(said);
    }
    let lanes: Vec<&str> = heard.keys().map(String::as_str).collect();
    assert_eq!(lanes, ["g:hall", "g:hall#1", "g:hall#2", "g:hall#3"]);
    let told: BTreeSet<ClientMsgId> = heard.values().flatten().map(|said| said.id).collect();
    assert_eq!(told, ids.iter().copied().collect());
    let spread = Lanes::new(LANES, 0).expect("a power of two");
    for (lane, said) in &heard {
        let number = ChatId::new(lane).expect("a lane").lane();
        assert!(said.iter().all(|s| spread.of(&s.id) == number));
        assert!(
            said.windows(2).all(|w| w[1].prev_seq == w[0].seq),
            "{lane} has one order"
        );
    }
    // Sent again, each is the same message.
    for id in &ids {
        alice.send_as(*id, &hall(), b"to a lane");
        assert!(alice.result(*id).duplicate);
    }
    bob.send_frame(&ClientFrame::Sync(pb::Sync {
        sync_id: 9,
        chat: "g:hall#2".to_owned(),
        ..pb::Sync::default()
    }));
    let page = bob.until(|frame| match frame {
        ServerFrame::SyncPage(page) => Some(page),
        _ => None,
    });
    // The messages, and the record that began the lane.
    assert_eq!(
        (page.error, page.records.len()),
        (0, heard["g:hall#2"].len() + 1)
    );
    assert!(node.handle().counters().total(Counter::Sends) >= 2 * EACH as u64);
}
