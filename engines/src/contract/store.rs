//! Facts of the `store` port.

use super::{Fact, run, unique};
use crate::store::{
    ChatHead, ChatInfo, DedupRow, Interval, Membership, Page, ReceiptRow, Store, StoreOp,
    StoredMessage,
};
use bytes::Bytes;
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, Seq, UserId};
use std::sync::Arc;

/// Runs all facts; `make` may give the same store each time.
pub fn store_suite(make: impl Fn() -> Arc<dyn Store>) {
    let facts = [FACTS, super::store_batches::FACTS].concat();
    run("store", &facts, make);
}

/// Those of single rows.
const FACTS: &[Fact<dyn Store>] = &[
    ("what_was_never_written_is_absent_and_no_error", absent),
    ("messages_come_back_byte_for_byte", byte_for_byte),
    ("pages_go_forwards_and_backwards_by_ordinal", pages),
    (
        "a_page_is_bounded_in_rows_and_bytes_and_gives_at_least_one",
        page_bounds,
    ),
    ("the_head_with_the_larger_seq_wins", heads),
    (
        "head_before_is_the_last_accepted_message_with_a_smaller_seq",
        head_before,
    ),
    ("the_first_writer_of_a_client_msg_id_wins", dedup),
    (
        "dedup_rows_are_apart_by_user_device_chat_and_id",
        dedup_apart,
    ),
    ("the_membership_with_the_larger_write_seq_wins", members),
    (
        "chats_of_lists_present_and_former_chats_in_order_and_pages",
        chats_of,
    ),
    ("the_chat_info_with_the_larger_write_seq_wins", chat_info),
    ("receipts_merge_by_maximum_field_by_field", receipts),
    ("chats_whose_ids_begin_alike_do_not_see_each_other", alike),
    ("writing_a_batch_again_changes_nothing", again),
    (
        "mutable_rows_come_out_the_same_in_any_order_of_writing",
        any_order,
    ),
    ("nothing_is_truncated_in_a_new_chat", truncated),
];

pub(super) fn chat() -> ChatId {
    ChatId::new(&format!("g:{}", unique())).expect("valid")
}

pub(super) fn user(name: &str) -> UserId {
    UserId::new(name).expect("valid")
}

pub(super) fn own_user() -> UserId {
    user(&unique())
}

pub(super) fn device(name: &str) -> DeviceId {
    DeviceId::new(name).expect("valid")
}

pub(super) fn write(store: &Arc<dyn Store>, ops: &[StoreOp]) {
    store.write(ops).expect("a healthy store writes");
}

pub(super) fn message(chat: &ChatId, ordinal: u64, bytes: usize) -> StoreOp {
    let fill = u8::try_from(ordinal % 251).expect("below 251");
    StoreOp::Message {
        chat: chat.clone(),
        ordinal,
        seq: Seq::new(1, ordinal * 10),
        record: Bytes::from(vec![fill; bytes]),
        envelopes: Bytes::new(),
    }
}

pub(super) fn page(from: u64, to: u64, backwards: bool, limit: usize, bytes_max: usize) -> Page {
    Page {
        from,
        to,
        backwards,
        limit,
        bytes_max,
    }
}

pub(super) fn ordinals(store: &Arc<dyn Store>, chat: &ChatId, page: Page) -> Vec<u64> {
    let rows = store.messages(chat, page).expect("a healthy store reads");
    rows.iter().map(|m| m.ordinal).collect()
}

pub(super) fn member(user: &UserId, joined: u64, left: Option<u64>, admin: bool) -> Membership {
    Membership {
        user: user.clone(),
        intervals: vec![Interval {
            joined: Seq(joined),
            joined_ordinal: joined,
            left: left.map(Seq),
            left_ordinal: left,
        }],
        admin,
    }
}

