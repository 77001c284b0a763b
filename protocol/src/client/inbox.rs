//! What was delivered: per chat how far it is known, where messages are missing, and which offsets
//! that holds back.

use super::line::{CursorLine, Ticket};
use super::types::{Place, Track};
use crate::ids::ChatId;
use crate::limits::{SYNC_LIMIT_DEFAULT, SYNC_LIMIT_MAX};
use crate::message::MessageRecord;
use crate::pb;
use std::collections::BTreeMap;

/// Messages missing below some that have come already.
#[derive(Debug)]
struct Gap {
    /// The highest that has come: the chat is known up to it once the gap is filled.
    high: Track,
    /// Ordinals below this are missing, or may be.
    below_ordinal: u64,
    /// As it was when the page in flight was asked for.
    asked_below: u64,
    /// Offsets that wait for it: at most a window of them, since the server stops there.
    held: Vec<Ticket>,
}

/// A Sync that fills a gap of a chat.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct GapRequest {
    pub(super) chat: ChatId,
    pub(super) sync: pb::Sync,
}

/// Tracks, gaps and the line of offsets.
#[derive(Debug)]
pub(super) struct Inbox {
    tracks: BTreeMap<ChatId, Track>,
    gaps: BTreeMap<ChatId, Gap>,
    pub(super) line: CursorLine,
}

impl Inbox {
    pub(super) fn new(tracks: BTreeMap<ChatId, Track>, line: CursorLine) -> Self {
        Self {
            tracks,
            gaps: BTreeMap::new(),
            line,
        }
    }

    pub(super) fn track(&self, chat: &ChatId) -> Option<Track> {
        self.tracks.get(chat).copied()
    }

    /// Whether a message is known already: a second delivery, to be dropped.
    pub(super) fn knows(&self, place: &Place) -> bool {
        self.track(&place.chat).is_some_and(|t| place.seq <= t.seq)
    }

    /// A frame that holds no message has come at an offset.
    pub(super) fn other(&mut self, offset: u64) {
        self.line.arrive(offset, false);
    }

    /// A message has come, at a delivery offset or (`None`) at none. Returns what to ask for when
    /// messages before it are missing. `held`: its body is here; otherwise it is missing itself.
    pub(super) fn message(
        &mut self,
        offset: Option<u64>,
        place: &Place,
        held: bool,
    ) -> Option<GapRequest> {
        let Place {
            chat,
            seq,
            prev_seq,
            ordinal,
        } = place;
        let (seq, ordinal) = (*seq, *ordinal);
        let known = self.knows(place);
        let last = self.track(chat).unwrap_or_default().seq;
        if known {
            offset.map(|offset| self.line.arrive(offset, false));
            return None;
        }
        if let Some(gap) = self.gaps.get_mut(chat) {
            gap.held
                .extend(offset.and_then(|offset| self.line.arrive(offset, true)));
            if !held {
                gap.below_ordinal = gap.below_ordinal.max(ordinal.saturating_add(1));
            } else if *prev_seq > gap.high.seq {
                gap.below_ordinal = gap.below_ordinal.max(ordinal); // another hole below it
            }
            if seq > gap.high.seq {
                gap.high = Track { seq, ordinal };
            }
            return None;
        }
        if held && *prev_seq <= last {
            self.tracks.insert(chat.clone(), Track { seq, ordinal });
            offset.map(|offset| self.line.arrive(offset, false));
            return None;
        }
        let ticket = offset.and_then(|offset| self.line.arrive(offset, true));
        let gap = Gap {
            high: Track { seq, ordinal },
            below_ordinal: if held {
                ordinal
            } else {
                ordinal.saturating_add(1)
            },
            asked_below: 0,
            held: ticket.into_iter().collect(),
        };
        self.gaps.insert(chat.clone(), gap);
        self.request(chat)
    }

    /// The Sync that fills the chat's gap from where it is known.
    fn request(&mut self, chat: &ChatId) -> Option<GapRequest> {
        let track = self.track(chat);
        let gap = self.gaps.get_mut(chat)?;
        gap.asked_below = gap.below_ordinal;
        let sync = match track {
            None => pb::Sync {
                after_ordinal: gap.below_ordinal,
                limit: limit(SYNC_LIMIT_DEFAULT as u64),
                backwards: true,
                ..pb::Sync::default()
            },
            Some(track) => pb::Sync {
                after_ordinal: track.ordinal,
                limit: limit(
                    gap.below_ordinal
                        .saturating_sub(track.ordinal)
                        .saturating_sub(1),
                ),
                ..pb::Sync::default()
            },
        };
        let chat = chat.clone();
        let sync = pb::Sync {
            chat: chat.to_string(),
            ..sync
        };
        Some(GapRequest { chat, sync })
    }

    /// A page of the gap is in the batch. Returns the next request, or `None` when the gap is
    /// closed: filled, or its rest is not ours to see. `next_ordinal`: where visible history goes
    /// on when there is none on this page but more behind it.
    pub(super) fn gap_page(
        &mut self,
        chat: &ChatId,
        records: &[MessageRecord],
        more: bool,
        next_ordinal: u64,
    ) -> Option<GapRequest> {
        let gap = self.gaps.get(chat)?;
        let grown = gap.below_ordinal > gap.asked_below;
        let below = gap.below_ordinal;
        let track = self.track(chat);
        let last = records.last();
        if let Some(track) = track
            && last.is_none()
            && more
            && track.ordinal < next_ordinal
            && next_ordinal < below
        {
            let skipped = Track {
                ordinal: next_ordinal,
                ..track
            };
            self.tracks.insert(chat.clone(), skipped);
            return self.request(chat);
        }
        let further = track.zip(last).is_some_and(|(track, last)| {
            more && last.ordinal > track.ordinal && last.ordinal.saturating_add(1) < below
        });
        if further || (grown && last.is_none_or(|last| last.ordinal.saturating_add(1) < below)) {
            if let Some(last) = last {
                let (seq, ordinal) = (last.seq, last.ordinal);
                self.tracks.insert(chat.clone(), Track { seq, ordinal });
            }
            return self.request(chat);
        }
        let gap = self.gaps.remove(chat)?;
        let high = match last {
            Some(last) if last.seq > gap.high.seq => Track {
                seq: last.seq,
                ordinal: last.ordinal,
            },
            _ => gap.high,
        };
        self.tracks.insert(chat.clone(), high);
        for ticket in gap.held {
            self.line.release(ticket);
        }
        None
    }

    /// A page of a sync upward or of the newest: the chat is known up to its last message.
    pub(super) fn known(&mut self, chat: &ChatId, records: &[MessageRecord]) {
        let Some(last) = records.last() else { return };
        let track = self.tracks.entry(chat.clone()).or_default();
        if last.seq > track.seq {
            track.seq = last.seq;
            track.ordinal = last.ordinal;
        }
    }

    /// The connection is gone: the replay on the next finds the same gaps again.
    pub(super) fn disconnected(&mut self) {
        self.gaps.clear();
        self.line.restart();
    }
}

fn limit(missing: u64) -> u32 {
    u32::try_from(missing.clamp(1, SYNC_LIMIT_MAX as u64)).unwrap_or(1)
}
