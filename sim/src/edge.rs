//! The edge nodes: the server's session machine over the delivery log, and the network to them.

use crate::Break;
use crate::cluster::{DELIVERIES, Entry};
use crate::revoke;
use crate::world::{ConnId, DeviceNo, EDGES, Event, World};
use bytes::Bytes;
use hawser_fanout::auth::{Claims, Standing};
use hawser_protocol::frame::{ClientFrame, ServerFrame};
use hawser_protocol::ids::{ChatId, DeviceId, Seq, UserId};
use hawser_protocol::lanes::Lanes;
use hawser_protocol::message::MessageRecord;
use hawser_protocol::partition::partition;
use hawser_protocol::pb;
use hawser_protocol::record::{Audience, DeliveryKind};
use hawser_protocol::resume::{ResumeKey, ResumeToken, record_checksum};
use hawser_protocol::server::{Action, Bodies, Session, Start, UserRates, resume};
use std::collections::{BTreeMap, BTreeSet};

/// The cluster's key for resume tokens.
pub(crate) const KEY: [u8; 32] = [7; 32];
/// Of a resume token, milliseconds.
const TOKEN_LIFE_MS: u64 = 7 * 86_400_000;

/// One edge node.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) down: bool,
    pub(crate) boot: u32,
    /// Next offset to consume, by delivery partition.
    pub(crate) taken: BTreeMap<u32, u64>,
    /// Largest place seen, by delivery and source partition.
    pub(crate) marks: BTreeMap<(u32, u32), (Seq, u16)>,
    /// Repeats that were dropped: they are in no ring.
    pub(crate) dropped: BTreeSet<(u32, u64)>,
    pub(crate) looking: bool,
    /// How groups are spread, as far as this node has read of it.
    pub(crate) lanes: BTreeMap<ChatId, Lanes>,
    /// Records read that tell of lanes.
    pub(crate) lanes_read: usize,
    /// What delivery records refer to.
    pub(crate) bodies: Bodies<ConnId>,
    /// When it looks for those that are to be fetched.
    pub(crate) bodies_due_at: Option<u64>,
    /// Revocations, as far as this node knows, and how much of the list it has read.
    pub(crate) standing: Standing,
    pub(crate) list_read: usize,
}

/// Bytes of bodies that an edge holds: few, so that those that resume have to fetch some.
const BODY_BYTES: usize = 2_000;

impl Default for Edge {
    fn default() -> Self {
        Self {
            down: false,
            boot: 0,
            taken: BTreeMap::new(),
            marks: BTreeMap::new(),
            dropped: BTreeSet::new(),
            looking: false,
            lanes: BTreeMap::new(),
            lanes_read: 0,
            bodies: Bodies::new(BODY_BYTES),
            bodies_due_at: None,
            standing: Standing::default(),
            list_read: 0,
        }
    }
}

/// One connection, as its edge holds it.
pub(crate) struct Conn {
    pub(crate) device: DeviceNo,
    pub(crate) link: u32,
    boot: u32,
    pub(crate) user: UserId,
    pub(crate) name: DeviceId,
    pub(crate) partition: u32,
    pub(crate) timeout_at: Option<u64>,
    pub(crate) session: Option<Session>,
    /// What its token says.
    pub(crate) claims: Option<Claims>,
    acked: Option<u64>,
    /// It reads on when a body is here.
    pub(crate) awaits_body: bool,
    /// When the last byte in each direction arrives: TCP keeps the order.
    to_edge_at: u64,
    to_device_at: u64,
}

impl Entry {
    /// The SendResult, without offset, that this is to a device.
    pub(crate) fn result_for(&self, user: &UserId, device: &DeviceId) -> Option<pb::SendResult> {
        match &self.whole {
            DeliveryKind::Message {
                record,
                sender_entry: Some((u, d)),
                ..
            } if u == user && d == device => {
                let record = MessageRecord::decode(record).ok()?;
                Some(pb::SendResult {
                    client_msg_id: Bytes::copy_from_slice(&record.client_msg_id.0),
                    chat: record.chat.to_string(),
                    message_id: Bytes::copy_from_slice(&record.message_id.0),
                    seq: record.seq.0,
                    prev_seq: record.prev_seq.0,
                    ordinal: record.ordinal,
                    stored_ts_ms: record.stored_ts_ms,
                    ..pb::SendResult::default()
                })
            }
            DeliveryKind::Result {
                user: u,
                device: d,
                result,
            } if u == user && d == device => Some(result.clone()),
            _ => None,
        }
    }