pub(super) fn member_op(chat: &ChatId, member: Membership, write_seq: u64) -> StoreOp {
    StoreOp::Member {
        chat: chat.clone(),
        member,
        write_seq: Seq(write_seq),
    }
}

pub(super) fn head_op(chat: &ChatId, seq: u64, ordinal: u64) -> StoreOp {
    let seq = Seq(seq);
    StoreOp::Head {
        chat: chat.clone(),
        head: ChatHead { seq, ordinal },
    }
}

pub(super) fn receipt_op(
    chat: &ChatId,
    user: &UserId,
    delivered: u64,
    read: u64,
    ts_ms: u64,
) -> StoreOp {
    StoreOp::Receipt {
        chat: chat.clone(),
        row: ReceiptRow {
            user: user.clone(),
            delivered: Seq(delivered),
            read: Seq(read),
            ts_ms,
        },
    }
}

pub(super) fn info_op(chat: &ChatId, name: &str, write_seq: u64) -> StoreOp {
    StoreOp::Chat {
        chat: chat.clone(),
        info: ChatInfo {
            name: name.to_owned(),
            picture: String::new(),
            write_seq: Seq(write_seq),
            created_seq: Seq(1),
            ..ChatInfo::default()
        },
    }
}

fn absent(store: &Arc<dyn Store>) {
    let (chat, user) = (chat(), own_user());
    let everything = page(0, u64::MAX, false, 10, 1 << 20);
    let id = ClientMsgId([1; 16]);
    assert_eq!(store.head(&chat), Ok(ChatHead::default()));
    assert_eq!(store.head_before(&chat, Seq(9)), Ok(ChatHead::default()));
    assert_eq!(store.head_before(&chat, Seq::NONE), Ok(ChatHead::default()));
    assert_eq!(store.dedup(&user, &device("d"), &chat, &id), Ok(None));
    assert_eq!(store.messages(&chat, everything), Ok(Vec::new()));
    assert_eq!(store.chat(&chat), Ok(None));
    assert_eq!(store.members(&chat), Ok(Vec::new()));
    assert_eq!(store.member(&chat, &user), Ok(None));
    assert_eq!(store.chats_of(&user, None, 10), Ok(Vec::new()));
    assert_eq!(store.receipts(&chat), Ok(Vec::new()));
    write(store, &[]);
}

fn byte_for_byte(store: &Arc<dyn Store>) {
    let chat = chat();
    let binary: Vec<u8> = (0..=255).cycle().take(61_440).collect();
    let expected = StoredMessage {
        ordinal: 1,
        seq: Seq::new(3, 77),
        record: Bytes::from(binary.clone()),
        envelopes: Bytes::from(binary),
    };
    let op = StoreOp::Message {
        chat: chat.clone(),
        ordinal: expected.ordinal,
        seq: expected.seq,
        record: expected.record.clone(),
        envelopes: expected.envelopes.clone(),
    };
    write(store, &[op]);
    let found = store.messages(&chat, page(1, 1, false, 10, 1 << 20));
    assert_eq!(found, Ok(vec![expected]));
}

fn pages(store: &Arc<dyn Store>) {
    let chat = chat();
    let ops: Vec<_> = (1..=40).map(|o| message(&chat, o, 10)).collect();
    write(store, &ops);
    let far = 1 << 20;
    assert_eq!(
        ordinals(store, &chat, page(5, 9, false, 100, far)),
        [5, 6, 7, 8, 9]
    );
    assert_eq!(
        ordinals(store, &chat, page(5, 9, true, 100, far)),
        [9, 8, 7, 6, 5]
    );
    assert_eq!(
        ordinals(store, &chat, page(0, u64::MAX, true, 2, far)),
        [40, 39]
    );
    assert_eq!(
        ordinals(store, &chat, page(39, u64::MAX, false, 9, far)),
        [39, 40]
    );
    assert_eq!(
        ordinals(store, &chat, page(9, 5, false, 9, far)),
        [0_u64; 0]
    );
    assert_eq!(
        ordinals(store, &chat, page(41, 50, true, 9, far)),
        [0_u64; 0]
    );
}

