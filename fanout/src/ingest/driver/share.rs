//! Which partitions of `chat-messages` a driver ingests: what its process owns.

use super::bell::{Bell, lock};
use crate::ingest::reference::BodyLanes;
use hawser_engines::log::Produce;
use hawser_protocol::ownership::Table;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// The partitions that are this process's. Nothing is at first. Cheap to clone; all clones are one.
///
/// Two drivers with one partition do the same work twice and nothing else: sharing is for the work's sake.
#[derive(Clone, Default)]
pub struct IngestShare(Arc<Inner>);

#[derive(Default)]
struct Inner {
    owned: Mutex<BTreeSet<u32>>,
    /// Grows with every change.
    version: AtomicU64,
    in_place: AtomicBool,
    bells: Mutex<Vec<Arc<Bell>>>,
    lanes: BodyLanes,
}

impl IngestShare {
    /// It is ours now.
    pub fn own(&self, partition: u32) {
        if lock(&self.0.owned).insert(partition) {
            self.tell();
        }
    }

    /// It is another's now: what is on its way is done, and nothing more is begun.
    pub fn release(&self, partition: u32) {
        if lock(&self.0.owned).remove(&partition) {
            self.tell();
        }
    }

    /// Whether the process has its place among the others, so that it may own something.
    pub fn set_in_place(&self, in_place: bool) {
        self.0.in_place.store(in_place, Ordering::Release);
    }

    /// Takes what a table of owners says about who reads which lane of `bodies`.
    pub fn learn_lanes(&self, table: &Table) {
        self.0.lanes.learn(table);
    }

    /// The lanes of those whom these records are for.
    pub(super) fn lanes<'p>(&self, records: impl Iterator<Item = &'p Produce>) -> BTreeSet<u32> {
        self.0.lanes.of(records)
    }

    pub(super) fn is_in_place(&self) -> bool {
        self.0.in_place.load(Ordering::Acquire)
    }

    /// How many partitions are ours.
    #[must_use]
    pub fn owned(&self) -> usize {
        lock(&self.0.owned).len()
    }

    pub(super) fn version(&self) -> u64 {
        self.0.version.load(Ordering::Acquire)
    }

    /// The partitions, at a version or a later one.
    pub(super) fn partitions(&self) -> BTreeSet<u32> {
        lock(&self.0.owned).clone()
    }

    /// These threads are told of changes.
    pub(super) fn ring(&self, bells: &[Arc<Bell>]) {
        *lock(&self.0.bells) = bells.to_vec();
    }

    fn tell(&self) {
        self.0.version.fetch_add(1, Ordering::AcqRel);
        lock(&self.0.bells).iter().for_each(|bell| bell.ring());
    }
}

impl fmt::Debug for IngestShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IngestShare")
            .field(&self.partitions())
            .finish()
    }
}
