//! The name of a socket in a ring, and how it travels through the kernel.

/// Names one adopted socket of one ring: the slot in the table and how often the slot was used.
///
/// `index` is dense (below [`crate::RingConfig::files`]); a stale key is refused by every call and never delivered
/// in an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// Generations have 24 bits: with the operation in flight rule above them, wrapping is harmless.
pub(crate) const GENERATION_MASK: u32 = 0x00ff_ffff;

impl Key {
    /// The slot of the direct descriptor table, for the caller's own table.
    #[must_use]
    pub fn index(self) -> usize {
        self.index as usize
    }

    /// How often the slot was used before, modulo 2^24.
    #[must_use]
    pub fn generation(self) -> u32 {
        self.generation
    }
}

/// The kinds of operation; each key has at most one of a kind in flight. The value is a bit of a slot's set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Op {
    PollRead = 1,
    PollWrite = 1 << 1,
    Recv = 1 << 2,
    Send = 1 << 3,
    Shutdown = 1 << 4,
    Cancel = 1 << 5,
    Close = 1 << 6,
    /// The ring's own eventfd; its key is not a slot.
    Wake = 1 << 7,
}

impl Op {
    pub(crate) const fn bit(self) -> u8 {
        self as u8
    }

    fn from_bit(bit: u8) -> Option<Self> {
        Some(match bit {
            1 => Self::PollRead,
            2 => Self::PollWrite,
            4 => Self::Recv,
            8 => Self::Send,
            16 => Self::Shutdown,
            32 => Self::Cancel,
            64 => Self::Close,
            128 => Self::Wake,
            _ => return None,
        })
    }
}

/// `user_data`: operation in the top 8 bits, generation in the next 24, index in the low 32.
pub(crate) fn pack(op: Op, key: Key) -> u64 {
    (u64::from(op.bit()) << 56)
        | (u64::from(key.generation & GENERATION_MASK) << 32)
        | u64::from(key.index)
}

/// The inverse of [`pack`]; `None` for what this driver never wrote.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the three fields are cut out by shift and mask"
)]
pub(crate) fn unpack(user_data: u64) -> Option<(Op, Key)> {
    let op = Op::from_bit((user_data >> 56) as u8)?;
    let generation = (user_data >> 32) as u32 & GENERATION_MASK;
    let index = user_data as u32;
    Some((op, Key { index, generation }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_round_trips_every_operation() {
        for shift in 0..8 {
            let op = Op::from_bit(1 << shift).unwrap();
            let key = Key {
                index: u32::MAX - shift,
                generation: GENERATION_MASK - shift,
            };
            assert_eq!(unpack(pack(op, key)), Some((op, key)));
        }
        assert_eq!(unpack(0), None);
        assert_eq!(unpack(3 << 56), None);
    }
}
