//! The world: one queue of events in true time. One seed is one run.

use super::log::Log;
use super::process::{Clock, Process, Sending, TRUE_SPEED};
use super::truth::{Found, Place, Truth};
use super::{OwnersBreak, OwnersOptions};
use crate::Violation;
use hawser_protocol::client::Chance;
use hawser_protocol::ownership::{LeaseRecord, NodeName, Step};
use std::collections::BTreeMap;

pub(super) type ProcessNo = usize;

/// Clocks are off by so many of [`TRUE_SPEED`] at most, either way: one in a hundred between two.
pub(super) const SPEED_OFF: u64 = TRUE_SPEED / 200;
/// The same where it is broken on purpose.
const SPEED_OFF_BROKEN: u64 = TRUE_SPEED / 3;
/// Clocks begin below this.
const CLOCK_BEGIN_MS: u64 = 1 << 40;
/// An append that cannot be made now is tried again after this.
const TRY_AGAIN_MS: u64 = 300;
/// So often is an append repeated where that is broken on purpose.
const REPEATS_BROKEN: usize = 40;
/// Compaction leaves what is younger, as `min.compaction.lag.ms` has it: longer than a fault, and a lease besides.
const COMPACTION_LAG_MS: u64 = 15_000;
/// More events than this in one run: something runs in a circle.
const EVENTS_MAX: u64 = 1_000_000;

#[derive(Debug)]
enum Event {
    /// A process looks at log and clock.
    Turn(ProcessNo),
    /// The first of a process's appends arrives.
    Arrival(ProcessNo),
}

/// How log and network behave.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weather {
    /// An append takes so long at most, and a record so long to be seen.
    pub(super) delay_ms: u64,
    /// To prepare a partition takes so long at most.
    pub(super) prepare_ms: u64,
    /// Of 100 appends so many are lost, and so many very late.
    pub(super) lost: u64,
    pub(super) late: u64,
    /// How late.
    pub(super) late_ms: u64,
}

/// Nothing fails.
pub(super) const CALM: Weather = Weather {
    delay_ms: 60,
    prepare_ms: 200,
    lost: 0,
    late: 0,
    late_ms: 0,
};

pub(super) struct World {
    pub(super) ms: u64,
    pub(super) chance: Chance,
    pub(super) weather: Weather,
    pub(super) partitions: [u32; 2],
    pub(super) log: Log,
    pub(super) truth: Truth,
    pub(super) processes: Vec<Process>,
    /// Places that two have been seen to serve: which, who before, who then.
    pub(super) contested: Vec<(Place, ProcessNo, ProcessNo)>,
    /// Processes look at log and clock this often.
    pub(super) turn_ms: u64,
    pub(super) broken: Option<OwnersBreak>,
    pub(super) violation: Option<Violation>,
    pub(super) events: u64,
    pub(super) fenced: u64,
    pub(super) trace: bool,
    queue: BTreeMap<(u64, u64), Event>,
    last_event: u64,
}

impl World {
    pub(super) fn new(seed: u64, options: &OwnersOptions, partitions: [u32; 2]) -> Self {
        let [delivery, ingest] = partitions;
        Self {
            ms: 0,
            chance: Chance::new(seed),
            weather: CALM,
            partitions,
            log: Log::default(),
            truth: Truth::new(delivery, ingest),
            processes: Vec::new(),
            contested: Vec::new(),
            turn_ms: 0,
            broken: options.broken,
            violation: None,
            events: 0,
            fenced: 0,
            trace: options.trace,
            queue: BTreeMap::new(),
            last_event: 0,
        }
    }

