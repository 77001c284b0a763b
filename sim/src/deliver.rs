//! From the delivery log to sessions: pushed to who is live, pulled for who is behind.

use crate::cluster::{DELIVERIES, Entry};
use crate::edge::{Conn, edge_of};
use crate::world::{ConnId, EDGES, Event, World};
use bytes::Bytes;
use hawser_protocol::frame::{Deliver, DeliverFlags, ServerFrame};
use hawser_protocol::ids::{ClientMsgId, Seq};
use hawser_protocol::message::MessageRecord;
use hawser_protocol::pb;
use hawser_protocol::record::{Audience, DeliveryKind};
use hawser_protocol::server::{Found, Offer};

impl World {
    pub(crate) fn wake_edges(&mut self) {
        for edge in 0..EDGES {
            if !self.edges[edge].looking && !self.edges[edge].down {
                self.edges[edge].looking = true;
                let at = self.ms + 1 + self.chance.below(8);
                let boot = self.edges[edge].boot;
                self.at(at, Event::Consume { edge, boot });
            }
        }
    }

    pub(crate) fn consume(&mut self, edge: usize, boot: u32) {
        if self.edges[edge].boot != boot || self.edges[edge].down {
            return;
        }
        self.edges[edge].looking = false;
        for partition in (0..DELIVERIES).filter(|p| edge_of(*p) == edge) {
            loop {
                let offset = self.taken(partition);
                let entries = &self.cluster.delivery[partition as usize].entries;
                let entry = usize::try_from(offset).ok().and_then(|at| entries.get(at));
                let Some(entry) = entry.cloned() else {
                    break;
                };
                self.edges[edge].taken.insert(partition, offset + 1);
                if entry.record.source_seq == Seq::NONE {
                    self.control(edge, &entry.record);
                    continue;
                }
                let edge = &mut self.edges[edge];
                let place = (entry.record.source_seq, entry.record.sub_index);
                let mark = edge.marks.entry((partition, entry.record.source_partition));
                let mark = mark.or_default();
                if place <= *mark {
                    edge.dropped.insert((partition, offset));
                    continue;
                }
                *mark = place;
                self.offer(partition, offset, &entry);
            }
        }
        let conns: Vec<ConnId> = self.conns.keys().copied().collect();
        for conn in conns {
            self.pump(conn);
        }
    }

    fn offer(&mut self, partition: u32, offset: u64, entry: &Entry) {
        let settings = self.settings;
        let theirs = |c: &Conn| c.partition == partition && entry.concerns(&c.user, &c.name);
        let conns: Vec<ConnId> = self
            .conns
            .iter()
            .filter(|(_, c)| theirs(c))
            .map(|(id, _)| *id)
            .collect();
        for conn in conns {
            let whole = self.whole(partition, entry);
            let room = self.chance.below(8) != 0 && whole.is_ok();
            let Some(session) = self.session(conn) else {
                continue;
            };
            match session.offer(&settings, offset, room) {
                Offer::Send => self.put(conn, offset, entry),
                Offer::Later | Offer::Old => {}
                Offer::Syncing => {
                    let c = &self.conns[&conn];
                    if let Ok(entry) = whole
                        && let Some(result) = entry.result_for(&c.user, &c.name)
                    {
                        self.answer(conn, result);
                    }
                }
            }
        }
    }

    /// Reads the log for a session that is behind.
    pub(crate) fn pump(&mut self, conn: ConnId) {
        let settings = self.settings;
        loop {
            let Some(from) = self.session(conn).and_then(|s| s.reading(&settings)) else {
                return;
            };
            let c = &self.conns[&conn];
            if c.awaits_body {
                return;
            }
            let (user, name, partition) = (c.user.clone(), c.name.clone(), c.partition);
            let high = self.taken(partition);
            let log = &self.cluster.delivery[partition as usize];
            let edge = &self.edges[edge_of(partition)];
            let mine = (from..high).find_map(|at| {
                let entry = log.entries.get(usize::try_from(at).ok()?)?;
                let here = entry.concerns(&user, &name) && !edge.dropped.contains(&(partition, at));
                here.then(|| (at, entry.clone()))
            });
            let Some((offset, entry)) = mine else {
                if let Some(offset) = self.session(conn).and_then(|s| s.at_end(high)) {
                    let resume_token = self.seal(&user, &name, partition, offset);
                    let caught_up = pb::CaughtUp {
                        offset,
                        resume_token,
                    };
                    self.send_down(conn, &ServerFrame::CaughtUp(caught_up));
                }
                return;
            };
            match self.whole(partition, &entry) {
                Ok(entry) => self.put(conn, offset, &entry),
                Err(Found::Gone) => {
                    if let Some(session) = self.session(conn) {
                        session.skip_to(offset + 1);
                    }
                }
                Err(_) => return self.await_body(conn, partition, &entry),
            }
        }
    }

    /// Puts one record on the wire, and notes it.
    fn put(&mut self, conn: ConnId, offset: u64, entry: &Entry) {
        self.may_have(conn, offset);
        let Some(c) = self.conns.get_mut(&conn) else {
            return;
        };
        let (user, name) = (c.user.clone(), c.name.clone());
        let Some(session) = c.session.as_mut() else {
            return;
        };
        if let Some(mut result) = entry.result_for(&user, &name) {
            session.delivered(offset, 100, None);
            result.offset = offset;
            return self.answer(conn, result);
        }
        let flags = match session.replaying() {
            true => DeliverFlags::REPLAYED,
            false => DeliverFlags::default(),
        };
        let (frame, message) = match &entry.whole {
            DeliveryKind::Message {
                record, recipients, ..
            } => {
                let Ok(record) = MessageRecord::decode(record) else {
                    return self.violate("codec", "a message record that cannot be read".into());
                };
                let told = matches!(recipients, Audience::Listed(_)) && record.sender != user;
                let message = told.then(|| (record.chat.clone(), record.seq));
                let frame = ServerFrame::Deliver(Deliver {
                    offset,
                    flags,
                    envelope: Bytes::new(),
                    record,
                });
                (frame, message)
            }
            DeliveryKind::Receipt {
                chat,
                user,
                delivered,
                read,
                ts_ms,
                ..
            } => {
                let update = pb::ReceiptUpdate {
                    offset,
                    chat: chat.to_string(),
                    user: user.to_string(),
                    delivered_seq: delivered.0,
                    read_seq: read.0,
                    ts_ms: *ts_ms,
                };
                (ServerFrame::ReceiptUpdate(update), None)
            }
            DeliveryKind::Result { .. }
            | DeliveryKind::Revoke { .. }
            | DeliveryKind::Shard { .. }
            | DeliveryKind::Reference { .. } => return,
        };
        session.delivered(offset, 200, message);
        self.send_down(conn, &frame);
    }

    fn answer(&mut self, conn: ConnId, result: pb::SendResult) {
        if let Ok(id) = result.client_msg_id.as_ref().try_into()
            && let Some(session) = self.session(conn)
        {
            session.answered(ClientMsgId(id));
        }
        self.send_down(conn, &ServerFrame::SendResult(result));
    }
}
