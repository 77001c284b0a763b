//! History: pages of a chat and the list of chats, for one reader, within what the reader may see.
//!
//! A message is visible inside the reader's membership intervals, the changes that opened and closed
//! them included. What is asked for and lies outside is answered `not_visible`, with the place to go
//! on from; a chat that is none of the reader's, or none at all, is answered `not_member`.

use hawser_engines::store::{Membership, Page, Store, StoreError, StoredMessage};
use hawser_protocol::codes::ErrorCode;
use hawser_protocol::frame::MessageView;
use hawser_protocol::ids::{ChatId, Seq, UserId};
use hawser_protocol::limits::{
    FRAME_BYTES_MAX, SYNC_LIMIT_DEFAULT, SYNC_LIMIT_MAX, WS_JSON_MESSAGE_BYTES_MAX,
};
use hawser_protocol::pb;
use prost::Message as _;
use std::sync::Arc;

/// Members named in a chat's summary; of a larger group the first, the API has them all.
pub const SUMMARY_MEMBERS_MAX: usize = 64;
/// Watermarks in one page; in a larger chat the first by user id.
pub const WATERMARKS_MAX: usize = 256;
/// What a page may take of a binary frame, bytes: the rest is for header and other fields.
const BINARY_BYTES_MAX: usize = FRAME_BYTES_MAX - 1_024;
/// What a page may take of a JSON message, bytes. A single message of control characters, which
/// JSON writes six times as long, may exceed it.
const JSON_BYTES_MAX: usize = WS_JSON_MESSAGE_BYTES_MAX - 1_024;
/// JSON of a message without ids and body, bytes.
const JSON_MESSAGE_BYTES: usize = 420;

/// Reads history; blocks for reads of the store, never for more than a page's worth.
#[derive(Clone)]
pub struct History {
    store: Arc<dyn Store>,
}

/// Ordinals that a reader may see, inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    from: u64,
    to: u64,
}

/// What a reader may see of a chat that is its own.
struct Sight {
    /// In order, apart.
    spans: Vec<Span>,
    /// `None` for a 1:1 chat.
    membership: Option<Membership>,
}

impl History {
    /// Over a store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// One page: of a chat's history, or with an empty chat of the reader's chats. What cannot be
    /// answered is said in the page's `error`.
    #[must_use]
    pub fn sync(&self, user: &UserId, request: &pb::Sync) -> pb::SyncPage {
        let limit = match request.limit as usize {
            0 => SYNC_LIMIT_DEFAULT,
            limit => limit.min(SYNC_LIMIT_MAX),
        };
        let mut page = pb::SyncPage {
            sync_id: request.sync_id,
            chat: request.chat.clone(),
            ..Default::default()
        };
        let outcome = if request.chat.is_empty() {
            self.chats(user, &request.cursor, limit, &mut page)
        } else {
            match ChatId::new(&request.chat) {
                Ok(chat) => self.messages(user, &chat, request, limit, &mut page),
                Err(_) => Err(ErrorCode::BadId),
            }
        };
        if let Err(code) = outcome {
            page.error = u32::from(code.number());
            page.text = code.name().to_owned();
        }
        page
    }

    fn messages(
        &self,
        user: &UserId,
        chat: &ChatId,
        request: &pb::Sync,
        limit: usize,
        page: &mut pb::SyncPage,
    ) -> Result<(), ErrorCode> {
        let sight = self.sight(user, chat)?;
        let head = self.store.head(chat).map_err(unavailable)?.ordinal;
        let low = self
            .store
            .truncated_before(chat)
            .map_err(unavailable)?
            .max(1);
        if low > 1 {
            page.truncated_before = low;
        }
        let mut budget = Budget::new(limit);
        let range = Range {
            low,
            head,
            after: request.after_ordinal,
        };
        page.next_ordinal = request.after_ordinal;
        let outcome = if request.backwards {
            self.down(chat, &sight.spans, range, &mut budget, page)
        } else {
            self.up(chat, &sight.spans, range, &mut budget, page)
        };
        let newest = if request.backwards {
            request.after_ordinal == 0
        } else {
            !page.more
        };
        if outcome.is_ok() && newest && sight.membership.is_none_or(|m| m.current()) {
            self.watermarks(chat, &mut budget, page)?;
        }
        outcome
    }

