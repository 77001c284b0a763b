//! The list of revocations on the embedded database, in the table of the directory:
//! `r` target → entry, `q` cursor → target, `x` expiry, jti → nothing, `n` → last cursor and count.

use super::directory::{decode, encode, key, read, unavailable};
use super::tables::{Table, Tables, Txn};
use crate::directory::{DirectoryError, REVOCATIONS_MAX, Revocation, wider};
use fjall::Readable;
use hawser_protocol::ids::{DeviceId, UserId};
use serde::{Deserialize, Serialize};

/// Tokens that have expired dropped per entry that is added.
const DROPPED_PER_PUT: usize = 64;

/// Where the list ends, and how long it is.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct End {
    last: u64,
    count: u64,
}

/// An entry as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    cursor: u64,
    kind: Kind,
    /// The user, or the token's `jti`.
    name: String,
    #[serde(default)]
    device: String,
    /// "Up to", or the token's expiry; `None` for ever.
    at_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    User,
    Device,
    Token,
    Pardon,
}

impl Entry {
    fn new(cursor: u64, revocation: &Revocation) -> Self {
        let (kind, name, device, at_ms) = match revocation {
            Revocation::User { user, until_ms } => (Kind::User, user.as_str(), "", *until_ms),
            Revocation::Device {
                user,
                device,
                until_ms,
            } => (Kind::Device, user.as_str(), device.as_str(), *until_ms),
            Revocation::Token { jti, expires_at_ms } => {
                (Kind::Token, jti.as_str(), "", Some(*expires_at_ms))
            }
            Revocation::Pardon { user } => (Kind::Pardon, user.as_str(), "", None),
        };
        Self {
            cursor,
            kind,
            name: name.to_owned(),
            device: device.to_owned(),
            at_ms,
        }
    }

    /// A pardon takes the place of the user's revocation.
    fn target(&self) -> Vec<u8> {
        match self.kind {
            Kind::User | Kind::Pardon => key(b'r', &["u", &self.name]),
            Kind::Device => key(b'r', &["d", &self.name, &self.device]),
            Kind::Token => key(b'r', &["t", &self.name]),
        }
    }

    fn revocation(self) -> Result<Revocation, DirectoryError> {
        if self.kind == Kind::Token {
            return Ok(Revocation::Token {
                jti: self.name,
                expires_at_ms: self.at_ms.unwrap_or(u64::MAX),
            });
        }
        let user = UserId::new(&self.name).map_err(unavailable)?;
        Ok(match self.kind {
            Kind::Pardon => Revocation::Pardon { user },
            Kind::Device => Revocation::Device {
                user,
                device: DeviceId::new(&self.device).map_err(unavailable)?,
                until_ms: self.at_ms,
            },
            _ => Revocation::User {
                user,
                until_ms: self.at_ms,
            },
        })
    }
}

fn numbered(kind: u8, number: u64, tail: &str) -> Vec<u8> {
    let mut key = vec![kind];
    key.extend_from_slice(&number.to_be_bytes());
    key.extend_from_slice(tail.as_bytes());
    key
}

/// Adds an entry, or extends the one of the same target, at the end of the list; its place there.
pub(super) fn put(
    txn: &mut Txn<'_>,
    revocation: &Revocation,
    now_ms: u64,
) -> Result<u64, DirectoryError> {
    let end = read(txn, b"n")?.map(|v| decode::<End>(&v)).transpose()?;
    let mut end = end.unwrap_or_default();
    end.count -= drop_expired(txn, now_ms)?.min(end.count);
    end.last += 1;
    let mut entry = Entry::new(end.last, revocation);
    let target = entry.target();
    match read(txn, &target)? {
        Some(old) => {
            let old: Entry = decode(&old)?;
            if old.kind == entry.kind && old.kind != Kind::Pardon {
                entry.at_ms = wider(old.at_ms, entry.at_ms);
            }
            txn.remove(Table::Directory, numbered(b'q', old.cursor, ""));
            forget_expiry(txn, &old);
        }
        None if end.count >= REVOCATIONS_MAX => {
            return Err(DirectoryError::Taken {
                field: "revocations",
            });
        }
        None => end.count += 1,
    }
    if let (Kind::Token, Some(at_ms)) = (entry.kind, entry.at_ms) {
        let row = numbered(b'x', at_ms, &entry.name);
        txn.put(Table::Directory, row, Vec::new());
    }
    let (value, at) = (encode(&entry)?, encode(&end)?);
    txn.put(
        Table::Directory,
        numbered(b'q', entry.cursor, ""),
        target.clone(),
    );
    txn.put(Table::Directory, target, value);
    txn.put(Table::Directory, b"n".to_vec(), at);
    Ok(end.last)
}

fn forget_expiry(txn: &mut Txn<'_>, entry: &Entry) {
    if let (Kind::Token, Some(at_ms)) = (entry.kind, entry.at_ms) {
        txn.remove(Table::Directory, numbered(b'x', at_ms, &entry.name));
    }
}

/// Drops some tokens that have expired: those committed, as what is added in this batch is new.
fn drop_expired(txn: &mut Txn<'_>, now_ms: u64) -> Result<u64, DirectoryError> {
    let space = txn.tables().space(Table::Directory);
    let rows = space.range(numbered(b'x', 0, "")..=numbered(b'x', now_ms, ""));
    let expired = rows
        .take(DROPPED_PER_PUT)
        .map(|row| row.key().map(|k| k.to_vec()).map_err(unavailable))
        .collect::<Result<Vec<_>, _>>()?;
    let mut dropped = 0;
    for row in expired {
        let jti = String::from_utf8_lossy(row.get(9..).unwrap_or_default()).into_owned();
        let target = key(b'r', &["t", &jti]);
        if read(txn, &row)?.is_none() {
            continue;
        }
        txn.remove(Table::Directory, row);
        if let Some(old) = read(txn, &target)? {
            let old: Entry = decode(&old)?;
            txn.remove(Table::Directory, numbered(b'q', old.cursor, ""));
            txn.remove(Table::Directory, target);
            dropped += 1;
        }
    }
    Ok(dropped)
}

/// Entries after a cursor, in the order of cursors.
pub(super) fn after(
    tables: &Tables,
    cursor: u64,
    limit: usize,
) -> Result<Vec<(u64, Revocation)>, DirectoryError> {
    let view = tables.snapshot();
    let space = tables.space(Table::Directory);
    let end = view.get(space, b"n").map_err(unavailable)?;
    let end = end.map(|v| decode::<End>(&v)).transpose()?;
    let from = match cursor {
        // The list that gave this cursor is lost.
        lost if lost > end.unwrap_or_default().last => 0,
        cursor => cursor,
    };
    let mut out = Vec::new();
    let rows = numbered(b'q', from.saturating_add(1), "")..=numbered(b'q', u64::MAX, "");
    for row in view.range(space, rows).take(limit) {
        let (_, target) = row.into_inner().map_err(unavailable)?;
        if let Some(entry) = view.get(space, &target).map_err(unavailable)? {
            let entry: Entry = decode(&entry)?;
            out.push((entry.cursor, entry.revocation()?));
        }
    }
    Ok(out)
}
