//! The client for metadata, watermarks and administration, and what it asks of brokers.

use super::config::KafkaConfig;
use super::context::Context;
use super::error::KafkaError;
use super::health::{Health, Refusal};
use super::live::serve;
use super::produce::{client_error, number};
use rdkafka::TopicPartitionList;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigSource, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::Metadata;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, error::KafkaError as Native};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// Bound of one question to a broker that may be the wrong one.
const ATTEMPT: Duration = Duration::from_secs(1);
const UNKNOWN: RDKafkaRespErr = RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
/// How often a start that waits says so.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// A topic that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) partitions: u32,
    pub(super) replication: u16,
    pub(super) settings: Vec<(String, String)>,
}

/// One setting of a topic, as a broker tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) key: String,
    pub(super) value: String,
    /// Set on the topic itself, not a default.
    pub(super) own: bool,
}

/// See above. Administration proper has a client of its own, made when it is needed: nobody would serve its events.
pub(super) struct Admin {
    consumer: BaseConsumer<Context>,
    config: KafkaConfig,
    context: Context,
}

impl Admin {
    pub(super) fn new(config: &KafkaConfig, context: &Context) -> Result<Self, KafkaError> {
        let client = config.asking_consumer();
        let consumer = BaseConsumer::from_config_and_context(&client, context.clone());
        Ok(Self {
            consumer: consumer.map_err(|error| client_error(&error))?,
            config: config.clone(),
            context: context.clone(),
        })
    }

    fn health(&self) -> &Health {
        &self.context.health
    }

    /// Serves log lines and errors.
    pub(super) fn serve(&self) {
        serve(&self.consumer);
    }

    /// Whether a broker answers within this time.
    pub(super) fn answers(&self, topic: &str, within: Duration) -> bool {
        let metadata = self.consumer.fetch_metadata(Some(topic), within);
        metadata.is_ok_and(|m| !m.brokers().is_empty())
    }

    /// Whether a broker says that there is no such topic.
    pub(super) fn is_missing(&self, topic: &str) -> bool {
        let metadata = self.consumer.fetch_metadata(Some(topic), ATTEMPT);
        metadata.is_ok_and(|metadata| {
            let found = metadata.topics().iter().find(|t| t.name() == topic);
            found.is_some_and(|t| t.error() == Some(UNKNOWN))
        })
    }

    /// Waits for the first answer of a broker, up to `open_timeout`.
    pub(super) fn reach(&self) -> Result<Metadata, KafkaError> {
        let (began, config) = (Instant::now(), &self.config);
        let patience = config.open_timeout.max(config.call_timeout);
        let mut said = Instant::now();
        loop {
            let left = patience.saturating_sub(began.elapsed());
            let answer = self
                .consumer
                .fetch_metadata(None, left.clamp(ATTEMPT / 4, ATTEMPT));
            self.serve();
            let reason = match answer {
                Ok(metadata) => return Ok(metadata),
                Err(error) => self.health().complaint().unwrap_or(error.to_string()),
            };
            if let Some((refusal, reason)) = self.health().refused() {
                let brokers = config.brokers.clone();
                return Err(match refusal {
                    Refusal::Credentials => KafkaError::Credentials { brokers, reason },
                    Refusal::Certificate => KafkaError::Certificate { brokers, reason },
                });
            }
            if began.elapsed() >= patience {
                let brokers = config.brokers.clone();
                return Err(KafkaError::Unreachable { brokers, reason });
            }
            if said.elapsed() >= SAY_EVERY {
                said = Instant::now();
                tracing::warn!(
                    brokers = config.brokers,
                    reason,
                    waited_s = began.elapsed().as_secs(),
                    of_s = patience.as_secs(),
                    "no Kafka broker answers: waiting; the brokers are log.bootstrap"
                );
            }
        }
    }

    pub(super) fn metadata(&self) -> Result<Metadata, KafkaError> {
        let metadata = self.consumer.fetch_metadata(None, self.config.call_timeout);
        metadata.map_err(|error| self.unreachable(error.to_string()))
    }

    pub(super) fn unreachable(&self, reason: String) -> KafkaError {
        KafkaError::Unreachable {
            brokers: self.config.brokers.clone(),
            reason,
        }
    }

    /// (low, high) of a partition. Where its leader has changed, the new one is asked.
    pub(super) fn watermarks(&self, topic: &str, partition: i32) -> Result<(u64, u64), String> {
        let found = self.patiently(topic, || {
            self.consumer.fetch_watermarks(topic, partition, ATTEMPT)
        })?;
        Ok((offset(found.0), offset(found.1)))
    }

