//! Configuration of the Kafka log: units, defaults, bounds, and what each costs.

use super::error::KafkaError;
use crate::log::Topic;
use std::str::FromStr;
use std::time::Duration;

/// How long records of a topic are kept, per partition; whichever bound is reached first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KafkaRetention {
    /// Milliseconds of CreateTime; `u64::MAX` is for ever.
    pub time_ms: u64,
    /// Bytes per partition; `u64::MAX` is no bound.
    pub bytes: u64,
}

/// How batches are compressed by the producer, kept so by brokers, and undone by consumers.
/// `docs/kafka.md` has what each costs and saves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all.
    None,
    /// LZ4: the default.
    #[default]
    Lz4,
    /// Zstandard: smaller, dearer.
    Zstd,
    /// Snappy.
    Snappy,
}

impl Compression {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::None, Self::Lz4, Self::Zstd, Self::Snappy];

    /// As Kafka and the configuration name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
            Self::Snappy => "snappy",
        }
    }
}

impl FromStr for Compression {
    type Err = KafkaError;

    fn from_str(text: &str) -> Result<Self, KafkaError> {
        let found = Self::ALL.iter().copied().find(|c| c.name() == text);
        found.ok_or(KafkaError::Setting {
            key: "compression",
            rule: "`none`, `lz4`, `zstd` or `snappy`",
        })
    }
}

const DAY_MS: u64 = 24 * 3_600 * 1_000;

/// Configuration of [`super::KafkaLog`].
#[derive(Debug, Clone)]
pub struct KafkaConfig {
    /// `host:port` of some brokers, separated by commas.
    pub brokers: String,
    /// Goes before every topic's and group's name. Default none.
    pub prefix: String,
    /// The operator's name of this cluster (`log.cluster`), kept in the `leases` topic: a prefix that is in use under
    /// another name refuses to start. Default `hawser`.
    pub cluster: String,
    /// Partitions of every topic but `leases` (which has one), a power of two from 1 to 65,536. Topics are made
    /// with it; topics that have another count refuse to start, but for a `chat-messages` that was grown.
    /// Default 16.
    pub partitions: u32,
    /// Copies of topics that are made here. Default 3.
    pub replication: u16,
    /// Copies that must have a record before it counts as durable (`min.insync.replicas`), for topics
    /// that are made here. Default 2.
    pub min_insync: u16,
    /// Makes topics that are missing. Default true; otherwise their absence refuses to start.
    pub create_topics: bool,
    /// Starts in spite of settings with which an acknowledged record may be lost, and says so. Default false.
    pub allow_unsafe: bool,
    /// `chat-messages`. Default 7 days.
    pub chat_messages: KafkaRetention,
    /// `delivery`. Default 24 h.
    pub delivery: KafkaRetention,
    /// `cursors`, `dead-letters`, `media-events`, `system-notifications`, `group-members`. Default 30 days.
    pub other: KafkaRetention,
    /// `audit-logs`. Default 400 days.
    pub audit: KafkaRetention,
    /// `chat-typing`, `chat-presence`, `bodies`. Default one minute.
    pub ephemeral: KafkaRetention,
    /// Records waiting for acknowledgement; more are refused. Default 65,536.
    pub queue_records_max: u32,
    /// Their bytes, KiB; more are refused. Default 65,536 (64 MiB).
    pub queue_kib_max: u32,
    /// How batches are compressed. Default lz4.
    pub compression: Compression,
    /// How long a record waits for company on its way to a broker, up to 1 s, beyond what it waits for those of its
    /// partition that are on their way. Default 0.5 ms.
    pub linger: Duration,
    /// A batch of one partition leaves at this size at the latest, KiB, from 1 to 1,024. Default 256.
    pub batch_kib: u32,
    /// A batch leaves with this many records at the latest, from 1 to 1,000,000. Default 10,000.
    pub batch_records_max: u32,
    /// How long a record is tried, failovers included, before its outcome is called unknown. Default 10 s.
    pub produce_timeout: Duration,
    /// While no broker answers, what waits longer than this is answered unknown, and what is new is
    /// refused at once. Default 0.6 s.
    pub down_timeout: Duration,
    /// Bytes fetched ahead per partition and reader, KiB. Default 1,024; a record of up to 1 MiB always fits.
    pub prefetch_kib: u32,
    /// Blocking reads (`Log::read`) at a time; more wait. Default 4; one costs a client of librdkafka.
    pub readers_max: usize,
    /// Bound of every blocking call to the brokers. Default 5 s.
    pub call_timeout: Duration,
    /// How long opening waits for brokers that do not answer; it says so every five seconds. Default zero: not
    /// beyond one `call_timeout`.
    pub open_timeout: Duration,
    /// Any other property of librdkafka, as it is named there (`security.protocol`, `sasl.username`, ...).
    /// The ones that this adapter sets are refused.
    pub properties: Vec<(String, String)>,
}

