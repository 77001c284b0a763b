//! The workers of a run together, as a crew: what is to be done is divided among them, what they say is added up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::children::Children;
use super::peer::{Line, Peer};
use super::split::Split;
use super::token::Token;
use super::wire::{BEAT, Job, ToWorker};
use super::worker::nanoseconds;
use crate::engine::{Totals, Window};
use crate::scenario::crew::{Crew, Ended, Gathered, Part, Step};
use crate::scenario::model::Scenario;
use crate::scenario::record::{Counts, End, Worker, ticks};
use crate::usage::Usage;

/// Questions by which clocks are compared before a run.
const QUESTIONS: usize = 10;
/// A worker answers such a one within this.
const ANSWERED: Duration = Duration::from_secs(5);
/// A step begins so long after it was told, the longest way of a worker besides: on all at one instant.
const LEAD: Duration = Duration::from_millis(100);
/// Within this it has begun; threads are told within 20 ms.
const BEGUN: Duration = Duration::from_secs(15);
/// A worker's window that does not come within this is added to the next.
const HANDED_OVER: Duration = Duration::from_secs(5);
/// At the end each worker judges what its users got.
const JUDGED: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_millis(100);

/// Who the workers are.
pub enum Workers {
    /// Addresses, with the token of all.
    There(Vec<String>, Token),
    /// Processes of this host.
    Here(Children),
}

/// The workers of a run.
pub struct Fleet {
    peers: Vec<Peer>,
    parts: Vec<Part>,
    split: Split,
    epoch: Instant,
    /// Sessions wanted by the last step.
    sessions: u32,
    steps: u32,
    asked: u32,
    /// As of their beginning.
    first: Vec<Option<Usage>>,
    rss_max: Vec<u64>,
    beat: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
    /// Ended last.
    _children: Option<Children>,
}

impl Fleet {
    /// Connects to all workers, compares clocks, hands the scenario out and waits until all are ready.
    ///
    /// # Errors
    /// A worker cannot be reached, is of another build, does not know the token, is busy, or cannot do it.
    pub fn start(scenario: &Scenario, split: Split, workers: Workers) -> anyhow::Result<Self> {
        let (places, token, children) = match workers {
            Workers::There(addresses, token) => {
                let places = addresses.into_iter().map(|place| (place.clone(), place));
                (places.collect(), token, None)
            }
            Workers::Here(children) => (
                children.places().to_vec(),
                children.token().clone(),
                Some(children),
            ),
        };
        let epoch = Instant::now();
        let mut fleet = Self {
            first: vec![None; places.len()],
            rss_max: vec![0; places.len()],
            peers: Vec::new(),
            parts: split.parts(),
            split,
            epoch,
            sessions: 0,
            steps: 0,
            asked: 0,
            beat: None,
            _children: children,
        };
        for (name, address) in places {
            let peer = Peer::connect(&name, &address, &token, epoch)?;
            fleet.peers.push(peer);
        }
        fleet.beat = Some(beat(&fleet.peers, epoch)?);
        for peer in &fleet.peers {
            for _ in 0..QUESTIONS {
                let before = peer.line().said().clock.samples();
                let sent_ns = nanoseconds(epoch);
                peer.line().say(&ToWorker::Beat { sent_ns })?;
                peer.line().must("answered", ANSWERED, |said| {
                    said.clock.samples() > before || before >= QUESTIONS
                })?;
            }
        }
        for (peer, part) in fleet.peers.iter().zip(&fleet.parts) {
            let job = Job {
                scenario: told(scenario),
                part: *part,
            };
            peer.line().say(&ToWorker::Job(Box::new(job)))?;
        }
        // Groups take as long as they take; whoever is gone is noticed.
        for peer in &fleet.peers {
            while !peer.line().wait(LOOK, |said| said.ready)? {
                fleet.check()?;
            }
        }
        Ok(fleet)
    }

    /// The workers as they are.
    #[must_use]
    pub fn workers(&self) -> Vec<Worker> {
        let rows = self.peers.iter().zip(&self.parts).enumerate();
        let row = |(at, (peer, part)): (usize, (&Peer, &Part))| {
            let said = peer.line().said();
            let clock = said.clock.best();
            let own = said.own.unwrap_or_default();
            let first = self.first.get(at).copied().flatten();
            let spent = ticks(&own).saturating_sub(first.as_ref().map_or(0, ticks));
            Worker {
                name: peer.name.clone(),
                machine: peer.machine.clone(),
                first_user: part.first,
                users: part.count,
                clock_ms: clock.map_or(0.0, |clock| clock.wall_us as f64 / 1e3),
                clock_error_ms: clock.map_or(0.0, |clock| clock.rtt_ns as f64 / 2e6),
                counts: Counts::of(&said.totals),
                cpu_s: spent as f64 / 100.0,
                rss: own.rss,
                rss_max: self.rss_max.get(at).copied().unwrap_or_default(),
            }
        };
        rows.map(row).collect()
    }

    fn check(&self) -> anyhow::Result<()> {
        self.peers.iter().try_for_each(|peer| peer.line().check())?;
        Ok(())
    }

