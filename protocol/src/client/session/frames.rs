//! What each frame of the server's does.

use super::Session;
use super::links::{LinkState, REDIRECTS_MAX};
use crate::client::outbox::Verdict;
use crate::client::syncer::may_retry;
use crate::client::types::{Effect, Mark, Now, PendingSend, Phase, Place, Refusal};
use crate::frame::{ClientFrame, DeliverFlags, FrameError, FrameType, ServerFrame, split};
use crate::ids::{ChatId, ClientMsgId, MessageId, Seq, UserId};
use crate::limits::HEARTBEAT_MS_DEFAULT;
use crate::message::{MessageRecord, MessageType};
use crate::pb;
use bytes::Bytes;

/// A connection this long live forgets earlier failures, milliseconds.
const STABLE_MS: u64 = 10_000;

/// Frames that wait behind a gap; many windows' worth, since an operator may widen those.
const LINE_MAX: usize = 16_384;

impl Session {
    /// One WebSocket message of `hawser.v1` has come: one or more frames.
    pub fn handle_message(&mut self, link: u32, mut message: Bytes, now: Now) {
        loop {
            let frame = match split(&mut message) {
                Ok(None) => break,
                Ok(Some(raw)) => ServerFrame::decode(&raw).map(|frame| (frame, raw.body.len())),
                Err(error) => Err(error),
            };
            let handled = frame.and_then(|(frame, bytes)| self.take(link, frame, bytes, now));
            if let Err(error) = handled {
                self.unreadable(link, &error, now);
                break;
            }
        }
        self.finish(now);
    }

    /// One frame has come, decoded already (`hawser.v1+json`); `bytes`: its size on the wire.
    pub fn handle_frame(&mut self, link: u32, frame: ServerFrame, bytes: usize, now: Now) {
        if let Err(error) = self.take(link, frame, bytes, now) {
            self.unreadable(link, &error, now);
        }
        self.finish(now);
    }

    /// What has come is no frame: that connection is not believed any more.
    pub fn unreadable(&mut self, link: u32, error: &FrameError, now: Now) {
        if self.link_of(link).is_some() {
            self.problem(u32::from(error.code().number()), &error.to_string());
            self.abandon(link, now, "unreadable frame");
        }
    }

    fn problem(&mut self, code: u32, text: &str) {
        let text = text.to_owned();
        self.effects.push_back(Effect::Problem { code, text });
    }

    fn take(
        &mut self,
        link: u32,
        frame: ServerFrame,
        bytes: usize,
        now: Now,
    ) -> Result<(), FrameError> {
        let Some(state) = self.link_of(link).map(|link| link.state) else {
            return Ok(());
        };
        let current = self.link.as_ref().is_some_and(|l| l.id == link);
        let welcomed = current && state == LinkState::Welcomed;
        if welcomed {
            self.pong_by_ms = None;
        }
        match frame {
            ServerFrame::Welcome(welcome) if state == LinkState::Hello => {
                self.handle_welcome(link, &welcome, now);
            }
            ServerFrame::Redirect(redirect) if state == LinkState::Hello => {
                self.handle_redirect(link, redirect, now);
            }
            ServerFrame::Error(error) => self.handle_error(error, now)?,
            frame if welcomed => self.handle_session_frame(frame, bytes, now)?,
            _ => {}
        }
        Ok(())
    }

