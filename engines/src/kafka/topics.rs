//! Topics: which exist, with which partitions and generation; made when they are missing; judged.

use super::admin::{Admin, Wanted};
use super::clients::MESSAGE_BYTES_MAX;
use super::config::KafkaConfig;
use super::context::Context;
use super::error::KafkaError;
use super::leases::Leases;
use super::marks::{LAYOUT, Marks, PastMark};
use super::names::{generation, name, newest};
use super::safety::{Described, Unsafe, judge};
use super::switch::GROWING;
use crate::log::Topic;
use rdkafka::metadata::Metadata;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// One topic as it is used until its next generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TopicState {
    pub(super) name: Arc<str>,
    pub(super) partitions: u32,
    pub(super) generation: u16,
    /// It is fenced, and the next generation does not count yet: appends are refused.
    pub(super) fenced: bool,
    /// Added to the offsets that Kafka says.
    pub(super) base: u64,
    /// What it continues.
    pub(super) past: Option<Arc<PastTopic>>,
}

/// The generation before one that continues it: fenced for good, and read as long as it exists.
#[derive(Debug)]
pub(super) struct PastTopic {
    pub(super) name: Arc<str>,
    pub(super) generation: u16,
    pub(super) partitions: u32,
    pub(super) base: u64,
    /// Where its partitions end, base included, once asked.
    pub(super) ends: OnceLock<Vec<u64>>,
    /// It was deleted.
    pub(super) gone: AtomicBool,
}

impl PartialEq for PastTopic {
    fn eq(&self, other: &Self) -> bool {
        let of = |past: &Self| (past.generation, past.partitions, past.base);
        self.name == other.name && of(self) == of(other)
    }
}

impl Eq for PastTopic {}

/// The topic whose mark says which generation of a topic counts.
pub(super) fn led_by(topic: Topic) -> Topic {
    match Topic::WITH_DELIVERY.contains(&topic) {
        true => Topic::Delivery,
        false => topic,
    }
}

/// All topics, in the order of [`Topic::ALL`].
pub(super) type Topics = Vec<TopicState>;

/// Place of a topic in [`Topics`].
pub(super) fn place(topic: Topic) -> usize {
    let at = Topic::ALL.iter().position(|t| *t == topic);
    // ALL has every topic: a test of the port says so.
    at.unwrap_or(0)
}

/// What opening finds.
pub(super) struct Found {
    pub(super) topics: Topics,
    pub(super) leases: Leases,
}

/// Finds the topics, makes those that are missing, and judges all.
pub(super) fn prepare(
    admin: &Admin,
    config: &KafkaConfig,
    context: &Context,
) -> Result<Found, KafkaError> {
    let mut metadata = admin.reach()?;
    let until = Instant::now() + config.call_timeout * 3;
    // Before anything is made: the prefix may be somebody else's.
    let mut leases = leases(admin, config, context, &metadata)?;
    let missing = missing(config, &metadata);
    if !missing.is_empty() {
        if !config.create_topics {
            let name = name(&config.prefix, missing[0], 1);
            return Err(KafkaError::NoTopic { name });
        }
        // Before they are made, and whatever a broker that is late says of them afterwards.
        let planned: Vec<Described> = missing.iter().map(|t| plan(config, *t)).collect();
        check_safety(config, &planned)?;
        let wanted: Vec<Wanted> = missing.iter().map(|t| wanted(config, *t, 1)).collect();
        admin.create(&wanted)?;
    }
    // A new topic takes a moment to be known by every broker and to have its leaders.
    loop {
        if leases.is_none() {
            leases = self::leases(admin, config, context, &metadata)?;
        }
        let marks = leases.as_ref().map(|l| l.marks().clone());
        let topics = marks.and_then(|marks| topics(config, &metadata, &marks));
        if let (Some(topics), Some(_)) = (&topics, &leases) {
            check_shape(config, topics)?;
            let described = describe(admin, topics, &metadata);
            check_safety(config, &described.map_err(|r| admin.unreachable(r))?)?;
        }
        match (topics, leases.take()) {
            (Some(topics), Some(leases)) => return Ok(Found { topics, leases }),
            (_, found) => leases = found,
        }
        if Instant::now() >= until {
            let reason = "a topic has partitions without a leader";
            return Err(admin.unreachable(reason.to_owned()));
        }
        std::thread::sleep(Duration::from_millis(50));
        metadata = admin.metadata()?;
    }
}

