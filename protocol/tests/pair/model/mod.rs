//! A world in virtual time: a cluster that is arrays, edges of server sessions, devices of client
//! sessions, and the network between them. One seed is one run.

pub(crate) mod cluster;
pub(crate) mod device;
pub(crate) mod edge;

use self::cluster::Cluster;
use self::device::{Device, Disk};
use self::edge::Conn;
use bytes::Bytes;
use hawser_protocol::client::{Batch, Chance, Now};
use hawser_protocol::frame::{ClientFrame, ServerFrame, split};
use hawser_protocol::ids::{ChatId, UserId};
use hawser_protocol::message::Send;
use hawser_protocol::pb;
use hawser_protocol::server;
use std::collections::BTreeMap;

/// When the world begins, milliseconds since 1970.
pub(crate) const START_WALL_MS: u64 = 1_750_000_000_000;
/// More events than this in one `pass`: something runs in a circle.
const EVENTS_MAX: usize = 2_000_000;

pub(crate) type DeviceId = usize;
pub(crate) type ConnId = u64;

/// What happens at an instant.
#[derive(Debug)]
pub(crate) enum Event {
    Opened {
        device: DeviceId,
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
        device: DeviceId,
        boot: u32,
        link: u32,
        code: u16,
    },
    Token {
        device: DeviceId,
        boot: u32,
    },
    Stored {
        device: DeviceId,
        boot: u32,
        ticket: u64,
        batch: Box<Batch>,
    },
    /// The log takes a Send.
    Appended {
        conn: ConnId,
        user: UserId,
        device: String,
        send: Box<Send>,
    },
}

/// How the network and the disks behave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather {
    /// One way, milliseconds: at least, and at most.
    pub(crate) delay_ms: (u64, u64),
    /// A write to a device's disk, milliseconds.
    pub(crate) disk_ms: u64,
    /// The log's fsync, milliseconds.
    pub(crate) append_ms: u64,
}

