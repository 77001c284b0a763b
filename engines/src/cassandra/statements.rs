//! Every statement that is ever sent, prepared at the start.

use super::CassandraConfig;
use super::puts::Kind;
use super::schema::{NotReady, not_ready};
use scylla::client::session::Session;
use scylla::errors::PrepareError;
use scylla::statement::Consistency;
use scylla::statement::prepared::PreparedStatement;

/// One row, each field with a timestamp of its own.
const PUT_RECEIPT: &str = "BEGIN UNLOGGED BATCH \
     UPDATE KS.receipts_by_chat USING TIMESTAMP ? SET delivered = ? WHERE chat = ? AND user = ?; \
     UPDATE KS.receipts_by_chat USING TIMESTAMP ? SET read = ? WHERE chat = ? AND user = ?; \
     UPDATE KS.receipts_by_chat USING TIMESTAMP ? SET ts_ms = ? WHERE chat = ? AND user = ?; \
     APPLY BATCH";
/// Rows of one page of members or receipts.
const PAGE_ROWS: i32 = 1_000;

/// The statements.
pub(super) struct Statements {
    put_message: PreparedStatement,
    put_bucket: PreparedStatement,
    put_head: PreparedStatement,
    put_sent: PreparedStatement,
    put_member: PreparedStatement,
    put_chat_of: PreparedStatement,
    put_chat: PreparedStatement,
    put_receipt: PreparedStatement,
    pub(super) head: PreparedStatement,
    pub(super) bucket_at: PreparedStatement,
    pub(super) bucket_first: PreparedStatement,
    pub(super) before: PreparedStatement,
    pub(super) first_of_bucket: PreparedStatement,
    pub(super) sent: PreparedStatement,
    pub(super) up: PreparedStatement,
    pub(super) down: PreparedStatement,
    pub(super) chat: PreparedStatement,
    pub(super) members: PreparedStatement,
    pub(super) member: PreparedStatement,
    pub(super) chats_of: PreparedStatement,
    pub(super) receipts: PreparedStatement,
}

