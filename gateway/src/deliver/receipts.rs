//! Receipts on their way to the log: coalesced per user and chat, because a watermark says all
//! that the ones before it said.

use hawser_protocol::ids::{ChatId, DeviceId, Seq, UserId};
use hawser_protocol::record::SourceRecord;
use indexmap::IndexMap;

/// Watermarks that wait; at this many a flush is due at once. About 200 bytes each.
pub const PENDING_MAX: usize = 16_384;

/// Watermarks of one core's users that the log has not been given.
#[derive(Default)]
pub struct PendingReceipts {
    pending: IndexMap<(UserId, ChatId), Watermarks, ahash::RandomState>,
}

struct Watermarks {
    device: DeviceId,
    delivered: Seq,
    read: Seq,
}

impl PendingReceipts {
    /// Merges by maximum; `Seq::NONE` leaves a watermark as it is. The last device is named.
    pub fn note(
        &mut self,
        user: &UserId,
        device: &DeviceId,
        chat: &ChatId,
        delivered: Seq,
        read: Seq,
    ) {
        let entry = self.pending.entry((user.clone(), chat.clone()));
        let marks = entry.or_insert_with(|| Watermarks {
            device: device.clone(),
            delivered: Seq::NONE,
            read: Seq::NONE,
        });
        marks.device = device.clone();
        marks.delivered = marks.delivered.max(delivered);
        marks.read = marks.read.max(read);
    }

    /// Whether so many wait that they should go now.
    #[must_use]
    pub fn full(&self) -> bool {
        self.pending.len() >= PENDING_MAX
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Takes one out, as the log wants it.
    pub fn pop(&mut self) -> Option<SourceRecord> {
        let ((user, chat), marks) = self.pending.swap_remove_index(0)?;
        Some(SourceRecord::Receipt {
            user,
            device: marks.device,
            chat,
            delivered: marks.delivered,
            read: marks.read,
        })
    }

    /// Puts back what the log refused; merges with what came meanwhile.
    pub fn put_back(&mut self, record: &SourceRecord) {
        if let SourceRecord::Receipt {
            user,
            device,
            chat,
            delivered,
            read,
        } = record
        {
            self.note(user, device, chat, *delivered, *read);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_watermarks_of_a_chat_become_one_and_survive_a_refusal() {
        let alice = UserId::new("alice").expect("an id");
        let bob = UserId::new("bob").expect("an id");
        let device = DeviceId::new("d").expect("an id");
        let chat = ChatId::dm(&alice, &bob);
        let mut pending = PendingReceipts::default();
        pending.note(&alice, &device, &chat, Seq(5), Seq::NONE);
        pending.note(&alice, &device, &chat, Seq(9), Seq::NONE);
        pending.note(&alice, &device, &chat, Seq(7), Seq(3));
        pending.note(&bob, &device, &chat, Seq(1), Seq::NONE);
        assert_eq!(pending.len(), 2);
        let mut out = Vec::new();
        while let Some(record) = pending.pop() {
            out.push(record);
        }
        let expected = SourceRecord::Receipt {
            user: alice.clone(),
            device: device.clone(),
            chat: chat.clone(),
            delivered: Seq(9),
            read: Seq(3),
        };
        assert!(out.contains(&expected), "{out:?}");
        pending.note(&alice, &device, &chat, Seq(11), Seq::NONE);
        pending.put_back(&expected);
        let merged = SourceRecord::Receipt {
            user: alice,
            device,
            chat,
            delivered: Seq(11),
            read: Seq(3),
        };
        assert_eq!(pending.pop(), Some(merged));
        assert!(pending.is_empty());
    }
}
