//! The cluster as arrays: chats with membership by intervals, dedup, history, one delivery log.

use bytes::Bytes;
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, MessageId, Seq, UserId};
use hawser_protocol::limits::DEDUP_WINDOW_MS;
use hawser_protocol::message::{MessageRecord, MessageType, Send};
use hawser_protocol::pb;
use hawser_protocol::resume::record_checksum;
use std::collections::{BTreeMap, BTreeSet};

/// One record of the delivery log.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) to: Vec<UserId>,
    pub(crate) what: What,
}

#[derive(Debug, Clone)]
pub(crate) enum What {
    Message {
        record: MessageRecord,
        /// This device gets the result.
        sender: Option<(UserId, String)>,
        /// Only the result.
        duplicate: bool,
    },
    Refused {
        user: UserId,
        device: String,
        result: pb::SendResult,
    },
    Receipt(pb::ReceiptUpdate),
}

impl Entry {
    /// The SendResult, without offset, that this record is to its sender's device.
    pub(crate) fn result_for(&self, user: &UserId, device: &str) -> Option<pb::SendResult> {
        match &self.what {
            What::Message {
                record,
                sender: Some((u, d)),
                duplicate,
            } if u == user && d == device => Some(pb::SendResult {
                client_msg_id: record.client_msg_id.0.to_vec().into(),
                chat: record.chat.to_string(),
                message_id: record.message_id.0.to_vec().into(),
                seq: record.seq.0,
                prev_seq: record.prev_seq.0,
                ordinal: record.ordinal,
                stored_ts_ms: record.stored_ts_ms,
                duplicate: *duplicate,
                ..pb::SendResult::default()
            }),
            What::Refused {
                user: u,
                device: d,
                result,
            } if u == user && d == device => Some(result.clone()),
            _ => None,
        }
    }
}

#[derive(Debug, Default)]
struct Chat {
    name: String,
    records: Vec<MessageRecord>,
    /// Ordinals seen: above `.0`, up to `.1`.
    members: BTreeMap<UserId, (u64, u64)>,
    marks: BTreeMap<UserId, (Seq, Seq)>,
}

impl Chat {
    fn is_member(&self, user: &UserId) -> bool {
        self.members
            .get(user)
            .is_some_and(|(_, to)| *to == u64::MAX)
    }

    fn present(&self) -> Vec<UserId> {
        let now = self.members.iter().filter(|(_, (_, to))| *to == u64::MAX);
        now.map(|(user, _)| user.clone()).collect()
    }
}

#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) users: BTreeSet<UserId>,
    chats: BTreeMap<ChatId, Chat>,
    pub(crate) log: Vec<Entry>,
    /// First offset that is still there.
    pub(crate) low: u64,
    /// Offered to the sessions so far.
    pub(crate) offered: usize,
    pub(crate) generation: u16,
    won: BTreeMap<(UserId, String, ChatId, ClientMsgId), MessageRecord>,
    source: u64,
    /// Every n-th message is put into the delivery log twice (ingest was killed in between).
    pub(crate) redeliver_every: u64,
    /// Messages to the one chat are stored in the other, a lane of it.
    pub(crate) in_lane: BTreeMap<ChatId, ChatId>,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            users: BTreeSet::new(),
            chats: BTreeMap::new(),
            log: Vec::new(),
            low: 0,
            offered: 0,
            generation: 1,
            won: BTreeMap::new(),
            source: 0,
            redeliver_every: 0,
            in_lane: BTreeMap::new(),
        }
    }
}

impl Cluster {
    fn chat(&mut self, id: &ChatId) -> Option<&mut Chat> {
        if let Some((a, b)) = id.dm_users()
            && self.users.contains(&a)
            && self.users.contains(&b)
        {
            let chat = self.chats.entry(id.clone()).or_default();
            for user in [a, b] {
                chat.members.entry(user).or_insert((0, u64::MAX));
            }
        }
        self.chats.get_mut(id)
    }

