//! What has been judged already, in front of the store: heads, groups, and the dedup window.
//! It also holds what the records of an unfinished batch came to, which no store shows yet.

use ahash::AHashMap;
use hawser_engines::directory::Group;
use hawser_engines::store::{ChatHead, ChatInfo, DedupRow, Membership, Store, StoreError};
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, Seq, UserId};
use std::collections::BTreeMap;

/// Heads kept between batches; each costs about 100 bytes. Beyond, all are forgotten and read again.
const HEADS_MAX: usize = 65_536;
/// Members of groups kept between batches; each costs about 250 bytes.
const MEMBERS_MAX: usize = 100_000;
/// Client message ids of one half of the dedup window; each costs about 200 bytes. When the newer
/// half is full it becomes the older one.
const RECENT_MAX: usize = 32_768;

/// (sender, device, chat, client_msg_id).
pub(super) type DedupKey = (UserId, DeviceId, ChatId, ClientMsgId);

/// A group as its last judged change left it.
#[derive(Debug, Clone, Default)]
pub(super) struct GroupState {
    /// `None`: never created.
    pub(super) info: Option<ChatInfo>,
    /// Everyone who is or was a member.
    pub(super) members: BTreeMap<UserId, Membership>,
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

/// The memory of one [`super::Core`].
#[derive(Debug, Default)]
pub(super) struct Memory {
    heads: AHashMap<ChatId, ChatHead>,
    groups: AHashMap<ChatId, GroupState>,
    /// At least the number of groups and members in `groups`.
    loaded: usize,
    recent: AHashMap<DedupKey, DedupRow>,
    older: AHashMap<DedupKey, DedupRow>,
}

impl Memory {
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

    /// What a client_msg_id came to, if remembered.
    pub(super) fn dedup(
        &self,
        key: &DedupKey,
        store: &dyn Store,
    ) -> Result<Option<DedupRow>, StoreError> {
        match self.recent.get(key).or_else(|| self.older.get(key)) {
            Some(row) => Ok(Some(row.clone())),
            None => store.dedup(&key.0, &key.1, &key.2, &key.3),
        }
    }

    /// The first outcome of a client_msg_id.
    pub(super) fn remember(&mut self, key: DedupKey, row: DedupRow) {
        self.recent.insert(key, row);
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
                let members = match info {
                    Some(_) => store.members(chat)?,
                    None => Vec::new(),
                };
                self.loaded += members.len() + 1;
                let members = members.into_iter().map(|m| (m.user.clone(), m)).collect();
                Ok(place.insert(GroupState { info, members }))
            }
        }
    }

    /// So many rows of members were touched, new ones perhaps.
    pub(super) fn touched(&mut self, members: usize) {
        self.loaded += members;
    }

    /// What was judged is in the store: bounds what is kept.
    pub(super) fn committed(&mut self) {
        if self.heads.len() > HEADS_MAX {
            self.heads.clear();
        }
        if self.loaded > MEMBERS_MAX {
            self.loaded = 0;
            self.groups.clear();
        }
        if self.recent.len() > RECENT_MAX {
            self.older = std::mem::take(&mut self.recent);
        }
    }

    /// What was judged may not be in the store: forgets all of it.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}
