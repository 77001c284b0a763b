//! One session of one device, as its owner core holds it.

use super::action::Action;
use super::rate::Rate;
use super::window::Window;
use crate::codes::{CloseCode, ErrorCode};
use crate::frame::{Ack, ClientFrame, FrameError, FrameType, ServerFrame};
use crate::ids::{ChatId, ClientMsgId, Seq, UserId};
use crate::limits::{
    HEARTBEAT_MS_MAX, HEARTBEAT_MS_MIN, SENDS_IN_FLIGHT_MAX, SYNCS_IN_FLIGHT_MAX, TOKEN_BYTES_MAX,
    WATCH_CHATS_MAX, WATCH_USERS_MAX,
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
/// A burst of bytes is so many seconds' worth.
const BYTES_BURST_SECONDS: u32 = 4;
/// A clock that jumps is noticed within this, milliseconds.
const LOOK_MS: u64 = 60_000;
/// RFC 6455: normal closure.
const CLOSE_NORMAL: u16 = 1000;

/// Both clocks, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Monotonic; for timers and rates.
    pub ms: u64,
    /// Since 1970; for tokens. May jump.
    pub wall_ms: u64,
}

/// What all sessions of a node have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Ping interval when the client wishes none, milliseconds.
    pub heartbeat_ms: u64,
    /// Unacknowledged frames before a session is behind.
    pub window_frames: usize,
    /// Unacknowledged bytes before a session is behind.
    pub window_bytes: usize,
    /// Sends per second, sustained.
    pub sends_per_second: u32,
    /// Sends in a burst.
    pub sends_burst: u32,
    /// Bytes per second, sustained; the burst is four seconds' worth.
    pub bytes_per_second: u32,
}

/// Where a session begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Resumed: the next delivery offset that the client lacks.
    Resumed(u64),
    /// Not recovered, at the head: the client syncs and then adopts it.
    Head(u64),
    /// Not recovered, at the head, which the client adopts at once (`live_only`).
    Live(u64),
}

/// What to do with a record that has just come for this session's user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// Send it, then [`Session::delivered`].
    Send,
    /// Not now: the session is (or has just become) behind, and will read it from the log.
    Later,
    /// It had it before.
    Old,
    /// The client has not adopted the head: only the results of its own sends go out, without offset.
    Syncing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Syncing,
    Behind,
    Live,
}

/// One session. Some 130 bytes while idle; a window and the ids in flight exist only while there are any.
#[derive(Debug)]
pub struct Session {
    window: Option<Box<Window>>,
    in_flight: Vec<ClientMsgId>,
    /// Next delivery offset to be sent.
    position: u64,
    /// Everything below is acknowledged.
    acked: u64,
    sends: Rate,
    bytes: Rate,
    signals: Rate,
    heard_ms: u64,
    token_expires_ms: u64,
    heartbeat_ms: u32,
    refused: u16,
    syncs: u8,
    phase: Phase,
    owes_caught_up: bool,
    closed: bool,
}

const _: () = assert!(size_of::<Session>() <= 112);

impl Session {
    /// A session whose Hello was accepted; the Welcome is the driver's to send.
    #[must_use]
    pub fn new(
        settings: &Settings,
        start: Start,
        heartbeat_ms: u32,
        token_expires_ms: u64,
        now: Now,
    ) -> Self {
        let (position, phase) = match start {
            Start::Resumed(from) => (from, Phase::Behind),
            Start::Head(head) => (head, Phase::Syncing),
            Start::Live(head) => (head, Phase::Behind),
        };
        let wished = match heartbeat_ms {
            0 => settings.heartbeat_ms,
            wished => u64::from(wished),
        };
        let heartbeat_ms = wished.clamp(HEARTBEAT_MS_MIN, HEARTBEAT_MS_MAX);
        Self {
            window: None,
            in_flight: Vec::new(),
            position,
            acked: position,
            sends: Rate::default(),
            bytes: Rate::default(),
            signals: Rate::default(),
            heard_ms: now.ms,
            token_expires_ms,
            heartbeat_ms: u32::try_from(heartbeat_ms).unwrap_or(u32::MAX),
            refused: 0,
            syncs: 0,
            phase,
            owes_caught_up: phase == Phase::Behind,
            closed: false,
        }
    }

