//! The bounded queue in front of the commit thread.

use super::directory::DirectoryOp;
use super::hook::CommitHook;
use crate::directory::DirectoryError;
use crate::log::{AppendOutcome, Appended, Produce, ProduceError};
use crate::store::{StoreError, StoreOp};
use std::collections::VecDeque;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The caller's callback: called exactly once, `Unknown` when the job is dropped half-way.
pub(super) struct Ack {
    tag: u64,
    done: Option<Arc<dyn Appended>>,
}

impl Ack {
    pub(super) fn new(tag: u64, done: Arc<dyn Appended>) -> Self {
        Self {
            tag,
            done: Some(done),
        }
    }

    pub(super) fn complete(mut self, outcome: AppendOutcome) {
        if let Some(done) = self.done.take() {
            tell(&*done, self.tag, outcome);
        }
    }

    /// Whether a record before it, of the same stream, was not appended.
    pub(super) fn is_broken(&self) -> bool {
        self.done.as_ref().is_some_and(|done| done.is_broken())
    }

    /// The call to `produce` itself fails: the callback is not called.
    fn withdraw(&mut self) {
        self.done = None;
    }
}

impl Drop for Ack {
    fn drop(&mut self) {
        if let Some(done) = self.done.take() {
            tell(&*done, self.tag, Err(unknown("the commit thread ended")));
        }
    }
}

fn tell(done: &dyn Appended, tag: u64, outcome: AppendOutcome) {
    if outcome.is_err() {
        done.break_off();
    }
    done.appended(tag, outcome);
}

/// Something for the commit thread.
pub(super) enum Job {
    /// Append one record.
    Produce { record: Produce, ack: Ack },
    /// Apply store rows.
    Store {
        ops: Vec<StoreOp>,
        reply: SyncSender<Result<(), StoreError>>,
    },
    /// Change the directory.
    Directory {
        op: DirectoryOp,
        /// With the position in the list of revocations, of a change that adds to it.
        reply: SyncSender<Result<u64, DirectoryError>>,
    },
    /// Install the hook; answers how many records it was given to catch up.
    Hook {
        hook: Box<dyn CommitHook>,
        reply: SyncSender<Result<u64, StoreError>>,
    },
}

impl Job {
    /// Cost against the bound on bytes: payload and a flat share for bookkeeping.
    fn bytes(&self) -> usize {
        128 + match self {
            Self::Produce { record, .. } => record.key.len() + record.value.len(),
            Self::Store { ops, .. } => ops.iter().map(store_op_bytes).sum(),
            Self::Directory { .. } | Self::Hook { .. } => 0,
        }
    }
}

fn store_op_bytes(op: &StoreOp) -> usize {
    match op {
        StoreOp::Message {
            record, envelopes, ..
        } => 128 + record.len() + envelopes.len(),
        _ => 128,
    }
}

/// What the commit thread gets.
pub(super) enum Taken {
    /// At least one job, in order; a `Hook` job comes alone.
    Jobs(Vec<Job>),
    /// Nothing came for the time asked.
    Idle,
    /// Closed, and nothing is left.
    Closed,
}

/// How much to take, and how long to wait.
pub(super) struct Take {
    pub(super) records_max: usize,
    pub(super) bytes_max: usize,
    /// How long to wait for the first.
    pub(super) idle: Duration,
    /// How long to wait for more after the first.
    pub(super) linger: Duration,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    bytes: usize,
    closed: bool,
}

/// The queue. Bounded in jobs and bytes; a full one refuses, it never blocks the caller.
pub(super) struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
    jobs_max: usize,
    bytes_max: usize,
}

impl Queue {
    pub(super) fn new(jobs_max: usize, bytes_max: usize) -> Self {
        Self {
            state: Mutex::default(),
            arrived: Condvar::new(),
            jobs_max,
            bytes_max,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enqueues, or says why not. Never blocks beyond the queue's own lock.
    pub(super) fn push(&self, mut job: Job) -> Result<(), ProduceError> {
        let bytes = job.bytes();
        let mut state = self.lock();
        let refusal = if state.closed {
            Some(refused("the engine is closed", 1_000))
        } else if state.jobs.len() >= self.jobs_max || state.bytes + bytes > self.bytes_max {
            Some(refused(
                "overloaded: the queue of the commit thread is full",
                250,
            ))
        } else {
            None
        };
        if let Some(refusal) = refusal {
            if let Job::Produce { ack, .. } = &mut job {
                ack.withdraw();
            }
            return Err(refusal);
        }
        state.jobs.push_back(job);
        state.bytes += bytes;
        drop(state);
        self.arrived.notify_one();
        Ok(())
    }

    /// Takes what there is, waiting as told.
    pub(super) fn take(&self, take: &Take) -> Taken {
        let mut state = self.lock();
        if state.jobs.is_empty() && !state.closed {
            state = self
                .arrived
                .wait_timeout_while(state, take.idle, |s| s.jobs.is_empty() && !s.closed)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        if state.jobs.is_empty() {
            return if state.closed {
                Taken::Closed
            } else {
                Taken::Idle
            };
        }
        if !take.linger.is_zero() {
            let until = Instant::now() + take.linger;
            while state.jobs.len() < take.records_max
                && state.bytes < take.bytes_max
                && !state.closed
            {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                state = self
                    .arrived
                    .wait_timeout(state, left)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            }
        }
        Taken::Jobs(drain(&mut state, take))
    }

    /// Refuses from now on; what is queued is still taken.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
    }

    /// Jobs waiting.
    pub(super) fn len(&self) -> usize {
        self.lock().jobs.len()
    }
}

fn drain(state: &mut State, take: &Take) -> Vec<Job> {
    let mut taken = Vec::with_capacity(state.jobs.len().min(take.records_max));
    let mut bytes = 0;
    while taken.len() < take.records_max && bytes < take.bytes_max {
        let Some(job) = state.jobs.pop_front() else {
            break;
        };
        if matches!(job, Job::Hook { .. }) && !taken.is_empty() {
            state.jobs.push_front(job);
            break;
        }
        let alone = matches!(job, Job::Hook { .. });
        bytes += job.bytes();
        taken.push(job);
        if alone {
            break;
        }
    }
    state.bytes -= bytes.min(state.bytes);
    taken
}

/// A refusal.
pub(super) fn refused(reason: &str, retry_after_ms: u32) -> ProduceError {
    ProduceError::Refused {
        reason: reason.to_owned(),
        retry_after_ms,
    }
}

/// An outcome that is not known.
pub(super) fn unknown(reason: &str) -> ProduceError {
    ProduceError::Unknown {
        reason: reason.to_owned(),
    }
}
