//! One session of one device, as its owner core holds it.

use super::action::Action;
use super::frames::{error, reply};
use super::rate::Rate;
use super::window::{SpareWindows, Window};
use crate::codes::{CloseCode, ErrorCode};
use crate::frame::{FrameType, ServerFrame};
use crate::ids::{ChatId, ClientMsgId, Seq};
use crate::lanes::Lanes;
use crate::limits::{HEARTBEAT_MS_MAX, HEARTBEAT_MS_MIN};
use crate::pb;
use bytes::Bytes;

/// A burst of bytes is so many seconds' worth.
const BYTES_BURST_SECONDS: u32 = 4;
/// A clock that jumps is noticed within this, milliseconds.
const LOOK_MS: u64 = 60_000;

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
    /// Sends per second of one user, sustained.
    pub sends_per_second: u32,
    /// Sends in a burst.
    pub sends_burst: u32,
    /// Bytes per second of one user, sustained; the burst is four seconds' worth.
    pub bytes_per_second: u32,
}

/// What a user has spent of its rates, over all its sessions: whoever drives them keeps it, for longer than any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UserRates {
    pub(super) sends: Rate,
    pub(super) bytes: Rate,
}

impl UserRates {
    /// Of a user of whom nothing is known, who may have spent all elsewhere: a second's worth, not the burst.
    #[must_use]
    pub fn unknown(settings: &Settings, now_ms: u64) -> Self {
        let (sends, bytes) = (settings.sends_per_second, settings.bytes_per_second);
        let spent_bytes = bytes.saturating_mul(BYTES_BURST_SECONDS - 1);
        Self {
            sends: Rate::spent(settings.sends_burst.saturating_sub(sends), sends, now_ms),
            bytes: Rate::spent(spent_bytes, bytes, now_ms),
        }
    }

    /// Whether nothing is spent: it need not be kept.
    #[must_use]
    pub fn is_full(&self, now_ms: u64) -> bool {
        self.sends.is_full(now_ms) && self.bytes.is_full(now_ms)
    }
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
pub(super) enum Phase {
    Syncing,
    Behind,
    Live,
}

/// A Send without a result.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) id: ClientMsgId,
    /// It went to a group's own lane, from where ingest may have to send it on.
    own_lane: bool,
}

impl Sent {
    pub(super) fn new(id: ClientMsgId) -> Self {
        Self {
            id,
            own_lane: false,
        }
    }
}

/// What waits for the other side: frames for an ack, Sends for a result.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) window: Window,
    pub(super) sends: Vec<Sent>,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.window.is_empty() && self.sends.is_empty()
    }
}

/// One session. At most 72 bytes while idle; what waits exists only while there is any, and until it is taken back
/// ([`Session::return_window`]).
#[derive(Debug)]
pub struct Session {
    pub(super) waiting: Option<Box<Waiting>>,
    /// Next delivery offset to be sent.
    pub(super) position: u64,
    /// Everything below is acknowledged.
    pub(super) acked: u64,
    pub(super) signals: Rate,
    pub(super) heard_ms: u64,
    pub(super) token_expires_ms: u64,
    pub(super) heartbeat_ms: u32,
    pub(super) refused: u16,
    pub(super) syncs: u8,
    pub(super) phase: Phase,
    pub(super) owes_caught_up: bool,
    pub(super) closed: bool,
}

