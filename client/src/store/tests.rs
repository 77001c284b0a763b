//! The local store on a real disk.

use super::*;
use bytes::Bytes;
use fjall::KeyspaceCreateOptions;
use hawser_protocol::client::{Batch, Mark as Risen, Refusal};
use hawser_protocol::ids::{ClientMsgId, DeviceId, MessageId};
use hawser_protocol::pb;

fn chat() -> ChatId {
    ChatId::new("dm:alice:bob").expect("id")
}

fn user(name: &str) -> UserId {
    UserId::new(name).expect("id")
}

/// A message of a chat: its place, and nothing else of note.
pub(crate) fn record_at(chat: &ChatId, ordinal: u64) -> MessageRecord {
    MessageRecord {
        seq: Seq(ordinal * 10),
        prev_seq: Seq((ordinal - 1) * 10),
        ordinal,
        message_id: MessageId([1; 16]),
        client_msg_id: ClientMsgId([2; 16]),
        send_ts_ms: 1,
        stored_ts_ms: ordinal,
        message_type: MessageType::TEXT,
        sender: user("bob"),
        sender_device: DeviceId::new("d").expect("id"),
        chat: chat.clone(),
        body: Bytes::new(),
    }
}

fn record(chat: &ChatId, ordinal: u64, sender: &str, body: &str) -> MessageRecord {
    MessageRecord {
        sender: user(sender),
        body: Bytes::copy_from_slice(body.as_bytes()),
        ..record_at(chat, ordinal)
    }
}

fn send(number: u64, id: u8) -> PendingSend {
    PendingSend {
        number,
        id: ClientMsgId([id; 16]),
        chat: chat(),
        message_type: MessageType::TEXT,
        body: Bytes::copy_from_slice(&[id]),
        send_ts_ms: 7,
        refused: None,
    }
}

#[test]
fn a_batch_is_kept_whole_and_messages_page_backwards() {
    let dir = tempfile::tempdir().expect("dir");
    let position = Position::At {
        next: 9,
        resume_token: Bytes::from_static(b"seal"),
    };
    let batch = Batch {
        records: (1..=300).map(|n| record(&chat(), n, "bob", "x")).collect(),
        position: Some(position.clone()),
        tracks: [(
            chat(),
            Track {
                seq: Seq(3_000),
                ordinal: 300,
            },
        )]
        .into(),
        skew_ms: Some(-5),
        ..Batch::default()
    };
    {
        let store = Store::open(dir.path()).expect("open");
        let written = store.write(&batch, &user("alice")).expect("write");
        assert_eq!(written.fresh.len(), 300);
        let again = store.write(&batch, &user("alice")).expect("write");
        assert_eq!(again.fresh, [], "the same ordinals are the same messages");
    }
    let store = Store::open(dir.path()).expect("reopen");
    let saved = store.load(&user("alice")).expect("read");
    assert_eq!(saved.position, Some(position));
    assert_eq!((saved.tracks, saved.skew_ms), (batch.tracks, -5));
    let ordinals = |before, limit| {
        let page = store.messages(&chat(), before, limit).expect("read");
        page.iter().map(|r| r.ordinal).collect::<Vec<_>>()
    };
    assert_eq!(ordinals(u64::MAX, 2), [299, 300]);
    assert_eq!(ordinals(299, 1), [298]);
    let row = store.chat(&chat()).expect("read");
    assert_eq!(
        (row.last_seq, row.last_ordinal, row.last_ts_ms),
        (3_000, 300, 300)
    );
}

#[test]
fn watermarks_only_rise_and_read_implies_delivered() {
    let dir = tempfile::tempdir().expect("dir");
    let store = Store::open(dir.path()).expect("open");
    for (delivered, read) in [(5, 0), (3, 4), (0, 9), (1, 1)] {
        let mark = Risen {
            chat: chat(),
            user: user("bob"),
            delivered: Seq(delivered),
            read: Seq(read),
        };
        let batch = Batch {
            marks: vec![mark],
            ..Batch::default()
        };
        store.write(&batch, &user("alice")).expect("write");
    }
    let nine = Mark {
        delivered: 9,
        read: 9,
    };
    assert_eq!(store.marks(&chat()).expect("read"), [("bob".into(), nine)]);
}

