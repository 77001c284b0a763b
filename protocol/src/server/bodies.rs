//! The message records that delivery records refer to: the recent ones, and those that sessions wait for (sans-IO).
//!
//! Every core of a node has a table of its own, and is given every body of the node's lane and each that was fetched. The
//! bytes are shared, so the budget is about the node's memory. What exceeds it is forgotten oldest first, but never the
//! newest, so that who waits for a body gets it.

use crate::ids::{ChatId, Seq};
use crate::record::{BodyKey, Referred, body_checksum};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

/// What an entry costs beside its bytes.
const ENTRY_OVERHEAD_BYTES: usize = 96;
/// Bodies that are waited for at a time; who needs another is asked to come again.
const WANTED_MAX: usize = 4_096;
/// Of those, asked for at a time.
const ASKED_MAX: usize = 64;
/// A body whose reference came first is waited for so long before it is fetched, milliseconds.
const LANE_WAIT_MS: u64 = 100;
/// An answer that has not come by then is lost.
const ANSWER_MS: u64 = 10_000;
/// Pause before a fetch is tried again: the first, and the longest.
const AGAIN_MS: u64 = 200;
const AGAIN_MS_MAX: u64 = 5_000;
/// A row is called gone when it was looked for so often: a read below QUORUM may miss it.
const ABSENT_MAX: u8 = 3;

/// A message record, and its checksum. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// The encoded `MessageRecord`.
    pub record: Bytes,
    checksum: u32,
}

/// What a table has of what a reference means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The message record.
    Here(Bytes),
    /// The store has it no more: it is nobody's to get.
    Gone,
    /// Not here now.
    Missing,
}

/// A body that is to be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// Of which message.
    pub key: BodyKey,
    /// Where it is stored.
    pub chat: ChatId,
    /// Under which ordinal, and what it has to be.
    pub referred: Referred,
}

/// What became of a fetch.
#[derive(Debug, Clone)]
pub enum Fetched {
    /// The message record that was meant.
    Body(Body),
    /// The store has no such row.
    Absent,
    /// The store could not be read.
    Failed,
}

/// See the module. `W`: who waits.
#[derive(Debug)]
pub struct Bodies<W> {
    held: BTreeMap<BodyKey, Held>,
    /// What is held, oldest first.
    order: VecDeque<BodyKey>,
    bytes: usize,
    bytes_max: usize,
    evicted: u64,
    wanted: BTreeMap<BodyKey, Wanted<W>>,
    asked: usize,
    /// When a wanted one is looked at next.
    due_ms: u64,
    /// Those for whom there was no room among the wanted.
    turned_away: Vec<W>,
    /// Latest that the lane brought, by source partition: what is not above comes by no lane any more.
    passed: BTreeMap<u32, Seq>,
}

#[derive(Debug)]
enum Held {
    Here(Body),
    Gone(Referred),
}

#[derive(Debug)]
struct Wanted<W> {
    chat: ChatId,
    referred: Referred,
    waiting: Vec<W>,
    state: State,
    tries: u32,
    absent: u8,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Not asked for before.
    At(u64),
    /// Until the answer is lost.
    Asked(u64),
}

impl Body {
    /// Takes the checksum of a message record.
    #[must_use]
    pub fn new(record: Bytes) -> Self {
        let checksum = body_checksum(&record);
        Self { record, checksum }
    }

    /// Whether it is what a reference means.
    #[must_use]
    pub fn is(&self, referred: &Referred) -> bool {
        referred.is_of(self.record.len(), self.checksum)
    }
}

impl Found {
    /// The message record, if it is here.
    #[must_use]
    pub fn record(&self) -> Option<&[u8]> {
        match self {
            Self::Here(record) => Some(record),
            Self::Gone | Self::Missing => None,
        }
    }
}

impl Held {
    fn cost(&self) -> usize {
        let bytes = match self {
            Self::Here(body) => body.record.len(),
            Self::Gone(_) => 0,
        };
        bytes + ENTRY_OVERHEAD_BYTES
    }
}

