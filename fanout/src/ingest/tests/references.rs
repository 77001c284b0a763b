//! Messages that are referred to: which are, what is stored and sent, and to whom.

use super::{Bench, told};
use crate::ingest::{Core, Driver, DriverConfig, IngestConfig, IngestShare, Plan};
use crate::rig::engine::{CONFIG, PARTITIONS, Rig, until};
use crate::rig::memory_store::MemoryStore;
use crate::rig::{chat, create, deliveries, envelope, plain, sent};
use bytes::Bytes;
use hawser_engines::log::Topic;
use hawser_engines::store::{Page, Store};
use hawser_protocol::message::{MessageRecord, Send};
use hawser_protocol::ownership::{
    Kind, LeaseRecord, NodeName, NodeRecord, NodeState, OwnerRecord, Table,
};
use hawser_protocol::partition::partition;
use hawser_protocol::record::{Audience, BodyRecord, DeliveryKind};
use std::collections::BTreeSet;
use std::sync::Arc;

const CREW: [&str; 7] = ["bob", "carol", "dave", "erin", "frank", "grace", "heidi"];
const ABOVE: usize = 1_000;

fn referring() -> IngestConfig {
    IngestConfig {
        reference_bytes: ABOVE,
        ..CONFIG
    }
}

fn bench() -> Bench {
    Bench {
        core: Core::new(referring(), 1),
        ..Bench::new()
    }
}

fn large(to: &str, n: u16) -> Send {
    Send {
        body: Bytes::from(vec![b'x'; ABOVE]),
        ..plain(to, n)
    }
}

/// Whether all delivery records refer to their message (`true`) or all have it in them.
fn by_reference(plan: &Plan) -> bool {
    let kinds: BTreeSet<bool> = deliveries(&plan.produce)
        .iter()
        .map(|(_, record)| matches!(record.kind, DeliveryKind::Reference { .. }))
        .collect();
    assert_eq!(kinds.len(), 1);
    assert_eq!(plan.body.is_some(), kinds.contains(&true));
    kinds.contains(&true)
}

#[test]
fn a_large_message_in_many_partitions_is_referred_to_and_the_reference_means_the_stored_row() {
    let mut bench = bench();
    bench.take(&create("alice", 1, "g:crew", &CREW));
    let mut send = large("g:crew", 2);
    send.envelopes = vec![envelope("bob", "x", b"B"), envelope("mallory", "z", b"M")];
    let plan = bench.take(&sent("alice", send));
    assert!(by_reference(&plan));
    let body = BodyRecord::decode(plan.body.as_ref().unwrap()).unwrap();
    let (mut to, mut senders, mut envelopes) = (0, 0, 0);
    for (at, record) in deliveries(&plan.produce) {
        assert_eq!(record.body_key(), body.key);
        let DeliveryKind::Reference {
            recipients: Audience::Listed(recipients),
            envelopes: mine,
            sender_entry,
            chat: of,
            referred,
        } = record.kind
        else {
            panic!("not a reference");
        };
        assert!(
            recipients
                .iter()
                .all(|u| partition(u.as_str(), PARTITIONS) == at)
        );
        to += recipients.len();
        senders += usize::from(sender_entry.is_some());
        envelopes += mine.len();
        assert!(referred.is(&body.record));
        let page = Page::one(referred.ordinal);
        let rows = bench.store.messages(&of, page).unwrap();
        assert_eq!((&rows[0].record, rows[0].seq), (&body.record, body.key.seq));
    }
    assert_eq!((to, senders, envelopes), (8, 1, 1));
    let bytes: usize = plan.produce.iter().map(|p| p.value.len()).sum();
    assert!(bytes < 8 * 150, "{bytes} bytes of delivery records");
}

#[test]
fn what_is_small_or_in_two_partitions_goes_whole_and_zero_refers_to_nothing() {
    let mut bench = bench();
    bench.take(&create("alice", 1, "g:crew", &CREW));
    assert!(!by_reference(
        &bench.take(&sent("alice", plain("g:crew", 2)))
    ));
    let two = large("dm:alice:bob", 3);
    assert!(!by_reference(&bench.take(&sent("alice", two))));
    let mut never = Bench::new();
    never.take(&create("alice", 1, "g:crew", &CREW));
    assert!(!by_reference(
        &never.take(&sent("alice", large("g:crew", 2)))
    ));
}

#[test]
fn a_replay_makes_the_same_references_and_the_same_body() {
    let mut bench = bench();
    bench.take(&create("alice", 1, "g:crew", &CREW));
    let (at, record) = bench.place(&sent("alice", large("g:crew", 2)));
    let first = bench.core.judge(at, &record, &bench.store).unwrap();
    bench.store.write(&first.store).unwrap();
    let again = Core::new(referring(), 1)
        .judge(at, &record, &bench.store)
        .unwrap();
    let values = |plan: &Plan| -> Vec<(u32, Bytes)> {
        let all = plan.produce.iter();
        all.map(|p| (p.partition, p.value.clone())).collect()
    };
    assert!(by_reference(&first));
    assert_eq!(values(&first), values(&again));
    assert_eq!(first.body, again.body);
}

