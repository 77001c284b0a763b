//! The log on Apache Kafka, through librdkafka (feature `kafka`).
//!
//! - Durable records go through one idempotent producer with acks=all; "appended" is the leader's
//!   acknowledgement after `min.insync.replicas` have the record. Ephemeral ones go with acks=0.
//! - Partitions are assigned by hand; consumer groups only carry committed positions.
//! - While no broker answers, appends are refused at once and what waits is answered unknown.
//! - Topics are made when missing, and judged on opening: settings with which an acknowledged record may
//!   be lost refuse to start.
//!
//! `consumer`, `read`, `watermarks`, `commit` and `committed` wait for brokers and belong on a control
//! thread; `produce`, `poll` and `position` never wait.

mod admin;
mod clients;
mod config;
mod context;
mod error;
mod fence;
mod gate;
mod groups;
mod grow;
mod health;
mod lags;
mod leases;
mod live;
mod marks;
mod names;
mod produce;
mod read;
mod safety;
mod spot;
mod switch;
mod topics;
mod watch;

pub use config::{Compression, KafkaConfig, KafkaRetention};
pub use error::KafkaError;
pub use grow::{GrowError, GrowStep, grow};
pub use lags::Lag;
pub use safety::Unsafe;

use self::admin::Admin;
use self::context::Context;
use self::groups::Groups;
use self::health::Health;
use self::leases::Leases;
use self::live::Live;
use self::produce::{GROWING_RETRY_MS, Producers, refused};
use self::read::Readers;
use self::spot::Spot;
use self::topics::{TopicState, place};
use crate::log::{
    Appended, Consumer, GENERATION_RETRY_MS, Log, Past, Produce, ProduceError, ReadError, Record,
    Shape, Start, Topic, Wake, Watermarks,
};
use arc_swap::ArcSwap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// Largest value of a record, bytes.
const VALUE_BYTES_MAX: usize = 1 << 20;
/// Largest key of a record, bytes.
const KEY_BYTES_MAX: usize = (1 << 16) - 1;

/// Everything that lives as long as the log.
struct Shared {
    config: KafkaConfig,
    /// In the order of [`Topic::ALL`]; replaced when a topic's next generation counts.
    topics: Vec<ArcSwap<TopicState>>,
    leases: Mutex<Leases>,
    cluster_id: String,
    probe_topic: Arc<str>,
    health: Arc<Health>,
    admin: Arc<Admin>,
    producers: Producers,
    live: Arc<Live>,
    readers: Readers,
    groups: Groups,
}

/// The log on Kafka. Dropping the last handle answers what waits, and closes the clients in the
/// background.
pub struct KafkaLog {
    shared: Arc<Shared>,
}

impl KafkaLog {
    /// Connects, waiting up to `open_timeout`; makes missing topics; compares whose they are; judges their settings.
    ///
    /// # Errors
    /// The operator's: see [`KafkaError`], each says the way out.
    pub fn open(config: KafkaConfig) -> Result<Self, KafkaError> {
        config.check()?;
        let health = Arc::new(Health::new());
        let context = Context {
            health: Arc::clone(&health),
        };
        let admin = Arc::new(Admin::new(&config, &context)?);
        let found = topics::prepare(&admin, &config, &context)?;
        let producers = Producers::new(&config, &health)?;
        let topics = found.topics.into_iter().map(ArcSwap::from_pointee);
        let topics: Vec<ArcSwap<TopicState>> = topics.collect();
        let mut shared = Shared {
            probe_topic: Arc::clone(&topics[place(Topic::Delivery)].load().name),
            topics,
            leases: Mutex::new(found.leases),
            cluster_id: String::new(),
            live: Arc::new(Live::new(&config, &context, &admin)),
            readers: Readers::new(&config, &context),
            groups: Groups::new(&config, &context),
            config,
            health,
            admin,
            producers,
        };
        shared.cluster_id = switch::identify(&shared)?;
        let shared = Arc::new(shared);
        let watched = Arc::downgrade(&shared);
        std::thread::Builder::new()
            .name("hawser-kafka".to_owned())
            .spawn(move || watch::run(&watched))
            .map_err(|error| KafkaError::Client {
                reason: error.to_string(),
            })?;
        Ok(Self { shared })
    }

    /// The random id that this cluster's topics got when they were made: whoever keeps it beside another engine's
    /// data notices that the two do not belong together.
    #[must_use]
    pub fn cluster_id(&self) -> &str {
        &self.shared.cluster_id
    }