    fn handle_session_frame(
        &mut self,
        frame: ServerFrame,
        bytes: usize,
        now: Now,
    ) -> Result<(), FrameError> {
        match frame {
            ServerFrame::Deliver(deliver) => {
                self.disk.count(bytes);
                if !deliver.flags.contains(DeliverFlags::ACK_LATER) {
                    self.disk.awaits(deliver.offset);
                }
                self.check_line()?;
                let place = Place::of(&deliver.record);
                self.note(&deliver.record, now);
                if !self.inbox.knows(&place) {
                    self.disk.batch.records.push(deliver.record);
                }
                let gap = self.inbox.message(Some(deliver.offset), &place, true);
                self.sync.gap(gap);
                self.track_to_batch(&place.chat);
            }
            ServerFrame::Queued(queued) => {
                let id = client_msg_id(&queued.client_msg_id)?;
                if self.outbox.queued(&id, now.ms) {
                    self.effects.push_back(Effect::Queued(id));
                }
            }
            ServerFrame::SendResult(result) => self.handle_send_result(result, now)?,
            ServerFrame::CaughtUp(caught_up) => self.handle_caught_up(caught_up.resume_token, now),
            ServerFrame::ReceiptUpdate(update) => self.handle_receipt_update(&update)?,
            ServerFrame::TypingUpdate(update) => self.effects.push_back(Effect::Typing(update)),
            ServerFrame::PresenceUpdate(update) => {
                self.effects.push_back(Effect::Presence(update));
            }
            ServerFrame::SyncPage(page) => self.handle_sync_page(&page, now)?,
            ServerFrame::Relocate(relocate) => {
                let at = now.ms + u64::from(relocate.slot_ms);
                self.relocate = Some((at, relocate.url));
            }
            ServerFrame::Pong(pong) => self.save_token(pong.resume_token),
            ServerFrame::TokenAccepted(accepted) => {
                if let Some(token) = self.token.as_mut().filter(|_| accepted.expires_at_ms > 0) {
                    token.expires_at_ms = accepted.expires_at_ms;
                }
                self.plan_refresh(now);
            }
            ServerFrame::Welcome(_) | ServerFrame::Redirect(_) => {}
            ServerFrame::Error(_) | ServerFrame::Unknown(_) => {}
        }
        Ok(())
    }

    fn handle_welcome(&mut self, link: u32, welcome: &pb::Welcome, now: Now) {
        if self.is_next(link)
            && let Some(old) = self.link.as_ref().map(|link| link.id)
        {
            let reason = "moved".to_owned();
            self.transmit_on(old, ClientFrame::Bye(pb::Bye { reason }));
            self.close(old, 1000, "moved");
            self.promote(now);
        }
        let mut recovered = welcome.recovered;
        if let Some(link) = self.link_of(link) {
            link.state = LinkState::Welcomed;
            recovered &= link.resumes;
        }
        self.retry_after_ms = 0;
        (self.redirects, self.stays) = (0, false);
        self.skew_ms = signed_difference(welcome.server_time_ms, now.wall_ms);
        self.disk.batch.skew_ms = Some(self.skew_ms);
        self.heartbeat_ms = match welcome.heartbeat_ms {
            0 => HEARTBEAT_MS_DEFAULT,
            ms => u64::from(ms),
        };
        self.ping_at_ms = Some(now.ms + self.chance.below(self.heartbeat_ms));
        if let Some(limits) = &welcome.limits
            && limits.sends_in_flight_max > 0
        {
            self.outbox.in_flight_max = limits.sends_in_flight_max as usize;
        }
        if let Some(token) = self.token.as_mut()
            && welcome.token_expires_at_ms > 0
        {
            token.expires_at_ms = welcome.token_expires_at_ms;
        }
        self.plan_refresh(now);
        self.sync.disconnected();
        self.inbox.disconnected();
        self.disk.restart(self.inbox.line.persisted());
        // What the disk finished since the Hello comes again, and waits for its ack.
        if let Some(said_next) = self.link_of(link).map(|link| link.said_next) {
            self.disk.not_acked_from(said_next);
        }
        self.begin(link, welcome, recovered);
        if !self.watch.users.is_empty() || !self.watch.chats.is_empty() {
            self.transmit(ClientFrame::Watch(self.watch.clone()));
        }
    }

    /// Replay follows, or a sync is ours to do.
    fn begin(&mut self, link: u32, welcome: &pb::Welcome, recovered: bool) {
        if recovered {
            self.save_token(welcome.resume_token.clone());
            self.sync.resume();
            return self.set_phase(Phase::CatchingUp);
        }
        self.disk.forget(welcome.head, welcome.resume_token.clone());
        self.set_phase(Phase::Syncing);
        if self.config.live_only {
            self.sync.skip(welcome.head);
            self.disk.adopt(welcome.head, link);
        } else {
            self.sync.begin(welcome.head);
        }
    }

    fn handle_redirect(&mut self, link: u32, redirect: pb::Redirect, now: Now) {
        self.close(link, 1000, "redirected");
        self.redirects += 1;
        let jitter_ms = self.chance.below(u64::from(redirect.jitter_ms));
        if self.is_next(link) {
            // The old link still serves us.
            self.next_link = None;
            if self.redirects < REDIRECTS_MAX {
                self.relocate = Some((now.ms + jitter_ms, redirect.url));
            }
            return;
        }
        self.drop_links();
        if self.accepts_url(&redirect.url) {
            self.url = redirect.url;
        }
        let wait_ms = jitter_ms + self.backoff.at_once_ms(&mut self.chance);
        self.wait_then_connect(wait_ms, now);
    }

