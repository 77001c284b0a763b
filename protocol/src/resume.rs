//! Sealed resume tokens: the session is a position in the delivery log, and the token proves it.
//!
//! A token works on every node that has the cluster's key; nothing of a session lives in one
//! process only. Layout: version u8 (1), nonce (12 bytes), AES-256-GCM of the fields, tag
//! (16 bytes). The version is authenticated too. Clients treat it as opaque.

use crate::ids::{DeviceId, UserId};
use crate::limits::RESUME_TOKEN_BYTES_MAX;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use bytes::Bytes;
use std::fmt;

/// Version of the sealed layout.
const VERSION: u8 = 1;
/// Bound to every token, so that the key cannot be confused with another use of it.
const DOMAIN: [u8; 16] = *b"hawser resume v1";
/// Version, nonce, lengths of both ids, fixed fields, tag.
const OVERHEAD_BYTES: usize = 1 + NONCE_LEN + 2 + FIXED_BYTES + 16;
/// Generation u16, partition u32, offset u64, checksum u32, expiry u64.
const FIXED_BYTES: usize = 2 + 4 + 8 + 4 + 8;

/// What a resume token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumeToken {
    /// Whose session.
    pub user: UserId,
    /// Which device's.
    pub device: DeviceId,
    /// Of the delivery log.
    pub generation: u16,
    /// The user's delivery partition.
    pub partition: u32,
    /// Next offset to deliver.
    pub offset: u64,
    /// [`record_checksum`] of the delivery record at `offset - 1`; 0 at the start of the log. Tells
    /// another history of the same partition from this one.
    pub checksum: u32,
    /// Not accepted from then on, milliseconds since 1970.
    pub expires_ms: u64,
}

/// Why bytes are no resume token: the client's fault, or a key that has changed. Never fatal: the
/// session begins unrecovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResumeError {
    /// Longer than [`RESUME_TOKEN_BYTES_MAX`], or shorter than any token.
    #[error("a resume token of {len} bytes")]
    Length {
        /// Bytes.
        len: usize,
    },
    /// Sealed by a later version.
    #[error("a resume token of version {found}, not {VERSION}")]
    Version {
        /// First byte.
        found: u8,
    },
    /// Changed on the way, or sealed with another key.
    #[error("a resume token that is not sealed with this cluster's key")]
    Seal,
    /// Opened, but its fields do not add up.
    #[error("a resume token whose fields do not add up")]
    Fields,
}

/// The checksum that a resume token carries: CRC-32 of the delivery record's value.
#[must_use]
pub fn record_checksum(value: &[u8]) -> u32 {
    crc32fast::hash(value)
}

impl ResumeToken {
    /// Whether it must not be accepted any more.
    #[must_use]
    pub fn expired(&self, now_ms: u64) -> bool {
        now_ms >= self.expires_ms
    }

    fn plain(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(RESUME_TOKEN_BYTES_MAX);
        for id in [self.user.as_str(), self.device.as_str()] {
            out.push(u8::try_from(id.len()).unwrap_or(u8::MAX));
            out.extend_from_slice(id.as_bytes());
        }
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(&self.partition.to_le_bytes());
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.checksum.to_le_bytes());
        out.extend_from_slice(&self.expires_ms.to_le_bytes());
        out
    }

    fn parse(plain: &[u8]) -> Option<Self> {
        let (user, rest) = short(plain)?;
        let (device, rest) = short(rest)?;
        let (generation, rest) = rest.split_first_chunk()?;
        let (partition, rest) = rest.split_first_chunk()?;
        let (offset, rest) = rest.split_first_chunk()?;
        let (checksum, rest) = rest.split_first_chunk()?;
        let (expires, rest) = rest.split_first_chunk()?;
        if !rest.is_empty() {
            return None;
        }
        Some(Self {
            user: UserId::new(user).ok()?,
            device: DeviceId::new(device).ok()?,
            generation: u16::from_le_bytes(*generation),
            partition: u32::from_le_bytes(*partition),
            offset: u64::from_le_bytes(*offset),
            checksum: u32::from_le_bytes(*checksum),
            expires_ms: u64::from_le_bytes(*expires),
        })
    }
}

fn short(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (len, rest) = bytes.split_first()?;
    let (text, rest) = rest.split_at_checked(usize::from(*len))?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

/// The cluster's key for resume tokens. Its memory is cleansed when it is dropped (by AWS-LC).
pub struct ResumeKey(LessSafeKey);

impl fmt::Debug for ResumeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResumeKey(..)")
    }
}

