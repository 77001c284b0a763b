//! Control frames: for each schema message the JSON form, field by field.

use super::message::RecordJson;
use super::value::{Base64, Count, Omit, State, Uuid, Wide, present};
use crate::pb;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A schema message that has a JSON form.
pub(super) trait Control: Sized {
    /// Its JSON form.
    type Json: Serialize + for<'de> Deserialize<'de>;

    fn into_json(self) -> Self::Json;
    fn from_json(json: Self::Json) -> Self;
}

/// How one field converts.
trait Field<P> {
    fn of(value: P) -> Self;
    fn back(self) -> P;
}

macro_rules! same {
    ($($kind:ty),*) => { $(
        impl Field<$kind> for $kind {
            fn of(value: $kind) -> Self { value }
            fn back(self) -> $kind { self }
        }
    )* };
}
same!(String, bool, u32, Vec<String>);

macro_rules! wrapped {
    ($($wrapper:ident: $plain:ty),*) => { $(
        impl Field<$plain> for $wrapper {
            fn of(value: $plain) -> Self { Self(value) }
            fn back(self) -> $plain { self.0 }
        }
    )* };
}
wrapped!(Wide: u64, Count: u64, Base64: Bytes, Uuid: Bytes);

impl Field<Option<u64>> for Option<Wide> {
    fn of(value: Option<u64>) -> Self {
        value.map(Wide)
    }
    fn back(self) -> Option<u64> {
        self.map(|wide| wide.0)
    }
}

impl Field<i32> for State {
    fn of(value: i32) -> Self {
        match pb::PresenceState::try_from(value) {
            Ok(pb::PresenceState::PresenceOnline) => Self::Online,
            Ok(pb::PresenceState::PresenceOffline) => Self::Offline,
            _ => Self::Unknown,
        }
    }
    fn back(self) -> i32 {
        let state = match self {
            Self::Unknown => pb::PresenceState::PresenceUnknown,
            Self::Online => pb::PresenceState::PresenceOnline,
            Self::Offline => pb::PresenceState::PresenceOffline,
        };
        state.into()
    }
}

impl Field<Vec<Bytes>> for Vec<RecordJson> {
    fn of(value: Vec<Bytes>) -> Self {
        value.into_iter().map(RecordJson::of).collect()
    }
    fn back(self) -> Vec<Bytes> {
        self.into_iter().map(RecordJson::back).collect()
    }
}

impl<M: Control<Json = J>, J> Field<Vec<M>> for Vec<J> {
    fn of(value: Vec<M>) -> Self {
        value.into_iter().map(M::into_json).collect()
    }
    fn back(self) -> Vec<M> {
        self.into_iter().map(M::from_json).collect()
    }
}

impl Field<Option<pb::Limits>> for Option<LimitsJson> {
    fn of(value: Option<pb::Limits>) -> Self {
        value.map(pb::Limits::into_json)
    }
    fn back(self) -> Option<pb::Limits> {
        self.map(pb::Limits::from_json)
    }
}

macro_rules! controls {
    ($($message:ident $json:ident { $($field:ident: $kind:ty,)* })*) => { $(
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        pub(super) struct $json {
            $(
                #[serde(default, deserialize_with = "present", skip_serializing_if = "Omit::omit")]
                $field: $kind,
            )*
        }

        impl Control for pb::$message {
            type Json = $json;

            fn into_json(self) -> $json {
                $json { $($field: Field::of(self.$field),)* }
            }

            fn from_json(json: $json) -> Self {
                Self { $($field: Field::back(json.$field),)* }
            }
        }
    )* };
}

controls! {
    Hello HelloJson {
        token: String,
        device: String,
        resume_token: Base64,
        last_offset: Option<Wide>,
        capabilities: Vec<String>,
        client: String,
        redirect_never: bool,
        live_only: bool,
        heartbeat_ms: u32,
    }
    Receipt ReceiptJson { chat: String, delivered_seq: Wide, read_seq: Wide, }
    Typing TypingJson { chat: String, stopped: bool, }
    Watch WatchJson { users: Vec<String>, chats: Vec<String>, }
    Sync SyncJson {
        sync_id: u32,
        chat: String,
        after_ordinal: Count,
        limit: u32,
        backwards: bool,
        cursor: String,
    }
    Ping PingJson { offset: Option<Wide>, client_time_ms: Count, }
    RefreshToken RefreshTokenJson { token: String, }
    Bye ByeJson { reason: String, }
    Limits LimitsJson {
        frame_bytes_max: u32,
        body_bytes_max: u32,
        sends_in_flight_max: u32,
        window_frames: u32,
        window_bytes: u32,
    }
    Welcome WelcomeJson {
        session: String,
        user: String,
        device: String,
        server_time_ms: Count,
        generation: u32,
        partition: u32,
        recovered: bool,
        head: Wide,
        resume_token: Base64,
        heartbeat_ms: u32,
        map_version: u32,
        token_expires_at_ms: Count,
        limits: Option<LimitsJson>,
        node: String,
    }
    Redirect RedirectJson { url: String, map_version: u32, jitter_ms: u32, }
    Queued QueuedJson { client_msg_id: Uuid, }
    SendResult SendResultJson {
        offset: Wide,
        client_msg_id: Uuid,
        chat: String,
        error: u32,
        message_id: Uuid,
        seq: Wide,
        prev_seq: Wide,
        ordinal: Count,
        stored_ts_ms: Count,
        text: String,
        retry_after_ms: u32,
        duplicate: bool,
    }
    CaughtUp CaughtUpJson { offset: Wide, resume_token: Base64, }
    ReceiptUpdate ReceiptUpdateJson {
        offset: Wide,
        chat: String,
        user: String,
        delivered_seq: Wide,
        read_seq: Wide,
        ts_ms: Count,
    }
    TypingUpdate TypingUpdateJson { chat: String, user: String, stopped: bool, expires_in_ms: u32, }
    PresenceUpdate PresenceUpdateJson { user: String, state: State, last_seen_ms: Count, }
    Watermark WatermarkJson { user: String, delivered_seq: Wide, read_seq: Wide, }
    Member MemberJson { user: String, admin: bool, }
    ChatSummary ChatSummaryJson {
        chat: String,
        name: String,
        last_seq: Wide,
        last_ordinal: Count,
        read_seq: Wide,
        members: Vec<MemberJson>,
        member_count: u32,
        visible_after_ordinal: Count,
    }
    SyncPage SyncPageJson {
        sync_id: u32,
        chat: String,
        records: Vec<RecordJson>,
        more: bool,
        next_ordinal: Count,
        truncated_before: Count,
        watermarks: Vec<WatermarkJson>,
        chats: Vec<ChatSummaryJson>,
        next_cursor: String,
        error: u32,
        text: String,
        retry_after_ms: u32,
    }
    Relocate RelocateJson { url: String, slot_ms: u32, deadline_ms: u32, }
    Pong PongJson {
        client_time_ms: Count,
        server_time_ms: Count,
        lag: Count,
        resume_token: Base64,
        ingest_lag_ms: Count,
    }
    Error ErrorJson {
        code: u32,
        text: String,
        retry_after_ms: u32,
        client_msg_id: Uuid,
        frame_type: u32,
    }
    TokenAccepted TokenAcceptedJson { expires_at_ms: Count, }
}
