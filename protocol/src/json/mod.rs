//! `hawser.v1+json`: the same frames as JSON objects, one per WebSocket text message, for people,
//! scripts and debugging. `docs/protocol.md` ("JSON") names every field.
//!
//! Rules: the object's `type` names the frame; field names are the schema's; an absent field and
//! `null` both mean the default; unknown fields are ignored, an unknown type is a frame of a later
//! version. Offsets and seqs are decimal strings (JavaScript numbers end at 2^53), and numbers are
//! accepted too; ids are hyphenated UUID text; opaque bytes are base64; a payload is `body` where
//! it is text and `body_b64` where it is not. Nesting is bounded by the parser, everything else by
//! the size of the message.

mod control;
mod message;
mod value;

use crate::codes::ErrorCode;
use crate::frame::{
    Ack, ClientFrame, Deliver, DeliverFlags, FrameError, FrameType, MessageView, ServerFrame,
};
use crate::limits::WS_JSON_MESSAGE_BYTES_MAX;
use control::Control;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use value::{Wide, present};

const NAMES: [(FrameType, &str); 24] = [
    (FrameType::HELLO, "hello"),
    (FrameType::SEND, "send"),
    (FrameType::ACK, "ack"),
    (FrameType::RECEIPT, "receipt"),
    (FrameType::TYPING, "typing"),
    (FrameType::WATCH, "watch"),
    (FrameType::SYNC, "sync"),
    (FrameType::PING, "ping"),
    (FrameType::REFRESH_TOKEN, "refresh_token"),
    (FrameType::BYE, "bye"),
    (FrameType::WELCOME, "welcome"),
    (FrameType::REDIRECT, "redirect"),
    (FrameType::QUEUED, "queued"),
    (FrameType::SEND_RESULT, "send_result"),
    (FrameType::DELIVER, "deliver"),
    (FrameType::CAUGHT_UP, "caught_up"),
    (FrameType::RECEIPT_UPDATE, "receipt_update"),
    (FrameType::TYPING_UPDATE, "typing_update"),
    (FrameType::PRESENCE_UPDATE, "presence_update"),
    (FrameType::SYNC_PAGE, "sync_page"),
    (FrameType::RELOCATE, "relocate"),
    (FrameType::PONG, "pong"),
    (FrameType::ERROR, "error"),
    (FrameType::TOKEN_ACCEPTED, "token_accepted"),
];

/// Stands for a type that this version does not know; no frame has it.
const UNKNOWN: FrameType = FrameType(0);

/// Reads a client's frame.
///
/// # Errors
/// See [`FrameError`]: the client's fault.
pub fn decode_client(text: &str) -> Result<ClientFrame, FrameError> {
    let frame_type = frame_type(text)?;
    Ok(match frame_type {
        FrameType::HELLO => ClientFrame::Hello(control(text, "Hello")?),
        FrameType::SEND => ClientFrame::Send(message::decode_send(text)?),
        FrameType::ACK => ClientFrame::Ack(decode_ack(text)?),
        FrameType::RECEIPT => ClientFrame::Receipt(control(text, "Receipt")?),
        FrameType::TYPING => ClientFrame::Typing(control(text, "Typing")?),
        FrameType::WATCH => ClientFrame::Watch(control(text, "Watch")?),
        FrameType::SYNC => ClientFrame::Sync(control(text, "Sync")?),
        FrameType::PING => ClientFrame::Ping(control(text, "Ping")?),
        FrameType::REFRESH_TOKEN => ClientFrame::RefreshToken(control(text, "RefreshToken")?),
        FrameType::BYE => ClientFrame::Bye(control(text, "Bye")?),
        other if other.is_server() => return Err(FrameError::Unexpected(other.0)),
        other => ClientFrame::Unknown(other),
    })
}

