//! The client's local store: messages per chat, position in the delivery log, unsent queue, watermarks.
//!
//! What one server frame changes is written in one atomic batch, so a kill leaves either all of it
//! or none, and an ack never runs ahead of what is kept.

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use hawser_protocol::ids::{ChatId, ClientMsgId, Seq, UserId};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Format of the directory; another one is refused.
const FORMAT: &str = "hawser-client 1";

/// Where this device stands in its delivery log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Sealed by the server; sent back in Hello.
    pub resume_token: Vec<u8>,
    /// Last offset that is wholly kept here.
    pub offset: Option<u64>,
    /// Set while a sync is under way: the head to adopt when every chat is synced.
    pub syncing_from: Option<u64>,
}

/// A conversation as this device knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chat {
    /// Display name (groups; empty for 1:1).
    pub name: String,
    /// Members as last told, at most 64.
    pub members: Vec<String>,
    /// Everything up to this ordinal is kept (or was never visible).
    pub synced_ordinal: u64,
    /// Largest ordinal known.
    pub last_ordinal: u64,
    /// Largest seq known.
    pub last_seq: u64,
    /// Read here up to this seq.
    pub read_seq: u64,
    /// Stored time of the newest message, milliseconds.
    pub last_ts_ms: u64,
}

/// What others have received and read of a chat.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Delivered up to.
    pub delivered: u64,
    /// Read up to.
    pub read: u64,
}

/// A message that the server has not answered for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsent {
    /// Order of writing.
    pub number: u64,
    /// The dedup key of every retry.
    pub client_msg_id: [u8; 16],
    /// Where to.
    pub chat: String,
    /// Kind of payload.
    pub message_type: u8,
    /// Payload.
    pub body: Vec<u8>,
    /// When it was written, the client's clock, milliseconds.
    pub send_ts_ms: u64,
    /// Error code of a refusal for good (shown to the user, not retried); 0 while waiting.
    pub refused: u16,
}

/// Why the local store cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database's words.
    #[error("the local store failed: {0}")]
    Database(#[from] fjall::Error),
    /// A row that cannot be read.
    #[error("the local store holds an unreadable row: {0}")]
    Row(#[from] serde_json::Error),
    /// Written by another version.
    #[error(
        "the local store was written as `{found}`, this version reads `{FORMAT}`; move the directory away to start afresh, history is fetched again"
    )]
    Format {
        /// What the store says.
        found: String,
    },
}

/// The local store of one (user, device).
pub struct Store {
    db: Database,
    meta: Keyspace,
    chats: Keyspace,
    messages: Keyspace,
    unsent: Keyspace,
    marks: Keyspace,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Store {
    /// Opens or creates the store in a directory of its own.
    ///
    /// # Errors
    /// The disk's, or a directory of another version.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let db = Database::builder(dir)
            .cache_size(4 << 20)
            .worker_threads(1)
            .open()?;
        let space = |name| db.keyspace(name, KeyspaceCreateOptions::default);
        let (meta, chats, messages) = (space("meta")?, space("chats")?, space("messages")?);
        let (unsent, marks) = (space("unsent")?, space("marks")?);
        match meta.get("format")? {
            Some(found) if *found != *FORMAT.as_bytes() => {
                return Err(StoreError::Format {
                    found: String::from_utf8_lossy(&found).into_owned(),
                });
            }
            Some(_) => {}
            None => meta.insert("format", FORMAT)?,
        }
        Ok(Self {
            db,
            meta,
            chats,
            messages,
            unsent,
            marks,
        })
    }

