//! What is durable: the source log, the delivery log, the store; and ingest between them, which may
//! die between any two of its steps.

use crate::Break;
use crate::lanes;
use crate::store::MemoryStore;
use crate::world::{Event, World};
use bytes::Bytes;
use hawser_engines::log::{Produce, Record, Topic};
use hawser_engines::store::{Store, StoreOp};
use hawser_fanout::history::History;
use hawser_fanout::ingest::{Core, IngestConfig, Recollection};
use hawser_protocol::ids::{ChatId, Seq, UserId};
use hawser_protocol::lanes::Lanes;
use hawser_protocol::partition::partition;
use hawser_protocol::record::{
    Audience, BodyKey, DeliveryKind, DeliveryRecord, DeliveryView, SourceRecord, ViewKind,
};
use hawser_protocol::revocation::Revocation;
use hawser_protocol::shards::ShardTable;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Of `chat-messages`, and of `delivery`: three users of a group are in three of these.
pub(crate) const SOURCES: u32 = 2;
pub(crate) const DELIVERIES: u32 = 8;
/// One run of so many has edge-sharded groups.
const SHARDED_RUNS: u64 = 3;
/// Records of one turn of ingest.
const BATCH_MAX: u64 = 12;
/// After a failure ingest begins again after this, milliseconds.
const RESTART_MS: u64 = 30;

/// A delivery record and the offset it is at.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) value: Bytes,
    pub(crate) record: DeliveryRecord,
    /// What it comes to: of a reference, the message; what an edge makes of it is made of the body that it has.
    pub(crate) whole: DeliveryKind,
    /// Whom a message to the members of an edge-sharded group is for, as its edge knows them.
    pub(crate) members: BTreeSet<UserId>,
    /// The same source record was delivered here before, or a receipt of before one that was (once more, after a
    /// crash, it tells more members): the edge may leave it out.
    pub(crate) repeat: bool,
}

impl Entry {
    /// The same with the message record that it refers to.
    pub(crate) fn with(&self, body: &Bytes) -> Self {
        let mut entry = self.clone();
        if let DeliveryKind::Reference {
            recipients,
            envelopes,
            sender_entry,
            ..
        } = &self.record.kind
        {
            entry.whole = DeliveryKind::Message {
                recipients: recipients.clone(),
                record: body.clone(),
                envelopes: envelopes.clone(),
                sender_entry: sender_entry.clone(),
            };
        }
        entry
    }
}

/// One delivery partition.
#[derive(Debug, Default)]
pub(crate) struct Delivery {
    pub(crate) entries: Vec<Entry>,
    /// First offset that retention has left.
    pub(crate) low: u64,
    seen: BTreeSet<(u32, Seq, u16)>,
    /// In the memory of the edge that owns it: who is in edge-sharded groups.
    shards: ShardTable,
}

/// One turn of ingest: judged, and on its way to be stored, delivered and committed.
#[derive(Debug)]
pub(crate) struct Turn {
    ops: Vec<StoreOp>,
    produce: Vec<Produce>,
    /// Goes to the lanes, before the others.
    bodies: Vec<Bytes>,
    next: Vec<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Judge,
    Store,
    Deliver,
    Commit,
}

pub(crate) struct Cluster {
    pub(crate) source: Vec<Vec<Record>>,
    pub(crate) delivery: Vec<Delivery>,
    /// Of the delivery topic.
    pub(crate) generation: u16,
    /// The directory's list of revocations, from place 1, each as it was put.
    pub(crate) revocations: Vec<Revocation>,
    /// What edges read of groups in relaxed order, from the first.
    pub(crate) lane_news: Vec<(ChatId, Lanes)>,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) history: History,
    /// `shards`: the last record of each key, by delivery partition of the user.
    kept: Vec<BTreeMap<Bytes, Bytes>>,
    /// Members that records list, at most.
    pub(crate) listed_max: u32,
    core: Core,
    /// Next offsets: as this ingest has judged them, and as they are committed.
    next: Vec<u64>,
    committed: Vec<u64>,
    /// By source partition, what was last read again of the log, and up to which offset: while the store is down
    /// ingest begins again and again, from the same place.
    recollections: Vec<(u64, Recollection)>,
    /// Rises with every ingest that takes over; those before are dead, or think that they live.
    epoch: u64,
    zombies: BTreeSet<u64>,
    turning: bool,
    /// Steps that this ingest has left to live.
    doom: Option<u64>,
    /// Steps of ingest that were lost by a crash: how much the storm has tested.
    pub(crate) crashes: u64,
    /// Messages that ingest has sent on to their lane, each time that it did.
    pub(crate) sent_on: u64,
    /// Everything that delivery records refer to: what the oracles know.
    pub(crate) bodies: BTreeMap<BodyKey, Bytes>,
    broken: Option<Break>,
}

