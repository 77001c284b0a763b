use super::*;
use crate::ids::{ChatId, ClientMsgId, DeviceId, Seq, UserId};
use crate::lanes::Lanes;
use crate::limits::{BODY_BYTES_MAX, ENVELOPES_MAX};
use crate::message::{Envelope, MessageType, Send};
use crate::ownership::NodeName;
use crate::pb;
use crate::revocation::Revocation;
use bytes::Bytes;
use proptest::prelude::*;

fn user(text: &str) -> UserId {
    UserId::new(text).unwrap()
}

fn device(text: &str) -> DeviceId {
    DeviceId::new(text).unwrap()
}

fn chat(text: &str) -> ChatId {
    ChatId::new(text).unwrap()
}

fn envelope(to: &str, on: &str, bytes: &'static [u8]) -> Envelope {
    Envelope {
        user: user(to),
        device: device(on),
        bytes: Bytes::from_static(bytes),
    }
}

fn send() -> Send {
    Send {
        client_msg_id: ClientMsgId([7; 16]),
        send_ts_ms: 1,
        message_type: MessageType(200),
        retry: true,
        chat: chat("dm:a:b"),
        body: Bytes::from_static(&[0, 255, 128]),
        envelopes: vec![envelope("a", "x", b""), envelope("b", "y", b"\xff\x00")],
    }
}

fn sources() -> Vec<SourceRecord> {
    let group = |op| SourceRecord::Group {
        actor: user("a"),
        op_id: ClientMsgId([9; 16]),
        chat: chat("g:1"),
        op,
    };
    let lane = |op| SourceRecord::Lane {
        actor: user("a"),
        op_id: ClientMsgId([9; 16]),
        chat: chat("g:1#63"),
        op,
    };
    vec![
        SourceRecord::Send {
            sender: user("a"),
            device: device("x"),
            send: Box::new(send()),
        },
        SourceRecord::Receipt {
            user: user("a"),
            device: device("x"),
            chat: chat("dm:a:b"),
            delivered: Seq(3),
            read: Seq::NONE,
        },
        group(GroupOp::Create {
            name: "ü".into(),
            picture: "p".into(),
            members: vec![user("b"), user("c")],
        }),
        group(GroupOp::Add {
            users: vec![user("d")],
        }),
        group(GroupOp::Remove { users: vec![] }),
        group(GroupOp::Leave),
        group(GroupOp::Update {
            name: String::new(),
            picture: String::new(),
        }),
        group(GroupOp::SetAdmin {
            user: user("b"),
            admin: true,
        }),
        group(GroupOp::Relax { lanes: 8 }),
        lane(LaneOp::Open {
            name: "ü".into(),
            picture: String::new(),
            members: vec![user("a"), user("b")],
            admins: vec![user("a")],
            lanes: Lanes::new(8, 77).unwrap(),
        }),
        lane(LaneOp::Change(GroupOp::Leave)),
    ]
}

fn delivery(kind: DeliveryKind) -> DeliveryRecord {
    DeliveryRecord {
        source_partition: 5,
        source_seq: Seq::new(2, 77),
        sub_index: 3,
        kind,
    }
}

fn deliveries() -> Vec<DeliveryRecord> {
    vec![
        delivery(DeliveryKind::Message {
            recipients: Audience::Listed(vec![user("a"), user(&"b".repeat(64))]),
            record: Bytes::from_static(b"\x00\xff record"),
            envelopes: vec![envelope("a", "x", b"secret")],
            sender_entry: Some((user("a"), device("x"))),
        }),
        delivery(DeliveryKind::Result {
            user: user("a"),
            device: device("x"),
            result: pb::SendResult {
                error: 30,
                chat: "dm:a:b".into(),
                ..Default::default()
            },
        }),
        delivery(DeliveryKind::Receipt {
            recipients: vec![user("b")],
            chat: chat("g:1"),
            user: user("a"),
            delivered: Seq(9),
            read: Seq(8),
            ts_ms: 7,
        }),
        delivery(DeliveryKind::Message {
            recipients: Audience::Members { changed: true },
            record: Bytes::from_static(b"record"),
            envelopes: Vec::new(),
            sender_entry: None,
        }),
        delivery(DeliveryKind::Shard {
            chat: chat("g:1"),
            members: vec![
                ShardMember {
                    user: user("a"),
                    spans: vec![(Seq(3), Some(Seq(5))), (Seq(7), None)],
                },
                ShardMember {
                    user: user(&"b".repeat(64)),
                    spans: Vec::new(),
                },
            ],
        }),
        delivery(DeliveryKind::Reference {
            recipients: Audience::Listed(vec![user("a"), user("c")]),
            envelopes: vec![envelope("c", "z", b"secret")],
            sender_entry: Some((user("a"), device("x"))),
            chat: chat("g:1"),
            referred: Referred::to(9, b"\x00\xff record"),
        }),
        delivery(DeliveryKind::Reference {
            recipients: Audience::Members { changed: false },
            envelopes: vec![],
            sender_entry: None,
            chat: chat("g:1#63"),
            referred: Referred::to(u64::MAX, b""),
        }),
    ]
}

