//! The session: what the application asks for, and when something is due. Frames are handled in
//! `frames`, the disk and acks in `disk`, connections and tokens in `links`.

mod disk;
mod frames;
mod links;

use self::disk::Disk;
use self::links::{Link, LinkState, Token};
use super::inbox::Inbox;
use super::line::CursorLine;
use super::outbox::{Outbox, SubmitError};
use super::receipts::Receipts;
use super::sync::ChatSync;
use super::types::{Config, Effect, Now, PendingSend, Phase, Position, Saved};
use super::{Backoff, Chance};
use crate::frame::ClientFrame;
use crate::ids::{ChatId, ClientMsgId, Seq};
use crate::limits::{HEARTBEAT_MS_DEFAULT, WATCH_CHATS_MAX, WATCH_USERS_MAX};
use crate::message::MessageType;
use crate::pb;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

/// A peer that is alive answers a Ping within this, milliseconds.
const PONG_MS: u64 = 10_000;
/// After a change of network it must answer sooner, milliseconds.
const PROBE_MS: u64 = 4_000;
/// Typing is told at most this often per chat, milliseconds (it expires after 5 s).
const TYPING_EVERY_MS: u64 = 3_000;
/// The list of chats is fetched this long after something may have changed it, milliseconds.
const LIST_REFRESH_MS: u64 = 150;

/// One device's session. Every call takes the present instant, does bounded work and leaves
/// effects to be polled; a call that comes too early, too late or twice does nothing.
#[derive(Debug)]
pub struct Session {
    config: Config,
    chance: Chance,
    effects: VecDeque<Effect>,
    phase: Phase,
    wanted: bool,
    backoff: Backoff,
    retry_at_ms: Option<u64>,
    /// The server's wish in the last Error that answered no request, milliseconds.
    retry_after_ms: u64,
    url: String,
    /// Redirects followed since a Welcome.
    redirects: u32,
    /// Where a Redirect led could not be reached: the next Hello asks to be served where it is.
    stays: bool,

    last_link: u32,
    link: Option<Link>,
    /// The link that shall take over (Relocate): opened before the old one is closed.
    next_link: Option<Link>,
    relocate: Option<(u64, String)>,
    live: bool,
    stable_at_ms: Option<u64>,
    displaced_at_ms: Option<u64>,
    last_problem: String,

    token: Option<Token>,
    fetching_token: bool,
    refresh_at_ms: Option<u64>,
    skew_ms: i64,

    inbox: Inbox,
    outbox: Outbox,
    receipts: Receipts,
    sync: ChatSync,
    disk: Disk,

    heartbeat_ms: u64,
    ping_at_ms: Option<u64>,
    pong_by_ms: Option<u64>,
    list_refresh_at_ms: Option<u64>,
    watch: pb::Watch,
    typing_at_ms: BTreeMap<ChatId, u64>,
}

impl Session {
    /// A session of what the disk holds; it does nothing before [`Session::start`]. The seed is
    /// for jitter and ids.
    #[must_use]
    pub fn new(config: Config, seed: u64, saved: Saved) -> Self {
        let (next, resume_token) = match saved.position {
            Some(Position::At { next, resume_token }) => (next, Some(resume_token)),
            Some(Position::SyncingFrom(_)) | None => (0, None),
        };
        Self {
            url: config.url.clone(),
            config,
            chance: Chance::new(seed),
            effects: VecDeque::new(),
            phase: Phase::Stopped,
            wanted: false,
            backoff: Backoff::default(),
            retry_at_ms: None,
            retry_after_ms: 0,
            redirects: 0,
            stays: false,
            last_link: 0,
            link: None,
            next_link: None,
            relocate: None,
            live: false,
            stable_at_ms: None,
            displaced_at_ms: None,
            last_problem: String::new(),
            token: None,
            fetching_token: false,
            refresh_at_ms: None,
            skew_ms: saved.skew_ms,
            inbox: Inbox::new(saved.tracks, CursorLine::new(next)),
            outbox: Outbox::new(saved.pending),
            receipts: Receipts::new(saved.unconfirmed_reads),
            sync: ChatSync::default(),
            disk: Disk::new(resume_token),
            heartbeat_ms: HEARTBEAT_MS_DEFAULT,
            ping_at_ms: None,
            pong_by_ms: None,
            list_refresh_at_ms: None,
            watch: pb::Watch::default(),
            typing_at_ms: BTreeMap::new(),
        }
    }

