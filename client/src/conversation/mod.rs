//! A conversation as it is shown: the lanes of a group in relaxed order as one, by the time of storing. Any other chat is
//! a conversation of one lane.
//!
//! In the store each lane is a chat of its own, with its own order, ordinals and watermarks (docs/protocol.md, "Relaxed
//! order"). What a lane's id looks like is [`ChatId`]'s business; that lanes belong together is this module's alone.

#[cfg(test)]
mod tests;

use crate::store::{Mark, Store, StoreError};
use hawser_protocol::client::HistoryDone;
use hawser_protocol::ids::{ChatId, Seq};
use hawser_protocol::message::{MessageRecord, MessageType};
use std::collections::BTreeMap;

/// Messages that one look at older ones brings.
const PAGE: usize = 100;
/// Of each lane of many at least so many are read from the store at a time.
const LANE_PAGE_MIN: usize = 8;
/// More than this are not kept in memory while the reader follows the newest; the oldest go, to be read again.
const MESSAGES_MAX: usize = 1_000;
const MESSAGES_KEPT: usize = 500;
/// Messages asked of the server at once when the store has no older ones.
pub const HISTORY_PAGE: u32 = 100;

/// Whether a message is shown: changes of a group are told in every lane, and those of lane 0 are shown.
#[must_use]
pub fn is_shown(record: &MessageRecord) -> bool {
    record.message_type != MessageType::MEMBERSHIP || record.chat.lane() == 0
}

/// Messages of lanes, each in its own order, as one list by the time of storing. Of one time the lane that is given
/// first stands first.
#[must_use]
pub fn merge(lanes: &[Vec<MessageRecord>]) -> Vec<MessageRecord> {
    let placed = place(lanes.iter().map(Vec::as_slice));
    placed.into_iter().map(|(_, r)| r.clone()).collect()
}

/// Every message with the time that it stands at: within a lane never earlier than the one before.
fn place<'a>(lanes: impl Iterator<Item = &'a [MessageRecord]>) -> Vec<(u64, &'a MessageRecord)> {
    let mut placed = Vec::new();
    for lane in lanes {
        let mut at = 0;
        for record in lane {
            at = record.stored_ts_ms.max(at);
            placed.push((at, record));
        }
    }
    placed.sort_by_key(|(at, _)| *at); // stable
    placed
}

/// Older messages that only the server has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The lane.
    pub chat: ChatId,
    /// Those below this ordinal.
    pub before: u64,
}

/// What is in memory of one lane: the newest messages without a hole.
#[derive(Debug)]
struct Lane {
    chat: ChatId,
    records: Vec<MessageRecord>,
    marks: BTreeMap<String, Mark>,
    /// Nothing older exists for us.
    at_start: bool,
    /// The server has been asked for older ones.
    loading: bool,
}

impl Lane {
    fn open(store: &Store, chat: ChatId, limit: usize) -> Result<Self, StoreError> {
        let mut lane = Self {
            marks: store.marks(&chat)?.into_iter().collect(),
            chat,
            records: Vec::new(),
            at_start: false,
            loading: false,
        };
        lane.read_down(store, limit, false)?;
        Ok(lane)
    }

    fn first(&self) -> Option<u64> {
        self.records.first().map(|record| record.ordinal)
    }

    /// Extends downward from the store as far as no message is missing; whether any came. `answered`: the server has
    /// just told what lies next below, so a hole there is none for us.
    fn read_down(
        &mut self,
        store: &Store,
        limit: usize,
        answered: bool,
    ) -> Result<bool, StoreError> {
        let mut above = self.first();
        let mut page = store.messages(&self.chat, above.unwrap_or(u64::MAX), limit)?;
        let mut from = page.len();
        for record in page.iter().rev() {
            let hole = above.is_some_and(|above| record.ordinal.saturating_add(1) < above);
            if hole && !(answered && from == page.len()) {
                break;
            }
            above = Some(record.ordinal);
            from -= 1;
        }
        let joined = page.split_off(from);
        let came = !joined.is_empty();
        self.records.splice(0..0, joined);
        self.at_start |= self.first() == Some(1);
        Ok(came)
    }

