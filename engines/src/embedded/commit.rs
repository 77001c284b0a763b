//! The commit thread: the only writer. Group commit, the hook, fsync, then callbacks and consumers.

use super::INGEST_GROUP;
use super::batch::{Batch, Outcome, Parts};
use super::core::{Core, PositionKey, lock};
use super::hook::CommitHook;
use super::maintenance::Maintenance;
use super::note::Note;
use super::queue::{Job, Take, Taken, refused, unknown};
use super::recover;
use super::stats::add;
use super::store::EmbeddedStore;
use super::tables::{DURABLE, Tables, Txn};
use crate::directory::DirectoryError;
use crate::log::{Produce, ProduceError, Record, Topic};
use crate::store::StoreError;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How often retention and the like get a step.
const MAINTENANCE_EVERY: Duration = Duration::from_millis(500);
/// How often a full disk or a failed database is looked at again.
const RETRY_EVERY: Duration = Duration::from_millis(100);
/// Longest wait between two tries to open a failed database.
const REOPEN_EVERY_MAX: Duration = Duration::from_secs(5);
/// Records per step of a hook's catching up.
const REPLAY_RECORDS: usize = 256;

/// Whether the commit thread can write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Up,
    /// Below the reserve: refuses until there is space.
    DiskFull,
    /// A commit failed: the database must be opened anew.
    Broken,
}

/// State of the commit thread.
pub(super) struct Committer {
    core: Arc<Core>,
    store: EmbeddedStore,
    hook: Option<Box<dyn CommitHook>>,
    parts: Parts,
    batch_number: u64,
    note: Note,
    maintenance: Maintenance,
    maintained: Instant,
    condition: Condition,
    /// When a failed database is tried again, and how long to wait after that.
    reopen_at: Instant,
    reopen_wait: Duration,
    /// Whether the last batch had company: then waiting for more pays.
    crowded: bool,
}

/// What is left to do when the batch is durable.
struct Done {
    parts: BTreeMap<(Topic, u32), super::meta::PartRow>,
    records: BTreeMap<(Topic, u32), Vec<Record>>,
    fleeting: Vec<Produce>,
    ingested: BTreeMap<u32, u64>,
}

impl Committer {
    pub(super) fn new(
        core: Arc<Core>,
        tables: Arc<Tables>,
        state: recover::State,
        note: Note,
    ) -> Self {
        let mut committer = Self {
            store: EmbeddedStore(Arc::clone(&core)),
            hook: None,
            parts: Parts::new(core.config.partitions),
            batch_number: 0,
            note,
            maintenance: Maintenance::default(),
            maintained: Instant::now(),
            condition: Condition::Up,
            reopen_at: Instant::now(),
            reopen_wait: RETRY_EVERY,
            crowded: false,
            core,
        };
        committer.adopt(tables, state);
        committer.check_disk();
        committer
    }

    /// Takes over an opened database.
    fn adopt(&mut self, tables: Arc<Tables>, state: recover::State) {
        for topic in DURABLE {
            let target = self.core.topic(topic);
            let generation = state.generations[topic as usize];
            target.generation.store(generation, Ordering::Release);
            for (partition, row) in (0..).zip(state.parts.topic(topic)) {
                if let Some(target) = self.core.partition(topic, partition) {
                    target.publish(row.low, row.next);
                    lock(&target.feeds).iter().for_each(|feed| feed.demote());
                }
            }
        }
        for topic in [Topic::ChatTyping, Topic::ChatPresence, Topic::Bodies] {
            let generation = state.generations[topic as usize];
            self.core
                .topic(topic)
                .generation
                .store(generation, Ordering::Release);
        }
        let mut positions = lock(&self.core.positions);
        positions.rows = state.positions.into_iter().collect();
        positions.dirty.clear();
        drop(positions);
        self.parts = state.parts;
        self.batch_number = state.batch_number;
        self.core.set_tables(Some(tables));
    }

    /// Runs until the queue is closed and empty.
    pub(super) fn run(&mut self) {
        loop {
            let take = Take {
                records_max: self.core.config.batch_records_max,
                bytes_max: self.core.config.batch_bytes_max,
                idle: if self.condition == Condition::Up {
                    MAINTENANCE_EVERY
                } else {
                    RETRY_EVERY
                },
                linger: if self.crowded {
                    self.core.config.linger
                } else {
                    Duration::ZERO
                },
            };
            match self.core.queue.take(&take) {
                Taken::Jobs(jobs) => {
                    self.crowded = jobs.len() > 1;
                    self.accept(jobs);
                }
                Taken::Idle => self.crowded = false,
                Taken::Closed => break,
            }
            self.housekeeping();
        }
        self.close();
    }

