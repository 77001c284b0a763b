//! Revocations: in the directory's list first, then, perhaps, in the delivery log; and what edges make of both.

use crate::Break;
use crate::cluster::{DELIVERIES, Entry};
use crate::edge::{Conn, edge_of};
use crate::world::{ConnId, EDGES, Event, START_WALL_MS, World};
use hawser_fanout::auth::{Claims, Learnt, Standing, voids};
use hawser_protocol::client::Phase;
use hawser_protocol::codes::{CloseCode, ErrorCode};
use hawser_protocol::frame::ServerFrame;
use hawser_protocol::ids::{DeviceId, Seq, UserId};
use hawser_protocol::partition::partition;
use hawser_protocol::pb;
use hawser_protocol::record::{DeliveryKind, DeliveryRecord};
use hawser_protocol::revocation::Revocation;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// An edge reads the list within this, milliseconds.
const LIST_MS: u64 = 500;
/// Where the directory is away, milliseconds.
const LIST_SLOW_MS: u64 = 20_000;
/// A record is on the log within this after the list has it, milliseconds: two may change places.
const TOLD_MS: u64 = 60;
/// Users and devices are let in again, and have noticed, after this, milliseconds.
const PARDONED_MS: u64 = 2 * LIST_SLOW_MS;

/// A token in so many words: when it expires and when it was issued, by a clock that does not jump.
pub(crate) fn token(expires_ms: u64, issued_ms: u64) -> String {
    format!("{expires_ms} {issued_ms}")
}

/// When a token expires, and what it says.
pub(crate) fn claims_of(token: &str, user: &UserId, device: &DeviceId) -> (u64, Claims) {
    let number = |text: Option<&str>| text.and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut words = token.split(' ');
    let (expires_at_ms, issued_at_ms) = (number(words.next()), number(words.next()));
    let claims = Claims {
        user: user.clone(),
        device: Some(device.clone()),
        expires_at_ms,
        issued_at_ms,
        admin: false,
        jti: None,
    };
    (expires_at_ms, claims)
}

/// Whether a token is void by entries of the list, in their order: all there is to know, told simply.
fn void_by<'a>(list: impl IntoIterator<Item = &'a Revocation>, claims: &Claims) -> bool {
    let mine = |entry: &&Revocation| match *entry {
        Revocation::User { user, .. } | Revocation::Pardon { user } => *user == claims.user,
        _ => true,
    };
    let mut void = (false, false);
    for entry in list.into_iter().filter(mine) {
        match entry {
            Revocation::Pardon { .. } => void.0 = false,
            Revocation::User { .. } => void.0 |= voids(entry, claims),
            _ => void.1 |= voids(entry, claims),
        }
    }
    void.0 || void.1
}

impl World {
    /// The clock of who issues tokens and of the API.
    pub(crate) fn true_ms(&self) -> u64 {
        START_WALL_MS + self.ms
    }

    /// An administrator revokes or pardons something of a device's user.
    pub(crate) fn revoke_something(&mut self, device: usize) {
        let (user, name) = {
            let d = &self.devices[device];
            (d.user.clone(), d.name.clone())
        };
        let until_ms = Some(self.true_ms());
        let revocation = match self.chance.below(5) {
            0 => Revocation::User {
                user,
                until_ms: None,
            },
            1 => Revocation::User { user, until_ms },
            2 => Revocation::Device {
                user,
                device: name,
                until_ms,
            },
            _ => Revocation::Pardon { user },
        };
        // One in eight the log does not take.
        let told = self.chance.below(8) != 0;
        self.decide(device, revocation, told);
    }

    /// It is in the directory from now on, and on the log a little later.
    fn decide(&mut self, device: usize, revocation: Revocation, told: bool) {
        self.tell(|| format!("decided: {revocation:?}, told {told}"));
        let user = self.devices[device].user.clone();
        self.cluster.revocations.push(revocation.clone());
        let number = self.cluster.revocations.len() as u64;
        if told {
            let record = DeliveryRecord {
                source_partition: 0,
                source_seq: Seq::NONE,
                sub_index: 0,
                kind: DeliveryKind::Revoke {
                    user,
                    number,
                    revocation,
                    reason: "revoked".into(),
                },
            };
            let at = self.ms + 1 + self.chance.below(TOLD_MS);
            self.at(
                at,
                Event::Told {
                    record: Box::new(record),
                },
            );
        }
        for edge in 0..EDGES {
            self.await_list(edge);
        }
    }

    /// The record reaches the log.
    pub(crate) fn told(&mut self, record: DeliveryRecord) {
        let DeliveryKind::Revoke { user, .. } = &record.kind else {
            return;
        };
        let at = partition(user.as_str(), DELIVERIES) as usize;
        self.cluster.delivery[at].entries.push(Entry {
            value: record.encode(),
            whole: record.kind.clone(),
            record,
            members: BTreeSet::new(),
            repeat: false,
        });
        self.wake_edges();
    }

    /// The edge will read the list, some time.
    fn await_list(&mut self, edge: usize) {
        let within = match self.chance.below(4) {
            0 => LIST_SLOW_MS,
            _ => LIST_MS,
        };
        let at = self.ms + 1 + self.chance.below(within);
        let boot = self.edges[edge].boot;
        self.at(at, Event::List { edge, boot });
    }

