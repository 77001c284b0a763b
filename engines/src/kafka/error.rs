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
    /// Settings with which an acknowledged record may be lost.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Unsafe(Vec<Unsafe>),
}
