//! Hawser's edge node: an io_uring gateway that holds WebSocket sessions and delivers from the log.

pub mod accept;
pub mod admin;
pub mod backing;
mod banner;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
pub mod certs;
pub mod cli;
pub mod config;
mod control;
pub mod counters;
pub mod deliver;
mod handshake;
pub mod node;
pub mod operate;
mod owners;
pub mod page;
mod reactor;
pub mod reload;
mod rows;
pub mod run;
mod session;