    /// The edge has read the list, and judges its sessions anew.
    pub(crate) fn read_list(&mut self, edge: usize, boot: u32) {
        if self.edges[edge].boot != boot || self.edges[edge].down {
            return;
        }
        let list = &self.cluster.revocations;
        let node = &mut self.edges[edge];
        for entry in &list[node.list_read..] {
            if let Err(error) = node.standing.read(entry) {
                let what = format!("edge {edge}: {error}");
                return self.violate("revoked", what);
            }
        }
        node.list_read = list.len();
        node.standing.read_up_to(list.len() as u64);
        self.judge_sessions(edge, |_| true);
    }

    /// A process that starts reads the list, unless the directory is away, then its recent past.
    pub(crate) fn edge_learns(&mut self, edge: usize) {
        let boot = self.edges[edge].boot;
        match self.chance.below(4) {
            0 => self.await_list(edge),
            _ => self.read_list(edge, boot),
        }
        for at in (0..DELIVERIES).filter(|p| edge_of(*p) == edge) {
            for offset in 0..self.cluster.delivery[at as usize].entries.len() {
                let record = self.cluster.delivery[at as usize].entries[offset]
                    .record
                    .clone();
                self.control(edge, &record);
            }
        }
    }

    /// An edge comes to a record that may be one of a revocation.
    pub(crate) fn control(&mut self, edge: usize, record: &DeliveryRecord) {
        let DeliveryKind::Revoke {
            user,
            number,
            revocation,
            ..
        } = &record.kind
        else {
            return;
        };
        if self.broken == Some(Break::Revoke) {
            return;
        }
        let learnt = self.edges[edge].standing.learn(user, *number, revocation);
        self.evidence.learnt += u64::from(learnt == Learnt::New);
        self.judge_sessions(edge, |conn| conn.user == *user);
    }

    /// Takes a token for a connection, or closes it as revoked.
    pub(crate) fn admit(&mut self, conn: ConnId, claims: Claims) -> bool {
        let Some(c) = self.conns.get_mut(&conn) else {
            return false;
        };
        let void = self.edges[edge_of(c.partition)].standing.revoked(&claims);
        c.claims = Some(claims);
        if void {
            self.close_revoked(conn);
        }
        !void
    }

    fn judge_sessions(&mut self, edge: usize, concerns: impl Fn(&Conn) -> bool) {
        let standing: &Standing = &self.edges[edge].standing;
        let void = |c: &Conn| {
            let claims = c.claims.as_ref();
            edge_of(c.partition) == edge && claims.is_some_and(|claims| standing.revoked(claims))
        };
        let conns = self.conns.iter().filter(|(_, c)| concerns(c) && void(c));
        let conns: Vec<ConnId> = conns.map(|(id, _)| *id).collect();
        for conn in conns {
            self.close_revoked(conn);
        }
    }

    /// Closes as revoked, which must be true by the list as the edge knows it, or by a later state of it.
    pub(crate) fn close_revoked(&mut self, conn: ConnId) {
        let Some(c) = self.conns.get(&conn) else {
            return;
        };
        let (list, read) = (
            &self.cluster.revocations,
            self.edges[edge_of(c.partition)].list_read,
        );
        if let Some(claims) = &c.claims
            && !(read..=list.len()).any(|place| void_by(&list[..place], claims))
        {
            let what = format!("{}/{} is closed, and its token is good", c.user, c.name);
            return self.violate("revoked", what);
        }
        self.evidence.revoked += 1;
        let error = pb::Error {
            code: u32::from(ErrorCode::Revoked.number()),
            text: "revoked".into(),
            ..pb::Error::default()
        };
        self.send_down(conn, &ServerFrame::Error(error));
        self.edge_close(conn, CloseCode::Revoked.number());
    }

    /// Something with an offset goes to a session: by the list as the edge has read it, and all records up to where it has
    /// read the log, its token is good. What it resumes may have been a banned user's when it was said.
    pub(crate) fn may_have(&mut self, conn: ConnId, offset: u64) {
        let Some(c) = self.conns.get(&conn) else {
            return;
        };
        let Some(claims) = &c.claims else {
            return;
        };
        let log = &self.cluster.delivery[c.partition as usize].entries;
        let upto = offset.max(self.taken(c.partition));
        let before = log.iter().take(usize::try_from(upto).unwrap_or(usize::MAX));
        let mut told: BTreeMap<u64, &Revocation> = before
            .filter_map(|entry| match &entry.record.kind {
                DeliveryKind::Revoke {
                    number, revocation, ..
                } => Some((*number, revocation)),
                _ => None,
            })
            .collect();
        let read = self.edges[edge_of(c.partition)].list_read;
        told.extend((1..).zip(&self.cluster.revocations[..read]));
        if void_by(told.into_values(), claims) {
            let what = format!(
                "{}/{} is given {offset} after its revocation",
                c.user, c.name
            );
            self.violate("revoked", what);
        }
    }

    /// Everybody is let in again; whoever was turned away starts the program anew, and logs in.
    pub(crate) fn pardon_all(&mut self) {
        for device in 0..self.devices.len() {
            let user = self.devices[device].user.clone();
            self.decide(device, Revocation::Pardon { user }, true);
        }
        self.pass(PARDONED_MS);
        for device in 0..self.devices.len() {
            if matches!(self.devices[device].phase, Phase::Refused { .. }) {
                self.device_crash(device);
            }
        }
    }
}
