//! Consumers: fed from memory by the commit thread while they keep up, from the database otherwise.
//!
//! A consumer's queue is bounded. When it is full the consumer stops being *live*: the commit thread
//! passes it by, the reader thread refills the queue from the database each time it has been polled
//! empty, and at the end of the log makes it live again. `poll` itself never touches the disk.

use super::core::{Core, lock};
use super::log::read_log;
use super::stats::add;
use crate::log::{Consumer, ReadError, Record, Topic, Wake};
use std::collections::VecDeque;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard};

/// Work for the reader thread.
pub(super) enum Refill {
    /// Read on for this consumer.
    Feed(Arc<Feed>),
    /// The engine closes.
    Close,
}

/// Bytes that one refill reads at most.
const REFILL_BYTES: usize = 1 << 20;

/// The shared half of a consumer.
pub(super) struct Feed {
    topic: Topic,
    partition: u32,
    wake: Arc<dyn Wake>,
    state: Mutex<FeedState>,
}

struct FeedState {
    queue: VecDeque<Record>,
    bytes: usize,
    /// Offset after the last one queued (or skipped to).
    next: u64,
    /// Fed by the commit thread; otherwise by the reader thread.
    live: bool,
    /// The reader thread has been asked and has not answered.
    refilling: bool,
    /// Grows with every seek: an answer to an older question is dropped.
    epoch: u64,
    error: Option<ReadError>,
    closed: bool,
}

impl FeedState {
    fn push(&mut self, record: &Record) {
        self.bytes += size(record);
        self.next = record.offset + 1;
        self.queue.push_back(record.clone());
    }

    fn has_room(&self, core: &Core) -> bool {
        self.queue.len() < core.config.consumer_records_max
            && self.bytes < core.config.consumer_bytes_max
    }
}

fn size(record: &Record) -> usize {
    64 + record.key.len() + record.value.len()
}

impl Feed {
    pub(super) fn new(topic: Topic, partition: u32, next: u64, wake: Arc<dyn Wake>) -> Self {
        Self {
            topic,
            partition,
            wake,
            state: Mutex::new(FeedState {
                queue: VecDeque::new(),
                bytes: 0,
                next,
                live: false,
                refilling: false,
                epoch: 0,
                error: None,
                closed: false,
            }),
        }
    }

    /// New records of the partition, from the commit thread, after they became readable.
    pub(super) fn offer(&self, core: &Core, records: &[Record]) {
        let mut state = lock(&self.state);
        if state.closed {
            return;
        }
        let was_empty = state.queue.is_empty();
        if state.live {
            for record in records {
                if record.offset < state.next {
                    continue;
                }
                if record.offset > state.next || !state.has_room(core) {
                    state.live = false;
                    add(&core.counters.consumers_lagged, 1);
                    break;
                }
                state.push(record);
            }
        }
        let wake = was_empty && !state.refilling;
        drop(state);
        if wake {
            self.wake.wake();
        }
    }

    /// A new record of an ephemeral topic: the oldest gives way when the queue is full.
    pub(super) fn offer_ephemeral(&self, core: &Core, record: &Record) {
        let mut state = lock(&self.state);
        if state.closed {
            return;
        }
        let was_empty = state.queue.is_empty();
        while !state.has_room(core) {
            let Some(oldest) = state.queue.pop_front() else {
                break;
            };
            state.bytes -= size(&oldest);
        }
        state.push(record);
        drop(state);
        if was_empty {
            self.wake.wake();
        }
    }

    /// Not live any more: what was told to it may have to be read again.
    pub(super) fn demote(&self) {
        let mut state = lock(&self.state);
        state.live = false;
        let wake = state.queue.is_empty();
        drop(state);
        if wake {
            self.wake.wake();
        }
    }

    /// Takes up to `max`; asks the reader thread for more when there is none.
    fn take(self: &Arc<Self>, core: &Core, max: usize) -> Result<VecDeque<Record>, ReadError> {
        let mut state = lock(&self.state);
        if state.queue.is_empty() {
            if let Some(error) = state.error.take() {
                return Err(error);
            }
            if !state.live && !state.refilling {
                self.request(core, state);
            }
            return Ok(VecDeque::new());
        }
        let taken = if state.queue.len() <= max {
            std::mem::take(&mut state.queue)
        } else {
            state.queue.drain(..max).collect()
        };
        state.bytes -= taken.iter().map(size).sum::<usize>();
        if state.queue.is_empty() && !state.live && !state.refilling && state.error.is_none() {
            self.request(core, state);
        }
        Ok(taken)
    }

