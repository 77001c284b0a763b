//! The list of conversations. A group in relaxed order is one item, whose lanes the store keeps as chats of their own.

use hawser_client::conversation::is_shown;
use hawser_client::store::{Chat, Store, StoreError, UNREAD_COUNT_MAX};
use hawser_protocol::ids::{ChatId, UserId};
use hawser_protocol::message::MessageRecord;
use std::collections::BTreeMap;

/// A row of the list of conversations.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) id: ChatId,
    /// Of a group with lanes: the group's own, with the time of the newest message of any.
    pub(crate) row: Chat,
    /// In all lanes.
    pub(crate) unread: usize,
    /// Of all lanes.
    pub(crate) newest: Option<MessageRecord>,
    /// By number; a chat without lanes has number 0.
    lanes: BTreeMap<u8, Lane>,
}

#[derive(Debug, Clone)]
struct Lane {
    row: Chat,
    unread: usize,
    newest: Option<MessageRecord>,
}

impl Item {
    pub(crate) fn new(chat: &ChatId) -> Self {
        Self {
            id: chat.base(),
            row: Chat::default(),
            unread: 0,
            newest: None,
            lanes: BTreeMap::new(),
        }
    }

    /// What the store says of this chat, or of one lane of it.
    pub(crate) fn put(
        &mut self,
        store: &Store,
        me: &UserId,
        (chat, row): (&ChatId, Chat),
    ) -> Result<(), StoreError> {
        let newest = store.messages(chat, u64::MAX, 1)?.pop();
        let lane = Lane {
            unread: store.unread(chat, me)?,
            newest: newest.filter(is_shown),
            row,
        };
        self.lanes.insert(chat.lane(), lane);
        self.sum();
        Ok(())
    }

    /// Read up to a message of a chat, or of one lane of it; whether that is news.
    pub(crate) fn read(&mut self, chat: &ChatId, seq: u64) -> bool {
        let Some(lane) = self.lanes.get_mut(&chat.lane()) else {
            return false;
        };
        lane.unread = 0;
        let rises = seq > lane.row.read_seq;
        lane.row.read_seq = lane.row.read_seq.max(seq);
        self.sum();
        rises
    }

    fn sum(&mut self) {
        let lanes = self.lanes.values();
        let unread = lanes.clone().map(|lane| lane.unread).sum::<usize>();
        self.unread = unread.min(UNREAD_COUNT_MAX);
        // The last of the greatest: the one that the conversation shows last.
        let newest = lanes.clone().filter_map(|lane| lane.newest.as_ref());
        self.newest = newest.max_by_key(|record| record.stored_ts_ms).cloned();
        self.row = self
            .lanes
            .get(&0)
            .map(|lane| lane.row.clone())
            .unwrap_or_default();
        self.row.last_ts_ms = lanes.map(|lane| lane.row.last_ts_ms).max().unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use hawser_protocol::client::Batch;
    use hawser_protocol::ids::{ClientMsgId, DeviceId, MessageId, Seq};
    use hawser_protocol::message::MessageType;

    fn record(chat: &ChatId, ordinal: u64, stored_ts_ms: u64, told: bool) -> MessageRecord {
        MessageRecord {
            seq: Seq(ordinal * 10),
            prev_seq: Seq((ordinal - 1) * 10),
            ordinal,
            message_id: MessageId([1; 16]),
            client_msg_id: ClientMsgId([2; 16]),
            send_ts_ms: 1,
            stored_ts_ms,
            message_type: match told {
                true => MessageType::MEMBERSHIP,
                false => MessageType::TEXT,
            },
            sender: UserId::new("bob").expect("id"),
            sender_device: DeviceId::new("d").expect("id"),
            chat: chat.clone(),
            body: Bytes::from_static(b"{}"),
        }
    }

    #[test]
    fn a_group_is_one_item_with_what_is_unread_and_newest_in_any_lane() {
        let dir = tempfile::tempdir().expect("dir");
        let store = Store::open(dir.path()).expect("open");
        let me = UserId::new("alice").expect("id");
        let lanes = ["g:x", "g:x#1", "g:x#2"].map(|id| ChatId::new(id).expect("id"));
        let records = vec![
            record(&lanes[0], 1, 10, false),
            record(&lanes[1], 1, 30, false),
            record(&lanes[1], 2, 20, false),
            // Told in every lane, shown in lane 0.
            record(&lanes[2], 1, 40, true),
        ];
        let batch = Batch {
            records,
            ..Batch::default()
        };
        store.write(&batch, &me).expect("write");
        let mut item = Item::new(&lanes[1]);
        for lane in &lanes {
            let row = store.chat(lane).expect("read");
            item.put(&store, &me, (lane, row)).expect("read");
        }
        assert_eq!(item.id, lanes[0]);
        let newest = item.newest.as_ref().map(|r| (r.chat.lane(), r.ordinal));
        assert_eq!(
            (item.unread, newest, item.row.last_ts_ms),
            (3, Some((1, 2)), 40)
        );
        assert!(item.read(&lanes[1], 20));
        assert!(!item.read(&lanes[1], 20));
        assert_eq!(item.unread, 1);
    }
}
