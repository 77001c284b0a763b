//! Floods and slow readers as benchmarks: an attacker of its own beside sessions that talk, what it cost the gateway, and what
//! the others noticed of it (F10, F13, F14, F16 and F17 of docs/guarantees.md).
//!
//! [`conduct`] moves one gateway through the attacks; [`attacker`] opens connections by an open-loop schedule and notes how each
//! ended; [`plans`] names them, [`floods`] and [`frames`] are what they say; [`slow`] reads slowly; [`storm`] is the load generator's. [`raw`] speaks
//! TCP, TLS and WebSocket without any of Hawser's code. [`watch`] reads what the gateway costs, [`table`] and [`plot`] tell it.
//! `dev/attacks` starts the gateway.

pub mod attacker;
pub mod conduct;
pub mod floods;
pub mod frames;
pub mod outcome;
pub mod plans;
pub mod plot;
pub mod raw;
pub mod site;
pub mod slow;
pub mod storm;
pub mod table;
pub mod watch;