fn body() -> BodyRecord {
    BodyRecord {
        key: delivery(deliveries()[0].kind.clone()).body_key(),
        record: Bytes::from_static(b"\x00\xff record"),
    }
}

fn revokes() -> Vec<DeliveryRecord> {
    let all = [
        Revocation::User {
            user: user("a"),
            until_ms: None,
        },
        Revocation::User {
            user: user("a"),
            until_ms: Some(u64::MAX),
        },
        Revocation::Device {
            user: user("a"),
            device: device("x"),
            until_ms: Some(0),
        },
        Revocation::Device {
            user: user("a"),
            device: device("x"),
            until_ms: None,
        },
        Revocation::Token {
            jti: "ü/'".into(),
            expires_at_ms: 9,
        },
        Revocation::Pardon { user: user("a") },
    ];
    let of = |revocation| {
        delivery(DeliveryKind::Revoke {
            user: user("a"),
            number: 1 << 40,
            revocation,
            reason: "banned".into(),
        })
    };
    all.map(of).into()
}

fn cursors() -> CursorRecord {
    CursorRecord {
        snapshot: true,
        generation: 4,
        cursors: vec![DeviceCursor {
            user: user("a"),
            device: device("x"),
            offset: u64::MAX,
        }],
    }
}

fn ephemerals() -> Vec<EphemeralRecord> {
    vec![
        EphemeralRecord::Typing {
            chat: chat("g:1"),
            user: user("a"),
            stopped: true,
            recipients: vec![user("b")],
        },
        EphemeralRecord::Presence {
            user: user("a"),
            state: EphemeralPresence::Offline,
            last_seen_ms: 9,
        },
        EphemeralRecord::Served(Served {
            user: user("a"),
            device: device("x"),
            node: NodeName::new("edge-1").unwrap(),
            began_ms: 7,
        }),
    ]
}

type Decode = fn(&Bytes) -> Result<(), RecordError>;

/// Every encoding, each with a function that says whether bytes decode.
fn encodings() -> Vec<(Bytes, Decode)> {
    let mut all: Vec<(Bytes, Decode)> = Vec::new();
    for record in sources() {
        all.push((record.encode(), |b| SourceRecord::decode(b).map(drop)));
    }
    for record in deliveries().into_iter().chain(revokes()) {
        all.push((record.encode(), |b| DeliveryRecord::decode(b).map(drop)));
    }
    for record in ephemerals() {
        all.push((record.encode(), |b| EphemeralRecord::decode(b).map(drop)));
    }
    all.push((cursors().encode(), |b| CursorRecord::decode(b).map(drop)));
    all.push((body().encode(), |b| BodyRecord::decode(b).map(drop)));
    all
}

#[test]
fn records_come_back_as_they_went_in() {
    for record in sources() {
        assert_eq!(SourceRecord::decode(&record.encode()), Ok(record));
    }
    for record in deliveries().into_iter().chain(revokes()) {
        assert_eq!(DeliveryRecord::decode(&record.encode()), Ok(record));
    }
    for record in ephemerals() {
        assert_eq!(EphemeralRecord::decode(&record.encode()), Ok(record));
    }
    assert_eq!(CursorRecord::decode(&cursors().encode()), Ok(cursors()));
    assert_eq!(BodyRecord::decode(&body().encode()), Ok(body()));
}

