//! Keys and values of the store's rows. Every value begins with its version; values are decoded
//! defensively: a wrong one is `StoreError::Corrupt`, never a panic.

use super::codec::Reader;
use crate::store::sharded::{SHARDED_BYTES, decode_sharded, encode_sharded};
use crate::store::{
    ChatHead, ChatInfo, DedupRow, Interval, Membership, ReceiptRow, StoreError, StoredMessage,
};
use bytes::Bytes;
use fjall::Slice;
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, Seq, UserId};

const V1: u8 = 1;
const V2: u8 = 2;
const V3: u8 = 3;

/// A row that cannot be decoded.
#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
pub(super) fn corrupt(table: &'static str, reason: impl ToString) -> StoreError {
    StoreError::Corrupt {
        table,
        reason: reason.to_string(),
    }
}

/// The first part of a key: kind, id, end mark (ids never contain a zero byte).
fn prefix(kind: u8, id: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(2 + id.len() + 66);
    key.push(kind);
    key.extend_from_slice(id.as_bytes());
    key.push(0);
    key
}

fn key(kind: u8, id: &str, rest: &[u8]) -> Vec<u8> {
    let mut key = prefix(kind, id);
    key.extend_from_slice(rest);
    key
}

pub(super) fn head_key(chat: &ChatId) -> Vec<u8> {
    prefix(b'h', chat.as_str())
}

/// Row of the index seq → ordinal.
pub(super) fn seq_key(chat: &ChatId, seq: Seq) -> Vec<u8> {
    key(b's', chat.as_str(), &seq.0.to_be_bytes())
}

pub(super) fn member_prefix(chat: &ChatId) -> Vec<u8> {
    prefix(b'm', chat.as_str())
}

pub(super) fn member_key(chat: &ChatId, user: &UserId) -> Vec<u8> {
    key(b'm', chat.as_str(), user.as_str().as_bytes())
}

pub(super) fn chats_of_prefix(user: &UserId) -> Vec<u8> {
    prefix(b'u', user.as_str())
}

pub(super) fn chats_of_key(user: &UserId, chat: &ChatId) -> Vec<u8> {
    key(b'u', user.as_str(), chat.as_str().as_bytes())
}

pub(super) fn chat_key(chat: &ChatId) -> Vec<u8> {
    prefix(b'c', chat.as_str())
}

pub(super) fn receipt_prefix(chat: &ChatId) -> Vec<u8> {
    prefix(b'r', chat.as_str())
}

pub(super) fn receipt_key(chat: &ChatId, user: &UserId) -> Vec<u8> {
    key(b'r', chat.as_str(), user.as_str().as_bytes())
}

/// Key in `Table::Messages`: chat, end mark, ordinal big-endian.
pub(super) fn message_key(chat: &ChatId, ordinal: u64) -> Vec<u8> {
    let mut key = chat.as_str().as_bytes().to_vec();
    key.push(0);
    key.extend_from_slice(&ordinal.to_be_bytes());
    key
}

pub(super) fn message_ordinal(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(*key.last_chunk::<8>()?))
}

/// Key in `Table::Dedup`.
pub(super) fn dedup_key(
    user: &UserId,
    device: &DeviceId,
    chat: &ChatId,
    id: &ClientMsgId,
) -> Vec<u8> {
    let mut key = prefix(b'd', chat.as_str());
    key.extend_from_slice(user.as_str().as_bytes());
    key.push(0);
    key.extend_from_slice(device.as_str().as_bytes());
    key.push(0);
    key.extend_from_slice(&id.0);
    key
}

/// Key of the time index of dedup rows: it sorts by log time.
pub(super) fn dedup_time_key(stored_ts_ms: u64, dedup_key: &[u8]) -> Vec<u8> {
    let mut key = vec![b't'];
    key.extend_from_slice(&stored_ts_ms.to_be_bytes());
    key.extend_from_slice(dedup_key);
    key
}

/// (log time, key of the dedup row) of a row of the time index.
pub(super) fn dedup_time_parts(key: &[u8]) -> Option<(u64, &[u8])> {
    let time = *key.get(1..)?.first_chunk::<8>()?;
    Some((u64::from_be_bytes(time), &key[9..]))
}

pub(super) fn encode_head(head: ChatHead) -> Vec<u8> {
    encode(&[head.seq.0, head.ordinal])
}

pub(super) fn decode_head(value: &[u8]) -> Result<ChatHead, StoreError> {
    let [seq, ordinal] = decode("chat_heads", value)?;
    Ok(ChatHead {
        seq: Seq(seq),
        ordinal,
    })
}

pub(super) fn encode_ordinal(ordinal: u64) -> Vec<u8> {
    encode(&[ordinal])
}

pub(super) fn decode_ordinal(value: &[u8]) -> Result<u64, StoreError> {
    decode("seq_index", value).map(|[ordinal]| ordinal)
}

pub(super) fn encode_dedup(row: &DedupRow) -> Vec<u8> {
    encode(&[
        row.seq.0,
        u64::from(row.error),
        row.ordinal,
        row.prev_seq.0,
        row.stored_ts_ms,
    ])
}

