//! From the delivery log to sessions: partitions, the replay ring, cursors.

pub mod cursors;
pub mod replay;