    fn all_must(
        &self,
        what: &'static str,
        within: Duration,
        is_said: impl Fn(&super::peer::Said) -> bool,
    ) -> anyhow::Result<()> {
        let asked = Instant::now();
        for peer in &self.peers {
            // Whoever waits for one notices that another is gone.
            while !peer.line().wait(LOOK, &is_said)? {
                self.check()?;
                if asked.elapsed() > within {
                    peer.line().must(what, Duration::ZERO, &is_said)?;
                }
            }
        }
        Ok(())
    }

    /// Takes what was recorded.
    fn windows(&mut self) -> (Window, Usage) {
        let (mut window, mut own) = (Window::default(), Usage::default());
        let rows = self.peers.iter().zip(&mut self.first);
        for ((peer, first), rss_max) in rows.zip(&mut self.rss_max) {
            let mut said = peer.line().said();
            window.add(&std::mem::take(&mut said.window));
            if let Some(used) = said.own {
                first.get_or_insert(used);
                *rss_max = used.rss.max(*rss_max);
                own.rss = own.rss.saturating_add(used.rss);
                own.user_ticks = own.user_ticks.saturating_add(used.user_ticks);
                own.system_ticks = own.system_ticks.saturating_add(used.system_ticks);
                own.descriptors = own.descriptors.saturating_add(used.descriptors);
            }
        }
        (window, own)
    }
}

impl Crew for Fleet {
    fn begin(&mut self, step: &Step) -> anyhow::Result<Instant> {
        self.steps += 1;
        let number = self.steps;
        let clocks = self
            .peers
            .iter()
            .map(|peer| peer.line().said().clock.best());
        let way_ns = clocks.flatten().map(|clock| clock.rtt_ns).max();
        let lead = LEAD + Duration::from_nanos(way_ns.unwrap_or(0));
        let at = Instant::now() + lead;
        let ours_ns = nanoseconds(self.epoch)
            .saturating_add(u64::try_from(lead.as_nanos()).unwrap_or(u64::MAX));
        let parts = self.split.divide(step, self.sessions);
        for (peer, part) in self.peers.iter().zip(parts) {
            let at_ns = peer.line().said().clock.there(ours_ns);
            peer.line().say(&ToWorker::Step {
                number,
                at_ns,
                step: Box::new(part),
            })?;
        }
        self.all_must("begun what it was told", BEGUN, |said| said.step >= number)?;
        self.sessions = step.sessions;
        Ok(at)
    }

    fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for peer in &self.peers {
            totals.add(&peer.line().said().totals);
        }
        totals
    }

    fn look(&mut self) -> anyhow::Result<()> {
        std::thread::sleep(LOOK);
        self.check()
    }

    fn tick(&mut self) -> anyhow::Result<Gathered> {
        self.asked += 1;
        let number = self.asked;
        for peer in &self.peers {
            peer.line().say(&ToWorker::Tick { number })?;
        }
        let asked = Instant::now();
        for peer in &self.peers {
            let left = HANDED_OVER.saturating_sub(asked.elapsed());
            peer.line().wait(left, |said| said.tick >= number)?;
        }
        let (window, own) = self.windows();
        Ok(Gathered {
            totals: self.totals(),
            window,
            own,
            workers: self.workers(),
        })
    }

    fn finish(&mut self) -> anyhow::Result<Ended> {
        self.check()?;
        for peer in &self.peers {
            peer.line().say(&ToWorker::End)?;
        }
        self.all_must("judged what came", JUDGED, |said| said.ended.is_some())?;
        let (window, _) = self.windows();
        let mut end = End::default();
        for peer in &self.peers {
            if let Some(own) = &peer.line().said().ended {
                end.add(own, &peer.name);
            }
        }
        Ok(Ended { window, end })
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.beat.take() {
            stop.store(true, Ordering::Release);
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// A thread that says to all workers each second that this coordinator is there.
fn beat(peers: &[Peer], epoch: Instant) -> anyhow::Result<(Arc<AtomicBool>, JoinHandle<()>)> {
    let stop = Arc::new(AtomicBool::new(false));
    let lines: Vec<Arc<Line>> = peers.iter().map(|peer| Arc::clone(peer.line())).collect();
    let stopped = Arc::clone(&stop);
    let thread = std::thread::Builder::new()
        .name("beat".to_owned())
        .spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                for line in &lines {
                    // What is wrong with it is said to whoever looks.
                    if line.check().is_ok() {
                        let sent_ns = nanoseconds(epoch);
                        let _ = line.say(&ToWorker::Beat { sent_ns });
                    }
                }
                std::thread::park_timeout(BEAT);
            }
        })
        .context("a thread")?;
    Ok((stop, thread))
}

/// A scenario as workers are told it: what is asked at the end, and of the server beside, is the coordinator's.
fn told(scenario: &Scenario) -> Scenario {
    let mut told = scenario.clone();
    told.expects.clear();
    told.target.admin.clear();
    told.target.admin_token = None;
    told.target.server_pid.clear();
    told
}
