//! `hawser.v1+json`: every frame reads back, golden text, and what is refused.

use bytes::Bytes;
use hawser_protocol::codes::ErrorCode;
use hawser_protocol::frame::{
    Ack, ClientFrame, Deliver, DeliverFlags, FrameError, FrameType, MessageView, ServerFrame,
};
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, MessageId, Seq, UserId};
use hawser_protocol::json;
use hawser_protocol::limits::{BODY_BYTES_MAX, WS_JSON_MESSAGE_BYTES_MAX};
use hawser_protocol::message::{Envelope, MessageRecord, MessageType, Send};
use hawser_protocol::pb;
use proptest::prelude::*;

fn uuid(last: u8) -> [u8; 16] {
    let mut id = [
        0x01, 0x93, 0x5f, 0x00, 0x00, 0x00, 0x70, 0x00, 0x80, 0, 0, 0, 0, 0, 0, 0,
    ];
    id[15] = last;
    id
}

fn send(body: &[u8]) -> Send {
    Send {
        client_msg_id: ClientMsgId(uuid(1)),
        send_ts_ms: 1_732_400_000_000,
        message_type: MessageType::TEXT,
        retry: false,
        chat: ChatId::new("dm:alice:bob").expect("id"),
        body: Bytes::copy_from_slice(body),
        envelopes: Vec::new(),
    }
}

fn record(body: &[u8]) -> MessageRecord {
    MessageRecord {
        seq: Seq::new(1, 41),
        prev_seq: Seq::new(1, 17),
        ordinal: 2,
        message_id: MessageId::derive(1_732_400_000_123, 0, 3, Seq::new(1, 41)),
        client_msg_id: ClientMsgId(uuid(1)),
        send_ts_ms: 1_732_400_000_000,
        stored_ts_ms: 1_732_400_000_123,
        message_type: MessageType::TEXT,
        sender: UserId::new("alice").expect("id"),
        sender_device: DeviceId::new("laptop").expect("id"),
        chat: ChatId::new("dm:alice:bob").expect("id"),
        body: Bytes::copy_from_slice(body),
    }
}

fn client(frame: &ClientFrame) -> String {
    let text = json::encode_client(frame);
    assert_eq!(json::decode_client(&text).as_ref(), Ok(frame), "{text}");
    text
}

fn server(frame: &ServerFrame) -> String {
    let text = json::encode_server(frame);
    assert_eq!(json::decode_server(&text).as_ref(), Ok(frame), "{text}");
    text
}

