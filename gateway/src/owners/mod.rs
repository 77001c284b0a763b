//! This node among the others: who owns which delivery partition, and where its users belong.
//!
//! Ownership says where a session is best served, never whether: a node that is asked to serve another's user does so as a
//! *guest* (a client that cannot go elsewhere, a partition between two owners), and reads that partition for it.

mod follow;
pub(crate) mod lane;
pub(crate) mod locate;
mod map;
pub(crate) mod peers;

pub(crate) use follow::Following;
pub(crate) use map::{Lease, Owners, Peer};
