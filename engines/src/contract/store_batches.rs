//! Facts of the `store` port about many rows at once: batches, what is written later, what is asked together, and what
//! whoever reads meanwhile may find.

use super::Fact;
use super::store::{
    chat, dedup_op, dedup_row, device, everything, head_op, info_op, member, member_op, message,
    ordinals, own_user, page, receipt_op, user, write,
};
use super::{PATIENCE, unique};
use crate::store::{
    Answer, Ask, ChatHead, ChatInfo, Headcount, Membership, Page, Sharded, Store, StoreOp,
};
use hawser_protocol::ids::{ChatId, ClientMsgId, Seq};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;

/// All facts.
pub(super) const FACTS: &[Fact<dyn Store>] = &[
    ("answers_stand_in_the_order_of_the_questions", ask),
    (
        "an_edge_sharded_group_is_answered_without_its_members_and_each_of_them_alone",
        sharded,
    ),
    ("what_is_written_later_is_told_once_and_is_there", later),
    (
        "batches_under_way_at_once_all_arrive_whatever_their_order",
        at_once,
    ),
    (
        "who_finds_a_head_finds_the_messages_up_to_it",
        head_after_messages,
    ),
    (
        "who_finds_the_outcome_of_a_change_finds_the_change",
        outcome_after_change,
    ),
    (
        "what_is_replayed_after_later_writes_changes_nothing",
        replay,
    ),
    ("a_batch_that_was_torn_is_completed_by_repeating_it", torn),
    ("pages_are_larger_than_any_inner_bound", large_pages),
    ("pages_cross_the_bounds_of_partitions", far_ordinals),
    ("a_group_of_thousands_is_read_whole", large_group),
];

const EVERYTHING: usize = 100_000;

fn all(store: &Arc<dyn Store>, chat: &ChatId) -> Vec<u64> {
    ordinals(store, chat, page(0, u64::MAX, false, EVERYTHING, 1 << 30))
}

fn ask(store: &Arc<dyn Store>) {
    let (one, other, none, alice) = (chat(), chat(), chat(), own_user());
    let mut ops: Vec<_> = (1..=3).map(|o| message(&one, o, 8)).collect();
    ops.push(head_op(&one, Seq::new(1, 30).0, 3));
    ops.push(dedup_op(&alice, "d", &one, 1, dedup_row(10)));
    ops.push(member_op(&other, member(&alice, 5, None, true), 5));
    ops.push(info_op(&other, "name", 5));
    write(store, &ops);
    let id = |n| ClientMsgId([n; 16]);
    let dedup = |n| Ask::Dedup(alice.clone(), device("d"), one.clone(), id(n));
    let asks = [
        Ask::Group(other.clone()),
        Ask::Head(one.clone()),
        dedup(2),
        Ask::HeadBefore(one.clone(), Seq::new(1, 25)),
        dedup(1),
        Ask::Group(none.clone()),
        Ask::Head(none),
        Ask::Head(one.clone()),
    ];
    let head = |ordinal: u64| {
        let seq = Seq::new(1, ordinal * 10);
        Answer::Head(ChatHead { seq, ordinal })
    };
    let info = store.chat(&other).expect("it reads").expect("written");
    let expected = [
        Answer::Group(Some((info, vec![member(&alice, 5, None, true)]))),
        head(3),
        Answer::Dedup(None),
        head(2),
        Answer::Dedup(Some(dedup_row(10))),
        Answer::Group(None),
        Answer::Head(ChatHead::default()),
        head(3),
    ];
    assert_eq!(store.ask(&asks), Ok(expected.to_vec()));
    assert_eq!(store.ask(&[]), Ok(Vec::new()));
}

fn sharded(store: &Arc<dyn Store>) {
    let (giant, alice, bob) = (chat(), own_user(), own_user());
    let info = ChatInfo {
        name: "giant".to_owned(),
        write_seq: Seq::new(1, 8),
        created_seq: Seq::new(1, 2),
        sharded: Some(Sharded {
            seq: Seq::new(1, 5),
            count: Headcount {
                members: 100_000,
                admins: 3,
            },
            before: Headcount {
                members: 99_999,
                admins: 2,
            },
        }),
        ..ChatInfo::default()
    };
    let ops = [
        member_op(&giant, member(&alice, 5, None, true), 5),
        StoreOp::Chat {
            chat: giant.clone(),
            info: info.clone(),
        },
    ];
    write(store, &ops);
    assert_eq!(store.chat(&giant), Ok(Some(info.clone())));
    let asks = [
        Ask::Member(giant.clone(), alice.clone()),
        Ask::Group(giant.clone()),
        Ask::Member(giant, bob),
    ];
    let expected = [
        Answer::Member(Some(member(&alice, 5, None, true))),
        Answer::Group(Some((info, Vec::new()))),
        Answer::Member(None),
    ];
    assert_eq!(store.ask(&asks), Ok(expected.to_vec()));
}

