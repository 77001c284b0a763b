//! Hawser's wire schema, codecs (binary and JSON), ids, partitioner and sans-IO session state
//! machines. No I/O, no clock, no async. The specification for other languages is `docs/protocol.md`.

pub mod client;
pub mod codes;
pub mod frame;
pub mod ids;
pub mod json;
pub mod lanes;
pub mod limits;
pub mod message;
pub mod ownership;
pub mod partition;
pub mod record;
pub mod resume;
pub mod revocation;
pub mod server;
pub mod shards;

/// Control frames, generated from `proto/hawser.proto`.
#[allow(missing_docs, clippy::all, unused_qualifications, unreachable_pub)]
pub mod pb {
    include!(concat!(env!("OUT_DIR"), "/hawser.v1.rs"));
}