    /// Asks the reader thread to read on.
    fn request(self: &Arc<Self>, core: &Core, mut state: MutexGuard<'_, FeedState>) {
        state.refilling = true;
        drop(state);
        // A closed reader thread means that the engine is closed: there is nothing to come.
        let _ = core.refill.send(Refill::Feed(Arc::clone(self)));
    }

    /// One step of the reader thread. Returns whether there is more to read at once.
    fn refill(&self, core: &Core) -> bool {
        let (from, epoch) = {
            let state = lock(&self.state);
            if state.closed || !state.refilling {
                return false;
            }
            (state.next, state.epoch)
        };
        let read = read_log(
            core,
            self.topic,
            self.partition,
            from,
            core.config.consumer_records_max,
            REFILL_BYTES.min(core.config.consumer_bytes_max),
        );
        let mut state = lock(&self.state);
        if state.epoch != epoch || state.closed {
            return !state.closed && state.refilling;
        }
        let found = match read {
            Ok(records) => {
                for record in &records {
                    state.push(record);
                }
                !records.is_empty()
            }
            Err(error) => {
                state.error = Some(error);
                state.refilling = false;
                drop(state);
                self.wake.wake();
                return false;
            }
        };
        if found {
            state.refilling = false;
            drop(state);
            self.wake.wake();
            return false;
        }
        // At the end: live from here. A commit published `high` before it looked at `live`, so
        // either it sees this, or this sees its `high`.
        state.live = true;
        state.refilling = false;
        let next = state.next;
        drop(state);
        let high = core
            .partition(self.topic, self.partition)
            .map_or(next, |p| p.watermarks().high);
        if high <= next {
            return false;
        }
        let mut state = lock(&self.state);
        if !state.live || state.next >= high {
            return false;
        }
        state.live = false;
        state.refilling = true;
        true
    }
}

/// Runs the reader thread until the engine closes.
pub(super) fn run_reader(core: &Core, requests: &Receiver<Refill>) {
    while let Ok(Refill::Feed(feed)) = requests.recv() {
        while feed.refill(core) {}
    }
}

/// The owner's half of a consumer.
pub(super) struct EmbeddedConsumer {
    core: Arc<Core>,
    feed: Arc<Feed>,
    position: u64,
}

impl EmbeddedConsumer {
    /// Registers with the partition, so that the commit thread feeds it.
    pub(super) fn register(
        core: Arc<Core>,
        topic: Topic,
        partition: u32,
        start: u64,
        wake: Arc<dyn Wake>,
    ) -> Result<Self, ReadError> {
        let feed = Arc::new(Feed::new(topic, partition, start, wake));
        lock(&core.existing(topic, partition)?.feeds).push(Arc::clone(&feed));
        if topic.ephemeral() {
            lock(&feed.state).live = true;
        } else {
            feed.request(&core, lock(&feed.state));
        }
        Ok(Self {
            core,
            feed,
            position: start,
        })
    }
}

impl Consumer for EmbeddedConsumer {
    fn poll(&mut self, max: usize, each: &mut dyn FnMut(Record)) -> Result<usize, ReadError> {
        let taken = self.feed.take(&self.core, max)?;
        let n = taken.len();
        for record in taken {
            self.position = record.offset + 1;
            each(record);
        }
        Ok(n)
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn seek(&mut self, to: u64) -> Result<(), ReadError> {
        let partition = self.core.existing(self.feed.topic, self.feed.partition)?;
        // Held while an ephemeral record is offered, so that none is seen twice or passed by.
        let ring = lock(&partition.ring);
        let marks = partition.watermarks();
        if to < marks.low || to > marks.high {
            return Err(ReadError::OutOfRange {
                wanted: to,
                low: marks.low,
                high: marks.high,
            });
        }
        let mut state = lock(&self.feed.state);
        state.queue.clear();
        state.bytes = 0;
        state.next = to;
        state.epoch += 1;
        state.error = None;
        self.position = to;
        if self.feed.topic.ephemeral() {
            for record in ring.read(to, usize::MAX, usize::MAX) {
                state.push(&record);
            }
            return Ok(());
        }
        state.live = false;
        if !state.refilling {
            self.feed.request(&self.core, state);
        }
        Ok(())
    }
}

impl Drop for EmbeddedConsumer {
    fn drop(&mut self) {
        lock(&self.feed.state).closed = true;
        if let Some(partition) = self.core.partition(self.feed.topic, self.feed.partition) {
            lock(&partition.feeds).retain(|feed| !Arc::ptr_eq(feed, &self.feed));
        }
    }
}