const _: () = assert!(size_of::<Session>() <= 72);

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
            waiting: None,
            position,
            acked: position,
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
    /// should be received: the user is above its byte rate.
    pub fn heard(
        &mut self,
        settings: &Settings,
        rates: &mut UserRates,
        bytes: usize,
        now: Now,
    ) -> u32 {
        self.heard_ms = now.ms;
        let cost = u32::try_from(bytes).unwrap_or(u32::MAX);
        charge(settings, rates, cost, now)
    }

    /// The page of a Sync goes out.
    pub fn synced(&mut self) {
        self.syncs = self.syncs.saturating_sub(1);
    }

    /// The log has a Send: the `Queued` to tell it, unless its result has gone already.
    #[must_use]
    pub fn queued(&self, id: ClientMsgId) -> Option<ServerFrame> {
        self.in_flight(&id).then(|| {
            ServerFrame::Queued(pb::Queued {
                client_msg_id: Bytes::copy_from_slice(&id.0),
            })
        })
    }

    /// A Send has its final answer, from the log or from the edge.
    pub fn answered(&mut self, id: ClientMsgId) {
        if let Some(waiting) = &mut self.waiting {
            waiting.sends.retain(|known| known.id != id);
        }
    }

    /// The lane that a Send to a group goes to; `lanes`: how the group is spread, where this node knows of it. It is
    /// the message's own, unless an earlier one of the same lane went to the group's own and has no result yet: then
    /// this one takes the same way, or it would overtake that one, which ingest is about to send on.
    pub fn lane(&mut self, id: &ClientMsgId, lanes: Option<&Lanes>) -> u8 {
        let right = lanes.map_or(0, |lanes| lanes.of(id));
        let of = |sent: &Sent| lanes.map_or(0, |lanes| lanes.of(&sent.id));
        let Some(waiting) = &mut self.waiting else {
            return right;
        };
        let mut earlier = waiting.sends.iter().filter(|sent| sent.id != *id);
        let lane = match earlier.any(|sent| sent.own_lane && of(sent) == right) {
            true => 0,
            false => right,
        };
        if let Some(sent) = waiting.sends.iter_mut().find(|sent| sent.id == *id) {
            sent.own_lane |= lane == 0;
        }
        lane
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
        let waiting = self.waiting.get_or_insert_default();
        waiting.window.push(offset, bytes, message);
    }

    /// The same, with a window from `spare` where it has none.
    pub fn delivered_with(
        &mut self,
        spare: &mut SpareWindows,
        offset: u64,
        bytes: usize,
        message: Option<(ChatId, Seq)>,
    ) {
        self.waiting.get_or_insert_with(|| spare.take());
        self.delivered(offset, bytes, message);
    }

    /// Gives its window to `spare` where nothing waits any more, neither for an ack nor for a result: to be called after a frame
    /// of the client's, and after a result.
    pub fn return_window(&mut self, spare: &mut SpareWindows) {
        if let Some(waiting) = self.waiting.take_if(|waiting| waiting.is_empty()) {
            spare.give(waiting);
        }
    }

    /// Nothing below `offset` is for this session; reading goes on there.
    pub fn skip_to(&mut self, offset: u64) {
        if self.phase == Phase::Behind {
            self.position = self.position.max(offset);
        }
    }

    /// Its records are read from another place from now on, where they have the same offsets: everything below `head` was
    /// offered to it, and what comes next it reads.
    pub fn read_anew(&mut self, head: u64) {
        if self.phase == Phase::Live {
            self.phase = Phase::Behind;
            self.position = self.position.max(head);
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

    /// Frames that were sent with an offset and are not acknowledged, and their bytes.
    #[must_use]
    pub fn unacknowledged(&self) -> (usize, usize) {
        let window = self.waiting.as_ref().map(|waiting| &waiting.window);
        window.map_or((0, 0), |window| (window.frames(), window.bytes()))
    }

    /// When the client last sent a byte, in monotonic time.
    #[must_use]
    pub fn heard_ms(&self) -> u64 {
        self.heard_ms
    }

    /// Ping interval that was agreed on, milliseconds.
    #[must_use]
    pub fn heartbeat_ms(&self) -> u32 {
        self.heartbeat_ms
    }

    /// Sends without a result.
    #[must_use]
    pub fn sends_in_flight(&self) -> usize {
        self.sends().len()
    }

    /// When the token expires, milliseconds since 1970.
    #[must_use]
    pub fn token_expires_ms(&self) -> u64 {
        self.token_expires_ms
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

    // ---- private ----

    pub(super) fn in_flight(&self, id: &ClientMsgId) -> bool {
        self.sends().iter().any(|sent| sent.id == *id)
    }

    fn sends(&self) -> &[Sent] {
        self.waiting.as_ref().map_or(&[], |waiting| &waiting.sends)
    }

    fn has_room(&self, settings: &Settings) -> bool {
        let (frames, bytes) = self.unacknowledged();
        frames < settings.window_frames && bytes < settings.window_bytes
    }

    pub(super) fn close(&mut self, out: &mut Vec<Action>, code: u16, reason: &'static str) {
        self.closed = true;
        out.push(Action::Close { code, reason });
    }

    fn idle_at(&self) -> u64 {
        self.heard_ms + u64::from(self.heartbeat_ms) * 3 / 2
    }
}

pub(super) fn charge(settings: &Settings, rates: &mut UserRates, bytes: u32, now: Now) -> u32 {
    let per_second = settings.bytes_per_second;
    let burst = per_second.saturating_mul(BYTES_BURST_SECONDS);
    rates.bytes.force(bytes, per_second, burst, now.ms)
}