/// Writes a client's frame.
#[must_use]
pub fn encode_client(frame: &ClientFrame) -> String {
    match frame {
        ClientFrame::Hello(m) => tagged(FrameType::HELLO, m),
        ClientFrame::Send(send) => message::encode_send(send),
        ClientFrame::Ack(ack) => encode_ack(*ack),
        ClientFrame::Receipt(m) => tagged(FrameType::RECEIPT, m),
        ClientFrame::Typing(m) => tagged(FrameType::TYPING, m),
        ClientFrame::Watch(m) => tagged(FrameType::WATCH, m),
        ClientFrame::Sync(m) => tagged(FrameType::SYNC, m),
        ClientFrame::Ping(m) => tagged(FrameType::PING, m),
        ClientFrame::RefreshToken(m) => tagged(FrameType::REFRESH_TOKEN, m),
        ClientFrame::Bye(m) => tagged(FrameType::BYE, m),
        ClientFrame::Unknown(_) => unknown(),
    }
}

/// Reads a server's frame.
///
/// # Errors
/// See [`FrameError`]: the server's fault.
pub fn decode_server(text: &str) -> Result<ServerFrame, FrameError> {
    let frame_type = frame_type(text)?;
    Ok(match frame_type {
        FrameType::WELCOME => ServerFrame::Welcome(control(text, "Welcome")?),
        FrameType::REDIRECT => ServerFrame::Redirect(control(text, "Redirect")?),
        FrameType::QUEUED => ServerFrame::Queued(control(text, "Queued")?),
        FrameType::SEND_RESULT => ServerFrame::SendResult(control(text, "SendResult")?),
        FrameType::DELIVER => ServerFrame::Deliver(message::decode_deliver(text)?),
        FrameType::CAUGHT_UP => ServerFrame::CaughtUp(control(text, "CaughtUp")?),
        FrameType::RECEIPT_UPDATE => ServerFrame::ReceiptUpdate(control(text, "ReceiptUpdate")?),
        FrameType::TYPING_UPDATE => ServerFrame::TypingUpdate(control(text, "TypingUpdate")?),
        FrameType::PRESENCE_UPDATE => ServerFrame::PresenceUpdate(control(text, "PresenceUpdate")?),
        FrameType::SYNC_PAGE => ServerFrame::SyncPage(control(text, "SyncPage")?),
        FrameType::RELOCATE => ServerFrame::Relocate(control(text, "Relocate")?),
        FrameType::PONG => ServerFrame::Pong(control(text, "Pong")?),
        FrameType::ERROR => ServerFrame::Error(control(text, "Error")?),
        FrameType::TOKEN_ACCEPTED => ServerFrame::TokenAccepted(control(text, "TokenAccepted")?),
        UNKNOWN => ServerFrame::Unknown(UNKNOWN),
        other => return Err(FrameError::Unexpected(other.0)),
    })
}

/// Writes a server's frame.
#[must_use]
pub fn encode_server(frame: &ServerFrame) -> String {
    match frame {
        ServerFrame::Welcome(m) => tagged(FrameType::WELCOME, m),
        ServerFrame::Redirect(m) => tagged(FrameType::REDIRECT, m),
        ServerFrame::Queued(m) => tagged(FrameType::QUEUED, m),
        ServerFrame::SendResult(m) => named(FrameType::SEND_RESULT, m, m.error),
        ServerFrame::Deliver(d) => encode_deliver(d),
        ServerFrame::CaughtUp(m) => tagged(FrameType::CAUGHT_UP, m),
        ServerFrame::ReceiptUpdate(m) => tagged(FrameType::RECEIPT_UPDATE, m),
        ServerFrame::TypingUpdate(m) => tagged(FrameType::TYPING_UPDATE, m),
        ServerFrame::PresenceUpdate(m) => tagged(FrameType::PRESENCE_UPDATE, m),
        ServerFrame::SyncPage(m) => named(FrameType::SYNC_PAGE, m, m.error),
        ServerFrame::Relocate(m) => tagged(FrameType::RELOCATE, m),
        ServerFrame::Pong(m) => tagged(FrameType::PONG, m),
        ServerFrame::Error(m) => named(FrameType::ERROR, m, m.code),
        ServerFrame::TokenAccepted(m) => tagged(FrameType::TOKEN_ACCEPTED, m),
        ServerFrame::Unknown(_) => unknown(),
    }
}