    /// Starts an atomic change.
    #[must_use]
    pub fn change(&self) -> Change<'_> {
        Change {
            store: self,
            batch: self.db.batch(),
        }
    }

    /// Where this device stands.
    ///
    /// # Errors
    /// The disk's.
    pub fn position(&self) -> Result<Position, StoreError> {
        Ok(read(self.meta.get("position")?)?.unwrap_or_default())
    }

    /// Every chat, by id.
    ///
    /// # Errors
    /// The disk's.
    pub fn chats(&self) -> Result<Vec<(ChatId, Chat)>, StoreError> {
        let mut out = Vec::new();
        for row in self.chats.iter() {
            let (key, value) = row.into_inner()?;
            if let Some(id) = std::str::from_utf8(&key)
                .ok()
                .and_then(|t| ChatId::new(t).ok())
            {
                out.push((id, serde_json::from_slice(&value)?));
            }
        }
        Ok(out)
    }

    /// One chat; default when unknown.
    ///
    /// # Errors
    /// The disk's.
    pub fn chat(&self, chat: &ChatId) -> Result<Chat, StoreError> {
        Ok(read(self.chats.get(chat.as_str())?)?.unwrap_or_default())
    }

    /// Encoded message records of a chat with ordinal below `before`, the newest `limit`, oldest first.
    ///
    /// # Errors
    /// The disk's.
    pub fn messages(
        &self,
        chat: &ChatId,
        before: u64,
        limit: usize,
    ) -> Result<Vec<Bytes>, StoreError> {
        let range = message_key(chat, 0)..message_key(chat, before);
        let mut out = Vec::new();
        for row in self.messages.range(range).rev().take(limit) {
            out.push(Bytes::copy_from_slice(&row.into_inner()?.1));
        }
        out.reverse();
        Ok(out)
    }

    /// Whether a message is kept.
    ///
    /// # Errors
    /// The disk's.
    pub fn has_message(&self, chat: &ChatId, ordinal: u64) -> Result<bool, StoreError> {
        Ok(self.messages.contains_key(message_key(chat, ordinal))?)
    }

    /// The unsent queue, oldest first.
    ///
    /// # Errors
    /// The disk's.
    pub fn unsent(&self) -> Result<Vec<Unsent>, StoreError> {
        let mut out: Vec<Unsent> = Vec::new();
        for row in self.unsent.iter() {
            out.push(serde_json::from_slice(&row.into_inner()?.1)?);
        }
        out.sort_by_key(|u| u.number);
        Ok(out)
    }

    /// Watermarks of a chat.
    ///
    /// # Errors
    /// The disk's.
    pub fn marks(&self, chat: &ChatId) -> Result<Vec<(String, Mark)>, StoreError> {
        let prefix = format!("{chat}\0");
        let mut out = Vec::new();
        for row in self.marks.prefix(&prefix) {
            let (key, value) = row.into_inner()?;
            let user =
                String::from_utf8_lossy(key.get(prefix.len()..).unwrap_or_default()).into_owned();
            out.push((user, serde_json::from_slice(&value)?));
        }
        Ok(out)
    }
}

/// One atomic change of the local store.
pub struct Change<'a> {
    store: &'a Store,
    batch: fjall::OwnedWriteBatch,
}

impl std::fmt::Debug for Change<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Change").finish_non_exhaustive()
    }
}

impl Change<'_> {
    /// Replaces the position.
    ///
    /// # Errors
    /// Never in practice; the encoder's.
    pub fn position(&mut self, position: &Position) -> Result<&mut Self, StoreError> {
        self.batch
            .insert(&self.store.meta, "position", serde_json::to_vec(position)?);
        Ok(self)
    }

    /// Keeps a message (the same ordinal again replaces the same row).
    pub fn message(&mut self, chat: &ChatId, ordinal: u64, record: &[u8]) -> &mut Self {
        self.batch
            .insert(&self.store.messages, message_key(chat, ordinal), record);
        self
    }

    /// Replaces a chat's row.
    ///
    /// # Errors
    /// Never in practice; the encoder's.
    pub fn chat(&mut self, chat: &ChatId, row: &Chat) -> Result<&mut Self, StoreError> {
        self.batch
            .insert(&self.store.chats, chat.as_str(), serde_json::to_vec(row)?);
        Ok(self)
    }

    /// Raises watermarks (merges by maximum).
    ///
    /// # Errors
    /// The disk's.
    pub fn mark(
        &mut self,
        chat: &ChatId,
        user: &UserId,
        delivered: Seq,
        read_up_to: Seq,
    ) -> Result<&mut Self, StoreError> {
        let key = format!("{chat}\0{user}");
        let old: Mark = read(self.store.marks.get(&key)?)?.unwrap_or_default();
        let new = Mark {
            delivered: old.delivered.max(delivered.0).max(read_up_to.0),
            read: old.read.max(read_up_to.0),
        };
        self.batch
            .insert(&self.store.marks, key, serde_json::to_vec(&new)?);
        Ok(self)
    }

    /// Puts (or replaces) an unsent message.
    ///
    /// # Errors
    /// Never in practice; the encoder's.
    pub fn put_unsent(&mut self, unsent: &Unsent) -> Result<&mut Self, StoreError> {
        self.batch.insert(
            &self.store.unsent,
            &unsent.client_msg_id[..],
            serde_json::to_vec(unsent)?,
        );
        Ok(self)
    }

    /// Removes an unsent message: it was answered.
    pub fn remove_unsent(&mut self, id: &ClientMsgId) -> &mut Self {
        self.batch.remove(&self.store.unsent, &id.0[..]);
        self
    }

    /// Writes the change and makes it durable: kill -9 cannot take it back.
    ///
    /// # Errors
    /// The disk's.
    pub fn commit(self) -> Result<(), StoreError> {
        self.batch.durability(Some(PersistMode::Buffer)).commit()?;
        Ok(())
    }
}

