//! Merge rules of the store's rows: what makes every write idempotent and every replay harmless.

use super::rows::{
    chat_key, chats_of_key, decode_chat, decode_head, decode_member, decode_receipt, dedup_key,
    dedup_time_key, encode_chat, encode_dedup, encode_head, encode_member, encode_message,
    encode_ordinal, encode_receipt, head_key, member_key, message_key, receipt_key, seq_key,
};
use super::store::store_error;
use super::tables::{Table, Txn};
use crate::store::{ChatHead, ChatInfo, DedupRow, Membership, ReceiptRow, StoreError, StoreOp};
use fjall::Slice;
use hawser_protocol::ids::{ChatId, Seq};

/// Adds one operation to the transaction.
///
/// # Errors
/// A row to merge with cannot be read; the transaction then holds part of the operation.
pub(super) fn apply(txn: &mut Txn<'_>, op: &StoreOp) -> Result<(), StoreError> {
    match op {
        StoreOp::Message {
            chat,
            ordinal,
            seq,
            record,
            envelopes,
        } => {
            let value = encode_message(*seq, record, envelopes);
            txn.put(Table::Messages, message_key(chat, *ordinal), value);
            txn.put(Table::Rows, seq_key(chat, *seq), encode_ordinal(*ordinal));
            Ok(())
        }
        StoreOp::Head { chat, head } => apply_head(txn, chat, *head),
        StoreOp::Dedup {
            user,
            device,
            chat,
            client_msg_id,
            row,
        } => apply_dedup(txn, dedup_key(user, device, chat, client_msg_id), row),
        StoreOp::Member {
            chat,
            member,
            write_seq,
        } => apply_member(txn, chat, member, *write_seq),
        StoreOp::Chat { chat, info } => apply_chat(txn, chat, info),
        StoreOp::Receipt { chat, row } => apply_receipt(txn, chat, row),
    }
}

fn read(
    txn: &Txn<'_>,
    name: &'static str,
    table: Table,
    key: &[u8],
) -> Result<Option<Slice>, StoreError> {
    txn.get(table, key).map_err(|e| store_error(name, &e))
}

/// The larger seq wins.
fn apply_head(txn: &mut Txn<'_>, chat: &ChatId, head: ChatHead) -> Result<(), StoreError> {
    let key = head_key(chat);
    if let Some(old) = read(txn, "chat_heads", Table::Rows, &key)?
        && decode_head(&old)?.seq >= head.seq
    {
        return Ok(());
    }
    txn.put(Table::Rows, key, encode_head(head));
    Ok(())
}

/// The first writer wins.
fn apply_dedup(txn: &mut Txn<'_>, key: Vec<u8>, row: &DedupRow) -> Result<(), StoreError> {
    if read(txn, "sent_by_client", Table::Dedup, &key)?.is_some() {
        return Ok(());
    }
    let time_key = dedup_time_key(row.stored_ts_ms, &key);
    txn.put(Table::Dedup, time_key, Slice::default());
    txn.put(Table::Dedup, key, encode_dedup(row));
    Ok(())
}

/// The larger write_seq wins.
fn apply_member(
    txn: &mut Txn<'_>,
    chat: &ChatId,
    member: &Membership,
    write_seq: Seq,
) -> Result<(), StoreError> {
    let key = member_key(chat, &member.user);
    if let Some(old) = read(txn, "members", Table::Rows, &key)? {
        let (_, old_seq) = decode_member(member.user.clone(), &old)?;
        if old_seq >= write_seq {
            return Ok(());
        }
    }
    txn.put(Table::Rows, key, encode_member(member, write_seq));
    txn.put(
        Table::Rows,
        chats_of_key(&member.user, chat),
        Slice::default(),
    );
    Ok(())
}

/// The larger write_seq wins.
fn apply_chat(txn: &mut Txn<'_>, chat: &ChatId, info: &ChatInfo) -> Result<(), StoreError> {
    let key = chat_key(chat);
    if let Some(old) = read(txn, "chats", Table::Rows, &key)?
        && decode_chat(&old)?.write_seq >= info.write_seq
    {
        return Ok(());
    }
    txn.put(Table::Rows, key, encode_chat(info));
    Ok(())
}

/// Maximum, field by field.
fn apply_receipt(txn: &mut Txn<'_>, chat: &ChatId, row: &ReceiptRow) -> Result<(), StoreError> {
    let key = receipt_key(chat, &row.user);
    let mut merged = row.clone();
    if let Some(old) = read(txn, "receipts_by_chat", Table::Rows, &key)? {
        let old = decode_receipt(row.user.clone(), &old)?;
        merged.delivered = merged.delivered.max(old.delivered);
        merged.read = merged.read.max(old.read);
        merged.ts_ms = merged.ts_ms.max(old.ts_ms);
        if merged == old {
            return Ok(());
        }
    }
    txn.put(Table::Rows, key, encode_receipt(&merged));
    Ok(())
}
