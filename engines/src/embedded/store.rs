//! The store port on the embedded database: reads here, writes through the commit thread.

use super::core::Core;
use super::log::is_io;
use super::queue::Job;
use super::rows::{
    chat_key, chats_of_key, chats_of_prefix, corrupt, decode_chat, decode_dedup, decode_head,
    decode_member, decode_message, decode_ordinal, decode_receipt, dedup_key, head_key, key_tail,
    member_key, member_prefix, message_key, message_ordinal, receipt_prefix, seq_key,
};
use super::tables::{Table, Tables};
use crate::log::ProduceError;
use crate::store::{
    ChatHead, ChatInfo, DedupRow, Membership, Page, ReceiptRow, Store, StoreError, StoreOp,
    StoredMessage,
};
use fjall::Readable;
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, Seq, UserId};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

/// The store.
pub(super) struct EmbeddedStore(pub(super) Arc<Core>);

/// What a storage engine's error means to a reader of rows.
pub(super) fn store_error(table: &'static str, error: &fjall::Error) -> StoreError {
    if is_io(error) || matches!(error, fjall::Error::Poisoned) {
        StoreError::Unavailable {
            reason: error.to_string(),
        }
    } else {
        corrupt(table, error)
    }
}

impl EmbeddedStore {
    fn tables(&self) -> Result<Arc<Tables>, StoreError> {
        self.0
            .tables()
            .map_err(|reason| StoreError::Unavailable { reason })
    }

    fn get<T>(
        &self,
        table: &'static str,
        space: Table,
        key: &[u8],
        decode: impl FnOnce(&[u8]) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        // A view shows whole batches: who finds a head finds the messages below it.
        let tables = self.tables()?;
        let value = tables.snapshot().get(tables.space(space), key);
        let value = value.map_err(|e| store_error(table, &e))?;
        value.map(|v| decode(&v)).transpose()
    }

    /// Rows below `prefix`, from one consistent view: (tail of the key, value).
    fn scan<T>(
        &self,
        table: &'static str,
        prefix: &[u8],
        each: impl Fn(UserId, &[u8]) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let tables = self.tables()?;
        let view = tables.snapshot();
        view.prefix(tables.space(Table::Rows), prefix)
            .map(|row| {
                let (key, value) = row.into_inner().map_err(|e| store_error(table, &e))?;
                let user =
                    UserId::new(key_tail(table, &key, prefix)?).map_err(|e| corrupt(table, e))?;
                each(user, &value)
            })
            .collect()
    }
}

impl Store for EmbeddedStore {
    fn write(&self, ops: &[StoreOp]) -> Result<(), StoreError> {
        if ops.is_empty() {
            return Ok(());
        }
        let unavailable = |reason: String| StoreError::Unavailable { reason };
        if let Some(reason) = self.0.down() {
            return Err(unavailable(reason.to_string()));
        }
        let (reply, answer) = sync_channel(1);
        let job = Job::Store {
            ops: ops.to_vec(),
            reply,
        };
        self.0.queue.push(job).map_err(|error| match error {
            ProduceError::Refused { reason, .. } | ProduceError::Unknown { reason } => {
                unavailable(reason)
            }
        })?;
        answer
            .recv()
            .unwrap_or_else(|_| Err(unavailable("the commit thread is gone".to_owned())))
    }

    fn head(&self, chat: &ChatId) -> Result<ChatHead, StoreError> {
        let head = self.get("chat_heads", Table::Rows, &head_key(chat), decode_head)?;
        Ok(head.unwrap_or_default())
    }

    fn head_before(&self, chat: &ChatId, seq: Seq) -> Result<ChatHead, StoreError> {
        if seq == Seq::NONE {
            return Ok(ChatHead::default());
        }
        let tables = self.tables()?;
        let range = seq_key(chat, Seq::NONE)..seq_key(chat, seq);
        let view = tables.snapshot();
        let Some(row) = view.range(tables.space(Table::Rows), range).next_back() else {
            return Ok(ChatHead::default());
        };
        let (key, value) = row.into_inner().map_err(|e| store_error("seq_index", &e))?;
        let seq = message_ordinal(&key).ok_or_else(|| corrupt("seq_index", "a short key"))?;
        Ok(ChatHead {
            seq: Seq(seq),
            ordinal: decode_ordinal(&value)?,
        })
    }

    fn dedup(
        &self,
        user: &UserId,
        device: &DeviceId,
        chat: &ChatId,
        id: &ClientMsgId,
    ) -> Result<Option<DedupRow>, StoreError> {
        let key = dedup_key(user, device, chat, id);
        self.get("sent_by_client", Table::Dedup, &key, decode_dedup)
    }

