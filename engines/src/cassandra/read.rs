//! Reading.

use super::rows::{BUCKET, corrupt, membership, number, positive};
use super::{Inner, MESSAGE};
use crate::store::sharded::decode_sharded;
use crate::store::{
    Answer, Ask, ChatHead, ChatInfo, DedupRow, Membership, Page, ReceiptRow, Sharded, StoreError,
    StoredMessage,
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, Seq, UserId};
use scylla::deserialize::row::DeserializeRow;
use scylla::response::PagingState;
use scylla::response::query_result::QueryRowsResult;
use scylla::serialize::row::SerializeRow;
use scylla::statement::prepared::PreparedStatement;
use std::ops::ControlFlow;

/// Questions of one call under way at once; the store has a bound over all calls.
const ASKS_IN_FLIGHT: usize = 128;
/// Rows of messages asked for at once: at 128 KiB each at most, 4 MiB.
const MESSAGES_AT_ONCE: usize = 32;

impl Inner {
    async fn rows<V: SerializeRow + Sync>(
        &self,
        table: &'static str,
        statement: &PreparedStatement,
        values: V,
    ) -> Result<QueryRowsResult, StoreError> {
        let result = self.runner.run(statement, values).await?;
        result.into_rows_result().map_err(|e| corrupt(table, e))
    }

    async fn row<R, V>(
        &self,
        table: &'static str,
        statement: &PreparedStatement,
        values: V,
    ) -> Result<Option<R>, StoreError>
    where
        R: for<'f, 'm> DeserializeRow<'f, 'm>,
        V: SerializeRow + Sync,
    {
        let rows = self.rows(table, statement, values).await?;
        rows.maybe_first_row::<R>().map_err(|e| corrupt(table, e))
    }

