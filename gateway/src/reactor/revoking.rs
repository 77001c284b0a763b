//! Revocations that come with the messages: what stands before the record in the partition was delivered, nothing after it is.

use super::turn::Reactor;
use crate::counters::Counter;
use crate::session::SessionId;
use hawser_fanout::auth::{Learnt, voids};
use hawser_protocol::codes::{CloseCode, ErrorCode};
use hawser_protocol::ids::UserId;
use hawser_protocol::record::{RecordError, RevokeView};

impl Reactor {
    /// A control record of a user's: the node learns of it, for those who come, and the user's sessions are judged anew. Of
    /// an old record that is read again nothing is learnt, and whoever was let in since stays.
    pub(super) fn revoke(&mut self, record: &RevokeView<'_>) {
        if self.judge_sessions_of(record).is_err() {
            self.counters.inc(Counter::DeliveryBad);
        }
    }

    fn judge_sessions_of(&mut self, record: &RevokeView<'_>) -> Result<(), RecordError> {
        let (user, revocation) = (UserId::new(record.user)?, record.revocation()?);
        let verifier = self.node.verifier.clone();
        let learnt = verifier.learn(&user, record.number, &revocation);
        match learnt {
            Learnt::Known => {}
            Learnt::New => self.counters.inc(Counter::RevocationsLearnt),
            Learnt::NoRoom => self.counters.inc(Counter::RevocationsNotLearnt),
        }
        let sessions = self.users.sessions(user.as_str()).iter();
        let sessions: Vec<SessionId> = sessions.map(|present| present.session).collect();
        for session in sessions {
            let device = self.find(session).and_then(|found| found.device());
            let void = device.is_some_and(|device| {
                let claims = device.claims();
                verifier.revoked(&claims) || learnt == Learnt::NoRoom && voids(&revocation, &claims)
            });
            if void {
                let (code, close) = (ErrorCode::Revoked, CloseCode::Revoked);
                self.close_with(session, code, close, record.reason);
            }
        }
        Ok(())
    }
}
