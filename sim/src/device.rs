//! One device: the client's session machine, its disk and the links that it has open.

use crate::Break;
use crate::oracle::Stream;
use crate::revoke;
use crate::world::{ConnId, DeviceNo, Event, World};
use bytes::Bytes;
use hawser_protocol::client::{Batch, Config, Effect, Phase, Position, Saved, Session};
use hawser_protocol::frame::{ClientFrame, FrameError, ServerFrame, split};
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, Seq, UserId};
use hawser_protocol::json;
use hawser_protocol::message::{MessageRecord, MessageType};
use std::collections::{BTreeMap, BTreeSet};

/// Life of a token, milliseconds: some expire within a run.
const TOKEN_LIFE_MS: u64 = 90_000;

/// What a device keeps when its program dies.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    pub(crate) saved: Saved,
    pub(crate) messages: BTreeMap<(ChatId, u64), MessageRecord>,
    /// Every id of ours that was ever promised to be sent, and which one it was; a renewed one replaces the old.
    pub(crate) accepted: BTreeMap<ClientMsgId, usize>,
    pub(crate) refused: BTreeSet<ClientMsgId>,
}

impl Disk {
    /// Writes a batch; what it must never hold is said.
    fn write(&mut self, batch: Batch) -> Result<(), String> {
        for record in batch.records {
            let key = (record.chat.clone(), record.ordinal);
            if let Some(old) = self.messages.get(&key) {
                if (old.seq, &old.body) != (record.seq, &record.body) {
                    return Err(format!("two messages are number {} of {}", key.1, key.0));
                }
                continue;
            }
            self.messages.insert(key, record);
        }
        self.saved.tracks.extend(batch.tracks);
        self.saved.unconfirmed_reads.extend(batch.reads);
        for send in batch.pending_put {
            if send.refused.is_some() {
                self.refused.insert(send.id);
            }
            let nth = self.accepted.len();
            self.accepted.entry(send.id).or_insert(nth);
            self.saved.pending.retain(|old| old.id != send.id);
            self.saved.pending.push(send);
        }
        let done = &batch.pending_delete;
        self.saved.pending.retain(|send| !done.contains(&send.id));
        self.refused.retain(|id| !done.contains(id));
        self.saved.pending.sort_by_key(|send| send.number);
        if let Some(position) = batch.position {
            self.saved.position = Some(position);
        }
        if let Some(skew_ms) = batch.skew_ms {
            self.saved.skew_ms = skew_ms;
        }
        Ok(())
    }

    /// The next offset, where the position is certain.
    pub(crate) fn next(&self) -> Option<u64> {
        match &self.saved.position {
            Some(Position::At { next, .. }) => Some(*next),
            _ => None,
        }
    }

    /// A chat's messages by ordinal.
    pub(crate) fn chat(&self, chat: &ChatId) -> impl DoubleEndedIterator<Item = &MessageRecord> {
        let all = self
            .messages
            .range((chat.clone(), 0)..=(chat.clone(), u64::MAX));
        all.map(|(_, record)| record)
    }
}

pub(crate) struct Device {
    pub(crate) user: UserId,
    pub(crate) name: DeviceId,
    pub(crate) session: Session,
    pub(crate) disk: Disk,
    pub(crate) links: BTreeMap<u32, ConnId>,
    /// What came on each connection, for the oracle.
    pub(crate) streams: BTreeMap<ConnId, Stream>,
    pub(crate) phase: Phase,
    pub(crate) boot: u32,
    /// Its wall clock is off by so much.
    pub(crate) skew_ms: i64,
    /// It speaks `hawser.v1+json`.
    json: bool,
    /// Batches wait while the disk is stopped.
    pub(crate) disk_stopped: bool,
    waiting: Vec<(u64, Box<Batch>)>,
    disk_busy_until: u64,
    /// Bytes go nowhere, in both directions.
    pub(crate) black_hole: bool,
}

impl Device {
    pub(crate) fn title(&self) -> String {
        format!("{}/{}", self.user, self.name)
    }

    fn disk_at(&mut self, at: u64) -> u64 {
        self.disk_busy_until = self.disk_busy_until.max(at);
        self.disk_busy_until
    }

    pub(crate) fn encode_down(&self, frame: &ServerFrame) -> Bytes {
        if self.json {
            return json::encode_server(frame).into();
        }
        let mut message = Vec::new();
        frame.encode(&mut message);
        message.into()
    }

    fn encode_up(&self, frame: &ClientFrame) -> Bytes {
        if self.json {
            return json::encode_client(frame).into();
        }
        let mut message = Vec::new();
        frame.encode(&mut message);
        message.into()
    }

    pub(crate) fn decode_up(&self, mut message: Bytes) -> Vec<Result<ClientFrame, FrameError>> {
        if self.json {
            return vec![json::decode_client(&String::from_utf8_lossy(&message))];
        }
        let mut frames = Vec::new();
        loop {
            match split(&mut message) {
                Ok(None) => return frames,
                Ok(Some(raw)) => frames.push(ClientFrame::decode(&raw)),
                Err(error) => {
                    frames.push(Err(error));
                    return frames;
                }
            }
        }
    }

