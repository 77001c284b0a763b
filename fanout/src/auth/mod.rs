//! Who a token speaks for: JWT with the algorithm pinned per key, claims judged against a given
//! clock, and a list of revocations.
//!
//! Nothing in a token's header chooses how it is verified: the key is found by `kid` in a set that
//! the operator gave, and the key says its algorithm. Headers that name keys of their own (`jku`,
//! `jwk`, `x5u`, `x5c`) or extensions (`crit`) are refused, nothing that a token names is ever fetched
//! or opened. The set itself may be at an address of the operator's, which a thread reads.

mod feed;
mod issuer;
mod jwks_url;
mod keys;
mod remote_keys;
#[cfg(test)]
mod remote_tests;
mod revocations;
mod section;
mod standing;
#[cfg(test)]
mod tests;

pub use feed::RevocationFeed;
pub use issuer::{Issuer, IssuerError, IssuerNames};
pub use jwks_url::{JwksUrl, JwksUrlError};
pub use keys::{KeySource, KeysError};
pub use remote_keys::KeyFetches;
pub use revocations::{REVOCATIONS_MAX, Revocation, RevocationsError};
pub use section::{AuthSection, Tokens, TokensError};
pub use standing::{AHEAD_MAX, Learnt, Standing, voids};

use self::keys::KeySet;
use self::remote_keys::RemoteKeys;
use self::revocations::Revocations;
use arc_swap::ArcSwap;
use hawser_protocol::codes::{CloseCode, ErrorCode};
use hawser_protocol::ids::{DeviceId, UserId};
use hawser_protocol::limits::TOKEN_BYTES_MAX;
use jsonwebtoken::Validation;
use serde::Deserialize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// How far a token's `nbf` and `iat` may lie ahead of our clock, milliseconds: the clocks of issuer
/// and node differ. `exp` has no such leeway: a token that would be closed at once is not accepted.
pub const SKEW_MS_MAX: u64 = 60_000;
/// Hint with [`AuthError::KeyPending`], milliseconds: by then the key set has been read again.
const KEY_PENDING_RETRY_MS: u32 = 11_000;
/// Longest `kid` that the key set is read again for, bytes.
const KID_BYTES_MAX: usize = 256;
/// Longest `jti` that is looked at, bytes; a longer one is refused.
const JTI_BYTES_MAX: usize = 256;

/// What tokens are verified against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthSettings {
    /// Public keys (JWKS: Ed25519, P-256, RSA from 2,048 bits).
    pub keys: KeySource,
    /// Required `iss`; `None`: not looked at.
    pub issuer: Option<String>,
    /// Required `aud` (or one of several); `None`: not looked at.
    pub audience: Option<String>,
    /// The cluster's tenant: a token whose `tenant` claim names another is refused.
    pub tenant: String,
    /// File of revocations (JSON); `None`: revocations live as long as the process.
    pub revocations: Option<PathBuf>,
}

/// Why tokens cannot be verified at all: the operator's fault.
#[derive(Debug, thiserror::Error)]
pub enum AuthSetupError {
    /// The key set.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The file of revocations.
    #[error(transparent)]
    Revocations(#[from] RevocationsError),
}

/// What a valid token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// `sub`.
    pub user: UserId,
    /// `dev`; a session needs it, an API call does not.
    pub device: Option<DeviceId>,
    /// `exp`, milliseconds since 1970.
    pub expires_at_ms: u64,
    /// `iat`, milliseconds since 1970; 0 when the token does not say.
    pub issued_at_ms: u64,
    /// Whether `scope` holds the word `admin`.
    pub admin: bool,
    /// `jti`, what a single token is revoked by.
    pub jti: Option<String>,
}

