//! Port `directory`: users, devices, groups as the API shows them (Postgres, or embedded).
//! Group membership here is a view of the log, applied by seq; the log decides.

use hawser_protocol::ids::{ChatId, DeviceId, Seq, UserId};
pub use hawser_protocol::revocation::Revocation;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A user (the seed's User {user_id, name, phone, status, profile_pic}).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct User {
    /// User id.
    pub user_id: String,
    /// Display name, at most 128 bytes.
    pub name: String,
    /// Phone in E.164 or empty; unique when set.
    pub phone: String,
    /// Status text, at most 256 bytes.
    pub status: String,
    /// Picture URL, at most 512 bytes.
    pub profile_pic: String,
    /// Creation time, milliseconds.
    pub created_ms: u64,
    /// Banned users cannot connect.
    pub banned: bool,
}

/// A device of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Device {
    /// Device id, unique within the user.
    pub device_id: String,
    /// For people: "Pixel 9", at most 128 bytes.
    pub name: String,
    /// `ios`, `android`, `web`, `desktop`, `iot` or another word.
    pub platform: String,
    /// Push token or empty.
    pub push_token: String,
    /// Creation time, milliseconds.
    pub created_ms: u64,
    /// Revoked devices cannot connect.
    pub revoked: bool,
}

/// A group as the API shows it (the seed's Group {group_id, name, members[], admins[]}).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Group {
    /// Chat id `g:<id>`.
    pub chat: String,
    /// Name.
    pub name: String,
    /// Picture URL.
    pub picture: String,
    /// Members now.
    pub members: Vec<String>,
    /// Admins now.
    pub admins: Vec<String>,
    /// Seq of the last applied change.
    pub write_seq: u64,
}

/// A change of an edge-sharded group, as far as it goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupDelta {
    /// Chat id `g:<id>`.
    pub chat: String,
    /// Name.
    pub name: String,
    /// Picture URL.
    pub picture: String,
    /// Who is a member now whom it touched, and whether an admin.
    pub members: Vec<(String, bool)>,
    /// Who was touched and is no member now.
    pub left: Vec<String>,
}

/// What a change of a group comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupNews {
    /// The group as it is now.
    Whole(Group),
    /// What is different now.
    Touched(GroupDelta),
}

/// Some of a group's members.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupPage {
    /// `members` are those of the page; all admins.
    pub group: Group,
    /// Members in all.
    pub member_count: u64,
}

impl Group {
    /// The group after a change.
    pub fn apply(&mut self, delta: &GroupDelta) {
        self.chat.clone_from(&delta.chat);
        self.name.clone_from(&delta.name);
        self.picture.clone_from(&delta.picture);
        let touched = delta.members.iter().map(|(user, _)| user);
        let touched: BTreeSet<&String> = touched.chain(&delta.left).collect();
        self.members.retain(|user| !touched.contains(user));
        self.admins.retain(|user| !touched.contains(user));
        for (user, admin) in &delta.members {
            self.members.push(user.clone());
            if *admin {
                self.admins.push(user.clone());
            }
        }
        self.members.sort_unstable();
        self.admins.sort_unstable();
    }
}

/// Entries of the list of revocations; one more is refused `Taken`. About 200 bytes each.
pub const REVOCATIONS_MAX: u64 = 300_000;

/// The wider of two limits "issued up to": for ever is more than any time.
pub(crate) fn wider(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    a.zip(b).map(|(a, b)| a.max(b))
}

/// Why the directory did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// Cannot be reached: retry.
    #[error("the directory is unavailable: {reason}")]
    Unavailable {
        /// For the operator's log.
        reason: String,
    },
    /// Unique field (phone, id) is taken.
    #[error("{field} is taken")]
    Taken {
        /// Field.
        field: &'static str,
    },
    /// No such user, device or group.
    #[error("not found")]
    NotFound,
}

/// The directory. Calls block for at most a disk read or a bounded round trip.
pub trait Directory: Send + Sync {
    /// Creates; `Taken` when the id or phone exists.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    fn create_user(&self, user: &User) -> Result<(), DirectoryError>;
    /// Replaces; `NotFound` when there is none.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    fn update_user(&self, user: &User) -> Result<(), DirectoryError>;
    /// Reads one.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    fn user(&self, id: &UserId) -> Result<Option<User>, DirectoryError>;
    /// Users by id after `after`, at most `limit`.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    fn users(&self, after: Option<&UserId>, limit: usize) -> Result<Vec<User>, DirectoryError>;
    /// By phone.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    fn user_by_phone(&self, phone: &str) -> Result<Option<User>, DirectoryError>;
    /// Creates or replaces a device.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    fn put_device(&self, user: &UserId, device: &Device) -> Result<(), DirectoryError>;
    /// One device.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    fn device(&self, user: &UserId, device: &DeviceId) -> Result<Option<Device>, DirectoryError>;
    /// All devices of a user (at most 64).
    ///
    /// # Errors
    /// See [`DirectoryError`].
    fn devices(&self, user: &UserId) -> Result<Vec<Device>, DirectoryError>;
    /// Applies a group's new state if `group.write_seq` is larger than the stored one.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    fn apply_group(&self, group: &Group, write_seq: Seq) -> Result<(), DirectoryError>;
    /// Applies a change to the group's state if `write_seq` is larger than the stored one. Changes come in order; one
    /// may come again.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    fn touch_group(&self, delta: &GroupDelta, write_seq: Seq) -> Result<(), DirectoryError>;
    /// Either.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    fn show_group(&self, news: &GroupNews, write_seq: Seq) -> Result<(), DirectoryError> {
        match news {
            GroupNews::Whole(group) => self.apply_group(group, write_seq),
            GroupNews::Touched(delta) => self.touch_group(delta, write_seq),
        }
    }
    /// Reads one and its first members by id after `after`, at most `limit`.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    fn group_page(
        &self,
        chat: &ChatId,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Option<GroupPage>, DirectoryError> {
        let after = after.map_or("", UserId::as_str);
        Ok(self.group(chat)?.map(|mut group| {
            let member_count = group.members.len() as u64;
            group.members.sort_unstable();
            group.members.retain(|user| user.as_str() > after);
            group.members.truncate(limit);
            GroupPage {
                group,
                member_count,
            }
        }))
    }
    /// Reads one.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    fn group(&self, chat: &ChatId) -> Result<Option<Group>, DirectoryError>;
    /// Deletes everything of a user's own (not messages).
    ///
    /// # Errors
    /// See [`DirectoryError`].
    fn delete_user(&self, id: &UserId) -> Result<(), DirectoryError>;
    /// Adds to the list of revocations, or extends what is there for the same user, device or token. The cursor of the
    /// entry, from 1: whoever has read the list up to there knows of it, or of what took its place.
    ///
    /// # Errors
    /// See [`DirectoryError`]; `Taken` when the list is full.
    fn put_revocation(&self, revocation: &Revocation) -> Result<u64, DirectoryError>;
    /// Entries put or extended after `cursor` (0: all that count), oldest first, at most `limit`, each
    /// with the cursor to ask from next. A cursor from before the list was lost starts over. What was put
    /// before a call began is never skipped by a cursor that the call returns.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    fn revocations_after(
        &self,
        cursor: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Revocation)>, DirectoryError>;
}
