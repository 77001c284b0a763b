//! The database: one fjall database, six keyspaces, their keys, and an atomic write over them.

use super::config::{Durability, EmbeddedConfig};
use crate::log::Topic;
use ahash::AHashMap;
use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode,
    Slice,
};
use std::path::Path;

/// One keyspace each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    /// (topic, partition, offset) → record.
    Log,
    /// (chat, ordinal) → message.
    Messages,
    /// Heads, seq index, members, chats of a user, chat names, receipts.
    Rows,
    /// Dedup rows and their time index.
    Dedup,
    /// Users, phones, devices, groups.
    Directory,
    /// The engine's own: partitions, generations, positions of groups, the last batch.
    Meta,
}

impl Table {
    pub(super) const ALL: [Self; 6] = [
        Self::Log,
        Self::Messages,
        Self::Rows,
        Self::Dedup,
        Self::Directory,
        Self::Meta,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Messages => "messages",
            Self::Rows => "rows",
            Self::Dedup => "dedup",
            Self::Directory => "directory",
            Self::Meta => "meta",
        }
    }

    fn options(self, buffer_bytes: u64) -> KeyspaceCreateOptions {
        let base = KeyspaceCreateOptions::default();
        match self {
            // Large values once written are not rewritten by compactions, only their keys are.
            Self::Log | Self::Messages => {
                let apart = KvSeparationOptions::default().compression(CompressionType::None);
                base.max_memtable_size(buffer_bytes)
                    .with_kv_separation(Some(apart))
            }
            Self::Rows | Self::Dedup => base.max_memtable_size(buffer_bytes / 2),
            Self::Directory | Self::Meta => base.max_memtable_size(buffer_bytes / 4),
        }
    }
}

/// The open database.
pub(super) struct Tables {
    db: Database,
    spaces: Vec<Keyspace>,
    persist: PersistMode,
}

impl Tables {
    /// Opens or creates. fjall can panic on metadata that it cannot parse: the caller catches that.
    pub(super) fn open(path: &Path, config: &EmbeddedConfig) -> fjall::Result<Self> {
        let db = Database::builder(path)
            .cache_size(config.cache_bytes)
            .journal_compression(CompressionType::None)
            .max_journaling_size(256 << 20)
            .max_cached_files(Some(512))
            .worker_threads(2)
            .open()?;
        let spaces = Table::ALL
            .iter()
            .map(|table| db.keyspace(table.name(), || table.options(config.write_buffer_bytes)))
            .collect::<fjall::Result<Vec<_>>>()?;
        Ok(Self {
            db,
            spaces,
            persist: match config.durability {
                Durability::Fsync => PersistMode::SyncAll,
                Durability::Os => PersistMode::Buffer,
            },
        })
    }

    pub(super) fn space(&self, table: Table) -> &Keyspace {
        &self.spaces[table as usize]
    }

    /// A view in which every batch is there whole or not at all.
    pub(super) fn snapshot(&self) -> fjall::Snapshot {
        self.db.snapshot()
    }

    /// Makes everything written durable, whatever the configured durability.
    pub(super) fn sync(&self) -> fjall::Result<()> {
        self.db.persist(PersistMode::SyncAll)
    }

    /// Reads one row as last committed.
    pub(super) fn get(&self, table: Table, key: &[u8]) -> fjall::Result<Option<Slice>> {
        self.space(table).get(key)
    }
}

/// An atomic write over the tables that reads its own writes. The last write of a key wins.
pub(super) struct Txn<'t> {
    tables: &'t Tables,
    rows: [AHashMap<Vec<u8>, Option<Slice>>; Table::ALL.len()],
    undo: Vec<(Table, Vec<u8>, Option<Option<Slice>>)>,
}

impl<'t> Txn<'t> {
    pub(super) fn new(tables: &'t Tables) -> Self {
        Self {
            tables,
            rows: Default::default(),
            undo: Vec::new(),
        }
    }

