//! What one core owns, and one turn of its loop: bounded work of each kind, then one submit a ring.

use super::appends::Appends;
use super::core::CoreError;
use super::inbox::ToCore;
use super::readiness::Readiness;
use super::reading::Reading;
use super::ticks::Walk;
use super::users::Users;
use crate::accept::slots::Promises;
use crate::counters::{CoreCounters, Counter, Gauge, Histogram};
use crate::deliver::cursors::CursorTable;
use crate::deliver::partition::{Flagged, Partition};
use crate::deliver::receipts::PendingReceipts;
use crate::deliver::replay::ReplayRings;
use crate::deliver::run::Run;
use crate::node::shared::NodeShared;
use crate::session::SessionId;
use crate::session::connection::Connection;
use crate::session::deflate::Deflating;
use crate::session::pool::Pool;
use ahash::AHashMap;
use hawser_engines::log::{Record, Shape, Topic};
use hawser_protocol::ids::UserId;
use hawser_protocol::resume::ResumeKey;
use hawser_protocol::server::{Action, Bodies, Now, Settings, SpareWindows};
use hawser_protocol::shards::ShardTable;
use hawser_ring::{Event, Receiver, Ring, RingConfig, TimerWheel, Waker};
use std::collections::VecDeque;
use std::sync::Arc;

/// Completions of one ring in one turn.
const EVENTS_PER_TURN: usize = 1_024;
/// Messages of the inbox in one turn.
const LETTERS_PER_TURN: usize = 256;
/// Outcomes of appends in one turn.
const OUTCOMES_PER_TURN: usize = 1_024;
/// Sessions that read the replay ring in one turn.
const PULLS_PER_TURN: usize = 128;
/// Deadlines in one turn.
const TIMERS_PER_TURN: usize = 512;
/// Granularity of deadlines, milliseconds.
const TICK_MS: u64 = 20;
/// A partition writes its changed cursors at most so often, and everything it knows so often.
const CURSOR_DELTA_MS: u64 = 1_000;
const CURSOR_SNAPSHOT_MS: u64 = 3_600_000;

/// A ring and the connections in it, by the place of their sockets.
pub(super) struct SessionRing {
    pub(super) ring: Ring,
    pub(super) connections: Vec<Option<Box<Connection>>>,
}

impl SessionRing {
    fn submit(&mut self) {
        if let Err(error) = self.ring.submit() {
            tracing::error!(%error, "a session ring cannot submit");
        }
    }
}

/// Memory that is used again in every step.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) frame: Vec<u8>,
    pub(super) sealed: Vec<u8>,
    pub(super) run: Run,
    pub(super) cipher: Vec<u8>,
    pub(super) plain: Vec<u8>,
    pub(super) actions: Vec<Action>,
    pub(super) records: Vec<Record>,
    pub(super) targets: Vec<SessionId>,
    pub(super) windows: SpareWindows,
    pub(super) deflating: Deflating,
}

/// See the module.
pub(crate) struct Reactor {
    pub(super) index: usize,
    pub(super) node: Arc<NodeShared>,
    pub(super) counters: Arc<CoreCounters>,
    pub(super) settings: Settings,
    pub(super) rings: Vec<SessionRing>,
    pub(super) users: Users,
    pub(super) partitions: Vec<Partition>,
    /// In a cluster, how the partitions stand that are read here or are to be.
    pub(super) readings: AHashMap<u32, Reading>,
    /// Partitions that read their recent past yet.
    pub(super) cold: usize,
    pub(super) waker: Waker,
    pub(super) replay: ReplayRings,
    pub(super) bodies: Bodies<SessionId>,
    /// The node's lane of bodies, on the core that reads it.
    pub(super) lane: Option<Flagged>,
    pub(super) cursors: CursorTable,
    pub(super) receipts: PendingReceipts,
    pub(super) appends: Appends,
    pub(super) inbox: Receiver<ToCore>,
    pub(super) timers: TimerWheel<SessionId>,
    /// What happened on a ring while a record was fanned out.
    set_aside: VecDeque<(usize, Event)>,
    /// Connections with something to send.
    pub(super) dirty: Vec<SessionId>,
    /// Sessions that are behind and may read.
    pub(super) behind: VecDeque<SessionId>,
    pub(super) pool: Pool,
    pub(super) scratch: Scratch,
    pub(super) resume_key: ResumeKey,
    /// Of `delivery`, as this core has gone over to it.
    pub(super) shape: Shape,
    /// When sessions that belong to other cores are closed.
    pub(super) strays_at_ms: Option<u64>,
    /// Users whose coming (or going) the control thread has not been told, and when it may be.
    pub(super) untold: AHashMap<UserId, bool>,
    pub(super) tell_at_ms: u64,
    /// Clients that were told when to come again.
    pub(super) promises: Promises,
    /// Makes hashes of who a client is that nobody can aim at.
    pub(super) client_hash: ahash::RandomState,
    /// Sessions that wait for their turn.
    pub(super) waiting: usize,
    pub(super) sessions: usize,
    pub(super) tick_at_ms: u64,
    pub(super) gauge_at_ms: u64,
    /// A walk over the connections that is under way.
    pub(super) walk: Option<Walk>,
    /// Where the delivery partitions are looked at next, so that none waits for ever.
    pub(super) next_partition: usize,
    /// While draining in a cluster: when those are told that were told of no other node.
    pub(super) last_call_at_ms: Option<u64>,
    /// When what is left is closed, while draining.
    pub(super) drain_at_ms: Option<u64>,
    /// When the core returns, once told to stop.
    pub(super) stop_at_ms: Option<u64>,
    pub(super) stopped: bool,
    letters_wait: bool,
}