    fn handle_error(&mut self, error: pb::Error, now: Now) -> Result<(), FrameError> {
        let retry_after_ms = u64::from(error.retry_after_ms);
        if !error.client_msg_id.is_empty() {
            let id = client_msg_id(&error.client_msg_id)?;
            let (code, text) = (error.code, error.text);
            self.refused(&id, Refusal { code, text }, retry_after_ms, now);
            return Ok(());
        }
        self.last_problem = error.text.clone();
        if error.frame_type == u32::from(FrameType::SYNC.0) {
            if may_retry(error.code) {
                self.sync.busy(now.ms, retry_after_ms);
                return Ok(());
            }
            if let Some(page) = self.sync.fail_oldest(error.code) {
                self.handle_sync_page(&page, now)?;
            }
        } else {
            self.retry_after_ms = retry_after_ms;
        }
        self.problem(error.code, &error.text);
        Ok(())
    }

    /// A server stops at its window; one that does not would fill our memory.
    fn check_line(&self) -> Result<(), FrameError> {
        let found = self.inbox.line.waiting();
        if found < LINE_MAX {
            return Ok(());
        }
        Err(FrameError::TooMany {
            what: "frames behind a gap",
            found,
            max: LINE_MAX,
        })
    }

    /// A message has been seen: one of ours ends its Send, a change of a group asks for the list.
    fn note(&mut self, record: &MessageRecord, now: Now) {
        if record.sender == self.config.user && record.sender_device == self.config.device {
            // Also where an earlier attempt had been refused, so that it waits no more.
            self.outbox.sent(&record.client_msg_id);
            self.disk.batch.pending_delete.push(record.client_msg_id);
        }
        let unknown = record.chat.is_group() && self.inbox.track(&record.chat).is_none();
        if self.live && (unknown || record.message_type == MessageType::MEMBERSHIP) {
            self.refresh_list_soon(now);
        }
    }

    fn handle_send_result(&mut self, result: pb::SendResult, now: Now) -> Result<(), FrameError> {
        self.disk.count(result.client_msg_id.len());
        let id = client_msg_id(&result.client_msg_id)?;
        let offset = (result.offset > 0).then_some(result.offset);
        if result.error != 0 {
            if let Some(offset) = offset {
                self.inbox.other(offset);
            }
            let retry_after_ms = u64::from(result.retry_after_ms);
            let (code, text) = (result.error, result.text);
            self.refused(&id, Refusal { code, text }, retry_after_ms, now);
            return Ok(());
        }
        let send = self.outbox.sent(&id);
        let chat = match &send {
            Some(send) => lane_of(&send.chat, &result.chat),
            None => ChatId::new(&result.chat)?,
        };
        let place = Place {
            chat,
            seq: Seq(result.seq),
            prev_seq: Seq(result.prev_seq),
            ordinal: result.ordinal,
        };
        let held = send.is_some();
        // Also where an earlier attempt had been refused (before we were a member): it is sent now.
        self.disk.batch.pending_delete.push(id);
        if let Some(send) = send {
            let record = self.own_record(send, place.chat.clone(), &result)?;
            self.disk.batch.records.push(record);
        }
        let gap = self.inbox.message(offset, &place, held);
        self.sync.gap(gap);
        self.track_to_batch(&place.chat);
        Ok(())
    }

    fn own_record(
        &self,
        send: PendingSend,
        chat: ChatId,
        result: &pb::SendResult,
    ) -> Result<MessageRecord, FrameError> {
        let message_id = result.message_id.as_ref().try_into();
        let malformed = |_| FrameError::Malformed { what: "SendResult" };
        Ok(MessageRecord {
            seq: Seq(result.seq),
            prev_seq: Seq(result.prev_seq),
            ordinal: result.ordinal,
            message_id: MessageId(message_id.map_err(malformed)?),
            client_msg_id: send.id,
            send_ts_ms: send.send_ts_ms,
            stored_ts_ms: result.stored_ts_ms,
            message_type: send.message_type,
            sender: self.config.user.clone(),
            sender_device: self.config.device.clone(),
            chat,
            body: send.body,
        })
    }

