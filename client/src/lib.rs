//! Hawser's client library: a device that connects by itself, resumes exactly where its disk stands,
//! keeps what it received and what it has not sent yet, and tells the application what changed.
//!
//! What decides is `hawser_protocol::client`; here is what moves bytes: [`transport`] (TCP, TLS,
//! WebSocket, HTTP), [`store`] (the disk), and the task behind [`Client`]; [`conversation`] is what the
//! application shows of the store. The terminal client
//! `hawser` is a program on it.

pub mod api;
mod client;
pub mod conversation;
mod disk;
mod link;
pub mod store;
pub mod transport;

pub use client::{Client, Event, OpenError, SendError, Settings, Stopped, Tokens, token};
