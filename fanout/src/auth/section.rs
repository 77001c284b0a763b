//! The section `[auth]` of a configuration file, the same in the gateway's and in fanout's, and what it
//! opens: who judges tokens, and who signs them.

use super::jwks_url::JwksUrl;
use super::{AuthSettings, AuthSetupError, Issuer, IssuerError, IssuerNames, KeySource, Verifier};
use crate::engines::{Awaited, EngineError};
use crate::settings::SettingsError;
use crate::settings_section;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

settings_section! {
    /// `[auth]`.
    AuthSection {
        /// Public keys that tokens are verified with (JWKS: EdDSA, ES256, RS256): a file, or an https:// address, which is
        /// read again as its Cache-Control says (a minute to a day), and on an unknown `kid`. Empty: those of `issuer_key`.
        jwks: String = String::new();
        /// Authorities that the address of `jwks` is verified with, PEM; empty: the system's.
        jwks_ca: String = String::new();
        /// Allows an http:// address beyond loopback: whoever is on the way can then sign tokens. Never in production.
        jwks_allow_http: bool = false;
        /// How often an address without Cache-Control is read, seconds.
        jwks_refresh_s: u32 = 600, 60 ..= 86400;
        /// File with the private key (Ed25519, PKCS#8) that the demo's and the command line's tokens are signed with, the
        /// same for every process of a cluster (`hawser-fanout make-keys DIR`). Empty: made once, kept in the data directory.
        issuer_key: String = String::new();
        /// Required `iss`; empty: not checked.
        issuer: String = String::new();
        /// Required `aud`; empty: not checked.
        audience: String = "hawser".to_owned();
        /// Tenant that this cluster serves; a token that names another one is refused.
        tenant: String = "default".to_owned();
        /// File of revocations (JSON), looked at every `reload_ms` of `tls` and on SIGHUP, beside those in the directory;
        /// empty: kept in the data directory.
        revocations: String = String::new();
        /// File with the cluster's secret (at least 32 bytes) that seals resume tokens; the same on every gateway, of no
        /// use to fanout. Empty: made once and kept in the data directory.
        cluster_secret: String = String::new();
        /// Open log-in for demonstrations: POST /v1/demo/login gives anybody a token, and four users are seeded. Never in production.
        demo: bool = false;
    }
}

/// Who judges tokens, and who signs them.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// Judges.
    pub verifier: Arc<Verifier>,
    /// Signs, where there is a key of our own.
    pub issuer: Option<Arc<Issuer>>,
}

/// Why nobody can be let in: the operator's fault.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// Keys or revocations.
    #[error("{0}; see auth.jwks and auth.revocations")]
    Setup(#[from] AuthSetupError),
    /// The issuer's key.
    #[error("{0}; see auth.issuer_key")]
    Issuer(#[from] IssuerError),
    /// The server of the key set did not answer in time.
    #[error(transparent)]
    Absent(EngineError),
}

impl TokensError {
    /// The exit code of a program that cannot go on for it: 2 (the configuration) or 6 (no answer).
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Absent(_) => 6,
            _ => 2,
        }
    }

    fn transient(&self) -> bool {
        matches!(self, Self::Setup(AuthSetupError::Keys(error)) if error.transient())
    }
}