    pub(crate) fn send(&mut self, user: &UserId, device: &str, send: &Send, wall_ms: u64) {
        let lane = self.in_lane.get(&send.chat).cloned();
        let moved = lane.map(|chat| Send {
            chat,
            ..send.clone()
        });
        let send = moved.as_ref().unwrap_or(send);
        let key = (
            user.clone(),
            device.to_owned(),
            send.chat.clone(),
            send.client_msg_id,
        );
        let member = self
            .chat(&send.chat)
            .is_some_and(|chat| chat.is_member(user));
        let too_old = send.client_msg_id.timestamp_ms() + DEDUP_WINDOW_MS < wall_ms;
        let sender = Some((user.clone(), device.to_owned()));
        if too_old || !member {
            let code = if too_old { 32 } else { 30 };
            return self.refuse(user, device, send, code);
        }
        if let Some(record) = self.won.get(&key).cloned() {
            let what = What::Message {
                record,
                sender,
                duplicate: true,
            };
            return self.log.push(Entry {
                to: vec![user.clone()],
                what,
            });
        }
        let record = self.store(user, device, send, wall_ms);
        self.won.insert(key, record.clone());
        let to = self.chats[&send.chat].present();
        let what = What::Message {
            record,
            sender,
            duplicate: false,
        };
        let again = self.redeliver_every > 0 && self.source.is_multiple_of(self.redeliver_every);
        for _ in 0..=usize::from(again) {
            self.log.push(Entry {
                to: to.clone(),
                what: what.clone(),
            });
        }
    }

    fn refuse(&mut self, user: &UserId, device: &str, send: &Send, code: u32) {
        let result = pb::SendResult {
            client_msg_id: send.client_msg_id.0.to_vec().into(),
            chat: send.chat.to_string(),
            error: code,
            ..pb::SendResult::default()
        };
        let (user, device) = (user.clone(), device.to_owned());
        let to = vec![user.clone()];
        let what = What::Refused {
            user,
            device,
            result,
        };
        self.log.push(Entry { to, what });
    }

    fn store(&mut self, user: &UserId, device: &str, send: &Send, wall_ms: u64) -> MessageRecord {
        self.source += 1;
        let seq = Seq::new(1, self.source);
        let chat = self.chats.entry(send.chat.clone()).or_default();
        let record = MessageRecord {
            seq,
            prev_seq: chat.records.last().map_or(Seq::NONE, |r| r.seq),
            ordinal: chat.records.len() as u64 + 1,
            message_id: MessageId::derive(wall_ms, 0, 0, seq),
            client_msg_id: send.client_msg_id,
            send_ts_ms: send.send_ts_ms,
            stored_ts_ms: wall_ms,
            message_type: send.message_type,
            sender: user.clone(),
            sender_device: DeviceId::new(device).expect("device"),
            chat: send.chat.clone(),
            body: send.body.clone(),
        };
        chat.records.push(record.clone());
        record
    }

    /// Makes a group, or adds members to it; the change is a message.
    pub(crate) fn group(&mut self, id: &str, by: &str, users: &[&str], wall_ms: u64) {
        let id = ChatId::new(id).expect("chat");
        let by = UserId::new(by).expect("user");
        let chat = self.chats.entry(id.clone()).or_default();
        let from = chat.records.len() as u64;
        chat.name = id.as_str()[2..].to_uppercase();
        for user in users {
            let user = UserId::new(user).expect("user");
            chat.members.insert(user, (from, u64::MAX));
        }
        let mut id_bytes = [0; 16];
        id_bytes[..8].copy_from_slice(&self.source.to_le_bytes());
        let change = Send {
            client_msg_id: ClientMsgId(id_bytes),
            send_ts_ms: wall_ms,
            message_type: MessageType::MEMBERSHIP,
            retry: false,
            chat: id.clone(),
            body: Bytes::from_static(b"{}"),
            envelopes: Vec::new(),
        };
        let record = self.store(&by, "api", &change, wall_ms);
        let to = self.chats[&id].present();
        let what = What::Message {
            record,
            sender: None,
            duplicate: false,
        };
        self.log.push(Entry { to, what });
    }

    pub(crate) fn receipt(
        &mut self,
        user: &UserId,
        id: &ChatId,
        delivered: Seq,
        read: Seq,
        ts_ms: u64,
    ) {
        let Some(chat) = self.chat(id).filter(|chat| chat.is_member(user)) else {
            return;
        };
        let old = chat.marks.get(user).copied().unwrap_or_default();
        let new = (old.0.max(delivered).max(read), old.1.max(read));
        if new == old {
            return;
        }
        chat.marks.insert(user.clone(), new);
        let to = chat.present();
        let update = pb::ReceiptUpdate {
            offset: 0,
            chat: id.to_string(),
            user: user.to_string(),
            delivered_seq: new.0.0,
            read_seq: new.1.0,
            ts_ms,
        };
        let what = What::Receipt(update);
        self.log.push(Entry { to, what });
    }

