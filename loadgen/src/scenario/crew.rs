//! Those who make the load of a scenario: one process ([`Local`]), or several that are told by one (`crate::workers`).
//!
//! A [`Step`] is all that they are to do from an instant on; users in it are counted from 0 within the crew. What a player sees of
//! a crew is sums, so that it plays one process and ten in the same way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser as _;
use serde::{Deserialize, Serialize};

use super::model::Scenario;
use super::record::{End, Worker};
use crate::args::Args;
use crate::engine::{Load, Phase, Shared, Storm, Totals, Window};
use crate::random;
use crate::run::{self, Conductor};
use crate::usage::Usage;

/// All threads hand their windows over within a turn each, 20 ms, unless they have no core; what comes later is added to the next.
const HAND_OVER: Duration = Duration::from_secs(2);

/// What a crew is to do from an instant on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// What is going on.
    pub phase: Phase,
    /// Users below this one are to be connected.
    pub sessions: u32,
    /// What is sent, where something is.
    pub load: Load,
    /// What is cut off, if anything.
    pub storm: Option<Storm>,
    /// It is cut off now.
    pub cut: bool,
    /// Of the pairs from this user on, the second does not read; `u32::MAX`: everybody reads.
    pub slow_from: u32,
}

impl Step {
    /// Nothing yet.
    #[must_use]
    pub fn first(load: Load) -> Self {
        Self {
            phase: Phase::Rest,
            sessions: 0,
            load,
            storm: None,
            cut: false,
            slow_from: u32::MAX,
        }
    }
}

/// Which users are one process's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its place among the processes.
    pub index: u32,
    /// Its first user.
    pub first: u32,
    /// How many are its own; even.
    pub count: u32,
}

impl Part {
    /// All users of a scenario.
    #[must_use]
    pub fn whole(scenario: &Scenario) -> Self {
        Self {
            index: 0,
            first: 0,
            count: scenario.sessions.count,
        }
    }
}

/// What a crew has recorded since it was asked before.
#[derive(Debug, Clone, Default)]
pub struct Gathered {
    /// Since the beginning.
    pub totals: Totals,
    /// Since the time before.
    pub window: Window,
    /// What the crew's processes use together.
    pub own: Usage,
    /// One by one, where there are several.
    pub workers: Vec<Worker>,
}

/// What is known once a crew has ended.
#[derive(Debug, Clone, Default)]
pub struct Ended {
    /// What came since it was asked last.
    pub window: Window,
    /// Correctness.
    pub end: End,
}

/// Whoever makes the load.
pub trait Crew {
    /// From now on all do this. Returns the instant at which they began, once all have.
    ///
    /// # Errors
    /// Somebody cannot go on.
    fn begin(&mut self, step: &Step) -> anyhow::Result<Instant>;

    /// Sums, as they were at most some 100 ms ago, and not before the last step.
    fn totals(&self) -> Totals;

    /// Lets a little time pass.
    ///
    /// # Errors
    /// Somebody cannot go on.
    fn look(&mut self) -> anyhow::Result<()>;

    /// Everything recorded since the time before.
    ///
    /// # Errors
    /// Somebody cannot go on.
    fn tick(&mut self) -> anyhow::Result<Gathered>;

    /// Ends all of it; called once.
    ///
    /// # Errors
    /// Somebody could not.
    fn finish(&mut self) -> anyhow::Result<Ended>;
}

/// The threads of this process.
pub struct Local {
    shared: Arc<Shared>,
    conductor: Option<Conductor>,
}

impl Local {
    /// Makes the groups of these users and starts the threads; given up when it is no longer `wanted`.
    ///
    /// # Errors
    /// No gateway, no key, no io_uring.
    pub fn start(
        scenario: &Scenario,
        part: &Part,
        wanted: &dyn Fn() -> bool,
    ) -> anyhow::Result<Self> {
        let mut shared = run::prepare_while(args(scenario, part)?, wanted)?;
        let bodies = scenario.phases.iter().filter_map(|phase| phase.kind.load());
        shared.bodies = bodies
            .flat_map(|load| load.bodies.iter().map(|body| body.bytes as usize))
            .collect();
        // What a warm session sends is of the size that the command line would have.
        shared.bodies.push(shared.args.body);
        let shared = Arc::new(shared);
        shared.order(|orders| orders.windows = 1);
        Ok(Self {
            conductor: Some(Conductor::start(&shared)?),
            shared,
        })
    }

