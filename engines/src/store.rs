//! Port `store`: messages by chat, heads, dedup, membership intervals, receipts (Cassandra, or embedded).
//!
//! Every write is idempotent and carries what makes a replay harmless: immutable rows, or merge by
//! maximum, or "the larger write_seq wins".

pub(crate) mod sharded;

pub use sharded::{Headcount, Sharded};

use bytes::Bytes;
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, Seq, UserId};

/// The last accepted message of a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChatHead {
    /// Its seq; `Seq::NONE` when there is none.
    pub seq: Seq,
    /// Its ordinal; 0 when there is none.
    pub ordinal: u64,
}

/// What a (sender device, chat, client_msg_id) came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DedupRow {
    /// The winning record's seq.
    pub seq: Seq,
    /// 0: accepted; otherwise the error code it was rejected with (control operations record these).
    pub error: u16,
    /// Ordinal it took (0 when rejected).
    pub ordinal: u64,
    /// The accepted message before it.
    pub prev_seq: Seq,
    /// Log time, milliseconds.
    pub stored_ts_ms: u64,
}

/// A time that a user was member of a chat: (joined_seq, left_seq), both exclusive of the change itself:
/// a message with joined_seq < seq < left_seq is visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    /// Seq of the change that added the user.
    pub joined: Seq,
    /// Ordinal of the change that added the user.
    pub joined_ordinal: u64,
    /// Seq of the change that removed the user; `None` while a member.
    pub left: Option<Seq>,
    /// Ordinal of that change.
    pub left_ordinal: Option<u64>,
}

/// One user's membership of a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// Who.
    pub user: UserId,
    /// In order of joining; the last is the present one.
    pub intervals: Vec<Interval>,
    /// Whether an admin now.
    pub admin: bool,
}

impl Membership {
    /// Whether a message at `seq` was, or is, among this user's.
    #[must_use]
    pub fn covers(&self, seq: Seq) -> bool {
        self.intervals
            .iter()
            .any(|i| i.joined < seq && i.left.is_none_or(|left| seq < left))
    }

    /// Whether a member now.
    #[must_use]
    pub fn current(&self) -> bool {
        self.intervals.last().is_some_and(|i| i.left.is_none())
    }
}

/// Name and kind of a chat.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChatInfo {
    /// Display name (groups).
    pub name: String,
    /// Picture URL or empty.
    pub picture: String,
    /// Seq of the record that last changed this row.
    pub write_seq: Seq,
    /// Seq of the record that created the chat.
    pub created_seq: Seq,
    /// Lanes of a chat set to relaxed order; 0 where the whole chat has one order.
    pub lanes: u8,
    /// Client message ids stamped at or after this time, milliseconds, are spread over the lanes; earlier ones
    /// belong to the chat's own.
    pub lanes_since_ms: u64,
    /// Seq of the record that set it to relaxed order.
    pub relaxed_seq: Seq,
    /// `Some`: the group is edge-sharded.
    pub sharded: Option<Sharded>,
}

/// Receipt watermarks of one user in one chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptRow {
    /// Whose.
    pub user: UserId,
    /// Delivered up to.
    pub delivered: Seq,
    /// Read up to.
    pub read: Seq,
    /// Log time of the last change, milliseconds.
    pub ts_ms: u64,
}

/// One idempotent write. A batch of them is applied atomically by the embedded store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreOp {
    /// Immutable row of a chat; `record` is the wire form of the message record.
    Message {
        /// Chat.
        chat: ChatId,
        /// Dense number.
        ordinal: u64,
        /// Place.
        seq: Seq,
        /// Encoded `MessageRecord`.
        record: Bytes,
        /// Encoded envelope table, empty when there is none.
        envelopes: Bytes,
    },
    /// Last accepted message; the larger seq wins.
    Head {
        /// Chat.
        chat: ChatId,
        /// New head.
        head: ChatHead,
    },
    /// First writer wins (a replay writes the same).
    Dedup {
        /// Sender.
        user: UserId,
        /// Sender's device.
        device: DeviceId,
        /// Chat.
        chat: ChatId,
        /// The client's id.
        client_msg_id: ClientMsgId,
        /// Outcome.
        row: DedupRow,
    },
    /// Replaces the membership row; the larger write_seq wins. Also maintains chats-by-user.
    Member {
        /// Chat.
        chat: ChatId,
        /// New state.
        member: Membership,
        /// Seq of the change.
        write_seq: Seq,
    },
    /// Replaces name and picture; the larger write_seq wins.
    Chat {
        /// Chat.
        chat: ChatId,
        /// New state.
        info: ChatInfo,
    },
    /// Merges by maximum, field by field.
    Receipt {
        /// Chat.
        chat: ChatId,
        /// Watermarks.
        row: ReceiptRow,
    },
}

/// One stored message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMessage {
    /// Dense number.
    pub ordinal: u64,
    /// Place.
    pub seq: Seq,
    /// Encoded `MessageRecord`.
    pub record: Bytes,
    /// Encoded envelope table or empty.
    pub envelopes: Bytes,
}

/// Which messages to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Lowest ordinal wanted, inclusive.
    pub from: u64,
    /// Highest ordinal wanted, inclusive.
    pub to: u64,
    /// Newest first.
    pub backwards: bool,
    /// At most so many rows.
    pub limit: usize,
    /// At most about so many bytes of records (at least one row if there is one).
    pub bytes_max: usize,
}

impl Page {
    /// The row of this ordinal alone.
    #[must_use]
    pub fn one(ordinal: u64) -> Self {
        Self {
            from: ordinal,
            to: ordinal,
            backwards: false,
            limit: 1,
            bytes_max: usize::MAX,
        }
    }
}

