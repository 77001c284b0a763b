//! What the screen shows, and what changes it.

use super::input::Input;
use super::items::Item;
use super::text::Zone;
use crate::listen::phase_words;
use hawser_client::conversation::{Ask, Conversation, HISTORY_PAGE};
use hawser_client::store::{Chat, StoreError, Written};
use hawser_client::{Client, Event};
use hawser_protocol::client::{PendingSend, Phase};
use hawser_protocol::ids::{ChatId, ClientMsgId};
use hawser_protocol::limits::{TYPING_TTL_MS, WATCH_CHATS_MAX, WATCH_USERS_MAX};
use hawser_protocol::message::MessageRecord;
use hawser_protocol::pb::PresenceState;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// The tick of a message of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tick {
    /// Here only.
    Waiting,
    /// On the server's log, not stored yet.
    Queued,
    /// Stored.
    Sent,
    /// Every other member has it.
    Delivered,
    /// Every other member has read it.
    Read,
    /// Refused.
    Refused,
}

/// The whole state of the screen.
pub(crate) struct App {
    pub(crate) client: Client,
    pub(crate) zone: Zone,
    pub(crate) items: Vec<Item>,
    open: Option<Conversation>,
    pub(crate) unsent: Vec<PendingSend>,
    /// Lines scrolled up from the newest.
    pub(crate) scroll: usize,
    pub(crate) input: Input,
    pub(crate) phase: Phase,
    pub(crate) lost: String,
    pub(crate) reconnects: u64,
    pub(crate) notice: Option<(Instant, String)>,
    pub(crate) help: bool,
    pub(crate) quit: bool,
    pub(crate) names: BTreeMap<String, String>,
    queued: BTreeSet<ClientMsgId>,
    typing: BTreeMap<(String, String), Instant>,
    presence: BTreeMap<String, (PresenceState, u64)>,
    /// When the phase began, and when the next attempt is.
    pub(crate) retry_at: Option<Instant>,
    /// When the client was opened: the beginning of its clock.
    begun: Instant,
    focused: bool,
}

impl App {
    pub(crate) fn new(client: Client) -> Result<Self, StoreError> {
        let mut app = Self {
            client,
            zone: Zone::of_system(),
            items: Vec::new(),
            open: None,
            unsent: Vec::new(),
            scroll: 0,
            input: Input::default(),
            phase: Phase::Stopped,
            lost: String::new(),
            reconnects: 0,
            notice: None,
            help: false,
            quit: false,
            names: BTreeMap::new(),
            queued: BTreeSet::new(),
            typing: BTreeMap::new(),
            presence: BTreeMap::new(),
            retry_at: None,
            begun: Instant::now(),
            focused: true,
        };
        app.load()?;
        Ok(app)
    }

    fn load(&mut self) -> Result<(), StoreError> {
        for (id, row) in self.client.store().chats()? {
            self.put_item(&id, row)?;
        }
        self.unsent = self.client.store().unsent()?;
        for chat in self
            .unsent
            .iter()
            .map(|s| s.chat.clone())
            .collect::<Vec<_>>()
        {
            self.ensure_item(&chat)?;
        }
        self.sort();
        Ok(())
    }

    // ---- conversations ----

    /// A chat of the store: a conversation, or a lane of one.
    fn put_item(&mut self, chat: &ChatId, row: Chat) -> Result<(), StoreError> {
        let base = chat.base();
        let at = self.items.iter().position(|item| item.id == base);
        let at = at.unwrap_or_else(|| {
            self.items.push(Item::new(chat));
            self.items.len() - 1
        });
        self.items[at].put(self.client.store(), self.client.user(), (chat, row))
    }

    /// A conversation that may have no message yet.
    fn ensure_item(&mut self, chat: &ChatId) -> Result<(), StoreError> {
        if !self.items.iter().any(|item| item.id == *chat) {
            let row = self.client.store().chat(chat)?;
            self.put_item(chat, row)?;
        }
        Ok(())
    }

