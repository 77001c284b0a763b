//! Tables, and how they come to be.
//!
//! Migrations are numbered and only added to. Every table has an id made of keyspace and name, so that several
//! programs that start at once make the same table and not two.

use super::{CassandraConfig, CassandraError};
use scylla::client::session::Session;
use scylla::errors::{DbError, ExecutionError, RequestAttemptError};
use scylla::response::query_result::QueryRowsResult;
use scylla::serialize::row::SerializeRow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use xxhash_rust::xxh3::xxh3_128;

/// The version that this program reads and writes.
pub const VERSION: i32 = 2;

/// (name, columns and key, further options) of the tables.
const TABLES: &[(&str, &str, &str)] = &[
    (
        "messages_by_chat",
        "chat text, bucket bigint, ordinal bigint, seq bigint, record blob, envelopes blob, \
         PRIMARY KEY ((chat, bucket), ordinal, seq)",
        "CLUSTERING ORDER BY (ordinal DESC, seq DESC)",
    ),
    (
        "buckets_by_chat",
        "chat text, bucket bigint, PRIMARY KEY (chat, bucket)",
        "CLUSTERING ORDER BY (bucket DESC)",
    ),
    (
        "chat_heads",
        "chat text PRIMARY KEY, seq bigint, ordinal bigint",
        "",
    ),
    (
        "sent_by_client",
        "user text, device text, chat text, client_msg_id blob, seq bigint, error int, ordinal bigint, \
         prev_seq bigint, stored_ts_ms bigint, PRIMARY KEY ((user, device, chat, client_msg_id))",
        EXPIRING,
    ),
    (
        "members_by_chat",
        "chat text, user text, intervals blob, admin boolean, write_seq bigint, PRIMARY KEY (chat, user)",
        "",
    ),
    (
        "chats_by_user",
        "user text, chat text, PRIMARY KEY (user, chat)",
        "",
    ),
    (
        "chats",
        "chat text PRIMARY KEY, name text, picture text, write_seq bigint, created_seq bigint, lanes smallint, \
         lanes_since_ms bigint, relaxed_seq bigint, sharded blob",
        "",
    ),
    (
        "receipts_by_chat",
        "chat text, user text, delivered bigint, read bigint, ts_ms bigint, PRIMARY KEY (chat, user)",
        "",
    ),
];

/// (table, column, type) of what tables of an earlier version lack.
const COLUMNS_V2: &[(&str, &str, &str)] = &[("chats", "sharded", "blob")];

/// By size and overlap, sharded by itself; not by time windows, as our timestamps are places in the log and no times.
const COMPACTION: &str = "compaction = {'class': 'UnifiedCompactionStrategy'}";
/// Rows that are only ever removed by their TTL, everywhere at the same time, need no tombstones for ten days.
const EXPIRING: &str = "gc_grace_seconds = 86400";

/// An id that is the same whoever makes the table.
fn table_id(keyspace: &str, table: &str) -> String {
    let hash = xxh3_128(format!("{keyspace}.{table}").as_bytes());
    // Version 8: an id of one's own making (RFC 9562).
    let id = (hash & !(0xf << 76) & !(0x3 << 62)) | (8 << 76) | (2 << 62);
    let hex = format!("{id:032x}");
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

fn create(keyspace: &str, (name, columns, options): (&str, &str, &str)) -> String {
    let id = table_id(keyspace, name);
    let mut cql = format!(
        "CREATE TABLE IF NOT EXISTS {keyspace}.{name} ({columns}) WITH ID = {id} AND {COMPACTION}"
    );
    if !options.is_empty() {
        // Writing to a text does not fail.
        let _ = write!(cql, " AND {options}");
    }
    cql
}

/// Why the tables cannot be used.
pub(super) enum NotReady {
    /// Not now: no answer, or too few nodes.
    Passing(String),
    /// Somebody else has not made them yet.
    NotMigrated(CassandraError),
    /// Not without somebody who changes something.
    Lasting(CassandraError),
}

impl From<CassandraError> for NotReady {
    fn from(error: CassandraError) -> Self {
        Self::Lasting(error)
    }
}

/// A statement of ours failed.
pub(super) fn not_ready(what: &str, error: &ExecutionError) -> NotReady {
    use RequestAttemptError::DbError as Answered;
    let text = format!("{what}: {error}");
    let lasting = match error {
        ExecutionError::BadQuery(_) => true,
        ExecutionError::LastAttemptError(Answered(db, _)) => matches!(
            db,
            DbError::SyntaxError | DbError::Invalid | DbError::Unauthorized | DbError::ConfigError
        ),
        _ => false,
    };
    match lasting {
        true => CassandraError::Schema(text).into(),
        false => NotReady::Passing(text),
    }
}

/// Rows that are not as they must be.
#[expect(
    clippy::needless_pass_by_value,
    reason = "errors are handed over as they come"
)]
fn odd(error: impl ToString) -> NotReady {
    CassandraError::Schema(error.to_string()).into()
}

