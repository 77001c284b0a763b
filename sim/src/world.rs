//! The world: one queue of events in virtual time. One seed is one run.

use crate::cluster::{Cluster, Step, Turn};
use crate::device::Device;
use crate::edge::{Conn, Edge};
use crate::oracle::{Evidence, Violation};
use crate::{Break, Options};
use bytes::Bytes;
use hawser_protocol::client::{Batch, Chance, Now};
use hawser_protocol::pb;
use hawser_protocol::record::{BodyRecord, DeliveryRecord, SourceRecord};
use hawser_protocol::server::{self, Fetch};
use std::collections::BTreeMap;

/// When the world begins, milliseconds since 1970.
pub(crate) const START_WALL_MS: u64 = 1_750_000_000_000;
/// More events than this in one run: something runs in a circle.
const EVENTS_MAX: u64 = 3_000_000;
/// Edge nodes; each owns the delivery partitions of its number modulo this.
pub(crate) const EDGES: usize = 2;

pub(crate) type DeviceNo = usize;
pub(crate) type ConnId = u64;

/// What happens at an instant.
#[derive(Debug)]
pub(crate) enum Event {
    Opened {
        device: DeviceNo,
        boot: u32,
        link: u32,
        conn: ConnId,
    },
    ToEdge {
        conn: ConnId,
        message: Bytes,
    },
    ToDevice {
        conn: ConnId,
        message: Bytes,
    },
    /// The edge notices that the device is gone.
    EdgeClosed {
        conn: ConnId,
    },
    /// The device notices that the edge is gone.
    DeviceClosed {
        device: DeviceNo,
        boot: u32,
        link: u32,
        code: u16,
    },
    Token {
        device: DeviceNo,
        boot: u32,
    },
    Stored {
        device: DeviceNo,
        boot: u32,
        ticket: u64,
        batch: Box<Batch>,
    },
    /// The outcome of an append of an edge's: in the log or not, told or not.
    Appended {
        conn: ConnId,
        source: Box<SourceRecord>,
        appended: bool,
        told: bool,
    },
    /// History answers.
    Page {
        conn: ConnId,
        request: pb::Sync,
    },
    /// An edge looks at its delivery partitions.
    Consume {
        edge: usize,
        boot: u32,
    },
    /// An edge reads which groups are in relaxed order.
    LaneNews {
        edge: usize,
        boot: u32,
    },
    /// A body reaches an edge by its lane.
    Body {
        edge: usize,
        boot: u32,
        body: BodyRecord,
    },
    /// An edge looks which bodies it has to fetch.
    BodiesDue {
        edge: usize,
        boot: u32,
    },
    /// The store answers for a body.
    Fetch {
        edge: usize,
        boot: u32,
        fetch: Fetch,
    },
    /// A revocation, or a pardon, reaches the delivery log.
    Told {
        record: Box<DeliveryRecord>,
    },
    /// An edge reads the list of revocations.
    List {
        edge: usize,
        boot: u32,
    },
    Ingest {
        epoch: u64,
        step: Step,
        turn: Option<Box<Turn>>,
    },
}

/// How network, disks and engines behave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather {
    /// One way, milliseconds: at least, and at most.
    pub(crate) delay_ms: (u64, u64),
    /// A write to a device's disk, at most, milliseconds.
    pub(crate) disk_ms: u64,
    /// The log's fsync, at most, milliseconds.
    pub(crate) append_ms: u64,
    /// Of 100 appends so many are refused, and so many time out.
    pub(crate) append_refused: u64,
    pub(crate) append_unknown: u64,
}

pub(crate) struct World {
    pub(crate) ms: u64,
    pub(crate) chance: Chance,
    pub(crate) weather: Weather,
    pub(crate) settings: server::Settings,
    pub(crate) cluster: Cluster,
    pub(crate) edges: Vec<Edge>,
    pub(crate) conns: BTreeMap<ConnId, Conn>,
    pub(crate) devices: Vec<Device>,
    pub(crate) evidence: Evidence,
    pub(crate) violation: Option<Violation>,
    pub(crate) broken: Option<Break>,
    /// A crash may leave a batch of the store in part.
    pub(crate) torn: bool,
    pub(crate) trace: bool,
    pub(crate) events: u64,
    /// The edges' clock is off by so much.
    pub(crate) edge_skew_ms: i64,
    queue: BTreeMap<(u64, u64), Event>,
    last_event: u64,
    pub(crate) last_conn: ConnId,
    /// Bodies that edges read in the store.
    pub(crate) fetched: u64,
}

impl World {
    pub(crate) fn new(seed: u64, options: &Options) -> Self {
        let broken = options.broken;
        Self {
            ms: 1_000,
            chance: Chance::new(seed),
            weather: Weather {
                delay_ms: (1, 40),
                disk_ms: 8,
                append_ms: 6,
                append_refused: 0,
                append_unknown: 0,
            },
            settings: server::Settings {
                heartbeat_ms: 30_000,
                window_frames: 16,
                window_bytes: 65_536,
                sends_per_second: 1_000,
                sends_burst: 1_000,
                bytes_per_second: 10 << 20,
            },
            cluster: Cluster::new(broken, seed),
            edges: (0..EDGES).map(|_| Edge::default()).collect(),
            conns: BTreeMap::new(),
            devices: Vec::new(),
            evidence: Evidence::default(),
            violation: None,
            broken,
            torn: options.torn,
            trace: options.trace,
            events: 0,
            edge_skew_ms: 0,
            queue: BTreeMap::new(),
            last_event: 0,
            last_conn: 0,
            fetched: 0,
        }
    }

