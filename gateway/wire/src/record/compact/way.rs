//! One direction of a connection: a traffic secret, and the keys and the sequence number that it stands for.

use std::fmt;

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{self, KeyType, Prk};
use rustls::AlertDescription;
use rustls::CipherSuite;
use zeroize::Zeroize;

use super::super::{RECORD_BYTES_MAX, RecordError};
use super::{Fault, HEADER_BYTES};

/// A traffic secret is as long as the suite's hash: SHA-384 at most.
pub(in super::super) const SECRET_BYTES_MAX: usize = 48;
pub(super) const TAG_BYTES: usize = 16;
pub(in super::super) const KEY_BYTES_MAX: usize = 32;
const IV_BYTES: usize = 12;
/// Records under one AES-GCM key at most: RFC 8446, section 5.5 allows 2^24.5.
const GCM_RECORDS_MAX: u64 = 1 << 24;

/// The AEAD and the hash of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Suite {
    Aes128,
    Aes256,
    ChaCha20,
}

impl Suite {
    /// `None`: none that this layer knows.
    pub(in super::super) fn of(suite: CipherSuite) -> Option<Self> {
        match suite {
            CipherSuite::TLS13_AES_128_GCM_SHA256 => Some(Self::Aes128),
            CipherSuite::TLS13_AES_256_GCM_SHA384 => Some(Self::Aes256),
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => Some(Self::ChaCha20),
            _ => None,
        }
    }

    fn aead(self) -> &'static aead::Algorithm {
        match self {
            Self::Aes128 => &aead::AES_128_GCM,
            Self::Aes256 => &aead::AES_256_GCM,
            Self::ChaCha20 => &aead::CHACHA20_POLY1305,
        }
    }

    fn hash(self) -> hkdf::Algorithm {
        match self {
            Self::Aes128 | Self::ChaCha20 => hkdf::HKDF_SHA256,
            Self::Aes256 => hkdf::HKDF_SHA384,
        }
    }

    fn secret_len(self) -> usize {
        match self {
            Self::Aes128 | Self::ChaCha20 => 32,
            Self::Aes256 => 48,
        }
    }
}

/// One direction, with room for a secret and a key of so many bytes.
pub(in super::super) struct Way<
    const SECRET: usize = SECRET_BYTES_MAX,
    const KEY: usize = KEY_BYTES_MAX,
> {
    /// Of the next record.
    sequence: u64,
    secret: [u8; SECRET],
    key: [u8; KEY],
    iv: [u8; IV_BYTES],
    /// Updates so far.
    generation: u32,
}

impl<const SECRET: usize, const KEY: usize> fmt::Debug for Way<SECRET, KEY> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Way")
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

impl<const SECRET: usize, const KEY: usize> Drop for Way<SECRET, KEY> {
    fn drop(&mut self) {
        self.secret.zeroize();
        self.key.zeroize();
        self.iv.zeroize();
    }
}

/// What a record held: its kind, and how many bytes behind the header.
pub(super) struct Content {
    pub(super) kind: u8,
    pub(super) len: usize,
}

impl<const SECRET: usize, const KEY: usize> Way<SECRET, KEY> {
    /// From a traffic secret; `None` where its length is not the suite's, or there is no room for it or for the key.
    pub(in super::super) fn new(suite: Suite, secret: &[u8], sequence: u64) -> Option<Self> {
        let mut way = Self {
            sequence,
            secret: [0; SECRET],
            key: [0; KEY],
            iv: [0; IV_BYTES],
            generation: 0,
        };
        if secret.len() != suite.secret_len() || suite.aead().key_len() > KEY {
            return None;
        }
        way.secret.get_mut(..secret.len())?.copy_from_slice(secret);
        way.derive(suite);
        Some(way)
    }

    /// Whether these are the key and the nonce's base.
    pub(in super::super) fn is(&self, suite: Suite, key: &[u8], iv: &[u8]) -> bool {
        let mine = self.key.get(..suite.aead().key_len()).unwrap_or_default();
        // Both ends of the comparison are this process's own.
        mine == key && self.iv == iv
    }

    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    /// The key has sealed as much as it may.
    pub(super) fn is_worn(&self, suite: Suite) -> bool {
        suite != Suite::ChaCha20 && self.sequence >= GCM_RECORDS_MAX - 1
    }