pub(crate) struct World {
    pub(crate) ms: u64,
    pub(crate) chance: Chance,
    pub(crate) weather: Weather,
    pub(crate) settings: server::Settings,
    pub(crate) cluster: Cluster,
    pub(crate) conns: BTreeMap<ConnId, Conn>,
    pub(crate) devices: Vec<Device>,
    /// Frames of clients as edges saw them: user and frame.
    pub(crate) seen: Vec<(UserId, ClientFrame)>,
    queue: BTreeMap<(u64, u64), Event>,
    last_event: u64,
    last_conn: ConnId,
    // ---- switches of the tests ----
    /// No session is recovered.
    pub(crate) never_recover: bool,
    /// Error codes that the edge gives to the next Sends.
    pub(crate) next_errors: Vec<u16>,
    /// Answers of the cluster to Sends are lost on the way.
    pub(crate) hold_results: bool,
    /// Deliveries (user, offset) that are left out of the stream.
    pub(crate) skipped: Vec<(UserId, u64)>,
    /// Syncs are lost.
    pub(crate) lose_syncs: bool,
    /// The next Hello is answered by this.
    pub(crate) next_hello: Option<ServerFrame>,
    /// Every Hello that does not forbid it is answered by this.
    pub(crate) redirect: Option<pb::Redirect>,
    /// Nobody is at this address.
    pub(crate) dead_url: Option<String>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            ms: 1_000,
            chance: Chance::new(seed),
            weather: Weather {
                delay_ms: (1, 1),
                disk_ms: 1,
                append_ms: 2,
            },
            settings: server::Settings {
                heartbeat_ms: 30_000,
                window_frames: 256,
                window_bytes: 65_536,
                sends_per_second: 1_000,
                sends_burst: 1_000,
                bytes_per_second: 10 << 20,
            },
            cluster: Cluster::default(),
            conns: BTreeMap::new(),
            devices: Vec::new(),
            seen: Vec::new(),
            queue: BTreeMap::new(),
            last_event: 0,
            last_conn: 0,
            never_recover: false,
            next_errors: Vec::new(),
            hold_results: false,
            skipped: Vec::new(),
            lose_syncs: false,
            next_hello: None,
            redirect: None,
            dead_url: None,
        }
    }

    /// A device that is started; its program and disk are new.
    pub(crate) fn join(&mut self, user: &str, device: &str) -> DeviceId {
        let id = self.devices.len();
        let user = UserId::new(user).expect("user");
        self.cluster.users.insert(user.clone());
        let seed = self.chance.word();
        self.devices
            .push(Device::new(user, device, Disk::default(), seed));
        self.start(id);
        id
    }

    pub(crate) fn start(&mut self, device: DeviceId) {
        let now = self.now();
        self.devices[device].session.start(now);
        self.settle(device);
    }

    pub(crate) fn now(&self) -> Now {
        Now {
            ms: self.ms,
            wall_ms: START_WALL_MS + self.ms,
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

    /// Lets time pass, event by event and timer by timer.
    pub(crate) fn pass(&mut self, ms: u64) {
        let end = self.ms + ms;
        for _ in 0..EVENTS_MAX {
            let queued = self.queue.first_key_value().map(|((at, _), _)| *at);
            let devices = self.devices.iter().map(|d| d.session.next_timeout_ms());
            let timer = devices.flatten().min();
            let edges = self
                .conns
                .values()
                .filter_map(|conn| conn.next_timeout(self.now()));
            let edge = edges.min();
            let next = [queued, timer, edge].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.ms = end;
                return;
            };
            self.ms = self.ms.max(next);
            if queued.is_some_and(|at| at <= self.ms) {
                if let Some((_, event)) = self.queue.pop_first() {
                    self.happen(event);
                }
                continue;
            }
            self.fire_timers();
        }
        panic!("the world does not come to rest");
    }

    fn fire_timers(&mut self) {
        let now = self.now();
        for device in 0..self.devices.len() {
            let session = &mut self.devices[device].session;
            if session.next_timeout_ms().is_some_and(|at| at <= now.ms) {
                session.handle_timeout(now);
                self.settle(device);
            }
        }
        let due = |conn: &Conn| conn.next_timeout(now).is_some_and(|at| at <= now.ms);
        let conns: Vec<ConnId> = self
            .conns
            .iter()
            .filter(|(_, c)| due(c))
            .map(|(id, _)| *id)
            .collect();
        for conn in conns {
            self.edge_timeout(conn);
        }
    }

    fn happen(&mut self, event: Event) {
        let now = self.now();
        match event {
            Event::Opened {
                device,
                boot,
                link,
                conn,
            } => {
                if !self.devices[device].is(boot) {
                    return;
                }
                self.devices[device].links.insert(link, conn);
                self.devices[device].session.handle_opened(link, now);
                self.settle(device);
            }
            Event::ToEdge { conn, message } => self.edge_message(conn, message),
            Event::ToDevice { conn, message } => {
                let link = self.devices.iter().enumerate().find_map(|(device, d)| {
                    let (link, _) = d.links.iter().find(|(_, c)| **c == conn)?;
                    Some((device, *link))
                });
                if let Some((device, link)) = link {
                    self.devices[device]
                        .session
                        .handle_message(link, message, now);
                    self.settle(device);
                }
            }
            Event::EdgeClosed { conn } => self.edge_gone(conn),
            Event::DeviceClosed {
                device,
                boot,
                link,
                code,
            } => {
                if self.devices[device].is(boot) {
                    self.devices[device].links.remove(&link);
                    self.devices[device]
                        .session
                        .handle_closed(link, code, "", now);
                    self.settle(device);
                }
            }
            Event::Token { device, boot } => {
                if self.devices[device].is(boot) {
                    let expires = now.wall_ms + 3_600_000;
                    let token = self.devices[device].token(expires);
                    self.devices[device]
                        .session
                        .handle_token(token, expires, now);
                    self.settle(device);
                }
            }
            Event::Stored {
                device,
                boot,
                ticket,
                batch,
            } => {
                if self.devices[device].is(boot) {
                    self.devices[device].stored(ticket, *batch, now);
                    self.settle(device);
                }
            }
            Event::Appended {
                conn,
                user,
                device,
                send,
            } => self.appended(conn, &user, &device, &send),
        }
    }

    // ---- what tests do ----

    pub(crate) fn say(&mut self, device: DeviceId, chat: &str, text: &str) {
        let now = self.now();
        let chat = ChatId::new(chat).expect("chat");
        let body = Bytes::copy_from_slice(text.as_bytes());
        let session = &mut self.devices[device].session;
        session
            .submit(chat, hawser_protocol::message::MessageType::TEXT, body, now)
            .expect("room");
        self.settle(device);
    }

    pub(crate) fn read(&mut self, device: DeviceId, chat: &str, seq: hawser_protocol::ids::Seq) {
        let now = self.now();
        let chat = ChatId::new(chat).expect("chat");
        self.devices[device].session.read(&chat, seq, now);
        self.settle(device);
    }

    /// The program dies; what its disk has not finished is gone. It starts again at once.
    pub(crate) fn crash(&mut self, device: DeviceId) {
        let conns: Vec<ConnId> = self.devices[device].links.values().copied().collect();
        for conn in conns {
            let at = self.ms + self.delay();
            self.at(at, Event::EdgeClosed { conn });
        }
        let seed = self.chance.word();
        self.devices[device].boot_again(seed);
        self.start(device);
    }

    /// Connections of a user break (or are closed by the edge with a code).
    pub(crate) fn drop_user(&mut self, user: &str, code: u16) {
        let conns: Vec<ConnId> = self
            .conns
            .iter()
            .filter(|(_, c)| c.user.as_str() == user)
            .map(|(id, _)| *id)
            .collect();
        for conn in conns {
            self.edge_close(conn, code);
        }
    }

    /// The edge dies: every connection breaks, what it held in memory is gone.
    pub(crate) fn kill_edge(&mut self) {
        let conns: Vec<ConnId> = self.conns.keys().copied().collect();
        for conn in conns {
            self.edge_close(conn, 1006);
        }
    }

    pub(crate) fn frames_of<'a>(&'a self, user: &'a str) -> impl Iterator<Item = &'a ClientFrame> {
        self.seen
            .iter()
            .filter(move |(u, _)| u.as_str() == user)
            .map(|(_, frame)| frame)
    }
}

/// Cuts a message into frames of a client's.
pub(crate) fn client_frames(mut message: Bytes) -> Vec<ClientFrame> {
    let mut frames = Vec::new();
    while let Some(raw) = split(&mut message).expect("a client's frame") {
        frames.push(ClientFrame::decode(&raw).expect("a client's frame"));
    }
    frames
}
