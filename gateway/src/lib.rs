//! Hawser's edge node: an io_uring gateway that holds WebSocket sessions and delivers from the log.

pub mod config;
pub mod certs;
pub mod cli;