#[test]
fn unread_counts_what_others_wrote_after_what_any_device_of_mine_has_read() {
    let dir = tempfile::tempdir().expect("dir");
    let store = Store::open(dir.path()).expect("open");
    let me = user("alice");
    let senders = ["bob", "bob", "alice", "bob", "bob"];
    let records = (1..)
        .zip(senders)
        .map(|(n, who)| record(&chat(), n, who, "x"));
    let batch = Batch {
        records: records.collect(),
        reads: [(chat(), Seq(10))].into(),
        ..Batch::default()
    };
    store.write(&batch, &me).expect("write");
    assert_eq!(store.unread(&chat(), &me).expect("read"), 3);
    let saved = store.load(&me).expect("read");
    assert_eq!(saved.unconfirmed_reads, [(chat(), Seq(10))].into());
    let summary = pb::ChatSummary {
        chat: chat().to_string(),
        read_seq: 40,
        ..pb::ChatSummary::default()
    };
    let batch = Batch {
        chats: vec![summary],
        ..Batch::default()
    };
    store.write(&batch, &me).expect("write");
    assert_eq!(store.unread(&chat(), &me).expect("read"), 1);
    assert!(store.load(&me).expect("read").unconfirmed_reads.is_empty());
}

#[test]
fn the_unsent_queue_keeps_its_order_and_refusals_across_restarts() {
    let dir = tempfile::tempdir().expect("dir");
    let me = user("alice");
    {
        let store = Store::open(dir.path()).expect("open");
        let put = |sends: &[PendingSend], delete: &[u8]| {
            let batch = Batch {
                pending_put: sends.to_vec(),
                pending_delete: delete.iter().map(|id| ClientMsgId([*id; 16])).collect(),
                ..Batch::default()
            };
            store.write(&batch, &me).expect("write")
        };
        put(&[send(1, 9)], &[]);
        put(&[send(2, 1), send(3, 5)], &[]);
        let refused = PendingSend {
            refused: Some(Refusal {
                code: 30,
                text: "no".into(),
            }),
            ..send(3, 5)
        };
        let written = put(&[refused, send(4, 4)], &[1, 4]);
        assert_eq!(written.unsent.len(), 1, "what is also deleted is not put");
    }
    let left = Store::open(dir.path())
        .expect("reopen")
        .unsent()
        .expect("read");
    assert_eq!(left.len(), 2);
    assert_eq!(left[0], send(1, 9));
    assert_eq!(left[1].refused.as_ref().map(|r| r.code), Some(30));
}

#[test]
fn groups_follow_their_changes_and_the_servers_list() {
    let dir = tempfile::tempdir().expect("dir");
    let store = Store::open(dir.path()).expect("open");
    let me = user("bob");
    let group = ChatId::new("g:x").expect("id");
    let change = |ordinal, json: &str| MessageRecord {
        message_type: MessageType::MEMBERSHIP,
        ..record(&group, ordinal, "alice", json)
    };
    let write = |records: Vec<MessageRecord>, list: Option<Vec<String>>| {
        let batch = Batch {
            records,
            chat_list_complete: list,
            ..Batch::default()
        };
        store.write(&batch, &me).expect("write");
        store.chat(&group).expect("read")
    };
    let create = r#"{"op":"create","users":["bob","carol"],"name":"X"}"#;
    let row = write(vec![change(1, create)], None);
    let names: Vec<&str> = row.members.iter().map(|m| m.user.as_str()).collect();
    assert_eq!(
        (names, row.name.as_str()),
        (vec!["alice", "bob", "carol"], "X")
    );
    let remove = r#"{"op":"remove","users":["bob"]}"#;
    assert!(write(vec![change(2, remove)], None).gone);
    let add = r#"{"op":"add","users":["bob"]}"#;
    assert!(!write(vec![change(3, add)], None).gone);
    assert!(write(Vec::new(), Some(vec!["g:other".into()])).gone);
}

#[test]
fn a_store_of_another_version_or_in_use_is_refused() {
    let dir = tempfile::tempdir().expect("dir");
    let store = Store::open(dir.path()).expect("open");
    let busy = Store::open(dir.path()).expect_err("in use");
    assert!(matches!(busy, StoreError::InUse(_)), "{busy}");
    drop(store);
    {
        let db = Database::builder(dir.path().join("rows"))
            .open()
            .expect("raw");
        let meta = db
            .keyspace("meta", KeyspaceCreateOptions::default)
            .expect("meta");
        meta.insert("format", "hawser-client 99").expect("write");
    }
    let err = Store::open(dir.path()).expect_err("newer");
    assert!(err.to_string().contains("hawser-client 99"), "{err}");
}