/// Reads the `leases` topic, once it has a leader, and compares whose the topics are.
fn leases(
    admin: &Admin,
    config: &KafkaConfig,
    context: &Context,
    metadata: &Metadata,
) -> Result<Option<Leases>, KafkaError> {
    let name = name(&config.prefix, Topic::Leases, 1);
    let found = metadata.topics().iter().find(|t| t.name() == name);
    let led = |t: &&rdkafka::metadata::MetadataTopic| {
        t.error().is_none() && t.partitions().iter().any(|p| p.leader() >= 0)
    };
    if found.filter(led).is_none() {
        return Ok(None);
    }
    let leases = Leases::new(config, context, &name).and_then(|mut leases| {
        leases.catch_up(config.call_timeout * 3)?;
        Ok(leases)
    });
    let leases = leases.map_err(|error| admin.unreachable(format!("{name}: {error}")))?;
    check_cluster(config, leases.marks())?;
    Ok(Some(leases))
}

/// Refuses the topics of another cluster, and those of a newer version.
pub(super) fn check_cluster(config: &KafkaConfig, marks: &Marks) -> Result<(), KafkaError> {
    match &marks.cluster {
        Some(mark) if mark.layout > LAYOUT => Err(KafkaError::Newer {
            prefix: config.prefix.clone(),
            found: mark.layout,
            known: LAYOUT,
        }),
        Some(mark) if mark.name != config.cluster => Err(KafkaError::OtherCluster {
            prefix: config.prefix.clone(),
            found: mark.name.clone(),
            id: mark.id.clone(),
            configured: config.cluster.clone(),
        }),
        _ => Ok(()),
    }
}

fn describe(
    admin: &Admin,
    topics: &[TopicState],
    metadata: &Metadata,
) -> Result<Vec<Described>, String> {
    let names: Vec<&str> = topics.iter().map(|topic| &*topic.name).collect();
    let settings = admin.settings(&names)?;
    let all = Topic::ALL.iter().zip(topics).zip(settings);
    Ok(all
        .map(|((topic, state), settings)| Described {
            name: state.name.to_string(),
            planned: false,
            fenced: state.fenced,
            kind: *topic,
            replicas: replicas(metadata, &state.name),
            settings: settings.into_iter().map(|s| (s.key, s.value)).collect(),
        })
        .collect())
}

/// A topic as it is to be made.
pub(super) fn wanted(config: &KafkaConfig, topic: Topic, generation: u16) -> Wanted {
    Wanted {
        name: name(&config.prefix, topic, generation),
        partitions: partitions(config, topic),
        replication: config.replication,
        settings: settings(config, topic)
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
    }
}

/// Lanes of bodies at most: nodes beyond share them, which costs bandwidth alone.
const BODY_LANES_MAX: u32 = 16;

/// Records of `leases` are compared with one another: they are in one partition.
fn partitions(config: &KafkaConfig, topic: Topic) -> u32 {
    match topic {
        Topic::Leases => 1,
        Topic::Bodies => config.partitions.min(BODY_LANES_MAX),
        _ => config.partitions,
    }
}