    /// Whether it holds anything for a device.
    pub(crate) fn concerns(&self, user: &UserId, device: &DeviceId) -> bool {
        match &self.whole {
            DeliveryKind::Message { recipients, .. }
            | DeliveryKind::Reference { recipients, .. } => match recipients {
                Audience::Listed(users) => users.contains(user),
                Audience::Members { .. } => self.members.contains(user),
            },
            DeliveryKind::Receipt { recipients, .. } => recipients.contains(user),
            DeliveryKind::Result {
                user: u, device: d, ..
            } => u == user && d == device,
            DeliveryKind::Revoke { .. } | DeliveryKind::Shard { .. } => false,
        }
    }
}

/// The edge that owns a delivery partition.
pub(crate) fn edge_of(partition: u32) -> usize {
    partition as usize % EDGES
}

impl World {
    // ---- the network ----

    pub(crate) fn edge_accept(&mut self, device: DeviceNo, link: u32) -> Option<ConnId> {
        let (user, name) = (
            self.devices[device].user.clone(),
            self.devices[device].name.clone(),
        );
        let partition = partition(user.as_str(), DELIVERIES);
        if self.edges[edge_of(partition)].down {
            return None;
        }
        self.last_conn += 1;
        let conn = Conn {
            device,
            link,
            boot: self.devices[device].boot,
            user,
            name,
            partition,
            timeout_at: None,
            session: None,
            claims: None,
            acked: None,
            awaits_body: false,
            to_edge_at: 0,
            to_device_at: 0,
        };
        self.conns.insert(self.last_conn, conn);
        Some(self.last_conn)
    }

    pub(crate) fn send_up(&mut self, conn: ConnId, message: Bytes) {
        let at = self.ms + self.delay();
        if let Some(c) = self.conns.get_mut(&conn) {
            c.to_edge_at = c.to_edge_at.max(at);
            let at = c.to_edge_at;
            self.at(at, Event::ToEdge { conn, message });
        }
    }

    pub(crate) fn send_close(&mut self, conn: ConnId) {
        let at = self.ms + self.delay();
        if let Some(c) = self.conns.get(&conn) {
            let at = c.to_edge_at.max(at);
            self.at(at, Event::EdgeClosed { conn });
        }
    }

    pub(crate) fn send_down(&mut self, conn: ConnId, frame: &ServerFrame) {
        let at = self.ms + self.delay();
        let Some(c) = self.conns.get_mut(&conn) else {
            return;
        };
        c.to_device_at = c.to_device_at.max(at);
        let (at, device) = (c.to_device_at, c.device);
        if self.devices[device].black_hole {
            return;
        }
        let message = self.devices[device].encode_down(frame);
        self.at(at, Event::ToDevice { conn, message });
    }

    /// The edge closes a connection; what it sent before still arrives, unless it broke (1006).
    pub(crate) fn edge_close(&mut self, conn: ConnId, code: u16) {
        let at = self.ms + self.delay();
        let Some(c) = self.conns.remove(&conn) else {
            return;
        };
        let device = c.device;
        if self.devices[device].black_hole {
            return;
        }
        if self.devices[device].boot != c.boot {
            return;
        }
        if code == 1006 {
            // What is on its way is lost: the rest of the stream never comes.
            self.devices[device].links.remove(&c.link);
        }
        let at = c.to_device_at.max(at);
        let (link, boot) = (c.link, c.boot);
        self.at(
            at,
            Event::DeviceClosed {
                device,
                boot,
                link,
                code,
            },
        );
    }

    /// The process dies: connections break, what it held in memory is gone.
    pub(crate) fn edge_crash(&mut self, edge: usize) {
        self.tell(|| format!("edge {edge} dies"));
        self.edges[edge] = Edge {
            down: true,
            boot: self.edges[edge].boot + 1,
            ..Edge::default()
        };
        let theirs = |c: &Conn| edge_of(c.partition) == edge;
        let conns: Vec<ConnId> = self
            .conns
            .iter()
            .filter(|(_, c)| theirs(c))
            .map(|(id, _)| *id)
            .collect();
        for conn in conns {
            self.edge_close(conn, 1006);
        }
    }

