//! What one message of a group costs the log behind ingest: records and bytes of `delivery`, and bytes of `bodies`, as
//! ingest makes them, beside the formula.
//!
//! Nothing is simulated: the real ingest judges the Sends of groups whose members it was told, over a store in memory.

use crate::store::MemoryStore;
use bytes::Bytes;
use hawser_engines::log::{Produce, Record, Topic};
use hawser_engines::store::{Store, StoreError};
use hawser_fanout::ingest::{Core, IngestConfig, REFERENCE_BYTES, Verdict};
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, UserId};
use hawser_protocol::message::{MessageType, Send};
use hawser_protocol::record::{GroupOp, SourceRecord};
use std::collections::BTreeSet;
use std::fmt;

/// Members, the sender among them.
const GROUPS: [usize; 6] = [2, 10, 100, 1_000, 10_000, 100_000];
/// Bytes of a body.
const BODIES: [usize; 2] = [200, 5_000];
/// Edge nodes, of which node n owns the partitions of its number modulo these and reads lane n.
const NODES: [usize; 3] = [1, 3, 16];
/// Groups that a row is the mean of, as long as they have fewer members in all than this.
const SAMPLES: usize = 50;
const SAMPLED_MEMBERS: usize = 20_000;
/// Members of one change.
const ADDED: usize = 5_000;
const NOW_MS: u64 = 1_764_060_000_000;

/// A group size and a body size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FanOut {
    /// Members, the sender among them.
    pub members: usize,
    /// Bytes of the body.
    pub body: usize,
    /// Delivery records of a message, mean.
    pub records: f64,
    /// P(1-(1-1/P)^g): partitions that so many members are expected to touch.
    pub expected: f64,
    /// Bytes of those records, keys and values, mean. Batch headers and compression of the log are not in it.
    pub bytes: f64,
    /// The same with the bodies that they refer to, for 1, 3 and 16 nodes.
    pub with_bodies: [f64; 3],
    /// Of those for 16 nodes, by member.
    pub bytes_per_member: f64,
}

/// What ingest made of one message.
struct Made {
    produce: Vec<Produce>,
    body: Option<Bytes>,
}

impl Made {
    /// Bytes of delivery records.
    fn bytes(&self) -> usize {
        let bytes = self.produce.iter().map(|p| p.key.len() + p.value.len());
        bytes.sum()
    }

    /// Bytes on the lanes of so many nodes.
    fn body_bytes(&self, nodes: usize) -> usize {
        let owners: BTreeSet<usize> = self
            .produce
            .iter()
            .map(|p| p.partition as usize % nodes)
            .collect();
        self.body.as_ref().map_or(0, |b| b.len() * owners.len())
    }
}

/// All sizes, with so many delivery partitions (a power of two).
///
/// # Errors
/// Ingest refuses what it is told, or the store fails: a fault of this program.
pub fn fan_out(partitions: u32) -> Result<Vec<FanOut>, FanOutError> {
    let mut rows = Vec::new();
    for members in GROUPS {
        for body in BODIES {
            rows.push(row(partitions, members, body)?);
        }
    }
    Ok(rows)
}

/// Ingest does not do what it is told.
#[derive(Debug, thiserror::Error)]
pub enum FanOutError {
    /// A Send or a change was not taken.
    #[error("ingest judged {0:?}")]
    Judged(Verdict),
    /// The store in memory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A name that is none.
    #[error("{0} is no id")]
    Id(String),
}

#[expect(clippy::cast_precision_loss, reason = "numbers of a table for people")]
fn row(partitions: u32, members: usize, body: usize) -> Result<FanOut, FanOutError> {
    let samples = (SAMPLED_MEMBERS / members).clamp(1, SAMPLES);
    let (mut records, mut bytes, mut bodies) = (0, 0, [0; NODES.len()]);
    for sample in 0..samples {
        let made = one(partitions, members, body, sample)?;
        records += made.produce.len();
        bytes += made.bytes();
        for (sum, nodes) in bodies.iter_mut().zip(NODES) {
            *sum += made.body_bytes(nodes);
        }
    }
    let (samples, of) = (samples as f64, f64::from(partitions));
    let with_bodies = bodies.map(|bodies| (bytes + bodies) as f64 / samples);
    Ok(FanOut {
        members,
        body,
        records: records as f64 / samples,
        expected: of * (1.0 - (1.0 - 1.0 / of).powf(members as f64)),
        bytes: bytes as f64 / samples,
        with_bodies,
        bytes_per_member: with_bodies[NODES.len() - 1] / members as f64,
    })
}

