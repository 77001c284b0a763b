//! Ingest: judges each record of `chat-messages` and says what to store and what to deliver.
//!
//! [`Core`] is pure: one record in, one [`Plan`] out, the same on every replay. It reads the store
//! and remembers what the records that it has judged came to, so that the records of one batch see
//! each other before anything is written. [`EmbeddedIngest`] runs it on the commit thread of the
//! embedded engine, in the record's own atomic batch; [`Driver`] runs it against any other log.
//!
//! Where it says "as of a record", what later records did does not count: on a replay the store
//! already holds it.

mod change;
mod concern;
mod core;
mod counters;
mod driver;
mod embedded;
mod feed;
mod group;
mod lane;
mod membership;
mod memory;
mod park;
mod plan;
mod receipt;
mod reference;
mod send;
mod shard;
#[cfg(test)]
mod tests;
mod window;

pub use self::core::Core;
pub use counters::{IngestCounters, IngestCounts};
pub use driver::{
    Driver, DriverConfig, DriverError, HotBounds, HotChat, IngestShare, Stage, StageTimes,
};
pub use embedded::EmbeddedIngest;
pub use membership::{BODY_USERS_MAX, MembershipBody, MembershipOp};
pub use memory::MemoryBounds;
pub use plan::{Plan, Verdict};
pub use window::Recollection;

use hawser_protocol::limits::GROUP_LISTED_MAX;

/// Device under which group operations are remembered and signed.
pub const API_DEVICE: &str = "api";

/// Largest group whose members are told of one another's receipts; in a larger one they see them
/// when they sync. One receipt of each of n members costs n² deliveries otherwise.
pub const RECEIPT_MEMBERS_MAX: usize = 256;

/// Earliest CreateTime that is taken as it stands, milliseconds (2020-01-01): a clock that was
/// never set must not make ids of 1970.
pub const TIME_MS_MIN: u64 = 1_577_836_800_000;
/// Latest one: 48 bits, what a UUIDv7 holds.
pub const TIME_MS_MAX: u64 = (1 << 48) - 1;

/// What ingest must know of its surroundings; the same on every node of a cluster, as plans depend
/// on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IngestConfig {
    /// Number of this cluster (cell), part of every message id. Default 0.
    pub cell: u8,
    /// Partitions of `chat-messages`, a power of two.
    pub source_partitions: u32,
    /// Partitions of `delivery`, a power of two.
    pub delivery_partitions: u32,
    /// Partitions of `dead-letters`.
    pub dead_letter_partitions: u32,
    /// Partitions of `group-members`.
    pub group_members_partitions: u32,
    /// Partitions of `audit-logs`.
    pub audit_partitions: u32,
    /// Partitions of `shards`.
    pub shard_partitions: u32,
    /// Members that records list, at most `GROUP_LISTED_MAX`; a group that becomes larger is edge-sharded for good.
    pub listed_max: u32,
    /// A message record of more bytes that touches more than two delivery partitions is referred to by its delivery
    /// records, and travels once per node; 0: never.
    pub reference_bytes: usize,
}

/// Default of `reference_bytes`.
pub const REFERENCE_BYTES: usize = 1_024;

impl IngestConfig {
    /// As the log has it.
    #[must_use]
    pub fn of(log: &dyn hawser_engines::log::Log, cell: u8) -> Self {
        use hawser_engines::log::Topic;
        Self {
            cell,
            source_partitions: log.partitions(Topic::ChatMessages),
            delivery_partitions: log.partitions(Topic::Delivery),
            dead_letter_partitions: log.partitions(Topic::DeadLetters),
            group_members_partitions: log.partitions(Topic::GroupMembers),
            audit_partitions: log.partitions(Topic::AuditLogs),
            shard_partitions: log.partitions(Topic::Shards),
            listed_max: u32::try_from(GROUP_LISTED_MAX).unwrap_or(u32::MAX),
            reference_bytes: REFERENCE_BYTES,
        }
    }
}
