//! One partition of `chat-messages`: a session from its last commit until something fails, and the next.

mod ending;
mod output;

use super::bell::{Address, Bell, News, lock};
use super::hot::Sketch;
use super::known::{Known, Prefetched, Questions};
use super::pipe::{Flight, Pipe};
use super::stages::Stage;
use super::writes::{Batch, Next, Writes};
use super::{Shared, recall};
use crate::ingest::{Core, IngestConfig, Plan, Recollection, Verdict};
use hawser_engines::embedded::INGEST_GROUP;
use hawser_engines::log::{
    Appended, Consumer, ProduceError, ReadError, Record, Start, Topic, Wake,
};
use hawser_engines::store::StoreError;
use hawser_protocol::ids::ChatId;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// First and longest wait before a partition begins again.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// How long a full producer queue is waited for, per look.
const REFUSED_WAIT: Duration = Duration::from_millis(5);
/// Records that are asked for and judged together.
const BATCH_MAX: usize = 256;
/// Who had the partition before may say late how far it was: a position is committed again so often after a takeover,
/// and after so long.
const REPEATS: u32 = 5;
const REPEAT_EVERY: Duration = Duration::from_secs(2);
/// A position is committed after so long, or so many records.
const COMMIT_EVERY: Duration = Duration::from_millis(200);
const COMMIT_RECORDS: u64 = 1_024;

