//! Edge-sharded groups: past a size records list no one, and ingest keeps no list either.

use super::Bench;
use crate::ingest::{IngestConfig, Plan, Verdict};
use crate::rig::engine::{CONFIG, PARTITIONS};
use crate::rig::{chat, create, deliveries, group_op, plain, sent, user, users};
use hawser_engines::directory::GroupNews;
use hawser_engines::log::Topic;
use hawser_engines::store::{Headcount, Store, StoreOp};
use hawser_protocol::codes::ErrorCode;
use hawser_protocol::ids::Seq;
use hawser_protocol::limits::{GROUP_CHANGE_MAX, GROUP_MEMBERS_MAX};
use hawser_protocol::partition::partition;
use hawser_protocol::record::{Audience, DeliveryKind, DeliveryRecord, GroupOp, SourceRecord};
use std::collections::BTreeSet;

const CREW: &str = "g:crew";

/// Three members are a giant group.
fn bench() -> Bench {
    let listed_max = 2;
    Bench::with(IngestConfig {
        listed_max,
        ..CONFIG
    })
}

/// Another process goes on: it knows what is stored.
fn taken_over(before: Bench) -> Bench {
    let mut bench = bench();
    bench.store = before.store;
    bench.next = before.next;
    bench
}

fn add(n: u16, names: &[&str]) -> SourceRecord {
    let users = users(names);
    group_op("alice", n, CREW, GroupOp::Add { users })
}

fn count(bench: &Bench) -> Option<Headcount> {
    let info = bench.store.chat(&chat(CREW)).unwrap().unwrap();
    info.sharded.map(|sharded| sharded.count)
}

fn headcount(members: u32, admins: u32) -> Option<Headcount> {
    Some(Headcount { members, admins })
}

/// Members told of, by partition; every partition's last record is the message, to its members.
fn shards(plan: &Plan) -> BTreeSet<(u32, String)> {
    let all = deliveries(&plan.produce);
    let mut told = BTreeSet::new();
    for at in 0..PARTITIONS {
        let mut records: Vec<&DeliveryRecord> = Vec::new();
        records.extend(all.iter().filter(|(p, _)| *p == at).map(|(_, r)| r));
        let places: Vec<u16> = records.iter().map(|r| r.sub_index).collect();
        let mut expected: Vec<u16> = (0..).take(records.len() - 1).collect();
        expected.push(u16::MAX);
        assert_eq!(places, expected, "each above the one before");
        let Some((last, before)) = records.split_last() else {
            panic!("partition {at} gets nothing");
        };
        let DeliveryKind::Message { recipients, .. } = &last.kind else {
            panic!("no message");
        };
        assert_eq!(*recipients, Audience::Members { changed: true });
        for record in before {
            let DeliveryKind::Shard { members, .. } = &record.kind else {
                panic!("neither members nor a message");
            };
            for member in members {
                assert_eq!(partition(member.user.as_str(), PARTITIONS), at);
                assert!(told.insert((at, member.user.to_string())), "told twice");
            }
        }
    }
    told
}

fn names(told: &BTreeSet<(u32, String)>) -> BTreeSet<&str> {
    told.iter().map(|(_, user)| user.as_str()).collect()
}

#[test]
fn a_group_that_becomes_too_large_tells_its_partitions_who_is_in_it_and_lists_no_one_afterwards() {
    let mut bench = bench();
    bench.take(&create("alice", 1, CREW, &["bob"]));
    assert_eq!(count(&bench), None);
    let plan = bench.take(&add(2, &["carol", "dave"]));
    assert_eq!(
        names(&shards(&plan)),
        BTreeSet::from(["alice", "bob", "carol", "dave"])
    );
    assert_eq!(count(&bench), headcount(4, 1));
    let kept = plan.produce.iter().filter(|p| p.topic == Topic::Shards);
    let keys: Vec<_> = kept.clone().map(|p| p.key.clone()).collect();
    assert_eq!(
        keys,
        ["g:crew/alice", "g:crew/bob", "g:crew/carol", "g:crew/dave"]
    );
    // All that is kept comes before all that is delivered.
    let first = plan.produce.iter().position(|p| p.topic == Topic::Delivery);
    assert_eq!(first, Some(kept.count()));

    let plan = bench.take(&sent("bob", plain(CREW, 7)));
    assert_eq!(plan.verdict, Verdict::Accepted);
    let all = deliveries(&plan.produce);
    assert_eq!(all.len(), PARTITIONS as usize, "one for each partition");
    for (at, record) in all {
        let DeliveryKind::Message {
            recipients,
            sender_entry,
            ..
        } = record.kind
        else {
            panic!("no message");
        };
        assert_eq!(recipients, Audience::Members { changed: false });
        let senders = partition("bob", PARTITIONS) == at;
        assert_eq!(sender_entry.is_some(), senders);
    }
    let refused = bench.refusal(&sent("mallory", plain(CREW, 8)));
    assert_eq!(refused, Some(ErrorCode::NotMember));
}

