//! Arrivals at their owner core, and departures.

use super::inbox::{Arriving, Encoding, Greeting, Kind, ToCore};
use super::turn::Reactor;
use crate::control::ToControl;
use crate::counters::Counter;
use crate::session::SessionId;
use crate::session::connection::{Connection, Device, Held, Pending, Role, Stage};
use crate::session::output::Output;
use crate::session::write;
use hawser_protocol::codes::{CloseCode, ErrorCode};
use hawser_protocol::frame::{FrameType, ServerFrame};
use hawser_protocol::ids::UserId;
use hawser_protocol::limits;
use hawser_protocol::pb;
use hawser_protocol::server::{Session, Start, UserRates};
use hawser_ring::{Full, RingError};
use hawser_wire::record::Layer;
use hawser_wire::ws;
use socket2::SockRef;
use std::io::Write;
use std::net::TcpStream;
use std::os::fd::OwnedFd;

/// An echo connection that says nothing for so long is closed, milliseconds.
pub(super) const ECHO_IDLE_MS: u64 = 300_000;

/// Who comes and goes is told at most so often, milliseconds: in a storm that is a batch, and not a wake-up for each.
const TELL_MS: u64 = 200;

impl Reactor {
    /// Takes a connection into a ring and begins to serve it.
    pub(crate) fn arrive(&mut self, arriving: Arriving) {
        self.follow_growth();
        let Some(arriving) = self.pass_on(arriving) else {
            return;
        };
        let Arriving {
            stream,
            mut layer,
            undecrypted,
            carried,
            decoder,
            peer,
            permit,
            place,
            kind,
        } = arriving;
        let socket = &self.node.config.socket;
        set_options(&stream, socket.send_buffer_bytes, socket.unsent_bytes);
        let id = match self.adopt(OwnedFd::from(stream)) {
            Ok(id) => id,
            Err(fd) => {
                self.counters.inc(Counter::RefusedSessions);
                let encoding = match &kind {
                    Kind::Session(greeting) => Some(greeting.encoding),
                    Kind::Echo => None,
                };
                let retry_ms = self.node.come_again_ms();
                refuse(TcpStream::from(fd), &mut layer, encoding, retry_ms);
                return;
            }
        };
        let now_ms = self.node.clock.now_ms();
        let mut held = Held {
            frames: bytes::Bytes::new(),
            carried,
            undecrypted,
        };
        let (role, greeting) = match kind {
            Kind::Echo => (Role::Echo { heard_ms: now_ms }, None),
            Kind::Session(mut greeting) => {
                held.frames = std::mem::take(&mut greeting.frames);
                tracing::debug!(%peer, user = %greeting.claims.user, "a session arrives");
                (
                    Role::Session(Box::new(self.device(&greeting))),
                    Some(greeting),
                )
            }
        };
        let connection = Connection {
            id,
            layer,
            decoder,
            incoming: None,
            output: Output::default(),
            role,
            stage: Stage::Open,
            unread: false,
            receiving: false,
            peer_ended: false,
            dirty: false,
            paused_until_ms: 0,
            timer: None,
            address: permit,
            _place: place,
        };
        self.sessions += 1;
        self.counters.inc(Counter::SessionsOpened);
        self.put(Box::new(connection));
        self.with(id, |reactor, connection| match greeting {
            None => {
                reactor.arm(connection, now_ms + ECHO_IDLE_MS);
                reactor.begin(connection, held);
            }
            Some(greeting) => reactor.await_partition(connection, greeting.hello, held),
        });
    }

    /// A user whose core became another's on the way goes there, if there is room; otherwise the session is a stray here.
    fn pass_on(&self, arriving: Arriving) -> Option<Arriving> {
        let home = match &arriving.kind {
            Kind::Session(greeting) => self.home(&greeting.claims.user),
            Kind::Echo => None,
        };
        let Some(core) = home else {
            return Some(arriving);
        };
        match self.node.cores[core].try_send(ToCore::Arrive(Box::new(arriving))) {
            Err(Full(ToCore::Arrive(back))) => Some(*back),
            _ => None,
        }
    }

    /// Into the ring with the most room; the descriptor comes back when all are full.
    fn adopt(&mut self, mut fd: OwnedFd) -> Result<SessionId, OwnedFd> {
        let mut order: Vec<usize> = (0..self.rings.len()).collect();
        order.sort_by_key(|ring| self.rings[*ring].ring.sockets());
        for ring in order {
            match self.rings[ring].ring.adopt(fd) {
                Ok(key) => {
                    let ring = u16::try_from(ring).unwrap_or(u16::MAX);
                    return Ok(SessionId { ring, key });
                }
                Err((back, error)) => {
                    if error != RingError::Full {
                        tracing::warn!(%error, "a socket cannot be adopted");
                    }
                    fd = back;
                }
            }
        }
        Err(fd)
    }

