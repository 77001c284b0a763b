//! The list of revocations.

use super::pool::Failure;
use super::users::{big, small};
use crate::directory::{DirectoryError, REVOCATIONS_MAX, Revocation};
use deadpool_postgres::Object;
use hawser_protocol::ids::{DeviceId, UserId};
use tokio_postgres::Row;

/// Tokens that have expired dropped per entry that is added.
const DROPPED_PER_PUT: i64 = 64;

/// Target, name, device, whether it is a pardon, "up to" or the token's expiry.
fn columns(revocation: &Revocation) -> (&'static str, &str, &str, bool, Option<i64>) {
    match revocation {
        Revocation::User { user, until_ms } => {
            ("user", user.as_str(), "", false, until_ms.map(big))
        }
        Revocation::Device {
            user,
            device,
            until_ms,
        } => (
            "device",
            user.as_str(),
            device.as_str(),
            false,
            until_ms.map(big),
        ),
        Revocation::Token { jti, expires_at_ms } => {
            ("token", jti, "", false, Some(big(*expires_at_ms)))
        }
        Revocation::Pardon { user } => ("user", user.as_str(), "", true, None),
    }
}

/// Adds an entry, or extends the one of the same target, at the end of the list; its place there.
pub(super) async fn put(db: &mut Object, revocation: &Revocation) -> Result<u64, Failure> {
    let (target, name, device, pardoned, at_ms) = columns(revocation);
    let transaction = db.transaction().await?;
    // Locks until the commit: cursors become visible in their order.
    let next = "UPDATE revocation_end SET last = last + 1 RETURNING last";
    let next = transaction.prepare_cached(next).await?;
    let position: i64 = transaction.query_one(&next, &[]).await?.get(0);
    let expired = "DELETE FROM revocations WHERE (target, name, device) IN (SELECT target, name, device \
                   FROM revocations WHERE target = 'token' AND at_ms <= (extract(epoch FROM now()) * 1000)::bigint LIMIT $1)";
    let expired = transaction.prepare_cached(expired).await?;
    transaction.execute(&expired, &[&DROPPED_PER_PUT]).await?;
    let others = "SELECT count(*) FROM revocations WHERE (target, name, device) <> ($1, $2, $3)";
    let others = transaction.prepare_cached(others).await?;
    let others = transaction
        .query_one(&others, &[&target, &name, &device])
        .await?;
    if small(others.get(0)) >= REVOCATIONS_MAX {
        let field = "revocations";
        return Err(Failure::Said(DirectoryError::Taken { field }));
    }
    let put = "INSERT INTO revocations AS old (target, name, device, pardoned, at_ms, position) \
               VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (target, name, device) DO UPDATE SET pardoned = $4, position = $6, \
               at_ms = CASE WHEN old.pardoned OR $4 THEN $5 WHEN old.at_ms IS NULL OR $5 IS NULL THEN NULL \
               ELSE greatest(old.at_ms, $5) END";
    let put = transaction.prepare_cached(put).await?;
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
        [&target, &name, &device, &pardoned, &at_ms, &position];
    transaction.execute(&put, &values).await?;
    transaction.commit().await?;
    Ok(small(position))
}

/// Entries after a cursor, in the order of cursors.
pub(super) async fn after(
    db: &mut Object,
    cursor: u64,
    limit: i64,
) -> Result<Vec<(u64, Revocation)>, Failure> {
    // A cursor beyond the end is of a list that is lost.
    let sql = "SELECT position, target, name, device, pardoned, at_ms FROM revocations \
               WHERE position > CASE WHEN $1 > (SELECT last FROM revocation_end) THEN 0 ELSE $1 END \
               ORDER BY position LIMIT $2";
    let statement = db.prepare_cached(sql).await?;
    let rows = db.query(&statement, &[&big(cursor), &limit]).await?;
    rows.iter().map(entry).collect()
}

fn entry(row: &Row) -> Result<(u64, Revocation), Failure> {
    let wrong = |error: hawser_protocol::ids::IdError| {
        let reason = format!("directory.schema: a revocation names no user or device: {error}");
        Failure::Said(DirectoryError::Unavailable { reason })
    };
    let (target, name): (&str, &str) = (row.get(1), row.get(2));
    let at_ms = row.get::<_, Option<i64>>(5).map(small);
    let user = || UserId::new(name).map_err(wrong);
    let revocation = match target {
        "token" => Revocation::Token {
            jti: name.to_owned(),
            expires_at_ms: at_ms.unwrap_or(u64::MAX),
        },
        "device" => Revocation::Device {
            user: user()?,
            device: DeviceId::new(row.get(3)).map_err(wrong)?,
            until_ms: at_ms,
        },
        _ if row.get(4) => Revocation::Pardon { user: user()? },
        _ => Revocation::User {
            user: user()?,
            until_ms: at_ms,
        },
    };
    Ok((small(row.get(0)), revocation))
}
