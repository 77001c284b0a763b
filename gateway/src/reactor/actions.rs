//! Doing what sessions ask for.

use super::appends::{Outcome, Purpose};
use super::turn::Reactor;
use crate::control::ToControl;
use crate::counters::{Counter, Histogram};
use crate::node::memory::Pressure;
use crate::session::SessionId;
use crate::session::connection::{Connection, Device, Role, Watches};
use bytes::Bytes;
use hawser_engines::log::{AppendOutcome, Produce, ProduceError, Topic};
use hawser_protocol::codes::{CloseCode, ErrorCode};
use hawser_protocol::frame::ServerFrame;
use hawser_protocol::ids::{ChatId, ClientMsgId, Seq, UserId};
use hawser_protocol::message::Send;
use hawser_protocol::partition;
use hawser_protocol::pb;
use hawser_protocol::record::SourceRecord;
use hawser_protocol::server::{Action, refusal};

/// What a client waits before it repeats what the control thread had no room for, milliseconds.
const SHED_RETRY_MS: u32 = 500;
/// The same after an append whose outcome is unknown.
const UNKNOWN_RETRY_MS: u32 = 1_000;

impl Reactor {
    /// Does everything in `actions`, in order, and keeps the list's memory.
    pub(super) fn perform(&mut self, connection: &mut Connection, mut actions: Vec<Action>) {
        for action in actions.drain(..) {
            self.act(connection, action);
        }
        self.scratch.actions = actions;
    }

    fn act(&mut self, connection: &mut Connection, action: Action) {
        let id = connection.id;
        let Role::Session(device) = &mut connection.role else {
            return;
        };
        match action {
            Action::Reply(frame) => {
                if let ServerFrame::Error(error) = &*frame {
                    self.count_error(error.code);
                } else if let ServerFrame::SendResult(result) = &*frame {
                    self.count_error(result.error);
                }
                self.reply(connection, &frame);
            }
            Action::Append(send) => self.append(connection, *send),
            Action::Delivered { chat, seq } => {
                let (user, of) = (&device.user, &device.device);
                self.receipts.note(user, of, &chat, seq, Seq::NONE);
            }
            Action::Receipt {
                chat,
                delivered,
                read,
            } => {
                let (user, of) = (&device.user, &device.device);
                self.counters.inc(Counter::ReceiptsRead);
                self.receipts.note(user, of, &chat, delivered, read);
            }
            Action::Cursor { offset } => {
                let (user, of) = (&device.user, &device.device);
                let place = &mut device.cursor;
                self.cursors
                    .advance(device.partition, user, of, offset, place);
            }
            Action::Typing { chat, stopped } => {
                let user = device.user.clone();
                let core = self.index;
                let typing = ToControl::Typing {
                    core,
                    session: id,
                    user,
                    chat,
                    stopped,
                };
                let short = self.node.pressure() > Pressure::None;
                if short || !self.node.to_control(typing) {
                    self.counters.inc(Counter::TypingShed);
                }
            }
            Action::Watch { users, chats } => self.watch(connection, users, chats),
            Action::Sync(request) => self.sync(connection, request),
            Action::Pong { client_time_ms } => self.pong(connection, client_time_ms),
            Action::VerifyToken(token) => self.refresh(connection, &token),
            Action::Close { code, reason } => self.close(connection, code, reason),
        }
    }

    /// Hands a Send to the log.
    fn append(&mut self, connection: &mut Connection, send: Send) {
        let Role::Session(device) = &mut connection.role else {
            return;
        };
        let client_msg_id = send.client_msg_id;
        let chat = send.chat.clone();
        let mut send = send;
        if chat.is_group() && chat.lane() == 0 {
            let lanes = self.node.lanes.of(&chat);
            let lane = device.session.lane(&client_msg_id, lanes.as_ref());
            // Lane 0 is the chat itself.
            if lane > 0
                && let Ok(lane) = chat.in_lane(lane)
            {
                send.chat = lane;
            }
        }
        let record = SourceRecord::Send {
            sender: device.user.clone(),
            device: device.device.clone(),
            send: Box::new(send),
        };
        let purpose = Purpose::Send {
            session: connection.id,
            client_msg_id,
            chat,
            at_us: self.node.clock.now_us(),
        };
        let produce = self.source(&record);
        match self.appends.produce(produce, purpose) {
            Ok(()) => self.counters.inc(Counter::Sends),
            Err((error, purpose)) => {
                if let Purpose::Send { chat, .. } = purpose {
                    self.refuse_send(connection, client_msg_id, &chat, &error);
                }
            }
        }
    }

    /// A record for `chat-messages`.
    pub(super) fn source(&self, record: &SourceRecord) -> Produce {
        let chat = record.chat().as_str();
        let partitions = self.node.log.partitions(Topic::ChatMessages);
        Produce {
            topic: Topic::ChatMessages,
            partition: partition::partition(chat, partitions),
            key: Bytes::copy_from_slice(chat.as_bytes()),
            value: record.encode(),
            timestamp_ms: self.node.clock.wall_ms(),
        }
    }

