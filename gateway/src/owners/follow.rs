//! The thread that follows `leases`: it beats, claims and yields, and publishes the map.

use super::map::{OwnerMap, Owners};
use crate::counters::{CoreCounters, Counter};
use crate::node::clock::Clock;
use crate::node::config::ClusterConfig;
use crate::reactor::inbox::ToCore;
use bytes::Bytes;
use hawser_engines::log::{
    AppendOutcome, Appended, Consumer, Log, Produce, ReadError, Start, Topic, Wake,
};
use hawser_protocol::ownership::{LeaseRecord, Member, MemberConfig, NodeRecord, NodeState, Step};
use hawser_ring::Sender;
use std::io;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

/// How often time is looked at.
const TICK: Duration = Duration::from_millis(20);
/// Records per look.
const RECORDS_PER_LOOK: usize = 1_024;
/// How often it is looked who is quiet, milliseconds.
const QUIET_LOOK_MS: u64 = 250;
/// Our last word is waited for so long.
const LAST_WORD_MS: u64 = 1_000;

/// Why a node cannot take its place among the others.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    #[error("who owns what cannot be read: {0}")]
    Log(#[from] ReadError),
    #[error("no thread: {0}")]
    Thread(#[from] io::Error),
    #[error("no random bytes")]
    NoRandomness,
}

/// What the thread needs of the node.
pub(crate) struct Following {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) owners: Arc<Owners>,
    pub(crate) cores: Vec<Sender<ToCore>>,
    pub(crate) clock: Clock,
    /// Written by this thread alone.
    pub(crate) counters: Arc<CoreCounters>,
    /// Told once if another process has taken our name.
    pub(crate) displaced: Box<dyn FnOnce(String) + Send>,
}

impl Following {
    /// Begins. The thread ends after [`Owners::end`].
    ///
    /// # Errors
    /// See [`FollowError`].
    pub(crate) fn start(
        self,
        config: &ClusterConfig,
        urls: [String; 2],
        link: String,
    ) -> Result<JoinHandle<()>, FollowError> {
        let mut random = [0; 8];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| FollowError::NoRandomness)?;
        let [url, plain_url] = urls;
        let record = NodeRecord {
            incarnation: 0,
            replaces: 0,
            beat: 0,
            state: NodeState::Active,
            weight: config.weight,
            edge: true,
            ingest: false,
            url,
            plain_url,
            link,
        };
        // Numbers of JSON that every reader takes whole.
        let incarnation = (u64::from_le_bytes(random) >> 11).max(1);
        let mut member_config = MemberConfig::new(config.name.clone(), incarnation, record);
        member_config.lease_ms = config.lease_ms;
        member_config.slack_ms = config.lease_ms / 6;
        member_config.beat_ms = (config.lease_ms / 3).max(1);
        let partitions = self.log.partitions(Topic::Delivery);
        let woken = Arc::new(Unpark::default());
        let wake: Arc<dyn Wake> = woken.clone();
        let end = self.log.watermarks(Topic::Leases, 0)?.high;
        let consumer = self.log.consumer(Topic::Leases, 0, Start::Earliest, wake)?;
        let follower = Follower {
            member: Member::new(member_config, partitions, 0),
            config: config.clone(),
            consumer,
            end,
            caught_up: false,
            said_leaving: false,
            published: None,
            publish_at_ms: 0,
            displaced: Some(self.displaced),
            outcomes: Arc::new(Outcomes::default()),
            log: self.log,
            owners: self.owners,
            cores: self.cores,
            clock: self.clock,
            counters: self.counters,
        };
        let thread = std::thread::Builder::new().name("hawser-owners".to_owned());
        Ok(thread.spawn(move || follower.run(&woken))?)
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

struct Follower {
    member: Member,
    config: ClusterConfig,
    consumer: Box<dyn Consumer>,
    /// Where the topic ended when it was opened.
    end: u64,
    caught_up: bool,
    said_leaving: bool,
    /// What the published map was made of, and when it is made again.
    published: Option<(u64, bool, bool)>,
    publish_at_ms: u64,
    displaced: Option<Box<dyn FnOnce(String) + Send>>,
    outcomes: Arc<Outcomes>,
    log: Arc<dyn Log>,
    owners: Arc<Owners>,
    cores: Vec<Sender<ToCore>>,
    clock: Clock,
    counters: Arc<CoreCounters>,
}

impl Follower {
    fn run(mut self, woken: &Unpark) {
        let _ = woken.0.set(std::thread::current());
        while !self.owners.has_ended() {
            self.turn();
            std::thread::park_timeout(TICK);
        }
        self.say_good_bye();
    }

