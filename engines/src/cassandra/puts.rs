//! Rows to be written: which statement, and its values.

use super::MESSAGE;
use super::rows::{BUCKET, encode_intervals, first_wins, last_wins, number};
use crate::store::sharded::encode_sharded;
use crate::store::{ChatHead, ChatInfo, DedupRow, Membership, ReceiptRow, StoreError};
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, Seq, UserId};
use scylla::serialize::row::SerializeRow;

/// Which statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Bucket,
    Message,
    Head,
    Sent,
    Member,
    ChatOf,
    Chat,
    Receipt,
}

/// A row.
pub(super) struct Put<'a> {
    pub(super) kind: Kind,
    pub(super) values: Box<dyn SerializeRow + Send + Sync + 'a>,
}

impl<'a> Put<'a> {
    fn new(kind: Kind, values: impl SerializeRow + Send + Sync + 'a) -> Self {
        Self {
            kind,
            values: Box::new(values),
        }
    }

    /// That there is a bucket, where this message is the first of one: ordinals are dense.
    pub(super) fn bucket(
        chat: &'a ChatId,
        ordinal: u64,
        seq: Seq,
    ) -> Result<Option<Self>, StoreError> {
        if ordinal != 1 && !ordinal.is_multiple_of(BUCKET) {
            return Ok(None);
        }
        let values = (
            chat.as_str(),
            number(MESSAGE, ordinal / BUCKET)?,
            last_wins(seq)?,
        );
        Ok(Some(Self::new(Kind::Bucket, values)))
    }

    pub(super) fn message(
        chat: &'a ChatId,
        (ordinal, seq): (u64, Seq),
        record: &'a [u8],
        envelopes: &'a [u8],
    ) -> Result<Self, StoreError> {
        let values = (
            chat.as_str(),
            number(MESSAGE, ordinal / BUCKET)?,
            number(MESSAGE, ordinal)?,
            number(MESSAGE, seq.0)?,
            record,
            envelopes,
            last_wins(seq)?,
        );
        Ok(Self::new(Kind::Message, values))
    }

    pub(super) fn head(chat: &'a ChatId, head: ChatHead) -> Result<Self, StoreError> {
        let table = "chat_heads";
        let (seq, ordinal) = (number(table, head.seq.0)?, number(table, head.ordinal)?);
        let values = (chat.as_str(), seq, ordinal, last_wins(head.seq)?);
        Ok(Self::new(Kind::Head, values))
    }

    pub(super) fn sent(
        (user, device): (&'a UserId, &'a DeviceId),
        chat: &'a ChatId,
        id: &'a ClientMsgId,
        row: &DedupRow,
    ) -> Result<Self, StoreError> {
        let table = "sent_by_client";
        let values = (
            user.as_str(),
            device.as_str(),
            chat.as_str(),
            &id.0[..],
            number(table, row.seq.0)?,
            i32::from(row.error),
            number(table, row.ordinal)?,
            number(table, row.prev_seq.0)?,
            number(table, row.stored_ts_ms)?,
            first_wins(row.seq)?,
        );
        Ok(Self::new(Kind::Sent, values))
    }

    /// First the chat on the user's list: who finds the membership finds that.
    pub(super) fn member(
        chat: &'a ChatId,
        member: &'a Membership,
        write_seq: Seq,
    ) -> Result<[Self; 2], StoreError> {
        let timestamp = last_wins(write_seq)?;
        let (chat, user) = (chat.as_str(), member.user.as_str());
        let row = (
            chat,
            user,
            encode_intervals(&member.intervals),
            member.admin,
            number("members_by_chat", write_seq.0)?,
            timestamp,
        );
        Ok([
            Self::new(Kind::ChatOf, (user, chat, timestamp)),
            Self::new(Kind::Member, row),
        ])
    }

    pub(super) fn chat(chat: &'a ChatId, info: &'a ChatInfo) -> Result<Self, StoreError> {
        let table = "chats";
        let values = (
            chat.as_str(),
            info.name.as_str(),
            info.picture.as_str(),
            number(table, info.write_seq.0)?,
            number(table, info.created_seq.0)?,
            i16::from(info.lanes),
            number(table, info.lanes_since_ms)?,
            number(table, info.relaxed_seq.0)?,
            info.sharded.as_ref().map(encode_sharded),
            last_wins(info.write_seq)?,
        );
        Ok(Self::new(Kind::Chat, values))
    }

    /// Each field by itself: its value is its timestamp, so that the largest wins.
    pub(super) fn receipt(chat: &'a ChatId, row: &'a ReceiptRow) -> Result<Self, StoreError> {
        let number = |value| number("receipts_by_chat", value);
        let (chat, user) = (chat.as_str(), row.user.as_str());
        let (delivered, read) = (number(row.delivered.0)?, number(row.read.0)?);
        let seen = number(row.ts_ms)?;
        // Timestamp, value and key of each.
        let values = (
            delivered, delivered, chat, user, read, read, chat, user, seen, seen, chat, user,
        );
        Ok(Self::new(Kind::Receipt, values))
    }
}
