//! The end of the pipeline: what is stored goes to the log, what the log has is committed; and the dedup window is
//! rebuilt beside it.

use super::{COMMIT_EVERY, COMMIT_RECORDS, Failed, REPEAT_EVERY, RETRY_FIRST, Source};
use crate::ingest::Recollection;
use crate::ingest::driver::bell::{News, lock};
use crate::ingest::driver::recall;
use crate::ingest::driver::stages::Stage;
use hawser_engines::embedded::INGEST_GROUP;
use hawser_engines::log::{ProduceError, ReadError, Topic};
use std::sync::Arc;
use std::time::Instant;

impl Source {
    /// Gives the log what is stored, in offset order.
    pub(super) fn deliver(&mut self, now: Instant) -> Result<(), Failed> {
        while let Some((no, stored, flight)) = self.pipe.ready() {
            if let Some(body) = flight.body.take() {
                self.shared.send_body(&body, &flight.produce);
            }
            while let Some(record) = flight.next() {
                // Its acknowledgements wake us.
                let Ok(record) = record else {
                    return Ok(());
                };
                let log = &self.shared.log;
                let given = match record.topic {
                    Topic::Delivery => log.produce_in(self.delivery, record, no, &self.done),
                    _ => log.produce(record, no, &self.done),
                };
                match given {
                    Ok(()) => {
                        self.refused_since = None;
                        flight.gave();
                    }
                    // Nothing after it was produced yet: waiting keeps the order.
                    Err(ProduceError::Refused { reason, .. })
                        if !self.address.stream.is_broken()
                            && now
                                < self.refused_since.unwrap_or(now)
                                    + self.shared.config.produce_timeout =>
                    {
                        self.refused_since.get_or_insert(now);
                        self.trouble(&reason);
                        return Ok(());
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            self.shared
                .stages
                .took(Stage::Order, now.saturating_duration_since(stored));
            self.pipe.gave_all(now);
        }
        Ok(())
    }

    pub(super) fn settle(&mut self, now: Instant) {
        let low = self.pipe.low();
        while let Some(given) = self.pipe.settle() {
            self.shared
                .stages
                .took(Stage::Deliver, now.saturating_duration_since(given));
        }
        if self.pipe.low() > low {
            let low = self.pipe.low();
            self.core.settled(low);
            self.backoff = RETRY_FIRST;
            self.parked = self.parked.split_off(&low);
        } else if !(self.waiting.is_empty() && self.pipe.is_empty()) {
            return;
        }
        let waits = self.ask_at.is_some() || self.writes.deadline().is_some();
        if self.troubled && !waits && self.refused_since.is_none() {
            self.troubled = false;
            lock(&self.shared.troubles).remove(&self.partition);
        }
    }

    pub(super) fn commit(&mut self, now: Instant) {
        let next = self.pipe.low();
        let due = now >= self.commit_at || next - self.committed >= COMMIT_RECORDS;
        let again = self.repeats > 0 && next > 0 && now >= self.commit_at + REPEAT_EVERY;
        if self.committing || !(again || next > self.committed && due) {
            return;
        }
        self.repeats = self.repeats.saturating_sub(u32::from(again));
        self.committing = true;
        self.commit_at = now + COMMIT_EVERY;
        let (shared, address) = (Arc::clone(&self.shared), self.address.clone());
        let (generation, partition) = (self.generation, self.partition);
        self.shared.calls.run(move || {
            let topic = Topic::ChatMessages;
            let log = &shared.log;
            let outcome = log.commit_in(generation, INGEST_GROUP, topic, partition, next);
            address.tell(News::Committed(next, outcome));
        });
    }

    /// What others see of it.
    pub(super) fn show(&mut self, now: Instant) {
        let oldest = self.pipe.oldest_ms();
        let oldest_ms = oldest.or_else(|| self.waiting.front().map(|r| r.timestamp_ms));
        self.shared.show(self.partition, self.committed, oldest_ms);
        if let Some(hot) = self.sketch.end(now, self.partition, self.shared.config.hot) {
            self.shared.found_hot(self.partition, hot);
        }
    }

    /// Reads a little more of what came before the session, one stretch at a time.
    pub(super) fn remember(&mut self) {
        let Some(to) = self.recall.next(self.core.room()) else {
            return;
        };
        let (shared, address) = (Arc::clone(&self.shared), self.address.clone());
        let (partition, low) = (self.partition, self.recall.low());
        self.shared.calls.run(move || {
            let found = recall::stretch(shared.log.as_ref(), partition, low, to);
            address.tell(News::Recalled(found));
        });
    }

    pub(super) fn recalled(&mut self, outcome: Result<(u64, (u64, u64), Recollection), ReadError>) {
        match outcome {
            Ok((from, (earliest_ms, latest_ms), found)) => {
                self.recall.read(from, earliest_ms, latest_ms);
                self.core.recall(&found);
            }
            Err(error) => {
                // The store knows all that the window does not.
                tracing::debug!(%error, partition = self.partition, "the dedup window is not rebuilt");
                self.recall.stop();
            }
        }
    }
}