    /// Whether a thread could not go on.
    ///
    /// # Errors
    /// It could not.
    pub fn check(&self) -> anyhow::Result<()> {
        if self.shared.phase() == Phase::End {
            anyhow::bail!("a thread could not go on");
        }
        Ok(())
    }
}

impl Crew for Local {
    fn begin(&mut self, step: &Step) -> anyhow::Result<Instant> {
        self.check()?;
        let now_ns = self.shared.now_ns();
        self.shared.order(|orders| {
            orders.load = Arc::new(step.load.clone());
            orders.storm = step.storm;
            orders.slow_from = step.slow_from;
            if step.cut {
                orders.cut_ns = now_ns;
            }
        });
        self.shared.set_sessions(step.sessions);
        self.shared.set_phase(step.phase);
        Ok(Instant::now())
    }

    fn totals(&self) -> Totals {
        Totals::read(&self.shared.counters)
    }

    fn look(&mut self) -> anyhow::Result<()> {
        self.conductor.as_ref().map_or(Ok(()), Conductor::look)
    }

    fn tick(&mut self) -> anyhow::Result<Gathered> {
        let window = self.shared.gather(HAND_OVER);
        Ok(Gathered {
            totals: self.totals(),
            window,
            own: Usage::read(std::process::id()).unwrap_or_default(),
            workers: Vec::new(),
        })
    }

    fn finish(&mut self) -> anyhow::Result<Ended> {
        self.shared.set_phase(Phase::End);
        let Some(mut conductor) = self.conductor.take() else {
            return Ok(Ended::default());
        };
        let found = conductor.join()?;
        let mut window = Window::default();
        self.shared
            .take_windows()
            .iter()
            .for_each(|(_, part)| window.add(part));
        let report = conductor.report(found);
        Ok(Ended {
            window,
            end: End {
                findings: report.findings,
                foreign: report.foreign,
                unjudged: report.unjudged,
                errors: report.errors,
                closes: report.closes,
                failures: report.failures,
            },
        })
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        // Threads that nobody tells anything any more end.
        self.shared.set_phase(Phase::End);
        if let Some(mut conductor) = self.conductor.take() {
            let _ = conductor.join();
        }
    }
}

/// What is sent in a scenario before its first phase with a load.
///
/// # Errors
/// The key's path is no text.
pub(super) fn before(scenario: &Scenario) -> anyhow::Result<Load> {
    Ok(Load::of(&args(scenario, &Part::whole(scenario))?))
}

/// The command line that a part of a scenario would be.
fn args(scenario: &Scenario, part: &Part) -> anyhow::Result<Args> {
    let (target, sessions) = (&scenario.target, &scenario.sessions);
    let key = target.key.to_str().context("target.key is no text")?;
    let mut args = Args::try_parse_from(["hawser-loadgen", "--key", key])?;
    args.url.clone_from(&target.url);
    args.also.clone_from(&target.also);
    args.api.clone_from(&target.api);
    args.kid.clone_from(&target.kid);
    let replace = |of: &mut String, by: &Option<String>| {
        if let Some(by) = by {
            of.clone_from(by);
        }
    };
    replace(&mut args.issuer, &target.issuer);
    replace(&mut args.audience, &target.audience);
    replace(&mut args.tenant, &target.tenant);
    args.ca.clone_from(&target.ca);
    args.anywhere = target.anywhere;
    args.connections = part.count;
    args.first_user = part.first;
    args.threads = sessions.threads;
    args.source.clone_from(&sessions.sources);
    args.heartbeat_ms = sessions.heartbeat_ms;
    args.prefix.clone_from(&sessions.prefix);
    args.warm = sessions.warm;
    args.group_size = sessions.group_size;
    // The first process's is the scenario's own.
    args.seed = match part.index {
        0 => sessions.seed,
        index => random::step(sessions.seed ^ u64::from(index) << 32),
    };
    args.settle_s = sessions.settle_s;
    let loads = scenario.phases.iter().filter_map(|phase| phase.kind.load());
    // Groups are made where some phase sends to them.
    args.group_share = loads.map(|load| load.group_share).fold(0.0, f64::max);
    args.quiet = true;
    Ok(args)
}
