//! What a session makes of each frame of its client's.

use super::action::Action;
use super::session::{Now, Phase, Sent, Session, Settings, UserRates, charge};
use crate::codes::{CloseCode, ErrorCode};
use crate::frame::{Ack, ClientFrame, FrameError, FrameType, ServerFrame};
use crate::ids::{ChatId, ClientMsgId, Seq, UserId};
use crate::limits::{
    SENDS_IN_FLIGHT_MAX, SYNCS_IN_FLIGHT_MAX, TOKEN_BYTES_MAX, WATCH_CHATS_MAX, WATCH_USERS_MAX,
};
use crate::message::{MessageType, Send};
use crate::pb;
use bytes::Bytes;

/// Receipts, typing, watches and syncs per second, sustained and in a burst.
const SIGNALS_PER_SECOND: u32 = 50;
const SIGNALS_BURST: u32 = 400;
/// Frames refused for their rate, without an accepted one in between, before the session is closed.
const REFUSED_MAX: u16 = 200;
/// What each frame costs of the byte budget beside its bytes.
const FRAME_COST_BYTES: u32 = 64;
/// RFC 6455: normal closure.
const CLOSE_NORMAL: u16 = 1000;
impl Session {
    /// A frame of the client's. After a `Close` nothing more is done.
    pub fn frame(
        &mut self,
        settings: &Settings,
        rates: &mut UserRates,
        frame: ClientFrame,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        if self.closed {
            return;
        }
        charge(settings, rates, FRAME_COST_BYTES, now);
        match frame {
            ClientFrame::Hello(_) => {
                error(out, ErrorCode::HelloRepeated, FrameType::HELLO, 0);
                self.close(out, CloseCode::ProtocolError.number(), "a second Hello");
            }
            ClientFrame::Send(send) => self.send(settings, rates, send, now, out),
            ClientFrame::Ack(Ack { offset }) => self.ack(offset, FrameType::ACK, out),
            ClientFrame::Receipt(receipt) => self.receipt(&receipt, now, out),
            ClientFrame::Typing(typing) => self.typing(&typing, now, out),
            ClientFrame::Watch(watch) => self.watch(&watch, now, out),
            ClientFrame::Sync(sync) => self.sync(sync, now, out),
            ClientFrame::Ping(ping) => {
                if let Some(offset) = ping.offset {
                    self.ack(offset, FrameType::PING, out);
                }
                out.push(Action::Pong {
                    client_time_ms: ping.client_time_ms,
                });
            }
            ClientFrame::RefreshToken(refresh) => {
                if refresh.token.len() > TOKEN_BYTES_MAX {
                    error(out, ErrorCode::Unauthenticated, FrameType::REFRESH_TOKEN, 0);
                } else if let Err(wait) = self.signal(now) {
                    self.limited(FrameType::REFRESH_TOKEN, wait, out);
                } else {
                    out.push(Action::VerifyToken(refresh.token));
                }
            }
            ClientFrame::Bye(_) => self.close(out, CLOSE_NORMAL, ""),
            ClientFrame::Unknown(_) => {}
        }
    }

    /// Bytes that are no frame.
    pub fn malformed(&mut self, fault: &FrameError, frame_type: FrameType, out: &mut Vec<Action>) {
        if self.closed {
            return;
        }
        out.push(reply(ServerFrame::Error(pb::Error {
            code: u32::from(fault.code().number()),
            text: fault.to_string(),
            frame_type: u32::from(frame_type.0),
            ..pb::Error::default()
        })));
        if let Some(code) = fault.close() {
            self.close(out, code.number(), code.name());
        }
    }

    /// The fresh token was good.
    pub fn token_accepted(&mut self, expires_ms: u64, out: &mut Vec<Action>) {
        self.token_expires_ms = expires_ms;
        out.push(reply(ServerFrame::TokenAccepted(pb::TokenAccepted {
            expires_at_ms: expires_ms,
        })));
    }

    /// The fresh token was refused; the session lives on its old one until that expires.
    pub fn token_refused(&mut self, code: ErrorCode, out: &mut Vec<Action>) {
        error(out, code, FrameType::REFRESH_TOKEN, 0);
    }

