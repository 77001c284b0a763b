//! What has been judged already, in front of the store: heads, groups, and the dedup window.
//! It also holds what the records that are still on their way came to, which no store shows yet.

use super::concern::Concern;
use super::window::{Recollection, Said, Window};
use ahash::AHashMap;
use hawser_engines::directory::{Group, GroupDelta, GroupNews};
use hawser_engines::store::{
    Answer, Ask, ChatHead, ChatInfo, DedupRow, Headcount, Membership, Store, StoreError,
};
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, Seq, UserId};
use std::collections::{BTreeMap, BTreeSet};

/// How much one memory keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryBounds {
    /// Heads of chats; each costs about 100 bytes. Beyond, all that are stored are forgotten and read again.
    pub heads_max: usize,
    /// Members of groups; each costs about 250 bytes. As many authors and receipts of late, about 100 bytes each.
    pub members_max: usize,
    /// Client message ids of one half of the dedup window; each costs about 100 bytes. When the newer half is full it
    /// becomes the older one. At least as many as there are records on their way at a time.
    pub ids_max: usize,
}

impl Default for MemoryBounds {
    /// For one memory of all partitions: some 40 MiB.
    fn default() -> Self {
        Self {
            heads_max: 65_536,
            members_max: 100_000,
            ids_max: 32_768,
        }
    }
}

/// (sender, device, chat, client_msg_id).
pub(super) type DedupKey = (UserId, DeviceId, ChatId, ClientMsgId);

/// A group as its last judged change left it.
#[derive(Debug, Clone, Default)]
pub(super) struct GroupState {
    /// `None`: never created.
    pub(super) info: Option<ChatInfo>,
    /// Everyone who is or was a member; where it is not whole, those who were asked for, and without intervals who
    /// never was.
    pub(super) members: BTreeMap<UserId, Membership>,
    /// An edge-sharded group is read without its members.
    pub(super) partial: bool,
}

impl GroupState {
    /// Members as of `seq`.
    pub(super) fn at(&self, seq: Seq) -> impl Iterator<Item = &Membership> {
        self.members.values().filter(move |m| m.covers(seq))
    }

    /// Whether a member as of `seq`.
    pub(super) fn has(&self, user: &UserId, seq: Seq) -> bool {
        self.members.get(user).is_some_and(|m| m.covers(seq))
    }

    /// Undoes what the change at `seq`, and nothing after it, has left: who is in it, and that it is there. Who is
    /// admin is not undone; no decision is made by it twice.
    pub(super) fn before(&mut self, seq: Seq) {
        for member in self.members.values_mut() {
            member.intervals.retain(|interval| interval.joined < seq);
            for interval in &mut member.intervals {
                if interval.left.is_some_and(|left| left >= seq) {
                    (interval.left, interval.left_ordinal) = (None, None);
                }
            }
        }
        self.members
            .retain(|_, member| !member.intervals.is_empty());
        if let Some(info) = &mut self.info {
            if info.relaxed_seq >= seq {
                (info.lanes, info.lanes_since_ms, info.relaxed_seq) = (0, 0, Seq::NONE);
            }
            if info.sharded.is_some_and(|sharded| sharded.seq >= seq) {
                info.sharded = None;
            }
            if info.created_seq >= seq {
                self.info = None;
            }
        }
    }

    /// Whether records about `seq` list no one.
    pub(super) fn sharded(&self, seq: Seq) -> bool {
        let sharded = self.info.as_ref().and_then(|info| info.sharded);
        sharded.is_some_and(|sharded| sharded.seq <= seq)
    }

    /// Members and admins before the change at `seq`, and nothing after it.
    pub(super) fn headcount(&self, seq: Seq) -> Headcount {
        let sharded = self
            .info
            .as_ref()
            .and_then(|info| Some((info, info.sharded?)));
        if let Some((info, sharded)) = sharded.filter(|(_, sharded)| sharded.seq < seq) {
            return match info.write_seq == seq {
                true => sharded.before,
                false => sharded.count,
            };
        }
        Headcount {
            members: number(self.at(seq).count()),
            admins: number(self.at(seq).filter(|m| m.admin).count()),
        }
    }