fn page_bounds(store: &Arc<dyn Store>) {
    let chat = chat();
    let ops: Vec<_> = (1..=10).map(|o| message(&chat, o, 1_000)).collect();
    write(store, &ops);
    assert_eq!(
        ordinals(store, &chat, page(1, 10, false, 3, 1 << 20)),
        [1, 2, 3]
    );
    assert_eq!(ordinals(store, &chat, page(1, 10, false, 10, 1)), [1]);
    assert_eq!(ordinals(store, &chat, page(1, 10, true, 10, 1)), [10]);
    let some = ordinals(store, &chat, page(1, 10, false, 10, 3_500));
    assert!((3..=4).contains(&some.len()), "{some:?}");
    assert!(ordinals(store, &chat, page(1, 10, false, 0, 1 << 20)).is_empty());
}

fn heads(store: &Arc<dyn Store>) {
    let chat = chat();
    write(store, &[head_op(&chat, 20, 2)]);
    write(store, &[head_op(&chat, 10, 1)]);
    let head = |seq, ordinal| {
        Ok(ChatHead {
            seq: Seq(seq),
            ordinal,
        })
    };
    assert_eq!(store.head(&chat), head(20, 2));
    write(store, &[head_op(&chat, 30, 3), head_op(&chat, 25, 9)]);
    assert_eq!(store.head(&chat), head(30, 3));
}

fn head_before(store: &Arc<dyn Store>) {
    let chat = chat();
    let ops: Vec<_> = (1..=5).map(|o| message(&chat, o, 1)).collect();
    write(store, &ops);
    let before = |seq| {
        store
            .head_before(&chat, seq)
            .expect("a healthy store reads")
            .ordinal
    };
    assert_eq!(before(Seq::new(1, 10)), 0);
    assert_eq!(before(Seq::new(1, 11)), 1);
    assert_eq!(before(Seq::new(1, 50)), 4);
    assert_eq!(before(Seq::new(1, 51)), 5);
    assert_eq!(before(Seq::new(2, 0)), 5, "a newer generation is above");
    let found = store.head_before(&chat, Seq::new(1, 35));
    assert_eq!(found.expect("a healthy store reads").seq, Seq::new(1, 30));
}

pub(super) fn dedup_row(seq: u64) -> DedupRow {
    DedupRow {
        seq: Seq(seq),
        error: 403,
        ordinal: 3,
        prev_seq: Seq(2),
        stored_ts_ms: 1_700_000_000_000,
    }
}

pub(super) fn dedup_op(user: &UserId, dev: &str, chat: &ChatId, id: u8, row: DedupRow) -> StoreOp {
    StoreOp::Dedup {
        user: user.clone(),
        device: device(dev),
        chat: chat.clone(),
        client_msg_id: ClientMsgId([id; 16]),
        row,
    }
}

fn dedup(store: &Arc<dyn Store>) {
    let (chat, user) = (chat(), own_user());
    write(store, &[dedup_op(&user, "d", &chat, 1, dedup_row(5))]);
    write(store, &[dedup_op(&user, "d", &chat, 1, dedup_row(9))]);
    let read = |id| store.dedup(&user, &device("d"), &chat, &ClientMsgId([id; 16]));
    assert_eq!(read(1), Ok(Some(dedup_row(5))));
    let twice = [
        dedup_op(&user, "d", &chat, 2, dedup_row(6)),
        dedup_op(&user, "d", &chat, 2, dedup_row(7)),
    ];
    write(store, &twice);
    assert_eq!(read(2), Ok(Some(dedup_row(6))), "also within one batch");
}

