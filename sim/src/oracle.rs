//! What must be true: checked at every frame, and of everything at the end.

use crate::cluster::{DELIVERIES, Entry};
use crate::edge::KEY;
use crate::reference::{Expected, Reference};
use crate::world::{ConnId, DeviceNo, World};
use hawser_protocol::client::Phase;
use hawser_protocol::frame::{Ack, DeliverFlags, MessageView, ServerFrame};
use hawser_protocol::ids::{ChatId, ClientMsgId, Seq, UserId};
use hawser_protocol::message::MessageRecord;
use hawser_protocol::partition::partition;
use hawser_protocol::pb;
use hawser_protocol::record::{Audience, DeliveryKind};
use hawser_protocol::resume::ResumeKey;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which oracle has spoken.
    pub oracle: &'static str,
    /// When, virtual milliseconds.
    pub at_ms: u64,
    /// What it saw.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} ms: {}", self.oracle, self.at_ms, self.what)
    }
}

/// What the server has promised to senders.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    /// Place that a SendResult gave.
    acknowledged: BTreeMap<ClientMsgId, (ChatId, Seq)>,
    /// Deliveries, replays and recoveries witnessed: a storm without any tests nothing.
    pub(crate) delivered: u64,
    pub(crate) replayed: u64,
    pub(crate) recovered: u64,
    pub(crate) unrecovered: u64,
    pub(crate) revoked: u64,
    pub(crate) learnt: u64,
}

/// What came on one connection.
#[derive(Debug)]
pub(crate) struct Stream {
    /// What the client said it has: the next offset it wants.
    wants: u64,
    generation: u32,
    /// Where delivery began on this connection.
    start: u64,
    /// Everything of the device's below this has come, or was had before. `None`: nothing with an
    /// offset may come.
    next: Option<u64>,
    head: u64,
    caught_up: bool,
}

impl Stream {
    pub(crate) fn of(hello: &pb::Hello) -> Self {
        // Without an offset it is the token that says from where.
        let sealed = || ResumeKey::new(&KEY).open(&hello.resume_token);
        let wants = match hello.last_offset {
            Some(last) => last + 1,
            None => sealed().map_or(0, |token| token.offset),
        };
        Self {
            wants,
            generation: 0,
            start: 0,
            next: None,
            head: 0,
            caught_up: false,
        }
    }
}

impl World {
    pub(crate) fn violate(&mut self, oracle: &'static str, what: String) {
        let at_ms = self.ms;
        self.violation.get_or_insert(Violation {
            oracle,
            at_ms,
            what,
        });
    }

    /// The client adopts the head: its disk must know.
    pub(crate) fn adopted(&mut self, device: DeviceNo, conn: ConnId, ack: Ack) {
        if ack.offset != Ack::ADOPT {
            return;
        }
        let stored = self.devices[device].disk.next();
        let Some(stream) = self.devices[device].streams.get_mut(&conn) else {
            return;
        };
        let head = stream.head;
        stream.next = Some(head);
        stream.start = head;
        if stored != Some(head) {
            let who = self.devices[device].title();
            self.violate(
                "adopt",
                format!("{who} adopts {head}, its disk has {stored:?}"),
            );
        }
    }

    /// A frame reaches a device.
    pub(crate) fn witness(&mut self, device: DeviceNo, conn: ConnId, frame: &ServerFrame) {
        match frame {
            ServerFrame::Welcome(welcome) => {
                let Some(stream) = self.devices[device].streams.get_mut(&conn) else {
                    return;
                };
                stream.head = welcome.head;
                stream.generation = welcome.generation;
                stream.next = welcome.recovered.then_some(stream.wants);
                stream.start = stream.wants;
                match welcome.recovered {
                    true => self.evidence.recovered += 1,
                    false => self.evidence.unrecovered += 1,
                }
            }
            ServerFrame::Deliver(deliver) => {
                self.evidence.delivered += 1;
                let replayed = deliver.flags.contains(DeliverFlags::REPLAYED);
                self.evidence.replayed += u64::from(replayed);
                self.arrives(device, conn, deliver.offset, Some(replayed));
            }
            ServerFrame::ReceiptUpdate(update) => self.arrives(device, conn, update.offset, None),
            ServerFrame::SendResult(result) => {
                if result.error == 0 {
                    self.sent(result);
                }
                if result.offset > 0 {
                    self.arrives(device, conn, result.offset, None);
                }
            }
            ServerFrame::CaughtUp(caught_up) => {
                self.reach(device, conn, caught_up.offset, "CaughtUp");
                if let Some(stream) = self.devices[device].streams.get_mut(&conn) {
                    stream.caught_up = true;
                }
            }
            _ => {}
        }
    }

