//! How single values stand in JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// Reads a field for which `null` means the same as absence.
pub(super) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// Whether a field is left out when written: what is absent rather than zero.
pub(super) trait Omit {
    fn omit(&self) -> bool {
        false
    }
}

impl Omit for String {}
impl Omit for u32 {}
impl Omit for bool {}
impl<T> Omit for Vec<T> {}
impl<T> Omit for Option<T> {
    fn omit(&self) -> bool {
        self.is_none()
    }
}

/// An offset or seq: written as a decimal string, read from a string or a number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Wide(pub(super) u64);

/// A count or a time in milliseconds: written as a number, read from a number or a string.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count(pub(super) u64);

impl Omit for Wide {}
impl Omit for Count {}

impl Serialize for Wide {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&self.0)
    }
}

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(self.0)
    }
}

struct WideVisitor;

impl Visitor<'_> for WideVisitor {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an unsigned 64-bit number, or its decimal digits as a string")
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<u64, E> {
        Ok(value)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
        if !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(E::custom("not decimal digits"));
        }
        text.parse().map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Wide {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(WideVisitor).map(Self)
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(WideVisitor).map(Self)
    }
}

/// Opaque bytes: standard base64 with padding; left out when empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Base64(pub(super) Bytes);

impl Omit for Base64 {
    fn omit(&self) -> bool {
        self.0.is_empty()
    }
}

/// Base64 text of bytes.
pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// How long [`base64`] makes them.
pub(super) fn base64_len(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&base64(&self.0))
    }
}

struct Base64Visitor;

impl Visitor<'_> for Base64Visitor {
    type Value = Bytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("base64 text")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
        STANDARD.decode(text).map(Bytes::from).map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(Base64Visitor).map(Self)
    }
}

/// A UUID as hyphenated text, of either case; left out when absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Uuid(pub(super) Bytes);

impl Omit for Uuid {
    fn omit(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Uuid {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let id = self.0.as_ref().try_into().unwrap_or([0; 16]);
        to.collect_str(&crate::ids::MessageId(id))
    }
}

/// Reads hyphenated UUID text; `None` for anything else.
pub(super) fn uuid(text: &str) -> Option<[u8; 16]> {
    let text = text.as_bytes();
    if text.len() != 36 {
        return None;
    }
    let mut digits = [0u8; 32];
    let mut count = 0;
    for (at, byte) in text.iter().enumerate() {
        if matches!(at, 8 | 13 | 18 | 23) {
            if *byte != b'-' {
                return None;
            }
            continue;
        }
        *digits.get_mut(count)? = hex_digit(*byte)?;
        count += 1;
    }
    let mut id = [0; 16];
    for (out, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
        *out = pair[0] << 4 | pair[1];
    }
    Some(id)
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

struct UuidVisitor;

impl Visitor<'_> for UuidVisitor {
    type Value = Bytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a hyphenated UUID")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
        uuid(text)
            .map(|id| Bytes::copy_from_slice(&id))
            .ok_or_else(|| E::custom("not a hyphenated UUID"))
    }
}

impl<'de> Deserialize<'de> for Uuid {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(UuidVisitor).map(Self)
    }
}

/// Presence: `"unknown"`, `"online"` or `"offline"`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Online,
    Offline,
    /// Also what a later version may say.
    #[default]
    #[serde(other)]
    Unknown,
}

impl Omit for State {}