    /// A message in its place; one that is older than what is in memory stays in the store.
    fn put(&mut self, record: MessageRecord) {
        let at = self.records.partition_point(|m| m.seq < record.seq);
        let older = at == 0 && !self.records.is_empty();
        let known = self.records.get(at).is_some_and(|m| m.seq == record.seq);
        if !known && !older {
            self.records.insert(at, record);
            self.at_start |= self.first() == Some(1);
        }
    }

    /// Keeps the newest so many in memory.
    fn keep(&mut self, count: usize) {
        let cut = self.records.len().saturating_sub(count);
        if cut > 0 {
            self.records.drain(..cut);
            self.at_start = false;
        }
    }

    /// Down to which time it is known; 0: to its start, or there is nothing to be known of yet.
    fn reach_ms(&self) -> u64 {
        match self.records.first() {
            Some(first) if !self.at_start => first.stored_ts_ms,
            _ => 0,
        }
    }

    fn ask(&mut self) -> Ask {
        self.loading = true;
        Ask {
            chat: self.chat.clone(),
            before: self.first().unwrap_or(0),
        }
    }
}

/// The open conversation: its newest messages, and older ones as they are looked for.
#[derive(Debug)]
pub struct Conversation {
    id: ChatId,
    /// By number: of two messages of one time the one of the lower lane stands first.
    lanes: BTreeMap<u8, Lane>,
    messages: Vec<MessageRecord>,
    /// What was stored earlier is not shown yet: not every lane has been read so far down.
    floor_ms: u64,
}

impl Conversation {
    /// Reads the newest messages of a chat, of all its lanes where it is a group or a lane of one.
    ///
    /// # Errors
    /// The disk's.
    pub fn open(store: &Store, chat: &ChatId) -> Result<Self, StoreError> {
        let mut conversation = Self {
            id: chat.base(),
            lanes: BTreeMap::new(),
            messages: Vec::new(),
            floor_ms: u64::MAX,
        };
        let lanes = store.lanes(&conversation.id)?;
        let limit = page(lanes.len());
        for chat in lanes {
            let lane = Lane::open(store, chat, limit)?;
            conversation.lanes.insert(lane.chat.lane(), lane);
        }
        conversation.merge();
        Ok(conversation)
    }

    /// What messages are sent to.
    #[must_use]
    pub fn id(&self) -> &ChatId {
        &self.id
    }

    /// What is shown, oldest first; each message's `chat` is its lane.
    #[must_use]
    pub fn messages(&self) -> &[MessageRecord] {
        &self.messages
    }

    /// The newest message of each lane: who has read to the end has read these.
    pub fn newest(&self) -> impl Iterator<Item = (&ChatId, Seq)> {
        let lanes = self.lanes.values();
        lanes.filter_map(|lane| Some((&lane.chat, lane.records.last()?.seq)))
    }

    /// A user's watermarks in a lane: a message is judged with those of its own.
    #[must_use]
    pub fn mark(&self, lane: &ChatId, user: &str) -> Mark {
        let lane = self.lanes.get(&lane.lane()).filter(|l| l.chat == *lane);
        lane.and_then(|lane| lane.marks.get(user).copied())
            .unwrap_or_default()
    }

    /// Whether there is nothing older.
    #[must_use]
    pub fn at_start(&self) -> bool {
        self.lanes.values().all(|lane| lane.at_start)
    }

    /// Whether the server has been asked for older messages.
    #[must_use]
    pub fn loading(&self) -> bool {
        self.lanes.values().any(|lane| lane.loading)
    }

    /// A watermark has risen.
    pub fn put_mark(&mut self, chat: &ChatId, user: &str, mark: Mark) {
        let lane = self.lanes.get_mut(&chat.lane());
        if let Some(lane) = lane.filter(|lane| lane.chat == *chat) {
            lane.marks.insert(user.to_owned(), mark);
        }
    }