fn dedup_apart(store: &Arc<dyn Store>) {
    let (chat_a, chat_b, user_a, user_b) = (chat(), chat(), own_user(), own_user());
    write(store, &[dedup_op(&user_a, "d", &chat_a, 1, dedup_row(5))]);
    let id = ClientMsgId([1; 16]);
    let read = |user: &UserId, dev: &str, chat: &ChatId, id: &ClientMsgId| {
        store
            .dedup(user, &device(dev), chat, id)
            .expect("a healthy store reads")
    };
    assert!(read(&user_a, "d", &chat_a, &id).is_some());
    assert!(read(&user_b, "d", &chat_a, &id).is_none());
    assert!(read(&user_a, "e", &chat_a, &id).is_none());
    assert!(read(&user_a, "d", &chat_b, &id).is_none());
    assert!(read(&user_a, "d", &chat_a, &ClientMsgId([2; 16])).is_none());
}

fn members(store: &Arc<dyn Store>) {
    let (chat, alice, bob) = (chat(), user("alice"), user("bob"));
    let joined = member(&alice, 10, None, false);
    let left = member(&alice, 10, Some(20), false);
    write(store, &[member_op(&chat, left.clone(), 20)]);
    write(store, &[member_op(&chat, joined, 10)]);
    write(store, &[member_op(&chat, member(&bob, 10, None, true), 10)]);
    assert_eq!(store.member(&chat, &alice), Ok(Some(left.clone())));
    let mut all = store.members(&chat).expect("a healthy store reads");
    all.sort_by(|a, b| a.user.cmp(&b.user));
    assert_eq!(all, [left, member(&bob, 10, None, true)]);
    let mut back = member(&alice, 10, Some(20), true);
    back.intervals.push(Interval {
        joined: Seq(30),
        joined_ordinal: 30,
        left: None,
        left_ordinal: None,
    });
    write(store, &[member_op(&chat, back.clone(), 30)]);
    assert_eq!(store.member(&chat, &alice), Ok(Some(back)));
}

fn chats_of(store: &Arc<dyn Store>) {
    let user = own_user();
    let base = unique();
    let chats: Vec<ChatId> = (0..9)
        .map(|i| ChatId::new(&format!("g:{base}-{i}")).expect("valid"))
        .collect();
    for (i, chat) in chats.iter().enumerate() {
        let left = (i % 2 == 0).then_some(20);
        write(
            store,
            &[member_op(chat, member(&user, 10, left, false), 10)],
        );
    }
    let page = |after: Option<&ChatId>, limit| {
        store
            .chats_of(&user, after, limit)
            .expect("a healthy store reads")
    };
    assert_eq!(page(None, 100), chats);
    assert_eq!(page(None, 4), chats[..4]);
    assert_eq!(page(Some(&chats[3]), 100), chats[4..]);
    assert!(page(Some(&chats[8]), 100).is_empty());
    assert!(page(None, 0).is_empty());
}

fn chat_info(store: &Arc<dyn Store>) {
    let chat = chat();
    write(store, &[info_op(&chat, "new", 20)]);
    write(store, &[info_op(&chat, "old", 10)]);
    let name = || {
        store
            .chat(&chat)
            .expect("a healthy store reads")
            .expect("there")
            .name
    };
    assert_eq!(name(), "new");
    write(store, &[info_op(&chat, "newer", 30)]);
    assert_eq!(name(), "newer");
}

fn receipts(store: &Arc<dyn Store>) {
    let (chat, alice, bob) = (chat(), user("alice"), user("bob"));
    write(store, &[receipt_op(&chat, &alice, 10, 5, 100)]);
    write(
        store,
        &[
            receipt_op(&chat, &alice, 7, 8, 90),
            receipt_op(&chat, &bob, 1, 0, 50),
        ],
    );
    let mut rows = store.receipts(&chat).expect("a healthy store reads");
    rows.sort_by(|a, b| a.user.cmp(&b.user));
    let expected = |user: &UserId, delivered, read, ts_ms| ReceiptRow {
        user: user.clone(),
        delivered: Seq(delivered),
        read: Seq(read),
        ts_ms,
    };
    assert_eq!(
        rows,
        [expected(&alice, 10, 8, 100), expected(&bob, 1, 0, 50)]
    );
}

