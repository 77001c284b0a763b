//! Device cursors: the last offset that each device has acknowledged, per delivery partition.
//!
//! Cursors merge by maximum, so two owners may write them at once. A partition writes its changes at
//! most once per interval, and everything it knows now and then, so that old deltas may be retired.
//! A lost second repeats a receipt: both are idempotent.

use crate::rows::{Row, Rows};
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
    cursors: Rows<Cursor>,
    /// Places of those that are marked as changed.
    changed: Vec<u32>,
    delta_at_ms: u64,
    snapshot_at_ms: u64,
}

/// One device's.
#[derive(Debug)]
struct Cursor {
    user: UserId,
    device: DeviceId,
    /// The offset, doubled; odd: it is in `changed`.
    marked: u64,
}

const _: () = assert!(size_of::<Cursor>() <= 40);

impl Cursor {
    fn new(user: UserId, device: DeviceId, offset: u64) -> Self {
        let marked = offset << 1;
        Self {
            user,
            device,
            marked,
        }
    }

    fn offset(&self) -> u64 {
        self.marked >> 1
    }

    fn set_offset(&mut self, offset: u64) {
        self.marked = offset << 1 | self.marked & 1;
    }

    /// Returns whether it was marked before.
    fn set_changed(&mut self, changed: bool) -> bool {
        let before = self.marked & 1 == 1;
        self.marked = self.marked & !1 | u64::from(changed);
        before
    }

    fn row(&self) -> DeviceCursor {
        (self.user.clone(), self.device.clone(), self.offset())
    }
}

impl Row for Cursor {
    type Key<'a> = (&'a str, &'a str);

    fn key(&self) -> (&str, &str) {
        (self.user.as_str(), self.device.as_str())
    }

    fn is(&self, (user, device): &(&str, &str)) -> bool {
        self.user.as_str() == *user && self.device.as_str() == *device
    }
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
                table.raise(&user, &device, offset, u32::MAX);
            }
        }
    }

    /// Raises a device's cursor. Returns whether it moved. `place` is where it was the last time, for whoever asks often: a
    /// guess, which is corrected.
    pub fn advance(
        &mut self,
        partition: u32,
        user: &UserId,
        device: &DeviceId,
        offset: u64,
        place: &mut u32,
    ) -> bool {
        let Some(table) = self.partitions.get_mut(&partition) else {
            return false;
        };
        let Some(at) = table.raise(user, device, offset, *place) else {
            return false;
        };
        *place = at;
        let cursor = table.cursors.get_mut(at);
        if cursor.is_some_and(|cursor| !cursor.set_changed(true)) {
            table.changed.push(at);
        }
        true
    }

    /// A device's cursor, if it ever acknowledged.
    #[must_use]
    pub fn get(&self, partition: u32, user: &UserId, device: &DeviceId) -> Option<u64> {
        let table = self.partitions.get(&partition)?;
        let place = table.cursors.find(&(user.as_str(), device.as_str()))?;
        table.cursors.get(place).map(Cursor::offset)
    }

    /// Devices with a cursor.
    #[must_use]
    pub fn len(&self) -> usize {
        self.partitions.values().map(|p| p.cursors.len()).sum()
    }

    /// Whether no device has a cursor.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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
    fn raise(&mut self, user: &UserId, device: &DeviceId, offset: u64, guess: u32) -> Option<u32> {
        let guessed = self.cursors.get(guess);
        // Names that are one and the same are compared by their pointers.
        let is_it = guessed.is_some_and(|at| at.user == *user && at.device == *device);
        let key = (user.as_str(), device.as_str());
        let found = is_it.then_some(guess).or_else(|| self.cursors.find(&key));
        let Some(place) = found else {
            let cursor = Cursor::new(user.clone(), device.clone(), offset);
            return Some(self.cursors.insert(cursor));
        };
        let cursor = self.cursors.get_mut(place)?;
        if cursor.offset() >= offset {
            return None;
        }
        cursor.set_offset(offset);
        Some(place)
    }

    fn changes(&self) -> Vec<DeviceCursor> {
        let places = self.changed.iter();
        let cursors = places.filter_map(|place| self.cursors.get(*place));
        cursors.map(Cursor::row).collect()
    }

    fn everything(&self) -> Vec<DeviceCursor> {
        self.cursors.iter().map(Cursor::row).collect()
    }

    fn settle(&mut self) {
        for place in std::mem::take(&mut self.changed) {
            if let Some(cursor) = self.cursors.get_mut(place) {
                cursor.set_changed(false);
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
        assert!(table.advance(3, &user("a"), &device("d"), 5, &mut 0));
        assert!(table.advance(3, &user("a"), &device("d"), 7, &mut 0));
        assert!(
            !table.advance(3, &user("a"), &device("d"), 6, &mut 0),
            "maximum"
        );
        let expected = Due {
            partition: 3,
            snapshot: false,
            devices: vec![(user("a"), device("d"), 7)],
        };
        assert_eq!(due(&mut table, 10, false), [expected]);
        table.advance(3, &user("a"), &device("d"), 8, &mut 0);
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
        table.advance(0, &user("b"), &device("z"), 1, &mut 0);
        due(&mut table, 10, false);
        table.advance(0, &user("b"), &device("z"), 2, &mut 0);
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
        table.advance(0, &user("b"), &device("z"), 1, &mut 0);
        let mut taken = table.take(0);
        taken.sort();
        let all = [(user("a"), device("x"), 3), (user("b"), device("z"), 1)];
        assert_eq!(taken, all);
        assert_eq!(due(&mut table, 20_000, true), []);
        assert_eq!(table.take(0), []);
    }

    #[test]
    fn a_guess_of_its_place_may_be_anothers() {
        let mut table = CursorTable::new(1_000, 10_000);
        table.open(0, 0);
        let (mut of_a, mut of_b) = (u32::MAX, 0);
        assert!(table.advance(0, &user("a"), &device("x"), 3, &mut of_a));
        assert!(table.advance(0, &user("b"), &device("x"), 4, &mut of_b));
        assert!(table.advance(0, &user("a"), &device("y"), 5, &mut 0));
        assert_ne!(of_a, of_b);
        let mut wrong = of_b;
        assert!(table.advance(0, &user("a"), &device("x"), 6, &mut wrong));
        assert_eq!(wrong, of_a);
        assert!(table.advance(0, &user("a"), &device("x"), 7, &mut of_a));
        for (name, of, offset) in [("a", "x", 7), ("b", "x", 4), ("a", "y", 5)] {
            assert_eq!(table.get(0, &user(name), &device(of)), Some(offset));
        }
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
        assert!(!table.advance(9, &user("a"), &device("d"), 5, &mut 0));
        assert!(table.is_empty());
    }
}