/// Why a token is refused: the peer's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Above `TOKEN_BYTES_MAX`; refused unparsed.
    #[error("the token exceeds {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    /// No JWT, or claims of no allowed form.
    #[error("the token is malformed")]
    Malformed,
    /// The header names keys or extensions of its own.
    #[error("the token's header has a field that is not accepted")]
    Header,
    /// No key of that `kid`, or not of that algorithm.
    #[error("the token is signed by no key of this cluster")]
    UnknownKey,
    /// No key of that `kid` yet: the key set is being read again because of it.
    #[error("the token is signed by a key that this node does not know yet; try again")]
    KeyPending,
    /// The signature is wrong.
    #[error("the token's signature is wrong")]
    Signature,
    /// `iss`, `aud` or `tenant` is another's.
    #[error("the token is not meant for this cluster")]
    NotForUs,
    /// `nbf` or `iat` lies ahead of the clock.
    #[error("the token is not valid yet")]
    NotYet,
    /// `exp` is past.
    #[error("the token has expired")]
    Expired,
    /// Revoked: the token, its device, or its user.
    #[error("the token, its device or its user is revoked")]
    Revoked,
}

impl AuthError {
    /// The code to answer with.
    #[must_use]
    pub fn code(self) -> ErrorCode {
        match self {
            Self::Expired => ErrorCode::TokenExpired,
            Self::Revoked => ErrorCode::Revoked,
            Self::KeyPending => ErrorCode::Unavailable,
            _ => ErrorCode::Unauthenticated,
        }
    }

    /// The code to close a session with.
    #[must_use]
    pub fn close(self) -> CloseCode {
        match self {
            Self::Expired => CloseCode::TokenExpired,
            Self::Revoked => CloseCode::Revoked,
            Self::KeyPending => CloseCode::Unavailable,
            _ => CloseCode::BadToken,
        }
    }

    /// When the same token may be tried again, milliseconds; 0: waiting does not mend it.
    #[must_use]
    pub fn retry_after_ms(self) -> u32 {
        match self {
            Self::KeyPending => KEY_PENDING_RETRY_MS,
            _ => 0,
        }
    }
}

/// The keys in force.
#[derive(Debug)]
enum Keys {
    /// Of a file or a text.
    Here(ArcSwap<KeySet>),
    /// Of an address.
    Remote(RemoteKeys),
}

impl Keys {
    fn open(source: &KeySource) -> Result<Self, KeysError> {
        Ok(match source {
            KeySource::Text(text) => Self::Here(ArcSwap::from_pointee(KeySet::parse(text)?)),
            KeySource::File(path) => Self::Here(ArcSwap::from_pointee(KeySet::read(path)?)),
            KeySource::Url(url) => Self::Remote(RemoteKeys::start(url.clone())?),
        })
    }

    fn load(&self) -> arc_swap::Guard<Arc<KeySet>> {
        match self {
            Self::Here(keys) => keys.load(),
            Self::Remote(remote) => remote.keys().load(),
        }
    }

    /// A token names a key that is not there.
    fn unknown(&self, kid: Option<&str>) -> AuthError {
        // One that is there is for another algorithm: no new set changes that.
        let known = |kid: &str| self.load().kids().any(|name| name == kid);
        let kid = kid.filter(|kid| kid.len() <= KID_BYTES_MAX && !known(kid));
        match (self, kid) {
            (Self::Remote(remote), Some(kid)) if remote.unknown(kid) => AuthError::KeyPending,
            _ => AuthError::UnknownKey,
        }
    }
}

/// Verifies tokens; shared by all threads, no lock is waited for on the way of a token.
#[derive(Debug)]
pub struct Verifier {
    settings: AuthSettings,
    keys: Keys,
    standing: ArcSwap<Standing>,
    /// Held while the file is read or written, so that two writers do not lose one another's entry.
    writing: Mutex<()>,
}

impl Verifier {
    /// Reads keys and revocations.
    ///
    /// # Errors
    /// The operator's: see [`AuthSetupError`].
    pub fn new(settings: AuthSettings) -> Result<Self, AuthSetupError> {
        let keys = Keys::open(&settings.keys)?;
        let revocations = match &settings.revocations {
            Some(path) => Revocations::load(path)?,
            None => Revocations::default(),
        };
        Ok(Self {
            settings,
            keys,
            standing: ArcSwap::from_pointee(Standing::default().with_list(revocations.into())),
            writing: Mutex::new(()),
        })
    }

