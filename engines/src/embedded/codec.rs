//! Bytes of rows: a defensive reader, and the checksummed form of log records.

use crate::log::Record;
use bytes::Bytes;
use fjall::Slice;

/// Format of log values; the first byte of each.
const LOG_V1: u8 = 1;
/// version 1 | crc32 4 | timestamp 8 | appended 8 | key length 2.
const LOG_HEADER_BYTES: usize = 23;

/// Reads fixed-width little-endian fields; `None` when the bytes end early.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn bytes(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|a| a[0])
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// What is left.
    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }

    /// Whether nothing is left.
    pub(super) fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// A log record as stored, decoded.
#[derive(Debug, Clone)]
pub(super) struct Logged {
    /// The record.
    pub(super) record: Record,
    /// When the engine appended it, by its own clock; retention goes by this.
    pub(super) appended_ms: u64,
}

/// Bytes that retention counts for a record.
pub(super) fn record_bytes(record: &Record) -> u64 {
    (record.key.len() + record.value.len() + LOG_HEADER_BYTES) as u64
}

/// Encodes a log value. The key has at most 65,535 bytes (checked on produce).
pub(super) fn encode_record(record: &Record, appended_ms: u64) -> Vec<u8> {
    let key_len = u16::try_from(record.key.len()).unwrap_or(u16::MAX);
    let mut out = Vec::with_capacity(LOG_HEADER_BYTES + record.key.len() + record.value.len());
    out.push(LOG_V1);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&record.timestamp_ms.to_le_bytes());
    out.extend_from_slice(&appended_ms.to_le_bytes());
    out.extend_from_slice(&key_len.to_le_bytes());
    out.extend_from_slice(&record.key);
    out.extend_from_slice(&record.value);
    let crc = checksum(record.offset, &out[5..]);
    out[1..5].copy_from_slice(&crc.to_le_bytes());
    out
}

/// Decodes and verifies a log value; `None` when the checksum or the form is wrong.
pub(super) fn decode_record(offset: u64, value: Slice) -> Option<Logged> {
    let mut reader = Reader::new(&value);
    if reader.u8()? != LOG_V1 {
        return None;
    }
    let crc = reader.u32()?;
    if checksum(offset, value.get(5..)?) != crc {
        return None;
    }
    let timestamp_ms = reader.u64()?;
    let appended_ms = reader.u64()?;
    let key_len = usize::from(reader.u16()?);
    reader.bytes(key_len)?;
    let all = Bytes::from_owner(value);
    Some(Logged {
        record: Record {
            offset,
            timestamp_ms,
            key: all.slice(LOG_HEADER_BYTES..LOG_HEADER_BYTES + key_len),
            value: all.slice(LOG_HEADER_BYTES + key_len..),
        },
        appended_ms,
    })
}

fn checksum(offset: u64, rest: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&offset.to_le_bytes());
    hasher.update(rest);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            offset: 7,
            timestamp_ms: 1_000,
            key: Bytes::from_static(b"g:x"),
            value: Bytes::from_static(b"hello"),
        }
    }

    #[test]
    fn a_log_record_round_trips() {
        let bytes = encode_record(&record(), 2_000);
        let logged = decode_record(7, Slice::from(bytes)).unwrap();
        assert_eq!(logged.record, record());
        assert_eq!(logged.appended_ms, 2_000);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_of_a_log_record_is_found() {
        let bytes = encode_record(&record(), 2_000);
        for i in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[i / 8] ^= 1 << (i % 8);
            assert!(decode_record(7, Slice::from(bad)).is_none(), "bit {i}");
        }
        for n in 0..bytes.len() {
            assert!(decode_record(7, Slice::from(&bytes[..n])).is_none());
        }
        assert!(
            decode_record(8, Slice::from(bytes)).is_none(),
            "a record at another offset"
        );
    }
}
