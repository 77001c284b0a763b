//! Edge-sharded groups over real sockets: no record lists who is in them, and each node knows it for its partitions.

mod support;

use hawser_engines::log::Topic;
use hawser_gateway::config::Config;
use hawser_gateway::counters::{Counter, Gauge};
use hawser_gateway::node::NodeHandle;
use hawser_protocol::frame::{ClientFrame, DeliverFlags, ServerFrame};
use hawser_protocol::ids::ChatId;
use hawser_protocol::message::{MessageRecord, MessageType};
use hawser_protocol::pb;
use hawser_protocol::record::{Audience, DeliveryKind, DeliveryRecord, GroupOp};
use support::client::Client;
use support::cluster::{eventually, member, stay};
use support::groups::{change, create, users};
use support::{Node, dm};

const OTHERS: [&str; 7] = ["bob", "carol", "dave", "erin", "frank", "grace", "heidi"];

/// The demonstration's group of four is one too.
const DEMO: u64 = 4;

/// Three members are listed, four are not.
fn small(config: &mut Config) {
    config.ingest.listed_members_max = 3;
}

fn square() -> ChatId {
    ChatId::new("g:square").expect("a group")
}

/// The next text of a chat, whatever else comes.
fn text(client: &mut Client, chat: &ChatId) -> Vec<u8> {
    client.until(|frame| match frame {
        ServerFrame::Deliver(d)
            if d.record.chat == *chat && d.record.message_type == MessageType::TEXT =>
        {
            let later = d.flags.contains(DeliverFlags::ACK_LATER);
            assert_eq!(later, chat.is_group(), "who waits for its ack");
            Some(d.record.body.to_vec())
        }
        _ => None,
    })
}

/// The next change of the group.
fn news(client: &mut Client) -> String {
    client.until(|frame| match frame {
        ServerFrame::Deliver(d) if d.record.message_type == MessageType::MEMBERSHIP => {
            Some(String::from_utf8_lossy(&d.record.body).into_owned())
        }
        _ => None,
    })
}

fn say(from: &mut Client, chat: &ChatId, body: &[u8]) {
    let id = from.send(chat, body);
    let result = from.result(id);
    assert_eq!(result.error, 0, "{result:?}");
}

#[test]
fn a_message_of_a_giant_group_reaches_its_members_as_of_that_message_and_no_one_else() {
    let node = Node::with(small, |_| ());
    let log = node.backing().services.log.clone();
    create(&*log, &square(), &OTHERS);
    let mut alice = node.live("alice", "phone");
    let mut tablet = node.live("alice", "tablet");
    let mut others: Vec<Client> = OTHERS.iter().map(|name| node.live(name, "phone")).collect();
    let mut mallory = node.live("mallory", "phone");
    say(&mut alice, &square(), b"to all");
    for client in others.iter_mut().chain([&mut tablet]) {
        assert_eq!(text(client, &square()), b"to all");
    }
    // bob leaves the square, mallory comes: each is told, and gets what is theirs.
    let op = GroupOp::Remove {
        users: users(&["bob"]),
    };
    change(&*log, &square(), op);
    let op = GroupOp::Add {
        users: users(&["mallory"]),
    };
    change(&*log, &square(), op);
    assert!(news(&mut others[0]).contains("remove"), "bob is told");
    assert!(news(&mut mallory).contains("add"), "mallory is told");
    say(&mut alice, &square(), b"without bob");
    for client in others[1..].iter_mut().chain([&mut mallory]) {
        assert_eq!(text(client, &square()), b"without bob");
    }
    let id = others[0].send(&square(), b"let me in");
    assert_ne!(others[0].result(id).error, 0);
    // What bob gets next is something else.
    say(&mut alice, &dm("alice", "bob"), b"sorry");
    let next = others[0].until(|frame| match frame {
        ServerFrame::Deliver(d) => Some(d.record.body.to_vec()),
        _ => None,
    });
    assert_eq!(next, b"sorry");
    // No record lists anybody.
    let mut messages = 0;
    for partition in 0..log.partitions(Topic::Delivery) {
        let all = log.read(Topic::Delivery, partition, 0, 1_000, 1 << 20);
        for record in all.expect("it reads") {
            let kind = DeliveryRecord::decode(&record.value).expect("ours").kind;
            if let DeliveryKind::Message {
                recipients, record, ..
            } = kind
                && MessageRecord::decode(&record).expect("ours").chat == square()
            {
                assert!(matches!(recipients, Audience::Members { .. }));
                messages += 1;
            }
        }
    }
    let partitions = log.partitions(Topic::Delivery);
    assert_eq!(messages, 5 * partitions, "two texts and three changes");
    eventually("all are counted", || {
        node.handle().counters().sum(Gauge::ShardMembers) == 9 + DEMO
    });
}

#[test]
fn what_was_missed_of_a_giant_group_comes_from_the_ring_the_log_and_after_a_restart() {
    let node = Node::with(small, |n| n.replay_bytes = 20_000);
    let log = node.backing().services.log.clone();
    create(&*log, &square(), &OTHERS);
    let mut alice = node.live("alice", "phone");
    let mut erin = node.live("erin", "phone");
    say(&mut alice, &square(), b"first");
    assert_eq!(text(&mut erin, &square()), b"first");
    let resume = erin.resume();
    drop(erin);
    for n in 0..20_u8 {
        say(&mut alice, &square(), &[n; 3_000]);
    }
    let mut erin = node.resumed("erin", "phone", resume);
    assert!(erin.welcome.recovered);
    for n in 0..20_u8 {
        assert_eq!(text(&mut erin, &square()), [n; 3_000]);
    }
    node.counted(Counter::LagLogReads, 1);
    let resume = erin.resume();
    drop((alice, erin));
    // Who is in it is read from what is kept.
    let node = node.restart();
    let mut alice = node.live("alice", "phone");
    say(&mut alice, &square(), b"after the restart");
    let mut erin = node.resumed("erin", "phone", resume);
    assert_eq!(text(&mut erin, &square()), b"after the restart");
    erin.send_frame(&ClientFrame::Sync(pb::Sync::default()));
    let chats = erin.until(|frame| match frame {
        ServerFrame::SyncPage(page) => Some(page.chats),
        _ => None,
    });
    let square = chats.iter().find(|chat| chat.chat == "g:square");
    let square = square.expect("on the list");
    assert_eq!(square.member_count, 8);
}

#[test]
fn a_node_that_takes_partitions_over_knows_who_is_in_the_giant_groups_there() {
    let a = Node::with(small, |n| n.cluster = member("a", 900));
    let (b, _) = a.beside(|n| n.cluster = member("b", 900));
    let owned = |handle: &NodeHandle| handle.counters().sum(Gauge::PartitionsOwned);
    eventually("each has its half", || {
        owned(a.handle()) == 8 && owned(&b) == 8
    });
    let log = a.backing().services.log.clone();
    create(&*log, &square(), &OTHERS);
    let known = |handle: &NodeHandle| handle.counters().sum(Gauge::ShardMembers);
    eventually("both know theirs", || {
        known(a.handle()) + known(&b) == 8 + DEMO
    });
    b.join().expect("a clean end");
    eventually("one has all", || {
        owned(a.handle()) == 16 && known(a.handle()) == 8 + DEMO
    });
    let connect = |name: &str| stay(&a, &a.plain, name, "phone");
    let mut alice = connect("alice");
    let mut others: Vec<Client> = OTHERS.iter().map(|name| connect(name)).collect();
    say(&mut alice, &square(), b"to all");
    for client in &mut others {
        assert_eq!(text(client, &square()), b"to all");
    }
}
