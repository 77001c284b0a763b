//! Device cursors: the last offset that each device has acknowledged, per delivery partition.
//!
//! Cursors merge by maximum, so two owners may write them at once. A partition writes its changes at
//! most once per interval, and everything it knows now and then, so that old deltas may be retired.
//! A lost second repeats a receipt: both are idempotent.

use ahash::AHashMap;
use hawser_protocol::ids::{DeviceId, UserId};

/// Devices in one record: 4,096 of at most some 150 bytes stay well below a log record's 1 MiB.
pub const DEVICES_PER_RECORD: usize = 4_096;

/// One device's cursor, as it is written.
pub type DeviceCursor = (UserId, DeviceId, u64);

/// Changes of one partition that are due.
#[derive(Debug, PartialEq, Eq)]
pub struct Due {
    /// Which partition.
    pub partition: u32,
    /// Whether this is all that is known, rather than what changed.
    pub snapshot: bool,
    /// At most `DEVICES_PER_RECORD`.
    pub devices: Vec<DeviceCursor>,
}

/// Cursors of all partitions that one core owns.
pub struct CursorTable {
    partitions: AHashMap<u32, Partition>,
    delta_ms: u64,
    snapshot_ms: u64,
}

#[derive(Default)]
struct Partition {
    devices: AHashMap<UserId, Vec<(DeviceId, Cursor)>>,
    changed: Vec<(UserId, DeviceId)>,
    delta_at_ms: u64,
    snapshot_at_ms: u64,
}

#[derive(Clone, Copy)]
struct Cursor {
    offset: u64,
    /// In `changed` already.
    dirty: bool,
}

impl CursorTable {
    /// A table that writes changes every `delta_ms` and everything every `snapshot_ms`.
    #[must_use]
    pub fn new(delta_ms: u64, snapshot_ms: u64) -> Self {
        Self {
            partitions: AHashMap::new(),
            delta_ms,
            snapshot_ms,
        }
    }

    /// Begins a partition; its first snapshot is due one interval from `now_ms`.
    pub fn open(&mut self, partition: u32, now_ms: u64) {
        self.partitions.entry(partition).or_insert(Partition {
            snapshot_at_ms: now_ms + self.snapshot_ms,
            ..Partition::default()
        });
    }

    /// Ends a partition: hands out what changed and was not written.
    pub fn close(&mut self, partition: u32, each: &mut dyn FnMut(Due)) {
        let Some(table) = self.partitions.remove(&partition) else {
            return;
        };
        for chunk in table.changes().chunks(DEVICES_PER_RECORD) {
            each(Due {
                partition,
                snapshot: false,
                devices: chunk.to_vec(),
            });
        }
    }

    /// Ends a partition: hands out all that is known.
    pub fn take(&mut self, partition: u32) -> Vec<DeviceCursor> {
        let table = self.partitions.remove(&partition);
        table.map_or_else(Vec::new, |table| table.everything())
    }

    /// Takes over what a record of the cursors topic says; nothing becomes due for it.
    pub fn load(&mut self, partition: u32, devices: impl IntoIterator<Item = DeviceCursor>) {
        if let Some(table) = self.partitions.get_mut(&partition) {
            for (user, device, offset) in devices {
                table.raise(&user, &device, offset);
            }
        }
    }

    /// Raises a device's cursor. Returns whether it moved.
    pub fn advance(
        &mut self,
        partition: u32,
        user: &UserId,
        device: &DeviceId,
        offset: u64,
    ) -> bool {
        let Some(table) = self.partitions.get_mut(&partition) else {
            return false;
        };
        let Some(cursor) = table.raise(user, device, offset) else {
            return false;
        };
        if !cursor.dirty {
            cursor.dirty = true;
            table.changed.push((user.clone(), device.clone()));
        }
        true
    }

    /// A device's cursor, if it ever acknowledged.
    #[must_use]
    pub fn get(&self, partition: u32, user: &UserId, device: &DeviceId) -> Option<u64> {
        self.partitions.get(&partition)?.offset(user, device)
    }

    /// Devices with a cursor.
    #[must_use]
    pub fn len(&self) -> usize {
        let users = self.partitions.values().flat_map(|p| p.devices.values());
        users.map(Vec::len).sum()
    }

    /// Whether no device has a cursor.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.partitions.values().all(|p| p.devices.is_empty())
    }

    /// Hands out what is due at `now_ms`; `all` flushes every change regardless of the interval.
    pub fn due(&mut self, now_ms: u64, all: bool, each: &mut dyn FnMut(Due)) {
        for (partition, table) in &mut self.partitions {
            let snapshot = now_ms >= table.snapshot_at_ms;
            let delta = !table.changed.is_empty() && (all || now_ms >= table.delta_at_ms);
            if !snapshot && !delta {
                continue;
            }
            let devices = if snapshot {
                table.snapshot_at_ms = now_ms + self.snapshot_ms;
                table.everything()
            } else {
                table.changes()
            };
            table.delta_at_ms = now_ms + self.delta_ms;
            table.settle();
            for chunk in devices.chunks(DEVICES_PER_RECORD) {
                each(Due {
                    partition: *partition,
                    snapshot,
                    devices: chunk.to_vec(),
                });
            }
        }
    }
}

