//! Syncing: the list of chats and each chat after `recovered: false`, gap fills, and the older
//! history that a user scrolls to.

use super::inbox::{GapRequest, Inbox};
use super::outbox::Outbox;
use super::syncer::{Purpose, Syncer};
use super::types::HistoryDone;
use crate::codes::ErrorCode;
use crate::frame::FrameError;
use crate::ids::ChatId;
use crate::limits::{SYNC_LIMIT_DEFAULT, SYNC_LIMIT_MAX};
use crate::message::MessageRecord;
use crate::pb;

/// More missing than this: only the newest page is fetched, the rest when it is scrolled to.
const CATCH_UP_MAX: u64 = 2_048;

/// Messages asked for in one page when much is missing, and when the newest shall do.
const PAGE_MAX: u32 = 256;
const PAGE_DEFAULT: u32 = 64;
const _: () = assert!(PAGE_MAX as usize == SYNC_LIMIT_MAX);
const _: () = assert!(PAGE_DEFAULT as usize == SYNC_LIMIT_DEFAULT);

/// What a page means for the session.
#[derive(Debug, Default)]
pub(super) struct PageOutcome {
    /// Oldest first.
    pub(super) records: Vec<MessageRecord>,
    /// The chat whose track may have moved.
    pub(super) chat: Option<ChatId>,
    /// These messages come by no delivery offset: acknowledge them by Receipt.
    pub(super) receipt: bool,
    /// All ids of the list, when it is complete.
    pub(super) list_complete: Option<Vec<String>>,
    pub(super) history: Option<HistoryDone>,
    /// Every chat is synced: adopt this head.
    pub(super) adopt: Option<u64>,
}

/// Requests in flight and what they are for.
#[derive(Debug, Default)]
pub(super) struct ChatSync {
    syncer: Syncer,
    head: Option<u64>,
    adopt_given: bool,
    listed: Vec<String>,
    /// The list was asked for while it was being fetched, or its fetch was cut off.
    list_again: bool,
}

impl ChatSync {
    /// Between `recovered: false` and the adoption of the head.
    pub(super) fn adopting(&self) -> bool {
        self.head.is_some()
    }

    pub(super) fn begin(&mut self, head: u64) {
        self.head = Some(head);
        self.adopt_given = false;
        self.list(true);
    }

    /// There is nothing to sync (`live_only`): the head is adopted at once.
    pub(super) fn skip(&mut self, head: u64) {
        self.head = Some(head);
        self.adopt_given = true;
    }

    pub(super) fn adopted(&mut self) {
        self.head = None;
    }

    fn list(&mut self, adopting: bool) {
        self.listed = Vec::new();
        self.list_again = false;
        let purpose = Purpose::List { adopting };
        self.syncer.ask(purpose, pb::Sync::default());
    }

    pub(super) fn refresh_list(&mut self) {
        if self.syncer.has(|p| matches!(p, Purpose::List { .. })) {
            self.list_again = true;
        } else {
            self.list(false);
        }
    }

    pub(super) fn gap(&mut self, request: Option<GapRequest>) {
        if let Some(GapRequest { chat, sync }) = request {
            self.syncer.ask(Purpose::Gap { chat }, sync);
        }
    }

    pub(super) fn history(&mut self, chat: &ChatId, before_ordinal: u64, limit: u32) {
        let purpose = Purpose::History {
            chat: chat.clone(),
            before_ordinal,
        };
        if self.syncer.has(|p| *p == purpose) {
            return;
        }
        self.older(purpose, chat, before_ordinal, limit);
    }

    fn older(&mut self, purpose: Purpose, chat: &ChatId, before_ordinal: u64, limit: u32) {
        let request = pb::Sync {
            chat: chat.to_string(),
            after_ordinal: before_ordinal,
            limit,
            backwards: true,
            ..pb::Sync::default()
        };
        self.syncer.ask(purpose, request);
    }

