//! Frames, binary and JSON: what decodes encodes to something that decodes to the same.

use bytes::Bytes;
use hawser_protocol::frame::{
    Ack, ClientFrame, Deliver, DeliverFlags, MessageView, ServerFrame, split,
};
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, MessageId, Seq, UserId};
use hawser_protocol::message::{Envelope, MessageRecord, MessageType, Send};
use hawser_protocol::{json, pb};

/// A message of a client's: whole frames until one is refused.
pub fn client(bytes: &[u8]) {
    let mut message = Bytes::copy_from_slice(bytes);
    while let Ok(Some(raw)) = split(&mut message) {
        let Ok(frame) = ClientFrame::decode(&raw) else {
            continue;
        };
        let mut again = Vec::new();
        frame.encode(&mut again);
        let raw = split(&mut Bytes::from(again)).expect("what we encode is whole");
        let raw = raw.expect("what we encode is a frame");
        assert_eq!(ClientFrame::decode(&raw), Ok(frame.clone()));
        if !matches!(frame, ClientFrame::Unknown(_)) {
            let text = json::encode_client(&frame);
            assert_eq!(json::decode_client(&text), Ok(frame), "{text}");
        }
    }
}

/// A message of a server's.
pub fn server(bytes: &[u8]) {
    let mut message = Bytes::copy_from_slice(bytes);
    while let Ok(Some(raw)) = split(&mut message) {
        let Ok(frame) = ServerFrame::decode(&raw) else {
            continue;
        };
        let mut again = Vec::new();
        frame.encode(&mut again);
        let raw = split(&mut Bytes::from(again)).expect("what we encode is whole");
        let raw = raw.expect("what we encode is a frame");
        assert_eq!(ServerFrame::decode(&raw), Ok(frame.clone()));
        if let ServerFrame::Deliver(deliver) = &frame {
            let record = deliver.record.encode();
            let view = MessageView::parse(&record).expect("a record is a record in both readers");
            assert_eq!(view.body(), &deliver.record.body);
        }
        let _ = json::encode_server(&frame);
    }
    // The view, which the edge uses on records of its own log, does not judge ids again.
    if MessageRecord::decode(&Bytes::copy_from_slice(bytes)).is_ok() {
        assert!(
            MessageView::parse(bytes).is_ok(),
            "the view reads what the owned form reads"
        );
    }
}

/// A text message of a client's.
pub fn client_json(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(frame) = json::decode_client(&text)
        && !matches!(frame, ClientFrame::Unknown(_))
    {
        let again = json::encode_client(&frame);
        assert_eq!(json::decode_client(&again), Ok(frame), "{again}");
    }
}

/// A text message of a server's.
pub fn server_json(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(frame) = json::decode_server(&text)
        && !matches!(frame, ServerFrame::Unknown(_))
    {
        let again = json::encode_server(&frame);
        assert_eq!(json::decode_server(&again), Ok(frame), "{again}");
    }
}

/// A record with everything in it.
#[must_use]
pub fn record() -> Option<MessageRecord> {
    let (alice, bob) = (UserId::new("alice").ok()?, UserId::new("bob").ok()?);
    Some(MessageRecord {
        seq: Seq::new(1, 77),
        prev_seq: Seq::new(1, 70),
        ordinal: 9,
        message_id: MessageId::derive(1_700_000_000_000, 1, 3, Seq::new(1, 77)),
        client_msg_id: ClientMsgId::new(1_700_000_000_000, [7; 10]),
        send_ts_ms: 1_700_000_000_000,
        stored_ts_ms: 1_700_000_000_005,
        message_type: MessageType::TEXT,
        chat: ChatId::dm(&alice, &bob),
        sender: alice,
        sender_device: DeviceId::new("phone").ok()?,
        body: Bytes::from_static("good morning ☀".as_bytes()),
    })
}

/// A Send with envelopes.
#[must_use]
pub fn send() -> Option<Send> {
    let record = record()?;
    Some(Send {
        client_msg_id: record.client_msg_id,
        send_ts_ms: record.send_ts_ms,
        message_type: record.message_type,
        retry: true,
        chat: record.chat,
        body: Bytes::from_static(&[0xff, 0, 1, 2]),
        envelopes: vec![
            Envelope {
                user: record.sender.clone(),
                device: record.sender_device.clone(),
                bytes: Bytes::from_static(b"for one"),
            },
            Envelope {
                user: record.sender,
                device: record.sender_device,
                bytes: Bytes::new(),
            },
        ],
    })
}

