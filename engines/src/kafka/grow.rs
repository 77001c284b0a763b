//! Growing `chat-messages` or `delivery` while nodes run: a topic of the next generation takes its place
//! (`docs/adr/0010-growing-chat-messages.md`, `docs/adr/0024-growing-delivery.md`).
//!
//! 1. The growth is claimed in `leases`: one at a time; a claim that falls silent may be taken over.
//! 2. The next generation's topics are made, with the settings of the present ones.
//! 3. The present one is fenced: nodes are told through `leases`, then the brokers refuse every record
//!    (`max.message.bytes`), which is certain only when each partition's leader was seen to refuse one.
//! 4. Its ends no longer move; ingest's committed positions reach those of `chat-messages`, and those of `delivery` say
//!    where the offsets of the next generation begin.
//! 5. `leases` says that the next generation counts; running nodes follow.
//!
//! Every step may be repeated: who runs it again after an interruption goes on where it stopped.

mod said;

pub use said::{GrowError, GrowStep};

use super::admin::Wanted;
use super::clients::MESSAGE_BYTES_MAX;
use super::config::KafkaConfig;
use super::fence;
use super::marks::{GenerationMark, NextMark, PastMark, generation_key};
use super::names::name;
use super::switch::GROWING;
use super::topics::{PAST_MS_MAX, TopicState, replicas};
use super::{KafkaLog, Shared};
use crate::embedded::INGEST_GROUP;
use crate::log::Topic;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A claim is renewed this often.
const RENEW_EVERY: Duration = Duration::from_secs(2);
/// A claim that was not renewed for this long may be taken over.
const SILENT: Duration = Duration::from_secs(10);
/// How often the drain is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The ends are still for this long before they are believed: what a leader has and its followers not yet is
/// beyond them.
const STILL: Duration = Duration::from_secs(1);
/// Bound of what the brokers take to agree on something.
const AGREE: Duration = Duration::from_secs(60);

/// Gives `chat-messages` or `delivery` this many partitions, while nodes run. `progress` is told every step, and stops the
/// growth by breaking: running it again goes on.
///
/// `chat-messages`: blocks until ingest has worked off the present generation; Sends are refused with a hint for that time.
/// `delivery`, and with it [`Topic::WITH_DELIVERY`]: takes some seconds, in which messages are taken and wait for their delivery.
///
/// # Errors
/// See [`GrowError`]; whatever it is, running it again goes on where it stopped.
pub fn grow(
    config: KafkaConfig,
    topic: Topic,
    partitions: u32,
    progress: &mut dyn FnMut(&GrowStep) -> ControlFlow<()>,
) -> Result<(), GrowError> {
    if !partitions.is_power_of_two() || partitions > 65_536 {
        return Err(GrowError::Partitions { wanted: partitions });
    }
    if !GROWING.contains(&topic) {
        let topic = topic.name();
        return Err(GrowError::Topic { topic });
    }
    let log = KafkaLog::open(config)?;
    let mut growth = Growth::claim(&log.shared, topic, partitions, progress)?;
    let outcome = growth.run(progress);
    if outcome == Err(GrowError::Stopped) {
        // So that the next run need not wait for our silence.
        let _ = growth.renew(|next| next.by.clear());
    }
    outcome
}

/// The claim, and what is done under it.
struct Growth<'a> {
    shared: &'a Shared,
    topic: Topic,
    mark: GenerationMark,
    renewed: Instant,
    /// The present topic.
    old: Arc<TopicState>,
}

/// A topic and those that grow with it.
fn with(topic: Topic) -> impl Iterator<Item = Topic> {
    let others = match topic {
        Topic::Delivery => Topic::WITH_DELIVERY,
        _ => &[],
    };
    std::iter::once(topic).chain(others.iter().copied())
}

type Progress<'a> = &'a mut dyn FnMut(&GrowStep) -> ControlFlow<()>;

fn tell(progress: Progress<'_>, step: &GrowStep) -> Result<(), GrowError> {
    match progress(step) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(GrowError::Stopped),
    }
}

