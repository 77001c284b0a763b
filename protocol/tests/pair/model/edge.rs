//! The edge: server sessions over the cluster's delivery logs.

use super::cluster::{Entry, What};
use super::{ConnId, DeviceId, Event, START_WALL_MS, World, client_frames};
use bytes::Bytes;
use hawser_protocol::client::Now;
use hawser_protocol::frame::{ClientFrame, Deliver, DeliverFlags, ServerFrame};
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId as Name, Seq, UserId};
use hawser_protocol::message::{MessageRecord, Send};
use hawser_protocol::pb;
use hawser_protocol::resume::{ResumeKey, ResumeToken};
use hawser_protocol::server::{Action, Offer, Session, Start, UserRates, refusal, resume};

const KEY: [u8; 32] = [7; 32];

/// One connection, as the edge holds it.
pub(crate) struct Conn {
    device: DeviceId,
    link: u32,
    pub(crate) user: UserId,
    name: String,
    session: Option<Session>,
    watch_chats: Vec<ChatId>,
    /// When the last byte in each direction arrives: TCP keeps the order.
    to_edge_at: u64,
    to_device_at: u64,
}

impl Conn {
    pub(crate) fn next_timeout(&self, now: Now) -> Option<u64> {
        Some(self.session.as_ref()?.next_timeout(server_now(now)))
    }
}

fn server_now(now: Now) -> hawser_protocol::server::Now {
    hawser_protocol::server::Now {
        ms: now.ms,
        wall_ms: now.wall_ms,
    }
}

impl World {
    // ---- the network ----

    pub(super) fn edge_accept(&mut self, device: DeviceId, link: u32) -> ConnId {
        self.last_conn += 1;
        let user = self.devices[device].user.clone();
        let conn = Conn {
            device,
            link,
            user,
            name: String::new(),
            session: None,
            watch_chats: Vec::new(),
            to_edge_at: 0,
            to_device_at: 0,
        };
        self.conns.insert(self.last_conn, conn);
        self.last_conn
    }

    pub(super) fn send_up(&mut self, conn: ConnId, message: Bytes) {
        let at = self.ms + self.delay();
        if let Some(c) = self.conns.get_mut(&conn) {
            c.to_edge_at = c.to_edge_at.max(at);
            let at = c.to_edge_at;
            self.at(at, Event::ToEdge { conn, message });
        }
    }

    pub(super) fn send_close(&mut self, conn: ConnId) {
        let at = self.ms + self.delay();
        if let Some(c) = self.conns.get(&conn) {
            let at = c.to_edge_at.max(at);
            self.at(at, Event::EdgeClosed { conn });
        }
    }

    fn send_down(&mut self, conn: ConnId, frame: &ServerFrame) {
        let at = self.ms + self.delay();
        let Some(c) = self.conns.get_mut(&conn) else {
            return;
        };
        c.to_device_at = c.to_device_at.max(at);
        let (at, device) = (c.to_device_at, c.device);
        if self.devices[device].black_hole {
            return;
        }
        let mut message = Vec::new();
        frame.encode(&mut message);
        let message = message.into();
        self.at(at, Event::ToDevice { conn, message });
    }

    /// A frame to every session of a user.
    pub(crate) fn send_to(&mut self, user: &str, frame: &ServerFrame) {
        let theirs = |c: &Conn| c.user.as_str() == user;
        let conns: Vec<ConnId> = self
            .conns
            .iter()
            .filter(|(_, c)| theirs(c))
            .map(|(id, _)| *id)
            .collect();
        for conn in conns {
            self.send_down(conn, frame);
        }
    }

