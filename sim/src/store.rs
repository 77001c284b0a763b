//! The store of the simulated cluster: maps and the merge rules of the port.

use crate::Break;
use hawser_engines::store::{
    ChatHead, ChatInfo, DedupRow, Membership, Page, ReceiptRow, Store, StoreError, StoreOp,
    StoredMessage,
};
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, Seq, UserId};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

type DedupKey = (UserId, DeviceId, ChatId, ClientMsgId);

#[derive(Debug, Default)]
struct Rows {
    messages: BTreeMap<(ChatId, u64), StoredMessage>,
    heads: BTreeMap<ChatId, ChatHead>,
    dedup: BTreeMap<DedupKey, DedupRow>,
    members: BTreeMap<(ChatId, UserId), (Membership, Seq)>,
    chats: BTreeMap<ChatId, ChatInfo>,
    receipts: BTreeMap<(ChatId, UserId), ReceiptRow>,
    down: bool,
}

/// Everything that is stored.
#[derive(Debug, Default)]
pub(crate) struct MemoryStore {
    rows: Mutex<Rows>,
    broken: Option<Break>,
}

impl MemoryStore {
    pub(crate) fn new(broken: Option<Break>) -> Self {
        Self {
            rows: Mutex::default(),
            broken,
        }
    }

    /// Nothing can be read or written while it is down.
    pub(crate) fn set_down(&self, down: bool) {
        self.lock().down = down;
    }

    pub(crate) fn is_down(&self) -> bool {
        self.lock().down
    }

    /// A chat's messages, by ordinal.
    pub(crate) fn all(&self, chat: &ChatId) -> Vec<StoredMessage> {
        let rows = self.lock();
        let all = rows
            .messages
            .range((chat.clone(), 0)..=(chat.clone(), u64::MAX));
        all.map(|(_, row)| row.clone()).collect()
    }

    /// Every message of every chat.
    pub(crate) fn everything(&self) -> Vec<(ChatId, StoredMessage)> {
        let rows = self.lock();
        let all = rows.messages.iter();
        all.map(|((chat, _), row)| (chat.clone(), row.clone()))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> Result<MutexGuard<'_, Rows>, StoreError> {
        let rows = self.lock();
        if rows.down {
            return Err(unavailable());
        }
        Ok(rows)
    }
}

fn unavailable() -> StoreError {
    StoreError::Unavailable {
        reason: "the simulated store is down".into(),
    }
}

impl Rows {
    fn apply(&mut self, op: StoreOp) {
        match op {
            StoreOp::Message {
                chat,
                ordinal,
                seq,
                record,
                envelopes,
            } => {
                let row = StoredMessage {
                    ordinal,
                    seq,
                    record,
                    envelopes,
                };
                self.messages.insert((chat, ordinal), row);
            }
            StoreOp::Head { chat, head } => {
                let row = self.heads.entry(chat).or_default();
                if head.seq > row.seq {
                    *row = head;
                }
            }
            StoreOp::Dedup {
                user,
                device,
                chat,
                client_msg_id,
                row,
            } => {
                let key = (user, device, chat, client_msg_id);
                self.dedup.entry(key).or_insert(row);
            }
            StoreOp::Member {
                chat,
                member,
                write_seq,
            } => {
                let key = (chat, member.user.clone());
                if self.members.get(&key).is_none_or(|old| old.1 < write_seq) {
                    self.members.insert(key, (member, write_seq));
                }
            }
            StoreOp::Chat { chat, info } => {
                let old = self.chats.get(&chat);
                if old.is_none_or(|old| old.write_seq < info.write_seq) {
                    self.chats.insert(chat, info);
                }
            }
            StoreOp::Receipt { chat, row } => {
                let key = (chat, row.user.clone());
                let old = self.receipts.entry(key).or_insert_with(|| row.clone());
                old.delivered = old.delivered.max(row.delivered);
                old.read = old.read.max(row.read);
                old.ts_ms = old.ts_ms.max(row.ts_ms);
            }
        }
    }
}

impl Store for MemoryStore {
    fn write(&self, ops: &[StoreOp]) -> Result<(), StoreError> {
        let mut rows = self.read()?;
        ops.iter().for_each(|op| rows.apply(op.clone()));
        Ok(())
    }

    fn head(&self, chat: &ChatId) -> Result<ChatHead, StoreError> {
        Ok(self.read()?.heads.get(chat).copied().unwrap_or_default())
    }

    fn head_before(&self, chat: &ChatId, seq: Seq) -> Result<ChatHead, StoreError> {
        let rows = self.read()?;
        let all = rows
            .messages
            .range((chat.clone(), 0)..=(chat.clone(), u64::MAX));
        let before = all.map(|(_, row)| row).filter(|row| row.seq < seq);
        let head = before.map(|row| ChatHead {
            seq: row.seq,
            ordinal: row.ordinal,
        });
        Ok(head.max_by_key(|head| head.seq).unwrap_or_default())
    }

    fn dedup(
        &self,
        user: &UserId,
        device: &DeviceId,
        chat: &ChatId,
        id: &ClientMsgId,
    ) -> Result<Option<DedupRow>, StoreError> {
        let rows = self.read()?;
        if self.broken == Some(Break::Dedup) {
            return Ok(None);
        }
        let key = (user.clone(), device.clone(), chat.clone(), *id);
        Ok(rows.dedup.get(&key).cloned())
    }

    fn messages(&self, chat: &ChatId, page: Page) -> Result<Vec<StoredMessage>, StoreError> {
        let rows = self.read()?;
        if page.from > page.to {
            return Ok(Vec::new());
        }
        let range = (chat.clone(), page.from)..=(chat.clone(), page.to);
        let mut found: Vec<_> = rows
            .messages
            .range(range)
            .map(|(_, row)| row.clone())
            .collect();
        if page.backwards {
            found.reverse();
        }
        found.truncate(page.limit);
        Ok(found)
    }

    fn truncated_before(&self, _chat: &ChatId) -> Result<u64, StoreError> {
        Ok(1)
    }

    fn chat(&self, chat: &ChatId) -> Result<Option<ChatInfo>, StoreError> {
        Ok(self.read()?.chats.get(chat).cloned())
    }

    fn members(&self, chat: &ChatId) -> Result<Vec<Membership>, StoreError> {
        let rows = self.read()?;
        let of = rows.members.iter().filter(|(key, _)| key.0 == *chat);
        Ok(of.map(|(_, (member, _))| member.clone()).collect())
    }

    fn member(&self, chat: &ChatId, user: &UserId) -> Result<Option<Membership>, StoreError> {
        let rows = self.read()?;
        let row = rows.members.get(&(chat.clone(), user.clone()));
        Ok(row.map(|(member, _)| member.clone()))
    }

    fn chats_of(
        &self,
        user: &UserId,
        after: Option<&ChatId>,
        limit: usize,
    ) -> Result<Vec<ChatId>, StoreError> {
        let rows = self.read()?;
        let mine = rows.members.keys().filter(|key| key.1 == *user);
        let chats = mine.map(|key| key.0.clone());
        let chats = chats.filter(|chat| after.is_none_or(|after| chat > after));
        Ok(chats.take(limit).collect())
    }

    fn receipts(&self, chat: &ChatId) -> Result<Vec<ReceiptRow>, StoreError> {
        let rows = self.read()?;
        let of = rows.receipts.iter().filter(|(key, _)| key.0 == *chat);
        Ok(of.map(|(_, row)| row.clone()).collect())
    }
}