#[test]
fn golden_bytes_of_a_delivery_record_hold() {
    let bytes = delivery(DeliveryKind::Message {
        recipients: Audience::Listed(vec![user("al"), user("b")]),
        record: Bytes::from_static(b"REC"),
        envelopes: vec![envelope("b", "y", b"E")],
        sender_entry: Some((user("al"), device("x"))),
    })
    .encode();
    let golden: &[u8] = &[
        1, 1, 3, 0, 5, 0, 0, 0, 77, 0, 0, 0, 0, 0, 2, 0, // head
        2, 0, 0, 0, 5, 0, 0, 0, 2, b'a', b'l', 1, b'b', // recipients
        2, b'a', b'l', 1, b'x', // sender
        7, 0, 0, 0, 1, 1, 1, 0, b'b', b'y', b'E', // envelopes
        3, 0, 0, 0, b'R', b'E', b'C',
    ];
    assert_eq!(&bytes[..], golden);
}

#[test]
fn golden_bytes_of_a_reference_and_of_its_body_hold() {
    let reference = delivery(DeliveryKind::Reference {
        recipients: Audience::Listed(vec![user("al"), user("b")]),
        envelopes: vec![envelope("b", "y", b"E")],
        sender_entry: Some((user("al"), device("x"))),
        chat: chat("g:1"),
        referred: Referred::to(4, b"123456789"),
    });
    let golden: &[u8] = &[
        1, 5, 3, 0, 5, 0, 0, 0, 77, 0, 0, 0, 0, 0, 2, 0, // head
        2, 0, 0, 0, 5, 0, 0, 0, 2, b'a', b'l', 1, b'b', // recipients
        2, b'a', b'l', 1, b'x', // sender
        7, 0, 0, 0, 1, 1, 1, 0, b'b', b'y', b'E', // envelopes
        3, b'g', b':', b'1', 4, 0, 0, 0, 0, 0, 0, 0, // chat, ordinal
        9, 0, 0, 0, 0x26, 0x39, 0xf4, 0xcb, // length, CRC-32 (its check value)
    ];
    assert_eq!(&reference.encode()[..], golden);
    let body = BodyRecord {
        key: reference.body_key(),
        record: Bytes::from_static(b"REC"),
    };
    let golden: &[u8] = &[
        1, 1, 5, 0, 0, 0, 77, 0, 0, 0, 0, 0, 2, 0, 3, 0, 0, 0, b'R', b'E', b'C',
    ];
    assert_eq!(&body.encode()[..], golden);
}

#[test]
fn a_reference_means_one_record_and_no_other() {
    let bytes = deliveries()[5].encode();
    let view = DeliveryView::parse(&bytes).unwrap();
    assert_eq!(view.body_key(), body().key);
    let ViewKind::Reference(reference) = view.kind else {
        panic!("not a reference");
    };
    assert_eq!(
        reference.to.recipients().collect::<Vec<_>>(),
        vec!["a", "c"]
    );
    assert_eq!(reference.to.sender(), Some(("a", "x")));
    assert_eq!(reference.to.envelope("c", "z"), b"secret");
    assert_eq!((reference.chat, reference.referred.ordinal), ("g:1", 9));
    assert!(reference.referred.is(&body().record));
    assert!(!reference.referred.is(b"\x00\xfe record"));
    assert!(!reference.referred.is(b"\x00\xff recor"));
}

