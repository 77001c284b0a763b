//! Relaxed order: what is spread, where it goes, and that nothing is lost or doubled by it.

use super::Bench;
use crate::ingest::window::NODE_SKEW_MS_MAX;
use crate::ingest::{MembershipBody, MembershipOp, Plan, Verdict};
use crate::rig::{NOW_MS, chat, create, deliveries, device, group_op, id_at, plain, user, users};
use hawser_engines::log::Topic;
use hawser_engines::store::{DedupRow, Store, StoreOp};
use hawser_protocol::codes::ErrorCode;
use hawser_protocol::ids::{ClientMsgId, Seq};
use hawser_protocol::lanes::Lanes;
use hawser_protocol::limits::{CLOCK_SKEW_MS_MAX, LANES_NOTICE_MS};
use hawser_protocol::message::{MessageRecord, Send};
use hawser_protocol::record::{DeliveryKind, GroupOp, LaneOp, SourceRecord};

const HALL: &str = "g:hall";
const LANES: u8 = 4;
const SINCE: u64 = NOW_MS + LANES_NOTICE_MS;

fn lanes() -> Lanes {
    Lanes::new(LANES, SINCE).unwrap()
}

/// An id of after the change that belongs to this lane.
fn id_of(lane: u8, nth: usize) -> ClientMsgId {
    let ids = (0..u16::MAX).map(|n| id_at(SINCE, n));
    ids.filter(|id| lanes().of(id) == lane).nth(nth).unwrap()
}

fn say(by: &str, to: &str, id: ClientMsgId) -> SourceRecord {
    SourceRecord::Send {
        sender: user(by),
        device: device("phone"),
        send: Box::new(Send {
            client_msg_id: id,
            ..plain(to, 0)
        }),
    }
}

/// What a plan writes into other lanes.
fn passed_on(plan: &Plan) -> Vec<SourceRecord> {
    let sources = plan
        .produce
        .iter()
        .filter(|p| p.topic == Topic::ChatMessages);
    sources
        .map(|p| SourceRecord::decode(&p.value).unwrap())
        .collect()
}

fn relax(bench: &mut Bench) -> Plan {
    bench.take(&group_op("alice", 2, HALL, GroupOp::Relax { lanes: LANES }))
}

/// alice (admin) and bob, in relaxed order, all lanes begun.
fn hall() -> Bench {
    let mut bench = Bench::new();
    bench.take(&create("alice", 1, HALL, &["bob"]));
    let plan = relax(&mut bench);
    for record in passed_on(&plan) {
        assert_eq!(bench.take(&record).verdict, Verdict::Changed);
    }
    bench
}

fn members(bench: &Bench, of: &str) -> Vec<String> {
    let all = bench.store.members(&chat(of)).unwrap();
    let now = all.iter().filter(|m| m.current());
    now.map(|m| m.user.to_string()).collect()
}

fn row(bench: &Bench, by: &str, of: &str, id: ClientMsgId) -> Option<DedupRow> {
    let key = (user(by), device("phone"), chat(of), id);
    bench.store.dedup(&key.0, &key.1, &key.2, &key.3).unwrap()
}

#[test]
fn a_group_is_relaxed_once_by_an_admin_and_every_lane_and_node_is_told() {
    let mut bench = Bench::new();
    bench.take(&create("alice", 1, HALL, &["bob"]));
    let by_bob = group_op("bob", 3, HALL, GroupOp::Relax { lanes: LANES });
    assert_eq!(bench.refusal(&by_bob), Some(ErrorCode::Forbidden));
    let odd = group_op("alice", 4, HALL, GroupOp::Relax { lanes: 3 });
    assert_eq!(bench.refusal(&odd), Some(ErrorCode::BadFrame));
    let plan = relax(&mut bench);
    let told = passed_on(&plan);
    let keys: Vec<_> = told.iter().map(|r| r.chat().to_string()).collect();
    assert_eq!(keys, ["g:hall#1", "g:hall#2", "g:hall#3"]);
    let notice: Vec<_> = plan
        .produce
        .iter()
        .filter(|p| p.topic == Topic::Leases)
        .collect();
    assert_eq!(notice.len(), 1);
    assert_eq!(notice[0].key, "lanes/g:hall");
    assert_eq!(
        serde_json::from_slice::<Lanes>(&notice[0].value).unwrap(),
        lanes()
    );
    let again = group_op("alice", 5, HALL, GroupOp::Relax { lanes: 8 });
    assert_eq!(bench.refusal(&again), Some(ErrorCode::Conflict));
    for record in told {
        let plan = bench.take(&record);
        // The decision stands first.
        let StoreOp::Message { record: stored, .. } = &plan.store[1] else {
            panic!("the change is a message of the lane");
        };
        let stored = MessageRecord::decode(stored).unwrap();
        let body: MembershipBody = serde_json::from_slice(&stored.body).unwrap();
        assert_eq!((body.op, body.lanes), (MembershipOp::Order, Some(LANES)));
        assert!(plan.groups.is_empty(), "a lane is no group of its own");
        assert_eq!(bench.take(&record).verdict, Verdict::Duplicate);
    }
    for lane in 1..LANES {
        assert_eq!(members(&bench, &format!("{HALL}#{lane}")), ["alice", "bob"]);
    }
}