/// Why a session was given up.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error("{0}")]
    Read(#[from] ReadError),
    #[error("{0}")]
    Produce(#[from] ProduceError),
    #[error("delivery records were not acknowledged in time")]
    Timeout,
    #[error("the store refuses a row for good, which is parked: {0}")]
    Refused(String),
}

enum Phase {
    /// It is another's.
    Away,
    /// Begins again at this time.
    Rest(Instant),
    Opening,
    Open(Box<dyn Consumer>),
}

/// One partition as its thread sees it.
pub(super) struct Source {
    shared: Arc<Shared>,
    partition: u32,
    generation: u16,
    config: IngestConfig,
    /// The generation of `delivery` that plans are for.
    delivery: u16,
    address: Address,
    done: Arc<dyn Appended>,
    phase: Phase,
    /// Since when it is another's, and what is on its way is done here.
    leaving: Option<Instant>,
    core: Core,
    /// Records that are read and not judged.
    waiting: VecDeque<Record>,
    known: Known,
    asking: bool,
    asked: Instant,
    /// Of questions in a row; and when they are asked again.
    ask_failures: u32,
    ask_at: Option<Instant>,
    pipe: Pipe,
    writes: Writes,
    /// Records of sessions before whose outcome is not known.
    lingering: usize,
    committed: u64,
    committing: bool,
    commit_at: Instant,
    /// How often the position is to be committed again.
    repeats: u32,
    recall: recall::Progress,
    sketch: Sketch,
    backoff: Duration,
    refused_since: Option<Instant>,
    troubled: bool,
    /// Offsets whose rows the store refuses for good, and those before which each record is written by itself.
    parked: BTreeSet<u64>,
    singly_before: u64,
}

impl Source {
    pub(super) fn new(
        shared: &Arc<Shared>,
        bell: &Arc<Bell>,
        (partition, source): (u32, usize),
        (config, generation, delivery): (IngestConfig, u16, u16),
        now: Instant,
    ) -> Self {
        let address = Address {
            bell: Arc::clone(bell),
            source,
            session: shared.sessions.fetch_add(1, Ordering::Relaxed),
            stream: Arc::default(),
        };
        let done: Arc<dyn Appended> = Arc::new(address.clone());
        Self {
            shared: Arc::clone(shared),
            partition,
            generation,
            config,
            delivery,
            address,
            done,
            phase: match shared.config.share {
                Some(_) => Phase::Away,
                None => Phase::Rest(now),
            },
            leaving: None,
            core: core(shared, config, generation),
            waiting: VecDeque::new(),
            known: Known::default(),
            asking: false,
            asked: now,
            ask_failures: 0,
            ask_at: None,
            pipe: Pipe::new(0),
            writes: Writes::new(false),
            lingering: 0,
            committed: 0,
            committing: false,
            commit_at: now,
            repeats: 0,
            recall: recall::Progress::default(),
            sketch: Sketch::new(now),
            backoff: RETRY_FIRST,
            refused_since: None,
            troubled: false,
            parked: BTreeSet::new(),
            singly_before: 0,
        }
    }

    /// Takes news of this session, or of one before.
    pub(super) fn news(&mut self, session: u64, news: News, now: Instant) {
        if session != self.address.session {
            if matches!(news, News::Produced(..)) {
                self.lingering = self.lingering.saturating_sub(1);
            }
            return;
        }
        let taken = match news {
            News::Opened(outcome) => self.opened(outcome, now),
            News::Asked(outcome) => {
                self.answered(outcome, now);
                Ok(())
            }
            News::Recalled(outcome) => {
                self.recalled(outcome);
                Ok(())
            }
            News::Shown(id, Ok(())) => {
                self.writes.shown(id);
                self.go_on(id, now);
                Ok(())
            }
            News::Shown(id, Err(error)) => {
                self.write_failed(id, &error.to_string(), now);
                Ok(())
            }
            News::Stored(id, Ok(())) => {
                self.writes.stored(id);
                self.go_on(id, now);
                Ok(())
            }
            News::Stored(id, Err(StoreError::Refused { reason })) => self.refused(id, reason),
            News::Stored(id, Err(error)) => {
                self.write_failed(id, &error.to_string(), now);
                Ok(())
            }
            News::Produced(no, Ok(_)) => {
                self.pipe.acknowledged(no);
                Ok(())
            }
            News::Produced(no, Err(error)) => {
                self.pipe.acknowledged(no);
                Err(error.into())
            }
            News::Committed(next, outcome) => {
                self.committing = false;
                match outcome {
                    Ok(()) => self.committed = next,
                    Err(error) => self.trouble(&error.to_string()),
                }
                Ok(())
            }
        };
        if let Err(failed) = taken {
            self.fail(&failed, now);
        }
    }

    pub(super) fn partition(&self) -> u32 {
        self.partition
    }

    fn turn_ours(&mut self, draining: bool, now: Instant) -> Option<Instant> {
        if let Phase::Rest(until) = self.phase {
            if draining || (self.lingering > 0 && now < until + self.shared.config.produce_timeout)
            {
                return (!draining).then_some(until + self.shared.config.produce_timeout);
            }
            if now < until {
                return Some(until);
            }
            self.open();
        }
        if !matches!(self.phase, Phase::Open(_)) {
            return None;
        }
        match self.work(draining, now) {
            Ok(deadline) => deadline,
            Err(failed) => {
                self.fail(&failed, now);
                self.deadline(now)
            }
        }
    }

    /// Looks at the log and reads from the last commit on.
    fn open(&mut self) {
        self.phase = Phase::Opening;
        let (shared, address) = (Arc::clone(&self.shared), self.address.clone());
        let partition = self.partition;
        self.shared.calls.run(move || {
            let wake: Arc<dyn Wake> = address.bell.clone();
            address.tell(News::Opened(open(&shared, partition, wake)));
        });
    }

    fn opened(
        &mut self,
        outcome: Result<(u64, u64, Box<dyn Consumer>), ReadError>,
        now: Instant,
    ) -> Result<(), Failed> {
        let (from, low, consumer) = outcome?;
        self.pipe = Pipe::new(from);
        self.writes = Writes::new(from < self.singly_before);
        self.committed = from;
        self.commit_at = now;
        self.repeats = self.shared.config.share.as_ref().map_or(0, |_| REPEATS);
        self.recall = recall::Progress::new(from, low);
        if from == 0 && self.generation == 1 {
            // Nothing was ever before it.
            self.core.recall(&Recollection::of(&[], true));
        }
        self.phase = Phase::Open(consumer);
        Ok(())
    }

    fn work(&mut self, draining: bool, now: Instant) -> Result<Option<Instant>, Failed> {
        if self.pipe.low() >= self.singly_before {
            self.writes.together();
        }
        for id in self.writes.due(now) {
            self.go_on(id, now);
        }
        let mut more = false;
        if !draining {
            // What was asked for first: that makes room for what has come since.
            self.judge(now);
            more = self.read(now)?;
            self.judge(now);
            self.remember();
        }
        let full = self.room() == 0;
        self.deliver(now)?;
        self.settle(now);
        more |= full && self.room() > 0;
        if self
            .pipe
            .oldest_given()
            .is_some_and(|at| now >= at + self.shared.config.produce_timeout)
        {
            return Err(Failed::Timeout);
        }
        self.commit(now);
        self.show(now);
        Ok(if more && !draining {
            Some(now)
        } else {
            self.deadline(now)
        })
    }

    /// How many records more may be on their way.
    fn room(&self) -> usize {
        let max = self.shared.config.in_flight_max;
        max.saturating_sub(self.pipe.len())
    }

    /// Takes records from the log, as many as may be on their way, once those before them are judged. Whether there
    /// may be more.
    fn read(&mut self, now: Instant) -> Result<bool, Failed> {
        let room = self.room();
        let Phase::Open(consumer) = &mut self.phase else {
            return Ok(false);
        };
        if !self.waiting.is_empty() || room == 0 {
            return Ok(false);
        }
        let (waiting, max) = (&mut self.waiting, room.min(BATCH_MAX));
        let taken = consumer.poll(max, &mut |record| waiting.push_back(record))?;
        let wall_ms = wall_ms();
        for record in &self.waiting {
            let age = wall_ms.saturating_sub(record.timestamp_ms);
            self.shared
                .stages
                .took(Stage::Log, Duration::from_millis(age));
            self.sketch.count(&record.key);
        }
        if let Some(first) = self.waiting.front()
            && self.recall.begins()
            && !(first.offset == 0 && self.generation == 1)
        {
            self.core
                .recall(&Recollection::begins_at(first.timestamp_ms));
        }
        self.asked = now;
        self.ask();
        Ok(taken == max)
    }

    /// Asks the store for all that judging will need.
    fn ask(&mut self) {
        let questions = Questions::of(&self.core, self.generation, self.waiting.iter());
        if questions.is_empty() {
            return;
        }
        self.asking = true;
        let (shared, address) = (Arc::clone(&self.shared), self.address.clone());
        self.shared.questions.run(move || {
            address.tell(News::Asked(questions.ask(shared.store.as_ref())));
        });
    }

    fn answered(&mut self, outcome: Result<Known, StoreError>, now: Instant) {
        self.asking = false;
        match outcome {
            Ok(known) => {
                self.known = known;
                self.ask_failures = 0;
            }
            Err(error) => self.ask_later(&error.to_string(), now),
        }
    }

    /// Nothing was judged: the same is asked once more.
    fn ask_later(&mut self, reason: &str, now: Instant) {
        self.shared.counters.retried();
        self.trouble(reason);
        let pause = RETRY_FIRST * 2u32.saturating_pow(self.ask_failures.min(8));
        self.ask_failures += 1;
        self.ask_at = Some(now + pause.min(RETRY_MAX));
    }

    /// Judges what waits, and begins to write it.
    fn judge(&mut self, now: Instant) {
        if let Some(at) = self.ask_at {
            if now < at {
                return;
            }
            self.ask_at = None;
            self.ask();
        }
        if self.asking || self.waiting.is_empty() {
            return;
        }
        let (mut batch, mut begin) = (Batch::default(), Vec::new());
        let known = std::mem::take(&mut self.known);
        while let Some(record) = self.waiting.front() {
            let shared = Arc::clone(&self.shared);
            let store = Prefetched {
                known: &known,
                store: shared.store.as_ref(),
            };
            let judged = match self.parked.contains(&record.offset) {
                true => self.core.park(self.partition, record, &store),
                false => self.core.judge(self.partition, record, &store),
            };
            match judged {
                Ok(mut plan) => {
                    let Some(record) = self.waiting.pop_front() else {
                        break;
                    };
                    let no = self.take(&record, &mut plan, now);
                    let chat = changed(&record, &plan);
                    begin.extend(self.writes.add(&mut batch, no, &mut plan, chat));
                }
                Err(error) => {
                    self.ask_later(&error.to_string(), now);
                    break;
                }
            }
        }
        begin.extend(self.writes.close(&mut batch));
        for id in begin {
            self.go_on(id, now);
        }
    }

    fn take(&mut self, record: &Record, plan: &mut Plan, now: Instant) -> u64 {
        self.shared.counters.count(plan.verdict);
        self.shared
            .stages
            .took(Stage::Judge, now.saturating_duration_since(self.asked));
        let produce = std::mem::take(&mut plan.produce);
        let flight = Flight::new(record.offset, record.timestamp_ms, now, produce);
        self.pipe.push(flight.with_body(plan.body.take()))
    }

    /// Does what a write is to do next.
    fn go_on(&mut self, id: u64, now: Instant) {
        let change = self.writes.changes(id);
        match self.writes.next(id) {
            None => {}
            Some(Next::Show(groups)) => {
                let (shared, address) = (Arc::clone(&self.shared), self.address.clone());
                self.shared.changes.run(move || {
                    let mut all = groups.iter();
                    let shown = all.try_for_each(|(g, seq)| shared.directory.show_group(g, *seq));
                    address.tell(News::Shown(id, shown));
                });
            }
            Some(Next::Store(ops)) => {
                let address = self.address.clone();
                let stored = Box::new(move |outcome| address.tell(News::Stored(id, outcome)));
                self.shared.store.write_later(ops, stored);
            }
            Some(Next::Done(flights)) => {
                for no in flights {
                    if let Some(took) = self.pipe.stored(no, now) {
                        self.shared.stages.took(Stage::Store, took);
                    }
                }
                if let Some(next) = change.and_then(|chat| self.writes.after(&chat)) {
                    self.go_on(next, now);
                }
            }
        }
    }

    fn write_failed(&mut self, id: u64, reason: &str, now: Instant) {
        self.shared.counters.retried();
        self.trouble(reason);
        self.writes.failed(id, now);
    }

    /// A row that the store will never take. Which record it is of is found by writing each by itself; its place in
    /// the chat stays, so that what comes after it is as it was.
    fn refused(&mut self, id: u64, reason: String) -> Result<(), Failed> {
        let flights = self.writes.flights(id);
        let offsets: Vec<u64> = flights
            .iter()
            .filter_map(|no| self.pipe.offset(*no))
            .collect();
        match offsets.as_slice() {
            [offset] => {
                tracing::error!(
                    partition = self.partition,
                    offset,
                    reason,
                    "to dead-letters"
                );
                self.parked.insert(*offset);
            }
            several => {
                let last = several.last().map_or(0, |last| last + 1);
                self.singly_before = self.singly_before.max(last);
            }
        }
        Err(Failed::Refused(reason))
    }

    fn deadline(&self, now: Instant) -> Option<Instant> {
        if let Phase::Rest(until) = self.phase {
            return Some(until);
        }
        let refused = self.refused_since.map(|_| now + REFUSED_WAIT);
        let commit =
            (self.pipe.low() > self.committed && !self.committing).then_some(self.commit_at);
        let repeats = self.repeats > 0 && self.pipe.low() > 0 && !self.committing;
        let again = repeats.then_some(self.commit_at + REPEAT_EVERY);
        let late = self.pipe.oldest_given();
        let late = late.map(|at| at + self.shared.config.produce_timeout);
        let all = [
            refused,
            commit,
            again,
            late,
            self.ask_at,
            self.writes.deadline(),
        ];
        all.into_iter().flatten().min()
    }

    fn trouble(&mut self, reason: &str) {
        if !self.troubled {
            tracing::warn!(
                partition = self.partition,
                reason,
                "ingest waits, and tries the same again"
            );
        }
        self.troubled = true;
        lock(&self.shared.troubles).insert(self.partition, reason.to_owned());
    }
}

fn core(shared: &Shared, config: IngestConfig, generation: u16) -> Core {
    Core::new(config, generation).bounded(shared.bounds(config.source_partitions))
}

fn open(
    shared: &Shared,
    partition: u32,
    wake: Arc<dyn Wake>,
) -> Result<(u64, u64, Box<dyn Consumer>), ReadError> {
    let (log, topic) = (&shared.log, Topic::ChatMessages);
    let committed = log.committed(INGEST_GROUP, topic, partition)?;
    let low = log.watermarks(topic, partition)?.low;
    if let Some(lost) = committed.filter(|committed| *committed < low) {
        tracing::error!(
            partition,
            from = lost,
            to = low,
            "records expired before ingest saw them"
        );
    }
    let from = committed.unwrap_or(low).max(low);
    let consumer = log.consumer(topic, partition, Start::At(from), wake)?;
    Ok((from, low, consumer))
}

/// The chat that a record changes, or tried to: what came of it depends on the changes before it.
fn changed(record: &Record, plan: &Plan) -> Option<ChatId> {
    let change = match plan.verdict {
        Verdict::Changed => true,
        // A refused Send has no rows.
        Verdict::Rejected(_) => !plan.store.is_empty(),
        _ => false,
    };
    if !change {
        return None;
    }
    let source = hawser_protocol::record::SourceRecord::decode(&record.value);
    source.ok().map(|source| source.chat().clone())
}

fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}