    /// A frame with an offset: the next of this device's, and none left out before it.
    fn arrives(&mut self, device: DeviceNo, conn: ConnId, offset: u64, replayed: Option<bool>) {
        let who = self.devices[device].title();
        let Some(stream) = self.devices[device].streams.get(&conn) else {
            return;
        };
        if replayed == Some(stream.caught_up) {
            let what = format!("{who}: {offset} is live before CaughtUp, or replayed after it");
            return self.violate("resume", what);
        }
        let Some(next) = stream.next else {
            return self.violate(
                "resume",
                format!("{who} gets {offset} before it has adopted a head"),
            );
        };
        if offset < next {
            return self.violate("resume", format!("{who} gets {offset} after {next}"));
        }
        self.reach(device, conn, offset, "a frame");
        if let Some(stream) = self.devices[device].streams.get_mut(&conn) {
            stream.next = Some(offset + 1);
        }
    }

    /// Nothing of this device's lies between what it has and `offset`.
    fn reach(&mut self, device: DeviceNo, conn: ConnId, offset: u64, what: &str) {
        let d = &self.devices[device];
        let (Some(stream), Some(c)) = (d.streams.get(&conn), self.conns.get(&conn)) else {
            return;
        };
        // A log that was made anew is another one; its connections are being closed.
        if stream.generation != u32::from(self.cluster.generation) {
            return;
        }
        let Some(next) = stream.next else {
            return;
        };
        let log = &self.cluster.delivery[c.partition as usize].entries;
        let skipped = (next..offset).find(|at| {
            let entry = usize::try_from(*at).ok().and_then(|at| log.get(at));
            // What is no message and has offset 0 looks like one from outside the log.
            let first = |entry: &Entry| {
                let deliver = matches!(entry.whole, DeliveryKind::Message { .. });
                *at == 0 && (!deliver || entry.result_for(&d.user, &d.name).is_some())
            };
            entry.is_some_and(|e| !e.repeat && e.concerns(&d.user, &d.name) && !first(e))
        });
        if let Some(skipped) = skipped {
            let who = d.title();
            self.violate(
                "resume",
                format!("{who} gets {what} at {offset}, but never {skipped}"),
            );
        }
    }

    /// A device has acknowledged an offset: its disk has every message up to there.
    pub(crate) fn persisted(&mut self, device: DeviceNo, conn: ConnId, offset: u64) {
        let d = &self.devices[device];
        let (Some(stream), Some(c)) = (d.streams.get(&conn), self.conns.get(&conn)) else {
            return;
        };
        if stream.generation != u32::from(self.cluster.generation) {
            return;
        }
        let log = &self.cluster.delivery[c.partition as usize].entries;
        let lacks = (stream.start..=offset).find(|at| {
            let entry = usize::try_from(*at).ok().and_then(|at| log.get(at));
            let Some(entry) = entry.filter(|entry| entry.concerns(&d.user, &d.name)) else {
                return false;
            };
            let DeliveryKind::Message { record, .. } = &entry.whole else {
                return false;
            };
            MessageRecord::decode(record).is_ok_and(|record| {
                let key = (record.chat, record.ordinal);
                !d.disk.messages.contains_key(&key)
            })
        });
        if let Some(lacks) = lacks {
            let who = d.title();
            self.violate(
                "cursor",
                format!("{who} acknowledged {offset}, its disk lacks {lacks}"),
            );
        }
    }

    /// "Sent": it must be in the store by now, and nowhere else than any earlier answer said.
    fn sent(&mut self, result: &pb::SendResult) {
        let (Ok(id), Ok(chat)) = (
            result.client_msg_id.as_ref().try_into(),
            ChatId::new(&result.chat),
        ) else {
            return self.violate("codec", "a SendResult without id or chat".into());
        };
        let id = ClientMsgId(id);
        let place = (chat.clone(), Seq(result.seq));
        if self
            .evidence
            .acknowledged
            .get(&id)
            .is_some_and(|old| *old != place)
        {
            return self.violate(
                "dedup",
                format!("{id} was sent twice, as {} too", place.1.0),
            );
        }
        let stored = self.cluster.store.all(&chat);
        let row = stored.iter().find(|row| row.seq == place.1);
        let is_it = row.is_some_and(|row| {
            MessageView::parse(&row.record).is_ok_and(|view| view.client_msg_id() == id)
        });
        if !is_it {
            return self.violate("durable", format!("{id} is called sent and is not stored"));
        }
        self.evidence.acknowledged.insert(id, place);
    }

    /// At rest, all faults healed: everything is where it must be.
    pub(crate) fn judge_all(&mut self) {
        let reference = Reference::of(&self.cluster);
        let found = self
            .judge_places(&reference)
            .and_then(|()| self.judge_store(&reference))
            .and_then(|()| self.judge_order(&reference))
            .and_then(|()| self.judge_delivery(&reference))
            .and_then(|()| self.judge_senders(&reference))
            .and_then(|()| self.judge_readers(&reference));
        if let Err((oracle, what)) = found {
            self.violate(oracle, what);
        }
    }

