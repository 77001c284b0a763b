//! Messages, duplicates, receipts, and records that cannot be processed.

use super::{Bench, told};
use crate::ingest::{Core, Plan, TIME_MS_MIN, Verdict};
use crate::rig::engine::{CONFIG, PARTITIONS, Rig};
use crate::rig::{
    NOW_MS, at, chat, create, deliveries, device, envelope, group_op, id_at, plain, receipt, sent,
    user, users,
};
use bytes::Bytes;
use hawser_engines::log::Topic;
use hawser_engines::store::{Page, Store};
use hawser_protocol::codes::ErrorCode;
use hawser_protocol::ids::{ChatId, MessageId, Seq, UserId};
use hawser_protocol::limits::{
    BODY_BYTES_MAX, CLOCK_SKEW_MS_MAX, DEDUP_WINDOW_MS, ENVELOPE_BYTES_MAX,
};
use hawser_protocol::message::{MessageRecord, MessageType};
use hawser_protocol::partition::partition;
use hawser_protocol::record::{Audience, DeliveryKind, GroupOp, SourceRecord};
use std::collections::BTreeSet;

fn rows(store: &dyn Store, of: &str) -> Vec<MessageRecord> {
    let page = Page {
        from: 1,
        to: u64::MAX,
        backwards: false,
        limit: 10_000,
        bytes_max: usize::MAX,
    };
    let rows = store.messages(&chat(of), page).unwrap();
    rows.iter()
        .map(|row| MessageRecord::decode(&row.record).unwrap())
        .collect()
}

#[test]
fn g4_seq_grows_ordinals_are_dense_and_prev_seq_chains_within_each_chat() {
    let rig = Rig::new();
    let chats = [
        "dm:alice:bob",
        "dm:alice:carol",
        "dm:bob:carol",
        "dm:alice:alice",
    ];
    let senders = ["alice", "alice", "bob", "alice"];
    let mut sources = Vec::new();
    for n in 0..200 {
        let which = usize::from(n * 7 % 4);
        sources.push(sent(senders[which], plain(chats[which], n)));
    }
    // In one go, so that many share a batch.
    rig.append(&sources);
    for of in chats {
        let rows = rows(&*rig.store, of);
        assert_eq!(rows.len(), 50);
        let (mut previous, mut ordinal) = (Seq::NONE, 0);
        for row in rows {
            assert!(row.seq > previous, "{of}");
            assert_eq!((row.prev_seq, row.ordinal), (previous, ordinal + 1));
            (previous, ordinal) = (row.seq, row.ordinal);
        }
    }
    let ids: BTreeSet<MessageId> = chats
        .iter()
        .flat_map(|of| rows(&*rig.store, of))
        .map(|r| r.message_id)
        .collect();
    assert_eq!(ids.len(), 200);
}

#[test]
fn g3_a_client_msg_id_is_one_message_in_one_batch_and_across_batches() {
    let rig = Rig::new();
    let source = sent("alice", plain("dm:alice:bob", 1));
    rig.append(&[source.clone(), source.clone()]);
    rig.append(std::slice::from_ref(&source));
    let stored = rows(&*rig.store, "dm:alice:bob");
    assert_eq!(stored.len(), 1);
    let mut duplicates = 0;
    for (_, record) in rig.delivered() {
        if let DeliveryKind::Result {
            user,
            device,
            result,
        } = record.kind
        {
            assert_eq!((user.as_str(), device.as_str()), ("alice", "phone"));
            assert!(result.duplicate && result.error == 0);
            assert_eq!(result.message_id, stored[0].message_id.0.as_slice());
            assert_eq!((result.seq, result.ordinal), (stored[0].seq.0, 1));
            assert_eq!(result.stored_ts_ms, stored[0].stored_ts_ms);
            duplicates += 1;
        }
    }
    assert_eq!(duplicates, 2);
}

#[test]
fn g3_dedup_is_by_sender_device_and_chat() {
    let mut bench = Bench::new();
    let mut other_device = sent("alice", plain("dm:alice:bob", 1));
    if let SourceRecord::Send { device: of, .. } = &mut other_device {
        *of = device("tablet");
    }
    for source in [
        sent("alice", plain("dm:alice:bob", 1)),
        other_device,
        sent("bob", plain("dm:alice:bob", 1)),
        sent("alice", plain("dm:alice:carol", 1)),
    ] {
        assert_eq!(bench.take(&source).verdict, Verdict::Accepted);
        assert_eq!(bench.take(&source).verdict, Verdict::Duplicate);
    }
}

