//! One process: the member, and a driver that reads, ticks and does what the member wants.

use super::OwnersBreak;
use super::log::Log;
use super::truth::{Life, Place};
use hawser_protocol::client::Chance;
use hawser_protocol::ownership::{
    Kind, LeaseRecord, Member, MemberConfig, NodeName, NodeRecord, NodeState, Step,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A clock of this speed runs as true time does.
pub(super) const TRUE_SPEED: u64 = 10_000;
/// Incarnations are numbers that JSON holds whole.
const INCARNATION_SHIFT: u32 = 11;

/// A monotonic clock: began anywhere, a little fast or slow.
#[derive(Debug)]
pub(super) struct Clock {
    pub(super) began_ms: u64,
    pub(super) began_at: u64,
    pub(super) speed: u64,
}

impl Clock {
    pub(super) fn read(&self, true_ms: u64) -> u64 {
        self.began_at + (true_ms - self.began_ms) * self.speed / TRUE_SPEED
    }
}

/// An append on its way. Those of one process arrive in their order.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) due_ms: u64,
    pub(super) record: LeaseRecord,
    /// A claim of what was prepared.
    pub(super) prepared: bool,
}

pub(super) struct Process {
    pub(super) name: NodeName,
    /// The newest of its lives that it has spoken of.
    pub(super) life: Life,
    pub(super) member: Member,
    pub(super) weight: u32,
    pub(super) edge: bool,
    pub(super) ingest: bool,
    pub(super) alive: bool,
    pub(super) draining: bool,
    pub(super) clock: Clock,
    /// The next offset that it reads.
    pub(super) next: usize,
    /// Compaction was never ahead of it.
    pub(super) whole: bool,
    /// Where the log ended when it began.
    begin: usize,
    /// It has read all of that.
    pub(super) has_begun: bool,
    /// 0: it is not.
    pub(super) paused_until_ms: u64,
    paused_at_ms: u64,
    pub(super) unread_until_ms: u64,
    pub(super) unwritten_until_ms: u64,
    /// When what is being prepared will be.
    pub(super) preparing: BTreeMap<Place, u64>,
    ready: BTreeSet<Place>,
    /// What it serves, under which lease_epoch, as the driver has understood it.
    pub(super) power: BTreeMap<Place, u64>,
    pub(super) fenced: bool,
    pub(super) outbox: VecDeque<Sending>,
    /// When it made its appends, for a second.
    pub(super) appended_ms: VecDeque<u64>,
}

impl Process {
    pub(super) fn new(
        name: NodeName,
        record: NodeRecord,
        clock: Clock,
        partitions: [u32; 2],
        end: usize,
        chance: &mut Chance,
    ) -> Self {
        let incarnation = (chance.word() >> INCARNATION_SHIFT).max(1);
        let (weight, edge, ingest) = (record.weight, record.edge, record.ingest);
        let config = MemberConfig::new(name.clone(), incarnation, record);
        let [delivery, of_ingest] = partitions;
        Self {
            life: (name.clone(), incarnation),
            name,
            member: Member::new(config, delivery, of_ingest),
            weight,
            edge,
            ingest,
            alive: true,
            draining: false,
            clock,
            next: 0,
            whole: true,
            begin: end,
            has_begun: false,
            paused_until_ms: 0,
            paused_at_ms: 0,
            unread_until_ms: 0,
            unwritten_until_ms: 0,
            preparing: BTreeMap::new(),
            ready: BTreeSet::new(),
            power: BTreeMap::new(),
            fenced: true,
            outbox: VecDeque::new(),
            appended_ms: VecDeque::new(),
        }
    }

    /// A record of a node as it begins.
    pub(super) fn begins(weight: u32, edge: bool, ingest: bool) -> NodeRecord {
        NodeRecord {
            incarnation: 0,
            replaces: 0,
            beat: 0,
            state: NodeState::Active,
            weight,
            edge,
            ingest,
            url: String::new(),
            plain_url: String::new(),
            link: String::new(),
            lane: None,
        }
    }

    /// Stopped, and not yet come to itself.
    pub(super) fn is_paused(&self) -> bool {
        self.paused_until_ms > 0
    }

    pub(super) fn pause(&mut self, now_ms: u64, until_ms: u64) {
        if !self.is_paused() {
            self.paused_at_ms = now_ms;
        }
        self.paused_until_ms = until_ms.max(1);
    }

