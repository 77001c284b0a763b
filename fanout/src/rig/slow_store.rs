//! A store with round trips: writes take a while each, end in any order, and fail on demand; each op by itself may be
//! all that a write leaves behind.

use super::memory_store::MemoryStore;
use hawser_engines::store::{
    ChatHead, ChatInfo, DedupRow, Membership, Page, ReceiptRow, Store, StoreError, StoreOp, Stored,
    StoredMessage,
};
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, Seq, UserId};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Body that the store refuses for good.
pub(crate) const TOO_MUCH: &[u8] = b"too much for any row";

#[derive(Default)]
pub(crate) struct SlowStore {
    pub(crate) rows: Arc<MemoryStore>,
    /// Every so many writes fail, having left a part behind or all; 0: none.
    pub(crate) fails_every: u64,
    /// How long a write takes at most, milliseconds.
    pub(crate) slow_ms: u64,
    pub(crate) down: AtomicBool,
    writes: AtomicU64,
    pub(crate) dedup_reads: AtomicU64,
}

impl SlowStore {
    pub(crate) fn new(slow_ms: u64, fails_every: u64) -> Self {
        Self {
            fails_every,
            slow_ms,
            ..Self::default()
        }
    }

    fn reachable(&self) -> Result<(), StoreError> {
        match self.down.load(Ordering::SeqCst) {
            true => Err(StoreError::Unavailable {
                reason: "down".to_owned(),
            }),
            false => Ok(()),
        }
    }

    fn outcome(&self, no: u64, ops: &[StoreOp]) -> Result<(), StoreError> {
        self.reachable()?;
        let refused = ops.iter().any(|op| match op {
            StoreOp::Message { record, .. } => {
                record.windows(TOO_MUCH.len()).any(|w| w == TOO_MUCH)
            }
            _ => false,
        });
        if refused {
            return Err(StoreError::Refused {
                reason: "too large".to_owned(),
            });
        }
        let fails = self.fails_every > 0 && no.is_multiple_of(self.fails_every);
        let part = match fails {
            // A prefix of it; the whole of it was a time-out.
            true => usize::try_from(no).unwrap_or(0) % (ops.len() + 1),
            false => ops.len(),
        };
        self.rows.write(&ops[..part])?;
        match fails {
            true => Err(StoreError::Unavailable {
                reason: "timed out".to_owned(),
            }),
            false => Ok(()),
        }
    }
}

/// For `write_later`, which outlives the call.
pub(crate) struct Slow(pub(crate) Arc<SlowStore>);

impl Store for Slow {
    fn write(&self, ops: &[StoreOp]) -> Result<(), StoreError> {
        let no = self.0.writes.fetch_add(1, Ordering::SeqCst);
        self.0.outcome(no, ops)
    }
    fn write_later(&self, ops: Vec<StoreOp>, stored: Stored) {
        let store = Arc::clone(&self.0);
        let no = store.writes.fetch_add(1, Ordering::SeqCst);
        // Any order: spread by a number of no pattern.
        let wait = no.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(wait % (store.slow_ms + 1)));
            stored(store.outcome(no, &ops));
        });
    }
    fn head(&self, chat: &ChatId) -> Result<ChatHead, StoreError> {
        self.0.reachable()?;
        self.0.rows.head(chat)
    }
    fn head_before(&self, chat: &ChatId, seq: Seq) -> Result<ChatHead, StoreError> {
        self.0.reachable()?;
        self.0.rows.head_before(chat, seq)
    }
    fn dedup(
        &self,
        user: &UserId,
        device: &DeviceId,
        chat: &ChatId,
        id: &ClientMsgId,
    ) -> Result<Option<DedupRow>, StoreError> {
        self.0.reachable()?;
        self.0.dedup_reads.fetch_add(1, Ordering::SeqCst);
        self.0.rows.dedup(user, device, chat, id)
    }
    fn messages(&self, chat: &ChatId, page: Page) -> Result<Vec<StoredMessage>, StoreError> {
        self.0.reachable()?;
        self.0.rows.messages(chat, page)
    }
    fn truncated_before(&self, chat: &ChatId) -> Result<u64, StoreError> {
        self.0.rows.truncated_before(chat)
    }
    fn chat(&self, chat: &ChatId) -> Result<Option<ChatInfo>, StoreError> {
        self.0.reachable()?;
        self.0.rows.chat(chat)
    }
    fn members(&self, chat: &ChatId) -> Result<Vec<Membership>, StoreError> {
        self.0.reachable()?;
        self.0.rows.members(chat)
    }
    fn member(&self, chat: &ChatId, user: &UserId) -> Result<Option<Membership>, StoreError> {
        self.0.rows.member(chat, user)
    }
    fn chats_of(
        &self,
        user: &UserId,
        after: Option<&ChatId>,
        limit: usize,
    ) -> Result<Vec<ChatId>, StoreError> {
        self.0.rows.chats_of(user, after, limit)
    }
    fn receipts(&self, chat: &ChatId) -> Result<Vec<ReceiptRow>, StoreError> {
        self.0.rows.receipts(chat)
    }
}
