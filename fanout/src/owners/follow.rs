//! The thread that follows `leases`: it beats, claims, and says what is this process's and what no longer is.

use super::Clock;
use bytes::Bytes;
use hawser_engines::log::{
    AppendOutcome, Appended, Consumer, Log, Produce, ReadError, Start, Topic, Wake,
};
use hawser_protocol::ownership::{
    Kind, LeaseRecord, Member, MemberConfig, NodeName, NodeRecord, NodeState, Step,
};
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

/// How often time is looked at.
const TICK: Duration = Duration::from_millis(20);
/// Records per look.
const RECORDS_PER_LOOK: usize = 1_024;
/// Our last word is waited for so long.
const LAST_WORD_MS: u64 = 1_000;

/// Why a process cannot take its place among the others.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// `leases`.
    #[error("who owns what cannot be read: {0}")]
    Log(#[from] ReadError),
    /// The system gives none.
    #[error("no thread: {0}")]
    Thread(#[from] io::Error),
    /// Nor these.
    #[error("no random bytes")]
    NoRandomness,
}

/// How far a process is with leaving; it only ever goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Leaving {
    /// It stays.
    Not,
    /// It gives away what it owns.
    Draining,
    /// It says good-bye, and the thread ends.
    Gone,
}

/// What a process does about what it owns; called on the thread that follows.
pub trait Owning: Send {
    /// A partition is ours.
    fn own(&mut self, kind: Kind, partition: u32);
    /// Whether a partition that is to be ours is ready to be served; asked at every look until it is.
    fn prepared(&mut self, _: Kind, _: u32) -> bool {
        true
    }
    /// A partition is another's.
    fn yielded(&mut self, kind: Kind, partition: u32);
    /// Asked at every look.
    fn leaving(&self) -> Leaving;
    /// After every look at the log and the time.
    fn looked(&mut self, member: &Member, now_ms: u64);
    /// `leases` could not be read.
    fn read_failed(&mut self) {}
    /// Another process has taken our name: said once, with the way out.
    fn displaced(&mut self, words: String);
}

/// What a process's records say of it, and how it keeps time.
#[derive(Debug, Clone)]
pub struct Follower {
    /// Its name; of no other process.
    pub name: NodeName,
    /// The setting that it comes from, for people.
    pub name_key: &'static str,
    /// Weight, roles and addresses; the rest is set here.
    pub record: NodeRecord,
    /// Of the cluster, milliseconds.
    pub lease_ms: u64,
    /// The process's.
    pub clock: Clock,
}

impl Follower {
    /// Begins. The thread ends once [`Owning::leaving`] says [`Leaving::Gone`].
    ///
    /// # Errors
    /// See [`FollowError`].
    pub fn start(
        self,
        log: Arc<dyn Log>,
        owning: impl Owning + 'static,
    ) -> Result<JoinHandle<()>, FollowError> {
        let mut random = [0; 8];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| FollowError::NoRandomness)?;
        // Numbers of JSON that every reader takes whole.
        let incarnation = (u64::from_le_bytes(random) >> 11).max(1);
        let mut config = MemberConfig::new(self.name.clone(), incarnation, self.record.clone());
        config.lease_ms = self.lease_ms;
        config.slack_ms = self.lease_ms / 6;
        config.beat_ms = (self.lease_ms / 3).max(1);
        let [delivery, ingest] = Kind::ALL.map(|kind| log.partitions(topic(kind)));
        let woken = Arc::new(Unpark::default());
        let wake: Arc<dyn Wake> = woken.clone();
        let end = log.watermarks(Topic::Leases, 0)?.high;
        let consumer = log.consumer(Topic::Leases, 0, Start::Earliest, wake)?;
        let following = Following {
            member: Member::new(config, delivery, ingest),
            preparing: BTreeSet::new(),
            consumer,
            end,
            caught_up: false,
            said_leaving: false,
            displaced: false,
            outcomes: Arc::new(Outcomes::default()),
            log,
            owning,
            of: self,
        };
        let thread = std::thread::Builder::new().name("hawser-owners".to_owned());
        Ok(thread.spawn(move || following.run(&woken))?)
    }
}

/// Which topic's partitions are of a kind.
fn topic(kind: Kind) -> Topic {
    match kind {
        Kind::Delivery => Topic::Delivery,
        Kind::Ingest => Topic::ChatMessages,
    }
}

#[derive(Default)]
struct Unpark(OnceLock<Thread>);

impl Wake for Unpark {
    fn wake(&self) {
        if let Some(thread) = self.0.get() {
            thread.unpark();
        }
    }
}

/// What became of our records; one that failed is made again by time.
#[derive(Default)]
struct Outcomes(Mutex<Option<String>>);

impl Appended for Outcomes {
    fn appended(&self, _: u64, outcome: AppendOutcome) {
        if let Err(error) = outcome
            && let Ok(mut last) = self.0.lock()
        {
            *last = Some(error.to_string());
        }
    }
}

struct Following<O> {
    of: Follower,
    member: Member,
    /// What is to be ready before it is claimed.
    preparing: BTreeSet<(Kind, u32)>,
    consumer: Box<dyn Consumer>,
    /// Where the topic ended when it was opened.
    end: u64,
    caught_up: bool,
    said_leaving: bool,
    displaced: bool,
    outcomes: Arc<Outcomes>,
    log: Arc<dyn Log>,
    owning: O,
}

