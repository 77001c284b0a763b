//! Bodies of references: from the node's lane to every core, and to the sessions that wait for them.
//!
//! A reference whose body is not here never holds its partition up: the sessions that it is for are behind at its offset
//! until the body comes, by the lane or, after a moment, from the store.

use super::delivery::lines_of;
use super::inbox::ToCore;
use super::turn::Reactor;
use crate::control::ToControl;
use crate::counters::{Counter, Gauge};
use crate::deliver::partition::Flagged;
use crate::deliver::replay::Missed;
use crate::reactor::core::CoreError;
use crate::session::SessionId;
use crate::session::connection::{Connection, Role};
use hawser_engines::log::{Record, Start, Topic};
use hawser_protocol::ids::ChatId;
use hawser_protocol::record::{BodyKey, BodyRecord, DeliveryView, ReferenceView, ViewKind};
use hawser_protocol::server::{Bodies, Body, Fetch, Fetched, Found};

/// The core that reads the node's lane.
const LANE_CORE: usize = 0;
/// Bodies of the lane in one turn.
const BODIES_PER_TURN: usize = 256;
/// References after the one that a session waits for, whose bodies are fetched with it.
const AHEAD: usize = 8;

impl Reactor {
    /// Opens the lane, on the core that reads it. Blocks on the log.
    pub(super) fn open_lane(&mut self) -> Result<(), CoreError> {
        if self.index == LANE_CORE {
            let (log, lane) = (&*self.node.log, self.node.body_lane);
            let flagged = Flagged::open(log, Topic::Bodies, lane, Start::Latest, &self.waker)?;
            self.lane = Some(flagged);
        }
        Ok(())
    }

    /// Takes what the lane has and hands it to every core. Returns whether there may be more.
    pub(super) fn read_lane(&mut self, now_ms: u64, records: &mut Vec<Record>) -> bool {
        let Some(lane) = &mut self.lane else {
            return false;
        };
        let polled = lane.poll(BODIES_PER_TURN, now_ms, records);
        let more = self.polled(polled);
        for record in records.drain(..) {
            let Ok(BodyRecord { key, record }) = BodyRecord::decode(&record.value) else {
                self.counters.inc(Counter::DeliveryBad);
                continue;
            };
            self.counters.inc(Counter::Bodies);
            let body = Body::new(record);
            for (core, sender) in self.node.cores.iter().enumerate() {
                let body = body.clone();
                if core != self.index && sender.try_send(ToCore::Body { key, body }).is_err() {
                    self.counters.inc(Counter::BodiesShed);
                }
            }
            self.body_came(key, body);
        }
        more
    }

    /// A body of the lane is here.
    pub(super) fn body_came(&mut self, key: BodyKey, body: Body) {
        let waiting = self.bodies.came(key, body);
        self.go_on_with_bodies(waiting);
    }

    /// The control thread has looked for a body in the store, for this core or another.
    pub(super) fn body_fetched(&mut self, key: BodyKey, outcome: Fetched) {
        let now_ms = self.node.clock.now_ms();
        let rings = &self.rings;
        let alive = |id: &SessionId| {
            let ring = rings.get(usize::from(id.ring));
            let place = ring.and_then(|r| r.connections.get(id.key.index()));
            place.is_some_and(|c| c.as_ref().is_some_and(|c| c.id == *id))
        };
        let waiting = self.bodies.fetched(key, outcome, now_ms, alive);
        self.go_on_with_bodies(waiting);
    }

    /// They read on at once: what they waited for may be forgotten soon.
    fn go_on_with_bodies(&mut self, waiting: Vec<SessionId>) {
        for id in waiting {
            self.with(id, |reactor, connection| {
                if let Some(device) = connection.device() {
                    device.awaits_body = false;
                }
                if connection.is_open() {
                    reactor.pull_for(connection);
                    reactor.queue_if_behind(connection);
                }
            });
        }
    }

    /// Asks for what is due; lets those try again for whom there was no room.
    pub(super) fn fetch_bodies(&mut self, now_ms: u64) {
        let (node, counters) = (&self.node, &self.counters);
        self.bodies.due(now_ms, |fetch| {
            let asked = node.to_control(ToControl::FetchBody(fetch));
            counters.inc(match asked {
                true => Counter::BodyFetches,
                false => Counter::ControlShed,
            });
            asked
        });
    }