    fn housekeeping(&mut self) {
        match self.condition {
            Condition::Up => {}
            Condition::DiskFull => self.check_disk(),
            Condition::Broken => self.reopen(),
        }
        if self.condition == Condition::Broken || self.maintained.elapsed() < MAINTENANCE_EVERY {
            return;
        }
        self.maintained = Instant::now();
        // Also without traffic: readiness tells before the first append finds out.
        self.check_disk();
        let Ok(tables) = self.core.tables() else {
            return;
        };
        let step = self.maintenance.step(&self.core, &tables, &mut self.parts);
        drop(tables);
        if let Err(error) = step {
            self.broke(&error);
            return;
        }
        if !lock(&self.core.positions).dirty.is_empty() && self.condition == Condition::Up {
            self.commit(Vec::new());
        }
        self.note.sync_sometimes();
    }

    fn accept(&mut self, mut jobs: Vec<Job>) {
        if let [Job::Hook { .. }] = jobs.as_slice() {
            if let Some(Job::Hook { hook, reply }) = jobs.pop() {
                let caught_up = self.install(hook);
                // The caller may have given up waiting.
                let _ = reply.send(caught_up);
            }
            return;
        }
        self.check_disk();
        if let Some(reason) = self.core.down() {
            jobs.into_iter()
                .for_each(|job| fail(job, &refused(&reason, 1_000)));
            return;
        }
        self.commit(jobs);
    }

    /// Writes the jobs as one batch. When the hook cannot judge one, each goes alone, so that only
    /// the culprit is refused.
    fn commit(&mut self, jobs: Vec<Job>) {
        let broken = |job: &Job| matches!(job, Job::Produce { ack, .. } if ack.is_broken());
        let (broken, jobs): (Vec<_>, Vec<_>) = jobs.into_iter().partition(broken);
        let reason = "a record of the same stream before it was not appended";
        broken
            .into_iter()
            .for_each(|job| fail(job, &refused(reason, 1_000)));
        let tables = match self.core.tables() {
            Ok(tables) => tables,
            Err(reason) => {
                jobs.into_iter()
                    .for_each(|job| fail(job, &refused(&reason, 1_000)));
                return;
            }
        };
        let mut batch = Batch::new(Txn::new(&tables), &self.core);
        let outcomes: Vec<_> = jobs
            .iter()
            .filter_map(|job| batch.add(&self.parts, job))
            .collect();
        if let Some(hook) = &mut self.hook
            && let Err(reason) = batch.run_hook(&self.parts, hook.as_mut(), &self.store)
        {
            hook.batch_failed();
            drop(batch);
            drop(tables);
            self.aborted(jobs, &reason);
            return;
        }
        let anything = batch.seal(&self.parts, self.batch_number + 1);
        let done = Done {
            parts: batch.parts,
            records: batch.records,
            fleeting: batch.fleeting,
            ingested: batch.ingested,
        };
        let written = if anything {
            self.write(batch.txn)
        } else {
            Ok(())
        };
        drop(tables);
        if let Err(error) = written {
            if let Some(hook) = &mut self.hook {
                hook.batch_failed();
            }
            self.broke(&error);
            let error = unknown(&error.to_string());
            jobs.into_iter().for_each(|job| fail(job, &error));
            return;
        }
        self.publish(&done);
        for (job, outcome) in jobs.into_iter().zip(outcomes) {
            complete(job, outcome);
        }
        self.feed(done);
    }

    fn write(&mut self, txn: Txn<'_>) -> fjall::Result<()> {
        let start = Instant::now();
        txn.commit()?;
        let ns = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let counters = &self.core.counters;
        add(&counters.batches, 1);
        add(&counters.commit_ns, ns);
        counters.commit_ns_max.fetch_max(ns, Ordering::Relaxed);
        self.batch_number += 1;
        Ok(())
    }

    /// Makes a written batch visible to readers, and notes that it is about to be acknowledged.
    fn publish(&mut self, done: &Done) {
        for (&(topic, partition), row) in &done.parts {
            self.parts.set(topic, partition, *row);
            if let Some(target) = self.core.partition(topic, partition) {
                target.publish(row.low, row.next);
            }
        }
        let mut positions = lock(&self.core.positions);
        for (&partition, &next) in &done.ingested {
            positions.rows.insert(ingest_key(partition), next);
        }
        drop(positions);
        if let Some(hook) = &mut self.hook {
            hook.batch_committed();
        }
        self.note.acknowledging(self.batch_number, &self.parts);
        let counters = &self.core.counters;
        let records = done.records.values().flatten();
        let (n, bytes) = records.fold((0, 0), |(n, bytes), r| {
            (n + 1, bytes + r.key.len() + r.value.len())
        });
        add(&counters.appended, n);
        add(&counters.appended_bytes, bytes as u64);
    }

