//! Facts of history and of signals.

use super::*;
use crate::ingest::Core;
use crate::rig::engine::{CONFIG, PARTITIONS};
use crate::rig::memory_store::MemoryStore;
use crate::rig::{at, chat, create, group_op, plain, receipt, sent, user, users};
use crate::signals;
use bytes::Bytes;
use hawser_engines::log::Topic;
use hawser_protocol::frame::ServerFrame;
use hawser_protocol::json::encode_server;
use hawser_protocol::partition::partition;
use hawser_protocol::record::{EphemeralRecord, GroupOp, SourceRecord};
use std::collections::BTreeSet;

const CREW: &str = "g:crew";
const NOT_MEMBER: u32 = 30;
const NOT_VISIBLE: u32 = 31;

/// A store that these records went into.
fn stored(sources: &[SourceRecord]) -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::default());
    let mut core = Core::new(CONFIG, 1);
    let mut next = [0; PARTITIONS as usize];
    for source in sources {
        let partition = partition(source.chat().as_str(), PARTITIONS);
        let offset = &mut next[partition as usize];
        let record = at(*offset, source);
        *offset += 1;
        let plan = core.judge(partition, &record, &*store).unwrap();
        store.write(&plan.store).unwrap();
    }
    store
}

fn of(chat: &str, after_ordinal: u64, limit: u32, backwards: bool) -> pb::Sync {
    pb::Sync {
        sync_id: 7,
        chat: chat.to_owned(),
        after_ordinal,
        limit,
        backwards,
        ..Default::default()
    }
}

fn ordinals(page: &pb::SyncPage) -> Vec<u64> {
    let view = |record: &Bytes| MessageView::parse(record).unwrap().ordinal();
    page.records.iter().map(view).collect()
}

fn messages(to: &str, n: u16) -> Vec<SourceRecord> {
    (0..n).map(|n| sent("alice", plain(to, n))).collect()
}

/// zoe sees ordinals 4 to 6 and from 12 on, of 14.
fn rejoined() -> History {
    let change = |n, op| group_op("alice", n, CREW, op);
    let zoe = || users(&["zoe"]);
    let mut sources = vec![create("alice", 900, CREW, &["bob"])];
    sources.extend(messages(CREW, 2));
    sources.push(change(901, GroupOp::Add { users: zoe() }));
    sources.push(sent("alice", plain(CREW, 10)));
    sources.push(change(902, GroupOp::Remove { users: zoe() }));
    sources.extend((20..25).map(|n| sent("alice", plain(CREW, n))));
    sources.push(change(903, GroupOp::Add { users: zoe() }));
    sources.extend((30..32).map(|n| sent("alice", plain(CREW, n))));
    History::new(stored(&sources))
}

#[test]
fn pages_in_both_directions_give_every_message_once() {
    let history = History::new(stored(&messages("dm:alice:bob", 100)));
    for limit in [1, 7, 64, 99, 100, 256] {
        for backwards in [false, true] {
            let (mut all, mut after) = (Vec::new(), 0);
            loop {
                let page = history.sync(&user("bob"), &of("dm:alice:bob", after, limit, backwards));
                assert_eq!((page.error, page.sync_id), (0, 7));
                assert!(page.records.len() <= limit as usize);
                all.extend(ordinals(&page));
                after = page.next_ordinal;
                if !page.more {
                    break;
                }
            }
            let mut wanted: Vec<u64> = (1..=100).collect();
            if backwards {
                wanted.reverse();
            }
            assert_eq!(all, wanted, "limit {limit}");
        }
    }
    let beyond = history.sync(&user("bob"), &of("dm:alice:bob", 100, 9, false));
    assert_eq!(
        (beyond.error, beyond.more, beyond.next_ordinal),
        (0, false, 100)
    );
}

