//! Hawser's edge node: an io_uring gateway that holds WebSocket sessions and delivers from the log.

pub mod accept;
pub mod certs;
pub mod cli;
pub mod config;
pub mod counters;
pub mod deliver;
pub mod node;
