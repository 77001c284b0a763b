//! What goes out: messages by the schedule, signals, acknowledgements.

use bytes::Bytes;
use hawser_protocol::frame::ClientFrame;
use hawser_protocol::ids::ClientMsgId;
use hawser_protocol::message::{MessageType, Send};
use hawser_protocol::pb;

use super::{Counters, Engine, wall_ms};
use crate::args::Arrivals;
use crate::history::{Id, Op};
use crate::payload::Payload;
use crate::random::nanoseconds;
use crate::session::{InFlight, Stage};

/// Messages begun in one turn; what is due beyond is begun in the next, with its own due time.
const ARRIVALS_PER_TURN: u32 = 256;
/// Sessions per second that are opened at least.
const RAMP_MIN: f64 = 1e-3;

impl Engine {
    /// Sends what is due by the open-loop schedule. Returns when the next message is.
    pub(super) fn arrivals(&mut self) -> u64 {
        // Each thread's by how many of those who may send are its own.
        let share = self.speakers as f64 / f64::from(self.speakers_in_all().max(1));
        let rate = self.orders.load.rate * share;
        if rate <= 0.0 || self.speakers == 0 {
            return u64::MAX;
        }
        let now = self.shared.now_ns();
        if self.next_arrival_ns == 0 {
            self.next_arrival_ns = now + self.gap_ns(rate);
        }
        for _ in 0..ARRIVALS_PER_TURN {
            if self.next_arrival_ns > now {
                break;
            }
            let due_ns = self.next_arrival_ns;
            self.next_arrival_ns += self.gap_ns(rate);
            self.arrival(due_ns);
        }
        self.next_arrival_ns
    }

    /// Between two sessions that this thread opens, nanoseconds.
    pub(super) fn ramp_interval_ns(&self) -> u64 {
        nanoseconds(f64::from(self.shared.threads) / self.orders.load.ramp.max(RAMP_MIN))
    }

    fn gap_ns(&mut self, rate: f64) -> u64 {
        match self.shared.args.arrivals {
            Arrivals::Poisson => self.random.exponential_ns(rate),
            Arrivals::Even => nanoseconds(1.0 / rate),
        }
    }

    /// One message of some user. One that is not connected keeps it until it is.
    fn arrival(&mut self, due_ns: u64) {
        let Ok(at) = u32::try_from(self.random.below(self.speakers)) else {
            return;
        };
        // Who does not read would have no answer: the other of the pair sends to it.
        let at = if self.orders.is_slow(self.sessions[at as usize].user) {
            at ^ 1
        } else {
            at
        };
        let session = &self.sessions[at as usize];
        if !session.has_room() || !session.was_live {
            return self.shed();
        }
        let share = self.orders.load.group_share;
        let conversation = self.shared.plan.pick(session.user, share, &mut self.random);
        if self.random.unit() <= self.orders.load.typing_share
            && session.stage == Stage::Live
            && let Some(chat) = self.shared.plan.chat(conversation)
        {
            let typing = ClientFrame::Typing(pb::Typing {
                chat: chat.as_str().to_owned(),
                stopped: false,
            });
            self.write(at, &typing);
        }
        self.message(at, conversation, due_ns);
    }

    /// A message of this session to this conversation.
    pub(super) fn message(&mut self, at: u32, conversation: u32, due_ns: u64) {
        let session = &mut self.sessions[at as usize];
        let number = self
            .numbers
            .entry((session.user, conversation))
            .or_default();
        *number += 1;
        let now_ms = wall_ms().saturating_add_signed(self.clock_ms);
        let mut random = [0; 10];
        random[..8].copy_from_slice(&self.random.bits().to_le_bytes());
        let body = self.orders.load.body(&mut self.random);
        let send = InFlight {
            id: ClientMsgId::new(now_ms, random),
            conversation,
            number: *number,
            due_ns,
            body,
            retry: false,
            put_ns: 0,
            answered: false,
        };
        session.in_flight.push(send);
        let is_live = session.stage == Stage::Live;
        self.found
            .checker
            .sent(session.user, conversation, send.number);
        Counters::add(&self.shared.counters.sent, 1);
        Counters::add(&self.shared.counters.in_flight, 1);
        if is_live {
            self.put(at, &send);
        }
    }

    /// Sends, perhaps again, what is in flight.
    pub(super) fn put(&mut self, at: u32, send: &InFlight) {
        let Some(chat) = self.shared.plan.chat(send.conversation).cloned() else {
            return;
        };
        let payload = Payload {
            sender: self.sessions[at as usize].user,
            conversation: send.conversation,
            number: send.number,
            again: send.retry,
            due_ns: send.due_ns,
        };
        let frame = ClientFrame::Send(Send {
            client_msg_id: send.id,
            send_ts_ms: wall_ms(),
            message_type: MessageType::CUSTOM,
            retry: send.retry,
            chat,
            body: Bytes::from(payload.encode(send.body as usize, self.shared.args.deflate)),
            envelopes: Vec::new(),
        });
        let (session, now) = (&mut self.sessions[at as usize], self.shared.now_ns());
        session.put(send.id, now);
        let user = session.user;
        self.note(user, || Op::Send {
            c: send.conversation,
            id: Id(send.id.0),
            n: send.number,
            again: send.retry,
        });
        self.write(at, &frame);
    }

    /// Everything without an answer once more, in its order; `all`: also what was never sent, as after a reconnect.
    pub(super) fn put_again(&mut self, at: u32, all: bool) {
        let sends = self.sessions[at as usize].in_flight.clone();
        for send in sends.iter().filter(|send| all || send.retry) {
            self.put(at, send);
        }
    }

    /// One frame as one message.
    pub(super) fn write(&mut self, at: u32, frame: &ClientFrame) {
        let mut message = Vec::new();
        frame.encode(&mut message);
        let acknowledged = match frame {
            ClientFrame::Ack(ack) => Some(ack.offset),
            ClientFrame::Ping(ping) => ping.offset,
            _ => None,
        };
        if let Some(off) = acknowledged {
            self.note(self.sessions[at as usize].user, || Op::Ack { off });
        }
        let session = &mut self.sessions[at as usize];
        if let Err(error) = session
            .link
            .send(&message, &mut self.scratch, &mut session.out)
        {
            return self.drop_connection(at, 0, &error.to_string());
        }
        self.flush(at);
    }

    /// Every live session sends once. Returns when the next one does.
    pub(super) fn warm(&mut self) -> u64 {
        let now = self.shared.now_ns();
        let interval = self.ramp_interval_ns();
        if self.next_warm_ns == 0 {
            self.next_warm_ns = now;
            self.to_warm = 0;
        }
        while self.next_warm_ns <= now {
            let Some(session) = self.sessions.get_mut(self.to_warm) else {
                return u64::MAX;
            };
            let at = u32::try_from(self.to_warm).unwrap_or(u32::MAX);
            self.to_warm += 1;
            if session.stage == Stage::Live && !session.warmth.asked {
                session.warmth.asked = true;
                let conversation = self.shared.plan.pair(session.user);
                self.message(at, conversation, now);
                self.next_warm_ns += interval;
            }
        }
        self.next_warm_ns
    }

    /// Pings a session that has sent and received, so that it has done all that it will do when idle.
    pub(super) fn warm_up(&mut self, at: u32) {
        let now_ms = self.now_ms();
        let session = &mut self.sessions[at as usize];
        let warmth = &mut session.warmth;
        if warmth.asked && warmth.answered && warmth.delivered && !warmth.pinged {
            warmth.pinged = true;
            let ping = session.ping(wall_ms(), now_ms);
            self.write(at, &ping);
        }
    }
}
