//! The caller's chats and their history, as Sync gives them.

use super::caller::Caller;
use super::error::ApiError;
use super::input::{Asked, Named, chat_id};
use super::{Api, ErrorBody};
use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hawser_protocol::codes::ErrorCode;
use hawser_protocol::message::MessageRecord;
use hawser_protocol::pb;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// A page of chats.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct PageOfChats {
    /// Chats after this one.
    cursor: Option<String>,
    /// At most 256; default 64.
    limit: Option<u32>,
}

/// A page of messages.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct PageOfMessages {
    /// Messages above this ordinal; with `backwards` below it, 0 being the newest.
    #[serde(default)]
    #[param(required = false)]
    after_ordinal: u64,
    /// At most 256; default 64.
    limit: Option<u32>,
    /// Newest first.
    #[serde(default)]
    #[param(required = false)]
    backwards: bool,
}

/// A chat of the caller's.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Chat {
    /// Id.
    chat: String,
    /// Name, of groups.
    name: String,
    /// Seq of the last message that the caller may see, decimal.
    last_seq: String,
    /// Its ordinal.
    last_ordinal: u64,
    /// What the caller has read, decimal.
    read_seq: String,
    /// Messages after it.
    unread: u32,
    /// At most 64; the group's own page has all.
    members: Vec<ChatMember>,
    /// How many there are.
    member_count: u32,
    /// Messages up to this ordinal are not the caller's to see.
    visible_after_ordinal: u64,
}

/// A member of a chat.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ChatMember {
    /// User.
    user: String,
    /// Whether an admin.
    admin: bool,
}

/// A page of chats.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Chats {
    /// By id.
    chats: Vec<Chat>,
    /// Ask again with this as `cursor`; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// A message.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Message {
    /// Place in the chat, decimal.
    seq: String,
    /// The message before it, decimal.
    prev_seq: String,
    /// Dense number within the chat.
    ordinal: u64,
    /// Id.
    message_id: String,
    /// As the sender named it.
    client_msg_id: String,
    /// The sender's clock, milliseconds.
    send_ts_ms: u64,
    /// The log's clock, milliseconds.
    stored_ts_ms: u64,
    /// What the payload is: 1 text, 2 media, 3 a change of the group, 16 and above the application's.
    message_type: u8,
    /// Sender.
    sender: String,
    /// Sender's device.
    sender_device: String,
    /// The payload where it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    /// The payload in base64 where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_b64: Option<String>,
}

/// What a user has of a chat.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Watermark {
    /// User.
    user: String,
    /// Delivered up to, decimal.
    delivered_seq: String,
    /// Read up to, decimal.
    read_seq: String,
}

/// A page of a chat.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Messages {
    /// In the order asked for.
    messages: Vec<Message>,
    /// Whether there is more in this direction.
    more: bool,
    /// Ask again with this as `after_ordinal`.
    next_ordinal: u64,
    /// Ordinals below this are beyond retention; 0: none is.
    truncated_before: u64,
    /// With the newest page: who has what.
    watermarks: Vec<Watermark>,
}

/// The caller's chats.
#[utoipa::path(get, path = "/v1/chats", tag = "history", security(("token" = [])), params(PageOfChats),
    responses((status = 200, body = Chats), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody)))]
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    Asked(asked): Asked<PageOfChats>,
) -> Result<Json<Chats>, ApiError> {
    let request = pb::Sync {
        cursor: asked.cursor.unwrap_or_default(),
        limit: asked.limit.unwrap_or(0),
        ..Default::default()
    };
    api.blocking(move |api| {
        let page = answered(api.history().sync(caller.user(), &request))?;
        let chat = |summary: pb::ChatSummary| Chat {
            unread: api.history().unread(&summary),
            chat: summary.chat,
            name: summary.name,
            last_seq: summary.last_seq.to_string(),
            last_ordinal: summary.last_ordinal,
            read_seq: summary.read_seq.to_string(),
            members: summary.members.into_iter().map(member).collect(),
            member_count: summary.member_count,
            visible_after_ordinal: summary.visible_after_ordinal,
        };
        let next_cursor = page.more.then_some(page.next_cursor);
        let chats = page.chats.into_iter().map(chat).collect();
        Ok(Json(Chats { chats, next_cursor }))
    })
    .await
}

/// Messages of a chat that the caller was in when they were sent.
#[utoipa::path(get, path = "/v1/chats/{chat}/messages", tag = "history", security(("token" = [])),
    params(("chat" = String, Path, description = "Chat id"), PageOfMessages),
    responses((status = 200, body = Messages), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, description = "not_visible: outside the caller's membership", body = ErrorBody),
        (status = 404, description = "no such chat, or not the caller's", body = ErrorBody)))]
pub(super) async fn messages(
    State(api): State<Api>,
    caller: Caller,
    Named(chat): Named<String>,
    Asked(asked): Asked<PageOfMessages>,
) -> Result<Json<Messages>, ApiError> {
    let request = pb::Sync {
        chat: chat_id(&chat)?.to_string(),
        after_ordinal: asked.after_ordinal,
        limit: asked.limit.unwrap_or(0),
        backwards: asked.backwards,
        ..Default::default()
    };
    api.blocking(move |api| {
        let page = answered(api.history().sync(caller.user(), &request))?;
        let messages: Result<Vec<Message>, ApiError> = page.records.iter().map(message).collect();
        let watermark = |mark: pb::Watermark| Watermark {
            user: mark.user,
            delivered_seq: mark.delivered_seq.to_string(),
            read_seq: mark.read_seq.to_string(),
        };
        Ok(Json(Messages {
            messages: messages?,
            more: page.more,
            next_ordinal: page.next_ordinal,
            truncated_before: page.truncated_before,
            watermarks: page.watermarks.into_iter().map(watermark).collect(),
        }))
    })
    .await
}

/// The page, or its error.
fn answered(page: pb::SyncPage) -> Result<pb::SyncPage, ApiError> {
    let Ok(number) = u16::try_from(page.error) else {
        return Err(ApiError::new(ErrorCode::Internal, "our fault"));
    };
    match ErrorCode::from_number(number) {
        None => Ok(page),
        Some(ErrorCode::NotMember) => Err(ApiError::not_found()),
        Some(ErrorCode::NotVisible) => {
            let words = "outside your membership of this chat";
            Err(ApiError::new(ErrorCode::NotVisible, words))
        }
        Some(code) => Err(ApiError::new(code, code.name())),
    }
}

fn member(member: pb::Member) -> ChatMember {
    ChatMember {
        user: member.user,
        admin: member.admin,
    }
}

fn message(record: &Bytes) -> Result<Message, ApiError> {
    let record = MessageRecord::decode(record).map_err(|error| {
        tracing::error!(%error, "a stored message is unreadable");
        ApiError::new(ErrorCode::Internal, "our fault")
    })?;
    let text = std::str::from_utf8(&record.body).ok().map(str::to_owned);
    let base64 = text.is_none().then(|| STANDARD.encode(&record.body));
    Ok(Message {
        seq: record.seq.0.to_string(),
        prev_seq: record.prev_seq.0.to_string(),
        ordinal: record.ordinal,
        message_id: record.message_id.to_string(),
        client_msg_id: record.client_msg_id.to_string(),
        send_ts_ms: record.send_ts_ms,
        stored_ts_ms: record.stored_ts_ms,
        message_type: record.message_type.0,
        sender: record.sender.to_string(),
        sender_device: record.sender_device.to_string(),
        body: text,
        body_b64: base64,
    })
}