    /// Ascending, from just above `after`.
    fn up(
        &self,
        chat: &ChatId,
        spans: &[Span],
        range: Range,
        budget: &mut Budget,
        page: &mut pb::SyncPage,
    ) -> Result<(), ErrorCode> {
        let start = range.after.saturating_add(1).max(range.low);
        let seen = |s: &Span| Span {
            from: s.from.max(start),
            to: s.to.min(range.head),
        };
        let spans: Vec<Span> = spans.iter().map(seen).filter(|s| s.from <= s.to).collect();
        if start > range.head {
            return Ok(());
        }
        let wanted = start.saturating_add(budget.rows as u64 - 1).min(range.head);
        match spans.first() {
            None => return Err(ErrorCode::NotVisible),
            // Whoever asks from the start asks from where it may see.
            Some(first) if first.from > wanted && range.after > 0 => {
                page.more = true;
                page.next_ordinal = first.from - 1;
                return Err(ErrorCode::NotVisible);
            }
            Some(_) => {}
        }
        for span in &spans {
            let whole = self.fill(chat, *span, false, budget, page)?;
            if !whole {
                break;
            }
        }
        page.more = spans.iter().any(|s| s.to > page.next_ordinal);
        Ok(())
    }

    /// Descending, from just below `after`, or from the newest.
    fn down(
        &self,
        chat: &ChatId,
        spans: &[Span],
        range: Range,
        budget: &mut Budget,
        page: &mut pb::SyncPage,
    ) -> Result<(), ErrorCode> {
        let top = match range.after {
            0 => range.head,
            after => (after - 1).min(range.head),
        };
        let seen = |s: &Span| Span {
            from: s.from.max(range.low),
            to: s.to.min(top),
        };
        let spans: Vec<Span> = spans
            .iter()
            .rev()
            .map(seen)
            .filter(|s| s.from <= s.to)
            .collect();
        if top < range.low {
            return Ok(());
        }
        let wanted = top.saturating_sub(budget.rows as u64 - 1).max(range.low);
        match spans.first() {
            None => return Err(ErrorCode::NotVisible),
            Some(first) if first.to < wanted && range.after > 0 => {
                page.more = true;
                page.next_ordinal = first.to + 1;
                return Err(ErrorCode::NotVisible);
            }
            Some(_) => {}
        }
        for span in &spans {
            let whole = self.fill(chat, *span, true, budget, page)?;
            if !whole {
                break;
            }
        }
        page.more = spans.iter().any(|s| s.from < page.next_ordinal);
        Ok(())
    }

    /// Adds the rows of a span; whether all of them found room.
    fn fill(
        &self,
        chat: &ChatId,
        span: Span,
        backwards: bool,
        budget: &mut Budget,
        page: &mut pb::SyncPage,
    ) -> Result<bool, ErrorCode> {
        let (mut from, mut to) = (span.from, span.to);
        while from <= to && budget.rows > 0 {
            let asked = Page {
                from,
                to,
                backwards,
                limit: budget.rows,
                bytes_max: budget.binary,
            };
            let rows = self.store.messages(chat, asked).map_err(unavailable)?;
            let Some(last) = rows.last().map(|row| row.ordinal) else {
                return Ok(true);
            };
            for row in rows {
                if !budget.take(message_cost(&row), page.records.is_empty()) {
                    return Ok(false);
                }
                budget.rows -= 1;
                page.next_ordinal = row.ordinal;
                page.records.push(row.record);
            }
            if backwards {
                to = last.saturating_sub(1);
            } else {
                from = last + 1;
            }
        }
        Ok(from > to)
    }