fn later(store: &Arc<dyn Store>) {
    let chat = chat();
    // A chat's first message may say what the others need to be found, and results are told in order: it is there first.
    write(store, &[message(&chat, 1, 100)]);
    let (told, outcomes) = channel();
    for ordinal in 2..=50 {
        let told = told.clone();
        let ops = vec![message(&chat, ordinal, 100)];
        let tell = move |outcome| told.send((ordinal, outcome)).expect("a receiver");
        store.write_later(ops, Box::new(tell));
    }
    drop(told);
    let mut arrived = Vec::new();
    for _ in 2..=50 {
        let (ordinal, outcome) = outcomes.recv_timeout(PATIENCE).expect("told");
        assert_eq!(outcome, Ok(()));
        let only = page(ordinal, ordinal, false, 1, 1 << 20);
        assert_eq!(ordinals(store, &chat, only), [ordinal], "told, so there");
        arrived.push(ordinal);
    }
    assert!(outcomes.recv_timeout(PATIENCE).is_err(), "nobody is left");
    arrived.sort_unstable();
    assert!(arrived.into_iter().eq(2..=50), "each once");
    let (told, outcome) = channel();
    let tell = move |outcome| told.send(outcome).expect("a receiver");
    store.write_later(Vec::new(), Box::new(tell));
    assert_eq!(
        outcome.recv_timeout(PATIENCE),
        Ok(Ok(())),
        "nothing is done"
    );
}

fn at_once(store: &Arc<dyn Store>) {
    let (chat, alice) = (chat(), own_user());
    let (told, outcomes) = channel();
    for ordinal in (1..=40_u64).rev() {
        let seq = Seq::new(1, ordinal * 10).0;
        let ops = vec![
            message(&chat, ordinal, 10),
            head_op(&chat, seq, ordinal),
            dedup_op(&alice, "d", &chat, 1, dedup_row(ordinal)),
            receipt_op(&chat, &alice, ordinal, 41 - ordinal, ordinal),
            info_op(&chat, &ordinal.to_string(), ordinal),
        ];
        let told = told.clone();
        let tell = move |outcome| told.send(outcome).expect("a receiver");
        store.write_later(ops, Box::new(tell));
    }
    for _ in 0..40 {
        assert_eq!(outcomes.recv_timeout(PATIENCE), Ok(Ok(())));
    }
    assert!(all(store, &chat).into_iter().eq(1..=40));
    let last = ChatHead {
        seq: Seq::new(1, 400),
        ordinal: 40,
    };
    assert_eq!(store.head(&chat), Ok(last));
    let receipt = store.receipts(&chat).expect("it reads").remove(0);
    let watermarks = (receipt.delivered, receipt.read, receipt.ts_ms);
    assert_eq!(watermarks, (Seq(40), Seq(40), 40));
    let info = store.chat(&chat).expect("it reads").expect("written");
    assert_eq!(info.name, "40");
}

fn head_after_messages(store: &Arc<dyn Store>) {
    let chat = chat();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for first in (1..=120_u64).step_by(6) {
                let mut ops = vec![head_op(&chat, Seq::new(1, (first + 5) * 10).0, first + 5)];
                ops.extend((first..first + 6).map(|o| message(&chat, o, 50)));
                write(store, &ops);
            }
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            let head = store.head(&chat).expect("it reads");
            let found = all(store, &chat);
            let up_to = found.into_iter().filter(|o| *o <= head.ordinal);
            assert!(up_to.eq(1..=head.ordinal), "a hole below {head:?}");
        }
    });
}

fn outcome_after_change(store: &Arc<dyn Store>) {
    let alice = own_user();
    let chats: Vec<ChatId> = (0..20).map(|_| chat()).collect();
    let done = AtomicBool::new(false);
    let id = ClientMsgId([1; 16]);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for chat in &chats {
                let ops = [
                    dedup_op(&alice, "api", chat, 1, dedup_row(7)),
                    message(chat, 1, 10),
                    member_op(chat, member(&alice, 7, None, true), 7),
                    info_op(chat, "name", 7),
                ];
                write(store, &ops);
            }
            done.store(true, Ordering::Release);
        });
        let mut at = 0;
        while !done.load(Ordering::Acquire) && at < chats.len() {
            let chat = &chats[at];
            let outcome = store.dedup(&alice, &device("api"), chat, &id);
            if outcome.expect("it reads").is_some() {
                assert!(store.chat(chat).expect("it reads").is_some());
                assert!(store.member(chat, &alice).expect("it reads").is_some());
                assert_eq!(all(store, chat), [1]);
                at += 1;
            }
        }
    });
}

fn replay(store: &Arc<dyn Store>) {
    let (chat, alice) = (chat(), own_user());
    let state = |at: u64| -> Vec<StoreOp> {
        vec![
            message(&chat, at, 10),
            head_op(&chat, at * 10, at),
            dedup_op(
                &alice,
                "d",
                &chat,
                u8::try_from(at).expect("small"),
                dedup_row(at * 10),
            ),
            member_op(
                &chat,
                member(&alice, at, (at.is_multiple_of(2)).then_some(at + 1), true),
                at,
            ),
            info_op(&chat, &at.to_string(), at),
            receipt_op(&chat, &alice, at, at, at),
        ]
    };
    for at in 1..=6 {
        write(store, &state(at));
    }
    let before = everything(store, &chat, &alice);
    for at in 1..=6 {
        write(store, &state(at));
        assert!(before == everything(store, &chat, &alice), "after {at}");
    }
}

