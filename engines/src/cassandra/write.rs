//! Writing a batch: what others stand for first, in any order and at the same time; then what tells of it.

use super::Inner;
use super::puts::Put;
use crate::store::{ChatHead, StoreError, StoreOp};
use ahash::{AHashMap, AHashSet};
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};
use hawser_protocol::ids::ChatId;

/// Writes of one batch under way at once; the store has a bound over all batches.
const BATCH_IN_FLIGHT: usize = 128;
type Write<'a> = BoxFuture<'a, Result<(), StoreError>>;

/// The writes of a batch.
#[derive(Default)]
struct Plan<'a> {
    /// Each is a sequence; all of them at the same time.
    first: Vec<Vec<Put<'a>>>,
    /// When the former are there, at the same time too.
    last: Vec<Put<'a>>,
}

impl Inner {
    /// Applies a batch, as the port says.
    pub(super) async fn write(&self, ops: &[StoreOp]) -> Result<(), StoreError> {
        let plan = plan(ops)?;
        let first = plan.first.into_iter();
        all(first.map(|puts| -> Write<'_> { Box::pin(self.in_turn(puts)) })).await?;
        let last = plan.last.into_iter();
        all(last.map(|put| -> Write<'_> { Box::pin(self.put(put)) })).await
    }

    async fn in_turn(&self, puts: Vec<Put<'_>>) -> Result<(), StoreError> {
        for put in puts {
            self.put(put).await?;
        }
        Ok(())
    }

    async fn put(&self, put: Put<'_>) -> Result<(), StoreError> {
        let statement = self.statements.put(put.kind);
        self.runner.run(statement, put.values).await?;
        Ok(())
    }
}

/// Puts the writes in order.
fn plan(ops: &[StoreOp]) -> Result<Plan<'_>, StoreError> {
    let mut plan = Plan::default();
    let mut heads: AHashMap<&ChatId, ChatHead> = AHashMap::new();
    let changed = changed_chats(ops);
    for op in ops {
        match op {
            StoreOp::Message {
                chat,
                ordinal,
                seq,
                record,
                envelopes,
            } => {
                let message = Put::message(chat, (*ordinal, *seq), record, envelopes)?;
                let bucket = Put::bucket(chat, *ordinal, *seq)?;
                plan.first
                    .push(bucket.into_iter().chain([message]).collect());
            }
            StoreOp::Head { chat, head } => {
                let last = heads.entry(chat).or_insert(*head);
                if head.seq > last.seq {
                    *last = *head;
                }
            }
            StoreOp::Dedup {
                user,
                device,
                chat,
                client_msg_id,
                row,
            } => {
                let put = Put::sent((user, device), chat, client_msg_id, row)?;
                match changed.contains(chat) {
                    true => plan.last.push(put),
                    false => plan.first.push(vec![put]),
                }
            }
            StoreOp::Member {
                chat,
                member,
                write_seq,
            } => {
                let puts = Put::member(chat, member, *write_seq)?;
                plan.first.push(puts.into());
            }
            StoreOp::Chat { chat, info } => {
                plan.first.push(vec![Put::chat(chat, info)?]);
            }
            StoreOp::Receipt { chat, row } => {
                plan.first.push(vec![Put::receipt(chat, row)?]);
            }
        }
    }
    for (chat, head) in heads {
        plan.last.push(Put::head(chat, head)?);
    }
    Ok(plan)
}

/// Chats whose members or names a batch changes: their outcomes are written last.
fn changed_chats(ops: &[StoreOp]) -> AHashSet<&ChatId> {
    let changed = ops.iter().filter_map(|op| match op {
        StoreOp::Member { chat, .. } | StoreOp::Chat { chat, .. } => Some(chat),
        _ => None,
    });
    changed.collect()
}

/// All of them, a bounded number at once; the first error ends it.
async fn all<'a>(writes: impl Iterator<Item = Write<'a>>) -> Result<(), StoreError> {
    let writes: Vec<Write<'a>> = writes.collect();
    let running = stream::iter(writes).buffer_unordered(BATCH_IN_FLIGHT);
    // Each is waited for, as in `ask`.
    let outcomes: Vec<Result<(), StoreError>> = running.collect().await;
    outcomes.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::super::puts::Kind;
    use super::*;
    use crate::store::{ChatInfo, DedupRow, Membership};
    use bytes::Bytes;
    use hawser_protocol::ids::{ClientMsgId, DeviceId, Seq, UserId};

    fn chat(text: &str) -> ChatId {
        ChatId::new(text).expect("valid")
    }

    fn message(id: &str, ordinal: u64) -> StoreOp {
        StoreOp::Message {
            chat: chat(id),
            ordinal,
            seq: Seq::new(1, ordinal),
            record: Bytes::from_static(b"record"),
            envelopes: Bytes::new(),
        }
    }

    fn outcome(id: &str) -> StoreOp {
        StoreOp::Dedup {
            user: UserId::new("alice").expect("valid"),
            device: DeviceId::new("d").expect("valid"),
            chat: chat(id),
            client_msg_id: ClientMsgId([1; 16]),
            row: DedupRow {
                seq: Seq(1),
                error: 0,
                ordinal: 1,
                prev_seq: Seq::NONE,
                stored_ts_ms: 1,
            },
        }
    }

    fn member(id: &str, n: usize) -> StoreOp {
        StoreOp::Member {
            chat: chat(id),
            member: Membership {
                user: UserId::new(&format!("u{n}")).expect("valid"),
                intervals: Vec::new(),
                admin: false,
            },
            write_seq: Seq(1),
        }
    }

    fn info(id: &str) -> StoreOp {
        StoreOp::Chat {
            chat: chat(id),
            info: ChatInfo {
                write_seq: Seq(1),
                ..ChatInfo::default()
            },
        }
    }

    fn head(id: &str, seq: u64) -> StoreOp {
        StoreOp::Head {
            chat: chat(id),
            head: ChatHead {
                seq: Seq(seq),
                ordinal: seq,
            },
        }
    }

    fn first(plan: &Plan<'_>) -> Vec<Vec<Kind>> {
        let of = |puts: &Vec<Put<'_>>| puts.iter().map(|put| put.kind).collect();
        plan.first.iter().map(of).collect()
    }

    fn last(plan: &Plan<'_>) -> Vec<Kind> {
        plan.last.iter().map(|put| put.kind).collect()
    }

    #[test]
    fn messages_and_their_outcomes_go_first_and_one_head_for_each_chat_last() {
        use Kind::{Bucket, Head, Message, Sent};
        let ops = [
            head("g:a", 1),
            message("g:a", 1),
            outcome("g:a"),
            head("g:a", 3),
            message("g:a", 3),
            head("g:a", 2),
        ];
        let plan = plan(&ops).expect("it fits");
        let expected = [vec![Bucket, Message], vec![Sent], vec![Message]];
        assert_eq!(first(&plan), expected);
        assert_eq!(last(&plan), [Head]);
    }

    #[test]
    fn the_outcome_of_a_change_goes_after_the_change() {
        use Kind::{Chat, ChatOf, Member, Message, Sent};
        let ops = [
            outcome("g:a"),
            outcome("g:b"),
            message("g:a", 5),
            member("g:a", 1),
            info("g:a"),
        ];
        let plan = plan(&ops).expect("it fits");
        let expected = [vec![Sent], vec![Message], vec![ChatOf, Member], vec![Chat]];
        assert_eq!(
            first(&plan),
            expected,
            "that of the other chat is free to go"
        );
        assert_eq!(last(&plan), [Sent]);
    }

    #[test]
    fn the_first_message_of_two_users_is_on_their_lists_before_its_outcome() {
        use Kind::{ChatOf, Member, Message, Sent};
        let ops = [outcome("dm:a:b"), member("dm:a:b", 1), message("dm:a:b", 2)];
        let plan = plan(&ops).expect("it fits");
        assert_eq!(first(&plan), [vec![ChatOf, Member], vec![Message]]);
        assert_eq!(last(&plan), [Sent]);
    }
}