#[test]
fn a_message_is_accepted_in_its_own_lane_and_passed_on_from_any_other() {
    let mut bench = hall();
    for lane in 0..LANES {
        let id = id_of(lane, 0);
        let right = chat(HALL).in_lane(lane).unwrap();
        for other in 0..LANES {
            let here = chat(HALL).in_lane(other).unwrap();
            let plan = bench.take(&say("alice", here.as_str(), id));
            if other == lane {
                continue;
            }
            assert_eq!(plan.verdict, Verdict::Forwarded);
            assert!(plan.store.is_empty());
            assert_eq!(passed_on(&plan), [say("alice", right.as_str(), id)]);
            assert_eq!(row(&bench, "alice", here.as_str(), id), None);
        }
        assert_eq!(
            row(&bench, "alice", right.as_str(), id).map(|r| r.error),
            Some(0)
        );
        let again = bench.take(&say("alice", right.as_str(), id));
        assert_eq!(again.verdict, Verdict::Duplicate);
    }
}

#[test]
fn each_lane_has_an_order_of_its_own() {
    let mut bench = hall();
    for lane in 1..LANES {
        let of = chat(HALL).in_lane(lane).unwrap();
        let mut previous = bench.store.head(&of).unwrap();
        assert_eq!(previous.ordinal, 1, "the record that began it");
        for nth in 0..3 {
            let id = id_of(lane, nth);
            bench.take(&say("bob", of.as_str(), id));
            let row = row(&bench, "bob", of.as_str(), id).unwrap();
            assert_eq!(
                (row.prev_seq, row.ordinal),
                (previous.seq, previous.ordinal + 1)
            );
            previous = bench.store.head(&of).unwrap();
        }
    }
}

#[test]
fn a_message_of_before_the_change_stays_one_message_wherever_it_is_sent_again() {
    let mut bench = Bench::new();
    bench.take(&create("alice", 1, HALL, &["bob"]));
    // A clock that is ahead: stamped as of after the change, judged before it.
    let early = id_of(2, 0);
    assert_eq!(
        bench.take(&say("alice", HALL, early)).verdict,
        Verdict::Accepted
    );
    let first = row(&bench, "alice", HALL, early).unwrap();
    for record in passed_on(&relax(&mut bench)) {
        bench.take(&record);
    }
    let plan = bench.take(&say("alice", HALL, early));
    let on = passed_on(&plan);
    assert_eq!(on.len(), 1);
    let answer = bench.take(&on[0]);
    assert_eq!(answer.verdict, Verdict::Duplicate);
    let stored = bench
        .store
        .messages(&chat(HALL), hawser_engines::store::Page::one(first.ordinal));
    let stored = MessageRecord::decode(&stored.unwrap()[0].record).unwrap();
    let told = deliveries(&answer.produce);
    let DeliveryKind::Result { result, .. } = &told[0].1.kind else {
        panic!("the sender is answered");
    };
    assert_eq!(result.chat, HALL);
    assert_eq!((result.seq, result.ordinal), (first.seq.0, first.ordinal));
    assert_eq!(result.message_id, stored.message_id.0.to_vec());
    // Old ids keep the group's own lane.
    let old = id_at(SINCE - 1, 7);
    assert_eq!(
        bench.take(&say("bob", HALL, old)).verdict,
        Verdict::Accepted
    );
    assert_eq!(
        bench.take(&say("bob", "g:hall#1", old)).verdict,
        Verdict::Forwarded
    );
}

#[test]
fn changes_of_a_relaxed_group_reach_every_lane_once() {
    let mut bench = hall();
    let op = GroupOp::Add {
        users: users(&["carol"]),
    };
    let plan = bench.take(&group_op("alice", 7, HALL, op.clone()));
    let told = passed_on(&plan);
    assert_eq!(told.len(), 3);
    for record in &told {
        let SourceRecord::Lane { op: change, .. } = record else {
            panic!("a lane's record");
        };
        assert_eq!(*change, LaneOp::Change(op.clone()));
        assert_eq!(bench.take(record).verdict, Verdict::Changed);
        assert_eq!(bench.take(record).verdict, Verdict::Duplicate);
        assert_eq!(
            members(&bench, record.chat().as_str()),
            ["alice", "bob", "carol"]
        );
    }
    let refused = bench.take(&group_op("bob", 8, HALL, op));
    assert!(passed_on(&refused).is_empty());
    let gone = bench.take(&group_op("bob", 9, HALL, GroupOp::Leave));
    for record in passed_on(&gone) {
        bench.take(&record);
        let id = id_of(record.chat().lane(), 5);
        let say = say("bob", record.chat().as_str(), id);
        assert_eq!(bench.refusal(&say), Some(ErrorCode::NotMember));
    }
}

