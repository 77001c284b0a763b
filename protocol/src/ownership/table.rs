//! The fold.

use super::{Kind, LeaseRecord, NodeName, NodeRecord, NodeState, OwnerRecord};
use crate::limits::SLOTS;
use std::collections::BTreeMap;

/// A node as its records have it.
pub type Node = NodeRecord;
/// An ownership as its record has it.
pub type Owner = OwnerRecord;

/// Claims of partitions above are nobody's: more there never are.
const PARTITIONS_MAX: u32 = SLOTS;

/// Who is there and who owns what.
///
/// Claims count whether or not their partition is known here yet: the fold is the same for all, and how many partitions
/// there are, which readers learn at different times, matters to plans alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    nodes: BTreeMap<NodeName, Node>,
    delivery: Claims,
    ingest: Claims,
    version: u64,
}

/// Of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Claims {
    /// As many as there are.
    partitions: u32,
    /// By partition.
    owners: BTreeMap<u32, Owner>,
}

/// What a record changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// Nothing: it is about something else, or says what is known.
    Nothing,
    /// A node lives, as before.
    Beat(NodeName),
    /// A node came, left, was called gone, or its state, weight, roles or addresses changed.
    Node(NodeName),
    /// A partition has another owner.
    Owner {
        /// Of which kind.
        kind: Kind,
        /// Which.
        partition: u32,
        /// Who owned it, dead or alive.
        before: Option<Owner>,
    },
    /// A record of a node does not count, and would for a reader that begins with it: a word that it is gone which came
    /// too late, or another life of the same rank. Compaction may leave it as the last of its key, so the node outranks it.
    Stray(NodeName),
    /// A claim came after another of the same lease_epoch. Compaction may leave it as the last of its key, so the owner
    /// claims anew.
    Late {
        /// Of which kind.
        kind: Kind,
        /// Which.
        partition: u32,
    },
}

impl Table {
    /// Empty, for so many partitions of each kind.
    #[must_use]
    pub fn new(delivery: u32, ingest: u32) -> Self {
        Self {
            nodes: BTreeMap::new(),
            delivery: Claims::of(delivery),
            ingest: Claims::of(ingest),
            version: 0,
        }
    }

    /// There are so many partitions of a kind now; whether that is another number than before.
    pub(super) fn set_partitions(&mut self, kind: Kind, partitions: u32) -> bool {
        let claims = match kind {
            Kind::Delivery => &mut self.delivery,
            Kind::Ingest => &mut self.ingest,
        };
        std::mem::replace(&mut claims.partitions, partitions) != partitions
    }

    /// Takes the record at `offset` of the topic.
    pub fn apply(&mut self, offset: u64, key: &[u8], value: &[u8]) -> Applied {
        let applied = match LeaseRecord::read(key, value) {
            Some(LeaseRecord::Node(name, record)) => self.node_record(name, record),
            Some(LeaseRecord::Owner(kind, partition, record)) => {
                self.owner_record(kind, partition, record)
            }
            None => Applied::Nothing,
        };
        if matches!(applied, Applied::Node(_) | Applied::Owner { .. }) {
            self.version = offset + 1;
        }
        applied
    }

    fn node_record(&mut self, name: NodeName, record: NodeRecord) -> Applied {
        let Some(known) = self.nodes.get_mut(&name) else {
            self.nodes.insert(name.clone(), record);
            return Applied::Node(name);
        };
        if record.replaces < known.replaces {
            return Applied::Nothing;
        }
        // Who replaces more lives of the name counts; of two that replace as many the first does.
        if record.replaces == known.replaces {
            let other = record.incarnation != known.incarnation;
            let gone = record.state == NodeState::Gone;
            if other || (gone && record.beat < known.beat) {
                return Applied::Stray(name);
            }
            if known.state == NodeState::Gone || (record.beat <= known.beat && !gone) {
                return Applied::Nothing;
            }
        }
        let same = Node {
            beat: record.beat,
            ..known.clone()
        } == record;
        *known = record;
        if same {
            Applied::Beat(name)
        } else {
            Applied::Node(name)
        }
    }

    fn owner_record(&mut self, kind: Kind, partition: u32, record: OwnerRecord) -> Applied {
        if partition >= PARTITIONS_MAX {
            return Applied::Nothing;
        }
        let claims = match kind {
            Kind::Delivery => &mut self.delivery,
            Kind::Ingest => &mut self.ingest,
        };
        match claims.owners.get(&partition) {
            Some(owner) if *owner == record => Applied::Nothing,
            Some(owner) if record.lease_epoch <= owner.lease_epoch => {
                Applied::Late { kind, partition }
            }
            _ => Applied::Owner {
                kind,
                partition,
                before: claims.owners.insert(partition, record),
            },
        }
    }

    /// Partitions of a kind.
    #[must_use]
    pub fn partitions(&self, kind: Kind) -> u32 {
        self.claims(kind).partitions
    }

    fn claims(&self, kind: Kind) -> &Claims {
        match kind {
            Kind::Delivery => &self.delivery,
            Kind::Ingest => &self.ingest,
        }
    }

    /// The last word on a partition; its node may be gone since.
    #[must_use]
    pub fn claimed(&self, kind: Kind, partition: u32) -> Option<&Owner> {
        self.claims(kind).owners.get(&partition)
    }

    /// Who owns a partition and lives.
    #[must_use]
    pub fn owner(&self, kind: Kind, partition: u32) -> Option<(&NodeName, &Node)> {
        let owner = self.claimed(kind, partition)?;
        let (name, node) = self.nodes.get_key_value(&owner.node)?;
        let lives = node.incarnation == owner.incarnation && node.state != NodeState::Gone;
        lives.then_some((name, node))
    }

    /// What a claim of a partition has to say.
    #[must_use]
    pub fn next_epoch(&self, kind: Kind, partition: u32) -> u64 {
        self.claimed(kind, partition)
            .map_or(1, |owner| owner.lease_epoch + 1)
    }

    /// A node by its name.
    #[must_use]
    pub fn node(&self, name: &NodeName) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// All nodes that were ever heard of and are still in the topic, by name.
    pub fn nodes(&self) -> impl Iterator<Item = (&NodeName, &Node)> {
        self.nodes.iter()
    }

    /// Grows when a node or an owner changes, for every reader to the same number.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }
}

impl Claims {
    fn of(partitions: u32) -> Self {
        Self {
            partitions,
            ..Self::default()
        }
    }
}
