//! Who is in edge-sharded groups, as the reader of a delivery partition knows it: users of this partition alone.

use crate::ids::Seq;
use crate::partition::murmur2;
use crate::record::{ShardMemberView, ShardView};
use std::collections::BTreeMap;

/// What a membership costs beside the user's name, bytes.
const MEMBER_BYTES: usize = 88;

/// Groups and their members, with the times that they were. Applying the same again, or older news, changes nothing.
#[derive(Debug, Default)]
pub struct ShardTable {
    chats: BTreeMap<Box<str>, Chat>,
    /// By number.
    names: Vec<Box<str>>,
    /// By a hash of the user's name: the chats that a user of this hash is or was in.
    of_users: BTreeMap<u32, Numbers>,
    members: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Chat {
    number: u32,
    members: BTreeMap<Box<str>, Spans>,
}

/// Chats; most users are in one.
#[derive(Debug)]
enum Numbers {
    One(u32),
    Several(Vec<u32>),
}

impl Numbers {
    fn all(&self) -> &[u32] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Several(several) => several,
        }
    }

    fn add(&mut self, number: u32) {
        match self {
            known if known.all().contains(&number) => {}
            Self::One(one) => *self = Self::Several(vec![*one, number]),
            Self::Several(several) => several.push(number),
        }
    }
}

/// (joined, left) of one user, both exclusive, in order of joining.
#[derive(Debug)]
enum Spans {
    One(Seq, Option<Seq>),
    Several(Box<[(Seq, Option<Seq>)]>),
}

impl Spans {
    fn of(member: &ShardMemberView<'_>) -> Option<Self> {
        let mut spans = member.spans();
        let (joined, left) = spans.next()?;
        Some(match spans.next() {
            None => Self::One(joined, left),
            Some(_) => Self::Several(member.spans().collect()),
        })
    }

    fn all(&self) -> impl Iterator<Item = (Seq, Option<Seq>)> + '_ {
        let (one, several) = match self {
            Self::One(joined, left) => (Some((*joined, *left)), None),
            Self::Several(spans) => (None, Some(spans.iter().copied())),
        };
        one.into_iter().chain(several.into_iter().flatten())
    }

    /// Seq of the last change that it tells of.
    fn version(&self) -> Seq {
        let last = self.all().last();
        last.map_or(Seq::NONE, |(joined, left)| left.unwrap_or(joined))
    }

    fn covers(&self, seq: Seq, changed: bool) -> bool {
        self.all().any(|(joined, left)| match changed {
            true => joined <= seq && left.is_none_or(|left| seq <= left),
            false => joined < seq && left.is_none_or(|left| seq < left),
        })
    }

    fn bytes(&self) -> usize {
        match self {
            Self::One(..) => 0,
            Self::Several(spans) => size_of_val::<[_]>(spans),
        }
    }
}

impl ShardTable {
    /// Takes news of members; those that `ours` denies are of other partitions.
    pub fn apply(&mut self, shard: &ShardView<'_>, ours: impl Fn(&str) -> bool) {
        for member in shard.members().filter(|member| ours(member.user)) {
            let Some(spans) = Spans::of(&member) else {
                continue;
            };
            if !self.chats.contains_key(shard.chat) {
                let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
                self.names.push(shard.chat.into());
                let members = BTreeMap::new();
                self.chats
                    .insert(shard.chat.into(), Chat { number, members });
            }
            let Some(chat) = self.chats.get_mut(shard.chat) else {
                continue;
            };
            match chat.members.get_mut(member.user) {
                Some(known) if spans.version() < known.version() => {}
                Some(known) => {
                    self.bytes = self.bytes + spans.bytes() - known.bytes();
                    *known = spans;
                }
                None => {
                    self.members += 1;
                    self.bytes += MEMBER_BYTES + member.user.len() + spans.bytes();
                    chat.members.insert(member.user.into(), spans);
                    self.of_users
                        .entry(murmur2(member.user.as_bytes()))
                        .and_modify(|known| known.add(chat.number))
                        .or_insert(Numbers::One(chat.number));
                }
            }
        }
    }

    /// The groups that a user is in, or was.
    pub fn chats_of(&self, user: &str) -> impl Iterator<Item = &str> {
        let numbers = self.of_users.get(&murmur2(user.as_bytes()));
        let numbers = numbers.map_or(&[][..], Numbers::all);
        let names = numbers
            .iter()
            .filter_map(|number| self.names.get(*number as usize));
        // Others have the same hash.
        names
            .map(|name| &**name)
            .filter(move |name| self.spans(name, user).is_some())
    }

    /// How many are or were in a group.
    #[must_use]
    pub fn size(&self, chat: &str) -> usize {
        self.chats.get(chat).map_or(0, |chat| chat.members.len())
    }

    fn spans(&self, chat: &str, user: &str) -> Option<&Spans> {
        self.chats.get(chat)?.members.get(user)
    }

    /// Whether a message of a group is for a user; `changed`: it adds or removes members, and is for those too.
    #[must_use]
    pub fn has(&self, chat: &str, user: &str, seq: Seq, changed: bool) -> bool {
        self.spans(chat, user)
            .is_some_and(|spans| spans.covers(seq, changed))
    }

