//! Messages whose delivery records refer to them: by the lane, by the ring and the log, and by the store.

mod support;

use bytes::Bytes;
use hawser_engines::log::{AppendOutcome, Appended, Produce, Topic};
use hawser_engines::store::{
    ChatHead, ChatInfo, DedupRow, Membership, Page, ReceiptRow, Store, StoreError, StoreOp,
    StoredMessage,
};
use hawser_gateway::counters::{Counter, Gauge};
use hawser_gateway::node::NodeHandle;
use hawser_protocol::frame::ServerFrame;
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, Seq, UserId};
use hawser_protocol::message::MessageType;
use hawser_protocol::partition::partition;
use hawser_protocol::record::{DeliveryKind, DeliveryRecord, GroupOp, SourceRecord};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;
use support::Node;
use support::client::{Client, PATIENCE, new_id, now_ms};
use support::cluster::{eventually, member, stay};
use tungstenite::Message;

/// In as many partitions as it takes.
const CREW: [&str; 8] = [
    "alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi",
];
/// Above `ingest.reference_bytes`.
const LARGE: usize = 3_000;
/// Texts of a longer talk, half of them large.
const MESSAGES: u8 = 20;

struct Told(Sender<AppendOutcome>);

impl Appended for Told {
    fn appended(&self, _tag: u64, outcome: AppendOutcome) {
        self.0.send(outcome).expect("somebody waits");
    }
}

/// A store that may be away for those who read messages.
struct Away {
    away: Arc<AtomicBool>,
    inner: Arc<dyn Store>,
}

impl Store for Away {
    fn write(&self, ops: &[StoreOp]) -> Result<(), StoreError> {
        self.inner.write(ops)
    }
    fn head(&self, chat: &ChatId) -> Result<ChatHead, StoreError> {
        self.inner.head(chat)
    }
    fn head_before(&self, chat: &ChatId, seq: Seq) -> Result<ChatHead, StoreError> {
        self.inner.head_before(chat, seq)
    }
    fn dedup(
        &self,
        user: &UserId,
        device: &DeviceId,
        chat: &ChatId,
        id: &ClientMsgId,
    ) -> Result<Option<DedupRow>, StoreError> {
        self.inner.dedup(user, device, chat, id)
    }
    fn messages(&self, chat: &ChatId, page: Page) -> Result<Vec<StoredMessage>, StoreError> {
        if self.away.load(Ordering::SeqCst) {
            let reason = "away".to_owned();
            return Err(StoreError::Unavailable { reason });
        }
        self.inner.messages(chat, page)
    }
    fn truncated_before(&self, chat: &ChatId) -> Result<u64, StoreError> {
        self.inner.truncated_before(chat)
    }
    fn chat(&self, chat: &ChatId) -> Result<Option<ChatInfo>, StoreError> {
        self.inner.chat(chat)
    }
    fn members(&self, chat: &ChatId) -> Result<Vec<Membership>, StoreError> {
        self.inner.members(chat)
    }
    fn member(&self, chat: &ChatId, user: &UserId) -> Result<Option<Membership>, StoreError> {
        self.inner.member(chat, user)
    }
    fn chats_of(
        &self,
        user: &UserId,
        after: Option<&ChatId>,
        limit: usize,
    ) -> Result<Vec<ChatId>, StoreError> {
        self.inner.chats_of(user, after, limit)
    }
    fn receipts(&self, chat: &ChatId) -> Result<Vec<ReceiptRow>, StoreError> {
        self.inner.receipts(chat)
    }
}

fn crew() -> ChatId {
    ChatId::new("g:crew").expect("a group")
}

/// Makes the group, without the API.
fn gather(node: &Node) {
    let record = SourceRecord::Group {
        actor: UserId::new(CREW[0]).expect("an id"),
        op_id: new_id(),
        chat: crew(),
        op: GroupOp::Create {
            name: "Crew".to_owned(),
            picture: String::new(),
            members: CREW[1..]
                .iter()
                .map(|name| UserId::new(name).expect("an id"))
                .collect(),
        },
    };
    let log = &*node.backing().services.log;
    let produce = Produce {
        topic: Topic::ChatMessages,
        partition: partition(crew().as_str(), log.partitions(Topic::ChatMessages)),
        key: Bytes::copy_from_slice(crew().as_str().as_bytes()),
        value: record.encode(),
        timestamp_ms: now_ms(),
    };
    let (sender, told) = channel();
    let done: Arc<dyn Appended> = Arc::new(Told(sender));
    log.produce(produce, 0, &done).expect("taken");
    let outcome = told.recv_timeout(PATIENCE).expect("an answer");
    outcome.expect("appended");
}

