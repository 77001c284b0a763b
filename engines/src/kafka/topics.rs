//! Topics: which exist, with which partitions and generation; made when they are missing; judged.

use super::config::{KafkaConfig, MESSAGE_BYTES_MAX};
use super::context::Context;
use super::error::KafkaError;
use super::produce::client_error;
use super::safety::{Described, Unsafe, judge};
use crate::log::Topic;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::Metadata;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// One topic as it is used until the node ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TopicState {
    pub(super) name: String,
    pub(super) partitions: u32,
    pub(super) generation: u16,
}

/// All topics, in the order of [`Topic::ALL`].
#[derive(Debug, Clone)]
pub(super) struct Topics(Vec<TopicState>);

impl Topics {
    pub(super) fn of(&self, topic: Topic) -> &TopicState {
        let at = Topic::ALL.iter().position(|t| *t == topic);
        // ALL has every topic: a test of the port says so.
        &self.0[at.unwrap_or(0)]
    }
}

/// The name of a generation of a topic: the first has the topic's own name, later ones end in `-g2`...
/// An operator who restores or repartitions a topic makes the next one, and starts the nodes anew.
fn name(prefix: &str, topic: Topic, generation: u16) -> String {
    match generation {
        1 => format!("{prefix}{}", topic.name()),
        _ => format!("{prefix}{}-g{generation}", topic.name()),
    }
}

/// Which generation of the topic a name is, if it is one.
fn generation(prefix: &str, topic: Topic, found: &str) -> Option<u16> {
    let rest = found.strip_prefix(prefix)?.strip_prefix(topic.name())?;
    if rest.is_empty() {
        return Some(1);
    }
    let number = rest.strip_prefix("-g")?;
    let generation: u16 = number.parse().ok()?;
    (generation >= 2 && generation.to_string() == number).then_some(generation)
}

/// The newest generation of a topic among these names.
fn newest<'a>(
    prefix: &str,
    topic: Topic,
    names: impl Iterator<Item = &'a str>,
) -> Option<(u16, String)> {
    names
        .filter_map(|found| Some((generation(prefix, topic, found)?, found.to_owned())))
        .max()
}

/// Bound of one question to a broker that may be the wrong one.
const ATTEMPT: Duration = Duration::from_secs(1);

/// The client for metadata, watermarks and administration.
pub(super) struct Admin {
    client: AdminClient<Context>,
    timeout: Duration,
}

impl Admin {
    pub(super) fn new(config: &KafkaConfig, context: Context) -> Result<Self, KafkaError> {
        let client = AdminClient::from_config_and_context(&config.admin(), context);
        Ok(Self {
            client: client.map_err(|error| client_error(&error))?,
            timeout: config.call_timeout,
        })
    }

    /// Whether a broker answers within this time.
    pub(super) fn answers(&self, topic: &str, within: Duration) -> bool {
        let metadata = self.client.inner().fetch_metadata(Some(topic), within);
        metadata.is_ok_and(|m| !m.brokers().is_empty())
    }