/// Writes a Deliver straight from the shared record bytes, for the edge: nothing is copied but
/// into the text.
#[must_use]
pub fn deliver(
    offset: u64,
    flags: DeliverFlags,
    envelope: &[u8],
    record: &MessageView<'_>,
) -> String {
    message::encode_deliver(offset, flags, envelope, record)
}

fn encode_deliver(frame: &Deliver) -> String {
    let record = frame.record.encode();
    match MessageView::parse(&record) {
        Ok(view) => deliver(frame.offset, frame.flags, &frame.envelope, &view),
        // Only a body above the limit, which no decoder lets in.
        Err(_) => unknown(),
    }
}

/// The first of two passes: only `type` is kept, so that the second knows what to read.
fn frame_type(text: &str) -> Result<FrameType, FrameError> {
    #[derive(Deserialize)]
    struct Tag<'a> {
        #[serde(rename = "type", borrow)]
        name: Cow<'a, str>,
    }
    if text.len() > WS_JSON_MESSAGE_BYTES_MAX {
        return Err(FrameError::TooLarge { len: text.len() });
    }
    if !text
        .trim_start_matches([' ', '\t', '\r', '\n'])
        .starts_with('{')
    {
        return Err(FrameError::Malformed {
            what: "JSON object",
        });
    }
    let tag: Tag<'_> = parse(text, "JSON object with a type")?;
    let known = NAMES.iter().find(|(_, name)| *name == tag.name);
    Ok(known.map_or(UNKNOWN, |(frame_type, _)| *frame_type))
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str, what: &'static str) -> Result<T, FrameError> {
    serde_json::from_str(text).map_err(|_| FrameError::Malformed { what })
}

fn control<M: Control>(text: &str, what: &'static str) -> Result<M, FrameError> {
    parse::<M::Json>(text, what).map(M::from_json)
}

fn name_of(frame_type: FrameType) -> &'static str {
    let known = NAMES.iter().find(|(known, _)| *known == frame_type);
    known.map_or("unknown", |(_, name)| name)
}

#[derive(Serialize)]
struct Tagged<T> {
    #[serde(rename = "type")]
    frame_type: &'static str,
    /// The name of an error code, for people; never read.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'static str>,
    #[serde(flatten)]
    fields: T,
}

fn tagged<M: Control + Clone>(frame_type: FrameType, message: &M) -> String {
    named(frame_type, message, 0)
}

fn named<M: Control + Clone>(frame_type: FrameType, message: &M, code: u32) -> String {
    let code = u16::try_from(code).ok().and_then(ErrorCode::from_number);
    text_of(&Tagged {
        frame_type: name_of(frame_type),
        name: code.map(ErrorCode::name),
        fields: message.clone().into_json(),
    })
}

fn text_of<T: Serialize>(value: &T) -> String {
    // Strings and numbers under string keys: this cannot fail.
    serde_json::to_string(value).unwrap_or_else(|_| unknown())
}

fn unknown() -> String {
    r#"{"type":"unknown"}"#.into()
}

/// `{"type":"ack","offset":"258"}`, or `{"type":"ack","adopt":true}`.
#[derive(Serialize, Deserialize)]
struct AckJson {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    offset: Option<Wide>,
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "std::ops::Not::not"
    )]
    adopt: bool,
}

fn decode_ack(text: &str) -> Result<Ack, FrameError> {
    let ack: AckJson = parse(text, "Ack")?;
    match (ack.offset, ack.adopt) {
        (None, true) => Ok(Ack { offset: Ack::ADOPT }),
        (Some(Wide(offset)), false) => Ok(Ack { offset }),
        _ => Err(FrameError::Malformed {
            what: "Ack: either offset or adopt",
        }),
    }
}

fn encode_ack(ack: Ack) -> String {
    let adopt = ack.offset == Ack::ADOPT;
    let offset = (!adopt).then_some(Wide(ack.offset));
    text_of(&Tagged {
        frame_type: name_of(FrameType::ACK),
        name: None,
        fields: AckJson { offset, adopt },
    })
}
