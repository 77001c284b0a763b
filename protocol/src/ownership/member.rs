//! One process among the others.

use super::{
    Applied, Kind, LeaseRecord, NodeName, NodeRecord, NodeState, OwnerRecord, Table, plan,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A node is quiet after so many beats that were not heard.
const QUIET_BEATS: u64 = 2;
/// Beats whose times are remembered: more than a lease holds.
const BEATS_KEPT: usize = 64;
/// What was not read back (a claim, a word on another) is said again after this, milliseconds.
const CLAIM_AGAIN_MS: u64 = 1_000;
/// Who is next in the order of names judges a silence so much later, so that not all call it at once.
const RANK_MS: u64 = 50;
/// Ranks that differ.
const RANKS_MAX: usize = 10;

/// How a member behaves; the same in all of a cluster but for the record.
#[derive(Debug, Clone)]
pub struct MemberConfig {
    /// `node.name`.
    pub name: NodeName,
    /// What the first beat says: weight, roles, addresses. Incarnation, beat, state and `replaces` are set here.
    pub record: NodeRecord,
    /// Random, new for every start of the process, not 0.
    pub incarnation: u64,
    /// A member that did not read back a beat of the last so many milliseconds owns nothing. Default 3,000.
    pub lease_ms: u64,
    /// Others wait so much longer before they call it gone: clocks run at different speeds. Default 500.
    pub slack_ms: u64,
    /// Between two beats. Default 1,000.
    pub beat_ms: u64,
    /// Partitions that are prepared at a time to be taken from others that live. Default 4.
    pub preparing_max: usize,
}

impl MemberConfig {
    /// The defaults.
    #[must_use]
    pub fn new(name: NodeName, incarnation: u64, record: NodeRecord) -> Self {
        Self {
            name,
            record,
            incarnation,
            lease_ms: 3_000,
            slack_ms: 500,
            beat_ms: 1_000,
            preparing_max: 4,
        }
    }
}

/// What a member wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Append to `leases`. One that fails or is lost is made again by time.
    Append(LeaseRecord),
    /// Open the partition and read its recent past; then say [`Member::prepared`]. Its owner lives and serves it.
    Prepare(Kind, u32),
    /// What was to be prepared, or is, is not needed.
    Forget(Kind, u32),
    /// It is ours under this lease_epoch: serve it, whether it was prepared or not.
    Own(Kind, u32, u64),
    /// It is another's now (of whoever the table says): send its sessions there, then close it.
    Yield(Kind, u32),
    /// Nothing can be known to be ours: others may own all of it soon. What was owned stays so until [`Step::Yield`].
    Fence,
    /// A beat came back in time.
    Unfence,
    /// Another process has taken our name. This one has to end.
    Displaced,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Preparing,
    Prepared,
    /// Asked for at this time.
    Claimed(u64, Readiness),
    Owned(u64),
}

/// How far a partition was prepared when it was claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Readiness {
    /// Nobody served it: there was no need.
    Unprepared,
    Preparing,
    Prepared,
}

/// The state machine. `now_ms` is a monotonic clock's everywhere, which pauses of the process do not stop.
#[derive(Debug)]
pub struct Member {
    config: MemberConfig,
    table: Table,
    held: BTreeMap<(Kind, u32), Held>,
    /// Behind the last record that was read.
    read_to: u64,
    /// Everything that the topic had at the start was read.
    caught_up: bool,
    record: NodeRecord,
    /// Beats on their way, and when each was sent.
    sent: VecDeque<(u64, u64)>,
    /// When the newest beat that came back was sent.
    alive_at_ms: Option<u64>,
    beat_at_ms: u64,
    fenced: bool,
    displaced: bool,
    /// When each other's last beat was read.
    heard: BTreeMap<NodeName, u64>,
    /// When each other was last called gone.
    called: BTreeMap<NodeName, u64>,
    /// Partitions of which a claim has come too late, and when that is looked at.
    disputed: BTreeMap<(Kind, u32), u64>,
    /// Of those, whose owner was dead when they were last looked at.
    orphans: BTreeSet<(Kind, u32)>,
    /// Plans are made again.
    stale: bool,
}

