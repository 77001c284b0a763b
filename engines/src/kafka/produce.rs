//! The producers: durable records (idempotent, acks=all) with one outcome each, ephemeral ones without.

#[cfg(test)]
mod tests;

use super::config::KafkaConfig;
use super::context::Context;
use super::error::KafkaError;
use super::gate::{Batch, Door, Gate, Parked};
use super::health::Health;
use crate::log::{AppendOutcome, Appended, Produce, ProduceError};
use rdkafka::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError as Native, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{
    BaseRecord, NoCustomPartitioner, Producer, ProducerContext, ThreadedProducer,
};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

/// Hint for a client whose record found the queue full, milliseconds.
const FULL_RETRY_MS: u32 = 200;
/// Hint for a client whose record found no broker, milliseconds.
const DOWN_RETRY_MS: u32 = 1_000;
/// Hint for a client whose record found its topic fenced while the next generation is made, milliseconds.
pub(super) const GROWING_RETRY_MS: u32 = 1_000;

/// One durable record on its way. Its outcome is given once, by whoever comes first: the delivery
/// report, or the watch while no broker answers.
pub(super) struct Pending {
    tag: u64,
    done: Arc<dyn Appended>,
    since: Instant,
    answered: AtomicBool,
    door: Arc<Door>,
    /// Of key and value, as the gate counts them.
    bytes: usize,
    /// Added to the offset that a broker says.
    base: u64,
}

impl Pending {
    pub(super) fn answered(&self) -> bool {
        self.answered.load(Ordering::Acquire)
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Nothing of its stream, if it is of one, is sent any more.
    pub(super) fn break_off(&self) {
        self.done.break_off();
    }

    /// Whether its place among others matters.
    pub(super) fn in_stream(&self) -> bool {
        self.done.stream().is_some()
    }

    fn answer(&self, outcome: AppendOutcome) {
        if outcome.is_err() && !self.answered() {
            // First: who sees that it has its outcome sends none of those behind it.
            self.break_off();
        }
        if !self.answered.swap(true, Ordering::AcqRel) {
            let outcome = outcome.map(|offset| offset.map(|at| at + self.base));
            self.done.appended(self.tag, outcome);
        }
    }
}

/// Records in the order in which they were produced, so that the oldest is found at once. The answered
/// ones leave at the watch's next look, once all before them are answered: the list is bounded by what
/// can be produced within `produce_timeout`.
#[derive(Default)]
pub(super) struct Waiting(Mutex<VecDeque<Arc<Pending>>>);

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Pending>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn oldest(&self) -> Option<Duration> {
        let mut list = self.lock();
        while list.front().is_some_and(|p| p.answered()) {
            list.pop_front();
        }
        list.front().map(|p| p.since.elapsed())
    }

    /// Answers "unknown" for what waits longer than this. It stays on its way: librdkafka lets no record time out, because
    /// those behind it would go on without it.
    fn give_up(&self, longer_than: Duration, reason: &str) {
        loop {
            let late = {
                let mut list = self.lock();
                match list.front() {
                    Some(first) if first.since.elapsed() >= longer_than => list.pop_front(),
                    _ => None,
                }
            };
            // Outside the lock: the callback may produce again.
            let Some(late) = late else { return };
            late.answer(Err(ProduceError::Unknown {
                reason: reason.to_owned(),
            }));
        }
    }
}

/// Which offsets of delivery reports are real. A batch that was sent again because its first answer was lost, and that
/// the broker knows to be a repetition, is reported as delivered with offsets counted from -1 (librdkafka, "DUPSEQ"):
/// -1, 0, 1, .. The log holds all of those records when the next batch is appended, so a real offset never continues
/// such a row.
#[derive(Default)]
struct Offsets {
    /// Last one of a row that began at -1, by topic and partition; empty but after a fault.
    counted: Mutex<HashMap<(String, i32), i64>>,
    /// Whether there is one: no lock for the reports of every day.
    any: AtomicBool,
}

impl Offsets {
    fn judge(&self, message: &impl Message) -> Option<u64> {
        self.real(message.topic(), message.partition(), message.offset())
    }

