//! What all threads of a node share: read-only after the start, or touched once per connection.

use super::config::NodeConfig;
use super::memory::Pressure;
use super::shards::Shards;
use crate::accept::addresses::AddressTable;
use crate::accept::slots::{Line, MIX, Queue};
use crate::admin::TroubleSource;
use crate::control::ToControl;
use crate::control::lanes::LaneTable;
use crate::counters::NodeCounters;
use crate::owners::Owners;
use crate::reactor::inbox::ToCore;
use hawser_engines::log::{Log, Topic};
use hawser_fanout::auth::Verifier;
use hawser_fanout::engines::{EngineHealth, IngestLag, Needed};
use hawser_fanout::owners::Clock;
use hawser_protocol::ownership::{NodeName, NodeState};
use hawser_ring::{Sender, Waker};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

/// Shared by every thread of the node.
pub(crate) struct NodeShared {
    pub(crate) config: NodeConfig,
    pub(crate) clock: Clock,
    pub(crate) counters: NodeCounters,
    pub(crate) addresses: Arc<AddressTable>,
    /// The pace of sessions that are not resumed.
    pub(crate) fresh: Queue,
    /// When those come again for whom there is no room.
    pub(crate) returns: Line,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) verifier: Arc<Verifier>,
    /// Into each core, by core.
    pub(crate) cores: Vec<Sender<ToCore>>,
    /// Into the control thread; full means shed.
    pub(crate) control: tokio::sync::mpsc::Sender<ToControl>,
    /// Readable for ever once the node stops accepting; never acknowledged.
    pub(crate) stop: Waker,
    pub(crate) draining: AtomicBool,
    /// The process is to end as SIGTERM ends it.
    pub(crate) end_asked: tokio::sync::Notify,
    /// A `Pressure`, by the control thread.
    pub(crate) pressure: AtomicU8,
    /// Sessions of all cores, those in handover included.
    pub(crate) sessions: AtomicUsize,
    /// Where clients connect that are sent here, over TLS and without; empty: nowhere.
    pub(crate) urls: [String; 2],
    /// Who owns which partition.
    pub(crate) owners: Arc<Owners>,
    /// Ports of the client listeners.
    pub(crate) ports: Vec<u16>,
    /// How each engine does.
    pub(crate) health: Vec<EngineHealth>,
    /// What else can be wrong behind the edge.
    pub(crate) troubles: Vec<TroubleSource>,
    /// How far ingest is behind.
    pub(crate) lag: IngestLag,
    /// Groups in relaxed order.
    pub(crate) lanes: LaneTable,
    /// Partition of `bodies` that this node reads.
    pub(crate) body_lane: u32,
}

impl NodeShared {
    /// Which core has which user, as the log has it now; a core that has not gone over to it yet knows better
    /// what it reads (`Reactor::shards`).
    pub(crate) fn shards(&self) -> Shards {
        self.shards_of(self.log.partitions(Topic::Delivery))
    }

    /// With so many partitions.
    pub(crate) fn shards_of(&self, partitions: u32) -> Shards {
        Shards::new(partitions, u32::try_from(self.cores.len()).unwrap_or(1))
    }

    /// Whether new connections are to be refused.
    pub(crate) fn full(&self) -> bool {
        self.sessions.load(Ordering::Relaxed) >= self.config.admission.sessions_max
    }

    /// How memory stands.
    pub(crate) fn pressure(&self) -> Pressure {
        Pressure::from_number(self.pressure.load(Ordering::Relaxed))
    }

    /// Takes a session's place until the permit is dropped.
    pub(crate) fn take_place(self: &Arc<Self>) -> Option<SessionPermit> {
        let before = self.sessions.fetch_add(1, Ordering::Relaxed);
        let permit = SessionPermit { node: self.clone() };
        (before < self.config.admission.sessions_max).then_some(permit)
    }