#[test]
fn golden_client_frames() {
    let hello = pb::Hello {
        token: "t".into(),
        device: "laptop".into(),
        resume_token: Bytes::from_static(&[1, 2, 3]),
        last_offset: Some(7),
        capabilities: vec!["x".into()],
        client: "test/1".into(),
        heartbeat_ms: 5_000,
        ..pb::Hello::default()
    };
    assert_eq!(
        client(&ClientFrame::Hello(hello)),
        r#"{"type":"hello","token":"t","device":"laptop","resume_token":"AQID","last_offset":"7","capabilities":["x"],"client":"test/1","redirect_never":false,"live_only":false,"heartbeat_ms":5000}"#
    );
    assert_eq!(
        client(&ClientFrame::Send(send(b"hi"))),
        r#"{"type":"send","client_msg_id":"01935f00-0000-7000-8000-000000000001","send_ts_ms":1732400000000,"message_type":1,"retry":false,"chat":"dm:alice:bob","body":"hi"}"#
    );
    let ack = |offset| client(&ClientFrame::Ack(Ack { offset }));
    assert_eq!(ack(258), r#"{"type":"ack","offset":"258"}"#);
    assert_eq!(ack(Ack::ADOPT), r#"{"type":"ack","adopt":true}"#);
    let receipt = pb::Receipt {
        chat: "g:team".into(),
        delivered_seq: u64::MAX,
        read_seq: 0,
    };
    assert_eq!(
        client(&ClientFrame::Receipt(receipt)),
        r#"{"type":"receipt","chat":"g:team","delivered_seq":"18446744073709551615","read_seq":"0"}"#
    );
    let ping = pb::Ping {
        offset: None,
        client_time_ms: 5,
    };
    assert_eq!(
        client(&ClientFrame::Ping(ping)),
        r#"{"type":"ping","client_time_ms":5}"#
    );
}

#[test]
fn every_other_client_frame_reads_back() {
    client(&ClientFrame::Typing(pb::Typing {
        chat: "g:x".into(),
        stopped: true,
    }));
    client(&ClientFrame::Watch(pb::Watch {
        users: vec!["bob".into(), "carol".into()],
        chats: vec!["g:x".into()],
    }));
    client(&ClientFrame::Sync(pb::Sync {
        sync_id: 3,
        chat: "g:x".into(),
        after_ordinal: 9,
        limit: 64,
        backwards: true,
        cursor: "dm:a:b".into(),
    }));
    client(&ClientFrame::RefreshToken(pb::RefreshToken {
        token: "t".into(),
    }));
    client(&ClientFrame::Bye(pb::Bye {
        reason: "quit".into(),
    }));
    client(&ClientFrame::Unknown(FrameType(0)));
    let envelope = Envelope {
        user: UserId::new("bob").expect("id"),
        device: DeviceId::new("phone").expect("id"),
        bytes: Bytes::from_static(&[0xaa, 0xbb]),
    };
    let text = client(&ClientFrame::Send(Send {
        retry: true,
        envelopes: vec![envelope],
        ..send(&[0xff, 0x00])
    }));
    assert!(text.contains(r#""body_b64":"/wA=""#), "{text}");
    assert!(text.contains(r#""data_b64":"qrs=""#), "{text}");
}

#[test]
fn golden_server_frames() {
    let flags = DeliverFlags::REPLAYED;
    let frame = Deliver {
        offset: 258,
        flags,
        envelope: Bytes::new(),
        record: record(b"hi"),
    };
    let later = server(&ServerFrame::Deliver(Deliver {
        flags: flags.with(DeliverFlags::ACK_LATER),
        ..frame.clone()
    }));
    assert!(
        later.contains(r#""replayed":true,"ack_later":true,"#),
        "{later}"
    );
    assert_eq!(
        server(&ServerFrame::Deliver(frame)),
        r#"{"type":"deliver","offset":"258","replayed":true,"seq":"281474976710697","prev_seq":"281474976710673","ordinal":2,"message_id":"01935b16-2c7b-7000-8400-0c0000000029","client_msg_id":"01935f00-0000-7000-8000-000000000001","send_ts_ms":1732400000000,"stored_ts_ms":1732400000123,"message_type":1,"chat":"dm:alice:bob","sender":"alice","sender_device":"laptop","body":"hi"}"#
    );
    let error = pb::Error {
        code: ErrorCode::RateLimited.number().into(),
        text: "slow down".into(),
        retry_after_ms: 500,
        client_msg_id: Bytes::copy_from_slice(&uuid(1)),
        frame_type: 2,
    };
    assert_eq!(
        server(&ServerFrame::Error(error)),
        r#"{"type":"error","name":"rate_limited","code":40,"text":"slow down","retry_after_ms":500,"client_msg_id":"01935f00-0000-7000-8000-000000000001","frame_type":2}"#
    );
    let result = pb::SendResult {
        offset: 9,
        client_msg_id: Bytes::copy_from_slice(&uuid(1)),
        chat: "dm:alice:bob".into(),
        message_id: Bytes::copy_from_slice(&uuid(2)),
        seq: Seq::new(1, 41).0,
        prev_seq: 0,
        ordinal: 1,
        stored_ts_ms: 1_732_400_000_123,
        ..pb::SendResult::default()
    };
    assert_eq!(
        server(&ServerFrame::SendResult(result)),
        r#"{"type":"send_result","offset":"9","client_msg_id":"01935f00-0000-7000-8000-000000000001","chat":"dm:alice:bob","error":0,"message_id":"01935f00-0000-7000-8000-000000000002","seq":"281474976710697","prev_seq":"0","ordinal":1,"stored_ts_ms":1732400000123,"text":"","retry_after_ms":0,"duplicate":false}"#
    );
}

#[test]
fn a_welcome_reads_back() {
    server(&ServerFrame::Welcome(pb::Welcome {
        session: "s".into(),
        user: "alice".into(),
        device: "laptop".into(),
        server_time_ms: 1_732_400_000_000,
        generation: 1,
        partition: 3,
        recovered: false,
        head: 77,
        resume_token: Bytes::from_static(&[9; 40]),
        heartbeat_ms: 30_000,
        map_version: 1,
        token_expires_at_ms: 5,
        limits: Some(pb::Limits {
            frame_bytes_max: 65_536,
            ..pb::Limits::default()
        }),
        node: "n".into(),
    }));
}

#[test]
fn every_other_server_frame_reads_back() {
    server(&ServerFrame::Redirect(pb::Redirect {
        url: "wss://b".into(),
        map_version: 2,
        jitter_ms: 3,
    }));
    server(&ServerFrame::Queued(pb::Queued {
        client_msg_id: Bytes::copy_from_slice(&uuid(1)),
    }));
    server(&ServerFrame::CaughtUp(pb::CaughtUp {
        offset: u64::MAX,
        resume_token: Bytes::from_static(&[1]),
    }));
    server(&ServerFrame::ReceiptUpdate(pb::ReceiptUpdate {
        offset: 4,
        chat: "g:x".into(),
        user: "bob".into(),
        delivered_seq: 5,
        read_seq: 4,
        ts_ms: 6,
    }));
    server(&ServerFrame::TypingUpdate(pb::TypingUpdate {
        chat: "g:x".into(),
        user: "bob".into(),
        stopped: false,
        expires_in_ms: 5_000,
    }));
    for state in 0..3 {
        server(&ServerFrame::PresenceUpdate(pb::PresenceUpdate {
            user: "bob".into(),
            state,
            last_seen_ms: 6,
        }));
    }
    server(&ServerFrame::SyncPage(pb::SyncPage {
        sync_id: 3,
        chat: "g:x".into(),
        records: vec![
            record(b"one").encode(),
            record(&[0xfe]).encode(),
            Bytes::from_static(b"no record"),
        ],
        more: true,
        next_ordinal: 9,
        truncated_before: 1,
        watermarks: vec![pb::Watermark {
            user: "bob".into(),
            delivered_seq: 1,
            read_seq: 1,
        }],
        chats: vec![pb::ChatSummary {
            chat: "g:x".into(),
            name: "X \"y\"".into(),
            members: vec![pb::Member {
                user: "bob".into(),
                admin: true,
            }],
            ..pb::ChatSummary::default()
        }],
        next_cursor: "g:x".into(),
        error: ErrorCode::NotVisible.number().into(),
        text: "no".into(),
        retry_after_ms: 5,
    }));
    server(&ServerFrame::Relocate(pb::Relocate {
        url: "wss://b".into(),
        slot_ms: 1,
        deadline_ms: 2,
    }));
    server(&ServerFrame::Pong(pb::Pong {
        client_time_ms: 1,
        server_time_ms: 2,
        lag: 3,
        resume_token: Bytes::new(),
        ingest_lag_ms: 4,
    }));
    server(&ServerFrame::TokenAccepted(pb::TokenAccepted {
        expires_at_ms: 1,
    }));
    server(&ServerFrame::Unknown(FrameType(0)));
}

#[test]
fn absent_null_unknown_and_numbers_are_all_read() {
    let hello = pb::Hello {
        token: "t".into(),
        last_offset: Some(7),
        ..pb::Hello::default()
    };
    let text = r#" {"later":{"a":[1,{}]},"token":"t","resume_token":null,"last_offset":7,"type":"hello","live_only":null}"#;
    assert_eq!(json::decode_client(text), Ok(ClientFrame::Hello(hello)));
    assert_eq!(
        json::decode_client(r#"{"type":"later","x":1}"#),
        Ok(ClientFrame::Unknown(FrameType(0)))
    );
    let short =
        r#"{"type":"send","client_msg_id":"01935F00-0000-7000-8000-000000000001","chat":"g:x"}"#;
    let Ok(ClientFrame::Send(read)) = json::decode_client(short) else {
        panic!("a short Send is a Send");
    };
    assert_eq!(read.message_type, MessageType::TEXT);
    assert!(read.body.is_empty() && read.client_msg_id == ClientMsgId(uuid(1)));
}

#[test]
fn what_is_no_frame_is_refused() {
    let malformed = |text: &str| {
        let refused = json::decode_client(text);
        assert!(
            matches!(refused, Err(FrameError::Malformed { .. })),
            "{text}: {refused:?}"
        );
        assert!(json::decode_server(text).is_err(), "{text}");
    };
    for text in [
        "",
        "null",
        "[]",
        r#"["hello"]"#,
        "{}",
        r#"{"type":1}"#,
        r#"{"type":"hello""#,
        r#"{"type":"hello"} {"type":"bye"}"#,
        r#"{"type":"hello","type":"bye"}"#,
        r#"{"type":"hello","token":5}"#,
        r#"{"type":"hello","token":"a","token":"b"}"#,
        r#"{"type":"hello","last_offset":-1}"#,
        r#"{"type":"hello","last_offset":"+1"}"#,
        r#"{"type":"hello","last_offset":""}"#,
        r#"{"type":"hello","last_offset":1.5}"#,
        r#"{"type":"hello","last_offset":"18446744073709551616"}"#,
        r#"{"type":"hello","heartbeat_ms":4294967296}"#,
        r#"{"type":"hello","resume_token":"no base64"}"#,
        r#"{"type":"ack"}"#,
        r#"{"type":"ack","offset":"1","adopt":true}"#,
        r#"{"type":"send","chat":"g:x"}"#,
        r#"{"type":"send","client_msg_id":"01935f00-0000-7000-8000-000000000001","chat":"g:x","message_type":256}"#,
        r#"{"type":"send","client_msg_id":"01935f00-0000-7000-8000-000000000001","chat":"g:x","body":"a","body_b64":"YQ=="}"#,
    ] {
        malformed(text);
    }
}

#[test]
fn what_is_refused_but_costs_no_session() {
    let code = |text: &str| {
        let error = json::decode_client(text).expect_err("refused");
        assert_eq!(error.close(), None, "{text}");
        error.code()
    };
    for id in [
        "",
        "x",
        "01935f0000007000800000000000000001xx",
        "01935f00-0000-7000-8000-00000000000g",
    ] {
        let text = format!(r#"{{"type":"send","client_msg_id":"{id}","chat":"g:x"}}"#);
        assert_eq!(code(&text), ErrorCode::BadClientMsgId, "{id}");
    }
    let with = |rest: &str| {
        format!(
            r#"{{"type":"send","client_msg_id":"01935f00-0000-7000-8000-000000000001",{rest}}}"#
        )
    };
    assert_eq!(code(&with(r#""chat":"bob""#)), ErrorCode::BadId);
    let body = "x".repeat(BODY_BYTES_MAX + 1);
    assert_eq!(
        code(&with(&format!(r#""chat":"g:x","body":"{body}""#))),
        ErrorCode::BodyTooLarge
    );
    let envelope = r#"{"user":"u","device":"d","data_b64":""}"#;
    let table = vec![envelope; 1_025].join(",");
    assert_eq!(
        code(&with(&format!(r#""chat":"g:x","envelopes":[{table}]"#))),
        ErrorCode::TooMany
    );
    assert_eq!(code(r#"{"type":"welcome"}"#), ErrorCode::UnexpectedFrame);
}

#[test]
fn oversize_and_deep_nesting_are_refused_in_bounded_work() {
    let long = format!(
        r#"{{"type":"bye","x":"{}"}}"#,
        "y".repeat(WS_JSON_MESSAGE_BYTES_MAX)
    );
    assert!(matches!(
        json::decode_client(&long),
        Err(FrameError::TooLarge { .. })
    ));
    let half = (WS_JSON_MESSAGE_BYTES_MAX - 64) / 2;
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let depth = half / open.len();
        let nest = |frame_type: &str| {
            let (open, close) = (open.repeat(depth), close.repeat(depth));
            format!(r#"{{"type":"{frame_type}","x":{open}1{close}}}"#)
        };
        // An unknown field is skipped without recursion, however deep it is.
        let bye = ClientFrame::Bye(pb::Bye::default());
        assert_eq!(json::decode_client(&nest("bye")), Ok(bye));
        for field in ["token", "capabilities"] {
            let known = nest("hello").replace(r#""x""#, &format!("{field:?}"));
            assert!(json::decode_client(&known).is_err());
        }
        assert!(json::decode_server(&nest("deliver")).is_err());
    }
}

#[test]
fn any_body_fits_a_json_message() {
    for byte in [b'x', b'"', 0x01, 0x7f, 0xff] {
        let body = vec![byte; BODY_BYTES_MAX];
        let record = record(&body).encode();
        let view = MessageView::parse(&record).expect("record");
        let text = json::deliver(u64::MAX, DeliverFlags::default(), &[], &view);
        assert!(
            text.len() <= WS_JSON_MESSAGE_BYTES_MAX,
            "{byte:#x}: {}",
            text.len()
        );
        let text = json::encode_client(&ClientFrame::Send(send(&body)));
        assert!(
            text.len() <= WS_JSON_MESSAGE_BYTES_MAX,
            "{byte:#x}: {}",
            text.len()
        );
        assert_eq!(
            json::decode_client(&text),
            Ok(ClientFrame::Send(send(&body)))
        );
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_and_never_panics(text in ".{0,400}") {
        let _ = json::decode_client(&text);
        let _ = json::decode_server(&text);
    }

    #[test]
    fn any_cut_of_a_frame_is_refused(end in 0usize..160) {
        let text = json::encode_client(&ClientFrame::Send(send(b"hi")));
        prop_assume!(end < text.len());
        prop_assert!(json::decode_client(&text[..end]).is_err());
    }

    #[test]
    fn any_body_reads_back(body in proptest::collection::vec(any::<u8>(), 0..300), envelope in proptest::collection::vec(any::<u8>(), 0..50)) {
        let frame = Deliver {
            offset: 1,
            flags: DeliverFlags::default(),
            envelope: envelope.into(),
            record: record(&body),
        };
        server(&ServerFrame::Deliver(frame));
        client(&ClientFrame::Send(send(&body)));
    }
}
