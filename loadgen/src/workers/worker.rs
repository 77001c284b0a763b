//! A worker: waits for a coordinator that knows the token, plays what it is told, and waits for the next.

use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::peer::locked;
use super::token::{self, Side, Token};
use super::version;
use super::wire::{
    self, Answer, CONTROL, FRAME_BYTES_MAX, FromWorker, GREETING_BYTES_MAX, Greeting, Hello, Job,
    Packed, SILENCE, ToWorker, WireError,
};
use crate::scenario::crew::{Crew, Local};
use crate::scenario::server;

/// Coordinators that have not proved anything yet at most; others are closed.
const GUESTS_MAX: u32 = 16;
/// A coordinator says who it is within this.
const GREET: Duration = Duration::from_secs(5);
/// One that comes while another run is ended waits so long for its turn.
const TURN: Duration = Duration::from_secs(10);
/// Whoever guesses tokens waits so long for each.
const WRONG: Duration = Duration::from_secs(1);
/// What was said and not done yet, messages; whoever says more waits.
const INBOX: usize = 16;
/// How often counters are told.
const LOOK: Duration = Duration::from_millis(100);
/// All threads have seen within this what they are to do.
const OBEYED: Duration = Duration::from_millis(30);
/// A step lies at most so far ahead.
const AHEAD_MAX: Duration = Duration::from_secs(10);
/// Letters of a peer's words that are shown.
const WORDS_MAX: usize = 500;

/// Why a worker is none.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The socket is of no use any more.
    #[error("no further connections can be taken")]
    Deaf,
    /// A thread cannot be had.
    #[error("no thread: {0}")]
    Thread(std::io::Error),
}

/// What a worker brings of its own.
#[derive(Clone)]
pub struct Worker {
    /// Whom it takes jobs of.
    pub token: Token,
    /// In the place of the scenario's `target.key`.
    pub key: Option<PathBuf>,
    /// In the place of the scenario's `target.ca`.
    pub ca: Option<PathBuf>,
    /// Ends after one run.
    pub once: bool,
    /// Says nothing.
    pub quiet: bool,
}

/// A coordinator that has proved itself.
struct Guest {
    stream: TcpStream,
    name: String,
    proof: String,
}

/// Why a run ends early.
enum Stop {
    /// The coordinator is gone.
    Gone,
    /// This worker cannot go on.
    Failed(String),
}

impl From<WireError> for Stop {
    fn from(_: WireError) -> Self {
        Self::Gone
    }
}

impl Worker {
    /// Takes one coordinator after the other.
    ///
    /// # Errors
    /// See [`WorkerError`].
    pub fn serve(&self, listener: TcpListener) -> Result<(), WorkerError> {
        let (offer, taken) = sync_channel(0);
        let door = self.clone();
        std::thread::Builder::new()
            .name("door".to_owned())
            .spawn(move || door.accept(&listener, &offer))
            .map_err(WorkerError::Thread)?;
        loop {
            let guest: Guest = taken.recv().map_err(|_| WorkerError::Deaf)?;
            let name = guest.name.clone();
            match self.host(guest) {
                Ok(()) => self.tell(&format!("the run of {name} has ended")),
                Err(Stop::Gone) => self.tell(&format!("{name} is gone: its run is stopped")),
                Err(Stop::Failed(words)) => self.tell(&format!("the run of {name}: {words}")),
            }
            if self.once {
                return Ok(());
            }
        }
    }

    fn tell(&self, words: &str) {
        if !self.quiet {
            eprintln!("hawser-loadgen worker: {words}");
        }
    }

