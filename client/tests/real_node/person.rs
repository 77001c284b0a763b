//! A client and what it has been told.

use crate::node::Node;
use hawser_client::store::Mark;
use hawser_client::transport::Trust;
use hawser_client::{Client, Event, Settings, Tokens};
use hawser_protocol::client::Phase;
use hawser_protocol::ids::{ChatId, DeviceId, Seq, UserId};
use hawser_protocol::message::{MessageRecord, MessageType};
use std::time::Duration;
use tokio::sync::mpsc;

/// Anything that should happen happens within this, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Person {
    pub(crate) client: Client,
    events: mpsc::Receiver<Event>,
    pub(crate) seen: Vec<Event>,
}

pub(crate) fn settings(node: &Node, user: &str, device: &str) -> Settings {
    Settings {
        url: node.url(),
        user: UserId::new(user).expect("user"),
        device: DeviceId::new(device).expect("device"),
        trust: Trust::System,
        tokens: Tokens::Demo,
        dir: node.clients().join(format!("{user}+{device}")),
        heartbeat_ms: 5_000,
    }
}

pub(crate) fn chat(text: &str) -> ChatId {
    ChatId::new(text).expect("chat")
}

impl Person {
    pub(crate) fn open(settings: Settings) -> Self {
        let (client, events) = Client::open(settings).expect("open");
        Self {
            client,
            events,
            seen: Vec::new(),
        }
    }

    /// Opens and waits until live.
    pub(crate) async fn live(node: &Node, user: &str, device: &str) -> Self {
        let mut person = Self::open(settings(node, user, device));
        person.until_phase(&Phase::Live).await;
        person
    }

    pub(crate) async fn say(&self, chat_id: &str, text: &str) {
        let body = text.to_owned().into();
        let sent = self.client.send(chat(chat_id), MessageType::TEXT, body);
        sent.await.expect("taken");
    }

    pub(crate) async fn until_phase(&mut self, phase: &Phase) {
        let wanted = |event: &Event| matches!(event, Event::Phase(p) if p == phase);
        self.until(|person| person.seen.iter().any(wanted)).await;
    }

    /// Takes events until something is true of this person.
    pub(crate) async fn until(&mut self, mut test: impl FnMut(&Self) -> bool) {
        let all = async {
            while !test(self) {
                let event = self.events.recv().await.expect("the client lives");
                self.seen.push(event);
            }
        };
        let done = tokio::time::timeout(PATIENCE, all).await.is_ok();
        let tail: Vec<&Event> = self.seen.iter().rev().take(8).collect();
        assert!(done, "{} waits in vain; last: {tail:?}", self.client.user());
    }

    pub(crate) fn messages(&self, chat_id: &str) -> Vec<MessageRecord> {
        let store = self.client.store();
        store
            .messages(&chat(chat_id), u64::MAX, usize::MAX)
            .expect("read")
    }

    pub(crate) fn texts(&self, chat_id: &str) -> Vec<String> {
        let messages = self.messages(chat_id).into_iter();
        let texts = messages.filter(|m| m.message_type == MessageType::TEXT);
        texts
            .map(|m| String::from_utf8_lossy(&m.body).into_owned())
            .collect()
    }

    pub(crate) async fn until_texts(&mut self, chat_id: &str, texts: &[&str]) {
        self.until(|person| person.texts(chat_id) == texts).await;
    }

    pub(crate) fn mark(&self, chat_id: &str, user: &str) -> Mark {
        let user = UserId::new(user).expect("user");
        self.client
            .store()
            .mark(&chat(chat_id), &user)
            .expect("read")
    }

    pub(crate) async fn read_all(&self, chat_id: &str) -> Seq {
        let newest = self.messages(chat_id).last().expect("a message").seq;
        self.client.read(chat(chat_id), newest).await.expect("runs");
        newest
    }

    /// How often messages were told as new: once each, whatever happened.
    pub(crate) fn told(&self) -> Vec<(String, u64)> {
        let changes = self.seen.iter().filter_map(|event| match event {
            Event::Changed(written) => Some(written),
            _ => None,
        });
        let fresh = changes.flat_map(|written| &written.fresh);
        fresh.map(|r| (r.chat.to_string(), r.ordinal)).collect()
    }
}