    /// All rows, page by page.
    async fn all_rows<R, T, V>(
        &self,
        table: &'static str,
        statement: &PreparedStatement,
        values: V,
        each: impl Fn(R) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError>
    where
        R: for<'f, 'm> DeserializeRow<'f, 'm>,
        V: SerializeRow + Sync,
    {
        let (mut out, mut state) = (Vec::new(), PagingState::start());
        loop {
            let page = self.runner.page(statement, &values, state);
            let (result, next) = page.await?;
            let rows = result.into_rows_result().map_err(|e| corrupt(table, e))?;
            for row in rows.rows::<R>().map_err(|e| corrupt(table, e))? {
                out.push(each(row.map_err(|e| corrupt(table, e))?)?);
            }
            match next.into_paging_control_flow() {
                ControlFlow::Continue(next) => state = next,
                ControlFlow::Break(()) => return Ok(out),
            }
        }
    }

    pub(super) async fn head(&self, chat: &ChatId) -> Result<ChatHead, StoreError> {
        let table = "chat_heads";
        let row = self.row::<(i64, i64), _>(table, &self.statements.head, (chat.as_str(),));
        head_of(table, row.await?)
    }

    pub(super) async fn head_before(
        &self,
        chat: &ChatId,
        seq: Seq,
    ) -> Result<ChatHead, StoreError> {
        let below = i64::try_from(seq.0).unwrap_or(i64::MAX);
        let mut bucket = self.bucket_at(chat, u64::MAX).await?;
        while let Some(at) = bucket {
            let values = (chat.as_str(), number(MESSAGE, at)?, below);
            let row = self.row::<(i64, i64), _>(MESSAGE, &self.statements.before, values);
            if let Some(row) = row.await? {
                return head_of(MESSAGE, Some(row));
            }
            bucket = match at.checked_sub(1) {
                Some(next) => self.bucket_at(chat, next).await?,
                None => None,
            };
        }
        Ok(ChatHead::default())
    }

    /// The last bucket that is not above `at`.
    async fn bucket_at(&self, chat: &ChatId, at: u64) -> Result<Option<u64>, StoreError> {
        let table = "buckets_by_chat";
        let at = i64::try_from(at).unwrap_or(i64::MAX);
        let row = self.row::<(i64,), _>(table, &self.statements.bucket_at, (chat.as_str(), at));
        row.await?
            .map(|(bucket,)| positive(table, bucket))
            .transpose()
    }

    /// The first bucket that is not below `from`.
    async fn bucket_from(&self, chat: &ChatId, from: u64) -> Result<Option<u64>, StoreError> {
        let table = "buckets_by_chat";
        let from = i64::try_from(from).unwrap_or(i64::MAX);
        let row =
            self.row::<(i64,), _>(table, &self.statements.bucket_first, (chat.as_str(), from));
        row.await?
            .map(|(bucket,)| positive(table, bucket))
            .transpose()
    }

    pub(super) async fn sent(
        &self,
        user: &UserId,
        device: &DeviceId,
        chat: &ChatId,
        id: &ClientMsgId,
    ) -> Result<Option<DedupRow>, StoreError> {
        let table = "sent_by_client";
        let key = (user.as_str(), device.as_str(), chat.as_str(), &id.0[..]);
        let row = self.row::<(i64, i32, i64, i64, i64), _>(table, &self.statements.sent, key);
        let Some((seq, error, ordinal, prev_seq, stored_ts_ms)) = row.await? else {
            return Ok(None);
        };
        Ok(Some(DedupRow {
            seq: Seq(positive(table, seq)?),
            error: u16::try_from(error).map_err(|e| corrupt(table, e))?,
            ordinal: positive(table, ordinal)?,
            prev_seq: Seq(positive(table, prev_seq)?),
            stored_ts_ms: positive(table, stored_ts_ms)?,
        }))
    }

    pub(super) async fn messages(
        &self,
        chat: &ChatId,
        page: Page,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        let (mut out, mut bytes) = (Vec::new(), 0);
        let (mut from, mut to) = (page.from, page.to);
        while from <= to && out.len() < page.limit {
            // The next bucket that there is, from the end that the page begins at.
            let bucket = match page.backwards {
                true => self.bucket_at(chat, to / BUCKET).await?,
                false => self.bucket_from(chat, from / BUCKET).await?,
            };
            let Some(bucket) = bucket else { break };
            let (low, high) = (bucket * BUCKET, bucket * BUCKET + (BUCKET - 1));
            if high < from || low > to {
                break;
            }
            let rows = (page.limit - out.len()).min(MESSAGES_AT_ONCE);
            let asked = (from.max(low), to.min(high));
            let found = self
                .some_of_bucket(chat, bucket, asked, page.backwards, rows)
                .await?;
            let all = found.len() < rows;
            for message in found {
                bytes += message.record.len() + message.envelopes.len();
                if bytes > page.bytes_max && !out.is_empty() {
                    return Ok(out);
                }
                match page.backwards {
                    true => to = message.ordinal.saturating_sub(1),
                    false => from = message.ordinal + 1,
                }
                out.push(message);
            }
            if bytes >= page.bytes_max {
                break;
            }
            match (all, page.backwards) {
                (true, true) if low == 0 => break,
                (true, true) => to = low - 1,
                (true, false) => from = high + 1,
                (false, _) => {}
            }
        }
        Ok(out)
    }

    async fn some_of_bucket(
        &self,
        chat: &ChatId,
        bucket: u64,
        (from, to): (u64, u64),
        backwards: bool,
        rows: usize,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        let statement = match backwards {
            true => &self.statements.down,
            false => &self.statements.up,
        };
        let values = (
            chat.as_str(),
            number(MESSAGE, bucket)?,
            number(MESSAGE, from)?,
            number(MESSAGE, to)?,
            i32::try_from(rows).unwrap_or(i32::MAX),
        );
        let rows = self.rows(MESSAGE, statement, values).await?;
        let rows = rows.rows::<(i64, i64, Bytes, Bytes)>();
        let rows = rows.map_err(|e| corrupt(MESSAGE, e))?;
        rows.map(|row| {
            let (ordinal, seq, record, envelopes) = row.map_err(|e| corrupt(MESSAGE, e))?;
            Ok(StoredMessage {
                ordinal: positive(MESSAGE, ordinal)?,
                seq: Seq(positive(MESSAGE, seq)?),
                record,
                envelopes,
            })
        })
        .collect()
    }

    pub(super) async fn truncated_before(&self, chat: &ChatId) -> Result<u64, StoreError> {
        let mut from = 0;
        while let Some(bucket) = self.bucket_from(chat, from).await? {
            let values = (chat.as_str(), number(MESSAGE, bucket)?);
            let first = self.row::<(i64,), _>(MESSAGE, &self.statements.first_of_bucket, values);
            if let Some((ordinal,)) = first.await? {
                return positive(MESSAGE, ordinal);
            }
            from = bucket + 1;
        }
        Ok(self.head(chat).await?.ordinal + 1)
    }

    pub(super) async fn chat(&self, chat: &ChatId) -> Result<Option<ChatInfo>, StoreError> {
        type Row = (
            String,
            String,
            i64,
            i64,
            Option<i16>,
            Option<i64>,
            Option<i64>,
            Option<Vec<u8>>,
        );
        let table = "chats";
        let row = self.row::<Row, _>(table, &self.statements.chat, (chat.as_str(),));
        let Some((name, picture, write_seq, created_seq, lanes, since, relaxed, sharded)) =
            row.await?
        else {
            return Ok(None);
        };
        Ok(Some(ChatInfo {
            name,
            picture,
            write_seq: Seq(positive(table, write_seq)?),
            created_seq: Seq(positive(table, created_seq)?),
            lanes: u8::try_from(lanes.unwrap_or(0)).map_err(|e| corrupt(table, e))?,
            lanes_since_ms: positive(table, since.unwrap_or(0))?,
            relaxed_seq: Seq(positive(table, relaxed.unwrap_or(0))?),
            sharded: sharded_of(table, sharded.as_deref())?,
        }))
    }

    pub(super) async fn members(&self, chat: &ChatId) -> Result<Vec<Membership>, StoreError> {
        let (table, key) = ("members_by_chat", (chat.as_str(),));
        self.all_rows(table, &self.statements.members, key, membership)
            .await
    }

    pub(super) async fn member(
        &self,
        chat: &ChatId,
        user: &UserId,
    ) -> Result<Option<Membership>, StoreError> {
        let key = (chat.as_str(), user.as_str());
        let row = self.row("members_by_chat", &self.statements.member, key);
        row.await?.map(membership).transpose()
    }

    pub(super) async fn chats_of(
        &self,
        user: &UserId,
        after: Option<&ChatId>,
        limit: usize,
    ) -> Result<Vec<ChatId>, StoreError> {
        let table = "chats_by_user";
        if limit == 0 {
            return Ok(Vec::new());
        }
        let values = (
            user.as_str(),
            after.map_or("", ChatId::as_str),
            i32::try_from(limit).unwrap_or(i32::MAX),
        );
        let rows = self.rows(table, &self.statements.chats_of, values).await?;
        let rows = rows.rows::<(String,)>().map_err(|e| corrupt(table, e))?;
        rows.map(|row| {
            let (chat,) = row.map_err(|e| corrupt(table, e))?;
            ChatId::new(&chat).map_err(|e| corrupt(table, e))
        })
        .collect()
    }

    pub(super) async fn receipts(&self, chat: &ChatId) -> Result<Vec<ReceiptRow>, StoreError> {
        let (table, key) = ("receipts_by_chat", (chat.as_str(),));
        self.all_rows(table, &self.statements.receipts, key, receipt)
            .await
    }

    /// All at once, within the bound; in order.
    pub(super) async fn ask(&self, asks: &[Ask]) -> Result<Vec<Answer>, StoreError> {
        let mut answers: Vec<BoxFuture<'_, Result<Answer, StoreError>>> =
            Vec::with_capacity(asks.len());
        for ask in asks {
            answers.push(Box::pin(self.answer(ask)));
        }
        // Each is waited for: the one that an open breaker lets through must not be dropped because the others are
        // refused, or it never closes.
        let answers = stream::iter(answers).buffered(ASKS_IN_FLIGHT);
        let answers: Vec<Result<Answer, StoreError>> = answers.collect().await;
        answers.into_iter().collect()
    }

    async fn answer(&self, ask: &Ask) -> Result<Answer, StoreError> {
        Ok(match ask {
            Ask::Head(chat) => Answer::Head(self.head(chat).await?),
            Ask::HeadBefore(chat, seq) => Answer::Head(self.head_before(chat, *seq).await?),
            Ask::Group(chat) => Answer::Group(match self.chat(chat).await? {
                Some(info) if info.sharded.is_some() => Some((info, Vec::new())),
                Some(info) => Some((info, self.members(chat).await?)),
                None => None,
            }),
            Ask::Member(chat, user) => Answer::Member(self.member(chat, user).await?),
            Ask::Dedup(user, device, chat, id) => {
                Answer::Dedup(self.sent(user, device, chat, id).await?)
            }
        })
    }
}

fn sharded_of(table: &'static str, value: Option<&[u8]>) -> Result<Option<Sharded>, StoreError> {
    let decoded = |value| decode_sharded(value).ok_or_else(|| corrupt(table, "sharded: bad form"));
    value
        .filter(|value| !value.is_empty())
        .map(decoded)
        .transpose()
}

fn head_of(table: &'static str, row: Option<(i64, i64)>) -> Result<ChatHead, StoreError> {
    let (seq, ordinal) = row.unwrap_or_default();
    Ok(ChatHead {
        seq: Seq(positive(table, seq)?),
        ordinal: positive(table, ordinal)?,
    })
}

/// A receipt from its columns; what was never written is nothing yet.
fn receipt(
    (user, delivered, read, ts_ms): (String, Option<i64>, Option<i64>, Option<i64>),
) -> Result<ReceiptRow, StoreError> {
    let table = "receipts_by_chat";
    Ok(ReceiptRow {
        user: UserId::new(&user).map_err(|e| corrupt(table, e))?,
        delivered: Seq(positive(table, delivered.unwrap_or(0))?),
        read: Seq(positive(table, read.unwrap_or(0))?),
        ts_ms: positive(table, ts_ms.unwrap_or(0))?,
    })
}
