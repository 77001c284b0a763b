//! Carries a scenario out: one phase after the other, with a tick every second.

use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::crew::{self, Crew, Ended, Step};
use super::model::{Kind, Load, Scenario};
use super::record::{Counts, End, Record, Tick};
use super::server;
use crate::commands::storm::Return;
use crate::engine::{self, Phase, Storm, Totals};

const TICK: Duration = Duration::from_secs(1);
/// A step of a ramp or a storm that makes no progress for so long is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// The wait at the end of a phase may be so many times the pause that ends it.
const SETTLES_MAX: u32 = 10;

/// Plays a scenario with a crew that has been started; `see` is called with every tick, once it is in the record.
///
/// # Errors
/// It could not be made: no session, an admin address that does not answer, a worker that is gone.
pub fn play(
    scenario: &Scenario,
    crew: &mut dyn Crew,
    see: &mut dyn FnMut(&Record, &Tick),
) -> anyhow::Result<(Record, End)> {
    let before = crew::before(scenario)?;
    let mut player = Player {
        scenario,
        step: Step::first(before.clone()),
        before,
        crew,
        see,
        record: Record::default(),
        phase: 0,
        begun: Instant::now(),
        next: Instant::now() + TICK,
    };
    let outcome = player.phases();
    let ended = player.crew.finish();
    let mut record = player.record;
    // Why a thread ended says more than that one did.
    let Ended { window, end } = ended?;
    outcome?;
    // What came between the last tick and the end.
    if let Some(phase) = record.phases.last_mut() {
        phase.window.add(&window);
    }
    Ok((record, end))
}

