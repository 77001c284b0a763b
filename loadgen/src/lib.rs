//! Load generator and correctness checker for Hawser.

pub mod args;
pub mod check;
pub mod payload;
pub mod random;
pub mod report;
