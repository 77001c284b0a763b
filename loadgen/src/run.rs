//! The conductor: starts the threads, moves the phases, samples the server, judges.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ahash::{AHashMap, AHashSet};
use anyhow::{Context as _, bail};
use hawser_ring::RingError;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::args::Args;
use crate::check::Findings;
use crate::engine::{Counters, Engine, Found, Phase, SESSIONS_PER_THREAD_MAX, Shared, wall_ms};
use crate::history::{self, Chat, Run, Writer};
use crate::plan::Plan;
use crate::report::{Latency, Report};
use crate::tokens::Signer;
use crate::usage::{Sample, Usage};
use crate::{groups, target};

/// How often the conductor looks.
const LOOK: Duration = Duration::from_millis(100);
/// At the end a backlog may take so many times the pause that ends the waiting.
const SETTLES_MAX: u32 = 10;
/// A step that makes no progress for so long is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// Rest before memory is read, so that what is freed lazily is freed.
const IDLE: Duration = Duration::from_secs(5);
/// Sessions that two counts of memory are apart at least.
const SLOPE_SESSIONS: u32 = 10_000;

/// Makes a run.
///
/// # Errors
/// The run could not be made; a run that was made and found something is a report.
pub fn run(args: Args) -> anyhow::Result<Report> {
    run_observed(args, &mut |_| ())
}

/// The same, and calls as the load begins and as it has ended.
///
/// # Errors
/// As [`run`].
pub fn run_observed(args: Args, look: &mut dyn FnMut(Phase)) -> anyhow::Result<Report> {
    let shared = Arc::new(prepare(args)?);
    let mut conductor = Conductor::start(&shared)?;
    let outcome = conductor.conduct(look);
    shared.set_phase(Phase::End);
    let found = conductor.join()?;
    outcome?;
    Ok(conductor.report(found))
}

/// Everything that the threads of a run share; its groups are made.
///
/// # Errors
/// As [`run`].
pub(crate) fn prepare(args: Args) -> anyhow::Result<Shared> {
    prepare_while(args, &|| true)
}

/// The same, given up as soon as it is no longer wanted.
///
/// # Errors
/// As [`run`].
pub(crate) fn prepare_while(args: Args, wanted: &dyn Fn() -> bool) -> anyhow::Result<Shared> {
    let needed = args.connections.div_ceil(SESSIONS_PER_THREAD_MAX);
    let threads = u32::from(args.threads)
        .max(needed)
        .min(args.connections / 2);
    let signer = Signer::open(&args)?;
    let (target, addresses, sources) = target::resolve(&args)?;
    let mut plan =
        Plan::from(&args.prefix, args.first_user, args.connections, threads).context("--prefix")?;
    if args.group_share > 0.0 {
        let sizes = groups::Sizes {
            users: args.group_size,
            away: args.away_members,
        };
        let bar = bar(&args, "changes of groups", sizes.changes(&plan));
        let made = groups::make(&args.api, &plan, sizes, &signer, || {
            bar.inc(1);
            wanted()
        })?;
        bar.finish_and_clear();
        plan.set_groups(args.group_size, made);
    }
    begin_history(&args, &plan)?;
    Ok(Shared::new(
        args, threads, plan, target, addresses, sources, signer,
    ))
}

pub(crate) struct Conductor {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Result<Found, RingError>>>,
    begun: Instant,
    samples: Vec<Sample>,
    ramp_s: f64,
    load_s: f64,
    sent_per_s: f64,
    delivered_per_s: f64,
    live: u64,
}