/// An error's words, and whether it passes.
struct Told(String, bool);

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl AuthSection {
    /// Appends what cannot work. `shared`: other processes of the cluster must agree with this one;
    /// `edge`: it seals resume tokens.
    pub fn check(&self, shared: Option<&str>, edge: bool, out: &mut Vec<SettingsError>) {
        let mut refuse = |key: &str, reason: String| {
            out.push(SettingsError::Contradiction {
                key: key.to_owned(),
                reason,
            });
        };
        if let Some(Err(error)) = self.address() {
            refuse("auth.jwks", error.to_string());
        }
        let Some(roles) = shared else { return };
        if self.jwks.is_empty() && self.issuer_key.is_empty() {
            let words = format!(
                "with {roles} split over processes a key of this process alone would sign what no other one accepts: set \
                 it, or auth.issuer_key (hawser-fanout make-keys DIR makes one)"
            );
            refuse("auth.jwks", words);
        }
        if edge && self.cluster_secret.is_empty() {
            let words = format!(
                "with {roles} split over processes each gateway would seal resume tokens that no other one opens: name \
                 a file that all of them have (hawser-fanout make-keys DIR makes one)"
            );
            refuse("auth.cluster_secret", words);
        }
    }

    /// The address of the key set, if it is one.
    fn address(&self) -> Option<Result<JwksUrl, super::jwks_url::JwksUrlError>> {
        let some = |text: &String| (!text.is_empty()).then(|| PathBuf::from(text));
        self.jwks.contains("://").then(|| {
            let mut url = JwksUrl::parse(&self.jwks, self.jwks_allow_http)?;
            url.refresh_s = u64::from(self.jwks_refresh_s);
            url.ca = some(&self.jwks_ca);
            Ok(url)
        })
    }

    /// The issuer: of the key file that is named, or of the data directory's keys.
    ///
    /// # Errors
    /// See [`IssuerError`].
    pub fn issuer(&self, keys: &Path) -> Result<Issuer, IssuerError> {
        let issuer = match self.issuer_key.as_str() {
            "" => Issuer::open(keys)?,
            path => Issuer::read(Path::new(path))?,
        };
        let mut names = IssuerNames {
            tenant: self.tenant.clone(),
            ..IssuerNames::default()
        };
        if !self.issuer.is_empty() {
            names.issuer.clone_from(&self.issuer);
        }
        if !self.audience.is_empty() {
            names.audience.clone_from(&self.audience);
        }
        Ok(issuer.with_names(names))
    }

    /// As [`AuthSection::open`], waiting for a key set whose server does not answer for as long as for an engine.
    ///
    /// # Errors
    /// See [`TokensError`].
    pub fn open_patiently(&self, keys: &Path, patience: Duration) -> Result<Tokens, TokensError> {
        let awaited = Awaited {
            engine: "key set",
            key: "auth.jwks",
            patience,
        };
        let mut refused = None;
        let opened = awaited.open(
            || {
                let opened = self.open(keys);
                opened.map_err(|error| {
                    let told = Told(error.to_string(), error.transient());
                    refused = Some(error);
                    told
                })
            },
            |told| told.1,
        );
        match (opened, refused) {
            (Ok(tokens), _) => Ok(tokens),
            (Err(_), Some(error)) if !error.transient() => Err(error),
            (Err(error), _) => Err(TokensError::Absent(error)),
        }
    }

    /// Opens both; keys of the process itself are in the folder `keys`. Blocks for some seconds where
    /// the key set is at an address.
    ///
    /// # Errors
    /// See [`TokensError`].
    pub fn open(&self, keys: &Path) -> Result<Tokens, TokensError> {
        let some = |text: &String| (!text.is_empty()).then(|| text.clone());
        let revocations = match self.revocations.as_str() {
            "" => keys.join("revocations.json"),
            path => PathBuf::from(path),
        };
        let issuer = match self.jwks.is_empty() || !self.issuer_key.is_empty() {
            true => Some(self.issuer(keys)?),
            false => None,
        };
        let settings = match (&issuer, self.jwks.as_str()) {
            (Some(issuer), "") => issuer.auth_settings(Some(revocations)),
            (_, jwks) => AuthSettings {
                keys: match self.address() {
                    Some(url) => {
                        let mut url = url
                            .map_err(super::KeysError::from)
                            .map_err(AuthSetupError::from)?;
                        url.cache = Some(keys.join("jwks-cache.json"));
                        KeySource::Url(url)
                    }
                    None => KeySource::File(PathBuf::from(jwks)),
                },
                issuer: some(&self.issuer),
                audience: some(&self.audience),
                tenant: self.tenant.clone(),
                revocations: Some(revocations),
            },
        };
        Ok(Tokens {
            verifier: Arc::new(Verifier::new(settings)?),
            issuer: issuer.map(Arc::new),
        })
    }
}
