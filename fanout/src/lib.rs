//! The tier behind the edge: ingest, receipts, groups, history and the HTTP API.

pub mod api;
pub mod auth;
pub mod engines;
pub mod history;
pub mod ingest;
pub mod owners;
pub mod program;
pub mod settings;
pub mod signals;

#[cfg(test)]
mod rig;
