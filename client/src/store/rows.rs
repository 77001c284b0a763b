//! What is kept on the disk, row by row.

use crate::store::StoreError;
use bytes::Bytes;
use hawser_protocol::client::{PendingSend, Position, Refusal};
use hawser_protocol::ids::{ChatId, ClientMsgId};
use hawser_protocol::message::{MessageRecord, MessageType};
use hawser_protocol::pb;
use serde::{Deserialize, Serialize};

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Who.
    pub user: String,
    /// May change the group.
    pub admin: bool,
}

/// A conversation as this device knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chat {
    /// Display name (groups; empty for 1:1).
    pub name: String,
    /// Members as last told, at most 64 by the list and more by changes seen.
    pub members: Vec<Member>,
    /// How many there are.
    pub member_count: u32,
    /// Seq of the newest message known.
    pub last_seq: u64,
    /// Its ordinal.
    pub last_ordinal: u64,
    /// Its stored time, milliseconds.
    pub last_ts_ms: u64,
    /// Read here up to this seq.
    pub read_seq: u64,
    /// Known without a hole up to this seq and ordinal; 0, 0: nothing is.
    pub track: (u64, u64),
    /// Membership as of this seq: older changes do not apply to `members` again.
    pub members_seq: u64,
    /// We are no longer a member.
    pub gone: bool,
}

/// What others have received and read of a chat.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Delivered up to this seq.
    pub delivered: u64,
    /// Read up to this seq.
    pub read: u64,
}

/// A row of `unsent`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct UnsentRow {
    number: u64,
    id: [u8; 16],
    chat: String,
    message_type: u8,
    body: Vec<u8>,
    send_ts_ms: u64,
    refused: Option<(u32, String)>,
}

/// The row `position`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum PositionRow {
    SyncingFrom(u64),
    At { next: u64, resume_token: Vec<u8> },
}

impl UnsentRow {
    pub(super) fn of(send: &PendingSend) -> Self {
        let refused = send.refused.as_ref();
        Self {
            number: send.number,
            id: send.id.0,
            chat: send.chat.to_string(),
            message_type: send.message_type.0,
            body: send.body.to_vec(),
            send_ts_ms: send.send_ts_ms,
            refused: refused.map(|r| (r.code, r.text.clone())),
        }
    }

    pub(super) fn into_send(self) -> Result<PendingSend, StoreError> {
        let chat = ChatId::new(&self.chat).map_err(|_| StoreError::Id(self.chat.clone()))?;
        Ok(PendingSend {
            number: self.number,
            id: ClientMsgId(self.id),
            chat,
            message_type: MessageType(self.message_type),
            body: Bytes::from(self.body),
            send_ts_ms: self.send_ts_ms,
            refused: self.refused.map(|(code, text)| Refusal { code, text }),
        })
    }
}

impl PositionRow {
    pub(super) fn of(position: &Position) -> Self {
        match position {
            Position::SyncingFrom(head) => Self::SyncingFrom(*head),
            Position::At { next, resume_token } => Self::At {
                next: *next,
                resume_token: resume_token.to_vec(),
            },
        }
    }

    pub(super) fn into_position(self) -> Position {
        match self {
            Self::SyncingFrom(head) => Position::SyncingFrom(head),
            Self::At { next, resume_token } => Position::At {
                next,
                resume_token: resume_token.into(),
            },
        }
    }
}

/// A change of a group, the JSON body of a message of type MEMBERSHIP (docs/protocol.md). The
/// message's sender did it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Change {
    /// create, add, remove, leave, update, admin.
    pub op: String,
    /// Whom it concerns, at most 512.
    pub users: Vec<String>,
    /// How many they are.
    pub count: u32,
    /// The name, where it was set.
    pub name: String,
    /// Made an admin, or no longer.
    pub admin: bool,
}

impl Change {
    /// Of a message; `None` when it is no change that can be read.
    #[must_use]
    pub fn of(record: &MessageRecord) -> Option<Self> {
        if record.message_type != MessageType::MEMBERSHIP {
            return None;
        }
        let mut change: Self = serde_json::from_slice(&record.body).ok()?;
        if change.users.is_empty() && change.op == "leave" {
            change.users.push(record.sender.to_string());
        }
        Some(change)
    }
}

impl Chat {
    /// Takes a message: the newest, and who is in the group.
    pub(super) fn apply(&mut self, record: &MessageRecord, me: &str) {
        if record.seq.0 > self.last_seq {
            self.last_seq = record.seq.0;
            self.last_ordinal = record.ordinal;
            self.last_ts_ms = record.stored_ts_ms;
        }
        if record.seq.0 <= self.members_seq {
            return;
        }
        if let Some(change) = Change::of(record) {
            self.members_seq = record.seq.0;
            self.change(&change, record.sender.as_str(), me);
        }
    }

    fn change(&mut self, change: &Change, by: &str, me: &str) {
        let add = |members: &mut Vec<Member>, user: &str, admin: bool| {
            if !members.iter().any(|m| m.user == user) {
                let user = user.to_owned();
                members.push(Member { user, admin });
            }
        };
        match change.op.as_str() {
            "create" => {
                add(&mut self.members, by, true);
                for user in &change.users {
                    add(&mut self.members, user, false);
                }
            }
            "add" => {
                for user in &change.users {
                    add(&mut self.members, user, false);
                }
            }
            "remove" | "leave" => self.members.retain(|m| !change.users.contains(&m.user)),
            "admin" => {
                for member in &mut self.members {
                    if change.users.contains(&member.user) {
                        member.admin = change.admin;
                    }
                }
            }
            _ => {}
        }
        if !change.name.is_empty() {
            self.name.clone_from(&change.name);
        }
        self.member_count = u32::try_from(self.members.len()).unwrap_or(u32::MAX);
        let left = matches!(change.op.as_str(), "remove" | "leave");
        if left && change.users.iter().any(|user| user == me) {
            self.gone = true;
        } else if self.members.iter().any(|m| m.user == me) {
            self.gone = false;
        }
    }

    /// Takes what the server says of a chat: it wins over what was pieced together here.
    pub(super) fn describe(&mut self, summary: &pb::ChatSummary) {
        self.name.clone_from(&summary.name);
        let member = |m: &pb::Member| Member {
            user: m.user.clone(),
            admin: m.admin,
        };
        self.members = summary.members.iter().map(member).collect();
        self.member_count = summary.member_count;
        self.members_seq = self.members_seq.max(summary.last_seq);
        self.gone = false;
    }
}