    /// A device whose session begins once it is known where.
    fn device(&self, greeting: &Greeting) -> Device {
        let user = greeting.claims.user.clone();
        let heartbeat_ms = greeting.hello.heartbeat_ms;
        let expires_ms = greeting.claims.expires_at_ms;
        let now = self.now();
        let start = Start::Head(0);
        Device {
            partition: self.shards().partition(user.as_str()),
            user,
            device: greeting.device.clone(),
            encoding: greeting.encoding,
            session: Session::new(&self.settings, start, heartbeat_ms, expires_ms, now),
            place: 0,
            cursor: u32::MAX,
            grant: greeting.claims.clone().into(),
            watches: None,
            pending: None,
            queued: false,
            departed: false,
            stays: greeting.hello.redirect_never,
            told: 0,
            reading_log: false,
            awaits_body: false,
            began_ms: now.wall_ms,
            told_of_ms: 0,
            token_at_ms: 0,
        }
    }

    /// The device's session begins: an older one of it gives way.
    fn enter(&mut self, connection: &mut Connection) {
        let id = connection.id;
        let Role::Session(device) = &mut connection.role else {
            return;
        };
        // Who moves between nodes does not find a full bucket on each.
        let unknown = match self.node.owners.in_cluster() {
            true => UserRates::unknown(&self.settings, self.node.clock.now_ms()),
            false => UserRates::default(),
        };
        let (user, of) = (&device.user, &device.device);
        let arrival = self.users.arrive(user, of, id, unknown);
        device.place = arrival.place;
        if arrival.first {
            self.tell(device.user.clone(), true);
        }
        if let Some(older) = arrival.displaced {
            self.with(older, |reactor, older| {
                let code = CloseCode::Displaced;
                reactor.close(older, code.number(), "the device connected again");
            });
        }
    }

    /// Where the session begins is known: Welcome, then what came with the connection.
    pub(super) fn welcome(
        &mut self,
        connection: &mut Connection,
        heartbeat_ms: u32,
        start: Start,
        held: Held,
    ) {
        // Who was revoked while it waited was in no table to be found.
        let verifier = self.node.verifier.clone();
        if connection
            .device()
            .is_some_and(|device| verifier.revoked(&device.claims()))
        {
            let error = refusal(ErrorCode::Revoked, "revoked", 0);
            return self.turn_away(connection, &error, CloseCode::Revoked);
        }
        self.enter(connection);
        let now = self.now();
        let Role::Session(device) = &mut connection.role else {
            return;
        };
        let expires_ms = device.session.token_expires_ms();
        let session = Session::new(&self.settings, start, heartbeat_ms, expires_ms, now);
        let (recovered, head) = match start {
            Start::Resumed(from) => (true, self.head(device.partition).max(from)),
            Start::Head(head) | Start::Live(head) => (false, head),
        };
        let timeout_ms = session.next_timeout(now);
        let position = session.position();
        let heartbeat_ms = session.heartbeat_ms();
        device.session = session;
        device.began_ms = now.wall_ms;
        let resume_token = self.resume_token(device, position);
        let (user, of) = (device.user.as_str().to_owned(), device.device.as_str());
        let welcome = pb::Welcome {
            session: self.name_of(connection.id),
            user,
            device: of.to_owned(),
            server_time_ms: now.wall_ms,
            generation: u32::from(self.shape.generation),
            partition: device.partition,
            recovered,
            head,
            resume_token,
            heartbeat_ms,
            map_version: self.node.owners.version(),
            token_expires_at_ms: expires_ms,
            limits: Some(self.limits()),
            node: self.node.config.name.clone(),
        };
        connection.stage = Stage::Open;
        self.reply(connection, &ServerFrame::Welcome(welcome));
        self.arm(connection, timeout_ms);
        self.tell_of_new(connection);
        self.send_home(connection);
        self.send_stray(connection);
        if self.drain_at_ms.is_some() && !self.node.owners.in_cluster() {
            self.relocate(connection);
        }
        self.queue_if_behind(connection);
        self.begin(connection, held);
    }

    /// Reads what came with the connection, then waits for more.
    fn begin(&mut self, connection: &mut Connection, held: Held) {
        let Held {
            frames,
            mut carried,
            undecrypted,
        } = held;
        self.frames(connection, frames);
        self.messages(connection, &mut carried);
        if connection.layer.is_tls() {
            // Even without bytes: the layer may hold plaintext that came with the handshake.
            self.open(connection, &undecrypted);
        } else {
            let mut undecrypted = undecrypted;
            self.messages(connection, &mut undecrypted);
        }
        self.listen(connection);
    }

    /// From now on what comes is read.
    fn listen(&mut self, connection: &mut Connection) {
        let id = connection.id;
        let ring = &mut self.rings[usize::from(id.ring)].ring;
        if ring.is_live(id.key) && ring.poll_readable(id.key).is_err() {
            self.drop_socket(connection);
        }
    }

