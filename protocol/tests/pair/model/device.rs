//! One device: its session, its disk and the links that it has open.

use super::{ConnId, DeviceId, Event, World};
use bytes::Bytes;
use hawser_protocol::client::{
    Batch, Config, Effect, HistoryDone, Now, Phase, Position, Saved, Session,
};
use hawser_protocol::ids::{ChatId, DeviceId as Name, Seq, UserId};
use hawser_protocol::message::{MessageRecord, MessageType};
use std::collections::{BTreeMap, BTreeSet};

/// What a device keeps when its program dies.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    pub(crate) saved: Saved,
    messages: BTreeMap<(ChatId, u64), MessageRecord>,
    pub(crate) marks: BTreeMap<(ChatId, UserId), (Seq, Seq)>,
    pub(crate) chat_list: Option<Vec<String>>,
    /// Texts in the order in which the user saw them first.
    pub(crate) shown: Vec<(ChatId, Seq)>,
    /// Every text of ours that was ever on this disk.
    pub(crate) accepted: BTreeSet<String>,
    /// Positions must not go back within a sync's life.
    pub(crate) positions: Vec<Position>,
}

impl Disk {
    pub(crate) fn write(&mut self, batch: Batch) {
        for record in batch.records {
            let key = (record.chat.clone(), record.ordinal);
            if let Some(old) = self.messages.get(&key) {
                assert_eq!(
                    (old.seq, &old.body),
                    (record.seq, &record.body),
                    "one ordinal, one message"
                );
                continue;
            }
            self.shown.push((record.chat.clone(), record.seq));
            self.messages.insert(key, record);
        }
        for mark in batch.marks {
            let entry = self.marks.entry((mark.chat, mark.user)).or_default();
            entry.0 = entry.0.max(mark.delivered).max(mark.read);
            entry.1 = entry.1.max(mark.read);
        }
        self.saved.tracks.extend(batch.tracks);
        self.saved.unconfirmed_reads.extend(batch.reads);
        for send in batch.pending_put {
            self.accepted.insert(text(&send.body));
            self.saved.pending.retain(|old| old.id != send.id);
            self.saved.pending.push(send);
        }
        self.saved
            .pending
            .retain(|send| !batch.pending_delete.contains(&send.id));
        self.saved.pending.sort_by_key(|send| send.number);
        if let Some(position) = batch.position {
            self.positions.push(position.clone());
            self.saved.position = Some(position);
        }
        if let Some(skew_ms) = batch.skew_ms {
            self.saved.skew_ms = skew_ms;
        }
        if batch.chat_list_complete.is_some() {
            self.chat_list = batch.chat_list_complete;
        }
    }

    pub(crate) fn texts(&self, chat: &str) -> Vec<String> {
        let chat = ChatId::new(chat).expect("chat");
        let records = self.messages.range((chat.clone(), 0)..=(chat, u64::MAX));
        let texts = records.filter(|(_, r)| r.message_type == MessageType::TEXT);
        texts.map(|(_, r)| text(&r.body)).collect()
    }

    pub(crate) fn seq_of(&self, wanted: &str) -> Seq {
        let found = self.messages.values().find(|r| text(&r.body) == wanted);
        found.expect("the message is here").seq
    }

    pub(crate) fn next(&self) -> Option<u64> {
        match &self.saved.position {
            Some(Position::At { next, .. }) => Some(*next),
            _ => None,
        }
    }

    pub(crate) fn mark(&self, chat: &str, user: &str) -> (Seq, Seq) {
        let key = (
            ChatId::new(chat).expect("chat"),
            UserId::new(user).expect("user"),
        );
        self.marks.get(&key).copied().unwrap_or_default()
    }
}

fn text(body: &Bytes) -> String {
    String::from_utf8_lossy(body).into_owned()
}

pub(crate) struct Device {
    pub(crate) user: UserId,
    pub(crate) name: String,
    pub(crate) session: Session,
    pub(crate) disk: Disk,
    pub(crate) links: BTreeMap<u32, ConnId>,
    pub(crate) phase: Phase,
    pub(crate) phases: Vec<&'static str>,
    pub(crate) opened: Vec<String>,
    pub(crate) token_fetches: usize,
    pub(crate) history: Vec<HistoryDone>,
    pub(crate) queued: usize,
    pub(crate) typing_seen: usize,
    boot: u32,
    /// Batches wait while the disk is stopped.
    pub(crate) disk_stopped: bool,
    waiting: Vec<(u64, Box<Batch>)>,
    /// The server cannot be reached.
    pub(crate) unreachable: bool,
    /// Bytes go nowhere, in both directions.
    pub(crate) black_hole: bool,
}

