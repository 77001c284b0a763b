//! The writes of one partition that are under way. Each is repeated until the store has it, the identical one.
//!
//! Writes run at the same time and end in any order, but for changes of one chat: a change is judged by what the
//! changes before it left, so on a replay none of a later one may be found where an earlier one is missing.

use crate::ingest::Plan;
use ahash::AHashMap;
use hawser_engines::directory::GroupNews;
use hawser_engines::store::StoreOp;
use hawser_protocol::ids::{ChatId, Seq};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Records of one write: what is judged together is written together, but not so much that its slowest row
/// holds up many.
const RECORDS_MAX: usize = 32;
/// First and longest pause before a write is repeated.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// What a write does next.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Next {
    /// Shows the directory these groups.
    Show(Vec<(GroupNews, Seq)>),
    /// Writes this.
    Store(Vec<StoreOp>),
    /// Nothing: these flights are stored.
    Done(Vec<u64>),
}

#[derive(Debug)]
struct Write {
    flights: Vec<u64>,
    groups: Vec<(GroupNews, Seq)>,
    /// Parts, each written once the one before it is stored.
    parts: VecDeque<Vec<StoreOp>>,
    /// The chat that it changes.
    change: Option<ChatId>,
    failures: u32,
}

/// All of a session.
#[derive(Debug)]
pub(super) struct Writes {
    records_max: usize,
    all: BTreeMap<u64, Write>,
    last: u64,
    /// Changes by chat: the first is under way.
    changes: AHashMap<ChatId, VecDeque<u64>>,
    /// When which is to be repeated.
    pauses: BTreeMap<(Instant, u64), ()>,
}

/// Plans in the making of as few writes as they need.
#[derive(Debug, Default)]
pub(super) struct Batch {
    flights: Vec<u64>,
    ops: Vec<StoreOp>,
}

impl Writes {
    /// None yet. `singly`: each record is to have a write of its own.
    pub(super) fn new(singly: bool) -> Self {
        Self {
            records_max: if singly { 1 } else { RECORDS_MAX },
            all: BTreeMap::new(),
            last: 0,
            changes: AHashMap::new(),
            pauses: BTreeMap::new(),
        }
    }

    /// Records are written together again.
    pub(super) fn together(&mut self) {
        self.records_max = RECORDS_MAX;
    }

    /// Adds the plan of a flight; gives writes that are to begin.
    pub(super) fn add(
        &mut self,
        batch: &mut Batch,
        no: u64,
        plan: &mut Plan,
        chat: Option<ChatId>,
    ) -> Vec<u64> {
        let ops = std::mem::take(&mut plan.store);
        let Some(chat) = chat else {
            batch.flights.push(no);
            batch.ops.extend(ops);
            return match batch.flights.len() >= self.records_max {
                true => self.close(batch),
                false => Vec::new(),
            };
        };
        let id = self.put(Write {
            flights: vec![no],
            groups: std::mem::take(&mut plan.groups),
            parts: parts(ops),
            change: Some(chat.clone()),
            failures: 0,
        });
        let queue = self.changes.entry(chat).or_default();
        queue.push_back(id);
        match queue.len() {
            1 => vec![id],
            _ => Vec::new(),
        }
    }

    /// No more plans come now.
    pub(super) fn close(&mut self, batch: &mut Batch) -> Vec<u64> {
        let Batch { flights, ops } = std::mem::take(batch);
        if flights.is_empty() {
            return Vec::new();
        }
        let parts = if ops.is_empty() {
            VecDeque::new()
        } else {
            VecDeque::from([ops])
        };
        vec![self.put(Write {
            flights,
            groups: Vec::new(),
            parts,
            change: None,
            failures: 0,
        })]
    }

    /// What a write does now; where it is done, it is gone.
    pub(super) fn next(&mut self, id: u64) -> Option<Next> {
        let write = self.all.get(&id)?;
        if !write.groups.is_empty() {
            return Some(Next::Show(write.groups.clone()));
        }
        if let Some(part) = write.parts.front() {
            return Some(Next::Store(part.clone()));
        }
        Some(Next::Done(self.all.remove(&id)?.flights))
    }

    /// The change of this chat that may begin, now that one is done.
    pub(super) fn after(&mut self, chat: &ChatId) -> Option<u64> {
        let queue = self.changes.get_mut(chat)?;
        queue.pop_front();
        let next = queue.front().copied();
        if next.is_none() {
            self.changes.remove(chat);
        }
        next
    }

    /// The chat that a write changes.
    pub(super) fn changes(&self, id: u64) -> Option<ChatId> {
        self.all.get(&id)?.change.clone()
    }

    pub(super) fn shown(&mut self, id: u64) {
        if let Some(write) = self.all.get_mut(&id) {
            write.groups.clear();
            write.failures = 0;
        }
    }

    /// The part under way is stored.
    pub(super) fn stored(&mut self, id: u64) {
        if let Some(write) = self.all.get_mut(&id) {
            write.parts.pop_front();
            write.failures = 0;
        }
    }

    /// Not now: it is repeated after a pause.
    pub(super) fn failed(&mut self, id: u64, now: Instant) {
        if let Some(write) = self.all.get_mut(&id) {
            let pause = PAUSE_FIRST * 2u32.saturating_pow(write.failures.min(10));
            write.failures += 1;
            self.pauses.insert((now + pause.min(PAUSE_MAX), id), ());
        }
    }

    /// The flights of a write that is refused for good.
    pub(super) fn flights(&self, id: u64) -> Vec<u64> {
        self.all
            .get(&id)
            .map_or_else(Vec::new, |w| w.flights.clone())
    }

    /// Those whose pause is over.
    pub(super) fn due(&mut self, now: Instant) -> Vec<u64> {
        let mut due = Vec::new();
        while let Some(((at, id), ())) = self.pauses.first_key_value() {
            if *at > now {
                break;
            }
            due.push(*id);
            self.pauses.pop_first();
        }
        due
    }

    /// When the next pause ends.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.pauses.first_key_value().map(|((at, _), ())| *at)
    }

    fn put(&mut self, write: Write) -> u64 {
        self.last += 1;
        self.all.insert(self.last, write);
        self.last
    }
}

/// Where a plan begins with an outcome and more follows, that is what was decided: it is stored before anything that
/// follows from it.
fn parts(mut ops: Vec<StoreOp>) -> VecDeque<Vec<StoreOp>> {
    let decided = matches!(ops.first(), Some(StoreOp::Dedup { .. })) && ops.len() > 1;
    match decided {
        true => {
            let rest = ops.split_off(1);
            VecDeque::from([ops, rest])
        }
        false if ops.is_empty() => VecDeque::new(),
        false => VecDeque::from([ops]),
    }
}