    /// Comes to itself; a clock that `stops` has not gone on.
    pub(super) fn wake(&mut self, now_ms: u64, stops: bool) {
        self.paused_until_ms = 0;
        if stops {
            self.clock.began_ms += now_ms - self.paused_at_ms;
        }
    }

    /// Whether it takes partitions of a kind.
    pub(super) fn takes(&self, kind: Kind) -> bool {
        let role = match kind {
            Kind::Delivery => self.edge,
            Kind::Ingest => self.ingest,
        };
        self.alive && !self.draining && self.weight > 0 && role
    }

    /// What it serves now, by itself and of what the world sees.
    pub(super) fn serves(&self, place: Place) -> Option<u64> {
        let able = self.alive && !self.fenced && !self.is_paused();
        able.then(|| self.power.get(&place).copied()).flatten()
    }

    /// Reads what has become visible; `swaps`: in another order now and then.
    pub(super) fn read(
        &mut self,
        log: &Log,
        now_ms: u64,
        visible_ms: u64,
        mut swaps: Option<&mut Chance>,
        out: &mut Vec<Step>,
    ) {
        let local_ms = self.clock.read(now_ms);
        let visible = |from: usize| {
            let next = log.next(from);
            next.filter(|(_, entry)| entry.landed_ms <= visible_ms)
        };
        while let Some((offset, entry)) = visible(self.next) {
            self.whole &= offset == self.next;
            let mut give = |offset: usize, key: &str, value: &[u8]| {
                let offset = offset as u64;
                self.member
                    .record(local_ms, offset, key.as_bytes(), value, out);
            };
            self.next = offset + 1;
            let swapped = swaps.as_mut().is_some_and(|chance| chance.below(3) == 0);
            if swapped && let Some((later, other)) = visible(offset + 1) {
                give(later, &other.key, &other.value);
                self.next = later + 1;
            }
            give(offset, &entry.key, &entry.value);
        }
        if self.next >= self.begin || log.next(self.next).is_none_or(|(at, _)| at >= self.begin) {
            self.has_begun = true;
            self.member.caught_up(local_ms, out);
        }
    }

    /// Time, and what has been prepared by now.
    pub(super) fn tick(&mut self, now_ms: u64, out: &mut Vec<Step>) {
        let local_ms = self.clock.read(now_ms);
        self.member.tick(local_ms, out);
        let due = self.preparing.iter().filter(|(_, at)| **at <= now_ms);
        let due: Vec<Place> = due.map(|(place, _)| *place).collect();
        for place in due {
            self.preparing.remove(&place);
            self.ready.insert(place);
            let (kind, partition) = place;
            self.member.prepared(local_ms, kind, partition, out);
        }
    }

    /// What the driver makes of a step that concerns what it serves; whether that changed it.
    pub(super) fn obey(&mut self, step: &Step, broken: Option<OwnersBreak>) -> bool {
        match step {
            Step::Own(kind, partition, epoch) => {
                self.power.insert((*kind, *partition), *epoch);
                self.ready.remove(&(*kind, *partition));
            }
            Step::Yield(kind, partition) if broken != Some(OwnersBreak::Yield) => {
                self.power.remove(&(*kind, *partition));
            }
            Step::Forget(kind, partition) => {
                self.preparing.remove(&(*kind, *partition));
                self.ready.remove(&(*kind, *partition));
            }
            Step::Fence if broken != Some(OwnersBreak::Fence) => self.fenced = true,
            Step::Unfence => self.fenced = false,
            _ => return false,
        }
        true
    }

    pub(super) fn is_ready(&self, record: &LeaseRecord) -> bool {
        match record {
            LeaseRecord::Owner(kind, partition, _) => self.ready.contains(&(*kind, *partition)),
            LeaseRecord::Node(..) => false,
        }
    }

    /// The member and the driver's understanding of its steps are one.
    pub(super) fn is_understood(&self) -> bool {
        let owned: usize = Kind::ALL.iter().map(|kind| self.member.owned(*kind)).sum();
        let mut power = self.power.iter();
        self.fenced == self.member.is_fenced()
            && owned == self.power.len()
            && power.all(|((kind, p), epoch)| self.member.owns(*kind, *p) == Some(*epoch))
    }
}
