//! Sends without a final answer: which may go now, which wait for an answer, which are retried.

use super::syncer::may_retry;
use super::types::{PendingSend, Refusal};
use super::{Backoff, Chance};
use crate::codes::ErrorCode;
use crate::ids::{ChatId, ClientMsgId};
use crate::limits::{BODY_BYTES_MAX, DEDUP_WINDOW_MS, QUEUED_RETRY_MS, SENDS_IN_FLIGHT_MAX};
use crate::message::{MessageType, Send};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// Unsent messages of one device; one more is refused to the user, who sees why.
pub const OUTBOX_MESSAGES_MAX: usize = 10_000;

/// A stamp this much younger than the dedup window is renewed already, milliseconds.
const STALE_MARGIN_MS: u64 = 3_600_000;

/// Why a message was not accepted for sending: the caller's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Too many wait already.
    #[error("{OUTBOX_MESSAGES_MAX} messages wait to be sent; connect, or discard some")]
    Full,
    /// The payload is too large.
    #[error("a body of {len} bytes exceeds the limit of {BODY_BYTES_MAX}")]
    BodyTooLarge {
        /// Bytes given.
        len: usize,
    },
}

#[derive(Debug)]
struct Item {
    send: PendingSend,
    /// On disk: only then may it leave.
    durable: bool,
    /// It left on some connection: the next one is marked as a retry.
    tried: bool,
    /// It left on this connection and has no answer yet.
    in_flight: bool,
    /// In flight and on the log: its place is fixed, the chat's next one may leave.
    queued: bool,
    /// In flight: when it is sent again; else: not before this. Milliseconds.
    due_ms: u64,
}

/// What a refusal leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// No such Send.
    Unknown,
    /// It goes again by itself.
    Retry,
    /// Too old: it needs a new id.
    Renew,
    /// For good; here it is, marked as refused.
    Final(PendingSend),
}

/// Unsent messages in the order of writing.
#[derive(Debug)]
pub(super) struct Outbox {
    items: BTreeMap<u64, Item>,
    numbers: BTreeMap<ClientMsgId, u64>,
    last_number: u64,
    in_flight: usize,
    backoff: Backoff,
    pub(super) in_flight_max: usize,
}

impl Outbox {
    pub(super) fn new(pending: Vec<PendingSend>) -> Self {
        let mut outbox = Self {
            items: BTreeMap::new(),
            numbers: BTreeMap::new(),
            last_number: 0,
            in_flight: 0,
            backoff: Backoff::default(),
            in_flight_max: SENDS_IN_FLIGHT_MAX,
        };
        for send in pending {
            outbox.last_number = outbox.last_number.max(send.number);
            if send.refused.is_none() {
                outbox.put(send, true);
            }
        }
        outbox
    }

    /// `from_disk`: it may have left before the program died.
    fn put(&mut self, send: PendingSend, from_disk: bool) {
        self.numbers.insert(send.id, send.number);
        let item = Item {
            durable: from_disk,
            tried: from_disk,
            in_flight: false,
            queued: false,
            due_ms: 0,
            send,
        };
        self.items.insert(item.send.number, item);
    }

    fn remove(&mut self, id: &ClientMsgId) -> Option<PendingSend> {
        let item = self.items.remove(&self.numbers.remove(id)?)?;
        self.in_flight -= usize::from(item.in_flight);
        Some(item.send)
    }