    /// The log has answered an append.
    pub(super) fn outcome(&mut self, outcome: Outcome) {
        match outcome.purpose {
            Purpose::Send {
                session,
                client_msg_id,
                chat,
                at_us,
            } => {
                let took_us = self.node.clock.now_us().saturating_sub(at_us);
                self.counters.observe(Histogram::QueuedUs, took_us);
                self.send_outcome(session, client_msg_id, &chat, outcome.result);
            }
            Purpose::Receipt(record) => {
                if outcome.result.is_err() {
                    self.counters.inc(Counter::ReceiptsShed);
                    self.receipts.put_back(&record);
                }
            }
            Purpose::Cursors => {
                if outcome.result.is_err() {
                    self.counters.inc(Counter::CursorErrors);
                }
            }
            // Said again while it is so.
            Purpose::Served => {}
        }
    }

    fn send_outcome(
        &mut self,
        session: SessionId,
        client_msg_id: ClientMsgId,
        chat: &ChatId,
        result: AppendOutcome,
    ) {
        match result {
            Ok(_) => {
                self.counters.inc(Counter::SendsQueued);
                self.with(session, |reactor, connection| {
                    let queued = connection
                        .device()
                        .and_then(|device| device.session.queued(client_msg_id));
                    if let Some(frame) = queued {
                        reactor.reply(connection, &frame);
                    }
                });
            }
            Err(error) => self.with(session, |reactor, connection| {
                reactor.refuse_send(connection, client_msg_id, chat, &error);
            }),
        }
    }

    fn refuse_send(
        &mut self,
        connection: &mut Connection,
        client_msg_id: ClientMsgId,
        chat: &ChatId,
        error: &ProduceError,
    ) {
        let (code, text, retry_after_ms, counter) = match error {
            ProduceError::Refused { retry_after_ms, .. } => {
                let text = "the log accepts nothing now; nothing was accepted";
                let counter = Counter::SendsRefused;
                (ErrorCode::Unavailable, text, *retry_after_ms, counter)
            }
            ProduceError::Unknown { .. } => {
                let text = "the outcome is unknown: retry with the same client_msg_id";
                let counter = Counter::SendsUnknown;
                (ErrorCode::UnknownOutcome, text, UNKNOWN_RETRY_MS, counter)
            }
        };
        self.counters.inc(counter);
        let Some(device) = connection.device() else {
            return;
        };
        device.session.answered(client_msg_id);
        device.session.return_window(&mut self.scratch.windows);
        let result = refusal(client_msg_id, chat, code, text, retry_after_ms);
        self.reply(connection, &ServerFrame::SendResult(result));
    }

    fn watch(&mut self, connection: &mut Connection, users: Vec<UserId>, chats: Vec<ChatId>) {
        let id = connection.id;
        let Role::Session(device) = &mut connection.role else {
            return;
        };
        self.unwatch(id, device);
        for user in &users {
            self.users.watch(user, id);
        }
        if !users.is_empty() || !chats.is_empty() {
            device.watches = Some(Box::new(Watches {
                users: users.clone(),
                chats: chats.into_iter().collect(),
            }));
        }
        if users.is_empty() {
            return;
        }
        let asked = ToControl::Watch {
            core: self.index,
            session: id,
            users,
        };
        if !self.node.to_control(asked) {
            self.counters.inc(Counter::ControlShed);
        }
    }

    /// Forgets what a session watched.
    pub(super) fn unwatch(&mut self, id: SessionId, device: &mut Device) {
        if let Some(watches) = device.watches.take() {
            for user in &watches.users {
                self.users.unwatch(user.as_str(), id);
            }
        }
    }

    fn sync(&mut self, connection: &mut Connection, request: pb::Sync) {
        let Role::Session(device) = &mut connection.role else {
            return;
        };
        let (sync_id, chat) = (request.sync_id, request.chat.clone());
        let asked = ToControl::Sync {
            core: self.index,
            session: connection.id,
            user: device.user.clone(),
            request,
        };
        if self.node.to_control(asked) {
            return;
        }
        self.counters.inc(Counter::ControlShed);
        device.session.synced();
        let page = pb::SyncPage {
            sync_id,
            chat,
            error: u32::from(ErrorCode::Overloaded.number()),
            text: format!("busy; ask again in {SHED_RETRY_MS} ms"),
            retry_after_ms: SHED_RETRY_MS,
            ..pb::SyncPage::default()
        };
        self.reply(connection, &ServerFrame::SyncPage(page));
    }

    /// A fresh token: it must be this user's and device's.
    fn refresh(&mut self, connection: &mut Connection, token: &str) {
        let now = self.now();
        let verified = self.node.verifier.verify(token, now.wall_ms);
        let Role::Session(device) = &mut connection.role else {
            return;
        };
        let mut actions = Vec::new();
        match verified {
            Ok(claims) if claims.user != device.user => {
                let code = ErrorCode::Unauthenticated;
                device.session.token_refused(code, &mut actions);
            }
            Ok(claims) if claims.device.as_ref() != Some(&device.device) => {
                let code = ErrorCode::DeviceMismatch;
                device.session.token_refused(code, &mut actions);
            }
            Ok(claims) => {
                let expires = claims.expires_at_ms;
                device.grant = claims.into();
                device.session.token_accepted(expires, &mut actions);
            }
            Err(error) => {
                self.counters.inc(Counter::AuthRefused);
                device.session.token_refused(error.code(), &mut actions);
                if error.code() == ErrorCode::Revoked {
                    device.session.end(CloseCode::Revoked, &mut actions);
                }
            }
        }
        for action in actions {
            self.act(connection, action);
        }
    }
}
