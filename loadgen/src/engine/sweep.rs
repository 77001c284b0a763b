//! The end of a recorded run: every chat is read back by Sync, page by page, into the history.

use std::collections::VecDeque;

use ahash::AHashMap;
use bytes::Bytes;
use hawser_protocol::frame::ClientFrame;
use hawser_protocol::limits::SYNC_LIMIT_MAX;
use hawser_protocol::message::MessageRecord;
use hawser_protocol::pb;

use super::{Counters, Engine, Shared};
use crate::history::Op;
use crate::session::Stage;

/// Pages asked for at a time over all sessions of a thread.
const OPEN_MAX: usize = 64;
/// A page that has not come by then is asked for again.
const PAGE_DEADLINE_MS: u64 = 5_000;
/// A page that was refused is asked for again after so long.
const PAUSE_MS: u64 = 500;
/// How often what is due is looked for.
const LOOK_NS: u64 = 20_000_000;

/// The chats of one thread: each is read by its first member, one page after the other.
pub(super) struct Sweep {
    waiting: VecDeque<(u32, u32)>,
    /// By session.
    open: AHashMap<u32, Asked>,
    next_id: u32,
}

struct Asked {
    conversation: u32,
    after: u64,
    sync_id: u32,
    /// When it is asked for, again where nothing came.
    due_ms: u64,
    truncated_before: u64,
}

impl Sweep {
    pub(super) fn new(shared: &Shared, index: u32) -> Self {
        let mut place: AHashMap<u32, u32> = AHashMap::new();
        let users = (0..shared.plan.users()).filter(|user| shared.plan.thread(*user) == index);
        place.extend(users.zip(0..));
        let reader =
            |number: &u32| Some((*place.get(shared.plan.members(*number).first()?)?, *number));
        let numbers = 0..shared.plan.conversations();
        Self {
            waiting: numbers.filter_map(|number| reader(&number)).collect(),
            open: AHashMap::new(),
            next_id: 1,
        }
    }
}

impl Engine {
    /// Asks for the pages that are due. Returns when to look again.
    pub(super) fn sweep(&mut self) -> u64 {
        let now_ms = self.now_ms();
        for _ in 0..self.sweep.waiting.len() {
            if self.sweep.open.len() >= OPEN_MAX {
                break;
            }
            let Some((at, conversation)) = self.sweep.waiting.pop_front() else {
                break;
            };
            if self.sweep.open.contains_key(&at) {
                self.sweep.waiting.push_back((at, conversation));
                continue;
            }
            let asked = Asked {
                conversation,
                after: 0,
                sync_id: 0,
                due_ms: now_ms,
                truncated_before: 0,
            };
            self.sweep.open.insert(at, asked);
        }
        let due = self
            .sweep
            .open
            .iter()
            .filter(|(_, asked)| asked.due_ms <= now_ms);
        let due: Vec<u32> = due.map(|(at, _)| *at).collect();
        for at in due {
            self.ask(at);
        }
        self.shared.now_ns() + LOOK_NS
    }

    fn ask(&mut self, at: u32) {
        let now_ms = self.now_ms();
        let live = self.sessions[at as usize].stage == Stage::Live;
        let Some(asked) = self.sweep.open.get_mut(&at) else {
            return;
        };
        asked.due_ms = now_ms + if live { PAGE_DEADLINE_MS } else { PAUSE_MS };
        asked.sync_id = self.sweep.next_id;
        self.sweep.next_id = self.sweep.next_id.wrapping_add(1);
        let Some(chat) = self.shared.plan.chat(asked.conversation).filter(|_| live) else {
            return;
        };
        let frame = ClientFrame::Sync(pb::Sync {
            sync_id: asked.sync_id,
            chat: chat.as_str().to_owned(),
            after_ordinal: asked.after,
            limit: u32::try_from(SYNC_LIMIT_MAX).unwrap_or(u32::MAX),
            ..pb::Sync::default()
        });
        self.write(at, &frame);
    }

    /// A page of history.
    pub(super) fn page(&mut self, at: u32, page: &pb::SyncPage) {
        let now_ms = self.now_ms();
        let user = self.sessions[at as usize].user;
        let Some(asked) = self
            .sweep
            .open
            .get_mut(&at)
            .filter(|a| a.sync_id == page.sync_id)
        else {
            return;
        };
        if page.error != 0 {
            asked.due_ms = now_ms + PAUSE_MS;
            *self.found.errors.entry(page.error).or_default() += 1;
            return;
        }
        asked.after = page.next_ordinal;
        asked.truncated_before = asked.truncated_before.max(page.truncated_before);
        let (c, truncated_before) = (asked.conversation, asked.truncated_before);
        for record in &page.records {
            self.row(user, record);
        }
        if page.more {
            return self.ask(at);
        }
        self.sweep.open.remove(&at);
        self.note(user, || Op::Swept {
            c,
            truncated_before,
        });
        Counters::add(&self.shared.counters.swept, 1);
    }

    fn row(&mut self, user: u32, record: &Bytes) {
        let Ok(record) = MessageRecord::decode(record) else {
            self.found.foreign += 1;
            return;
        };
        if let Some((place, n)) = self.placed(&record) {
            self.note(user, || Op::Row { place, n });
        }
    }
}