    /// The edge closes a connection; what it sent before still arrives, unless it broke (1006).
    pub(crate) fn edge_close(&mut self, conn: ConnId, code: u16) {
        let at = self.ms + self.delay();
        let Some(c) = self.conns.remove(&conn) else {
            return;
        };
        let device = c.device;
        let boot_link = self.devices[device].links.get(&c.link).copied();
        if self.devices[device].black_hole || boot_link != Some(conn) {
            return;
        }
        let at = if code == 1006 {
            self.ms
        } else {
            c.to_device_at.max(at)
        };
        let (link, boot) = (c.link, self.devices[device].boot());
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

    pub(super) fn edge_gone(&mut self, conn: ConnId) {
        self.conns.remove(&conn);
    }

    // ---- frames ----

    pub(super) fn edge_message(&mut self, conn: ConnId, message: Bytes) {
        for frame in client_frames(message) {
            let Some(c) = self.conns.get(&conn) else {
                return;
            };
            self.seen.push((c.user.clone(), frame.clone()));
            match frame {
                ClientFrame::Hello(hello) if c.session.is_none() => self.hello(conn, &hello),
                ClientFrame::Sync(_) if self.lose_syncs => {}
                frame => self.session_frame(conn, frame),
            }
        }
    }

    fn session_frame(&mut self, conn: ConnId, frame: ClientFrame) {
        let (now, settings) = (server_now(self.now()), self.settings);
        let mut actions = Vec::new();
        if let Some(session) = self.conns.get_mut(&conn).and_then(|c| c.session.as_mut()) {
            let mut rates = UserRates::default();
            session.heard(&settings, &mut rates, 100, now);
            session.frame(&settings, &mut rates, frame, now, &mut actions);
        }
        self.act(conn, actions);
        self.pump(conn);
    }

    pub(super) fn edge_timeout(&mut self, conn: ConnId) {
        let now = server_now(self.now());
        let mut actions = Vec::new();
        if let Some(session) = self.conns.get_mut(&conn).and_then(|c| c.session.as_mut()) {
            session.timeout(now, &mut actions);
        }
        self.act(conn, actions);
    }

    fn hello(&mut self, conn: ConnId, hello: &pb::Hello) {
        if let Some(answer) = self.next_hello.take() {
            return self.send_down(conn, &answer);
        }
        if let Some(redirect) = self.redirect.clone().filter(|_| !hello.redirect_never) {
            return self.send_down(conn, &ServerFrame::Redirect(redirect));
        }
        let mut parts = hello.token.split('/');
        let (user, name) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        let expires: u64 = parts.next().and_then(|t| t.parse().ok()).unwrap_or(0);
        let wall_ms = self.now().wall_ms;
        if expires <= wall_ms {
            return self.edge_close(conn, 4100);
        }
        let (user, name) = (UserId::new(user).expect("user"), name.to_owned());
        assert_eq!(hello.device, name);
        self.displace(conn, &user, &name);
        let device = Name::new(&name).expect("device");
        let head = self.cluster.log.len() as u64;
        let resumed = self
            .resumes(hello, &user, &device)
            .filter(|_| !self.never_recover);
        let start = match resumed {
            Some(from) => Start::Resumed(from),
            None if hello.live_only => Start::Live(head),
            None => Start::Head(head),
        };
        let settings = self.settings;
        let session = Session::new(
            &settings,
            start,
            hello.heartbeat_ms,
            expires,
            server_now(self.now()),
        );
        let welcome = pb::Welcome {
            session: conn.to_string(),
            user: user.to_string(),
            device: name.clone(),
            server_time_ms: wall_ms,
            generation: u32::from(self.cluster.generation),
            recovered: resumed.is_some(),
            head,
            resume_token: self.seal(&user, &name, session.position()),
            heartbeat_ms: session.heartbeat_ms(),
            token_expires_at_ms: expires,
            ..pb::Welcome::default()
        };
        if let Some(c) = self.conns.get_mut(&conn) {
            c.name = name;
            c.session = Some(session);
        }
        self.send_down(conn, &ServerFrame::Welcome(welcome));
        self.pump(conn);
    }

    fn displace(&mut self, conn: ConnId, user: &UserId, name: &str) {
        let same = |c: &Conn| c.user == *user && c.name == name;
        let old: Vec<ConnId> = self
            .conns
            .iter()
            .filter(|(id, c)| **id != conn && same(c))
            .map(|(id, _)| *id)
            .collect();
        for id in old {
            self.edge_close(id, 4301);
        }
    }

    fn resumes(&self, hello: &pb::Hello, user: &UserId, device: &Name) -> Option<u64> {
        let token = ResumeKey::new(&KEY).open(&hello.resume_token).ok()?;
        let wall_ms = self.now().wall_ms;
        let generation = self.cluster.generation;
        let claim = resume::claim(hello, &token, user, device, [(generation, 0)], wall_ms).ok()?;
        let log = resume::LogState {
            generation,
            partition: 0,
            low: self.cluster.low,
            high: self.cluster.log.len() as u64,
        };
        let sum = claim.check.and_then(|(at, _)| self.cluster.checksum(at));
        resume::decide(&claim, &log, sum).ok()
    }

    fn seal(&mut self, user: &UserId, name: &str, offset: u64) -> Bytes {
        let token = ResumeToken {
            user: user.clone(),
            device: Name::new(name).expect("device"),
            generation: self.cluster.generation,
            partition: 0,
            offset,
            checksum: offset
                .checked_sub(1)
                .and_then(|at| self.cluster.checksum(at))
                .unwrap_or(0),
            expires_ms: START_WALL_MS + self.ms + 7 * 86_400_000,
        };
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&self.chance.word().to_le_bytes());
        ResumeKey::new(&KEY).seal(&token, nonce)
    }

