//! The replay ring: the recent delivery log of a core's partitions, in memory, indexed by recipient,
//! so that a resume costs what the user missed and no read of the log. A *line* is what the ring holds for a user, or for an
//! edge-sharded group (no user's id is a chat's): whoever reads asks for its own and for those of its groups.
//!
//! One byte budget for all partitions of a core; what exceeds it is evicted oldest first, by arrival,
//! across partitions. Bytes are copied in once: an entry that kept a slice of a large read batch alive
//! would cost far more than it counts.

use crate::rows::{Row, Rows};
use ahash::AHashMap;
use bytes::Bytes;
use std::collections::VecDeque;

/// What an entry costs beside its value, bytes: its own struct and one index slot.
const ENTRY_OVERHEAD_BYTES: usize = 96;
/// What each line of an entry costs, bytes: a place in the entry and one in the line.
const LINE_BYTES: usize = 12;
/// What a line costs beside its name, bytes: its struct, its first places, and its share of the index.
const LINE_OVERHEAD_BYTES: usize = 96;

/// Rings of all partitions that one core reads.
pub struct ReplayRings {
    rings: AHashMap<u32, Ring>,
    /// Partition of every entry held, oldest first.
    order: VecDeque<u32>,
    bytes: usize,
    bytes_max: usize,
    evicted: u64,
    /// Used again by every record.
    places: Vec<u32>,
}

struct Ring {
    entries: VecDeque<Entry>,
    /// Everything at or after this offset that was seen is held: the ring answers from here on.
    floor: u64,
    /// Offset after the last record seen.
    end: u64,
    lines: Rows<Line>,
    /// What the lines cost beside the entries' share.
    line_bytes: usize,
}

struct Entry {
    offset: u64,
    value: Bytes,
    lines: Box<[u32]>,
}

/// The offsets of what the ring holds for somebody, in order.
struct Line {
    name: Box<str>,
    offsets: VecDeque<u64>,
}

impl Row for Line {
    type Key<'a> = &'a str;

    fn key(&self) -> &str {
        &self.name
    }

    fn is(&self, name: &&str) -> bool {
        *self.name == **name
    }
}

/// What a ring has for a user.
#[derive(Debug, PartialEq, Eq)]
pub enum Missed<'a> {
    /// The next record for the user at or after the place asked for.
    Record {
        /// Its offset.
        offset: u64,
        /// Its value.
        value: &'a Bytes,
    },
    /// Nothing more for the user; the ring has seen everything before this offset.
    End {
        /// Offset of the next record that will come.
        offset: u64,
    },
    /// The place asked for lies below what the ring holds.
    Below {
        /// First offset that the ring answers for.
        floor: u64,
    },
}

