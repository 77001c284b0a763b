//! A process's place among the others: the thread that follows `leases` for whatever it owns there, delivery partitions
//! of an edge node, partitions of `chat-messages` of an ingest, or both.

mod clock;
mod follow;
mod ingest;
mod section;
#[cfg(test)]
mod tests;

pub use clock::Clock;
pub use follow::{FollowError, Follower, Leaving, Owning};
pub use ingest::IngestMember;
pub use section::{ClusterSection, host_name, link, node_name};