/// Properties that carry the adapter's guarantees: nobody may set them beside it.
const OURS: &[&str] = &[
    "acks",
    "request.required.acks",
    "enable.idempotence",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "auto.offset.reset",
    "bootstrap.servers",
    "metadata.broker.list",
    "group.id",
    "message.timeout.ms",
    "delivery.timeout.ms",
    "transactional.id",
    "check.crcs",
    "enable.partition.eof",
    "queue.buffering.max.messages",
    "queue.buffering.max.kbytes",
    "allow.auto.create.topics",
    "compression.type",
    "compression.codec",
    "linger.ms",
    "queue.buffering.max.ms",
    "batch.size",
    "batch.num.messages",
];

impl KafkaConfig {
    /// The defaults, with these brokers.
    #[must_use]
    pub fn new(brokers: impl Into<String>) -> Self {
        let days = |days: u64| KafkaRetention {
            time_ms: days * DAY_MS,
            bytes: u64::MAX,
        };
        Self {
            brokers: brokers.into(),
            prefix: String::new(),
            cluster: "hawser".to_owned(),
            partitions: 16,
            replication: 3,
            min_insync: 2,
            create_topics: true,
            allow_unsafe: false,
            chat_messages: days(7),
            delivery: days(1),
            other: days(30),
            audit: days(400),
            ephemeral: KafkaRetention {
                time_ms: 60_000,
                bytes: 16 << 20,
            },
            queue_records_max: 65_536,
            queue_kib_max: 65_536,
            compression: Compression::default(),
            linger: Duration::from_micros(500),
            batch_kib: 256,
            batch_records_max: 10_000,
            produce_timeout: Duration::from_secs(10),
            down_timeout: Duration::from_millis(600),
            prefetch_kib: 1_024,
            readers_max: 4,
            call_timeout: Duration::from_secs(5),
            open_timeout: Duration::ZERO,
            properties: Vec::new(),
        }
    }

    /// Retention of a topic that is made here.
    pub(super) fn retention(&self, topic: Topic) -> KafkaRetention {
        match topic {
            Topic::ChatMessages => self.chat_messages,
            Topic::Delivery => self.delivery,
            Topic::AuditLogs => self.audit,
            Topic::Cursors
            | Topic::DeadLetters
            | Topic::SystemNotifications
            | Topic::MediaEvents
            | Topic::GroupMembers
            | Topic::Shards
            | Topic::Leases => self.other,
            Topic::ChatTyping | Topic::ChatPresence | Topic::Bodies => self.ephemeral,
        }
    }

    /// Names the first setting that is out of bounds.
    pub(super) fn check(&self) -> Result<(), KafkaError> {
        let fail = |key: &'static str, rule: &'static str| Err(KafkaError::Setting { key, rule });
        if self.brokers.trim().is_empty() {
            return fail("brokers", "host:port of at least one broker");
        }
        if !self.partitions.is_power_of_two() || self.partitions > 65_536 {
            return fail("partitions", "a power of two from 1 to 65,536");
        }
        if self.replication == 0 {
            return fail("replication", "at least 1");
        }
        if self.min_insync == 0 || self.min_insync > self.replication {
            return fail("min_insync", "from 1 to replication");
        }
        let named = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if self.prefix.len() > 100 || !self.prefix.chars().all(named) {
            return fail("prefix", "at most 100 letters, digits, '.', '_', '-'");
        }
        if self.cluster.is_empty() || self.cluster.len() > 100 || !self.cluster.chars().all(named) {
            return fail("cluster", "1 to 100 letters, digits, '.', '_', '-'");
        }
        if self.linger > Duration::from_secs(1) {
            return fail("linger", "at most 1 s");
        }
        if !(1..=1_024).contains(&self.batch_kib)
            || !(1..=1_000_000).contains(&self.batch_records_max)
        {
            return fail(
                "batch_kib and batch_records_max",
                "from 1 to 1,024 KiB, and from 1 to 1,000,000",
            );
        }
        if self.queue_records_max == 0 || self.queue_kib_max < 2_048 {
            return fail(
                "queue_records_max and queue_kib_max",
                "above 0, and at least 2,048 KiB",
            );
        }
        if !(64..=1 << 20).contains(&self.prefetch_kib) {
            return fail("prefetch_kib", "from 64 to 1,048,576");
        }
        if !(1..=64).contains(&self.readers_max) {
            return fail("readers_max", "from 1 to 64");
        }
        if self.down_timeout >= self.produce_timeout || self.down_timeout.as_millis() < 100 {
            return fail("down_timeout", "from 100 ms to below produce_timeout");
        }
        for (key, value) in &self.properties {
            if OURS.contains(&key.as_str()) {
                return Err(KafkaError::Property { key: key.clone() });
            }
            if let Some(what) = not_built(key, value) {
                return Err(KafkaError::NotBuilt {
                    key: key.clone(),
                    what,
                });
            }
        }
        Ok(())
    }
}