    /// It is started again, at the end of its partitions: what is older is read from the log.
    pub(crate) fn edge_start(&mut self, edge: usize) {
        for partition in (0..DELIVERIES).filter(|p| edge_of(*p) == edge) {
            self.cluster.reopen(partition);
            let end = self.cluster.delivery[partition as usize].entries.len() as u64;
            self.edges[edge].taken.insert(partition, end);
        }
        self.edges[edge].down = false;
        self.edge_learns(edge);
        self.await_lane_news(edge);
    }

    // ---- frames ----

    pub(crate) fn edge_message(&mut self, conn: ConnId, message: Bytes) {
        let Some(device) = self.conns.get(&conn).map(|c| c.device) else {
            return;
        };
        for frame in self.devices[device].decode_up(message) {
            let Some(c) = self.conns.get_mut(&conn) else {
                return;
            };
            match frame {
                Ok(ClientFrame::Hello(hello)) if c.session.is_none() => self.hello(conn, &hello),
                Ok(frame) => self.session_frame(conn, frame),
                Err(error) => self.violate("codec", format!("a client's frame: {error}")),
            }
        }
    }

    fn session_frame(&mut self, conn: ConnId, frame: ClientFrame) {
        let (now, settings) = (self.edge_now(), self.settings);
        let mut actions = Vec::new();
        if let Some(session) = self.session(conn) {
            let mut rates = UserRates::default();
            session.heard(&settings, &mut rates, 100, now);
            session.frame(&settings, &mut rates, frame, now, &mut actions);
        }
        self.act(conn, actions);
        self.arm(conn);
        self.pump(conn);
    }

    pub(crate) fn edge_timeout(&mut self, conn: ConnId) {
        let now = self.edge_now();
        let mut actions = Vec::new();
        if let Some(session) = self.session(conn) {
            session.timeout(now, &mut actions);
        }
        self.act(conn, actions);
        self.arm(conn);
    }

    fn arm(&mut self, conn: ConnId) {
        let now = self.edge_now();
        if let Some(c) = self.conns.get_mut(&conn) {
            c.timeout_at = c.session.as_ref().map(|s| s.next_timeout(now));
        }
    }

    pub(crate) fn session(&mut self, conn: ConnId) -> Option<&mut Session> {
        self.conns.get_mut(&conn)?.session.as_mut()
    }

    pub(crate) fn taken(&self, partition: u32) -> u64 {
        let edge = &self.edges[edge_of(partition)];
        edge.taken.get(&partition).copied().unwrap_or(0)
    }

    fn hello(&mut self, conn: ConnId, hello: &pb::Hello) {
        let Some(c) = self.conns.get(&conn) else {
            return;
        };
        let (user, name, partition) = (c.user.clone(), c.name.clone(), c.partition);
        let (expires, claims) = revoke::claims_of(&hello.token, &user, &name);
        if expires <= self.wall_ms() {
            return self.edge_close(conn, 4100);
        }
        if !self.admit(conn, claims) {
            return;
        }
        self.displace(conn, &user, &name);
        let head = self.taken(partition);
        let resumed = self.resumes(hello, &user, &name, partition);
        let start = match resumed {
            Some(from) if self.broken == Some(Break::Resume) => Start::Resumed(from + 1),
            Some(from) => Start::Resumed(from),
            None if hello.live_only => Start::Live(head),
            None => Start::Head(head),
        };
        let now = self.edge_now();
        let session = Session::new(&self.settings, start, hello.heartbeat_ms, expires, now);
        let welcome = pb::Welcome {
            session: conn.to_string(),
            user: user.to_string(),
            device: name.to_string(),
            server_time_ms: now.wall_ms,
            generation: u32::from(self.cluster.generation),
            partition,
            recovered: resumed.is_some(),
            head,
            resume_token: self.seal(&user, &name, partition, session.position()),
            heartbeat_ms: session.heartbeat_ms(),
            token_expires_at_ms: expires,
            ..pb::Welcome::default()
        };
        if let Some(c) = self.conns.get_mut(&conn) {
            c.session = Some(session);
        }
        self.arm(conn);
        self.send_down(conn, &ServerFrame::Welcome(welcome));
        self.pump(conn);
    }