    fn accept(&self, listener: &TcpListener, offer: &SyncSender<Guest>) {
        let guests = Arc::new(AtomicU32::new(0));
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                // Out of descriptors, or the like: it may pass.
                std::thread::sleep(LOOK);
                continue;
            };
            if guests.fetch_add(1, Ordering::AcqRel) >= GUESTS_MAX {
                guests.fetch_sub(1, Ordering::AcqRel);
                continue;
            }
            let (door, offer, left) = (self.clone(), offer.clone(), Arc::clone(&guests));
            let spawned = std::thread::Builder::new()
                .name("guest".to_owned())
                .spawn(move || {
                    door.greet(&stream, &offer);
                    left.fetch_sub(1, Ordering::AcqRel);
                });
            if spawned.is_err() {
                guests.fetch_sub(1, Ordering::AcqRel);
            }
        }
    }

    /// Hands over a coordinator that is of this build and knows the token.
    fn greet(&self, stream: &TcpStream, offer: &SyncSender<Guest>) {
        let name = stream
            .peer_addr()
            .map_or_else(|_| "somebody".to_owned(), |address| address.to_string());
        let Ok(nonce) = token::random() else { return };
        let ours = Greeting {
            control: CONTROL,
            version: version(),
            nonce,
        };
        let _ = stream.set_nodelay(true);
        if wire::send(stream, &ours).is_err() {
            return;
        }
        let Ok(Hello { greeting, proof }) = wire::receive(stream, GREETING_BYTES_MAX, GREET) else {
            return;
        };
        let refuse = |words: String| {
            self.tell(&format!("{name} is refused: {words}"));
            let _ = wire::send(stream, &Answer::Refused { words });
        };
        if greeting.control != CONTROL || greeting.version != ours.version {
            return refuse(format!(
                "it is hawser-loadgen {} with control protocol {}, this worker is {} with {CONTROL}: run the same build everywhere",
                words(&greeting.version),
                greeting.control,
                ours.version
            ));
        }
        let (mine, other) = (&ours.nonce, &greeting.nonce);
        if !self.token.proves(Side::Coordinator, mine, other, &proof) {
            std::thread::sleep(WRONG);
            return refuse(
                "the token is another one: --workers-token-file of the coordinator and --token-file of the worker are to hold the same"
                    .to_owned(),
            );
        }
        let proof = self.token.proof(Side::Worker, mine, other);
        let Ok(handed) = stream.try_clone() else {
            return;
        };
        let mut guest = Guest {
            stream: handed,
            name: name.clone(),
            proof,
        };
        let came = Instant::now();
        loop {
            match offer.try_send(guest) {
                Ok(()) | Err(TrySendError::Disconnected(_)) => return,
                Err(TrySendError::Full(back)) if came.elapsed() < TURN => {
                    guest = back;
                    std::thread::sleep(LOOK);
                }
                Err(TrySendError::Full(_)) => {
                    return refuse("another run is under way here".to_owned());
                }
            }
        }
    }

    /// One coordinator's run.
    fn host(&self, guest: Guest) -> Result<(), Stop> {
        let Guest {
            stream,
            name,
            proof,
        } = guest;
        let accepted = Answer::Accepted {
            proof,
            machine: machine(),
        };
        wire::send(&stream, &accepted)?;
        let io = |_: std::io::Error| Stop::Gone;
        let gone = Arc::new(AtomicBool::new(false));
        let line = Arc::new(Line {
            writer: Mutex::new(stream.try_clone().map_err(io)?),
            epoch: Instant::now(),
            gone: Arc::clone(&gone),
        });
        let (say, inbox) = sync_channel(INBOX);
        let (reading, listener) = (Arc::clone(&line), stream.try_clone().map_err(io)?);
        let reader = std::thread::Builder::new()
            .name("coordinator".to_owned())
            .spawn(move || reading.read(&listener, &say))
            .map_err(io)?;
        let outcome = self.play(&name, &line, &inbox);
        if let Err(Stop::Failed(words)) = &outcome {
            let words = words.clone();
            let _ = line.say(&FromWorker::Failed { words });
        }
        // What was said last is to arrive: the coordinator hangs up, once all workers have ended. Its beats say that it is there.
        while !reader.is_finished() && !matches!(outcome, Err(Stop::Gone)) {
            std::thread::sleep(OBEYED);
        }
        drop(inbox);
        let _ = stream.shutdown(Shutdown::Both);
        let _ = reader.join();
        outcome
    }

    fn play(&self, name: &str, line: &Line, inbox: &Receiver<ToWorker>) -> Result<(), Stop> {
        let job = match inbox.recv() {
            Ok(ToWorker::Job(job)) => *job,
            Ok(_) => return Err(Stop::Failed("a job comes first".to_owned())),
            Err(_) => return Err(Stop::Gone),
        };
        let Job { mut scenario, part } = job;
        if let Some(key) = &self.key {
            scenario.target.key.clone_from(key);
        }
        if let Some(ca) = &self.ca {
            scenario.target.ca = Some(ca.clone());
        }
        let last = part.first.saturating_add(part.count).saturating_sub(1);
        self.tell(&format!(
            "{name}: {}, users {} to {last}",
            words(&scenario.name),
            part.first
        ));
        if part.count < 2 || part.count % 2 == 1 || scenario.sessions.group_size == 0 {
            return Err(Stop::Failed("people talk in pairs".to_owned()));
        }
        let wanted = || !line.gone.load(Ordering::Acquire);
        let started = Local::start(&scenario, &part, &wanted);
        let mut crew = started.map_err(|error| Stop::Failed(format!("{error:#}")))?;
        line.say(&FromWorker::Ready)?;
        let outcome = obey(&mut crew, line, inbox);
        match outcome {
            // Why a thread ended says more than that one did.
            Err(Stop::Failed(words)) => Err(Stop::Failed(
                crew.finish()
                    .map_or_else(|error| format!("{error:#}"), |_| words),
            )),
            other => other,
        }
    }
}

