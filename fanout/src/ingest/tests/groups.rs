//! Groups: who may do what, and what comes of it.

use super::{Bench, told};
use crate::ingest::{Core, MembershipBody, MembershipOp, Plan, Verdict};
use crate::rig::engine::{CONFIG, Rig};
use crate::rig::{chat, create, deliveries, group_op, plain, sent, user, users};
use hawser_engines::log::Topic;
use hawser_engines::store::Store;
use hawser_protocol::codes::ErrorCode;
use hawser_protocol::limits::{BODY_BYTES_MAX, GROUP_LISTED_MAX};
use hawser_protocol::message::{MessageRecord, MessageType};
use hawser_protocol::record::{Audience, DeliveryKind, GroupOp, SourceRecord};
use std::collections::BTreeSet;

const CREW: &str = "g:crew";

fn add(by: &str, n: u16, names: &[&str]) -> SourceRecord {
    group_op(
        by,
        n,
        CREW,
        GroupOp::Add {
            users: users(names),
        },
    )
}

fn remove(by: &str, n: u16, names: &[&str]) -> SourceRecord {
    group_op(
        by,
        n,
        CREW,
        GroupOp::Remove {
            users: users(names),
        },
    )
}

fn leave(by: &str, n: u16) -> SourceRecord {
    group_op(by, n, CREW, GroupOp::Leave)
}

fn admin(by: &str, n: u16, name: &str, admin: bool) -> SourceRecord {
    let user = user(name);
    group_op(by, n, CREW, GroupOp::SetAdmin { user, admin })
}

fn rename(by: &str, n: u16) -> SourceRecord {
    let (name, picture) = ("New".into(), "p".into());
    group_op(by, n, CREW, GroupOp::Update { name, picture })
}

/// alice (admin), bob.
fn crew() -> Bench {
    let mut bench = Bench::new();
    bench.take(&create("alice", 1, CREW, &["bob"]));
    bench
}

#[test]
fn only_admins_change_a_group_and_strangers_learn_nothing_of_it() {
    type Make = fn(&str) -> SourceRecord;
    let ops: [Make; 5] = [
        |by| add(by, 5, &["carol"]),
        |by| remove(by, 6, &["bob"]),
        |by| rename(by, 7),
        |by| admin(by, 8, "bob", true),
        |by| admin(by, 9, "alice", false),
    ];
    for op in ops {
        let mut bench = crew();
        let before = bench.store.rows();
        assert_eq!(bench.refusal(&op("bob")), Some(ErrorCode::Forbidden));
        assert_eq!(bench.refusal(&op("mallory")), Some(ErrorCode::NotMember));
        let after = bench.store.rows();
        assert_eq!(
            (before.members, before.chats, before.messages),
            (after.members, after.chats, after.messages)
        );
    }
    let mut bench = crew();
    assert_eq!(
        bench.refusal(&leave("mallory", 5)),
        Some(ErrorCode::NotMember)
    );
    let nowhere = group_op("alice", 6, "g:nowhere", GroupOp::Leave);
    assert_eq!(bench.refusal(&nowhere), Some(ErrorCode::NotMember));
}

#[test]
fn a_change_contradicting_the_present_state_is_a_conflict() {
    let mut bench = crew();
    for op in [
        create("alice", 2, CREW, &[]),
        create("mallory", 3, CREW, &[]),
        add("alice", 4, &["bob", "alice"]),
        add("alice", 5, &[]),
        remove("alice", 6, &["carol"]),
        admin("alice", 7, "alice", true),
        admin("alice", 8, "bob", false),
        // The last admin stays while others do.
        admin("alice", 9, "alice", false),
        leave("alice", 10),
        remove("alice", 11, &["alice"]),
    ] {
        assert_eq!(bench.refusal(&op), Some(ErrorCode::Conflict), "{op:?}");
    }
    assert_eq!(
        bench.refusal(&admin("alice", 12, "carol", true)),
        Some(ErrorCode::NotFound)
    );
    let dm = group_op("alice", 13, "dm:alice:bob", GroupOp::Leave);
    assert_eq!(bench.refusal(&dm), Some(ErrorCode::BadId));
}