    fn watermarks(
        &self,
        chat: &ChatId,
        budget: &mut Budget,
        page: &mut pb::SyncPage,
    ) -> Result<(), ErrorCode> {
        for row in self
            .store
            .receipts(chat)
            .map_err(unavailable)?
            .into_iter()
            .take(WATERMARKS_MAX)
        {
            let mark = pb::Watermark {
                user: row.user.to_string(),
                delivered_seq: row.delivered.0,
                read_seq: row.read.0,
            };
            let cost = Cost {
                binary: mark.encoded_len() + 4,
                json: mark.user.len() + 100,
            };
            if !budget.take(cost, false) {
                break;
            }
            page.watermarks.push(mark);
        }
        Ok(())
    }

    fn chats(
        &self,
        user: &UserId,
        cursor: &str,
        limit: usize,
        page: &mut pb::SyncPage,
    ) -> Result<(), ErrorCode> {
        let after = match cursor {
            "" => None,
            cursor => Some(ChatId::new(cursor).map_err(|_| ErrorCode::BadId)?),
        };
        let store = &self.store;
        let chats = store
            .chats_of(user, after.as_ref(), limit + 1)
            .map_err(unavailable)?;
        let mut budget = Budget::new(limit);
        for chat in chats {
            let summary = self.summary(user, &chat)?;
            let members: usize = summary.members.iter().map(|m| m.user.len() + 40).sum();
            let cost = Cost {
                binary: summary.encoded_len() + 4,
                json: 400 + 2 * summary.name.len() + members,
            };
            if budget.rows == 0 || !budget.take(cost, page.chats.is_empty()) {
                page.more = true;
                break;
            }
            budget.rows -= 1;
            page.next_cursor = chat.to_string();
            page.chats.push(summary);
        }
        Ok(())
    }

    fn summary(&self, user: &UserId, chat: &ChatId) -> Result<pb::ChatSummary, ErrorCode> {
        let store = &self.store;
        let head = store.head(chat).map_err(unavailable)?;
        let receipts = store.receipts(chat).map_err(unavailable)?;
        let own = receipts.iter().find(|row| row.user == *user);
        let mut summary = pb::ChatSummary {
            chat: chat.to_string(),
            last_seq: head.seq.0,
            last_ordinal: head.ordinal,
            read_seq: own.map_or(0, |row| row.read.0),
            ..Default::default()
        };
        if let Some((a, b)) = chat.dm_users() {
            let both = if a == b { vec![a] } else { vec![a, b] };
            summary.member_count = u32::try_from(both.len()).unwrap_or(u32::MAX);
            let member = |user: UserId| pb::Member {
                user: user.to_string(),
                admin: false,
            };
            summary.members = both.into_iter().map(member).collect();
            return Ok(summary);
        }
        let info = store.chat(chat).map_err(unavailable)?.unwrap_or_default();
        summary.name = info.name;
        // Of an edge-sharded group nobody is listed but the reader.
        let members = match info.sharded {
            Some(_) => Vec::from_iter(store.member(chat, user).map_err(unavailable)?),
            None => store.members(chat).map_err(unavailable)?,
        };
        let mine = members.iter().find(|m| m.user == *user);
        let first = mine.and_then(|m| m.intervals.first());
        summary.visible_after_ordinal = first.map_or(0, |i| i.joined_ordinal.saturating_sub(1));
        let left = mine.and_then(|m| m.intervals.last());
        if let Some((Some(seq), Some(ordinal))) = left.map(|i| (i.left, i.left_ordinal)) {
            // What came after is not theirs to know, nor who is in it now.
            (summary.last_seq, summary.last_ordinal) = (seq.0, ordinal);
            return Ok(summary);
        }
        let now = || members.iter().filter(|m| m.current());
        summary.member_count = match info.sharded {
            Some(sharded) => sharded.count.members,
            None => u32::try_from(now().count()).unwrap_or(u32::MAX),
        };
        let member = |m: &Membership| pb::Member {
            user: m.user.to_string(),
            admin: m.admin,
        };
        summary.members = now().take(SUMMARY_MEMBERS_MAX).map(member).collect();
        Ok(summary)
    }

