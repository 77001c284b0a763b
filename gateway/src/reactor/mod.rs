//! One core: its thread, its rings, its turn.

mod actions;
#[cfg(any(test, feature = "bench"))]
mod alone;
pub(crate) mod appends;
mod arrivals;
#[cfg(feature = "bench")]
pub(crate) mod bench;
mod bodies;
pub(crate) mod core;
mod deflating;
mod delivery;
mod fanout;
mod frames;
mod growing;
pub(crate) mod guard;
pub(crate) mod inbox;
mod letters;
mod moves;
pub(crate) mod questions;
pub(crate) mod readiness;
mod reading;
mod replies;
mod rested;
mod resuming;
mod revoking;
pub(crate) mod runtime;
mod served;
mod sockets;
#[cfg(test)]
mod tests;
mod ticks;
mod turn;
pub(crate) mod users;