impl Device {
    pub(crate) fn new(user: UserId, name: &str, disk: Disk, seed: u64) -> Self {
        Self {
            session: Session::new(config(&user, name), seed, disk.saved.clone()),
            user,
            name: name.to_owned(),
            disk,
            links: BTreeMap::new(),
            phase: Phase::Stopped,
            phases: Vec::new(),
            opened: Vec::new(),
            token_fetches: 0,
            history: Vec::new(),
            queued: 0,
            typing_seen: 0,
            boot: 0,
            disk_stopped: false,
            waiting: Vec::new(),
            unreachable: false,
            black_hole: false,
        }
    }

    pub(crate) fn is(&self, boot: u32) -> bool {
        self.boot == boot
    }

    pub(crate) fn boot(&self) -> u32 {
        self.boot
    }

    pub(crate) fn boot_again(&mut self, seed: u64) {
        self.boot += 1;
        self.links.clear();
        self.waiting.clear();
        self.session = Session::new(
            config(&self.user, &self.name),
            seed,
            self.disk.saved.clone(),
        );
    }

    pub(crate) fn token(&self, expires_ms: u64) -> String {
        format!("{}/{}/{expires_ms}", self.user, self.name)
    }

    pub(crate) fn stored(&mut self, ticket: u64, batch: Batch, now: Now) {
        if self.disk_stopped {
            self.waiting.push((ticket, Box::new(batch)));
            return;
        }
        self.disk.write(batch);
        self.session.handle_stored(ticket, now);
    }
}

fn config(user: &UserId, name: &str) -> Config {
    Config {
        user: user.clone(),
        device: Name::new(name).expect("device"),
        url: "ws://home/".into(),
        client: "test/1".into(),
        heartbeat_ms: 0,
        live_only: false,
    }
}

fn phase_name(phase: &Phase) -> &'static str {
    match phase {
        Phase::Stopped => "stopped",
        Phase::Refused { .. } => "refused",
        Phase::Displaced => "displaced",
        Phase::Connecting => "connecting",
        Phase::Waiting { .. } => "waiting",
        Phase::Syncing => "syncing",
        Phase::CatchingUp => "catching-up",
        Phase::Live => "live",
    }
}

impl World {
    /// Performs what the session asks for.
    pub(crate) fn settle(&mut self, device: DeviceId) {
        while let Some(effect) = self.devices[device].session.poll_effect() {
            self.perform(device, effect);
        }
    }

    pub(crate) fn resume_disk(&mut self, device: DeviceId) {
        let now = self.now();
        self.devices[device].disk_stopped = false;
        for (ticket, batch) in std::mem::take(&mut self.devices[device].waiting) {
            self.devices[device].stored(ticket, *batch, now);
            self.settle(device);
        }
    }

    fn perform(&mut self, device: DeviceId, effect: Effect) {
        let boot = self.devices[device].boot;
        match effect {
            Effect::Open { link, url } => {
                let dead = self.dead_url.as_ref() == Some(&url);
                self.devices[device].opened.push(url);
                let at = self.ms + self.delay();
                if self.devices[device].unreachable || dead {
                    let code = 1006;
                    return self.at(
                        at,
                        Event::DeviceClosed {
                            device,
                            boot,
                            link,
                            code,
                        },
                    );
                }
                let conn = self.edge_accept(device, link);
                self.at(
                    at,
                    Event::Opened {
                        device,
                        boot,
                        link,
                        conn,
                    },
                );
            }
            Effect::Transmit { link, frame } => {
                let Some(conn) = self.devices[device].links.get(&link).copied() else {
                    return;
                };
                if !self.devices[device].black_hole {
                    let mut message = Vec::new();
                    frame.encode(&mut message);
                    self.send_up(conn, message.into());
                }
            }
            Effect::Close { link, .. } => {
                if let Some(conn) = self.devices[device].links.remove(&link) {
                    self.send_close(conn);
                }
            }
            Effect::FetchToken => {
                self.devices[device].token_fetches += 1;
                let at = self.ms + 1;
                self.at(at, Event::Token { device, boot });
            }
            Effect::Store { ticket, batch } => {
                let at = self.ms + self.weather.disk_ms;
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
            Effect::Phase(phase) => {
                self.devices[device].phases.push(phase_name(&phase));
                self.devices[device].phase = phase;
            }
            Effect::History(done) => self.devices[device].history.push(done),
            Effect::Queued(_) => self.devices[device].queued += 1,
            Effect::Typing(_) => self.devices[device].typing_seen += 1,
            Effect::Presence(_) | Effect::Problem { .. } => {}
        }
    }
}
