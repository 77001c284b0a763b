//! Port `presence`: who is online, with expiry (Redis keys `presence:<user>` EX 30, `typing:<user>:<chat>` EX 5).

use hawser_protocol::ids::{ChatId, UserId};

/// What is known of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Has refreshed within the TTL.
    Online,
    /// Has not; last seen at this time (milliseconds), 0 when never.
    Offline {
        /// Milliseconds since 1970.
        last_seen_ms: u64,
    },
    /// The engine cannot be asked: say "unknown", never "offline".
    Unknown,
}

/// Presence engine; soft state, calls never fail, they degrade to `Unknown`. `now_ms` is wall time.
pub trait PresenceStore: Send + Sync {
    /// Marks users online for the TTL; coalesced by the caller. Returns those that were not online before.
    fn refresh(&self, users: &[UserId], now_ms: u64) -> Vec<UserId>;
    /// Marks a user offline now (their last session closed).
    fn leave(&self, user: &UserId, now_ms: u64);
    /// As `leave`, for many: at most one round trip or so, whatever their number.
    fn leave_all(&self, users: &[UserId], now_ms: u64) {
        users.iter().for_each(|user| self.leave(user, now_ms));
    }
    /// Present state of each, in order.
    fn get(&self, users: &[UserId], now_ms: u64) -> Vec<Presence>;
    /// Users whose TTL has run out since the last call; for the node that refreshes them.
    fn expired(&self, now_ms: u64) -> Vec<UserId>;
    /// Typing for 5 s, or stopped.
    fn set_typing(&self, user: &UserId, chat: &ChatId, typing: bool, now_ms: u64);
    /// Who types in a chat.
    fn typing(&self, chat: &ChatId, now_ms: u64) -> Vec<UserId>;
}
