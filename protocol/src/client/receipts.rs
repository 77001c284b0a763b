//! Receipts of ours: coalesced per chat, kept until the server confirms the read watermark.

use crate::ids::{ChatId, Seq};
use crate::pb;
use std::collections::BTreeMap;

/// Receipts of a chat within this time become one, milliseconds.
const COALESCE_MS: u64 = 150;

#[derive(Debug, Clone, Copy)]
struct Entry {
    delivered: Seq,
    read: Seq,
    /// Left on this connection as it stands.
    sent: bool,
}

/// What we have delivered and read, as far as the server may not know it. One entry per chat.
#[derive(Debug)]
pub(super) struct Receipts {
    chats: BTreeMap<ChatId, Entry>,
    due_ms: Option<u64>,
}

impl Receipts {
    pub(super) fn new(unconfirmed_reads: BTreeMap<ChatId, Seq>) -> Self {
        let entry = |(chat, read)| {
            let delivered = Seq::NONE;
            let sent = false;
            (
                chat,
                Entry {
                    delivered,
                    read,
                    sent,
                },
            )
        };
        Self {
            chats: unconfirmed_reads.into_iter().map(entry).collect(),
            due_ms: None,
        }
    }

    /// Raises what is to be told; `Seq::NONE` leaves a watermark as it is. Whether it rose.
    pub(super) fn note(&mut self, chat: &ChatId, delivered: Seq, read: Seq, now_ms: u64) -> bool {
        let entry = self.chats.entry(chat.clone()).or_insert(Entry {
            delivered: Seq::NONE,
            read: Seq::NONE,
            sent: true,
        });
        if delivered <= entry.delivered && read <= entry.read {
            return false;
        }
        entry.delivered = entry.delivered.max(delivered);
        entry.read = entry.read.max(read);
        entry.sent = false;
        self.due_ms.get_or_insert(now_ms + COALESCE_MS);
        true
    }

    pub(super) fn take_due(&mut self, now_ms: u64) -> Vec<pb::Receipt> {
        if self.due_ms.is_none_or(|due| now_ms < due) {
            return Vec::new();
        }
        self.due_ms = None;
        let mut due = Vec::new();
        for (chat, entry) in self.chats.iter_mut().filter(|(_, entry)| !entry.sent) {
            entry.sent = true;
            due.push(pb::Receipt {
                chat: chat.to_string(),
                delivered_seq: entry.delivered.0,
                read_seq: entry.read.0,
            });
        }
        due
    }

    pub(super) fn due_ms(&self) -> Option<u64> {
        self.due_ms
    }

    /// The server says how far we have read.
    pub(super) fn confirmed(&mut self, chat: &ChatId, delivered: Seq, read: Seq) {
        if let Some(entry) = self.chats.get(chat)
            && read >= entry.read
            && delivered.max(read) >= entry.delivered
        {
            self.chats.remove(chat);
        }
    }

    pub(super) fn disconnected(&mut self) {
        for entry in self.chats.values_mut() {
            entry.sent = false;
        }
    }

    /// A session is live: what was not confirmed goes (again).
    pub(super) fn again(&mut self, now_ms: u64) {
        if !self.chats.is_empty() {
            self.due_ms.get_or_insert(now_ms);
        }
    }
}
