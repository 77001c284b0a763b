//! An ingest that is a process of its own, among the others.

use super::{FollowError, Follower, Leaving, Owning};
use crate::ingest::IngestShare;
use hawser_engines::log::Log;
use hawser_protocol::ownership::{Kind, Member, plan};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two looks whether all is given away.
const LOOK: Duration = Duration::from_millis(10);

/// What the thread and its owner tell each other.
#[derive(Debug, Default)]
struct Shared {
    drains: AtomicBool,
    ends: AtomicBool,
    /// Since it drains: nothing is ours any more, or there is nobody to take it.
    given: AtomicBool,
}

/// The place of an ingest; dropping it says good-bye.
pub struct IngestMember {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl IngestMember {
    /// Takes a place; what is ours by it goes to `share`. `displaced` is told once, with the way out, when another process
    /// has taken the name.
    ///
    /// # Errors
    /// See [`FollowError`].
    pub fn start(
        follower: Follower,
        log: Arc<dyn Log>,
        share: IngestShare,
        displaced: impl FnOnce(String) + Send + 'static,
    ) -> Result<Self, FollowError> {
        let shared = Arc::new(Shared::default());
        let part = Part {
            shared: shared.clone(),
            share,
            displaced: Some(Box::new(displaced)),
        };
        let thread = Some(follower.start(log, part)?);
        Ok(Self { shared, thread })
    }

    /// Gives away what is owned to whoever takes it; waits for that at most so long. Whether all is given, or nobody is
    /// there to take it.
    #[must_use]
    pub fn drain(&self, patience: Duration) -> bool {
        self.shared.drains.store(true, Ordering::Release);
        let until = Instant::now() + patience;
        loop {
            if self.shared.given.load(Ordering::Acquire) {
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for IngestMember {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!("the thread of owners panicked");
            }
        }
    }
}

struct Part {
    shared: Arc<Shared>,
    share: IngestShare,
    displaced: Option<Box<dyn FnOnce(String) + Send>>,
}

impl Owning for Part {
    fn own(&mut self, kind: Kind, partition: u32) {
        if kind == Kind::Ingest {
            self.share.own(partition);
        }
    }

    fn yielded(&mut self, kind: Kind, partition: u32) {
        if kind == Kind::Ingest {
            self.share.release(partition);
        }
    }

    fn leaving(&self) -> Leaving {
        if self.shared.ends.load(Ordering::Acquire) {
            Leaving::Gone
        } else if self.shared.drains.load(Ordering::Acquire) {
            Leaving::Draining
        } else {
            Leaving::Not
        }
    }

    fn looked(&mut self, member: &Member, _: u64) {
        self.share.set_in_place(!member.is_fenced());
        self.share.learn_lanes(member.table());
        if self.leaving() == Leaving::Not {
            return;
        }
        // Our own word that we drain has to be read before the plan is one without us.
        let drains = member.says_that_it_drains();
        let heirs = || {
            plan(member.table(), Kind::Ingest)
                .iter()
                .any(Option::is_some)
        };
        if member.owned(Kind::Ingest) == 0 || (drains && !heirs()) {
            self.shared.given.store(true, Ordering::Release);
        }
    }

    fn displaced(&mut self, words: String) {
        if let Some(tell) = self.displaced.take() {
            tell(words);
        }
    }
}