    // ---- what the application asks for ----

    /// Connects, and stays connected until [`Session::stop`] or a refusal for good.
    pub fn start(&mut self, now: Now) {
        if self.wanted {
            return;
        }
        self.wanted = true;
        self.displaced_at_ms = None;
        self.backoff.reset();
        self.connect(now);
        self.finish(now);
    }

    /// Says Bye and closes.
    pub fn stop(&mut self, now: Now) {
        self.wanted = false;
        self.retry_at_ms = None;
        for link in [self.link.take(), self.next_link.take()]
            .into_iter()
            .flatten()
        {
            if link.state == LinkState::Welcomed {
                let reason = "stop".to_owned();
                self.transmit_on(link.id, ClientFrame::Bye(pb::Bye { reason }));
            }
            self.close(link.id, 1000, "bye");
        }
        self.drop_links();
        self.set_phase(Phase::Stopped);
        self.finish(now);
    }

    /// Accepts a message; it leaves once it is on the disk and the session is live.
    ///
    /// # Errors
    /// See [`SubmitError`]: the caller's fault.
    pub fn submit(
        &mut self,
        chat: ChatId,
        message_type: MessageType,
        body: Bytes,
        now: Now,
    ) -> Result<PendingSend, SubmitError> {
        let id = self.new_id(now);
        let send = self.outbox.add(id, chat, message_type, body, now.wall_ms)?;
        self.disk.batch.pending_put.push(send.clone());
        self.finish(now);
        Ok(send)
    }

    /// Gives up a message that was refused or has never been answered.
    pub fn discard(&mut self, id: ClientMsgId, now: Now) {
        self.outbox.discard(&id);
        self.disk.batch.pending_delete.push(id);
        self.finish(now);
    }

    /// The user has seen the chat up to a message.
    pub fn read(&mut self, chat: &ChatId, seq: Seq, now: Now) {
        if self.receipts.note(chat, Seq::NONE, seq, now.ms) {
            self.disk.batch.reads.insert(chat.clone(), seq);
        }
        self.finish(now);
    }

    /// The user types, or has stopped to; told at most every 3 s, and only while live.
    pub fn typing(&mut self, chat: &ChatId, stopped: bool, now: Now) {
        let last = self.typing_at_ms.get(chat).copied();
        let repeats = last.is_some_and(|at| now.ms < at + TYPING_EVERY_MS);
        let nothing_new = if stopped { last.is_none() } else { repeats };
        if !self.live || nothing_new {
            return;
        }
        if stopped {
            self.typing_at_ms.remove(chat);
        } else {
            self.typing_at_ms.insert(chat.clone(), now.ms);
        }
        let chat = chat.to_string();
        self.transmit(ClientFrame::Typing(pb::Typing { chat, stopped }));
        self.finish(now);
    }

    /// Whose presence and which chats' typing to be told of; sent again after every Welcome. What
    /// is above the bounds of a Watch is left out.
    pub fn set_watch(&mut self, mut users: Vec<String>, mut chats: Vec<String>, now: Now) {
        users.truncate(WATCH_USERS_MAX);
        chats.truncate(WATCH_CHATS_MAX);
        let watch = pb::Watch { users, chats };
        if watch == self.watch {
            return;
        }
        self.watch = watch.clone();
        if self.welcomed() {
            self.transmit(ClientFrame::Watch(watch));
        }
        self.finish(now);
    }

    /// Asks for messages below an ordinal (0: the newest); answered by [`Effect::History`].
    pub fn history(&mut self, chat: &ChatId, before_ordinal: u64, limit: u32, now: Now) {
        self.sync.history(chat, before_ordinal, limit);
        self.finish(now);
    }

    /// The list of chats may have changed (a group was made over HTTP).
    pub fn refresh_chats(&mut self, now: Now) {
        self.refresh_list_soon(now);
        self.finish(now);
    }

    /// The machine says that the network is back, or the user looks: check at once.
    pub fn nudge(&mut self, now: Now) {
        if matches!(self.phase, Phase::Waiting { .. }) {
            self.retry_at_ms = None;
            self.connect(now);
        } else if self.welcomed() && self.pong_by_ms.is_none() {
            self.ping(now, PROBE_MS);
        }
        self.finish(now);
    }

    // ---- time ----

