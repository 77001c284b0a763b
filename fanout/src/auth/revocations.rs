//! The list of revocations: users and devices with the time before which their tokens are void,
//! single tokens by `jti`. A JSON file that people can read and edit:
//!
//! ```json
//! {
//!   "version": 1,
//!   "users":   {"mallory": null, "alice": 1764060000000},
//!   "devices": {"alice/old-phone": null},
//!   "tokens":  {"0b2e…": 1764063600000}
//! }
//! ```
//!
//! A user's or device's value is "issued up to then", milliseconds; `null` is for ever. A token's
//! is when it would have expired, after which the entry is dropped.

use super::Claims;
pub use hawser_engines::directory::Revocation;
use hawser_protocol::ids::{DeviceId, UserId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

/// Entries of each kind; more are refused. A full list costs some 10 MiB.
pub const REVOCATIONS_MAX: usize = 100_000;
/// Size of the file, bytes.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Why the list cannot be read or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RevocationsError {
    /// The file cannot be read or written.
    #[error("the file of revocations {path} cannot be {doing}: {reason}")]
    Io {
        /// Which.
        path: String,
        /// `read` or `written`.
        doing: &'static str,
        /// The system's words.
        reason: String,
    },
    /// No such file.
    #[error("the file of revocations {path} is malformed: {reason}")]
    Malformed {
        /// Which.
        path: String,
        /// The parser's words.
        reason: String,
    },
    /// The list is full.
    #[error("the list of revocations is full ({REVOCATIONS_MAX} of a kind)")]
    Full,
}

/// The list as this process has it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Revocations {
    version: u32,
    users: BTreeMap<String, Option<u64>>,
    devices: BTreeMap<String, Option<u64>>,
    tokens: BTreeMap<String, u64>,
}

impl Revocations {
    /// Reads the file; one that is not there is an empty list.
    pub(super) fn load(path: &Path) -> Result<Self, RevocationsError> {
        let failed = |reason: String| io_error(path, "read", reason);
        let text = match std::fs::metadata(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(failed(e.to_string())),
            Ok(meta) if meta.len() > FILE_BYTES_MAX => {
                return Err(failed(format!("it exceeds {FILE_BYTES_MAX} bytes")));
            }
            Ok(_) => std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?,
        };
        let malformed = |reason: String| RevocationsError::Malformed {
            path: path.display().to_string(),
            reason,
        };
        let list: Self = serde_json::from_str(&text).map_err(|e| malformed(e.to_string()))?;
        if list.version > 1 {
            return Err(malformed(format!(
                "version {}, this program knows 1",
                list.version
            )));
        }
        Ok(list)
    }

    /// Replaces the file: written aside, synced, renamed.
    pub(super) fn save(&self, path: &Path) -> Result<(), RevocationsError> {
        let failed = |e: std::io::Error| io_error(path, "written", e.to_string());
        let mut aside = path.as_os_str().to_owned();
        aside.push(".new");
        let text = serde_json::to_vec_pretty(&Self {
            version: 1,
            ..self.clone()
        });
        let text = text.map_err(|e| io_error(path, "written", e.to_string()))?;
        let mut file = File::create(&aside).map_err(failed)?;
        file.write_all(&text).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        std::fs::rename(&aside, path).map_err(failed)?;
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
        let folder = File::open(folder.unwrap_or_else(|| Path::new("."))).map_err(failed)?;
        folder.sync_all().map_err(failed)
    }

    /// Takes over the entries of `other` where they say more.
    pub(super) fn merge(&mut self, other: &Self) {
        for (mine, others) in [
            (&mut self.users, &other.users),
            (&mut self.devices, &other.devices),
        ] {
            for (name, until) in others {
                extend(mine, name.clone(), *until);
            }
        }
        for (jti, until) in &other.tokens {
            self.tokens.entry(jti.clone()).or_insert(*until);
        }
    }

    /// Drops tokens that have expired.
    pub(super) fn prune(&mut self, now_ms: u64) {
        self.tokens.retain(|_, expires| *expires > now_ms);
    }

    pub(super) fn add(&mut self, revocation: &Revocation) -> Result<(), RevocationsError> {
        let bounded = |len: usize| {
            if len < REVOCATIONS_MAX {
                Ok(())
            } else {
                Err(RevocationsError::Full)
            }
        };
        match revocation {
            Revocation::User { user, until_ms } => {
                bounded(self.users.len())?;
                extend(&mut self.users, user.to_string(), *until_ms);
            }
            Revocation::Device {
                user,
                device,
                until_ms,
            } => {
                bounded(self.devices.len())?;
                extend(&mut self.devices, device_key(user, device), *until_ms);
            }
            Revocation::Token { jti, expires_at_ms } => {
                bounded(self.tokens.len())?;
                self.tokens.insert(jti.clone(), *expires_at_ms);
            }
            Revocation::Pardon { user } => {
                self.users.remove(user.as_str());
            }
        }
        Ok(())
    }

    /// Whether a token is void.
    pub(super) fn concerns(&self, claims: &Claims) -> bool {
        self.concerns_user(claims) || self.concerns_one(claims)
    }

    /// Whether all of the user's tokens of its age are.
    pub(super) fn concerns_user(&self, claims: &Claims) -> bool {
        // The common case of an empty list costs no look-up.
        !self.users.is_empty() && void(self.users.get(claims.user.as_str()), claims)
    }

    /// Whether those of its device are, or it alone.
    pub(super) fn concerns_one(&self, claims: &Claims) -> bool {
        let of_device = claims.device.as_ref().is_some_and(|device| {
            // Here it builds no key either.
            let devices = &self.devices;
            !devices.is_empty() && void(devices.get(&device_key(&claims.user, device)), claims)
        });
        let jti = claims.jti.as_ref();
        of_device || jti.is_some_and(|jti| self.tokens.contains_key(jti))
    }
}

fn void(until: Option<&Option<u64>>, claims: &Claims) -> bool {
    until.is_some_and(|until| until.is_none_or(|ms| claims.issued_at_ms <= ms))
}

/// `/` is in neither alphabet.
fn device_key(user: &UserId, device: &DeviceId) -> String {
    format!("{user}/{device}")
}

/// For ever is more than any time; the later time is more than the earlier.
fn extend(entries: &mut BTreeMap<String, Option<u64>>, name: String, until_ms: Option<u64>) {
    let entry = entries.entry(name).or_insert(Some(0));
    *entry = entry.zip(until_ms).map(|(a, b)| a.max(b));
}

fn io_error(path: &Path, doing: &'static str, reason: String) -> RevocationsError {
    RevocationsError::Io {
        path: path.display().to_string(),
        doing,
        reason,
    }
}