    fn sort(&mut self) {
        self.items.sort_by(|a, b| {
            let newest = b.row.last_ts_ms.cmp(&a.row.last_ts_ms);
            a.row
                .gone
                .cmp(&b.row.gone)
                .then(newest)
                .then(a.id.cmp(&b.id))
        });
    }

    /// What is written to.
    pub(crate) fn open_id(&self) -> Option<&ChatId> {
        self.open.as_ref().map(Conversation::id)
    }

    /// What is shown of the open conversation, oldest first.
    pub(crate) fn messages(&self) -> &[MessageRecord] {
        self.open.as_ref().map_or(&[], Conversation::messages)
    }

    pub(crate) fn at_start(&self) -> bool {
        self.open.as_ref().is_some_and(Conversation::at_start)
    }

    pub(crate) fn loading(&self) -> bool {
        self.open.as_ref().is_some_and(Conversation::loading)
    }

    pub(crate) fn item(&self) -> Option<&Item> {
        let open = self.open_id()?;
        self.items.iter().find(|item| item.id == *open)
    }

    /// Opens a conversation: its newest messages, and everything in it is read.
    pub(crate) async fn show(&mut self, chat: ChatId) -> anyhow::Result<()> {
        self.ensure_item(&chat)?;
        self.open = Some(Conversation::open(self.client.store(), &chat)?);
        self.scroll = 0;
        self.mark_read().await?;
        self.watch().await
    }

    /// Goes to the conversation above or below.
    pub(crate) async fn step(&mut self, down: bool) -> anyhow::Result<()> {
        let at = self
            .items
            .iter()
            .position(|item| Some(&item.id) == self.open_id());
        let next = match (at, down) {
            (None, _) => 0,
            (Some(at), true) => (at + 1).min(self.items.len().saturating_sub(1)),
            (Some(at), false) => at.saturating_sub(1),
        };
        match self.items.get(next).map(|item| item.id.clone()) {
            Some(chat) => self.show(chat).await,
            None => Ok(()),
        }
    }

    /// Goes to the next conversation with unread messages.
    pub(crate) async fn next_unread(&mut self) -> anyhow::Result<()> {
        let unread = self
            .items
            .iter()
            .find(|item| item.unread > 0 && Some(&item.id) != self.open_id());
        match unread.map(|item| item.id.clone()) {
            Some(chat) => self.show(chat).await,
            None => Ok(()),
        }
    }

    /// Everything that is on the screen is read.
    pub(crate) async fn mark_read(&mut self) -> anyhow::Result<()> {
        let seen = self.focused && self.scroll == 0;
        let Some(open) = self.open.as_ref().filter(|_| seen) else {
            return Ok(());
        };
        let Some(item) = self.items.iter_mut().find(|item| item.id == *open.id()) else {
            return Ok(());
        };
        for (chat, seq) in open.newest() {
            if item.read(chat, seq.0) {
                self.client.read(chat.clone(), seq).await?;
            }
        }
        Ok(())
    }

    pub(crate) async fn focus(&mut self, focused: bool) -> anyhow::Result<()> {
        self.focused = focused;
        if focused {
            self.client.nudge().await?;
            self.mark_read().await?;
        }
        Ok(())
    }

    /// Scrolls; at the top, older messages are read from the store, then asked of the server.
    pub(crate) async fn scroll_by(&mut self, up: usize, down: usize) -> anyhow::Result<()> {
        self.scroll = (self.scroll + up).saturating_sub(down);
        if down > 0 {
            return self.mark_read().await;
        }
        // A message is at least one line: near the top, more is needed.
        let near = self.scroll + 50 >= self.messages().len();
        let Some(open) = self.open.as_mut().filter(|_| near) else {
            return Ok(());
        };
        let asks = open.older(self.client.store())?;
        self.ask(asks).await
    }

    async fn ask(&mut self, asks: impl IntoIterator<Item = Ask>) -> anyhow::Result<()> {
        for Ask { chat, before } in asks {
            self.client.history(chat, before, HISTORY_PAGE).await?;
        }
        Ok(())
    }

