//! Sync requests: at most four in flight, repeated after a reconnect or a busy answer.

use super::types::HistoryDone;
use crate::codes::ErrorCode;
use crate::ids::ChatId;
use crate::limits::SYNCS_IN_FLIGHT_MAX;
use crate::pb;
use std::collections::{BTreeMap, VecDeque};

/// Without a page for this long a request is sent again, milliseconds.
const ANSWER_MS: u64 = 20_000;
/// A busy answer is repeated after this, milliseconds.
const BUSY_RETRY_MS: u64 = 1_000;

/// Whether an error code of the wire may be retried; one that this version does not know may not.
pub(super) fn may_retry(code: u32) -> bool {
    u16::try_from(code)
        .ok()
        .and_then(ErrorCode::from_number)
        .is_some_and(ErrorCode::may_retry)
}

/// Why a page was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The list of my chats; `adopting` while the session must sync before it goes live.
    List { adopting: bool },
    /// What is new in a chat, page by page upward.
    CatchUp { chat: ChatId },
    /// The newest page of a chat that this device knows nothing of.
    Newest { chat: ChatId },
    /// Messages between two that were delivered.
    Gap { chat: ChatId },
    /// The application shows older messages.
    History { chat: ChatId, before_ordinal: u64 },
}

impl Purpose {
    pub(super) fn chat(&self) -> Option<&ChatId> {
        match self {
            Self::List { .. } => None,
            Self::CatchUp { chat } | Self::Newest { chat } | Self::Gap { chat } => Some(chat),
            Self::History { chat, .. } => Some(chat),
        }
    }

    pub(super) fn history(&self, at_start: bool, error: u32) -> Option<HistoryDone> {
        let Self::History {
            chat,
            before_ordinal,
        } = self
        else {
            return None;
        };
        Some(HistoryDone {
            chat: chat.clone(),
            before_ordinal: *before_ordinal,
            at_start,
            error,
        })
    }
}

#[derive(Debug)]
struct Job {
    purpose: Purpose,
    request: pb::Sync,
    not_before_ms: u64,
}

#[derive(Debug)]
struct InFlight {
    job: Job,
    deadline_ms: u64,
}

/// Requests that wait and those without a page yet.
#[derive(Debug, Default)]
pub(super) struct Syncer {
    waiting: VecDeque<Job>,
    in_flight: BTreeMap<u32, InFlight>,
    last_id: u32,
}

impl Syncer {
    pub(super) fn ask(&mut self, purpose: Purpose, request: pb::Sync) {
        self.waiting.push_back(Job {
            purpose,
            request,
            not_before_ms: 0,
        });
    }

    /// Whether a request of such a purpose waits or is in flight.
    pub(super) fn has(&self, test: impl Fn(&Purpose) -> bool) -> bool {
        let waiting = self.waiting.iter();
        let in_flight = self.in_flight.values().map(|entry| &entry.job);
        waiting.chain(in_flight).any(|job| test(&job.purpose))
    }

    /// Requests that may leave now.
    pub(super) fn take_due(&mut self, now_ms: u64) -> Vec<pb::Sync> {
        let late = self
            .in_flight
            .extract_if(.., |_, entry| now_ms >= entry.deadline_ms);
        for (_, entry) in late.collect::<Vec<_>>() {
            self.waiting.push_front(entry.job);
        }
        let mut due = Vec::new();
        let mut later = VecDeque::new();
        while let Some(job) = self.waiting.pop_front() {
            if self.in_flight.len() >= SYNCS_IN_FLIGHT_MAX {
                later.push_back(job);
                later.append(&mut self.waiting);
            } else if now_ms < job.not_before_ms {
                later.push_back(job);
            } else {
                self.last_id = self.last_id.wrapping_add(1);
                due.push(pb::Sync {
                    sync_id: self.last_id,
                    ..job.request.clone()
                });
                let deadline_ms = now_ms + ANSWER_MS;
                self.in_flight
                    .insert(self.last_id, InFlight { job, deadline_ms });
            }
        }
        self.waiting = later;
        due
    }

    pub(super) fn next_due_ms(&self) -> Option<u64> {
        let answers = self.in_flight.values().map(|entry| entry.deadline_ms);
        let free = self.in_flight.len() < SYNCS_IN_FLIGHT_MAX;
        let waiting = self.waiting.iter().filter(|_| free);
        answers.chain(waiting.map(|job| job.not_before_ms)).min()
    }

    /// The purpose that a page answers; `None`: none, or it will be asked again.
    pub(super) fn answer(&mut self, page: &pb::SyncPage, now_ms: u64) -> Option<Purpose> {
        let InFlight { mut job, .. } = self.in_flight.remove(&page.sync_id)?;
        if !may_retry(page.error) {
            return Some(job.purpose);
        }
        job.not_before_ms = now_ms + BUSY_RETRY_MS;
        self.waiting.push_front(job);
        None
    }

    /// An Error frame answered some Sync: all in flight go again later.
    pub(super) fn busy(&mut self, now_ms: u64, retry_after_ms: u64) {
        for (_, InFlight { mut job, .. }) in std::mem::take(&mut self.in_flight) {
            job.not_before_ms = now_ms + retry_after_ms.max(BUSY_RETRY_MS);
            self.waiting.push_back(job);
        }
    }

    /// Id and chat of the request that has waited longest for its page.
    pub(super) fn oldest(&self) -> Option<(u32, String)> {
        let (id, entry) = self.in_flight.first_key_value()?;
        Some((*id, entry.job.request.chat.clone()))
    }

    /// The connection is gone; what the application asked for is asked again on the next.
    pub(super) fn disconnected(&mut self) {
        let in_flight = std::mem::take(&mut self.in_flight);
        let jobs = in_flight.into_values().map(|entry| entry.job);
        let waiting = std::mem::take(&mut self.waiting);
        let theirs = |job: &Job| matches!(job.purpose, Purpose::History { .. });
        self.waiting = jobs.chain(waiting).filter(theirs).collect();
    }
}
