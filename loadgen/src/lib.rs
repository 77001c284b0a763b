//! Load generator, correctness checker and capacity planner for Hawser.
//!
//! [`run`] conducts; each [`engine`] thread drives its sessions on one ring; [`link`] and [`session`] are sans-IO;
//! [`check`] judges what arrived while it arrives, [`report`] tells it. [`commands`] is what else the program does. [`history`] is what every client did and saw, and
//! [`judge`] the offline checker that reads it. [`capacity`] plans how many of everything a load needs ([`plan`] is who talks to whom
//! in a run), [`page`] writes pages of reports. [`scenario`] conducts runs of several phases that a file describes, [`workers`] are processes
//! that do so together.

pub mod args;
pub mod beside;
pub mod capacity;
pub mod check;
pub mod commands;
pub mod engine;
pub mod groups;
pub mod history;
mod http;
pub mod judge;
pub mod link;
pub mod page;
pub mod payload;
pub mod plan;
pub mod plot;
pub mod random;
pub mod report;
pub mod run;
pub mod scenario;
pub mod scrape;
pub mod session;
pub mod target;
pub mod tokens;
pub mod usage;
pub mod workers;
