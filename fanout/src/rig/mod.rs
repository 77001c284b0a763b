//! What the tests of this crate stand on: makers, a store in memory, an engine in a temporary folder.

pub(crate) mod engine;
pub(crate) mod flaky_log;
pub(crate) mod memory_store;
pub(crate) mod slow_store;

use bytes::Bytes;
use hawser_engines::log::{Produce, Record, Topic};
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, Seq, UserId};
use hawser_protocol::message::{Envelope, MessageRecord, MessageType, Send};
use hawser_protocol::record::{Audience, DeliveryKind, DeliveryRecord, GroupOp, SourceRecord};

/// The time of the tests, milliseconds.
pub(crate) const NOW_MS: u64 = 1_764_060_000_000;

pub(crate) fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

pub(crate) fn users<C: FromIterator<UserId>>(names: &[&str]) -> C {
    names.iter().map(|name| user(name)).collect()
}

pub(crate) fn device(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

pub(crate) fn chat(text: &str) -> ChatId {
    ChatId::new(text).unwrap()
}

/// A client_msg_id stamped `at_ms`, told apart by `n`.
pub(crate) fn id_at(at_ms: u64, n: u16) -> ClientMsgId {
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&at_ms.to_be_bytes()[2..]);
    bytes[6] = 0x70;
    bytes[8] = 0x80;
    bytes[14..].copy_from_slice(&n.to_be_bytes());
    ClientMsgId(bytes)
}

pub(crate) fn id(n: u16) -> ClientMsgId {
    id_at(NOW_MS, n)
}

/// A Send of the text `m<n>`.
pub(crate) fn plain(to: &str, n: u16) -> Send {
    Send {
        client_msg_id: id(n),
        send_ts_ms: NOW_MS,
        message_type: MessageType::TEXT,
        retry: false,
        chat: chat(to),
        body: Bytes::from(format!("m{n}")),
        envelopes: Vec::new(),
    }
}

pub(crate) fn envelope(to: &str, on: &str, bytes: &'static [u8]) -> Envelope {
    Envelope {
        user: user(to),
        device: device(on),
        bytes: Bytes::from_static(bytes),
    }
}

pub(crate) fn sent(by: &str, send: Send) -> SourceRecord {
    SourceRecord::Send {
        sender: user(by),
        device: device("phone"),
        send: Box::new(send),
    }
}

pub(crate) fn group_op(by: &str, n: u16, of: &str, op: GroupOp) -> SourceRecord {
    SourceRecord::Group {
        actor: user(by),
        op_id: id(n),
        chat: chat(of),
        op,
    }
}

pub(crate) fn create(by: &str, n: u16, of: &str, members: &[&str]) -> SourceRecord {
    let op = GroupOp::Create {
        name: "Crew".into(),
        picture: String::new(),
        members: users(members),
    };
    group_op(by, n, of, op)
}

pub(crate) fn receipt(by: &str, of: &str, delivered: u64, read: u64) -> SourceRecord {
    SourceRecord::Receipt {
        user: user(by),
        device: device("phone"),
        chat: chat(of),
        delivered: Seq(delivered),
        read: Seq(read),
    }
}

/// A record at an offset of its partition.
pub(crate) fn at(offset: u64, source: &SourceRecord) -> Record {
    Record {
        offset,
        timestamp_ms: NOW_MS,
        key: Bytes::copy_from_slice(source.chat().as_str().as_bytes()),
        value: source.encode(),
    }
}

/// Delivery records among what is produced: (partition, record).
pub(crate) fn deliveries(produce: &[Produce]) -> Vec<(u32, DeliveryRecord)> {
    let delivery = produce.iter().filter(|p| p.topic == Topic::Delivery);
    delivery
        .map(|p| (p.partition, DeliveryRecord::decode(&p.value).unwrap()))
        .collect()
}

/// What a delivery record is, in a line: for comparing and reading.
pub(crate) fn gist(record: &DeliveryRecord) -> String {
    let names = |users: &[UserId]| {
        let names: Vec<_> = users.iter().map(UserId::as_str).collect();
        names.join("+")
    };
    let audience = |to: &Audience| match to {
        Audience::Listed(users) => names(users),
        Audience::Members { .. } => "members".to_owned(),
    };
    match &record.kind {
        DeliveryKind::Message {
            recipients, record, ..
        } => {
            let message = MessageRecord::decode(record).unwrap();
            let body = String::from_utf8_lossy(&message.body).into_owned();
            format!("{} {} to {}", message.ordinal, body, audience(recipients))
        }
        DeliveryKind::Reference {
            recipients,
            referred,
            ..
        } => format!(
            "{} by reference to {}",
            referred.ordinal,
            audience(recipients)
        ),
        DeliveryKind::Result { user, result, .. } => {
            let what = if result.duplicate {
                "duplicate"
            } else {
                "refused"
            };
            format!("{what} {} of {user}", result.error)
        }
        DeliveryKind::Receipt {
            recipients, user, ..
        } => format!("receipt of {user} to {}", names(recipients)),
        DeliveryKind::Revoke { user, .. } => format!("revoke {user}"),
        DeliveryKind::Shard { members, .. } => format!("{} members", members.len()),
    }
}
