//! Scenarios: what to do to a server, phase by phase, and what has to come of it, as TOML (docs/loadgen.md has every key).
//!
//! [`read`] makes a [`model::Scenario`] out of a file or says what is wrong with it; [`play`] carries it out, and says every
//! second how it is in a [`record::Tick`]; a [`crew`] makes the load; [`record`] adds ticks up; [`figures`] names what was measured and
//! holds it against what was wished; [`live`] and [`show`] tell people.

pub mod by_worker;
pub mod crew;
pub mod figures;
mod file;
pub mod live;
pub mod model;
pub mod play;
pub mod read;
pub mod record;
pub mod server;
pub mod show;
