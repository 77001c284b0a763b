//! From an edge to the source log: what is appended, to which lane, and what its client is told of it.

use crate::edge::edge_of;
use crate::world::{ConnId, Event, World};
use hawser_protocol::codes::ErrorCode;
use hawser_protocol::frame::ServerFrame;
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, Seq, UserId};
use hawser_protocol::message::Send;
use hawser_protocol::record::SourceRecord;
use hawser_protocol::server::refusal;

impl World {
    /// Hands a Send to the log, in the lane that it belongs to as far as this edge knows.
    pub(crate) fn append_send(
        &mut self,
        conn: ConnId,
        user: UserId,
        device: DeviceId,
        mut send: Box<Send>,
    ) {
        let fate = self.chance.below(100);
        let (refused, unknown) = (self.weather.append_refused, self.weather.append_unknown);
        if fate < refused {
            let (id, chat) = (send.client_msg_id, send.chat.clone());
            return self.refuse(conn, id, &chat, ErrorCode::Unavailable);
        }
        if let Some(c) = self.conns.get(&conn) {
            let edge = edge_of(c.partition);
            send.chat = self.lane_at(edge, conn, &send.chat, &send.client_msg_id);
        }
        let unsure = fate < refused + unknown;
        let appended = !unsure || self.chance.below(2) == 0;
        let source = Box::new(SourceRecord::Send {
            sender: user,
            device,
            send,
        });
        let at = self.ms + 1 + self.chance.below(self.weather.append_ms);
        self.at(
            at,
            Event::Appended {
                conn,
                source,
                appended,
                told: !unsure,
            },
        );
    }

    pub(crate) fn appended(
        &mut self,
        conn: ConnId,
        source: &SourceRecord,
        appended: bool,
        told: bool,
    ) {
        if appended {
            self.append(source);
        }
        let SourceRecord::Send { send, .. } = source else {
            return;
        };
        // Its client knows the chat alone.
        let (id, chat) = (send.client_msg_id, send.chat.base());
        if !told {
            return self.refuse(conn, id, &chat, ErrorCode::UnknownOutcome);
        }
        if let Some(queued) = self.session(conn).and_then(|session| session.queued(id)) {
            self.send_down(conn, &queued);
        }
    }

    fn refuse(&mut self, conn: ConnId, id: ClientMsgId, chat: &ChatId, code: ErrorCode) {
        if let Some(session) = self.session(conn) {
            session.answered(id);
        }
        let result = refusal(id, chat, code, "", 50);
        self.send_down(conn, &ServerFrame::SendResult(result));
    }

    pub(crate) fn receipt(
        &mut self,
        user: UserId,
        device: DeviceId,
        chat: ChatId,
        delivered: Seq,
        read: Seq,
    ) {
        let source = Box::new(SourceRecord::Receipt {
            user,
            device,
            chat,
            delivered,
            read,
        });
        let at = self.ms + 1 + self.chance.below(self.weather.append_ms);
        self.at(
            at,
            Event::Appended {
                conn: 0,
                source,
                appended: true,
                told: true,
            },
        );
    }
}