/// Brings the tables to our version, or says that nobody has.
pub(super) async fn prepare(session: &Session, config: &CassandraConfig) -> Result<(), NotReady> {
    let keyspace = config.keyspace.clone();
    match found(session, &keyspace).await? {
        Some((version, writer)) if version > VERSION => Err(CassandraError::Newer {
            keyspace,
            found: version,
            known: VERSION,
            writer,
        }
        .into()),
        Some((VERSION, _)) => Ok(()),
        _ if config.migrate => migrate(session, config).await,
        _ => Err(NotReady::NotMigrated(CassandraError::NotMigrated {
            keyspace,
            known: VERSION,
        })),
    }
}

/// Version of the tables and who made them.
async fn found(session: &Session, keyspace: &str) -> Result<Option<(i32, String)>, NotReady> {
    let there = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ? AND table_name = 'schema_version'";
    let rows = query(session, there, (keyspace,)).await?;
    if rows.rows_num() == 0 {
        return Ok(None);
    }
    let version =
        format!("SELECT version, written_by FROM {keyspace}.schema_version WHERE one = 'hawser'");
    let result = match session.query_unpaged(version.as_str(), ()).await {
        // It is being made, and shows up in lists first.
        Err(ExecutionError::LastAttemptError(RequestAttemptError::DbError(
            DbError::Invalid,
            _,
        ))) => return Ok(None),
        other => other.map_err(|e| not_ready(&version, &e))?,
    };
    let rows = result.into_rows_result().map_err(odd)?;
    rows.maybe_first_row::<(i32, String)>().map_err(odd)
}

async fn query(
    session: &Session,
    cql: &str,
    values: impl SerializeRow,
) -> Result<QueryRowsResult, NotReady> {
    let result = session.query_unpaged(cql, values).await;
    let result = result.map_err(|e| not_ready(cql, &e))?;
    result.into_rows_result().map_err(odd)
}

/// Every step may be repeated, and done by several programs at the same time.
async fn migrate(session: &Session, config: &CassandraConfig) -> Result<(), NotReady> {
    let keyspace = &config.keyspace;
    tracing::info!(keyspace, version = VERSION, "making the tables");
    let replication = config.replication.cql();
    let mut statements = vec![format!(
        "CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = {replication} AND durable_writes = true"
    )];
    statements.extend(TABLES.iter().map(|table| create(keyspace, *table)));
    let version = (
        "schema_version",
        "one text PRIMARY KEY, version int, written_by text",
        "",
    );
    statements.push(create(keyspace, version));
    for cql in &statements {
        let made = session.query_unpaged(cql.as_str(), ()).await;
        made.map_err(|e| not_ready(cql, &e))?;
    }
    agree(session).await?;
    for (table, column, kind) in COLUMNS_V2 {
        let there = "SELECT type FROM system_schema.columns WHERE keyspace_name = ? AND table_name = ? AND column_name = ?";
        let found = query(session, there, (keyspace, *table, *column)).await?;
        if found.rows_num() == 0 {
            let cql = format!("ALTER TABLE {keyspace}.{table} ADD IF NOT EXISTS {column} {kind}");
            let added = session.query_unpaged(cql.as_str(), ()).await;
            added.map_err(|e| not_ready(&cql, &e))?;
            agree(session).await?;
        }
    }
    // The larger version wins, whoever is late.
    let version = format!(
        "INSERT INTO {keyspace}.schema_version (one, version, written_by) VALUES ('hawser', ?, ?) \
         USING TIMESTAMP {VERSION}"
    );
    let writer = concat!("hawser ", env!("CARGO_PKG_VERSION"));
    let written = session.query_unpaged(version.as_str(), (VERSION, writer));
    written.await.map_err(|e| not_ready(&version, &e))?;
    Ok(())
}

async fn agree(session: &Session) -> Result<(), NotReady> {
    let agreed = session.await_schema_agreement().await;
    agreed.map_err(|e| NotReady::Passing(e.to_string()))?;
    Ok(())
}

/// Copies of the keyspace by datacenter, as Cassandra has it.
pub(super) async fn copies(
    session: &Session,
    keyspace: &str,
) -> Result<BTreeMap<String, u16>, NotReady> {
    let cql = "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = ?";
    let rows = query(session, cql, (keyspace,)).await?;
    let row = rows.maybe_first_row::<(BTreeMap<String, String>,)>();
    let (map,) = row
        .map_err(odd)?
        .ok_or_else(|| odd(format!("keyspace {keyspace} is gone")))?;
    let each = map.into_iter().filter(|(key, _)| *key != "class");
    // Of a datacenter with transient copies, `3/1`, the full ones count.
    let number = |text: String| {
        let (all, transient) = text.split_once('/').unwrap_or((&text, "0"));
        let all: u16 = all.parse().unwrap_or(0);
        all.saturating_sub(transient.parse().unwrap_or(0))
    };
    Ok(each.map(|(dc, copies)| (dc, number(copies))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tables_id_depends_on_keyspace_and_name_alone() {
        let id = table_id("hawser", "chats");
        assert_eq!(id, table_id("hawser", "chats"));
        assert_ne!(id, table_id("hawser2", "chats"));
        assert_ne!(id, table_id("hawser", "chat_heads"));
        assert_eq!((id.len(), &id[14..15]), (36, "8"));
    }
}