    /// What is in the delivery log at an offset that is in it.
    pub(crate) fn entry(&self, offset: u64) -> &Entry {
        &self.log[usize::try_from(offset).expect("an offset")]
    }

    pub(crate) fn checksum(&self, offset: u64) -> Option<u32> {
        let offset = usize::try_from(offset).ok()?;
        let entry = self.log.get(offset).filter(|_| offset as u64 >= self.low)?;
        Some(record_checksum(format!("{entry:?}").as_bytes()).max(1))
    }

    /// The log is recreated empty: what was in it is in the store alone.
    pub(crate) fn recreate_log(&mut self) {
        self.log.clear();
        self.offered = 0;
        self.low = 0;
        self.generation += 1;
    }

    pub(crate) fn page(&self, user: &UserId, sync: &pb::Sync) -> pb::SyncPage {
        let mut page = pb::SyncPage {
            sync_id: sync.sync_id,
            chat: sync.chat.clone(),
            ..pb::SyncPage::default()
        };
        if sync.chat.is_empty() {
            return self.list(user, sync, page);
        }
        let chat = ChatId::new(&sync.chat)
            .ok()
            .and_then(|id| self.chats.get(&id));
        let Some((chat, (from, to))) = chat.and_then(|c| Some((c, *c.members.get(user)?))) else {
            page.error = 30;
            return page;
        };
        let after = sync.after_ordinal;
        let wanted = |r: &&MessageRecord| {
            let visible = r.ordinal > from && r.ordinal <= to;
            let side = match sync.backwards {
                true => after == 0 || r.ordinal < after,
                false => r.ordinal > after,
            };
            visible && side
        };
        let matching: Vec<&MessageRecord> = chat.records.iter().filter(wanted).collect();
        let limit = if sync.limit == 0 {
            64
        } else {
            sync.limit as usize
        };
        let cut = matching.len().saturating_sub(limit);
        let records = match sync.backwards {
            true => &matching[cut..],
            false => &matching[..limit.min(matching.len())],
        };
        let edge = if sync.backwards {
            records.first()
        } else {
            records.last()
        };
        page.next_ordinal = edge.map_or(after, |r| r.ordinal);
        page.records = records.iter().map(|r| r.encode()).collect();
        page.more = cut > 0;
        page.watermarks = chat
            .marks
            .iter()
            .map(|(user, (delivered, read))| pb::Watermark {
                user: user.to_string(),
                delivered_seq: delivered.0,
                read_seq: read.0,
            })
            .collect();
        page
    }

    /// Two chats a page, so that the cursor is used.
    fn list(&self, user: &UserId, sync: &pb::Sync, mut page: pb::SyncPage) -> pb::SyncPage {
        let mine = self.chats.iter().filter(|(id, chat)| {
            chat.is_member(user) && !chat.records.is_empty() && id.as_str() > sync.cursor.as_str()
        });
        let mut mine: Vec<_> = mine.collect();
        page.more = mine.len() > 2;
        mine.truncate(2);
        for (id, chat) in mine {
            let last = chat.records.last();
            page.next_cursor = id.to_string();
            page.chats.push(pb::ChatSummary {
                chat: id.to_string(),
                name: chat.name.clone(),
                last_seq: last.map_or(0, |r| r.seq.0),
                last_ordinal: last.map_or(0, |r| r.ordinal),
                read_seq: chat.marks.get(user).map_or(0, |m| m.1.0),
                member_count: u32::try_from(chat.present().len()).expect("few"),
                ..pb::ChatSummary::default()
            });
        }
        page
    }

    pub(crate) fn texts(&self, id: &str) -> Vec<String> {
        let id = ChatId::new(id).expect("chat");
        let records = self.chats.get(&id).map_or(&[][..], |chat| &chat.records);
        let texts = records
            .iter()
            .filter(|r| r.message_type == MessageType::TEXT);
        texts
            .map(|r| String::from_utf8_lossy(&r.body).into_owned())
            .collect()
    }
}
