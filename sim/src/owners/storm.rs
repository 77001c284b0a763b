//! A storm: what fails, drawn from the seed; then calm, and judgement.

use super::judge::LEASE_MS;
use super::world::{CALM, ProcessNo, Weather, World};
use super::{OwnersOptions, OwnersOutcome};
use hawser_protocol::client::Chance;
use hawser_protocol::ownership::NodeName;

/// Names that nodes have.
pub(super) const NAMES: [&str; 6] = ["edge-1", "edge-2", "edge-3", "edge-4", "edge-5", "edge-6"];
/// Partitions of a kind are two to the power of so much at most.
const DELIVERY_POWERS: u64 = 7;
const INGEST_POWERS: u64 = 4;
/// Longest pause between two steps, and longest fault, milliseconds.
const PAUSE_MS: u64 = 1_500;
const FAULT_MS: u64 = 9_000;
/// Processes look at log and clock at least, and at most, this often; at least ten times within a lease.
const TURN_MS: (u64, u64) = (20, 150);
/// An append comes this much late at most, and a partition is prepared this slowly.
const LATE_MS: u64 = 12_000;
const PREPARE_MS: u64 = 4_000;
/// One seed of so many has no faults.
const QUIET_SEEDS: u64 = 4;

/// A silence is noticed after a lease, the slack, the last of the ranks and two beats; a life begins anew a beat later.
const SILENCE_MS: u64 = LEASE_MS + 500 + 500 + 3 * 1_000;
/// Partitions are handed over by so many at a time.
const AT_A_TIME: u64 = 4;
/// Each time is prepared, claimed and read: by turns, with an append and a read between.
const ROUND_MS: u64 = CALM.prepare_ms + 2 * CALM.delay_ms + 3 * TURN_MS.1;
/// After so long a calm all is well: silences are noticed and have their followers' silences noticed; then everything is
/// handed over, twice, as what a silence sets free is claimed unevenly first.
pub(super) const REST_MS: u64 = 2 * SILENCE_MS
    + 2 * ROUND_MS * ((1 << (DELIVERY_POWERS - 1)) + (1 << (INGEST_POWERS - 1))) / AT_A_TIME;
/// Nothing may happen for so long after it.
pub(super) const QUIET_MS: u64 = 5_000;

pub(super) fn name(text: &str) -> NodeName {
    NodeName::new(text).expect("a plain word")
}

impl World {
    /// Starts a node under a name, of any weight and role.
    pub(super) fn join(&mut self, name: &NodeName) {
        let weight = [0, 1, 1, 1, 1, 2, 3, 100][self.pick(8)];
        let edge = self.chance.below(8) > 0;
        let ingest = self.partitions[1] > 0 && self.chance.below(2) == 0;
        self.start(name, weight, edge, ingest);
    }

    pub(super) fn living(&self) -> Vec<ProcessNo> {
        let all = 0..self.processes.len();
        all.filter(|number| self.processes[*number].alive).collect()
    }

    /// Names that no process has.
    pub(super) fn free_names(&self) -> Vec<NodeName> {
        let taken = |name: &NodeName| self.processes.iter().any(|p| p.alive && p.name == *name);
        let names = NAMES.iter().map(|text| name(text));
        names.filter(|name| !taken(name)).collect()
    }

    fn join_any(&mut self) {
        let free = self.free_names();
        if !free.is_empty() {
            let name = free[self.pick(free.len())].clone();
            self.join(&name);
        }
    }

    /// Begins under the name of another, with its weight and roles.
    fn start_again(&mut self, number: ProcessNo) {
        let old = &self.processes[number];
        let (name, weight) = (old.name.clone(), old.weight);
        let (edge, ingest) = (old.edge, old.ingest);
        self.start(&name, weight, edge, ingest);
    }

    pub(super) fn drain(&mut self, number: ProcessNo) {
        self.tell(|| format!("{} drains", self.title(number)));
        let local_ms = self.processes[number].clock.read(self.ms);
        let mut steps = Vec::new();
        self.processes[number].draining = true;
        self.processes[number].member.drain(local_ms, &mut steps);
        let changed = self.perform(number, steps);
        self.judge_turn(number, changed);
    }

