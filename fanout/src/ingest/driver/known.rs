//! What the store answered for a batch of records, in front of the store itself.

use crate::ingest::Core;
use ahash::{AHashMap, AHashSet};
use hawser_engines::log::Record;
use hawser_engines::store::{
    Answer, Ask, ChatHead, ChatInfo, DedupRow, Membership, Page, ReceiptRow, Store, StoreError,
    StoreOp, StoredMessage,
};
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, Seq, UserId};

type Group = Option<(ChatInfo, Vec<Membership>)>;

/// Answers, each good until the batch that it was asked for is judged: nothing of what was asked for was on its way.
#[derive(Debug, Default)]
pub(super) struct Known {
    heads: AHashMap<ChatId, ChatHead>,
    before: AHashMap<(ChatId, Seq), ChatHead>,
    groups: AHashMap<ChatId, Group>,
    dedups: AHashMap<(UserId, DeviceId, ChatId, ClientMsgId), Option<DedupRow>>,
}

/// What a batch needs to know.
#[derive(Debug, Default)]
pub(super) struct Questions {
    asks: Vec<Ask>,
    /// The first record of each chat whose head is asked for.
    firsts: AHashMap<ChatId, Seq>,
}

impl Questions {
    /// Of these records, as a core would ask; nothing twice.
    pub(super) fn of<'r>(
        core: &Core,
        generation: u16,
        records: impl Iterator<Item = &'r Record>,
    ) -> Self {
        let mut all = Self::default();
        let (mut asked, mut groups, mut dedups) = (Vec::new(), AHashSet::new(), AHashSet::new());
        for record in records {
            core.asks(record, &mut asked);
            let seq = Seq::new(generation, record.offset.min(Seq::OFFSET_MAX));
            for ask in asked.drain(..) {
                let fresh = match &ask {
                    Ask::Head(chat) => match all.firsts.contains_key(chat) {
                        true => false,
                        false => all.firsts.insert(chat.clone(), seq).is_none(),
                    },
                    Ask::HeadBefore(..) | Ask::Member(..) => true,
                    Ask::Group(chat) => groups.insert(chat.clone()),
                    Ask::Dedup(user, device, chat, id) => {
                        dedups.insert((user.clone(), device.clone(), chat.clone(), *id))
                    }
                };
                if fresh {
                    all.asks.push(ask);
                }
            }
        }
        all
    }

    pub(super) fn is_empty(&self) -> bool {
        self.asks.is_empty()
    }

    /// Blocks for the answers: one round trip, and a second where a head shows that records are seen once more.
    pub(super) fn ask(self, store: &dyn Store) -> Result<Known, StoreError> {
        let mut known = Known::default();
        let answers = store.ask(&self.asks)?;
        known.take(self.asks, answers);
        let replayed = self.firsts.into_iter().filter(|(chat, first)| {
            let head = known.heads.get(chat);
            head.is_some_and(|head| head.seq >= *first)
        });
        let again: Vec<Ask> = replayed.map(|(c, seq)| Ask::HeadBefore(c, seq)).collect();
        if !again.is_empty() {
            let answers = store.ask(&again)?;
            known.take(again, answers);
        }
        Ok(known)
    }
}

impl Known {
    fn take(&mut self, asks: Vec<Ask>, answers: Vec<Answer>) {
        for (ask, answer) in asks.into_iter().zip(answers) {
            match (ask, answer) {
                (Ask::Head(chat), Answer::Head(head)) => {
                    self.heads.insert(chat, head);
                }
                (Ask::HeadBefore(chat, seq), Answer::Head(head)) => {
                    self.before.insert((chat, seq), head);
                }
                (Ask::Group(chat), Answer::Group(group)) => {
                    self.groups.insert(chat, group);
                }
                (Ask::Dedup(user, device, chat, id), Answer::Dedup(row)) => {
                    self.dedups.insert((user, device, chat, id), row);
                }
                // An answer of another kind is none: the store is asked when it is needed.
                _ => {}
            }
        }
    }
}

/// The store behind what is known.
pub(super) struct Prefetched<'a> {
    pub(super) known: &'a Known,
    pub(super) store: &'a dyn Store,
}

impl Store for Prefetched<'_> {
    fn write(&self, ops: &[StoreOp]) -> Result<(), StoreError> {
        self.store.write(ops)
    }
    fn ask(&self, asks: &[Ask]) -> Result<Vec<Answer>, StoreError> {
        self.store.ask(asks)
    }
    fn head(&self, chat: &ChatId) -> Result<ChatHead, StoreError> {
        match self.known.heads.get(chat) {
            Some(head) => Ok(*head),
            None => self.store.head(chat),
        }
    }
    fn head_before(&self, chat: &ChatId, seq: Seq) -> Result<ChatHead, StoreError> {
        match self.known.before.get(&(chat.clone(), seq)) {
            Some(head) => Ok(*head),
            None => self.store.head_before(chat, seq),
        }
    }
    fn dedup(
        &self,
        user: &UserId,
        device: &DeviceId,
        chat: &ChatId,
        id: &ClientMsgId,
    ) -> Result<Option<DedupRow>, StoreError> {
        let key = (user.clone(), device.clone(), chat.clone(), *id);
        match self.known.dedups.get(&key) {
            Some(row) => Ok(row.clone()),
            None => self.store.dedup(user, device, chat, id),
        }
    }
    fn messages(&self, chat: &ChatId, page: Page) -> Result<Vec<StoredMessage>, StoreError> {
        self.store.messages(chat, page)
    }
    fn truncated_before(&self, chat: &ChatId) -> Result<u64, StoreError> {
        self.store.truncated_before(chat)
    }
    fn chat(&self, chat: &ChatId) -> Result<Option<ChatInfo>, StoreError> {
        match self.known.groups.get(chat) {
            Some(group) => Ok(group.as_ref().map(|(info, _)| info.clone())),
            None => self.store.chat(chat),
        }
    }
    fn members(&self, chat: &ChatId) -> Result<Vec<Membership>, StoreError> {
        match self.known.groups.get(chat) {
            Some(group) => Ok(group.as_ref().map_or_else(Vec::new, |(_, all)| all.clone())),
            None => self.store.members(chat),
        }
    }
    fn member(&self, chat: &ChatId, user: &UserId) -> Result<Option<Membership>, StoreError> {
        self.store.member(chat, user)
    }
    fn chats_of(
        &self,
        user: &UserId,
        after: Option<&ChatId>,
        limit: usize,
    ) -> Result<Vec<ChatId>, StoreError> {
        self.store.chats_of(user, after, limit)
    }
    fn receipts(&self, chat: &ChatId) -> Result<Vec<ReceiptRow>, StoreError> {
        self.store.receipts(chat)
    }
}
