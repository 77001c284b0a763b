//! Configuration of the Kafka log: units, defaults, bounds, and what each costs.

use super::error::KafkaError;
use crate::log::Topic;
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use std::time::Duration;

/// How long records of a topic are kept, per partition; whichever bound is reached first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KafkaRetention {
    /// Milliseconds of CreateTime; `u64::MAX` is for ever.
    pub time_ms: u64,
    /// Bytes per partition; `u64::MAX` is no bound.
    pub bytes: u64,
}

const DAY_MS: u64 = 24 * 3_600 * 1_000;

/// Configuration of [`super::KafkaLog`].
#[derive(Debug, Clone)]
pub struct KafkaConfig {
    /// `host:port` of some brokers, separated by commas.
    pub brokers: String,
    /// Goes before every topic's and group's name. Default none.
    pub prefix: String,
    /// Partitions of topics that are made here, a power of two from 1 to 65,536; existing topics keep
    /// what they have. Default 16.
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
    /// `cursors`, `dead-letters`. Default 30 days.
    pub other: KafkaRetention,
    /// `audit-logs`. Default 400 days.
    pub audit: KafkaRetention,
    /// `chat-typing`, `chat-presence`. Default one minute.
    pub ephemeral: KafkaRetention,
    /// Records waiting for acknowledgement; more are refused. Default 65,536.
    pub queue_records_max: u32,
    /// Their bytes, KiB; more are refused. Default 65,536 (64 MiB).
    pub queue_kib_max: u32,
    /// How long a record waits for company on its way to a broker. Default 0.5 ms.
    pub linger: Duration,
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
            linger: Duration::from_micros(500),
            produce_timeout: Duration::from_secs(10),
            down_timeout: Duration::from_millis(600),
            prefetch_kib: 1_024,
            readers_max: 4,
            call_timeout: Duration::from_secs(5),
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
            | Topic::Leases => self.other,
            Topic::ChatTyping | Topic::ChatPresence => self.ephemeral,
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
        for (key, _) in &self.properties {
            if OURS.contains(&key.as_str()) {
                return Err(KafkaError::Property { key: key.clone() });
            }
        }
        Ok(())
    }

    /// What every client has in common.
    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client
            .set_log_level(RDKafkaLogLevel::Info)
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "hawser")
            .set("socket.nagle.disable", "true")
            .set("socket.keepalive.enable", "true")
            .set("socket.timeout.ms", "10000")
            .set("socket.connection.setup.timeout.ms", "3000")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "500")
            .set("retry.backoff.ms", "50")
            .set("retry.backoff.max.ms", "500")
            .set("topic.metadata.refresh.interval.ms", "30000")
            .set("topic.metadata.refresh.fast.interval.ms", "50")
            .set("allow.auto.create.topics", "false");
        for (key, value) in &self.properties {
            client.set(key, value);
        }
        client
    }

    /// The producer of durable records: acks=all, idempotent, in order.
    pub(super) fn durable_producer(&self) -> ClientConfig {
        let mut client = self.client();
        client
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("message.max.bytes", MESSAGE_BYTES_MAX.to_string())
            .set("linger.ms", millis(self.linger))
            .set("message.timeout.ms", millis(self.produce_timeout))
            .set("request.timeout.ms", millis(self.call_timeout))
            .set(
                "queue.buffering.max.messages",
                self.queue_records_max.to_string(),
            )
            .set("queue.buffering.max.kbytes", self.queue_kib_max.to_string());
        client
    }

    /// The producer of ephemeral records: nobody waits for them, and they do not wait.
    pub(super) fn ephemeral_producer(&self) -> ClientConfig {
        let mut client = self.client();
        client
            .set("acks", "0")
            .set("linger.ms", "2")
            .set("message.timeout.ms", "2000")
            .set("message.max.bytes", MESSAGE_BYTES_MAX.to_string())
            .set("queue.buffering.max.messages", "16384")
            .set("queue.buffering.max.kbytes", "16384");
        client
    }

    /// The client for metadata, watermarks and administration.
    pub(super) fn admin(&self) -> ClientConfig {
        self.client()
    }

    /// A consumer with manually assigned partitions. librdkafka wants a group's name; nothing joins it.
    fn consumer(&self, group: &str) -> ClientConfig {
        let mut client = self.client();
        client
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_uncommitted")
            .set("check.crcs", "true")
            .set("fetch.error.backoff.ms", "50")
            .set("fetch.queue.backoff.ms", "5")
            .set("queued.min.messages", "10000")
            .set(
                "queued.max.messages.kbytes",
                self.prefetch_kib.max(64).to_string(),
            )
            // A request that waits at the broker holds up a partition that is assigned meanwhile.
            .set("fetch.wait.max.ms", "50")
            .set("fetch.message.max.bytes", "1048576");
        client
    }

    /// The consumer of a node's live readers.
    pub(super) fn live_consumer(&self) -> ClientConfig {
        self.consumer(&format!("{}hawser-live", self.prefix))
    }

    /// A consumer for one blocking read after the other.
    pub(super) fn read_consumer(&self) -> ClientConfig {
        let mut client = self.consumer(&format!("{}hawser-read", self.prefix));
        client
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", "10");
        client
    }

    /// A consumer that only commits, and asks for what is committed.
    pub(super) fn group_consumer(&self, group: &str) -> ClientConfig {
        let mut client = self.consumer(&format!("{}{group}", self.prefix));
        // A coordinator that is away holds up a commit for this long.
        client.set("coordinator.query.interval.ms", millis(self.call_timeout));
        client
    }
}

/// Largest record on the wire: a value of 1 MiB, a key, and the framing of a batch.
pub(super) const MESSAGE_BYTES_MAX: u64 = (1 << 20) + (64 << 10) + 4_096;

fn millis(duration: Duration) -> String {
    format!("{}", duration.as_micros() as f64 / 1_000.0)
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
    fn a_property_that_carries_a_guarantee_is_refused() {
        let said = key_of(|c| c.properties.push(("acks".into(), "1".into())));
        assert!(said.contains("acks"), "{said}");
    }

    #[test]
    fn librdkafka_knows_every_property() {
        let config = KafkaConfig::new("127.0.0.1:1");
        for producer in [config.durable_producer(), config.ephemeral_producer()] {
            producer.create_native_config().expect("known properties");
        }
        for consumer in [config.live_consumer(), config.read_consumer()] {
            consumer.create_native_config().expect("known properties");
        }
        let group = config.group_consumer("ingest");
        group.create_native_config().expect("known properties");
    }
}
