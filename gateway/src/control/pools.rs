//! Threads that wait on engines: so many for each engine, so that one that hangs holds up its own
//! questions alone.

use super::answers::Answers;
use super::message::ToControl;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Threads of all pools, a round of presence, and the API's.
pub(super) const THREADS_MAX: usize =
    STORE.threads + LOG.threads + PRESENCE.threads + PRESENCE_ROUNDS + API_THREADS + ADMIN_READS;
/// One round of presence at a time.
const PRESENCE_ROUNDS: usize = 1;
/// One look for the ends of the log at a time.
const ADMIN_READS: usize = 1;
/// As many as the API asks engines at a time.
const API_THREADS: usize = 64;
/// A question that waited longer for a thread is answered without looking: the client asks again.
const WAIT_MAX: Duration = Duration::from_secs(5);

const STORE: Bound = Bound {
    threads: 16,
    questions: 1_024,
};
const LOG: Bound = Bound {
    threads: 8,
    questions: 1_024,
};
const PRESENCE: Bound = Bound {
    threads: 2,
    questions: 512,
};

/// Of one engine.
#[derive(Debug, Clone, Copy)]
struct Bound {
    threads: usize,
    /// Waiting or being answered; beyond, they are answered without looking.
    questions: usize,
}

/// One engine's.
struct Pool {
    bound: Bound,
    questions: Arc<Semaphore>,
    threads: Arc<Semaphore>,
}

/// All of them.
pub(super) struct Pools {
    store: Pool,
    log: Pool,
    presence: Pool,
}

impl Pool {
    fn new(bound: Bound) -> Self {
        Self {
            bound,
            questions: Arc::new(Semaphore::new(bound.questions)),
            threads: Arc::new(Semaphore::new(bound.threads)),
        }
    }

    fn waiting(&self) -> usize {
        self.bound.questions - self.questions.available_permits()
    }
}

impl Pools {
    pub(super) fn new() -> Self {
        Self {
            store: Pool::new(STORE),
            log: Pool::new(LOG),
            presence: Pool::new(PRESENCE),
        }
    }

    /// Answers a question on its engine's threads. `false`: too many wait, it was answered so.
    pub(super) fn ask(&self, answers: &Arc<Answers>, question: ToControl) -> bool {
        let pool = match &question {
            ToControl::Watch { .. } => &self.presence,
            ToControl::ReadLog { .. }
            | ToControl::OpenPartition { .. }
            | ToControl::ClosePartition(_) => &self.log,
            _ => &self.store,
        };
        let Ok(place) = pool.questions.clone().try_acquire_owned() else {
            answers.refuse(question);
            return false;
        };
        let answers = answers.clone();
        match pool.threads.clone().try_acquire_owned() {
            Ok(thread) => run(answers, question, place, thread),
            Err(_) => {
                let threads = pool.threads.clone();
                let since = Instant::now();
                tokio::spawn(async move {
                    // Never closed.
                    let Ok(thread) = threads.acquire_owned().await else {
                        return;
                    };
                    if since.elapsed() > WAIT_MAX {
                        answers.refuse(question);
                    } else {
                        run(answers, question, place, thread);
                    }
                });
            }
        }
        true
    }

    /// Does something with the presence engine, if one of its threads is free.
    pub(super) fn presence_threads(&self) -> Arc<Semaphore> {
        self.presence.threads.clone()
    }

    /// Questions that wait or are being answered.
    pub(super) fn waiting(&self) -> usize {
        self.store.waiting() + self.log.waiting() + self.presence.waiting()
    }
}

fn run(
    answers: Arc<Answers>,
    question: ToControl,
    place: OwnedSemaphorePermit,
    thread: OwnedSemaphorePermit,
) {
    tokio::task::spawn_blocking(move || {
        answers.answer(question);
        drop((place, thread));
    });
}