#[test]
fn g3_a_refused_send_may_succeed_under_the_same_id_later() {
    let mut bench = Bench::new();
    let source = sent("bob", plain("g:crew", 1));
    assert_eq!(bench.refusal(&source), Some(ErrorCode::NotMember));
    bench.take(&create("alice", 2, "g:crew", &["bob"]));
    assert_eq!(bench.take(&source).verdict, Verdict::Accepted);
}

#[test]
fn g1_a_send_result_is_on_the_log_only_with_the_message_in_the_store() {
    let rig = Rig::new();
    for n in 0..50 {
        let offsets = rig.append(&[sent("alice", plain("dm:alice:bob", n))]);
        let seq = Seq::new(1, offsets[0]);
        assert!(
            rows(&*rig.store, "dm:alice:bob")
                .iter()
                .any(|row| row.seq == seq)
        );
    }
    let stored = rows(&*rig.store, "dm:alice:bob");
    let mut results = 0;
    for (_, record) in rig.delivered() {
        if let DeliveryKind::Message {
            record,
            sender_entry: Some(_),
            ..
        } = record.kind
        {
            assert!(stored.contains(&MessageRecord::decode(&record).unwrap()));
            results += 1;
        }
    }
    assert_eq!(results, 50);
}

#[test]
fn one_record_per_touched_partition_with_the_sender_entry_in_the_senders() {
    let mut bench = Bench::new();
    let crew = ["bob", "carol", "dave", "erin", "frank", "grace", "heidi"];
    bench.take(&create("alice", 1, "g:crew", &crew));
    let mut send = plain("g:crew", 2);
    send.envelopes = vec![
        envelope("bob", "x", b"B"),
        envelope("alice", "y", b"A"),
        envelope("mallory", "z", b"M"),
    ];
    let plan = bench.take(&sent("alice", send));
    let all = deliveries(&plan.produce);
    let mut seen = BTreeSet::new();
    for (at, record) in &all {
        let DeliveryKind::Message {
            recipients: Audience::Listed(recipients),
            envelopes,
            sender_entry,
            ..
        } = &record.kind
        else {
            panic!("not a message");
        };
        assert!(!recipients.is_empty());
        for user in recipients {
            assert_eq!(partition(user.as_str(), PARTITIONS), *at);
            assert!(seen.insert(user.clone()), "listed twice");
        }
        for e in envelopes {
            assert!(recipients.contains(&e.user), "an envelope for nobody here");
        }
        let senders = partition("alice", PARTITIONS) == *at;
        assert_eq!(sender_entry.is_some(), senders);
        assert_eq!(record.source_partition, partition("g:crew", PARTITIONS));
    }
    assert_eq!(seen.len(), 8);
    let partitions: BTreeSet<u32> = all.iter().map(|(at, _)| *at).collect();
    assert_eq!(partitions.len(), all.len(), "one record each");
}

#[test]
fn what_is_judged_by_time_is_judged_by_the_records_time() {
    let mut bench = Bench::new();
    for (stamp, code) in [
        (NOW_MS + CLOCK_SKEW_MS_MAX, None),
        (
            NOW_MS + CLOCK_SKEW_MS_MAX + 1,
            Some(ErrorCode::BadClientMsgId),
        ),
        (NOW_MS - DEDUP_WINDOW_MS, None),
        (NOW_MS - DEDUP_WINDOW_MS - 1, Some(ErrorCode::TooOld)),
        (0, Some(ErrorCode::TooOld)),
    ] {
        let mut send = plain("dm:alice:bob", 1);
        send.client_msg_id = id_at(stamp, 1);
        assert_eq!(bench.refusal(&sent("alice", send)), code, "{stamp}");
    }
}

#[test]
fn what_a_client_must_not_send_is_refused_by_code() {
    let mut bench = Bench::new();
    let mut no_v7 = plain("dm:alice:bob", 1);
    no_v7.client_msg_id.0[6] = 0x40;
    let mut membership = plain("dm:alice:bob", 1);
    membership.message_type = MessageType::MEMBERSHIP;
    let mut large = plain("dm:alice:bob", 1);
    large.body = vec![0; BODY_BYTES_MAX].into();
    assert_eq!(bench.refusal(&sent("alice", large.clone())), None);
    large.client_msg_id = id_at(NOW_MS, 2);
    let mut own = envelope("bob", "x", b"");
    own.bytes = vec![0; ENVELOPE_BYTES_MAX].into();
    large.envelopes = vec![own];
    for (send, code) in [
        (no_v7, ErrorCode::BadClientMsgId),
        (membership, ErrorCode::Forbidden),
        (large, ErrorCode::BodyTooLarge),
    ] {
        let plan = bench.take(&sent("alice", send));
        assert_eq!(plan.verdict, Verdict::Rejected(code));
        assert!(plan.store.is_empty());
        assert_eq!(told(&plan), [format!("refused {} of alice", code.number())]);
    }
}