#[test]
fn the_last_admin_leaves_after_making_another_and_the_last_member_leaves_freely() {
    let mut bench = crew();
    for op in [
        admin("alice", 2, "bob", true),
        leave("alice", 3),
        leave("bob", 4),
    ] {
        assert_eq!(bench.take(&op).verdict, Verdict::Changed, "{op:?}");
    }
    assert!(
        bench
            .store
            .members(&chat(CREW))
            .unwrap()
            .iter()
            .all(|m| !m.current() && !m.admin)
    );
    assert_eq!(
        bench.refusal(&add("alice", 5, &["alice"])),
        Some(ErrorCode::NotMember)
    );
}

#[test]
fn a_change_is_a_message_to_those_before_and_those_after() {
    let mut bench = crew();
    for (op, body, to) in [
        (
            add("alice", 2, &["carol"]),
            MembershipOp::Add,
            vec!["alice", "bob", "carol"],
        ),
        (
            remove("alice", 3, &["bob"]),
            MembershipOp::Remove,
            vec!["alice", "bob", "carol"],
        ),
        (
            rename("alice", 4),
            MembershipOp::Update,
            vec!["alice", "carol"],
        ),
        (
            leave("carol", 5),
            MembershipOp::Leave,
            vec!["alice", "carol"],
        ),
    ] {
        let plan = bench.take(&op);
        let mut recipients = BTreeSet::new();
        for (_, record) in deliveries(&plan.produce) {
            let DeliveryKind::Message {
                recipients: Audience::Listed(some),
                record,
                sender_entry: None,
                ..
            } = record.kind
            else {
                panic!("not a message without a sender's entry");
            };
            let record = MessageRecord::decode(&record).unwrap();
            assert_eq!(record.message_type, MessageType::MEMBERSHIP);
            assert_eq!(record.sender_device.as_str(), "api");
            let got: MembershipBody = serde_json::from_slice(&record.body).unwrap();
            assert_eq!(got.op, body);
            recipients.extend(some);
        }
        assert_eq!(recipients, users(&to));
    }
}

#[test]
fn f22_a_removed_member_is_cut_off_at_the_seq_of_the_removal() {
    let rig = Rig::new();
    // One after another in one go, so that they share batches.
    let sources = [
        create("alice", 1, CREW, &["bob"]),
        sent("bob", plain(CREW, 2)),
        remove("alice", 3, &["bob"]),
        sent("bob", plain(CREW, 4)),
        add("alice", 5, &["bob"]),
        sent("bob", plain(CREW, 6)),
        sent("alice", plain(CREW, 7)),
    ];
    rig.append(&sources);
    let mut refused = Vec::new();
    let mut bodies = BTreeSet::new();
    for (_, record) in rig.delivered() {
        match record.kind {
            DeliveryKind::Result { user, result, .. } => {
                refused.push((user.to_string(), result.error));
            }
            DeliveryKind::Message { record, .. } => {
                let record = MessageRecord::decode(&record).unwrap();
                bodies.insert(String::from_utf8_lossy(&record.body).into_owned());
            }
            _ => {}
        }
    }
    assert_eq!(
        refused,
        [("bob".to_owned(), u32::from(ErrorCode::NotMember.number()))]
    );
    assert!(bodies.contains("m2") && bodies.contains("m6") && !bodies.contains("m4"));
}

#[test]
fn f22_a_removed_member_gets_nothing_sent_after_it() {
    let mut bench = crew();
    bench.take(&remove("alice", 2, &["bob"]));
    let plan = bench.take(&sent("alice", plain(CREW, 3)));
    assert_eq!(told(&plan), ["3 m3 to alice"]);
    let receipt = crate::rig::receipt("bob", CREW, 1, 1);
    assert_eq!(bench.refusal(&receipt), Some(ErrorCode::NotMember));
}

#[test]
fn the_directory_shows_the_group_as_the_log_left_it() {
    let rig = Rig::new();
    rig.append(&[
        create("alice", 1, CREW, &["bob"]),
        add("alice", 2, &["carol"]),
        admin("alice", 3, "carol", true),
        rename("carol", 4),
        leave("bob", 5),
    ]);
    let group = rig.directory.group(&chat(CREW)).unwrap().unwrap();
    assert_eq!(group.name, "New");
    assert_eq!(group.members, ["alice", "carol"]);
    assert_eq!(group.admins, ["alice", "carol"]);
}

