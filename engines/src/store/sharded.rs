//! What a group's row keeps of an edge-sharded one, and its bytes.

use hawser_protocol::ids::Seq;

/// Bytes of an encoded [`Sharded`].
pub(crate) const SHARDED_BYTES: usize = 24;

/// A group that became too large for records to list its members: edge nodes know who is in it, and ingest keeps no
/// list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sharded {
    /// Seq of the change from which on it is.
    pub seq: Seq,
    /// Members and admins, as of `ChatInfo::write_seq`.
    pub count: Headcount,
    /// The same before that change.
    pub before: Headcount,
}

/// How many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Headcount {
    /// Members, admins among them.
    pub members: u32,
    /// Admins.
    pub admins: u32,
}

/// seq u64, then members, admins and the same before, u32 each, little-endian.
pub(crate) fn encode_sharded(sharded: &Sharded) -> Vec<u8> {
    let mut out = Vec::with_capacity(SHARDED_BYTES);
    out.extend_from_slice(&sharded.seq.0.to_le_bytes());
    for count in [sharded.count, sharded.before] {
        out.extend_from_slice(&count.members.to_le_bytes());
        out.extend_from_slice(&count.admins.to_le_bytes());
    }
    out
}

pub(crate) fn decode_sharded(bytes: &[u8]) -> Option<Sharded> {
    let (seq, rest) = bytes.split_first_chunk::<8>()?;
    let (words, tail) = rest.as_chunks::<4>();
    let [members, admins, members_before, admins_before] = words else {
        return None;
    };
    let count = |members: &[u8; 4], admins: &[u8; 4]| Headcount {
        members: u32::from_le_bytes(*members),
        admins: u32::from_le_bytes(*admins),
    };
    tail.is_empty().then_some(Sharded {
        seq: Seq(u64::from_le_bytes(*seq)),
        count: count(members, admins),
        before: count(members_before, admins_before),
    })
}
