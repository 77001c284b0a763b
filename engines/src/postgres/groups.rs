//! Groups: a view of the log, in which the larger seq wins.

use super::pool::Failure;
use super::users::{big, small};
use crate::directory::{Group, GroupDelta, GroupPage};
use deadpool_postgres::{Object, Transaction};

/// Replaces a group whole, unless a later state is there.
pub(super) async fn apply(db: &mut Object, group: &Group, seq: u64) -> Result<(), Failure> {
    let transaction = db.transaction().await?;
    if !put(
        &transaction,
        (&group.chat, &group.name, &group.picture),
        seq,
    )
    .await?
    {
        return Ok(transaction.rollback().await?);
    }
    for (table, users) in [
        ("group_members", &group.members),
        ("group_admins", &group.admins),
    ] {
        let clear = format!("DELETE FROM {table} WHERE chat = $1");
        let clear = transaction.prepare_cached(&clear).await?;
        transaction.execute(&clear, &[&group.chat]).await?;
        let fill = format!(
            "INSERT INTO {table} (chat, user_id, place) SELECT $1, user_id, place \
             FROM unnest($2::text[]) WITH ORDINALITY AS listed (user_id, place) ON CONFLICT DO NOTHING"
        );
        let fill = transaction.prepare_cached(&fill).await?;
        transaction.execute(&fill, &[&group.chat, users]).await?;
    }
    Ok(transaction.commit().await?)
}

/// The group's own row, unless a later state is there.
async fn put(
    transaction: &Transaction<'_>,
    (chat, name, picture): (&str, &str, &str),
    seq: u64,
) -> Result<bool, Failure> {
    // Whoever comes second waits at this row, and then compares with what the first has left.
    let put = "INSERT INTO groups (chat, name, picture, write_seq) VALUES ($1, $2, $3, $4) \
               ON CONFLICT (chat) DO UPDATE SET name = $2, picture = $3, write_seq = $4 WHERE groups.write_seq < $4";
    let put = transaction.prepare_cached(put).await?;
    let seq = big(seq);
    let rows = transaction
        .execute(&put, &[&chat, &name, &picture, &seq])
        .await?;
    Ok(rows > 0)
}

/// Applies what a change touched, unless a later state is there. Who is in an edge-sharded group has no place in a list
/// of its own: they are read by id.
pub(super) async fn touch(db: &mut Object, delta: &GroupDelta, seq: u64) -> Result<(), Failure> {
    let transaction = db.transaction().await?;
    let chat = &delta.chat;
    if !put(&transaction, (chat, &delta.name, &delta.picture), seq).await? {
        return Ok(transaction.rollback().await?);
    }
    let names = |admin: bool| -> Vec<&str> {
        let listed = delta.members.iter().filter(|(_, is)| !admin || *is);
        listed.map(|(user, _)| user.as_str()).collect()
    };
    let (members, admins) = (names(false), names(true));
    let left: Vec<&str> = delta.left.iter().map(String::as_str).collect();
    let gone = "DELETE FROM group_members WHERE chat = $1 AND user_id = ANY($2::text[])";
    let gone = transaction.prepare_cached(gone).await?;
    transaction.execute(&gone, &[chat, &left]).await?;
    let demoted = "DELETE FROM group_admins WHERE chat = $1 AND user_id = ANY($2::text[])";
    let demoted = transaction.prepare_cached(demoted).await?;
    for touched in [&left, &members] {
        transaction.execute(&demoted, &[chat, touched]).await?;
    }
    for (table, users) in [("group_members", &members), ("group_admins", &admins)] {
        let fill = format!(
            "INSERT INTO {table} (chat, user_id, place) SELECT $1, user_id, 0 FROM unnest($2::text[]) AS listed (user_id) \
             ON CONFLICT DO NOTHING"
        );
        let fill = transaction.prepare_cached(&fill).await?;
        transaction.execute(&fill, &[chat, users]).await?;
    }
    Ok(transaction.commit().await?)
}

/// One statement, so all of it is of one state.
pub(super) async fn page(
    db: &mut Object,
    chat: &str,
    after: &str,
    limit: usize,
) -> Result<Option<GroupPage>, Failure> {
    let sql = "SELECT chat, name, picture, write_seq, \
               ARRAY(SELECT user_id FROM group_members m WHERE m.chat = g.chat AND user_id > $2 ORDER BY user_id LIMIT $3), \
               ARRAY(SELECT user_id FROM group_admins a WHERE a.chat = g.chat ORDER BY user_id), \
               (SELECT count(*) FROM group_members m WHERE m.chat = g.chat) \
               FROM groups g WHERE chat = $1";
    let statement = db.prepare_cached(sql).await?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let row = db.query_opt(&statement, &[&chat, &after, &limit]).await?;
    Ok(row.map(|row| GroupPage {
        group: group_of(&row),
        member_count: small(row.get(6)),
    }))
}

fn group_of(row: &tokio_postgres::Row) -> Group {
    Group {
        chat: row.get(0),
        name: row.get(1),
        picture: row.get(2),
        write_seq: small(row.get(3)),
        members: row.get(4),
        admins: row.get(5),
    }
}

/// One statement, so members, admins and seq are of one state.
pub(super) async fn read(db: &mut Object, chat: &str) -> Result<Option<Group>, Failure> {
    let sql = "SELECT chat, name, picture, write_seq, \
               ARRAY(SELECT user_id FROM group_members m WHERE m.chat = g.chat ORDER BY place, user_id), \
               ARRAY(SELECT user_id FROM group_admins a WHERE a.chat = g.chat ORDER BY place, user_id) \
               FROM groups g WHERE chat = $1";
    let statement = db.prepare_cached(sql).await?;
    let row = db.query_opt(&statement, &[&chat]).await?;
    Ok(row.as_ref().map(group_of))
}