#[test]
fn f22_who_is_not_a_member_is_refused_and_told_so() {
    let mut bench = Bench::new();
    bench.take(&create("alice", 1, "g:crew", &["bob"]));
    for (by, to) in [
        ("carol", "dm:alice:bob"),
        ("carol", "g:crew"),
        ("carol", "g:nowhere"),
        ("alice", "g:nowhere"),
    ] {
        let plan = bench.take(&sent(by, plain(to, 2)));
        assert_eq!(plan.verdict, Verdict::Rejected(ErrorCode::NotMember));
        assert!(plan.store.is_empty());
        // To the sender alone: nobody else learns of it.
        assert_eq!(told(&plan), [format!("refused 30 of {by}")]);
    }
}

#[test]
fn f9_clocks_that_jump_change_times_and_never_the_order() {
    let mut core = Core::new(CONFIG, 1);
    let store = crate::rig::memory_store::MemoryStore::default();
    let hour = 3_600_000;
    let at_partition = partition("dm:alice:bob", PARTITIONS);
    let mut previous = (Seq::NONE, 0);
    let mut ids = BTreeSet::new();
    for (n, time) in (0..).zip([
        NOW_MS,
        NOW_MS + hour,
        NOW_MS - hour,
        NOW_MS,
        0,
        u64::MAX,
        NOW_MS - 1,
    ]) {
        let mut send = plain("dm:alice:bob", n);
        // Stamped with the same broken clock.
        send.client_msg_id = id_at(time.clamp(TIME_MS_MIN, crate::ingest::TIME_MS_MAX), n);
        let mut record = at(u64::from(n), &sent("alice", send));
        record.timestamp_ms = time;
        let plan = core.judge(at_partition, &record, &store).unwrap();
        assert_eq!(plan.verdict, Verdict::Accepted, "{time}");
        store.write(&plan.store).unwrap();
        core.committed();
        let row = rows(&store, "dm:alice:bob").pop().unwrap();
        assert_eq!((row.prev_seq, row.ordinal), (previous.0, previous.1 + 1));
        assert!(row.seq > row.prev_seq && ids.insert(row.message_id));
        assert_eq!(
            row.stored_ts_ms,
            time.clamp(TIME_MS_MIN, crate::ingest::TIME_MS_MAX)
        );
        previous = (row.seq, row.ordinal);
    }
}

/// Whom a receipt's plan tells, and which marks.
fn receipt_told(plan: &Plan) -> (BTreeSet<UserId>, Option<(u64, u64)>) {
    let (mut to, mut marks) = (BTreeSet::new(), None);
    for (_, record) in deliveries(&plan.produce) {
        let DeliveryKind::Receipt {
            recipients,
            delivered,
            read,
            ..
        } = record.kind
        else {
            panic!("not a receipt");
        };
        marks = Some((delivered.0, read.0));
        to.extend(recipients);
    }
    (to, marks)
}

#[test]
fn receipts_in_a_group_reach_whose_messages_they_cover() {
    let mut bench = Bench::new();
    bench.take(&create("alice", 1, "g:crew", &["bob", "carol", "dave"]));
    bench.take(&sent("carol", plain("g:crew", 2)));
    let told_by = |bench: &mut Bench, who: &str, read: u64| {
        let plan = bench.take(&receipt(who, "g:crew", u64::MAX, read));
        assert!(!plan.store.is_empty(), "it is kept whoever is told");
        receipt_told(&plan).0
    };
    assert_eq!(told_by(&mut bench, "bob", 0), users(&["alice", "carol"]));
    bench.take(&sent("carol", plain("g:crew", 4)));
    assert_eq!(told_by(&mut bench, "bob", 0), users(&["carol"]));
    assert_eq!(told_by(&mut bench, "bob", 0), users(&[]));
    let all = users(&["alice", "bob", "carol"]);
    assert_eq!(told_by(&mut bench, "bob", u64::MAX), all);
    // An author who left is told no more.
    bench.take(&sent("carol", plain("g:crew", 5)));
    bench.take(&sent("dave", plain("g:crew", 6)));
    bench.take(&group_op("carol", 7, "g:crew", GroupOp::Leave));
    assert_eq!(told_by(&mut bench, "bob", 0), users(&["dave"]));
}

