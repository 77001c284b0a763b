//! Writing of record fields. Lengths are ours: one that does not fit its field is a bug.

use super::RECORD_VERSION;
use crate::ids::{Seq, UserId};
use bytes::Bytes;

/// Appends fields.
#[derive(Debug)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    /// Begins with version and kind.
    pub(super) fn new(kind: u8, capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(capacity + 2);
        bytes.extend_from_slice(&[RECORD_VERSION, kind]);
        Self(bytes)
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn u8(&mut self, value: u8) -> &mut Self {
        self.raw(&[value])
    }

    pub(super) fn u16(&mut self, value: u16) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    pub(super) fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    pub(super) fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    pub(super) fn seq(&mut self, value: Seq) -> &mut Self {
        self.u64(value.0)
    }

    pub(super) fn len(&mut self, len: usize) -> &mut Self {
        let len = u32::try_from(len).expect("a record field is below 4 GiB");
        self.u32(len)
    }

    /// An id: u8 length and text. Ids are at most 132 bytes by construction.
    pub(super) fn short(&mut self, text: &str) -> &mut Self {
        let len = u8::try_from(text.len()).expect("an id is at most 132 bytes");
        self.u8(len).raw(text.as_bytes())
    }

    /// Bytes with a u32 length.
    pub(super) fn long(&mut self, bytes: &[u8]) -> &mut Self {
        self.len(bytes.len()).raw(bytes)
    }

    /// A u32 count of users.
    pub(super) fn users(&mut self, users: &[UserId]) -> &mut Self {
        self.len(users.len());
        for user in users {
            self.short(user.as_str());
        }
        self
    }

    pub(super) fn finish(self) -> Bytes {
        self.0.into()
    }
}
