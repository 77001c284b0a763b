//! Hawser's client library and terminal client: resume, offline queue, local store.

pub mod store;
pub mod transport;