fn brokers(what: &'static str) -> impl Fn(String) -> GrowError {
    move |reason| GrowError::Brokers { what, reason }
}

fn said(shared: &Shared, topic: Topic) -> Option<GenerationMark> {
    let marks = shared.leases();
    marks.marks().of(topic.name()).cloned()
}

impl<'a> Growth<'a> {
    fn claim(
        shared: &'a Shared,
        topic: Topic,
        wanted: u32,
        progress: Progress<'_>,
    ) -> Result<Self, GrowError> {
        let others = GROWING.iter().filter(|other| **other != topic);
        for other in others {
            if said(shared, *other).is_some_and(|mark| mark.next.is_some()) {
                let topic = other.name();
                return Err(GrowError::Other { topic });
            }
        }
        let state = Arc::clone(&shared.state(topic));
        let found = watch(shared, topic, wanted, progress)?;
        let (before, resumed) = match &found {
            Some(mark) => (mark.version, mark.next.is_some()),
            None => (0, false),
        };
        if wanted <= state.partitions {
            return Err(GrowError::NotMore {
                topic: topic.name(),
                now: state.partitions,
                wanted,
            });
        }
        let begun = found.and_then(|mark| mark.next);
        let generation = match &begun {
            Some(next) if next.generation > 0 => next.generation,
            // Those that go together get one number.
            _ => with(topic)
                .map(|topic| shared.state(topic).generation)
                .max()
                .unwrap_or(state.generation)
                .saturating_add(1),
        };
        let past = state.past.as_ref().map(|past| PastMark {
            generation: past.generation,
            partitions: past.partitions,
            base: past.base,
        });
        let mut growth = Self {
            shared,
            topic,
            mark: GenerationMark {
                version: before,
                generation: state.generation,
                partitions: state.partitions,
                base: state.base,
                past,
                next: Some(NextMark {
                    partitions: wanted,
                    generation,
                    by: uuid::Uuid::now_v7().to_string(),
                    fenced: begun.is_some_and(|next| next.fenced),
                }),
            },
            renewed: Instant::now(),
            old: Arc::clone(&state),
        };
        growth.renew(|_| {})?;
        let step = GrowStep::Claimed {
            from: state.partitions,
            to: wanted,
            resumed,
        };
        tell(progress, &step)?;
        Ok(growth)
    }

    fn wanted(&self) -> u32 {
        self.mark.next.as_ref().map_or(0, |next| next.partitions)
    }

    /// Writes the claim anew, changed or not; fails when it is not ours any more.
    fn renew(&mut self, change: impl FnOnce(&mut NextMark)) -> Result<(), GrowError> {
        if let Some(next) = &mut self.mark.next {
            change(next);
        }
        self.put()
    }

    fn put(&mut self) -> Result<(), GrowError> {
        self.mark.version += 1;
        let key = generation_key(self.topic.name());
        let put = self.shared.put_mark(&key, &self.mark);
        put.map_err(brokers("leases cannot be written"))?;
        self.renewed = Instant::now();
        if said(self.shared, self.topic).as_ref() != Some(&self.mark) {
            return Err(GrowError::TakenOver);
        }
        Ok(())
    }

    fn keep(&mut self) -> Result<(), GrowError> {
        if self.renewed.elapsed() < RENEW_EVERY {
            return Ok(());
        }
        self.renew(|_| {})
    }

