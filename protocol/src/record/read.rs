//! Bounded reading of record fields.

use super::{RECORD_VERSION, RecordError};
use crate::ids::{ChatId, DeviceId, Seq, UserId};
use crate::ownership::NodeName;
use bytes::Bytes;
use std::ops::Range;

/// Reads fields one after another; every method fails rather than pass the end.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Reads and checks the version, then gives the kind.
    pub(super) fn head(&mut self) -> Result<u8, RecordError> {
        let found = self.u8()?;
        if found != RECORD_VERSION {
            return Err(RecordError::Version { found });
        }
        self.u8()
    }

    pub(super) fn range(&mut self, len: usize) -> Result<Range<usize>, RecordError> {
        let end = self.at.checked_add(len).ok_or(RecordError::Truncated)?;
        if end > self.bytes.len() {
            return Err(RecordError::Truncated);
        }
        let range = self.at..end;
        self.at = end;
        Ok(range)
    }

    /// What is left.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], RecordError> {
        let range = self.range(len)?;
        Ok(&self.bytes[range])
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| RecordError::Truncated)
    }

    pub(super) fn u8(&mut self) -> Result<u8, RecordError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, RecordError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, RecordError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, RecordError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn seq(&mut self) -> Result<Seq, RecordError> {
        self.u64().map(Seq)
    }

    pub(super) fn bool(&mut self, what: &'static str) -> Result<bool, RecordError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(RecordError::BadForm { what }),
        }
    }

    /// A u32 length or count, at most `max`.
    pub(super) fn len(&mut self, what: &'static str, max: usize) -> Result<usize, RecordError> {
        let found = self.u32()? as usize;
        if found > max {
            return Err(RecordError::TooMany { what, found, max });
        }
        Ok(found)
    }

    /// Text with a u32 length of at most `max` bytes.
    pub(super) fn text(&mut self, what: &'static str, max: usize) -> Result<&'a str, RecordError> {
        let len = self.len(what, max)?;
        std::str::from_utf8(self.take(len)?).map_err(|_| RecordError::BadForm { what })
    }

    /// Text with a u8 length (an id whose form is not checked).
    pub(super) fn short(&mut self, what: &'static str) -> Result<&'a str, RecordError> {
        let len = usize::from(self.u8()?);
        std::str::from_utf8(self.take(len)?).map_err(|_| RecordError::BadForm { what })
    }

    pub(super) fn user(&mut self) -> Result<UserId, RecordError> {
        Ok(UserId::new(self.short("user")?)?)
    }

    pub(super) fn device(&mut self) -> Result<DeviceId, RecordError> {
        Ok(DeviceId::new(self.short("device")?)?)
    }

    pub(super) fn node(&mut self) -> Result<NodeName, RecordError> {
        let name = NodeName::new(self.short("node")?);
        name.map_err(|_| RecordError::BadForm { what: "node" })
    }

    pub(super) fn chat(&mut self) -> Result<ChatId, RecordError> {
        Ok(ChatId::new(self.short("chat")?)?)
    }

    /// A u32 count of users, at most `max`.
    pub(super) fn users(&mut self, max: usize) -> Result<Vec<UserId>, RecordError> {
        let count = self.len("users", max)?;
        // Two bytes are the least a user takes: a count cannot make a small record allocate much.
        let mut users = Vec::with_capacity(count.min(self.remaining() / 2));
        for _ in 0..count {
            users.push(self.user()?);
        }
        Ok(users)
    }

    pub(super) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Fails when something is left.
    pub(super) fn end(&self) -> Result<(), RecordError> {
        match self.remaining() {
            0 => Ok(()),
            bytes => Err(RecordError::Trailing { bytes }),
        }
    }
}

/// A payload with a u32 length, sharing the record's memory.
pub(super) fn shared(
    reader: &mut Reader<'_>,
    whole: &Bytes,
    what: &'static str,
    max: usize,
) -> Result<Bytes, RecordError> {
    let len = reader.len(what, max)?;
    let range = reader.range(len)?;
    Ok(whole.slice(range))
}