impl Partition {
    /// Raises, or inserts; `None` when the cursor was already there.
    fn raise(&mut self, user: &UserId, device: &DeviceId, offset: u64) -> Option<&mut Cursor> {
        if !self.devices.contains_key(user) {
            self.devices.insert(user.clone(), Vec::with_capacity(1));
        }
        let devices = self.devices.get_mut(user)?;
        let at = match devices.iter().position(|(id, _)| id == device) {
            Some(at) if devices[at].1.offset >= offset => return None,
            Some(at) => at,
            None => {
                let dirty = false;
                devices.push((device.clone(), Cursor { offset, dirty }));
                devices.len() - 1
            }
        };
        devices[at].1.offset = offset;
        Some(&mut devices[at].1)
    }

    fn offset(&self, user: &UserId, device: &DeviceId) -> Option<u64> {
        let devices = self.devices.get(user)?;
        let found = devices.iter().find(|(id, _)| id == device)?;
        Some(found.1.offset)
    }

    fn cursor(&mut self, user: &UserId, device: &DeviceId) -> Option<&mut Cursor> {
        let devices = self.devices.get_mut(user)?;
        let found = devices.iter_mut().find(|(id, _)| id == device)?;
        Some(&mut found.1)
    }

    fn changes(&self) -> Vec<DeviceCursor> {
        let row = |(user, device): &(UserId, DeviceId)| {
            let offset = self.offset(user, device)?;
            Some((user.clone(), device.clone(), offset))
        };
        self.changed.iter().filter_map(row).collect()
    }

    fn everything(&self) -> Vec<DeviceCursor> {
        let users = self.devices.iter();
        let rows = users.flat_map(|(user, devices)| {
            let row =
                move |(id, cursor): &(DeviceId, Cursor)| (user.clone(), id.clone(), cursor.offset);
            devices.iter().map(row)
        });
        rows.collect()
    }

    fn settle(&mut self) {
        for (user, device) in std::mem::take(&mut self.changed) {
            if let Some(cursor) = self.cursor(&user, &device) {
                cursor.dirty = false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).expect("an id")
    }

    fn device(name: &str) -> DeviceId {
        DeviceId::new(name).expect("an id")
    }

    fn due(table: &mut CursorTable, now_ms: u64, all: bool) -> Vec<Due> {
        let mut out = Vec::new();
        table.due(now_ms, all, &mut |d| out.push(d));
        out
    }

    #[test]
    fn a_partition_writes_its_changes_at_most_once_per_interval() {
        let mut table = CursorTable::new(1_000, 3_600_000);
        table.open(3, 0);
        assert!(table.advance(3, &user("a"), &device("d"), 5));
        assert!(table.advance(3, &user("a"), &device("d"), 7));
        assert!(!table.advance(3, &user("a"), &device("d"), 6), "maximum");
        let expected = Due {
            partition: 3,
            snapshot: false,
            devices: vec![(user("a"), device("d"), 7)],
        };
        assert_eq!(due(&mut table, 10, false), [expected]);
        table.advance(3, &user("a"), &device("d"), 8);
        assert_eq!(due(&mut table, 1_009, false), [], "within the second");
        assert_eq!(due(&mut table, 1_010, false).len(), 1);
        assert_eq!(due(&mut table, 9_000, false), [], "nothing changed");
    }

    #[test]
    fn a_flush_does_not_wait_and_a_snapshot_has_everything() {
        let mut table = CursorTable::new(1_000, 10_000);
        table.open(0, 0);
        table.load(
            0,
            [(user("a"), device("x"), 3), (user("a"), device("y"), 4)],
        );
        assert_eq!(due(&mut table, 10, true), [], "loaded is not changed");
        table.advance(0, &user("b"), &device("z"), 1);
        due(&mut table, 10, false);
        table.advance(0, &user("b"), &device("z"), 2);
        assert_eq!(due(&mut table, 11, true)[0].devices.len(), 1);
        let all = due(&mut table, 10_000, false);
        assert!(all[0].snapshot);
        assert_eq!(all[0].devices.len(), 3);
        assert_eq!(table.get(0, &user("b"), &device("z")), Some(2));
        assert_eq!(table.get(0, &user("b"), &device("other")), None);
    }

    #[test]
    fn what_is_taken_out_is_all_that_is_known_and_is_no_longer_here() {
        let mut table = CursorTable::new(1_000, 10_000);
        table.open(0, 0);
        table.load(0, [(user("a"), device("x"), 3)]);
        table.advance(0, &user("b"), &device("z"), 1);
        let mut taken = table.take(0);
        taken.sort();
        let all = [(user("a"), device("x"), 3), (user("b"), device("z"), 1)];
        assert_eq!(taken, all);
        assert_eq!(due(&mut table, 20_000, true), []);
        assert_eq!(table.take(0), []);
    }

    #[test]
    fn a_long_snapshot_is_split() {
        let mut table = CursorTable::new(1, 1);
        table.open(0, 0);
        let many = (0..DEVICES_PER_RECORD + 1).map(|i| (user(&format!("u{i}")), device("d"), 1));
        table.load(0, many);
        let out = due(&mut table, 5, false);
        assert_eq!(
            out.iter().map(|d| d.devices.len()).sum::<usize>(),
            DEVICES_PER_RECORD + 1
        );
        assert!(out.iter().all(|d| d.devices.len() <= DEVICES_PER_RECORD));
    }

    #[test]
    fn a_partition_that_is_not_ours_keeps_nothing() {
        let mut table = CursorTable::new(1, 1);
        assert!(!table.advance(9, &user("a"), &device("d"), 5));
        assert!(table.is_empty());
    }
}