    fn act(&mut self, conn: ConnId, actions: Vec<Action>) {
        let Some(c) = self.conns.get(&conn) else {
            return;
        };
        let (user, device) = (c.user.clone(), c.name.clone());
        for action in actions {
            match action {
                Action::Reply(frame) => self.send_down(conn, &frame),
                Action::Append(send) => self.append(conn, &user, &device, send),
                Action::Delivered { chat, seq } => self.receipt(&user, &chat, seq, Seq::NONE),
                Action::Receipt {
                    chat,
                    delivered,
                    read,
                } => self.receipt(&user, &chat, delivered, read),
                Action::Cursor { .. } => {}
                Action::Typing { chat, stopped } => self.typing(&user, &chat, stopped),
                Action::Watch { chats, .. } => {
                    if let Some(c) = self.conns.get_mut(&conn) {
                        c.watch_chats = chats;
                    }
                }
                Action::Sync(sync) => {
                    let page = self.cluster.page(&user, &sync);
                    if let Some(s) = self.conns.get_mut(&conn).and_then(|c| c.session.as_mut()) {
                        s.synced();
                    }
                    self.send_down(conn, &ServerFrame::SyncPage(page));
                }
                Action::Pong { client_time_ms } => {
                    let pong = pb::Pong {
                        client_time_ms,
                        server_time_ms: self.now().wall_ms,
                        ..pb::Pong::default()
                    };
                    self.send_down(conn, &ServerFrame::Pong(pong));
                }
                Action::VerifyToken(token) => {
                    let expires = token.rsplit('/').next().and_then(|t| t.parse().ok());
                    let mut out = Vec::new();
                    if let Some(s) = self.conns.get_mut(&conn).and_then(|c| c.session.as_mut()) {
                        s.token_accepted(expires.unwrap_or(0), &mut out);
                    }
                    self.act(conn, out);
                }
                Action::Close { code, .. } => self.edge_close(conn, code),
            }
        }
    }

    fn append(&mut self, conn: ConnId, user: &UserId, device: &str, send: Box<Send>) {
        if !self.next_errors.is_empty() {
            let code = hawser_protocol::codes::ErrorCode::from_number(self.next_errors.remove(0));
            let result = refusal(
                send.client_msg_id,
                &send.chat,
                code.expect("a code"),
                "",
                50,
            );
            self.answered(conn, send.client_msg_id);
            return self.send_down(conn, &ServerFrame::SendResult(result));
        }
        let at = self.ms + self.weather.append_ms;
        let (user, device) = (user.clone(), device.to_owned());
        self.at(
            at,
            Event::Appended {
                conn,
                user,
                device,
                send,
            },
        );
    }

    fn answered(&mut self, conn: ConnId, id: ClientMsgId) {
        if let Some(session) = self.conns.get_mut(&conn).and_then(|c| c.session.as_mut()) {
            session.answered(id);
        }
    }

    pub(super) fn appended(&mut self, conn: ConnId, user: &UserId, device: &str, send: &Send) {
        let session = self.conns.get(&conn).and_then(|c| c.session.as_ref());
        if let Some(queued) = session.and_then(|s| s.queued(send.client_msg_id)) {
            self.send_down(conn, &queued);
        }
        let wall_ms = self.now().wall_ms;
        self.cluster.send(user, device, send, wall_ms);
        self.deliver();
    }

    fn receipt(&mut self, user: &UserId, chat: &ChatId, delivered: Seq, read: Seq) {
        let wall_ms = self.now().wall_ms;
        self.cluster.receipt(user, chat, delivered, read, wall_ms);
        self.deliver();
    }

    fn typing(&mut self, user: &UserId, chat: &ChatId, stopped: bool) {
        let watching = |c: &Conn| c.user != *user && c.watch_chats.contains(chat);
        let conns: Vec<ConnId> = self
            .conns
            .iter()
            .filter(|(_, c)| watching(c))
            .map(|(id, _)| *id)
            .collect();
        for conn in conns {
            let update = pb::TypingUpdate {
                chat: chat.to_string(),
                user: user.to_string(),
                stopped,
                expires_in_ms: 5_000,
            };
            self.send_down(conn, &ServerFrame::TypingUpdate(update));
        }
    }