    pub(super) fn tables(&self) -> &'t Tables {
        self.tables
    }

    pub(super) fn get(&self, table: Table, key: &[u8]) -> fjall::Result<Option<Slice>> {
        match self.rows[table as usize].get(key) {
            Some(written) => Ok(written.clone()),
            None => self.tables.get(table, key),
        }
    }

    pub(super) fn put(&mut self, table: Table, key: Vec<u8>, value: impl Into<Slice>) {
        self.set(table, key, Some(value.into()));
    }

    pub(super) fn remove(&mut self, table: Table, key: Vec<u8>) {
        self.set(table, key, None);
    }

    fn set(&mut self, table: Table, key: Vec<u8>, value: Option<Slice>) {
        let before = self.rows[table as usize].insert(key.clone(), value);
        self.undo.push((table, key, before));
    }

    /// From here on `rollback` undoes.
    pub(super) fn savepoint(&mut self) {
        self.undo.clear();
    }

    /// Undoes everything since the last savepoint.
    pub(super) fn rollback(&mut self) {
        while let Some((table, key, before)) = self.undo.pop() {
            match before {
                Some(value) => self.rows[table as usize].insert(key, value),
                None => self.rows[table as usize].remove(&key),
            };
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.iter().all(|rows| rows.is_empty())
    }

    /// Writes all or nothing; durable (as configured) when it returns. After an error the outcome
    /// is unknown and the database takes no more writes until it is opened anew.
    pub(super) fn commit(self) -> fjall::Result<()> {
        let mode = self.tables.persist;
        self.write(mode)
    }

    /// As `commit`, but becomes durable only with the next commit: for deletions.
    pub(super) fn commit_lazily(self) -> fjall::Result<()> {
        self.write(PersistMode::Buffer)
    }

    /// As `commit`, and durable whatever is configured.
    pub(super) fn commit_synced(self) -> fjall::Result<()> {
        self.write(PersistMode::SyncAll)
    }

    fn write(self, mode: PersistMode) -> fjall::Result<()> {
        let mut batch = self.tables.db.batch().durability(Some(mode));
        for (table, rows) in Table::ALL.into_iter().zip(self.rows) {
            let space = self.tables.space(table);
            for (key, value) in rows {
                match value {
                    Some(value) => batch.insert(space, key, value),
                    None => batch.remove(space, key),
                }
            }
        }
        batch.commit()
    }
}

/// Number of a topic on disk; `None` for those that never touch it.
pub(super) fn topic_id(topic: Topic) -> Option<u8> {
    match topic {
        Topic::ChatMessages => Some(1),
        Topic::Delivery => Some(2),
        Topic::Cursors => Some(3),
        Topic::DeadLetters => Some(4),
        Topic::AuditLogs => Some(5),
        Topic::SystemNotifications => Some(6),
        Topic::MediaEvents => Some(7),
        Topic::GroupMembers => Some(8),
        Topic::Leases => Some(9),
        Topic::Shards => Some(10),
        Topic::ChatTyping | Topic::ChatPresence | Topic::Bodies => None,
    }
}

/// Topics on disk, in the order of their numbers.
pub(super) const DURABLE: [Topic; 10] = [
    Topic::ChatMessages,
    Topic::Delivery,
    Topic::Cursors,
    Topic::DeadLetters,
    Topic::AuditLogs,
    Topic::SystemNotifications,
    Topic::MediaEvents,
    Topic::GroupMembers,
    Topic::Leases,
    Topic::Shards,
];

/// Key of a log record: topic 1 | partition 4 | offset 8, big-endian, so that they sort.
pub(super) fn log_key(topic: u8, partition: u32, offset: u64) -> [u8; 13] {
    let mut key = [0; 13];
    key[0] = topic;
    key[1..5].copy_from_slice(&partition.to_be_bytes());
    key[5..].copy_from_slice(&offset.to_be_bytes());
    key
}

/// The offset in a log key.
pub(super) fn log_key_offset(key: &[u8]) -> Option<u64> {
    let offset: [u8; 8] = key.get(5..13)?.try_into().ok()?;
    (key.len() == 13).then(|| u64::from_be_bytes(offset))
}
