//! Opens connections by an open-loop schedule, lets each do what the attack says, and notes how each ended.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hawser_loadgen::report::Latency;

use super::floods;
use super::frames;
use super::outcome::Ending;
use super::raw::How;
use super::site::Site;

/// Connections that an attacker has open at once: below RLIMIT_NOFILE of small machines, which is 20,000.
pub const OPEN_MAX: u64 = 15_000;
/// The schedule is looked at so often.
const STEP: Duration = Duration::from_millis(2);

/// What one connection does.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A ClientHello, and then nothing.
    HelloThenSilence,
    /// A ClientHello, a byte at a time, at this pause.
    HelloByBytes(Duration),
    /// The head of a request, a byte at a time; through TLS or not.
    HeadByBytes {
        /// Of the pause between two bytes.
        pause: Duration,
        /// After a whole TLS handshake.
        tls: bool,
    },
    /// WebSocket messages that break the protocol, or do not (`frames::sound`).
    Messages {
        /// One of these, in turn.
        all: Arc<Vec<frames::Message>>,
        /// Before they are said.
        stage: Stage,
        /// Through TLS.
        tls: bool,
    },
    /// Pings without end, on a live session.
    Pings,
}

/// How far a connection goes before it breaks the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The upgrade: anybody can.
    Upgraded,
    /// A live session, with a token.
    Live,
}

/// An attack as it is made.
#[derive(Debug, Clone)]
pub struct Order {
    /// What each connection does.
    pub kind: Kind,
    /// Connections per second.
    pub rate: f64,
    /// For so long.
    pub length: Duration,
    /// Then open ones are waited for; those that are left are "still open".
    pub patience: Duration,
}

/// What all connections of an attack share.
pub struct Context {
    /// Where to.
    pub site: Arc<Site>,
    /// What to do.
    pub order: Order,
    /// A ClientHello, where the attack needs one.
    pub client_hello: Vec<u8>,
    /// Connections that TCP opened.
    pub made: AtomicU64,
    /// What else is counted: bytes one at a time, pings.
    pub units: AtomicU64,
    /// The attack is over.
    pub over: AtomicBool,
    /// Connections that have not been answered yet, where the attack waits for an answer: they may be in the backlog.
    pub waiting: AtomicU64,
    open: AtomicU64,
    tally: Mutex<Tally>,
}

#[derive(Default)]
struct Tally {
    ended: BTreeMap<(String, How), (u64, Latency)>,
    skipped: u64,
}

/// How one connection ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// What it was, where an attack is made of several.
    pub what: String,
    /// How.
    pub how: How,
    /// How long it lived since the gateway may have had it.
    pub lived: Duration,
}

/// An attack under way.
pub struct Attack {
    context: Arc<Context>,
    thread: JoinHandle<anyhow::Result<()>>,
}

/// What an attack did.
#[derive(Debug, Clone, Default)]
pub struct Done {
    /// Connections that TCP opened.
    pub made: u64,
    /// Connections that the schedule wanted and that were beyond the attacker's descriptors.
    pub skipped: u64,
    /// See [`Context::units`].
    pub units: u64,
    /// How they ended.
    pub endings: Vec<Ending>,
}

impl Attack {
    /// Begins.
    ///
    /// # Errors
    /// There is no thread for it, or no ClientHello.
    pub fn begin(site: &Arc<Site>, order: Order) -> anyhow::Result<Self> {
        let context = Arc::new(Context {
            client_hello: site.client_hello()?,
            site: Arc::clone(site),
            order,
            made: AtomicU64::new(0),
            units: AtomicU64::new(0),
            over: AtomicBool::new(false),
            waiting: AtomicU64::new(0),
            open: AtomicU64::new(0),
            tally: Mutex::default(),
        });
        let shared = Arc::clone(&context);
        let thread = std::thread::Builder::new()
            .name("attacker".to_owned())
            .spawn(move || -> anyhow::Result<()> {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                runtime.block_on(attack(&shared));
                // What is still open ends with it.
                runtime.shutdown_background();
                Ok(())
            })
            .context("a thread for the attacker")?;
        Ok(Self { context, thread })
    }