    fn feed(&self, done: Done) {
        for record in done.fleeting {
            self.core.tell_fleeting(record);
        }
        for ((topic, partition), records) in done.records {
            if let Some(target) = self.core.partition(topic, partition) {
                for feed in lock(&target.feeds).iter() {
                    feed.offer(&self.core, &records);
                }
            }
        }
    }

    fn aborted(&mut self, mut jobs: Vec<Job>, reason: &str) {
        if jobs.len() > 1 {
            for job in jobs {
                match self.core.down() {
                    None => self.commit(vec![job]),
                    Some(reason) => fail(job, &refused(&reason, 1_000)),
                }
            }
            return;
        }
        add(&self.core.counters.hook_aborts, 1);
        tracing::error!(reason, "a record cannot be judged and was refused");
        if let Some(job) = jobs.pop() {
            fail(job, &refused(reason, 1_000));
        }
    }

    /// Installs the hook and gives it what it has not seen.
    fn install(&mut self, hook: Box<dyn CommitHook>) -> Result<u64, StoreError> {
        self.hook = Some(hook);
        self.catch_up()
            .map_err(|reason| StoreError::Unavailable { reason })
    }

    fn catch_up(&mut self) -> Result<u64, String> {
        let generation = self
            .core
            .topic(Topic::ChatMessages)
            .generation
            .load(Ordering::Acquire);
        if let Some(hook) = &mut self.hook {
            hook.begin(generation);
        }
        let mut replayed = 0;
        // Records of one partition may have derived some for another that was done already.
        loop {
            let mut moved = 0;
            for partition in 0..self.core.config.partitions {
                moved += self.catch_up_partition(partition)?;
            }
            if moved == 0 {
                break;
            }
            replayed += moved;
        }
        if replayed > 0 {
            tracing::info!(
                replayed,
                "records beyond the ingest commit went through ingest"
            );
        }
        Ok(replayed)
    }

    /// Gives the hook what it has not seen of one partition.
    fn catch_up_partition(&mut self, partition: u32) -> Result<u64, String> {
        let mut replayed = 0;
        loop {
            let row = self.parts.get(Topic::ChatMessages, partition);
            let position = lock(&self.core.positions)
                .rows
                .get(&ingest_key(partition))
                .copied();
            let from = position.unwrap_or(row.low).clamp(row.low, row.next);
            if from == row.next {
                return Ok(replayed);
            }
            replayed += self.replay(partition, from)?;
        }
    }

    /// One step of catching up.
    fn replay(&mut self, partition: u32, from: u64) -> Result<u64, String> {
        let read = |max| {
            super::log::read_log(
                &self.core,
                Topic::ChatMessages,
                partition,
                from,
                max,
                4 << 20,
            )
        };
        let records = read(REPLAY_RECORDS).map_err(|e| e.to_string())?;
        let Some(hook) = &mut self.hook else {
            return Ok(0);
        };
        let tables = self.core.tables()?;
        let mut batch = Batch::new(Txn::new(&tables), &self.core);
        for record in &records {
            let judged = batch.judge(&self.parts, hook.as_mut(), &self.store, partition, record);
            if let Err(reason) = judged {
                hook.batch_failed();
                return Err(reason);
            }
        }
        batch.seal(&self.parts, self.batch_number + 1);
        let done = Done {
            parts: batch.parts,
            records: batch.records,
            fleeting: batch.fleeting,
            ingested: batch.ingested,
        };
        let written = self.write(batch.txn);
        drop(tables);
        if let Err(error) = written {
            if let Some(hook) = &mut self.hook {
                hook.batch_failed();
            }
            self.broke(&error);
            return Err(error.to_string());
        }
        self.publish(&done);
        self.feed(done);
        Ok(records.len() as u64)
    }

    /// Compares free space with the reserve; refuses below it and resumes above it.
    fn check_disk(&mut self) {
        if self.condition == Condition::Broken {
            return;
        }
        let reserve = self.core.config.disk_reserve_bytes;
        let free = (self.core.config.disk)(&self.core.config.dir);
        let full = free.is_some_and(|free| free < reserve);
        match (full, self.condition) {
            (true, Condition::Up) => {
                self.condition = Condition::DiskFull;
                add(&self.core.counters.disk_full_alarms, 1);
                self.core.counters.disk_full.store(true, Ordering::Relaxed);
                let dir = self.core.config.dir.display().to_string();
                tracing::error!(
                    dir,
                    reserve,
                    "disk full: appends are refused until there is space"
                );
                self.core.set_down(Some("disk full"));
            }
            (false, Condition::DiskFull) => {
                self.condition = Condition::Up;
                self.core.counters.disk_full.store(false, Ordering::Relaxed);
                tracing::warn!("there is space again: appends are accepted");
                self.core.set_down(None);
            }
            _ => {}
        }
    }

