//! Who owns which partition, in a world where logs, clocks and processes fail.
//!
//! The member is the real one (`hawser_protocol::ownership`); the `leases` log, the driver, clocks and faults are
//! simulated. Time is true time; a process only sees its own clock, which runs a little faster or slower and began
//! anywhere. There is no wall clock here, so nothing can depend on one. `docs/guarantees.md` names the oracles.

mod judge;
mod log;
mod process;
mod quiet;
mod storm;
mod truth;
mod world;

use crate::Violation;

/// What is broken on purpose, so that the oracles can be seen to notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OwnersBreak {
    /// The driver serves on when it is fenced.
    Fence,
    /// The driver serves on what has become another's.
    Yield,
    /// The driver never says that a partition is prepared.
    Prepared,
    /// A process's clock stops while the process is paused.
    Clock,
    /// Clocks run at speeds that differ by more than the slack allows.
    Speed,
    /// Readers see some records of the log in another order.
    Order,
    /// Compaction loses the last record of a key.
    Compaction,
    /// Compaction takes what is young.
    Young,
    /// The driver appends everything many times.
    Repeat,
}

impl OwnersBreak {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Fence,
        Self::Yield,
        Self::Prepared,
        Self::Clock,
        Self::Speed,
        Self::Order,
        Self::Compaction,
        Self::Young,
        Self::Repeat,
    ];
}

/// How to run a seed.
#[derive(Debug, Clone, Copy)]
pub struct OwnersOptions {
    /// Steps of the storm.
    pub steps: u64,
    /// What is broken on purpose.
    pub broken: Option<OwnersBreak>,
    /// Prints every record, step and fault.
    pub trace: bool,
}

impl Default for OwnersOptions {
    fn default() -> Self {
        Self {
            steps: 60,
            broken: None,
            trace: false,
        }
    }
}

/// What one seed came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnersOutcome {
    /// The seed.
    pub seed: u64,
    /// Events that happened.
    pub events: u64,
    /// Records in the log.
    pub records: u64,
    /// Claims that counted.
    pub claims: u64,
    /// Of those, of what a living node owned.
    pub handed_over: u64,
    /// Lives that others have called gone.
    pub called_gone: u64,
    /// Times that a process fenced itself.
    pub fenced: u64,
    /// Records that compaction removed.
    pub compacted: u64,
    /// The first promise that was broken.
    pub violation: Option<Violation>,
}

/// Runs one seed; the same seed and options give the same outcome.
#[must_use]
pub fn run_owners(seed: u64, options: &OwnersOptions) -> OwnersOutcome {
    storm::run(seed, options)
}
