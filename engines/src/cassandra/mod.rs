//! The store on Apache Cassandra, through the scylla driver.
//!
//! Rows are immutable, or merge by a timestamp that is a place in the log, so that every write may be repeated, by us
//! after a time-out and by ingest after a crash. No lightweight transactions, no counters, no reads before writes.

mod breaker;
mod config;
mod error;
mod open;
mod pace;
mod puts;
mod read;
mod rows;
mod runner;
mod schema;
mod statements;
mod write;

pub use config::{CassandraConfig, DEDUP_TTL_S_MIN, Levels, Replication, level};
pub use error::CassandraError;
pub use runner::CassandraStats;
pub use schema::VERSION as SCHEMA_VERSION;
pub use scylla::statement::Consistency;

use crate::bridge::Bridge;
use crate::store::{
    Answer, Ask, ChatHead, ChatInfo, DedupRow, Membership, Page, ReceiptRow, Store, StoreError,
    StoreOp, Stored, StoredMessage,
};
use error::unavailable;
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, Seq, UserId};
use runner::Runner;
use statements::Statements;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// The table of messages, for what people are told.
const MESSAGE: &str = "messages_by_chat";
/// Beyond the deadline of an operation, for the way to the runtime and back.
const GRACE: Duration = Duration::from_secs(2);

/// The store. Calls block until Cassandra has answered, at most for the deadline of each step.
pub struct CassandraStore {
    inner: Arc<Inner>,
    bridge: Arc<Bridge>,
    patience: Duration,
}

/// What tasks share.
struct Inner {
    runner: Runner,
    statements: Statements,
}

impl CassandraStore {
    /// Connects, makes or checks the tables, and prepares the statements. Waits for Cassandra at most
    /// `open_timeout`.
    ///
    /// # Errors
    /// See [`CassandraError`].
    pub fn open(config: CassandraConfig, bridge: Arc<Bridge>) -> Result<Self, CassandraError> {
        config.check()?;
        // An operation takes its turn, then two phases, or some pages.
        let patience = config.deadline * 4 + GRACE;
        let longest = config.open_timeout + Duration::from_secs(60);
        let opened = bridge.wait(longest, async move { open::open(&config).await });
        let inner = opened.map_err(|e| CassandraError::Setup(e.to_string()))??;
        Ok(Self {
            inner: Arc::new(inner),
            bridge,
            patience,
        })
    }

    /// What has been asked of Cassandra so far.
    #[must_use]
    pub fn stats(&self) -> CassandraStats {
        self.inner.runner.stats()
    }

    /// Why nothing is asked of Cassandra now; `None` when it answers.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.inner.runner.trouble()
    }

    /// Runs one call on the runtime and waits for it.
    fn call<F, Made, T>(&self, make: F) -> Result<T, StoreError>
    where
        F: FnOnce(Arc<Inner>) -> Made,
        Made: Future<Output = Result<T, StoreError>> + Send + 'static,
        T: Send + 'static,
    {
        let future = make(Arc::clone(&self.inner));
        let answered = self.bridge.wait(self.patience, future);
        answered.unwrap_or_else(|elapsed| Err(unavailable(format!("Cassandra: {elapsed}"))))
    }
}

impl Store for CassandraStore {
    fn write(&self, ops: &[StoreOp]) -> Result<(), StoreError> {
        if ops.is_empty() {
            return Ok(());
        }
        let ops = ops.to_vec();
        self.call(|inner| async move { inner.write(&ops).await })
    }

    fn write_later(&self, ops: Vec<StoreOp>, stored: Stored) {
        let inner = Arc::clone(&self.inner);
        self.bridge
            .spawn(async move { stored(inner.write(&ops).await) });
    }

    fn ask(&self, asks: &[Ask]) -> Result<Vec<Answer>, StoreError> {
        if asks.is_empty() {
            return Ok(Vec::new());
        }
        let asks = asks.to_vec();
        self.call(|inner| async move { inner.ask(&asks).await })
    }

    fn head(&self, chat: &ChatId) -> Result<ChatHead, StoreError> {
        let chat = chat.clone();
        self.call(|inner| async move { inner.head(&chat).await })
    }

    fn head_before(&self, chat: &ChatId, seq: Seq) -> Result<ChatHead, StoreError> {
        let chat = chat.clone();
        self.call(|inner| async move { inner.head_before(&chat, seq).await })
    }

    fn dedup(
        &self,
        user: &UserId,
        device: &DeviceId,
        chat: &ChatId,
        id: &ClientMsgId,
    ) -> Result<Option<DedupRow>, StoreError> {
        let (user, device, chat, id) = (user.clone(), device.clone(), chat.clone(), *id);
        self.call(|inner| async move { inner.sent(&user, &device, &chat, &id).await })
    }

    fn messages(&self, chat: &ChatId, page: Page) -> Result<Vec<StoredMessage>, StoreError> {
        let chat = chat.clone();
        self.call(|inner| async move { inner.messages(&chat, page).await })
    }

    fn truncated_before(&self, chat: &ChatId) -> Result<u64, StoreError> {
        let chat = chat.clone();
        self.call(|inner| async move { inner.truncated_before(&chat).await })
    }

    fn chat(&self, chat: &ChatId) -> Result<Option<ChatInfo>, StoreError> {
        let chat = chat.clone();
        self.call(|inner| async move { inner.chat(&chat).await })
    }

    fn members(&self, chat: &ChatId) -> Result<Vec<Membership>, StoreError> {
        let chat = chat.clone();
        self.call(|inner| async move { inner.members(&chat).await })
    }

    fn member(&self, chat: &ChatId, user: &UserId) -> Result<Option<Membership>, StoreError> {
        let (chat, user) = (chat.clone(), user.clone());
        self.call(|inner| async move { inner.member(&chat, &user).await })
    }

    fn chats_of(
        &self,
        user: &UserId,
        after: Option<&ChatId>,
        limit: usize,
    ) -> Result<Vec<ChatId>, StoreError> {
        let (user, after) = (user.clone(), after.cloned());
        self.call(|inner| async move { inner.chats_of(&user, after.as_ref(), limit).await })
    }

    fn receipts(&self, chat: &ChatId) -> Result<Vec<ReceiptRow>, StoreError> {
        let chat = chat.clone();
        self.call(|inner| async move { inner.receipts(&chat).await })
    }
}
