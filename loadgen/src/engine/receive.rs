//! What comes in: answers, deliveries, and the end of connections.

use bytes::Bytes;
use hawser_protocol::codes::ErrorCode;
use hawser_protocol::frame::{Ack, ClientFrame, Deliver, DeliverFlags, ServerFrame, split};
use hawser_protocol::ids::ChatId;
use hawser_protocol::message::MessageRecord;
use hawser_protocol::pb;

use super::{Counters, Engine, Timer, wall_ms};
use crate::history::{Id, Op, Place};
use crate::link::Inbound;
use crate::payload::Payload;
use crate::session::{InFlight, Stage, place_of};

/// An acknowledgement waits so long for more to acknowledge.
const ACK_DELAY_MS: u64 = 200;
/// The least pause before a Send of unknown outcome is sent again.
const AGAIN_MS: u32 = 1_000;
/// Seqs of a conversation that a receiver remembers.
const RECENT: usize = 64;

/// Recent seqs of one chat, as a client's store would know all.
#[derive(Debug, Default)]
pub(super) struct Recent {
    last: u64,
    seqs: Vec<u64>,
    next: usize,
}

/// What the filter says.
#[derive(Debug, PartialEq, Eq)]
enum Judged {
    New,
    Known,
    Regressed,
}

impl Recent {
    fn judge(&mut self, seq: u64) -> Judged {
        if self.seqs.contains(&seq) {
            return Judged::Known;
        }
        if self.seqs.len() < RECENT {
            self.seqs.push(seq);
        } else {
            self.seqs[self.next] = seq;
            self.next = (self.next + 1) % RECENT;
        }
        if seq > self.last {
            self.last = seq;
            Judged::New
        } else {
            Judged::Regressed
        }
    }
}

impl Engine {
    /// Bytes of a connection.
    pub(super) fn feed(&mut self, at: u32, bytes: &[u8]) {
        let key = self.random_bytes();
        let mut inbound = Vec::new();
        let session = &mut self.sessions[at as usize];
        let epoch = session.epoch;
        let fed = session.link.feed(
            &self.shared.target,
            bytes,
            key,
            &mut self.scratch,
            &mut session.out,
            &mut inbound,
        );
        for item in inbound {
            if self.sessions[at as usize].epoch != epoch {
                return;
            }
            match item {
                Inbound::Opened => self.greet(at),
                Inbound::Message(message) => self.message_in(at, message),
                Inbound::Closed(code) => {
                    self.drop_connection(at, code, &format!("closed by the server with {code}"));
                    return;
                }
            }
        }
        if let Err(error) = fed {
            return self.drop_connection(at, 0, &error.to_string());
        }
        self.flush(at);
    }

    fn message_in(&mut self, at: u32, mut message: Bytes) {
        loop {
            let bytes = message.len();
            let frame = match split(&mut message) {
                Ok(Some(raw)) => ServerFrame::decode(&raw),
                Ok(None) => return,
                Err(error) => Err(error),
            };
            match frame {
                Ok(frame) => self.frame(at, frame, bytes - message.len()),
                Err(error) => {
                    self.found.foreign += 1;
                    return self.drop_connection(at, 0, &format!("a bad frame: {error}"));
                }
            }
        }
    }