    fn refused(&mut self, id: &ClientMsgId, refusal: Refusal, retry_after_ms: u64, now: Now) {
        let (outbox, chance) = (&mut self.outbox, &mut self.chance);
        match outbox.refused(id, refusal, retry_after_ms, now.ms, chance) {
            Verdict::Unknown | Verdict::Retry => {}
            Verdict::Renew => self.renew(id, now),
            Verdict::Final(send) => self.disk.batch.pending_put.push(send),
        }
    }

    fn renew(&mut self, id: &ClientMsgId, now: Now) {
        let fresh = self.new_id(now);
        if let Some(send) = self.outbox.renew(id, fresh) {
            self.disk.batch.pending_delete.push(*id);
            self.disk.batch.pending_put.push(send);
        }
    }

    fn handle_caught_up(&mut self, resume_token: Bytes, now: Now) {
        self.save_token(resume_token);
        if self.live {
            return;
        }
        self.live = true;
        self.stable_at_ms = Some(now.ms + STABLE_MS);
        self.set_phase(Phase::Live);
        self.receipts.again(now.ms);
        // All that the server answered has been seen: what is still pending was not accepted, or
        // is recognised by its id. One too old to be recognised gets a new one.
        for id in self.outbox.stale(self.server_ms(now)) {
            self.renew(&id, now);
        }
    }

    fn handle_receipt_update(&mut self, update: &pb::ReceiptUpdate) -> Result<(), FrameError> {
        self.disk.count(update.chat.len());
        if update.offset > 0 {
            self.inbox.other(update.offset);
        }
        let mark = Mark {
            chat: ChatId::new(&update.chat)?,
            user: UserId::new(&update.user)?,
            delivered: Seq(update.delivered_seq),
            read: Seq(update.read_seq),
        };
        self.confirm(&mark);
        self.disk.batch.marks.push(mark);
        Ok(())
    }

    /// Our own watermark came back: the server knows what we have read.
    fn confirm(&mut self, mark: &Mark) {
        if mark.user == self.config.user {
            self.receipts
                .confirmed(&mark.chat, mark.delivered, mark.read);
        }
    }

    fn handle_sync_page(&mut self, page: &pb::SyncPage, now: Now) -> Result<(), FrameError> {
        let (inbox, outbox) = (&mut self.inbox, &self.outbox);
        let Some(outcome) = self.sync.handle_page(page, now.ms, inbox, outbox)? else {
            return Ok(());
        };
        if let Some(chat) = &outcome.chat {
            self.track_to_batch(chat);
            for mark in &page.watermarks {
                let mark = Mark {
                    chat: chat.clone(),
                    user: UserId::new(&mark.user)?,
                    delivered: Seq(mark.delivered_seq),
                    read: Seq(mark.read_seq),
                };
                self.confirm(&mark);
                self.disk.batch.marks.push(mark);
            }
        }
        let theirs = |record: &&MessageRecord| record.sender != self.config.user;
        let newest = outcome.records.iter().rev().find(theirs);
        if let Some(newest) = newest.filter(|_| outcome.receipt) {
            self.receipts
                .note(&newest.chat, newest.seq, Seq::NONE, now.ms);
        }
        for record in &outcome.records {
            self.note(record, now);
        }
        self.disk.batch.records.extend(outcome.records);
        self.disk.batch.chats.extend(page.chats.iter().cloned());
        if outcome.list_complete.is_some() {
            self.disk.batch.chat_list_complete = outcome.list_complete;
        }
        self.disk.history.extend(outcome.history);
        if let (Some(head), Some(link)) = (outcome.adopt, &self.link) {
            self.disk.adopt(head, link.id);
        }
        Ok(())
    }
}

/// Where a message of ours was stored: what is sent to a group may be stored in any of its lanes.
fn lane_of(sent_to: &ChatId, named: &str) -> ChatId {
    let lane = ChatId::new(named).ok();
    lane.filter(|lane| lane.base() == sent_to.base())
        .unwrap_or_else(|| sent_to.clone())
}

fn client_msg_id(bytes: &Bytes) -> Result<ClientMsgId, FrameError> {
    let malformed = |_| FrameError::Malformed {
        what: "client_msg_id",
    };
    bytes
        .as_ref()
        .try_into()
        .map(ClientMsgId)
        .map_err(malformed)
}

fn signed_difference(a: u64, b: u64) -> i64 {
    if a >= b {
        i64::try_from(a - b).unwrap_or(i64::MAX)
    } else {
        i64::try_from(b - a).map_or(i64::MIN, |less| -less)
    }
}