    /// What a change comes to for the directory, as of now.
    pub(super) fn news(
        &self,
        chat: &ChatId,
        seq: Seq,
        touched: &BTreeSet<UserId>,
    ) -> Option<(GroupNews, Seq)> {
        let info = self.info.as_ref()?;
        // The group as it became one is shown whole.
        let touched_only = info.sharded.is_some_and(|sharded| sharded.seq < seq);
        if !touched_only {
            return self
                .view(chat)
                .map(|(group, seq)| (GroupNews::Whole(group), seq));
        }
        let all = || touched.iter().filter_map(|user| self.members.get(user));
        let delta = GroupDelta {
            chat: chat.to_string(),
            name: info.name.clone(),
            picture: info.picture.clone(),
            members: all()
                .filter(|m| m.current())
                .map(|m| (m.user.to_string(), m.admin))
                .collect(),
            left: all()
                .filter(|m| !m.current())
                .map(|m| m.user.to_string())
                .collect(),
        };
        // A replay tells of each change once more, and of none of the later ones with it.
        Some((GroupNews::Touched(delta), seq))
    }

    /// As the directory shows it.
    pub(super) fn view(&self, chat: &ChatId) -> Option<(Group, Seq)> {
        let info = self.info.as_ref()?;
        let now = || self.members.values().filter(|m| m.current());
        let group = Group {
            chat: chat.to_string(),
            name: info.name.clone(),
            picture: info.picture.clone(),
            members: now().map(|m| m.user.to_string()).collect(),
            admins: now()
                .filter(|m| m.admin)
                .map(|m| m.user.to_string())
                .collect(),
            write_seq: info.write_seq.0,
        };
        Some((group, info.write_seq))
    }
}

/// As a number of members.
pub(super) fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Rows of those users who are not known yet; one without intervals for who never was a member.
fn some_members(
    group: &GroupState,
    chat: &ChatId,
    users: &[&UserId],
    store: &dyn Store,
) -> Result<Vec<Membership>, StoreError> {
    let unknown = users.iter().filter(|u| !group.members.contains_key(**u));
    let unknown: BTreeSet<&UserId> = unknown.copied().collect();
    if unknown.is_empty() {
        return Ok(Vec::new());
    }
    let asks = unknown
        .iter()
        .map(|u| Ask::Member(chat.clone(), (*u).clone()));
    let answers = store.ask(&asks.collect::<Vec<_>>())?;
    let found = unknown.into_iter().zip(answers).map(|(user, answer)| {
        let known = match answer {
            Answer::Member(known) => known,
            _ => None,
        };
        known.unwrap_or_else(|| Membership {
            user: user.clone(),
            intervals: Vec::new(),
            admin: false,
        })
    });
    Ok(found.collect())
}

/// The memory of one [`super::Core`].
#[derive(Debug)]
pub(super) struct Memory {
    bounds: MemoryBounds,
    heads: AHashMap<ChatId, ChatHead>,
    groups: AHashMap<ChatId, GroupState>,
    /// At least the number of groups and members in `groups`.
    loaded: usize,
    window: Window,
    concern: Concern,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new(MemoryBounds::default())
    }
}

impl Memory {
    pub(super) fn new(bounds: MemoryBounds) -> Self {
        Self {
            bounds,
            heads: AHashMap::new(),
            groups: AHashMap::new(),
            loaded: 0,
            window: Window::new(bounds.ids_max),
            concern: Concern::default(),
        }
    }

    /// The last accepted message before `seq`, which grows from call to call for one chat.
    pub(super) fn head_before(
        &mut self,
        chat: &ChatId,
        seq: Seq,
        store: &dyn Store,
    ) -> Result<ChatHead, StoreError> {
        if let Some(head) = self.heads.get(chat).filter(|head| head.seq < seq) {
            return Ok(*head);
        }
        // Retention removes rows, never the head: where the head is before us, it is the answer.
        let head = store.head(chat)?;
        let head = if head.seq < seq {
            head
        } else {
            store.head_before(chat, seq)?
        };
        self.heads.insert(chat.clone(), head);
        Ok(head)
    }

    /// A message was accepted.
    pub(super) fn accepted(&mut self, chat: &ChatId, head: ChatHead) {
        self.heads.insert(chat.clone(), head);
    }

    /// Whom receipts concern.
    pub(super) fn concern(&mut self) -> &mut Concern {
        &mut self.concern
    }

    /// What a client_msg_id came to, if remembered.
    pub(super) fn dedup(
        &self,
        key: &DedupKey,
        store: &dyn Store,
    ) -> Result<Option<DedupRow>, StoreError> {
        match self.window.look(key) {
            Said::Known(row) => Ok(Some(row)),
            Said::New => Ok(None),
            Said::Ask => store.dedup(&key.0, &key.1, &key.2, &key.3),
        }
    }