    /// The ends of all partitions: one request to each leader.
    pub(super) fn ends(&self, topic: &str, partitions: u32) -> Result<Vec<u64>, String> {
        self.patiently(topic, || {
            let mut list = TopicPartitionList::with_capacity(partitions as usize);
            for partition in 0..partitions {
                list.add_partition_offset(topic, number(partition), Offset::End)?;
            }
            let answer = self.consumer.offsets_for_times(list, ATTEMPT)?;
            let mut ends = vec![0; partitions as usize];
            for element in answer.elements() {
                element.error()?;
                let at = usize::try_from(element.partition()).unwrap_or(usize::MAX);
                match (ends.get_mut(at), element.offset()) {
                    (Some(end), Offset::Offset(found)) => *end = offset(found),
                    _ => return Err(Native::OffsetFetch(RDKafkaErrorCode::NoOffset)),
                }
            }
            Ok(ends)
        })
    }

    /// Asks until `call_timeout`; librdkafka does not look for a new leader by itself here.
    fn patiently<T>(&self, topic: &str, ask: impl Fn() -> Result<T, Native>) -> Result<T, String> {
        let until = Instant::now() + self.config.call_timeout;
        loop {
            match ask() {
                Ok(value) => return Ok(value),
                Err(error) if Instant::now() >= until => return Err(error.to_string()),
                Err(_) => {
                    let _ = self.consumer.fetch_metadata(Some(topic), ATTEMPT);
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }
    }

    fn tool(&self) -> Result<AdminClient<Context>, Native> {
        AdminClient::from_config_and_context(&self.config.admin(), self.context.clone())
    }

    fn options(&self) -> AdminOptions {
        AdminOptions::new()
            .request_timeout(Some(self.config.call_timeout))
            .operation_timeout(Some(self.config.call_timeout))
    }

    /// Makes topics; that one is there already is no error.
    pub(super) fn create(&self, wanted: &[Wanted]) -> Result<(), KafkaError> {
        let new: Vec<NewTopic<'_>> = wanted
            .iter()
            .map(|topic| {
                let copies = TopicReplication::Fixed(i32::from(topic.replication));
                let new = NewTopic::new(&topic.name, number(topic.partitions), copies);
                let settings = topic.settings.iter();
                settings.fold(new, |t, (key, value)| t.set(key, value))
            })
            .collect();
        let failed = |name: &str, reason: String| KafkaError::Create {
            name: name.to_owned(),
            reason,
        };
        let first = wanted.first().map_or("", |topic| &topic.name);
        let client = self.tool();
        let client = client.map_err(|error| failed(first, error.to_string()))?;
        let made = wait(client.create_topics(&new, &self.options()));
        for outcome in made.map_err(|error| failed(first, error.to_string()))? {
            match outcome {
                Ok(name) => tracing::info!(topic = name, "the Kafka topic was made"),
                // Another node was faster.
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((name, RDKafkaErrorCode::InvalidReplicationFactor)) => {
                    let copies = wanted.iter().find(|topic| topic.name == name);
                    let reason = format!(
                        "there are fewer than {} brokers: start more, or lower replication (and min_insync)",
                        copies.map_or(0, |topic| topic.replication)
                    );
                    return Err(failed(&name, reason));
                }
                Err((name, code)) => return Err(failed(&name, code.to_string())),
            }
        }
        Ok(())
    }

    /// The settings in effect, for each topic in turn.
    pub(super) fn settings(&self, topics: &[&str]) -> Result<Vec<Vec<Setting>>, String> {
        let wanted: Vec<ResourceSpecifier<'_>> = topics
            .iter()
            .map(|name| ResourceSpecifier::Topic(name))
            .collect();
        let client = self.tool().map_err(|error| error.to_string())?;
        let answers = wait(client.describe_configs(&wanted, &self.options()));
        let answers = answers.map_err(|error| error.to_string())?;
        let told = topics.iter().zip(answers).map(|(name, answer)| {
            let answer = answer.map_err(|code| format!("{name}: {code}"))?;
            let entries = answer.entries.into_iter();
            Ok(entries
                .filter_map(|entry| {
                    Some(Setting {
                        key: entry.name,
                        value: entry.value?,
                        own: entry.source == ConfigSource::DynamicTopic,
                    })
                })
                .collect())
        });
        told.collect()
    }

    /// Changes settings of one topic; its other own settings stay (the brokers' call replaces all).
    pub(super) fn alter(&self, topic: &str, changes: &[(&str, &str)]) -> Result<(), String> {
        let now = self.settings(&[topic])?.pop().unwrap_or_default();
        let kept = now.iter().filter(|setting| setting.own);
        let all = kept.map(|setting| (&*setting.key, &*setting.value));
        let altered = AlterConfig::new(ResourceSpecifier::Topic(topic));
        let altered = all
            .chain(changes.iter().copied())
            .fold(altered, |to, (key, value)| to.set(key, value));
        let client = self.tool().map_err(|error| error.to_string())?;
        let answers = wait(client.alter_configs([&altered], &self.options()));
        for answer in answers.map_err(|error| error.to_string())? {
            answer.map_err(|(_, code)| code.to_string())?;
        }
        Ok(())
    }
}

fn offset(at: i64) -> u64 {
    u64::try_from(at).unwrap_or(0)
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for an administrative call on this thread; each has a time-out of its own.
fn wait<T>(call: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = std::task::Context::from_waker(&waker);
    let mut call = pin!(call);
    loop {
        match call.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}