#[test]
fn a_page_fits_a_frame_and_a_json_message_whatever_the_bodies() {
    for body in [
        vec![b'x'; 10],
        vec![b'"'; 5_000],
        vec![0; 5_000],
        vec![0xff; 5_000],
        vec![b'x'; 61_440],
        vec![0xff; 61_440],
    ] {
        let mut sources = messages("dm:alice:bob", 300);
        for source in &mut sources {
            if let SourceRecord::Send { send, .. } = source {
                send.body = Bytes::from(body.clone());
            }
        }
        let history = History::new(stored(&sources));
        let (mut seen, mut after) = (0, 0);
        loop {
            let page = history.sync(&user("bob"), &of("dm:alice:bob", after, 256, false));
            assert_eq!(page.error, 0);
            assert!(
                page.encoded_len() + 16 <= FRAME_BYTES_MAX,
                "{} bytes",
                page.encoded_len()
            );
            seen += page.records.len();
            after = page.next_ordinal;
            let more = page.more;
            let json = encode_server(&ServerFrame::SyncPage(page)).len();
            assert!(json <= WS_JSON_MESSAGE_BYTES_MAX, "{json} bytes of JSON");
            if !more {
                break;
            }
        }
        assert_eq!(seen, 300);
    }
}

#[test]
fn f21_strangers_and_unknown_chats_get_the_same_answer() {
    let sources = [
        create("alice", 1, CREW, &["bob"]),
        sent("alice", plain("dm:alice:bob", 2)),
    ];
    let history = History::new(stored(&sources));
    for id in [CREW, "g:nowhere", "dm:alice:bob", "dm:carol:dave"] {
        let page = history.sync(&user("mallory"), &of(id, 0, 0, false));
        let bare = pb::SyncPage {
            sync_id: 7,
            chat: id.to_owned(),
            error: NOT_MEMBER,
            text: "not_member".to_owned(),
            ..Default::default()
        };
        assert_eq!(page, bare);
    }
    let bad = history.sync(&user("mallory"), &of("nonsense", 0, 0, false));
    assert_eq!(bad.error, 4);
}

#[test]
fn what_lies_outside_the_readers_intervals_is_not_visible_and_says_where_to_go_on() {
    let history = rejoined();
    let ask =
        |after, limit, backwards| history.sync(&user("zoe"), &of(CREW, after, limit, backwards));
    // (after, limit, backwards) -> error, ordinals, more, next.
    for ((after, limit, backwards), error, wanted, more, next) in [
        ((0, 64, false), 0, vec![4, 5, 6, 12, 13, 14], false, 14),
        ((0, 2, false), 0, vec![4, 5], true, 5),
        ((5, 64, false), 0, vec![6, 12, 13, 14], false, 14),
        ((1, 2, false), NOT_VISIBLE, vec![], true, 3),
        ((6, 5, false), NOT_VISIBLE, vec![], true, 11),
        ((6, 6, false), 0, vec![12, 13, 14], false, 14),
        ((14, 5, false), 0, vec![], false, 14),
        ((0, 64, true), 0, vec![14, 13, 12, 6, 5, 4], false, 4),
        ((0, 3, true), 0, vec![14, 13, 12], true, 12),
        ((12, 5, true), NOT_VISIBLE, vec![], true, 7),
        ((7, 5, true), 0, vec![6, 5, 4], false, 4),
        ((4, 5, true), NOT_VISIBLE, vec![], false, 4),
    ] {
        let page = ask(after, limit, backwards);
        let got = (page.error, ordinals(&page), page.more, page.next_ordinal);
        assert_eq!(
            got,
            (error, wanted, more, next),
            "{after} {limit} {backwards}"
        );
    }
}

#[test]
fn a_former_member_sees_up_to_the_removal_and_nothing_of_the_present() {
    let sources = [
        create("alice", 1, CREW, &["bob"]),
        sent("alice", plain(CREW, 2)),
        group_op(
            "alice",
            3,
            CREW,
            GroupOp::Remove {
                users: users(&["bob"]),
            },
        ),
        sent("alice", plain(CREW, 4)),
        receipt("alice", CREW, u64::MAX, u64::MAX),
    ];
    let history = History::new(stored(&sources));
    let page = history.sync(&user("bob"), &of(CREW, 0, 0, false));
    assert_eq!(ordinals(&page), [1, 2, 3]);
    assert!(page.watermarks.is_empty() && !page.more);
    let after = history.sync(&user("bob"), &of(CREW, 3, 0, false));
    assert_eq!((after.error, after.more), (NOT_VISIBLE, false));
    let list = history.sync(&user("bob"), &pb::Sync::default());
    assert_eq!(
        (list.chats[0].last_ordinal, list.chats[0].member_count),
        (3, 0)
    );
    assert!(!history.is_member(&user("bob"), &chat(CREW)).unwrap());
    assert!(history.is_member(&user("alice"), &chat(CREW)).unwrap());
}

