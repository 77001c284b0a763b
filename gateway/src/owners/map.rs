//! The map that every core reads: who owns what, as far as this node has read.

use arc_swap::{ArcSwap, ArcSwapOption};
use hawser_fanout::owners::Leaving;
use hawser_protocol::ownership::{Kind, Member, NodeName, NodeState, Table, plan};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Another node, or this one, as the others see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Peer {
    pub(crate) name: NodeName,
    pub(crate) state: NodeState,
    /// For clients over TLS; empty: none.
    pub(crate) url: String,
    /// For clients without.
    pub(crate) plain_url: String,
    /// Its admin listener; empty: none.
    pub(crate) link: String,
    /// It serves clients.
    pub(crate) edge: bool,
    /// It ingests.
    pub(crate) ingest: bool,
}

impl Peer {
    /// Where a client goes that came with or without TLS; `None`: it cannot.
    pub(crate) fn url_for(&self, tls: bool) -> Option<&str> {
        let url = if tls { &self.url } else { &self.plain_url };
        (!url.is_empty()).then_some(url)
    }
}

/// Where the users of a partition belong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// Here.
    Ours,
    /// To another node.
    Of(Arc<Peer>),
    /// Nobody's now: whoever is asked serves them.
    Nobody,
}

/// What the log says of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    /// Who owns it and lives.
    pub(crate) owner: Option<NodeName>,
    /// Of the last claim; 0: there was none.
    pub(crate) lease_epoch: u64,
}

/// What was read up to a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnerMap {
    /// Grows with every change of the table, on all nodes alike.
    pub(crate) version: u64,
    /// By partition; empty: this node is alone and everything is its own.
    pub(crate) places: Vec<Place>,
    /// By partition, whether this node is to be ready to serve it: it owns it, has claimed it, or prepares for it.
    pub(crate) held: Vec<bool>,
    /// Delivery partitions in the log, whether or not their owners are fit to be sent to.
    pub(crate) delivery: Vec<Lease>,
    /// Partitions of ingest in the log.
    pub(crate) ingest: Vec<Lease>,
    /// All nodes that are not gone, this one among them.
    pub(crate) nodes: Vec<Arc<Peer>>,
    /// Others may own what is ours.
    pub(crate) fenced: bool,
}

impl OwnerMap {
    /// Of a node without others.
    fn alone() -> Self {
        Self {
            version: 0,
            places: Vec::new(),
            held: Vec::new(),
            delivery: Vec::new(),
            ingest: Vec::new(),
            nodes: Vec::new(),
            fenced: false,
        }
    }

    /// What a member knows. One that is leaving counts what it still owns as its heirs' already, where there are any.
    ///
    /// Nobody is sent to an owner that leaves or is quiet: until another has taken over, whoever is asked serves.
    pub(super) fn of(member: &Member, me: &NodeName, leaving: bool, now_ms: u64) -> Self {
        let table = member.table();
        let mut peers = BTreeMap::new();
        for (name, node) in table.nodes().filter(|(_, n)| n.state != NodeState::Gone) {
            let peer = Peer {
                name: name.clone(),
                state: node.state,
                url: node.url.clone(),
                plain_url: node.plain_url.clone(),
                link: node.link.clone(),
                edge: node.edge,
                ingest: node.ingest,
            };
            peers.insert(name.clone(), Arc::new(peer));
        }
        let heirs = match leaving {
            true => heirs(table),
            false => Vec::new(),
        };
        let place = |partition: u32| {
            let ours = member.owns(Kind::Delivery, partition).is_some();
            let owner = table.owner(Kind::Delivery, partition).map(|(name, _)| name);
            let heir = heirs.get(partition as usize).and_then(Option::as_ref);
            let of = if ours || owner == Some(me) {
                heir
            } else {
                owner
            };
            let of = of.filter(|name| !member.is_quiet(now_ms, name));
            match of
                .filter(|name| *name != me)
                .and_then(|name| peers.get(name))
            {
                Some(peer) if peer.state == NodeState::Active => Place::Of(peer.clone()),
                Some(_) => Place::Nobody,
                None if ours => Place::Ours,
                None => Place::Nobody,
            }
        };
        let partitions = 0..table.partitions(Kind::Delivery);
        let held = |partition| member.holds(Kind::Delivery, partition);
        Self {
            version: table.version(),
            held: partitions.clone().map(held).collect(),
            places: partitions.map(place).collect(),
            delivery: leases(table, Kind::Delivery),
            ingest: leases(table, Kind::Ingest),
            nodes: peers.into_values().collect(),
            fenced: member.is_fenced(),
        }
    }

    /// Partitions that are this node's.
    pub(crate) fn owned(&self) -> usize {
        let ours = |place: &&Place| **place == Place::Ours;
        self.places.iter().filter(ours).count()
    }
}