    fn frame(&mut self, at: u32, frame: ServerFrame, bytes: usize) {
        match frame {
            ServerFrame::Welcome(welcome) => self.welcome(at, &welcome),
            ServerFrame::SendResult(result) => {
                self.saw(at, place_of(result.offset), bytes, false);
                self.result(at, &result);
            }
            ServerFrame::Deliver(deliver) => {
                let awaited = !deliver.flags.contains(DeliverFlags::ACK_LATER);
                self.saw(at, Some(deliver.offset), bytes, awaited);
                self.deliver(at, &deliver);
            }
            ServerFrame::ReceiptUpdate(update) => {
                self.saw(at, place_of(update.offset), bytes, false);
                let user = self.sessions[at as usize].user;
                self.note(user, || Op::Receipt { off: update.offset });
            }
            ServerFrame::CaughtUp(caught_up) => {
                self.place(at, &caught_up.resume_token);
                self.note(self.sessions[at as usize].user, || Op::CaughtUp);
            }
            ServerFrame::Queued(queued) => self.queued(at, &queued.client_msg_id),
            ServerFrame::SyncPage(page) => self.page(at, &page),
            ServerFrame::Pong(pong) => {
                self.place(at, &pong.resume_token);
                let session = &mut self.sessions[at as usize];
                session.pinged_ms = None;
                let warmth = &mut session.warmth;
                if warmth.pinged && !warmth.done {
                    warmth.done = true;
                    Counters::add(&self.shared.counters.warm, 1);
                }
            }
            ServerFrame::Error(error) => self.error(at, &error),
            ServerFrame::Redirect(redirect) => self.redirected(at, &redirect),
            ServerFrame::Relocate(relocate) => self.relocated(at, &relocate),
            ServerFrame::TypingUpdate(_)
            | ServerFrame::PresenceUpdate(_)
            | ServerFrame::TokenAccepted(_)
            | ServerFrame::Unknown(_) => {}
        }
    }

    fn welcome(&mut self, at: u32, welcome: &pb::Welcome) {
        let now = self.shared.now_ns();
        let session = &mut self.sessions[at as usize];
        if session.stage != Stage::Greeting {
            return;
        }
        let (again, user) = (session.was_live, session.user);
        let recovered = session.welcomed(welcome);
        let (epoch, heartbeat_ms, begun_ns) =
            (session.epoch, session.heartbeat_ms, session.begun_ns);
        self.note(user, || Op::Welcome { recovered });
        self.connecting -= 1;
        self.found.connect.record(now - begun_ns);
        self.record(|window| window.connect.record(now - begun_ns));
        Counters::add(&self.shared.counters.live, 1);
        Counters::add(&self.shared.counters.reconnects, u64::from(again));
        if again && self.orders.is_cut(user) {
            Counters::add(&self.shared.counters.back, 1);
            let since_ns = now.saturating_sub(self.orders.cut_ns);
            self.found.back_ns.push(since_ns);
            self.found.resumed += u64::from(recovered);
            self.record(|window| {
                window.back_ns.push(since_ns);
                window.resumed += u64::from(recovered);
            });
            if self.sessions[at as usize].fresh {
                // As if it had read its history.
                let adopt = ClientFrame::Ack(Ack { offset: Ack::ADOPT });
                self.write(at, &adopt);
            }
        }
        let ours = i64::try_from(wall_ms()).unwrap_or(0);
        self.clock_ms = i64::try_from(welcome.server_time_ms).unwrap_or(ours) - ours;
        // The first heartbeat is jittered, so that a ramp does not become a wave.
        let first = 1 + self.random.below(u64::from(heartbeat_ms));
        self.wheel
            .insert(now / 1_000_000 + first, (at, Timer::Heartbeat(epoch)));
        self.put_again(at, true);
    }

    /// A frame with an offset: it is acknowledged soon where somebody waits for that, and with the next Ping otherwise.
    fn saw(&mut self, at: u32, offset: Option<u64>, bytes: usize, awaited: bool) {
        let Some(offset) = offset else { return };
        let session = &mut self.sessions[at as usize];
        session.saw(offset, bytes);
        if session.must_ack() {
            if let Some(frame) = session.ack() {
                self.write(at, &frame);
            }
        } else if awaited && !session.ack_timer {
            session.ack_timer = true;
            let epoch = session.epoch;
            let deadline = self.now_ms() + ACK_DELAY_MS;
            self.wheel.insert(deadline, (at, Timer::Ack(epoch)));
        }
    }

    fn place(&mut self, at: u32, token: &Bytes) {
        if !token.is_empty() {
            self.sessions[at as usize].resume = token.clone();
        }
    }