fn alike(store: &Arc<dyn Store>) {
    let base = unique();
    let short = ChatId::new(&format!("g:{base}")).expect("valid");
    let long = ChatId::new(&format!("g:{base}-b")).expect("valid");
    let user = own_user();
    let ops = [
        message(&long, 1, 1),
        head_op(&long, 10, 1),
        member_op(&long, member(&user, 1, None, false), 1),
        receipt_op(&long, &user, 1, 1, 1),
        info_op(&long, "long", 1),
    ];
    write(store, &ops);
    assert!(ordinals(store, &short, page(0, u64::MAX, false, 9, 1 << 20)).is_empty());
    assert_eq!(store.head(&short), Ok(ChatHead::default()));
    assert_eq!(
        store.head_before(&short, Seq(u64::MAX)),
        Ok(ChatHead::default())
    );
    assert_eq!(store.members(&short), Ok(Vec::new()));
    assert_eq!(store.receipts(&short), Ok(Vec::new()));
    assert_eq!(store.chat(&short), Ok(None));
}

/// Everything of a chat that can be read.
pub(super) fn everything(
    store: &Arc<dyn Store>,
    chat: &ChatId,
    user: &UserId,
) -> impl PartialEq + std::fmt::Debug {
    let all = page(0, u64::MAX, false, 1_000, 1 << 24);
    (
        store.head(chat),
        store.messages(chat, all),
        store.chat(chat),
        store.members(chat),
        store.receipts(chat),
        store.dedup(user, &device("d"), chat, &ClientMsgId([1; 16])),
        store.chats_of(user, None, 100),
    )
}

fn again(store: &Arc<dyn Store>) {
    let (chat, user) = (chat(), own_user());
    let ops = [
        message(&chat, 1, 10),
        head_op(&chat, 10, 1),
        dedup_op(&user, "d", &chat, 1, dedup_row(10)),
        member_op(&chat, member(&user, 10, None, true), 10),
        info_op(&chat, "name", 10),
        receipt_op(&chat, &user, 10, 10, 10),
    ];
    write(store, &ops);
    let once = everything(store, &chat, &user);
    write(store, &ops);
    assert!(once == everything(store, &chat, &user));
}

fn any_order(store: &Arc<dyn Store>) {
    let user = own_user();
    let ops = |chat: &ChatId| -> Vec<StoreOp> {
        (1..=8)
            .flat_map(|i| {
                [
                    head_op(chat, i * 10, i),
                    member_op(
                        chat,
                        member(&user, i, (i % 2 == 0).then_some(i + 1), i > 4),
                        i,
                    ),
                    info_op(chat, &i.to_string(), i),
                    receipt_op(chat, &user, i * 3 % 8, i * 5 % 8, i),
                ]
            })
            .collect()
    };
    let mut outcomes = Vec::new();
    for step in [1_usize, 3, 5, 7, 11, 31] {
        let chat = chat();
        let ops = ops(&chat);
        // A step that is coprime to their number visits each once.
        for i in 0..ops.len() {
            write(store, std::slice::from_ref(&ops[(i * step) % ops.len()]));
        }
        let rows = (
            store.head(&chat),
            store.chat(&chat),
            store.members(&chat),
            store.receipts(&chat),
        );
        outcomes.push(rows);
    }
    assert!(outcomes.windows(2).all(|w| w[0] == w[1]), "{outcomes:#?}");
}

fn truncated(store: &Arc<dyn Store>) {
    let chat = chat();
    assert_eq!(store.truncated_before(&chat), Ok(1));
    write(store, &[message(&chat, 1, 1), message(&chat, 2, 1)]);
    assert_eq!(store.truncated_before(&chat), Ok(1));
}
