//! Members of an edge-sharded group: a kind of delivery record, and the value of `shards` (one member each).

use super::RecordError;
use super::read::Reader;
use super::write::Writer;
use crate::ids::{ChatId, Seq, UserId};

/// Kind of the delivery record.
pub(super) const SHARD: u8 = 7;
/// Bytes of members in one record, about: whoever writes more makes several.
pub const SHARD_BYTES_MAX: usize = 256 << 10;
/// Times that one user joined a group.
const SPANS_MAX: usize = 1_024;
/// Members of one record: each has at least two lengths and a letter.
const MEMBERS_MAX: usize = (1 << 20) / 4;
/// In the place of the seq of a change that has not been.
const STAYS: u64 = u64::MAX;

/// One user of an edge-sharded group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardMember {
    /// Who.
    pub user: UserId,
    /// (joined, left), both exclusive, in order of joining.
    pub spans: Vec<(Seq, Option<Seq>)>,
}

impl ShardMember {
    /// Bytes in a record.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        3 + self.user.as_str().len() + self.spans.len() * 16
    }
}

/// Members as they stand in a record, checked.
#[derive(Debug, Clone, Copy)]
pub struct ShardView<'a> {
    /// Which group.
    pub chat: &'a str,
    left: usize,
    bytes: &'a [u8],
}

/// One of them.
#[derive(Debug, Clone, Copy)]
pub struct ShardMemberView<'a> {
    /// Who.
    pub user: &'a str,
    spans: &'a [u8],
}

/// Chat, count u32, then (user, count u16, (joined u64, left u64)*)*.
pub(super) fn put_shard(out: &mut Writer, chat: &ChatId, members: &[ShardMember]) {
    out.short(chat.as_str()).len(members.len());
    for member in members {
        let spans = u16::try_from(member.spans.len()).unwrap_or(u16::MAX);
        out.short(member.user.as_str()).u16(spans);
        for (joined, left) in member.spans.iter().take(usize::from(spans)) {
            out.seq(*joined).u64(left.map_or(STAYS, |left| left.0));
        }
    }
}

impl<'a> ShardView<'a> {
    pub(super) fn parse(reader: &mut Reader<'a>) -> Result<Self, RecordError> {
        let chat = reader.short("chat")?;
        let left = reader.len("members", MEMBERS_MAX)?;
        let begin = reader.rest();
        for _ in 0..left {
            let user = reader.short("user")?;
            if user.is_empty() {
                return Err(RecordError::BadForm { what: "user" });
            }
            let spans = usize::from(reader.u16()?);
            if spans > SPANS_MAX {
                let (what, found, max) = ("spans", spans, SPANS_MAX);
                return Err(RecordError::TooMany { what, found, max });
            }
            reader.take(spans * 16)?;
        }
        let len = begin.len() - reader.rest().len();
        Ok(Self {
            chat,
            left,
            bytes: begin.get(..len).unwrap_or_default(),
        })
    }

    /// Iterates without allocation.
    pub fn members(&self) -> impl Iterator<Item = ShardMemberView<'a>> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        (0..self.left).map_while(move |_| {
            let user = reader.short("user").ok()?;
            let spans = usize::from(reader.u16().ok()?);
            let spans = reader.take(spans * 16).ok()?;
            Some(ShardMemberView { user, spans })
        })
    }
}

impl<'a> ShardMemberView<'a> {
    /// (joined, left), both exclusive, in order of joining.
    pub fn spans(&self) -> impl Iterator<Item = (Seq, Option<Seq>)> + use<'a> {
        let (pairs, _) = self.spans.as_chunks::<16>();
        pairs.iter().map(|pair| {
            let at = |from: usize| {
                let bytes = pair.get(from..from + 8).and_then(|b| b.try_into().ok());
                bytes.map_or(0, u64::from_le_bytes)
            };
            let left = at(8);
            (Seq(at(0)), (left != STAYS).then_some(Seq(left)))
        })
    }
}