fn torn(store: &Arc<dyn Store>) {
    let (whole, alice) = (chat(), own_user());
    let ops = |chat: &ChatId| {
        let mut ops: Vec<_> = (1..=4).map(|o| message(chat, o, 10)).collect();
        ops.push(dedup_op(&alice, "d", chat, 1, dedup_row(10)));
        ops.push(member_op(chat, member(&alice, 10, None, true), 10));
        ops.push(info_op(chat, "name", 10));
        ops.push(receipt_op(chat, &alice, 10, 10, 10));
        ops.push(head_op(chat, 40, 4));
        ops
    };
    write(store, &ops(&whole));
    let rows = |chat: &ChatId| {
        let read = "it reads";
        (
            store.head(chat).expect(read),
            store.messages(chat, page(0, 99, false, 99, 1 << 20)),
            store.chat(chat).expect(read),
            store.members(chat).expect(read),
            store.receipts(chat).expect(read),
            store.dedup(&alice, &device("d"), chat, &ClientMsgId([1; 16])),
        )
    };
    let expected = rows(&whole);
    let parts = ops(&whole).len();
    for cut in 0..parts {
        let torn = chat();
        let ops = ops(&torn);
        // Any part of it may have arrived.
        let part: Vec<_> = (0..parts).filter(|i| (i * 7 + cut) % parts < cut).collect();
        write(
            store,
            &part.iter().map(|i| ops[*i].clone()).collect::<Vec<_>>(),
        );
        write(store, &ops);
        assert_eq!(rows(&torn), expected, "after {part:?}");
    }
}

fn large_pages(store: &Arc<dyn Store>) {
    let chat = chat();
    let ops: Vec<_> = (1..=300).map(|o| message(&chat, o, 2_000)).collect();
    write(store, &ops);
    assert!(all(store, &chat).into_iter().eq(1..=300));
    let down = page(11, 290, true, EVERYTHING, 1 << 30);
    assert!(
        ordinals(store, &chat, down)
            .into_iter()
            .eq((11..=290).rev())
    );
    let some = ordinals(store, &chat, page(1, 300, false, 120, 1 << 30));
    assert!(some.into_iter().eq(1..=120), "so many rows");
    let some = ordinals(store, &chat, page(1, 300, false, 300, 100_000)).len();
    assert!((48..=51).contains(&some), "{some} rows of so many bytes");
}

/// Ordinals are dense, but no store needs all of them to find one.
fn far_ordinals(store: &Arc<dyn Store>) {
    let chat = chat();
    let there = [1, 2, 8_191, 8_192, 8_193, 16_384, 16_385];
    let ops: Vec<_> = there.iter().map(|o| message(&chat, *o, 10)).collect();
    write(store, &ops);
    let read = |from, to, backwards, limit| -> Vec<u64> {
        let page = Page {
            from,
            to,
            backwards,
            limit,
            bytes_max: 1 << 20,
        };
        ordinals(store, &chat, page)
    };
    assert_eq!(read(0, u64::MAX, false, 99), there);
    let backwards: Vec<u64> = there.into_iter().rev().collect();
    assert_eq!(read(0, u64::MAX, true, 99), backwards);
    assert_eq!(read(8_191, 8_193, false, 99), [8_191, 8_192, 8_193]);
    assert_eq!(read(3, 16_384, true, 2), [16_384, 8_193]);
    assert_eq!(read(8_194, 16_383, false, 99), [0_u64; 0]);
    let before = |ordinal: u64| {
        let seq = Seq::new(1, ordinal * 10);
        store.head_before(&chat, seq).expect("it reads").ordinal
    };
    assert_eq!(before(16_385), 16_384);
    assert_eq!(before(16_384), 8_193);
    assert_eq!(before(8_192), 8_191);
    assert_eq!(before(8_191), 2);
    assert_eq!(before(1), 0);
}

fn large_group(store: &Arc<dyn Store>) {
    const MEMBERS: usize = 2_500;
    let (chat, base) = (chat(), unique());
    let one = |n: usize| member(&user(&format!("{base}-{n:05}")), 5, None, n == 0);
    let ops: Vec<_> = (0..MEMBERS).map(|n| member_op(&chat, one(n), 5)).collect();
    write(store, &ops);
    let mut found: Vec<Membership> = store.members(&chat).expect("it reads");
    found.sort_by(|a, b| a.user.cmp(&b.user));
    assert!(found.into_iter().eq((0..MEMBERS).map(one)));
    let receipts = (0..MEMBERS).map(|n| receipt_op(&chat, &one(n).user, 5, 4, 3));
    write(store, &receipts.collect::<Vec<_>>());
    let found = store.receipts(&chat).expect("it reads");
    assert_eq!(found.len(), MEMBERS);
    assert!(
        found
            .iter()
            .all(|r| (r.delivered, r.read, r.ts_ms) == (Seq(5), Seq(4), 3))
    );
}
