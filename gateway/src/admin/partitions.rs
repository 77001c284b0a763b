//! `GET /partitions` and `GET /lag`: who owns each partition, who is here of it, and how far it is read.

use super::Admin;
use super::asking::{self, SilentCore};
use crate::node::shared::NodeShared;
use crate::owners::Lease;
use crate::reactor::questions::{Count, Question};
use ahash::AHashMap;
use axum::Json;
use axum::extract::{Query, State};
use hawser_engines::log::Topic;
use hawser_fanout::api::ApiError;
use hawser_protocol::codes::ErrorCode;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// The log is asked for its ends for so long; partitions it has not come to have none.
const ENDS_PATIENCE: Duration = Duration::from_secs(2);
/// Of each kind `/lag` lists so many.
const WORST_MAX: usize = 20;

/// Which partitions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum PartitionKind {
    /// Of the topic `delivery`: users' sessions.
    #[default]
    Delivery,
    /// Of the topic `chat-messages`: ingest.
    Ingest,
}

/// Query of `/partitions`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    #[serde(default)]
    kind: PartitionKind,
    /// One alone.
    #[serde(default)]
    partition: Option<u32>,
}

/// Answer of `/partitions`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PartitionsView {
    pub(crate) node: String,
    pub(crate) in_cluster: bool,
    /// It cannot read the log: owners may be old.
    pub(crate) fenced: bool,
    pub(crate) kind: PartitionKind,
    pub(crate) partitions: Vec<PartitionView>,
    /// Cores that did not answer: what they have is missing.
    pub(crate) silent_cores: Vec<SilentCore>,
}

/// A partition; `null`: not known here.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PartitionView {
    pub(crate) partition: u32,
    /// Who owns it and lives.
    pub(crate) owner: Option<String>,
    /// Of the last claim; 0: there was none.
    pub(crate) lease_epoch: u64,
    /// Sessions on this node.
    pub(crate) sessions: Option<usize>,
    /// Of those, guests: they belong to another node.
    pub(crate) guests: Option<usize>,
    /// Of those, sessions that cannot go elsewhere.
    pub(crate) stay: Option<usize>,
    /// Next offset that this node reads (delivery) or that ingest commits.
    pub(crate) position: Option<u64>,
    /// Where the log ends.
    pub(crate) end: Option<u64>,
    /// Records from the one to the other.
    pub(crate) lag: Option<u64>,
}

/// Answer of `/lag`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LagView {
    pub(crate) node: String,
    /// Delivery partitions that this node reads or is to read.
    pub(crate) delivery: KindLag,
    /// Partitions of ingest, as the process sees them.
    pub(crate) ingest: KindLag,
    pub(crate) silent_cores: Vec<SilentCore>,
}

/// Of one kind.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct KindLag {
    /// Partitions whose lag is known, and whose is not. Where several nodes read one, it counts for each.
    pub(crate) known: usize,
    pub(crate) unknown: usize,
    /// Of all that are known.
    pub(crate) records: u64,
    /// Age of the oldest record that waits, milliseconds; 0: none waits, or it is not known.
    pub(crate) oldest_ms: u64,
    /// Those with the largest lags.
    pub(crate) worst: Vec<PartitionLag>,
}

/// Of one partition.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PartitionLag {
    /// Who reads it; `null`: ingest, whoever that is.
    pub(crate) node: Option<String>,
    pub(crate) partition: u32,
    pub(crate) records: u64,
    pub(crate) oldest_ms: u64,
    pub(crate) position: Option<u64>,
    pub(crate) end: Option<u64>,
}

/// Every partition, or one.
pub(super) async fn partitions(
    State(admin): State<Admin>,
    Query(which): Query<Which>,
) -> Result<Json<PartitionsView>, ApiError> {
    let _turn = admin.turn()?;
    let node = &admin.node;
    let map = node.owners.map();
    let mut silent_cores = Vec::new();
    let rows = match which.kind {
        PartitionKind::Delivery => {
            let of = wanted(which.partition, node.shards().partitions())?;
            let (counts, silent) = counts(node).await;
            let (read, mut unread) = positions(&admin, &of).await;
            silent_cores = silent;
            unread.retain(|core| !silent_cores.contains(core));
            silent_cores.append(&mut unread);
            let row = |partition| delivery(node, &map.delivery, partition, &counts, &read);
            of.into_iter().map(row).collect()
        }
        PartitionKind::Ingest => {
            let lags = node.lag.partitions();
            let last = lags.iter().map(|lag| lag.partition + 1).max().unwrap_or(0);
            let claimed = u32::try_from(map.ingest.len()).unwrap_or(u32::MAX);
            let all = last
                .max(claimed)
                .max(node.log.partitions(Topic::ChatMessages));
            let lag = |partition| {
                let mut its = lags.iter().filter(|lag| lag.partition == partition);
                its.next().map(|lag| lag.records)
            };
            let row = |partition| PartitionView {
                lag: lag(partition),
                ..leased(&map.ingest, partition)
            };
            wanted(which.partition, all)?.into_iter().map(row).collect()
        }
    };
    Ok(Json(PartitionsView {
        node: node.name().to_owned(),
        in_cluster: node.owners.in_cluster(),
        fenced: map.fenced,
        kind: which.kind,
        partitions: rows,
        silent_cores,
    }))
}

