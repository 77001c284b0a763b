//! The naive model of ingest: what the source log means, worked out from its start without memory,
//! batches, crashes or a store. Shares no code with what it judges.

use crate::cluster::Cluster;
use hawser_protocol::codes::ErrorCode;
use hawser_protocol::ids::{ChatId, ClientMsgId, Seq, UserId};
use hawser_protocol::limits::{CLOCK_SKEW_MS_MAX, DEDUP_WINDOW_MS};
use hawser_protocol::record::{GroupOp, SourceRecord};
use std::collections::{BTreeMap, BTreeSet};

/// A message as it must be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) seq: Seq,
    pub(crate) id: ClientMsgId,
    /// Who must get it.
    pub(crate) readers: BTreeSet<UserId>,
}

/// What all of the source log comes to.
#[derive(Debug, Default)]
pub(crate) struct Reference {
    pub(crate) chats: BTreeMap<ChatId, Vec<Expected>>,
    /// Outcome of each client_msg_id: 0 or an error.
    pub(crate) outcomes: BTreeMap<ClientMsgId, u16>,
    members: BTreeMap<ChatId, BTreeSet<UserId>>,
    admins: BTreeMap<ChatId, BTreeSet<UserId>>,
    known: BTreeSet<(String, String, ChatId, ClientMsgId)>,
}

impl Reference {
    pub(crate) fn of(cluster: &Cluster) -> Self {
        let mut reference = Self::default();
        for log in &cluster.source {
            for record in log {
                let seq = Seq::new(1, record.offset);
                if let Ok(source) = SourceRecord::decode(&record.value) {
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

    fn take(&mut self, seq: Seq, ts_ms: u64, source: &SourceRecord) {
        match source {
            SourceRecord::Send {
                sender,
                device,
                send,
            } => {
                let (id, chat) = (send.client_msg_id, &send.chat);
                let stamped = id.timestamp_ms();
                let refused = if stamped > ts_ms + CLOCK_SKEW_MS_MAX {
                    Some(ErrorCode::BadClientMsgId)
                } else if stamped + DEDUP_WINDOW_MS < ts_ms {
                    Some(ErrorCode::TooOld)
                } else if !self.readers(chat).contains(sender) {
                    Some(ErrorCode::NotMember)
                } else {
                    None
                };
                let key = (sender.to_string(), device.to_string(), chat.clone(), id);
                if refused.is_none() && self.known.insert(key) {
                    let readers = self.readers(chat);
                    self.accept(chat, seq, id, readers);
                }
                let outcome = refused.map_or(0, ErrorCode::number);
                // The first word counts, unless a later one says that it was accepted.
                let known = self.outcomes.entry(id).or_insert(outcome);
                *known = outcome.min(*known);
            }
            SourceRecord::Group {
                actor,
                op_id,
                chat,
                op,
            } => self.change(seq, actor, *op_id, chat, op),
            // Ingest writes those of lanes; no group is set to relaxed order here.
            SourceRecord::Receipt { .. } | SourceRecord::Lane { .. } => {}
        }
    }

    fn readers(&self, chat: &ChatId) -> BTreeSet<UserId> {
        match chat.dm_users() {
            Some((a, b)) => BTreeSet::from([a, b]),
            None => self.members.get(chat).cloned().unwrap_or_default(),
        }
    }

    fn accept(&mut self, chat: &ChatId, seq: Seq, id: ClientMsgId, readers: BTreeSet<UserId>) {
        let all = self.chats.entry(chat.clone()).or_default();
        all.push(Expected { seq, id, readers });
    }

    fn change(&mut self, seq: Seq, actor: &UserId, id: ClientMsgId, chat: &ChatId, op: &GroupOp) {
        let before = self.readers(chat);
        let admins = self.admins.entry(chat.clone()).or_default();
        let members = self.members.entry(chat.clone()).or_default();
        match op {
            GroupOp::Create { members: first, .. } if before.is_empty() => {
                members.extend(first.iter().cloned());
                members.insert(actor.clone());
                admins.insert(actor.clone());
            }
            GroupOp::Add { users } if admins.contains(actor) => {
                if users.iter().all(|user| members.contains(user)) {
                    return;
                }
                members.extend(users.iter().cloned());
            }
            GroupOp::Remove { users } if admins.contains(actor) => {
                if !users.iter().any(|user| members.contains(user)) {
                    return;
                }
                members.retain(|user| !users.contains(user));
            }
            // The storm makes no other changes.
            _ => return,
        }
        let after = self.readers(chat);
        self.accept(chat, seq, id, before.union(&after).cloned().collect());
    }
}