impl Statements {
    /// Prepares all of them.
    ///
    /// # Errors
    /// Cassandra refuses one: the tables are not ours.
    pub(super) async fn prepare(
        session: &Session,
        config: &CassandraConfig,
    ) -> Result<Self, NotReady> {
        let make = Maker { session, config };
        let levels = config.levels;
        let (write, read, history) = (levels.write, levels.read, levels.read_history);
        let dedup_ttl = config.dedup_ttl_s;
        let kept = match config.history_ttl_s {
            0 => String::new(),
            ttl => format!(" AND TTL {ttl}"),
        };
        Ok(Self {
            put_message: make.statement(write, &format!("INSERT INTO KS.messages_by_chat (chat, bucket, ordinal, seq, record, envelopes) VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ?{kept}")).await?,
            put_bucket: make.statement(write, "INSERT INTO KS.buckets_by_chat (chat, bucket) VALUES (?, ?) USING TIMESTAMP ?").await?,
            put_head: make.statement(write, "INSERT INTO KS.chat_heads (chat, seq, ordinal) VALUES (?, ?, ?) USING TIMESTAMP ?").await?,
            put_sent: make.statement(write, &format!("INSERT INTO KS.sent_by_client (user, device, chat, client_msg_id, seq, error, ordinal, prev_seq, stored_ts_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ? AND TTL {dedup_ttl}")).await?,
            put_member: make.statement(levels.write_members, "INSERT INTO KS.members_by_chat (chat, user, intervals, admin, write_seq) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?").await?,
            put_chat_of: make.statement(levels.write_members, "INSERT INTO KS.chats_by_user (user, chat) VALUES (?, ?) USING TIMESTAMP ?").await?,
            put_chat: make.statement(levels.write_members, "INSERT INTO KS.chats (chat, name, picture, write_seq, created_seq, lanes, lanes_since_ms, relaxed_seq, sharded) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?").await?,
            put_receipt: make.statement(levels.write_receipts, PUT_RECEIPT).await?,
            head: make.statement(read, "SELECT seq, ordinal FROM KS.chat_heads WHERE chat = ?").await?,
            bucket_at: make.statement(read, "SELECT bucket FROM KS.buckets_by_chat WHERE chat = ? AND bucket <= ? ORDER BY bucket DESC LIMIT 1").await?,
            bucket_first: make.statement(history, "SELECT bucket FROM KS.buckets_by_chat WHERE chat = ? AND bucket >= ? ORDER BY bucket ASC LIMIT 1").await?,
            // Within one partition of at most 8,192 rows, read from its end.
            before: make.statement(read, "SELECT seq, ordinal FROM KS.messages_by_chat WHERE chat = ? AND bucket = ? AND seq < ? LIMIT 1 ALLOW FILTERING").await?,
            first_of_bucket: make.statement(history, "SELECT ordinal FROM KS.messages_by_chat WHERE chat = ? AND bucket = ? ORDER BY ordinal ASC LIMIT 1").await?,
            sent: make.statement(read, "SELECT seq, error, ordinal, prev_seq, stored_ts_ms FROM KS.sent_by_client WHERE user = ? AND device = ? AND chat = ? AND client_msg_id = ?").await?,
            up: make.statement(history, "SELECT ordinal, seq, record, envelopes FROM KS.messages_by_chat WHERE chat = ? AND bucket = ? AND ordinal >= ? AND ordinal <= ? ORDER BY ordinal ASC LIMIT ?").await?,
            down: make.statement(history, "SELECT ordinal, seq, record, envelopes FROM KS.messages_by_chat WHERE chat = ? AND bucket = ? AND ordinal >= ? AND ordinal <= ? ORDER BY ordinal DESC LIMIT ?").await?,
            chat: make.statement(read, "SELECT name, picture, write_seq, created_seq, lanes, lanes_since_ms, relaxed_seq, sharded FROM KS.chats WHERE chat = ?").await?,
            members: make.statement(read, "SELECT user, intervals, admin FROM KS.members_by_chat WHERE chat = ?").await?,
            member: make.statement(read, "SELECT user, intervals, admin FROM KS.members_by_chat WHERE chat = ? AND user = ?").await?,
            chats_of: make.statement(history, "SELECT chat FROM KS.chats_by_user WHERE user = ? AND chat > ? LIMIT ?").await?,
            receipts: make.statement(history, "SELECT user, delivered, read, ts_ms FROM KS.receipts_by_chat WHERE chat = ?").await?,
        })
    }
}

impl Statements {
    /// The statement that writes such a row.
    pub(super) fn put(&self, kind: Kind) -> &PreparedStatement {
        match kind {
            Kind::Bucket => &self.put_bucket,
            Kind::Message => &self.put_message,
            Kind::Head => &self.put_head,
            Kind::Sent => &self.put_sent,
            Kind::Member => &self.put_member,
            Kind::ChatOf => &self.put_chat_of,
            Kind::Chat => &self.put_chat,
            Kind::Receipt => &self.put_receipt,
        }
    }
}

struct Maker<'a> {
    session: &'a Session,
    config: &'a CassandraConfig,
}

impl Maker<'_> {
    async fn statement(
        &self,
        level: Consistency,
        cql: &str,
    ) -> Result<PreparedStatement, NotReady> {
        let cql = cql.replace("KS.", &format!("{}.", self.config.keyspace));
        let prepared = self.session.prepare(cql.as_str()).await;
        let mut prepared = prepared.map_err(|error| match error {
            PrepareError::AllAttemptsFailed { first_attempt } => {
                not_ready(&cql, &first_attempt.into())
            }
            other => NotReady::Passing(format!("{cql}: {other}")),
        })?;
        prepared.set_consistency(level);
        prepared.set_is_idempotent(true);
        prepared.set_page_size(PAGE_ROWS);
        Ok(prepared)
    }
}