    /// When a client for whom there is no room now may come again, milliseconds: at a slot of its own.
    pub(crate) fn come_again_ms(&self) -> u32 {
        let salt = self.clock.now_us().wrapping_mul(MIX) >> 32;
        self.returns.come_again_ms(salt, self.clock.now_ms())
    }

    /// Why clients should be sent elsewhere; empty: ready.
    pub(crate) fn not_ready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.is_draining() {
            reasons.push("draining".to_owned());
        }
        if self.owners.in_cluster() && self.owners.map().fenced {
            reasons.push("its beats do not come back from the log, so it owns nothing".to_owned());
        }
        reasons.extend(self.troubles_of(Needed::ForReadiness));
        reasons.extend(self.lag.trouble(self.config.lag_ready));
        reasons.extend(self.troubles.iter().filter_map(|trouble| trouble()));
        if self.pressure() == Pressure::High {
            reasons.push("resident memory is above the high watermark".to_owned());
        }
        if self.sessions.load(Ordering::Relaxed) >= self.config.admission.sessions_max {
            reasons.push("all places for sessions are taken".to_owned());
        }
        reasons
    }

    /// What is wrong with engines that clients do not have to be sent elsewhere for.
    pub(crate) fn degraded(&self) -> Vec<String> {
        self.troubles_of(Needed::ForLess).collect()
    }

    fn troubles_of(&self, needed: Needed) -> impl Iterator<Item = String> + '_ {
        let engines = self.health.iter().filter(move |e| e.needed == needed);
        engines.filter_map(EngineHealth::trouble)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// What a client is told to connect to that has no better place.
    pub(crate) fn public_url(&self, tls: bool) -> &str {
        let [url, plain_url] = &self.urls;
        match tls && !url.is_empty() {
            true => url,
            false => plain_url,
        }
    }

    /// The node's name among the others.
    pub(crate) fn name(&self) -> &str {
        let cluster = self.config.cluster.as_ref();
        cluster.map_or(&self.config.name, |cluster| cluster.name.as_str())
    }

    /// No more sessions are taken and what this node owns is given away; returns whether that is new. Sessions are told
    /// by [`ToCore::Drain`]. Among others it goes on listening until it ends: others may have sent clients here who are on
    /// their way, and these are told where to go instead.
    pub(crate) fn begin_draining(&self) -> bool {
        if self.draining.swap(true, Ordering::AcqRel) {
            return false;
        }
        if !self.owners.in_cluster() {
            self.stop.wake();
        }
        self.owners.leave();
        true
    }

    /// What a drain has to move.
    pub(crate) fn left(&self) -> Left {
        let (map, me) = (self.owners.map(), self.name());
        let its = |name: &NodeName| name.as_str() == me;
        let leases = map.delivery.iter();
        let owned = leases.filter(|lease| lease.owner.as_ref().is_some_and(its));
        let nodes = map.nodes.iter();
        let others = nodes.filter(|peer| !its(&peer.name) && peer.state == NodeState::Active);
        Left {
            sessions: self.sessions.load(Ordering::Relaxed),
            partitions: owned.count(),
            others: others.count(),
        }
    }

    /// Hands something to the control thread without waiting; `false`: it is full, shed.
    pub(crate) fn to_control(&self, message: ToControl) -> bool {
        self.control.try_send(message).is_ok()
    }
}

/// What a node that drains has to move, and to how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Left {
    /// Sessions here.
    pub(crate) sessions: usize,
    /// Delivery partitions that the log still calls this node's.
    pub(crate) partitions: usize,
    /// Other nodes that could take them.
    pub(crate) others: usize,
}

impl Left {
    /// Nothing that another node could take.
    pub(crate) fn is_nothing(self) -> bool {
        self.sessions == 0 && (self.partitions == 0 || self.others == 0)
    }
}

/// A session's place among `sessions_max`.
pub(crate) struct SessionPermit {
    node: Arc<NodeShared>,
}

impl Drop for SessionPermit {
    fn drop(&mut self) {
        self.node.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}