impl Reactor {
    /// Makes the rings and opens the partitions. Blocks on the log; nothing is served yet.
    pub(super) fn new(
        index: usize,
        node: Arc<NodeShared>,
        inbox: Receiver<ToCore>,
        waker: &Waker,
    ) -> Result<Self, CoreError> {
        let config = &node.config;
        let limits = config.ring;
        let ring_config = RingConfig {
            sq_entries: limits.entries,
            cq_entries: limits.entries * 4,
            files: limits.files_per_ring,
            buffers: limits.buffers,
            buffer_bytes: u32::try_from(limits.buffer_bytes).unwrap_or(u32::MAX),
        };
        let mut rings = Vec::with_capacity(limits.rings_per_core);
        for _ in 0..limits.rings_per_core.max(1) {
            rings.push(SessionRing {
                ring: Ring::new(ring_config)?,
                connections: Vec::new(),
            });
        }
        let now_ms = node.clock.now_ms();
        let session = &config.session;
        let settings = Settings {
            heartbeat_ms: session.heartbeat_ms,
            window_frames: session.window_frames,
            window_bytes: session.window_bytes,
            sends_per_second: session.sends_per_second,
            sends_burst: session.sends_burst,
            bytes_per_second: session.bytes_per_second,
        };
        let mut reactor = Self {
            index,
            counters: node.counters.core(index).clone(),
            settings,
            rings,
            users: Users::default(),
            partitions: Vec::new(),
            readings: AHashMap::new(),
            cold: 0,
            waker: waker.clone(),
            replay: ReplayRings::new(config.replay_bytes / config.cores.max(1)),
            bodies: Bodies::new(config.body_bytes),
            lane: None,
            cursors: CursorTable::new(CURSOR_DELTA_MS, CURSOR_SNAPSHOT_MS),
            receipts: PendingReceipts::default(),
            appends: Appends::new(node.log.clone(), config.appends_max, waker.clone()),
            inbox,
            timers: TimerWheel::new(now_ms, TICK_MS),
            set_aside: VecDeque::new(),
            dirty: Vec::new(),
            behind: VecDeque::new(),
            pool: Pool::default(),
            scratch: Scratch::default(),
            resume_key: ResumeKey::new(&config.resume_key),
            shape: node.log.shape(Topic::Delivery),
            strays_at_ms: None,
            untold: AHashMap::new(),
            tell_at_ms: 0,
            promises: Promises::default(),
            client_hash: ahash::RandomState::new(),
            waiting: 0,
            sessions: 0,
            tick_at_ms: 0,
            gauge_at_ms: 0,
            walk: None,
            next_partition: 0,
            last_call_at_ms: None,
            drain_at_ms: None,
            stop_at_ms: None,
            stopped: false,
            letters_wait: true,
            node,
        };
        reactor.open_lane()?;
        reactor.open_all()?;
        Ok(reactor)
    }

    /// What to wait on for each ring.
    pub(super) fn readiness(&self) -> std::io::Result<Vec<Readiness>> {
        self.rings.iter().map(|r| Readiness::of(&r.ring)).collect()
    }

    /// The core's waker was used: the inbox, outcomes or partitions have something.
    pub(super) fn woken(&mut self) {
        self.letters_wait = true;
    }

    /// Whether the rings hold everything up to where the log ended at the start.
    pub(super) fn is_warm(&self) -> bool {
        let mut partitions = self.partitions.iter();
        partitions.all(|partition| self.head(partition.id) >= partition.warm_to)
    }

