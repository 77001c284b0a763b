//! Verifies the newest records of every partition, and finds the last good one.

use super::codec::{decode_record, record_bytes};
use super::meta::PartRow;
use super::tables::{Table, Tables, Txn, log_key, log_key_offset};

/// Records of one partition that are looked at at most: bounds the time that opening takes.
const RECORDS_MAX: u64 = 100_000;
/// Removals in one write.
const REMOVALS: u64 = 10_000;

/// What was found in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verified {
    /// The state to go on with.
    pub(super) row: PartRow,
    /// First bad or missing offset and the end before it was cut, if anything was cut.
    pub(super) cut: Option<(u64, u64)>,
}

/// Looks at one partition, newest record first, until `bytes_max` are verified.
pub(super) fn verify(
    tables: &Tables,
    topic: u8,
    partition: u32,
    stored: PartRow,
    bytes_max: u64,
) -> fjall::Result<Verified> {
    let end = end_of(tables, topic, partition, stored)?;
    let mut row = stored;
    row.next = stored.next.max(end);
    let mut bad = (end < stored.next).then_some(end);
    let low = row.low.max(end.saturating_sub(RECORDS_MAX));
    let (mut bytes, mut extended) = (0, 0);
    for offset in (low..end).rev() {
        if bytes > bytes_max {
            break;
        }
        // One by one: an unreadable block must not hide the good records before it.
        let value = tables.get(Table::Log, &log_key(topic, partition, offset));
        match value.ok().flatten().and_then(|v| decode_record(offset, v)) {
            Some(logged) => {
                let size = record_bytes(&logged.record);
                bytes += size;
                if offset >= stored.next {
                    extended += size;
                }
            }
            None => bad = Some(offset),
        }
    }
    row.bytes_in += extended;
    let Some(bad) = bad else {
        return Ok(Verified { row, cut: None });
    };
    let cut = (bad, row.next);
    remove(tables, topic, partition, bad, row.next)?;
    row.next = bad;
    Ok(Verified {
        row,
        cut: Some(cut),
    })
}

/// Offset after the last record there is.
fn end_of(tables: &Tables, topic: u8, partition: u32, stored: PartRow) -> fjall::Result<u64> {
    let range = log_key(topic, partition, stored.low)..=log_key(topic, partition, u64::MAX);
    let last = tables.space(Table::Log).range(range).next_back();
    match last.map(fjall::Guard::key) {
        None => Ok(stored.low),
        Some(Ok(key)) => Ok(log_key_offset(&key).map_or(stored.low, |offset| offset + 1)),
        // Unreadable: the records themselves will tell.
        Some(Err(error)) if !super::log::is_io(&error) => Ok(stored.next),
        Some(Err(error)) => Err(error),
    }
}

fn remove(tables: &Tables, topic: u8, partition: u32, from: u64, to: u64) -> fjall::Result<()> {
    let mut at = from;
    while at < to {
        let until = to.min(at + REMOVALS);
        let mut txn = Txn::new(tables);
        for offset in at..until {
            txn.remove(Table::Log, log_key(topic, partition, offset).to_vec());
        }
        txn.commit_lazily()?;
        at = until;
    }
    Ok(())
}
