//! The hot frames: Send, Deliver, and the message object that Deliver and SyncPage share.

use super::value::{Base64, Count, Omit, Wide, base64, base64_len, present, uuid};
use super::{name_of, parse, text_of};
use crate::frame::{Deliver, DeliverFlags, FrameError, FrameType, MessageView};
use crate::ids::{ChatId, ClientMsgId, DeviceId, MessageId, Seq, UserId};
use crate::limits::{BODY_BYTES_MAX, ENVELOPE_BYTES_MAX, ENVELOPES_MAX};
use crate::message::{Envelope, MessageRecord, MessageType, Send};
use bytes::Bytes;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

/// Text up to this many bytes stays text however many escapes it needs. Longer text goes as base64
/// where its escapes would make it longer than that, so that a message's bound holds for any body.
const ESCAPED_BYTES_FREE: usize = 1_024;

/// How a payload stands in JSON.
enum Payload<'a> {
    Text(&'a str),
    Base64(String),
}

impl<'a> Payload<'a> {
    fn of(body: &'a [u8]) -> Self {
        let limit = base64_len(body.len()).max(ESCAPED_BYTES_FREE);
        match std::str::from_utf8(body) {
            Ok(text) if escaped_len(text) <= limit => Self::Text(text),
            _ => Self::Base64(base64(body)),
        }
    }

    fn entry<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        match self {
            Self::Text(text) => map.serialize_entry("body", text),
            Self::Base64(text) => map.serialize_entry("body_b64", text),
        }
    }
}

/// Bytes of a text within JSON quotes.
fn escaped_len(text: &str) -> usize {
    let of = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..=0x1f => 6,
        _ => 1,
    };
    text.bytes().map(of).sum()
}

/// `body` or `body_b64`, as read.
fn payload(body: Option<String>, body_b64: Option<Base64>) -> Result<Bytes, FrameError> {
    let bytes = match (body, body_b64) {
        (Some(text), None) => Bytes::from(text),
        (None, Some(Base64(bytes))) => bytes,
        (None, None) => Bytes::new(),
        (Some(_), Some(_)) => {
            return Err(FrameError::Malformed {
                what: "either body or body_b64",
            });
        }
    };
    if bytes.len() > BODY_BYTES_MAX {
        return Err(FrameError::BodyTooLarge { len: bytes.len() });
    }
    Ok(bytes)
}

#[derive(Deserialize)]
struct SendJson {
    client_msg_id: String,
    #[serde(default, deserialize_with = "present")]
    send_ts_ms: Count,
    message_type: Option<u8>,
    #[serde(default, deserialize_with = "present")]
    retry: bool,
    chat: String,
    body: Option<String>,
    body_b64: Option<Base64>,
    #[serde(default, deserialize_with = "present")]
    envelopes: Vec<EnvelopeJson>,
}

#[derive(Serialize, Deserialize)]
struct EnvelopeJson {
    user: String,
    device: String,
    data_b64: Base64,
}

pub(super) fn decode_send(text: &str) -> Result<Send, FrameError> {
    let json: SendJson = parse(text, "Send")?;
    let id = uuid(&json.client_msg_id).ok_or(FrameError::BadClientMsgId)?;
    if json.envelopes.len() > ENVELOPES_MAX {
        return Err(FrameError::TooMany {
            what: "envelopes",
            found: json.envelopes.len(),
            max: ENVELOPES_MAX,
        });
    }
    let envelopes = json.envelopes.into_iter().map(envelope);
    Ok(Send {
        client_msg_id: ClientMsgId(id),
        send_ts_ms: json.send_ts_ms.0,
        message_type: json.message_type.map_or(MessageType::TEXT, MessageType),
        retry: json.retry,
        chat: ChatId::new(&json.chat)?,
        body: payload(json.body, json.body_b64)?,
        envelopes: envelopes.collect::<Result<_, _>>()?,
    })
}

fn envelope(json: EnvelopeJson) -> Result<Envelope, FrameError> {
    let Base64(bytes) = json.data_b64;
    if bytes.len() > ENVELOPE_BYTES_MAX {
        return Err(FrameError::TooMany {
            what: "envelope bytes",
            found: bytes.len(),
            max: ENVELOPE_BYTES_MAX,
        });
    }
    Ok(Envelope {
        user: UserId::new(&json.user)?,
        device: DeviceId::new(&json.device)?,
        bytes,
    })
}

pub(super) fn encode_send(send: &Send) -> String {
    struct Object<'a>(&'a Send);

    impl Serialize for Object<'_> {
        fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            let send = self.0;
            let mut map = to.serialize_map(None)?;
            map.serialize_entry("type", name_of(FrameType::SEND))?;
            map.serialize_entry("client_msg_id", &send.client_msg_id.to_string())?;
            map.serialize_entry("send_ts_ms", &send.send_ts_ms)?;
            map.serialize_entry("message_type", &send.message_type.0)?;
            map.serialize_entry("retry", &send.retry)?;
            map.serialize_entry("chat", send.chat.as_str())?;
            Payload::of(&send.body).entry(&mut map)?;
            if !send.envelopes.is_empty() {
                let table = send.envelopes.iter().map(|entry| EnvelopeJson {
                    user: entry.user.as_str().into(),
                    device: entry.device.as_str().into(),
                    data_b64: Base64(entry.bytes.clone()),
                });
                map.serialize_entry("envelopes", &table.collect::<Vec<_>>())?;
            }
            map.end()
        }
    }
    text_of(&Object(send))
}