    fn item(&mut self, id: &ClientMsgId) -> Option<&mut Item> {
        self.items.get_mut(self.numbers.get(id)?)
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether a Send that may be in this chat has no answer; what was sent to a group may be in any of its lanes.
    pub(super) fn unanswered_in(&self, chat: &ChatId) -> bool {
        let mut items = self.items.values();
        items.any(|item| item.tried && item.send.chat.base() == chat.base())
    }

    pub(super) fn add(
        &mut self,
        id: ClientMsgId,
        chat: ChatId,
        message_type: MessageType,
        body: Bytes,
        send_ts_ms: u64,
    ) -> Result<PendingSend, SubmitError> {
        if body.len() > BODY_BYTES_MAX {
            return Err(SubmitError::BodyTooLarge { len: body.len() });
        }
        if self.items.len() >= OUTBOX_MESSAGES_MAX {
            return Err(SubmitError::Full);
        }
        self.last_number += 1;
        let send = PendingSend {
            number: self.last_number,
            id,
            chat,
            message_type,
            body,
            send_ts_ms,
            refused: None,
        };
        self.put(send.clone(), false);
        Ok(send)
    }

    pub(super) fn durable(&mut self, id: &ClientMsgId) {
        if let Some(item) = self.item(id) {
            item.durable = true;
        }
    }

    /// The connection is gone: nothing is in flight; unanswered ones are retried on the next.
    pub(super) fn disconnected(&mut self) {
        self.in_flight = 0;
        for item in self.items.values_mut() {
            item.in_flight = false;
            item.queued = false;
            item.due_ms = 0;
        }
    }

    /// What may leave now, in the order of writing. A chat's next one leaves when the one before is
    /// on the log (Queued) or answered: so a refusal in the middle never changes their order.
    pub(super) fn take_due(&mut self, now_ms: u64) -> Vec<Send> {
        let mut due = Vec::new();
        let mut held: BTreeSet<ChatId> = BTreeSet::new();
        let mut flying_ahead = self.in_flight;
        for item in self.items.values_mut() {
            let free = self.in_flight < self.in_flight_max;
            if !free && flying_ahead == 0 {
                break; // nothing behind is in flight, and nothing may newly leave
            }
            flying_ahead -= usize::from(item.in_flight);
            let again = item.in_flight && now_ms >= item.due_ms;
            if item.in_flight && !again {
                if !item.queued {
                    held.insert(item.send.chat.clone());
                }
                continue;
            }
            let blocked = held.contains(&item.send.chat);
            if !item.durable || now_ms < item.due_ms || blocked || !(again || free) {
                held.insert(item.send.chat.clone());
                continue;
            }
            due.push(Send {
                client_msg_id: item.send.id,
                send_ts_ms: item.send.send_ts_ms,
                message_type: item.send.message_type,
                retry: item.tried,
                chat: item.send.chat.clone(),
                body: item.send.body.clone(),
                envelopes: Vec::new(),
            });
            self.in_flight += usize::from(!item.in_flight);
            item.tried = true;
            item.in_flight = true;
            item.due_ms = now_ms + QUEUED_RETRY_MS;
            if !item.queued {
                held.insert(item.send.chat.clone());
            }
        }
        due
    }

    /// When `take_due` may next have something; `None`: only after an input. What is held back by another of its
    /// chat, or by the bound in flight, is not due, however long it has waited.
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        let free = self.in_flight < self.in_flight_max;
        let mut held: BTreeSet<&ChatId> = BTreeSet::new();
        let mut next: Option<u64> = None;
        for item in self.items.values() {
            if held.contains(&item.send.chat) {
                continue;
            }
            let timed = item.in_flight || (free && item.due_ms > 0);
            if item.durable && timed {
                next = Some(next.map_or(item.due_ms, |next| next.min(item.due_ms)));
            }
            if !item.queued {
                held.insert(&item.send.chat);
            }
        }
        next
    }

    /// The log has it; false when it was not in flight.
    pub(super) fn queued(&mut self, id: &ClientMsgId, now_ms: u64) -> bool {
        let Some(item) = self.item(id).filter(|item| item.in_flight) else {
            return false;
        };
        item.queued = true;
        item.due_ms = now_ms + QUEUED_RETRY_MS;
        true
    }

    /// It is stored by the server; returns what was pending.
    pub(super) fn sent(&mut self, id: &ClientMsgId) -> Option<PendingSend> {
        self.backoff.reset();
        self.remove(id)
    }

    pub(super) fn refused(
        &mut self,
        id: &ClientMsgId,
        refusal: Refusal,
        retry_after_ms: u64,
        now_ms: u64,
        chance: &mut Chance,
    ) -> Verdict {
        if !self.numbers.contains_key(id) {
            return Verdict::Unknown;
        }
        if refusal.code == u32::from(ErrorCode::TooOld.number()) {
            return Verdict::Renew;
        }
        if may_retry(refusal.code) {
            let wait_ms = self.backoff.next_ms(retry_after_ms, chance).max(1);
            if let Some(item) = self.item(id) {
                let flew = std::mem::replace(&mut item.in_flight, false);
                item.queued = false;
                item.due_ms = now_ms + wait_ms;
                self.in_flight -= usize::from(flew);
            }
            return Verdict::Retry;
        }
        match self.remove(id) {
            Some(send) => Verdict::Final(PendingSend {
                refused: Some(refusal),
                ..send
            }),
            None => Verdict::Unknown,
        }
    }

    /// Ids that the server would refuse as too old. Valid only when all is synced.
    pub(super) fn stale(&self, server_now_ms: u64) -> Vec<ClientMsgId> {
        let oldest = server_now_ms.saturating_sub(DEDUP_WINDOW_MS - STALE_MARGIN_MS);
        let ids = self.numbers.keys();
        ids.filter(|id| id.timestamp_ms() < oldest)
            .copied()
            .collect()
    }

    /// Gives a message a new id in its old place; the new one is not durable yet.
    pub(super) fn renew(&mut self, id: &ClientMsgId, fresh: ClientMsgId) -> Option<PendingSend> {
        let send = PendingSend {
            id: fresh,
            ..self.remove(id)?
        };
        self.put(send.clone(), false);
        Some(send)
    }

