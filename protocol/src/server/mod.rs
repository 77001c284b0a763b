//! The server's half of a session, sans-IO: frames and `now` in, actions out.
//!
//! [`Session`] decides what a client may do and what may be delivered to it; it holds no queue. What
//! is to be delivered lies in the delivery log, and a session is a position there: *syncing* at the
//! head (a client without a past adopts it by an Ack), *behind* (its owner reads the log for it from
//! [`Session::reading`] on) or *live* (records are pushed as they come). Past its window it is behind
//! again: a slow reader costs an offset.
//!
//! [`Bodies`] keeps what delivery records refer to, and what sessions wait for.
//!
//! [`resume`] decides whether a client goes on exactly where it was.

mod action;
mod bodies;
mod frames;
mod rate;
pub mod resume;
mod session;
#[cfg(test)]
mod tests;
mod window;

pub use action::Action;
pub use bodies::{Bodies, Body, Fetch, Fetched, Found};
pub use frames::refusal;
pub use rate::Rate;
pub use session::{Now, Offer, Session, Settings, Start, UserRates};
pub use window::SpareWindows;