fn record_entries<M: SerializeMap>(map: &mut M, record: &MessageView<'_>) -> Result<(), M::Error> {
    map.serialize_entry("seq", &Wide(record.seq().0))?;
    map.serialize_entry("prev_seq", &Wide(record.prev_seq().0))?;
    map.serialize_entry("ordinal", &record.ordinal())?;
    map.serialize_entry("message_id", &record.message_id().to_string())?;
    map.serialize_entry("client_msg_id", &record.client_msg_id().to_string())?;
    map.serialize_entry("send_ts_ms", &record.send_ts_ms())?;
    map.serialize_entry("stored_ts_ms", &record.stored_ts_ms())?;
    map.serialize_entry("message_type", &record.message_type().0)?;
    map.serialize_entry("chat", record.chat())?;
    map.serialize_entry("sender", record.sender())?;
    map.serialize_entry("sender_device", record.sender_device())?;
    Payload::of(record.body()).entry(map)
}

#[derive(Deserialize)]
struct MessageJson {
    seq: Wide,
    #[serde(default, deserialize_with = "present")]
    prev_seq: Wide,
    ordinal: Count,
    message_id: String,
    client_msg_id: String,
    #[serde(default, deserialize_with = "present")]
    send_ts_ms: Count,
    stored_ts_ms: Count,
    message_type: u8,
    chat: String,
    sender: String,
    sender_device: String,
    body: Option<String>,
    body_b64: Option<Base64>,
}

impl MessageJson {
    fn record(self) -> Result<MessageRecord, FrameError> {
        let id = |text: &str| {
            uuid(text).ok_or(FrameError::Malformed {
                what: "UUID of a message",
            })
        };
        Ok(MessageRecord {
            seq: Seq(self.seq.0),
            prev_seq: Seq(self.prev_seq.0),
            ordinal: self.ordinal.0,
            message_id: MessageId(id(&self.message_id)?),
            client_msg_id: ClientMsgId(id(&self.client_msg_id)?),
            send_ts_ms: self.send_ts_ms.0,
            stored_ts_ms: self.stored_ts_ms.0,
            message_type: MessageType(self.message_type),
            sender: UserId::new(&self.sender)?,
            sender_device: DeviceId::new(&self.sender_device)?,
            chat: ChatId::new(&self.chat)?,
            body: payload(self.body, self.body_b64)?,
        })
    }
}

#[derive(Deserialize)]
struct DeliverJson {
    offset: Wide,
    #[serde(default, deserialize_with = "present")]
    replayed: bool,
    #[serde(default, deserialize_with = "present")]
    ack_later: bool,
    #[serde(default, deserialize_with = "present")]
    envelope_b64: Base64,
    #[serde(flatten)]
    message: MessageJson,
}

pub(super) fn decode_deliver(text: &str) -> Result<Deliver, FrameError> {
    let json: DeliverJson = parse(text, "Deliver")?;
    let mut flags = DeliverFlags::default();
    if json.replayed {
        flags = flags.with(DeliverFlags::REPLAYED);
    }
    if json.ack_later {
        flags = flags.with(DeliverFlags::ACK_LATER);
    }
    Ok(Deliver {
        offset: json.offset.0,
        flags,
        envelope: json.envelope_b64.0,
        record: json.message.record()?,
    })
}

pub(super) fn encode_deliver(
    offset: u64,
    flags: DeliverFlags,
    envelope: &[u8],
    record: &MessageView<'_>,
) -> String {
    struct Object<'a> {
        offset: u64,
        flags: DeliverFlags,
        envelope: &'a [u8],
        record: &'a MessageView<'a>,
    }

    impl Serialize for Object<'_> {
        fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            let mut map = to.serialize_map(None)?;
            map.serialize_entry("type", name_of(FrameType::DELIVER))?;
            map.serialize_entry("offset", &Wide(self.offset))?;
            let replayed = self.flags.contains(DeliverFlags::REPLAYED);
            map.serialize_entry("replayed", &replayed)?;
            if self.flags.contains(DeliverFlags::ACK_LATER) {
                map.serialize_entry("ack_later", &true)?;
            }
            if !self.envelope.is_empty() {
                map.serialize_entry("envelope_b64", &base64(self.envelope))?;
            }
            record_entries(&mut map, self.record)?;
            map.end()
        }
    }
    text_of(&Object {
        offset,
        flags,
        envelope,
        record,
    })
}

/// One element of `SyncPage.records`: a message object. Bytes that are no message record (none are
/// made) would go as `{"record_b64": ...}`, so that writing loses nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct RecordJson(Bytes);

impl RecordJson {
    pub(super) fn of(record: Bytes) -> Self {
        Self(record)
    }

    pub(super) fn back(self) -> Bytes {
        self.0
    }
}

impl Omit for RecordJson {}

impl Serialize for RecordJson {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        match MessageView::parse(&self.0) {
            Ok(record) => record_entries(&mut map, &record)?,
            Err(_) => map.serialize_entry("record_b64", &base64(&self.0))?,
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for RecordJson {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Message(Box<MessageJson>),
            Raw { record_b64: Base64 },
        }
        match Either::deserialize(from)? {
            Either::Message(json) => json
                .record()
                .map(|record| Self(record.encode()))
                .map_err(serde::de::Error::custom),
            Either::Raw { record_b64 } => Ok(Self(record_b64.0)),
        }
    }
}