    /// Called in the order of the reports of a partition.
    fn real(&self, topic: &str, partition: i32, offset: i64) -> Option<u64> {
        if offset >= 0 && !self.any.load(Ordering::Relaxed) {
            return u64::try_from(offset).ok();
        }
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (topic.to_owned(), partition);
        let row = offset < 0 || counted.get(&place).is_some_and(|last| offset == last + 1);
        match row {
            true => counted.insert(place, offset),
            false => counted.remove(&place),
        };
        self.any.store(!counted.is_empty(), Ordering::Relaxed);
        match row {
            true => None,
            false => u64::try_from(offset).ok(),
        }
    }
}

/// Context of the durable producer.
pub(super) struct Deliveries {
    context: Context,
    offsets: Offsets,
    durable: Weak<Durable>,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.context.log(level, facility, message);
    }

    fn error(&self, error: Native, reason: &str) {
        self.context.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Arc<Pending>;

    fn delivery(&self, result: &DeliveryResult<'_>, pending: Arc<Pending>) {
        pending.answer(match result {
            Ok(message) => {
                self.context.health.heard();
                Ok(self.offsets.judge(message))
            }
            Err((error, _)) => Err(outcome(error)),
        });
        if let Some(durable) = self.durable.upgrade() {
            durable.left(&pending);
            // The last handle ends this thread, and cannot wait for it here.
            if let Some(last) = Arc::into_inner(durable) {
                std::thread::spawn(move || drop(last));
            }
        }
    }
}

/// Context of the ephemeral producer: no outcome is waited for.
pub(super) struct Fleeting(Context);

impl ClientContext for Fleeting {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }

    fn error(&self, error: Native, reason: &str) {
        self.0.error(error, reason);
    }
}

impl ProducerContext for Fleeting {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

type Idempotent = ThreadedProducer<Deliveries, NoCustomPartitioner>;
type Ephemeral = ThreadedProducer<Fleeting, NoCustomPartitioner>;

/// The durable producer behind its gate.
pub(super) struct Durable {
    /// `None` until it is made, and at the end.
    producer: RwLock<Option<Arc<Idempotent>>>,
    gate: Gate,
    batch: Batch,
    config: KafkaConfig,
    health: Arc<Health>,
}

impl Durable {
    fn new(config: &KafkaConfig, health: &Arc<Health>) -> Result<Arc<Self>, KafkaError> {
        let bytes = |kib: u32| usize::try_from(u64::from(kib) << 10).unwrap_or(usize::MAX);
        let count = |records: u32| usize::try_from(records).unwrap_or(usize::MAX);
        let new = Arc::new(Self {
            producer: RwLock::new(None),
            gate: Gate::new(count(config.queue_records_max), bytes(config.queue_kib_max)),
            batch: Batch {
                records_max: count(config.batch_records_max),
                bytes_max: bytes(config.batch_kib),
            },
            config: config.clone(),
            health: Arc::clone(health),
        });
        new.put(Some(new.make()?));
        Ok(new)
    }

    fn make(self: &Arc<Self>) -> Result<Arc<Idempotent>, KafkaError> {
        let context = Deliveries {
            context: Context {
                health: Arc::clone(&self.health),
            },
            offsets: Offsets::default(),
            durable: Arc::downgrade(self),
        };
        let made = Idempotent::from_config_and_context(&self.config.durable_producer(), context);
        made.map(Arc::new).map_err(|error| client_error(&error))
    }

    /// Returns the one before.
    fn put(&self, producer: Option<Arc<Idempotent>>) -> Option<Arc<Idempotent>> {
        let mut place = self
            .producer
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *place, producer)
    }

    fn send(&self, door: &Door, parked: &Parked) -> Result<(), ProduceError> {
        whole(&parked.pending)?;
        let record = &parked.record;
        let native = BaseRecord::with_opaque_to(&door.topic, Arc::clone(&parked.pending))
            .partition(number(door.partition))
            .timestamp(i64::try_from(record.timestamp_ms).unwrap_or(i64::MAX))
            .key(&record.key[..])
            .payload(&record.value[..]);
        let producer = self.producer.read().unwrap_or_else(PoisonError::into_inner);
        let Some(producer) = producer.as_ref() else {
            return Err(refused("the log is closed", DOWN_RETRY_MS));
        };
        let sent = producer.send(native);
        sent.map_err(|(error, _)| not_taken(&error))
    }

