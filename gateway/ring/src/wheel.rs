//! A hashed, hierarchical timer wheel: insert and cancel in constant time, bounded work per advance.

use std::num::NonZeroU32;

const LEVELS: usize = 5;
const SLOTS: usize = 64;
/// How many ticks one slot of a level spans, as a power of two.
const SHIFT: [u32; LEVELS] = [0, 6, 12, 18, 24];
const SLOT_MASK: u64 = SLOTS as u64 - 1;
const NIL: u32 = u32::MAX;

/// Names one inserted timer until it fires or is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerHandle {
    /// Index of its node, and one: an `Option` of a handle takes no more room.
    place: NonZeroU32,
    generation: u32,
}

const _: () = assert!(size_of::<Option<TimerHandle>>() == 8);

impl TimerHandle {
    fn index(self) -> u32 {
        self.place.get() - 1
    }
}

#[derive(Debug)]
struct Node<K> {
    /// Absolute tick.
    due: u64,
    key: Option<K>,
    next: u32,
    prev: u32,
    /// The list that the node is in: level × 64 + slot, or [`READY`].
    list: u16,
    generation: u32,
}

/// The list of what is due and not yet handed out.
#[expect(clippy::cast_possible_truncation, reason = "320")]
const READY: u16 = (LEVELS * SLOTS) as u16;

/// Timers by deadline, for one thread. Time is whatever the caller says it is, in milliseconds; a timer never fires
/// early and at most one tick late. Deadlines farther than 2^30 ticks are looked at again when that time has passed.
/// 40 bytes per timer plus the key.
#[derive(Debug)]
pub struct TimerWheel<K> {
    tick_ms: u64,
    /// All ticks up to this one have been served.
    now: u64,
    heads: Vec<u32>,
    /// Per level, which slots are not empty.
    occupied: [u64; LEVELS],
    nodes: Vec<Node<K>>,
    free: u32,
    len: usize,
}

impl<K> TimerWheel<K> {
    /// An empty wheel at `now_ms` whose timers are at most `tick_ms` (at least 1) late.
    #[must_use]
    pub fn new(now_ms: u64, tick_ms: u64) -> Self {
        let tick_ms = tick_ms.max(1);
        Self {
            tick_ms,
            now: now_ms / tick_ms,
            heads: vec![NIL; LEVELS * SLOTS + 1],
            occupied: [0; LEVELS],
            nodes: Vec::new(),
            free: NIL,
            len: 0,
        }
    }

    /// Sets a timer for `deadline_ms`; one in the past fires at the next [`TimerWheel::advance`].
    ///
    /// # Panics
    /// At 2^32 - 1 timers.
    pub fn insert(&mut self, deadline_ms: u64, key: K) -> TimerHandle {
        let due = deadline_ms.div_ceil(self.tick_ms);
        let index = self.allocate(due, key);
        self.place(index);
        self.len += 1;
        TimerHandle {
            place: NonZeroU32::MIN.saturating_add(index),
            generation: self.nodes[index as usize].generation,
        }
    }

    /// Takes a timer back; `None` when it has fired or was cancelled.
    pub fn cancel(&mut self, handle: TimerHandle) -> Option<K> {
        let node = self.nodes.get(handle.index() as usize)?;
        if node.generation != handle.generation || node.key.is_none() {
            return None;
        }
        self.unlink(handle.index());
        self.release(handle.index())
    }

    /// Moves the time to `now_ms` and calls `each` for at most `max` due timers. True when the budget ended it: call
    /// again with the same time before parking. Time that goes backwards is ignored.
    pub fn advance(&mut self, now_ms: u64, max: usize, mut each: impl FnMut(K)) -> bool {
        let target = now_ms / self.tick_ms;
        let mut left = max;
        loop {
            while self.heads[usize::from(READY)] != NIL {
                if left == 0 {
                    return true;
                }
                left -= 1;
                let index = self.heads[usize::from(READY)];
                self.unlink(index);
                if let Some(key) = self.release(index) {
                    each(key);
                }
            }
            if self.now >= target {
                return false;
            }
            self.step(target);
        }
    }