impl Conductor {
    pub(crate) fn start(shared: &Arc<Shared>) -> anyhow::Result<Self> {
        let mut threads = Vec::new();
        for index in 0..shared.threads {
            let shared = Arc::clone(shared);
            let history = match &shared.args.history {
                Some(dir) => {
                    let bytes_max = (shared.args.history_mib << 20) / u64::from(shared.threads);
                    Some(Writer::create(dir, index, bytes_max)?)
                }
                None => None,
            };
            let thread = std::thread::Builder::new()
                .name(format!("load-{index}"))
                .spawn(move || {
                    // The ring stays in the thread that made it.
                    let engine = Engine::new(Arc::clone(&shared), index);
                    let result = engine.and_then(|engine| engine.recorded(history).run());
                    if result.is_err() {
                        shared.set_phase(Phase::End);
                    }
                    result
                });
            threads.push(thread.context("a thread")?);
        }
        Ok(Self {
            shared: Arc::clone(shared),
            threads,
            begun: Instant::now(),
            samples: Vec::new(),
            ramp_s: 0.0,
            load_s: 0.0,
            sent_per_s: 0.0,
            delivered_per_s: 0.0,
            live: 0,
        })
    }

    fn conduct(&mut self, look: &mut dyn FnMut(Phase)) -> anyhow::Result<()> {
        let all = self.shared.args.connections;
        self.sample("start");
        if self.shared.args.warm && all > SLOPE_SESSIONS {
            // Two counts of idle sessions give the slope.
            let first = (all - SLOPE_SESSIONS).min(all / 4) & !1;
            if first > 0 {
                self.ramp(first)?;
                self.warm()?;
                self.idle();
            }
        }
        self.ramp(all)?;
        if self.shared.args.warm {
            self.warm()?;
            self.idle();
        }
        look(Phase::Load);
        self.load()?;
        look(Phase::Rest);
        self.settle();
        self.hold()?;
        self.live = Counters::read(&self.shared.counters.live);
        self.sweep()?;
        self.sample("end");
        Ok(())
    }

    /// Opens sessions until so many users are live.
    pub(crate) fn ramp(&mut self, sessions: u32) -> anyhow::Result<()> {
        let begun = Instant::now();
        self.sample("ramp");
        self.shared.set_phase(Phase::Ramp);
        self.shared.set_sessions(sessions);
        let shared = Arc::clone(&self.shared);
        let wanted = u64::from(sessions);
        let live = self.wait("sessions", wanted, PATIENCE, || {
            Counters::read(&shared.counters.live)
        })?;
        self.ramp_s += begun.elapsed().as_secs_f64();
        self.sample("ramped");
        self.live = live;
        if live * 10 < wanted * 9 {
            let failures = Counters::read(&shared.counters.failed);
            if live == 0 {
                bail!(
                    "no session could be opened ({failures} attempts failed); is the gateway there, and is the key its own?"
                );
            }
            eprintln!(
                "only {live} of {wanted} sessions are live ({failures} attempts failed); going on with these"
            );
        }
        Ok(())
    }

    fn warm(&mut self) -> anyhow::Result<()> {
        self.shared.set_phase(Phase::Warm);
        let shared = Arc::clone(&self.shared);
        let live = Counters::read(&shared.counters.live);
        self.wait("warm", live, PATIENCE, || {
            Counters::read(&shared.counters.warm)
        })?;
        self.shared.set_phase(Phase::Rest);
        Ok(())
    }

    fn idle(&mut self) {
        std::thread::sleep(IDLE);
        self.sample("idle");
    }

    fn load(&mut self) -> anyhow::Result<()> {
        let counters = &self.shared.counters;
        let before = (
            Counters::read(&counters.sent),
            Counters::read(&counters.delivered),
        );
        let begun = Instant::now();
        self.sample("load");
        self.shared.set_phase(Phase::Load);
        let seconds = self.shared.args.duration_s;
        let bar = bar(&self.shared.args, "load, s", seconds);
        let every = Duration::from_secs((seconds / 60).max(1));
        let mut next = every;
        let until = self.shared.args.until.clone();
        let told = || until.as_ref().is_some_and(|file| file.exists());
        while begun.elapsed() < Duration::from_secs(seconds) && !told() {
            self.look()?;
            bar.set_position(begun.elapsed().as_secs());
            let counters = &self.shared.counters;
            bar.set_message(format!(
                "{} live, {} sent, {} delivered",
                Counters::read(&counters.live),
                Counters::read(&counters.sent),
                Counters::read(&counters.delivered)
            ));
            if begun.elapsed() >= next {
                next += every;
                self.sample("load");
            }
        }
        self.shared.set_phase(Phase::Rest);
        bar.finish_and_clear();
        self.load_s = begun.elapsed().as_secs_f64();
        let counters = &self.shared.counters;
        self.sent_per_s = (Counters::read(&counters.sent) - before.0) as f64 / self.load_s;
        self.delivered_per_s =
            (Counters::read(&counters.delivered) - before.1) as f64 / self.load_s;
        Ok(())
    }

