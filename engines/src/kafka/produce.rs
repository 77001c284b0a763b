//! The producers: durable records (idempotent, acks=all) with one outcome each, ephemeral ones without.

use super::config::KafkaConfig;
use super::context::Context;
use super::error::KafkaError;
use super::health::Health;
use crate::log::{Appended, Produce, ProduceError};
use rdkafka::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError as Native, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{
    BaseRecord, NoCustomPartitioner, Producer, ProducerContext, ThreadedProducer,
};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
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
}

impl Pending {
    fn answer(&self, outcome: Result<Option<u64>, ProduceError>) {
        if !self.answered.swap(true, Ordering::AcqRel) {
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

    /// How long the oldest record without an outcome waits.
    pub(super) fn oldest(&self) -> Option<Duration> {
        let mut list = self.lock();
        while list
            .front()
            .is_some_and(|p| p.answered.load(Ordering::Acquire))
        {
            list.pop_front();
        }
        list.front().map(|p| p.since.elapsed())
    }

    /// Answers "unknown" for what waits longer than this.
    pub(super) fn give_up(&self, longer_than: Duration) {
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
                reason: "no Kafka broker answers".to_owned(),
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

type Durable = ThreadedProducer<Deliveries, NoCustomPartitioner>;
type Ephemeral = ThreadedProducer<Fleeting, NoCustomPartitioner>;

/// Both producers.
pub(super) struct Producers {
    durable: RwLock<Arc<Durable>>,
    ephemeral: Ephemeral,
    pub(super) waiting: Waiting,
    config: KafkaConfig,
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
            durable: RwLock::new(Arc::new(durable(config, health)?)),
            ephemeral,
            waiting: Waiting::default(),
            config: config.clone(),
            health: Arc::clone(health),
        })
    }

    fn durable(&self) -> Arc<Durable> {
        let producer = self.durable.read();
        Arc::clone(&producer.unwrap_or_else(PoisonError::into_inner))
    }

    /// Enqueues a durable record; the outcome goes to `done`.
    pub(super) fn append(
        &self,
        topic: &str,
        record: &Produce,
        tag: u64,
        done: &Arc<dyn Appended>,
    ) -> Result<(), ProduceError> {
        if self.health.down() {
            return Err(refused("no Kafka broker answers", DOWN_RETRY_MS));
        }
        let pending = Arc::new(Pending {
            tag,
            done: Arc::clone(done),
            since: Instant::now(),
            answered: AtomicBool::new(false),
        });
        let native = BaseRecord::with_opaque_to(topic, Arc::clone(&pending))
            .partition(number(record.partition))
            .timestamp(i64::try_from(record.timestamp_ms).unwrap_or(i64::MAX))
            .key(&record.key[..])
            .payload(&record.value[..]);
        match self.durable().send(native) {
            Ok(()) => {
                self.waiting.lock().push_back(pending);
                Ok(())
            }
            Err((error, _)) => Err(not_taken(&error)),
        }
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

    /// A producer that has failed for good is replaced; its records get their outcome from its end.
    pub(super) fn renew_if_fatal(&self) {
        let Some((code, reason)) = self.durable().client().fatal_error() else {
            return;
        };
        tracing::error!(%code, reason, "the Kafka producer has failed: a new one takes its place");
        match durable(&self.config, &self.health) {
            Ok(new) => {
                let mut place = self.durable.write().unwrap_or_else(PoisonError::into_inner);
                let old = std::mem::replace(&mut *place, Arc::new(new));
                drop(place);
                // Its end waits for its reports: not on the watch's thread.
                std::thread::spawn(move || drop(old));
            }
            Err(error) => tracing::error!(%error, "the Kafka producer cannot be replaced yet"),
        }
    }
}

fn durable(config: &KafkaConfig, health: &Arc<Health>) -> Result<Durable, KafkaError> {
    let context = Deliveries {
        context: Context {
            health: Arc::clone(health),
        },
        offsets: Offsets::default(),
    };
    Durable::from_config_and_context(&config.durable_producer(), context)
        .map_err(|error| client_error(&error))
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Sender, channel};

    struct Told(Mutex<Sender<(u64, crate::log::AppendOutcome)>>);

    impl Appended for Told {
        fn appended(&self, tag: u64, outcome: Result<Option<u64>, ProduceError>) {
            let sender = self.0.lock().expect("no holder panics");
            sender.send((tag, outcome)).expect("the test listens");
        }
    }

    fn native(code: RDKafkaErrorCode) -> Native {
        Native::MessageProduction(code)
    }

    #[test]
    fn a_repeated_batch_has_no_offsets_and_the_next_one_has() {
        let offsets = Offsets::default();
        assert_eq!(offsets.real("a", 0, 7), Some(7));
        // Three records that the broker had already, of an empty partition; another partition goes on meanwhile.
        for counted in [-1, 0, 1] {
            assert_eq!(offsets.real("a", 1, counted), None);
            assert_eq!(
                offsets.real("a", 0, 8 + counted),
                u64::try_from(8 + counted).ok()
            );
        }
        // The next batch begins behind them: 3 at the least.
        assert_eq!(offsets.real("a", 1, 3), Some(3));
        assert_eq!(offsets.real("a", 1, 4), Some(4));
        // Twice in a row, then one that is new.
        for counted in [-1, 0, -1, 0, 1] {
            assert_eq!(offsets.real("b", 1, counted), None);
        }
        assert_eq!(offsets.real("b", 1, 5), Some(5));
        assert!(!offsets.any.load(Ordering::Relaxed));
    }

    #[test]
    fn what_may_have_been_appended_is_unknown_and_what_was_not_is_refused() {
        use RDKafkaErrorCode as Code;
        for code in [
            Code::MessageTimedOut,
            Code::RequestTimedOut,
            Code::NotEnoughReplicasAfterAppend,
            Code::PurgeInflight,
            Code::BrokerTransportFailure,
            Code::OutOfOrderSequenceNumber,
        ] {
            let got = outcome(&native(code));
            assert!(matches!(got, ProduceError::Unknown { .. }), "{code}");
        }
        for code in [
            Code::PurgeQueue,
            Code::MessageSizeTooLarge,
            Code::InvalidTimestamp,
            Code::TopicAuthorizationFailed,
        ] {
            let got = outcome(&native(code));
            assert!(matches!(got, ProduceError::Refused { .. }), "{code}");
        }
        let full = not_taken(&native(Code::QueueFull));
        assert_eq!(full, refused("the queue to Kafka is full", FULL_RETRY_MS));
    }

    #[test]
    fn giving_up_answers_the_late_ones_once_and_in_order() {
        let (sender, told) = channel();
        let done: Arc<dyn Appended> = Arc::new(Told(Mutex::new(sender)));
        let waiting = Waiting::default();
        for tag in 0..3 {
            let pending = Arc::new(Pending {
                tag,
                done: Arc::clone(&done),
                since: Instant::now(),
                answered: AtomicBool::new(false),
            });
            waiting.lock().push_back(pending);
        }
        let first = Arc::clone(&waiting.lock()[0]);
        first.answer(Ok(Some(9)));
        assert_eq!(told.recv().expect("an outcome"), (0, Ok(Some(9))));
        assert!(waiting.oldest().is_some(), "the second waits");
        assert_eq!(waiting.lock().len(), 2, "the answered one has left");
        waiting.give_up(Duration::from_secs(3_600));
        assert_eq!(waiting.lock().len(), 2, "not late");
        waiting.give_up(Duration::ZERO);
        for tag in 1..3 {
            let (got, outcome) = told.recv().expect("an outcome");
            assert_eq!(got, tag);
            assert!(matches!(outcome, Err(ProduceError::Unknown { .. })));
        }
        first.answer(Ok(Some(10)));
        assert!(told.try_recv().is_err(), "one outcome each");
        assert_eq!(waiting.oldest(), None);
    }
}