    /// A time at which [`TimerWheel::advance`] has something to do, never later than the earliest deadline's tick;
    /// `None` when no timer is set.
    #[must_use]
    pub fn next_ms(&self) -> Option<u64> {
        if self.heads[usize::from(READY)] != NIL {
            return Some(self.now * self.tick_ms);
        }
        self.next_tick().map(|tick| tick * self.tick_ms)
    }

    /// Timers that are set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// No timer is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Goes to the next tick with something to do, at most to `target`.
    fn step(&mut self, target: u64) {
        let next = self.next_tick().map_or(target, |tick| tick.min(target));
        self.now = next;
        // Higher levels first: what they hold for this tick falls into the lower ones, the last of it into `READY`.
        for level in (0..LEVELS).rev() {
            let shift = SHIFT[level];
            if next & ((1 << shift) - 1) != 0 {
                continue;
            }
            let slot = ((next >> shift) & SLOT_MASK) as usize;
            self.empty_slot(level, slot);
        }
    }

    /// Places all of a slot's timers again, by the new time.
    fn empty_slot(&mut self, level: usize, slot: usize) {
        let list = level * SLOTS + slot;
        let mut index = std::mem::replace(&mut self.heads[list], NIL);
        self.occupied[level] &= !(1 << slot);
        while index != NIL {
            let next = self.nodes[index as usize].next;
            self.place(index);
            index = next;
        }
    }

    /// The earliest tick after now at which a slot must be emptied.
    fn next_tick(&self) -> Option<u64> {
        (0..LEVELS)
            .filter_map(|level| {
                let shift = SHIFT[level];
                let at = self.now >> shift;
                let here = (at & SLOT_MASK) as u32;
                // Rotated so that bit 0 is the next slot; the current one comes last (a full round away).
                let ahead = self.occupied[level].rotate_right((here + 1) % 64);
                (ahead != 0).then(|| (at + 1 + u64::from(ahead.trailing_zeros())) << shift)
            })
            .min()
    }

    fn place(&mut self, index: u32) {
        let due = self.nodes[index as usize].due;
        let list = if due <= self.now {
            READY
        } else {
            self.list_for(due)
        };
        let head = std::mem::replace(&mut self.heads[usize::from(list)], index);
        let node = &mut self.nodes[index as usize];
        node.list = list;
        node.prev = NIL;
        node.next = head;
        if head != NIL {
            self.nodes[head as usize].prev = index;
        }
    }

    /// The lowest level whose span reaches `due`, which lies ahead.
    #[expect(clippy::cast_possible_truncation, reason = "level < 5 and slot < 64")]
    fn list_for(&mut self, due: u64) -> u16 {
        let level = (0..LEVELS)
            .find(|level| {
                let shift = SHIFT[*level];
                (due >> shift) - (self.now >> shift) < SLOTS as u64
            })
            .unwrap_or(LEVELS - 1);
        let shift = SHIFT[level];
        // Beyond the last level's span: the farthest slot, to be placed again from there.
        let at = (due >> shift).min((self.now >> shift) + SLOTS as u64 - 1);
        let slot = (at & SLOT_MASK) as usize;
        self.occupied[level] |= 1 << slot;
        (level * SLOTS + slot) as u16
    }

    fn unlink(&mut self, index: u32) {
        let (next, prev, list) = {
            let node = &self.nodes[index as usize];
            (node.next, node.prev, node.list)
        };
        if prev == NIL {
            self.heads[usize::from(list)] = next;
        } else {
            self.nodes[prev as usize].next = next;
        }
        if next != NIL {
            self.nodes[next as usize].prev = prev;
        }
        if list != READY && self.heads[usize::from(list)] == NIL {
            let list = usize::from(list);
            self.occupied[list / SLOTS] &= !(1 << (list % SLOTS));
        }
    }

    fn allocate(&mut self, due: u64, key: K) -> u32 {
        if self.free != NIL {
            let index = self.free;
            let node = &mut self.nodes[index as usize];
            self.free = node.next;
            node.due = due;
            node.key = Some(key);
            return index;
        }
        let index = u32::try_from(self.nodes.len()).unwrap_or(NIL);
        assert!(index != NIL, "2^32 - 1 timers");
        self.nodes.push(Node {
            due,
            key: Some(key),
            next: NIL,
            prev: NIL,
            list: READY,
            generation: 0,
        });
        index
    }

