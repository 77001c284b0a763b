//! Slots and partitions: the choice of Java's default partitioner over 65,536 fixed slots.

use crate::limits::SLOTS;

/// Kafka's murmur2 (seed 0x9747b28c), as `org.apache.kafka.common.utils.Utils.murmur2`.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the algorithm mixes the low 32 bits of the length"
)]
pub fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut h: u32 = 0x9747_b28c ^ (key.len() as u32);
    let mut chunks = key.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
        k = k.wrapping_mul(M);
        k ^= k >> 24;
        k = k.wrapping_mul(M);
        h = h.wrapping_mul(M) ^ k;
    }
    let tail = chunks.remainder();
    if !tail.is_empty() {
        for (i, byte) in tail.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

/// The fixed slot of a user or chat: (murmur2(key) & 0x7fffffff) mod 65,536.
#[must_use]
pub fn slot(key: &str) -> u32 {
    (murmur2(key.as_bytes()) & 0x7fff_ffff) % SLOTS
}

/// The partition of a slot; `partitions` is a power of two, at most 65,536.
#[must_use]
pub fn partition(key: &str, partitions: u32) -> u32 {
    assert!(
        partitions.is_power_of_two() && partitions <= SLOTS,
        "P is a power of two up to 65,536"
    );
    slot(key) % partitions
}
