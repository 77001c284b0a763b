//! Why the log on Kafka cannot be opened.

use super::safety::Unsafe;

/// Error of [`super::KafkaLog::open`]: the operator's, each with the way out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KafkaError {
    /// A setting is out of bounds.
    #[error("the Kafka setting {key} must be {rule}")]
    Setting {
        /// The setting.
        key: &'static str,
        /// What holds for it.
        rule: &'static str,
    },
    /// A property of librdkafka is the adapter's own.
    #[error("the Kafka property {key} is set by Hawser and cannot be changed: remove it")]
    Property {
        /// The property.
        key: String,
    },
    /// A property asks for what this build of librdkafka does not have.
    #[error(
        "the Kafka property {key} needs {what}, which is not in this build (librdkafka without OpenSSL): build \
         with the feature kafka-ssl, or use plaintext or sasl_plaintext with PLAIN on a private network"
    )]
    NotBuilt {
        /// The property.
        key: String,
        /// What it needs.
        what: &'static str,
    },
    /// The brokers do not accept who we say that we are.
    #[error(
        "the Kafka brokers {brokers} refuse the credentials ({reason}): correct sasl.username, sasl.password, \
         sasl.mechanism and security.protocol in log.properties"
    )]
    Credentials {
        /// As configured.
        brokers: String,
        /// librdkafka's words.
        reason: String,
    },
    /// The brokers' certificate is not of an authority that we trust, or not of this name.
    #[error(
        "the certificate of the Kafka brokers {brokers} does not verify ({reason}): correct ssl.ca.location in \
         log.properties, or the names in log.bootstrap"
    )]
    Certificate {
        /// As configured.
        brokers: String,
        /// librdkafka's words.
        reason: String,
    },
    /// librdkafka does not accept the configuration.
    #[error("librdkafka refuses the configuration: {reason}")]
    Client {
        /// librdkafka's words.
        reason: String,
    },
    /// No broker answers.
    #[error("no Kafka broker of {brokers} answers ({reason}): start Kafka, or correct the brokers")]
    Unreachable {
        /// As configured.
        brokers: String,
        /// librdkafka's words.
        reason: String,
    },
    /// A topic is missing and may not be made.
    #[error(
        "the Kafka topic {name} does not exist: make it with a power of two of partitions, or let Hawser \
         make it (create_topics = true)"
    )]
    NoTopic {
        /// The topic.
        name: String,
    },
    /// A topic cannot be made.
    #[error("the Kafka topic {name} cannot be made: {reason}")]
    Create {
        /// The topic.
        name: String,
        /// The broker's words.
        reason: String,
    },
    /// A topic has a shape that cannot work.
    #[error("the Kafka topic {name} has {found} partitions: {rule}")]
    Partitions {
        /// The topic.
        name: String,
        /// How many it has.
        found: u32,
        /// What holds for them.
        rule: String,
    },
    /// A topic has another number of partitions than the configuration says.
    #[error(
        "the Kafka topic {name} has {found} partitions, and log.partitions is {configured}: set log.partitions = \
         {found}, or another log.prefix for a new cluster; more for chat-messages alone are made by \
         `hawser-fanout grow chat-messages`"
    )]
    PartitionCount {
        /// The topic.
        name: String,
        /// How many it has.
        found: u32,
        /// How many are configured.
        configured: u32,
    },
    /// The prefix belongs to another cluster.
    #[error(
        "the Kafka topics with log.prefix = \"{prefix}\" belong to the cluster \"{found}\" (id {id}), and log.cluster \
         is \"{configured}\": choose another log.prefix, or correct log.cluster"
    )]
    OtherCluster {
        /// As configured.
        prefix: String,
        /// Whose topics they are.
        found: String,
        /// That cluster's id.
        id: String,
        /// As configured.
        configured: String,
    },
    /// The topics were made by a version that this one does not know.
    #[error(
        "the Kafka topics with log.prefix = \"{prefix}\" have layout {found}, made by a newer version; this one knows \
         {known}: upgrade this node, or choose another log.prefix"
    )]
    Newer {
        /// As configured.
        prefix: String,
        /// Their layout.
        found: u32,
        /// The newest layout that this version knows.
        known: u32,
    },
    /// Settings with which an acknowledged record may be lost.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Unsafe(Vec<Unsafe>),
}
