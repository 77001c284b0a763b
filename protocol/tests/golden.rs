//! Golden wire bytes: only ever added to. A change here breaks every client in the field.

use bytes::Bytes;
use hawser_protocol::frame::{
    Ack, ClientFrame, Deliver, DeliverFlags, FrameError, ServerFrame, split,
};
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, MessageId, Seq, UserId};
use hawser_protocol::message::{Envelope, MessageRecord, MessageType, Send};
use hawser_protocol::pb;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn client(frame: &ClientFrame) -> String {
    let mut out = Vec::new();
    frame.encode(&mut out);
    let mut message = Bytes::from(out.clone());
    let raw = split(&mut message).expect("own bytes").expect("one frame");
    assert_eq!(&ClientFrame::decode(&raw).expect("own bytes"), frame);
    assert!(message.is_empty());
    hex(&out)
}

fn server(frame: &ServerFrame) -> String {
    let mut out = Vec::new();
    frame.encode(&mut out);
    let mut message = Bytes::from(out.clone());
    let raw = split(&mut message).expect("own bytes").expect("one frame");
    assert_eq!(&ServerFrame::decode(&raw).expect("own bytes"), frame);
    hex(&out)
}

fn uuid(last: u8) -> [u8; 16] {
    let mut id = [
        0x01, 0x93, 0x5f, 0x00, 0x00, 0x00, 0x70, 0x00, 0x80, 0, 0, 0, 0, 0, 0, 0,
    ];
    id[15] = last;
    id
}

fn send(envelopes: Vec<Envelope>) -> Send {
    Send {
        client_msg_id: ClientMsgId(uuid(1)),
        send_ts_ms: 1_732_400_000_000,
        message_type: MessageType::TEXT,
        retry: false,
        chat: ChatId::new("dm:alice:bob").expect("id"),
        body: Bytes::from_static(b"hi"),
        envelopes,
    }
}

#[test]
fn hello() {
    let hello = pb::Hello {
        token: "t".into(),
        device: "laptop".into(),
        last_offset: Some(7),
        ..pb::Hello::default()
    };
    assert_eq!(
        client(&ClientFrame::Hello(hello)),
        "010000000d0000000a017412066c6170746f702007"
    );
}

#[test]
fn send_with_one_body() {
    assert_eq!(
        client(&ClientFrame::Send(send(Vec::new()))),
        "0200000032000000\
         01935f00000070008000000000000001\
         002c165b93010000\
         01000c0000000001\
         02000000\
         646d3a616c6963653a626f62\
         6869"
    );
}

#[test]
fn send_with_envelopes() {
    let envelope = Envelope {
        user: UserId::new("bob").expect("id"),
        device: DeviceId::new("phone").expect("id"),
        bytes: Bytes::from_static(&[0xaa, 0xbb]),
    };
    assert_eq!(
        client(&ClientFrame::Send(send(vec![envelope]))),
        "0200000040000000\
         01935f00000070008000000000000001\
         002c165b93010000\
         01010c0001000001\
         02000000\
         646d3a616c6963653a626f62\
         6869\
         03050200626f6270686f6e65aabb"
    );
}

#[test]
fn ack_and_adopt() {
    assert_eq!(
        client(&ClientFrame::Ack(Ack { offset: 258 })),
        "03000000080000000201000000000000"
    );
    assert_eq!(
        client(&ClientFrame::Ack(Ack { offset: Ack::ADOPT })),
        "0300000008000000ffffffffffffffff"
    );
}

#[test]
fn ping_carries_the_offset() {
    let ping = pb::Ping {
        offset: Some(258),
        client_time_ms: 5,
    };
    assert_eq!(
        client(&ClientFrame::Ping(ping)),
        "08000000050000000882021005"
    );
}

fn record() -> MessageRecord {
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
        body: Bytes::from_static(b"hi"),
    }
}

#[test]
fn deliver() {
    let frame = Deliver {
        offset: 258,
        flags: DeliverFlags::REPLAYED,
        envelope: Bytes::new(),
        record: record(),
    };
    assert_eq!(
        server(&ServerFrame::Deliver(frame)),
        "850000007d000000\
         0201000000000000\
         0000\
         0100\
         00000000\
         2900000000000100\
         1100000000000100\
         0200000000000000\
         01935b162c7b700084000c0000000029\
         01935f00000070008000000000000001\
         002c165b93010000\
         7b2c165b93010000\
         01000c0506000000\
         02000000\
         646d3a616c6963653a626f62\
         616c696365\
         6c6170746f70\
         6869"
    );
}

#[test]
fn pong_with_and_without_the_lag_of_ingest() {
    let mut pong = pb::Pong {
        client_time_ms: 1,
        server_time_ms: 2,
        lag: 3,
        ..pb::Pong::default()
    };
    let before = "8c00000006000000080110021803";
    assert_eq!(server(&ServerFrame::Pong(pong.clone())), before);
    pong.ingest_lag_ms = 1_500;
    assert_eq!(
        server(&ServerFrame::Pong(pong)),
        "8c0000000900000008011002180328dc0b"
    );
}

#[test]
fn a_deliver_with_an_envelope_reads_back() {
    let frame = Deliver {
        offset: 1,
        flags: DeliverFlags::default(),
        envelope: Bytes::from_static(&[1, 2, 3]),
        record: record(),
    };
    assert!(server(&ServerFrame::Deliver(frame)).contains("010203"));
}

#[test]
fn every_cut_of_a_message_is_refused_and_never_panics() {
    let mut out = Vec::new();
    ClientFrame::Send(send(Vec::new())).encode(&mut out);
    for end in 1..out.len() {
        let mut cut = Bytes::copy_from_slice(&out[..end]);
        assert_eq!(split(&mut cut), Err(FrameError::Truncated), "at {end}");
    }
    let body = Bytes::copy_from_slice(&out[8..]);
    for end in 0..body.len() {
        assert!(Send::decode_body(&body.slice(..end)).is_err(), "at {end}");
    }
    let record = record().encode();
    for end in 0..record.len() {
        assert!(
            MessageRecord::decode(&record.slice(..end)).is_err(),
            "at {end}"
        );
    }
}

#[test]
fn a_frame_above_the_limit_is_refused_by_its_header() {
    let mut message = Bytes::from_static(&[2, 0, 0, 0, 0xf9, 0xff, 0, 0]);
    assert_eq!(
        split(&mut message),
        Err(FrameError::TooLarge { len: 65_537 })
    );
    let mut huge = Bytes::from_static(&[2, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    assert!(matches!(split(&mut huge), Err(FrameError::TooLarge { .. })));
}

#[test]
fn unknown_types_are_ignored_and_server_types_from_clients_are_not() {
    let raw = |frame_type: u8| {
        let mut message = Bytes::copy_from_slice(&[frame_type, 0, 0, 0, 0, 0, 0, 0]);
        split(&mut message).expect("frame").expect("one")
    };
    assert!(matches!(
        ClientFrame::decode(&raw(0x7f)),
        Ok(ClientFrame::Unknown(_))
    ));
    assert_eq!(
        ClientFrame::decode(&raw(0x85)),
        Err(FrameError::Unexpected(0x85))
    );
    assert!(matches!(
        ServerFrame::decode(&raw(0xff)),
        Ok(ServerFrame::Unknown(_))
    ));
    assert_eq!(
        ServerFrame::decode(&raw(0x01)),
        Err(FrameError::Unexpected(0x01))
    );
}