fn leases(table: &Table, kind: Kind) -> Vec<Lease> {
    let lease = |partition| Lease {
        owner: table.owner(kind, partition).map(|(name, _)| name.clone()),
        lease_epoch: table
            .claimed(kind, partition)
            .map_or(0, |owner| owner.lease_epoch),
    };
    (0..table.partitions(kind)).map(lease).collect()
}

/// Who owns what once this node, which says that it drains, has given everything away.
fn heirs(table: &Table) -> Vec<Option<NodeName>> {
    plan(table, Kind::Delivery)
}

/// How far a leaving node is.
const STAYS: u8 = 0;
const LEAVES: u8 = 1;
const LEFT: u8 = 2;

/// The map of a node, and what is asked of who follows it.
#[derive(Debug)]
pub(crate) struct Owners {
    map: ArcSwap<OwnerMap>,
    /// Others go on without this node, which cannot read the log: sessions are better off there.
    refuge: ArcSwapOption<Peer>,
    leaving: AtomicU8,
    in_cluster: bool,
    /// Something changed since the cores were last told.
    changed: AtomicBool,
    /// Cores that are ready to serve a partition, by partition.
    ready: Mutex<BTreeMap<u32, u32>>,
}

impl Owners {
    /// Nothing is known yet; outside a cluster that stays so.
    pub(crate) fn new(in_cluster: bool) -> Self {
        Self {
            map: ArcSwap::from_pointee(OwnerMap::alone()),
            refuge: ArcSwapOption::empty(),
            leaving: AtomicU8::new(STAYS),
            in_cluster,
            changed: AtomicBool::new(false),
            ready: Mutex::default(),
        }
    }

    /// A core is ready to serve its part of a partition, or no longer.
    pub(crate) fn set_ready(&self, partition: u32, ready: bool) {
        let mut all = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let cores = all.entry(partition).or_default();
        *cores = match ready {
            true => *cores + 1,
            false => cores.saturating_sub(1),
        };
    }

