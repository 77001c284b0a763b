//! Carries a scenario out: one phase after the other, with a tick every second.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser as _;

use super::model::{Kind, Load, Scenario};
use super::record::{Counts, End, Record, Tick};
use super::server;
use crate::args::Args;
use crate::commands::storm::Return;
use crate::engine::{self, Counters, Phase, Shared, Storm, Window};
use crate::run::{self, Conductor};
use crate::usage::Usage;

const TICK: Duration = Duration::from_secs(1);
/// A step of a ramp or a storm that makes no progress for so long is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// All threads hand their windows over within a turn each.
const HAND_OVER: Duration = Duration::from_millis(500);
/// The wait at the end of a phase may be so many times the pause that ends it.
const SETTLES_MAX: u32 = 10;

/// Plays a scenario; `see` is called with every tick, once it is in the record.
///
/// # Errors
/// It could not be made: no gateway, no key, no session, no io_uring.
pub fn play(
    scenario: &Scenario,
    see: &mut dyn FnMut(&Record, &Tick),
) -> anyhow::Result<(Record, End)> {
    let mut shared = run::prepare(args(scenario)?)?;
    let bodies = scenario.phases.iter().filter_map(|phase| phase.kind.load());
    shared.bodies = bodies
        .flat_map(|load| load.bodies.iter().map(|body| body.bytes as usize))
        .collect();
    // What a warm session sends is of the size that the command line would have.
    shared.bodies.push(shared.args.body);
    let shared = Arc::new(shared);
    shared.order(|orders| orders.windows = 1);
    let conductor = Conductor::start(&shared)?;
    let mut player = Player {
        scenario,
        shared: Arc::clone(&shared),
        conductor,
        see,
        record: Record::default(),
        phase: 0,
        begun: Instant::now(),
        next: Instant::now() + TICK,
    };
    let outcome = player.phases();
    shared.set_phase(Phase::End);
    let found = player.conductor.join()?;
    let Player {
        conductor,
        mut record,
        ..
    } = player;
    outcome?;
    // What came between the last tick and the end.
    if let Some(phase) = record.phases.last_mut() {
        shared
            .take_windows()
            .iter()
            .for_each(|window| phase.window.add(window));
    }
    let report = conductor.report(found);
    let end = End {
        findings: report.findings,
        foreign: report.foreign,
        unjudged: report.unjudged,
        errors: report.errors,
        closes: report.closes,
        failures: report.failures,
    };
    Ok((record, end))
}

/// The command line that a scenario would be.
fn args(scenario: &Scenario) -> anyhow::Result<Args> {
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
    args.connections = sessions.count;
    args.threads = sessions.threads;
    args.source.clone_from(&sessions.sources);
    args.heartbeat_ms = sessions.heartbeat_ms;
    args.prefix.clone_from(&sessions.prefix);
    args.warm = sessions.warm;
    args.group_size = sessions.group_size;
    args.seed = sessions.seed;
    args.settle_s = sessions.settle_s;
    let loads = scenario.phases.iter().filter_map(|phase| phase.kind.load());
    // Groups are made where some phase sends to them.
    args.group_share = loads.map(|load| load.group_share).fold(0.0, f64::max);
    args.quiet = true;
    Ok(args)
}

struct Player<'a> {
    scenario: &'a Scenario,
    shared: Arc<Shared>,
    conductor: Conductor,
    see: &'a mut dyn FnMut(&Record, &Tick),
    record: Record,
    phase: usize,
    begun: Instant,
    next: Instant,
}

