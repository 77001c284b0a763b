//! Port `log`: an ordered, durable, partitioned record log (Kafka, or embedded).

use bytes::Bytes;
use hawser_protocol::partition::partition;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Hint with a record of a generation that is not in use, milliseconds.
pub const GENERATION_RETRY_MS: u32 = 200;

/// Topics of the design.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// Source of truth, by chat. Durable.
    ChatMessages,
    /// Derived stream, by the recipient's partition. Durable, 24 h.
    Delivery,
    /// Device cursors per delivery partition. Durable.
    Cursors,
    /// Typing, partitioned like delivery. Ephemeral: acks=0, read from the end.
    ChatTyping,
    /// Presence transitions. Ephemeral.
    ChatPresence,
    /// Records that ingest cannot process, whole. Durable.
    DeadLetters,
    /// Who did what. Durable.
    AuditLogs,
    /// What the system has to tell people and services: hot chats, changes of the cluster. Durable.
    SystemNotifications,
    /// Uploads and what became of them. Durable.
    MediaEvents,
    /// Changes of groups, for other services; ingest never reads it. Durable.
    GroupMembers,
    /// Who is in edge-sharded groups: key `<chat>/<user>`, the last record of a key counts (compacted on Kafka). By the
    /// user's slot, over any number of partitions. Durable.
    Shards,
    /// Who owns what, generations of topics, lanes of chats: the last record of a key counts (compacted on Kafka).
    /// All records are in partition 0. Durable.
    Leases,
    /// Message records that delivery records refer to, once for every lane (a partition of it) that nodes read which need
    /// them. Ephemeral.
    Bodies,
}

impl Topic {
    /// All topics.
    pub const ALL: &'static [Self] = &[
        Self::ChatMessages,
        Self::Delivery,
        Self::Cursors,
        Self::ChatTyping,
        Self::ChatPresence,
        Self::DeadLetters,
        Self::AuditLogs,
        Self::SystemNotifications,
        Self::MediaEvents,
        Self::GroupMembers,
        Self::Leases,
        Self::Shards,
        Self::Bodies,
    ];

    /// Topics that go with `delivery`: partitioned as it is, and grown together with it.
    pub const WITH_DELIVERY: &'static [Self] = &[Self::Cursors, Self::ChatTyping];

    /// The topic's name (a configured prefix goes before it).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ChatMessages => "chat-messages",
            Self::Delivery => "delivery",
            Self::Cursors => "cursors",
            Self::ChatTyping => "chat-typing",
            Self::ChatPresence => "chat-presence",
            Self::DeadLetters => "dead-letters",
            Self::AuditLogs => "audit-logs",
            Self::SystemNotifications => "system-notifications",
            Self::MediaEvents => "media-events",
            Self::GroupMembers => "group-members",
            Self::Shards => "shards",
            Self::Leases => "leases",
            Self::Bodies => "bodies",
        }
    }

    /// Whether the last record of a key counts, for ever.
    #[must_use]
    pub fn compacted(self) -> bool {
        matches!(self, Self::Leases | Self::Shards)
    }

    /// Whether records may be lost by design (never acknowledged to anyone).
    #[must_use]
    pub fn ephemeral(self) -> bool {
        matches!(self, Self::ChatTyping | Self::ChatPresence | Self::Bodies)
    }
}

/// One record as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Place in the partition, from 0, dense in the embedded log, strictly growing on Kafka.
    pub offset: u64,
    /// CreateTime, milliseconds.
    pub timestamp_ms: u64,
    /// Partitioning key.
    pub key: Bytes,
    /// Value.
    pub value: Bytes,
}

/// One record to append.
#[derive(Debug, Clone)]
pub struct Produce {
    /// Where.
    pub topic: Topic,
    /// Which partition, below `Log::partitions(topic)`.
    pub partition: u32,
    /// Partitioning key.
    pub key: Bytes,
    /// Value; at most 1 MiB.
    pub value: Bytes,
    /// CreateTime, milliseconds (the producer's clock; clamped where it is used).
    pub timestamp_ms: u64,
}

/// Why an append did not (certainly) happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProduceError {
    /// Certainly not appended: the queue is full, the log is down, or the disk is full.
    #[error("the log refuses records now: {reason}")]
    Refused {
        /// For the operator's log.
        reason: String,
        /// Hint for the client, milliseconds.
        retry_after_ms: u32,
    },
    /// May or may not have been appended: retry the same record.
    #[error("the outcome of the append is unknown: {reason}")]
    Unknown {
        /// For the operator's log.
        reason: String,
    },
}

