//! Tokens for the users of a run, signed here.

use aws_lc_rs::digest;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::prelude::BASE64_STANDARD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use std::path::{Path, PathBuf};

use crate::args::Args;

/// Where an embedded gateway keeps its key within its data directory.
const KEY_FILES: &str = "keys/issuer-ed25519.p8";
/// The same within the directory of keys.
const KEY_FILE: &str = "issuer-ed25519.p8";
/// A token outlives every run.
const TTL_S: u64 = 24 * 3_600;

/// Why no tokens can be signed: the caller's to mend.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error(
        "--key {path} cannot be read; give the gateway's data directory or an Ed25519 key in PKCS#8"
    )]
    Read {
        /// Which.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("--key {path} holds no Ed25519 key in PKCS#8 (DER or PEM)")]
    NoKey {
        /// Which.
        path: PathBuf,
    },
}

/// Signs tokens.
pub struct Signer {
    key: EncodingKey,
    header: Header,
    issuer: String,
    audience: String,
    tenant: String,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    tenant: &'a str,
    sub: &'a str,
    dev: &'a str,
    iat: u64,
    exp: u64,
    jti: String,
}

impl Signer {
    /// Reads the key that the command line names.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn open(args: &Args) -> Result<Self, KeyError> {
        let places = [args.key.join(KEY_FILES), args.key.join(KEY_FILE)];
        let found = places.into_iter().find(|path| path.is_file());
        let path = found.unwrap_or_else(|| args.key.clone());
        let document = read(&path)?;
        let no_key = || KeyError::NoKey { path: path.clone() };
        let pair = Ed25519KeyPair::from_pkcs8(&document).map_err(|_| no_key())?;
        let print = digest::digest(&digest::SHA256, pair.public_key().as_ref());
        let own_kid = || URL_SAFE_NO_PAD.encode(&print.as_ref()[..12]);
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(args.kid.clone().unwrap_or_else(own_kid));
        Ok(Self {
            key: EncodingKey::from_ed_der(&document),
            header,
            issuer: args.issuer.clone(),
            audience: args.audience.clone(),
            tenant: args.tenant.clone(),
        })
    }

    /// A token for one device of a user; `now_s` since 1970, and `unique` tells it from the user's other tokens.
    #[must_use]
    pub fn token(&self, user: &str, device: &str, now_s: u64, unique: u64) -> String {
        let claims = Claims {
            iss: &self.issuer,
            aud: &self.audience,
            tenant: &self.tenant,
            sub: user,
            dev: device,
            iat: now_s,
            exp: now_s + TTL_S,
            jti: format!("{user}-{unique:016x}"),
        };
        // The key was read as an Ed25519 key and the claims are plain text, so this cannot fail; a server would refuse the
        // empty token.
        jsonwebtoken::encode(&self.header, &claims, &self.key).unwrap_or_default()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, KeyError> {
    let bytes = std::fs::read(path).map_err(|source| KeyError::Read {
        path: path.to_owned(),
        source,
    })?;
    let Some(text) = std::str::from_utf8(&bytes)
        .ok()
        .filter(|text| text.contains("-----BEGIN"))
    else {
        return Ok(bytes);
    };
    let body: String = text
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .map(str::trim)
        .collect();
    BASE64_STANDARD.decode(body).map_err(|_| KeyError::NoKey {
        path: path.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn args(path: &Path) -> Args {
        let path = path.to_str().expect("text");
        Args::try_parse_from(["hawser-loadgen", "--key", path]).expect("parses")
    }

    #[test]
    fn a_key_in_a_data_directory_in_der_and_in_pem_signs_the_same_claims() {
        let dir = std::env::temp_dir().join(format!("hawser-loadgen-key-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let document =
            Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).expect("a key");
        std::fs::write(dir.join(KEY_FILE), document.as_ref()).expect("written");
        let pem = dir.join("key.pem");
        let body = BASE64_STANDARD.encode(document.as_ref());
        let text = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
        std::fs::write(&pem, text).expect("written");
        let tokens = [dir.as_path(), &dir.join(KEY_FILE), &pem].map(|path| {
            let signer = Signer::open(&args(path)).expect("a key");
            signer.token("load7", "d", 1_700_000_000, 1)
        });
        assert_eq!(tokens[0], tokens[1]);
        assert_eq!(tokens[0], tokens[2]);
        std::fs::write(&pem, "no key").expect("written");
        assert!(matches!(
            Signer::open(&args(&pem)),
            Err(KeyError::NoKey { .. })
        ));
        assert!(matches!(
            Signer::open(&args(&dir.join("none"))),
            Err(KeyError::Read { .. })
        ));
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