impl Delivery {
    /// The key of a delivery record is the chat.
    fn members_of(&self, record: &DeliveryRecord, chat: &Bytes) -> BTreeSet<UserId> {
        let (DeliveryKind::Message { recipients, .. } | DeliveryKind::Reference { recipients, .. }) =
            &record.kind
        else {
            return BTreeSet::new();
        };
        let Audience::Members { changed } = recipients else {
            return BTreeSet::new();
        };
        let chat = std::str::from_utf8(chat).unwrap_or_default();
        let members = self.shards.members(chat, record.source_seq, *changed);
        members.filter_map(|user| UserId::new(user).ok()).collect()
    }
}

impl Cluster {
    pub(crate) fn new(broken: Option<Break>, seed: u64) -> Self {
        // In some runs three members are a giant group.
        let listed_max = if seed.is_multiple_of(SHARDED_RUNS) {
            2
        } else {
            10_000
        };
        let store = Arc::new(MemoryStore::new(broken));
        let port: Arc<dyn Store> = store.clone();
        let no_offsets = || vec![0; SOURCES as usize];
        Self {
            source: (0..SOURCES).map(|_| Vec::new()).collect(),
            delivery: (0..DELIVERIES).map(|_| Delivery::default()).collect(),
            generation: 1,
            revocations: Vec::new(),
            lane_news: Vec::new(),
            history: History::new(port),
            store,
            kept: (0..DELIVERIES).map(|_| BTreeMap::new()).collect(),
            listed_max,
            core: core(listed_max),
            next: no_offsets(),
            committed: no_offsets(),
            recollections: (0..SOURCES)
                .map(|_| (0, Recollection::of(&[], true)))
                .collect(),
            epoch: 0,
            zombies: BTreeSet::new(),
            turning: false,
            doom: None,
            crashes: 0,
            sent_on: 0,
            bodies: BTreeMap::new(),
            broken,
        }
    }

    /// The source log takes a record.
    fn append(&mut self, source: &SourceRecord, wall_ms: u64) {
        let chat = source.chat().as_str();
        self.log(Produce {
            topic: Topic::ChatMessages,
            partition: partition(chat, SOURCES),
            key: Bytes::copy_from_slice(chat.as_bytes()),
            value: source.encode(),
            timestamp_ms: wall_ms,
        });
    }

    fn log(&mut self, produce: Produce) {
        let log = &mut self.source[produce.partition as usize];
        log.push(Record {
            offset: log.len() as u64,
            timestamp_ms: produce.timestamp_ms,
            key: produce.key,
            value: produce.value,
        });
    }

    fn deliver(&mut self, produce: &Produce) {
        // What ingest makes is a delivery record; one that is none would be found by everybody.
        let Ok(record) = DeliveryRecord::decode(&produce.value) else {
            return;
        };
        let log = &mut self.delivery[produce.partition as usize];
        let place = (record.source_partition, record.source_seq, record.sub_index);
        let receipt = matches!(record.kind, DeliveryKind::Receipt { .. });
        let later = (place.0, Seq(u64::MAX), u16::MAX);
        let passed = receipt && log.seen.range(place..=later).next().is_some();
        let repeat = !log.seen.insert(place) || passed;
        if let Ok(DeliveryView {
            kind: ViewKind::Shard(shard),
            ..
        }) = DeliveryView::parse(&produce.value)
        {
            log.shards.apply(&shard, |_| true);
        }
        let entry = Entry {
            members: log.members_of(&record, &produce.key),
            value: produce.value.clone(),
            whole: record.kind.clone(),
            record,
            repeat,
        };
        let body = self.bodies.get(&entry.record.body_key());
        log.entries.push(match body {
            Some(body) => entry.with(body),
            None => entry,
        });
    }

    /// All delivery records are gone: another generation begins.
    pub(crate) fn recreate_delivery(&mut self) {
        self.generation += 1;
        self.delivery = (0..DELIVERIES).map(|_| Delivery::default()).collect();
        (0..DELIVERIES).for_each(|partition| self.reopen(partition));
    }