pub(super) fn decode_dedup(value: &[u8]) -> Result<DedupRow, StoreError> {
    let table = "sent_by_client";
    let [seq, error, ordinal, prev_seq, stored_ts_ms] = decode(table, value)?;
    Ok(DedupRow {
        seq: Seq(seq),
        error: u16::try_from(error).map_err(|_| corrupt(table, "an error code above 65,535"))?,
        ordinal,
        prev_seq: Seq(prev_seq),
        stored_ts_ms,
    })
}

/// Receipts carry no user in the value: it is in the key.
pub(super) fn encode_receipt(row: &ReceiptRow) -> Vec<u8> {
    encode(&[row.delivered.0, row.read.0, row.ts_ms])
}

pub(super) fn decode_receipt(user: UserId, value: &[u8]) -> Result<ReceiptRow, StoreError> {
    let [delivered, read, ts_ms] = decode("receipts_by_chat", value)?;
    Ok(ReceiptRow {
        user,
        delivered: Seq(delivered),
        read: Seq(read),
        ts_ms,
    })
}

/// version | seq | record length | record | envelopes.
pub(super) fn encode_message(seq: Seq, record: &Bytes, envelopes: &Bytes) -> Vec<u8> {
    let len = u32::try_from(record.len()).unwrap_or(u32::MAX);
    let mut out = Vec::with_capacity(13 + record.len() + envelopes.len());
    out.push(V1);
    out.extend_from_slice(&seq.0.to_le_bytes());
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(record);
    out.extend_from_slice(envelopes);
    out
}

pub(super) fn decode_message(key: &[u8], value: Slice) -> Result<StoredMessage, StoreError> {
    let parse = || {
        let mut reader = Reader::new(&value);
        let version = reader.u8()?;
        let seq = reader.u64()?;
        let len = reader.u32()? as usize;
        reader.bytes(len)?;
        (version == V1).then_some((message_ordinal(key)?, Seq(seq), len))
    };
    let (ordinal, seq, len) = parse().ok_or_else(|| corrupt("messages_by_chat", "bad form"))?;
    let all = Bytes::from_owner(value);
    Ok(StoredMessage {
        ordinal,
        seq,
        record: all.slice(13..13 + len),
        envelopes: all.slice(13 + len..),
    })
}

/// version | write_seq | admin | intervals, each joined, joined ordinal, left or 0, left ordinal.
pub(super) fn encode_member(member: &Membership, write_seq: Seq) -> Vec<u8> {
    let mut out = encode(&[write_seq.0]);
    out.push(u8::from(member.admin));
    for interval in &member.intervals {
        let left = interval.left.map_or(u64::MAX, |seq| seq.0);
        let left_ordinal = interval.left_ordinal.unwrap_or(u64::MAX);
        for field in [
            interval.joined.0,
            interval.joined_ordinal,
            left,
            left_ordinal,
        ] {
            out.extend_from_slice(&field.to_le_bytes());
        }
    }
    out
}

pub(super) fn decode_member(user: UserId, value: &[u8]) -> Result<(Membership, Seq), StoreError> {
    let parse = || {
        let mut reader = Reader::new(value);
        if reader.u8()? != V1 {
            return None;
        }
        let write_seq = Seq(reader.u64()?);
        let admin = reader.u8()? != 0;
        let mut intervals = Vec::new();
        while reader.end().is_none() {
            let (joined, joined_ordinal) = (Seq(reader.u64()?), reader.u64()?);
            let (left, left_ordinal) = (reader.u64()?, reader.u64()?);
            intervals.push(Interval {
                joined,
                joined_ordinal,
                left: (left != u64::MAX).then_some(Seq(left)),
                left_ordinal: (left_ordinal != u64::MAX).then_some(left_ordinal),
            });
        }
        let member = Membership {
            user,
            intervals,
            admin,
        };
        Some((member, write_seq))
    };
    parse().ok_or_else(|| corrupt("members", "bad form"))
}