/// Totals, and the worst.
pub(super) async fn lag(State(admin): State<Admin>) -> Result<Json<LagView>, ApiError> {
    let _turn = admin.turn()?;
    let node = &admin.node;
    let all: Vec<u32> = (0..node.shards().partitions()).collect();
    let (read, silent_cores) = positions(&admin, &all).await;
    let known = |partition| read.get(&partition).copied().unwrap_or_default();
    let its = all
        .into_iter()
        .filter(|partition| node.owners.owns(*partition) || known(*partition).position.is_some());
    let delivery = its.map(|partition| {
        let Read { position, end } = known(partition);
        Some(PartitionLag {
            node: Some(node.name().to_owned()),
            partition,
            records: end?.saturating_sub(position?),
            oldest_ms: 0,
            position,
            end,
        })
    });
    let now_ms = node.clock.wall_ms();
    let ingest = node.lag.partitions().into_iter().map(|lag| {
        Some(PartitionLag {
            node: None,
            partition: lag.partition,
            records: lag.records,
            oldest_ms: match lag.oldest_ms {
                0 => 0,
                oldest => now_ms.saturating_sub(oldest),
            },
            position: None,
            end: None,
        })
    });
    Ok(Json(LagView {
        node: node.name().to_owned(),
        delivery: KindLag::of(delivery),
        ingest: KindLag::of(ingest),
        silent_cores,
    }))
}

impl KindLag {
    fn of(lags: impl Iterator<Item = Option<PartitionLag>>) -> Self {
        let mut sum = Self::default();
        for lag in lags {
            let Some(lag) = lag else {
                sum.unknown += 1;
                continue;
            };
            sum.known += 1;
            sum.records += lag.records;
            sum.oldest_ms = sum.oldest_ms.max(lag.oldest_ms);
            sum.worst.push(lag);
        }
        sum.worst_first();
        sum
    }

    /// Adds another node's.
    pub(crate) fn add(&mut self, other: Self) {
        self.known += other.known;
        self.unknown += other.unknown;
        self.records += other.records;
        self.oldest_ms = self.oldest_ms.max(other.oldest_ms);
        self.worst.extend(other.worst);
        self.worst_first();
    }

    fn worst_first(&mut self) {
        let order = |lag: &PartitionLag| (Reverse((lag.records, lag.oldest_ms)), lag.partition);
        self.worst.sort_by_key(order);
        self.worst.truncate(WORST_MAX);
    }
}

/// How far a partition is read, and where it ends.
#[derive(Debug, Clone, Copy, Default)]
struct Read {
    position: Option<u64>,
    end: Option<u64>,
}

fn wanted(one: Option<u32>, all: u32) -> Result<Vec<u32>, ApiError> {
    match one {
        None => Ok((0..all).collect()),
        Some(partition) if partition < all => Ok(vec![partition]),
        Some(_) => {
            let words = format!("partition: there are {all}");
            Err(ApiError::new(ErrorCode::NotFound, words))
        }
    }
}

fn leased(leases: &[Lease], partition: u32) -> PartitionView {
    let lease = leases.get(partition as usize);
    let owner = lease.and_then(|lease| lease.owner.as_ref());
    PartitionView {
        partition,
        owner: owner.map(ToString::to_string),
        lease_epoch: lease.map_or(0, |lease| lease.lease_epoch),
        sessions: None,
        guests: None,
        stay: None,
        position: None,
        end: None,
        lag: None,
    }
}