#[test]
fn a_change_of_a_group_with_many_members_is_referred_to_and_replayed_so() {
    let mut bench = bench();
    let crew: Vec<String> = (0..200).map(|n| format!("member{n:03}")).collect();
    let crew: Vec<&str> = crew.iter().map(String::as_str).collect();
    let source = create("alice", 1, "g:crew", &crew);
    let (at, record) = bench.place(&source);
    let first = bench.core.judge(at, &record, &bench.store).unwrap();
    assert!(by_reference(&first));
    bench.store.write(&first.store).unwrap();
    let mut other = Core::new(referring(), 1);
    let again = other.judge(at, &record, &bench.store).unwrap();
    assert_eq!((told(&first), &first.body), (told(&again), &again.body));
}

#[test]
fn a_parked_message_is_without_its_body_and_refers_to_nothing() {
    let mut bench = bench();
    bench.take(&create("alice", 1, "g:crew", &CREW));
    let (at, record) = bench.place(&sent("alice", large("g:crew", 2)));
    let plan = bench.core.park(at, &record, &bench.store).unwrap();
    assert_eq!(plan.body, None);
    let mut to = 0;
    for (_, record) in deliveries(&plan.produce) {
        match record.kind {
            DeliveryKind::Message {
                recipients: Audience::Listed(recipients),
                record,
                ..
            } => {
                to += recipients.len();
                assert!(MessageRecord::decode(&record).unwrap().body.is_empty());
            }
            DeliveryKind::Result { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(to, 8);
}

/// Who owns all partitions: by their number modulo the lanes given; a node whose lane is `None` reads none.
fn owned_by(lanes: &[Option<u32>]) -> Table {
    let mut table = Table::new(PARTITIONS, PARTITIONS);
    let mut offset = 0;
    let mut apply = |record: LeaseRecord| {
        table.apply(offset, record.key().as_bytes(), &record.value());
        offset += 1;
    };
    let name = |n: usize| NodeName::new(&format!("n{n}")).unwrap();
    for (n, lane) in lanes.iter().enumerate() {
        let record = NodeRecord {
            incarnation: 7,
            replaces: 0,
            beat: 1,
            state: NodeState::Active,
            weight: 1,
            edge: true,
            ingest: false,
            url: String::new(),
            plain_url: String::new(),
            link: String::new(),
            lane: *lane,
        };
        apply(LeaseRecord::Node(name(n), record));
    }
    for partition in 0..PARTITIONS {
        let owner = OwnerRecord {
            lease_epoch: 1,
            node: name(partition as usize % lanes.len()),
            incarnation: 7,
        };
        apply(LeaseRecord::Owner(Kind::Delivery, partition, owner));
    }
    table
}

#[test]
fn a_body_goes_once_to_each_lane_whose_nodes_own_a_partition_that_it_is_for() {
    let rig = Rig::plain();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let share = IngestShare::default();
    (0..PARTITIONS).for_each(|partition| share.own(partition));
    share.set_in_place(true);
    share.learn_lanes(&owned_by(&[Some(1), None, Some(2), Some(1)]));
    let mut config = DriverConfig::from(referring());
    config.share = Some(share);
    let driver = Driver::start(rig.log.clone(), store, rig.directory.clone(), config).unwrap();
    let crew: Vec<String> = (0..60).map(|n| format!("m{n}")).collect();
    let crew: Vec<&str> = crew.iter().map(String::as_str).collect();
    rig.append(&[
        create("alice", 1, "g:crew", &crew),
        sent("alice", large("g:crew", 2)),
        sent("alice", plain("g:crew", 3)),
    ]);
    until("all is delivered", || {
        rig.delivered().len() == 3 * PARTITIONS as usize
    });
    let on_lane = |lane| {
        let records = rig.log.read(Topic::Bodies, lane, 0, 100, 1 << 20).unwrap();
        let bodies = records
            .iter()
            .map(|r| BodyRecord::decode(&r.value).unwrap());
        let chats: Vec<_> = bodies
            .map(|b| MessageRecord::decode(&b.record).unwrap())
            .filter(|m| m.body.len() == ABOVE)
            .map(|m| m.chat)
            .collect();
        chats
    };
    for lane in 0..PARTITIONS {
        let expected = match lane {
            1 | 2 => vec![chat("g:crew")],
            _ => Vec::new(),
        };
        assert_eq!(on_lane(lane), expected, "lane {lane}");
    }
    let counts = driver.counters().read();
    assert_eq!((counts.bodies % 2, counts.bodies_lost), (0, 0));
    driver.stop();
}