    fn turn(&mut self) {
        let mut steps = Vec::new();
        self.read(&mut steps);
        let now_ms = self.clock.now_ms();
        if self.owners.is_leaving() && !std::mem::replace(&mut self.said_leaving, true) {
            self.member.drain(now_ms, &mut steps);
        }
        self.member.tick(now_ms, &mut steps);
        self.perform(steps);
        self.publish(now_ms);
        self.tell_cores();
    }

    /// Makes the map again when it may have changed: at once for what was read, now and then for who is quiet.
    fn publish(&mut self, now_ms: u64) {
        let member = &self.member;
        let (version, leaving) = (member.table().version(), self.said_leaving);
        let state = (version, member.is_fenced(), leaving);
        if self.published == Some(state) && now_ms < self.publish_at_ms {
            return;
        }
        (self.published, self.publish_at_ms) = (Some(state), now_ms + QUIET_LOOK_MS);
        let map = OwnerMap::of(member, &self.config.name, leaving, now_ms);
        self.owners.publish(map);
    }

    fn read(&mut self, steps: &mut Vec<Step>) {
        loop {
            let (member, now_ms) = (&mut self.member, self.clock.now_ms());
            let taken = self.consumer.poll(RECORDS_PER_LOOK, &mut |record| {
                member.record(now_ms, record.offset, &record.key, &record.value, steps);
            });
            match taken {
                Ok(RECORDS_PER_LOOK) => {}
                Ok(_) => break,
                // Compaction has removed what we stood at: later records of the same keys are there.
                Err(ReadError::OutOfRange { low, .. }) if self.consumer.seek(low).is_ok() => {}
                Err(_) => {
                    self.counters.inc(Counter::ReadErrors);
                    break;
                }
            }
        }
        if !self.caught_up && self.consumer.position() >= self.end {
            self.caught_up = true;
            self.member.caught_up(self.clock.now_ms(), steps);
        }
    }

    /// Does what the member wants; what that leads to is done as well.
    fn perform(&mut self, steps: Vec<Step>) {
        let mut steps = std::collections::VecDeque::from(steps);
        while let Some(step) = steps.pop_front() {
            match step {
                Step::Append(record) => self.append(&record),
                // Every node reads every partition.
                Step::Prepare(kind, partition) => {
                    let mut more = Vec::new();
                    let now_ms = self.clock.now_ms();
                    self.member.prepared(now_ms, kind, partition, &mut more);
                    steps.extend(more);
                }
                Step::Forget(..) => {}
                Step::Own(_, partition, lease_epoch) => {
                    tracing::debug!(partition, lease_epoch, "a partition is ours");
                }
                Step::Yield(_, partition) => {
                    tracing::debug!(partition, "a partition is another's");
                }
                Step::Fence if self.caught_up && !self.owners.is_leaving() => {
                    let said = self.outcomes.0.lock().ok().and_then(|mut last| last.take());
                    let reason = said.unwrap_or_default();
                    tracing::warn!(%reason, "our beats do not come back from the log: this node owns nothing until they do");
                }
                Step::Fence => {}
                Step::Unfence => {
                    let name = self.config.name.as_str();
                    tracing::info!(node = name, "this node has its place among the others");
                }
                Step::Displaced => {
                    let name = &self.config.name;
                    let words = format!(
                        "another process is the node {name} now; give each its own node.name"
                    );
                    if let Some(tell) = self.displaced.take() {
                        tell(words);
                    }
                }
            }
        }
    }

    fn append(&self, record: &LeaseRecord) {
        let produce = Produce {
            topic: Topic::Leases,
            partition: 0,
            key: Bytes::from(record.key()),
            value: Bytes::from(record.value()),
            timestamp_ms: self.clock.wall_ms(),
        };
        let done: Arc<dyn Appended> = self.outcomes.clone();
        if let Err(error) = self.log.produce(produce, 0, &done)
            && let Ok(mut last) = self.outcomes.0.lock()
        {
            *last = Some(error.to_string());
        }
    }

    /// Tells every core when something has changed; one whose mailbox is full hears of it later.
    fn tell_cores(&mut self) {
        if !self.owners.take_change() {
            return;
        }
        let mut heard = true;
        for core in &self.cores {
            heard &= core.try_send(ToCore::Owners).is_ok();
        }
        if !heard {
            self.owners.put_change_back();
        }
    }

    fn say_good_bye(&mut self) {
        let mut steps = Vec::new();
        self.member.leave(self.clock.now_ms(), &mut steps);
        self.perform(steps);
        let until_ms = self.clock.now_ms() + LAST_WORD_MS;
        let gone = |follower: &Self| {
            let node = follower.member.table().node(&follower.config.name);
            node.is_none_or(|node| node.state == NodeState::Gone)
        };
        while !gone(self) && self.clock.now_ms() < until_ms {
            std::thread::park_timeout(TICK);
            // Nothing is to be done any more.
            self.read(&mut Vec::new());
        }
    }
}
