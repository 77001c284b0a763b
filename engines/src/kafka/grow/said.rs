//! What is said of a growth.

use super::SILENT;
use crate::kafka::error::KafkaError;
use std::fmt;

/// What a growth has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrowStep {
    /// Another run has claimed the growth, and is watched for a sign of life.
    Watching,
    /// It is ours to do.
    Claimed {
        /// Partitions now.
        from: u32,
        /// Partitions then.
        to: u32,
        /// Whether an earlier run had begun it.
        resumed: bool,
    },
    /// The next generation's topics exist.
    Made {
        /// Their names.
        topics: Vec<String>,
    },
    /// Nothing is appended to the present `chat-messages` any more; Sends are refused with a hint from here on.
    Fenced {
        /// Its name.
        topic: String,
    },
    /// Nothing is appended to the present `delivery` any more; messages are taken, and delivered once this is done.
    Held {
        /// Its name.
        topic: String,
    },
    /// The ends of `delivery` are final.
    Settled {
        /// At which offset the next generation begins.
        base: u64,
    },
    /// Ingest works off what is left; told about every second.
    Draining {
        /// Records that it has not committed.
        left: u64,
        /// Partitions that have some.
        partitions: u32,
    },
    /// The next generation counts.
    Done {
        /// Which.
        generation: u16,
        /// Its partitions.
        partitions: u32,
    },
}

impl fmt::Display for GrowStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Watching => write!(
                f,
                "a growth is claimed by another run; watching for {} s whether it lives",
                SILENT.as_secs()
            ),
            Self::Claimed { from, to, resumed } => {
                let how = if *resumed { "going on with" } else { "begun" };
                write!(f, "{how}: from {from} to {to} partitions")
            }
            Self::Made { topics } => write!(f, "made: {}", topics.join(", ")),
            Self::Held { topic } => write!(
                f,
                "{topic} takes no more records; messages are accepted, and delivered once this is done"
            ),
            Self::Settled { base } => write!(
                f,
                "nothing is on its way to it any more; the next generation begins at offset {base}"
            ),
            Self::Fenced { topic } => write!(
                f,
                "{topic} takes no more records; Sends are refused with a hint until this is done"
            ),
            Self::Draining { left: 0, .. } => write!(f, "ingest has caught up"),
            Self::Draining { left, partitions } => write!(
                f,
                "ingest has {left} records in {partitions} partitions to go (it must be running)"
            ),
            Self::Done {
                generation,
                partitions,
            } => write!(
                f,
                "done: generation {generation} with {partitions} partitions is in use"
            ),
        }
    }
}

/// Why a growth did not come to its end. Nothing is lost by any of these.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrowError {
    /// The log cannot be opened.
    #[error(transparent)]
    Log(#[from] KafkaError),
    /// No number of partitions.
    #[error("--partitions {wanted} must be a power of two up to 65,536")]
    Partitions {
        /// As asked for.
        wanted: u32,
    },
    /// Fewer than there are, or as many.
    #[error(
        "{topic} has {now} partitions: --partitions {wanted} is not more, and it never shrinks"
    )]
    NotMore {
        /// Of what.
        topic: &'static str,
        /// Partitions now.
        now: u32,
        /// As asked for.
        wanted: u32,
    },
    /// Another run is at it, and alive.
    #[error("another growth, to {partitions} partitions, is under way: let it finish")]
    UnderWay {
        /// Where it goes.
        partitions: u32,
    },
    /// An earlier run stopped on its way to another number.
    #[error(
        "a growth to {partitions} partitions was begun and not finished: run it with --partitions {partitions}"
    )]
    Unfinished {
        /// Where it goes.
        partitions: u32,
    },
    /// One thing after the other.
    #[error("a growth of {topic} is under way, or was begun and not finished: finish it first")]
    Other {
        /// Of what.
        topic: &'static str,
    },
    /// No topic that grows.
    #[error("{topic} does not grow by itself")]
    Topic {
        /// Which.
        topic: &'static str,
    },
    /// Another run has taken over.
    #[error("another run has taken this growth over: let it finish")]
    TakenOver,
    /// The next generation's name is taken by something else.
    #[error(
        "the Kafka topic {name} exists already and {what}: look at who made it, and delete it if it is not needed"
    )]
    Exists {
        /// The topic.
        name: String,
        /// What is wrong with it.
        what: String,
    },
    /// The caller stopped it.
    #[error(
        "stopped: run it again to go on; once it takes no more records, that stays so until then"
    )]
    Stopped,
    /// The brokers do not do what they were asked.
    #[error("{what}: {reason}; run it again to go on")]
    Brokers {
        /// What was asked.
        what: &'static str,
        /// Their words.
        reason: String,
    },
}