#[test]
fn a_replayed_change_tells_the_lanes_again_and_one_of_before_relaxed_order_does_not() {
    let mut bench = Bench::new();
    let first = bench.place(&create("alice", 1, HALL, &["bob"]));
    let second = bench.place(&group_op("alice", 2, HALL, GroupOp::Relax { lanes: LANES }));
    let judge = |bench: &mut Bench, at: &(u32, hawser_engines::log::Record)| {
        let plan = bench.core.judge(at.0, &at.1, &bench.store).unwrap();
        bench.store.write(&plan.store).unwrap();
        bench.core.committed();
        plan
    };
    judge(&mut bench, &first);
    let told = passed_on(&judge(&mut bench, &second));
    bench.core.failed();
    assert!(passed_on(&judge(&mut bench, &first)).is_empty());
    assert_eq!(passed_on(&judge(&mut bench, &second)), told);
}

#[test]
fn a_message_for_a_lane_that_has_not_begun_is_to_be_sent_again() {
    let mut bench = Bench::new();
    bench.take(&create("alice", 1, HALL, &["bob"]));
    let early = say("alice", "g:hall#1", id_of(1, 0));
    assert_eq!(bench.refusal(&early), Some(ErrorCode::Overloaded));
    assert_eq!(bench.store.head(&chat("g:hall#1")).unwrap().seq, Seq::NONE);
    let own = group_op("alice", 5, "g:hall#1", GroupOp::Leave);
    assert_eq!(bench.refusal(&own), Some(ErrorCode::BadId));
}

#[test]
fn who_left_the_group_leaves_its_lanes_whoever_was_admin_when_they_were_begun() {
    let mut bench = Bench::new();
    let op = |n, by, op| group_op(by, n, HALL, op);
    let set = |who, admin| GroupOp::SetAdmin {
        user: user(who),
        admin,
    };
    let carol = users(&["carol"]);
    let changes = [
        create("alice", 1, HALL, &["bob"]),
        op(2, "alice", GroupOp::Relax { lanes: LANES }),
        op(3, "bob", GroupOp::Leave),
        op(4, "alice", GroupOp::Add { users: carol }),
        op(5, "alice", set("carol", true)),
        op(6, "alice", set("alice", false)),
    ];
    let placed: Vec<_> = changes.iter().map(|c| bench.place(c)).collect();
    let judge = |bench: &mut Bench| -> Vec<SourceRecord> {
        let mut told = Vec::new();
        for (partition, record) in &placed {
            let plan = bench.core.judge(*partition, record, &bench.store).unwrap();
            bench.store.write(&plan.store).unwrap();
            told.extend(passed_on(&plan));
        }
        told
    };
    judge(&mut bench);
    // What was told is lost. On the replay alice is no admin any more, and carol was no member yet.
    bench.core.failed();
    for record in judge(&mut bench) {
        assert_eq!(bench.take(&record).verdict, Verdict::Changed);
    }
    for lane in 1..LANES {
        assert_eq!(
            members(&bench, &format!("{HALL}#{lane}")),
            ["alice", "carol"]
        );
    }
}

#[test]
fn a_copy_of_before_the_change_is_known_though_all_clocks_were_ahead() {
    let mut bench = Bench::new();
    bench.take(&create("alice", 1, HALL, &["bob"]));
    // The node that takes it is ahead by what nodes may differ, and its client by what clients may.
    let ahead = NODE_SKEW_MS_MAX - 1;
    let ids = (0..u16::MAX).map(|n| id_at(NOW_MS + ahead + CLOCK_SKEW_MS_MAX, n));
    let early = ids.into_iter().find(|id| lanes().of(id) == 2).unwrap();
    let (partition, mut record) = bench.place(&say("alice", HALL, early));
    record.timestamp_ms += ahead;
    let plan = bench.core.judge(partition, &record, &bench.store).unwrap();
    assert_eq!(plan.verdict, Verdict::Accepted);
    bench.store.write(&plan.store).unwrap();
    for record in passed_on(&relax(&mut bench)) {
        bench.take(&record);
    }
    let (partition, mut again) = bench.place(&say("alice", "g:hall#2", early));
    again.timestamp_ms += ahead;
    let plan = bench.core.judge(partition, &again, &bench.store).unwrap();
    assert_eq!(plan.verdict, Verdict::Duplicate);
}