    /// Does what is due; a spurious call does nothing.
    pub fn handle_timeout(&mut self, now: Now) {
        let due = |at: Option<u64>| at.is_some_and(|at| now.ms >= at);
        if due(self.retry_at_ms) {
            self.retry_at_ms = None;
            self.connect(now);
        }
        for link in [self.link_deadline(), self.next_deadline()]
            .into_iter()
            .flatten()
        {
            if now.ms >= link.1 {
                self.abandon(link.0, now, "no answer");
            }
        }
        if due(self.pong_by_ms)
            && let Some(id) = self.link.as_ref().map(|link| link.id)
        {
            self.abandon(id, now, "no answer");
        }
        if due(self.ping_at_ms) {
            self.ping(now, PONG_MS);
        }
        if due(self.disk.ack_at_ms()) {
            self.ack();
        }
        if due(self.stable_at_ms) {
            self.stable_at_ms = None;
            self.backoff.reset();
        }
        if due(self.refresh_at_ms) {
            self.refresh_at_ms = None;
            self.fetch_token();
        }
        if due(self.relocate.as_ref().map(|(at, _)| *at)) {
            self.open_next(now);
        }
        self.finish(now);
    }

    /// When [`Session::handle_timeout`] wants to be called, on the clock of `Now::ms`; `None`: not
    /// before the next input.
    #[must_use]
    pub fn next_timeout_ms(&self) -> Option<u64> {
        let mut times = [
            self.retry_at_ms,
            self.link_deadline().map(|(_, at)| at),
            self.next_deadline().map(|(_, at)| at),
            self.ping_at_ms,
            self.pong_by_ms,
            self.disk.ack_at_ms(),
            self.stable_at_ms,
            self.refresh_at_ms,
            self.relocate.as_ref().map(|(at, _)| *at),
            None,
            None,
            None,
            None,
        ];
        if self.welcomed() {
            times[9] = self.list_refresh_at_ms;
            times[10] = self.sync.next_due_ms();
            times[11] = self.receipts.due_ms();
        }
        if self.live {
            times[12] = self.outbox.next_due_ms();
        }
        times.into_iter().flatten().min()
    }

    // ---- what comes out ----

    /// The next thing that the driver shall do, in order; `None`: nothing until the next input.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// What a user sees of the connection.
    #[must_use]
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Unsent messages that wait for an answer.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.outbox.len()
    }

    /// The server's clock, as far as it is known, milliseconds since 1970.
    #[must_use]
    pub fn server_ms(&self, now: Now) -> u64 {
        now.wall_ms.saturating_add_signed(self.skew_ms)
    }

    // ---- ends of every input ----

    fn finish(&mut self, now: Now) {
        // Not only when the disk reports: a replay may bring what it has already.
        self.plan_ack(now);
        if self.welcomed() {
            if self.list_refresh_at_ms.is_some_and(|at| now.ms >= at) {
                self.list_refresh_at_ms = None;
                self.sync.refresh_list();
            }
            for sync in self.sync.take_due(now.ms) {
                self.transmit(ClientFrame::Sync(sync));
            }
            for receipt in self.receipts.take_due(now.ms) {
                self.transmit(ClientFrame::Receipt(receipt));
            }
        }
        if self.live {
            for send in self.outbox.take_due(now.ms) {
                self.transmit(ClientFrame::Send(send));
            }
        }
        self.flush_batch();
    }

    fn transmit(&mut self, frame: ClientFrame) {
        if let Some(link) = self.link.as_ref().map(|link| link.id) {
            self.transmit_on(link, frame);
        }
    }

    fn transmit_on(&mut self, link: u32, frame: ClientFrame) {
        let frame = Box::new(frame);
        self.effects.push_back(Effect::Transmit { link, frame });
    }

    fn close(&mut self, link: u32, code: u16, reason: &'static str) {
        self.effects.push_back(Effect::Close { link, code, reason });
    }

    fn set_phase(&mut self, phase: Phase) {
        if phase != self.phase {
            self.phase = phase.clone();
            self.effects.push_back(Effect::Phase(phase));
        }
    }

    fn new_id(&mut self, now: Now) -> ClientMsgId {
        ClientMsgId::new(self.server_ms(now), self.chance.id_bytes())
    }

    fn refresh_list_soon(&mut self, now: Now) {
        self.list_refresh_at_ms
            .get_or_insert(now.ms + LIST_REFRESH_MS);
    }
}
