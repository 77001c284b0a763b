//! From the delivery log to sessions: partitions, the replay ring, cursors, receipts.

pub mod cursors;
pub mod marks;
pub(crate) mod partition;
pub(crate) mod past;
pub(crate) mod prepared;
pub mod receipts;
pub mod replay;
pub(crate) mod run;
