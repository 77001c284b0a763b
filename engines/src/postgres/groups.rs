//! Groups: a view of the log, in which the larger seq wins.

use super::pool::Failure;
use super::users::{big, small};
use crate::directory::Group;
use deadpool_postgres::Object;

/// Replaces a group whole, unless a later state is there.
pub(super) async fn apply(db: &mut Object, group: &Group, seq: u64) -> Result<(), Failure> {
    let transaction = db.transaction().await?;
    // Whoever comes second waits at this row, and then compares with what the first has left.
    let put = "INSERT INTO groups (chat, name, picture, write_seq) VALUES ($1, $2, $3, $4) \
               ON CONFLICT (chat) DO UPDATE SET name = $2, picture = $3, write_seq = $4 WHERE groups.write_seq < $4";
    let put = transaction.prepare_cached(put).await?;
    let seq = big(seq);
    let put = transaction
        .execute(&put, &[&group.chat, &group.name, &group.picture, &seq])
        .await?;
    if put == 0 {
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

/// One statement, so members, admins and seq are of one state.
pub(super) async fn read(db: &mut Object, chat: &str) -> Result<Option<Group>, Failure> {
    let sql = "SELECT chat, name, picture, write_seq, \
               ARRAY(SELECT user_id FROM group_members m WHERE m.chat = g.chat ORDER BY place), \
               ARRAY(SELECT user_id FROM group_admins a WHERE a.chat = g.chat ORDER BY place) \
               FROM groups g WHERE chat = $1";
    let statement = db.prepare_cached(sql).await?;
    let row = db.query_opt(&statement, &[&chat]).await?;
    Ok(row.map(|row| Group {
        chat: row.get(0),
        name: row.get(1),
        picture: row.get(2),
        write_seq: small(row.get(3)),
        members: row.get(4),
        admins: row.get(5),
    }))
}