    /// Whether the core has been told to stop.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// One turn. Returns whether there is more to do at once.
    pub(super) fn turn(&mut self) -> bool {
        let began_us = self.node.clock.now_us();
        let mut more = false;
        while let Some((ring, event)) = self.set_aside.pop_front() {
            self.ring_event(ring, event);
        }
        for ring in 0..self.rings.len() {
            more |= self.ring_events(ring);
        }
        if self.letters_wait {
            self.letters_wait = self.letters(LETTERS_PER_TURN);
            more |= self.letters_wait;
        }
        more |= self.outcomes(OUTCOMES_PER_TURN);
        more |= self.deliver();
        more |= self.pull(PULLS_PER_TURN);
        more |= self.deadlines(TIMERS_PER_TURN);
        self.tick();
        self.flush();
        more |= !self.dirty.is_empty() || !self.set_aside.is_empty();
        more |= self.submit();
        let took = self.node.clock.now_us().saturating_sub(began_us);
        self.counters.observe(Histogram::TurnUs, took);
        more
    }

    /// What has been written goes out, and its buffers come back while they are in the cache. What else has happened on the
    /// rings waits for the next turn: at most what was asked of them.
    pub(super) fn send_now(&mut self) {
        self.flush();
        for ring in 0..self.rings.len() {
            self.rings[ring].submit();
            for _ in 0..EVENTS_PER_TURN {
                match self.rings[ring].ring.next_event() {
                    Some(event @ Event::Sent { .. }) => self.ring_event(ring, event),
                    Some(event) => self.set_aside.push_back((ring, event)),
                    None => break,
                }
            }
        }
    }

    /// Both clocks.
    pub(super) fn now(&self) -> Now {
        Now {
            ms: self.node.clock.now_ms(),
            wall_ms: self.node.clock.wall_ms(),
        }
    }

    /// Hands every ring's operations to the kernel. Returns whether some have ended already.
    pub(super) fn submit(&mut self) -> bool {
        let mut more = false;
        for ring in &mut self.rings {
            ring.submit();
            more |= ring.ring.has_events();
        }
        more
    }

    pub(super) fn ring_events(&mut self, ring: usize) -> bool {
        for _ in 0..EVENTS_PER_TURN {
            let Some(event) = self.rings[ring].ring.next_event() else {
                return false;
            };
            self.ring_event(ring, event);
        }
        true
    }

    fn outcomes(&mut self, max: usize) -> bool {
        for _ in 0..max {
            let Some(outcome) = self.appends.next_outcome() else {
                return false;
            };
            self.outcome(outcome);
        }
        true
    }

    /// A session's connection, if it lives and nobody has it in hand.
    pub(super) fn find(&mut self, id: SessionId) -> Option<&mut Connection> {
        let ring = self.rings.get_mut(usize::from(id.ring))?;
        let connection = ring.connections.get_mut(id.key.index())?.as_deref_mut()?;
        (connection.id == id).then_some(connection)
    }

    /// Takes a connection in hand; give it back with [`Reactor::put`], or end it.
    pub(super) fn take(&mut self, id: SessionId) -> Option<Box<Connection>> {
        let ring = self.rings.get_mut(usize::from(id.ring))?;
        let place = ring.connections.get_mut(id.key.index())?;
        place.take_if(|connection| connection.id == id)
    }

    /// Puts a connection into its place.
    pub(super) fn put(&mut self, connection: Box<Connection>) {
        let id = connection.id;
        let connections = &mut self.rings[usize::from(id.ring)].connections;
        if connections.len() <= id.key.index() {
            connections.resize_with(id.key.index() + 1, || None);
        }
        connections[id.key.index()] = Some(connection);
    }

    /// Marks a connection as having something to send.
    pub(super) fn touch(&mut self, connection: &mut Connection) {
        if !std::mem::replace(&mut connection.dirty, true) {
            self.dirty.push(connection.id);
        }
    }

    /// Sets gauges; a few stores.
    pub(super) fn gauge(&self) {
        let counters = &self.counters;
        counters.set(Gauge::Sessions, self.sessions);
        counters.set(Gauge::Users, self.users.len());
        counters.set(Gauge::UsersRested, self.users.rested());
        counters.set(Gauge::FreshPromised, self.promises.len());
        counters.set(Gauge::FreshWaiting, self.waiting);
        counters.set(Gauge::ReplayBytes, self.replay.bytes());
        counters.set(Gauge::ReplayEntries, self.replay.entries());
        counters.set(Gauge::InFlight, self.appends.in_flight());
        counters.set(Gauge::Cursors, self.cursors.len());
        counters.set(Gauge::Partitions, self.partitions.len());
        let shards = || self.partitions.iter().map(|partition| &partition.shards);
        counters.set(Gauge::ShardMembers, shards().map(ShardTable::len).sum());
        counters.set(Gauge::ShardBytes, shards().map(ShardTable::bytes).sum());
        self.gauge_bodies();
        let evicted = self.replay.evicted();
        let told = counters.counter(Counter::RingEvictions);
        counters.add(Counter::RingEvictions, evicted.saturating_sub(told));
    }
}