    // ---- delivery ----

    /// Offers what is new in the log to every session.
    pub(crate) fn deliver(&mut self) {
        while self.cluster.offered < self.cluster.log.len() {
            let offset = self.cluster.offered;
            self.cluster.offered += 1;
            let entry = self.cluster.log[offset].clone();
            let conns: Vec<ConnId> = self.conns.keys().copied().collect();
            for conn in conns {
                self.offer(conn, offset as u64, &entry);
            }
        }
        let conns: Vec<ConnId> = self.conns.keys().copied().collect();
        for conn in conns {
            self.pump(conn);
        }
    }

    fn offer(&mut self, conn: ConnId, offset: u64, entry: &Entry) {
        let settings = self.settings;
        let Some(c) = self.conns.get_mut(&conn) else {
            return;
        };
        if !entry.to.contains(&c.user) {
            return;
        }
        let Some(session) = c.session.as_mut() else {
            return;
        };
        match session.offer(&settings, offset, true) {
            Offer::Send => self.put(conn, offset, entry),
            Offer::Later | Offer::Old => {}
            Offer::Syncing => {
                let name = c.name.clone();
                if let Some(result) = entry.result_for(&c.user, &name) {
                    self.answer(conn, result);
                }
            }
        }
    }

    /// Reads the log for a session that is behind.
    fn pump(&mut self, conn: ConnId) {
        let settings = self.settings;
        loop {
            let session = self.conns.get(&conn).and_then(|c| c.session.as_ref());
            let Some(from) = session.and_then(|s| s.reading(&settings)) else {
                return;
            };
            let user = self.conns[&conn].user.clone();
            let high = self.cluster.offered as u64;
            let mine = (from..high).find(|at| self.cluster.entry(*at).to.contains(&user));
            let Some(offset) = mine else {
                let Some(c) = self.conns.get_mut(&conn) else {
                    return;
                };
                let name = c.name.clone();
                if let Some(offset) = c.session.as_mut().and_then(|s| s.at_end(high)) {
                    let resume_token = self.seal(&user, &name, offset);
                    let caught_up = pb::CaughtUp {
                        offset,
                        resume_token,
                    };
                    self.send_down(conn, &ServerFrame::CaughtUp(caught_up));
                }
                return;
            };
            let entry = self.cluster.entry(offset).clone();
            self.put(conn, offset, &entry);
        }
    }

    /// Puts one record on the wire, and notes it.
    fn put(&mut self, conn: ConnId, offset: u64, entry: &Entry) {
        let Some(c) = self.conns.get_mut(&conn) else {
            return;
        };
        let (user, name) = (c.user.clone(), c.name.clone());
        let Some(session) = c.session.as_mut() else {
            return;
        };
        if let Some(mut result) = entry.result_for(&user, &name) {
            session.delivered(offset, 100, None);
            result.offset = offset;
            return self.answer(conn, result);
        }
        let flags = match session.replaying() {
            true => DeliverFlags::REPLAYED,
            false => DeliverFlags::default(),
        };
        let (frame, message) = match &entry.what {
            What::Message {
                record,
                duplicate: false,
                ..
            } => {
                let theirs = record.sender != user;
                (
                    deliver(offset, flags, record),
                    theirs.then(|| (record.chat.clone(), record.seq)),
                )
            }
            What::Receipt(update) => {
                let update = pb::ReceiptUpdate {
                    offset,
                    ..update.clone()
                };
                (ServerFrame::ReceiptUpdate(update), None)
            }
            What::Message { .. } | What::Refused { .. } => return session.skip_to(offset + 1),
        };
        session.delivered(offset, 200, message);
        if !self.skipped.contains(&(user, offset)) {
            self.send_down(conn, &frame);
        }
    }

    fn answer(&mut self, conn: ConnId, result: pb::SendResult) {
        if self.hold_results {
            return;
        }
        let id: [u8; 16] = result.client_msg_id.as_ref().try_into().expect("16 bytes");
        self.answered(conn, ClientMsgId(id));
        self.send_down(conn, &ServerFrame::SendResult(result));
    }
}

fn deliver(offset: u64, flags: DeliverFlags, record: &MessageRecord) -> ServerFrame {
    ServerFrame::Deliver(Deliver {
        offset,
        flags,
        envelope: Bytes::new(),
        record: record.clone(),
    })
}
