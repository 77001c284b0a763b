//! The client's local store: messages per chat, position in the delivery log, unsent queue, watermarks.
//!
//! What one step of the session changes is written in one atomic batch, so a kill leaves either all
//! of it or none, and an ack never runs ahead of what is kept.

mod rows;
#[cfg(test)]
pub(crate) mod tests;
mod write;

pub use rows::{Change, Chat, Mark, Member};
pub use write::Written;

use self::rows::{PositionRow, UnsentRow};
use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use hawser_protocol::client::{PendingSend, Position, Saved, Track};
use hawser_protocol::frame::FrameError;
use hawser_protocol::ids::{ChatId, Seq, UserId};
use hawser_protocol::limits::LANES_MAX;
use hawser_protocol::message::{MessageRecord, MessageType};
use serde::Deserialize;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Format of the directory; another one is refused.
const FORMAT: &str = "hawser-client 1";
/// Unread messages are counted up to this.
pub const UNREAD_COUNT_MAX: usize = 100;

/// Why the local store cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database's words.
    #[error("the local store failed: {0}")]
    Database(#[from] fjall::Error),
    /// The directory cannot be made or locked.
    #[error("the directory {path} of the local store cannot be used: {source}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// Another program has it open.
    #[error(
        "{0} is in use by another hawser: one device is one program (choose another with --device)"
    )]
    InUse(PathBuf),
    /// A row that cannot be read.
    #[error("the local store holds an unreadable row: {0}")]
    Row(#[from] serde_json::Error),
    /// A message that cannot be read.
    #[error("the local store holds an unreadable message: {0}")]
    Message(#[from] FrameError),
    /// An id that is none.
    #[error("the local store holds a bad id: {0}")]
    Id(String),
    /// Written by another version.
    #[error(
        "the local store was written as `{found}`, this version reads `{FORMAT}`; move the directory away to start afresh, history is fetched again"
    )]
    Format {
        /// What the store says.
        found: String,
    },
}