    /// An edge opens a partition: what it knows of edge-sharded groups is what is kept of them.
    pub(crate) fn reopen(&mut self, partition: u32) {
        let mut shards = ShardTable::default();
        for value in self.kept[partition as usize].values() {
            if let Ok(DeliveryView {
                kind: ViewKind::Shard(shard),
                ..
            }) = DeliveryView::parse(value)
            {
                shards.apply(&shard, |_| true);
            }
        }
        self.delivery[partition as usize].shards = shards;
    }

    fn judge(&mut self) -> Option<Turn> {
        let mut turn = Turn {
            ops: Vec::new(),
            produce: Vec::new(),
            bodies: Vec::new(),
            next: self.next.clone(),
        };
        for (source, log) in (0..).zip(&self.source) {
            let next = &mut turn.next[source as usize];
            let end = (*next + BATCH_MAX).min(log.len() as u64);
            for offset in *next..end {
                let record = &log[usize::try_from(offset).ok()?];
                let store: &dyn Store = self.store.as_ref();
                let plan = self.core.judge(source, record, store).ok()?;
                turn.ops.extend(plan.store);
                turn.produce.extend(plan.produce);
                turn.bodies.extend(plan.body);
            }
            *next = end;
        }
        self.next.clone_from(&turn.next);
        Some(turn)
    }
}

fn core(listed_max: u32) -> Core {
    let config = IngestConfig {
        cell: 0,
        source_partitions: SOURCES,
        delivery_partitions: DELIVERIES,
        dead_letter_partitions: 1,
        group_members_partitions: 1,
        audit_partitions: 1,
        shard_partitions: DELIVERIES,
        listed_max,
        // Whatever touches more than two partitions.
        reference_bytes: 1,
    };
    Core::new(config, 1)
}

impl World {
    /// A record reaches the source log.
    pub(crate) fn append(&mut self, source: &SourceRecord) {
        // The producer's clock, which may be off.
        let wall_ms = self.wall_ms() + self.chance.below(2_000);
        self.cluster.append(source, wall_ms);
        self.wake_ingest(1);
    }

    /// What ingest produces reaches the log: what is delivered, and what goes to other lanes and to the edges.
    fn produce(&mut self, all: &[Produce]) {
        for produce in all {
            match produce.topic {
                Topic::Delivery => self.cluster.deliver(produce),
                Topic::ChatMessages => self.send_on(produce),
                Topic::Shards => {
                    let lost = self.cluster.broken == Some(Break::Shards);
                    if !(lost && self.chance.below(4) == 0) {
                        let kept = &mut self.cluster.kept[produce.partition as usize];
                        kept.insert(produce.key.clone(), produce.value.clone());
                    }
                }
                Topic::Leases => {
                    self.cluster.lane_news.extend(lanes::news(produce));
                    self.tell_edges_of_lanes();
                }
                _ => {}
            }
        }
        self.wake_edges();
    }

    fn send_on(&mut self, produce: &Produce) {
        if self.cluster.broken == Some(Break::Lanes) && self.chance.below(10) == 0 {
            return;
        }
        let source = SourceRecord::decode(&produce.value);
        let message = matches!(source, Ok(SourceRecord::Send { .. }));
        self.cluster.sent_on += u64::from(message);
        self.cluster.log(produce.clone());
        self.wake_ingest(1);
    }

    fn wake_ingest(&mut self, in_ms: u64) {
        if !self.cluster.turning {
            self.cluster.turning = true;
            self.ingest_step(Step::Judge, None, in_ms);
        }
    }

    fn ingest_step(&mut self, step: Step, turn: Option<Box<Turn>>, in_ms: u64) {
        let epoch = self.cluster.epoch;
        self.at(self.ms + in_ms, Event::Ingest { epoch, step, turn });
    }