/// Does what the coordinator says until it says that it is over.
fn obey(crew: &mut Local, line: &Line, inbox: &Receiver<ToWorker>) -> Result<(), Stop> {
    let failed = |error: anyhow::Error| Stop::Failed(format!("{error:#}"));
    let mut step = 0;
    loop {
        match inbox.recv_timeout(LOOK) {
            Ok(ToWorker::Step {
                number,
                at_ns,
                step: what,
            }) => {
                line.sleep_until(at_ns);
                crew.begin(&what).map_err(failed)?;
                std::thread::sleep(OBEYED);
                step = number;
            }
            Ok(ToWorker::Tick { number }) => {
                let gathered = crew.tick().map_err(failed)?;
                line.window(Some(number), &gathered.window, gathered.own)?;
            }
            Ok(ToWorker::End) => {
                let ended = crew.finish().map_err(failed)?;
                let own = crate::usage::Usage::read(std::process::id()).unwrap_or_default();
                line.window(None, &ended.window, own)?;
                let end = Box::new(ended.end);
                line.say(&FromWorker::Ended { end })?;
                return Ok(());
            }
            Ok(ToWorker::Job(_) | ToWorker::Beat { .. }) => {
                return Err(Stop::Failed("there is a job already".to_owned()));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(Stop::Gone),
        }
        crew.check().map_err(failed)?;
        let totals = crew.totals();
        line.say(&FromWorker::Counts { step, totals })?;
    }
}

/// What the threads of a run share of its coordinator.
struct Line {
    writer: Mutex<TcpStream>,
    epoch: Instant,
    gone: Arc<AtomicBool>,
}

impl Line {
    fn say(&self, message: &FromWorker) -> Result<(), WireError> {
        wire::send(&locked(&self.writer), message)
    }

    fn window(
        &self,
        tick: Option<u32>,
        window: &crate::engine::Window,
        own: crate::usage::Usage,
    ) -> Result<(), WireError> {
        let parts = Packed::parts(window);
        let last = parts.len() - 1;
        for (at, window) in parts.into_iter().enumerate() {
            let tick = tick.filter(|_| at == last);
            self.say(&FromWorker::Window { tick, own, window })?;
        }
        Ok(())
    }

    fn read(&self, stream: &TcpStream, say: &SyncSender<ToWorker>) {
        while let Ok(message) = wire::receive(stream, FRAME_BYTES_MAX, SILENCE) {
            let done = match message {
                // Answered here, whatever else is going on: it is how clocks are compared.
                ToWorker::Beat { sent_ns } => self
                    .say(&FromWorker::Clock {
                        sent_ns,
                        now_ns: nanoseconds(self.epoch),
                        wall_us: wall_us(),
                    })
                    .is_ok(),
                other => say.send(other).is_ok(),
            };
            if !done {
                break;
            }
        }
        self.gone.store(true, Ordering::Release);
    }

    fn sleep_until(&self, at_ns: u64) {
        let begun = Instant::now();
        while begun.elapsed() < AHEAD_MAX && !self.gone.load(Ordering::Acquire) {
            let left = at_ns.saturating_sub(nanoseconds(self.epoch));
            if left == 0 {
                return;
            }
            std::thread::sleep(Duration::from_nanos(left).min(OBEYED));
        }
    }
}

/// Nanoseconds since an instant.
pub(super) fn nanoseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Microseconds since 1970.
pub(super) fn wall_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
}

/// A peer's words as they are shown: a line of bounded length.
pub(super) fn words(text: &str) -> String {
    let shown = text.chars().take(WORDS_MAX);
    shown
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// This machine in a few words.
fn machine() -> String {
    let told = server::machine();
    let of = |name: &str| {
        let found = told.iter().find(|(title, _)| *title == name);
        found.map_or_else(String::new, |(_, value)| value.clone())
    };
    format!("{} cores, {}, {}", of("Cores"), of("Memory"), of("Kernel"))
}
