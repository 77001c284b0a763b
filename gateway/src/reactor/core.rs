//! One core's thread: its tasks, and what they share.
//!
//! The thread is monoio's. A task per ring, one for the core's waker and one for time each wait for
//! something to do and then let the core take one turn; turns never wait, so they never overlap.

use super::inbox::{Arriving, ToCore};
use super::readiness::Readiness;
use super::runtime;
use super::turn::Reactor;
use crate::accept::acceptor;
use crate::accept::admission::{self, TokenBucket};
use crate::accept::listener::Bound;
use crate::counters::CoreCounters;
use crate::node::shared::NodeShared;
use hawser_engines::log::ReadError;
use hawser_ring::{Receiver, RingError, Waker};
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Granularity of all deadlines of sessions, and how often a core with nothing to do looks up.
const TICK: Duration = Duration::from_millis(20);

/// The recent log is waited for so many ticks at the start: 5 s.
const WARM_TICKS_MAX: usize = 250;

/// What a core is started with.
pub(crate) struct CoreSetup {
    /// Which core, from 0.
    pub(crate) index: usize,
    pub(crate) node: Arc<NodeShared>,
    /// Listeners of its own (SO_REUSEPORT).
    pub(crate) listeners: Vec<Bound>,
    /// The receiving end of `node.cores[index]`.
    pub(crate) inbox: Receiver<ToCore>,
    /// Wakes this core; the one that the inbox was made with.
    pub(crate) waker: Waker,
    /// Where to pin the thread.
    pub(crate) pin: Option<core_affinity::CoreId>,
}

/// Why a core cannot start: the operator's to mend, or the log is away.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CoreError {
    #[error("a session ring cannot be made: {0}")]
    Ring(#[from] RingError),
    #[error("the core's runtime cannot be made: {0}")]
    Runtime(#[from] io::Error),
    #[error("the delivery log cannot be read: {0}")]
    Log(#[from] ReadError),
}

/// What the tasks of one core share.
pub(crate) struct Core {
    pub(crate) node: Arc<NodeShared>,
    pub(crate) counters: Arc<CoreCounters>,
    /// Connections in handshake.
    pub(crate) handshakes: Cell<usize>,
    /// Listeners that leave newcomers in the backlog now.
    pub(crate) paused: Cell<usize>,
    /// The pace at which connections are accepted.
    pub(crate) accepts: RefCell<TokenBucket>,
    index: usize,
    stopped: Cell<bool>,
    reactor: RefCell<Reactor>,
}

impl Core {
    /// Which core this is, from 0.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// A connection whose owner is this core, handed over without a mailbox.
    pub(crate) fn arrive_local(&self, arriving: Arriving) {
        self.reactor.borrow_mut().arrive(arriving);
        self.turn();
    }

    /// One turn. Returns whether there is more to do at once.
    fn turn(&self) -> bool {
        let mut reactor = self.reactor.borrow_mut();
        let more = reactor.turn();
        self.stopped.set(reactor.is_stopped());
        more
    }

    /// Turns until there is nothing to do, letting other tasks run in between.
    async fn settle(&self) {
        while self.turn() {
            yield_now().await;
        }
    }
}

/// Runs a core on this thread until it is told to stop. `ready` is called once it serves.
///
/// # Errors
/// It never served.
pub(crate) fn run(setup: CoreSetup, ready: impl FnOnce()) -> Result<(), CoreError> {
    let CoreSetup {
        index,
        node,
        listeners,
        inbox,
        waker,
        pin,
    } = setup;
    let limits = node.config.admission;
    let bucket = TokenBucket::new(
        limits.accepts_per_second,
        admission::burst(limits.accepts_per_second, limits.accepts_burst),
        node.clock.now_ms(),
    );
    runtime::run(pin, async move {
        let reactor = Reactor::new(index, node.clone(), inbox, &waker)?;
        let core = Rc::new(Core {
            counters: node.counters.core(index).clone(),
            node,
            handshakes: Cell::new(0),
            paused: Cell::new(0),
            accepts: RefCell::new(bucket),
            index,
            stopped: Cell::new(false),
            reactor: RefCell::new(reactor),
        });
        serve(core, listeners, &waker, ready).await
    })?
}

async fn serve(
    core: Rc<Core>,
    listeners: Vec<Bound>,
    waker: &Waker,
    ready: impl FnOnce(),
) -> Result<(), CoreError> {
    let rings = core.reactor.borrow().readiness()?;
    for ring in rings {
        let core = core.clone();
        monoio::spawn(async move {
            while ring.readable().await.is_ok() {
                core.settle().await;
            }
        });
    }
    let time = core.clone();
    monoio::spawn(async move {
        loop {
            monoio::time::sleep(TICK).await;
            time.settle().await;
        }
    });
    warm(&core).await;
    for bound in listeners {
        monoio::spawn(acceptor::run(core.clone(), bound));
    }
    ready();
    let woken = Readiness::of(waker)?;
    while !core.stopped.get() {
        woken.readable().await?;
        waker.acknowledge();
        core.reactor.borrow_mut().woken();
        core.settle().await;
    }
    Ok(())
}

/// Reads the recent log into the rings, so that who reconnects finds it there. A log whose end holds
/// no record (a gap) is not waited for beyond a moment.
async fn warm(core: &Core) {
    for _ in 0..WARM_TICKS_MAX {
        core.settle().await;
        if core.reactor.borrow().is_warm() {
            return;
        }
        monoio::time::sleep(TICK).await;
    }
}

/// Lets the other tasks of the thread run.
async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}
