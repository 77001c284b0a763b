//! Between the port's types and Cassandra's: numbers, timestamps, intervals.
//!
//! Cassandra lets the larger timestamp win. Ours are places in the log, so that a replay never wins over what came
//! after, and a row that is written twice is the same row.

use crate::store::{Interval, Membership, StoreError};
use hawser_protocol::ids::{Seq, UserId};

/// Generations that fit: seqs stay below 2^62, so that both orders of timestamps do.
const SEQ_MAX: u64 = 1 << 62;
/// Version of the intervals' encoding.
const V1: u8 = 1;
/// Ordinals of one partition of messages.
pub(super) const BUCKET: u64 = 8_192;

/// As a `bigint`.
pub(super) fn number(table: &'static str, value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|_| StoreError::Refused {
        reason: format!("{table}: {value} is beyond 2^63"),
    })
}

/// The larger seq wins.
pub(super) fn last_wins(seq: Seq) -> Result<i64, StoreError> {
    if seq.0 >= SEQ_MAX {
        let reason = format!("generation {} is beyond 16,383", seq.generation());
        return Err(StoreError::Refused { reason });
    }
    number("timestamp", seq.0)
}

/// The smaller seq wins.
pub(super) fn first_wins(seq: Seq) -> Result<i64, StoreError> {
    last_wins(seq)?;
    number("timestamp", SEQ_MAX - seq.0)
}

/// From a `bigint`.
pub(super) fn positive(table: &'static str, value: i64) -> Result<u64, StoreError> {
    u64::try_from(value).map_err(|_| corrupt(table, format!("{value} is negative")))
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "errors are handed over as they come"
)]
pub(super) fn corrupt(table: &'static str, reason: impl ToString) -> StoreError {
    StoreError::Corrupt {
        table,
        reason: reason.to_string(),
    }
}

/// version | (joined, joined_ordinal, left, left_ordinal)*, little-endian; none: 2^64 - 1.
pub(super) fn encode_intervals(intervals: &[Interval]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + intervals.len() * 32);
    out.push(V1);
    for interval in intervals {
        let left = interval.left.map_or(u64::MAX, |seq| seq.0);
        let left_ordinal = interval.left_ordinal.unwrap_or(u64::MAX);
        for field in [
            interval.joined.0,
            interval.joined_ordinal,
            left,
            left_ordinal,
        ] {
            out.extend_from_slice(&field.to_le_bytes());
        }
    }
    out
}

/// A membership from its columns.
pub(super) fn membership(
    (user, intervals, admin): (String, Vec<u8>, bool),
) -> Result<Membership, StoreError> {
    let table = "members_by_chat";
    let user = UserId::new(&user).map_err(|e| corrupt(table, e))?;
    let Some((&V1, rest)) = intervals.split_first() else {
        return Err(corrupt(table, "intervals of an unknown version"));
    };
    if rest.len() % 32 != 0 {
        return Err(corrupt(table, "intervals are cut off"));
    }
    let some = |value: u64| (value != u64::MAX).then_some(value);
    let interval = |bytes: &[u8]| {
        let field = |i: usize| {
            let mut field = [0; 8];
            field.copy_from_slice(&bytes[i * 8..i * 8 + 8]);
            u64::from_le_bytes(field)
        };
        Interval {
            joined: Seq(field(0)),
            joined_ordinal: field(1),
            left: some(field(2)).map(Seq),
            left_ordinal: some(field(3)),
        }
    };
    Ok(Membership {
        user,
        intervals: rest.chunks_exact(32).map(interval).collect(),
        admin,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_round_trip_and_damaged_ones_are_named() {
        let intervals = vec![
            Interval {
                joined: Seq(1),
                joined_ordinal: 2,
                left: Some(Seq(3)),
                left_ordinal: Some(4),
            },
            Interval {
                joined: Seq(5),
                joined_ordinal: 6,
                left: None,
                left_ordinal: None,
            },
        ];
        let bytes = encode_intervals(&intervals);
        let row = |bytes: &[u8]| membership(("a".to_owned(), bytes.to_vec(), true));
        assert_eq!(row(&bytes).map(|m| m.intervals), Ok(intervals));
        for len in 0..bytes.len() {
            let whole = len % 32 == 1;
            assert_eq!(row(&bytes[..len]).is_ok(), whole, "{len}");
        }
        let mut newer = bytes;
        newer[0] = 9;
        assert!(row(&newer).is_err());
    }

    #[test]
    fn timestamps_order_by_seq_one_way_and_the_other() {
        let seqs = [
            Seq(0),
            Seq(1),
            Seq::new(1, 0),
            Seq::new(16_383, Seq::OFFSET_MAX),
        ];
        for pair in seqs.windows(2) {
            assert!(last_wins(pair[0]).expect("fits") < last_wins(pair[1]).expect("fits"));
            assert!(first_wins(pair[0]).expect("fits") > first_wins(pair[1]).expect("fits"));
            assert!(first_wins(pair[1]).expect("fits") > 0);
        }
        assert!(last_wins(Seq::new(16_384, 0)).is_err());
    }
}