    fn result(&mut self, at: u32, result: &pb::SendResult) {
        let now = self.shared.now_ns();
        self.note_result(at, result);
        let session = &mut self.sessions[at as usize];
        let first = session.first_answer(&result.client_msg_id);
        if let Some(send) = first.filter(|_| result.error != 0) {
            self.found.refused.record(now.saturating_sub(send.put_ns));
        }
        let Some(send) = session.take_in_flight(&result.client_msg_id) else {
            return;
        };
        if result.error == u32::from(ErrorCode::UnknownOutcome.number()) {
            // It may be on the log: the same id is sent again until the answer is known.
            session.in_flight.insert(
                0,
                InFlight {
                    retry: true,
                    ..send
                },
            );
            let epoch = session.epoch;
            *self.found.errors.entry(result.error).or_default() += 1;
            let pause_ms = u64::from(result.retry_after_ms.max(AGAIN_MS));
            let deadline = self.now_ms() + pause_ms;
            self.wheel.insert(deadline, (at, Timer::Again(epoch)));
            return;
        }
        let user = session.user;
        session.warmth.answered = true;
        let accepted = result.error == 0;
        self.found
            .checker
            .answered(user, send.conversation, send.number, accepted);
        let counters = &self.shared.counters;
        Counters::take(&counters.in_flight, 1);
        Counters::add(&counters.answered, 1);
        if accepted {
            let took_ns = now.saturating_sub(send.due_ns);
            self.found.send_result.record(took_ns);
            if let Some(window) = &mut self.window {
                window.send_result.record(took_ns);
            }
            let receivers = self
                .shared
                .plan
                .members(send.conversation)
                .len()
                .saturating_sub(1);
            Counters::add(&counters.expected, receivers as u64);
        } else {
            Counters::add(&counters.refused, 1);
            *self.found.errors.entry(result.error).or_default() += 1;
            self.record(|window| window.errors += 1);
        }
        self.warm_up(at);
    }

    fn queued(&mut self, at: u32, id: &[u8]) {
        let now = self.shared.now_ns();
        let session = &mut self.sessions[at as usize];
        let Some(send) = session.first_answer(id) else {
            return;
        };
        let user = session.user;
        let took_ns = now.saturating_sub(send.due_ns);
        self.found.queued.record(took_ns);
        self.record(|window| window.queued.record(took_ns));
        self.note(user, || Op::Queued { id: Id(send.id.0) });
    }

    fn note_result(&mut self, at: u32, result: &pb::SendResult) {
        let Ok(id) = <[u8; 16]>::try_from(&result.client_msg_id[..]) else {
            return;
        };
        let user = self.sessions[at as usize].user;
        if result.error == u32::from(ErrorCode::UnknownOutcome.number()) {
            return self.note(user, || Op::Unknown { id: Id(id) });
        }
        if result.error != 0 {
            return self.note(user, || Op::Fail {
                id: Id(id),
                error: result.error,
                retry_ms: result.retry_after_ms,
            });
        }
        let chat = ChatId::new(&result.chat).ok();
        let Some(c) = chat.and_then(|chat| self.shared.plan.conversation(&chat)) else {
            return;
        };
        let mid = result.message_id.iter().map(|b| format!("{b:02x}"));
        self.note(user, || Op::Ok {
            off: result.offset,
            place: Place {
                c,
                id: Id(id),
                seq: result.seq,
                prev: result.prev_seq,
                ord: result.ordinal,
            },
            mid: mid.collect(),
        });
    }

    /// A record as the history names it, and the number that its sender gave it.
    pub(super) fn placed(&self, record: &MessageRecord) -> Option<(Place, u32)> {
        let c = self.shared.plan.conversation(&record.chat)?;
        let payload = Payload::decode(&record.body);
        let id = match payload {
            Some(_) => record.client_msg_id.0,
            // The server's own messages have no id of their own; their place is one.
            None => ((u128::from(c) | 1 << 127) << 64 | u128::from(record.seq.0)).to_be_bytes(),
        };
        let place = Place {
            c,
            id: Id(id),
            seq: record.seq.0,
            prev: record.prev_seq.0,
            ord: record.ordinal,
        };
        Some((place, payload.map_or(0, |payload| payload.number)))
    }

    fn note_delivery(&mut self, user: u32, deliver: &Deliver) {
        if self.history.is_none() {
            return;
        }
        let Some((place, n)) = self.placed(&deliver.record) else {
            return;
        };
        let sender = self.shared.plan.user(deliver.record.sender.as_str());
        self.note(user, || Op::Deliver {
            off: deliver.offset,
            place,
            n,
            from: sender.unwrap_or(user),
            replayed: deliver.flags.contains(DeliverFlags::REPLAYED),
        });
    }