impl ReplayRings {
    /// Rings that together hold at most `bytes_max` bytes, overhead counted.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self {
            rings: AHashMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            bytes_max,
            evicted: 0,
            places: Vec::new(),
        }
    }

    /// Begins a partition whose next record is at `offset`. Beginning it again forgets it.
    pub fn open(&mut self, partition: u32, offset: u64) {
        self.forget(partition);
        self.rings.insert(
            partition,
            Ring {
                entries: VecDeque::new(),
                floor: offset,
                end: offset,
                lines: Rows::default(),
                line_bytes: 0,
            },
        );
    }

    /// Drops a partition and its bytes.
    pub fn forget(&mut self, partition: u32) {
        if let Some(ring) = self.rings.remove(&partition) {
            self.bytes -= ring.entries.iter().map(Entry::cost).sum::<usize>() + ring.line_bytes;
            self.order.retain(|p| *p != partition);
        }
    }

    /// Notes that the record at `offset` was seen; holds it if it is on somebody's line.
    /// Offsets must grow; one that does not is ignored.
    pub fn push<'a>(
        &mut self,
        partition: u32,
        offset: u64,
        value: &[u8],
        lines: impl Iterator<Item = &'a str>,
    ) {
        let Some(ring) = self.rings.get_mut(&partition) else {
            return;
        };
        if offset < ring.end {
            return;
        }
        ring.end = offset + 1;
        let before = ring.line_bytes;
        self.places.clear();
        self.places
            .extend(lines.map(|name| ring.index(name, offset)));
        if self.places.is_empty() {
            return;
        }
        let entry = Entry {
            offset,
            value: Bytes::copy_from_slice(value),
            lines: Box::from(&self.places[..]),
        };
        self.bytes += entry.cost() + (ring.line_bytes - before);
        ring.entries.push_back(entry);
        self.order.push_back(partition);
        while self.bytes > self.bytes_max {
            self.evict();
        }
    }

    /// The first record at or after `from` on any of these lines.
    #[must_use]
    pub fn next<'a, 'n>(
        &'a self,
        partition: u32,
        names: impl Iterator<Item = &'n str>,
        from: u64,
    ) -> Missed<'a> {
        let Some(ring) = self.rings.get(&partition) else {
            return Missed::Below { floor: u64::MAX };
        };
        if from < ring.floor {
            return Missed::Below { floor: ring.floor };
        }
        let first = names.filter_map(|name| {
            let (line, at) = ring.line(name, from)?;
            line.offsets.get(at).copied()
        });
        let Some(offset) = first.min() else {
            return Missed::End {
                offset: ring.end.max(from),
            };
        };
        match ring.at(offset) {
            Some(value) => Missed::Record { offset, value },
            None => Missed::Below { floor: ring.floor },
        }
    }

    /// How many records wait on these lines at or after `from`, as far as the ring knows.
    #[must_use]
    pub fn lag<'n>(&self, partition: u32, names: impl Iterator<Item = &'n str>, from: u64) -> u64 {
        let Some(ring) = self.rings.get(&partition) else {
            return 0;
        };
        let waiting = names.filter_map(|name| {
            let (line, at) = ring.line(name, from)?;
            Some((line.offsets.len() - at) as u64)
        });
        waiting.sum()
    }

    /// The record at exactly `offset`, if held.
    #[must_use]
    pub fn record(&self, partition: u32, offset: u64) -> Option<&Bytes> {
        self.rings.get(&partition)?.at(offset)
    }

    /// What a partition's ring answers for: from the first offset to before the second. `None`: it
    /// is not ours.
    #[must_use]
    pub fn span(&self, partition: u32) -> Option<(u64, u64)> {
        let ring = self.rings.get(&partition)?;
        Some((ring.floor, ring.end))
    }

    /// Bytes held, overhead counted; at most the budget.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Records held.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.order.len()
    }

    /// Records evicted since the start.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    fn evict(&mut self) {
        let Some(partition) = self.order.pop_front() else {
            return;
        };
        let Some(ring) = self.rings.get_mut(&partition) else {
            return;
        };
        if let Some(entry) = ring.entries.pop_front() {
            let before = ring.line_bytes;
            ring.floor = entry.offset + 1;
            ring.unindex(&entry);
            self.bytes -= entry.cost() + (before - ring.line_bytes);
            self.evicted += 1;
        }
    }
}

impl Ring {
    /// A line, and where in it `from` is.
    fn line(&self, name: &str, from: u64) -> Option<(&Line, usize)> {
        let line = self.lines.get(self.lines.find(&name)?)?;
        Some((line, line.offsets.partition_point(|offset| *offset < from)))
    }

    fn index(&mut self, name: &str, offset: u64) -> u32 {
        let place = self.lines.find(&name).unwrap_or_else(|| {
            self.line_bytes += LINE_OVERHEAD_BYTES + name.len();
            self.lines.insert(Line {
                name: name.into(),
                offsets: VecDeque::new(),
            })
        });
        if let Some(line) = self.lines.get_mut(place)
            && line.offsets.back() != Some(&offset)
        {
            line.offsets.push_back(offset);
        }
        place
    }

    fn unindex(&mut self, entry: &Entry) {
        for place in &entry.lines {
            let Some(line) = self.lines.get_mut(*place) else {
                // Named twice by this entry.
                continue;
            };
            if line.offsets.front() == Some(&entry.offset) {
                line.offsets.pop_front();
            }
            if line.offsets.is_empty()
                && let Some(line) = self.lines.remove(*place)
            {
                self.line_bytes -= LINE_OVERHEAD_BYTES + line.name.len();
            }
        }
    }

    fn at(&self, offset: u64) -> Option<&Bytes> {
        let at = self.entries.partition_point(|e| e.offset < offset);
        self.entries
            .get(at)
            .filter(|e| e.offset == offset)
            .map(|e| &e.value)
    }
}

