//! The body of a MEMBERSHIP message: JSON, so that every client can show it.

use hawser_protocol::ids::UserId;
use serde::{Deserialize, Serialize};

/// Users named in one body; of a larger change the first are named and `count` says how many there
/// were. A body stays below 36 KiB.
pub const BODY_USERS_MAX: usize = 512;

/// What was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MembershipOp {
    /// The group was created; `users` are its members, the sender is its admin.
    Create,
    /// `users` were added.
    Add,
    /// `users` were removed.
    Remove,
    /// The sender left; `users` holds it.
    Leave,
    /// Name and picture were replaced.
    Update,
    /// The one in `users` became admin, or is no longer, as `admin` says.
    Admin,
    /// The group is in relaxed order from now on, over `lanes` lanes.
    Order,
}

/// The body. The sender of the message is who did it.
///
/// `{"op":"add","users":["bob"],"count":1}`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembershipBody {
    /// What was changed.
    pub op: MembershipOp,
    /// Whom it concerns, at most `BODY_USERS_MAX`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<String>,
    /// How many it concerns.
    #[serde(default)]
    pub count: usize,
    /// New name (`create`, `update`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// New picture (`create`, `update`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture: Option<String>,
    /// New state (`admin`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<bool>,
    /// Number of lanes (`order`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lanes: Option<u8>,
}

impl MembershipBody {
    /// A body about these users.
    #[must_use]
    pub fn about<'u>(op: MembershipOp, users: impl ExactSizeIterator<Item = &'u UserId>) -> Self {
        Self {
            op,
            count: users.len(),
            users: users.take(BODY_USERS_MAX).map(UserId::to_string).collect(),
            name: None,
            picture: None,
            admin: None,
            lanes: None,
        }
    }
}