    /// One message is one frame here.
    fn decode_down(&self, mut message: Bytes) -> Result<ServerFrame, FrameError> {
        if self.json {
            return json::decode_server(&String::from_utf8_lossy(&message));
        }
        match split(&mut message)? {
            Some(raw) => ServerFrame::decode(&raw),
            None => Err(FrameError::Truncated),
        }
    }
}

fn config(user: &UserId, name: &DeviceId) -> Config {
    Config {
        user: user.clone(),
        device: name.clone(),
        url: "ws://cluster/".into(),
        client: "sim/1".into(),
        heartbeat_ms: 0,
        live_only: false,
    }
}

impl World {
    /// A device that is started; its program and disk are new.
    pub(crate) fn join(&mut self, user: &UserId, name: DeviceId) -> DeviceNo {
        let device = self.devices.len();
        let seed = self.chance.word();
        // Within what a stamp may be ahead; a client that was never welcomed knows no better.
        let skew = i64::try_from(self.chance.below(240_000)).unwrap_or(0);
        self.devices.push(Device {
            session: Session::new(config(user, &name), seed, Saved::default()),
            user: user.clone(),
            name,
            disk: Disk::default(),
            links: BTreeMap::new(),
            streams: BTreeMap::new(),
            phase: Phase::Stopped,
            boot: 0,
            skew_ms: skew - 120_000,
            json: device % 2 == 1,
            disk_stopped: false,
            waiting: Vec::new(),
            disk_busy_until: 0,
            black_hole: false,
        });
        let now = self.device_now(device);
        self.devices[device].session.start(now);
        self.settle(device);
        device
    }

    /// The program dies; what its disk has not finished is gone. It starts again at once.
    pub(crate) fn device_crash(&mut self, device: DeviceNo) {
        let conns: Vec<ConnId> = self.devices[device].links.values().copied().collect();
        for conn in conns {
            let at = self.ms + self.delay();
            self.at(at, Event::EdgeClosed { conn });
        }
        let seed = self.chance.word();
        let d = &mut self.devices[device];
        d.boot += 1;
        d.links.clear();
        d.streams.clear();
        d.waiting.clear();
        d.session = Session::new(config(&d.user, &d.name), seed, d.disk.saved.clone());
        self.tell(|| format!("{} starts again", self.devices[device].title()));
        let now = self.device_now(device);
        self.devices[device].session.start(now);
        self.settle(device);
    }

    pub(crate) fn resume_disk(&mut self, device: DeviceNo) {
        self.devices[device].disk_stopped = false;
        let boot = self.devices[device].boot;
        for (ticket, batch) in std::mem::take(&mut self.devices[device].waiting) {
            self.device_stored(device, boot, ticket, batch);
        }
    }

    /// The user writes a message.
    pub(crate) fn say(&mut self, device: DeviceNo, chat: &ChatId, text: &str) {
        let now = self.device_now(device);
        let body = Bytes::copy_from_slice(text.as_bytes());
        let session = &mut self.devices[device].session;
        let submitted = session.submit(chat.clone(), MessageType::TEXT, body, now);
        if let Err(error) = submitted {
            self.violate("outbox", format!("a message was not accepted: {error}"));
        }
        self.settle(device);
    }

    /// The user has seen the last message that the disk has.
    pub(crate) fn read(&mut self, device: DeviceNo, chat: &ChatId) {
        let last = self.devices[device]
            .disk
            .chat(chat)
            .last()
            .map(|record| record.seq);
        if let Some(seq) = last.filter(|seq| *seq > Seq::NONE) {
            let now = self.device_now(device);
            self.devices[device].session.read(chat, seq, now);
            self.settle(device);
        }
    }

    /// Connections of a device break, or are closed by the edge with a code.
    pub(crate) fn cut(&mut self, device: DeviceNo, code: u16) {
        let conns: Vec<ConnId> = self.devices[device].links.values().copied().collect();
        for conn in conns {
            self.edge_close(conn, code);
        }
    }

    // ---- events ----

    pub(crate) fn device_opened(&mut self, device: DeviceNo, boot: u32, link: u32, conn: ConnId) {
        if self.devices[device].boot == boot && self.conns.contains_key(&conn) {
            let now = self.device_now(device);
            self.devices[device].links.insert(link, conn);
            self.devices[device].session.handle_opened(link, now);
            self.settle(device);
        }
    }

    pub(crate) fn device_closed(&mut self, device: DeviceNo, boot: u32, link: u32, code: u16) {
        if self.devices[device].boot == boot {
            let now = self.device_now(device);
            if let Some(conn) = self.devices[device].links.remove(&link) {
                self.devices[device].streams.remove(&conn);
            }
            self.devices[device]
                .session
                .handle_closed(link, code, "", now);
            self.settle(device);
        }
    }