    /// The database takes no more writes until it is opened anew.
    fn broke(&mut self, error: &fjall::Error) {
        if self.condition == Condition::Broken {
            return;
        }
        self.condition = Condition::Broken;
        self.reopen_at = Instant::now() + RETRY_EVERY;
        self.reopen_wait = RETRY_EVERY;
        add(&self.core.counters.commit_failures, 1);
        tracing::error!(%error, "a commit failed: appends are refused until the database is open again");
        self.core
            .set_down(Some(&format!("the database failed: {error}")));
    }

    /// Closes what is left of the database and opens it again, once the disk has space.
    fn reopen(&mut self) {
        if Instant::now() < self.reopen_at {
            return;
        }
        let reserve = self.core.config.disk_reserve_bytes;
        let free = (self.core.config.disk)(&self.core.config.dir);
        if free.is_some_and(|free| free < reserve) {
            self.core.counters.disk_full.store(true, Ordering::Relaxed);
            return;
        }
        if let Some(tables) = self.core.set_tables(None) {
            // Readers hold it for one call at most.
            let until = Instant::now() + Duration::from_secs(5);
            while Arc::strong_count(&tables) > 1 && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let (tables, state) = match recover::open_database(&self.core.config, &mut self.note) {
            Ok(opened) => opened,
            Err(error) => {
                // Said once: the reason that appends are refused stays the first one.
                if self.reopen_wait == RETRY_EVERY {
                    tracing::error!(%error, "the database cannot be opened again yet");
                }
                self.reopen_wait = (self.reopen_wait * 2).min(REOPEN_EVERY_MAX);
                self.reopen_at = Instant::now() + self.reopen_wait;
                return;
            }
        };
        state.report.log();
        self.adopt(tables, state);
        self.condition = Condition::Up;
        add(&self.core.counters.reopened, 1);
        self.core.counters.disk_full.store(false, Ordering::Relaxed);
        match self.catch_up() {
            Ok(_) if self.condition == Condition::Up => {
                tracing::warn!("the database is open again: appends are accepted");
                self.core.set_down(None);
            }
            Ok(_) => {}
            Err(reason) => {
                tracing::error!(reason, "ingest cannot catch up after the database failed");
                self.condition = Condition::Broken;
                self.reopen_at = Instant::now() + REOPEN_EVERY_MAX;
            }
        }
    }

    fn close(&mut self) {
        if self.condition == Condition::Up {
            // Positions that changed since the last batch.
            self.commit(Vec::new());
        }
        self.core.set_down(Some("the engine is closed"));
        self.hook = None;
        if self.condition != Condition::Broken
            && let Ok(tables) = self.core.tables()
            && tables.sync().is_ok()
        {
            self.note.closing(self.batch_number, &self.parts);
        }
        drop(self.core.set_tables(None));
    }
}

fn ingest_key(partition: u32) -> PositionKey {
    PositionKey {
        group: INGEST_GROUP.into(),
        topic: Topic::ChatMessages,
        partition,
    }
}

fn complete(job: Job, outcome: Outcome) {
    // A caller that gave up waiting for its reply is no error.
    match (job, outcome) {
        (Job::Produce { ack, .. }, Outcome::Appended(offset)) => ack.complete(Ok(Some(offset))),
        (Job::Store { reply, .. }, Outcome::Stored(outcome)) => {
            let _ = reply.send(outcome);
        }
        (Job::Directory { reply, .. }, Outcome::Directory(outcome)) => {
            let _ = reply.send(outcome);
        }
        // `Batch::add` answers each job in kind, in order.
        (job, _) => fail(job, &unknown("the outcome of another kind of job")),
    }
}

/// Tells a job that it failed.
pub(super) fn fail(job: Job, error: &ProduceError) {
    let reason = error.to_string();
    match job {
        Job::Produce { ack, .. } => ack.complete(Err(error.clone())),
        Job::Store { reply, .. } => {
            let _ = reply.send(Err(StoreError::Unavailable { reason }));
        }
        Job::Directory { reply, .. } => {
            let _ = reply.send(Err(DirectoryError::Unavailable { reason }));
        }
        Job::Hook { reply, .. } => {
            let _ = reply.send(Err(StoreError::Unavailable { reason }));
        }
    }
}
