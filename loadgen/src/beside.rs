//! Load that runs beside something else: sessions that talk by their open-loop schedule until they are told to end, looked at
//! in windows.

use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;

use crate::args::Args;
use crate::check::Numbers;
use crate::engine::{Counters, Phase, Shared, Window};
use crate::report::Report;
use crate::run::{self, Conductor};

/// A window is handed over within a turn of each thread, 20 ms; on a machine that has no time for it, later.
const HAND_OVER: Duration = Duration::from_secs(5);

/// A run whose load goes on while the caller does something else.
pub struct Beside {
    shared: Arc<Shared>,
    conductor: Conductor,
}

/// How such a run ended.
pub struct Ended {
    /// All of it, findings included.
    pub report: Report,
    /// What each (sender, conversation) has sent and had answered.
    pub lanes: AHashMap<(u32, u32), Numbers>,
}

impl Beside {
    /// Opens the sessions of a command line ([`Args::duration_s`] is not looked at); they say nothing yet.
    ///
    /// # Errors
    /// The run could not be made.
    pub fn open(args: Args) -> anyhow::Result<Self> {
        let shared = Arc::new(run::prepare(args)?);
        let mut conductor = Conductor::start(&shared)?;
        let sessions = shared.args.connections;
        if let Err(error) = conductor.ramp(sessions) {
            shared.set_phase(Phase::End);
            conductor.join()?;
            return Err(error);
        }
        Ok(Self { shared, conductor })
    }

    /// Begins the load, and the first window.
    pub fn load(&self) {
        self.shared.order(|orders| orders.windows += 1);
        self.shared.set_phase(Phase::Load);
    }

    /// What was recorded since the last call, or the begin of the load; the next window begins. Less than all of it where a thread did not
    /// answer for five seconds.
    #[must_use]
    pub fn window(&self) -> Window {
        self.shared.gather(HAND_OVER)
    }

    /// Sessions that are live now.
    #[must_use]
    pub fn live(&self) -> u64 {
        Counters::read(&self.shared.counters.live)
    }

    /// Ends the load and waits until everything is answered and delivered, or nothing comes any more.
    pub fn settle(&mut self) {
        self.shared.set_phase(Phase::Rest);
        self.conductor.settle();
    }

    /// Ends the sessions and judges.
    ///
    /// # Errors
    /// A thread has given up.
    pub fn end(mut self) -> anyhow::Result<Ended> {
        self.shared.set_phase(Phase::End);
        let found = self.conductor.join()?;
        let mut lanes = AHashMap::new();
        for thread in &found {
            lanes.extend(thread.lanes());
        }
        let report = self.conductor.report(found);
        Ok(Ended { report, lanes })
    }
}