    pub(crate) fn device_token(&mut self, device: DeviceNo, boot: u32) {
        if self.devices[device].boot == boot {
            let expires = self.wall_ms() + TOKEN_LIFE_MS;
            let token = revoke::token(expires, self.true_ms());
            let now = self.device_now(device);
            let session = &mut self.devices[device].session;
            session.handle_token(token, expires, now);
            self.settle(device);
        }
    }

    pub(crate) fn device_message(&mut self, conn: ConnId, message: Bytes) {
        let found = self.devices.iter().enumerate().find_map(|(device, d)| {
            let (link, _) = d.links.iter().find(|(_, c)| **c == conn)?;
            Some((device, *link))
        });
        let Some((device, link)) = found else {
            return;
        };
        let bytes = message.len();
        match self.devices[device].decode_down(message) {
            Ok(frame) => {
                self.tell(|| {
                    format!(
                        "{} <- {}",
                        self.devices[device].title(),
                        json::encode_server(&frame)
                    )
                });
                self.witness(device, conn, &frame);
                let now = self.device_now(device);
                self.devices[device]
                    .session
                    .handle_frame(link, frame, bytes, now);
                self.settle(device);
            }
            Err(error) => self.violate("codec", format!("a server's frame: {error}")),
        }
    }

    pub(crate) fn device_stored(
        &mut self,
        device: DeviceNo,
        boot: u32,
        ticket: u64,
        batch: Box<Batch>,
    ) {
        if self.devices[device].boot != boot {
            return;
        }
        if self.devices[device].disk_stopped {
            self.devices[device].waiting.push((ticket, batch));
            return;
        }
        if let Err(what) = self.devices[device].disk.write(*batch) {
            let who = self.devices[device].title();
            self.violate("disk", format!("{who}: {what}"));
        }
        let now = self.device_now(device);
        self.devices[device].session.handle_stored(ticket, now);
        self.settle(device);
    }

    /// Performs what the session asks for.
    pub(crate) fn settle(&mut self, device: DeviceNo) {
        while let Some(effect) = self.devices[device].session.poll_effect() {
            self.perform(device, effect);
        }
    }

    fn perform(&mut self, device: DeviceNo, effect: Effect) {
        let boot = self.devices[device].boot;
        match effect {
            Effect::Open { link, .. } => {
                let at = self.ms + self.delay();
                let event = match self.edge_accept(device, link) {
                    Some(conn) => Event::Opened {
                        device,
                        boot,
                        link,
                        conn,
                    },
                    None => Event::DeviceClosed {
                        device,
                        boot,
                        link,
                        code: 1006,
                    },
                };
                self.at(at, event);
            }
            Effect::Transmit { link, frame } => {
                self.tell(|| {
                    format!(
                        "{} -> {}",
                        self.devices[device].title(),
                        json::encode_client(&frame)
                    )
                });
                let Some(conn) = self.devices[device].links.get(&link).copied() else {
                    return;
                };
                if let ClientFrame::Hello(hello) = &*frame {
                    self.devices[device].streams.insert(conn, Stream::of(hello));
                }
                if let ClientFrame::Ack(ack) = &*frame {
                    self.adopted(device, conn, *ack);
                }
                if !self.devices[device].black_hole {
                    let message = self.devices[device].encode_up(&frame);
                    self.send_up(conn, message);
                }
            }
            Effect::Close { link, .. } => {
                if let Some(conn) = self.devices[device].links.remove(&link) {
                    self.devices[device].streams.remove(&conn);
                    self.send_close(conn);
                }
            }
            Effect::FetchToken => {
                let at = self.ms + 1;
                self.at(at, Event::Token { device, boot });
            }
            Effect::Store { ticket, batch } => self.store(device, ticket, batch),
            Effect::Phase(phase) => self.devices[device].phase = phase,
            Effect::History(done) => {
                if !done.at_start && done.error == 0 {
                    self.scroll_up(device, &done.chat, done.before_ordinal);
                }
            }
            Effect::Queued(_)
            | Effect::Typing(_)
            | Effect::Presence(_)
            | Effect::Problem { .. } => {}
        }
    }

    fn store(&mut self, device: DeviceNo, ticket: u64, batch: Box<Batch>) {
        let boot = self.devices[device].boot;
        if self.broken == Some(Break::Disk) && self.chance.below(60) == 0 {
            // It says that it has it; records and unsent messages never get there.
            let batch = Box::new(Batch {
                records: Vec::new(),
                pending_put: Vec::new(),
                ..*batch
            });
            let at = self.ms + 1;
            return self.at(
                at,
                Event::Stored {
                    device,
                    boot,
                    ticket,
                    batch,
                },
            );
        }
        // In order: a later batch is never done before an earlier one.
        let d = &mut self.devices[device];
        let at = d.disk_at(self.ms + 1 + self.chance.below(self.weather.disk_ms));
        self.at(
            at,
            Event::Stored {
                device,
                boot,
                ticket,
                batch,
            },
        );
    }
}