impl ResumeKey {
    /// The key of 32 secret bytes.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, secret);
        Self(LessSafeKey::new(key.expect("32 bytes are an AES-256 key")))
    }

    /// Seals. `nonce` is 12 random bytes, never used twice with one key: at 2^32 tokens a random
    /// one repeats with a probability of 2^-33.
    #[must_use]
    pub fn seal(&self, token: &ResumeToken, nonce: [u8; NONCE_LEN]) -> Bytes {
        let mut sealed = token.plain();
        let bound = Nonce::assume_unique_for_key(nonce);
        let tag = self
            .0
            .seal_in_place_separate_tag(bound, aad(VERSION), &mut sealed)
            .expect("far below the length limit of AES-GCM");
        let mut out = Vec::with_capacity(OVERHEAD_BYTES + sealed.len());
        out.push(VERSION);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&sealed);
        out.extend_from_slice(tag.as_ref());
        out.into()
    }

    /// Opens. Whether it has expired, and whether it belongs to this user and device, is for the
    /// caller to judge.
    ///
    /// # Errors
    /// See [`ResumeError`].
    pub fn open(&self, sealed: &[u8]) -> Result<ResumeToken, ResumeError> {
        let length = ResumeError::Length { len: sealed.len() };
        if sealed.len() > RESUME_TOKEN_BYTES_MAX || sealed.len() < OVERHEAD_BYTES {
            return Err(length);
        }
        let (version, rest) = sealed.split_first().ok_or(length)?;
        if *version != VERSION {
            return Err(ResumeError::Version { found: *version });
        }
        let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>().ok_or(length)?;
        let mut plain = rest.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = self
            .0
            .open_in_place(nonce, aad(*version), &mut plain)
            .map_err(|_| ResumeError::Seal)?;
        ResumeToken::parse(plain).ok_or(ResumeError::Fields)
    }
}

impl From<[u8; 32]> for ResumeKey {
    fn from(secret: [u8; 32]) -> Self {
        Self::new(&secret)
    }
}

fn aad(version: u8) -> Aad<[u8; 17]> {
    let mut bytes = [version; 17];
    bytes[1..].copy_from_slice(&DOMAIN);
    Aad::from(bytes)
}

const _: () = assert!(
    OVERHEAD_BYTES + crate::limits::USER_ID_BYTES_MAX + crate::limits::DEVICE_ID_BYTES_MAX
        <= RESUME_TOKEN_BYTES_MAX
);

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> ResumeToken {
        ResumeToken {
            user: UserId::new("alice").expect("id"),
            device: DeviceId::new("laptop").expect("id"),
            generation: 1,
            partition: 7,
            offset: 258,
            checksum: record_checksum(b"a record"),
            expires_ms: 1_732_400_000_000,
        }
    }

    #[test]
    fn a_sealed_token_opens_to_what_was_sealed() {
        let key = ResumeKey::new(&[7; 32]);
        let sealed = key.seal(&token(), [1; 12]);
        assert_eq!(key.open(&sealed), Ok(token()));
        assert_ne!(sealed, key.seal(&token(), [2; 12]));
    }

    #[test]
    fn the_largest_token_fits_its_bound() {
        let id = "x".repeat(64);
        let largest = ResumeToken {
            user: UserId::new(&id).expect("id"),
            device: DeviceId::new(&id).expect("id"),
            offset: u64::MAX,
            ..token()
        };
        let key = ResumeKey::new(&[7; 32]);
        let sealed = key.seal(&largest, [1; 12]);
        assert!(sealed.len() <= RESUME_TOKEN_BYTES_MAX);
        assert_eq!(key.open(&sealed), Ok(largest));
    }

    #[test]
    fn any_changed_bit_is_refused() {
        let key = ResumeKey::new(&[7; 32]);
        let sealed = key.seal(&token(), [1; 12]);
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(key.open(&changed).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn another_key_any_cut_and_any_length_are_refused() {
        let key = ResumeKey::new(&[7; 32]);
        let sealed = key.seal(&token(), [1; 12]);
        assert_eq!(
            ResumeKey::new(&[8; 32]).open(&sealed),
            Err(ResumeError::Seal)
        );
        for end in 0..sealed.len() {
            assert!(key.open(&sealed[..end]).is_err(), "cut at {end}");
        }
        for len in [0, 1, 256, 257, 100_000] {
            assert!(key.open(&vec![1; len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn expiry_is_at_its_millisecond() {
        assert!(!token().expired(1_732_399_999_999));
        assert!(token().expired(1_732_400_000_000));
    }
}