    /// A record has left librdkafka: those behind it may go.
    fn left(&self, pending: &Pending) {
        self.gate.release(pending.bytes);
        if !pending.door.left() {
            return;
        }
        let send = |parked: &Parked| {
            let sent = self.send(&pending.door, parked);
            sent.inspect_err(|_| parked.pending.break_off())
        };
        for (parked, error) in pending.door.open(self.batch, send) {
            self.gate.release(parked.pending.bytes);
            if let Some(error) = error {
                parked.pending.answer(Err(error));
            }
        }
    }

    /// Refuses what has waited behind its door for so long: it is in no log.
    fn refuse_late(&self, longer_than: Duration) {
        for parked in self.gate.late(longer_than) {
            self.gate.release(parked.pending.bytes);
            let reason = "the records before it are not acknowledged";
            parked.pending.answer(Err(refused(reason, DOWN_RETRY_MS)));
        }
    }
}

/// Both producers.
pub(super) struct Producers {
    durable: Arc<Durable>,
    ephemeral: Ephemeral,
    /// Those that stand for themselves, and are given up in time.
    waiting: Waiting,
    /// Those of streams.
    streams: Waiting,
    health: Arc<Health>,
}

impl Producers {
    pub(super) fn new(config: &KafkaConfig, health: &Arc<Health>) -> Result<Self, KafkaError> {
        let context = Context {
            health: Arc::clone(health),
        };
        let ephemeral =
            Ephemeral::from_config_and_context(&config.ephemeral_producer(), Fleeting(context))
                .map_err(|error| client_error(&error))?;
        Ok(Self {
            durable: Durable::new(config, health)?,
            ephemeral,
            waiting: Waiting::default(),
            streams: Waiting::default(),
            health: Arc::clone(health),
        })
    }

    /// Enqueues a durable record for a topic whose offsets begin at a base; the outcome goes to `done`.
    pub(super) fn append(
        &self,
        (topic, base): (&str, u64),
        record: Produce,
        tag: u64,
        done: &Arc<dyn Appended>,
    ) -> Result<(), ProduceError> {
        if self.health.down() {
            return Err(refused("no Kafka broker answers", DOWN_RETRY_MS));
        }
        let durable = &self.durable;
        let bytes = record.key.len() + record.value.len();
        if !durable.gate.admit(bytes) {
            return Err(refused("the queue to Kafka is full", FULL_RETRY_MS));
        }
        let door = durable.gate.door(topic, record.partition);
        let pending = Arc::new(Pending {
            tag,
            done: Arc::clone(done),
            since: Instant::now(),
            answered: AtomicBool::new(false),
            door: Arc::clone(&door),
            bytes,
            base,
        });
        let parked = Parked {
            record,
            pending: Arc::clone(&pending),
        };
        let entered = door.enter(parked, |parked| durable.send(&door, parked));
        match entered {
            Ok(()) if pending.in_stream() => self.streams.lock().push_back(pending),
            Ok(()) => self.waiting.lock().push_back(pending),
            Err(_) => durable.gate.release(bytes),
        }
        entered
    }

    /// Enqueues an ephemeral record: queued is all that is promised.
    pub(super) fn append_ephemeral(
        &self,
        topic: &str,
        record: &Produce,
    ) -> Result<(), ProduceError> {
        if self.health.down() {
            return Err(refused("no Kafka broker answers", DOWN_RETRY_MS));
        }
        let native = BaseRecord::to(topic)
            .partition(number(record.partition))
            .timestamp(i64::try_from(record.timestamp_ms).unwrap_or(i64::MAX))
            .key(&record.key[..])
            .payload(&record.value[..]);
        let sent = self.ephemeral.send(native);
        sent.map_err(|(error, _)| not_taken(&error))
    }