    fn release(&mut self, index: u32) -> Option<K> {
        let node = &mut self.nodes[index as usize];
        node.generation = node.generation.wrapping_add(1);
        node.next = self.free;
        self.free = index;
        self.len -= 1;
        node.key.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fired(wheel: &mut TimerWheel<u64>, now_ms: u64) -> Vec<u64> {
        let mut keys = Vec::new();
        while wheel.advance(now_ms, 7, |key| keys.push(key)) {}
        keys.sort_unstable();
        keys
    }

    #[test]
    fn never_early_and_at_most_a_tick_late() {
        let deadlines = [
            1_000_003,
            1_000_004,
            1_000_640,
            1_000_641,
            1_005_000,
            1_041_500,
            4_000_000,
            900_000_000_000,
        ];
        for deadline in deadlines {
            let mut wheel = TimerWheel::new(1_000_003, 10);
            wheel.insert(deadline, deadline);
            assert!(
                fired(&mut wheel, deadline - 1).is_empty(),
                "{deadline} fired early"
            );
            assert_eq!(
                fired(&mut wheel, deadline + 9),
                vec![deadline],
                "{deadline} is late"
            );
            assert!(wheel.is_empty());
        }
    }

    #[test]
    fn agrees_with_a_sorted_list() {
        let mut seed = 0x9e37_79b9_u32;
        let mut random = || {
            seed ^= seed << 13;
            seed ^= seed >> 17;
            seed ^= seed << 5;
            u64::from(seed)
        };
        let mut wheel = TimerWheel::new(0, 1);
        let mut model: Vec<(u64, u64, TimerHandle)> = Vec::new();
        let mut now = 0;
        for step in 0..20_000_u64 {
            match random() % 4 {
                0 | 1 => {
                    let far = 1 << (random() % 26);
                    let deadline = now + random() % far;
                    model.push((deadline, step, wheel.insert(deadline, step)));
                }
                2 if !model.is_empty() => {
                    let at = usize::try_from(random()).unwrap() % model.len();
                    let (_, key, handle) = model.swap_remove(at);
                    assert_eq!(wheel.cancel(handle), Some(key));
                    assert_eq!(wheel.cancel(handle), None);
                }
                _ => {
                    now += random() % (1 << (random() % 14));
                    let mut due: Vec<u64> =
                        model.iter().filter(|t| t.0 <= now).map(|t| t.1).collect();
                    due.sort_unstable();
                    model.retain(|t| t.0 > now);
                    assert_eq!(fired(&mut wheel, now), due, "at {now}");
                }
            }
            assert_eq!(wheel.len(), model.len());
            let earliest = model.iter().map(|t| t.0).min();
            assert_eq!(wheel.next_ms().is_some(), earliest.is_some());
            assert!(wheel.next_ms().unwrap_or(0) <= earliest.unwrap_or(u64::MAX).max(now));
        }
    }

    #[test]
    fn a_budget_leaves_the_rest_for_the_next_call() {
        let mut wheel = TimerWheel::new(0, 1);
        for key in 0..10 {
            wheel.insert(5, key);
        }
        let mut count = 0;
        assert!(wheel.advance(5, 4, |_| count += 1));
        assert_eq!(count, 4);
        assert_eq!(wheel.next_ms(), Some(5));
        assert!(!wheel.advance(5, 100, |_| count += 1));
        assert_eq!(count, 10);
        assert!(
            !wheel.advance(4, 100, |_| count += 1),
            "time that goes backwards is ignored"
        );
    }

    #[test]
    fn a_deadline_beyond_the_last_level_fires() {
        let mut wheel = TimerWheel::new(0, 1);
        wheel.insert(1 << 40, 1);
        assert_eq!(fired(&mut wheel, (1 << 40) - 1), Vec::<u64>::new());
        assert_eq!(fired(&mut wheel, 1 << 40), vec![1]);
    }
}