impl Player<'_> {
    fn phases(&mut self) -> anyhow::Result<()> {
        let scenario = self.scenario;
        for (at, phase) in scenario.phases.iter().enumerate() {
            self.phase = at;
            self.tick();
            self.one(&phase.kind)
                .with_context(|| format!("phase {}", phase.name))?;
            self.tick();
        }
        Ok(())
    }

    fn one(&mut self, kind: &Kind) -> anyhow::Result<()> {
        match kind {
            Kind::Ramp { to, per_second } => self.ramp(*to, *per_second),
            Kind::Hold { seconds } => self.pause(Duration::from_secs(*seconds)),
            Kind::Mix { seconds, load } => self.loaded(load, Duration::from_secs(*seconds)),
            Kind::Soak { minutes, load, .. } => {
                self.loaded(load, Duration::from_secs_f64(minutes * 60.0))
            }
            Kind::Storm {
                share,
                fresh,
                pace,
                load,
            } => self.storm(*share, *fresh, *pace, load),
            Kind::SlowReaders {
                share,
                seconds,
                load,
            } => self.slow(*share, Duration::from_secs(*seconds), load),
            Kind::Drain {
                gateway,
                seconds,
                load,
            } => self.drain(*gateway, Duration::from_secs(*seconds), load),
        }
    }

    fn ramp(&mut self, to: u32, per_second: u32) -> anyhow::Result<()> {
        let mut load = engine::Load::of(&self.shared.args);
        load.ramp = per_second;
        self.shared.order(|orders| orders.load = Arc::new(load));
        self.shared.set_phase(Phase::Ramp);
        self.shared.set_sessions(to);
        let begun = Instant::now();
        let live = self.wait(u64::from(to), |counters| Counters::read(&counters.live))?;
        self.special("ramp_s", begun.elapsed().as_secs_f64());
        if live == 0 {
            let failed = Counters::read(&self.shared.counters.failed);
            anyhow::bail!(
                "no session could be opened ({failed} attempts failed); is the gateway there, and is target.key its own?"
            );
        }
        self.special("not_opened", u64::from(to).saturating_sub(live) as f64);
        if self.shared.args.warm {
            self.shared.set_phase(Phase::Warm);
            self.wait(live, |counters| Counters::read(&counters.warm))?;
            self.shared.set_phase(Phase::Rest);
            self.settle()?;
        }
        Ok(())
    }

    fn loaded(&mut self, load: &Load, time: Duration) -> anyhow::Result<()> {
        let begun = self.load(load);
        self.pause(time)?;
        self.rest(begun);
        self.settle()
    }

    fn storm(
        &mut self,
        share: f64,
        fresh: bool,
        pace: Option<u32>,
        load: &Load,
    ) -> anyhow::Result<()> {
        let live = f64::from(self.shared.sessions());
        // Whole pairs stay; the product is at most the number of sessions.
        let cut = (live * share).round();
        let bystanders = if cut >= live { 0.0 } else { live - cut };
        let bystanders = (0..=self.shared.sessions())
            .rfind(|n| f64::from(*n) <= bystanders)
            .unwrap_or(0)
            & !1;
        self.shared.set_storm(Storm { bystanders, fresh });
        let back = Counters::read(&self.shared.counters.back);
        let was_cut = Counters::read(&self.shared.counters.cut);
        let wanted = u64::from(self.shared.sessions() - bystanders);
        let begun = self.load(load);
        self.shared.cut();
        // A look while they are away, then one for those who come at once.
        self.pause(TICK / 2)?;
        self.tick();
        self.pause(TICK / 2)?;
        let cut = Counters::read(&self.shared.counters.cut) - was_cut;
        self.wait(back + cut.min(wanted), |counters| {
            Counters::read(&counters.back)
        })?;
        self.rest(begun);
        self.settle()?;
        self.tick();
        self.shared.order(|orders| orders.storm = None);
        let back_ns = self
            .record
            .phases
            .get(self.phase)
            .map(|phase| phase.window.back_ns.clone());
        let came = Return::new(cut, pace.unwrap_or(1), back_ns.unwrap_or_default());
        self.special("cut", cut as f64);
        self.special("back", came.back as f64);
        self.special("not_back", cut.saturating_sub(came.back) as f64);
        self.special("back_s", came.back_s);
        self.special(
            "most_per_s",
            came.per_second.iter().copied().max().unwrap_or(0) as f64,
        );
        if pace.is_some() {
            self.special("stated_s", came.stated_s);
            self.special("pace_worst_pct", came.worst_percent);
        }
        Ok(())
    }

    fn slow(&mut self, share: f64, time: Duration, load: &Load) -> anyhow::Result<()> {
        let sessions = self.shared.sessions();
        let wanted = f64::from(sessions) * share;
        let pairs = (1..=sessions / 2)
            .find(|n| f64::from(*n) >= wanted)
            .unwrap_or(sessions / 2);
        self.shared
            .order(|orders| orders.slow_from = sessions - 2 * pairs);
        let begun = self.load(load);
        self.pause(time)?;
        self.rest(begun);
        // What the others are owed comes before those who did not read ask for theirs.
        self.pause(TICK)?;
        self.shared.order(|orders| orders.slow_from = u32::MAX);
        let released = Instant::now();
        self.settle()?;
        self.special("slow", f64::from(pairs));
        self.special("caught_up_s", released.elapsed().as_secs_f64());
        self.tick();
        let held = self
            .record
            .phases
            .get(self.phase)
            .map_or(0, |phase| phase.window.held_back);
        self.special("held_back", held as f64);
        Ok(())
    }

    fn drain(&mut self, gateway: usize, patience: Duration, load: &Load) -> anyhow::Result<()> {
        let target = &self.scenario.target;
        let moved = Counters::read(&self.shared.counters.moved);
        let begun = self.load(load);
        let asked = Instant::now();
        let mut view = server::drain(target, gateway, true)?;
        while !view.done && asked.elapsed() < patience {
            self.pause(Duration::from_millis(250))?;
            view = server::drain(target, gateway, false)?;
        }
        let drained_s = asked.elapsed().as_secs_f64();
        let wanted = u64::from(self.shared.sessions());
        let live = self.wait(wanted, |counters| Counters::read(&counters.live))?;
        self.special("not_back", wanted.saturating_sub(live) as f64);
        self.rest(begun);
        self.settle()?;
        self.special(
            "drained_s",
            if view.done { drained_s } else { f64::INFINITY },
        );
        self.special("left", view.sessions as f64);
        self.special(
            "sent_elsewhere",
            (Counters::read(&self.shared.counters.moved) - moved) as f64,
        );
        Ok(())
    }

    /// Messages begin.
    fn load(&mut self, load: &Load) -> Instant {
        let mut share = 0.0;
        let bodies = load.bodies.iter().map(|body| {
            share += body.share;
            (share, body.bytes)
        });
        let of = engine::Load {
            ramp: self.shared.orders().load.ramp,
            rate: load.rate,
            bodies: bodies.collect(),
            group_share: load.group_share,
            receipt_share: load.receipt_share,
            typing_share: load.typing_share,
        };
        self.shared.order(|orders| orders.load = Arc::new(of));
        self.shared.set_phase(Phase::Load);
        Instant::now()
    }

    /// Messages end.
    fn rest(&mut self, begun: Instant) {
        self.shared.set_phase(Phase::Rest);
        if let Some(phase) = self.record.phases.get_mut(self.phase) {
            phase.load_s = begun.elapsed().as_secs_f64();
        }
    }

    /// Waits until everything is answered and delivered, or nothing comes any more, so that each phase has what it began.
    fn settle(&mut self) -> anyhow::Result<()> {
        let shared = Arc::clone(&self.shared);
        let read = |counter| Counters::read(counter);
        let quiet = Duration::from_secs(shared.args.settle_s);
        let begun = Instant::now();
        let (mut came, mut came_at) = (None, begun);
        while came_at.elapsed() < quiet && begun.elapsed() < quiet * SETTLES_MAX {
            let counters = &shared.counters;
            let now = (read(&counters.in_flight), read(&counters.delivered));
            if now.0 == 0 && now.1 >= read(&counters.expected) {
                break;
            }
            if came.replace(now) != Some(now) {
                came_at = Instant::now();
            }
            self.look()?;
        }
        Ok(())
    }

    /// Waits until a counter is there, or makes no progress.
    fn wait(&mut self, wanted: u64, read: impl Fn(&Counters) -> u64) -> anyhow::Result<u64> {
        let shared = Arc::clone(&self.shared);
        let (mut last, mut changed) = (read(&shared.counters), Instant::now());
        while last < wanted && changed.elapsed() < PATIENCE {
            self.look()?;
            let now = read(&shared.counters);
            if now != last {
                (last, changed) = (now, Instant::now());
            }
        }
        Ok(last)
    }

    fn pause(&mut self, time: Duration) -> anyhow::Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < time {
            self.look()?;
        }
        Ok(())
    }

    /// A little time, and a tick where one is due.
    fn look(&mut self) -> anyhow::Result<()> {
        self.conductor.look()?;
        if Instant::now() >= self.next {
            self.tick();
        }
        Ok(())
    }

    fn tick(&mut self) {
        self.next = Instant::now() + TICK;
        let mut window = Window::default();
        let asked = Instant::now();
        self.shared.order(|orders| orders.windows += 1);
        let mut came = 0;
        while came < self.shared.threads && asked.elapsed() < HAND_OVER {
            for part in self.shared.take_windows() {
                window.add(&part);
                came += 1;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let tick = Tick {
            at_s: self.begun.elapsed().as_secs_f64(),
            phase: self.phase,
            counts: Counts::read(&self.shared.counters),
            window,
            server: server::usage(&self.scenario.target.server_pid),
            own: Usage::read(std::process::id()).unwrap_or_default(),
        };
        self.record.add(&tick);
        (self.see)(&self.record, &tick);
    }

    fn special(&mut self, name: &'static str, value: f64) {
        if let Some(phase) = self.record.phases.get_mut(self.phase) {
            phase.special.insert(name, value);
        }
    }
}