    /// Those for whom there was no room among the waiting try again.
    pub(super) fn retry_bodies(&mut self) {
        let waiting = self.bodies.turned_away();
        self.go_on_with_bodies(waiting);
    }

    /// What a delivery record refers to; of one that has its message record in it, nothing is missing.
    pub(super) fn find_body(&self, view: &DeliveryView<'_>) -> Found {
        let ViewKind::Reference(reference) = &view.kind else {
            return Found::Missing;
        };
        let found = self.bodies.find(&view.body_key(), &reference.referred);
        self.counters.inc(match found {
            Found::Here(_) => Counter::BodyHits,
            Found::Gone | Found::Missing => Counter::BodyMisses,
        });
        found
    }

    /// A session reads no further than a record whose body is not here. `false`: it does, the record means nothing.
    pub(super) fn await_body(
        &mut self,
        connection: &mut Connection,
        offset: u64,
        key: BodyKey,
        reference: &ReferenceView<'_>,
    ) -> bool {
        let (id, now_ms) = (connection.id, self.node.clock.now_ms());
        let Role::Session(device) = &mut connection.role else {
            return false;
        };
        let Some(fetch) = fetch(key, reference) else {
            self.counters.inc(Counter::DeliveryBad);
            device.session.skip_to(offset + 1);
            return false;
        };
        device.awaits_body = true;
        if !self.bodies.want(fetch, Some(id), now_ms) {
            self.counters.inc(Counter::BodiesShed);
        }
        true
    }

    /// Wants the bodies of what the session will read next in the ring.
    pub(super) fn look_ahead(&mut self, connection: &mut Connection, from: u64) {
        let Role::Session(device) = &connection.role else {
            return;
        };
        let (mut from, now_ms) = (from, self.node.clock.now_ms());
        for _ in 0..AHEAD {
            let (partition, user) = (device.partition, device.user.as_str());
            let lines = lines_of(&self.partitions, partition, user);
            let Missed::Record { offset, value } = self.replay.next(partition, lines, from) else {
                return;
            };
            from = offset + 1;
            if let Some(fetch) = missing(&self.bodies, value) {
                self.bodies.want(fetch, None, now_ms);
            }
        }
    }

    /// The same of what has been read from the log, where the session waits for a body.
    pub(super) fn look_ahead_in(&mut self, connection: &mut Connection, records: &[Record]) {
        let Role::Session(device) = &connection.role else {
            return;
        };
        if !device.awaits_body {
            return;
        }
        let user = device.user.as_str();
        let now_ms = self.node.clock.now_ms();
        let mut left = AHEAD;
        for record in records {
            let Some(fetch) = missing(&self.bodies, &record.value).filter(|_| left > 0) else {
                continue;
            };
            if is_for(&record.value, user) {
                left -= 1;
                self.bodies.want(fetch, None, now_ms);
            }
        }
    }

    pub(super) fn gauge_bodies(&self) {
        let counters = &self.counters;
        counters.set(Gauge::BodyBytes, self.bodies.bytes());
        counters.set(Gauge::BodiesWanted, self.bodies.wanted());
        let told = counters.counter(Counter::BodyEvictions);
        let evicted = self.bodies.evicted().saturating_sub(told);
        counters.add(Counter::BodyEvictions, evicted);
    }
}

/// What is to be fetched for a reference; `None`: it names no chat, which nobody writes.
fn fetch(key: BodyKey, reference: &ReferenceView<'_>) -> Option<Fetch> {
    Some(Fetch {
        key,
        chat: ChatId::new(reference.chat).ok()?,
        referred: reference.referred,
    })
}

/// What is to be fetched for a delivery record, if its body is not here.
fn missing(bodies: &Bodies<SessionId>, value: &[u8]) -> Option<Fetch> {
    let view = DeliveryView::parse(value).ok()?;
    let ViewKind::Reference(reference) = &view.kind else {
        return None;
    };
    let key = view.body_key();
    let missing = bodies.find(&key, &reference.referred) == Found::Missing;
    fetch(key, reference).filter(|_| missing)
}

fn is_for(value: &[u8], user: &str) -> bool {
    match DeliveryView::parse(value).map(|view| view.kind) {
        Ok(ViewKind::Reference(reference)) => reference.to.recipients().any(|to| to == user),
        _ => false,
    }
}