fn delivery(
    node: &NodeShared,
    leases: &[Lease],
    partition: u32,
    counts: &AHashMap<u32, Count>,
    read: &AHashMap<u32, Read>,
) -> PartitionView {
    let Count { sessions, stay } = counts.get(&partition).copied().unwrap_or_default();
    let Read { position, end } = read.get(&partition).copied().unwrap_or_default();
    let elsewhere = node.owners.elsewhere(partition).is_some();
    PartitionView {
        sessions: Some(sessions),
        guests: Some(if elsewhere { sessions } else { 0 }),
        stay: Some(stay),
        position,
        end,
        lag: position
            .zip(end)
            .map(|(position, end)| end.saturating_sub(position)),
        ..leased(leases, partition)
    }
}

/// Sessions by partition.
async fn counts(node: &Arc<NodeShared>) -> (AHashMap<u32, Count>, Vec<SilentCore>) {
    let add = |sum: &mut AHashMap<u32, Count>, of: AHashMap<u32, Count>| {
        for (partition, count) in of {
            let known = sum.entry(partition).or_default();
            known.sessions += count.sessions;
            known.stay += count.stay;
        }
    };
    let question = |from, answer| Question::Count { from, answer };
    let heard = asking::walk(node, AHashMap::new(), question, move |sum, (of, next)| {
        add(sum, of);
        next
    });
    let heard = heard.await;
    let mut all = AHashMap::new();
    heard
        .answers
        .into_iter()
        .for_each(|core| add(&mut all, core));
    (all, heard.silent)
}

/// How far partitions are read: where several cores read one, the last of them; and where they end.
async fn positions(admin: &Admin, of: &[u32]) -> (AHashMap<u32, Read>, Vec<SilentCore>) {
    let question = |_, answer| Question::Positions { answer };
    let heard = asking::walk(&admin.node, Vec::new(), question, |sum, mut part| {
        sum.append(&mut part);
        None
    });
    let (heard, ends) = tokio::join!(heard, ends(admin, of.to_vec()));
    let mut all: AHashMap<u32, Read> = AHashMap::new();
    for (partition, position) in heard.answers.into_iter().flatten() {
        let read = all.entry(partition).or_default();
        let known = read.position.unwrap_or(position);
        read.position = Some(known.min(position));
    }
    for (partition, end) in ends {
        all.entry(partition).or_default().end = Some(end);
    }
    (all, heard.silent)
}

/// Where partitions end, as far as the log says so in time. A log that hangs holds up one thread.
async fn ends(admin: &Admin, of: Vec<u32>) -> Vec<(u32, u64)> {
    let Ok(permit) = admin.ends.clone().try_acquire_owned() else {
        return Vec::new();
    };
    let (log, found) = (admin.node.log.clone(), Arc::new(Mutex::new(Vec::new())));
    let until = Instant::now() + ENDS_PATIENCE;
    let into = found.clone();
    let looking = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        for partition in of {
            if Instant::now() >= until {
                return;
            }
            if let Ok(marks) = log.watermarks(Topic::Delivery, partition) {
                let mut found = into.lock().unwrap_or_else(PoisonError::into_inner);
                found.push((partition, marks.high));
            }
        }
    });
    // Late or not: what was found is found.
    let _ = timeout(ENDS_PATIENCE, looking).await;
    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::take(&mut *found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_lags_come_first_and_the_totals_count_all() {
        let lag = |partition, records| {
            Some(PartitionLag {
                node: None,
                partition,
                records,
                oldest_ms: records * 2,
                position: None,
                end: None,
            })
        };
        let many = (0..30).map(|i| lag(i, u64::from(i % 10)));
        let sum = KindLag::of(many.chain([None, None]));
        assert_eq!((sum.known, sum.unknown, sum.records), (30, 2, 135));
        assert_eq!((sum.oldest_ms, sum.worst.len()), (18, WORST_MAX));
        let first: Vec<u32> = sum.worst.iter().take(4).map(|lag| lag.partition).collect();
        assert_eq!(first, [9, 19, 29, 8]);
        let mut both = sum.clone();
        both.add(sum);
        assert_eq!((both.known, both.unknown, both.records), (60, 4, 270));
        assert_eq!((both.worst.len(), both.worst[5].records), (WORST_MAX, 9));
    }

    #[test]
    fn a_partition_that_does_not_exist_is_refused() {
        assert_eq!(wanted(None, 3).expect("all"), [0, 1, 2]);
        assert_eq!(wanted(Some(2), 3).expect("one"), [2]);
        assert_eq!(
            wanted(Some(3), 3).expect_err("none").code(),
            ErrorCode::NotFound
        );
    }
}