    /// The user gave it up.
    pub(super) fn discard(&mut self, id: &ClientMsgId) {
        self.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(name: &str) -> ChatId {
        ChatId::new(&format!("g:{name}")).expect("id")
    }

    fn id(n: u8) -> ClientMsgId {
        ClientMsgId([n; 16])
    }

    fn outbox(chats: &[&str]) -> Outbox {
        let mut outbox = Outbox::new(Vec::new());
        for (n, name) in (1..).zip(chats) {
            let added = outbox.add(id(n), chat(name), MessageType::TEXT, Bytes::new(), 0);
            outbox.durable(&added.expect("room").id);
        }
        outbox
    }

    fn ids(sends: &[Send]) -> Vec<u8> {
        sends.iter().map(|s| s.client_msg_id.0[0]).collect()
    }

    fn busy() -> Refusal {
        Refusal {
            code: 42,
            text: String::new(),
        }
    }

    #[test]
    fn a_chats_next_one_leaves_when_the_one_before_is_on_the_log() {
        let mut outbox = outbox(&["x", "x", "y"]);
        assert_eq!(ids(&outbox.take_due(0)), [1, 3]);
        assert_eq!(ids(&outbox.take_due(1)), [] as [u8; 0]);
        assert!(outbox.queued(&id(1), 1));
        assert_eq!(ids(&outbox.take_due(1)), [2]);
    }

    #[test]
    fn one_that_must_wait_holds_back_those_behind_it() {
        let mut outbox = outbox(&["x", "x"]);
        let mut chance = Chance::new(1);
        outbox.take_due(0);
        let verdict = outbox.refused(&id(1), busy(), 100, 0, &mut chance);
        assert_eq!(verdict, Verdict::Retry);
        assert_eq!(ids(&outbox.take_due(99)), [] as [u8; 0]);
        let due = outbox.next_due_ms().expect("a retry");
        let again = outbox.take_due(due);
        assert_eq!(ids(&again), [1]);
        assert!(again[0].retry);
    }

    #[test]
    fn what_is_held_back_is_not_due_though_its_time_is_over() {
        let mut outbox = outbox(&["x", "x"]);
        let mut chance = Chance::new(1);
        for n in [1, 2] {
            assert_eq!(ids(&outbox.take_due(0)), [n]);
            outbox.queued(&id(n), 0);
        }
        let now = QUEUED_RETRY_MS - 1;
        outbox.refused(&id(1), busy(), 5_000, now, &mut chance);
        let late = now + 4_000;
        assert_eq!(ids(&outbox.take_due(late)), [] as [u8; 0]);
        let due = outbox.next_due_ms().expect("a retry");
        assert!(due > late, "{due}");
        assert_eq!(ids(&outbox.take_due(due)), [1]);
        assert!(outbox.queued(&id(1), due));
        assert_eq!(outbox.next_due_ms(), Some(QUEUED_RETRY_MS));
        assert_eq!(ids(&outbox.take_due(due)), [2]);
    }

    #[test]
    fn no_more_than_the_allowed_number_is_in_flight() {
        let names: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        let mut outbox = outbox(&names.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(outbox.take_due(0).len(), 64);
        assert_eq!(outbox.take_due(1).len(), 0);
        outbox.sent(&id(7));
        assert_eq!(ids(&outbox.take_due(1)), [65]);
        assert_eq!(
            outbox.take_due(QUEUED_RETRY_MS).len(),
            63,
            "unanswered ones"
        );
    }

    #[test]
    fn a_renewed_one_keeps_its_place_and_waits_for_the_disk() {
        let mut outbox = outbox(&["x", "x"]);
        outbox.renew(&id(1), id(9));
        assert_eq!(ids(&outbox.take_due(0)), [] as [u8; 0]);
        outbox.durable(&id(9));
        assert_eq!(ids(&outbox.take_due(0)), [9]);
    }

    #[test]
    fn too_many_and_too_large_are_refused_to_the_user() {
        let mut outbox = Outbox::new(Vec::new());
        let mut add = |n: u64, len: usize| {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&n.to_le_bytes());
            let body = Bytes::from(vec![0; len]);
            outbox.add(ClientMsgId(bytes), chat("x"), MessageType::TEXT, body, 0)
        };
        let large = add(0, BODY_BYTES_MAX + 1);
        assert_eq!(
            large,
            Err(SubmitError::BodyTooLarge {
                len: BODY_BYTES_MAX + 1
            })
        );
        for n in 0..OUTBOX_MESSAGES_MAX as u64 {
            add(n, 1).expect("room");
        }
        assert_eq!(add(u64::MAX, 1), Err(SubmitError::Full));
    }
}
