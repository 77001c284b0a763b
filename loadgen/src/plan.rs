//! Who talks to whom: pairs (0,1), (2,3), … and groups of users in a row.

use ahash::AHashMap;
use hawser_protocol::ids::{ChatId, IdError, UserId};

use crate::random::Random;

/// Users, conversations and their chats. Conversations are numbered: pairs first, then groups.
#[derive(Debug)]
pub struct Plan {
    prefix: String,
    /// The number in the name of the first user.
    first: u32,
    users: u32,
    threads: u32,
    chats: Vec<ChatId>,
    numbers: AHashMap<ChatId, u32>,
    members: Vec<Vec<u32>>,
    /// Conversation of the first group.
    first_group: u32,
    group_size: u32,
    /// Users below this one have the first thread for themselves; 0: nobody has.
    apart: u32,
}

impl Plan {
    /// Pairs of `users` users (an even number), to be driven by `threads` threads; no groups yet.
    ///
    /// # Errors
    /// The prefix makes no valid user ids.
    pub fn new(prefix: &str, users: u32, threads: u32) -> Result<Self, IdError> {
        Self::from(prefix, 0, users, threads)
    }

    /// The same of users whose names count from `first`: one process's of a run of several. Within it they are counted from 0.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn from(prefix: &str, first: u32, users: u32, threads: u32) -> Result<Self, IdError> {
        let mut plan = Self {
            prefix: prefix.to_owned(),
            first,
            users,
            threads: threads.max(1),
            chats: Vec::new(),
            numbers: AHashMap::new(),
            members: Vec::new(),
            first_group: users / 2,
            group_size: 0,
            apart: 0,
        };
        for pair in 0..users / 2 {
            let (a, b) = (2 * pair, 2 * pair + 1);
            let chat = ChatId::dm(&UserId::new(&plan.name(a))?, &UserId::new(&plan.name(b))?);
            plan.add(chat, vec![a, b]);
        }
        Ok(plan)
    }

    /// Groups of `size` users in a row, as far as whole groups go: who is in each.
    #[must_use]
    pub fn wished_groups(&self, size: u32) -> Vec<Vec<u32>> {
        let size = size.clamp(1, self.users.max(1));
        (0..self.users / size)
            .map(|group| (group * size..(group + 1) * size).collect())
            .collect()
    }

    /// The groups that were made, in the order of [`Plan::wished_groups`].
    pub fn set_groups(&mut self, size: u32, groups: Vec<(ChatId, Vec<u32>)>) {
        self.group_size = size;
        for (chat, members) in groups {
            self.add(chat, members);
        }
    }

    fn add(&mut self, chat: ChatId, members: Vec<u32>) {
        let number = u32::try_from(self.chats.len()).unwrap_or(u32::MAX);
        self.numbers.insert(chat.clone(), number);
        self.chats.push(chat);
        self.members.push(members);
    }

    /// Conversations in all.
    #[must_use]
    pub fn conversations(&self) -> u32 {
        u32::try_from(self.chats.len()).unwrap_or(u32::MAX)
    }

    /// The conversation of a chat.
    #[must_use]
    pub fn conversation(&self, chat: &ChatId) -> Option<u32> {
        self.numbers.get(chat).copied()
    }

    /// Users in all.
    #[must_use]
    pub fn users(&self) -> u32 {
        self.users
    }

    /// A user's id.
    #[must_use]
    pub fn name(&self, user: u32) -> String {
        format!("{}{}", self.prefix, u64::from(self.first) + u64::from(user))
    }

    /// The user of an id.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<u32> {
        let number: u32 = name.strip_prefix(&self.prefix)?.parse().ok()?;
        let user = number.checked_sub(self.first)?;
        (user < self.users).then_some(user)
    }

    /// Users below `first` get the first thread for themselves, if there is more than one.
    pub fn keep_apart(&mut self, first: u32) {
        self.apart = if self.threads > 1 { first } else { 0 };
    }

    /// The thread that drives a user; a pair stays together.
    #[must_use]
    pub fn thread(&self, user: u32) -> u32 {
        if user < self.apart {
            return 0;
        }
        if self.apart > 0 {
            return 1 + (user / 2) % (self.threads - 1);
        }
        (user / 2) % self.threads
    }

    /// The chat of a conversation.
    #[must_use]
    pub fn chat(&self, conversation: u32) -> Option<&ChatId> {
        self.chats.get(conversation as usize)
    }

    /// Who is in a conversation.
    #[must_use]
    pub fn members(&self, conversation: u32) -> &[u32] {
        self.members
            .get(conversation as usize)
            .map_or(&[], Vec::as_slice)
    }

    /// The conversation of a user's pair.
    #[must_use]
    pub fn pair(&self, user: u32) -> u32 {
        user / 2
    }

    /// Where a user's next message goes: to a group for this share of them, where the user has one.
    pub fn pick(&self, user: u32, group_share: f64, random: &mut Random) -> u32 {
        if group_share > 0.0 && self.group_size > 0 && random.unit() <= group_share {
            let group = self.first_group + user / self.group_size;
            if (group as usize) < self.chats.len() {
                return group;
            }
        }
        self.pair(user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_and_groups_hold_the_users_in_a_row() {
        let mut plan = Plan::new("u", 10, 2).expect("a plan");
        assert_eq!(plan.members(4), [8, 9]);
        assert_eq!(plan.chat(4).expect("a chat").as_str(), "dm:u8:u9");
        let wished = plan.wished_groups(4);
        assert_eq!(wished, [vec![0, 1, 2, 3], vec![4, 5, 6, 7]]);
        let chats = ["g:a", "g:b"].map(|id| ChatId::new(id).expect("an id"));
        plan.set_groups(4, chats.into_iter().zip(wished).collect());
        let mut random = Random::new(1);
        assert_eq!(plan.pick(5, 1.0, &mut random), 6);
        assert_eq!(plan.members(6), [4, 5, 6, 7]);
        assert_eq!(plan.pick(9, 1.0, &mut random), 4, "no group: the pair");
        assert_eq!(plan.pick(5, 0.0, &mut random), 2);
    }

    #[test]
    fn names_lead_back_to_users_and_pairs_stay_in_a_thread() {
        let plan = Plan::new("u", 10, 2).expect("a plan");
        for user in 0..10 {
            assert_eq!(plan.user(&plan.name(user)), Some(user));
            assert_eq!(plan.thread(user), plan.thread(user ^ 1));
        }
        let mut plan = plan;
        plan.keep_apart(4);
        let threads: Vec<u32> = (0..10).map(|user| plan.thread(user)).collect();
        assert_eq!(threads, [0, 0, 0, 0, 1, 1, 1, 1, 1, 1]);
        assert_eq!(plan.user("u10"), None);
        assert_eq!(plan.user("v1"), None);
    }

    #[test]
    fn users_of_one_process_of_several_count_from_their_first() {
        let plan = Plan::from("u", 6, 4, 1).expect("a plan");
        assert_eq!(plan.chat(1).expect("a chat").as_str(), "dm:u8:u9");
        assert_eq!((plan.name(3), plan.user("u9")), ("u9".to_owned(), Some(3)));
        assert_eq!((plan.user("u5"), plan.user("u10")), (None, None));
    }
}