    /// The edges' wall clock.
    pub(crate) fn wall_ms(&self) -> u64 {
        (START_WALL_MS + self.ms).saturating_add_signed(self.edge_skew_ms)
    }

    pub(crate) fn edge_now(&self) -> server::Now {
        server::Now {
            ms: self.ms,
            wall_ms: self.wall_ms(),
        }
    }

    /// A device's own clocks.
    pub(crate) fn device_now(&self, device: DeviceNo) -> Now {
        let skew_ms = self.devices[device].skew_ms;
        Now {
            ms: self.ms,
            wall_ms: (START_WALL_MS + self.ms).saturating_add_signed(skew_ms),
        }
    }

    pub(crate) fn at(&mut self, ms: u64, event: Event) {
        self.last_event += 1;
        self.queue.insert((ms, self.last_event), event);
    }

    pub(crate) fn delay(&mut self) -> u64 {
        let (least, most) = self.weather.delay_ms;
        least + self.chance.below(most - least + 1)
    }

    /// Takes the pending step of an ingest out of the future.
    pub(crate) fn take_turn(&mut self, wanted: u64) -> Option<(Step, Box<Turn>)> {
        let key = self.queue.iter().find_map(|(key, event)| match event {
            Event::Ingest {
                epoch,
                turn: Some(_),
                ..
            } if *epoch == wanted => Some(*key),
            _ => None,
        })?;
        match self.queue.remove(&key) {
            Some(Event::Ingest {
                step,
                turn: Some(turn),
                ..
            }) => Some((step, turn)),
            _ => None,
        }
    }

    pub(crate) fn tell(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>8} {}", self.ms, what());
        }
    }

    /// Lets time pass, event by event and timer by timer, unless an oracle has spoken.
    pub(crate) fn pass(&mut self, ms: u64) {
        let end = self.ms + ms;
        while self.violation.is_none() {
            self.events += 1;
            if self.events > EVENTS_MAX {
                self.violate("rest", "the world does not come to rest".into());
                return;
            }
            let queued = self.queue.first_key_value().map(|((at, _), _)| *at);
            let devices = self.devices.iter().map(|d| d.session.next_timeout_ms());
            let timer = devices.flatten().min();
            let now = self.edge_now();
            let edge = self.conns.values().filter_map(|conn| conn.timeout_at).min();
            let next = [queued, timer, edge].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.ms = end;
                return;
            };
            self.ms = next.max(now.ms);
            if queued.is_some_and(|at| at <= self.ms) {
                if let Some((_, event)) = self.queue.pop_first() {
                    self.happen(event);
                }
            } else {
                self.fire_timers();
            }
        }
    }

    fn fire_timers(&mut self) {
        for device in 0..self.devices.len() {
            let now = self.device_now(device);
            let session = &mut self.devices[device].session;
            if session.next_timeout_ms().is_some_and(|at| at <= now.ms) {
                session.handle_timeout(now);
                self.settle(device);
            }
        }
        let due = |conn: &Conn| conn.timeout_at.is_some_and(|at| at <= self.ms);
        let due: Vec<ConnId> = self
            .conns
            .iter()
            .filter(|(_, c)| due(c))
            .map(|(id, _)| *id)
            .collect();
        for conn in due {
            self.edge_timeout(conn);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Opened {
                device,
                boot,
                link,
                conn,
            } => self.device_opened(device, boot, link, conn),
            Event::ToEdge { conn, message } => self.edge_message(conn, message),
            Event::ToDevice { conn, message } => self.device_message(conn, message),
            Event::EdgeClosed { conn } => {
                self.conns.remove(&conn);
            }
            Event::DeviceClosed {
                device,
                boot,
                link,
                code,
            } => self.device_closed(device, boot, link, code),
            Event::Token { device, boot } => self.device_token(device, boot),
            Event::Stored {
                device,
                boot,
                ticket,
                batch,
            } => self.device_stored(device, boot, ticket, batch),
            Event::Appended {
                conn,
                source,
                appended,
                told,
            } => self.appended(conn, &source, appended, told),
            Event::Page { conn, request } => self.edge_page(conn, &request),
            Event::Consume { edge, boot } => self.consume(edge, boot),
            Event::Told { record } => self.told(*record),
            Event::List { edge, boot } => self.read_list(edge, boot),
            Event::LaneNews { edge, boot } => self.learn_lanes(edge, boot),
            Event::Body { edge, boot, body } => self.body_came(edge, boot, body),
            Event::BodiesDue { edge, boot } => self.bodies_due(edge, boot),
            Event::Fetch { edge, boot, fetch } => self.body_fetched(edge, boot, &fetch),
            Event::Ingest { epoch, step, turn } => self.ingest(epoch, step, turn),
        }
    }
}
