//! The node: what it is started with, its threads, its handle.

pub mod config;
