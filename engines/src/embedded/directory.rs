//! The directory port on the embedded database: reads here, writes through the commit thread.

use super::core::Core;
use super::queue::Job;
use super::revocations;
use super::tables::{Table, Tables, Txn};
use crate::directory::{
    Device, Directory, DirectoryError, Group, GroupDelta, GroupNews, Revocation, User,
};
use crate::log::ProduceError;
use fjall::Readable;
use hawser_protocol::ids::{ChatId, DeviceId, Seq, UserId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

/// Version of the values: the byte before the JSON.
const V1: u8 = 1;
/// Devices of one user; more are refused `Taken`.
const DEVICES_MAX: usize = 64;

/// The directory.
pub(super) struct EmbeddedDirectory(pub(super) Arc<Core>);

/// A change, judged on the commit thread, so that look and write are one.
#[derive(Debug, Clone)]
pub(super) enum DirectoryOp {
    CreateUser(User),
    UpdateUser(User),
    PutDevice(UserId, Device),
    ShowGroup(GroupNews, Seq),
    DeleteUser(UserId),
    /// With the time, by which tokens have expired.
    PutRevocation(Revocation, u64),
}

pub(super) fn key(kind: u8, parts: &[&str]) -> Vec<u8> {
    let mut key = vec![kind];
    for part in parts {
        key.extend_from_slice(part.as_bytes());
        key.push(0);
    }
    key
}

fn user_key(id: &str) -> Vec<u8> {
    key(b'u', &[id])
}

fn phone_key(phone: &str) -> Vec<u8> {
    key(b'p', &[phone])
}

fn device_key(user: &str, device: &str) -> Vec<u8> {
    key(b'd', &[user, device])
}

fn group_key(chat: &str) -> Vec<u8> {
    key(b'g', &[chat])
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
pub(super) fn unavailable(reason: impl ToString) -> DirectoryError {
    DirectoryError::Unavailable {
        reason: reason.to_string(),
    }
}

pub(super) fn encode(value: &impl Serialize) -> Result<Vec<u8>, DirectoryError> {
    let mut out = vec![V1];
    serde_json::to_writer(&mut out, value).map_err(unavailable)?;
    Ok(out)
}

pub(super) fn decode<T: DeserializeOwned>(value: &[u8]) -> Result<T, DirectoryError> {
    match value.split_first() {
        Some((&V1, json)) => serde_json::from_slice(json).map_err(unavailable),
        _ => Err(unavailable("a directory row of an unknown version")),
    }
}

impl EmbeddedDirectory {
    fn tables(&self) -> Result<Arc<Tables>, DirectoryError> {
        self.0.tables().map_err(unavailable)
    }

    fn get<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, DirectoryError> {
        let value = self.tables()?.get(Table::Directory, key);
        value.map_err(unavailable)?.map(|v| decode(&v)).transpose()
    }

    fn change(&self, op: DirectoryOp) -> Result<(), DirectoryError> {
        self.numbered(op).map(drop)
    }

    /// Makes a change; the place in the list of revocations of one that adds to it.
    fn numbered(&self, op: DirectoryOp) -> Result<u64, DirectoryError> {
        if let Some(reason) = self.0.down() {
            return Err(unavailable(reason));
        }
        let (reply, answer) = sync_channel(1);
        self.0
            .queue
            .push(Job::Directory { op, reply })
            .map_err(|error| match error {
                ProduceError::Refused { reason, .. } | ProduceError::Unknown { reason } => {
                    unavailable(reason)
                }
            })?;
        answer
            .recv()
            .unwrap_or_else(|_| Err(unavailable("the commit thread is gone")))
    }

    fn list<T: DeserializeOwned>(
        &self,
        from: Vec<u8>,
        prefix: &[u8],
        limit: usize,
    ) -> Result<Vec<T>, DirectoryError> {
        let tables = self.tables()?;
        let view = tables.snapshot();
        let mut out = Vec::new();
        for row in view.range(tables.space(Table::Directory), from..) {
            let (key, value) = row.into_inner().map_err(unavailable)?;
            if out.len() >= limit || !key.starts_with(prefix) {
                break;
            }
            out.push(decode(&value)?);
        }
        Ok(out)
    }
}

impl Directory for EmbeddedDirectory {
    fn create_user(&self, user: &User) -> Result<(), DirectoryError> {
        self.change(DirectoryOp::CreateUser(user.clone()))
    }

    fn update_user(&self, user: &User) -> Result<(), DirectoryError> {
        self.change(DirectoryOp::UpdateUser(user.clone()))
    }

    fn user(&self, id: &UserId) -> Result<Option<User>, DirectoryError> {
        self.get(&user_key(id.as_str()))
    }

    fn users(&self, after: Option<&UserId>, limit: usize) -> Result<Vec<User>, DirectoryError> {
        let mut from = after.map_or_else(|| vec![b'u'], |id| user_key(id.as_str()));
        if after.is_some() {
            // Just above `after`: its key ends with a zero byte, and the next begins above it.
            from.push(0);
        }
        self.list(from, b"u", limit)
    }

    fn user_by_phone(&self, phone: &str) -> Result<Option<User>, DirectoryError> {
        let value = self.tables()?.get(Table::Directory, &phone_key(phone));
        let Some(id) = value.map_err(unavailable)? else {
            return Ok(None);
        };
        let id = std::str::from_utf8(&id).map_err(unavailable)?;
        self.get(&user_key(id))
    }

    fn put_device(&self, user: &UserId, device: &Device) -> Result<(), DirectoryError> {
        self.change(DirectoryOp::PutDevice(user.clone(), device.clone()))
    }

    fn device(&self, user: &UserId, device: &DeviceId) -> Result<Option<Device>, DirectoryError> {
        self.get(&device_key(user.as_str(), device.as_str()))
    }

    fn devices(&self, user: &UserId) -> Result<Vec<Device>, DirectoryError> {
        let prefix = key(b'd', &[user.as_str()]);
        self.list(prefix.clone(), &prefix, DEVICES_MAX)
    }

    fn apply_group(&self, group: &Group, write_seq: Seq) -> Result<(), DirectoryError> {
        self.change(DirectoryOp::ShowGroup(
            GroupNews::Whole(group.clone()),
            write_seq,
        ))
    }

    fn touch_group(&self, delta: &GroupDelta, write_seq: Seq) -> Result<(), DirectoryError> {
        let news = GroupNews::Touched(delta.clone());
        self.change(DirectoryOp::ShowGroup(news, write_seq))
    }

    fn group(&self, chat: &ChatId) -> Result<Option<Group>, DirectoryError> {
        self.get(&group_key(chat.as_str()))
    }

    fn delete_user(&self, id: &UserId) -> Result<(), DirectoryError> {
        self.change(DirectoryOp::DeleteUser(id.clone()))
    }

    fn put_revocation(&self, revocation: &Revocation) -> Result<u64, DirectoryError> {
        let now_ms = self.0.now_ms();
        self.numbered(DirectoryOp::PutRevocation(revocation.clone(), now_ms))
    }

    fn revocations_after(
        &self,
        cursor: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Revocation)>, DirectoryError> {
        revocations::after(&*self.tables()?, cursor, limit)
    }
}

/// Adds one change to the transaction; nothing of it when it fails. The place in the list of revocations of one that adds
/// to it, else 0.
pub(super) fn apply(txn: &mut Txn<'_>, op: &DirectoryOp) -> Result<u64, DirectoryError> {
    let done = match op {
        DirectoryOp::CreateUser(user) => {
            if read(txn, &user_key(&user.user_id))?.is_some() {
                return Err(DirectoryError::Taken { field: "user_id" });
            }
            put_user(txn, user, None)
        }
        DirectoryOp::UpdateUser(user) => {
            let old = read(txn, &user_key(&user.user_id))?.ok_or(DirectoryError::NotFound)?;
            let old: User = decode(&old)?;
            put_user(txn, user, Some(&old.phone))
        }
        DirectoryOp::PutDevice(user, device) => put_device(txn, user, device),
        DirectoryOp::ShowGroup(news, write_seq) => show_group(txn, news, *write_seq),
        DirectoryOp::DeleteUser(id) => delete_user(txn, id),
        DirectoryOp::PutRevocation(revocation, now_ms) => {
            return revocations::put(txn, revocation, *now_ms);
        }
    };
    done.map(|()| 0)
}

pub(super) fn read(txn: &Txn<'_>, key: &[u8]) -> Result<Option<fjall::Slice>, DirectoryError> {
    txn.get(Table::Directory, key).map_err(unavailable)
}

fn put_user(txn: &mut Txn<'_>, user: &User, old_phone: Option<&str>) -> Result<(), DirectoryError> {
    if !user.phone.is_empty() {
        let holder = read(txn, &phone_key(&user.phone))?;
        if holder.is_some_and(|holder| *holder != *user.user_id.as_bytes()) {
            return Err(DirectoryError::Taken { field: "phone" });
        }
    }
    let value = encode(user)?;
    if let Some(old) = old_phone.filter(|old| !old.is_empty() && *old != user.phone) {
        txn.remove(Table::Directory, phone_key(old));
    }
    if !user.phone.is_empty() {
        let id = user.user_id.as_bytes().to_vec();
        txn.put(Table::Directory, phone_key(&user.phone), id);
    }
    txn.put(Table::Directory, user_key(&user.user_id), value);
    Ok(())
}

/// Keys of a user's devices: those committed, which is enough, as one more in the same batch only
/// makes the bound on devices looser by it.
fn device_keys(txn: &Txn<'_>, user: &UserId) -> Result<Vec<Vec<u8>>, DirectoryError> {
    let space = txn.tables().space(Table::Directory);
    space
        .prefix(key(b'd', &[user.as_str()]))
        .map(|row| row.key().map(|k| k.to_vec()).map_err(unavailable))
        .collect()
}

fn put_device(txn: &mut Txn<'_>, user: &UserId, device: &Device) -> Result<(), DirectoryError> {
    if read(txn, &user_key(user.as_str()))?.is_none() {
        return Err(DirectoryError::NotFound);
    }
    let key = device_key(user.as_str(), &device.device_id);
    if read(txn, &key)?.is_none() && device_keys(txn, user)?.len() >= DEVICES_MAX {
        return Err(DirectoryError::Taken { field: "devices" });
    }
    let value = encode(device)?;
    txn.put(Table::Directory, key, value);
    Ok(())
}

/// The larger write_seq wins.
fn show_group(txn: &mut Txn<'_>, news: &GroupNews, write_seq: Seq) -> Result<(), DirectoryError> {
    let key = group_key(match news {
        GroupNews::Whole(group) => &group.chat,
        GroupNews::Touched(delta) => &delta.chat,
    });
    let old = read(txn, &key)?.map(|old| decode::<Group>(&old));
    let old = old.transpose()?.unwrap_or_default();
    if old.write_seq >= write_seq.0 && !old.chat.is_empty() {
        return Ok(());
    }
    let mut group = match news {
        GroupNews::Whole(group) => group.clone(),
        GroupNews::Touched(delta) => {
            let mut group = old;
            group.apply(delta);
            group
        }
    };
    group.write_seq = write_seq.0;
    let value = encode(&group)?;
    txn.put(Table::Directory, key, value);
    Ok(())
}

fn delete_user(txn: &mut Txn<'_>, id: &UserId) -> Result<(), DirectoryError> {
    let Some(old) = read(txn, &user_key(id.as_str()))? else {
        return Err(DirectoryError::NotFound);
    };
    let old: User = decode(&old)?;
    let devices = device_keys(txn, id)?;
    if !old.phone.is_empty() {
        txn.remove(Table::Directory, phone_key(&old.phone));
    }
    for device in devices {
        txn.remove(Table::Directory, device);
    }
    txn.remove(Table::Directory, user_key(id.as_str()));
    Ok(())
}