    /// Reads keys and revocations of files again; on an error those in force stay. A key set at an
    /// address has its own clock, see [`Verifier::refresh`].
    ///
    /// # Errors
    /// See [`AuthSetupError`].
    pub fn reload(&self) -> Result<(), AuthSetupError> {
        let keys = match &self.settings.keys {
            KeySource::File(path) => Some(KeySet::read(path)?),
            _ => None,
        };
        if let Some(path) = &self.settings.revocations {
            let _held = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
            self.set_list(&Arc::new(Revocations::load(path)?));
        }
        if let (Some(read), Keys::Here(keys)) = (keys, &self.keys) {
            keys.store(Arc::new(read));
        }
        Ok(())
    }

    /// Has a key set at an address read now, by its thread; nothing where the keys are in a file.
    pub fn refresh(&self) {
        if let Keys::Remote(remote) = &self.keys {
            remote.refresh();
        }
    }

    /// What has come of reading the key set at its address; `None` where the keys are in a file.
    #[must_use]
    pub fn key_fetches(&self) -> Option<KeyFetches> {
        match &self.keys {
            Keys::Here(_) => None,
            Keys::Remote(remote) => Some(remote.fetches()),
        }
    }

    /// Adds a revocation: in force at once, and kept in the file. `now_ms` drops entries that can
    /// concern no living token any more.
    ///
    /// # Errors
    /// The file cannot be written, or the list is full; the revocation is then in force in this
    /// process all the same, unless the list is full.
    pub fn revoke(&self, revocation: &Revocation, now_ms: u64) -> Result<(), RevocationsError> {
        self.add(std::slice::from_ref(revocation), now_ms)
    }

    fn add(&self, added: &[Revocation], now_ms: u64) -> Result<(), RevocationsError> {
        let _held = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        // Another process may have written since.
        let mut list = match &self.settings.revocations {
            Some(path) => {
                let mut list = Revocations::load(path)?;
                list.merge(self.standing.load().list());
                list
            }
            None => Revocations::clone(self.standing.load().list()),
        };
        list.prune(now_ms);
        for revocation in added {
            list.add(revocation)?;
        }
        let list = Arc::new(list);
        self.set_list(&list);
        match &self.settings.revocations {
            Some(path) => list.save(path),
            None => Ok(()),
        }
    }

    /// Adds many revocations, as they stand in the directory: in force at once, and kept in the file.
    ///
    /// # Errors
    /// As [`Verifier::revoke`].
    pub fn revoke_all(&self, list: &[Revocation], now_ms: u64) -> Result<(), RevocationsError> {
        self.add(list, now_ms)
    }