    /// Where a lane of the open conversation is known less far down than what is shown, the rest is fetched.
    async fn fill(&mut self) -> anyhow::Result<()> {
        let Some(open) = self.open.as_mut() else {
            return Ok(());
        };
        let asks = open.fill(self.client.store())?;
        self.ask(asks).await
    }

    // ---- events ----

    pub(crate) async fn event(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Phase(phase) => self.take_phase(phase).await?,
            Event::Lost(text) => self.lost = text,
            Event::Changed(written) => self.changed(*written).await?,
            Event::Queued(id) => {
                self.queued.insert(id);
            }
            Event::History(done) => {
                if let Some(open) = self.open.as_mut() {
                    let asks = open.answered(self.client.store(), &done)?;
                    self.ask(asks).await?;
                    self.fill().await?;
                }
            }
            Event::Typing(update) => {
                let key = (update.chat, update.user);
                if update.stopped {
                    self.typing.remove(&key);
                } else {
                    let ttl = match update.expires_in_ms {
                        0 => TYPING_TTL_MS,
                        ms => u64::from(ms),
                    };
                    self.typing
                        .insert(key, Instant::now() + Duration::from_millis(ttl));
                }
            }
            Event::Presence(update) => {
                let state = update.state();
                self.presence
                    .insert(update.user, (state, update.last_seen_ms));
            }
            Event::Problem(text) => self.note(text),
        }
        Ok(())
    }

    async fn take_phase(&mut self, phase: Phase) -> anyhow::Result<()> {
        self.retry_at = match phase {
            Phase::Waiting { retry_at_ms } => Some(self.begun + Duration::from_millis(retry_at_ms)),
            _ => None,
        };
        if phase == Phase::Live {
            self.lost.clear();
            self.watch().await?;
        } else if self.phase == Phase::Live {
            self.reconnects += 1;
            self.presence.clear();
            self.typing.clear();
        }
        if matches!(phase, Phase::Refused { .. } | Phase::Displaced) {
            let (name, text) = phase_words(&phase);
            self.note(format!("{name}: {text}; /reconnect tries again"));
        }
        self.phase = phase;
        Ok(())
    }

    async fn changed(&mut self, written: Written) -> anyhow::Result<()> {
        for (chat, row) in &written.chats {
            self.put_item(chat, row.clone())?;
        }
        self.unsent
            .retain(|send| !written.answered.contains(&send.id));
        for send in written.unsent {
            self.ensure_item(&send.chat)?;
            match self.unsent.iter_mut().find(|old| old.number == send.number) {
                Some(old) => *old = send,
                None => self.unsent.push(send),
            }
        }
        for id in &written.answered {
            self.queued.remove(id);
        }
        for record in &written.fresh {
            let typed = (record.chat.base().to_string(), record.sender.to_string());
            self.typing.remove(&typed);
        }
        if let Some(open) = self.open.as_mut() {
            open.put(self.client.store(), &written.fresh)?;
            for (chat, user, mark) in &written.marks {
                open.put_mark(chat, user.as_str(), *mark);
            }
            if self.scroll == 0 {
                open.trim();
            }
        }
        self.fill().await?;
        self.sort();
        self.mark_read().await?;
        if !written.chats.is_empty() {
            self.watch().await?;
        }
        Ok(())
    }

    /// Presence of those we talk with, typing in the newest conversations.
    async fn watch(&mut self) -> anyhow::Result<()> {
        let me = self.client.user().as_str();
        let mut users = BTreeSet::new();
        for item in self.items.iter().filter(|item| !item.row.gone) {
            users.extend(others(item, me));
        }
        let users: Vec<String> = users.into_iter().take(WATCH_USERS_MAX).collect();
        let chats = self.items.iter().map(|item| item.id.to_string());
        let mut chats: Vec<String> = chats.take(WATCH_CHATS_MAX).collect();
        chats.sort();
        self.client.watch(users, chats).await?;
        Ok(())
    }

    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notice = Some((Instant::now(), text.into()));
    }

    // ---- what the screen asks ----

    pub(crate) fn name<'a>(&'a self, user: &'a str) -> &'a str {
        self.names.get(user).map_or(user, String::as_str)
    }

    /// The title of a conversation.
    pub(crate) fn title(&self, item: &Item) -> String {
        let me = self.client.user().as_str();
        match item.id.dm_users() {
            Some((a, b)) if a.as_str() == me && b.as_str() == me => "Notes to self".into(),
            Some((a, b)) => {
                let other = if a.as_str() == me { b } else { a };
                self.name(other.as_str()).to_owned()
            }
            None if item.row.name.is_empty() => item.id.to_string(),
            None => item.row.name.clone(),
        }
    }

    pub(crate) fn online(&self, item: &Item) -> Option<bool> {
        let other = others(item, self.client.user().as_str()).next();
        let other = other.filter(|_| !item.id.is_group())?;
        match self.presence.get(&other)?.0 {
            PresenceState::PresenceOnline => Some(true),
            PresenceState::PresenceOffline => Some(false),
            PresenceState::PresenceUnknown => None,
        }
    }

    /// Who is there, in words.
    pub(crate) fn presence_words(&self, item: &Item) -> String {
        let me = self.client.user().as_str();
        if item.id.is_group() {
            let online = |user: &String| {
                let state = self.presence.get(user);
                state.is_some_and(|(s, _)| *s == PresenceState::PresenceOnline)
            };
            let there = others(item, me).filter(online).count();
            let others = if there == 1 { "other" } else { "others" };
            return format!("{} members, {there} {others} online", item.row.member_count);
        }
        let other = others(item, me).next();
        match other.and_then(|user| self.presence.get(&user)) {
            Some((PresenceState::PresenceOnline, _)) => "online".into(),
            Some((PresenceState::PresenceOffline, 0)) => "offline".into(),
            Some((PresenceState::PresenceOffline, seen)) => {
                format!(
                    "last seen {} {}",
                    self.zone.date(*seen),
                    self.zone.clock(*seen)
                )
            }
            _ => String::new(),
        }
    }

    /// Who types in a conversation now.
    pub(crate) fn typing_in(&self, chat: &ChatId) -> Vec<&str> {
        let now = Instant::now();
        let here =
            |((c, _), until): &(&(String, String), &Instant)| c == chat.as_str() && **until > now;
        let typing = self.typing.iter().filter(here);
        typing.map(|((_, user), _)| self.name(user)).collect()
    }

    pub(crate) fn tick(&self, record: &MessageRecord) -> Tick {
        let me = self.client.user().as_str();
        let (Some(item), Some(open)) = (self.item(), &self.open) else {
            return Tick::Sent;
        };
        let seq = record.seq.0;
        let mut others = others(item, me).peekable();
        if others.peek().is_none() {
            return Tick::Sent;
        }
        let (mut delivered, mut read) = (true, true);
        for user in others {
            let mark = open.mark(&record.chat, &user);
            delivered &= mark.delivered >= seq;
            read &= mark.read >= seq;
        }
        match (delivered, read) {
            (_, true) => Tick::Read,
            (true, false) => Tick::Delivered,
            _ => Tick::Sent,
        }
    }

    pub(crate) fn tick_unsent(&self, send: &PendingSend) -> Tick {
        match () {
            () if send.refused.is_some() => Tick::Refused,
            () if self.queued.contains(&send.id) => Tick::Queued,
            () => Tick::Waiting,
        }
    }
}

/// The others of a conversation.
fn others<'a>(item: &'a Item, me: &'a str) -> impl Iterator<Item = String> + 'a {
    let pair = item.id.dm_users();
    let pair = pair
        .into_iter()
        .flat_map(|(a, b)| [a.to_string(), b.to_string()]);
    let members = item.row.members.iter().map(|m| m.user.clone());
    let is_group = item.id.is_group();
    let all = pair.chain(members.filter(move |_| is_group));
    all.filter(move |user| user != me)
}