    fn deliver(&mut self, at: u32, deliver: &Deliver) {
        let now = self.shared.now_ns();
        let user = self.sessions[at as usize].user;
        self.note_delivery(user, deliver);
        let record = &deliver.record;
        let sender = self.shared.plan.user(record.sender.as_str());
        let Some(payload) = Payload::decode(&record.body) else {
            // A group's own membership messages, and messages of earlier runs by other programs.
            return;
        };
        let is_whole = sender == Some(payload.sender)
            && self.is_size(record.body.len())
            && self.shared.plan.chat(payload.conversation) == Some(&record.chat);
        if !is_whole {
            self.found.foreign += 1;
            return;
        }
        let lane = (user, payload.conversation);
        match self.recent.entry(lane).or_default().judge(record.seq.0) {
            Judged::Known => return self.found.checker.refiltered(),
            Judged::Regressed => self.found.checker.seq_regressed(),
            Judged::New => {}
        }
        self.found.checker.delivered(
            user,
            payload.sender,
            payload.conversation,
            payload.number,
            payload.again,
        );
        Counters::add(&self.shared.counters.delivered, 1);
        if self.waited(user, payload.due_ns) {
            self.record(|window| window.held_back += 1);
        } else if !deliver.flags.contains(DeliverFlags::REPLAYED) {
            let latencies = if payload.due_ns < self.orders.cut_ns {
                &mut self.found.deliver
            } else {
                &mut self.found.deliver_in_storm
            };
            let took_ns = now.saturating_sub(payload.due_ns);
            latencies.record(took_ns);
            self.record(|window| window.deliver.record(took_ns));
        }
        self.sessions[at as usize].warmth.delivered = true;
        if self.random.unit() <= self.orders.load.receipt_share {
            let receipt = ClientFrame::Receipt(pb::Receipt {
                chat: record.chat.as_str().to_owned(),
                delivered_seq: 0,
                read_seq: record.seq.0,
            });
            self.write(at, &receipt);
        }
        self.warm_up(at);
    }

    /// Whether a body of ours can have so many bytes.
    fn is_size(&self, bytes: usize) -> bool {
        let floor = crate::payload::PAYLOAD_BYTES_MIN;
        let sizes = &self.shared.bodies;
        sizes.iter().any(|size| bytes == (*size).max(floor))
    }

    fn error(&mut self, at: u32, error: &pb::Error) {
        *self.found.errors.entry(error.code).or_default() += 1;
        let is_told =
            error.retry_after_ms > 0 && self.sessions[at as usize].stage == Stage::Greeting;
        self.record(|window| {
            // That of a Send is counted with its answer.
            window.errors += u64::from(error.client_msg_id.is_empty());
            window.told += u64::from(is_told);
        });
        let session = &mut self.sessions[at as usize];
        if error.client_msg_id.is_empty() {
            session.retry_after_ms = error.retry_after_ms;
        }
        if session.stage == Stage::Greeting {
            if error.retry_after_ms > 0 {
                self.found.told_ms.push(error.retry_after_ms);
            }
            self.found.failure(format!(
                "Hello was refused with {}: {}",
                error.code, error.text
            ));
        }
        if !error.client_msg_id.is_empty() {
            let refused = pb::SendResult {
                client_msg_id: error.client_msg_id.clone(),
                error: error.code.max(1),
                ..pb::SendResult::default()
            };
            self.result(at, &refused);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redelivery_is_known_and_an_older_seq_is_a_regression() {
        let mut recent = Recent::default();
        assert_eq!(recent.judge(5), Judged::New);
        assert_eq!(recent.judge(9), Judged::New);
        assert_eq!(recent.judge(5), Judged::Known);
        assert_eq!(recent.judge(7), Judged::Regressed);
        for seq in 10..200 {
            assert_eq!(recent.judge(seq), Judged::New);
        }
        assert_eq!(recent.seqs.len(), RECENT);
    }
}
