//! Value of the ephemeral topics: typing, presence, and which node serves a guest. Never stored, never replayed.

use super::RecordError;
use super::read::Reader;
use super::write::Writer;
use crate::ids::{ChatId, DeviceId, UserId};
use crate::limits::GROUP_LISTED_MAX;
use crate::ownership::NodeName;
use bytes::Bytes;

const TYPING: u8 = 1;
const PRESENCE: u8 = 2;
const SERVED: u8 = 3;

/// A device has a session at a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// Whose.
    pub user: UserId,
    /// Which of the user's.
    pub device: DeviceId,
    /// Where.
    pub node: NodeName,
    /// When the session began, by that node's wall clock, milliseconds since 1970: of two the later one stays.
    pub began_ms: u64,
}

/// Presence as told to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EphemeralPresence {
    /// The engine could not be asked.
    Unknown,
    /// At least one session.
    Online,
    /// None.
    Offline,
}

/// A signal that may be lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EphemeralRecord {
    /// Someone types in a chat, or stopped.
    Typing {
        /// Where.
        chat: ChatId,
        /// Who.
        user: UserId,
        /// No longer.
        stopped: bool,
        /// Members in the record's partition; only their sessions that watch the chat get it.
        recipients: Vec<UserId>,
    },
    /// A user came or went.
    Presence {
        /// Who.
        user: UserId,
        /// New state.
        state: EphemeralPresence,
        /// When last seen, milliseconds; 0: never or online.
        last_seen_ms: u64,
    },
    /// A node that does not own the user's partition serves one of its devices, or one answers such a node.
    Served(Served),
}

impl EphemeralRecord {
    /// Encodes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Typing {
                chat,
                user,
                stopped,
                recipients,
            } => {
                let mut out = Writer::new(TYPING, 256 + recipients.len() * 16);
                out.short(chat.as_str()).short(user.as_str());
                out.u8(u8::from(*stopped)).users(recipients);
                out.finish()
            }
            Self::Presence {
                user,
                state,
                last_seen_ms,
            } => {
                let mut out = Writer::new(PRESENCE, 80);
                out.short(user.as_str());
                out.u8(match state {
                    EphemeralPresence::Unknown => 0,
                    EphemeralPresence::Online => 1,
                    EphemeralPresence::Offline => 2,
                });
                out.u64(*last_seen_ms);
                out.finish()
            }
            Self::Served(served) => {
                let mut out = Writer::new(SERVED, 224);
                out.short(served.user.as_str());
                out.short(served.device.as_str());
                out.short(served.node.as_str());
                out.u64(served.began_ms);
                out.finish()
            }
        }
    }

    /// Decodes.
    ///
    /// # Errors
    /// The bytes are no ephemeral record of this version.
    pub fn decode(value: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new(value);
        let record = match reader.head()? {
            TYPING => Self::Typing {
                chat: reader.chat()?,
                user: reader.user()?,
                stopped: reader.bool("stopped")?,
                recipients: reader.users(GROUP_LISTED_MAX)?,
            },
            PRESENCE => Self::Presence {
                user: reader.user()?,
                state: match reader.u8()? {
                    0 => EphemeralPresence::Unknown,
                    1 => EphemeralPresence::Online,
                    2 => EphemeralPresence::Offline,
                    _ => return Err(RecordError::BadForm { what: "presence" }),
                },
                last_seen_ms: reader.u64()?,
            },
            SERVED => Self::Served(Served {
                user: reader.user()?,
                device: reader.device()?,
                node: reader.node()?,
                began_ms: reader.u64()?,
            }),
            found => return Err(RecordError::Kind { found }),
        };
        reader.end()?;
        Ok(record)
    }
}