/// The local store of one (user, device). Reading and writing may happen on different threads.
pub struct Store {
    db: Database,
    meta: Keyspace,
    chats: Keyspace,
    messages: Keyspace,
    unsent: Keyspace,
    marks: Keyspace,
    /// Held while the store is open.
    _lock: File,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Store {
    /// Opens or creates the store in a directory of its own. Memory: some 16 MiB at most.
    ///
    /// # Errors
    /// The disk's, another program that has it open, or a directory of another version.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let path = || dir.to_owned();
        let directory = |source| StoreError::Directory {
            path: path(),
            source,
        };
        std::fs::create_dir_all(dir).map_err(directory)?;
        let lock = File::create(dir.join("in-use")).map_err(directory)?;
        lock.try_lock().map_err(|_| StoreError::InUse(path()))?;
        let db = Database::builder(dir.join("rows"))
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
            _lock: lock,
        })
    }

    /// What the session of `me` starts with.
    ///
    /// # Errors
    /// The disk's.
    pub fn load(&self, me: &UserId) -> Result<Saved, StoreError> {
        let mut saved = Saved {
            position: self.position()?,
            pending: self.unsent()?,
            ..Saved::default()
        };
        if let Some(skew) = self.meta.get("skew_ms")? {
            saved.skew_ms = String::from_utf8_lossy(&skew).parse().unwrap_or(0);
        }
        for (chat, row) in self.chats()? {
            let (seq, ordinal) = (Seq(row.track.0), row.track.1);
            if seq > Seq::NONE {
                saved.tracks.insert(chat.clone(), Track { seq, ordinal });
            }
            let confirmed = self.mark(&chat, me)?.read;
            if row.read_seq > confirmed {
                saved.unconfirmed_reads.insert(chat, Seq(row.read_seq));
            }
        }
        Ok(saved)
    }

    /// Where this device stands; `None` when it is fresh.
    ///
    /// # Errors
    /// The disk's.
    pub fn position(&self) -> Result<Option<Position>, StoreError> {
        let row: Option<PositionRow> = read(self.meta.get("position")?)?;
        Ok(row.map(PositionRow::into_position))
    }

    /// Every chat, by id.
    ///
    /// # Errors
    /// The disk's.
    pub fn chats(&self) -> Result<Vec<(ChatId, Chat)>, StoreError> {
        let mut out = Vec::new();
        for row in self.chats.iter() {
            let (key, value) = row.into_inner()?;
            let text = String::from_utf8_lossy(&key);
            let id = ChatId::new(&text).map_err(|_| StoreError::Id(text.into_owned()))?;
            out.push((id, serde_json::from_slice(&value)?));
        }
        Ok(out)
    }

    /// The chats that one conversation is made of: the chat, and the lanes of a group that are known, by their number.
    ///
    /// # Errors
    /// The disk's.
    pub fn lanes(&self, chat: &ChatId) -> Result<Vec<ChatId>, StoreError> {
        let base = chat.base();
        let mut lanes = vec![base.clone()];
        for lane in 1..LANES_MAX {
            match base.in_lane(lane) {
                Ok(lane) if self.chats.contains_key(lane.as_str())? => lanes.push(lane),
                Ok(_) => {}
                Err(_) => break, // no group
            }
        }
        Ok(lanes)
    }

    /// One chat; default when unknown.
    ///
    /// # Errors
    /// The disk's.
    pub fn chat(&self, chat: &ChatId) -> Result<Chat, StoreError> {
        Ok(read(self.chats.get(chat.as_str())?)?.unwrap_or_default())
    }

    /// Messages of a chat with an ordinal below `before`, the newest `limit`, oldest first.
    ///
    /// # Errors
    /// The disk's.
    pub fn messages(
        &self,
        chat: &ChatId,
        before: u64,
        limit: usize,
    ) -> Result<Vec<MessageRecord>, StoreError> {
        let range = message_key(chat, 0)..message_key(chat, before);
        let mut out = Vec::new();
        for row in self.messages.range(range).rev().take(limit) {
            out.push(MessageRecord::decode(&row.into_inner()?.1.to_vec().into())?);
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

    /// Messages of others that `me` has not read, counted up to [`UNREAD_COUNT_MAX`].
    ///
    /// # Errors
    /// The disk's.
    pub fn unread(&self, chat: &ChatId, me: &UserId) -> Result<usize, StoreError> {
        let read_seq = self.chat(chat)?.read_seq;
        let range = message_key(chat, 0)..=message_key(chat, u64::MAX);
        let mut count = 0;
        for row in self.messages.range(range).rev().take(4 * UNREAD_COUNT_MAX) {
            let record = MessageRecord::decode(&row.into_inner()?.1.to_vec().into())?;
            if record.seq.0 <= read_seq || count >= UNREAD_COUNT_MAX {
                break;
            }
            let told = record.message_type != MessageType::MEMBERSHIP;
            count += usize::from(told && record.sender != *me);
        }
        Ok(count)
    }

    /// The unsent queue, oldest first; those that were refused for good are among it.
    ///
    /// # Errors
    /// The disk's.
    pub fn unsent(&self) -> Result<Vec<PendingSend>, StoreError> {
        let mut out = Vec::new();
        for row in self.unsent.iter() {
            let row: UnsentRow = serde_json::from_slice(&row.into_inner()?.1)?;
            out.push(row.into_send()?);
        }
        out.sort_by_key(|send| send.number);
        Ok(out)
    }

    /// Everyone's watermarks in a chat.
    ///
    /// # Errors
    /// The disk's.
    pub fn marks(&self, chat: &ChatId) -> Result<Vec<(String, Mark)>, StoreError> {
        let prefix = format!("{chat}\0");
        let mut out = Vec::new();
        for row in self.marks.prefix(&prefix) {
            let (key, value) = row.into_inner()?;
            let user = key.get(prefix.len()..).unwrap_or_default();
            let user = String::from_utf8_lossy(user).into_owned();
            out.push((user, serde_json::from_slice(&value)?));
        }
        Ok(out)
    }

    /// A user's watermarks in a chat; 0 where nothing is known.
    ///
    /// # Errors
    /// The disk's.
    pub fn mark(&self, chat: &ChatId, user: &UserId) -> Result<Mark, StoreError> {
        Ok(read(self.marks.get(mark_key(chat, user))?)?.unwrap_or_default())
    }
}

fn message_key(chat: &ChatId, ordinal: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(chat.as_str().len() + 9);
    key.extend_from_slice(chat.as_str().as_bytes());
    key.push(0);
    key.extend_from_slice(&ordinal.to_be_bytes());
    key
}

fn mark_key(chat: &ChatId, user: &UserId) -> String {
    format!("{chat}\0{user}")
}

fn read<T: for<'a> Deserialize<'a>>(row: Option<fjall::Slice>) -> Result<Option<T>, StoreError> {
    row.map(|bytes| serde_json::from_slice(&bytes))
        .transpose()
        .map_err(StoreError::from)
}