impl<W: Copy> Bodies<W> {
    /// A table that holds at most `bytes_max` bytes, overhead counted, or one body.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self {
            held: BTreeMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            bytes_max,
            evicted: 0,
            wanted: BTreeMap::new(),
            asked: 0,
            due_ms: u64::MAX,
            turned_away: Vec::new(),
            passed: BTreeMap::new(),
        }
    }

    /// Takes a body of the lane. Returns who waited for it.
    #[must_use]
    pub fn came(&mut self, key: BodyKey, body: Body) -> Vec<W> {
        let passed = self.passed.entry(key.source_partition).or_default();
        *passed = key.seq.max(*passed);
        self.keep(key, Held::Here(body));
        self.satisfy(&key)
    }

    /// Takes what became of a fetch, whoever asked. Returns who goes on; `alive` tells who of those that wait is still
    /// there.
    #[must_use]
    pub fn fetched(
        &mut self,
        key: BodyKey,
        outcome: Fetched,
        now_ms: u64,
        alive: impl FnMut(&W) -> bool,
    ) -> Vec<W> {
        match outcome {
            Fetched::Body(body) => {
                self.keep(key, Held::Here(body));
                self.satisfy(&key)
            }
            Fetched::Absent => {
                let Some(wanted) = self.wanted.get_mut(&key) else {
                    return Vec::new();
                };
                wanted.absent += 1;
                if wanted.absent >= ABSENT_MAX {
                    let referred = wanted.referred;
                    self.keep(key, Held::Gone(referred));
                    return self.satisfy(&key);
                }
                self.again(key, now_ms, alive);
                Vec::new()
            }
            Fetched::Failed => {
                self.again(key, now_ms, alive);
                Vec::new()
            }
        }
    }

    /// Notes that a body is wanted, and by whom; `false`: too many are, and who waits is told of it by
    /// [`Bodies::turned_away`].
    pub fn want(&mut self, fetch: Fetch, who: Option<W>, now_ms: u64) -> bool {
        let Fetch {
            key,
            chat,
            referred,
        } = fetch;
        if let Some(wanted) = self.wanted.get_mut(&key) {
            wanted.waiting.extend(who);
            return true;
        }
        if self.wanted.len() >= WANTED_MAX {
            self.turned_away.extend(who);
            return false;
        }
        let passed = self.passed.get(&key.source_partition);
        let may_come = passed.is_none_or(|passed| key.seq > *passed);
        let at_ms = now_ms + if may_come { LANE_WAIT_MS } else { 0 };
        self.due_ms = self.due_ms.min(at_ms);
        let wanted = Wanted {
            chat,
            referred,
            waiting: who.into_iter().collect(),
            state: State::At(at_ms),
            tries: 0,
            absent: 0,
        };
        self.wanted.insert(key, wanted);
        true
    }

    /// Those for whom there was no room, at most once each.
    #[must_use]
    pub fn turned_away(&mut self) -> Vec<W> {
        std::mem::take(&mut self.turned_away)
    }

    /// Gives what is to be fetched now to `ask`, which returns whether it could.
    pub fn due(&mut self, now_ms: u64, mut ask: impl FnMut(Fetch) -> bool) {
        if now_ms < self.due_ms {
            return;
        }
        self.due_ms = u64::MAX;
        for (key, wanted) in &mut self.wanted {
            if matches!(wanted.state, State::Asked(until_ms) if now_ms >= until_ms) {
                wanted.state = State::At(now_ms);
                self.asked = self.asked.saturating_sub(1);
            }
            let at_ms = match wanted.state {
                State::Asked(until_ms) => until_ms,
                State::At(at_ms) if now_ms < at_ms => at_ms,
                // An answer makes room, and looks again.
                State::At(_) if self.asked >= ASKED_MAX => now_ms + AGAIN_MS,
                State::At(_) => {
                    let fetch = Fetch {
                        key: *key,
                        chat: wanted.chat.clone(),
                        referred: wanted.referred,
                    };
                    let asked = ask(fetch);
                    self.asked += usize::from(asked);
                    wanted.state = match asked {
                        true => State::Asked(now_ms + ANSWER_MS),
                        false => State::At(now_ms + AGAIN_MS),
                    };
                    now_ms + if asked { ANSWER_MS } else { AGAIN_MS }
                }
            };
            self.due_ms = self.due_ms.min(at_ms);
        }
    }

    /// When [`Bodies::due`] has something to look at, in monotonic time; `u64::MAX`: never.
    #[must_use]
    pub fn due_ms(&self) -> u64 {
        self.due_ms
    }

    /// What is held of what a reference means.
    #[must_use]
    pub fn find(&self, key: &BodyKey, referred: &Referred) -> Found {
        match self.held.get(key) {
            Some(Held::Here(body)) if body.is(referred) => Found::Here(body.record.clone()),
            Some(Held::Gone(gone)) if gone == referred => Found::Gone,
            _ => Found::Missing,
        }
    }

    /// Bytes held, overhead counted.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bodies that are waited for.
    #[must_use]
    pub fn wanted(&self) -> usize {
        self.wanted.len()
    }

    /// Entries forgotten for want of room since the start.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    fn keep(&mut self, key: BodyKey, held: Held) {
        self.bytes += held.cost();
        match self.held.insert(key, held) {
            Some(before) => self.bytes -= before.cost(),
            None => self.order.push_back(key),
        }
        while self.bytes > self.bytes_max && self.order.len() > 1 {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            if oldest == key {
                // The newest, in an old place.
                self.order.push_back(oldest);
            } else if let Some(held) = self.held.remove(&oldest) {
                self.bytes -= held.cost();
                self.evicted += 1;
            }
        }
    }

    fn satisfy(&mut self, key: &BodyKey) -> Vec<W> {
        let Some(wanted) = self.wanted.remove(key) else {
            return Vec::new();
        };
        self.forget_asked(wanted.state);
        wanted.waiting
    }

    /// A fetch came to nothing: later once more, for those who are still there.
    fn again(&mut self, key: BodyKey, now_ms: u64, mut alive: impl FnMut(&W) -> bool) {
        let Some(wanted) = self.wanted.get_mut(&key) else {
            return;
        };
        let state = wanted.state;
        wanted.waiting.retain(|who| alive(who));
        if wanted.waiting.is_empty() {
            self.wanted.remove(&key);
        } else {
            let wait_ms = (AGAIN_MS << wanted.tries.min(8)).min(AGAIN_MS_MAX);
            wanted.tries += 1;
            wanted.state = State::At(now_ms + wait_ms);
            self.due_ms = self.due_ms.min(now_ms + wait_ms);
        }
        self.forget_asked(state);
    }

    fn forget_asked(&mut self, state: State) {
        if matches!(state, State::Asked(_)) {
            self.asked = self.asked.saturating_sub(1);
            if self.asked + 1 == ASKED_MAX {
                self.due_ms = 0;
            }
        }
    }
}

#[cfg(test)]
#[path = "bodies_tests.rs"]
mod tests;