/// Something that a caller will ask for, so that an adapter may fetch many at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// As [`Store::head`].
    Head(ChatId),
    /// As [`Store::head_before`].
    HeadBefore(ChatId, Seq),
    /// As [`Store::chat`] and, where there is one that is not edge-sharded, [`Store::members`].
    Group(ChatId),
    /// As [`Store::member`].
    Member(ChatId, UserId),
    /// As [`Store::dedup`].
    Dedup(UserId, DeviceId, ChatId, ClientMsgId),
}

/// What was asked for, of the same kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Of `Head` and `HeadBefore`.
    Head(ChatHead),
    /// Of `Group`.
    Group(Option<(ChatInfo, Vec<Membership>)>),
    /// Of `Member`.
    Member(Option<Membership>),
    /// Of `Dedup`.
    Dedup(Option<DedupRow>),
}

/// Told once what came of a batch, on a thread of the adapter or of the caller; must not block.
pub type Stored = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Why the store did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Cannot be reached, or the disk is full; nothing was (knowingly) applied: retry the same.
    #[error("the store is unavailable: {reason}")]
    Unavailable {
        /// For the operator's log.
        reason: String,
    },
    /// This row will never be taken, however often it is written: it is too large, or has numbers beyond what the
    /// tables hold.
    #[error("the store refuses the row for good: {reason}")]
    Refused {
        /// For the operator's log.
        reason: String,
    },
    /// A row that cannot be read: a newer version, or corruption.
    #[error("a row of {table} is unreadable: {reason}")]
    Corrupt {
        /// Table.
        table: &'static str,
        /// For the operator's log.
        reason: String,
    },
}

/// The store. Calls block for at most a disk read (embedded) or a bounded round trip.
pub trait Store: Send + Sync {
    /// Applies a batch; when it returns, the batch is durable. The embedded store applies it atomically. Another
    /// may be torn by a crash, but writes a chat's head after the messages before it in the batch, and the outcome
    /// (`Dedup`) of a batch that changes members or names after those changes, so that who finds a head or the
    /// outcome of a change finds what it stands for.
    ///
    /// # Errors
    /// See [`StoreError`]; the same batch may be repeated.
    fn write(&self, ops: &[StoreOp]) -> Result<(), StoreError>;
    /// As [`write`](Self::write), without waiting where the adapter can: `stored` is told. Batches that are under
    /// way at the same time are applied in any order: a message of a chat is found once those before it are there, too.
    fn write_later(&self, ops: Vec<StoreOp>, stored: Stored) {
        stored(self.write(&ops));
    }
    /// Reads many things, at the same time where the adapter can; the answers stand in the order of `asks`.
    ///
    /// # Errors
    /// See [`StoreError`]; the first that occurs.
    fn ask(&self, asks: &[Ask]) -> Result<Vec<Answer>, StoreError> {
        asks.iter().map(|ask| answer(self, ask)).collect()
    }
    /// Last accepted message.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn head(&self, chat: &ChatId) -> Result<ChatHead, StoreError>;
    /// The last accepted message with a seq smaller than `seq` (for deterministic replay).
    ///
    /// # Errors
    /// See [`StoreError`].
    fn head_before(&self, chat: &ChatId, seq: Seq) -> Result<ChatHead, StoreError>;
    /// Outcome of a client_msg_id, if remembered.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn dedup(
        &self,
        user: &UserId,
        device: &DeviceId,
        chat: &ChatId,
        id: &ClientMsgId,
    ) -> Result<Option<DedupRow>, StoreError>;
    /// Messages of a chat by ordinal.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn messages(&self, chat: &ChatId, page: Page) -> Result<Vec<StoredMessage>, StoreError>;
    /// First ordinal that retention has left (1 when nothing was removed).
    ///
    /// # Errors
    /// See [`StoreError`].
    fn truncated_before(&self, chat: &ChatId) -> Result<u64, StoreError>;
    /// Name and picture; `None` when the chat does not exist.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn chat(&self, chat: &ChatId) -> Result<Option<ChatInfo>, StoreError>;
    /// Everyone who is or was a member.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn members(&self, chat: &ChatId) -> Result<Vec<Membership>, StoreError>;
    /// One user's membership.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn member(&self, chat: &ChatId, user: &UserId) -> Result<Option<Membership>, StoreError>;
    /// Chats that a user is or was in, by chat id, after `after`.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn chats_of(
        &self,
        user: &UserId,
        after: Option<&ChatId>,
        limit: usize,
    ) -> Result<Vec<ChatId>, StoreError>;
    /// Watermarks of all users of a chat.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn receipts(&self, chat: &ChatId) -> Result<Vec<ReceiptRow>, StoreError>;
}

/// One answer from the calls of the port.
fn answer<S: Store + ?Sized>(store: &S, ask: &Ask) -> Result<Answer, StoreError> {
    Ok(match ask {
        Ask::Head(chat) => Answer::Head(store.head(chat)?),
        Ask::HeadBefore(chat, seq) => Answer::Head(store.head_before(chat, *seq)?),
        Ask::Group(chat) => Answer::Group(match store.chat(chat)? {
            Some(info) if info.sharded.is_some() => Some((info, Vec::new())),
            Some(info) => Some((info, store.members(chat)?)),
            None => None,
        }),
        Ask::Member(chat, user) => Answer::Member(store.member(chat, user)?),
        Ask::Dedup(user, device, chat, id) => Answer::Dedup(store.dedup(user, device, chat, id)?),
    })
}
