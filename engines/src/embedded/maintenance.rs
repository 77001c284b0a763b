//! Retention in bounded steps: old log records, and dedup rows past their window.

use super::batch::Parts;
use super::codec::{decode_record, record_bytes};
use super::config::Retention;
use super::core::Core;
use super::meta::{encode_part, part_key};
use super::rows::dedup_time_parts;
use super::stats::add;
use super::tables::{DURABLE, Table, Tables, Txn, log_key, log_key_offset, topic_id};
use crate::log::Topic;
use hawser_protocol::limits::{CLOCK_SKEW_MS_MAX, DEDUP_WINDOW_MS};

/// Records and dedup rows that one step removes at most, each.
const STEP_MAX: usize = 2_048;
/// Dedup rows live a day longer than the window: a clock that jumps an hour removes none early.
const DEDUP_KEEP_MS: u64 = DEDUP_WINDOW_MS + 24 * 3_600 * 1_000 + CLOCK_SKEW_MS_MAX;

/// Where the next step begins: partitions take turns.
#[derive(Default)]
pub(super) struct Maintenance {
    turn: usize,
}

impl Maintenance {
    /// One bounded step. What is removed becomes durable with the next commit; until then a crash
    /// only brings it back.
    pub(super) fn step(
        &mut self,
        core: &Core,
        tables: &Tables,
        parts: &mut Parts,
    ) -> fjall::Result<()> {
        let now_ms = core.now_ms();
        let places: Vec<(Topic, u32)> = DURABLE
            .into_iter()
            .flat_map(|topic| (0..core.config.partitions).map(move |p| (topic, p)))
            .collect();
        let mut budget = STEP_MAX;
        for i in 0..places.len() {
            let (topic, partition) = places[(self.turn + i) % places.len()];
            budget -= expire(core, tables, parts, (topic, partition), now_ms, budget)?;
            if budget == 0 {
                break;
            }
        }
        self.turn = (self.turn + 1) % places.len().max(1);
        expire_dedup(core, tables, now_ms)
    }
}

fn retention(core: &Core, topic: Topic) -> Retention {
    match topic {
        Topic::ChatMessages => core.config.chat_messages,
        Topic::Delivery => core.config.delivery,
        // The last record of every key counts, however old.
        topic if topic.compacted() => Retention::FOREVER,
        _ => core.config.other,
    }
}

/// Removes the oldest records of one partition; returns how many.
fn expire(
    core: &Core,
    tables: &Tables,
    parts: &mut Parts,
    (topic, partition): (Topic, u32),
    now_ms: u64,
    budget: usize,
) -> fjall::Result<usize> {
    let Some(id) = topic_id(topic) else {
        return Ok(0);
    };
    let keep = retention(core, topic);
    let mut row = parts.get(topic, partition);
    let mut txn = Txn::new(tables);
    let mut removed = 0;
    let range = log_key(id, partition, row.low)..log_key(id, partition, row.next);
    for entry in tables.space(Table::Log).range(range).take(budget) {
        let (key, value) = entry.into_inner()?;
        let Some(offset) = log_key_offset(&key) else {
            break;
        };
        let bytes = row.bytes_in.saturating_sub(row.bytes_out);
        let value_len = value.len() as u64;
        // A record that cannot be decoded goes when its turn by bytes comes, or with the next one.
        let logged = decode_record(offset, value);
        let old = logged
            .as_ref()
            .is_some_and(|l| now_ms.saturating_sub(l.appended_ms) > keep.time_ms);
        if !old && bytes <= keep.bytes {
            break;
        }
        row.low = offset + 1;
        row.bytes_out += logged.map_or(value_len, |l| record_bytes(&l.record));
        txn.remove(Table::Log, key.to_vec());
        removed += 1;
    }
    if removed == 0 {
        return Ok(0);
    }
    // Readers learn first: they must never find a gap.
    parts.set(topic, partition, row);
    if let Some(target) = core.partition(topic, partition) {
        target.publish(row.low, row.next);
    }
    txn.put(Table::Meta, part_key(id, partition), encode_part(row));
    txn.commit_lazily()?;
    add(&core.counters.expired_records, removed as u64);
    Ok(removed)
}

fn expire_dedup(core: &Core, tables: &Tables, now_ms: u64) -> fjall::Result<()> {
    let mut txn = Txn::new(tables);
    let mut removed = 0;
    for row in tables.space(Table::Dedup).prefix(b"t").take(STEP_MAX) {
        let key = row.key()?;
        let Some((stored_ms, dedup)) = dedup_time_parts(&key) else {
            txn.remove(Table::Dedup, key.to_vec());
            continue;
        };
        if now_ms.saturating_sub(stored_ms) <= DEDUP_KEEP_MS {
            break;
        }
        txn.remove(Table::Dedup, dedup.to_vec());
        txn.remove(Table::Dedup, key.to_vec());
        removed += 1;
    }
    if !txn.is_empty() {
        txn.commit_lazily()?;
        add(&core.counters.expired_dedup_rows, removed);
    }
    Ok(())
}