/// Large for an even number, small for an odd one; each is another.
fn text(n: u8) -> Vec<u8> {
    let len = if n.is_multiple_of(2) { LARGE } else { 3 };
    vec![n; len]
}

fn say(client: &mut Client, n: u8) {
    let id = client.send(&crew(), &text(n));
    assert_eq!(client.result(id).error, 0);
}

/// The next text of the group.
fn heard(client: &mut Client) -> Vec<u8> {
    client.until(|frame| match frame {
        ServerFrame::Deliver(d) if d.record.message_type == MessageType::TEXT => {
            Some(d.record.body.to_vec())
        }
        _ => None,
    })
}

fn expect(client: &mut Client, numbers: std::ops::Range<u8>) {
    for n in numbers {
        assert!(heard(client) == text(n), "text {n} is next");
    }
}

fn count(handle: &NodeHandle, counter: Counter) -> u64 {
    handle.counters().total(counter)
}

/// Delivery records that refer to their message.
fn references(node: &Node) -> usize {
    let log = &*node.backing().services.log;
    let refers = |partition| {
        let records = log.read(Topic::Delivery, partition, 0, 10_000, 64 << 20);
        let records = records.expect("it is there").into_iter();
        let decoded = records.map(|r| DeliveryRecord::decode(&r.value).expect("ours"));
        decoded
            .filter(|r| matches!(r.kind, DeliveryKind::Reference { .. }))
            .count()
    };
    (0..log.partitions(Topic::Delivery)).map(refers).sum()
}

#[test]
fn a_large_message_reaches_everybody_and_goes_to_the_node_once() {
    let node = Node::start();
    gather(&node);
    let mut alice = node.live("alice", "phone");
    let mut tablet = node.live("alice", "tablet");
    let mut others: Vec<Client> = CREW[1..].iter().map(|u| node.live(u, "phone")).collect();
    let mut typist = node.plain.upgrade("hawser.v1+json");
    let mut tell = |frame: Value| {
        let text = Message::Text(frame.to_string().into());
        typist.send(text).expect("it reads");
    };
    tell(json!({"type": "hello", "token": node.token("bob", "json"), "device": "json"}));
    tell(json!({"type": "ack", "adopt": true}));
    let mut hear = |frame_type: &str| loop {
        let Message::Text(text) = typist.read().expect("a message") else {
            continue;
        };
        let frame: Value = serde_json::from_str(&text).expect("JSON");
        if frame["type"] == frame_type {
            return frame;
        }
    };
    hear("caught_up");
    for n in [b'x', b'y'] {
        let body = vec![n; LARGE];
        let id = alice.send(&crew(), &body);
        let result = alice.result(id);
        assert_eq!((result.error, result.stored_ts_ms > 0), (0, true));
        assert!(heard(&mut tablet) == body);
        for other in &mut others {
            assert!(heard(other) == body);
        }
        assert_eq!(
            hear("deliver")["body"],
            json!(String::from_utf8(body).expect("text"))
        );
    }
    let of = node.backing().services.log.partitions(Topic::Delivery);
    let touched: BTreeSet<u32> = CREW.iter().map(|user| partition(user, of)).collect();
    let refer = references(&node);
    assert!(touched.len() > 2);
    assert_eq!(refer, 2 * touched.len());
    // The lane is read before what refers to it, and by one core.
    assert_eq!(count(node.handle(), Counter::Bodies), 2);
    assert_eq!(count(node.handle(), Counter::BodyFetches), 0);
    assert!(count(node.handle(), Counter::BodyHits) >= refer as u64);
}

