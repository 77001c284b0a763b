//! Users and devices.

use super::pool::Failure;
use crate::directory::{Device, DirectoryError, User};
use deadpool_postgres::Object;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;

/// Devices of one user; more are refused `Taken`.
const DEVICES_MAX: i64 = 64;

const COLUMNS: &str = "user_id, name, coalesce(phone, ''), status, profile_pic, created_ms, banned";

/// What the tables cannot hold is far beyond any time or seq.
pub(super) fn big(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn small(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn user(row: &Row) -> User {
    User {
        user_id: row.get(0),
        name: row.get(1),
        phone: row.get(2),
        status: row.get(3),
        profile_pic: row.get(4),
        created_ms: small(row.get(5)),
        banned: row.get(6),
    }
}

fn device(row: &Row) -> Device {
    Device {
        device_id: row.get(0),
        name: row.get(1),
        platform: row.get(2),
        push_token: row.get(3),
        created_ms: small(row.get(4)),
        revoked: row.get(5),
    }
}

/// A unique field that another row has.
fn taken(error: tokio_postgres::Error) -> Failure {
    let field = match error.as_db_error() {
        Some(db) if *db.code() == SqlState::UNIQUE_VIOLATION => match db.constraint() {
            Some("users_phone") => "phone",
            _ => "user_id",
        },
        _ => return Failure::Server(error),
    };
    Failure::Said(DirectoryError::Taken { field })
}

pub(super) async fn create(db: &mut Object, new: &User) -> Result<(), Failure> {
    let insert = "INSERT INTO users (user_id, name, phone, status, profile_pic, created_ms, banned) \
                  VALUES ($1, $2, nullif($3, ''), $4, $5, $6, $7)";
    write(db, insert, new).await.map(|_| ())
}

pub(super) async fn update(db: &mut Object, new: &User) -> Result<(), Failure> {
    let update = "UPDATE users SET name = $2, phone = nullif($3, ''), status = $4, profile_pic = $5, \
                  created_ms = $6, banned = $7 WHERE user_id = $1";
    found(write(db, update, new).await?)
}

async fn write(db: &mut Object, sql: &str, new: &User) -> Result<u64, Failure> {
    let statement = db.prepare_cached(sql).await?;
    let created = big(new.created_ms);
    let User {
        user_id,
        name,
        phone,
        status,
        profile_pic,
        banned,
        ..
    } = new;
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 7] =
        [user_id, name, phone, status, profile_pic, &created, banned];
    db.execute(&statement, &values).await.map_err(taken)
}

fn found(rows: u64) -> Result<(), Failure> {
    match rows {
        0 => Err(Failure::Said(DirectoryError::NotFound)),
        _ => Ok(()),
    }
}

pub(super) async fn by_id(db: &mut Object, id: &str) -> Result<Option<User>, Failure> {
    let sql = format!("SELECT {COLUMNS} FROM users WHERE user_id = $1");
    let statement = db.prepare_cached(&sql).await?;
    Ok(db.query_opt(&statement, &[&id]).await?.as_ref().map(user))
}

pub(super) async fn by_phone(db: &mut Object, phone: &str) -> Result<Option<User>, Failure> {
    let sql = format!("SELECT {COLUMNS} FROM users WHERE phone = $1");
    let statement = db.prepare_cached(&sql).await?;
    Ok(db
        .query_opt(&statement, &[&phone])
        .await?
        .as_ref()
        .map(user))
}

pub(super) async fn list(db: &mut Object, after: &str, limit: i64) -> Result<Vec<User>, Failure> {
    let sql = format!("SELECT {COLUMNS} FROM users WHERE user_id > $1 ORDER BY user_id LIMIT $2");
    let statement = db.prepare_cached(&sql).await?;
    let rows = db.query(&statement, &[&after, &limit]).await?;
    Ok(rows.iter().map(user).collect())
}

pub(super) async fn delete(db: &mut Object, id: &str) -> Result<(), Failure> {
    let statement = db
        .prepare_cached("DELETE FROM users WHERE user_id = $1")
        .await?;
    found(db.execute(&statement, &[&id]).await?)
}

/// The lock on the user's row keeps the number of devices true, and the user there.
pub(super) async fn put_device(db: &mut Object, owner: &str, new: &Device) -> Result<(), Failure> {
    let transaction = db.transaction().await?;
    let lock = "SELECT 1 FROM users WHERE user_id = $1 FOR UPDATE";
    let lock = transaction.prepare_cached(lock).await?;
    found(transaction.execute(&lock, &[&owner]).await?)?;
    let others = "SELECT count(*) FROM devices WHERE user_id = $1 AND device_id <> $2";
    let others = transaction.prepare_cached(others).await?;
    let others = transaction
        .query_one(&others, &[&owner, &new.device_id])
        .await?;
    if others.get::<_, i64>(0) >= DEVICES_MAX {
        return Err(Failure::Said(DirectoryError::Taken { field: "devices" }));
    }
    let put = "INSERT INTO devices (user_id, device_id, name, platform, push_token, created_ms, revoked) \
               VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (user_id, device_id) DO UPDATE SET name = $3, \
               platform = $4, push_token = $5, created_ms = $6, revoked = $7";
    let put = transaction.prepare_cached(put).await?;
    let created = big(new.created_ms);
    let Device {
        device_id,
        name,
        platform,
        push_token,
        revoked,
        ..
    } = new;
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 7] = [
        &owner, device_id, name, platform, push_token, &created, revoked,
    ];
    transaction.execute(&put, &values).await?;
    Ok(transaction.commit().await?)
}

/// All devices, or one.
pub(super) async fn devices(
    db: &mut Object,
    owner: &str,
    one: Option<&str>,
) -> Result<Vec<Device>, Failure> {
    let sql = "SELECT device_id, name, platform, push_token, created_ms, revoked FROM devices \
               WHERE user_id = $1 AND ($2::text IS NULL OR device_id = $2) ORDER BY device_id LIMIT $3";
    let statement = db.prepare_cached(sql).await?;
    let rows = db.query(&statement, &[&owner, &one, &DEVICES_MAX]).await?;
    Ok(rows.iter().map(device).collect())
}
