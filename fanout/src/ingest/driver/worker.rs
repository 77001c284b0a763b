//! One thread: turns the partitions that are its own.

use super::bell::Bell;
use super::source::Source;
use super::{DRAIN, Shared};
use crate::ingest::IngestConfig;
use hawser_engines::log::Topic;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long an idle thread sleeps at most: reads are also tried without a wake.
const IDLE: Duration = Duration::from_millis(500);

pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) bell: Arc<Bell>,
    pub(super) index: u32,
}

impl Worker {
    /// Until the end.
    pub(super) fn run(&self) {
        while !self.shared.stopped() {
            self.generation();
        }
    }

    /// Until the end, or until the log has another generation: its offsets and partitions are others.
    fn generation(&self) {
        let generation = self.shared.log.generation(Topic::ChatMessages);
        let mut delivery = self.shared.log.shape(Topic::Delivery);
        let mut config = self.shared.config.ingest;
        config.source_partitions = self.shared.log.partitions(Topic::ChatMessages);
        config.delivery_partitions = delivery.partitions;
        if self.shared.began(generation) {
            let partitions = config.source_partitions;
            tracing::info!(generation, partitions, "ingest begins on chat-messages");
        }
        let mut sources = self.sources(config, generation, delivery.generation);
        let mut timeout = Duration::ZERO;
        let mut seen = None;
        while !self.shared.stopped() {
            self.share(&mut sources, &mut seen);
            self.news(&mut sources, timeout);
            self.shared.look_at_ends(Instant::now());
            if self.shared.log.generation(Topic::ChatMessages) != generation {
                tracing::info!("chat-messages has another generation");
                break;
            }
            let shape = self.shared.log.shape(Topic::Delivery);
            if shape.generation != delivery.generation {
                (delivery, config.delivery_partitions) = (shape, shape.partitions);
                self.plan_anew(&mut sources, config, shape.generation);
            }
            timeout = self.turn(&mut sources, false);
        }
        let until = Instant::now() + DRAIN;
        while !sources.iter().all(Source::at_rest) && Instant::now() < until {
            let timeout = self.turn(&mut sources, true);
            self.news(&mut sources, timeout);
        }
        sources.iter_mut().for_each(Source::commit_last);
    }

    /// `delivery` has grown: what is not in its log yet goes to other partitions.
    fn plan_anew(&self, sources: &mut [Source], config: IngestConfig, delivery: u16) {
        if self.index == 0 {
            let partitions = config.delivery_partitions;
            tracing::info!(generation = delivery, partitions, "delivery has grown");
        }
        let now = Instant::now();
        for source in sources {
            source.plan_anew(config, delivery, now);
        }
    }

    /// Takes up what has become ours since the version that was seen, and gives up what has not.
    fn share(&self, sources: &mut [Source], seen: &mut Option<u64>) {
        let Some(share) = &self.shared.config.share else {
            return;
        };
        let version = share.version();
        if seen.replace(version) == Some(version) {
            return;
        }
        let (owned, now) = (share.partitions(), Instant::now());
        for source in sources {
            source.set_owned(owned.contains(&source.partition()), now);
        }
    }

    fn sources(&self, config: IngestConfig, generation: u16, delivery: u16) -> Vec<Source> {
        let threads = self.shared.config.threads;
        let mine = (0..config.source_partitions).filter(|p| p % threads == self.index);
        let now = Instant::now();
        let all = mine.enumerate().map(|(index, partition)| {
            let place = (partition, index);
            let log = (config, generation, delivery);
            Source::new(&self.shared, &self.bell, place, log, now)
        });
        all.collect()
    }

    /// Waits for something to happen, and takes the news of it.
    fn news(&self, sources: &mut [Source], timeout: Duration) {
        let letters = self.bell.wait(timeout);
        let now = Instant::now();
        for letter in letters {
            if let Some(source) = sources.get_mut(letter.source) {
                source.news(letter.session, letter.news, now);
            }
        }
    }

    /// Lets every partition do what it can; how long there is nothing to do then.
    fn turn(&self, sources: &mut [Source], draining: bool) -> Duration {
        let now = Instant::now();
        let deadlines = sources
            .iter_mut()
            .filter_map(|source| source.turn(draining, now));
        let next = deadlines.min().map(|at| at.saturating_duration_since(now));
        next.map_or(IDLE, |left| left.min(IDLE))
    }
}