    /// How long the oldest record without an outcome waits.
    pub(super) fn oldest(&self) -> Option<Duration> {
        self.waiting.oldest().max(self.streams.oldest())
    }

    /// Answers for records whose brokers do not, where `down` for all that wait longer than a moment.
    pub(super) fn give_up(&self, down: bool) {
        let config = &self.durable.config;
        let (after, reason) = match down {
            true => (config.down_timeout, "no Kafka broker answers"),
            false => (config.produce_timeout, "no broker acknowledged it in time"),
        };
        self.waiting.give_up(after, reason);
    }

    /// Looked at now and then, by the watch.
    pub(super) fn serve(&self) {
        self.durable
            .refuse_late(self.durable.config.produce_timeout);
        self.renew_if_fatal();
    }

    /// A producer that has failed for good is replaced; its records get their outcome from its end.
    fn renew_if_fatal(&self) {
        let producer = self.durable.producer.read();
        let failed = producer.unwrap_or_else(PoisonError::into_inner);
        let Some((code, reason)) = failed.as_ref().and_then(|p| p.client().fatal_error()) else {
            return;
        };
        drop(failed);
        tracing::error!(%code, reason, "the Kafka producer has failed: a new one takes its place");
        match self.durable.make() {
            Ok(new) => {
                let old = self.durable.put(Some(new));
                // Its end waits for its reports: not on the watch's thread.
                std::thread::spawn(move || drop(old));
            }
            Err(error) => tracing::error!(%error, "the Kafka producer cannot be replaced yet"),
        }
    }
}

impl Drop for Producers {
    fn drop(&mut self) {
        // What librdkafka has gets its outcome from its end, what it never got here.
        drop(self.durable.put(None));
        self.durable.refuse_late(Duration::ZERO);
    }
}

/// Nothing goes on where a record of the same stream did not.
fn whole(pending: &Pending) -> Result<(), ProduceError> {
    let reason = "a record of the same stream before it was not appended";
    match pending.done.is_broken() {
        true => Err(refused(reason, DOWN_RETRY_MS)),
        false => Ok(()),
    }
}

/// librdkafka's partition numbers are signed; ours are checked against the topic before.
pub(super) fn number(partition: u32) -> i32 {
    i32::try_from(partition).unwrap_or(i32::MAX)
}

pub(super) fn client_error(error: &Native) -> KafkaError {
    KafkaError::Client {
        reason: error.to_string(),
    }
}

pub(super) fn refused(reason: &str, retry_after_ms: u32) -> ProduceError {
    ProduceError::Refused {
        reason: reason.to_owned(),
        retry_after_ms,
    }
}

/// The call itself failed: the record is not in the queue.
fn not_taken(error: &Native) -> ProduceError {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::QueueFull) => refused("the queue to Kafka is full", FULL_RETRY_MS),
        Some(RDKafkaErrorCode::Fatal) => refused("the Kafka producer is replaced", FULL_RETRY_MS),
        Some(RDKafkaErrorCode::MessageSizeTooLarge) => refused("the record is too large", 0),
        _ => refused(&error.to_string(), DOWN_RETRY_MS),
    }
}

/// Outcome of a record that was in the queue. Certain is only what a broker refuses by name, or what
/// never left the queue; a time-out is not.
fn outcome(error: &Native) -> ProduceError {
    use RDKafkaErrorCode as Code;
    let reason = error.to_string();
    match error.rdkafka_error_code() {
        // Sizes were looked at before: the topic is fenced.
        Some(Code::MessageSizeTooLarge | Code::MessageBatchTooLarge) => {
            refused("the topic takes no records now", GROWING_RETRY_MS)
        }
        Some(
            Code::InvalidMessage
            | Code::InvalidTimestamp
            | Code::PolicyViolation
            | Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::UnknownTopic
            | Code::UnknownPartition
            | Code::UnknownTopicOrPartition
            | Code::InvalidTopic,
        ) => refused(&reason, 0),
        Some(Code::PurgeQueue) => refused(&reason, DOWN_RETRY_MS),
        _ => ProduceError::Unknown { reason },
    }
}
