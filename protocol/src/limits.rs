//! Every bound of the protocol, named in one place with its unit and why.

/// Whole frame, header included. Bytes. A larger one closes with `frame_too_large`.
pub const FRAME_BYTES_MAX: usize = 65_536;
/// Fixed frame header. Bytes.
pub const FRAME_HEADER_BYTES: usize = 8;
/// Payload of one message. Bytes. Leaves 4 KiB of a frame for the record's other fields.
pub const BODY_BYTES_MAX: usize = 61_440;
/// One WebSocket message from a client on `hawser.v1`: one or more whole frames. Bytes.
pub const WS_MESSAGE_BYTES_MAX: usize = 65_536;
/// One WebSocket message on `hawser.v1+json`: a body in base64 and its fields. Bytes.
pub const WS_JSON_MESSAGE_BYTES_MAX: usize = 98_304;
/// User id: `[A-Za-z0-9_.@+-]`, bytes.
pub const USER_ID_BYTES_MAX: usize = 64;
/// Device id: same alphabet, bytes.
pub const DEVICE_ID_BYTES_MAX: usize = 64;
/// Chat id (`dm:<a>:<b>` with a < b, or `g:<group>`), bytes.
pub const CHAT_ID_BYTES_MAX: usize = 132;
/// Token in Hello or RefreshToken, bytes; a larger one is refused unparsed.
pub const TOKEN_BYTES_MAX: usize = 8_192;
/// Sealed resume token, bytes.
pub const RESUME_TOKEN_BYTES_MAX: usize = 256;
/// Envelopes in one Send (one per recipient device); more go in numbered parts.
pub const ENVELOPES_MAX: usize = 1_024;
/// One device's envelope, bytes.
pub const ENVELOPE_BYTES_MAX: usize = 4_096;
/// Sends of one session without a SendResult; more are refused `too_many_in_flight`.
pub const SENDS_IN_FLIGHT_MAX: usize = 64;
/// Delivered frames without an ack before a session lags.
pub const WINDOW_FRAMES: usize = 256;
/// Delivered bytes without an ack before a session lags.
pub const WINDOW_BYTES: usize = 65_536;
/// Users in one Watch.
pub const WATCH_USERS_MAX: usize = 256;
/// Chats in one Watch.
pub const WATCH_CHATS_MAX: usize = 64;
/// Messages in one SyncPage.
pub const SYNC_LIMIT_MAX: usize = 256;
/// Messages in one SyncPage when the client does not say.
pub const SYNC_LIMIT_DEFAULT: usize = 64;
/// Unanswered Sync requests of one session.
pub const SYNCS_IN_FLIGHT_MAX: usize = 4;
/// Time for TLS, HTTP upgrade and Hello together, milliseconds.
pub const HELLO_DEADLINE_MS: u64 = 8_000;
/// A client that is refused for want of room is given a slot within this, milliseconds; beyond, up to half as much again.
pub const SLOT_HORIZON_MS: u64 = 60_000;
/// Heartbeat interval: default, least and most, milliseconds.
pub const HEARTBEAT_MS_DEFAULT: u64 = 30_000;
/// Least heartbeat interval, milliseconds.
pub const HEARTBEAT_MS_MIN: u64 = 5_000;
/// Most heartbeat interval, milliseconds.
pub const HEARTBEAT_MS_MAX: u64 = 300_000;
/// Typing expires, milliseconds.
pub const TYPING_TTL_MS: u64 = 5_000;
/// Presence expires, milliseconds.
pub const PRESENCE_TTL_MS: u64 = 30_000;
/// A client with `Queued` retries after this, milliseconds.
pub const QUEUED_RETRY_MS: u64 = 60_000;
/// How long a client_msg_id is remembered, and how old one may be, milliseconds (7 days).
pub const DEDUP_WINDOW_MS: u64 = 7 * 24 * 3_600 * 1_000;
/// How far ahead of the record's time a client_msg_id may be stamped, milliseconds.
pub const CLOCK_SKEW_MS_MAX: u64 = 300_000;
/// HTTP request head, bytes.
pub const HTTP_HEAD_BYTES_MAX: usize = 8_192;
/// HTTP header count.
pub const HTTP_HEADERS_MAX: usize = 64;
/// Fixed slots that users and chats hash to.
pub const SLOTS: u32 = 65_536;
/// Lanes of a chat set to relaxed order, a power of two.
pub const LANES_MAX: u8 = 64;
/// How long after the record that sets a chat to relaxed order its messages begin to be spread, milliseconds: so long
/// do edge nodes have to learn of it.
pub const LANES_NOTICE_MS: u64 = 30_000;
/// Members of a group.
pub const GROUP_MEMBERS_MAX: usize = 200_000;
/// Users that one change of a group names.
pub const GROUP_CHANGE_MAX: usize = 10_000;
/// Members of a group that are listed record by record, at most; of a larger one the edge nodes know who is in it.
pub const GROUP_LISTED_MAX: usize = 10_000;
/// History rows per bucket of `messages_by_chat`.
pub const BUCKET_ORDINALS: u64 = 8_192;

const _: () = assert!(BODY_BYTES_MAX + 4_096 <= FRAME_BYTES_MAX);
const _: () = assert!(BODY_BYTES_MAX.div_ceil(3) * 4 + 4_096 <= WS_JSON_MESSAGE_BYTES_MAX);
const _: () =
    assert!(HEARTBEAT_MS_MIN <= HEARTBEAT_MS_DEFAULT && HEARTBEAT_MS_DEFAULT <= HEARTBEAT_MS_MAX);
