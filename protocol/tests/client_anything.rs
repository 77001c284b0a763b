//! Whatever a server says, whenever: the client's session neither panics nor runs away, and never
//! acknowledges what it was not given or its disk does not have.

use bytes::Bytes;
use hawser_protocol::client::{
    Batch, Chance, Config, Effect, Now, Phase, Position, Saved, Session,
};
use hawser_protocol::frame::{Ack, ClientFrame, Deliver, DeliverFlags, ServerFrame};
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, MessageId, Seq, UserId};
use hawser_protocol::message::{MessageRecord, MessageType};
use hawser_protocol::pb;
use std::collections::BTreeMap;

const RUNS: u64 = 300;
const STEPS: usize = 1_000;

struct Fuzz {
    chance: Chance,
    now: Now,
    session: Session,
    ids: Vec<ClientMsgId>,
    syncs: Vec<u32>,
    links: Vec<u32>,
    stores: Vec<(u64, Batch)>,
    /// Behind the last offset that a disk has.
    disk_next: u64,
    /// Behind the last offset that came, per link.
    came: BTreeMap<u32, u64>,
    link: u32,
    /// Of an ordinary message of g:y.
    seq: u64,
    acks: usize,
    lives: usize,
}

/// One in twenty is none.
const CHATS: [&str; 20] = {
    let mut chats = ["dm:alice:bob"; 20];
    chats[7] = "nonsense";
    chats
};

fn chat(n: u64) -> ChatId {
    let names = ["dm:alice:bob", "g:x", "g:y"];
    ChatId::new(names[usize::try_from(n % 3).expect("small")]).expect("chat")
}

impl Fuzz {
    fn new(seed: u64) -> Self {
        let config = Config {
            user: UserId::new("alice").expect("user"),
            device: DeviceId::new("a1").expect("device"),
            url: "ws://home/".into(),
            client: "fuzz/1".into(),
            heartbeat_ms: 0,
            live_only: seed.is_multiple_of(5),
        };
        Self {
            chance: Chance::new(seed),
            now: Now { ms: 1, wall_ms: 1 },
            session: Session::new(config, seed, Saved::default()),
            ids: vec![ClientMsgId([7; 16])],
            syncs: vec![1],
            links: vec![1],
            stores: Vec::new(),
            disk_next: 0,
            came: BTreeMap::new(),
            link: 0,
            seq: 0,
            acks: 0,
            lives: 0,
        }
    }

    /// Small numbers mostly, and the ends of the range.
    fn number(&mut self) -> u64 {
        match self.chance.below(10) {
            0 if self.chance.below(8) == 0 => u64::MAX,
            1 if self.chance.below(8) == 0 => self.chance.word(),
            _ => self.chance.below(40),
        }
    }

    fn small(&mut self) -> u32 {
        u32::try_from(self.number().min(u64::from(u32::MAX))).expect("bounded")
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        let n = u64::try_from(of.len()).expect("small");
        of[usize::try_from(self.chance.below(n)).expect("small")].clone()
    }

    fn id(&mut self) -> Bytes {
        if self.chance.below(60) == 0 {
            return Bytes::from_static(b"short");
        }
        let ids = self.ids.clone();
        Bytes::copy_from_slice(&self.one(&ids).0)
    }

    fn record(&mut self) -> MessageRecord {
        let ids = self.ids.clone();
        let ordinary = self.chance.below(30) > 0;
        let before = self.seq;
        self.seq += u64::from(ordinary);
        let place = match ordinary {
            true => [before + 1, before, before + 1],
            false => [self.number(), self.number(), self.number()],
        };
        MessageRecord {
            seq: Seq(place[0]),
            prev_seq: Seq(place[1]),
            ordinal: place[2],
            message_id: MessageId([1; 16]),
            client_msg_id: self.one(&ids),
            send_ts_ms: self.number(),
            stored_ts_ms: self.number(),
            message_type: MessageType(self.one(&[1, 3, 200])),
            sender: UserId::new(self.one(&["alice", "bob"])).expect("user"),
            sender_device: DeviceId::new("a1").expect("device"),
            chat: chat(if ordinary { 2 } else { self.chance.word() }),
            body: Bytes::from_static(b"x"),
        }
    }