    fn displace(&mut self, conn: ConnId, user: &UserId, name: &DeviceId) {
        let same = |c: &Conn| c.session.is_some() && c.user == *user && c.name == *name;
        let others = self.conns.iter().filter(|(id, c)| **id != conn && same(c));
        let old: Vec<ConnId> = others.map(|(id, _)| *id).collect();
        for id in old {
            self.edge_close(id, 4301);
        }
    }

    fn checksum(&self, partition: u32, at: u64) -> Option<u32> {
        let entries = &self.cluster.delivery[partition as usize].entries;
        let entry = entries.get(usize::try_from(at).ok()?)?;
        Some(record_checksum(&entry.value))
    }

    fn resumes(&self, hello: &pb::Hello, user: &UserId, name: &DeviceId, at: u32) -> Option<u64> {
        let token = ResumeKey::new(&KEY).open(&hello.resume_token).ok()?;
        let generation = self.cluster.generation;
        let claim = resume::claim(
            hello,
            &token,
            user,
            name,
            [(generation, at)],
            self.wall_ms(),
        )
        .ok()?;
        let log = &self.cluster.delivery[at as usize];
        let state = resume::LogState {
            generation,
            partition: at,
            low: log.low,
            high: self.taken(at),
        };
        let sum = claim
            .check
            .and_then(|(offset, _)| self.checksum(at, offset));
        resume::decide(&claim, &state, sum).ok()
    }

    pub(crate) fn seal(
        &mut self,
        user: &UserId,
        name: &DeviceId,
        partition: u32,
        offset: u64,
    ) -> Bytes {
        let before = offset.checked_sub(1);
        let token = ResumeToken {
            user: user.clone(),
            device: name.clone(),
            generation: self.cluster.generation,
            partition,
            offset,
            checksum: before
                .and_then(|at| self.checksum(partition, at))
                .unwrap_or(0),
            expires_ms: self.wall_ms() + TOKEN_LIFE_MS,
        };
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&self.chance.word().to_le_bytes());
        ResumeKey::new(&KEY).seal(&token, nonce)
    }

    fn act(&mut self, conn: ConnId, actions: Vec<Action>) {
        for action in actions {
            let Some(c) = self.conns.get(&conn) else {
                return;
            };
            let (user, device) = (c.user.clone(), c.name.clone());
            match action {
                Action::Reply(frame) => self.send_down(conn, &frame),
                Action::Append(send) => self.append_send(conn, user, device, send),
                Action::Delivered { chat, seq } => self.receipt(user, device, chat, seq, Seq::NONE),
                Action::Receipt {
                    chat,
                    delivered,
                    read,
                } => self.receipt(user, device, chat, delivered, read),
                Action::Cursor { offset } => self.cursor(conn, offset),
                Action::Typing { .. } | Action::Watch { .. } => {}
                Action::Sync(request) => {
                    let at = self.ms + 1 + self.chance.below(20);
                    self.at(at, Event::Page { conn, request });
                }
                Action::Pong { client_time_ms } => {
                    let pong = pb::Pong {
                        client_time_ms,
                        server_time_ms: self.wall_ms(),
                        ..pb::Pong::default()
                    };
                    self.send_down(conn, &ServerFrame::Pong(pong));
                }
                Action::VerifyToken(token) => {
                    let mut out = Vec::new();
                    let (expires, claims) = revoke::claims_of(&token, &user, &device);
                    if !self.admit(conn, claims) {
                        return;
                    }
                    if let Some(session) = self.session(conn) {
                        session.token_accepted(expires, &mut out);
                    }
                    self.act(conn, out);
                }
                Action::Close { code, .. } => self.edge_close(conn, code),
            }
        }
    }

    pub(crate) fn edge_page(&mut self, conn: ConnId, request: &pb::Sync) {
        let Some(user) = self.conns.get(&conn).map(|c| c.user.clone()) else {
            return;
        };
        let page = self.cluster.history.sync(&user, request);
        if let Some(session) = self.session(conn) {
            session.synced();
        }
        self.send_down(conn, &ServerFrame::SyncPage(page));
    }

    fn cursor(&mut self, conn: ConnId, offset: u64) {
        let Some(c) = self.conns.get_mut(&conn) else {
            return;
        };
        let back = c.acked.is_some_and(|acked| offset <= acked);
        c.acked = Some(offset);
        let device = c.device;
        if back {
            self.violate("cursor", format!("a cursor went back to {offset}"));
        }
        self.persisted(device, conn, offset);
    }
}