    /// The first outcome of a client_msg_id.
    pub(super) fn remember(&mut self, key: &DedupKey, row: DedupRow) {
        self.window.remember(key, row);
    }

    /// Records before all that it knows.
    pub(super) fn recall(&mut self, found: &Recollection) {
        self.window.recall(found);
    }

    /// Client message ids that it may still recall.
    pub(super) fn room(&self) -> usize {
        self.window.room()
    }

    /// What a look at this head would ask the store for.
    pub(super) fn ask_head(&self, chat: &ChatId) -> Option<Ask> {
        (!self.heads.contains_key(chat)).then(|| Ask::Head(chat.clone()))
    }

    /// What a look at this group would ask the store for.
    pub(super) fn ask_group(&self, chat: &ChatId) -> Option<Ask> {
        let asks = chat.is_group() && !self.groups.contains_key(chat);
        asks.then(|| Ask::Group(chat.clone()))
    }

    /// What a look at this id would ask the store for.
    pub(super) fn ask_dedup(&self, key: &DedupKey) -> Option<Ask> {
        let asks = self.window.look(key) == Said::Ask;
        asks.then(|| Ask::Dedup(key.0.clone(), key.1.clone(), key.2.clone(), key.3))
    }

    /// A group, whole.
    pub(super) fn group(
        &mut self,
        chat: &ChatId,
        store: &dyn Store,
    ) -> Result<&mut GroupState, StoreError> {
        use std::collections::hash_map::Entry;
        match self.groups.entry(chat.clone()) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(place) => {
                let info = store.chat(chat)?;
                let partial = info.as_ref().is_some_and(|info| info.sharded.is_some());
                let members = match info {
                    Some(_) if !partial => store.members(chat)?,
                    _ => Vec::new(),
                };
                self.loaded += members.len() + 1;
                let members = members.into_iter().map(|m| (m.user.clone(), m)).collect();
                Ok(place.insert(GroupState {
                    info,
                    members,
                    partial,
                }))
            }
        }
    }

    /// A group for a record at `seq`, and in it at least these of its members; all of them where records at `seq` list
    /// members, or where it became edge-sharded with this very change.
    pub(super) fn group_with(
        &mut self,
        chat: &ChatId,
        users: &[&UserId],
        seq: Seq,
        store: &dyn Store,
    ) -> Result<&mut GroupState, StoreError> {
        let group = self.group(chat, store)?;
        let since = group.info.as_ref().and_then(|info| info.sharded);
        let found = match since.filter(|_| group.partial) {
            None => Vec::new(),
            Some(sharded) if seq <= sharded.seq => {
                let members = store.members(chat)?;
                group.partial = false;
                members
            }
            Some(_) => some_members(group, chat, users, store)?,
        };
        self.loaded += found.len();
        let group = self.group(chat, store)?;
        for member in found {
            // What is known is at least as new as what is stored.
            group.members.entry(member.user.clone()).or_insert(member);
        }
        Ok(group)
    }

    /// The store has the change at `seq`; another ingest may have written it after this one read the group.
    pub(super) fn refresh(&mut self, chat: &ChatId, seq: Seq) {
        let known = self.groups.get(chat).map(|group| group.info.as_ref());
        if known.is_some_and(|info| info.is_none_or(|info| info.write_seq < seq)) {
            self.groups.remove(chat);
        }
    }

    /// So many rows of members were touched, new ones perhaps.
    pub(super) fn touched(&mut self, members: usize) {
        self.loaded += members;
    }

    /// What was judged before `seq` is in the store: bounds what is kept. What is not there yet stays.
    pub(super) fn settled(&mut self, seq: Seq) {
        if self.heads.len() > self.bounds.heads_max {
            self.heads.retain(|_, head| head.seq >= seq);
        }
        if self.loaded > self.bounds.members_max {
            self.groups.retain(|_, group| {
                let last = group.info.as_ref().map(|info| info.write_seq);
                last.is_some_and(|last| last >= seq)
            });
            let left = self.groups.values().map(|group| group.members.len() + 1);
            self.loaded = left.sum();
        }
        self.window.settled(seq);
        self.concern.bound(self.bounds.members_max);
    }

    /// What was judged may not be in the store: forgets all of it.
    pub(super) fn forget(&mut self) {
        *self = Self::new(self.bounds);
    }
}