/// What this build of librdkafka lacks for a property: without the feature `kafka-ssl` it has no OpenSSL.
#[cfg(feature = "kafka-ssl")]
fn not_built(_: &str, _: &str) -> Option<&'static str> {
    None
}

#[cfg(not(feature = "kafka-ssl"))]
fn not_built(key: &str, value: &str) -> Option<&'static str> {
    let value = value.to_ascii_lowercase();
    match key {
        "security.protocol" if value == "ssl" || value == "sasl_ssl" => Some("TLS"),
        "sasl.mechanism" | "sasl.mechanisms" if value != "plain" => {
            Some("SASL other than PLAIN (SCRAM, OAUTHBEARER, GSSAPI)")
        }
        _ if key.starts_with("ssl.") || key == "enable.ssl.certificate.verification" => Some("TLS"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_of(change: impl FnOnce(&mut KafkaConfig)) -> String {
        let mut config = KafkaConfig::new("localhost:9092");
        change(&mut config);
        config.check().expect_err("out of bounds").to_string()
    }

    #[test]
    fn the_defaults_are_within_their_bounds() {
        assert_eq!(KafkaConfig::new("localhost:9092").check(), Ok(()));
    }

    #[test]
    fn a_setting_out_of_bounds_is_named() {
        assert!(key_of(|c| c.brokers = " ".into()).contains("brokers"));
        assert!(key_of(|c| c.partitions = 12).contains("partitions"));
        assert!(key_of(|c| c.min_insync = 4).contains("min_insync"));
        assert!(key_of(|c| c.prefix = "a b".into()).contains("prefix"));
        assert!(key_of(|c| c.down_timeout = c.produce_timeout).contains("down_timeout"));
    }

    #[test]
    fn new_settings_have_bounds_too() {
        assert!(key_of(|c| c.cluster = String::new()).contains("cluster"));
        assert!(key_of(|c| c.linger = Duration::from_secs(2)).contains("linger"));
        assert!(key_of(|c| c.batch_kib = 0).contains("batch_kib"));
        let wrong = "gzip".parse::<Compression>().expect_err("not offered");
        assert!(wrong.to_string().contains("compression"), "{wrong}");
        for codec in Compression::ALL {
            assert_eq!(codec.name().parse(), Ok(*codec));
        }
    }

    #[cfg(not(feature = "kafka-ssl"))]
    #[test]
    fn what_this_build_lacks_is_named_with_a_way_out() {
        for (key, value) in [
            ("security.protocol", "SASL_SSL"),
            ("ssl.ca.location", "ca.pem"),
            ("sasl.mechanisms", "SCRAM-SHA-256"),
        ] {
            let said = key_of(|c| c.properties.push((key.into(), value.into())));
            assert!(
                said.contains(key) && said.contains("not in this build"),
                "{said}"
            );
        }
    }

    #[test]
    fn a_user_and_a_password_need_nothing_special() {
        let mut plain = KafkaConfig::new("b:1");
        plain.properties = vec![
            ("security.protocol".into(), "sasl_plaintext".into()),
            ("sasl.mechanism".into(), "PLAIN".into()),
        ];
        assert_eq!(plain.check(), Ok(()));
    }

    #[test]
    fn a_property_that_carries_a_guarantee_is_refused() {
        let said = key_of(|c| c.properties.push(("acks".into(), "1".into())));
        assert!(said.contains("acks"), "{said}");
    }
}