    fn sight(&self, user: &UserId, chat: &ChatId) -> Result<Sight, ErrorCode> {
        if let Some((a, b)) = chat.dm_users() {
            if *user != a && *user != b {
                return Err(ErrorCode::NotMember);
            }
            let spans = vec![Span {
                from: 1,
                to: u64::MAX,
            }];
            return Ok(Sight {
                spans,
                membership: None,
            });
        }
        let member = self.store.member(chat, user).map_err(unavailable)?;
        let member = member.ok_or(ErrorCode::NotMember)?;
        let span = |i: &hawser_engines::store::Interval| Span {
            from: i.joined_ordinal,
            to: i.left_ordinal.unwrap_or(u64::MAX),
        };
        Ok(Sight {
            spans: member.intervals.iter().map(span).collect(),
            membership: Some(member),
        })
    }

    /// Whether a user is in a chat now.
    ///
    /// # Errors
    /// `Unavailable` when the store cannot be read.
    pub fn is_member(&self, user: &UserId, chat: &ChatId) -> Result<bool, ErrorCode> {
        match self.sight(user, chat) {
            Ok(sight) => Ok(sight.membership.is_none_or(|m| m.current())),
            Err(ErrorCode::NotMember) => Ok(false),
            Err(code) => Err(code),
        }
    }

    /// Messages after the reader's own read watermark, at most `u32::MAX`; the reader's own and
    /// changes of the group count too.
    #[must_use]
    pub fn unread(&self, summary: &pb::ChatSummary) -> u32 {
        let Ok(chat) = ChatId::new(&summary.chat) else {
            return 0;
        };
        let read = Seq(summary.read_seq);
        let at = self.store.head_before(&chat, Seq(read.0.saturating_add(1)));
        let read_ordinal = at
            .map_or(0, |head| head.ordinal)
            .max(summary.visible_after_ordinal);
        let unread = summary.last_ordinal.saturating_sub(read_ordinal);
        u32::try_from(unread).unwrap_or(u32::MAX)
    }
}

/// Where a chat's rows are and where the reader stands.
#[derive(Debug, Clone, Copy)]
struct Range {
    low: u64,
    head: u64,
    after: u64,
}

/// What one element costs in either encoding, bytes.
#[derive(Debug, Clone, Copy)]
struct Cost {
    binary: usize,
    json: usize,
}

/// What a page has left.
struct Budget {
    rows: usize,
    binary: usize,
    json: usize,
}

impl Budget {
    fn new(rows: usize) -> Self {
        Self {
            rows,
            binary: BINARY_BYTES_MAX,
            json: JSON_BYTES_MAX,
        }
    }

    /// Takes what an element costs, if there is room or it is the first.
    fn take(&mut self, cost: Cost, first: bool) -> bool {
        let fits = cost.binary <= self.binary && cost.json <= self.json;
        if fits || first {
            self.binary = self.binary.saturating_sub(cost.binary);
            self.json = self.json.saturating_sub(cost.json);
        }
        fits || first
    }
}

fn message_cost(row: &StoredMessage) -> Cost {
    let json = MessageView::parse(&row.record).map_or(0, |view| {
        let ids = view.chat().len() + view.sender().len() + view.sender_device().len();
        JSON_MESSAGE_BYTES + ids + json_body_bytes(view.body())
    });
    Cost {
        binary: row.record.len() + 4,
        json,
    }
}

/// A body as JSON text where it is UTF-8, otherwise as base64.
fn json_body_bytes(body: &[u8]) -> usize {
    let base64 = body.len().div_ceil(3) * 4;
    if std::str::from_utf8(body).is_err() {
        return base64;
    }
    let escaped = |byte: &u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 2,
        0..0x20 | 0x7f => 6,
        _ => 1,
    };
    body.iter().map(escaped).sum()
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn unavailable(error: StoreError) -> ErrorCode {
    tracing::error!(%error, "history cannot be read");
    match error {
        StoreError::Unavailable { .. } => ErrorCode::Unavailable,
        StoreError::Corrupt { .. } | StoreError::Refused { .. } => ErrorCode::Internal,
    }
}

#[cfg(test)]
mod tests;
