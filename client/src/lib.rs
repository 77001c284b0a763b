//! Hawser's client library and terminal client: resume, offline queue, local store.