/// version | write_seq | created_seq | name length | name | picture; a chat with lanes is of version 2, in which
/// (lanes, since, relaxed_seq) stand before the name's length; an edge-sharded one of version 3, in which its numbers
/// follow these.
pub(super) fn encode_chat(info: &ChatInfo) -> Vec<u8> {
    let mut out = encode(&[info.write_seq.0, info.created_seq.0]);
    if info.lanes > 0 || info.sharded.is_some() {
        out[0] = match info.sharded {
            Some(_) => V3,
            None => V2,
        };
        out.push(info.lanes);
        out.extend_from_slice(&info.lanes_since_ms.to_le_bytes());
        out.extend_from_slice(&info.relaxed_seq.0.to_le_bytes());
    }
    if let Some(sharded) = &info.sharded {
        out.extend_from_slice(&encode_sharded(sharded));
    }
    let len = u32::try_from(info.name.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(info.name.as_bytes());
    out.extend_from_slice(info.picture.as_bytes());
    out
}

pub(super) fn decode_chat(value: &[u8]) -> Result<ChatInfo, StoreError> {
    let parse = || {
        let mut reader = Reader::new(value);
        let version = reader.u8()?;
        if !(V1..=V3).contains(&version) {
            return None;
        }
        let (write_seq, created_seq) = (Seq(reader.u64()?), Seq(reader.u64()?));
        let (lanes, lanes_since_ms, relaxed_seq) = match version {
            V2 | V3 => (reader.u8()?, reader.u64()?, Seq(reader.u64()?)),
            _ => (0, 0, Seq::NONE),
        };
        let sharded = match version {
            V3 => Some(decode_sharded(reader.bytes(SHARDED_BYTES)?)?),
            _ => None,
        };
        let len = reader.u32()? as usize;
        let name = String::from_utf8(reader.bytes(len)?.to_vec()).ok()?;
        let picture = String::from_utf8(reader.rest().to_vec()).ok()?;
        Some(ChatInfo {
            name,
            picture,
            write_seq,
            created_seq,
            lanes,
            lanes_since_ms,
            relaxed_seq,
            sharded,
        })
    };
    parse().ok_or_else(|| corrupt("chats", "bad form"))
}

/// The last part of a key after `prefix`, as text.
pub(super) fn key_tail<'a>(
    table: &'static str,
    key: &'a [u8],
    prefix: &[u8],
) -> Result<&'a str, StoreError> {
    key.get(prefix.len()..)
        .and_then(|tail| std::str::from_utf8(tail).ok())
        .ok_or_else(|| corrupt(table, "a key of bad form"))
}

fn encode(fields: &[u64]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + fields.len() * 8);
    out.push(V1);
    for field in fields {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out
}

fn decode<const N: usize>(table: &'static str, value: &[u8]) -> Result<[u64; N], StoreError> {
    let mut reader = Reader::new(value);
    match reader.u8() {
        Some(V1) => {}
        Some(other) => return Err(corrupt(table, format!("version {other}"))),
        None => return Err(corrupt(table, "empty")),
    }
    let mut fields = [0; N];
    for field in &mut fields {
        *field = reader.u64().ok_or_else(|| corrupt(table, "too short"))?;
    }
    reader.end().ok_or_else(|| corrupt(table, "too long"))?;
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Headcount, Sharded};

    fn user() -> UserId {
        UserId::new("alice").unwrap()
    }

    fn member() -> Membership {
        Membership {
            user: user(),
            intervals: vec![
                Interval {
                    joined: Seq::NONE,
                    joined_ordinal: 0,
                    left: Some(Seq(9)),
                    left_ordinal: Some(3),
                },
                Interval {
                    joined: Seq(11),
                    joined_ordinal: 4,
                    left: None,
                    left_ordinal: None,
                },
            ],
            admin: true,
        }
    }

    #[test]
    fn rows_round_trip() {
        let (m, seq) = decode_member(user(), &encode_member(&member(), Seq(11))).unwrap();
        assert_eq!((m, seq), (member(), Seq(11)));
        let info = ChatInfo {
            name: "ü".into(),
            picture: "p".into(),
            write_seq: Seq(2),
            created_seq: Seq(1),
            ..ChatInfo::default()
        };
        assert_eq!(decode_chat(&encode_chat(&info)).unwrap(), info);
        let info = ChatInfo {
            lanes: 8,
            lanes_since_ms: 77,
            relaxed_seq: Seq(5),
            ..info
        };
        assert_eq!(decode_chat(&encode_chat(&info)).unwrap(), info);
        let (members, admins) = (100_000, 3);
        let info = ChatInfo {
            sharded: Some(Sharded {
                seq: Seq(9),
                count: Headcount { members, admins },
                before: Headcount::default(),
            }),
            ..info
        };
        assert_eq!(decode_chat(&encode_chat(&info)).unwrap(), info);
    }

    /// Every strict prefix, and the whole with another version.
    fn spoiled(value: &[u8]) -> impl Iterator<Item = Vec<u8>> {
        let mut other = value.to_vec();
        other[0] = 9;
        let cuts: Vec<_> = (0..value.len()).map(|n| value[..n].to_vec()).collect();
        cuts.into_iter().chain([other])
    }

    #[test]
    fn every_cut_or_unknown_version_of_a_row_is_corrupt_and_never_a_panic() {
        let dedup = DedupRow {
            seq: Seq(1),
            error: 2,
            ordinal: 3,
            prev_seq: Seq(4),
            stored_ts_ms: 5,
        };
        assert!(spoiled(&encode_dedup(&dedup)).all(|v| decode_dedup(&v).is_err()));
        assert!(spoiled(&encode_head(ChatHead::default())).all(|v| decode_head(&v).is_err()));
        assert!(spoiled(&encode_ordinal(1)).all(|v| decode_ordinal(&v).is_err()));
        let message = encode_message(Seq(1), &Bytes::from_static(b"r"), &Bytes::new());
        assert!(spoiled(&message).all(|v| decode_message(b"12345678", Slice::from(v)).is_err()));
        // A member row that ends after a whole interval is a shorter row, and only that.
        let member = encode_member(&member(), Seq(1));
        let readable = spoiled(&member).filter(|v| decode_member(user(), v).is_ok());
        assert_eq!(readable.count(), 2);
    }
}
