//! Value of `cursors`: what devices of one delivery partition have acknowledged.

use super::RecordError;
use super::read::Reader;
use super::write::Writer;
use crate::ids::{DeviceId, UserId};
use bytes::Bytes;

const DELTA: u8 = 1;
const SNAPSHOT: u8 = 2;

/// One device's cumulative acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceCursor {
    /// Whose.
    pub user: UserId,
    /// Which device.
    pub device: DeviceId,
    /// Everything up to and including this delivery offset is persisted by the device.
    pub offset: u64,
}

/// Cursors that changed, or all of a partition (possibly over several records).
/// Merged by maximum, so that repeating or reordering records changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CursorRecord {
    /// Part of a full snapshot rather than what changed since the last record.
    pub snapshot: bool,
    /// Generation of the delivery topic that the offsets belong to.
    pub generation: u16,
    /// Cursors; as many as fit a log record (1 MiB).
    pub cursors: Vec<DeviceCursor>,
}

impl CursorRecord {
    /// Encodes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let kind = if self.snapshot { SNAPSHOT } else { DELTA };
        let mut out = Writer::new(kind, 8 + self.cursors.len() * 40);
        out.u16(self.generation).len(self.cursors.len());
        for cursor in &self.cursors {
            out.short(cursor.user.as_str())
                .short(cursor.device.as_str());
            out.u64(cursor.offset);
        }
        out.finish()
    }

    /// Decodes.
    ///
    /// # Errors
    /// The bytes are no cursor record of this version.
    pub fn decode(value: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new(value);
        let snapshot = match reader.head()? {
            DELTA => false,
            SNAPSHOT => true,
            found => return Err(RecordError::Kind { found }),
        };
        let generation = reader.u16()?;
        // Twelve bytes are the least that a cursor takes.
        let count = reader.len("cursors", value.len() / 12)?;
        let mut cursors = Vec::with_capacity(count);
        for _ in 0..count {
            cursors.push(DeviceCursor {
                user: reader.user()?,
                device: reader.device()?,
                offset: reader.u64()?,
            });
        }
        reader.end()?;
        Ok(Self {
            snapshot,
            generation,
            cursors,
        })
    }
}
