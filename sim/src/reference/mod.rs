//! The naive model of ingest: what the source log means, worked out from its start without memory,
//! batches, crashes or a store. Shares no code with what it judges.
//!
//! Groups and their own lanes come first, then the other lanes: what those must hold follows from the group's
//! changes. What ingest has written into them itself is evidence, to be compared, and decides nothing.

mod group;
mod lane;

use crate::cluster::Cluster;
use group::Group;
use hawser_protocol::codes::ErrorCode;
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, Seq, UserId};
use hawser_protocol::limits::{CLOCK_SKEW_MS_MAX, DEDUP_WINDOW_MS};
use hawser_protocol::message::Send;
use hawser_protocol::record::SourceRecord;
use lane::Lane;
use std::collections::{BTreeMap, BTreeSet};

/// A message as it must be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) seq: Seq,
    pub(crate) id: ClientMsgId,
    /// Who must get it.
    pub(crate) readers: BTreeSet<UserId>,
}

/// A message, whichever copy of it and wherever: sender, device, the group without its lanes, id.
type Key = (UserId, DeviceId, ChatId, ClientMsgId);

/// What all of the source log comes to.
#[derive(Debug, Default)]
pub(crate) struct Reference {
    pub(crate) chats: BTreeMap<ChatId, Vec<Expected>>,
    /// Outcome of each client_msg_id: 0 or an error.
    pub(crate) outcomes: BTreeMap<ClientMsgId, u16>,
    /// Messages of which a copy was refused, though another may have been accepted later.
    pub(crate) refused: BTreeSet<ClientMsgId>,
    groups: BTreeMap<ChatId, Group>,
    lanes: BTreeMap<ChatId, Lane>,
    known: BTreeSet<Key>,
    /// Messages that came to a lane which is not theirs, and the one that they belong to.
    astray: BTreeSet<(ChatId, Key)>,
    /// Messages that came to each lane.
    came: BTreeSet<(ChatId, Key)>,
    /// What ingest has told lanes and must not have.
    faults: Vec<String>,
    /// Members that records list, at most.
    listed_max: usize,
}

impl Reference {
    pub(crate) fn of(cluster: &Cluster) -> Self {
        let mut reference = Self {
            listed_max: cluster.listed_max as usize,
            ..Self::default()
        };
        for others in [false, true] {
            for record in cluster.source.iter().flatten() {
                let seq = Seq::new(1, record.offset);
                if let Ok(source) = SourceRecord::decode(&record.value)
                    && others == (source.chat().lane() > 0)
                {
                    reference.take(seq, record.timestamp_ms, &source);
                }
            }
        }
        reference
    }

    /// Every message, with its chat.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&ChatId, &Expected)> {
        let chats = self.chats.iter();
        chats.flat_map(|(chat, messages)| messages.iter().map(move |message| (chat, message)))
    }

    /// Whether all that ingest had to write into other lanes is there, and nothing else.
    pub(crate) fn lanes(&self) -> Result<(), String> {
        if let Some(fault) = self.faults.first() {
            return Err(fault.clone());
        }
        if let Some((lane, key)) = self.astray.difference(&self.came).next() {
            return Err(format!("{} never came to {lane}", key.3));
        }
        for (chat, group) in &self.groups {
            for number in 1..group.lanes() {
                let lane = chat.in_lane(number).ok();
                let lane = lane.and_then(|lane| self.lanes.get(&lane));
                let (heard, all) = (lane.map_or(0, Lane::heard), group.told.len());
                if heard != all {
                    return Err(format!(
                        "lane {number} of {chat} heard {heard} of {all} changes"
                    ));
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, seq: Seq, ts_ms: u64, source: &SourceRecord) {
        match source {
            SourceRecord::Send {
                sender,
                device,
                send,
            } => {
                let base = send.chat.base();
                let key = (sender.clone(), device.clone(), base, send.client_msg_id);
                self.message(seq, ts_ms, key, send);
            }
            SourceRecord::Group {
                actor,
                op_id,
                chat,
                op,
            } => {
                let group = self.groups.entry(chat.clone()).or_default();
                if let Some(readers) = group.change(ts_ms, actor, *op_id, op, self.listed_max) {
                    self.accept(chat, seq, *op_id, readers);
                }
            }
            SourceRecord::Lane {
                op_id, chat, op, ..
            } => {
                let group = self.groups.entry(chat.base()).or_default();
                let lane = self.lanes.entry(chat.clone()).or_default();
                match lane.hear(group, *op_id, op) {
                    Ok(Some(readers)) => self.accept(chat, seq, *op_id, readers),
                    Ok(None) => {}
                    Err(what) => self.faults.push(format!("{chat}: {what}")),
                }
            }
            SourceRecord::Receipt { .. } => {}
        }
    }

    fn message(&mut self, seq: Seq, ts_ms: u64, key: Key, send: &Send) {
        let (id, chat) = (send.client_msg_id, &send.chat);
        self.came.insert((chat.clone(), key.clone()));
        let stamped = id.timestamp_ms();
        let refused = if stamped > ts_ms + CLOCK_SKEW_MS_MAX {
            Some(ErrorCode::BadClientMsgId)
        } else if stamped + DEDUP_WINDOW_MS < ts_ms {
            Some(ErrorCode::TooOld)
        } else if chat.lane() > 0 && self.lane(chat) == 0 {
            // It has not begun.
            Some(ErrorCode::Overloaded)
        } else if let Some(right) = self.elsewhere(chat, &id) {
            self.astray.insert((right, key));
            return;
        } else if !self.readers(chat).contains(&key.0) {
            Some(ErrorCode::NotMember)
        } else {
            None
        };
        if refused.is_some() {
            self.refused.insert(id);
        } else if self.known.insert(key) {
            let readers = self.readers(chat);
            self.accept(chat, seq, id, readers);
        }
        let outcome = refused.map_or(0, ErrorCode::number);
        // The first word counts, unless a later one says that it was accepted.
        let known = self.outcomes.entry(id).or_insert(outcome);
        *known = outcome.min(*known);
    }

    /// The lane that a message belongs to, where it is another than the one that it came to.
    fn elsewhere(&self, chat: &ChatId, id: &ClientMsgId) -> Option<ChatId> {
        let right = self.groups.get(&chat.base())?.lane_of(id);
        (right != chat.lane()).then(|| chat.in_lane(right).ok())?
    }

    /// Changes of the group that this lane has heard of.
    fn lane(&self, chat: &ChatId) -> usize {
        self.lanes.get(chat).map_or(0, Lane::heard)
    }

    fn readers(&self, chat: &ChatId) -> BTreeSet<UserId> {
        if let Some((a, b)) = chat.dm_users() {
            return BTreeSet::from([a, b]);
        }
        let Some(group) = self.groups.get(&chat.base()) else {
            return BTreeSet::new();
        };
        match chat.lane() {
            0 => group.members.clone(),
            _ => group.members_after(self.lane(chat)),
        }
    }

    fn accept(&mut self, chat: &ChatId, seq: Seq, id: ClientMsgId, readers: BTreeSet<UserId>) {
        let all = self.chats.entry(chat.clone()).or_default();
        all.push(Expected { seq, id, readers });
    }
}