impl Entry {
    fn cost(&self) -> usize {
        self.value.len() + ENTRY_OVERHEAD_BYTES + self.lines.len() * LINE_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::iter::once;

    fn rings() -> ReplayRings {
        let mut rings = ReplayRings::new(1 << 20);
        rings.open(3, 10);
        rings
    }

    #[test]
    fn a_user_gets_only_their_records_in_order_then_the_end() {
        let mut rings = rings();
        rings.push(3, 10, b"one", ["alice", "bob"].into_iter());
        rings.push(3, 11, b"two", ["bob"].into_iter());
        rings.push(3, 12, b"three", ["alice"].into_iter());
        rings.push(3, 13, b"nobody here", std::iter::empty());
        let value = Bytes::from_static(b"one");
        let record = Missed::Record {
            offset: 10,
            value: &value,
        };
        assert_eq!(rings.next(3, once("alice"), 10), record);
        assert!(matches!(
            rings.next(3, once("alice"), 11),
            Missed::Record { offset: 12, .. }
        ));
        assert_eq!(rings.next(3, once("alice"), 13), Missed::End { offset: 14 });
        assert_eq!(rings.next(3, once("carol"), 10), Missed::End { offset: 14 });
        assert_eq!(rings.lag(3, once("alice"), 11), 1);
    }

    #[test]
    fn several_lines_are_read_as_one_and_a_group_costs_one_place() {
        let mut rings = rings();
        rings.push(3, 10, b"dm", once("alice"));
        let before = rings.bytes();
        rings.push(3, 11, b"to", once("g:big"));
        assert_eq!(rings.bytes() - before, before, "as much as to one user");
        rings.push(3, 12, b"both", ["alice", "g:other"].into_iter());
        let mine = || ["alice", "g:big", "g:other"].into_iter();
        let mut seen = Vec::new();
        let mut from = 10;
        while let Missed::Record { offset, .. } = rings.next(3, mine(), from) {
            seen.push(offset);
            from = offset + 1;
        }
        assert_eq!(seen, [10, 11, 12], "each once, in order");
        assert_eq!(rings.lag(3, ["alice", "g:big"].into_iter(), 11), 2);
        assert_eq!(rings.next(3, once("g:big"), 12), Missed::End { offset: 13 });
    }

    #[test]
    fn below_the_floor_says_so_and_never_gives_a_part() {
        let rings = rings();
        assert_eq!(rings.next(3, once("alice"), 9), Missed::Below { floor: 10 });
        assert_eq!(
            rings.next(4, once("alice"), 9),
            Missed::Below { floor: u64::MAX },
            "a partition that is not ours"
        );
    }

    #[test]
    fn a_user_named_twice_in_one_record_gets_it_once() {
        let mut rings = rings();
        rings.push(3, 10, b"x", ["alice", "alice"].into_iter());
        assert!(matches!(
            rings.next(3, once("alice"), 10),
            Missed::Record { offset: 10, .. }
        ));
        assert_eq!(rings.next(3, once("alice"), 11), Missed::End { offset: 11 });
    }

    #[test]
    fn the_budget_is_kept_across_partitions_oldest_first() {
        let mut rings = ReplayRings::new(5_000);
        rings.open(0, 0);
        rings.open(1, 0);
        for offset in 0..100 {
            rings.push(0, offset, &[7; 300], ["alice"].into_iter());
            rings.push(1, offset, &[7; 300], ["bob"].into_iter());
            assert!(rings.bytes() <= 5_000);
        }
        assert!(rings.evicted() > 0);
        let Missed::Below { floor } = rings.next(0, once("alice"), 0) else {
            panic!("evicted")
        };
        assert!(floor > 90, "{floor}");
        assert!(matches!(
            rings.next(0, once("alice"), floor),
            Missed::Record { .. }
        ));
        rings.forget(0);
        rings.forget(1);
        assert_eq!((rings.bytes(), rings.entries()), (0, 0));
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_plain_list(records in proptest::collection::vec((0u64..3, 0usize..40, 1u8..16), 1..80)) {
            let names = ["a", "b", "c", "d"];
            let mut rings = ReplayRings::new(2_000);
            rings.open(0, 0);
            let mut model: Vec<(u64, usize, u8)> = Vec::new();
            let mut offset = 0;
            for (gap, len, mask) in records {
                offset += gap;
                let who = names.iter().enumerate().filter(|(i, _)| mask & (1 << i) != 0).map(|(_, n)| *n);
                rings.push(0, offset, &vec![1; len], who);
                model.push((offset, len, mask));
                offset += 1;
                for (i, name) in names.iter().enumerate() {
                    for from in 0..=offset {
                        let expected = model.iter().find(|(o, _, mask)| *o >= from && mask & (1 << i) != 0);
                        match rings.next(0, once(*name), from) {
                            Missed::Record { offset: got, value } => {
                                prop_assert_eq!(Some(got), expected.map(|e| e.0));
                                prop_assert_eq!(Some(value.len()), expected.map(|e| e.1));
                            }
                            Missed::End { .. } => prop_assert!(expected.is_none()),
                            Missed::Below { floor } => prop_assert!(from < floor),
                        }
                    }
                }
            }
        }
    }
}
