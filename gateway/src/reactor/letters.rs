//! Messages from other threads: arrivals, answers of the control thread, drain, stop.

use super::inbox::ToCore;
use super::turn::Reactor;
use crate::counters::Counter;
use crate::node::memory::Pressure;
use crate::session::SessionId;
use crate::session::connection::{Connection, Stage};
use hawser_engines::presence::Presence;
use hawser_protocol::codes::{CloseCode, ErrorCode};
use hawser_protocol::frame::ServerFrame;
use hawser_protocol::ids::UserId;
use hawser_protocol::pb;

impl Reactor {
    /// Reads the inbox. Returns whether there may be more.
    pub(super) fn letters(&mut self, max: usize) -> bool {
        for _ in 0..max {
            let Some(letter) = self.inbox.try_recv() else {
                return false;
            };
            self.letter(letter);
        }
        true
    }

    fn letter(&mut self, letter: ToCore) {
        match letter {
            ToCore::Arrive(arriving) => self.arrive(*arriving),
            ToCore::SyncPage { session, page } => self.with(session, |reactor, connection| {
                if let Some(device) = connection.device() {
                    device.session.synced();
                    reactor.reply(connection, &ServerFrame::SyncPage(*page));
                }
            }),
            ToCore::PresenceOf { session, states } => self.with(session, |reactor, connection| {
                for (user, state) in states {
                    reactor.reply(connection, &presence(&user, state));
                }
            }),
            ToCore::PresenceChanged(users) if self.node.pressure() > Pressure::None => {
                self.counters.add(Counter::PresenceShed, users.len() as u64);
            }
            ToCore::PresenceChanged(users) => {
                for (user, state) in &*users {
                    let watchers = self.users.watchers(user.as_str()).to_vec();
                    if watchers.is_empty() {
                        continue;
                    }
                    let frame = presence(user, *state);
                    for session in watchers {
                        self.signal(session, &frame, |_| true);
                    }
                }
            }
            ToCore::Served(served) => self.served_elsewhere(&served),
            ToCore::Replay {
                session,
                from,
                result,
            } => self.with(session, |reactor, connection| match connection.stage {
                Stage::Resuming => reactor.looked(connection, from, result),
                Stage::Open => reactor.log_read(connection, result),
                Stage::Waiting | Stage::Closing { .. } => {}
            }),
            ToCore::Denied {
                session,
                frame_type,
                code,
            } => self.with(session, |reactor, connection| {
                let error = pb::Error {
                    code: u32::from(code.number()),
                    text: code.name().to_owned(),
                    frame_type: u32::from(frame_type.0),
                    ..pb::Error::default()
                };
                reactor.count_error(error.code);
                reactor.reply(connection, &ServerFrame::Error(error));
            }),
            ToCore::Recheck => self.recheck(),
            ToCore::Owners => {
                self.hold_what_is_ours();
                self.send_all_home();
            }
            ToCore::Opened {
                generation,
                partition,
                result,
            } => self.opened(generation, partition, result),
            ToCore::LeftElsewhere { user } => {
                if self.users.sessions(user.as_str()).is_empty() {
                    self.tell(user, false);
                }
            }
            ToCore::Body { key, body } => self.body_came(key, body),
            ToCore::BodyFetched { key, outcome } => self.body_fetched(key, outcome),
            ToCore::Drain { deadline_ms } => self.drain(deadline_ms),
            ToCore::Asked(question) => self.question(*question),
            ToCore::Stop => self.stop(),
        }
    }

    /// The list of revocations is new.
    fn recheck(&mut self) {
        for session in self.all_sessions() {
            let verifier = self.node.verifier.clone();
            let revoked = self
                .find(session)
                .and_then(Connection::device)
                .is_some_and(|device| verifier.revoked(&device.claims()));
            if revoked {
                self.close_with(session, ErrorCode::Revoked, CloseCode::Revoked, "revoked");
            }
        }
    }

    pub(super) fn close_with(
        &mut self,
        id: SessionId,
        code: ErrorCode,
        close: CloseCode,
        reason: &str,
    ) {
        self.with(id, |reactor, connection| {
            let error = pb::Error {
                code: u32::from(code.number()),
                text: reason.to_owned(),
                ..pb::Error::default()
            };
            reactor.reply(connection, &ServerFrame::Error(error));
            reactor.close(connection, close.number(), reason);
        });
    }

    /// Closes everything; the core returns once the closes have had their moment.
    fn stop(&mut self) {
        self.flush_records(true);
        for session in self.all_sessions() {
            self.with(session, |reactor, connection| {
                let code = CloseCode::Moved;
                reactor.close(connection, code.number(), code.name());
            });
        }
        self.stop_at_ms = Some(self.node.clock.now_ms() + super::ticks::STOP_MS);
    }

    /// Every connection that is a session.
    pub(super) fn all_sessions(&self) -> Vec<SessionId> {
        let users = self.users.iter().flat_map(|(_, sessions)| sessions);
        users.map(|present| present.session).collect()
    }
}

fn presence(user: &UserId, state: Presence) -> ServerFrame {
    let (state, last_seen_ms) = match state {
        Presence::Online => (pb::PresenceState::PresenceOnline, 0),
        Presence::Offline { last_seen_ms } => (pb::PresenceState::PresenceOffline, last_seen_ms),
        Presence::Unknown => (pb::PresenceState::PresenceUnknown, 0),
    };
    ServerFrame::PresenceUpdate(pb::PresenceUpdate {
        user: user.as_str().to_owned(),
        state: i32::from(state),
        last_seen_ms,
    })
}