    fn leave(&mut self, number: ProcessNo) {
        self.tell(|| format!("{} leaves", self.title(number)));
        let local_ms = self.processes[number].clock.read(self.ms);
        let mut steps = Vec::new();
        self.processes[number].member.leave(local_ms, &mut steps);
        let changed = self.perform(number, steps);
        self.judge_turn(number, changed);
        self.processes[number].alive = false;
        self.processes[number].power.clear();
    }

    fn step(&mut self) {
        let living = self.living();
        if living.is_empty() {
            return self.join_any();
        }
        let number = living[self.pick(living.len())];
        let until_ms = self.ms + self.chance.below(FAULT_MS);
        let fault = self.chance.below(100);
        self.tell(|| format!("fault {fault} for {}, until {until_ms}", self.title(number)));
        let paused = self.processes[number].is_paused();
        let process = &mut self.processes[number];
        match fault {
            0..14 => process.pause(self.ms, until_ms),
            14..24 => process.unread_until_ms = until_ms,
            24..34 => process.unwritten_until_ms = until_ms,
            34..42 => {
                process.unread_until_ms = until_ms;
                process.unwritten_until_ms = until_ms;
            }
            42..50 => self.kill(number),
            50..60 => {
                self.kill(number);
                self.start_again(number);
            }
            60..64 => self.start_again(number),
            64..72 => self.join_any(),
            72..75 => self.log.away_until_ms = until_ms,
            75..78 if !paused => self.drain(number),
            78..81 if !paused => self.leave(number),
            81..90 => self.compact(),
            90..97 => self.weather = self.draw_weather(),
            _ => {}
        }
    }

    fn draw_weather(&mut self) -> Weather {
        Weather {
            delay_ms: 2 + self.chance.below(600),
            prepare_ms: 2 + self.chance.below(PREPARE_MS),
            lost: self.chance.below(20),
            late: self.chance.below(6),
            late_ms: 2 + self.chance.below(LATE_MS),
        }
    }

    fn heal(&mut self) {
        self.tell(|| "all faults are over".to_owned());
        self.weather = CALM;
        self.log.away_until_ms = 0;
        let now_ms = self.ms;
        for process in &mut self.processes {
            process.paused_until_ms = process.paused_until_ms.min(now_ms);
            process.unread_until_ms = 0;
            process.unwritten_until_ms = 0;
            let slowest = now_ms + CALM.prepare_ms;
            process
                .preparing
                .values_mut()
                .for_each(|at| *at = slowest.min(*at));
        }
        self.hurry();
        if self.living().is_empty() {
            self.join_any();
        }
    }

    /// Time to come to rest; then all is judged, and nothing happens any more.
    pub(super) fn settle(&mut self) {
        self.pass(REST_MS);
        if self.violation.is_none() {
            self.judge_rest();
        }
        let since = self.log.end();
        self.pass(QUIET_MS);
        if self.violation.is_none() {
            self.judge_quiet(since);
        }
    }

    fn storm(&mut self, steps: u64) {
        for text in NAMES.iter().take(2 + self.pick(NAMES.len() - 1)) {
            self.join(&name(text));
        }
        let pause_ms = self.chance.below(2 * LEASE_MS);
        self.pass(pause_ms);
        for _ in 0..steps {
            if self.violation.is_some() {
                return;
            }
            self.step();
            self.judge_agreement();
            let pause_ms = self.chance.below(PAUSE_MS);
            self.pass(pause_ms);
        }
        self.heal();
        self.settle();
    }
}

/// Runs one seed.
pub(super) fn run(seed: u64, options: &OwnersOptions) -> OwnersOutcome {
    let mut chance = Chance::new(!seed);
    let delivery = 1 << chance.below(DELIVERY_POWERS);
    let ingest = match chance.below(3) {
        0 => 1 << chance.below(INGEST_POWERS),
        _ => 0,
    };
    let mut world = World::new(seed, options, [delivery, ingest]);
    world.turn_ms = TURN_MS.0 + chance.below(TURN_MS.1 - TURN_MS.0);
    if chance.below(QUIET_SEEDS) == 0 {
        world.quiet();
    } else {
        world.storm(options.steps);
    }
    OwnersOutcome {
        seed,
        events: world.events,
        records: world.log.end() as u64,
        claims: world.truth.claimed,
        handed_over: world.truth.handed_over,
        called_gone: world.truth.called_gone,
        fenced: world.fenced,
        compacted: world.log.compacted,
        violation: world.violation,
    }
}
