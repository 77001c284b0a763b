//! The deterministic simulator: fake clock, log, store, network, faults and oracles.
//!
//! The machines that decide are the real ones: the client's and the server's session, ingest, history,
//! the codecs (half of the devices speak JSON), resume tokens. What moves bytes is simulated: a network
//! that delays, cuts and swallows, edges and ingest processes that die between any two steps or
//! live on as zombies, disks and engines that fail, time out after having done it, or stop.
//! One seed is one run: a failing one is replayed by its number.

mod append;
mod bodies;
mod cluster;
mod deliver;
mod device;
mod economy;
mod edge;
mod judge;
mod lanes;
mod oracle;
mod owners;
mod reference;
mod revoke;
mod scroll;
mod store;
mod storm;
mod world;

pub use economy::{FanOut, FanOutError, HEAD as FAN_OUT_HEAD, fan_out};
pub use oracle::Violation;
pub use owners::{OwnersBreak, OwnersOptions, OwnersOutcome, run_owners};

/// What is broken on purpose, so that the oracles can be seen to notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Break {
    /// The store forgets which client_msg_ids it has seen.
    Dedup,
    /// Ingest commits before it delivers.
    Commit,
    /// Ingest sometimes delivers what was not stored.
    Store,
    /// A device's disk sometimes says that it has what it lost.
    Disk,
    /// The edge resumes one record too late.
    Resume,
    /// What ingest writes for other lanes of a group is sometimes lost.
    Lanes,
    /// The edge passes over a message whose body it does not have.
    Bodies,
    /// What is kept of who is in edge-sharded groups is sometimes lost.
    Shards,
    /// The edge leaves out the records of revocations.
    Revoke,
}

impl Break {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Dedup,
        Self::Commit,
        Self::Store,
        Self::Disk,
        Self::Resume,
        Self::Lanes,
        Self::Bodies,
        Self::Shards,
        Self::Revoke,
    ];
}

/// How to run a seed.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Steps of the storm.
    pub steps: u64,
    /// What is broken on purpose.
    pub broken: Option<Break>,
    /// A crash of ingest may leave a batch of the store in part, as Cassandra does; the embedded store does not.
    pub torn: bool,
    /// Prints every frame and fault.
    pub trace: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            steps: 120,
            broken: None,
            torn: true,
            trace: false,
        }
    }
}

/// What one seed came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Events that happened.
    pub events: u64,
    /// Deliver frames that reached devices.
    pub delivered: u64,
    /// Of those, replayed after a resume.
    pub replayed: u64,
    /// Sessions that were recovered.
    pub recovered: u64,
    /// Sessions that had to sync.
    pub unrecovered: u64,
    /// Ingest processes that died.
    pub ingest_crashes: u64,
    /// Messages that ingest has sent on to their lane.
    pub sent_on: u64,
    /// Messages stored in a lane that is not the group's own.
    pub in_lanes: u64,
    /// Bodies of references that an edge read in the store.
    pub fetched: u64,
    /// Sessions that were closed or turned away because their token was revoked.
    pub revoked: u64,
    /// Revocations that an edge learnt from the delivery log before it read the list.
    pub learnt: u64,
    /// The first promise that was broken.
    pub violation: Option<Violation>,
}

/// Runs one seed; the same seed and options give the same outcome.
#[must_use]
pub fn run(seed: u64, options: &Options) -> Outcome {
    storm::run(seed, options)
}
