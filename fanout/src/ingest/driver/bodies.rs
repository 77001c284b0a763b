//! Bodies on their way to the nodes: best effort, before the records that refer to them.

use super::Shared;
use crate::ingest::reference::on_lane;
use bytes::Bytes;
use hawser_engines::log::{AppendOutcome, Appended, Produce, Topic};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// Of an ingest that shares with nobody: then there is one node.
const ONLY_LANE: u32 = 0;

struct Nobody;

impl Appended for Nobody {
    fn appended(&self, _: u64, _: AppendOutcome) {}
}

impl Shared {
    /// Sends a body to the lanes of the nodes that the records are for. A lane that is full or away loses it: who misses
    /// it reads the store.
    pub(super) fn send_body(&self, body: &Bytes, records: &VecDeque<Produce>) {
        let Some(first) = records.front() else {
            return;
        };
        let lanes = match &self.config.share {
            Some(share) => share.lanes(records.iter()),
            None => BTreeSet::from([ONLY_LANE]),
        };
        let there_are = self.log.partitions(Topic::Bodies);
        let nobody: Arc<dyn Appended> = Arc::new(Nobody);
        let mut sent = 0;
        for lane in lanes.iter().filter(|lane| **lane < there_are) {
            let record = on_lane(*lane, body.clone(), first.timestamp_ms);
            sent += u64::from(self.log.produce(record, 0, &nobody).is_ok());
        }
        self.counters.referred(sent, lanes.len() as u64 - sent);
    }
}
