//! Whom a receipt concerns: those whose messages it is the first to cover. A group of g members that told every receipt
//! to all of them would pay g updates for each of g receipts of every message.

use ahash::AHashMap;
use hawser_protocol::ids::{ChatId, Seq, UserId};
use std::collections::{BTreeSet, VecDeque};

/// Messages of a group whose authors are remembered.
const AUTHORS_MAX: usize = 64;

/// What is remembered of one group.
#[derive(Debug, Default)]
struct Recent {
    /// Every message after this one is in `authors`.
    after: Seq,
    authors: VecDeque<(Seq, UserId)>,
    /// Up to where members had told (delivered, read).
    told: AHashMap<UserId, (Seq, Seq)>,
}

/// Of the groups with messages and receipts of late.
#[derive(Debug, Default)]
pub(super) struct Concern {
    groups: AHashMap<ChatId, Recent>,
    /// Authors and marks in `groups`.
    kept: usize,
}

impl Concern {
    /// A message was accepted; `previous` is the one before it.
    pub(super) fn wrote(&mut self, chat: &ChatId, previous: Seq, seq: Seq, author: &UserId) {
        if !chat.is_group() {
            return;
        }
        let recent = self.groups.entry(chat.clone()).or_insert_with(|| Recent {
            after: previous,
            ..Recent::default()
        });
        recent.authors.push_back((seq, author.clone()));
        self.kept += 1;
        if recent.authors.len() > AUTHORS_MAX
            && let Some((gone, _)) = recent.authors.pop_front()
        {
            recent.after = gone;
            self.kept -= 1;
        }
    }

    /// Whom the new marks of a member concern: authors of what they cover first, and the member's own devices when the
    /// read mark rises. `None`: of some of that the authors are not known.
    pub(super) fn of(
        &mut self,
        chat: &ChatId,
        user: &UserId,
        (delivered, read): (Seq, Seq),
    ) -> Option<BTreeSet<UserId>> {
        let recent = self.groups.get_mut(chat)?;
        let before = recent.told.get(user).copied();
        if before.is_none() {
            self.kept += 1;
        }
        let (old_delivered, old_read) = before.unwrap_or_default();
        let marks = (old_delivered.max(delivered), old_read.max(read));
        recent.told.insert(user.clone(), marks);
        let mut found = BTreeSet::new();
        for (old, new) in [(old_delivered, delivered), (old_read, read)] {
            if new <= old {
                continue;
            }
            if old < recent.after {
                return None;
            }
            let covered = recent
                .authors
                .iter()
                .filter(|(seq, _)| *seq > old && *seq <= new);
            found.extend(covered.map(|(_, author)| author.clone()));
        }
        found.remove(user);
        if read > old_read {
            found.insert(user.clone());
        }
        Some(found)
    }

    /// Forgets everything when it is more than this: what follows is told to all members once.
    pub(super) fn bound(&mut self, kept_max: usize) {
        if self.kept > kept_max {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).expect("id")
    }

    fn names(found: Option<BTreeSet<UserId>>) -> Option<Vec<String>> {
        found.map(|users| users.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn authors_of_what_is_covered_first_are_concerned_and_the_reader_of_reading() {
        let mut concern = Concern::default();
        let chat = ChatId::new("g:crew").expect("id");
        let (bob, carol) = (user("bob"), user("carol"));
        assert_eq!(concern.of(&chat, &bob, (Seq(9), Seq(0))), None, "unknown");
        concern.wrote(&chat, Seq(0), Seq(10), &user("alice"));
        concern.wrote(&chat, Seq(10), Seq(20), &carol);
        concern.wrote(&chat, Seq(20), Seq(30), &bob);
        let mut of = |user: &UserId, delivered, read| {
            names(concern.of(&chat, user, (Seq(delivered), Seq(read))))
        };
        let said = |names: &[&str]| Some(names.iter().map(ToString::to_string).collect());
        assert_eq!(of(&bob, 10, 0), said(&["alice"]));
        assert_eq!(of(&bob, 10, 0), said(&[]), "nothing new");
        assert_eq!(of(&bob, 30, 0), said(&["carol"]), "not of one's own");
        assert_eq!(of(&bob, 30, 20), said(&["alice", "bob", "carol"]));
        assert_eq!(of(&carol, 20, 20), said(&["alice", "carol"]));
        assert_eq!(of(&bob, 5, 5), said(&[]), "marks only rise");
    }

    #[test]
    fn what_reaches_back_beyond_memory_concerns_all() {
        let mut concern = Concern::default();
        let chat = ChatId::new("g:crew").expect("id");
        let bob = user("bob");
        let mut previous = Seq(100);
        for n in 1..=AUTHORS_MAX as u64 + 1 {
            let seq = Seq(100 + n);
            concern.wrote(&chat, previous, seq, &user("alice"));
            previous = seq;
        }
        assert_eq!(concern.of(&chat, &bob, (Seq(101), Seq(0))), None);
        let found = concern.of(&chat, &bob, (Seq(103), Seq(0)));
        assert_eq!(names(found), Some(vec!["alice".to_owned()]));
        // Read reaches back to the beginning.
        assert_eq!(concern.of(&chat, &bob, (Seq(103), Seq(102))), None);
        let found = concern.of(&chat, &bob, (Seq(103), Seq(103)));
        assert_eq!(
            names(found),
            Some(vec!["alice".to_owned(), "bob".to_owned()])
        );
        concern.bound(1);
        assert_eq!(concern.of(&chat, &bob, (Seq(104), Seq(0))), None);
    }
}
