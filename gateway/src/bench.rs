//! A core without its thread, whose turn is taken piece by piece, so that `benches/` can count what each piece costs. No API:
//! it may change with the core.

pub use crate::reactor::bench::{BenchCore, BenchSession};
