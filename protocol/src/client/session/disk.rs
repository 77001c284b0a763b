//! The disk and the acks that follow it.

use super::Session;
use crate::client::types::{Batch, Effect, HistoryDone, Now, Phase, Position};
use crate::frame::{Ack, ClientFrame};
use crate::ids::{ChatId, ClientMsgId};
use crate::limits::{WINDOW_BYTES, WINDOW_FRAMES};
use crate::pb;
use bytes::Bytes;
use std::collections::BTreeMap;

/// Acks that somebody waits for wait this long for more to acknowledge, milliseconds; others ride on them or on a Ping.
const ACK_DELAY_MS: u64 = 40;
/// Unacknowledged before an ack goes at once; an eighth and a quarter of the server's window.
const ACK_FRAMES: usize = WINDOW_FRAMES / 8;
const ACK_BYTES: usize = WINDOW_BYTES / 4;

/// What happens when a batch is on the disk.
#[derive(Debug)]
struct Ticket {
    next: Option<u64>,
    durable: Vec<ClientMsgId>,
    /// Head and link of a sync that it completes.
    adopts: Option<(u64, u32)>,
}

/// The batch being collected, the batches being written, and what is acknowledged of them.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) batch: Batch,
    /// Told after the batch that holds it.
    pub(super) history: Vec<HistoryDone>,
    adopts: Option<(u64, u32)>,
    tickets: BTreeMap<u64, Ticket>,
    last_ticket: u64,
    /// `Some`: the position on the disk is `At`, with this token.
    resume_token: Option<Bytes>,
    /// Of the head that a sync is about to adopt.
    head_token: Bytes,
    saved_next: Option<u64>,
    /// The furthest position given to the disk: a later batch never takes it back.
    given_next: u64,
    acked_next: u64,
    ack_at_ms: Option<u64>,
    /// First and last offset that has come and whose ack somebody waits for.
    awaited: Option<(u64, u64)>,
    unacked_frames: usize,
    unacked_bytes: usize,
}

impl Disk {
    pub(super) fn new(resume_token: Option<Bytes>) -> Self {
        Self {
            batch: Batch::default(),
            history: Vec::new(),
            adopts: None,
            tickets: BTreeMap::new(),
            last_ticket: 0,
            resume_token,
            head_token: Bytes::new(),
            saved_next: None,
            given_next: 0,
            acked_next: 0,
            ack_at_ms: None,
            awaited: None,
            unacked_frames: 0,
            unacked_bytes: 0,
        }
    }

    pub(super) fn ack_at_ms(&self) -> Option<u64> {
        self.ack_at_ms
    }

    pub(super) fn resume_token(&self) -> Option<Bytes> {
        self.resume_token.clone()
    }

    pub(super) fn disconnected(&mut self) {
        self.ack_at_ms = None;
        self.awaited = None;
        self.unacked_frames = 0;
        self.unacked_bytes = 0;
    }

    /// A connection begins where the disk stands.
    pub(super) fn restart(&mut self, persisted: u64) {
        self.saved_next = Some(persisted);
        self.acked_next = persisted;
    }

    /// The server was told that we have everything below, whatever the disk has finished since.
    pub(super) fn not_acked_from(&mut self, next: u64) {
        self.acked_next = self.acked_next.min(next);
    }

    /// What we had is of no use any more: a sync begins.
    pub(super) fn forget(&mut self, head: u64, head_token: Bytes) {
        self.resume_token = None;
        self.given_next = 0;
        self.head_token = head_token;
        self.batch.position = Some(Position::SyncingFrom(head));
    }

    /// A frame came that an ack will cover.
    pub(super) fn count(&mut self, bytes: usize) {
        self.unacked_frames += 1;
        self.unacked_bytes += bytes;
    }

    /// Somebody waits for the ack of the frame that came with this offset.
    pub(super) fn awaits(&mut self, offset: u64) {
        let first = self.awaited.map_or(offset, |(first, _)| first);
        self.awaited = Some((first, offset));
    }

    /// The sync is complete with this batch.
    pub(super) fn adopt(&mut self, head: u64, link: u32) {
        let (next, resume_token) = (head, self.head_token.clone());
        self.batch.position = Some(Position::At { next, resume_token });
        self.adopts = Some((head, link));
    }
}

impl Session {
    /// A batch is on the disk, with all before it.
    pub fn handle_stored(&mut self, ticket: u64, now: Now) {
        let Some(ticket) = self.disk.tickets.remove(&ticket) else {
            return;
        };
        for id in &ticket.durable {
            self.outbox.durable(id);
        }
        if let Some((head, link)) = ticket.adopts {
            self.adopted(head, link);
        } else if let Some(next) = ticket.next {
            self.inbox.line.stored(next);
        }
        self.plan_ack(now);
        self.finish(now);
    }

