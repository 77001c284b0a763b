//! The words between the session's core, which decides, and its driver, which moves bytes.

use crate::frame::ClientFrame;
use crate::ids::{ChatId, ClientMsgId, DeviceId, Seq, UserId};
use crate::message::{MessageRecord, MessageType};
use crate::pb;
use bytes::Bytes;
use std::collections::BTreeMap;

/// One instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// A clock that never goes back, milliseconds: deadlines.
    pub ms: u64,
    /// The machine's clock, milliseconds since 1970: stamps.
    pub wall_ms: u64,
}

/// Who we are and where a connection begins.
#[derive(Debug, Clone)]
pub struct Config {
    /// The user, as the token names it.
    pub user: UserId,
    /// The device, as the token names it.
    pub device: DeviceId,
    /// Where a connection begins when no Redirect says otherwise.
    pub url: String,
    /// name/version, at most 64 bytes, for the server's logs.
    pub client: String,
    /// Wished ping interval, milliseconds; 0: the server's default.
    pub heartbeat_ms: u32,
    /// Not recovered? Start at the head, sync nothing (a load generator's wish).
    pub live_only: bool,
}

/// How far a chat is known without a hole that we want filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Track {
    /// Of the last message known.
    pub seq: Seq,
    /// Of the last message known.
    pub ordinal: u64,
}

/// A message's place in its chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The chat.
    pub chat: ChatId,
    /// Its place.
    pub seq: Seq,
    /// The one before it.
    pub prev_seq: Seq,
    /// Its dense number.
    pub ordinal: u64,
}

impl Place {
    /// Where a record stands.
    #[must_use]
    pub fn of(record: &MessageRecord) -> Self {
        Self {
            chat: record.chat.clone(),
            seq: record.seq,
            prev_seq: record.prev_seq,
            ordinal: record.ordinal,
        }
    }
}

/// A user's watermarks in a chat; merged by maximum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The chat.
    pub chat: ChatId,
    /// Whose.
    pub user: UserId,
    /// Delivered up to; `Seq::NONE`: unchanged.
    pub delivered: Seq,
    /// Read up to; `Seq::NONE`: unchanged.
    pub read: Seq,
}

/// A refusal for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Error code of docs/errors.md.
    pub code: u32,
    /// For people.
    pub text: String,
}

/// A message of ours without a final answer; it is on the disk until it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingSend {
    /// Order of writing; a renewed id keeps it.
    pub number: u64,
    /// The dedup key of every retry.
    pub id: ClientMsgId,
    /// Where to.
    pub chat: ChatId,
    /// What the payload is.
    pub message_type: MessageType,
    /// Payload.
    pub body: Bytes,
    /// When it was written, the machine's clock, milliseconds.
    pub send_ts_ms: u64,
    /// Refused for good: shown to the user, no more retries.
    pub refused: Option<Refusal>,
}

/// Where this device stands in its delivery log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Position {
    /// A sync is under way; this head is adopted when every chat is stored. A program that dies
    /// here starts the sync anew.
    SyncingFrom(u64),
    /// Everything below `next` is stored.
    At {
        /// Next offset.
        next: u64,
        /// The server's seal, sent back in Hello.
        resume_token: Bytes,
    },
}

/// What the driver found on the disk.
#[derive(Debug, Clone, Default)]
pub struct Saved {
    /// Where we stand; `None` on a fresh device.
    pub position: Option<Position>,
    /// How far each chat is known.
    pub tracks: BTreeMap<ChatId, Track>,
    /// Unsent messages.
    pub pending: Vec<PendingSend>,
    /// Own read watermarks that the server has not confirmed.
    pub unconfirmed_reads: BTreeMap<ChatId, Seq>,
    /// The server's clock minus this machine's as last learnt, milliseconds.
    pub skew_ms: i64,
}

/// What one atomic write to the disk holds; batches are written in the order in which they are given.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// Messages; the disk knows by (chat, ordinal) which of them it has already.
    pub records: Vec<MessageRecord>,
    /// Watermarks that rose.
    pub marks: Vec<Mark>,
    /// Chats as the server describes them.
    pub chats: Vec<pb::ChatSummary>,
    /// The list of chats is complete: groups not in it are no longer ours.
    pub chat_list_complete: Option<Vec<String>>,
    /// How far chats are known now.
    pub tracks: BTreeMap<ChatId, Track>,
    /// Own reads, before the server knows.
    pub reads: BTreeMap<ChatId, Seq>,
    /// Unsent messages to keep or replace.
    pub pending_put: Vec<PendingSend>,
    /// Unsent messages that are answered. (An id that is also in `pending_put` ends up deleted.)
    pub pending_delete: Vec<ClientMsgId>,
    /// Where we stand now.
    pub position: Option<Position>,
    /// Server's clock minus ours, milliseconds.
    pub skew_ms: Option<i64>,
}

impl Batch {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
            && self.marks.is_empty()
            && self.chats.is_empty()
            && self.chat_list_complete.is_none()
            && self.tracks.is_empty()
            && self.reads.is_empty()
            && self.pending_put.is_empty()
            && self.pending_delete.is_empty()
            && self.position.is_none()
            && self.skew_ms.is_none()
    }
}

/// What a user sees of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Not started, or stopped by the user.
    Stopped,
    /// The server will not have us, for good.
    Refused {
        /// Close code.
        code: u16,
        /// Why, for people.
        text: String,
    },
    /// The same device is connected elsewhere and keeps taking over.
    Displaced,
    /// A connection is being made.
    Connecting,
    /// A connection will be tried.
    Waiting {
        /// When, on the clock of `Now::ms`.
        retry_at_ms: u64,
    },
    /// Chats are being synced.
    Syncing,
    /// What was missed is being replayed.
    CatchingUp,
    /// All that the server has is here.
    Live,
}

/// Answer to a request for history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryDone {
    /// The chat.
    pub chat: ChatId,
    /// As it was asked for; 0: the newest.
    pub before_ordinal: u64,
    /// There is nothing older for us.
    pub at_start: bool,
    /// 0, or an error code.
    pub error: u32,
}

/// What the driver shall do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Open a connection; report `handle_opened` or `handle_closed` with its link.
    Open {
        /// Names the connection in every later call.
        link: u32,
        /// Where.
        url: String,
    },
    /// Send a frame, in whichever encoding the connection speaks.
    Transmit {
        /// Where.
        link: u32,
        /// What.
        frame: Box<ClientFrame>,
    },
    /// Close a connection; it is forgotten here already.
    Close {
        /// Which.
        link: u32,
        /// Close code.
        code: u16,
        /// For logs.
        reason: &'static str,
    },
    /// Get a token; report `handle_token` or `handle_token_failed`.
    FetchToken,
    /// Write a batch; report `handle_stored` when it is on the disk, with all before it.
    Store {
        /// Names the batch.
        ticket: u64,
        /// What.
        batch: Box<Batch>,
    },
    /// Show this.
    Phase(Phase),
    /// Somebody types.
    Typing(pb::TypingUpdate),
    /// Somebody came or went.
    Presence(pb::PresenceUpdate),
    /// The log has one of ours; not "sent" yet.
    Queued(ClientMsgId),
    /// The history that was asked for is in the batches given (or there is none).
    History(HistoryDone),
    /// Something was refused that belongs to no message.
    Problem {
        /// Error code.
        code: u32,
        /// For people.
        text: String,
    },
}