    fn send(
        &mut self,
        settings: &Settings,
        rates: &mut UserRates,
        send: Send,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        let id = send.client_msg_id;
        let refuse = |code, text: &str, retry_after_ms| {
            let chat = &send.chat;
            reply(ServerFrame::SendResult(refusal(
                id,
                chat,
                code,
                text,
                retry_after_ms,
            )))
        };
        if !id.is_v7() {
            let text = "client_msg_id is no UUIDv7";
            out.push(refuse(ErrorCode::BadClientMsgId, text, 0));
            return;
        }
        if send.message_type == MessageType::MEMBERSHIP {
            let text = "membership messages are written by the server alone";
            out.push(refuse(ErrorCode::Forbidden, text, 0));
            return;
        }
        let known = self.in_flight(&id);
        if !known && self.sends_in_flight() >= SENDS_IN_FLIGHT_MAX {
            let text = "too many sends without a result";
            out.push(refuse(ErrorCode::TooManyInFlight, text, 1_000));
            self.refused(out);
            return;
        }
        let (per_second, burst) = (settings.sends_per_second, settings.sends_burst);
        if let Err(wait) = rates.sends.take(1, per_second, burst, now.ms) {
            out.push(refuse(ErrorCode::RateLimited, "too many sends", wait));
            self.refused(out);
            return;
        }
        self.refused = 0;
        if !known {
            let waiting = self.waiting.get_or_insert_default();
            waiting.sends.push(Sent::new(id));
        }
        out.push(Action::Append(Box::new(send)));
    }

    fn ack(&mut self, offset: u64, frame_type: FrameType, out: &mut Vec<Action>) {
        if offset == Ack::ADOPT {
            self.adopt(out);
            return;
        }
        if offset == 0 && self.position == 0 {
            // An answer of the edge itself says 0, which a client may take for a place; it acknowledges nothing.
            return;
        }
        if offset >= self.position {
            error(out, ErrorCode::AckAhead, frame_type, 0);
            let code = CloseCode::AckAhead;
            self.close(out, code.number(), "an ack of what was not sent");
            return;
        }
        if offset < self.acked || self.phase == Phase::Syncing {
            return;
        }
        self.acked = offset + 1;
        let from = out.len();
        if let Some(waiting) = &mut self.waiting {
            let each = |chat, seq| delivered(out, from, chat, seq);
            waiting.window.ack(offset, each);
        }
        out.push(Action::Cursor { offset });
    }

    fn adopt(&mut self, out: &mut Vec<Action>) {
        if self.phase != Phase::Syncing {
            return;
        }
        self.phase = Phase::Behind;
        self.owes_caught_up = true;
        if let Some(offset) = self.position.checked_sub(1) {
            out.push(Action::Cursor { offset });
        }
    }

    fn receipt(&mut self, receipt: &pb::Receipt, now: Now, out: &mut Vec<Action>) {
        if let Err(wait) = self.signal(now) {
            return self.limited(FrameType::RECEIPT, wait, out);
        }
        match ChatId::new(&receipt.chat) {
            Ok(chat) => out.push(Action::Receipt {
                chat,
                delivered: Seq(receipt.delivered_seq),
                read: Seq(receipt.read_seq),
            }),
            Err(_) => error(out, ErrorCode::BadId, FrameType::RECEIPT, 0),
        }
    }

    fn typing(&mut self, typing: &pb::Typing, now: Now, out: &mut Vec<Action>) {
        if let Err(wait) = self.signal(now) {
            return self.limited(FrameType::TYPING, wait, out);
        }
        match ChatId::new(&typing.chat) {
            Ok(chat) => out.push(Action::Typing {
                chat,
                stopped: typing.stopped,
            }),
            Err(_) => error(out, ErrorCode::BadId, FrameType::TYPING, 0),
        }
    }

