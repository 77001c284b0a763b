//! The naive model of a store: maps and the merge rules, and faults on demand.

use hawser_engines::store::{
    ChatHead, ChatInfo, DedupRow, Membership, Page, ReceiptRow, Store, StoreError, StoreOp,
    StoredMessage,
};
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, Seq, UserId};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Everything that is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rows {
    pub(crate) messages: BTreeMap<(ChatId, u64), StoredMessage>,
    pub(crate) heads: BTreeMap<ChatId, ChatHead>,
    pub(crate) dedup: BTreeMap<(UserId, DeviceId, ChatId, ClientMsgId), DedupRow>,
    pub(crate) members: BTreeMap<(ChatId, UserId), (Membership, Seq)>,
    pub(crate) chats: BTreeMap<ChatId, ChatInfo>,
    pub(crate) receipts: BTreeMap<(ChatId, UserId), ReceiptRow>,
}

/// What the next write does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Fails, and nothing is applied.
    Nothing,
    /// Fails, though all was applied: a time-out.
    Applied,
}

#[derive(Debug, Default)]
pub(crate) struct MemoryStore {
    rows: Mutex<Rows>,
    faults: Mutex<Vec<Fault>>,
}

impl MemoryStore {
    pub(crate) fn rows(&self) -> Rows {
        self.rows.lock().unwrap().clone()
    }

    /// The next writes fail so, the last of the list first.
    pub(crate) fn fail(&self, faults: &[Fault]) {
        self.faults.lock().unwrap().extend_from_slice(faults);
    }
}

impl Rows {
    fn apply(&mut self, op: &StoreOp) {
        match op.clone() {
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
                if self
                    .chats
                    .get(&chat)
                    .is_none_or(|old| old.write_seq < info.write_seq)
                {
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
        let fault = self.faults.lock().unwrap().pop();
        if fault != Some(Fault::Nothing) {
            let mut rows = self.rows.lock().unwrap();
            ops.iter().for_each(|op| rows.apply(op));
        }
        let reason = || "a fault of the test".to_owned();
        match fault {
            Some(_) => Err(StoreError::Unavailable { reason: reason() }),
            None => Ok(()),
        }
    }
    fn head(&self, chat: &ChatId) -> Result<ChatHead, StoreError> {
        Ok(self.rows().heads.get(chat).copied().unwrap_or_default())
    }
    fn head_before(&self, chat: &ChatId, seq: Seq) -> Result<ChatHead, StoreError> {
        let rows = self.rows();
        let before = rows
            .messages
            .iter()
            .filter(|(key, row)| key.0 == *chat && row.seq < seq);
        let head = before.map(|(_, row)| ChatHead {
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
        let key = (user.clone(), device.clone(), chat.clone(), *id);
        Ok(self.rows().dedup.get(&key).cloned())
    }
    fn messages(&self, chat: &ChatId, page: Page) -> Result<Vec<StoredMessage>, StoreError> {
        let rows = self.rows();
        let mut out: Vec<_> = rows
            .messages
            .into_iter()
            .filter(|(key, _)| key.0 == *chat && (page.from..=page.to).contains(&key.1))
            .map(|(_, row)| row)
            .collect();
        if page.backwards {
            out.reverse();
        }
        out.truncate(page.limit);
        Ok(out)
    }
    fn truncated_before(&self, _chat: &ChatId) -> Result<u64, StoreError> {
        Ok(1)
    }
    fn chat(&self, chat: &ChatId) -> Result<Option<ChatInfo>, StoreError> {
        Ok(self.rows().chats.get(chat).cloned())
    }
    fn members(&self, chat: &ChatId) -> Result<Vec<Membership>, StoreError> {
        let rows = self.rows();
        let of = rows.members.into_iter().filter(|(key, _)| key.0 == *chat);
        Ok(of.map(|(_, (member, _))| member).collect())
    }
    fn member(&self, chat: &ChatId, user: &UserId) -> Result<Option<Membership>, StoreError> {
        let key = (chat.clone(), user.clone());
        Ok(self
            .rows()
            .members
            .get(&key)
            .map(|(member, _)| member.clone()))
    }
    fn chats_of(
        &self,
        user: &UserId,
        after: Option<&ChatId>,
        limit: usize,
    ) -> Result<Vec<ChatId>, StoreError> {
        let rows = self.rows();
        let mine = rows.members.into_keys().filter(|key| key.1 == *user);
        let chats = mine
            .map(|key| key.0)
            .filter(|chat| after.is_none_or(|a| chat > a));
        Ok(chats.take(limit).collect())
    }
    fn receipts(&self, chat: &ChatId) -> Result<Vec<ReceiptRow>, StoreError> {
        let rows = self.rows();
        let of = rows.receipts.into_iter().filter(|(key, _)| key.0 == *chat);
        Ok(of.map(|(_, row)| row).collect())
    }
}
