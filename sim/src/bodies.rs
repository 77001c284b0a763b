//! Bodies of references: lanes to the edges that lose some, and the store for those that are missed.

use crate::Break;
use crate::cluster::Entry;
use crate::edge::edge_of;
use crate::world::{ConnId, EDGES, Event, World};
use bytes::Bytes;
use hawser_engines::store::{Page, Store};
use hawser_protocol::record::{BodyRecord, DeliveryKind};
use hawser_protocol::server::{Body, Fetch, Fetched, Found};

/// Of so many bodies one is lost on its way to an edge.
const LOST_OF: u64 = 4;
/// A body is on its way for so long at most, milliseconds: it may come long after its references.
const WAY_MS: u64 = 150;

impl World {
    /// What ingest sends to the lanes, before the records that refer to it.
    pub(crate) fn send_bodies(&mut self, bodies: &[Bytes]) {
        for value in bodies {
            let Ok(body) = BodyRecord::decode(value) else {
                self.violate("codec", "a body that cannot be read".into());
                return;
            };
            self.cluster.bodies.insert(body.key, body.record.clone());
            for edge in 0..EDGES {
                if !self.edges[edge].down && self.chance.below(LOST_OF) != 0 {
                    let at = self.ms + 1 + self.chance.below(WAY_MS);
                    let (boot, body) = (self.edges[edge].boot, body.clone());
                    self.at(at, Event::Body { edge, boot, body });
                }
            }
        }
    }

    pub(crate) fn body_came(&mut self, edge: usize, boot: u32, body: BodyRecord) {
        if self.edges[edge].boot == boot && !self.edges[edge].down {
            let waiting = self.edges[edge]
                .bodies
                .came(body.key, Body::new(body.record));
            self.go_on(waiting);
        }
    }

    fn go_on(&mut self, waiting: Vec<ConnId>) {
        for conn in waiting {
            if let Some(c) = self.conns.get_mut(&conn) {
                c.awaits_body = false;
            }
            self.pump(conn);
        }
    }

    /// What an edge has of a delivery record: all of it, or not yet.
    pub(crate) fn whole(&self, partition: u32, entry: &Entry) -> Result<Entry, Found> {
        let DeliveryKind::Reference { referred, .. } = &entry.record.kind else {
            return Ok(entry.clone());
        };
        let bodies = &self.edges[edge_of(partition)].bodies;
        match bodies.find(&entry.record.body_key(), referred) {
            Found::Here(record) => Ok(entry.with(&record)),
            _ if self.broken == Some(Break::Bodies) => Err(Found::Gone),
            other => Err(other),
        }
    }

    /// A session reads no further than a record whose body is not here.
    pub(crate) fn await_body(&mut self, conn: ConnId, partition: u32, entry: &Entry) {
        let DeliveryKind::Reference { chat, referred, .. } = &entry.record.kind else {
            return;
        };
        let fetch = Fetch {
            key: entry.record.body_key(),
            chat: chat.clone(),
            referred: *referred,
        };
        if let Some(c) = self.conns.get_mut(&conn) {
            c.awaits_body = true;
        }
        let (edge, now_ms) = (edge_of(partition), self.ms);
        let room = self.edges[edge].bodies.want(fetch, Some(conn), now_ms);
        if !room {
            self.violate("rest", "too many bodies are waited for".into());
        }
        self.look_for_bodies(edge);
    }

    fn look_for_bodies(&mut self, edge: usize) {
        let at = self.edges[edge].bodies.due_ms();
        let known = self.edges[edge].bodies_due_at;
        if at != u64::MAX && known.is_none_or(|known| known > at || known <= self.ms) {
            self.edges[edge].bodies_due_at = Some(at);
            let boot = self.edges[edge].boot;
            self.at(at.max(self.ms), Event::BodiesDue { edge, boot });
        }
    }

    /// An edge asks the store for what has come by no lane.
    pub(crate) fn bodies_due(&mut self, edge: usize, boot: u32) {
        if self.edges[edge].boot != boot || self.edges[edge].down {
            return;
        }
        self.edges[edge].bodies_due_at = None;
        let mut asked = Vec::new();
        let now_ms = self.ms;
        self.edges[edge].bodies.due(now_ms, |fetch| {
            asked.push(fetch);
            true
        });
        for fetch in asked {
            let at = self.ms + 1 + self.chance.below(20);
            self.at(at, Event::Fetch { edge, boot, fetch });
        }
        self.look_for_bodies(edge);
    }

    /// The store answers.
    pub(crate) fn body_fetched(&mut self, edge: usize, boot: u32, fetch: &Fetch) {
        if self.edges[edge].boot != boot || self.edges[edge].down {
            return;
        }
        let ordinal = fetch.referred.ordinal;
        let page = Page::one(ordinal);
        let outcome = match self.cluster.store.messages(&fetch.chat, page) {
            Ok(rows) => {
                let row = rows.into_iter().find(|row| row.seq == fetch.key.seq);
                let body = row.map(|row| Body::new(row.record));
                let meant = body.filter(|body| body.is(&fetch.referred));
                meant.map_or(Fetched::Absent, Fetched::Body)
            }
            Err(_) => Fetched::Failed,
        };
        self.fetched += u64::from(matches!(outcome, Fetched::Body(_)));
        let (conns, now_ms) = (&self.conns, self.ms);
        let bodies = &mut self.edges[edge].bodies;
        let alive = |conn: &ConnId| conns.contains_key(conn);
        let waiting = bodies.fetched(fetch.key, outcome, now_ms, alive);
        self.go_on(waiting);
        self.look_for_bodies(edge);
    }
}