impl Member {
    /// Has read nothing yet.
    #[must_use]
    pub fn new(config: MemberConfig, delivery: u32, ingest: u32) -> Self {
        let record = NodeRecord {
            incarnation: config.incarnation.max(1),
            replaces: 0,
            beat: 0,
            state: NodeState::Active,
            ..config.record.clone()
        };
        Self {
            config,
            table: Table::new(delivery, ingest),
            held: BTreeMap::new(),
            read_to: 0,
            caught_up: false,
            record,
            sent: VecDeque::new(),
            alive_at_ms: None,
            beat_at_ms: 0,
            fenced: true,
            displaced: false,
            heard: BTreeMap::new(),
            called: BTreeMap::new(),
            disputed: BTreeMap::new(),
            orphans: BTreeSet::new(),
            stale: true,
        }
    }

    /// Everybody's table.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Whether this member may not say that anything is its own.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        self.fenced
    }

    /// Whether all readers know that this member gives away what it owns.
    #[must_use]
    pub fn says_that_it_drains(&self) -> bool {
        let node = self.table.node(&self.config.name);
        node.is_some_and(|node| node.state != NodeState::Active)
    }

    /// The lease_epoch under which a partition is owned, fenced or not.
    #[must_use]
    pub fn owns(&self, kind: Kind, partition: u32) -> Option<u64> {
        match self.held.get(&(kind, partition)) {
            Some(Held::Owned(epoch)) => Some(*epoch),
            _ => None,
        }
    }

    /// Whether a partition is owned, claimed or prepared: whoever does is to be ready to serve it.
    #[must_use]
    pub fn holds(&self, kind: Kind, partition: u32) -> bool {
        self.held.contains_key(&(kind, partition))
    }

    /// How many partitions of a kind are owned.
    #[must_use]
    pub fn owned(&self, kind: Kind) -> usize {
        let of_kind = self.held.iter().filter(|((k, _), _)| *k == kind);
        of_kind.filter(|(_, h)| matches!(h, Held::Owned(_))).count()
    }

    /// Whether another has been silent for more than two beats: not gone, but nobody to send anybody to.
    #[must_use]
    pub fn is_quiet(&self, now_ms: u64, name: &NodeName) -> bool {
        let heard_ms = self.heard.get(name);
        heard_ms.is_some_and(|at| now_ms > at + QUIET_BEATS * self.config.beat_ms)
    }

    /// The log has so many partitions of a kind from now on; what is held of others is given up.
    pub fn set_partitions(
        &mut self,
        now_ms: u64,
        kind: Kind,
        partitions: u32,
        out: &mut Vec<Step>,
    ) {
        if !self.table.set_partitions(kind, partitions) {
            return;
        }
        let beyond = self.held.split_off(&(kind, partitions));
        for (place, held) in beyond {
            if place.0 != kind {
                self.held.insert(place, held);
                continue;
            }
            out.push(match held {
                Held::Owned(_) => Step::Yield(kind, place.1),
                _ => Step::Forget(kind, place.1),
            });
        }
        self.stale = true;
        self.tick(now_ms, out);
    }

    /// Takes the record at `offset`, in order of offsets.
    pub fn record(
        &mut self,
        now_ms: u64,
        offset: u64,
        key: &[u8],
        value: &[u8],
        out: &mut Vec<Step>,
    ) {
        self.read_to = offset.saturating_add(1);
        match self.table.apply(offset, key, value) {
            Applied::Nothing => {}
            Applied::Beat(name) => self.beat_of(now_ms, &name, out),
            Applied::Node(name) => {
                self.stale = true;
                self.beat_of(now_ms, &name, out);
            }
            Applied::Owner {
                kind, partition, ..
            } => {
                self.stale = true;
                self.disputed.remove(&(kind, partition));
                self.owner_of(kind, partition, out);
            }
            Applied::Stray(name) if name == self.config.name => self.outrank(),
            Applied::Stray(_) => {}
            Applied::Late { kind, partition } => {
                self.disputed.entry((kind, partition)).or_insert(now_ms);
            }
        }
    }

    /// Everything that was in the topic when it was opened has been given to [`Member::record`].
    pub fn caught_up(&mut self, now_ms: u64, out: &mut Vec<Step>) {
        if std::mem::replace(&mut self.caught_up, true) {
            return;
        }
        // What was read at once says nothing of when it was written.
        self.heard.values_mut().for_each(|at| *at = now_ms);
        self.record.replaces = self.predecessors();
        self.tick(now_ms, out);
    }

    /// A rank above that of every life of our name that was before, those that compaction has removed included: each had
    /// the end of the log that it had read.
    fn predecessors(&self) -> u64 {
        let known = self.table.node(&self.config.name);
        let above = known.map_or(0, |node| node.replaces.saturating_add(1));
        above.max(self.read_to)
    }

    /// What is not so of us may be all that is left for a reader: the next beat counts for it too.
    fn outrank(&mut self) {
        let node = self.table.node(&self.config.name);
        if node.is_some_and(|node| node.incarnation == self.record.incarnation) {
            self.record.replaces = self.predecessors();
        }
    }

    /// Of ours, or of another.
    fn beat_of(&mut self, now_ms: u64, name: &NodeName, out: &mut Vec<Step>) {
        if *name != self.config.name {
            self.heard.insert(name.clone(), now_ms);
            return;
        }
        let Some(node) = self.table.node(name) else {
            return;
        };
        if node.incarnation != self.record.incarnation {
            // Until ours is read it may be a life before this one.
            let before = !self.caught_up || node.replaces < self.record.replaces;
            if !before && !self.displaced {
                self.displaced = true;
                self.fence(out);
                out.push(Step::Displaced);
            }
            return;
        }
        if node.state == NodeState::Gone {
            if self.record.state != NodeState::Gone {
                self.again(now_ms, out);
            }
            return;
        }
        let beat = node.beat;
        let came_back = self.sent.iter().find(|(sent, _)| *sent == beat);
        if let Some((_, at)) = came_back {
            let newer = self.alive_at_ms.is_none_or(|alive| alive < *at);
            self.alive_at_ms = if newer { Some(*at) } else { self.alive_at_ms };
        }
        self.sent.retain(|(sent, _)| *sent > beat);
        self.judge_self(now_ms, out);
    }

    /// Others have called us gone: all is lost, and a new life begins.
    fn again(&mut self, now_ms: u64, out: &mut Vec<Step>) {
        self.fence(out);
        for ((kind, partition), held) in std::mem::take(&mut self.held) {
            out.push(match held {
                Held::Owned(_) => Step::Yield(kind, partition),
                _ => Step::Forget(kind, partition),
            });
        }
        self.record.replaces = self.predecessors();
        self.record.incarnation = self.record.incarnation.wrapping_add(1).max(1);
        self.record.beat = 0;
        self.sent.clear();
        self.alive_at_ms = None;
        self.beat_at_ms = now_ms;
        self.stale = true;
    }

    fn mine(&self, owner: &OwnerRecord) -> bool {
        owner.node == self.config.name && owner.incarnation == self.record.incarnation
    }

    fn owner_of(&mut self, kind: Kind, partition: u32, out: &mut Vec<Step>) {
        let place = (kind, partition);
        let claimed = self.table.claimed(kind, partition);
        let ours = claimed.filter(|owner| self.mine(owner));
        if let Some(epoch) = ours.map(|owner| owner.lease_epoch) {
            self.held.insert(place, Held::Owned(epoch));
            out.push(Step::Own(kind, partition, epoch));
            return;
        }
        match self.held.get(&place) {
            Some(Held::Owned(_)) => {
                self.held.remove(&place);
                out.push(Step::Yield(kind, partition));
            }
            // Another was quicker: the next plan says whether it is still to be ours, and it serves until we are ready.
            Some(Held::Claimed(_, readiness)) => {
                match readiness {
                    Readiness::Unprepared => self.held.remove(&place),
                    Readiness::Preparing => self.held.insert(place, Held::Preparing),
                    Readiness::Prepared => self.held.insert(place, Held::Prepared),
                };
            }
            _ => {}
        }
    }

    /// A claim that lost may be all that compaction leaves of the key: the owner claims anew, for every reader. If it is
    /// dead, whom the plan names may have been misled; after a lease whoever knows better claims.
    fn settle_disputes(&mut self, now_ms: u64, out: &mut Vec<Step>) {
        let due = self.disputed.iter().filter(|(_, at)| now_ms >= **at);
        let due: Vec<(Kind, u32)> = due.map(|(place, _)| *place).collect();
        for place in due {
            let (kind, partition) = place;
            let claimed = self.table.claimed(kind, partition);
            let lives = self.table.owner(kind, partition).is_some();
            let first = !self.orphans.remove(&place);
            let again_ms = if claimed.is_some_and(|owner| self.mine(owner)) {
                self.append_claim(kind, partition, out);
                CLAIM_AGAIN_MS
            } else if lives || first || !self.takes(kind) {
                if !lives {
                    self.orphans.insert(place);
                }
                self.config.lease_ms + self.rank_ms()
            } else {
                self.claim(now_ms, kind, partition, out);
                self.config.lease_ms + self.rank_ms()
            };
            self.disputed.insert(place, now_ms + again_ms);
        }
    }

    fn takes(&self, kind: Kind) -> bool {
        let record = &self.record;
        record.state == NodeState::Active && record.weight > 0 && record.takes(kind)
    }

    /// The partition is open and its recent past read.
    pub fn prepared(&mut self, now_ms: u64, kind: Kind, partition: u32, out: &mut Vec<Step>) {
        match self.held.get_mut(&(kind, partition)) {
            Some(held @ Held::Preparing) => *held = Held::Prepared,
            Some(Held::Claimed(_, readiness @ Readiness::Preparing)) => {
                *readiness = Readiness::Prepared;
                return;
            }
            _ => return,
        }
        self.stale = true;
        self.tick(now_ms, out);
    }

    /// Gives everything away, to whoever lives; see [`Member::owned`] for what is left.
    pub fn drain(&mut self, now_ms: u64, out: &mut Vec<Step>) {
        if self.record.state == NodeState::Active {
            self.record.state = NodeState::Draining;
            self.beat(now_ms, out);
        }
    }

    /// Says good-bye: what is still owned is free for others at once.
    pub fn leave(&mut self, now_ms: u64, out: &mut Vec<Step>) {
        if self.record.state != NodeState::Gone {
            self.record.state = NodeState::Gone;
            self.beat(now_ms, out);
            self.fence(out);
        }
    }

    /// What is due by time. Call it often: at least ten times within a lease, and first thing after a pause.
    pub fn tick(&mut self, now_ms: u64, out: &mut Vec<Step>) {
        self.judge_self(now_ms, out);
        if !self.caught_up || self.displaced || self.record.state == NodeState::Gone {
            return;
        }
        if now_ms >= self.beat_at_ms {
            self.beat(now_ms, out);
        }
        if self.fenced {
            return;
        }
        self.judge_others(now_ms, out);
        self.retry_claims(now_ms, out);
        self.settle_disputes(now_ms, out);
        if std::mem::take(&mut self.stale) {
            self.follow_plans(now_ms, out);
        }
    }

    fn beat(&mut self, now_ms: u64, out: &mut Vec<Step>) {
        if !self.caught_up || self.displaced {
            return;
        }
        self.record.beat += 1;
        self.beat_at_ms = now_ms + self.config.beat_ms;
        if self.sent.len() == BEATS_KEPT {
            self.sent.pop_front();
        }
        self.sent.push_back((self.record.beat, now_ms));
        let record = LeaseRecord::Node(self.config.name.clone(), self.record.clone());
        out.push(Step::Append(record));
    }

    fn judge_self(&mut self, now_ms: u64, out: &mut Vec<Step>) {
        let lease_ms = self.config.lease_ms;
        let alive = self.alive_at_ms.is_some_and(|at| now_ms < at + lease_ms);
        if !alive || self.record.state == NodeState::Gone || self.displaced {
            self.fence(out);
        } else if std::mem::replace(&mut self.fenced, false) {
            // Nobody could be heard while the log was away: all have their time anew.
            for heard_ms in self.heard.values_mut() {
                *heard_ms = now_ms.max(*heard_ms);
            }
            self.stale = true;
            out.push(Step::Unfence);
        }
    }

    fn fence(&mut self, out: &mut Vec<Step>) {
        if !std::mem::replace(&mut self.fenced, true) {
            out.push(Step::Fence);
        }
    }

    /// Whoever was not heard for a lease, as the log tells: a beat of ours that was sent a lease later has come back, so
    /// that everything which was appended before it was read.
    fn judge_others(&mut self, now_ms: u64, out: &mut Vec<Step>) {
        let Some(alive_ms) = self.alive_at_ms else {
            return;
        };
        let nodes = self.table.nodes();
        let living: Vec<_> = nodes.filter(|(_, n)| n.state != NodeState::Gone).collect();
        let patience_ms = self.config.lease_ms + self.config.slack_ms + self.rank_ms();
        for (name, node) in living {
            let heard_ms = self.heard.get(name).copied().unwrap_or(now_ms);
            let said_ms = self.called.get(name).copied();
            let said = said_ms.is_some_and(|at| now_ms < at + CLAIM_AGAIN_MS);
            if *name == self.config.name || alive_ms < heard_ms + patience_ms || said {
                continue;
            }
            self.called.insert(name.clone(), now_ms);
            let gone = NodeRecord {
                state: NodeState::Gone,
                ..node.clone()
            };
            out.push(Step::Append(LeaseRecord::Node(name.clone(), gone)));
        }
    }

    fn rank_ms(&self) -> u64 {
        let nodes = self.table.nodes();
        let mut living = nodes.filter(|(_, n)| n.state != NodeState::Gone);
        let rank = living.position(|(name, _)| *name == self.config.name);
        RANK_MS * rank.unwrap_or(RANKS_MAX).min(RANKS_MAX) as u64
    }

    fn retry_claims(&mut self, now_ms: u64, out: &mut Vec<Step>) {
        let late: Vec<(Kind, u32)> = self
            .held
            .iter()
            .filter(
                |(_, held)| matches!(held, Held::Claimed(at, _) if now_ms >= at + CLAIM_AGAIN_MS),
            )
            .map(|(place, _)| *place)
            .collect();
        for (kind, partition) in late {
            self.claim(now_ms, kind, partition, out);
        }
    }

    fn claim(&mut self, now_ms: u64, kind: Kind, partition: u32, out: &mut Vec<Step>) {
        let readiness = match self.held.get(&(kind, partition)) {
            Some(Held::Claimed(_, readiness)) => *readiness,
            Some(Held::Preparing) => Readiness::Preparing,
            Some(Held::Prepared) => Readiness::Prepared,
            _ => Readiness::Unprepared,
        };
        let claimed = Held::Claimed(now_ms, readiness);
        self.held.insert((kind, partition), claimed);
        self.append_claim(kind, partition, out);
    }

    fn append_claim(&self, kind: Kind, partition: u32, out: &mut Vec<Step>) {
        let record = OwnerRecord {
            lease_epoch: self.table.next_epoch(kind, partition),
            node: self.config.name.clone(),
            incarnation: self.record.incarnation,
        };
        out.push(Step::Append(LeaseRecord::Owner(kind, partition, record)));
    }

    fn follow_plans(&mut self, now_ms: u64, out: &mut Vec<Step>) {
        let plans = Kind::ALL.map(|kind| (kind, plan(&self.table, kind)));
        // First what makes room for the rest.
        for (kind, planned) in &plans {
            self.forget_unplanned(*kind, planned, out);
        }
        for (kind, planned) in &plans {
            self.take_planned(now_ms, *kind, planned, out);
        }
    }

    fn forget_unplanned(&mut self, kind: Kind, planned: &[Option<NodeName>], out: &mut Vec<Step>) {
        for (partition, target) in (0..).zip(planned) {
            let place = (kind, partition);
            let ours = target.as_ref() == Some(&self.config.name);
            let held = self.held.get(&place);
            if !ours && held.is_some_and(|held| !matches!(held, Held::Owned(_))) {
                self.held.remove(&place);
                out.push(Step::Forget(kind, partition));
            }
        }
    }

    fn take_planned(
        &mut self,
        now_ms: u64,
        kind: Kind,
        planned: &[Option<NodeName>],
        out: &mut Vec<Step>,
    ) {
        let preparing = self.held.values().filter(|h| **h == Held::Preparing);
        let mut room = self.config.preparing_max.saturating_sub(preparing.count());
        let ours = |target: &Option<NodeName>| target.as_ref() == Some(&self.config.name);
        let planned = (0..).zip(planned.iter().map(ours));
        let planned: Vec<u32> = planned.filter(|(_, ours)| *ours).map(|(p, _)| p).collect();
        for partition in planned {
            let place = (kind, partition);
            let owned_by_other = self.table.owner(kind, partition).is_some();
            match self.held.get(&place).copied() {
                Some(Held::Owned(_) | Held::Claimed(..)) => {}
                Some(Held::Prepared) => self.claim(now_ms, kind, partition, out),
                // Nobody serves it: its users come as soon as it has an owner.
                None | Some(Held::Preparing) if !owned_by_other => {
                    self.claim(now_ms, kind, partition, out);
                }
                Some(Held::Preparing) => {}
                None => {
                    // The rest has its turn when one of these is claimed: that changes the table.
                    if room > 0 {
                        room -= 1;
                        self.held.insert(place, Held::Preparing);
                        out.push(Step::Prepare(kind, partition));
                    }
                }
            }
        }
    }
}