#[test]
fn receipts_reach_the_chat_and_never_run_ahead_of_it() {
    let mut bench = Bench::new();
    bench.take(&sent("alice", plain("dm:alice:bob", 1)));
    let head = bench.store.head(&chat("dm:alice:bob")).unwrap().seq.0;
    let plan = bench.take(&receipt("bob", "dm:alice:bob", u64::MAX, 0));
    assert_eq!(plan.verdict, Verdict::Receipt);
    assert_eq!(receipt_told(&plan), (users(&["alice"]), Some((head, 0))));
    // What is read was delivered, and one's own devices learn of it; marks only rise.
    let plan = bench.take(&receipt("bob", "dm:alice:bob", 0, head));
    assert_eq!(
        receipt_told(&plan),
        (users(&["alice", "bob"]), Some((head, head)))
    );
    bench.take(&receipt("bob", "dm:alice:bob", 1, 1));
    let rows = bench.store.receipts(&chat("dm:alice:bob")).unwrap();
    assert_eq!((rows[0].delivered.0, rows[0].read.0), (head, head));
}

#[test]
fn receipts_of_strangers_and_for_nothing_change_nothing() {
    let mut bench = Bench::new();
    bench.take(&sent("alice", plain("dm:alice:bob", 1)));
    bench.take(&create("alice", 2, "g:crew", &[]));
    let before = bench.store.rows();
    for source in [
        receipt("carol", "dm:alice:bob", 99, 99),
        receipt("carol", "g:crew", 99, 99),
        receipt("alice", "g:nowhere", 99, 99),
        receipt("bob", "dm:alice:bob", 0, 0),
        receipt("alice", "dm:alice:zoe", 99, 99),
    ] {
        assert!(bench.take(&source).produce.is_empty());
    }
    assert_eq!(bench.store.rows(), before);
}

#[test]
fn poison_goes_to_dead_letters_whole_and_a_known_sender_is_told() {
    let rig = Rig::new();
    let mut cut = sent("alice", plain("dm:alice:bob", 1)).encode().to_vec();
    cut.push(0);
    let garbage = Bytes::from_static(b"\x01\x09 garbage");
    let cut = Bytes::from(cut);
    rig.append_raw(vec![
        ("dm:alice:bob", garbage.clone()),
        ("dm:alice:bob", cut.clone()),
    ]);
    rig.append(&[sent("alice", plain("dm:alice:bob", 2))]);
    let letters: Vec<Bytes> = rig
        .read(Topic::DeadLetters)
        .into_iter()
        .map(|(_, r)| r.value)
        .collect();
    assert_eq!(letters, [garbage, cut]);
    let results: Vec<_> = rig
        .delivered()
        .into_iter()
        .filter_map(|(_, r)| match r.kind {
            DeliveryKind::Result { user, result, .. } => {
                Some((user.to_string(), result.error, result.chat))
            }
            _ => None,
        })
        .collect();
    assert_eq!(
        results,
        [("alice".to_owned(), 1, "dm:alice:bob".to_owned())]
    );
    assert_eq!(
        rows(&*rig.store, "dm:alice:bob").len(),
        1,
        "the next one is not held up"
    );
}

#[test]
fn a_chat_on_another_partition_than_its_own_is_poison() {
    let mut core = Core::new(CONFIG, 1);
    let store = crate::rig::memory_store::MemoryStore::default();
    let wrong = (partition("dm:alice:bob", PARTITIONS) + 1) % PARTITIONS;
    let record = at(0, &sent("alice", plain("dm:alice:bob", 1)));
    let plan = core.judge(wrong, &record, &store).unwrap();
    assert_eq!(plan.verdict, Verdict::Poison);
    assert!(plan.store.is_empty());
}

#[test]
fn the_first_message_of_a_dm_puts_it_on_both_lists_once() {
    let mut bench = Bench::new();
    bench.take(&sent("alice", plain("dm:alice:bob", 1)));
    bench.take(&sent("bob", plain("dm:alice:bob", 2)));
    let dm = ChatId::dm(&user("alice"), &user("bob"));
    for name in ["alice", "bob"] {
        assert_eq!(
            bench.store.chats_of(&user(name), None, 9).unwrap(),
            std::slice::from_ref(&dm)
        );
    }
    assert_eq!(bench.store.members(&dm).unwrap().len(), 2);
}
