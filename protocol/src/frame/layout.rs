//! Bounded reading of fixed layouts.

use super::FrameError;
use bytes::{Buf, Bytes};

/// Reads fields one after another out of a body; every method fails rather than pass the end.
pub(super) struct Fields {
    rest: Bytes,
    what: &'static str,
}

impl Fields {
    pub(super) fn new(body: &Bytes, what: &'static str) -> Self {
        Self {
            rest: body.clone(),
            what,
        }
    }

    pub(super) fn take(&mut self, len: usize) -> Result<Bytes, FrameError> {
        if self.rest.len() < len {
            return Err(FrameError::Malformed { what: self.what });
        }
        Ok(self.rest.split_to(len))
    }

    /// A field of a fixed length, read where it lies: a part of shared bytes costs counting who shares them.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let what = self.what;
        let array = *self
            .rest
            .first_chunk()
            .ok_or(FrameError::Malformed { what })?;
        self.rest.advance(N);
        Ok(array)
    }

    pub(super) fn u8(&mut self) -> Result<u8, FrameError> {
        self.array().map(|[byte]: [u8; 1]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, FrameError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, FrameError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, FrameError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn end(self) -> Result<(), FrameError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(FrameError::Malformed { what: self.what })
        }
    }
}

/// UTF-8 text of an id; its form is checked by the id's own constructor.
pub(super) fn text(bytes: &[u8]) -> Result<&str, FrameError> {
    std::str::from_utf8(bytes).map_err(|_| FrameError::BadId(crate::ids::IdError::BadForm))
}

/// A length that has a byte on the wire; ids are bounded below 256 by construction.
pub(super) fn len8(len: usize) -> u8 {
    u8::try_from(len).unwrap_or(u8::MAX)
}