    /// Whom a message of a group is for, in order of their ids.
    pub fn members(&self, chat: &str, seq: Seq, changed: bool) -> impl Iterator<Item = &str> {
        let all = self
            .chats
            .get(chat)
            .into_iter()
            .flat_map(|chat| &chat.members);
        all.filter(move |(_, spans)| spans.covers(seq, changed))
            .map(|(user, _)| &**user)
    }

    /// Memberships known, ended ones too.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members
    }

    /// Whether none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members == 0
    }

    /// About what it costs, bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ChatId, UserId};
    use crate::record::{DeliveryKind, DeliveryRecord, DeliveryView, ShardMember, ViewKind};
    use proptest::prelude::*;

    fn apply(table: &mut ShardTable, user: &str, spans: &[(u64, Option<u64>)]) {
        let spans = spans.iter().map(|(j, l)| (Seq(*j), l.map(Seq)));
        let record = DeliveryRecord {
            source_partition: 0,
            source_seq: Seq(1),
            sub_index: 0,
            kind: DeliveryKind::Shard {
                chat: ChatId::new("g:big").expect("an id"),
                members: vec![ShardMember {
                    user: UserId::new(user).expect("an id"),
                    spans: spans.collect(),
                }],
            },
        };
        let value = record.encode();
        let view = DeliveryView::parse(&value).expect("it was encoded here");
        let ViewKind::Shard(shard) = view.kind else {
            panic!("another kind");
        };
        table.apply(&shard, |user| user != "stranger");
    }

    fn who(table: &ShardTable, seq: u64, changed: bool) -> Vec<&str> {
        table.members("g:big", Seq(seq), changed).collect()
    }

    #[test]
    fn a_message_is_for_those_whose_time_contains_it_and_a_change_for_those_too_whom_it_concerns() {
        let mut table = ShardTable::default();
        apply(&mut table, "alice", &[(5, None)]);
        apply(&mut table, "bob", &[(5, Some(9))]);
        apply(&mut table, "carol", &[(2, Some(4)), (9, None)]);
        apply(&mut table, "stranger", &[(1, None)]);
        assert_eq!(table.len(), 3);
        for (seq, changed, expected) in [
            (1, true, vec![]),
            (3, false, vec!["carol"]),
            (5, false, vec![]),
            (5, true, vec!["alice", "bob"]),
            (7, false, vec!["alice", "bob"]),
            (9, false, vec!["alice"]),
            (9, true, vec!["alice", "bob", "carol"]),
            (10, false, vec!["alice", "carol"]),
        ] {
            assert_eq!(who(&table, seq, changed), expected, "{seq} {changed}");
            for user in ["alice", "bob", "carol"] {
                let has = table.has("g:big", user, Seq(seq), changed);
                assert_eq!(has, expected.contains(&user), "{user} {seq} {changed}");
            }
        }
        assert!(!table.has("g:other", "alice", Seq(7), false));
        assert_eq!((table.size("g:big"), table.size("g:other")), (3, 0));
        assert_eq!(table.chats_of("alice").collect::<Vec<_>>(), ["g:big"]);
        assert_eq!(table.chats_of("stranger").count(), 0);
        assert_eq!(table.chats_of("dave").count(), 0);
    }

    #[test]
    fn users_of_one_hash_and_of_several_chats_are_told_apart() {
        let mut table = ShardTable::default();
        apply(&mut table, "alice", &[(5, None)]);
        let hash = murmur2(b"alice");
        let other = Chat {
            number: 1,
            members: BTreeMap::from([("bob".into(), Spans::One(Seq(1), None))]),
        };
        table.chats.insert("g:other".into(), other);
        table.names.push("g:other".into());
        // As if bob had the same.
        for _ in 0..2 {
            table.of_users.get_mut(&hash).expect("alice's").add(1);
        }
        assert_eq!(table.of_users[&hash].all(), [0, 1]);
        assert_eq!(table.chats_of("alice").collect::<Vec<_>>(), ["g:big"]);
        let alice = Spans::One(Seq(2), Some(Seq(3)));
        let other = table.chats.get_mut("g:other").expect("it is there");
        other.members.insert("alice".into(), alice);
        let both = table.chats_of("alice").collect::<Vec<_>>();
        assert_eq!(both, ["g:big", "g:other"]);
    }

    proptest! {
        #[test]
        fn news_in_any_order_and_more_than_once_come_to_the_same(order in Just(vec![0usize, 1, 2, 3]).prop_shuffle(), again in 0usize..4) {
            let news: [&[(u64, Option<u64>)]; 4] = [
                &[(2, None)],
                &[(2, Some(4))],
                &[(2, Some(4)), (6, None)],
                &[(2, Some(4)), (6, Some(8))],
            ];
            let mut table = ShardTable::default();
            for at in order.into_iter().chain([again]) {
                apply(&mut table, "alice", news[at]);
            }
            prop_assert_eq!(table.len(), 1);
            for seq in 0..10 {
                let expected = seq == 3 || seq == 7;
                prop_assert_eq!(table.has("g:big", "alice", Seq(seq), false), expected);
            }
        }
    }
}