    /// What a token says, if it is good at `now_ms`. Costs one signature check, well below a
    /// millisecond, and no system call.
    ///
    /// # Errors
    /// See [`AuthError`].
    pub fn verify(&self, token: &str, now_ms: u64) -> Result<Claims, AuthError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(AuthError::TooLong);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| AuthError::Malformed)?;
        if header.jku.is_some()
            || header.jwk.is_some()
            || header.x5u.is_some()
            || header.x5c.is_some()
            || header.crit.is_some()
        {
            return Err(AuthError::Header);
        }
        let keys = self.keys.load();
        let key = keys
            .find(header.kid.as_deref(), header.alg)
            .ok_or_else(|| self.keys.unknown(header.kid.as_deref()))?;
        let mut validation = Validation::new(key.algorithm);
        // The library judges times by its own clock and claims only where they are present: ours
        // to judge.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let decoded = jsonwebtoken::decode::<RawClaims>(token, &key.key, &validation);
        let raw = decoded.map_err(|error| match error.kind() {
            jsonwebtoken::errors::ErrorKind::InvalidSignature => AuthError::Signature,
            _ => AuthError::Malformed,
        })?;
        let claims = self.judge(raw.claims, now_ms)?;
        if self.revoked(&claims) {
            return Err(AuthError::Revoked);
        }
        Ok(claims)
    }

    /// Takes what a control record in a user's delivery partition tells, `place` being its place in the directory's list.
    /// In force at once, kept by who reads the list; does not block.
    pub fn learn(&self, user: &UserId, place: u64, revocation: &Revocation) -> Learnt {
        if self.standing.load().knows(user, place) {
            return Learnt::Known;
        }
        let mut learnt = Learnt::Known;
        self.standing.rcu(|standing| {
            let mut standing = Standing::clone(standing);
            learnt = standing.learn(user, place, revocation);
            standing
        });
        learnt
    }

    /// What was given to [`Verifier::revoke_all`] is the directory's list up to a place.
    pub fn read_up_to(&self, place: u64) {
        self.standing.rcu(|standing| {
            let mut standing = Standing::clone(standing);
            standing.read_up_to(place);
            standing
        });
    }

    fn set_list(&self, list: &Arc<Revocations>) {
        self.standing
            .rcu(|standing| standing.with_list(Arc::clone(list)));
    }

    /// Whether what a token said is revoked by now: asked for live sessions after each change.
    #[must_use]
    pub fn revoked(&self, claims: &Claims) -> bool {
        self.standing.load().revoked(claims)
    }

    /// The tenant of this cluster.
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.settings.tenant
    }

    fn judge(&self, raw: RawClaims, now_ms: u64) -> Result<Claims, AuthError> {
        let expires_at_ms = millis(raw.exp)?;
        let issued_at_ms = raw.iat.map(millis).transpose()?.unwrap_or(0);
        let not_before_ms = raw.nbf.map(millis).transpose()?.unwrap_or(0);
        if let Some(issuer) = &self.settings.issuer
            && raw.iss.as_ref() != Some(issuer)
        {
            return Err(AuthError::NotForUs);
        }
        if let Some(audience) = &self.settings.audience
            && !raw.aud.is_some_and(|aud| aud.holds(audience))
        {
            return Err(AuthError::NotForUs);
        }
        if raw.tenant.is_some_and(|t| t != self.settings.tenant) {
            return Err(AuthError::NotForUs);
        }
        // An `iat` ahead would outrun revocations.
        if not_before_ms.max(issued_at_ms) > now_ms.saturating_add(SKEW_MS_MAX) {
            return Err(AuthError::NotYet);
        }
        if expires_at_ms <= now_ms {
            return Err(AuthError::Expired);
        }
        if raw.jti.as_ref().is_some_and(|j| j.len() > JTI_BYTES_MAX) {
            return Err(AuthError::Malformed);
        }
        let device = raw.dev.as_deref().map(DeviceId::new).transpose();
        Ok(Claims {
            user: UserId::new(&raw.sub).map_err(|_| AuthError::Malformed)?,
            device: device.map_err(|_| AuthError::Malformed)?,
            expires_at_ms,
            issued_at_ms,
            admin: raw.scope.split_ascii_whitespace().any(|s| s == "admin"),
            jti: raw.jti,
        })
    }
}

/// Claims as they stand in the token.
#[derive(Deserialize)]
struct RawClaims {
    sub: String,
    exp: f64,
    nbf: Option<f64>,
    iat: Option<f64>,
    iss: Option<String>,
    aud: Option<Audience>,
    tenant: Option<String>,
    dev: Option<String>,
    jti: Option<String>,
    #[serde(default)]
    scope: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn holds(&self, wanted: &str) -> bool {
        match self {
            Self::One(one) => one == wanted,
            Self::Many(many) => many.iter().any(|one| one == wanted),
        }
    }
}

/// A NumericDate (RFC 7519 section 2: seconds, possibly with a fraction) in milliseconds.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range is checked first"
)]
fn millis(seconds: f64) -> Result<u64, AuthError> {
    if (0.0..1e13).contains(&seconds) {
        Ok((seconds * 1_000.0) as u64)
    } else {
        Err(AuthError::Malformed)
    }
}
