//! What must be true of every message at the end, wherever it is stored: one place, and the order of its sender.

use crate::reference::Reference;
use crate::world::World;
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, UserId};
use hawser_protocol::message::{MessageRecord, MessageType};
use std::collections::BTreeMap;

type Found = Result<(), (&'static str, String)>;

impl World {
    /// A message is stored once over all lanes of its chat, and nothing is stored in a chat that has no messages.
    pub(crate) fn judge_places(&self, reference: &Reference) -> Found {
        reference.lanes().map_err(|what| ("lanes", what))?;
        let mut places: BTreeMap<_, ChatId> = BTreeMap::new();
        for record in self.said() {
            let MessageRecord {
                client_msg_id: id,
                chat,
                sender,
                sender_device,
                ..
            } = record;
            if !reference.chats.contains_key(&chat) {
                return Err(("loss", format!("{id} is in {chat}, where nothing belongs")));
            }
            let key = (sender, sender_device, chat.base(), id);
            if let Some(other) = places.insert(key, chat.clone()) {
                return Err(("dedup", format!("{id} is in {chat} and in {other}")));
            }
        }
        Ok(())
    }

    /// What one device has sent stands in each lane in the order in which it was written. One that was refused at
    /// first, before its sender was a member, stands where it was accepted.
    pub(crate) fn judge_order(&self, reference: &Reference) -> Found {
        let mut last: BTreeMap<(ChatId, UserId, DeviceId), (usize, ClientMsgId)> = BTreeMap::new();
        for record in self.said() {
            let mine = |d: &&crate::device::Device| {
                d.user == record.sender && d.name == record.sender_device
            };
            let device = self.devices.iter().find(mine);
            let Some(nth) = device.and_then(|d| d.disk.accepted.get(&record.client_msg_id)) else {
                continue;
            };
            let id = record.client_msg_id;
            if reference.refused.contains(&id) {
                continue;
            }
            let of = (record.chat, record.sender, record.sender_device);
            if let Some((before, other)) = last.insert(of.clone(), (*nth, id))
                && before > *nth
            {
                let what = format!("{id} of {of:?} was written before {other} and stands after it");
                return Err(("order", what));
            }
        }
        Ok(())
    }

    /// Messages stored in lanes that are not a group's own.
    pub(crate) fn in_lanes(&self) -> u64 {
        self.said().filter(|record| record.chat.lane() > 0).count() as u64
    }

    /// What users have said, by chat, in its order.
    fn said(&self) -> impl Iterator<Item = MessageRecord> {
        let all = self.cluster.store.everything().into_iter();
        let records = all.filter_map(|(_, row)| MessageRecord::decode(&row.record).ok());
        records.filter(|record| record.message_type != MessageType::MEMBERSHIP)
    }
}