#[test]
fn a_group_of_the_largest_size_that_is_listed_is_made_and_told() {
    let names: Vec<String> = (1..GROUP_LISTED_MAX)
        .map(|n| format!("member-{n:05}-{}", "x".repeat(50)))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut bench = Bench::new();
    let plan = bench.take(&create("alice", 1, CREW, &names));
    assert_eq!(plan.verdict, Verdict::Changed);
    for (_, record) in deliveries(&plan.produce) {
        let DeliveryKind::Message { record, .. } = record.kind else {
            panic!("not a message")
        };
        assert!(record.len() < BODY_BYTES_MAX);
        let body: MembershipBody =
            serde_json::from_slice(&MessageRecord::decode(&record).unwrap().body).unwrap();
        assert_eq!((body.count, body.users.len()), (GROUP_LISTED_MAX, 512));
    }
    assert!(plan.produce.iter().all(|p| p.value.len() < 1 << 20));
    // Receipts in so large a group are told to their user alone.
    let plan = bench.take(&crate::rig::receipt("alice", CREW, 99, 99));
    assert_eq!(told(&plan), ["receipt of alice to alice"]);
}

#[test]
fn an_outcome_is_remembered_for_whoever_asked() {
    let mut bench = crew();
    let op = rename("bob", 2);
    assert_eq!(bench.refusal(&op), Some(ErrorCode::Forbidden));
    let row = bench.store.dedup(
        &user("bob"),
        &crate::rig::device("api"),
        &chat(CREW),
        &crate::rig::id(2),
    );
    assert_eq!(row.unwrap().unwrap().error, ErrorCode::Forbidden.number());
    // Asked again under the same id: the same outcome, though by now it would be allowed.
    bench.take(&admin("alice", 3, "bob", true));
    assert_eq!(bench.take(&op).verdict, Verdict::Duplicate);
    assert_eq!(bench.store.chat(&chat(CREW)).unwrap().unwrap().name, "Crew");
}

#[test]
fn other_services_are_told_who_is_in_a_group_and_who_did_what() {
    let told = |plan: &Plan, topic: Topic| -> Vec<serde_json::Value> {
        let of = plan.produce.iter().filter(|p| p.topic == topic);
        of.map(|p| serde_json::from_slice(&p.value).unwrap())
            .collect()
    };
    let mut bench = Bench::new();
    let plan = bench.take(&create("alice", 900, "g:crew", &["bob"]));
    let members = &told(&plan, Topic::GroupMembers)[0];
    assert_eq!(members["op"], "create");
    assert_eq!(members["joined"], serde_json::json!(["alice", "bob"]));
    let remove = GroupOp::Remove {
        users: users(&["bob"]),
    };
    let (at, record) = bench.place(&group_op("alice", 901, "g:crew", remove));
    let plan = bench.core.judge(at, &record, &bench.store).unwrap();
    let members = &told(&plan, Topic::GroupMembers)[0];
    assert_eq!(
        (&members["by"], &members["chat"]),
        (&"alice".into(), &"g:crew".into())
    );
    assert_eq!(members["left"], serde_json::json!(["bob"]));
    assert_eq!(told(&plan, Topic::AuditLogs)[0]["action"], "group.remove");
    bench.store.write(&plan.store).unwrap();
    // Seen again by another process: the same is told again.
    let mut other = Core::new(CONFIG, 1);
    let again = other.judge(at, &record, &bench.store).unwrap();
    for topic in [Topic::GroupMembers, Topic::AuditLogs] {
        assert_eq!(told(&again, topic), told(&plan, topic));
    }
    let refused = bench.take(&group_op("bob", 902, "g:crew", GroupOp::Leave));
    assert_eq!(
        told(&refused, Topic::GroupMembers),
        Vec::<serde_json::Value>::new()
    );
    let code = ErrorCode::NotMember.number();
    assert_eq!(told(&refused, Topic::AuditLogs)[0]["error"], code);
}
