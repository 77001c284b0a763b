//! Rows that the engine keeps for itself.

use super::codec::Reader;
use super::core::PositionKey;
use super::tables::{DURABLE, Table, Tables, topic_id};
use crate::log::Topic;

const V1: u8 = 1;

/// Key of the row that every batch writes. The journal scan looks for it by these bytes.
pub(super) const BATCH_KEY: &[u8] = b"\0hawser-batch";

/// State of one partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PartRow {
    /// First offset that exists.
    pub(super) low: u64,
    /// Next offset.
    pub(super) next: u64,
    /// Bytes ever appended.
    pub(super) bytes_in: u64,
    /// Bytes ever removed by retention.
    pub(super) bytes_out: u64,
}

/// The last batch: its number, and where `chat-messages` stood then, per partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct BatchRow {
    /// Counts from 1.
    pub(super) number: u64,
    /// The first batch of an opening: its number may follow any other.
    pub(super) resync: bool,
    /// Next offset of each partition of `chat-messages`.
    pub(super) chat_next: Vec<u64>,
}

pub(super) fn part_key(topic: u8, partition: u32) -> Vec<u8> {
    let mut key = vec![b'p', topic];
    key.extend_from_slice(&partition.to_be_bytes());
    key
}

pub(super) fn generation_key(topic: u8) -> Vec<u8> {
    vec![b'g', topic]
}

/// Row that counts the openings of the database.
pub(super) fn opens_key() -> Vec<u8> {
    vec![b'o']
}

pub(super) fn position_key(topic: u8, partition: u32, group: &str) -> Vec<u8> {
    let mut key = vec![b'c', topic];
    key.extend_from_slice(&partition.to_be_bytes());
    key.extend_from_slice(group.as_bytes());
    key
}

pub(super) fn encode_u64(value: u64) -> Vec<u8> {
    let mut out = vec![V1];
    out.extend_from_slice(&value.to_le_bytes());
    out
}

pub(super) fn decode_u64(value: &[u8]) -> Option<u64> {
    let mut reader = Reader::new(value);
    (reader.u8()? == V1).then(|| reader.u64())?
}

pub(super) fn encode_part(row: PartRow) -> Vec<u8> {
    let mut out = vec![V1];
    for field in [row.low, row.next, row.bytes_in, row.bytes_out] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out
}

pub(super) fn decode_part(value: &[u8]) -> Option<PartRow> {
    let mut reader = Reader::new(value);
    if reader.u8()? != V1 {
        return None;
    }
    Some(PartRow {
        low: reader.u64()?,
        next: reader.u64()?,
        bytes_in: reader.u64()?,
        bytes_out: reader.u64()?,
    })
}

pub(super) fn encode_batch(row: &BatchRow) -> Vec<u8> {
    let mut out = encode_u64(row.number);
    out.push(u8::from(row.resync));
    for next in &row.chat_next {
        out.extend_from_slice(&next.to_le_bytes());
    }
    out
}

pub(super) fn decode_batch(value: &[u8]) -> Option<BatchRow> {
    let mut reader = Reader::new(value);
    if reader.u8()? != V1 {
        return None;
    }
    let number = reader.u64()?;
    let resync = reader.u8()? != 0;
    let mut chat_next = Vec::new();
    while reader.end().is_none() {
        chat_next.push(reader.u64()?);
    }
    Some(BatchRow {
        number,
        resync,
        chat_next,
    })
}

/// All positions of groups on disk; rows of unknown form are passed over.
pub(super) fn read_positions(tables: &Tables) -> fjall::Result<Vec<(PositionKey, u64)>> {
    let mut out = Vec::new();
    for row in tables.space(Table::Meta).prefix(b"c") {
        let (key, value) = row.into_inner()?;
        if let (Some(key), Some(next)) = (parse_position_key(&key), decode_u64(&value)) {
            out.push((key, next));
        }
    }
    Ok(out)
}

fn parse_position_key(key: &[u8]) -> Option<PositionKey> {
    let id = *key.get(1)?;
    let topic: Topic = DURABLE.into_iter().find(|t| topic_id(*t) == Some(id))?;
    let partition = u32::from_be_bytes(*key.get(2..)?.first_chunk()?);
    let group = std::str::from_utf8(key.get(6..)?).ok()?;
    Some(PositionKey {
        group: group.into(),
        topic,
        partition,
    })
}
