//! Tokens of our own, for the embedded node: an Ed25519 key that is kept in the data directory.

use super::{AuthSettings, KeySource};
use aws_lc_rs::digest;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hawser_protocol::ids::{DeviceId, UserId};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Name of the key file in the data directory: PKCS#8, readable by its owner alone.
const KEY_FILE: &str = "issuer-ed25519.p8";

/// What the issuer writes into its tokens, and what a verifier then asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerNames {
    /// `iss`.
    pub issuer: String,
    /// `aud`.
    pub audience: String,
    /// `tenant`.
    pub tenant: String,
}

impl Default for IssuerNames {
    fn default() -> Self {
        Self {
            issuer: "hawser-embedded".to_owned(),
            audience: "hawser".to_owned(),
            tenant: "default".to_owned(),
        }
    }
}

/// Why there is no issuer: the operator's fault.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// The key file cannot be read or made.
    #[error("the issuer's key {path} cannot be {doing}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// `read` or `made`.
        doing: &'static str,
        /// The system's words.
        source: std::io::Error,
    },
    /// The key file that was named is not there.
    #[error(
        "the issuer's key {path} is not there: `hawser-fanout make-keys DIR` makes one, and the same file goes to every process of the cluster"
    )]
    Missing {
        /// Which.
        path: PathBuf,
    },
    /// The key file holds something else.
    #[error(
        "{path} holds no Ed25519 key (PKCS#8): move it away, a new one is then made and old tokens become void"
    )]
    NoKey {
        /// Which.
        path: PathBuf,
    },
    /// The key file can be read by others.
    #[error(
        "{path} can be read by others (mode {mode:o}): chmod 600 it, or move it away if it may have been copied"
    )]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The system gives no random bytes.
    #[error("no random bytes for a new key")]
    NoRandomness,
}

/// Signs tokens with the key of a data directory.
pub struct Issuer {
    key: EncodingKey,
    kid: String,
    public: Vec<u8>,
    names: IssuerNames,
}

#[derive(Serialize)]
struct Issued<'a> {
    iss: &'a str,
    aud: &'a str,
    tenant: &'a str,
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dev: Option<&'a str>,
    iat: u64,
    exp: u64,
    jti: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    scope: &'a str,
}

impl Issuer {
    /// Reads the key of a data directory, or makes one.
    ///
    /// # Errors
    /// See [`IssuerError`].
    pub fn open(dir: &Path) -> Result<Self, IssuerError> {
        let path = dir.join(KEY_FILE);
        let document = match read_key(&path)? {
            Some(document) => document,
            None => make_key(dir, &path)?,
        };
        Self::of(&document, &path)
    }

    /// Reads the key of a file that must be there.
    ///
    /// # Errors
    /// See [`IssuerError`].
    pub fn read(path: &Path) -> Result<Self, IssuerError> {
        let document = read_key(path)?.ok_or_else(|| IssuerError::Missing {
            path: path.to_owned(),
        })?;
        Self::of(&document, path)
    }

    /// Where [`Issuer::open`] keeps the key of a data directory's keys.
    #[must_use]
    pub fn file(dir: &Path) -> PathBuf {
        dir.join(KEY_FILE)
    }

    fn of(document: &[u8], path: &Path) -> Result<Self, IssuerError> {
        let pair = Ed25519KeyPair::from_pkcs8(document).map_err(|_| IssuerError::NoKey {
            path: path.to_owned(),
        })?;
        let public = pair.public_key().as_ref().to_vec();
        let print = digest::digest(&digest::SHA256, &public);
        let kid = URL_SAFE_NO_PAD.encode(&print.as_ref()[..12]);
        Ok(Self {
            key: EncodingKey::from_ed_der(document),
            kid,
            public,
            names: IssuerNames::default(),
        })
    }

    /// Other names in the tokens than the defaults.
    #[must_use]
    pub fn with_names(mut self, names: IssuerNames) -> Self {
        self.names = names;
        self
    }

    /// A token. `ttl_s` is its life in seconds.
    #[must_use]
    pub fn issue(
        &self,
        user: &UserId,
        device: Option<&DeviceId>,
        ttl_s: u64,
        admin: bool,
        now_ms: u64,
    ) -> String {
        let iat = now_ms / 1_000;
        let claims = Issued {
            iss: &self.names.issuer,
            aud: &self.names.audience,
            tenant: &self.names.tenant,
            sub: user.as_str(),
            dev: device.map(DeviceId::as_str),
            iat,
            exp: iat.saturating_add(ttl_s),
            jti: uuid::Uuid::now_v7().to_string(),
            scope: if admin { "admin" } else { "" },
        };
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(self.kid.clone());
        // The key was read by the same library as an Ed25519 key, and the claims are plain text.
        jsonwebtoken::encode(&header, &claims, &self.key)
            .expect("an Ed25519 key signs what serializes")
    }

    /// The public key as JWKS, for other nodes' verifiers.
    #[must_use]
    pub fn jwks(&self) -> String {
        let x = URL_SAFE_NO_PAD.encode(&self.public);
        let key = serde_json::json!({
            "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": self.kid, "x": x,
        });
        serde_json::json!({ "keys": [key] }).to_string()
    }

    /// Settings of a verifier that accepts this issuer's tokens alone.
    #[must_use]
    pub fn auth_settings(&self, revocations: Option<PathBuf>) -> AuthSettings {
        AuthSettings {
            keys: KeySource::Text(self.jwks()),
            issuer: Some(self.names.issuer.clone()),
            audience: Some(self.names.audience.clone()),
            tenant: self.names.tenant.clone(),
            revocations,
        }
    }
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer")
            .field("kid", &self.kid)
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

fn read_key(path: &Path) -> Result<Option<Vec<u8>>, IssuerError> {
    let failed = |source| IssuerError::Io {
        path: path.to_owned(),
        doing: "read",
        source,
    };
    match std::fs::metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(e)),
        Ok(meta) if meta.permissions().mode() & 0o077 != 0 => {
            return Err(IssuerError::Exposed {
                path: path.to_owned(),
                mode: meta.permissions().mode() & 0o777,
            });
        }
        Ok(_) => {}
    }
    std::fs::read(path).map(Some).map_err(failed)
}

/// Makes a key: written aside and linked, so that of two processes that start at once one wins and
/// both use the same key.
fn make_key(dir: &Path, path: &Path) -> Result<Vec<u8>, IssuerError> {
    let failed = |source| IssuerError::Io {
        path: path.to_owned(),
        doing: "made",
        source,
    };
    std::fs::create_dir_all(dir).map_err(failed)?;
    let rng = aws_lc_rs::rand::SystemRandom::new();
    let document = Ed25519KeyPair::generate_pkcs8(&rng).map_err(|_| IssuerError::NoRandomness)?;
    let aside = dir.join(format!(".{KEY_FILE}.{}", std::process::id()));
    // Left over by a process of the same id that was killed here.
    let _ = std::fs::remove_file(&aside);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(&aside).map_err(failed)?;
    file.write_all(document.as_ref()).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    let linked = std::fs::hard_link(&aside, path);
    std::fs::remove_file(&aside).map_err(failed)?;
    match linked {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
        Err(e) => return Err(failed(e)),
    }
    File::open(dir).and_then(|d| d.sync_all()).map_err(failed)?;
    read_key(path)?.ok_or_else(|| failed(ErrorKind::NotFound.into()))
}
