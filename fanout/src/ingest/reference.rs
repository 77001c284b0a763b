//! Messages above a size: delivery records refer to the message record, which travels once for every lane whose nodes
//! need it (docs/adr/0023).
//!
//! Whether a message is referred to depends on its record, the configuration and how many partitions it touches, so it is
//! the same on every replay. Where bodies go depends on who owns what now, and nobody relies on it.

use super::plan::Place;
use bytes::Bytes;
use hawser_engines::log::{Produce, Topic};
use hawser_protocol::frame::MessageView;
use hawser_protocol::ownership::{Kind, Table};
use hawser_protocol::record::{BodyKey, BodyRecord, Referred};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// A message in so many partitions is never referred to: each would be read once or twice anyway.
const WHOLE_PARTITIONS_MAX: usize = 2;

/// The delivery records of a message.
pub(super) struct Delivered {
    pub(super) produce: Vec<Produce>,
    /// What they refer to, as a value of `bodies`.
    pub(super) body: Option<Bytes>,
}

impl Place<'_> {
    /// The reference to a message record, where its size and the partitions that it touches make one worth while.
    pub(super) fn reference(&self, record: &Bytes, touched: usize) -> Option<Referred> {
        let above = self.config.reference_bytes;
        if above == 0 || record.len() <= above || touched <= WHOLE_PARTITIONS_MAX {
            return None;
        }
        // Ingest wrote it itself: it can be read.
        let ordinal = MessageView::parse(record).ok()?.ordinal();
        Some(Referred::to(ordinal, record))
    }

    /// The body that those references mean.
    pub(super) fn body(&self, record: &Bytes) -> Bytes {
        let key = BodyKey {
            source_partition: self.partition,
            seq: self.seq,
        };
        let record = record.clone();
        BodyRecord { key, record }.encode()
    }
}

/// Puts a body on a lane.
pub(super) fn on_lane(lane: u32, body: Bytes, timestamp_ms: u64) -> Produce {
    Produce {
        topic: Topic::Bodies,
        partition: lane,
        key: Bytes::new(),
        value: body,
        timestamp_ms,
    }
}

/// Which lane the owner of each delivery partition reads, as last heard. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub(super) struct BodyLanes(Arc<Mutex<Lanes>>);

#[derive(Default)]
struct Lanes {
    /// What it was made of: the table's version, and how many partitions there are.
    of: (u64, u32),
    /// By partition; `None`: nobody owns it, or its owner reads none.
    lanes: Vec<Option<u32>>,
}

impl BodyLanes {
    /// Takes what the table says, where it says something new.
    pub(super) fn learn(&self, table: &Table) {
        let of = (table.version(), table.partitions(Kind::Delivery));
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lanes.of == of {
            return;
        }
        lanes.of = of;
        let lane = |partition| table.owner(Kind::Delivery, partition)?.1.lane;
        lanes.lanes = (0..of.1).map(lane).collect();
    }

    /// The lanes of those who own what these records go to; each once.
    pub(super) fn of<'p>(&self, produce: impl Iterator<Item = &'p Produce>) -> BTreeSet<u32> {
        let lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let delivery = produce.filter(|p| p.topic == Topic::Delivery);
        let of = |p: &Produce| *lanes.lanes.get(p.partition as usize)?;
        delivery.filter_map(of).collect()
    }
}

impl fmt::Debug for BodyLanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_tuple("BodyLanes").field(&lanes.lanes).finish()
    }
}
