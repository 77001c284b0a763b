//! Identifiers: users, devices, chats, places in a chat (`Seq`), message ids.

use crate::limits::{CHAT_ID_BYTES_MAX, DEVICE_ID_BYTES_MAX, LANES_MAX, USER_ID_BYTES_MAX};
use arcstr::ArcStr;
use std::fmt;

/// Why a text is no id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Empty.
    #[error("an id must not be empty")]
    Empty,
    /// Longer than the kind's bound.
    #[error("an id of {len} bytes exceeds the limit of {max}")]
    TooLong {
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// A character outside `[A-Za-z0-9_.@+-]`, or a chat id of no known form.
    #[error("an id has a form that is not allowed")]
    BadForm,
}

fn check(text: &str, max: usize) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > max {
        return Err(IdError::TooLong {
            len: text.len(),
            max,
        });
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'@' | b'+' | b'-');
    if text.bytes().all(plain) {
        Ok(())
    } else {
        Err(IdError::BadForm)
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $max:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(ArcStr);

        impl $name {
            /// Checks alphabet and length.
            ///
            /// # Errors
            /// The text is no such id: the peer's fault.
            pub fn new(text: &str) -> Result<Self, IdError> {
                check(text, $max)?;
                Ok(Self(text.into()))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        // Equality, order and hash are the text's, so that tables can be asked by `&str`.
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0.as_str())
            }
        }
    };
}

text_id!(
    /// A user: `[A-Za-z0-9_.@+-]`, 1 to 64 bytes.
    UserId,
    USER_ID_BYTES_MAX
);
text_id!(
    /// A device of a user: same alphabet, 1 to 64 bytes; unique within its user.
    DeviceId,
    DEVICE_ID_BYTES_MAX
);

// A session and what is kept of its user and device name them in many places: a name is one pointer, shared.
const _: () = assert!(size_of::<Option<UserId>>() == 8);

/// A conversation: `dm:<a>:<b>` with a < b (or a = b: notes to self), or `g:<group id>`; or one lane of a group that
/// is set to relaxed order, `g:<group id>#<lane>` with a lane from 1 to 63 (lane 0 is the group itself).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChatId(ArcStr);

impl ChatId {
    /// Parses and checks the form.
    ///
    /// # Errors
    /// The text is no chat id: the peer's fault.
    pub fn new(text: &str) -> Result<Self, IdError> {
        if text.is_empty() {
            return Err(IdError::Empty);
        }
        if text.len() > CHAT_ID_BYTES_MAX {
            return Err(IdError::TooLong {
                len: text.len(),
                max: CHAT_ID_BYTES_MAX,
            });
        }
        if let Some(rest) = text.strip_prefix("dm:") {
            let (a, b) = rest.split_once(':').ok_or(IdError::BadForm)?;
            check(a, USER_ID_BYTES_MAX)?;
            check(b, USER_ID_BYTES_MAX)?;
            if a > b {
                return Err(IdError::BadForm);
            }
        } else {
            let group = text.strip_prefix("g:").ok_or(IdError::BadForm)?;
            let (group, lane) = group.split_once('#').unwrap_or((group, "1"));
            check(group, USER_ID_BYTES_MAX)?;
            lane_number(lane).ok_or(IdError::BadForm)?;
        }
        Ok(Self(text.into()))
    }

    /// Number of the lane, 0 for a chat that is none.
    #[must_use]
    pub fn lane(&self) -> u8 {
        let lane = self
            .0
            .split_once('#')
            .and_then(|(_, lane)| lane_number(lane));
        lane.unwrap_or(0)
    }

    /// The chat that a lane belongs to; any other chat is its own.
    #[must_use]
    pub fn base(&self) -> Self {
        match self.0.split_once('#') {
            Some((base, _)) => Self(base.into()),
            None => self.clone(),
        }
    }

    /// A lane of this chat; 0 is the chat itself.
    ///
    /// # Errors
    /// No group, or no number of a lane.
    pub fn in_lane(&self, lane: u8) -> Result<Self, IdError> {
        match lane {
            0 => Ok(self.base()),
            lane if lane < LANES_MAX && self.is_group() => {
                Ok(Self(format!("{}#{lane}", self.base()).into()))
            }
            _ => Err(IdError::BadForm),
        }
    }

    /// The 1:1 chat of two users, whichever order they are given in.
    #[must_use]
    pub fn dm(a: &UserId, b: &UserId) -> Self {
        let (low, high) = if a <= b { (a, b) } else { (b, a) };
        Self(format!("dm:{low}:{high}").into())
    }

    /// The two users of a 1:1 chat; `None` for a group.
    #[must_use]
    pub fn dm_users(&self) -> Option<(UserId, UserId)> {
        let (a, b) = self.0.strip_prefix("dm:")?.split_once(':')?;
        Some((UserId(a.into()), UserId(b.into())))
    }