    fn run(&mut self, progress: Progress<'_>) -> Result<(), GrowError> {
        let mut topics = Vec::new();
        for topic in with(self.topic) {
            topics.push(self.make(topic)?);
        }
        tell(progress, &GrowStep::Made { topics })?;
        self.renew(|next| next.fenced = true)?;
        self.fence()?;
        let topic = self.old.name.to_string();
        if self.topic == Topic::Delivery {
            tell(progress, &GrowStep::Held { topic })?;
            let base = self.settle()?;
            tell(progress, &GrowStep::Settled { base })?;
            self.mark.past = Some(PastMark {
                generation: self.mark.generation,
                partitions: self.mark.partitions,
                base: self.mark.base,
            });
            self.mark.base = base;
        } else {
            tell(progress, &GrowStep::Fenced { topic })?;
            self.drain(progress)?;
        }
        self.mark.generation = self.mark.following();
        self.mark.partitions = self.wanted();
        self.mark.next = None;
        self.put()?;
        let until = Instant::now() + AGREE;
        while self.shared.state(self.topic).generation < self.mark.generation {
            if Instant::now() >= until {
                let reason = "the new topic is not known to them yet".to_owned();
                return Err(brokers("the switch is written")(reason));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        // Whether it may go on is no question any more.
        let _ = progress(&GrowStep::Done {
            generation: self.mark.generation,
            partitions: self.mark.partitions,
        });
        Ok(())
    }

    /// A topic of the next generation, with the settings of the present one.
    fn make(&mut self, topic: Topic) -> Result<String, GrowError> {
        let (shared, partitions) = (self.shared, self.wanted());
        let present = Arc::clone(&shared.state(topic).name);
        let name = name(&shared.config.prefix, topic, self.mark.following());
        let told = shared.admin.settings(&[&*present]);
        let told = told.map_err(brokers("the present topic cannot be described"))?;
        let own = told.into_iter().flatten().filter(|setting| setting.own);
        let mut settings: Vec<(String, String)> = own
            .map(|setting| (setting.key, setting.value))
            .filter(|(key, _)| key != "max.message.bytes")
            .collect();
        settings.push(("max.message.bytes".into(), MESSAGE_BYTES_MAX.to_string()));
        let metadata = shared.admin.metadata()?;
        let copies = replicas(&metadata, &present);
        shared.admin.create(&[Wanted {
            name: name.clone(),
            partitions,
            replication: u16::try_from(copies).unwrap_or(u16::MAX).max(1),
            settings,
        }])?;
        let until = Instant::now() + AGREE;
        loop {
            let metadata = shared.admin.metadata()?;
            let found = metadata.topics().iter().find(|t| t.name() == name);
            let shape = found
                .filter(|t| t.error().is_none())
                .map(|t| t.partitions());
            match shape {
                Some(all) if all.len() != partitions as usize => {
                    let what = format!("has {} partitions", all.len());
                    return Err(GrowError::Exists { name, what });
                }
                Some(all) if all.iter().all(|p| p.leader() >= 0) => break,
                _ if Instant::now() >= until => {
                    let reason = "its partitions have no leaders".to_owned();
                    return Err(brokers("the new topic was made")(reason));
                }
                _ => std::thread::sleep(LOOK_EVERY),
            }
            self.keep()?;
        }
        let ends = shared.admin.ends(&name, partitions);
        let ends = ends.map_err(brokers("the new topic's ends cannot be read"))?;
        if ends.iter().any(|end| *end > 0) {
            let what = "holds records".to_owned();
            return Err(GrowError::Exists { name, what });
        }
        Ok(name)
    }

    /// Nothing is appended to the present topic from when this returns.
    fn fence(&mut self) -> Result<(), GrowError> {
        let admin = Arc::clone(&self.shared.admin);
        let (topic, partitions) = (Arc::clone(&self.old.name), self.old.partitions);
        let told = admin.settings(&[&*topic]);
        let told = told.map_err(brokers("the present topic cannot be described"))?;
        let past = PAST_MS_MAX.to_string();
        let key = "message.timestamp.before.max.ms";
        let mut all = told.iter().flatten();
        if !all.any(|setting| setting.key == key && setting.value == past) {
            // Made by an earlier version, or by hand: so that no probe is appended.
            let altered = admin.alter(&topic, &[(key, &past)]);
            altered.map_err(brokers("the present topic cannot be changed"))?;
            std::thread::sleep(STILL);
        }
        let altered = admin.alter(&topic, &[(key, &past), ("max.message.bytes", "1")]);
        altered.map_err(brokers("the present topic cannot be fenced"))?;
        let until = Instant::now() + AGREE;
        let mut open: Vec<u32> = (0..partitions).collect();
        loop {
            let found = fence::not_fenced(&self.shared.config, &topic, &open);
            open = found.map_err(brokers("the fence cannot be probed"))?;
            if open.is_empty() {
                return Ok(());
            }
            if Instant::now() >= until {
                let reason = format!("partitions {open:?} still take records");
                return Err(brokers("the fence does not hold")(reason));
            }
            std::thread::sleep(LOOK_EVERY);
            self.keep()?;
        }
    }

    /// Waits until the ends stand still. Where offsets of the next generation begin: at none that was ever used.
    fn settle(&mut self) -> Result<u64, GrowError> {
        let mut still: Option<(Vec<u64>, Instant)> = None;
        loop {
            let ends = self.shared.admin.ends(&self.old.name, self.old.partitions);
            let ends = ends.map_err(brokers("the ends cannot be read"))?;
            match &still {
                Some((seen, since)) if *seen == ends => {
                    if since.elapsed() >= STILL {
                        let last = ends.iter().copied().max().unwrap_or(0);
                        return Ok(self.old.base + last);
                    }
                }
                _ => still = Some((ends, Instant::now())),
            }
            self.keep()?;
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits until ingest has committed everything.
    fn drain(&mut self, progress: Progress<'_>) -> Result<(), GrowError> {
        let mut still: Option<(Vec<u64>, Instant)> = None;
        let mut told = Instant::now() - STILL;
        loop {
            let (left, ends) = self.left()?;
            let behind = left.iter().filter(|n| **n > 0).count();
            if told.elapsed() >= STILL {
                told = Instant::now();
                let step = GrowStep::Draining {
                    left: left.iter().sum(),
                    partitions: u32::try_from(behind).unwrap_or(u32::MAX),
                };
                tell(progress, &step)?;
            }
            match &still {
                Some((seen, since)) if *seen == ends => {
                    if behind == 0 && since.elapsed() >= STILL {
                        return Ok(());
                    }
                }
                _ => still = Some((ends, Instant::now())),
            }
            self.keep()?;
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Records that ingest has not committed, and the ends, of every partition.
    fn left(&self) -> Result<(Vec<u64>, Vec<u64>), GrowError> {
        let (shared, topic) = (self.shared, &*self.old.name);
        let partitions = self.old.partitions;
        let groups = &shared.groups;
        let committed = groups.committed_of_all(INGEST_GROUP, topic, partitions);
        let committed = committed.map_err(|error| error.to_string());
        let committed = committed.map_err(brokers("ingest's positions cannot be read"))?;
        let ends = shared.admin.ends(topic, partitions);
        let ends = ends.map_err(brokers("the ends cannot be read"))?;
        let mut left = Vec::with_capacity(ends.len());
        for ((partition, end), committed) in (0..).zip(&ends).zip(committed) {
            let from = match committed {
                Some(at) => at,
                None if *end == 0 => 0,
                // Ingest has not come to it; what expired is not to be waited for.
                None => {
                    let marks = shared.admin.watermarks(topic, partition);
                    marks.map_err(brokers("the ends cannot be read"))?.0
                }
            };
            left.push(end.saturating_sub(from));
        }
        Ok((left, ends))
    }
}

/// What is claimed now, once it is sure that nobody else is at it.
fn watch(
    shared: &Shared,
    topic: Topic,
    wanted: u32,
    progress: Progress<'_>,
) -> Result<Option<GenerationMark>, GrowError> {
    let found = said(shared, topic);
    let Some((mark, next)) = found.as_ref().and_then(|m| Some((m, m.next.as_ref()?))) else {
        return Ok(found);
    };
    if !next.by.is_empty() {
        tell(progress, &GrowStep::Watching)?;
        let until = Instant::now() + SILENT;
        while Instant::now() < until {
            let now = said(shared, topic);
            if now.is_none_or(|now| now.version != mark.version) {
                return Err(GrowError::UnderWay {
                    partitions: next.partitions,
                });
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
    if next.partitions != wanted {
        return Err(GrowError::Unfinished {
            partitions: next.partitions,
        });
    }
    Ok(found)
}
