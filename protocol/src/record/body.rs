//! Value of `bodies`: the message record that delivery records refer to, once for every lane that has need of it. Nobody
//! may rely on it: who misses one reads it in the store.

use super::RecordError;
use super::read::{Reader, shared};
use super::write::Writer;
use crate::ids::Seq;
use crate::limits::FRAME_BYTES_MAX;
use bytes::Bytes;

const BODY: u8 = 1;
/// Bytes beside the message record: version, kind, source partition, seq, length.
const HEAD_BYTES: usize = 18;

/// What a message record is known by: the place of the record that it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BodyKey {
    /// Partition of `chat-messages`.
    pub source_partition: u32,
    /// The message's.
    pub seq: Seq,
}

/// Which bytes a reference means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Referred {
    /// The message's number in its chat, which is where the store has it.
    pub ordinal: u64,
    /// Bytes of the message record.
    pub len: u32,
    /// [`body_checksum`] of them.
    pub checksum: u32,
}

/// A message record under way to the nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyRecord {
    /// Whose it is.
    pub key: BodyKey,
    /// The encoded `MessageRecord`: the tail of every Deliver frame.
    pub record: Bytes,
}

/// CRC-32 (IEEE) of a message record.
#[must_use]
pub fn body_checksum(record: &[u8]) -> u32 {
    crc32fast::hash(record)
}

impl Referred {
    /// The reference to a message record.
    #[must_use]
    pub fn to(ordinal: u64, record: &[u8]) -> Self {
        Self {
            ordinal,
            // A record is at most a frame.
            len: u32::try_from(record.len()).unwrap_or(u32::MAX),
            checksum: body_checksum(record),
        }
    }

    /// Whether these are the bytes.
    #[must_use]
    pub fn is(&self, record: &[u8]) -> bool {
        self.is_of(record.len(), body_checksum(record))
    }

    /// The same, of bytes whose checksum is known.
    #[must_use]
    pub fn is_of(&self, len: usize, checksum: u32) -> bool {
        self.len as usize == len && self.checksum == checksum
    }
}

impl BodyRecord {
    /// Encodes. Layout: version, kind, source_partition u32, seq u64, length u32, message record.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::new(BODY, HEAD_BYTES + self.record.len());
        out.u32(self.key.source_partition).seq(self.key.seq);
        out.long(&self.record);
        out.finish()
    }

    /// Decodes; the message record shares the value's memory.
    ///
    /// # Errors
    /// The bytes are no body of this version.
    pub fn decode(value: &Bytes) -> Result<Self, RecordError> {
        let mut reader = Reader::new(value);
        let found = reader.head()?;
        if found != BODY {
            return Err(RecordError::Kind { found });
        }
        let key = BodyKey {
            source_partition: reader.u32()?,
            seq: reader.seq()?,
        };
        let record = shared(&mut reader, value, "message record", FRAME_BYTES_MAX)?;
        reader.end()?;
        Ok(Self { key, record })
    }
}