    pub(super) fn track_to_batch(&mut self, chat: &ChatId) {
        if let Some(track) = self.inbox.track(chat) {
            self.disk.batch.tracks.insert(chat.clone(), track);
        }
    }

    /// A fresher seal of where we stand.
    pub(super) fn save_token(&mut self, resume_token: Bytes) {
        if resume_token.is_empty() || self.sync.adopting() {
            return;
        }
        let next = self.inbox.line.reach().max(self.disk.given_next);
        self.disk.resume_token = Some(resume_token.clone());
        self.disk.batch.position = Some(Position::At { next, resume_token });
    }

    pub(super) fn flush_batch(&mut self) {
        let next = self.inbox.line.reach().max(self.disk.given_next);
        if !self.sync.adopting()
            && self.disk.saved_next.is_some_and(|saved| saved != next)
            && let Some(resume_token) = self.disk.resume_token.clone()
        {
            self.disk.batch.position = Some(Position::At { next, resume_token });
        }
        if !self.disk.batch.is_empty() {
            let batch = std::mem::take(&mut self.disk.batch);
            let next = match &batch.position {
                Some(Position::At { next, .. }) => Some(*next),
                _ => None,
            };
            self.disk.saved_next = next.or(self.disk.saved_next);
            self.disk.given_next = next.unwrap_or(self.disk.given_next);
            self.disk.last_ticket += 1;
            let ticket = self.disk.last_ticket;
            let entry = Ticket {
                next,
                durable: batch.pending_put.iter().map(|send| send.id).collect(),
                adopts: self.disk.adopts.take(),
            };
            self.disk.tickets.insert(ticket, entry);
            let batch = Box::new(batch);
            self.effects.push_back(Effect::Store { ticket, batch });
        }
        let history = self.disk.history.drain(..);
        self.effects.extend(history.map(Effect::History));
    }

    fn adopted(&mut self, head: u64, link: u32) {
        if !self.welcomed() || self.link.as_ref().is_none_or(|l| l.id != link) {
            return;
        }
        self.sync.adopted();
        self.inbox.line.adopt(head);
        self.disk.restart(head);
        self.disk.resume_token = Some(self.disk.head_token.clone());
        let offset = Ack::ADOPT;
        self.transmit(ClientFrame::Ack(Ack { offset }));
        self.set_phase(Phase::CatchingUp);
    }

    pub(super) fn plan_ack(&mut self, now: Now) {
        let Some(next) = self.ackable().filter(|_| self.welcomed()) else {
            return;
        };
        let awaited = self.disk.awaited.is_some_and(|(first, _)| first < next);
        if self.disk.unacked_frames >= ACK_FRAMES || self.disk.unacked_bytes >= ACK_BYTES {
            self.ack();
        } else if awaited {
            self.disk.ack_at_ms.get_or_insert(now.ms + ACK_DELAY_MS);
        }
    }

    /// The next offset, when there is something to acknowledge below it.
    fn ackable(&self) -> Option<u64> {
        let next = self.inbox.line.acknowledgeable();
        (!self.sync.adopting() && next > self.disk.acked_next).then_some(next)
    }

    /// The offset that may be acknowledged now, once.
    fn take_ack(&mut self) -> Option<u64> {
        self.disk.ack_at_ms = None;
        let next = self.ackable()?;
        self.disk.acked_next = next;
        let left = self.disk.awaited.filter(|(_, last)| *last >= next);
        self.disk.awaited = left.map(|(first, last)| (first.max(next), last));
        self.disk.unacked_frames = 0;
        self.disk.unacked_bytes = 0;
        Some(next - 1)
    }

    pub(super) fn ack(&mut self) {
        if let Some(offset) = self.take_ack() {
            self.transmit(ClientFrame::Ack(Ack { offset }));
        }
    }

    /// Sends a Ping, the ack riding on it; the peer must answer within `answer_ms`.
    pub(super) fn ping(&mut self, now: Now, answer_ms: u64) {
        let offset = self.take_ack();
        let client_time_ms = now.wall_ms;
        self.transmit(ClientFrame::Ping(pb::Ping {
            offset,
            client_time_ms,
        }));
        self.pong_by_ms = Some(now.ms + answer_ms);
        self.ping_at_ms = Some(now.ms + self.heartbeat_ms);
    }
}