#[test]
fn the_list_of_chats_pages_by_cursor_with_heads_and_own_marks() {
    let mut sources: Vec<_> = (0..10)
        .map(|n| sent("alice", plain(&format!("dm:alice:friend{n}"), n)))
        .collect();
    sources.push(receipt("alice", "dm:alice:friend3", u64::MAX, u64::MAX));
    let history = History::new(stored(&sources));
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let request = pb::Sync {
            limit: 3,
            cursor,
            ..Default::default()
        };
        let page = history.sync(&user("alice"), &request);
        all.extend(page.chats);
        cursor = page.next_cursor;
        if !page.more {
            break;
        }
    }
    let names: BTreeSet<_> = all.iter().map(|c| c.chat.clone()).collect();
    assert_eq!((all.len(), names.len()), (10, 10));
    for summary in &all {
        let read = summary.chat == "dm:alice:friend3";
        assert_eq!(
            (summary.last_ordinal, summary.read_seq == summary.last_seq),
            (1, read)
        );
        assert_eq!(history.unread(summary), u32::from(!read));
        assert_eq!(summary.members.len(), 2);
    }
    let bad = pb::Sync {
        cursor: "x".to_owned(),
        ..Default::default()
    };
    assert_eq!(history.sync(&user("alice"), &bad).error, 4);
}

#[test]
fn watermarks_come_with_the_newest_page() {
    let mut sources = messages("dm:alice:bob", 10);
    sources.push(receipt("bob", "dm:alice:bob", u64::MAX, 0));
    let history = History::new(stored(&sources));
    for (after, limit, backwards, wanted) in [
        (0, 5, false, 0),
        (5, 5, false, 1),
        (10, 5, false, 1),
        (0, 5, true, 1),
    ] {
        let page = history.sync(&user("alice"), &of("dm:alice:bob", after, limit, backwards));
        assert_eq!(page.watermarks.len(), wanted, "{after} {limit} {backwards}");
    }
}

#[test]
fn typing_is_told_to_the_chats_members_by_partition_and_by_members_alone() {
    let store = stored(&[create("alice", 1, CREW, &["bob", "carol", "dave"])]);
    let records =
        signals::typing(&*store, &user("bob"), &chat(CREW), false, PARTITIONS, 5).unwrap();
    let mut told = BTreeSet::new();
    for produce in records {
        assert_eq!(produce.topic, Topic::ChatTyping);
        let record = EphemeralRecord::decode(&produce.value).unwrap();
        let EphemeralRecord::Typing {
            user: by,
            recipients,
            stopped: false,
            ..
        } = record
        else {
            panic!("not typing");
        };
        assert_eq!(by, user("bob"));
        for user in &recipients {
            assert_eq!(partition(user.as_str(), PARTITIONS), produce.partition);
        }
        told.extend(recipients);
    }
    assert_eq!(told, users(&["alice", "bob", "carol", "dave"]));
    for id in [CREW, "g:nowhere", "dm:alice:bob"] {
        let refused = signals::typing(&*store, &user("mallory"), &chat(id), false, PARTITIONS, 5);
        assert_eq!(refused.map(|r| r.len()), Err(ErrorCode::NotMember));
    }
    // A 1:1 chat needs no message before.
    let dm = signals::typing(
        &*store,
        &user("alice"),
        &chat("dm:alice:bob"),
        true,
        PARTITIONS,
        5,
    );
    assert!(!dm.unwrap().is_empty());
}

#[test]
fn nobody_is_told_who_types_in_a_very_large_group() {
    let names: Vec<String> = (0..signals::TYPING_MEMBERS_MAX)
        .map(|n| format!("m{n}"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let store = stored(&[create("alice", 1, CREW, &names)]);
    let told = signals::typing(&*store, &user("alice"), &chat(CREW), false, PARTITIONS, 5);
    assert!(told.unwrap().is_empty());
}
