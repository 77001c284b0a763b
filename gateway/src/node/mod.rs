//! The node: what it is started with, its threads, its handle.

pub mod config;
pub mod descriptors;
pub mod host;
pub mod memory;
pub mod shards;
pub(crate) mod shared;
pub mod start;

pub use start::{NodeHandle, StartError, start};