#[test]
fn several_cores_share_what_the_lane_brings() {
    let node = Node::with(|c| c.node.cores = 3, |_| ());
    gather(&node);
    let mut alice = node.live("alice", "phone");
    let mut others: Vec<Client> = CREW[1..].iter().map(|u| node.live(u, "phone")).collect();
    for n in 0..30 {
        let id = alice.send(&crew(), &text(n));
        assert_eq!(alice.result(id).error, 0);
    }
    for other in &mut others {
        expect(other, 0..30);
    }
    assert_eq!(count(node.handle(), Counter::Bodies), 15);
}

#[test]
fn what_was_missed_is_replayed_from_the_ring_with_the_bodies_that_are_here() {
    let node = Node::start();
    gather(&node);
    let mut alice = node.live("alice", "phone");
    let mut bob = node.live("bob", "laptop");
    say(&mut alice, 0);
    expect(&mut bob, 0..1);
    let resume = bob.resume();
    drop(bob);
    (1..9).for_each(|n| say(&mut alice, n));
    let mut bob = node.resumed("bob", "laptop", resume);
    assert!(bob.welcome.recovered);
    expect(&mut bob, 1..9);
    bob.caught_up();
    assert_eq!(count(node.handle(), Counter::BodyFetches), 0);
}

#[test]
fn after_a_restart_what_was_missed_is_read_in_the_store_and_keeps_its_order() {
    let node = Node::start();
    gather(&node);
    let mut alice = node.live("alice", "phone");
    let mut bob = node.live("bob", "laptop");
    say(&mut alice, 0);
    expect(&mut bob, 0..1);
    let resume = bob.resume();
    drop(bob);
    (1..40).for_each(|n| say(&mut alice, n));
    drop(alice);
    let node = node.restart();
    let mut bob = node.resumed("bob", "laptop", resume);
    assert!(bob.welcome.recovered);
    let mut alice = node.live("alice", "phone");
    say(&mut alice, 40);
    expect(&mut bob, 1..41);
    let fetched = count(node.handle(), Counter::BodyFetches);
    assert!(
        (19..40).contains(&fetched),
        "{fetched} fetches of 19 bodies"
    );
    assert_eq!(count(node.handle(), Counter::BodiesGone), 0);
}

#[test]
fn below_the_ring_and_beyond_the_table_the_log_and_the_store_give_all_in_order() {
    let tune = |n: &mut hawser_gateway::node::config::NodeConfig| {
        (n.replay_bytes, n.body_bytes) = (6_000, 1);
    };
    let node = Node::with(|_| (), tune);
    gather(&node);
    let mut alice = node.live("alice", "phone");
    let mut bob = node.live("bob", "laptop");
    say(&mut alice, 0);
    expect(&mut bob, 0..1);
    let resume = bob.resume();
    drop(bob);
    (1..60).for_each(|n| say(&mut alice, n));
    let mut bob = node.resumed("bob", "laptop", resume);
    assert!(bob.welcome.recovered);
    expect(&mut bob, 1..60);
    bob.caught_up();
    node.counted(Counter::LagLogReads, 1);
    node.counted(Counter::BodyFetches, 20);
    node.counted(Counter::BodyEvictions, 20);
}

#[test]
fn a_store_that_is_away_delays_a_message_and_what_comes_after_it_and_loses_nothing() {
    let node = Node::start();
    gather(&node);
    let away = Arc::new(AtomicBool::new(true));
    let (beside, at_beside) = node.beside_with(
        |services| {
            let inner = services.store.clone();
            let away = away.clone();
            services.store = Arc::new(Away { away, inner });
        },
        |n| n.body_bytes = 1,
    );
    let mut alice = node.live("alice", "phone");
    let mut bob = node.live("bob", "laptop");
    say(&mut alice, 0);
    expect(&mut bob, 0..1);
    let resume = bob.resume();
    drop(bob);
    // Of the large ones the other node has the last alone.
    (1..5).for_each(|n| say(&mut alice, n));
    eventually("both bodies have come", || {
        count(&beside, Counter::Bodies) == 3
    });
    let token = node.token("bob", "laptop");
    let mut bob = Client::connect(&at_beside, &token, "laptop", resume);
    assert!(bob.welcome.recovered);
    expect(&mut bob, 1..2);
    eventually("it is asked for again and again", || {
        count(&beside, Counter::BodyFetches) >= 3
    });
    say(&mut alice, 5);
    assert!(bob.quiet(Duration::from_millis(300)), "5 waits behind 2");
    assert_eq!(beside.counters().sum(Gauge::BodiesWanted), 1);
    away.store(false, Ordering::SeqCst);
    expect(&mut bob, 2..6);
    bob.caught_up();
    say(&mut alice, 6);
    expect(&mut bob, 6..7);
    assert_eq!(count(&beside, Counter::BodiesGone), 0);
    beside.join().expect("a clean end");
}

