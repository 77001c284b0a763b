//! How a thread of ingest is woken, and told what came of what it began.

use super::known::Known;
use crate::ingest::Recollection;
use hawser_engines::directory::DirectoryError;
use hawser_engines::log::{AppendOutcome, Appended, Consumer, ReadError, Stream, Wake};
use hawser_engines::store::StoreError;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// What came of something that a partition's session began.
pub(super) enum News {
    /// It is open: where it begins, the first offset that the log has, and the reader.
    Opened(Result<(u64, u64, Box<dyn Consumer>), ReadError>),
    /// The answers for the records that wait.
    Asked(Result<Known, StoreError>),
    /// Records of before this offset.
    Recalled(Result<(u64, (u64, u64), Recollection), ReadError>),
    /// The directory shows the groups of a write.
    Shown(u64, Result<(), DirectoryError>),
    /// A write, or the first part of one.
    Stored(u64, Result<(), StoreError>),
    /// One record of this flight.
    Produced(u64, AppendOutcome),
    /// The position.
    Committed(u64, Result<(), ReadError>),
}

/// News, and which session of which source of the thread it is for.
pub(super) struct Letter {
    pub(super) source: usize,
    pub(super) session: u64,
    pub(super) news: News,
}

/// Wakes a thread, and holds its letters: at most some per record on its way.
#[derive(Default)]
pub(super) struct Bell {
    state: Mutex<(bool, Vec<Letter>)>,
    changed: Condvar,
}

impl Bell {
    pub(super) fn ring(&self) {
        lock(&self.state).0 = true;
        self.changed.notify_all();
    }

    pub(super) fn post(&self, letter: Letter) {
        let mut state = lock(&self.state);
        state.1.push(letter);
        state.0 = true;
        drop(state);
        self.changed.notify_all();
    }

    /// Waits for a ring, no longer than this; gives the letters.
    pub(super) fn wait(&self, timeout: Duration) -> Vec<Letter> {
        let state = lock(&self.state);
        let waited = self
            .changed
            .wait_timeout_while(state, timeout, |state| !state.0);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.0 = false;
        std::mem::take(&mut state.1)
    }
}

impl Wake for Bell {
    fn wake(&self) {
        self.ring();
    }
}

/// Where a session's news go.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) bell: Arc<Bell>,
    pub(super) source: usize,
    pub(super) session: u64,
    /// What the session produces, to all partitions.
    pub(super) stream: Arc<Stream>,
}

impl Address {
    pub(super) fn tell(&self, news: News) {
        self.bell.post(Letter {
            source: self.source,
            session: self.session,
            news,
        });
    }
}

/// The tag is the flight's number.
impl Appended for Address {
    fn appended(&self, tag: u64, outcome: AppendOutcome) {
        self.tell(News::Produced(tag, outcome));
    }

    /// The edge takes what is not above the last of its source for a repetition: a hole would never be filled.
    fn stream(&self) -> Option<&Stream> {
        Some(&self.stream)
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