    fn messages(&self, chat: &ChatId, page: Page) -> Result<Vec<StoredMessage>, StoreError> {
        let table = "messages_by_chat";
        if page.from > page.to {
            return Ok(Vec::new());
        }
        let tables = self.tables()?;
        let view = tables.snapshot();
        let range = message_key(chat, page.from)..=message_key(chat, page.to);
        let mut rows = view.range(tables.space(Table::Messages), range);
        let (mut out, mut bytes) = (Vec::new(), 0);
        while out.len() < page.limit && (out.is_empty() || bytes < page.bytes_max) {
            let next = if page.backwards {
                rows.next_back()
            } else {
                rows.next()
            };
            let Some(row) = next else { break };
            let (key, value) = row.into_inner().map_err(|e| store_error(table, &e))?;
            let message = decode_message(&key, value)?;
            bytes += message.record.len() + message.envelopes.len();
            if bytes > page.bytes_max && !out.is_empty() {
                break;
            }
            out.push(message);
        }
        Ok(out)
    }

    fn truncated_before(&self, chat: &ChatId) -> Result<u64, StoreError> {
        let tables = self.tables()?;
        let range = message_key(chat, 0)..=message_key(chat, u64::MAX);
        match tables.space(Table::Messages).range(range).next() {
            Some(row) => {
                let key = row.key().map_err(|e| store_error("messages_by_chat", &e))?;
                let ordinal = message_ordinal(&key);
                ordinal.ok_or_else(|| corrupt("messages_by_chat", "a short key"))
            }
            None => Ok(self.head(chat)?.ordinal + 1),
        }
    }

    fn chat(&self, chat: &ChatId) -> Result<Option<ChatInfo>, StoreError> {
        self.get("chats", Table::Rows, &chat_key(chat), decode_chat)
    }

    fn members(&self, chat: &ChatId) -> Result<Vec<Membership>, StoreError> {
        self.scan("members", &member_prefix(chat), |user, value| {
            decode_member(user, value).map(|(member, _)| member)
        })
    }

    fn member(&self, chat: &ChatId, user: &UserId) -> Result<Option<Membership>, StoreError> {
        self.get("members", Table::Rows, &member_key(chat, user), |value| {
            decode_member(user.clone(), value).map(|(member, _)| member)
        })
    }

    fn chats_of(
        &self,
        user: &UserId,
        after: Option<&ChatId>,
        limit: usize,
    ) -> Result<Vec<ChatId>, StoreError> {
        let table = "chats_by_user";
        let prefix = chats_of_prefix(user);
        let mut from = match after {
            Some(chat) => chats_of_key(user, chat),
            None => prefix.clone(),
        };
        // Just above `after`; ids never contain a zero byte.
        from.push(0);
        if after.is_none() {
            from.pop();
        }
        let mut to = prefix.clone();
        if let Some(last) = to.last_mut() {
            *last = 1;
        }
        let tables = self.tables()?;
        tables
            .space(Table::Rows)
            .range(from..to)
            .take(limit)
            .map(|row| {
                let key = row.key().map_err(|e| store_error(table, &e))?;
                ChatId::new(key_tail(table, &key, &prefix)?).map_err(|e| corrupt(table, e))
            })
            .collect()
    }

    fn receipts(&self, chat: &ChatId) -> Result<Vec<ReceiptRow>, StoreError> {
        self.scan("receipts_by_chat", &receipt_prefix(chat), decode_receipt)
    }
}

/// What a hook gets: reads only. A write from the commit thread would wait for itself.
pub(super) struct HookView<'a>(pub(super) &'a EmbeddedStore);

impl Store for HookView<'_> {
    fn write(&self, _ops: &[StoreOp]) -> Result<(), StoreError> {
        Err(StoreError::Unavailable {
            reason: "a commit hook writes through its HookBatch".to_owned(),
        })
    }
    fn head(&self, chat: &ChatId) -> Result<ChatHead, StoreError> {
        self.0.head(chat)
    }
    fn head_before(&self, chat: &ChatId, seq: Seq) -> Result<ChatHead, StoreError> {
        self.0.head_before(chat, seq)
    }
    fn dedup(
        &self,
        user: &UserId,
        device: &DeviceId,
        chat: &ChatId,
        id: &ClientMsgId,
    ) -> Result<Option<DedupRow>, StoreError> {
        self.0.dedup(user, device, chat, id)
    }
    fn messages(&self, chat: &ChatId, page: Page) -> Result<Vec<StoredMessage>, StoreError> {
        self.0.messages(chat, page)
    }
    fn truncated_before(&self, chat: &ChatId) -> Result<u64, StoreError> {
        self.0.truncated_before(chat)
    }
    fn chat(&self, chat: &ChatId) -> Result<Option<ChatInfo>, StoreError> {
        self.0.chat(chat)
    }
    fn members(&self, chat: &ChatId) -> Result<Vec<Membership>, StoreError> {
        self.0.members(chat)
    }
    fn member(&self, chat: &ChatId, user: &UserId) -> Result<Option<Membership>, StoreError> {
        self.0.member(chat, user)
    }
    fn chats_of(
        &self,
        user: &UserId,
        after: Option<&ChatId>,
        limit: usize,
    ) -> Result<Vec<ChatId>, StoreError> {
        self.0.chats_of(user, after, limit)
    }
    fn receipts(&self, chat: &ChatId) -> Result<Vec<ReceiptRow>, StoreError> {
        self.0.receipts(chat)
    }
}
