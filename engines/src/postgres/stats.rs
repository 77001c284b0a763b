//! What the adapter counts.

use crate::latency::{Latencies, Latency};
use std::sync::atomic::AtomicU64;

/// Counters of the adapter, shared by the threads that call.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) calls: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) timeouts: AtomicU64,
    pub(super) shed: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) latency: Latency,
}

/// What was counted since the start, and the pool now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PostgresStats {
    /// Calls that went to the server.
    pub calls: u64,
    /// Calls that failed, time-outs included; "taken" and "not found" are answers.
    pub failures: u64,
    /// Calls without an answer in time.
    pub timeouts: u64,
    /// Calls refused at once, because the server did not answer a moment ago.
    pub shed: u64,
    /// Calls repeated on a new connection, because the old one was found closed.
    pub retries: u64,
    /// Connections open.
    pub connections: usize,
    /// Calls that wait for a connection.
    pub waiting: usize,
    /// Calls that were answered.
    pub latency: Latencies,
}