    /// Whether this is a group.
    #[must_use]
    pub fn is_group(&self) -> bool {
        self.0.starts_with("g:")
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// 1 to 63, written in one way only.
fn lane_number(text: &str) -> Option<u8> {
    let lane = text.parse().ok()?;
    ((1..LANES_MAX).contains(&lane) && !text.starts_with(['0', '+'])).then_some(lane)
}

impl fmt::Display for ChatId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ChatId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.as_str())
    }
}

/// A place in a chat: (generation, offset) of the chat's record in `chat-messages`, packed as
/// `generation << 48 | offset`. Strictly grows within a chat; 0 means "none".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Seq(pub u64);

impl Seq {
    /// No message.
    pub const NONE: Self = Self(0);
    /// Largest offset that fits, 2^48 - 1.
    pub const OFFSET_MAX: u64 = (1 << 48) - 1;

    /// Packs; generation counts from 1, so that no real seq is 0.
    #[must_use]
    pub fn new(generation: u16, offset: u64) -> Self {
        assert!(
            offset <= Self::OFFSET_MAX,
            "a partition of more than 2^48 records"
        );
        Self((u64::from(generation) << 48) | offset)
    }

    /// Generation of the topic.
    #[must_use]
    pub fn generation(self) -> u16 {
        (self.0 >> 48) as u16
    }

    /// Offset in the partition.
    #[must_use]
    pub fn offset(self) -> u64 {
        self.0 & Self::OFFSET_MAX
    }
}

/// What a client named its message: a UUIDv7 stamped with server time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientMsgId(pub [u8; 16]);

impl ClientMsgId {
    /// A UUIDv7 (RFC 9562) of a time, milliseconds since 1970, and 74 random bits.
    #[must_use]
    pub fn new(timestamp_ms: u64, random: [u8; 10]) -> Self {
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&timestamp_ms.to_be_bytes()[2..]);
        bytes[6..].copy_from_slice(&random);
        bytes[6] = 0x70 | (bytes[6] & 0x0f);
        bytes[8] = 0x80 | (bytes[8] & 0x3f);
        Self(bytes)
    }

    /// Milliseconds since 1970 that the id was stamped with.
    #[must_use]
    pub fn timestamp_ms(&self) -> u64 {
        let b = &self.0;
        u64::from_be_bytes([0, 0, b[0], b[1], b[2], b[3], b[4], b[5]])
    }

    /// Whether version and variant are those of a UUIDv7 (RFC 9562).
    #[must_use]
    pub fn is_v7(&self) -> bool {
        self.0[6] >> 4 == 7 && self.0[8] >> 6 == 2
    }
}

impl fmt::Debug for ClientMsgId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ClientMsgId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_uuid(&self.0, f)
    }
}

/// Identity of a stored message: a UUIDv7 made of the record's stored time, cell, generation,
/// partition and offset. It identifies and never orders.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub [u8; 16]);

impl MessageId {
    /// 48 bits of time, version 7, then 74 bits: cell 8, generation 8 (low bits), partition 16,
    /// offset 42 (low bits): the same on every replay.
    #[must_use]
    pub fn derive(stored_ts_ms: u64, cell: u8, partition: u16, seq: Seq) -> Self {
        let rest: u128 = (u128::from(cell) << 66)
            | (u128::from(seq.generation() & 0xff) << 58)
            | (u128::from(partition) << 42)
            | u128::from(seq.offset() & ((1 << 42) - 1));
        let value: u128 = (u128::from(stored_ts_ms & ((1 << 48) - 1)) << 80)
            | (7 << 76)
            | ((rest >> 62) << 64)
            | (2 << 62)
            | (rest & ((1 << 62) - 1));
        Self(value.to_be_bytes())
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_uuid(&self.0, f)
    }
}

fn fmt_uuid(bytes: &[u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            f.write_str("-")?;
        }
        write!(f, "{byte:02x}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_written_in_one_way_and_knows_its_chat() {
        let chat = ChatId::new("g:team").expect("a group");
        assert_eq!((chat.lane(), chat.base()), (0, chat.clone()));
        let lane = chat.in_lane(63).expect("the last lane");
        assert_eq!(lane.as_str(), "g:team#63");
        assert_eq!((lane.lane(), lane.base()), (63, chat.clone()));
        assert!(lane.is_group());
        assert_eq!(lane.in_lane(0), Ok(chat.clone()));
        assert_eq!(chat.in_lane(64), Err(IdError::BadForm));
        for wrong in [
            "g:a#0", "g:a#01", "g:a#+1", "g:a#64", "g:a#", "g:a#1#2", "dm:a:b#1",
        ] {
            assert_eq!(ChatId::new(wrong), Err(IdError::BadForm), "{wrong}");
        }
    }

    #[test]
    fn a_chat_of_two_has_no_lanes() {
        let chat = ChatId::new("dm:a:b").expect("a 1:1 chat");
        assert_eq!(chat.in_lane(1), Err(IdError::BadForm));
        assert_eq!(chat.in_lane(0), Ok(chat));
    }
}
