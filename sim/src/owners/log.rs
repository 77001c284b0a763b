//! The `leases` log: what was appended, in the order that counts, less what compaction has removed.

use hawser_protocol::ownership::LeaseRecord;
use std::collections::BTreeSet;

/// A record of the log.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) record: LeaseRecord,
    pub(super) key: String,
    pub(super) value: Vec<u8>,
    pub(super) landed_ms: u64,
    removed: bool,
}

#[derive(Debug, Default)]
pub(super) struct Log {
    entries: Vec<Entry>,
    /// Nobody reads or writes until then.
    pub(super) away_until_ms: u64,
    pub(super) compacted: u64,
}

impl Log {
    pub(super) fn end(&self) -> usize {
        self.entries.len()
    }

    /// Offsets below this were appended before then.
    pub(super) fn older_than(&self, ms: u64) -> usize {
        self.entries.partition_point(|entry| entry.landed_ms < ms)
    }

    /// Appends; gives the offset.
    pub(super) fn append(&mut self, now_ms: u64, record: LeaseRecord) -> usize {
        self.entries.push(Entry {
            key: record.key(),
            value: record.value(),
            record,
            landed_ms: now_ms,
            removed: false,
        });
        self.entries.len() - 1
    }

    /// The first record at or after an offset that is still there.
    pub(super) fn next(&self, from: usize) -> Option<(usize, &Entry)> {
        let mut rest = self.entries.iter().enumerate().skip(from);
        rest.find(|(_, entry)| !entry.removed)
    }

    /// Below `until` the last record of each key stays; with `loses` that of one key goes as well.
    pub(super) fn compact(&mut self, until: usize, loses: Option<usize>) {
        let mut seen = BTreeSet::new();
        let below = self.entries.iter_mut().take(until).rev();
        for entry in below.filter(|entry| !entry.removed) {
            let last = seen.insert(entry.key.clone());
            entry.removed = !last || loses == Some(seen.len());
            self.compacted += u64::from(entry.removed);
        }
    }
}