    /// Messages have been stored; those of other conversations change nothing.
    ///
    /// # Errors
    /// The disk's.
    pub fn put(&mut self, store: &Store, records: &[MessageRecord]) -> Result<(), StoreError> {
        for record in records.iter().filter(|r| r.chat.base() == self.id) {
            if let Some(lane) = self.lanes.get_mut(&record.chat.lane()) {
                lane.put(record.clone());
            } else {
                // The lane has begun since; the store has the message already.
                let lane = Lane::open(store, record.chat.clone(), page(self.lanes.len() + 1))?;
                self.lanes.insert(lane.chat.lane(), lane);
            }
        }
        self.merge();
        Ok(())
    }

    /// The reader follows the newest messages: what is far above them leaves the memory.
    pub fn trim(&mut self) {
        if self.messages.len() <= MESSAGES_MAX || self.loading() {
            return;
        }
        let mut kept: BTreeMap<u8, usize> = BTreeMap::new();
        for record in self.messages.iter().rev().take(MESSAGES_KEPT) {
            *kept.entry(record.chat.lane()).or_default() += 1;
        }
        for (number, lane) in &mut self.lanes {
            // One more: it says that there is none between.
            lane.keep(kept.get(number).copied().unwrap_or(0) + 1);
        }
        self.floor_ms = u64::MAX;
        self.merge();
    }

    /// Older messages are wanted: they are read from the store, and where it ends the server is to be asked.
    ///
    /// # Errors
    /// The disk's.
    pub fn older(&mut self, store: &Store) -> Result<Option<Ask>, StoreError> {
        let (enough, limit) = (self.messages.len() + PAGE, page(self.lanes.len()));
        while self.messages.len() < enough {
            // The lane that hides what the others have below it.
            let open = self.lanes.values_mut().filter(|lane| lane.reach_ms() > 0);
            let Some(lane) = open.max_by_key(|lane| lane.reach_ms()) else {
                break;
            };
            if lane.loading {
                break;
            }
            if !lane.read_down(store, limit, false)? {
                return Ok(Some(lane.ask()));
            }
            self.merge();
        }
        Ok(None)
    }

    /// The history that was asked for is in the store. Returns what else is to be asked.
    ///
    /// # Errors
    /// The disk's.
    pub fn answered(
        &mut self,
        store: &Store,
        done: &HistoryDone,
    ) -> Result<Option<Ask>, StoreError> {
        let shown = self.messages.len();
        let lane = self.lanes.get_mut(&done.chat.lane());
        let Some(lane) = lane.filter(|lane| lane.chat == done.chat) else {
            return Ok(None);
        };
        lane.loading = false;
        // Of an answer to what was asked before this was opened, only the messages count.
        let ours = lane.first() == Some(done.before_ordinal);
        let came = lane.read_down(store, HISTORY_PAGE as usize, ours)?;
        lane.at_start |= ours && done.at_start;
        let grew = came || lane.at_start;
        self.merge();
        // Another lane still hides what came.
        if grew && self.messages.len() == shown {
            return self.older(store);
        }
        Ok(None)
    }

    /// Reads every lane down to where the others are shown already; returns what the server is to be asked for that.
    ///
    /// # Errors
    /// The disk's.
    pub fn fill(&mut self, store: &Store) -> Result<Vec<Ask>, StoreError> {
        let (floor, limit) = (self.floor_ms, page(self.lanes.len()));
        let mut asks = Vec::new();
        for lane in self.lanes.values_mut() {
            while lane.reach_ms() > floor && !lane.loading {
                if !lane.read_down(store, limit, false)? {
                    asks.push(lane.ask());
                }
            }
        }
        self.merge();
        Ok(asks)
    }

    fn merge(&mut self) {
        let reach = self.lanes.values().map(Lane::reach_ms).max().unwrap_or(0);
        if self.lanes.values().any(|lane| !lane.records.is_empty()) {
            // Never up again: what has been shown stays.
            self.floor_ms = self.floor_ms.min(reach);
        }
        let placed = place(self.lanes.values().map(|lane| lane.records.as_slice()));
        let shown = placed
            .into_iter()
            .filter(|(at, record)| *at >= self.floor_ms && is_shown(record));
        self.messages = shown.map(|(_, record)| record.clone()).collect();
    }
}

/// Messages read of one of so many lanes at a time.
fn page(lanes: usize) -> usize {
    PAGE.div_ceil(lanes.max(1)).max(LANE_PAGE_MIN)
}
