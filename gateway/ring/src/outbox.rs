//! Bytes that the next submit sends: copied in once, sent to one socket or to many, forgotten when the submit has returned.

use crate::key::Key;

/// Bytes that a ring holds for sends until its next submit; see [`crate::Ring::put`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    at: u32,
    len: u32,
    /// Which filling of the outbox it is of.
    filling: u32,
}

impl Piece {
    /// Bytes.
    #[expect(clippy::len_without_is_empty, reason = "there is no empty piece")]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    pub(crate) fn len32(&self) -> u32 {
        self.len
    }
}

/// A send of a piece that no submit has seen the end of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Posted {
    pub(crate) key: Key,
    pub(crate) piece: Piece,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Outbox {
    /// Of one length for ever, made on first use: the kernel reads from here during a submit.
    bytes: Box<[u8]>,
    used: usize,
    capacity: usize,
    filling: u32,
    pub(crate) posted: Vec<Posted>,
    posted_max: usize,
}

impl Outbox {
    /// Of so many bytes, for so many sends at once.
    pub(crate) fn new(capacity: usize, posted_max: usize) -> Self {
        Self {
            bytes: Box::default(),
            used: 0,
            capacity,
            filling: 0,
            posted: Vec::new(),
            posted_max,
        }
    }

    /// Copies bytes in; `None` where there is no room for them now, or where there are none.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Option<Piece> {
        if bytes.is_empty() || bytes.len() > self.capacity - self.used {
            return None;
        }
        if self.bytes.is_empty() {
            self.bytes = vec![0; self.capacity].into_boxed_slice();
        }
        let at = self.used;
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self.used += bytes.len();
        Some(Piece {
            at: u32::try_from(at).ok()?,
            len: u32::try_from(bytes.len()).ok()?,
            filling: self.filling,
        })
    }

    /// The bytes of a piece; `None` once it has been forgotten.
    pub(crate) fn bytes(&self, piece: Piece) -> Option<&[u8]> {
        let at = piece.at as usize;
        let current = piece.filling == self.filling;
        current.then(|| &self.bytes[at..at + piece.len as usize])
    }

    /// There is room for one more send.
    pub(crate) fn has_place(&self) -> bool {
        self.posted.len() < self.posted_max
    }

    /// Nothing refers to the bytes any more.
    pub(crate) fn forget(&mut self) {
        if self.used > 0 {
            self.used = 0;
            self.filling = self.filling.wrapping_add(1);
        }
        self.posted.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.used == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_its_bytes_until_the_outbox_forgets() {
        let mut outbox = Outbox::new(10, 2);
        assert_eq!(outbox.put(b""), None);
        let first = outbox.put(b"first").unwrap();
        let second = outbox.put(b"more!").unwrap();
        assert_eq!(outbox.put(b"x"), None, "it is full");
        assert_eq!(outbox.bytes(first), Some(&b"first"[..]));
        assert_eq!(outbox.bytes(second), Some(&b"more!"[..]));
        outbox.forget();
        let third = outbox.put(b"third").unwrap();
        assert_eq!(outbox.bytes(first), None);
        assert_eq!(outbox.bytes(third), Some(&b"third"[..]));
        assert_eq!(outbox.put(b"longer"), None);
    }
}
