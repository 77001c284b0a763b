//! Which direct descriptor slots are taken, by which use of the slot, with what in flight.

use crate::key::{GENERATION_MASK, Key, Op};

/// No send buffer is held for the slot.
const NO_SEND: u32 = u32::MAX;
/// Of a place among the posts, not the sends.
const POSTED: u32 = 1 << 31;

/// Where the bytes of a slot's send are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InFlight {
    /// Among the ring's sends.
    Kept(u32),
    /// Among the posts of the next submit.
    Posted(u32),
}

/// One slot, 12 bytes.
#[derive(Clone, Copy, Debug)]
struct Slot {
    generation: u32,
    /// Where the ring holds the bytes of the send in flight, as [`InFlight`] says.
    send: u32,
    /// Bits of [`Op`] that have no terminal completion yet.
    in_flight: u8,
    open: bool,
    closing: bool,
}

const _: () = assert!(size_of::<Slot>() <= 12);

/// The table; slots are made on first use, so an unused table costs nothing.
#[derive(Debug)]
pub(crate) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
    capacity: u32,
    open: u32,
}

impl Slots {
    pub(crate) fn new(capacity: u32) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            capacity,
            open: 0,
        }
    }

    /// Takes a free slot, or `None` when all are taken.
    pub(crate) fn take(&mut self) -> Option<Key> {
        let index = if let Some(index) = self.free.pop() {
            index
        } else {
            let index = u32::try_from(self.slots.len())
                .ok()
                .filter(|at| *at < self.capacity)?;
            self.slots.push(Slot {
                generation: 0,
                send: NO_SEND,
                in_flight: 0,
                open: false,
                closing: false,
            });
            index
        };
        let slot = &mut self.slots[index as usize];
        assert!(
            !slot.open && slot.in_flight == 0,
            "a free slot has nothing in flight"
        );
        slot.open = true;
        slot.closing = false;
        self.open += 1;
        Some(Key {
            index,
            generation: slot.generation,
        })
    }

    /// Gives a slot back; its key is stale from here on.
    pub(crate) fn give_back(&mut self, key: Key) {
        let slot = &mut self.slots[key.index as usize];
        assert!(
            slot.open && slot.in_flight == 0 && slot.send == NO_SEND,
            "a slot is given back only when it is quiet"
        );
        slot.open = false;
        slot.generation = (slot.generation + 1) & GENERATION_MASK;
        self.free.push(key.index);
        self.open -= 1;
    }

    /// Marks `op` as in flight; false when one is already.
    pub(crate) fn begin(&mut self, key: Key, op: Op) -> bool {
        let slot = &mut self.slots[key.index as usize];
        let fresh = slot.in_flight & op.bit() == 0;
        slot.in_flight |= op.bit();
        fresh
    }

    /// Marks `op` as ended.
    pub(crate) fn end(&mut self, key: Key, op: Op) {
        self.slots[key.index as usize].in_flight &= !op.bit();
    }

    pub(crate) fn set_closing(&mut self, key: Key) {
        self.slots[key.index as usize].closing = true;
    }

    pub(crate) fn set_send(&mut self, key: Key, at: InFlight) {
        self.slots[key.index as usize].send = match at {
            InFlight::Kept(place) => place,
            InFlight::Posted(place) => place | POSTED,
        };
    }

    /// Where the bytes of the send in flight are; `None` for a stale key.
    pub(crate) fn send_of(&self, key: Key) -> Option<InFlight> {
        let slot = self.slot(key).filter(|slot| slot.send != NO_SEND)?;
        Some(match slot.send & POSTED {
            0 => InFlight::Kept(slot.send),
            _ => InFlight::Posted(slot.send & !POSTED),
        })
    }

    pub(crate) fn take_send(&mut self, key: Key) -> Option<InFlight> {
        let at = self.send_of(key)?;
        self.slots[key.index as usize].send = NO_SEND;
        Some(at)
    }

    /// The post at this place has ended and left nothing over; false where it has, or has been told.
    pub(crate) fn end_posted(&mut self, key: Key, place: u32) -> bool {
        let posted = self.send_of(key) == Some(InFlight::Posted(place));
        if posted {
            let slot = &mut self.slots[key.index as usize];
            slot.send = NO_SEND;
            slot.in_flight &= !Op::Send.bit();
        }
        posted
    }

    /// The key's socket is adopted and not closing.
    pub(crate) fn is_live(&self, key: Key) -> bool {
        self.slot(key).is_some_and(|slot| !slot.closing)
    }

    /// The key's socket is adopted, closing or not.
    pub(crate) fn is_known(&self, key: Key) -> bool {
        self.slot(key).is_some()
    }

    pub(crate) fn is_closing(&self, key: Key) -> bool {
        self.slot(key).is_some_and(|slot| slot.closing)
    }

    /// The bits of [`Op`] in flight; none for a stale key.
    pub(crate) fn in_flight(&self, key: Key) -> u8 {
        self.slot(key).map_or(0, |slot| slot.in_flight)
    }

    pub(crate) fn open(&self) -> u32 {
        self.open
    }

    fn slot(&self, key: Key) -> Option<&Slot> {
        self.slots
            .get(key.index as usize)
            .filter(|slot| slot.open && slot.generation == key.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_given_back_makes_its_key_stale() {
        let mut slots = Slots::new(1);
        let first = slots.take().unwrap();
        assert!(slots.is_live(first));
        assert!(slots.take().is_none(), "one slot only");
        slots.give_back(first);
        let second = slots.take().unwrap();
        assert_eq!(second.index(), first.index());
        assert_ne!(second, first);
        assert!(!slots.is_live(first));
        assert!(slots.is_live(second));
        assert_eq!(slots.open(), 1);
    }

    #[test]
    fn one_operation_of_a_kind() {
        let mut slots = Slots::new(4);
        let key = slots.take().unwrap();
        assert!(slots.begin(key, Op::Recv));
        assert!(!slots.begin(key, Op::Recv));
        assert!(slots.begin(key, Op::Send));
        slots.end(key, Op::Recv);
        assert_eq!(slots.in_flight(key), Op::Send.bit());
    }

    #[test]
    fn generations_wrap_at_24_bits() {
        let mut slots = Slots::new(1);
        let key = slots.take().unwrap();
        slots.give_back(key);
        slots.slots[0].generation = GENERATION_MASK;
        let last = slots.take().unwrap();
        assert_eq!(last.generation(), GENERATION_MASK);
        slots.give_back(last);
        assert_eq!(slots.take().unwrap().generation(), 0);
    }
}