    /// Whether the schedule has ended; connections may still be open.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.context.over.load(Ordering::Acquire) || self.thread.is_finished()
    }

    /// Waits until every connection has ended, or patience.
    ///
    /// # Errors
    /// The attacker itself failed.
    pub fn end(self) -> anyhow::Result<Done> {
        let Self { context, thread } = self;
        match thread.join() {
            Ok(result) => result?,
            Err(_) => anyhow::bail!("the attacker's thread panicked"),
        }
        let open = context.open.load(Ordering::Acquire);
        let mut tally = context.lock();
        let mut endings: Vec<Ending> = std::mem::take(&mut tally.ended)
            .into_iter()
            .map(|((what, how), (count, lived))| Ending::new(what, how, count, &lived.summary()))
            .collect();
        let waiting = context.waiting.load(Ordering::Acquire).min(open);
        if open > waiting {
            endings.push(Ending::still_open(open - waiting));
        }
        if waiting > 0 {
            endings.push(Ending::never_let_in(waiting));
        }
        Ok(Done {
            made: context.made.load(Ordering::Relaxed),
            skipped: tally.skipped,
            units: context.units.load(Ordering::Relaxed),
            endings,
        })
    }
}

impl Context {
    fn lock(&self) -> std::sync::MutexGuard<'_, Tally> {
        // A count is whole at any instant.
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, ended: &Ended) {
        let mut tally = self.lock();
        let key = (ended.what.clone(), ended.how);
        let entry = tally.ended.entry(key).or_default();
        entry.0 += 1;
        entry
            .1
            .record(u64::try_from(ended.lived.as_nanos()).unwrap_or(u64::MAX));
    }

    /// A connection that TCP opened.
    pub(super) fn opened(&self) {
        self.made.fetch_add(1, Ordering::Relaxed);
    }
}

async fn attack(context: &Arc<Context>) {
    let (rate, length) = (context.order.rate, context.order.length);
    let begun = Instant::now();
    let mut next = 0_u64;
    while begun.elapsed() < length {
        // Whatever has become due, late or not: the schedule does not wait for the gateway.
        let due = (begun.elapsed().as_secs_f64() * rate).ceil();
        while (next as f64) < due {
            open(context, next);
            next += 1;
        }
        tokio::time::sleep(STEP).await;
    }
    context.over.store(true, Ordering::Release);
    let over = Instant::now();
    while context.open.load(Ordering::Acquire) > 0 && over.elapsed() < context.order.patience {
        tokio::time::sleep(STEP * 5).await;
    }
}

fn open(context: &Arc<Context>, number: u64) {
    if context.open.load(Ordering::Acquire) >= OPEN_MAX {
        context.lock().skipped += 1;
        return;
    }
    context.open.fetch_add(1, Ordering::AcqRel);
    let context = Arc::clone(context);
    tokio::spawn(async move {
        let ended = one(&context, number).await;
        context.note(&ended);
        context.open.fetch_sub(1, Ordering::AcqRel);
    });
}

async fn one(context: &Arc<Context>, number: u64) -> Ended {
    match &context.order.kind {
        Kind::HelloThenSilence => floods::hello_then_silence(context, number).await,
        Kind::HelloByBytes(pause) => floods::hello_by_bytes(context, number, *pause).await,
        Kind::HeadByBytes { pause, tls } => {
            floods::head_by_bytes(context, number, *pause, *tls).await
        }
        Kind::Messages { all, stage, tls } => {
            let turn = usize::try_from(number).unwrap_or(0) % all.len().max(1);
            match all.get(turn) {
                Some(message) => frames::say(context, number, message, *stage, *tls).await,
                None => Ended {
                    what: String::new(),
                    how: How::Open,
                    lived: Duration::ZERO,
                },
            }
        }
        Kind::Pings => frames::pings(context, number).await,
    }
}
