//! What is revoked: an entry of the list in the directory, and what a control record in a user's delivery partition says.

use crate::ids::{DeviceId, UserId};

/// Tokens that are void before they expire. There is one entry per user, device and token; a later one
/// takes its place, extended and never shortened, until a pardon lifts a user's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revocation {
    /// Tokens of a user issued up to `until_ms`; `None`: all, for ever (a ban).
    User {
        /// Whose.
        user: UserId,
        /// Milliseconds since 1970, inclusive.
        until_ms: Option<u64>,
    },
    /// Tokens of one device issued up to `until_ms`; `None`: all, for ever.
    Device {
        /// Whose.
        user: UserId,
        /// Which.
        device: DeviceId,
        /// Milliseconds since 1970, inclusive.
        until_ms: Option<u64>,
    },
    /// One token.
    Token {
        /// Its `jti`, at most 256 bytes.
        jti: String,
        /// Its `exp`, milliseconds: after that the entry is dropped.
        expires_at_ms: u64,
    },
    /// Lifts a user's revocation; stays in the list, so that every reader sees it.
    Pardon {
        /// Whose.
        user: UserId,
    },
}
