//! What a judgment says.

use serde::Serialize;
use std::collections::BTreeMap;

use crate::history::Id;

/// What must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Acknowledged, and a member's device never got it.
    LostDelivery,
    /// Acknowledged, and not in the history that was read at the end.
    LostHistory,
    /// One client_msg_id is shown twice: it has two places.
    Duplicate,
    /// A device was shown a message after a later one of the chat.
    Inversion,
    /// One sender's messages of a chat are not in the order in which they were first sent.
    SenderOrder,
    /// A message's predecessor never came to a device that had an earlier one.
    Gap,
    /// Ordinals of history that was read at the end are not dense, or its prev_seq do not chain.
    HistoryGap,
    /// Two messages have one (chat, seq) or one (chat, ordinal): two owners wrote.
    Fencing,
    /// SendResults of one client_msg_id name two messages.
    TwoResults,
    /// Refused at its only attempt, and shown all the same.
    RefusedButShown,
    /// An acknowledgement fell behind an earlier one.
    CursorRegressed,
    /// Delivery offsets of a connection fell, or a resume repeated what it said to have.
    OffsetRegressed,
    /// A live frame before CaughtUp, or a replayed one after.
    MixedReplay,
    /// A message that nobody of this run sent.
    Ghost,
}

/// One offence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Offence {
    /// Of what kind.
    pub kind: Kind,
    /// Nanoseconds since the run began; 0: seen at the end.
    pub t: u64,
    /// Index of the user.
    pub user: u32,
    /// Index of the chat, where there is one.
    pub chat: Option<u32>,
    /// The message, where there is one.
    pub id: Option<Id>,
    /// In words.
    pub words: String,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Entries judged.
    pub entries: u64,
    /// Messages that were sent.
    pub sent: u64,
    /// Acknowledged by a SendResult.
    pub acknowledged: u64,
    /// Refused.
    pub refused: u64,
    /// Without a final answer at the end.
    pub unknown: u64,
    /// First deliveries to a device.
    pub delivered: u64,
    /// Deliveries that (chat, seq) filtered, which is allowed.
    pub redelivered: u64,
    /// Sessions begun, and of these resumed.
    pub welcomes: u64,
    /// Sessions that went on where they were.
    pub recovered: u64,
    /// Devices whose place was lost ("not recovered"): what they missed they would have synced, so it is not judged.
    pub unjudged_devices: u64,
    /// Chats read back at the end.
    pub swept: u64,
    /// Rows of these.
    pub rows: u64,
    /// The history was cut: it proves nothing.
    pub cut: bool,
    /// Offences by kind.
    pub counts: BTreeMap<Kind, u64>,
    /// The first of each kind.
    pub first: Vec<Offence>,
}

impl Verdict {
    /// Nothing was found, in a whole history.
    #[must_use]
    pub fn clean(&self) -> bool {
        self.counts.is_empty() && !self.cut
    }

    /// Offences of a kind.
    #[must_use]
    pub fn count(&self, kind: Kind) -> u64 {
        self.counts.get(&kind).copied().unwrap_or(0)
    }
}