#[test]
fn a_node_that_the_lane_passes_by_fetches_and_its_users_miss_nothing() {
    let a = Node::with(|_| (), |n| n.cluster = member("a", 900));
    let owned = |handle: &NodeHandle| handle.counters().sum(Gauge::PartitionsOwned);
    eventually("it owns all", || owned(a.handle()) == 16);
    // It has a lane of its own, which the embedded log's ingest, made for one node, knows nothing of.
    let (b, at_b) = a.beside(|n| n.cluster = member("b", 900));
    eventually("each has its half", || {
        owned(a.handle()) == 8 && owned(&b) == 8
    });
    gather(&a);
    let mut alice = stay(&a, &a.plain, "alice", "phone");
    let others = CREW[1..].iter().map(|user| stay(&a, &at_b, user, "phone"));
    let mut others: Vec<Client> = others.collect();
    (0..6).for_each(|n| say(&mut alice, n));
    for other in &mut others {
        expect(other, 0..6);
    }
    assert_eq!(count(&b, Counter::Bodies), 0);
    assert!((3..=6).contains(&count(&b, Counter::BodyFetches)));
    assert_eq!(count(a.handle(), Counter::Bodies), 3);
    b.join().expect("a clean end");
}

#[test]
fn on_kafka_each_of_two_nodes_gets_every_body_once_by_its_own_lane() {
    let Some(brokers) = std::env::var("HAWSER_TEST_KAFKA")
        .ok()
        .filter(|_| cfg!(feature = "engines"))
    else {
        println!("SKIPPED: HAWSER_TEST_KAFKA is not set, or the build is one without engines");
        return;
    };
    let (one, prefix) = (brokers.split(',').count() < 2, new_id());
    let change = |config: &mut hawser_gateway::config::Config| {
        config.log.kind = "kafka".to_owned();
        config.log.bootstrap = brokers.split(',').map(str::to_owned).collect();
        config.log.prefix = format!("references-{prefix}-");
        config.log.allow_unsafe_log = one;
        config.log.partitions = 8;
    };
    let a = Node::with(change, |n| n.cluster = member("a", 3_000));
    let owned = |handle: &NodeHandle| handle.counters().sum(Gauge::PartitionsOwned);
    eventually("it owns all", || owned(a.handle()) == 8);
    let (b, at_b) = a.beside_with(
        |services| services.ingest = None,
        |n| n.cluster = member("b", 3_000),
    );
    eventually("each has its half", || {
        owned(a.handle()) == 4 && owned(&b) == 4
    });
    gather(&a);
    let mut alice = stay(&a, &a.plain, "alice", "phone");
    let others = CREW[1..].iter().map(|user| stay(&a, &at_b, user, "phone"));
    let mut others: Vec<Client> = others.collect();
    (0..MESSAGES).for_each(|n| say(&mut alice, n));
    for other in &mut others {
        expect(other, 0..MESSAGES);
    }
    let large = u64::from(MESSAGES / 2);
    eventually("each lane has brought all", || {
        let brought = [a.handle(), &b].map(|node| count(node, Counter::Bodies));
        brought == [large, large]
    });
    // What an owner was asked for in the store came late by its lane, if at all.
    for node in [a.handle(), &b] {
        let fetches = count(node, Counter::BodyFetches);
        println!("{fetches} of {large} bodies were fetched");
        assert!(fetches < large);
        assert_eq!(count(node, Counter::BodiesGone), 0);
    }
    b.join().expect("a clean end");
}