    /// Waits until everything is answered and delivered, or nothing comes any more: a backlog that shrinks is late, not lost.
    pub(crate) fn settle(&mut self) {
        let counters = &self.shared.counters;
        let quiet = Duration::from_secs(self.shared.args.settle_s);
        let begun = Instant::now();
        let (mut came, mut came_at) = (None, begun);
        while came_at.elapsed() < quiet && begun.elapsed() < quiet * SETTLES_MAX {
            let in_flight = Counters::read(&counters.in_flight);
            let delivered = Counters::read(&counters.delivered);
            if in_flight == 0 && delivered >= Counters::read(&counters.expected) {
                // Time for what should not come: duplicates.
                std::thread::sleep(Duration::from_millis(500));
                return;
            }
            if came.replace((in_flight, delivered)) != Some((in_flight, delivered)) {
                came_at = Instant::now();
            }
            std::thread::sleep(LOOK);
        }
    }

    fn hold(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        let seconds = self.shared.args.hold_s;
        self.sample("hold");
        let bar = bar(&self.shared.args, "hold, s", seconds);
        while begun.elapsed() < Duration::from_secs(seconds) {
            self.look()?;
            bar.set_position(begun.elapsed().as_secs());
        }
        bar.finish_and_clear();
        self.sample("hold");
        Ok(())
    }

    /// Reads every chat back into the history.
    fn sweep(&mut self) -> anyhow::Result<()> {
        if self.shared.args.history.is_none() {
            return Ok(());
        }
        self.shared.set_phase(Phase::Sweep);
        let shared = Arc::clone(&self.shared);
        let wanted = u64::from(shared.plan.conversations());
        let swept = self.wait("chats", wanted, PATIENCE, || {
            Counters::read(&shared.counters.swept)
        })?;
        if swept < wanted {
            eprintln!(
                "{} of {wanted} chats could not be read back",
                wanted - swept
            );
        }
        Ok(())
    }

    /// Waits until `read` says `wanted`, or does not change for `patience`.
    fn wait(
        &self,
        what: &'static str,
        wanted: u64,
        patience: Duration,
        read: impl Fn() -> u64,
    ) -> anyhow::Result<u64> {
        let bar = bar(&self.shared.args, what, wanted);
        let (mut last, mut changed) = (read(), Instant::now());
        while last < wanted && changed.elapsed() < patience {
            self.look()?;
            let now = read();
            if now != last {
                (last, changed) = (now, Instant::now());
            }
            bar.set_position(now);
        }
        bar.finish_and_clear();
        Ok(last)
    }

    /// A little time; fails when a thread has given up.
    pub(crate) fn look(&self) -> anyhow::Result<()> {
        std::thread::sleep(LOOK);
        if self.shared.phase() == Phase::End {
            bail!("a thread could not go on");
        }
        Ok(())
    }

    fn sample(&mut self, phase: &'static str) {
        let usage = self.shared.args.server_pid.and_then(Usage::read);
        if let (Some(usage), Some(own)) = (usage, Usage::read(std::process::id())) {
            self.samples.push(Sample {
                at_s: self.begun.elapsed().as_secs_f64(),
                phase,
                sessions: Counters::read(&self.shared.counters.live),
                usage,
                own,
            });
        }
    }