/// What became of one `produce`: the durable offset. `Ok(None)`: the log has the record once, and cannot say where (an
/// ephemeral topic; a repeated append whose first answer was lost).
pub type AppendOutcome = Result<Option<u64>, ProduceError>;

/// Receives the outcome of each `produce`, on a thread of the adapter; must not block.
pub trait Appended: Send + Sync {
    /// `tag` is the one given to `produce`.
    fn appended(&self, tag: u64, outcome: AppendOutcome);
    /// `Some`: the records that are produced for it are one stream. The log breaks it off with the first outcome that is an
    /// error, and refuses what else it was given of it and has not begun to append: what it holds of a stream in a partition
    /// is a beginning of it, without holes. It does not become impatient with a stream, who waits for it may break it off.
    /// `None`: each record stands for itself.
    fn stream(&self) -> Option<&Stream> {
        None
    }
    /// Nothing more of its stream, if it has one, is appended.
    fn break_off(&self) {
        if let Some(stream) = self.stream() {
            stream.break_off();
        }
    }
    /// Whether its stream, if it has one, was broken off.
    fn is_broken(&self) -> bool {
        self.stream().is_some_and(Stream::is_broken)
    }
}

/// Whether more of a stream of records may be appended. Who repeats one makes another, and begins before the hole.
#[derive(Debug, Default)]
pub struct Stream(AtomicBool);

impl Stream {
    /// Nothing more of it is appended.
    pub fn break_off(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it was broken off.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Called, on a thread of the adapter, when a consumer's queue goes from empty to non-empty;
/// must not block (it writes an eventfd). Spurious calls are allowed.
pub trait Wake: Send + Sync {
    /// There is something to poll.
    fn wake(&self);
}

/// Where a consumer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At this offset (or the next that exists).
    At(u64),
    /// At the low watermark.
    Earliest,
    /// At the end: only what comes from now on.
    Latest,
}

/// Error of a read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The offset is below the low watermark (retention) or above the end.
    #[error("offset {wanted} is outside [{low}, {high}]")]
    OutOfRange {
        /// Wanted.
        wanted: u64,
        /// First that exists.
        low: u64,
        /// Next to be written.
        high: u64,
    },
    /// The log cannot be reached; retry later.
    #[error("the log cannot be read now: {reason}")]
    Unavailable {
        /// For the operator's log.
        reason: String,
    },
    /// A record's checksum is wrong.
    #[error("record {offset} is corrupt")]
    Corrupt {
        /// Where.
        offset: u64,
    },
}

/// A manually assigned reader of one partition, polled by its owner and by nobody else.
pub trait Consumer: Send {
    /// Hands at most `max` records to `each`, in offset order, without blocking. Returns how many.
    ///
    /// # Errors
    /// See [`ReadError`]; the position does not move on an error.
    fn poll(&mut self, max: usize, each: &mut dyn FnMut(Record)) -> Result<usize, ReadError>;
    /// Offset of the next record that `poll` hands out.
    fn position(&self) -> u64;
    /// Moves the position.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn seek(&mut self, to: u64) -> Result<(), ReadError>;
}

/// What a topic is at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Its generation, from 1.
    pub generation: u16,
    /// Its partitions, a power of two.
    pub partitions: u32,
    /// The generation before, where this one continues it.
    pub past: Option<Past>,
}

impl Shape {
    /// Where a key's records are, and where those before them were: (generation, partition).
    pub fn places(&self, key: &str) -> impl Iterator<Item = (u16, u32)> + use<> {
        let now = (self.generation, partition(key, self.partitions));
        let past = self
            .past
            .map(|p| (p.generation, partition(key, p.partitions)));
        std::iter::once(now).chain(past)
    }
}

/// A generation that the present one continues: partition p begins with what partition p mod `partitions` of it holds,
/// at the offsets that it had there, and what is appended since lies at offsets above all of them. So the offsets of a
/// key's records grow throughout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Past {
    /// Its number.
    pub generation: u16,
    /// Its partitions, a power of two.
    pub partitions: u32,
}

/// [low, high) of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// First offset that exists.
    pub low: u64,
    /// Next offset to be written.
    pub high: u64,
}

