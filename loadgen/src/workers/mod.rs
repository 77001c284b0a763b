//! A scenario played by several processes, on one host or on several: a coordinator plays it with a [`fleet::Fleet`], which tells
//! [`worker`]s what to do and adds up what they say.
//!
//! [`split`] divides the users so that every conversation is within one worker: its sender and its receivers share a clock and a checker.
//! [`wire`] is what is said, [`token`] how both prove that they know each other; [`peer`] is one worker as the coordinator sees it,
//! [`clock`] its clock, [`children`] are workers that the coordinator starts itself.

pub mod children;
pub mod clock;
pub mod fleet;
pub mod peer;
pub mod split;
pub mod token;
pub mod wire;
pub mod worker;

/// Workers of a run at most.
pub const WORKERS_MAX: u32 = 64;

/// This build, as both sides have to have it.
#[must_use]
pub fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}