    /// How many cores are ready to serve a partition.
    pub(super) fn ready(&self, partition: u32) -> u32 {
        let all = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&partition).copied().unwrap_or(0)
    }

    /// Whether there may be other nodes.
    pub(crate) fn in_cluster(&self) -> bool {
        self.in_cluster
    }

    /// The map now.
    pub(crate) fn map(&self) -> Arc<OwnerMap> {
        self.map.load_full()
    }

    /// Where the users of a partition belong, if that is not here.
    pub(crate) fn elsewhere(&self, partition: u32) -> Option<Arc<Peer>> {
        if !self.in_cluster {
            return None;
        }
        let map = self.map.load();
        if map.fenced {
            return self.refuge.load_full();
        }
        match map.places.get(partition as usize) {
            Some(Place::Of(peer)) => Some(peer.clone()),
            _ => None,
        }
    }

    /// Whether this node owns a partition, as far as it knows.
    pub(crate) fn owns(&self, partition: u32) -> bool {
        let map = self.map.load();
        !self.in_cluster || map.places.get(partition as usize) == Some(&Place::Ours)
    }

    /// What clients are told as the map's version.
    pub(crate) fn version(&self) -> u32 {
        // Clients compare it with what they were told before, and nothing else.
        u32::try_from(self.map.load().version & u64::from(u32::MAX)).unwrap_or(0)
    }

    pub(super) fn publish(&self, map: OwnerMap) {
        if **self.map.load() != map {
            self.map.store(Arc::new(map));
            self.changed.store(true, Ordering::Release);
        }
    }

    /// Where to send sessions while this node cannot read the log.
    pub(crate) fn set_refuge(&self, refuge: Option<Arc<Peer>>) {
        if *self.refuge.load() != refuge {
            self.refuge.store(refuge);
            self.changed.store(true, Ordering::Release);
        }
    }

    /// Whether the cores are to look at their sessions again; asked once per change.
    pub(crate) fn take_change(&self) -> bool {
        self.changed.swap(false, Ordering::AcqRel)
    }

    /// The cores did not all hear of it.
    pub(crate) fn put_change_back(&self) {
        self.changed.store(true, Ordering::Release);
    }

    /// This node gives away what it owns.
    pub(crate) fn leave(&self) {
        // From `LEFT` there is no way back.
        let _ = self
            .leaving
            .compare_exchange(STAYS, LEAVES, Ordering::AcqRel, Ordering::Acquire);
    }

    /// This node says good-bye.
    pub(crate) fn end(&self) {
        self.leaving.store(LEFT, Ordering::Release);
    }

    pub(super) fn leaving(&self) -> Leaving {
        match self.leaving.load(Ordering::Acquire) {
            STAYS => Leaving::Not,
            LEAVES => Leaving::Draining,
            _ => Leaving::Gone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hawser_protocol::ownership::{MemberConfig, NodeRecord, Step};

    fn record(url: &str) -> NodeRecord {
        NodeRecord {
            incarnation: 0,
            replaces: 0,
            beat: 0,
            state: NodeState::Active,
            weight: 1,
            edge: true,
            ingest: false,
            url: url.to_owned(),
            plain_url: String::new(),
            link: String::new(),
            lane: None,
        }
    }

    /// Members on one log, until nothing more is said.
    fn settle(
        members: &mut [Member],
        log: &mut Vec<(String, Vec<u8>)>,
        read: &mut [usize],
        from_ms: u64,
    ) {
        for now_ms in (from_ms..from_ms + 4_000).step_by(50) {
            for (index, member) in members.iter_mut().enumerate() {
                let mut out = Vec::new();
                for (offset, (key, value)) in log.iter().enumerate().skip(read[index]) {
                    member.record(now_ms, offset as u64, key.as_bytes(), value, &mut out);
                }
                read[index] = log.len();
                member.caught_up(now_ms, &mut out);
                member.tick(now_ms, &mut out);
                while let Some(step) = out.pop() {
                    match step {
                        Step::Append(record) => log.push((record.key(), record.value())),
                        Step::Prepare(kind, p) => member.prepared(now_ms, kind, p, &mut out),
                        _ => {}
                    }
                }
            }
        }
    }

    #[test]
    fn a_map_says_where_each_partition_is_and_a_leaving_node_where_it_will_be() {
        let names = ["a", "b"].map(|name| NodeName::new(name).expect("a name"));
        let mut members = names.clone().map(|name| {
            let record = record(&format!("wss://{name}/v1/ws"));
            Member::new(MemberConfig::new(name, 7, record), 8, 0)
        });
        let (mut log, mut read) = (Vec::new(), [0, 0]);
        settle(&mut members, &mut log, &mut read, 0);
        let maps = [0, 1].map(|i| OwnerMap::of(&members[i], &names[i], false, 4_000));
        assert_eq!([maps[0].owned(), maps[1].owned()], [4, 4]);
        assert_eq!(maps[0].version, maps[1].version);
        for partition in 0..8 {
            let here = [0, 1].map(|i: usize| maps[i].places[partition] == Place::Ours);
            assert_ne!(here[0], here[1], "exactly one owner of {partition}");
            let other = usize::from(here[0]);
            let Place::Of(peer) = &maps[other].places[partition] else {
                panic!("{:?}", maps[other].places[partition]);
            };
            assert_eq!(peer.name, names[1 - other]);
            assert_eq!(
                peer.url_for(true),
                Some(&*format!("wss://{}/v1/ws", peer.name))
            );
            assert_eq!(peer.url_for(false), None, "it has no plain address");
        }
        let mut out = Vec::new();
        members[0].drain(4_000, &mut out);
        let Some(Step::Append(draining)) = out.pop() else {
            panic!()
        };
        log.push((draining.key(), draining.value()));
        let mut out = Vec::new();
        let last = log.len() - 1;
        members[0].record(
            4_010,
            last as u64,
            log[last].0.as_bytes(),
            &log[last].1,
            &mut out,
        );
        read[0] = log.len();
        let leaving = OwnerMap::of(&members[0], &names[0], true, 4_010);
        assert_eq!(leaving.owned(), 0, "{:?}", leaving.places);
        assert!(
            leaving
                .places
                .iter()
                .all(|p| matches!(p, Place::Of(peer) if peer.name == names[1]))
        );
        settle(&mut members, &mut log, &mut read, 4_050);
        assert_eq!(
            OwnerMap::of(&members[1], &names[1], false, 8_000).owned(),
            8
        );
    }

    #[test]
    fn alone_everything_is_ours_and_fenced_nobody_is_sent_anywhere_without_a_refuge() {
        assert_eq!(Owners::new(false).elsewhere(3), None);
        let owners = Owners::new(true);
        let peer = Arc::new(Peer {
            name: NodeName::new("b").expect("a name"),
            state: NodeState::Active,
            url: "wss://b/v1/ws".to_owned(),
            plain_url: String::new(),
            link: String::new(),
            edge: true,
            ingest: false,
        });
        let map = OwnerMap {
            version: 3,
            held: Vec::new(),
            places: vec![Place::Of(peer.clone()), Place::Nobody],
            delivery: Vec::new(),
            ingest: Vec::new(),
            nodes: vec![peer.clone()],
            fenced: false,
        };
        owners.publish(map.clone());
        assert!(owners.take_change() && !owners.take_change());
        owners.publish(map.clone());
        assert!(!owners.take_change(), "nothing is new");
        assert_eq!(
            [owners.elsewhere(0), owners.elsewhere(1)],
            [Some(peer.clone()), None]
        );
        owners.publish(OwnerMap {
            fenced: true,
            ..map
        });
        assert_eq!(owners.elsewhere(0), None);
        owners.set_refuge(Some(peer.clone()));
        assert_eq!(owners.elsewhere(1), Some(peer));
    }
}