    /// History is what the naive model makes of the source log: order, dense numbers, no holes.
    fn judge_store(&self, reference: &Reference) -> Result<(), (&'static str, String)> {
        for (chat, expected) in &reference.chats {
            let stored = self.cluster.store.all(chat);
            let mut previous = Seq::NONE;
            for (at, (row, wanted)) in stored.iter().zip(expected).enumerate() {
                let Ok(record) = MessageRecord::decode(&row.record) else {
                    return Err(("store", format!("{chat}: a row that cannot be read")));
                };
                let whole = record.client_msg_id == wanted.id
                    && record.seq == wanted.seq
                    && record.prev_seq == previous
                    && record.ordinal == at as u64 + 1;
                if !whole {
                    return Err(("order", format!("{chat}: {record:?}, expected {wanted:?}")));
                }
                previous = record.seq;
            }
            if stored.len() != expected.len() {
                let counts = (stored.len(), expected.len());
                return Err((
                    "loss",
                    format!("{chat}: {counts:?} messages stored, expected"),
                ));
            }
        }
        Ok(())
    }

    /// Every message was given to every reader's partition, unless the log was made anew since.
    fn judge_delivery(&self, reference: &Reference) -> Result<(), (&'static str, String)> {
        if self.cluster.generation > 1 {
            return Ok(());
        }
        let mut delivered: BTreeSet<(ChatId, Seq, UserId)> = BTreeSet::new();
        for entry in self.cluster.delivery.iter().flat_map(|log| &log.entries) {
            if let DeliveryKind::Message {
                recipients, record, ..
            } = &entry.whole
                && let Ok(record) = MessageRecord::decode(record)
            {
                let to = match recipients {
                    Audience::Listed(users) => users.iter().cloned().collect(),
                    Audience::Members { .. } => entry.members.clone(),
                };
                let to = to.into_iter();
                delivered.extend(to.map(|user| (record.chat.clone(), record.seq, user)));
            }
        }
        for (chat, message) in reference.all() {
            for reader in &message.readers {
                let place = (chat.clone(), message.seq, reader.clone());
                if !delivered.contains(&place) {
                    let at = partition(reader.as_str(), DELIVERIES);
                    return Err((
                        "delivery",
                        format!("{place:?} is not in delivery partition {at}"),
                    ));
                }
            }
        }
        Ok(())
    }

    /// Nothing waits for ever; what was accepted for sending is stored once, or was refused aloud.
    fn judge_senders(&self, reference: &Reference) -> Result<(), (&'static str, String)> {
        for device in &self.devices {
            let who = device.title();
            if device.phase != Phase::Live {
                return Err(("live", format!("{who} is {:?}", device.phase)));
            }
            if let Some(send) = device
                .disk
                .saved
                .pending
                .iter()
                .find(|s| s.refused.is_none())
            {
                return Err(("loss", format!("{who}: {} is never answered", send.id)));
            }
            for id in device.disk.accepted.keys() {
                let stored = reference.outcomes.get(id) == Some(&0);
                if stored == device.disk.refused.contains(id) {
                    let what =
                        format!("{who}: {id} is stored: {stored}, but the user is told otherwise");
                    return Err(("loss", what));
                }
            }
        }
        for (id, (chat, seq)) in &self.evidence.acknowledged {
            let all = reference.chats.get(chat).into_iter().flatten();
            if !all
                .into_iter()
                .any(|message| message.id == *id && message.seq == *seq)
            {
                return Err(("loss", format!("{id} was acknowledged and is gone")));
            }
        }
        Ok(())
    }

    /// Every device shows what its user may see, all of it, once, in order, as it was sent.
    fn judge_readers(&self, reference: &Reference) -> Result<(), (&'static str, String)> {
        for device in &self.devices {
            let who = device.title();
            for (chat, expected) in &reference.chats {
                let mine = |message: &&Expected| message.readers.contains(&device.user);
                let wanted: Vec<&Expected> = expected.iter().filter(mine).collect();
                let shown: Vec<&MessageRecord> = device.disk.chat(chat).collect();
                let places = shown
                    .iter()
                    .map(|record| (record.seq, record.client_msg_id));
                if !places.eq(wanted.iter().map(|message| (message.seq, message.id))) {
                    let (shown, wanted) = (shown.len(), wanted.len());
                    let what =
                        format!("{who} shows {shown} of {wanted} messages of {chat}, or others");
                    return Err(("shown", what));
                }
                let stored = self.cluster.store.all(chat);
                let same = shown.iter().all(|record| {
                    let row = stored.iter().find(|row| row.seq == record.seq);
                    row.is_some_and(|row| row.record == record.encode())
                });
                if !same {
                    return Err((
                        "blind",
                        format!("{who}: a message of {chat} differs from the stored one"),
                    ));
                }
            }
        }
        Ok(())
    }
}