#[test]
fn golden_bytes_of_source_records_hold() {
    let receipt = sources()[1].encode();
    let golden: &[u8] = &[
        1, 2, 1, b'a', 1, b'x', 6, b'd', b'm', b':', b'a', b':', b'b', 3, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(&receipt[..], golden);
}

#[test]
fn a_view_gives_recipients_sender_envelopes_and_the_shared_bytes() {
    let bytes = deliveries()[0].encode();
    let view = DeliveryView::parse(&bytes).unwrap();
    assert_eq!(
        (view.source_partition, view.source_seq, view.sub_index),
        (5, Seq::new(2, 77), 3)
    );
    let ViewKind::Message(message) = view.kind else {
        panic!("not a message");
    };
    let long = "b".repeat(64);
    assert_eq!(message.recipients().len(), 2);
    assert_eq!(
        message.recipients().collect::<Vec<_>>(),
        vec!["a", long.as_str()]
    );
    assert_eq!(message.sender(), Some(("a", "x")));
    assert_eq!(message.envelope("a", "x"), b"secret");
    assert_eq!(message.envelope("a", "other"), b"");
    assert_eq!(message.record(), b"\x00\xff record");
    assert_eq!(&bytes[message.record_range()], message.record());
}

#[test]
fn payloads_share_the_memory_of_the_value() {
    let bytes = sources()[0].encode();
    let within = bytes.as_ptr_range();
    let SourceRecord::Send { send, .. } = SourceRecord::decode(&bytes).unwrap() else {
        panic!("not a send");
    };
    assert!(within.contains(&send.body.as_ptr()));
    assert!(within.contains(&send.envelopes[1].bytes.as_ptr()));
}

#[test]
fn every_cut_every_trailing_byte_and_every_other_version_is_refused() {
    for (bytes, decode) in encodings() {
        decode(&bytes).unwrap();
        for len in 0..bytes.len() {
            assert!(decode(&bytes.slice(..len)).is_err(), "cut at {len}");
        }
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert_eq!(
            decode(&longer.into()),
            Err(RecordError::Trailing { bytes: 1 })
        );
        let mut newer = bytes.to_vec();
        newer[0] = 2;
        assert_eq!(
            decode(&newer.into()),
            Err(RecordError::Version { found: 2 })
        );
        let mut other = bytes.to_vec();
        other[1] = 99;
        assert_eq!(decode(&other.into()), Err(RecordError::Kind { found: 99 }));
    }
}

#[test]
fn what_exceeds_a_bound_is_refused_by_name() {
    let mut big = send();
    big.body = vec![0; BODY_BYTES_MAX + 1].into();
    let mut many = send();
    many.envelopes = vec![envelope("a", "x", b""); ENVELOPES_MAX + 1];
    let wrap = |send: Send| SourceRecord::Send {
        sender: user("a"),
        device: device("x"),
        send: Box::new(send),
    };
    let named = SourceRecord::Group {
        actor: user("a"),
        op_id: ClientMsgId([9; 16]),
        chat: chat("g:1"),
        op: GroupOp::Update {
            name: "n".repeat(GROUP_NAME_BYTES_MAX + 1),
            picture: String::new(),
        },
    };
    for (record, field) in [
        (wrap(big), "body"),
        (wrap(many), "envelopes"),
        (named, "name"),
    ] {
        match SourceRecord::decode(&record.encode()) {
            Err(RecordError::TooMany { what, found, max }) => {
                assert_eq!((what, found), (field, max + 1));
            }
            other => panic!("{field}: {other:?}"),
        }
    }
}

#[test]
fn a_recipient_count_that_lies_is_refused() {
    let bytes = deliveries()[0].encode();
    for (at, value) in [(16, 1), (16, 3), (16, 255), (24, 0), (24, 200), (25, 200)] {
        let mut bad = bytes.to_vec();
        bad[at] = value;
        assert!(DeliveryView::parse(&bad).is_err(), "byte {at} = {value}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(
        which in 0usize..64,
        edits in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..6),
        tail in proptest::collection::vec(any::<u8>(), 0..24),
    ) {
        let all = encodings();
        let (bytes, _) = &all[which % all.len()];
        let mut bytes = bytes.to_vec();
        for (at, value) in edits {
            let len = bytes.len();
            bytes[at % len] = value;
        }
        bytes.extend_from_slice(&tail);
        let bytes = Bytes::from(bytes);
        for (_, decode) in &all {
            let _ = decode(&bytes);
        }
        if let Ok(DeliveryView { kind: ViewKind::Message(message), .. }) = DeliveryView::parse(&bytes) {
            prop_assert_eq!(message.recipients().count(), message.recipients().len());
            let _ = message.envelopes().iter().count();
        }
    }
}