/// The log.
pub trait Log: Send + Sync {
    /// Number of partitions of a topic, a power of two; constant while the generation is.
    fn partitions(&self, topic: Topic) -> u32;
    /// Generation of a topic, from 1; rises when the log is recreated, truncated, restored or repartitioned. It may
    /// rise while the log is open: positions, offsets and readers of the one before are not those of the new one.
    fn generation(&self, topic: Topic) -> u16;
    /// Both, and what the topic continues, of one moment.
    fn shape(&self, topic: Topic) -> Shape {
        Shape {
            generation: self.generation(topic),
            partitions: self.partitions(topic),
            past: None,
        }
    }
    /// Offsets [from, to) of a partition at which there never will be a record, though there are some below and will be some
    /// above: between a generation and the one before that it continues. May block for a round trip.
    ///
    /// # Errors
    /// The log cannot be reached.
    fn seam(&self, _topic: Topic, _partition: u32) -> Result<Option<Range<u64>>, ReadError> {
        Ok(None)
    }
    /// Enqueues one record; never blocks. The outcome goes to `done` with `tag`, exactly once,
    /// unless this call itself fails, which breaks no stream. "Appended" means durable: fsynced (embedded), acks=all (Kafka);
    /// for ephemeral topics it means queued. Records of one thread to one partition keep their order.
    ///
    /// # Errors
    /// Refused at once: the bounded queue is full, the log is known to be down, or the stream is broken.
    fn produce(
        &self,
        record: Produce,
        tag: u64,
        done: &Arc<dyn Appended>,
    ) -> Result<(), ProduceError>;
    /// The same, for a record whose partition was computed for this generation: one that is over, or has not begun here, takes
    /// no more of them.
    ///
    /// # Errors
    /// Refused at once, as above, or because of its generation.
    fn produce_in(
        &self,
        generation: u16,
        record: Produce,
        tag: u64,
        done: &Arc<dyn Appended>,
    ) -> Result<(), ProduceError> {
        let topic = record.topic;
        if self.generation(topic) == generation {
            return self.produce(record, tag, done);
        }
        Err(ProduceError::Refused {
            reason: format!("generation {generation} of {} is not in use", topic.name()),
            retry_after_ms: GENERATION_RETRY_MS,
        })
    }
    /// A reader of one partition.
    ///
    /// # Errors
    /// The log cannot be reached.
    fn consumer(
        &self,
        topic: Topic,
        partition: u32,
        start: Start,
        wake: Arc<dyn Wake>,
    ) -> Result<Box<dyn Consumer>, ReadError>;
    /// Blocking read of [from, ..) for history and replay below the ring: at most `max` records
    /// and about `bytes_max` bytes (at least one record if there is one).
    ///
    /// # Errors
    /// See [`ReadError`].
    fn read(
        &self,
        topic: Topic,
        partition: u32,
        from: u64,
        max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Record>, ReadError>;
    /// First and next offset. May block for a round trip.
    ///
    /// # Errors
    /// The log cannot be reached.
    fn watermarks(&self, topic: Topic, partition: u32) -> Result<Watermarks, ReadError>;
    /// The next offset to be written of every partition, in their order. May block; adapters make few round trips of it.
    ///
    /// # Errors
    /// The log cannot be reached.
    fn ends(&self, topic: Topic) -> Result<Vec<u64>, ReadError> {
        let all = 0..self.partitions(topic);
        all.map(|p| Ok(self.watermarks(topic, p)?.high)).collect()
    }
    /// Records the position up to which `group` has processed a partition.
    ///
    /// # Errors
    /// The log cannot be reached.
    fn commit(&self, group: &str, topic: Topic, partition: u32, next: u64)
    -> Result<(), ReadError>;
    /// The same for a position of this generation: one that is over takes nothing away from the next.
    ///
    /// # Errors
    /// The log cannot be reached, or the generation is over and its positions are not kept.
    fn commit_in(
        &self,
        generation: u16,
        group: &str,
        topic: Topic,
        partition: u32,
        next: u64,
    ) -> Result<(), ReadError> {
        if self.generation(topic) == generation {
            return self.commit(group, topic, partition, next);
        }
        Err(ReadError::Unavailable {
            reason: format!("generation {generation} of {} is over", topic.name()),
        })
    }
    /// The committed position, if any.
    ///
    /// # Errors
    /// The log cannot be reached.
    fn committed(
        &self,
        group: &str,
        topic: Topic,
        partition: u32,
    ) -> Result<Option<u64>, ReadError>;
    /// Whether appends are accepted now, for readiness.
    fn writable(&self) -> Result<(), String>;
}
