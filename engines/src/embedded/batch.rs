//! One batch in the making: offsets, log records, rows, and what the hook makes of them.

use super::codec::{encode_record, record_bytes};
use super::core::{Core, Positions, lock};
use super::hook::{CommitHook, HookBatch};
use super::log::VALUE_BYTES_MAX;
use super::meta::{
    BATCH_KEY, BatchRow, PartRow, encode_batch, encode_part, encode_u64, part_key, position_key,
};
use super::queue::Job;
use super::store::{EmbeddedStore, HookView};
use super::tables::{Table, Txn, log_key, topic_id};
use super::{INGEST_GROUP, directory, store_write};
use crate::directory::DirectoryError;
use crate::log::{Produce, Record, Topic};
use crate::store::StoreError;
use std::collections::BTreeMap;

/// What a job came to, told once the batch is durable.
pub(super) enum Outcome {
    Appended(u64),
    Stored(Result<(), StoreError>),
    Directory(Result<u64, DirectoryError>),
}

/// Where every durable partition stands, by (topic, partition).
pub(super) struct Parts {
    rows: Vec<PartRow>,
    partitions: usize,
}

impl Parts {
    pub(super) fn new(partitions: u32) -> Self {
        let partitions = partitions as usize;
        Self {
            rows: vec![PartRow::default(); Topic::ALL.len() * partitions],
            partitions,
        }
    }

    pub(super) fn get(&self, topic: Topic, partition: u32) -> PartRow {
        self.rows[topic as usize * self.partitions + partition as usize]
    }

    pub(super) fn set(&mut self, topic: Topic, partition: u32, row: PartRow) {
        self.rows[topic as usize * self.partitions + partition as usize] = row;
    }

    /// Rows of a topic, by partition.
    pub(super) fn topic(&self, topic: Topic) -> &[PartRow] {
        let start = topic as usize * self.partitions;
        &self.rows[start..start + self.partitions]
    }
}

/// The batch.
pub(super) struct Batch<'t, 'c> {
    pub(super) txn: Txn<'t>,
    core: &'c Core,
    now_ms: u64,
    /// New states of touched partitions.
    pub(super) parts: BTreeMap<(Topic, u32), PartRow>,
    /// New records, for live consumers.
    pub(super) records: BTreeMap<(Topic, u32), Vec<Record>>,
    /// Records of ephemeral topics, to be told before the others.
    pub(super) fleeting: Vec<Produce>,
    /// New ingest positions.
    pub(super) ingested: BTreeMap<u32, u64>,
}

impl<'t, 'c> Batch<'t, 'c> {
    pub(super) fn new(txn: Txn<'t>, core: &'c Core) -> Self {
        Self {
            txn,
            core,
            now_ms: core.now_ms(),
            parts: BTreeMap::new(),
            records: BTreeMap::new(),
            fleeting: Vec::new(),
            ingested: BTreeMap::new(),
        }
    }

    /// Adds a job other than `Hook`.
    pub(super) fn add(&mut self, parts: &Parts, job: &Job) -> Option<Outcome> {
        match job {
            Job::Produce { record, .. } => Some(Outcome::Appended(self.append(parts, record))),
            Job::Store { ops, .. } => {
                self.txn.savepoint();
                let outcome = ops
                    .iter()
                    .try_for_each(|op| store_write::apply(&mut self.txn, op));
                if outcome.is_err() {
                    self.txn.rollback();
                }
                Some(Outcome::Stored(outcome))
            }
            Job::Directory { op, .. } => {
                self.txn.savepoint();
                let outcome = directory::apply(&mut self.txn, op);
                if outcome.is_err() {
                    self.txn.rollback();
                }
                Some(Outcome::Directory(outcome))
            }
            Job::Hook { .. } => None,
        }
    }

    /// Gives the record its offset. The partition exists and the topic is durable.
    fn append(&mut self, parts: &Parts, produce: &Produce) -> u64 {
        let at = (produce.topic, produce.partition);
        let row = self
            .parts
            .entry(at)
            .or_insert_with(|| parts.get(produce.topic, produce.partition));
        let record = Record {
            offset: row.next,
            timestamp_ms: produce.timestamp_ms,
            key: produce.key.clone(),
            value: produce.value.clone(),
        };
        row.next += 1;
        row.bytes_in += record_bytes(&record);
        let offset = record.offset;
        if let Some(id) = topic_id(produce.topic) {
            let key = log_key(id, produce.partition, offset).to_vec();
            self.txn
                .put(Table::Log, key, encode_record(&record, self.now_ms));
        }
        self.records.entry(at).or_default().push(record);
        offset
    }

