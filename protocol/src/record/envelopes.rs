//! The table of per-device envelopes (end-to-end encryption), in records and in the store:
//! (user length u8, device length u8, length u16, user, device, bytes) one after another.
//! The same layout as in a Send frame, so that a table is copied and never rewritten.

use super::RecordError;
use super::read::Reader;
use crate::limits::{DEVICE_ID_BYTES_MAX, ENVELOPE_BYTES_MAX, ENVELOPES_MAX, USER_ID_BYTES_MAX};
use crate::message::Envelope;

/// Encodes a table. An envelope above 64 KiB or an id above 255 bytes cannot exist.
#[must_use]
pub fn encode_envelopes<'a>(envelopes: impl IntoIterator<Item = &'a Envelope>) -> Vec<u8> {
    let mut out = Vec::new();
    for envelope in envelopes {
        let (user, device) = (envelope.user.as_str(), envelope.device.as_str());
        let user_len = u8::try_from(user.len()).expect("a user id is at most 64 bytes");
        let device_len = u8::try_from(device.len()).expect("a device id is at most 64 bytes");
        let len = u16::try_from(envelope.bytes.len()).expect("an envelope is at most 4 KiB");
        out.extend_from_slice(&[user_len, device_len]);
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(user.as_bytes());
        out.extend_from_slice(device.as_bytes());
        out.extend_from_slice(&envelope.bytes);
    }
    out
}

/// One entry of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnvelopeEntry<'a> {
    /// Recipient.
    pub user: &'a str,
    /// Recipient's device.
    pub device: &'a str,
    /// Opaque, at most `ENVELOPE_BYTES_MAX`.
    pub bytes: &'a [u8],
}

/// A checked table, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Envelopes<'a> {
    table: &'a [u8],
}

impl<'a> Envelopes<'a> {
    /// Checks a whole table once: at most `ENVELOPES_MAX` entries of allowed length.
    ///
    /// # Errors
    /// The bytes are no such table.
    pub fn parse(table: &'a [u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new(table);
        let mut found = 0;
        while reader.remaining() > 0 {
            entry(&mut reader)?;
            found += 1;
            if found > ENVELOPES_MAX {
                let max = ENVELOPES_MAX;
                let what = "envelopes";
                return Err(RecordError::TooMany { what, found, max });
            }
        }
        Ok(Self { table })
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Entries in order.
    pub fn iter(&self) -> impl Iterator<Item = EnvelopeEntry<'a>> + use<'a> {
        let mut reader = Reader::new(self.table);
        std::iter::from_fn(move || entry(&mut reader).ok())
    }

    /// The envelope of one device: a scan, at most `ENVELOPES_MAX` steps.
    #[must_use]
    pub fn of(&self, user: &str, device: &str) -> Option<&'a [u8]> {
        self.iter()
            .find(|e| e.user == user && e.device == device)
            .map(|e| e.bytes)
    }
}

fn entry<'a>(reader: &mut Reader<'a>) -> Result<EnvelopeEntry<'a>, RecordError> {
    let user_len = bounded("user", usize::from(reader.u8()?), USER_ID_BYTES_MAX)?;
    let device_len = bounded("device", usize::from(reader.u8()?), DEVICE_ID_BYTES_MAX)?;
    let len = bounded("envelope", usize::from(reader.u16()?), ENVELOPE_BYTES_MAX)?;
    let text = |bytes, what| std::str::from_utf8(bytes).map_err(|_| RecordError::BadForm { what });
    Ok(EnvelopeEntry {
        user: text(reader.take(user_len)?, "user")?,
        device: text(reader.take(device_len)?, "device")?,
        bytes: reader.take(len)?,
    })
}

fn bounded(what: &'static str, found: usize, max: usize) -> Result<usize, RecordError> {
    if found > max {
        return Err(RecordError::TooMany { what, found, max });
    }
    Ok(found)
}
