//! Hawser and other servers under the same load: one neutral client, read from /proc, told in one table.
//!
//! [`conduct`] moves one server through its scenarios; each [`engine`] thread drives its connections on one ring;
//! [`link`] and [`speech`] are sans-IO: what a connection is, and what a server wants to hear. [`proc`] reads what the
//! server's processes cost, [`table`] and [`plot`] tell it. `dev/rivals` starts the servers and calls the client.

pub mod body;
pub mod conduct;
pub mod engine;
pub mod goals;
pub mod group;
pub mod link;
pub mod outcome;
pub mod plot;
pub mod proc;
pub mod shared;
pub mod speech;
pub mod table;
pub mod tls;