    /// Gives the batch's own `chat-messages` records to the hook.
    pub(super) fn run_hook(
        &mut self,
        parts: &Parts,
        hook: &mut dyn CommitHook,
        store: &EmbeddedStore,
    ) -> Result<(), String> {
        // A record may derive further ones: of each partition so many have been judged.
        let mut judged: BTreeMap<u32, usize> = BTreeMap::new();
        while let Some((partition, record)) = self.next_unjudged(&mut judged) {
            self.judge(parts, hook, store, partition, &record)?;
        }
        Ok(())
    }

    /// The first record of the batch that the hook has not seen, in offset order within its partition.
    fn next_unjudged(&self, judged: &mut BTreeMap<u32, usize>) -> Option<(u32, Record)> {
        let sources = self
            .records
            .range((Topic::ChatMessages, 0)..=(Topic::ChatMessages, u32::MAX));
        for ((_, partition), records) in sources {
            let seen = judged.entry(*partition).or_default();
            if let Some(record) = records.get(*seen) {
                *seen += 1;
                return Some((*partition, record.clone()));
            }
        }
        None
    }

    /// Gives one record to the hook and adds what it came to.
    pub(super) fn judge(
        &mut self,
        parts: &Parts,
        hook: &mut dyn CommitHook,
        store: &EmbeddedStore,
        partition: u32,
        record: &Record,
    ) -> Result<(), String> {
        let mut out = HookBatch::default();
        hook.record(partition, record, &HookView(store), &mut out);
        if let Some(reason) = out.abort {
            return Err(reason);
        }
        for op in &out.store {
            store_write::apply(&mut self.txn, op).map_err(|e| e.to_string())?;
        }
        for (news, seq) in out.groups {
            let op = directory::DirectoryOp::ShowGroup(news, seq);
            directory::apply(&mut self.txn, &op).map_err(|e| e.to_string())?;
        }
        for produce in &out.produce {
            self.check_derived(produce, false)?;
            self.append(parts, produce);
        }
        for produce in out.fleeting {
            self.check_derived(&produce, true)?;
            self.fleeting.push(produce);
        }
        self.ingested.insert(partition, record.offset + 1);
        Ok(())
    }

    fn check_derived(&self, produce: &Produce, fleeting: bool) -> Result<(), String> {
        let topic = produce.topic.name();
        if produce.topic.ephemeral() != fleeting {
            return Err(format!("a hook must not produce to {topic}"));
        }
        if self
            .core
            .partition(produce.topic, produce.partition)
            .is_none()
        {
            return Err(format!("{topic} has no partition {}", produce.partition));
        }
        if produce.value.len() > VALUE_BYTES_MAX || produce.key.len() > usize::from(u16::MAX) {
            return Err(format!("a record for {topic} is too large"));
        }
        Ok(())
    }

    /// Adds the engine's own rows. Returns whether there is anything to write.
    pub(super) fn seal(&mut self, parts: &Parts, number: u64) -> bool {
        for ((topic, partition), row) in &self.parts {
            if let Some(id) = topic_id(*topic) {
                self.txn
                    .put(Table::Meta, part_key(id, *partition), encode_part(*row));
            }
        }
        if let Some(id) = topic_id(Topic::ChatMessages) {
            for (partition, next) in &self.ingested {
                let key = position_key(id, *partition, INGEST_GROUP);
                self.txn.put(Table::Meta, key, encode_u64(*next));
            }
        }
        put_positions(&mut self.txn, &mut lock(&self.core.positions));
        if self.txn.is_empty() {
            return false;
        }
        let mut chat_next: Vec<u64> = parts
            .topic(Topic::ChatMessages)
            .iter()
            .map(|r| r.next)
            .collect();
        for ((topic, partition), row) in &self.parts {
            if *topic == Topic::ChatMessages {
                chat_next[*partition as usize] = row.next;
            }
        }
        let row = BatchRow {
            number,
            resync: false,
            chat_next,
        };
        self.txn
            .put(Table::Meta, BATCH_KEY.to_vec(), encode_batch(&row));
        true
    }
}

/// Moves changed positions of groups into the transaction.
fn put_positions(txn: &mut Txn<'_>, positions: &mut Positions) {
    for key in std::mem::take(&mut positions.dirty) {
        if let (Some(id), Some(next)) = (topic_id(key.topic), positions.rows.get(&key)) {
            let row = position_key(id, key.partition, &key.group);
            txn.put(Table::Meta, row, encode_u64(*next));
        }
    }
}