    fn spot(&self, topic: Topic, partition: u32) -> Result<Spot<'_>, ReadError> {
        Spot::new(&self.shared, self.state(topic), partition)
    }

    fn state(&self, topic: Topic) -> Arc<TopicState> {
        Arc::clone(&self.shared.state(topic))
    }

    fn place(&self, topic: Topic, partition: u32) -> Result<(Arc<TopicState>, u32), ReadError> {
        let state = self.state(topic);
        if partition < state.partitions {
            return Ok((state, partition));
        }
        Err(ReadError::Unavailable {
            reason: "no such partition".to_owned(),
        })
    }

    fn append(
        &self,
        state: &TopicState,
        record: Produce,
        tag: u64,
        done: &Arc<dyn Appended>,
    ) -> Result<(), ProduceError> {
        if record.value.len() > VALUE_BYTES_MAX {
            return Err(refused("a value of more than 1 MiB", 0));
        }
        if record.key.len() > KEY_BYTES_MAX {
            return Err(refused("a key of more than 65,535 bytes", 0));
        }
        if state.fenced {
            return Err(refused("the topic is being grown", GROWING_RETRY_MS));
        }
        let record = switch::placed(record, state);
        if record.partition >= state.partitions {
            return Err(refused("no such partition", 0));
        }
        let producers = &self.shared.producers;
        if record.topic.ephemeral() {
            producers.append_ephemeral(&state.name, &record)?;
            done.appended(tag, Ok(None));
            return Ok(());
        }
        producers.append((&state.name, state.base), record, tag, done)
    }
}

impl Shared {
    fn state(&self, topic: Topic) -> arc_swap::Guard<Arc<TopicState>> {
        self.topics[place(topic)].load()
    }
}

impl Log for KafkaLog {
    fn partitions(&self, topic: Topic) -> u32 {
        self.shared.state(topic).partitions
    }

    fn generation(&self, topic: Topic) -> u16 {
        self.shared.state(topic).generation
    }

    fn shape(&self, topic: Topic) -> Shape {
        let state = self.shared.state(topic);
        Shape {
            generation: state.generation,
            partitions: state.partitions,
            past: state.past.as_ref().map(|past| Past {
                generation: past.generation,
                partitions: past.partitions,
            }),
        }
    }

    /// As the port says; an ephemeral record's offset is not known and given as 0.
    fn produce(
        &self,
        record: Produce,
        tag: u64,
        done: &Arc<dyn Appended>,
    ) -> Result<(), ProduceError> {
        self.append(&self.state(record.topic), record, tag, done)
    }

    fn produce_in(
        &self,
        generation: u16,
        record: Produce,
        tag: u64,
        done: &Arc<dyn Appended>,
    ) -> Result<(), ProduceError> {
        let state = self.state(record.topic);
        if state.generation != generation {
            let reason = "the record is of a generation that is not in use";
            return Err(refused(reason, GENERATION_RETRY_MS));
        }
        self.append(&state, record, tag, done)
    }

    fn consumer(
        &self,
        topic: Topic,
        partition: u32,
        start: Start,
        wake: Arc<dyn Wake>,
    ) -> Result<Box<dyn Consumer>, ReadError> {
        self.spot(topic, partition)?.consumer(start, wake)
    }

    fn read(
        &self,
        topic: Topic,
        partition: u32,
        from: u64,
        max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Record>, ReadError> {
        self.spot(topic, partition)?.read(from, max, bytes_max)
    }

    fn watermarks(&self, topic: Topic, partition: u32) -> Result<Watermarks, ReadError> {
        self.spot(topic, partition)?.watermarks()
    }

    fn seam(&self, topic: Topic, partition: u32) -> Result<Option<Range<u64>>, ReadError> {
        self.spot(topic, partition)?.seam()
    }

    fn commit(
        &self,
        group: &str,
        topic: Topic,
        partition: u32,
        next: u64,
    ) -> Result<(), ReadError> {
        let (state, partition) = self.place(topic, partition)?;
        let Some(next) = next.checked_sub(state.base) else {
            return Err(ReadError::Unavailable {
                reason: "positions of the generation before are not kept".to_owned(),
            });
        };
        let place = (Arc::clone(&state.name), partition);
        self.shared.groups.commit(group, &place, next)
    }

    fn commit_in(
        &self,
        generation: u16,
        group: &str,
        topic: Topic,
        partition: u32,
        next: u64,
    ) -> Result<(), ReadError> {
        let state = self.shared.state(topic);
        let name = if state.generation == generation {
            Arc::clone(&state.name)
        } else {
            names::name(&self.shared.config.prefix, topic, generation).into()
        };
        self.shared.groups.commit(group, &(name, partition), next)
    }

    fn committed(
        &self,
        group: &str,
        topic: Topic,
        partition: u32,
    ) -> Result<Option<u64>, ReadError> {
        let (state, partition) = self.place(topic, partition)?;
        let place = (Arc::clone(&state.name), partition);
        let found = self.shared.groups.committed(group, &place)?;
        Ok(found.map(|next| next + state.base))
    }

    fn ends(&self, topic: Topic) -> Result<Vec<u64>, ReadError> {
        let ends = spot::ends(&self.shared, &self.state(topic));
        ends.map_err(|reason| ReadError::Unavailable { reason })
    }

    fn writable(&self) -> Result<(), String> {
        if self.shared.health.down() {
            return Err(format!(
                "no Kafka broker of {} answers",
                self.shared.config.brokers
            ));
        }
        Ok(())
    }
}