    /// (low, high) of a partition. Where its leader has changed, the new one is asked.
    pub(super) fn watermarks(&self, topic: &str, partition: i32) -> Result<(u64, u64), String> {
        let until = Instant::now() + self.timeout;
        let client = self.client.inner();
        loop {
            match client.fetch_watermarks(topic, partition, ATTEMPT) {
                Ok((low, high)) => {
                    let offset = |at: i64| u64::try_from(at).unwrap_or(0);
                    return Ok((offset(low), offset(high)));
                }
                Err(error) if Instant::now() >= until => return Err(error.to_string()),
                Err(_) => {
                    // librdkafka does not look for a new leader by itself here.
                    let _ = client.fetch_metadata(Some(topic), ATTEMPT);
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }
    }

    fn options(&self) -> AdminOptions {
        AdminOptions::new()
            .request_timeout(Some(self.timeout))
            .operation_timeout(Some(self.timeout))
    }

    fn metadata(&self, config: &KafkaConfig) -> Result<Metadata, KafkaError> {
        let metadata = self.client.inner().fetch_metadata(None, self.timeout);
        metadata.map_err(|error| KafkaError::Unreachable {
            brokers: config.brokers.clone(),
            reason: error.to_string(),
        })
    }

    /// Finds the topics, makes those that are missing, and judges all.
    pub(super) fn prepare(&self, config: &KafkaConfig) -> Result<Topics, KafkaError> {
        let until = Instant::now() + self.timeout;
        let mut metadata = self.metadata(config)?;
        let missing = missing(config, &metadata);
        if !missing.is_empty() {
            if !config.create_topics {
                let name = name(&config.prefix, missing[0], 1);
                return Err(KafkaError::NoTopic { name });
            }
            // Before they are made, and whatever a broker that is late says of them afterwards.
            let planned: Vec<Described> = missing.iter().map(|t| plan(config, *t)).collect();
            check_safety(config, &planned)?;
            self.create(config, &missing)?;
        }
        // A new topic takes a moment to be known by every broker and to have its leaders.
        loop {
            match topics(config, &metadata) {
                Some(topics) => {
                    check_shape(&topics)?;
                    let found = self.describe(&topics, &metadata);
                    let found = found.map_err(|reason| KafkaError::Unreachable {
                        brokers: config.brokers.clone(),
                        reason,
                    })?;
                    check_safety(config, &found)?;
                    return Ok(topics);
                }
                None if Instant::now() < until => std::thread::sleep(Duration::from_millis(50)),
                None => {
                    return Err(KafkaError::Unreachable {
                        brokers: config.brokers.clone(),
                        reason: "a topic has partitions without a leader".to_owned(),
                    });
                }
            }
            metadata = self.metadata(config)?;
        }
    }

    fn create(&self, config: &KafkaConfig, missing: &[Topic]) -> Result<(), KafkaError> {
        let wanted: Vec<(String, Vec<(&str, String)>)> = missing
            .iter()
            .map(|topic| (name(&config.prefix, *topic, 1), settings(config, *topic)))
            .collect();
        let new: Vec<NewTopic<'_>> = wanted
            .iter()
            .map(|(name, settings)| {
                let partitions = i32::try_from(config.partitions).unwrap_or(i32::MAX);
                let copies = TopicReplication::Fixed(i32::from(config.replication));
                let topic = NewTopic::new(name, partitions, copies);
                settings
                    .iter()
                    .fold(topic, |t, (key, value)| t.set(key, value))
            })
            .collect();
        let made = wait(self.client.create_topics(&new, &self.options()));
        let made = made.map_err(|error| KafkaError::Create {
            name: wanted[0].0.clone(),
            reason: error.to_string(),
        })?;
        for outcome in made {
            match outcome {
                Ok(name) => tracing::info!(topic = name, "the Kafka topic was made"),
                // Another node was faster.
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((name, RDKafkaErrorCode::InvalidReplicationFactor)) => {
                    let reason = format!(
                        "there are fewer than {} brokers: start more, or lower replication (and min_insync)",
                        config.replication
                    );
                    return Err(KafkaError::Create { name, reason });
                }
                Err((name, code)) => {
                    let reason = code.to_string();
                    return Err(KafkaError::Create { name, reason });
                }
            }
        }
        Ok(())
    }

    fn describe(&self, topics: &Topics, metadata: &Metadata) -> Result<Vec<Described>, String> {
        let wanted: Vec<ResourceSpecifier<'_>> = topics
            .0
            .iter()
            .map(|topic| ResourceSpecifier::Topic(&topic.name))
            .collect();
        let answers = wait(self.client.describe_configs(&wanted, &self.options()));
        let answers = answers.map_err(|error| error.to_string())?;
        let mut described = Vec::new();
        for ((topic, state), answer) in Topic::ALL.iter().zip(&topics.0).zip(answers) {
            let answer = answer.map_err(|code| format!("{}: {code}", state.name))?;
            let settings = answer.entries.into_iter();
            described.push(Described {
                name: state.name.clone(),
                planned: false,
                ephemeral: topic.ephemeral(),
                replicas: replicas(metadata, &state.name),
                settings: settings
                    .filter_map(|entry| Some((entry.name, entry.value?)))
                    .collect(),
            });
        }
        Ok(described)
    }
}

/// A topic as [`Admin::create`] makes it.
fn plan(config: &KafkaConfig, topic: Topic) -> Described {
    let settings = settings(config, topic).into_iter();
    Described {
        name: name(&config.prefix, topic, 1),
        planned: true,
        ephemeral: topic.ephemeral(),
        replicas: usize::from(config.replication),
        settings: settings
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
    }
}

/// Refuses what is unsafe, or says it where it is allowed.
fn check_safety(config: &KafkaConfig, topics: &[Described]) -> Result<(), KafkaError> {
    let faults: Vec<Unsafe> = topics.iter().flat_map(judge).collect();
    if faults.is_empty() {
        return Ok(());
    }
    if !config.allow_unsafe {
        return Err(KafkaError::Unsafe(faults));
    }
    // What is about to be made is described once more when it is there.
    for fault in faults.iter().filter(|_| topics.iter().all(|t| !t.planned)) {
        let (topic, setting, found) = (&fault.topic, fault.setting, &fault.found);
        tracing::warn!(
            topic,
            setting,
            found,
            why = fault.why,
            "unsafe, and allowed"
        );
    }
    Ok(())
}

fn replicas(metadata: &Metadata, name: &str) -> usize {
    let topic = metadata.topics().iter().find(|t| t.name() == name);
    let copies = topic.map(|t| t.partitions().iter().map(|p| p.replicas().len()));
    copies.and_then(Iterator::min).unwrap_or(0)
}

fn names(metadata: &Metadata) -> impl Iterator<Item = &str> + Clone {
    metadata
        .topics()
        .iter()
        .filter(|topic| topic.error().is_none())
        .map(|topic| topic.name())
}

fn missing(config: &KafkaConfig, metadata: &Metadata) -> Vec<Topic> {
    let found = names(metadata);
    Topic::ALL
        .iter()
        .copied()
        .filter(|topic| newest(&config.prefix, *topic, found.clone()).is_none())
        .collect()
}

/// All topics, once each exists and every partition has a leader.
fn topics(config: &KafkaConfig, metadata: &Metadata) -> Option<Topics> {
    let found = names(metadata);
    let states = Topic::ALL.iter().map(|topic| {
        let (generation, name) = newest(&config.prefix, *topic, found.clone())?;
        let shape = metadata.topics().iter().find(|t| t.name() == name)?;
        let led = shape.partitions().iter().all(|p| p.leader() >= 0);
        let partitions = u32::try_from(shape.partitions().len()).ok()?;
        (led && partitions > 0).then_some(TopicState {
            name,
            partitions,
            generation,
        })
    });
    states.collect::<Option<Vec<_>>>().map(Topics)
}

fn check_shape(topics: &Topics) -> Result<(), KafkaError> {
    let fail = |state: &TopicState, rule: String| {
        Err(KafkaError::Partitions {
            name: state.name.clone(),
            found: state.partitions,
            rule,
        })
    };
    for state in &topics.0 {
        if !state.partitions.is_power_of_two() {
            let rule = "it must be a power of two; make the topic's next generation with one";
            return fail(state, rule.to_owned());
        }
    }
    let delivery = topics.of(Topic::Delivery);
    for topic in [Topic::Cursors, Topic::ChatTyping, Topic::ChatPresence] {
        let state = topics.of(topic);
        if state.partitions != delivery.partitions {
            let rule = format!(
                "it must have as many as {} ({})",
                delivery.name, delivery.partitions
            );
            return fail(state, rule);
        }
    }
    Ok(())
}

/// Settings of a topic that is made here: explicit, whatever the brokers' defaults are.
fn settings(config: &KafkaConfig, topic: Topic) -> Vec<(&'static str, String)> {
    let retention = config.retention(topic);
    let bound = |value: u64| i64::try_from(value).unwrap_or(-1).to_string();
    let mut settings = vec![
        ("cleanup.policy", "delete".to_owned()),
        ("message.timestamp.type", "CreateTime".to_owned()),
        // A sender's clock that is an hour off does not refuse its messages: it is clamped where it is used.
        ("message.timestamp.after.max.ms", i64::MAX.to_string()),
        ("message.timestamp.before.max.ms", i64::MAX.to_string()),
        ("unclean.leader.election.enable", "false".to_owned()),
        ("min.insync.replicas", config.min_insync.to_string()),
        ("max.message.bytes", MESSAGE_BYTES_MAX.to_string()),
        ("compression.type", "producer".to_owned()),
        ("retention.ms", bound(retention.time_ms)),
        ("retention.bytes", bound(retention.bytes)),
    ];
    if topic.ephemeral() {
        // Retention removes whole segments only.
        settings.push(("segment.ms", "60000".to_owned()));
        settings.push(("segment.bytes", (8 << 20).to_string()));
    }
    settings
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_first_generation_has_the_topics_own_name_and_later_ones_say_which() {
        assert_eq!(name("", Topic::Delivery, 1), "delivery");
        assert_eq!(name("eu.", Topic::Delivery, 3), "eu.delivery-g3");
        for generation in [1, 2, 65_535] {
            let text = name("eu.", Topic::ChatMessages, generation);
            assert_eq!(
                super::generation("eu.", Topic::ChatMessages, &text),
                Some(generation)
            );
        }
    }

    #[test]
    fn other_names_are_no_generation() {
        for other in [
            "chat-messages",
            "x.delivery",
            "delivery-g",
            "delivery-g1",
            "delivery-g02",
            "delivery-g70000",
            "delivery-g2x",
            "delivery2",
            "",
        ] {
            assert_eq!(generation("", Topic::Delivery, other), None, "{other}");
        }
    }

    #[test]
    fn the_newest_generation_counts_by_number() {
        let names = ["delivery", "delivery-g2", "delivery-g10", "delivery-g9"];
        let found = newest("", Topic::Delivery, names.into_iter());
        assert_eq!(found, Some((10, "delivery-g10".to_owned())));
        assert_eq!(newest("x", Topic::Delivery, names.into_iter()), None);
    }

    #[test]
    fn shapes_that_cannot_work_are_named() {
        let make = |typing| {
            let of = |topic: &Topic| TopicState {
                name: topic.name().to_owned(),
                partitions: if *topic == Topic::ChatTyping {
                    typing
                } else {
                    8
                },
                generation: 1,
            };
            Topics(Topic::ALL.iter().map(of).collect())
        };
        assert_eq!(check_shape(&make(8)), Ok(()));
        let odd = check_shape(&make(12)).expect_err("12").to_string();
        assert!(
            odd.contains("chat-typing") && odd.contains("power of two"),
            "{odd}"
        );
        let other = check_shape(&make(4)).expect_err("4").to_string();
        assert!(other.contains("as many as delivery (8)"), "{other}");
    }

    #[test]
    fn endless_retention_is_minus_one() {
        let mut config = KafkaConfig::new("b:1");
        config.delivery.bytes = u64::MAX;
        let settings: BTreeMap<_, _> = settings(&config, Topic::Delivery).into_iter().collect();
        assert_eq!(settings["retention.bytes"], "-1");
        assert_eq!(settings["retention.ms"], "86400000");
        assert_eq!(settings["min.insync.replicas"], "2");
    }
}
