//! The library and the terminal client against a real `hawser-gateway --embedded`: the binary that
//! HAWSER_GATEWAY names, or the one built beside these tests. Without one the tests say that they
//! were skipped, aloud.

mod groups;
mod lanes;
mod node;
mod person;
mod program;
mod talk;