/// The same, as it is judged.
fn plan(config: &KafkaConfig, topic: Topic) -> Described {
    let settings = settings(config, topic).into_iter();
    Described {
        name: name(&config.prefix, topic, 1),
        planned: true,
        fenced: false,
        kind: topic,
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
fn topics(config: &KafkaConfig, metadata: &Metadata, marks: &Marks) -> Option<Topics> {
    let states = Topic::ALL
        .iter()
        .map(|topic| current(config, metadata, marks, *topic));
    states.collect()
}

/// The generation that counts: the newest that exists, but for one that is still being made.
pub(super) fn current(
    config: &KafkaConfig,
    metadata: &Metadata,
    marks: &Marks,
    topic: Topic,
) -> Option<TopicState> {
    let leads = led_by(topic) == topic;
    let mark = marks.of(led_by(topic).name());
    let making = mark.filter(|mark| mark.next.is_some());
    let (generation, name) = match making {
        Some(mark) if leads => {
            let name = name(&config.prefix, topic, mark.generation);
            (mark.generation, name)
        }
        Some(mark) => {
            let prefix = &config.prefix;
            let before = |found: &&str| {
                generation(prefix, topic, found).is_some_and(|g| g < mark.following())
            };
            newest(prefix, topic, names(metadata).filter(before))?
        }
        None => newest(&config.prefix, topic, names(metadata))?,
    };
    if mark.is_some_and(|mark| mark.generation > generation) {
        // The broker that was asked is behind.
        return None;
    }
    let shape = metadata.topics().iter().find(|t| t.name() == name)?;
    let led = shape.partitions().iter().all(|p| p.leader() >= 0);
    let partitions = u32::try_from(shape.partitions().len()).ok()?;
    // Of a generation that was made by hand since, the mark says nothing.
    let own = mark.filter(|mark| leads && mark.generation == generation);
    let past = own.and_then(|mark| past(config, metadata, topic, mark.past.as_ref()?));
    (led && partitions > 0).then_some(TopicState {
        name: name.into(),
        partitions,
        generation,
        fenced: leads && making.is_some_and(|m| m.next.as_ref().is_some_and(|n| n.fenced)),
        base: own.map_or(0, |mark| mark.base),
        past: past.map(Arc::new),
    })
}

/// The generation before, if its topic still exists as it was.
fn past(
    config: &KafkaConfig,
    metadata: &Metadata,
    topic: Topic,
    mark: &PastMark,
) -> Option<PastTopic> {
    let name = name(&config.prefix, topic, mark.generation);
    let found = metadata.topics().iter().find(|t| t.name() == name)?;
    let exists = found.error().is_none() && found.partitions().len() == mark.partitions as usize;
    (exists && mark.partitions.is_power_of_two()).then(|| PastTopic {
        name: name.into(),
        generation: mark.generation,
        partitions: mark.partitions,
        base: mark.base,
        ends: OnceLock::new(),
        gone: AtomicBool::new(false),
    })
}

/// Copies of the partition that has the fewest.
pub(super) fn replicas(metadata: &Metadata, name: &str) -> usize {
    let topic = metadata.topics().iter().find(|t| t.name() == name);
    let copies = topic.map(|t| t.partitions().iter().map(|p| p.replicas().len()));
    copies.and_then(Iterator::min).unwrap_or(0)
}

fn check_shape(config: &KafkaConfig, topics: &[TopicState]) -> Result<(), KafkaError> {
    let fail = |state: &TopicState, rule: String| {
        Err(KafkaError::Partitions {
            name: state.name.to_string(),
            found: state.partitions,
            rule,
        })
    };
    let delivery = &topics[place(Topic::Delivery)];
    for (topic, state) in Topic::ALL.iter().zip(topics) {
        if !state.partitions.is_power_of_two() {
            let rule = "it must be a power of two; make the topic's next generation with one";
            return fail(state, rule.to_owned());
        }
        if Topic::WITH_DELIVERY.contains(topic) && state.partitions != delivery.partitions {
            let rule = format!(
                "it must have as many as {} ({})",
                delivery.name, delivery.partitions
            );
            return fail(state, rule);
        }
        // Shards are read by slot, however many partitions there are.
        let grown =
            *topic == Topic::Shards || GROWING.contains(&led_by(*topic)) && state.generation > 1;
        if !grown && state.partitions != partitions(config, *topic) {
            return Err(KafkaError::PartitionCount {
                name: state.name.to_string(),
                found: state.partitions,
                configured: partitions(config, *topic),
            });
        }
    }
    Ok(())
}

/// A record stamped longer ago than this is refused by the brokers: half a century, which no sender's clock is
/// wrong by. It lets a fenced partition be told from one that is not, without a record in it (see `grow`).
pub(super) const PAST_MS_MAX: u64 = 50 * 365 * 24 * 3_600 * 1_000;

/// Settings of a topic that is made here: explicit, whatever the brokers' defaults are.
fn settings(config: &KafkaConfig, topic: Topic) -> Vec<(&'static str, String)> {
    let bound = |value: u64| i64::try_from(value).unwrap_or(-1).to_string();
    let mut settings = vec![
        ("message.timestamp.type", "CreateTime".to_owned()),
        // A sender's clock that is an hour off does not refuse its messages: it is clamped where it is used.
        ("message.timestamp.after.max.ms", i64::MAX.to_string()),
        ("message.timestamp.before.max.ms", PAST_MS_MAX.to_string()),
        ("unclean.leader.election.enable", "false".to_owned()),
        ("min.insync.replicas", config.min_insync.to_string()),
        ("max.message.bytes", MESSAGE_BYTES_MAX.to_string()),
        ("compression.type", "producer".to_owned()),
    ];
    if topic.compacted() {
        // The last record of a key counts, for ever.
        settings.push(("cleanup.policy", "compact".to_owned()));
        settings.push(("segment.bytes", (8 << 20).to_string()));
        settings.push(("segment.ms", "3600000".to_owned()));
        settings.push(("min.cleanable.dirty.ratio", "0.2".to_owned()));
        settings.push(("delete.retention.ms", "86400000".to_owned()));
        // Readers take records in their order: nothing is removed that one of them may not have read yet.
        settings.push(("min.compaction.lag.ms", "600000".to_owned()));
        return settings;
    }
    let retention = config.retention(topic);
    settings.push(("cleanup.policy", "delete".to_owned()));
    settings.push(("retention.ms", bound(retention.time_ms)));
    settings.push(("retention.bytes", bound(retention.bytes)));
    if topic.ephemeral() {
        // Retention removes whole segments only.
        settings.push(("segment.ms", "60000".to_owned()));
        settings.push(("segment.bytes", (8 << 20).to_string()));
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn found(typing: u32, messages: u32, generation: u16) -> Topics {
        let of = |topic: &Topic| TopicState {
            name: topic.name().into(),
            partitions: match topic {
                Topic::ChatTyping => typing,
                Topic::ChatMessages => messages,
                Topic::Leases => 1,
                _ => 8,
            },
            generation: match topic {
                Topic::ChatMessages => generation,
                _ => 1,
            },
            fenced: false,
            base: 0,
            past: None,
        };
        Topic::ALL.iter().map(of).collect()
    }

    fn configured(partitions: u32) -> KafkaConfig {
        let mut config = KafkaConfig::new("b:1");
        config.partitions = partitions;
        config
    }

    #[test]
    fn shapes_that_cannot_work_are_named() {
        let judged = |topics: Topics| check_shape(&configured(8), &topics);
        assert_eq!(judged(found(8, 8, 1)), Ok(()));
        let odd = judged(found(12, 8, 1)).expect_err("12").to_string();
        assert!(
            odd.contains("chat-typing") && odd.contains("power of two"),
            "{odd}"
        );
        let other = judged(found(4, 8, 1)).expect_err("4").to_string();
        assert!(other.contains("as many as delivery (8)"), "{other}");
    }

    #[test]
    fn another_count_than_the_configured_one_names_the_key_and_a_grown_topic_is_none() {
        let said = check_shape(&configured(16), &found(8, 8, 1)).expect_err("8 of 16");
        for part in ["chat-messages", "has 8", "log.partitions = 8", "grow"] {
            assert!(said.to_string().contains(part), "{said}");
        }
        assert_eq!(check_shape(&configured(8), &found(8, 32, 2)), Ok(()));
    }

    #[test]
    fn another_cluster_and_a_newer_layout_are_refused_with_the_key() {
        let marks = |name: &str, layout| {
            let mut marks = Marks::default();
            marks.cluster = Some(super::super::marks::ClusterMark {
                version: 1,
                layout,
                id: "abc".to_owned(),
                name: name.to_owned(),
            });
            check_cluster(&configured(8), &marks)
        };
        assert_eq!(marks("hawser", LAYOUT), Ok(()));
        let said = marks("east", LAYOUT).expect_err("another").to_string();
        for part in ["log.prefix", "log.cluster", "east", "abc"] {
            assert!(said.contains(part), "{said}");
        }
        let said = marks("hawser", LAYOUT + 1).expect_err("newer").to_string();
        assert!(
            said.contains("newer version") && said.contains("upgrade"),
            "{said}"
        );
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

    #[test]
    fn leases_and_shards_are_compacted_and_nothing_else_is() {
        let config = KafkaConfig::new("b:1");
        for topic in Topic::ALL {
            let wanted = wanted(&config, *topic, 1);
            let settings: BTreeMap<_, _> = wanted.settings.into_iter().collect();
            let policy = match topic {
                Topic::Leases | Topic::Shards => "compact",
                _ => "delete",
            };
            assert_eq!(settings["cleanup.policy"], *policy, "{}", topic.name());
            let one = *topic == Topic::Leases;
            assert_eq!(wanted.partitions == 1, one, "{}", topic.name());
        }
    }
}
