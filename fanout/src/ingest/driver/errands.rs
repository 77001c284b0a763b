//! Threads for the calls that block: questions to the store, the directory, positions of the log.

use super::bell::lock;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

type Errand = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Queue {
    state: Mutex<(VecDeque<Errand>, bool)>,
    changed: Condvar,
}

/// The threads; dropping them waits for what is under way and leaves what is not.
pub(super) struct Errands {
    queue: Arc<Queue>,
    threads: Vec<JoinHandle<()>>,
}

impl Errands {
    /// `what` they do is in their names.
    pub(super) fn start(what: &str, threads: u32) -> std::io::Result<Self> {
        let mut errands = Self {
            queue: Arc::default(),
            threads: Vec::new(),
        };
        for index in 0..threads {
            let queue = Arc::clone(&errands.queue);
            let name = format!("hawser-{what}-{index}");
            let thread = std::thread::Builder::new().name(name);
            errands.threads.push(thread.spawn(move || queue.serve())?);
        }
        Ok(errands)
    }

    /// Runs it soon. A session has a question, a recollection and a commit under way at most, and a change per record
    /// on its way.
    pub(super) fn run(&self, errand: impl FnOnce() + Send + 'static) {
        lock(&self.queue.state).0.push_back(Box::new(errand));
        self.queue.changed.notify_one();
    }
}

impl Queue {
    fn serve(&self) {
        loop {
            let mut state = lock(&self.state);
            let errand = loop {
                if state.1 {
                    return;
                }
                if let Some(errand) = state.0.pop_front() {
                    break errand;
                }
                let waited = self.changed.wait(state);
                state = waited.unwrap_or_else(PoisonError::into_inner);
            };
            drop(state);
            errand();
        }
    }
}

impl Drop for Errands {
    fn drop(&mut self) {
        let mut state = lock(&self.queue.state);
        state.1 = true;
        state.0.clear();
        drop(state);
        self.queue.changed.notify_all();
        // The last to let go of the driver may be an errand of one of these threads: it ends by itself.
        let this = std::thread::current().id();
        for thread in self.threads.drain(..).filter(|t| t.thread().id() != this) {
            if thread.join().is_err() {
                tracing::error!("a thread of ingest panicked");
            }
        }
    }
}
