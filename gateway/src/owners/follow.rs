//! What an edge node does about what it owns: it publishes the map, and ingests where that is a role of it.

use super::map::{OwnerMap, Owners};
use crate::counters::{CoreCounters, Counter};
use crate::node::config::ClusterConfig;
use crate::node::shards::Shards;
use crate::reactor::inbox::ToCore;
use hawser_engines::log::{Log, Topic};
use hawser_fanout::ingest::IngestShare;
use hawser_fanout::owners::{Clock, FollowError, Follower, Leaving, Owning};
use hawser_protocol::ownership::{Kind, Member, NodeName, NodeRecord, NodeState};
use hawser_ring::Sender;
use std::sync::Arc;
use std::thread::JoinHandle;

/// How often it is looked who is quiet, milliseconds.
const QUIET_LOOK_MS: u64 = 250;

/// What the thread needs of the node.
pub(crate) struct Following {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) owners: Arc<Owners>,
    pub(crate) cores: Vec<Sender<ToCore>>,
    pub(crate) clock: Clock,
    /// Written by this thread alone.
    pub(crate) counters: Arc<CoreCounters>,
    /// What this process ingests, if that is a role of it.
    pub(crate) ingest: Option<IngestShare>,
    /// Partition of `bodies` that this node reads.
    pub(crate) body_lane: u32,
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
        let [url, plain_url] = urls;
        let record = NodeRecord {
            incarnation: 0,
            replaces: 0,
            beat: 0,
            state: NodeState::Active,
            weight: config.weight,
            edge: true,
            ingest: self.ingest.is_some(),
            url,
            plain_url,
            link,
            lane: Some(self.body_lane),
        };
        let follower = Follower {
            name: config.name.clone(),
            name_key: "node.name",
            record,
            lease_ms: config.lease_ms,
            clock: self.clock,
        };
        let part = Part {
            me: config.name.clone(),
            log: self.log.clone(),
            published: None,
            publish_at_ms: 0,
            displaced: Some(self.displaced),
            owners: self.owners,
            cores: self.cores,
            counters: self.counters,
            ingest: self.ingest,
        };
        follower.start(self.log, part)
    }
}

struct Part {
    me: NodeName,
    log: Arc<dyn Log>,
    /// What the published map was made of, and when it is made again.
    published: Option<(u64, bool, bool)>,
    publish_at_ms: u64,
    displaced: Option<Box<dyn FnOnce(String) + Send>>,
    owners: Arc<Owners>,
    cores: Vec<Sender<ToCore>>,
    counters: Arc<CoreCounters>,
    ingest: Option<IngestShare>,
}

impl Owning for Part {
    fn prepared(&mut self, kind: Kind, partition: u32) -> bool {
        // It is open once the cores have heard of it, and they read of it in the map.
        let ready = match kind {
            Kind::Delivery => self.owners.ready(partition) >= self.shards().owners(partition),
            Kind::Ingest => true,
        };
        if !ready {
            self.publish_at_ms = 0;
        }
        ready
    }

    fn own(&mut self, kind: Kind, partition: u32) {
        if let (Kind::Ingest, Some(share)) = (kind, &self.ingest) {
            share.own(partition);
        }
    }

    fn yielded(&mut self, kind: Kind, partition: u32) {
        if let (Kind::Ingest, Some(share)) = (kind, &self.ingest) {
            share.release(partition);
        }
    }

    fn leaving(&self) -> Leaving {
        self.owners.leaving()
    }

    fn looked(&mut self, member: &Member, now_ms: u64) {
        if let Some(share) = &self.ingest {
            share.set_in_place(!member.is_fenced());
            share.learn_lanes(member.table());
        }
        self.publish(member, now_ms);
        self.tell_cores();
    }

    fn read_failed(&mut self) {
        self.counters.inc(Counter::ReadErrors);
    }

    fn displaced(&mut self, words: String) {
        if let Some(tell) = self.displaced.take() {
            tell(words);
        }
    }
}

impl Part {
    /// Which cores share a partition.
    fn shards(&self) -> Shards {
        let cores = u32::try_from(self.cores.len()).unwrap_or(1);
        Shards::new(self.log.partitions(Topic::Delivery), cores)
    }

    /// Makes the map again when it may have changed: at once for what was read, now and then for who is quiet.
    fn publish(&mut self, member: &Member, now_ms: u64) {
        let leaving = self.leaving() != Leaving::Not;
        let state = (member.table().version(), member.is_fenced(), leaving);
        if self.published == Some(state) && now_ms < self.publish_at_ms {
            return;
        }
        (self.published, self.publish_at_ms) = (Some(state), now_ms + QUIET_LOOK_MS);
        let map = OwnerMap::of(member, &self.me, leaving, now_ms);
        self.owners.publish(map);
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
}
