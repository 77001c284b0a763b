//! What the adapter counts.

use crate::latency::{Latencies, Latency};
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of the adapter, shared by the threads that call.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) commands: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) timeouts: AtomicU64,
    pub(super) shed: AtomicU64,
    pub(super) outages: AtomicU64,
    pub(super) losses: AtomicU64,
    pub(super) latency: Latency,
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}

impl Counters {
    pub(super) fn counted(&self) -> RedisStats {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RedisStats {
            commands: of(&self.commands),
            failures: of(&self.failures),
            timeouts: of(&self.timeouts),
            shed: of(&self.shed),
            outages: of(&self.outages),
            losses: of(&self.losses),
            latency: self.latency.counted(),
        }
    }
}

/// What was counted since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RedisStats {
    /// Commands sent.
    pub commands: u64,
    /// Round trips that failed, time-outs included.
    pub failures: u64,
    /// Round trips without an answer in time.
    pub timeouts: u64,
    /// Calls answered "unknown" at once, because Redis does not answer.
    pub shed: u64,
    /// Times that Redis stopped answering.
    pub outages: u64,
    /// Times that Redis came back, or went on, without its data.
    pub losses: u64,
    /// Round trips that were answered, each of up to some thousand commands.
    pub latency: Latencies,
}