    /// The next traffic secret (section 7.2).
    pub(super) fn update(&mut self, suite: Suite) {
        let mut next = [0; SECRET];
        let len = suite.secret_len();
        expand(suite, self.secret(suite), b"traffic upd", &mut next[..len]);
        self.secret.copy_from_slice(&next);
        next.zeroize();
        self.sequence = 0;
        self.generation = self.generation.wrapping_add(1);
        self.derive(suite);
    }

    /// The AEAD's key, for some records.
    pub(super) fn key(&self, suite: Suite) -> LessSafeKey {
        let algorithm = suite.aead();
        let key = UnboundKey::new(algorithm, &self.key[..algorithm.key_len()]);
        LessSafeKey::new(key.expect("a key of the algorithm's length"))
    }

    /// Appends a record.
    pub(super) fn seal(
        &mut self,
        key: &LessSafeKey,
        kind: u8,
        content: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), RecordError> {
        let begin = out.len();
        let len = u16::try_from(content.len() + 1 + TAG_BYTES).unwrap_or(u16::MAX);
        let [high, low] = len.to_be_bytes();
        let header = [super::APPLICATION_DATA, 3, 3, high, low];
        out.extend_from_slice(&header);
        out.extend_from_slice(content);
        out.push(kind);
        let nonce = self.nonce();
        let inner = &mut out[begin + HEADER_BYTES..];
        let tag = key.seal_in_place_separate_tag(nonce, Aad::from(header), inner);
        let Ok(tag) = tag else {
            out.truncate(begin);
            return Err(RecordError::Exhausted);
        };
        out.extend_from_slice(tag.as_ref());
        self.sequence += 1;
        Ok(())
    }

    /// Decrypts a whole record in place.
    pub(super) fn open(&mut self, key: &LessSafeKey, record: &mut [u8]) -> Result<Content, Fault> {
        let undecryptable = || {
            let error = rustls::Error::DecryptError;
            Fault(AlertDescription::BadRecordMac, error.into())
        };
        let (header, sealed) = record
            .split_at_mut_checked(HEADER_BYTES)
            .ok_or_else(undecryptable)?;
        let inner = key
            .open_in_place(self.nonce(), Aad::from(&*header), sealed)
            .map_err(|_| undecryptable())?;
        self.sequence += 1;
        // Content, its kind, and any number of zeros (section 5.4).
        let Some(last) = inner.iter().rposition(|byte| *byte != 0) else {
            return Err(Fault::unexpected("a record of nothing but padding"));
        };
        // Padding counts: the whole is bounded (section 5.2).
        if inner.len() > RECORD_BYTES_MAX + 1 {
            let error = rustls::Error::PeerSentOversizedRecord;
            return Err(Fault(AlertDescription::RecordOverflow, error.into()));
        }
        Ok(Content {
            kind: inner[last],
            len: last,
        })
    }

    fn secret(&self, suite: Suite) -> &[u8] {
        &self.secret[..suite.secret_len()]
    }

    fn derive(&mut self, suite: Suite) {
        let (mut key, mut iv) = ([0; KEY], [0; IV_BYTES]);
        let len = suite.aead().key_len();
        expand(suite, self.secret(suite), b"key", &mut key[..len]);
        expand(suite, self.secret(suite), b"iv", &mut iv);
        (self.key, self.iv) = (key, iv);
        key.zeroize();
        iv.zeroize();
    }

    /// Section 5.3.
    fn nonce(&self) -> Nonce {
        let mut nonce = self.iv;
        for (place, byte) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *place ^= byte;
        }
        Nonce::assume_unique_for_key(nonce)
    }
}

struct Len(usize);

impl KeyType for Len {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-Expand-Label without context (section 7.1).
fn expand(suite: Suite, secret: &[u8], label: &[u8], into: &mut [u8]) {
    const PREFIX: &[u8] = b"tls13 ";
    // None is longer than a hash, and no label than eleven bytes.
    let len = u16::try_from(into.len()).unwrap_or(u16::MAX).to_be_bytes();
    let label_len = u8::try_from(PREFIX.len() + label.len()).unwrap_or(u8::MAX);
    let info = [len.as_slice(), &[label_len], PREFIX, label, &[0]];
    let made = Prk::new_less_safe(suite.hash(), secret)
        .expand(&info, Len(into.len()))
        .and_then(|okm| okm.fill(into));
    made.expect("less than 255 hashes");
}