    /// One step of ingest, unless its process has died.
    pub(crate) fn ingest(&mut self, epoch: u64, step: Step, turn: Option<Box<Turn>>) {
        let current = epoch == self.cluster.epoch;
        if !current && !self.cluster.zombies.contains(&epoch) {
            return;
        }
        if current && turn.is_some() && self.doomed() {
            // It dies here, with this step half done.
            self.at(self.ms, Event::Ingest { epoch, step, turn });
            return self.ingest_crash();
        }
        match (step, turn) {
            (Step::Judge, _) if current => self.ingest_judge(),
            (Step::Store, Some(turn)) => self.ingest_store(current, epoch, turn),
            (Step::Deliver, Some(turn)) => {
                self.send_bodies(&turn.bodies);
                self.produce(&turn.produce);
                self.ingest_next(epoch, Step::Commit, turn);
            }
            (Step::Commit, Some(turn)) => {
                self.cluster.committed.clone_from(&turn.next);
                if current {
                    self.cluster.core.committed();
                    self.cluster.turning = false;
                    let ends = self.cluster.source.iter().map(|log| log.len() as u64);
                    if !ends.eq(self.cluster.next.iter().copied()) {
                        self.wake_ingest(1);
                    }
                }
            }
            _ => {}
        }
    }

    fn ingest_judge(&mut self) {
        match self.cluster.judge() {
            Some(turn) => {
                let wait = 1 + self.chance.below(10);
                self.ingest_step(Step::Store, Some(Box::new(turn)), wait);
            }
            None => self.ingest_restart(),
        }
    }

    fn ingest_store(&mut self, current: bool, epoch: u64, turn: Box<Turn>) {
        let lost = self.cluster.broken == Some(Break::Store) && self.chance.below(20) == 0;
        let written = lost || self.cluster.store.write(&turn.ops).is_ok();
        // A time-out: it was applied, and nobody knows.
        let timed_out = self.chance.below(30) == 0;
        if written && !timed_out {
            if self.cluster.broken == Some(Break::Commit) {
                self.cluster.committed.clone_from(&turn.next);
            }
            return self.ingest_next(epoch, Step::Deliver, turn);
        }
        if current {
            self.ingest_restart();
        }
    }

    fn ingest_next(&mut self, epoch: u64, step: Step, turn: Box<Turn>) {
        let at = self.ms + 1 + self.chance.below(6);
        let turn = Some(turn);
        self.at(at, Event::Ingest { epoch, step, turn });
    }

    /// The process will die at one of its next steps.
    pub(crate) fn ingest_doom(&mut self) {
        self.cluster.doom = Some(self.chance.below(6));
    }

    fn doomed(&mut self) -> bool {
        let left = self.cluster.doom.take();
        self.cluster.doom = left.and_then(|left| left.checked_sub(1));
        left == Some(0)
    }

    /// The process dies somewhere in its turn, perhaps having written a part of it; or another takes
    /// over while it lives on.
    pub(crate) fn ingest_crash(&mut self) {
        self.cluster.crashes += 1;
        if self.chance.below(3) == 0 {
            let epoch = self.cluster.epoch;
            self.cluster.zombies.insert(epoch);
        } else {
            self.ingest_partly();
        }
        self.ingest_restart();
    }

    /// What had got out when the process died: a prefix of its writes, or of its deliveries.
    fn ingest_partly(&mut self) {
        let epoch = self.cluster.epoch;
        let Some((step, turn)) = self.take_turn(epoch) else {
            return;
        };
        match step {
            Step::Store => {
                let all = turn.ops.len() as u64;
                let count = match self.torn {
                    true => self.chance.below(all + 1),
                    // A batch of the embedded store is atomic.
                    false => self.chance.below(2) * all,
                };
                let count = usize::try_from(count).unwrap_or(0);
                // Down is down: then nothing got out.
                let _ = self.cluster.store.write(&turn.ops[..count]);
            }
            Step::Deliver => {
                let count = self.chance.below(turn.produce.len() as u64 + 1);
                let count = usize::try_from(count).unwrap_or(0);
                self.produce(&turn.produce[..count]);
            }
            Step::Judge | Step::Commit => {}
        }
    }

    fn ingest_restart(&mut self) {
        let cluster = &mut self.cluster;
        cluster.epoch += 1;
        cluster.core = core(cluster.listed_max);
        cluster.next.clone_from(&cluster.committed);
        if self.chance.below(2) == 0 {
            // It rebuilds its dedup window, and asks the store no more of what is new.
            let all = cluster.source.iter().zip(&cluster.committed);
            for ((log, committed), (upto, known)) in all.zip(&mut cluster.recollections) {
                if upto != committed {
                    let before = usize::try_from(*committed).unwrap_or(0);
                    (*upto, *known) = (*committed, Recollection::of(&log[..before], true));
                }
                cluster.core.recall(known);
            }
        }
        cluster.turning = true;
        self.ingest_step(Step::Judge, None, RESTART_MS);
    }
}