    /// There is no room for this session now: tells it when to come again, and closes.
    pub(super) fn overloaded(
        &mut self,
        connection: &mut Connection,
        text: &str,
        retry_after_ms: u32,
    ) {
        let error = refusal(ErrorCode::Overloaded, text, retry_after_ms);
        self.turn_away(connection, &error, CloseCode::Overloaded);
    }

    /// No session begins.
    fn turn_away(&mut self, connection: &mut Connection, error: &ServerFrame, code: CloseCode) {
        connection.stage = Stage::Open;
        self.reply(connection, error);
        self.close(connection, code.number(), code.name());
        self.listen(connection);
    }

    /// Next offset of a partition, as far as this core has read it.
    pub(super) fn head(&self, partition: u32) -> u64 {
        self.replay.span(partition).map_or(0, |(_, end)| end)
    }

    fn limits(&self) -> pb::Limits {
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        pb::Limits {
            frame_bytes_max: number(limits::FRAME_BYTES_MAX),
            body_bytes_max: number(limits::BODY_BYTES_MAX),
            sends_in_flight_max: number(limits::SENDS_IN_FLIGHT_MAX),
            window_frames: number(self.settings.window_frames),
            window_bytes: number(self.settings.window_bytes),
        }
    }

    pub(super) fn name_of(&self, id: SessionId) -> String {
        let (core, ring) = (self.index, id.ring);
        let (place, generation) = (id.key.index(), id.key.generation());
        format!("{core}.{ring}.{place}.{generation}")
    }

    /// The connection leaves the tables; idempotent.
    pub(super) fn departed(&mut self, connection: &mut Connection) {
        let id = connection.id;
        let Role::Session(device) = &mut connection.role else {
            return;
        };
        if std::mem::replace(&mut device.departed, true) {
            return;
        }
        let pending = device.pending.take();
        self.waiting -= usize::from(matches!(pending.as_deref(), Some(Pending::Turn(_))));
        self.unwatch(id, device);
        let partition = device.partition;
        let now_ms = self.node.clock.now_ms();
        if self.users.depart(device.user.as_str(), id, now_ms) {
            let user = device.user.clone();
            self.left(user);
        }
        self.leave_partition(partition);
    }

    /// A user came or went: the control thread is told at once, or with those who come within a while of the last ones.
    pub(super) fn tell(&mut self, user: UserId, came: bool) {
        self.untold.insert(user, came);
        let now_ms = self.node.clock.now_ms();
        if now_ms >= self.tell_at_ms {
            self.tell_all(now_ms);
        }
    }

    /// Tells the control thread who came and went; what it has no room for is told later.
    pub(super) fn tell_all(&mut self, now_ms: u64) {
        if self.untold.is_empty() {
            return;
        }
        self.tell_at_ms = now_ms + TELL_MS;
        let all = self.untold.iter();
        let all: Vec<_> = all.map(|(user, came)| (user.clone(), *came)).collect();
        if self.node.to_control(ToControl::Presence(all)) {
            self.untold.clear();
        }
    }
}

/// Bounds what the kernel holds of a connection; one without works too.
fn set_options(stream: &TcpStream, send_buffer_bytes: usize, unsent_bytes: u32) {
    let socket = SockRef::from(stream);
    if send_buffer_bytes > 0 {
        let _ = socket.set_send_buffer_size(send_buffer_bytes);
    }
    if unsent_bytes > 0 {
        let _ = socket.set_tcp_notsent_lowat(unsent_bytes);
    }
}

fn refusal(code: ErrorCode, text: &str, retry_after_ms: u32) -> ServerFrame {
    ServerFrame::Error(pb::Error {
        code: u32::from(code.number()),
        text: text.to_owned(),
        retry_after_ms,
        frame_type: u32::from(FrameType::HELLO.0),
        ..pb::Error::default()
    })
}

/// Says `overloaded` to a connection that no ring has room for, as far as its socket takes it.
fn refuse(mut stream: TcpStream, layer: &mut Layer, encoding: Option<Encoding>, retry_ms: u32) {
    let mut plain = Vec::new();
    if let Some(encoding) = encoding {
        let error = refusal(
            ErrorCode::Overloaded,
            "every session ring is full",
            retry_ms,
        );
        write::frame(encoding, &error, &mut Vec::new(), &mut plain);
    }
    let code = CloseCode::Overloaded;
    ws::encode_close(code.number(), code.name(), None, &mut plain);
    let mut sealed = Vec::new();
    if layer.seal(&plain, &mut sealed).is_ok() {
        layer.close_notify(&mut sealed);
        // Non-blocking: a socket that has just been accepted takes so few bytes.
        let _ = stream.write(&sealed);
    }
}
