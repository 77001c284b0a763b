//! What one run against one server found, as JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What is said to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scenario {
    /// One message at a time to all.
    Fanout,
    /// Eight at once to all.
    Burst,
    /// One to one.
    Pair,
}

impl Scenario {
    /// All, in the order of the table.
    pub const ALL: [Self; 3] = [Self::Fanout, Self::Burst, Self::Pair];

    /// Its name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fanout => "fan-out",
            Self::Burst => "burst of 8",
            Self::Pair => "1:1",
        }
    }
}

/// One server, once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Its name.
    pub server: String,
    /// What it says of itself.
    pub version: String,
    /// Whether connections were of TLS.
    pub tls: bool,
    /// Subscribers.
    pub recipients: u32,
    /// Round of the whole run, from 1.
    pub round: u32,
    /// What its connections cost; absent where they were not all made.
    pub connections: Option<Connections>,
    /// Scenarios by size of body.
    pub cells: Vec<Cell>,
    /// Connections that could not be made or broke.
    pub lost: u32,
    /// What went wrong, and how often.
    pub faults: BTreeMap<String, u64>,
    /// Why the run ended early, where it did.
    pub gave_up: Option<String>,
}

/// What a connection costs a server.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Connections {
    /// Until it is ready, microseconds of CPU.
    pub cpu_us: f64,
    /// Of these in user space.
    pub user_us: f64,
    /// Resident memory per idle connection: the slope from half of them to all, bytes.
    pub rss_bytes: f64,
    /// Slab memory likewise, of both ends, bytes.
    pub slab_bytes: f64,
}

/// One scenario at one size of body.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Which.
    pub scenario: Scenario,
    /// Bytes of a body.
    pub body: usize,
    /// Deliveries per second that the schedule wanted.
    pub rate: f64,
    /// Deliveries in all that it wanted.
    pub expected: u64,
    /// Those that came.
    pub delivered: u64,
    /// CPU of the server per delivered message, microseconds; of these in user space.
    pub cpu_us: f64,
    /// See [`Cell::cpu_us`].
    pub user_us: f64,
    /// CPU of the client likewise.
    pub client_us: f64,
    /// From the instant of the schedule to the last byte at a subscriber, milliseconds.
    pub p50_ms: f64,
    /// See [`Cell::p50_ms`].
    pub p99_ms: f64,
}

/// What was measured where, beside the outcomes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// Day of the run.
    pub date: String,
    /// Processors, kernel.
    pub machine: String,
    /// How it was run.
    pub command: String,
    /// What makes the table incomplete, in words.
    pub missing: Vec<String>,
}
