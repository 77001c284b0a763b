//! What librdkafka is given of a partition at a time.
//!
//! An idempotent producer sends no further request of a partition while five of its records are unacknowledged, and its
//! thread asks whether it may by spinning (librdkafka 2.12, `rd_kafka_toppar_producer_serve`): at a few hundred records
//! per second a core is gone, and with it what the brokers beside it would have answered sooner. So a record waits here
//! while others of its partition are on their way, and what has come meanwhile leaves together, as one batch.

use super::produce::Pending;
use crate::log::Produce;
use ahash::AHashMap;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

/// Records of a partition that go at once, each for itself: few enough that librdkafka does not spin.
const ALONE_MAX: u32 = 2;

/// A record and who waits for its outcome.
pub(super) struct Parked {
    pub(super) record: Produce,
    pub(super) pending: Arc<Pending>,
}

/// The way into one partition.
pub(super) struct Door {
    pub(super) topic: Box<str>,
    pub(super) partition: u32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Records that librdkafka has.
    given: u32,
    /// Those behind them, in order.
    waiting: VecDeque<Parked>,
}

/// How much leaves together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Batch {
    pub(super) records_max: usize,
    pub(super) bytes_max: usize,
}

impl Door {
    fn new(topic: &str, partition: u32) -> Self {
        Self {
            topic: topic.into(),
            partition,
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A record is sent, or waits for those before it. `send` must not call back.
    pub(super) fn enter<E>(
        &self,
        parked: Parked,
        send: impl FnOnce(&Parked) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut state = self.lock();
        if state.given >= ALONE_MAX || !state.waiting.is_empty() {
            state.waiting.push_back(parked);
            return Ok(());
        }
        send(&parked)?;
        state.given += 1;
        Ok(())
    }

    /// librdkafka has one record less. Returns whether others may go now.
    pub(super) fn left(&self) -> bool {
        let mut state = self.lock();
        state.given = state.given.saturating_sub(1);
        state.given == 0 && !state.waiting.is_empty()
    }

    /// The next batch is sent, if it is its turn. Returns what did not get in, and what has had its outcome already:
    /// to be told outside of the lock, by whoever calls.
    pub(super) fn open<E>(
        &self,
        batch: Batch,
        mut send: impl FnMut(&Parked) -> Result<(), E>,
    ) -> Vec<(Parked, Option<E>)> {
        let (mut refused, mut bytes) = (Vec::new(), 0);
        let mut state = self.lock();
        if state.given > 0 {
            return refused;
        }
        while (state.given as usize) < batch.records_max && bytes < batch.bytes_max {
            let Some(next) = state.waiting.pop_front() else {
                break;
            };
            if next.pending.answered() {
                refused.push((next, None));
                continue;
            }
            match send(&next) {
                Ok(()) => {
                    state.given += 1;
                    bytes += next.pending.bytes();
                }
                Err(error) => refused.push((next, Some(error))),
            }
        }
        refused
    }

    /// Takes out what has waited for so long, or has had its outcome.
    fn late(&self, longer_than: Duration) -> Vec<Parked> {
        let mut state = self.lock();
        let late = |parked: &Parked| {
            let pending = &parked.pending;
            let old = || !pending.in_stream() && pending.since().elapsed() >= longer_than;
            pending.answered() || old()
        };
        let count = state.waiting.iter().take_while(|p| late(p)).count();
        state.waiting.drain(..count).collect()
    }
}

/// By topic and partition.
type Doors = AHashMap<Box<str>, AHashMap<u32, Arc<Door>>>;

/// All doors, and the bounds of what is behind them.
pub(super) struct Gate {
    doors: RwLock<Doors>,
    records: AtomicUsize,
    bytes: AtomicUsize,
    records_max: usize,
    bytes_max: usize,
}

impl Gate {
    pub(super) fn new(records_max: usize, bytes_max: usize) -> Self {
        Self {
            doors: RwLock::default(),
            records: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            records_max,
            bytes_max,
        }
    }

    pub(super) fn door(&self, topic: &str, partition: u32) -> Arc<Door> {
        let doors = self.doors.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(door) = doors.get(topic).and_then(|of| of.get(&partition)) {
            return Arc::clone(door);
        }
        drop(doors);
        let mut doors = self.doors.write().unwrap_or_else(PoisonError::into_inner);
        let of = doors.entry(topic.into()).or_default();
        let door = of.entry(partition);
        Arc::clone(door.or_insert_with(|| Arc::new(Door::new(topic, partition))))
    }

    /// Counts a record in; `false`: there is no room for it.
    pub(super) fn admit(&self, bytes: usize) -> bool {
        let records = self.records.fetch_add(1, Ordering::Relaxed) + 1;
        let sum = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let fits = records <= self.records_max && sum <= self.bytes_max;
        if !fits {
            self.release(bytes);
        }
        fits
    }

    /// A record that was counted in has its outcome, or will get none.
    pub(super) fn release(&self, bytes: usize) {
        self.records.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Takes out what has waited behind a door for so long.
    pub(super) fn late(&self, longer_than: Duration) -> Vec<Parked> {
        if self.records.load(Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        let doors = self.doors.read().unwrap_or_else(PoisonError::into_inner);
        let all = doors.values().flat_map(|of| of.values());
        all.flat_map(|door| door.late(longer_than)).collect()
    }
}