/// The delivery records of one message of a group.
fn one(partitions: u32, members: usize, body: usize, sample: usize) -> Result<Made, FanOutError> {
    let mut ingest = Ingest::new(partitions);
    let id = |text: String| UserId::new(&text).map_err(|_| FanOutError::Id(text));
    let name = format!("g:{sample}");
    let chat = ChatId::new(&name).map_err(|_| FanOutError::Id(name))?;
    let users: Result<Vec<UserId>, _> = (0..members)
        .map(|n| id(format!("user-{sample}-{n}")))
        .collect();
    let users = users?;
    let sender = users[0].clone();
    let mut others = users[1..].chunks(ADDED);
    let first = GroupOp::Create {
        name: String::new(),
        picture: String::new(),
        members: others.next().unwrap_or_default().to_vec(),
    };
    let more = others.map(|users| GroupOp::Add {
        users: users.to_vec(),
    });
    for op in std::iter::once(first).chain(more) {
        let op_id = ingest.next_id();
        let (actor, chat) = (sender.clone(), chat.clone());
        ingest.judge(&SourceRecord::Group {
            actor,
            op_id,
            chat,
            op,
        })?;
    }
    let name = "phone".to_owned();
    let device = DeviceId::new(&name).map_err(|_| FanOutError::Id(name))?;
    let send = Box::new(Send {
        client_msg_id: ingest.next_id(),
        send_ts_ms: NOW_MS,
        message_type: MessageType::TEXT,
        retry: false,
        chat,
        body: Bytes::from(vec![b'x'; body]),
        envelopes: Vec::new(),
    });
    let mut made = ingest.judge(&SourceRecord::Send {
        sender,
        device,
        send,
    })?;
    made.produce.retain(|p| p.topic == Topic::Delivery);
    Ok(made)
}

/// One partition of `chat-messages`, record by record.
struct Ingest {
    core: Core,
    store: MemoryStore,
    offset: u64,
}

impl Ingest {
    fn new(partitions: u32) -> Self {
        let config = IngestConfig {
            cell: 0,
            source_partitions: 1,
            delivery_partitions: partitions,
            dead_letter_partitions: 1,
            group_members_partitions: 1,
            audit_partitions: 1,
            shard_partitions: partitions,
            listed_max: 10_000,
            reference_bytes: REFERENCE_BYTES,
        };
        Self {
            core: Core::new(config, 1),
            store: MemoryStore::new(None),
            offset: 0,
        }
    }

    fn next_id(&self) -> ClientMsgId {
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&NOW_MS.to_be_bytes()[2..]);
        (bytes[6], bytes[8]) = (0x70, 0x80);
        bytes[12..].copy_from_slice(&self.offset.to_be_bytes()[4..]);
        ClientMsgId(bytes)
    }

    fn judge(&mut self, source: &SourceRecord) -> Result<Made, FanOutError> {
        let record = Record {
            offset: self.offset,
            timestamp_ms: NOW_MS,
            key: Bytes::copy_from_slice(source.chat().as_str().as_bytes()),
            value: source.encode(),
        };
        self.offset += 1;
        let plan = self.core.judge(0, &record, &self.store)?;
        self.store.write(&plan.store)?;
        self.core.committed();
        match plan.verdict {
            Verdict::Accepted | Verdict::Changed => Ok(Made {
                produce: plan.produce,
                body: plan.body,
            }),
            other => Err(FanOutError::Judged(other)),
        }
    }
}

impl fmt::Display for FanOut {
    /// A row of a table in Markdown; see [`HEAD`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            members,
            body,
            records,
            expected,
            bytes,
            with_bodies: [one, three, many],
            bytes_per_member,
        } = self;
        write!(
            f,
            "| {members} | {body} | {records:.1} | {expected:.1} | {bytes:.0} | {one:.0} | {three:.0} | {many:.0} | {bytes_per_member:.0} |"
        )
    }
}

/// The head of that table.
pub const HEAD: &str = "\
| members | body, bytes | records | formula | bytes | with bodies, 1 node | 3 nodes | 16 nodes | bytes a member, 16 nodes |
| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_record_for_each_partition_that_its_members_touch() {
        for partitions in [1, 16, 64] {
            for members in [2, 10, 100, 600] {
                let row = row(partitions, members, 200).expect("ingest takes it");
                let off = (row.records - row.expected).abs() / row.expected;
                assert!(off < 0.05, "{partitions} partitions: {row:?}");
            }
        }
    }

    #[test]
    fn a_large_message_is_in_the_log_once_for_each_node_and_not_for_each_partition() {
        let row = row(64, 600, 5_000).expect("ingest takes it");
        for (with_bodies, nodes) in row.with_bodies.iter().zip([1.0, 3.0, 16.0]) {
            let bodies = with_bodies - row.bytes;
            assert!(
                (nodes * 5_000.0..nodes * 5_200.0).contains(&bodies),
                "{row:?}"
            );
        }
        assert!(row.bytes < 64.0 * 400.0, "{row:?}");
    }
}
