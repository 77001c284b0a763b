//! The tables, made and changed in numbered steps: each is applied once, in one transaction with the
//! note of it, by one process at a time.

use super::config::PostgresConfig;
use super::error::PostgresError;
use deadpool_postgres::Object;
use tokio_postgres::Transaction;

/// The steps. One that was released is never changed, new ones are added at the end.
const STEPS: [&str; 2] = [USERS_AND_GROUPS, REVOCATIONS];

/// Version of the tables that this program makes and knows.
pub(super) const KNOWN: i32 = 2;

const _: () = assert!(
    STEPS.len() == KNOWN.unsigned_abs() as usize,
    "a version per step"
);

/// Ids sort by their bytes, whatever the database's locale is.
const USERS_AND_GROUPS: &str = r#"
CREATE TABLE users (
    user_id text COLLATE "C" PRIMARY KEY,
    name text NOT NULL,
    phone text CONSTRAINT users_phone UNIQUE,
    status text NOT NULL,
    profile_pic text NOT NULL,
    created_ms bigint NOT NULL,
    banned boolean NOT NULL
);
CREATE TABLE devices (
    user_id text COLLATE "C" NOT NULL REFERENCES users ON DELETE CASCADE,
    device_id text COLLATE "C" NOT NULL,
    name text NOT NULL,
    platform text NOT NULL,
    push_token text NOT NULL,
    created_ms bigint NOT NULL,
    revoked boolean NOT NULL,
    PRIMARY KEY (user_id, device_id)
);
CREATE TABLE groups (
    chat text COLLATE "C" PRIMARY KEY,
    name text NOT NULL,
    picture text NOT NULL,
    write_seq bigint NOT NULL
);
CREATE TABLE group_members (
    chat text COLLATE "C" NOT NULL REFERENCES groups ON DELETE CASCADE,
    user_id text COLLATE "C" NOT NULL,
    place integer NOT NULL,
    PRIMARY KEY (chat, user_id)
);
CREATE INDEX group_members_by_user ON group_members (user_id);
CREATE TABLE group_admins (
    chat text COLLATE "C" NOT NULL REFERENCES groups ON DELETE CASCADE,
    user_id text COLLATE "C" NOT NULL,
    place integer NOT NULL,
    PRIMARY KEY (chat, user_id)
);
"#;

/// The one row of `revocation_end` is locked by each who adds, so cursors become visible in order.
const REVOCATIONS: &str = r#"
CREATE TABLE revocations (
    target text NOT NULL CHECK (target IN ('user', 'device', 'token')),
    name text COLLATE "C" NOT NULL,
    device text COLLATE "C" NOT NULL,
    pardoned boolean NOT NULL,
    at_ms bigint,
    position bigint NOT NULL CONSTRAINT revocations_position UNIQUE,
    PRIMARY KEY (target, name, device)
);
CREATE INDEX revocations_expiry ON revocations (at_ms) WHERE target = 'token';
CREATE TABLE revocation_end (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    last bigint NOT NULL
);
INSERT INTO revocation_end (last) VALUES (0);
"#;

/// How long one process waits for another's migration, milliseconds.
const WAIT_MS: u32 = 60_000;

/// Brings the tables to the version that this program knows.
pub(super) async fn migrate(
    client: &mut Object,
    config: &PostgresConfig,
) -> Result<(), PostgresError> {
    let failed = |error: tokio_postgres::Error| PostgresError::of(&error, config);
    let transaction = client.build_transaction().start().await.map_err(failed)?;
    let steps = steps(&transaction, config).await?;
    transaction.commit().await.map_err(failed)?;
    if steps > 0 {
        tracing::info!(
            schema = config.schema,
            version = KNOWN,
            steps,
            "the tables of the directory were migrated"
        );
    }
    Ok(())
}

async fn steps(
    transaction: &Transaction<'_>,
    config: &PostgresConfig,
) -> Result<usize, PostgresError> {
    let failed = |error: tokio_postgres::Error| PostgresError::of(&error, config);
    let schema = &config.schema;
    let alone = format!(
        "SET LOCAL statement_timeout = {WAIT_MS}; SET LOCAL lock_timeout = {WAIT_MS}; \
         SELECT pg_advisory_xact_lock(hashtextextended('hawser.{schema}', 0))"
    );
    transaction.batch_execute(&alone).await.map_err(failed)?;
    // What exists needs no right to make it.
    let exists =
        "SELECT to_regnamespace($1) IS NOT NULL, to_regclass($1 || '.versions') IS NOT NULL";
    let exists = transaction
        .query_one(exists, &[schema])
        .await
        .map_err(failed)?;
    if !exists.get::<_, bool>(0) {
        let make = format!("CREATE SCHEMA {schema}");
        transaction.batch_execute(&make).await.map_err(failed)?;
    }
    if !exists.get::<_, bool>(1) {
        let make = "CREATE TABLE versions (version integer PRIMARY KEY, applied timestamptz NOT NULL DEFAULT now())";
        transaction.batch_execute(make).await.map_err(failed)?;
    }
    let newest = "SELECT coalesce(max(version), 0) FROM versions";
    let found: i32 = transaction
        .query_one(newest, &[])
        .await
        .map_err(failed)?
        .get(0);
    if found > KNOWN {
        return Err(PostgresError::Newer {
            schema: schema.clone(),
            found,
            known: KNOWN,
        });
    }
    let done = usize::try_from(found).unwrap_or(0);
    for (version, step) in (1_i32..).zip(STEPS).skip(done) {
        transaction.batch_execute(step).await.map_err(failed)?;
        let note = "INSERT INTO versions (version) VALUES ($1)";
        transaction
            .execute(note, &[&version])
            .await
            .map_err(failed)?;
    }
    Ok(STEPS.len() - done)
}
