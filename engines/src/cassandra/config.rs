//! What the store on Cassandra can be told, and the bounds of it.

use crate::tls::ClientTls;
use scylla::statement::Consistency;
use std::collections::BTreeMap;
use std::time::Duration;

use super::CassandraError;

/// Shortest time that a client_msg_id is remembered, seconds: the dedup window (7 days) and a day for clocks and lag.
pub const DEDUP_TTL_S_MIN: u32 = 8 * 24 * 3_600;

/// How many copies a new keyspace keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replication {
    /// So many in every datacenter that there is when the keyspace is made.
    Copies(u16),
    /// So many in each of these datacenters.
    PerDatacenter(BTreeMap<String, u16>),
}

impl Replication {
    /// The fewest copies that any datacenter has.
    #[must_use]
    pub fn fewest(&self) -> u16 {
        match self {
            Self::Copies(copies) => *copies,
            Self::PerDatacenter(map) => map.values().copied().min().unwrap_or(0),
        }
    }

    /// As CQL has it.
    pub(super) fn cql(&self) -> String {
        let each = match self {
            Self::Copies(copies) => format!("'replication_factor': {copies}"),
            Self::PerDatacenter(map) => {
                let each = map.iter().map(|(dc, copies)| format!("'{dc}': {copies}"));
                each.collect::<Vec<_>>().join(", ")
            }
        };
        format!("{{'class': 'NetworkTopologyStrategy', {each}}}")
    }
}

/// How many replicas must answer, by kind of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Levels {
    /// Messages, heads and outcomes: what "sent" stands for.
    pub write: Consistency,
    /// Members and names of groups.
    pub write_members: Consistency,
    /// Receipts.
    pub write_receipts: Consistency,
    /// Heads, outcomes and members, as ingest reads them.
    pub read: Consistency,
    /// Pages of history, lists of chats, receipts: what people read.
    pub read_history: Consistency,
}

impl Levels {
    /// The same for everything.
    #[must_use]
    pub fn all(level: Consistency) -> Self {
        Self {
            write: level,
            write_members: level,
            write_receipts: level,
            read: level,
            read_history: level,
        }
    }

    /// Whether every read that decides something sees every acknowledged write: what exactly-once rests on, and that
    /// history shows no holes.
    #[must_use]
    pub fn overlap(&self) -> bool {
        let majority = |level| {
            matches!(
                level,
                Consistency::Quorum
                    | Consistency::LocalQuorum
                    | Consistency::EachQuorum
                    | Consistency::All
            )
        };
        let levels = [self.write, self.write_members, self.read, self.read_history];
        levels.into_iter().all(majority)
    }

    /// Whether any of them is about one datacenter only.
    #[must_use]
    pub fn local(&self) -> bool {
        let levels = [self.write, self.write_members, self.read, self.read_history];
        levels.contains(&Consistency::LocalQuorum)
    }
}

/// A level by its name, as operators write it.
#[must_use]
pub fn level(name: &str) -> Option<Consistency> {
    Some(match name.to_ascii_lowercase().replace('-', "_").as_str() {
        "one" => Consistency::One,
        "two" => Consistency::Two,
        "three" => Consistency::Three,
        "quorum" => Consistency::Quorum,
        "all" => Consistency::All,
        "local_quorum" => Consistency::LocalQuorum,
        "each_quorum" => Consistency::EachQuorum,
        "local_one" => Consistency::LocalOne,
        _ => return None,
    })
}

/// Configuration of [`super::CassandraStore`].
#[derive(Debug, Clone)]
pub struct CassandraConfig {
    /// `host:port` of some nodes; the others are found by them.
    pub contact_points: Vec<String>,
    /// Keyspace; letters, digits and underscores, at most 48. Two clusters of Hawser need two. Default `hawser`.
    pub keyspace: String,
    /// Copies of a keyspace that is made here. Default 3.
    pub replication: Replication,
    /// Makes the keyspace and migrates the tables; otherwise waits for somebody else to do it. Default true.
    pub migrate: bool,
    /// Datacenter whose nodes are asked first; empty: all alike.
    pub local_datacenter: String,
    /// User; empty: none.
    pub user: String,
    /// Password.
    pub password: String,
    /// TLS; `None`: plain.
    pub tls: Option<ClientTls>,
    /// Default: QUORUM everywhere.
    pub levels: Levels,
    /// Starts although fewer than three copies, or levels that do not overlap, can lose acknowledged messages.
    pub allow_unsafe: bool,
    /// The first try; while Cassandra is slow, further ones may take up to half of `deadline`. Default 2 s.
    pub request_timeout: Duration,
    /// An operation with its repetitions; then it is unavailable. Default 10 s.
    pub deadline: Duration,
    /// How long to wait for Cassandra, or for the tables, at the start. Default 120 s.
    pub open_timeout: Duration,
    /// Requests under way at once; more wait for their turn. Default 512.
    pub in_flight_max: usize,
    /// Connections per node. Default 2.
    pub connections: usize,
    /// How long outcomes are remembered, seconds; at least [`DEDUP_TTL_S_MIN`]. Default: that.
    pub dedup_ttl_s: u32,
    /// How long messages are kept, seconds; 0: for ever. Default 0.
    pub history_ttl_s: u32,
}

impl CassandraConfig {
    /// The defaults.
    #[must_use]
    pub fn new(contact_points: Vec<String>) -> Self {
        Self {
            contact_points,
            keyspace: "hawser".to_owned(),
            replication: Replication::Copies(3),
            migrate: true,
            local_datacenter: String::new(),
            user: String::new(),
            password: String::new(),
            tls: None,
            levels: Levels::all(Consistency::Quorum),
            allow_unsafe: false,
            request_timeout: Duration::from_secs(2),
            deadline: Duration::from_secs(10),
            open_timeout: Duration::from_secs(120),
            in_flight_max: 512,
            connections: 2,
            dedup_ttl_s: DEDUP_TTL_S_MIN,
            history_ttl_s: 0,
        }
    }

    /// Names the first setting that is out of bounds.
    pub(super) fn check(&self) -> Result<(), CassandraError> {
        let fail = |key, rule| Err(CassandraError::Setting { key, rule });
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if self.contact_points.iter().all(|p| p.trim().is_empty()) {
            return fail("contact_points", "host:port of at least one node");
        }
        let letter = self.keyspace.starts_with(|c: char| c.is_ascii_lowercase());
        if self.keyspace.len() > 48 || !letter || !self.keyspace.chars().all(plain) {
            return fail(
                "keyspace",
                "a lower-case letter, then letters, digits and underscores, at most 48",
            );
        }
        if self.replication.fewest() == 0 {
            return fail("replication", "at least one copy in each datacenter");
        }
        if let Replication::PerDatacenter(map) = &self.replication {
            let name = |dc: &String| dc.chars().all(|c| plain(c) || c == '-');
            if !map.keys().all(name) {
                return fail("replication", "names of datacenters, as Cassandra has them");
            }
        }
        if self.dedup_ttl_s < DEDUP_TTL_S_MIN {
            return fail("dedup_days", "at least 8");
        }
        if self.in_flight_max == 0 || self.connections == 0 {
            return fail("in_flight_max", "at least 1, as connections");
        }
        if self.request_timeout.is_zero() || self.deadline < self.request_timeout {
            return fail("deadline_ms", "at least timeout_ms, which is above 0");
        }
        Ok(())
    }
}
