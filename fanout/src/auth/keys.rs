//! The key set (JWKS, RFC 7517): each key with the one algorithm that it verifies.

use super::jwks_url::{JwksUrl, JwksUrlError};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Keys in one set; more are refused.
const KEYS_MAX: usize = 64;
/// Size of a set, bytes.
pub(super) const JWKS_BYTES_MAX: usize = 1 << 20;
/// Smallest and largest RSA modulus, bytes.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1_024;

/// Where the keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A JWKS file, read again on reload.
    File(PathBuf),
    /// The JWKS itself.
    Text(String),
    /// An address, read again as its answers say, by a thread of the verifier's.
    Url(JwksUrl),
}

/// Why a key set is refused: the operator's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// The file cannot be read.
    #[error("cannot read the key set {path}: {reason}")]
    Unreadable {
        /// Which.
        path: String,
        /// The system's words.
        reason: String,
    },
    /// No JWKS.
    #[error("the key set is no JWKS: {reason}")]
    Malformed {
        /// The parser's words.
        reason: String,
    },
    /// A key that cannot be used safely.
    #[error("key `{kid}` of the key set {reason}")]
    Key {
        /// Its `kid`, or its place.
        kid: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The address gives no key set.
    #[error(transparent)]
    Url(#[from] JwksUrlError),
    /// No key of a kind that is accepted.
    #[error("the key set holds no key for EdDSA (Ed25519), ES256 (P-256) or RS256 (RSA)")]
    Empty,
}

impl KeysError {
    /// Whether waiting may help: the server does not answer.
    #[must_use]
    pub fn transient(&self) -> bool {
        matches!(self, Self::Url(JwksUrlError::Unreachable { .. }))
    }
}

/// One key and its only algorithm.
#[derive(Debug)]
pub(super) struct PinnedKey {
    kid: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

/// The keys.
#[derive(Debug)]
pub(super) struct KeySet(Vec<PinnedKey>);

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    crv: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    #[serde(default)]
    x: String,
    #[serde(default)]
    y: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
}

impl KeySet {
    /// Reads a file.
    pub(super) fn read(path: &Path) -> Result<Self, KeysError> {
        let unreadable = |reason: String| KeysError::Unreadable {
            path: path.display().to_string(),
            reason,
        };
        let meta = std::fs::metadata(path).map_err(|e| unreadable(e.to_string()))?;
        if meta.len() > JWKS_BYTES_MAX as u64 {
            return Err(unreadable(format!("it exceeds {JWKS_BYTES_MAX} bytes")));
        }
        let text = std::fs::read_to_string(path).map_err(|e| unreadable(e.to_string()))?;
        Self::parse(&text)
    }

    /// The names of the keys that have one.
    pub(super) fn kids(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|key| key.kid.as_deref())
    }

    pub(super) fn parse(text: &str) -> Result<Self, KeysError> {
        let malformed = |reason: String| KeysError::Malformed { reason };
        let set: Jwks = serde_json::from_str(text).map_err(|e| malformed(e.to_string()))?;
        if set.keys.len() > KEYS_MAX {
            return Err(malformed(format!("more than {KEYS_MAX} keys")));
        }
        let mut keys: Vec<PinnedKey> = Vec::new();
        for (at, jwk) in set.keys.into_iter().enumerate() {
            let name = jwk.kid.clone().unwrap_or_else(|| format!("#{}", at + 1));
            let refused = |reason| KeysError::Key { kid: name, reason };
            let Some(key) = pin(jwk).map_err(refused)? else {
                continue;
            };
            if key.kid.is_some() && keys.iter().any(|other| other.kid == key.kid) {
                return Err(KeysError::Key {
                    kid: key.kid.unwrap_or_default(),
                    reason: "is there twice",
                });
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(KeysError::Empty);
        }
        Ok(Self(keys))
    }

    /// The key that a header names, if it is for the header's algorithm. Without a `kid` only the
    /// single key of that algorithm can be meant.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<&PinnedKey> {
        let mut fitting = self.0.iter().filter(|key| key.algorithm == algorithm);
        match kid {
            Some(kid) => fitting.find(|key| key.kid.as_deref() == Some(kid)),
            None => fitting.next().filter(|_| fitting.next().is_none()),
        }
    }
}

/// `None` for keys that are for something else, which RFC 7517 section 5 has a reader pass over.
fn pin(jwk: Jwk) -> Result<Option<PinnedKey>, &'static str> {
    if jwk.usage.as_deref().is_some_and(|usage| usage != "sig") {
        return Ok(None);
    }
    if jwk.kty == "oct" {
        return Err("is a shared secret (kty `oct`): whoever can verify could sign; use Ed25519");
    }
    let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
    let (algorithm, key) = match (jwk.kty.as_str(), jwk.crv.as_str()) {
        ("OKP", "Ed25519") => {
            if bytes(&jwk.x).len() != 32 {
                return Err("has an `x` that is not 32 bytes in base64url");
            }
            (Algorithm::EdDSA, DecodingKey::from_ed_components(&jwk.x))
        }
        ("EC", "P-256") => {
            if bytes(&jwk.x).len() != 32 || bytes(&jwk.y).len() != 32 {
                return Err("has an `x` or `y` that is not 32 bytes in base64url");
            }
            let key = DecodingKey::from_ec_components(&jwk.x, &jwk.y);
            (Algorithm::ES256, key)
        }
        ("RSA", _) => {
            if !RSA_BYTES.contains(&bytes(&jwk.n).len()) || bytes(&jwk.e).is_empty() {
                return Err("is no RSA key of 2,048 to 8,192 bits");
            }
            let key = DecodingKey::from_rsa_components(&jwk.n, &jwk.e);
            (Algorithm::RS256, key)
        }
        _ => return Ok(None),
    };
    let named = match algorithm {
        Algorithm::EdDSA => ["EdDSA", "Ed25519"],
        Algorithm::ES256 => ["ES256"; 2],
        _ => ["RS256"; 2],
    };
    if jwk.alg.as_deref().is_some_and(|alg| !named.contains(&alg)) {
        return Ok(None);
    }
    Ok(Some(PinnedKey {
        kid: jwk.kid,
        algorithm,
        key: key.map_err(|_| "cannot be read")?,
    }))
}
