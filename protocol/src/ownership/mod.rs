//! Who owns which partition: nodes and claims are records of the `leases` topic, whose order is the compare-and-set.
//!
//! [`Table`] is a fold over those records, the same for every reader of the same records. [`plan`] says from a table alone
//! who should own what. [`Member`] is one process's part: it beats, judges silence, fences itself, prepares, claims and
//! yields. Time is given to it; what it wants done comes out as [`Step`]s.
//!
//! Ownership is a hint: two owners at once deliver nothing twice. `docs/adr/0021-ownership-in-the-log.md` says why each rule
//! is as it is.

mod member;
mod plan;
mod record;
mod table;
#[cfg(test)]
mod tests;

pub use member::{Member, MemberConfig, Step};
pub use plan::plan;
pub use record::{LeaseRecord, NodeName, NodeNameError, NodeRecord, NodeState, OwnerRecord};
pub use table::{Applied, Node, Owner, Table};

/// What is owned by partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Partitions of `delivery`, by edge nodes.
    Delivery,
    /// Partitions of `chat-messages`, by ingest.
    Ingest,
}

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Delivery, Self::Ingest];

    /// As keys of records have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Delivery => "delivery",
            Self::Ingest => "ingest",
        }
    }
}
