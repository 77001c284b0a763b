//! Records of `leases` that are about ownership. JSON, for people who read the topic; unknown fields are passed over.

use super::Kind;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// A longer value is none of ours.
const VALUE_BYTES_MAX: usize = 4_096;
/// Bytes of a node's name.
const NAME_BYTES_MAX: usize = 64;
const NODE: &str = "node/";

/// A node's name: `node.name` of its configuration. One process has it at a time.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(Arc<str>);

/// Why a text is no name of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a node's name is 1 to {NAME_BYTES_MAX} characters of [A-Za-z0-9_.-]")]
pub struct NodeNameError;

impl NodeName {
    /// Checks alphabet and length.
    ///
    /// # Errors
    /// See [`NodeNameError`].
    pub fn new(text: &str) -> Result<Self, NodeNameError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        if (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain) {
            return Ok(Self(text.into()));
        }
        Err(NodeNameError)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl TryFrom<String> for NodeName {
    type Error = NodeNameError;

    fn try_from(text: String) -> Result<Self, NodeNameError> {
        Self::new(&text)
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.0.as_ref().to_owned()
    }
}

/// What a node is ready for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Owns, and takes more.
    Active,
    /// Gives away what it owns, and takes nothing.
    Draining,
    /// Owns nothing: it left, or others have missed its beats.
    Gone,
}

/// A node's beat, its good-bye, or another's word that it is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Random, new for every start of the process and after every time it was called gone.
    pub incarnation: u64,
    /// The rank of this life of the name: of two the higher counts. It is above those of all lives that were before, and as
    /// high as the log was long when it began; it rises within a life to outrank what is not so and may be all that a reader
    /// finds.
    #[serde(default)]
    pub replaces: u64,
    /// Rises with every record of an incarnation. Where another calls it gone: the last that was seen.
    pub beat: u64,
    /// What it is ready for.
    pub state: NodeState,
    /// Relative share of the partitions; 0: takes none.
    pub weight: u32,
    /// Whether it owns partitions of `delivery`.
    #[serde(default)]
    pub edge: bool,
    /// Whether it owns partitions of `chat-messages`.
    #[serde(default)]
    pub ingest: bool,
    /// Where clients connect over TLS, `wss://host:port/v1/ws`; empty: nowhere.
    #[serde(default)]
    pub url: String,
    /// Where those connect that came without TLS; empty: nowhere.
    #[serde(default)]
    pub plain_url: String,
    /// The admin listener as other nodes reach it, `host:port`; empty: not.
    #[serde(default)]
    pub link: String,
    /// Partition of `bodies` that it reads; none: no body is sent to it, it fetches what it needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<u32>,
}

impl NodeRecord {
    /// A process that ingests, and serves no clients. `link`: its admin listener, `host:port`; empty: none.
    #[must_use]
    pub fn ingest(weight: u32, link: String) -> Self {
        Self {
            incarnation: 0,
            replaces: 0,
            beat: 0,
            state: NodeState::Active,
            weight,
            edge: false,
            ingest: true,
            url: String::new(),
            plain_url: String::new(),
            link,
            lane: None,
        }
    }

    /// Whether it may own partitions of a kind.
    #[must_use]
    pub fn takes(&self, kind: Kind) -> bool {
        match kind {
            Kind::Delivery => self.edge,
            Kind::Ingest => self.ingest,
        }
    }
}

/// A claim, or the owner's repetition of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerRecord {
    /// One above that of the ownership that it ends; the first record of a lease_epoch counts.
    pub lease_epoch: u64,
    /// Who.
    pub node: NodeName,
    /// Which life of it.
    pub incarnation: u64,
}

/// A record of `leases` about ownership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseRecord {
    /// Of a node.
    Node(NodeName, NodeRecord),
    /// Of a partition.
    Owner(Kind, u32, OwnerRecord),
}

impl LeaseRecord {
    /// The record's key: the last record of a key is kept for ever.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Node(name, _) => format!("{NODE}{name}"),
            Self::Owner(kind, partition, _) => format!("{}/{partition}", kind.name()),
        }
    }

    /// The record's value.
    #[must_use]
    pub fn value(&self) -> Vec<u8> {
        let value = match self {
            Self::Node(_, record) => serde_json::to_vec(record),
            Self::Owner(_, _, record) => serde_json::to_vec(record),
        };
        // Numbers, texts and flags: nothing that JSON lacks.
        value.unwrap_or_default()
    }

    /// Reads one; `None`: it is about something else, or of a form that this version does not know.
    #[must_use]
    pub fn read(key: &[u8], value: &[u8]) -> Option<Self> {
        let key = std::str::from_utf8(key).ok()?;
        if value.len() > VALUE_BYTES_MAX {
            return None;
        }
        if let Some(name) = key.strip_prefix(NODE) {
            let record = serde_json::from_slice(value).ok()?;
            return Some(Self::Node(NodeName::new(name).ok()?, record));
        }
        let (kind, partition) = key.split_once('/')?;
        let kind = Kind::ALL.into_iter().find(|k| k.name() == kind)?;
        let record = serde_json::from_slice(value).ok()?;
        Some(Self::Owner(kind, partition.parse().ok()?, record))
    }
}
