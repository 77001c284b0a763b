//! The names of keys, as documented in `docs/redis.md`.

use hawser_protocol::ids::{ChatId, UserId};

/// Makers of keys with one prefix.
#[derive(Debug, Clone)]
pub(super) struct Keys(pub(super) String);

impl Keys {
    /// `online` while the user is.
    pub(super) fn presence(&self, user: &UserId) -> String {
        format!("{}presence:{user}", self.0)
    }

    /// Milliseconds of the last refresh or of leaving.
    pub(super) fn last_seen(&self, user: &UserId) -> String {
        format!("{}lastseen:{user}", self.0)
    }

    /// `typing` while the user does in the chat.
    pub(super) fn typing(&self, user: &UserId, chat: &ChatId) -> String {
        format!("{}typing:{user}:{chat}", self.0)
    }

    /// Who types in a chat: users by the time at which it ends. It spares a scan of all keys.
    pub(super) fn typists(&self, chat: &ChatId) -> String {
        format!("{}typists:{chat}", self.0)
    }

    /// Made once: its absence says that the data were lost. No user has this name: it has no colon.
    pub(super) fn mark(&self) -> String {
        format!("{}presence-mark", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_named_as_documented_and_a_prefix_goes_before() {
        let (user, chat) = (
            UserId::new("alice").unwrap(),
            ChatId::new("g:team").unwrap(),
        );
        let plain = Keys(String::new());
        assert_eq!(plain.presence(&user), "presence:alice");
        assert_eq!(plain.last_seen(&user), "lastseen:alice");
        assert_eq!(plain.typing(&user, &chat), "typing:alice:g:team");
        assert_eq!(plain.typists(&chat), "typists:g:team");
        assert_eq!(Keys("eu-".to_owned()).presence(&user), "eu-presence:alice");
    }
}