fn client_samples() -> Vec<ClientFrame> {
    let text = || "dm:alice:bob".to_owned();
    let mut frames = vec![
        ClientFrame::Hello(pb::Hello {
            token: "aaa.bbb.ccc".to_owned(),
            device: "phone".to_owned(),
            resume_token: vec![1, 2, 3].into(),
            last_offset: Some(41),
            capabilities: vec!["x".to_owned()],
            client: "fuzz/1".to_owned(),
            live_only: true,
            ..pb::Hello::default()
        }),
        ClientFrame::Ack(Ack { offset: 41 }),
        ClientFrame::Ack(Ack { offset: Ack::ADOPT }),
        ClientFrame::Receipt(pb::Receipt {
            chat: text(),
            delivered_seq: 1 << 60,
            read_seq: 3,
        }),
        ClientFrame::Typing(pb::Typing {
            chat: text(),
            stopped: true,
        }),
        ClientFrame::Watch(pb::Watch {
            users: vec!["bob".to_owned()],
            chats: vec![text()],
        }),
        ClientFrame::Sync(pb::Sync {
            sync_id: 7,
            chat: text(),
            after_ordinal: 3,
            limit: 10,
            backwards: true,
            cursor: String::new(),
        }),
        ClientFrame::Ping(pb::Ping {
            offset: Some(0),
            client_time_ms: 5,
        }),
        ClientFrame::RefreshToken(pb::RefreshToken {
            token: "t".to_owned(),
        }),
        ClientFrame::Bye(pb::Bye {
            reason: "done".to_owned(),
        }),
    ];
    frames.extend(send().map(ClientFrame::Send));
    frames
}

fn server_samples() -> Vec<ServerFrame> {
    let mut frames = vec![
        ServerFrame::Welcome(pb::Welcome {
            session: "s".to_owned(),
            head: 1 << 40,
            resume_token: vec![9; 60].into(),
            limits: Some(pb::Limits::default()),
            ..pb::Welcome::default()
        }),
        ServerFrame::Queued(pb::Queued {
            client_msg_id: vec![1; 16].into(),
        }),
        ServerFrame::SendResult(pb::SendResult {
            offset: 5,
            client_msg_id: vec![1; 16].into(),
            chat: "dm:alice:bob".to_owned(),
            message_id: vec![2; 16].into(),
            ordinal: 4,
            ..pb::SendResult::default()
        }),
        ServerFrame::CaughtUp(pb::CaughtUp {
            offset: 4,
            resume_token: vec![1].into(),
        }),
        ServerFrame::Pong(pb::Pong {
            lag: 3,
            ..pb::Pong::default()
        }),
        ServerFrame::Error(pb::Error {
            code: 1,
            text: "no".to_owned(),
            retry_after_ms: 5,
            client_msg_id: vec![3; 16].into(),
            frame_type: 2,
        }),
    ];
    if let Some(record) = record() {
        frames.push(ServerFrame::SyncPage(pb::SyncPage {
            sync_id: 1,
            records: vec![record.encode()],
            chats: vec![pb::ChatSummary::default()],
            watermarks: vec![pb::Watermark::default()],
            ..pb::SyncPage::default()
        }));
        frames.push(ServerFrame::Deliver(Deliver {
            offset: 12,
            flags: DeliverFlags::REPLAYED,
            envelope: Bytes::from_static(b"env"),
            record,
        }));
    }
    frames
}

/// Binary frames of a client, one a message and all in one.
#[must_use]
pub fn client_frames() -> Vec<Vec<u8>> {
    let samples = client_samples();
    let encoded = samples.iter().map(|frame| {
        let mut out = Vec::new();
        frame.encode(&mut out);
        out
    });
    with_all_in_one(encoded.collect())
}

/// Binary frames of a server, and a message record by itself.
#[must_use]
pub fn server_frames() -> Vec<Vec<u8>> {
    let samples = server_samples();
    let encoded = samples.iter().map(|frame| {
        let mut out = Vec::new();
        frame.encode(&mut out);
        out
    });
    let mut seeds = with_all_in_one(encoded.collect());
    seeds.extend(record().map(|record| record.encode().to_vec()));
    seeds
}

/// JSON frames of a client.
#[must_use]
pub fn client_texts() -> Vec<Vec<u8>> {
    client_samples()
        .iter()
        .map(|frame| json::encode_client(frame).into_bytes())
        .collect()
}

/// JSON frames of a server.
#[must_use]
pub fn server_texts() -> Vec<Vec<u8>> {
    server_samples()
        .iter()
        .map(|frame| json::encode_server(frame).into_bytes())
        .collect()
}

fn with_all_in_one(mut seeds: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    seeds.push(seeds.concat());
    seeds
}
