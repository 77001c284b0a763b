//! A Cassandra for tests, and keyspaces that are dropped again.
#![allow(clippy::unwrap_used, reason = "a test may panic, its makers too")]

use bytes::Bytes;
use hawser_engines::bridge::Bridge;
use hawser_engines::cassandra::{CassandraConfig, CassandraStore, Replication};
use hawser_engines::store::{ChatHead, Page, Store, StoreOp, StoredMessage};
use hawser_protocol::ids::{ChatId, Seq};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use std::sync::Arc;
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(60);

/// The nodes to test with; without any, says so.
pub(crate) fn nodes() -> Option<Vec<String>> {
    let nodes = std::env::var("HAWSER_TEST_CASSANDRA").unwrap_or_default();
    let nodes: Vec<String> = nodes
        .split(',')
        .filter(|n| !n.is_empty())
        .map(str::to_owned)
        .collect();
    if nodes.is_empty() {
        eprintln!(
            "SKIPPED: set HAWSER_TEST_CASSANDRA=host:port (`dev/engines up cassandra` starts one)"
        );
        return None;
    }
    Some(nodes)
}

/// A keyspace of one test of one run.
pub(crate) struct Keyspace {
    pub(crate) bridge: Arc<Bridge>,
    pub(crate) config: CassandraConfig,
    /// Beside the store, straight to the nodes.
    session: Arc<Session>,
}

impl Keyspace {
    pub(crate) fn new(nodes: &[String], test: &str) -> Self {
        let bridge = Bridge::start("cassandra-test").unwrap();
        let mut config = CassandraConfig::new(nodes.to_vec());
        config.keyspace = format!("t{}_{test}", std::process::id());
        let copies = u16::try_from(nodes.len().min(3)).unwrap();
        config.replication = Replication::Copies(copies);
        config.allow_unsafe = copies < 3;
        config.open_timeout = WAIT;
        let builder = SessionBuilder::new().known_nodes(nodes);
        let session = bridge.wait(WAIT, async move { builder.build().await });
        let session = Arc::new(session.unwrap().unwrap());
        Self {
            bridge,
            config,
            session,
        }
    }

    pub(crate) fn open(&self) -> CassandraStore {
        CassandraStore::open(self.config.clone(), self.bridge.clone()).unwrap()
    }

    /// What the store says when it does not open.
    pub(crate) fn refusal(&self, change: impl FnOnce(&mut CassandraConfig)) -> String {
        let mut config = self.config.clone();
        change(&mut config);
        let opened = CassandraStore::open(config, self.bridge.clone());
        opened.err().unwrap().to_string()
    }

    /// Runs a statement, past the store; `KS` is the keyspace. The first column of the first row, if a number.
    pub(crate) fn cql(&self, statement: &str) -> Option<i64> {
        let statement = statement.replace("KS", &self.config.keyspace);
        let session = self.session.clone();
        let answer = self.bridge.wait(WAIT, async move {
            let result = session.query_unpaged(statement, ()).await.unwrap();
            let rows = result.into_rows_result().ok()?;
            let (number,) = rows.maybe_first_row::<(i64,)>().unwrap()?;
            Some(number)
        });
        answer.unwrap()
    }
}

impl Drop for Keyspace {
    fn drop(&mut self) {
        self.cql("DROP KEYSPACE IF EXISTS KS");
    }
}

/// Message `ordinal` of a chat, its bytes from its number.
pub(crate) fn message(chat: &ChatId, ordinal: u64) -> StoreOp {
    StoreOp::Message {
        chat: chat.clone(),
        ordinal,
        seq: seq_of(ordinal),
        record: record_of(ordinal),
        envelopes: Bytes::new(),
    }
}

pub(crate) fn head(chat: &ChatId, ordinal: u64) -> StoreOp {
    let seq = seq_of(ordinal);
    StoreOp::Head {
        chat: chat.clone(),
        head: ChatHead { seq, ordinal },
    }
}

pub(crate) fn seq_of(ordinal: u64) -> Seq {
    Seq::new(1, ordinal * 10)
}

fn record_of(ordinal: u64) -> Bytes {
    Bytes::from(ordinal.to_le_bytes().repeat(25))
}

/// All messages of a chat are there, each once, up to `last`.
pub(crate) fn assert_whole(store: &dyn Store, chat: &ChatId, last: u64) {
    let page = Page {
        from: 0,
        to: u64::MAX,
        backwards: false,
        limit: usize::MAX,
        bytes_max: usize::MAX,
    };
    let expected: Vec<StoredMessage> = (1..=last)
        .map(|ordinal| StoredMessage {
            ordinal,
            seq: seq_of(ordinal),
            record: record_of(ordinal),
            envelopes: Bytes::new(),
        })
        .collect();
    assert!(
        store.messages(chat, page) == Ok(expected),
        "missing or doubled"
    );
    let seq = seq_of(last);
    assert_eq!(store.head(chat), Ok(ChatHead { seq, ordinal: last }));
}
