//! Seeded mutations of bytes.

/// A small generator (xorshift64*), so that a seed repeats a run on every machine.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// The same seed gives the same numbers.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`, or 0 where there is none.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.bits() % end).unwrap_or(0)
    }

    /// One byte.
    pub fn byte(&mut self) -> u8 {
        self.bits().to_le_bytes()[3]
    }
}

/// Bytes that sit at the edges of lengths, types and characters.
const EDGES: [u8; 12] = [
    0, 1, 0x7d, 0x7e, 0x7f, 0x80, 0x81, 0xc0, 0xed, 0xf4, 0xfe, 0xff,
];

/// An input longer than this is cut: it is a parser that is under test, not memory.
const BYTES_MAX: usize = 100_000;

/// Changes one of `seeds` one to eight times.
#[must_use]
pub fn mutated(seeds: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    let mut bytes = seeds
        .get(chance.below(seeds.len()))
        .cloned()
        .unwrap_or_default();
    for _ in 0..=chance.below(8) {
        change(&mut bytes, seeds, chance);
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

fn change(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], chance: &mut Chance) {
    let at = chance.below(bytes.len());
    let end = at + chance.below((bytes.len() - at).min(64) + 1);
    match chance.below(8) {
        0 => {
            let bit = 1 << chance.below(8);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= bit;
            }
        }
        1 => {
            let edge = EDGES[chance.below(EDGES.len())];
            if let Some(byte) = bytes.get_mut(at) {
                *byte = edge;
            }
        }
        2 => {
            let byte = chance.byte();
            bytes.insert(at, byte);
        }
        3 => {
            bytes.drain(at..end);
        }
        4 => bytes.truncate(at),
        5 => {
            let copy = bytes[at..end].to_vec();
            bytes.splice(at..at, copy);
        }
        6 => {
            let other = seeds
                .get(chance.below(seeds.len()))
                .map_or(&[][..], Vec::as_slice);
            let from = chance.below(other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        _ => {
            for byte in &mut bytes[at..end] {
                *byte = chance.byte();
            }
        }
    }
}