    fn frame(&mut self) -> ServerFrame {
        let offset = match self.chance.below(10) {
            0 => self.number(),
            _ => self.came_on(self.link).saturating_add(self.chance.below(3)),
        };
        let token = Bytes::from_static(b"seal");
        match self.chance.below(15) {
            0..2 => ServerFrame::Welcome(pb::Welcome {
                server_time_ms: self.number(),
                recovered: self.chance.below(2) == 0,
                head: self.chance.below(50),
                resume_token: token,
                heartbeat_ms: self.small(),
                token_expires_at_ms: self.number(),
                limits: Some(pb::Limits {
                    sends_in_flight_max: self.small(),
                    ..pb::Limits::default()
                }),
                ..pb::Welcome::default()
            }),
            2..6 => ServerFrame::Deliver(Deliver {
                offset,
                flags: DeliverFlags::default(),
                envelope: Bytes::new(),
                record: self.record(),
            }),
            6 => ServerFrame::SendResult(pb::SendResult {
                offset,
                client_msg_id: self.id(),
                chat: chat(offset).to_string(),
                error: self.one(&[0, 0, 30, 32, 42, 9_999]),
                message_id: self.id(),
                seq: self.number(),
                prev_seq: self.number(),
                ordinal: self.number(),
                retry_after_ms: self.small(),
                ..pb::SendResult::default()
            }),
            7 => ServerFrame::CaughtUp(pb::CaughtUp {
                offset,
                resume_token: token,
            }),
            8 => ServerFrame::ReceiptUpdate(pb::ReceiptUpdate {
                offset,
                chat: self.one(&CHATS).into(),
                user: self.one(&["alice", "bob"]).into(),
                delivered_seq: self.number(),
                read_seq: self.number(),
                ts_ms: self.number(),
            }),
            9..11 => {
                let records = (0..self.chance.below(4))
                    .map(|_| self.record().encode())
                    .collect();
                let recent = self.syncs.len().saturating_sub(4);
                let syncs = self.syncs[recent..].to_vec();
                ServerFrame::SyncPage(pb::SyncPage {
                    sync_id: self.one(&syncs),
                    records,
                    more: self.chance.below(2) == 0,
                    next_ordinal: self.number(),
                    error: self.one(&[0, 0, 0, 31, 40, 30]),
                    next_cursor: self.one(&["", "g:x"]).into(),
                    chats: vec![pb::ChatSummary {
                        chat: chat(offset).to_string(),
                        last_ordinal: self.number(),
                        ..pb::ChatSummary::default()
                    }],
                    ..pb::SyncPage::default()
                })
            }
            11 => ServerFrame::Error(pb::Error {
                code: self.small(),
                retry_after_ms: self.small(),
                client_msg_id: self.one(&[Bytes::new(), Bytes::from_static(&[7; 16])]),
                frame_type: self.one(&[0, 2, 7]),
                ..pb::Error::default()
            }),
            12 => ServerFrame::Relocate(pb::Relocate {
                url: self.one(&["ws://other/", "http://evil/"]).into(),
                slot_ms: self.small(),
                deadline_ms: self.small(),
            }),
            13 => ServerFrame::Queued(pb::Queued {
                client_msg_id: self.id(),
            }),
            _ => ServerFrame::Pong(pb::Pong {
                resume_token: token,
                ..pb::Pong::default()
            }),
        }
    }