    pub(crate) fn join(&mut self) -> anyhow::Result<Vec<Found>> {
        let mut all = Vec::new();
        for thread in self.threads.drain(..) {
            match thread.join() {
                Ok(found) => all.push(found?),
                Err(_) => bail!("a thread panicked"),
            }
        }
        Ok(all)
    }

    pub(crate) fn report(self, found: Vec<Found>) -> Report {
        let shared = &self.shared;
        let mut lanes = AHashMap::new();
        let mut unjudged = AHashSet::new();
        for thread in &found {
            lanes.extend(thread.lanes());
            unjudged.extend(thread.unjudged.iter().copied());
        }
        let [
            mut connect,
            mut queued,
            mut refused,
            mut send_result,
            mut deliver,
        ] = std::array::from_fn(|_| Latency::new());
        let counters = &shared.counters;
        let mut report = Report {
            command: std::env::args().collect::<Vec<_>>().join(" "),
            connections: shared.args.connections,
            live: self.live,
            closed: Counters::read(&counters.closed),
            failed: Counters::read(&counters.failed),
            reconnects: Counters::read(&counters.reconnects),
            moved: Counters::read(&counters.moved),
            ramp_s: self.ramp_s,
            load_s: self.load_s,
            sent_per_s: self.sent_per_s,
            delivered_per_s: self.delivered_per_s,
            connect: connect.summary(),
            queued: queued.summary(),
            refused: refused.summary(),
            send_result: send_result.summary(),
            deliver: deliver.summary(),
            findings: Findings::default(),
            errors: std::collections::BTreeMap::new(),
            closes: std::collections::BTreeMap::new(),
            shed: 0,
            foreign: 0,
            unjudged: unjudged.len() as u64,
            failures: Vec::new(),
            samples: self.samples,
            own_rss: Usage::read(std::process::id()).map_or(0, |usage| usage.rss),
        };
        for (index, thread) in (0..).zip(found) {
            connect.add(&thread.connect);
            queued.add(&thread.queued);
            refused.add(&thread.refused);
            send_result.add(&thread.send_result);
            deliver.add(&thread.deliver);
            report.shed += thread.shed;
            report.foreign += thread.foreign;
            report.failures.extend(thread.failures);
            for (code, count) in thread.errors {
                *report.errors.entry(code).or_default() += count;
            }
            for (code, count) in thread.closes {
                *report.closes.entry(code).or_default() += count;
            }
            let mine = |user: u32| shared.plan.thread(user) == index && !unjudged.contains(&user);
            let receivers = |conversation: u32| shared.plan.members(conversation);
            report
                .findings
                .add(&thread.checker.finish(&lanes, receivers, mine));
        }
        report.failures.truncate(5);
        report.connect = connect.summary();
        report.queued = queued.summary();
        report.refused = refused.summary();
        report.send_result = send_result.summary();
        report.deliver = deliver.summary();
        report
    }
}

fn begin_history(args: &Args, plan: &Plan) -> anyhow::Result<()> {
    let Some(dir) = &args.history else {
        return Ok(());
    };
    let chats = (0..plan.conversations()).map(|number| Chat {
        chat: plan
            .chat(number)
            .map_or_else(String::new, |chat| chat.as_str().to_owned()),
        members: plan.members(number).to_vec(),
    });
    let run = Run {
        command: std::env::args().collect::<Vec<_>>().join(" "),
        began_ms: wall_ms(),
        seed: args.seed,
        prefix: args.prefix.clone(),
        chats: chats.collect(),
    };
    Ok(history::begin(dir, &run)?)
}

fn bar(args: &Args, what: &'static str, len: u64) -> ProgressBar {
    let bar = ProgressBar::new(len).with_prefix(what);
    if args.quiet {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{prefix:>9} {wide_bar} {pos}/{len} {msg}");
    // The template is a constant that indicatif accepts.
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}