impl<O: Owning> Following<O> {
    fn run(mut self, woken: &Unpark) {
        let _ = woken.0.set(std::thread::current());
        while self.owning.leaving() != Leaving::Gone {
            self.turn();
            std::thread::park_timeout(TICK);
        }
        self.say_good_bye();
    }

    fn turn(&mut self) {
        let mut steps = Vec::new();
        self.read(&mut steps);
        let now_ms = self.of.clock.now_ms();
        // A topic made anew may have more of them.
        for kind in Kind::ALL {
            let partitions = self.log.partitions(topic(kind));
            self.member
                .set_partitions(now_ms, kind, partitions, &mut steps);
        }
        let leaving = self.owning.leaving() != Leaving::Not;
        if leaving && !std::mem::replace(&mut self.said_leaving, true) {
            self.member.drain(now_ms, &mut steps);
        }
        self.member.tick(now_ms, &mut steps);
        self.perform(steps);
        self.ask_prepared(now_ms);
        self.owning.looked(&self.member, now_ms);
    }

    /// Goes on with what is ready by now.
    fn ask_prepared(&mut self, now_ms: u64) {
        let asked: Vec<_> = self.preparing.iter().copied().collect();
        for (kind, partition) in asked {
            if self.owning.prepared(kind, partition) && self.preparing.remove(&(kind, partition)) {
                let mut steps = Vec::new();
                self.member.prepared(now_ms, kind, partition, &mut steps);
                self.perform(steps);
            }
        }
    }

    fn read(&mut self, steps: &mut Vec<Step>) {
        loop {
            let (member, now_ms) = (&mut self.member, self.of.clock.now_ms());
            let taken = self.consumer.poll(RECORDS_PER_LOOK, &mut |record| {
                member.record(now_ms, record.offset, &record.key, &record.value, steps);
            });
            match taken {
                Ok(RECORDS_PER_LOOK) => {}
                Ok(_) => break,
                // Compaction has removed what we stood at: later records of the same keys are there.
                Err(ReadError::OutOfRange { low, .. }) if self.consumer.seek(low).is_ok() => {}
                Err(_) => {
                    self.owning.read_failed();
                    break;
                }
            }
        }
        if !self.caught_up && self.consumer.position() >= self.end {
            self.caught_up = true;
            self.member.caught_up(self.of.clock.now_ms(), steps);
        }
    }

    /// Does what the member wants; what that leads to is done as well.
    fn perform(&mut self, steps: Vec<Step>) {
        let mut steps = VecDeque::from(steps);
        while let Some(step) = steps.pop_front() {
            match step {
                Step::Append(record) => self.append(&record),
                Step::Prepare(kind, partition) => {
                    self.preparing.insert((kind, partition));
                }
                Step::Forget(kind, partition) => {
                    self.preparing.remove(&(kind, partition));
                }
                Step::Own(kind, partition, lease_epoch) => {
                    self.preparing.remove(&(kind, partition));
                    tracing::debug!(
                        kind = kind.name(),
                        partition,
                        lease_epoch,
                        "a partition is ours"
                    );
                    self.owning.own(kind, partition);
                }
                Step::Yield(kind, partition) => {
                    tracing::debug!(kind = kind.name(), partition, "a partition is another's");
                    self.owning.yielded(kind, partition);
                }
                Step::Fence if self.caught_up && self.owning.leaving() == Leaving::Not => {
                    let said = self.outcomes.0.lock().ok().and_then(|mut last| last.take());
                    let reason = said.unwrap_or_default();
                    tracing::warn!(%reason, "our beats do not come back from the log: this node owns nothing until they do");
                }
                Step::Fence => {}
                Step::Unfence => {
                    let name = self.of.name.as_str();
                    tracing::info!(node = name, "this node has its place among the others");
                }
                Step::Displaced => self.say_displaced(),
            }
        }
    }

    fn say_displaced(&mut self) {
        if std::mem::replace(&mut self.displaced, true) {
            return;
        }
        let (name, key) = (&self.of.name, self.of.name_key);
        let words = format!("another process is the node {name} now; give each its own {key}");
        self.owning.displaced(words);
    }

    fn append(&self, record: &LeaseRecord) {
        let produce = Produce {
            topic: Topic::Leases,
            partition: 0,
            key: Bytes::from(record.key()),
            value: Bytes::from(record.value()),
            timestamp_ms: self.of.clock.wall_ms(),
        };
        let done: Arc<dyn Appended> = self.outcomes.clone();
        if let Err(error) = self.log.produce(produce, 0, &done)
            && let Ok(mut last) = self.outcomes.0.lock()
        {
            *last = Some(error.to_string());
        }
    }

    fn say_good_bye(&mut self) {
        let mut steps = Vec::new();
        self.member.leave(self.of.clock.now_ms(), &mut steps);
        self.perform(steps);
        let until_ms = self.of.clock.now_ms() + LAST_WORD_MS;
        let gone = |following: &Self| {
            let node = following.member.table().node(&following.of.name);
            node.is_none_or(|node| node.state == NodeState::Gone)
        };
        while !gone(self) && self.of.clock.now_ms() < until_ms {
            std::thread::park_timeout(TICK);
            // Nothing is to be done any more.
            self.read(&mut Vec::new());
        }
    }
}