    pub(super) fn tell(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>8} {}", self.ms, what());
        }
    }

    pub(super) fn violate(&mut self, oracle: &'static str, what: String) {
        let at_ms = self.ms;
        self.violation.get_or_insert(Violation {
            oracle,
            at_ms,
            what,
        });
    }

    pub(super) fn hold(&mut self, found: Found) {
        if let Err((oracle, what)) = found {
            self.violate(oracle, what);
        }
    }

    fn at(&mut self, ms: u64, event: Event) {
        self.last_event += 1;
        self.queue.insert((ms, self.last_event), event);
    }

    pub(super) fn pick(&mut self, count: usize) -> usize {
        usize::try_from(self.chance.below(count as u64)).unwrap_or(0)
    }

    /// How a process is called where it is told of.
    pub(super) fn title(&self, process: ProcessNo) -> String {
        format!("{}#{process}", self.processes[process].name)
    }

    /// A process begins under a name.
    pub(super) fn start(&mut self, name: &NodeName, weight: u32, edge: bool, ingest: bool) {
        let off = match self.broken {
            Some(OwnersBreak::Speed) => SPEED_OFF_BROKEN,
            _ => SPEED_OFF,
        };
        let clock = Clock {
            began_ms: self.ms,
            began_at: self.chance.below(CLOCK_BEGIN_MS),
            speed: TRUE_SPEED - off + self.chance.below(2 * off + 1),
        };
        let record = Process::begins(weight, edge, ingest);
        let (partitions, end) = (self.partitions, self.log.end());
        let chance = &mut self.chance;
        let process = Process::new(name.clone(), record, clock, partitions, end, chance);
        self.processes.push(process);
        let number = self.processes.len() - 1;
        self.tell(|| format!("{} starts, weight {weight}", self.title(number)));
        let first_ms = self.ms + self.chance.below(self.turn_ms);
        self.at(first_ms, Event::Turn(number));
    }

    /// Lets time pass, event by event, unless an oracle has spoken.
    pub(super) fn pass(&mut self, ms: u64) {
        let end_ms = self.ms + ms;
        while self.violation.is_none() {
            let Some(next) = self.queue.first_entry() else {
                break;
            };
            if next.key().0 > end_ms {
                break;
            }
            let ((at_ms, _), event) = next.remove_entry();
            self.ms = at_ms.max(self.ms);
            self.events += 1;
            if self.events > EVENTS_MAX {
                self.violate("rest", "the world does not come to rest".into());
            }
            match event {
                Event::Turn(process) => self.turn(process),
                Event::Arrival(process) => self.arrival(process),
            }
        }
        self.ms = end_ms;
    }

    fn turn(&mut self, number: ProcessNo) {
        let process = &mut self.processes[number];
        if !process.alive {
            return;
        }
        if self.ms < process.paused_until_ms {
            let look_ms = process.paused_until_ms.min(self.ms + self.turn_ms);
            return self.at(look_ms, Event::Turn(number));
        }
        let woke = process.is_paused();
        if woke {
            process.wake(self.ms, self.broken == Some(OwnersBreak::Clock));
        }
        let mut steps = Vec::new();
        if self.ms >= process.unread_until_ms && self.ms >= self.log.away_until_ms {
            let delay_ms = self.chance.below(self.weather.delay_ms);
            let visible_ms = self.ms.saturating_sub(delay_ms);
            let swaps = self.broken == Some(OwnersBreak::Order);
            let swaps = swaps.then_some(&mut self.chance);
            process.read(&self.log, self.ms, visible_ms, swaps, &mut steps);
        }
        process.tick(self.ms, &mut steps);
        let changed = self.perform(number, steps);
        self.judge_turn(number, changed || woke);
        let pause_ms = self.turn_ms / 2 + self.chance.below(self.turn_ms / 2 + 1);
        self.at(self.ms + pause_ms.max(1), Event::Turn(number));
    }

    /// Does what a member wants; whether it serves something else now.
    pub(super) fn perform(&mut self, number: ProcessNo, steps: Vec<Step>) -> bool {
        let mut changed = false;
        for step in steps {
            let beat = matches!(&step, Step::Append(LeaseRecord::Node(name, _)) if *name == self.processes[number].name);
            if !beat {
                self.tell(|| format!("{} {step:?}", self.title(number)));
            }
            self.fenced += u64::from(step == Step::Fence);
            changed |= self.processes[number].obey(&step, self.broken);
            match step {
                Step::Append(record) => self.send(number, &record),
                Step::Prepare(..) if self.broken == Some(OwnersBreak::Prepared) => {}
                Step::Prepare(kind, partition) => {
                    let ready_ms = self.ms + self.chance.below(self.weather.prepare_ms);
                    let preparing = &mut self.processes[number].preparing;
                    preparing.insert((kind, partition), ready_ms);
                }
                Step::Displaced => {
                    self.kill(number);
                    return true;
                }
                _ => {}
            }
        }
        changed
    }

    /// Hands an append to the network, which may lose or keep it.
    fn send(&mut self, number: ProcessNo, record: &LeaseRecord) {
        let times = match self.broken {
            Some(OwnersBreak::Repeat) => REPEATS_BROKEN,
            _ => 1,
        };
        let process = &mut self.processes[number];
        if let LeaseRecord::Node(name, node) = record
            && *name == process.name
        {
            process.life.1 = node.incarnation;
        }
        let prepared = process.is_ready(record);
        for _ in 0..times {
            self.processes[number].appended_ms.push_back(self.ms);
            let fate = self.chance.below(100);
            let delay_ms = 1 + self.chance.below(self.weather.delay_ms);
            let Weather {
                lost,
                late,
                late_ms,
                ..
            } = self.weather;
            if fate < lost {
                continue;
            }
            let late_ms = match fate < lost + late {
                true => self.chance.below(late_ms),
                false => 0,
            };
            let last_ms = self.processes[number].outbox.back().map(|last| last.due_ms);
            let due_ms = (self.ms + delay_ms + late_ms).max(last_ms.unwrap_or(0));
            let record = record.clone();
            self.processes[number].outbox.push_back(Sending {
                due_ms,
                record,
                prepared,
            });
            self.at(due_ms, Event::Arrival(number));
        }
    }

    fn arrival(&mut self, number: ProcessNo) {
        let process = &mut self.processes[number];
        let Some(first) = process.outbox.front() else {
            return;
        };
        if first.due_ms > self.ms {
            let due_ms = first.due_ms;
            return self.at(due_ms, Event::Arrival(number));
        }
        if self.ms < process.unwritten_until_ms || self.ms < self.log.away_until_ms {
            // Given up, or kept for later.
            if self.chance.below(20) == 0 {
                process.outbox.pop_front();
            }
            return self.at(self.ms + TRY_AGAIN_MS, Event::Arrival(number));
        }
        let Some(sent) = process.outbox.pop_front() else {
            return;
        };
        let offset = self.log.append(self.ms, sent.record);
        if let Some((_, entry)) = self.log.next(offset) {
            let found = self.truth.landed(offset, entry, sent.prepared);
            let (key, value) = (&entry.key, &entry.value);
            self.tell(|| format!("{offset}: {key} {}", String::from_utf8_lossy(value)));
            self.hold(found);
        }
        self.judge_prepared();
        self.judge_lives();
    }

    /// Ends a process at once; of what it has sent some arrives.
    pub(super) fn kill(&mut self, number: ProcessNo) {
        self.tell(|| format!("{} ends", self.title(number)));
        let arrives = self.pick(self.processes[number].outbox.len() + 1);
        let process = &mut self.processes[number];
        process.alive = false;
        process.power.clear();
        process.outbox.truncate(arrives);
    }

    /// Compacts below anywhere, but nothing young: what a reader that has begun has not read, or what is not older than
    /// it takes to outrank what is not so.
    pub(super) fn compact(&mut self) {
        let old_ms = self.ms.saturating_sub(COMPACTION_LAG_MS);
        let begun = self.processes.iter().filter(|p| p.alive && p.has_begun);
        let read = begun.map(|p| p.next).min().unwrap_or(usize::MAX);
        let most = match self.broken {
            Some(OwnersBreak::Young) => self.log.end(),
            _ => self.log.older_than(old_ms).min(read),
        };
        let until = self.pick(most + 1);
        let loses = match self.broken {
            Some(OwnersBreak::Compaction) => Some(self.pick(until + 1)),
            _ => None,
        };
        self.log.compact(until, loses);
        self.tell(|| format!("all below {until} is compacted"));
    }

    /// What is on its way arrives soon.
    pub(super) fn hurry(&mut self) {
        for number in 0..self.processes.len() {
            let mut due_ms = self.ms;
            for _ in 0..self.processes[number].outbox.len() {
                self.at(due_ms, Event::Arrival(number));
            }
            for sent in &mut self.processes[number].outbox {
                sent.due_ms = due_ms;
                due_ms += 1;
            }
        }
    }
}