fn message_key(chat: &ChatId, ordinal: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(chat.as_str().len() + 9);
    key.extend_from_slice(chat.as_str().as_bytes());
    key.push(0);
    key.extend_from_slice(&ordinal.to_be_bytes());
    key
}

fn read<T: for<'a> Deserialize<'a>>(row: Option<fjall::Slice>) -> Result<Option<T>, StoreError> {
    row.map(|bytes| serde_json::from_slice(&bytes))
        .transpose()
        .map_err(StoreError::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat() -> ChatId {
        ChatId::new("dm:alice:bob").expect("id")
    }

    #[test]
    fn a_change_is_kept_whole_and_messages_page_backwards() {
        let dir = tempfile::tempdir().expect("dir");
        {
            let store = Store::open(dir.path()).expect("open");
            let mut change = store.change();
            for ordinal in 1..=300_u64 {
                change.message(&chat(), ordinal, &ordinal.to_le_bytes());
            }
            change
                .position(&Position {
                    offset: Some(9),
                    ..Position::default()
                })
                .expect("put");
            change.commit().expect("commit");
        }
        let store = Store::open(dir.path()).expect("reopen");
        assert_eq!(store.position().expect("read").offset, Some(9));
        let page = store.messages(&chat(), u64::MAX, 2).expect("read");
        assert_eq!(
            page,
            [
                Bytes::copy_from_slice(&299_u64.to_le_bytes()),
                Bytes::copy_from_slice(&300_u64.to_le_bytes())
            ]
        );
        let page = store.messages(&chat(), 299, 1).expect("read");
        assert_eq!(page, [Bytes::copy_from_slice(&298_u64.to_le_bytes())]);
        assert!(
            store.has_message(&chat(), 1).expect("read")
                && !store.has_message(&chat(), 301).expect("read")
        );
    }

    #[test]
    fn watermarks_only_rise_and_read_implies_delivered() {
        let dir = tempfile::tempdir().expect("dir");
        let store = Store::open(dir.path()).expect("open");
        let bob = UserId::new("bob").expect("id");
        for (delivered, read_up_to) in [(5, 0), (3, 4), (0, 9), (1, 1)] {
            let mut change = store.change();
            change
                .mark(&chat(), &bob, Seq(delivered), Seq(read_up_to))
                .expect("mark");
            change.commit().expect("commit");
        }
        assert_eq!(
            store.marks(&chat()).expect("read"),
            [(
                "bob".to_owned(),
                Mark {
                    delivered: 9,
                    read: 9
                }
            )]
        );
    }

    #[test]
    fn the_unsent_queue_keeps_its_order_across_restarts() {
        let dir = tempfile::tempdir().expect("dir");
        let unsent = |number: u64, id: u8| Unsent {
            number,
            client_msg_id: [id; 16],
            chat: chat().to_string(),
            message_type: 1,
            body: vec![id],
            send_ts_ms: 0,
            refused: 0,
        };
        {
            let store = Store::open(dir.path()).expect("open");
            for (number, id) in [(1, 9), (2, 1), (3, 5)] {
                let mut change = store.change();
                change.put_unsent(&unsent(number, id)).expect("put");
                change.commit().expect("commit");
            }
            let mut change = store.change();
            change.remove_unsent(&ClientMsgId([1; 16]));
            change.commit().expect("commit");
        }
        let left = Store::open(dir.path())
            .expect("reopen")
            .unsent()
            .expect("read");
        assert_eq!(left, [unsent(1, 9), unsent(3, 5)]);
    }

    #[test]
    fn a_store_of_another_version_is_refused() {
        let dir = tempfile::tempdir().expect("dir");
        drop(Store::open(dir.path()).expect("open"));
        {
            let db = Database::builder(dir.path()).open().expect("raw");
            let meta = db
                .keyspace("meta", KeyspaceCreateOptions::default)
                .expect("meta");
            meta.insert("format", "hawser-client 99").expect("write");
        }
        let err = Store::open(dir.path()).expect_err("newer");
        assert!(err.to_string().contains("hawser-client 99"), "{err}");
    }
}