#[test]
fn a_change_tells_only_whom_it_touches_and_asks_for_no_others() {
    let mut bench = bench();
    bench.take(&create("alice", 1, CREW, &["bob", "carol"]));
    let mut bench = taken_over(bench);
    let plan = bench.take(&add(2, &["dave", "bob"]));
    // bob is in it already.
    assert_eq!(names(&shards(&plan)), BTreeSet::from(["dave"]));
    let [(GroupNews::Touched(delta), _)] = plan.groups.as_slice() else {
        panic!("{:?}", plan.groups);
    };
    assert_eq!(delta.members, [("dave".to_owned(), false)]);
    assert_eq!(count(&bench), headcount(4, 1));
    let users = users(&["carol"]);
    let plan = bench.take(&group_op("alice", 3, CREW, GroupOp::Remove { users }));
    assert_eq!(names(&shards(&plan)), BTreeSet::from(["carol"]));
    let [(GroupNews::Touched(delta), _)] = plan.groups.as_slice() else {
        panic!("{:?}", plan.groups);
    };
    assert_eq!(delta.left, ["carol"]);
    assert_eq!(count(&bench), headcount(3, 1));
    let refused = bench.refusal(&sent("carol", plain(CREW, 8)));
    assert_eq!(refused, Some(ErrorCode::NotMember));
}

#[test]
fn the_last_admin_stays_though_nobody_lists_them() {
    let mut bench = bench();
    bench.take(&create("alice", 1, CREW, &["bob", "carol"]));
    let admin = |by: &str, n, name: &str, admin| {
        let user = user(name);
        group_op(by, n, CREW, GroupOp::SetAdmin { user, admin })
    };
    let leave = |by: &str, n| group_op(by, n, CREW, GroupOp::Leave);
    assert_eq!(bench.refusal(&leave("alice", 2)), Some(ErrorCode::Conflict));
    assert_eq!(
        bench.refusal(&admin("alice", 3, "alice", false)),
        Some(ErrorCode::Conflict)
    );
    assert_eq!(bench.refusal(&admin("alice", 4, "bob", true)), None);
    assert_eq!(count(&bench), headcount(3, 2));
    assert_eq!(bench.refusal(&leave("alice", 5)), None);
    assert_eq!(count(&bench), headcount(2, 1));
    assert_eq!(bench.refusal(&leave("bob", 6)), Some(ErrorCode::Conflict));
    // Once large, always told so.
    let plan = bench.take(&sent("bob", plain(CREW, 9)));
    assert_eq!(deliveries(&plan.produce).len(), PARTITIONS as usize);
    let relax = group_op("bob", 7, CREW, GroupOp::Relax { lanes: 4 });
    assert_eq!(bench.refusal(&relax), Some(ErrorCode::Conflict));
}

#[test]
fn a_group_grows_to_its_largest_size_and_never_beyond() {
    let mut before = bench();
    before.take(&create("alice", 1, CREW, &["bob", "carol"]));
    // As if all but one of the others had joined too.
    let mut info = before.store.chat(&chat(CREW)).unwrap().unwrap();
    let all = u32::try_from(GROUP_MEMBERS_MAX).unwrap();
    info.write_seq = Seq(info.write_seq.0 + 1);
    if let Some(sharded) = &mut info.sharded {
        sharded.count.members = all - 1;
    }
    let chat = chat(CREW);
    before.store.write(&[StoreOp::Chat { chat, info }]).unwrap();
    let mut bench = taken_over(before);
    bench.place(&add(9, &["nobody"]));
    let refused = bench.refusal(&add(2, &["dave", "erin"]));
    assert_eq!(refused, Some(ErrorCode::GroupFull));
    assert_eq!(bench.refusal(&add(3, &["dave"])), None);
    assert_eq!(count(&bench), headcount(all, 1));
    let refused = bench.refusal(&add(4, &["erin"]));
    assert_eq!(refused, Some(ErrorCode::GroupFull));
}

#[test]
fn a_change_of_many_is_told_in_records_that_the_log_takes() {
    let mut bench = bench();
    let names: Vec<String> = (0..GROUP_CHANGE_MAX)
        .map(|n| format!("member-{n:05}-{}", "x".repeat(50)))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let plan = bench.take(&create("alice", 1, CREW, &names));
    assert_eq!(plan.verdict, Verdict::Changed);
    assert_eq!(shards(&plan).len(), GROUP_CHANGE_MAX + 1);
    assert!(plan.produce.iter().all(|p| p.value.len() < 1 << 20));
}