    fn watch(&mut self, watch: &pb::Watch, now: Now, out: &mut Vec<Action>) {
        if let Err(wait) = self.signal(now) {
            return self.limited(FrameType::WATCH, wait, out);
        }
        if watch.users.len() > WATCH_USERS_MAX || watch.chats.len() > WATCH_CHATS_MAX {
            return error(out, ErrorCode::TooMany, FrameType::WATCH, 0);
        }
        let users: Result<Vec<_>, _> = watch.users.iter().map(|u| UserId::new(u)).collect();
        let chats: Result<Vec<_>, _> = watch.chats.iter().map(|c| ChatId::new(c)).collect();
        match (users, chats) {
            (Ok(users), Ok(chats)) => out.push(Action::Watch { users, chats }),
            _ => error(out, ErrorCode::BadId, FrameType::WATCH, 0),
        }
    }

    fn sync(&mut self, sync: pb::Sync, now: Now, out: &mut Vec<Action>) {
        let refused = if usize::from(self.syncs) >= SYNCS_IN_FLIGHT_MAX {
            Some((ErrorCode::TooMany, "too many syncs without a page"))
        } else if self.signal(now).is_err() {
            Some((ErrorCode::RateLimited, "too many requests"))
        } else {
            None
        };
        let Some((code, text)) = refused else {
            self.syncs += 1;
            out.push(Action::Sync(sync));
            return;
        };
        out.push(reply(ServerFrame::SyncPage(pb::SyncPage {
            sync_id: sync.sync_id,
            chat: sync.chat,
            error: u32::from(code.number()),
            text: text.to_owned(),
            ..pb::SyncPage::default()
        })));
        self.refused(out);
    }

    fn signal(&mut self, now: Now) -> Result<(), u32> {
        self.signals
            .take(1, SIGNALS_PER_SECOND, SIGNALS_BURST, now.ms)
    }

    fn limited(&mut self, frame_type: FrameType, wait_ms: u32, out: &mut Vec<Action>) {
        error(out, ErrorCode::RateLimited, frame_type, wait_ms);
        self.refused(out);
    }

    /// One more frame was refused for its rate: somebody who does not listen is closed.
    fn refused(&mut self, out: &mut Vec<Action>) {
        self.refused += 1;
        if self.refused >= REFUSED_MAX {
            let code = CloseCode::RateLimited;
            self.close(out, code.number(), "far above the rate limit");
        }
    }
}

/// Says that everything of a chat is delivered up to here, in the action that says so of it already if there is one from `from`
/// on. A window spans few chats; at worst 256 short comparisons each.
fn delivered(out: &mut Vec<Action>, from: usize, of: ChatId, up_to: Seq) {
    let said = out[from..].iter_mut().find_map(|action| match action {
        Action::Delivered { chat, seq } if *chat == of => Some(seq),
        _ => None,
    });
    match said {
        Some(seq) => *seq = up_to.max(*seq),
        None => out.push(Action::Delivered {
            chat: of,
            seq: up_to,
        }),
    }
}

/// The SendResult of a Send that the edge itself refuses.
#[must_use]
pub fn refusal(
    id: ClientMsgId,
    chat: &ChatId,
    code: ErrorCode,
    text: &str,
    retry_after_ms: u32,
) -> pb::SendResult {
    pb::SendResult {
        client_msg_id: Bytes::copy_from_slice(&id.0),
        chat: chat.as_str().to_owned(),
        error: u32::from(code.number()),
        text: text.to_owned(),
        retry_after_ms,
        ..pb::SendResult::default()
    }
}

pub(super) fn reply(frame: ServerFrame) -> Action {
    Action::Reply(Box::new(frame))
}

pub(super) fn error(
    out: &mut Vec<Action>,
    code: ErrorCode,
    frame_type: FrameType,
    retry_after_ms: u32,
) {
    out.push(reply(ServerFrame::Error(pb::Error {
        code: u32::from(code.number()),
        text: text_of(code).to_owned(),
        retry_after_ms,
        frame_type: u32::from(frame_type.0),
        ..pb::Error::default()
    })));
}

fn text_of(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::HelloRepeated => "a session has one Hello",
        ErrorCode::AckAhead => "an ack of what was not sent",
        ErrorCode::BadId => "an id has a form that is not allowed",
        ErrorCode::TooMany => "more elements than allowed",
        ErrorCode::RateLimited => "above the rate limit",
        ErrorCode::TokenExpired => "the token expired",
        other => other.name(),
    }
}