    pub(super) fn take_due(&mut self, now_ms: u64) -> Vec<pb::Sync> {
        self.syncer.take_due(now_ms)
    }

    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.syncer.next_due_ms()
    }

    pub(super) fn busy(&mut self, now_ms: u64, retry_after_ms: u64) {
        self.syncer.busy(now_ms, retry_after_ms);
    }

    /// An Error that names no request refused one: the page that the oldest would have got.
    pub(super) fn fail_oldest(&self, error: u32) -> Option<pb::SyncPage> {
        let (sync_id, chat) = self.syncer.oldest()?;
        Some(pb::SyncPage {
            sync_id,
            chat,
            error,
            ..pb::SyncPage::default()
        })
    }

    /// A session was recovered: takes up what the last one left undone.
    pub(super) fn resume(&mut self) {
        if self.list_again {
            self.refresh_list();
        }
    }

    pub(super) fn disconnected(&mut self) {
        self.head = None;
        let list = |p: &Purpose| matches!(p, Purpose::List { adopting: false });
        self.list_again |= self.syncer.has(list);
        self.syncer.disconnected();
    }

    /// Takes a page; `Ok(None)`: not asked for, or asked for again.
    pub(super) fn handle_page(
        &mut self,
        page: &pb::SyncPage,
        now_ms: u64,
        inbox: &mut Inbox,
        outbox: &Outbox,
    ) -> Result<Option<PageOutcome>, FrameError> {
        let Some(purpose) = self.syncer.answer(page, now_ms) else {
            return Ok(None);
        };
        let decoded = page.records.iter().map(MessageRecord::decode);
        let mut records = decoded.collect::<Result<Vec<_>, _>>()?;
        records.sort_by_key(|record| record.ordinal);
        let mut outcome = PageOutcome {
            records,
            chat: purpose.chat().cloned(),
            history: purpose.history(page.error != 0 || !page.more, page.error),
            ..PageOutcome::default()
        };
        // Outside of one's membership; the page says where visible history goes on.
        let hidden = page.error == u32::from(ErrorCode::NotVisible.number());
        match &purpose {
            Purpose::List { adopting } => {
                outcome.list_complete = self.list_page(page, *adopting, inbox, outbox);
            }
            Purpose::Gap { chat } => {
                self.gap(inbox.gap_page(chat, &outcome.records, page.more, page.next_ordinal));
            }
            Purpose::History { chat, .. } => {
                if hidden && page.more && page.next_ordinal > 0 {
                    outcome.history = None;
                    self.older(purpose.clone(), chat, page.next_ordinal, PAGE_DEFAULT);
                }
            }
            Purpose::CatchUp { chat } | Purpose::Newest { chat } => {
                inbox.known(chat, &outcome.records);
                outcome.receipt = true;
                let upward = matches!(purpose, Purpose::CatchUp { .. });
                let known = inbox.track(chat).unwrap_or_default().ordinal;
                let goes_on = page.error == 0 || (hidden && page.next_ordinal > known);
                if upward && page.more && goes_on {
                    self.catch_up(chat, known.max(page.next_ordinal), PAGE_MAX);
                }
            }
        }
        outcome.adopt = self.adoptable();
        Ok(Some(outcome))
    }

    fn catch_up(&mut self, chat: &ChatId, after_ordinal: u64, limit: u32) {
        let request = pb::Sync {
            chat: chat.to_string(),
            after_ordinal,
            limit,
            ..pb::Sync::default()
        };
        let chat = chat.clone();
        self.syncer.ask(Purpose::CatchUp { chat }, request);
    }

    fn list_page(
        &mut self,
        page: &pb::SyncPage,
        adopting: bool,
        inbox: &Inbox,
        outbox: &Outbox,
    ) -> Option<Vec<String>> {
        for summary in &page.chats {
            self.listed.push(summary.chat.clone());
            if adopting && let Ok(chat) = ChatId::new(&summary.chat) {
                self.ask_chat(chat, summary.last_ordinal, inbox, outbox);
            }
        }
        if page.more && !page.next_cursor.is_empty() {
            let request = pb::Sync {
                cursor: page.next_cursor.clone(),
                ..pb::Sync::default()
            };
            self.syncer.ask(Purpose::List { adopting }, request);
            return None;
        }
        let complete = (page.error == 0).then(|| std::mem::take(&mut self.listed));
        if self.list_again {
            self.refresh_list();
        }
        complete
    }

    /// Asks for what is new in a chat; for its watermarks even when nothing is. A chat to which we
    /// have unanswered Sends is walked whole: they may be among what is missing.
    fn ask_chat(&mut self, chat: ChatId, last_ordinal: u64, inbox: &Inbox, outbox: &Outbox) {
        let track = inbox.track(&chat).filter(|track| {
            last_ordinal.saturating_sub(track.ordinal) <= CATCH_UP_MAX
                || outbox.unanswered_in(&chat)
        });
        if let Some(track) = track {
            let fresh = last_ordinal > track.ordinal;
            let limit = if fresh { PAGE_MAX } else { 1 };
            self.catch_up(&chat, track.ordinal, limit);
            return;
        }
        let request = pb::Sync {
            chat: chat.to_string(),
            limit: PAGE_DEFAULT,
            backwards: true,
            ..pb::Sync::default()
        };
        self.syncer.ask(Purpose::Newest { chat }, request);
    }

    fn adoptable(&mut self) -> Option<u64> {
        let head = self.head.filter(|_| !self.adopt_given)?;
        let open = |p: &Purpose| !matches!(p, Purpose::History { .. } | Purpose::Gap { .. });
        if self.syncer.has(open) {
            return None;
        }
        self.adopt_given = true;
        Some(head)
    }
}