    // ---- from the client ----

    /// Notes bytes of the client's, frames or not. Returns the milliseconds for which nothing more
    /// should be received: the client is above its byte rate.
    pub fn heard(&mut self, settings: &Settings, bytes: usize, now: Now) -> u32 {
        self.heard_ms = now.ms;
        let cost = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.charge(settings, cost, now)
    }

    /// A frame of the client's. After a `Close` nothing more is done.
    pub fn frame(
        &mut self,
        settings: &Settings,
        frame: ClientFrame,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        if self.closed {
            return;
        }
        self.charge(settings, FRAME_COST_BYTES, now);
        match frame {
            ClientFrame::Hello(_) => {
                error(out, ErrorCode::HelloRepeated, FrameType::HELLO, 0);
                self.close(out, CloseCode::ProtocolError.number(), "a second Hello");
            }
            ClientFrame::Send(send) => self.send(settings, send, now, out),
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

    /// The page of a Sync goes out.
    pub fn synced(&mut self) {
        self.syncs = self.syncs.saturating_sub(1);
    }

    /// The log has a Send: the `Queued` to tell it, unless its result has gone already.
    #[must_use]
    pub fn queued(&self, id: ClientMsgId) -> Option<ServerFrame> {
        self.in_flight.contains(&id).then(|| {
            ServerFrame::Queued(pb::Queued {
                client_msg_id: Bytes::copy_from_slice(&id.0),
            })
        })
    }

    /// A Send has its final answer, from the log or from the edge.
    pub fn answered(&mut self, id: ClientMsgId) {
        self.in_flight.retain(|known| *known != id);
        if self.in_flight.is_empty() {
            self.in_flight = Vec::new();
        }
    }

    // ---- to the client ----

    /// Where to read the log for this session now; `None`: it is live, waits for acks, or must
    /// adopt the head first.
    #[must_use]
    pub fn reading(&self, settings: &Settings) -> Option<u64> {
        let reads = self.phase == Phase::Behind && !self.closed && self.has_room(settings);
        reads.then_some(self.position)
    }

    /// A record for this session's user has come, at `offset`. `room`: its connection takes more.
    pub fn offer(&mut self, settings: &Settings, offset: u64, room: bool) -> Offer {
        match self.phase {
            _ if offset < self.position || self.closed => Offer::Old,
            Phase::Syncing => Offer::Syncing,
            Phase::Behind => Offer::Later,
            Phase::Live if room && self.has_room(settings) => Offer::Send,
            Phase::Live => {
                self.phase = Phase::Behind;
                self.position = offset;
                Offer::Later
            }
        }
    }

    /// A frame with this offset goes out, of so many bytes. `message`: chat and seq, where an ack
    /// of it means "delivered".
    pub fn delivered(&mut self, offset: u64, bytes: usize, message: Option<(ChatId, Seq)>) {
        self.position = self.position.max(offset.saturating_add(1));
        let window = self.window.get_or_insert_default();
        window.push(offset, bytes, message);
    }

    /// Nothing below `offset` is for this session; reading goes on there.
    pub fn skip_to(&mut self, offset: u64) {
        if self.phase == Phase::Behind {
            self.position = self.position.max(offset);
        }
    }

    /// Reading has come to the end of the log, before `offset`: live from here on. Returns the
    /// offset for a CaughtUp, once after a resume or an adoption.
    pub fn at_end(&mut self, offset: u64) -> Option<u64> {
        if self.phase != Phase::Behind {
            return None;
        }
        self.position = self.position.max(offset);
        self.phase = Phase::Live;
        std::mem::take(&mut self.owes_caught_up).then_some(self.position)
    }

    /// Whether what goes out now comes before its CaughtUp.
    #[must_use]
    pub fn replaying(&self) -> bool {
        self.owes_caught_up
    }

    /// Whether it is behind, or has not adopted the head.
    #[must_use]
    pub fn lagging(&self) -> bool {
        self.phase != Phase::Live
    }

    /// Whether the client still has to adopt the head.
    #[must_use]
    pub fn syncing(&self) -> bool {
        self.phase == Phase::Syncing
    }

    /// Next delivery offset to be sent.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Ping interval that was agreed on, milliseconds.
    #[must_use]
    pub fn heartbeat_ms(&self) -> u32 {
        self.heartbeat_ms
    }

    /// Sends without a result.
    #[must_use]
    pub fn sends_in_flight(&self) -> usize {
        self.in_flight.len()
    }

    // ---- time ----

    /// When [`Session::timeout`] has something to look at, in monotonic time; a spurious call is
    /// harmless.
    #[must_use]
    pub fn next_timeout(&self, now: Now) -> u64 {
        let token_in = self.token_expires_ms.saturating_sub(now.wall_ms);
        self.idle_at()
            .min(now.ms.saturating_add(token_in))
            .min(now.ms + LOOK_MS)
            .max(now.ms + 1)
    }

    /// Closes what has been silent for one and a half heartbeats, or whose token has expired.
    pub fn timeout(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.closed {
            return;
        }
        if now.wall_ms >= self.token_expires_ms {
            error(out, ErrorCode::TokenExpired, FrameType::HELLO, 0);
            self.close(out, CloseCode::TokenExpired.number(), "the token expired");
        } else if now.ms >= self.idle_at() {
            self.close(out, CloseCode::IdleTimeout.number(), "no heartbeat");
        }
    }

    /// The node drains: the client is to open its next session at `url`, at its slot.
    pub fn drain(&self, url: &str, slot_ms: u32, deadline_ms: u32, out: &mut Vec<Action>) {
        if !self.closed {
            out.push(reply(ServerFrame::Relocate(pb::Relocate {
                url: url.to_owned(),
                slot_ms,
                deadline_ms,
            })));
        }
    }

    /// Ends it, for the driver's reason.
    pub fn end(&mut self, code: CloseCode, out: &mut Vec<Action>) {
        if !self.closed {
            self.close(out, code.number(), code.name());
        }
    }

    // ---- one frame each ----

    fn send(&mut self, settings: &Settings, send: Send, now: Now, out: &mut Vec<Action>) {
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
        let known = self.in_flight.contains(&id);
        if !known && self.in_flight.len() >= SENDS_IN_FLIGHT_MAX {
            let text = "too many sends without a result";
            out.push(refuse(ErrorCode::TooManyInFlight, text, 1_000));
            self.refused(out);
            return;
        }
        let (per_second, burst) = (settings.sends_per_second, settings.sends_burst);
        if let Err(wait) = self.sends.take(1, per_second, burst, now.ms) {
            out.push(refuse(ErrorCode::RateLimited, "too many sends", wait));
            self.refused(out);
            return;
        }
        self.refused = 0;
        if !known {
            self.in_flight.push(id);
        }
        out.push(Action::Append(Box::new(send)));
    }

    fn ack(&mut self, offset: u64, frame_type: FrameType, out: &mut Vec<Action>) {
        if offset == Ack::ADOPT {
            self.adopt(out);
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
        if let Some(window) = &mut self.window {
            window.ack(offset, |chat, seq| {
                out.push(Action::Delivered { chat, seq });
            });
            if window.is_empty() {
                self.window = None;
            }
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

    // ---- private ----

    fn has_room(&self, settings: &Settings) -> bool {
        self.window.as_ref().is_none_or(|window| {
            window.frames() < settings.window_frames && window.bytes() < settings.window_bytes
        })
    }

    fn charge(&mut self, settings: &Settings, bytes: u32, now: Now) -> u32 {
        let per_second = settings.bytes_per_second;
        let burst = per_second.saturating_mul(BYTES_BURST_SECONDS);
        self.bytes.force(bytes, per_second, burst, now.ms)
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

    fn close(&mut self, out: &mut Vec<Action>, code: u16, reason: &'static str) {
        self.closed = true;
        out.push(Action::Close { code, reason });
    }

    fn idle_at(&self) -> u64 {
        self.heard_ms + u64::from(self.heartbeat_ms) * 3 / 2
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

fn reply(frame: ServerFrame) -> Action {
    Action::Reply(Box::new(frame))
}

fn error(out: &mut Vec<Action>, code: ErrorCode, frame_type: FrameType, retry_after_ms: u32) {
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