    fn step(&mut self) {
        let links = self.links.clone();
        let link = match self.chance.below(8) {
            0 => self.one(&links),
            _ => self.link,
        };
        match self.chance.below(40) {
            0..25 => {
                let frame = self.frame();
                self.note(link, &frame);
                self.session.handle_frame(link, frame, 100, self.now);
            }
            25..27 => self.session.handle_opened(link, self.now),
            27 if self.chance.below(10) == 0 => {
                let code = self.one(&[1000, 1006, 4300, 4300, 4301, 4200, 4100, 4001]);
                self.session.handle_closed(link, code, "", self.now);
            }
            28 => {
                let expires = self.number();
                self.session.handle_token("t".into(), expires, self.now);
            }
            29..34 => {
                let waiting = u64::try_from(self.stores.len()).expect("small");
                for _ in 0..self.chance.below(waiting + 1) {
                    let (ticket, batch) = self.stores.remove(0);
                    match batch.position {
                        Some(Position::At { next, .. }) => self.disk_next = next,
                        Some(Position::SyncingFrom(_)) => self.disk_next = 0,
                        None => {}
                    }
                    self.session.handle_stored(ticket, self.now);
                    self.effects();
                }
            }
            34 => {
                let to = chat(self.chance.word());
                let sent = self
                    .session
                    .submit(to, MessageType::TEXT, Bytes::new(), self.now);
                self.ids.extend(sent.ok().map(|send| send.id));
            }
            35 => {
                let (chat, ms) = (chat(self.chance.word()), self.number());
                self.session.read(&chat, Seq(ms), self.now);
                self.session.history(&chat, ms, 10, self.now);
            }
            36..38 => self.session.start(self.now),
            _ => {
                let ms = self.chance.below(2_000);
                self.now.ms += ms;
                self.now.wall_ms += ms;
                self.session.handle_timeout(self.now);
            }
        }
        self.effects();
    }

    fn came_on(&self, link: u32) -> u64 {
        self.came.get(&link).copied().unwrap_or(0)
    }

    fn note(&mut self, link: u32, frame: &ServerFrame) {
        let offset = match frame {
            ServerFrame::Deliver(deliver) => deliver.offset,
            ServerFrame::SendResult(result) => result.offset,
            ServerFrame::ReceiptUpdate(update) => update.offset,
            _ => return,
        };
        let came = self.came_on(link).max(offset.saturating_add(1));
        self.came.insert(link, came);
    }

    fn effects(&mut self) {
        let mut effects = 0;
        while let Some(effect) = self.session.poll_effect() {
            effects += 1;
            assert!(effects < 2_000, "one step has no end");
            match effect {
                Effect::Open { link, .. } => {
                    self.links.push(link);
                    self.link = link;
                }
                Effect::Phase(Phase::Live) => self.lives += 1,
                Effect::Store { ticket, batch } => self.stores.push((ticket, *batch)),
                Effect::Transmit { link, frame } => match *frame {
                    ClientFrame::Ack(Ack { offset: Ack::ADOPT }) => {}
                    ClientFrame::Ack(Ack { offset }) => self.check_ack(link, offset),
                    ClientFrame::Ping(pb::Ping {
                        offset: Some(offset),
                        ..
                    }) => self.check_ack(link, offset),
                    ClientFrame::Sync(sync) => self.syncs.push(sync.sync_id),
                    _ => {}
                },
                _ => {}
            }
        }
    }

    fn check_ack(&mut self, link: u32, offset: u64) {
        self.acks += 1;
        let came = self.came_on(link);
        assert!(offset < came, "an ack of {offset}, of {came} that came");
        assert!(
            offset < self.disk_next,
            "an ack of {offset}, the disk has {}",
            self.disk_next
        );
    }
}

#[test]
fn nothing_a_server_says_makes_it_panic_run_away_or_acknowledge_too_much() {
    let (mut acks, mut lives) = (0, 0);
    for seed in 0..RUNS {
        let mut fuzz = Fuzz::new(seed);
        fuzz.session.start(fuzz.now);
        fuzz.session.handle_token("t".into(), u64::MAX, fuzz.now);
        fuzz.effects();
        for _ in 0..STEPS {
            fuzz.step();
        }
        acks += fuzz.acks;
        lives += fuzz.lives;
    }
    assert!(
        acks > 100 && lives > 300,
        "it tries little: {acks} acks, {lives} times live"
    );
}
