//! One batch of the session is one atomic write: a message, the position past it and the end of its
//! unsent row are one fact.

use super::rows::{Chat, Mark, PositionRow, UnsentRow};
use super::{Store, StoreError, mark_key, message_key, read};
use fjall::{OwnedWriteBatch, PersistMode};
use hawser_protocol::client::{Batch, Mark as Risen, PendingSend};
use hawser_protocol::ids::{ChatId, ClientMsgId, Seq, UserId};
use hawser_protocol::message::MessageRecord;
use std::collections::{BTreeMap, BTreeSet};

/// What a batch has changed, as it now is on the disk.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Written {
    /// Messages that were not there before, in the order of the batch.
    pub fresh: Vec<MessageRecord>,
    /// Chats that changed.
    pub chats: Vec<(ChatId, Chat)>,
    /// Watermarks that rose.
    pub marks: Vec<(ChatId, UserId, Mark)>,
    /// Unsent messages that were put or replaced.
    pub unsent: Vec<PendingSend>,
    /// Unsent messages that were answered or given up.
    pub answered: Vec<ClientMsgId>,
}

/// Rows that the batch being written touches, read once.
struct Touched<'a> {
    store: &'a Store,
    me: &'a UserId,
    rows: OwnedWriteBatch,
    chats: BTreeMap<ChatId, Chat>,
    messages: BTreeSet<(ChatId, u64)>,
    marks: BTreeMap<(ChatId, UserId), Mark>,
    written: Written,
}

impl Store {
    /// Writes a batch of the session of `me` and makes it durable: a killed program cannot take it
    /// back; a batch with unsent messages survives power loss too.
    ///
    /// # Errors
    /// The disk's; nothing of the batch is then written.
    pub fn write(&self, batch: &Batch, me: &UserId) -> Result<Written, StoreError> {
        let mode = match batch.pending_put.is_empty() {
            true => PersistMode::Buffer,
            false => PersistMode::SyncData,
        };
        let mut touched = Touched {
            store: self,
            me,
            rows: self.db.batch().durability(Some(mode)),
            chats: BTreeMap::new(),
            messages: BTreeSet::new(),
            marks: BTreeMap::new(),
            written: Written::default(),
        };
        touched.messages(batch)?;
        touched.chats(batch)?;
        touched.marks(batch)?;
        touched.unsent(batch)?;
        if let Some(position) = &batch.position {
            let row = serde_json::to_vec(&PositionRow::of(position))?;
            touched.rows.insert(&self.meta, "position", row);
        }
        if let Some(skew_ms) = batch.skew_ms {
            touched
                .rows
                .insert(&self.meta, "skew_ms", skew_ms.to_string());
        }
        touched.commit()
    }
}

impl Touched<'_> {
    fn chat(&mut self, chat: &ChatId) -> Result<&mut Chat, StoreError> {
        if !self.chats.contains_key(chat) {
            let row = self.store.chat(chat)?;
            self.chats.insert(chat.clone(), row);
        }
        // It was put there just now.
        Ok(self.chats.entry(chat.clone()).or_default())
    }

    fn messages(&mut self, batch: &Batch) -> Result<(), StoreError> {
        for record in &batch.records {
            let at = (record.chat.clone(), record.ordinal);
            if self.messages.contains(&at) || self.store.has_message(&at.0, at.1)? {
                continue;
            }
            let key = message_key(&record.chat, record.ordinal);
            self.rows
                .insert(&self.store.messages, key, &record.encode()[..]);
            self.messages.insert(at);
            let me = self.me.clone();
            self.chat(&record.chat)?.apply(record, me.as_str());
            self.written.fresh.push(record.clone());
        }
        Ok(())
    }

    fn chats(&mut self, batch: &Batch) -> Result<(), StoreError> {
        for summary in &batch.chats {
            if let Ok(chat) = ChatId::new(&summary.chat) {
                self.chat(&chat)?.describe(summary);
            }
        }
        for (chat, track) in &batch.tracks {
            self.chat(chat)?.track = (track.seq.0, track.ordinal);
        }
        for (chat, seq) in &batch.reads {
            let row = self.chat(chat)?;
            row.read_seq = row.read_seq.max(seq.0);
        }
        let Some(listed) = &batch.chat_list_complete else {
            return Ok(());
        };
        // A group that is not in the list is no longer ours. (A 1:1 chat stays one for ever.)
        for (chat, row) in self.store.chats()? {
            let missing = chat.is_group() && !listed.iter().any(|id| id == chat.as_str());
            if missing && !row.gone {
                self.chat(&chat)?.gone = true;
            }
        }
        Ok(())
    }

    fn marks(&mut self, batch: &Batch) -> Result<(), StoreError> {
        for Risen {
            chat,
            user,
            delivered,
            read,
        } in &batch.marks
        {
            self.mark(chat, user, *delivered, *read)?;
        }
        for summary in batch.chats.iter().filter(|summary| summary.read_seq > 0) {
            if let Ok(chat) = ChatId::new(&summary.chat) {
                let me = self.me.clone();
                self.mark(&chat, &me, Seq::NONE, Seq(summary.read_seq))?;
            }
        }
        Ok(())
    }

    fn mark(
        &mut self,
        chat: &ChatId,
        user: &UserId,
        delivered: Seq,
        read_up_to: Seq,
    ) -> Result<(), StoreError> {
        let at = (chat.clone(), user.clone());
        let old = match self.marks.get(&at) {
            Some(mark) => *mark,
            None => read(self.store.marks.get(mark_key(chat, user))?)?.unwrap_or_default(),
        };
        let new = Mark {
            delivered: old.delivered.max(delivered.0).max(read_up_to.0),
            read: old.read.max(read_up_to.0),
        };
        if new != old {
            self.marks.insert(at, new);
        }
        // Read on another device of ours: read here too.
        if user == self.me {
            let row = self.chat(chat)?;
            row.read_seq = row.read_seq.max(read_up_to.0);
        }
        Ok(())
    }

    fn unsent(&mut self, batch: &Batch) -> Result<(), StoreError> {
        for send in &batch.pending_put {
            if batch.pending_delete.contains(&send.id) {
                continue;
            }
            let row = serde_json::to_vec(&UnsentRow::of(send))?;
            self.rows.insert(&self.store.unsent, &send.id.0[..], row);
            self.written.unsent.push(send.clone());
        }
        for id in &batch.pending_delete {
            self.rows.remove(&self.store.unsent, &id.0[..]);
            self.written.answered.push(*id);
        }
        Ok(())
    }

    fn commit(mut self) -> Result<Written, StoreError> {
        for (chat, row) in self.chats {
            let bytes = serde_json::to_vec(&row)?;
            self.rows.insert(&self.store.chats, chat.as_str(), bytes);
            self.written.chats.push((chat, row));
        }
        for ((chat, user), mark) in self.marks {
            let bytes = serde_json::to_vec(&mark)?;
            self.rows
                .insert(&self.store.marks, mark_key(&chat, &user), bytes);
            self.written.marks.push((chat, user, mark));
        }
        self.rows.commit()?;
        Ok(self.written)
    }
}