struct Player<'a> {
    scenario: &'a Scenario,
    crew: &'a mut dyn Crew,
    /// What the crew does now.
    step: Step,
    /// What is sent while sessions are opened.
    before: engine::Load,
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
            self.tick()?;
            self.one(&phase.kind)
                .with_context(|| format!("phase {}", phase.name))?;
            self.tick()?;
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
        let begun = self.begin(|step, before| {
            step.load = before.clone();
            step.load.ramp = f64::from(per_second);
            (step.phase, step.sessions) = (Phase::Ramp, to);
        })?;
        let live = self.wait(u64::from(to), |totals| totals.live)?;
        self.special("ramp_s", begun.elapsed().as_secs_f64());
        if live == 0 {
            let failed = self.crew.totals().failed;
            anyhow::bail!(
                "no session could be opened ({failed} attempts failed); is the gateway there, and is target.key its own?"
            );
        }
        self.special("not_opened", u64::from(to).saturating_sub(live) as f64);
        if self.scenario.sessions.warm {
            self.begin(|step, _| step.phase = Phase::Warm)?;
            self.wait(live, |totals| totals.warm)?;
            self.begin(|step, _| step.phase = Phase::Rest)?;
            self.settle()?;
        }
        Ok(())
    }

    fn loaded(&mut self, load: &Load, time: Duration) -> anyhow::Result<()> {
        let begun = self.load(load, |_| ())?;
        self.pause(time)?;
        self.rest(begun)?;
        self.settle()
    }

    fn storm(
        &mut self,
        share: f64,
        fresh: bool,
        pace: Option<u32>,
        load: &Load,
    ) -> anyhow::Result<()> {
        let sessions = self.step.sessions;
        let live = f64::from(sessions);
        // Whole pairs stay; the product is at most the number of sessions.
        let cut = (live * share).round();
        let bystanders = if cut >= live { 0.0 } else { live - cut };
        let bystanders = (0..=sessions)
            .rfind(|n| f64::from(*n) <= bystanders)
            .unwrap_or(0)
            & !1;
        let Totals { back, cut, .. } = self.crew.totals();
        let was_cut = cut;
        let wanted = u64::from(sessions - bystanders);
        let begun = self.load(load, |step| {
            step.storm = Some(Storm { bystanders, fresh });
            step.cut = true;
        })?;
        // A look while they are away, then one for those who come at once.
        self.pause(TICK / 2)?;
        self.tick()?;
        self.pause(TICK / 2)?;
        let cut = self.crew.totals().cut.saturating_sub(was_cut);
        self.wait(back + cut.min(wanted), |totals| totals.back)?;
        self.rest(begun)?;
        self.settle()?;
        self.tick()?;
        self.begin(|step, _| step.storm = None)?;
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
        let sessions = self.step.sessions;
        let wanted = f64::from(sessions) * share;
        let pairs = (1..=sessions / 2)
            .find(|n| f64::from(*n) >= wanted)
            .unwrap_or(sessions / 2);
        let begun = self.load(load, |step| step.slow_from = sessions - 2 * pairs)?;
        self.pause(time)?;
        self.rest(begun)?;
        // What the others are owed comes before those who did not read ask for theirs.
        self.pause(TICK)?;
        let released = self.begin(|step, _| step.slow_from = u32::MAX)?;
        self.settle()?;
        self.special("slow", f64::from(pairs));
        self.special("caught_up_s", released.elapsed().as_secs_f64());
        self.tick()?;
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
        let moved = self.crew.totals().moved;
        let begun = self.load(load, |_| ())?;
        let asked = Instant::now();
        let mut view = server::drain(target, gateway, true)?;
        while !view.done && asked.elapsed() < patience {
            self.pause(Duration::from_millis(250))?;
            view = server::drain(target, gateway, false)?;
        }
        let drained_s = asked.elapsed().as_secs_f64();
        let wanted = u64::from(self.step.sessions);
        let live = self.wait(wanted, |totals| totals.live)?;
        self.special("not_back", wanted.saturating_sub(live) as f64);
        self.rest(begun)?;
        self.settle()?;
        self.special(
            "drained_s",
            if view.done { drained_s } else { f64::INFINITY },
        );
        self.special("left", view.sessions as f64);
        self.special(
            "sent_elsewhere",
            self.crew.totals().moved.saturating_sub(moved) as f64,
        );
        Ok(())
    }

    /// The crew does something else from now on.
    fn begin(&mut self, change: impl FnOnce(&mut Step, &engine::Load)) -> anyhow::Result<Instant> {
        change(&mut self.step, &self.before);
        let begun = self.crew.begin(&self.step);
        // It was cut.
        self.step.cut = false;
        begun
    }

    /// Messages begin.
    fn load(&mut self, load: &Load, change: impl FnOnce(&mut Step)) -> anyhow::Result<Instant> {
        let mut share = 0.0;
        let bodies = load.bodies.iter().map(|body| {
            share += body.share;
            (share, body.bytes)
        });
        let of = engine::Load {
            ramp: self.step.load.ramp,
            rate: load.rate,
            bodies: bodies.collect(),
            group_share: load.group_share,
            receipt_share: load.receipt_share,
            typing_share: load.typing_share,
        };
        self.begin(|step, _| {
            (step.load, step.phase) = (of, Phase::Load);
            change(step);
        })
    }

    /// Messages end.
    fn rest(&mut self, begun: Instant) -> anyhow::Result<()> {
        let ended = self.begin(|step, _| step.phase = Phase::Rest)?;
        if let Some(phase) = self.record.phases.get_mut(self.phase) {
            phase.load_s = ended.saturating_duration_since(begun).as_secs_f64();
        }
        Ok(())
    }

    /// Waits until everything is answered and delivered, or nothing comes any more, so that each phase has what it began.
    fn settle(&mut self) -> anyhow::Result<()> {
        let quiet = Duration::from_secs(self.scenario.sessions.settle_s);
        let begun = Instant::now();
        let (mut came, mut came_at) = (None, begun);
        while came_at.elapsed() < quiet && begun.elapsed() < quiet * SETTLES_MAX {
            let totals = self.crew.totals();
            let now = (totals.in_flight, totals.delivered);
            if now.0 == 0 && now.1 >= totals.expected {
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
    fn wait(&mut self, wanted: u64, read: impl Fn(&Totals) -> u64) -> anyhow::Result<u64> {
        let (mut last, mut changed) = (read(&self.crew.totals()), Instant::now());
        while last < wanted && changed.elapsed() < PATIENCE {
            self.look()?;
            let now = read(&self.crew.totals());
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
        self.crew.look()?;
        if Instant::now() >= self.next {
            self.tick()?;
        }
        Ok(())
    }

    fn tick(&mut self) -> anyhow::Result<()> {
        self.next = Instant::now() + TICK;
        let gathered = self.crew.tick()?;
        let tick = Tick {
            at_s: self.begun.elapsed().as_secs_f64(),
            phase: self.phase,
            counts: Counts::of(&gathered.totals),
            window: gathered.window,
            server: server::usage(&self.scenario.target.server_pid),
            own: gathered.own,
            workers: gathered.workers,
        };
        self.record.add(&tick);
        (self.see)(&self.record, &tick);
        Ok(())
    }

    fn special(&mut self, name: &'static str, value: f64) {
        if let Some(phase) = self.record.phases.get_mut(self.phase) {
            phase.special.insert(name, value);
        }
    }
}
