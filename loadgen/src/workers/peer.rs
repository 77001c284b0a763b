//! One worker as its coordinator sees it: a connection that is written by whoever has something to say, and a thread that reads.

use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::clock::{Clock, Sample};
use super::token::{self, Side, Token, TokenError};
use super::wire::{
    self, Answer, CONTROL, FRAME_BYTES_MAX, FromWorker, GREETING_BYTES_MAX, Greeting, Hello,
    SILENCE, ToWorker, WireError,
};
use super::{version, worker};
use crate::engine::{Totals, Window};
use crate::scenario::record::End;
use crate::usage::Usage;

/// A worker's host takes a connection, and the worker greets, within this.
const CONNECT: Duration = Duration::from_secs(5);
/// One that still ends another run answers within this.
const ANSWER: Duration = Duration::from_secs(15);

/// Why a worker does not take part.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// There is none.
    #[error(
        "worker {name} cannot be reached ({why}): is hawser-loadgen worker --listen running there?"
    )]
    Unreachable {
        /// Which.
        name: String,
        /// The system's words.
        why: std::io::Error,
    },
    /// The connection is of no use.
    #[error("worker {name}: {why}")]
    Wire {
        /// Which.
        name: String,
        /// Why.
        why: WireError,
    },
    /// It is another build.
    #[error(
        "worker {name} is hawser-loadgen {theirs} with control protocol {control}, this is {} with {CONTROL}: run the same build everywhere",
        version()
    )]
    Version {
        /// Which.
        name: String,
        /// Its version.
        theirs: String,
        /// Its control protocol.
        control: u32,
    },
    /// It does not want to.
    #[error("worker {name} refuses: {words}")]
    Refused {
        /// Which.
        name: String,
        /// Its words.
        words: String,
    },
    /// It does not know the token.
    #[error(
        "worker {name} does not know the token: its --token-file and --workers-token-file here are to hold the same"
    )]
    Stranger {
        /// Which.
        name: String,
    },
    /// No nonce.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// It cannot go on.
    #[error("worker {name}: {words}; the run is given up, and the other workers are stopped")]
    Failed {
        /// Which.
        name: String,
        /// Why.
        words: String,
    },
    /// It is there, but does not do what it was told.
    #[error("worker {name} has not {what} within {} s", .within.as_secs())]
    Late {
        /// Which.
        name: String,
        /// What it was to do.
        what: &'static str,
        /// In which time.
        within: Duration,
    },
}

/// What a worker has said.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) ready: bool,
    /// The last step it has begun, and the last tick it has answered.
    pub(super) step: u32,
    pub(super) tick: u32,
    pub(super) totals: Totals,
    pub(super) own: Option<Usage>,
    /// What was recorded and not taken yet.
    pub(super) window: Window,
    pub(super) ended: Option<Box<End>>,
    pub(super) clock: Clock,
    failed: Option<String>,
}

/// What the coordinator's threads share of a worker.
#[derive(Debug)]
pub(super) struct Line {
    name: String,
    writer: Mutex<TcpStream>,
    said: Mutex<Said>,
    news: Condvar,
}

/// One worker.
#[derive(Debug)]
pub struct Peer {
    /// What it is called.
    pub name: String,
    /// What it is on.
    pub machine: String,
    line: Arc<Line>,
    reader: Option<JoinHandle<()>>,
}

impl Peer {
    /// Connects to a worker; both prove that they know the token. `epoch` is the coordinator's clock.
    ///
    /// # Errors
    /// See [`PeerError`].
    pub fn connect(
        name: &str,
        address: &str,
        token: &Token,
        epoch: Instant,
    ) -> Result<Self, PeerError> {
        let owned = || name.to_owned();
        let unreachable = |source| PeerError::Unreachable {
            name: owned(),
            why: source,
        };
        let wire = |source| PeerError::Wire {
            name: owned(),
            why: source,
        };
        let stream = dial(address).map_err(unreachable)?;
        let theirs: Greeting = wire::receive(&stream, GREETING_BYTES_MAX, CONNECT).map_err(wire)?;
        let ours = Greeting {
            control: CONTROL,
            version: version(),
            nonce: token::random()?,
        };
        if theirs.control != CONTROL || theirs.version != ours.version {
            return Err(PeerError::Version {
                name: owned(),
                theirs: worker::words(&theirs.version),
                control: theirs.control,
            });
        }
        let hello = Hello {
            proof: token.proof(Side::Coordinator, &theirs.nonce, &ours.nonce),
            greeting: ours,
        };
        wire::send(&stream, &hello).map_err(wire)?;
        let answer = wire::receive(&stream, GREETING_BYTES_MAX, ANSWER).map_err(wire)?;
        let (proof, machine) = match answer {
            Answer::Accepted { proof, machine } => (proof, machine),
            Answer::Refused { words } => {
                return Err(PeerError::Refused {
                    name: owned(),
                    words: worker::words(&words),
                });
            }
        };
        let nonce = &hello.greeting.nonce;
        if !token.proves(Side::Worker, &theirs.nonce, nonce, &proof) {
            return Err(PeerError::Stranger { name: owned() });
        }
        let writer = stream.try_clone().map_err(unreachable)?;
        let line = Arc::new(Line {
            name: owned(),
            writer: Mutex::new(writer),
            said: Mutex::default(),
            news: Condvar::new(),
        });
        let reading = Arc::clone(&line);
        let reader = std::thread::Builder::new()
            .name("worker".to_owned())
            .spawn(move || reading.read(&stream, epoch))
            .map_err(unreachable)?;
        Ok(Self {
            name: owned(),
            machine: worker::words(&machine),
            line,
            reader: Some(reader),
        })
    }

    pub(super) fn line(&self) -> &Arc<Line> {
        &self.line
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The reader's half ends with it.
        let _ = locked(&self.line.writer).shutdown(Shutdown::Both);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

impl Line {
    /// Tells the worker something.
    pub(super) fn say(&self, message: &ToWorker) -> Result<(), PeerError> {
        let sent = wire::send(&locked(&self.writer), message);
        if let Err(error) = sent {
            self.fail(error.to_string());
        }
        self.check()
    }

    /// What it has said so far.
    pub(super) fn said(&self) -> MutexGuard<'_, Said> {
        locked(&self.said)
    }

    /// Whether it goes on.
    pub(super) fn check(&self) -> Result<(), PeerError> {
        match &self.said().failed {
            Some(words) => Err(PeerError::Failed {
                name: self.name.clone(),
                words: words.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Waits until it has said something; whether it did within this.
    pub(super) fn wait(
        &self,
        within: Duration,
        is_said: impl Fn(&Said) -> bool,
    ) -> Result<bool, PeerError> {
        let is_open = |said: &mut Said| said.failed.is_none() && !is_said(said);
        let waited = self
            .news
            .wait_timeout_while(self.said(), within, is_open)
            .unwrap_or_else(PoisonError::into_inner);
        let done = is_said(&waited.0);
        drop(waited);
        self.check()?;
        Ok(done)
    }

    /// The same, where it must.
    pub(super) fn must(
        &self,
        what: &'static str,
        within: Duration,
        is_said: impl Fn(&Said) -> bool,
    ) -> Result<(), PeerError> {
        match self.wait(within, is_said)? {
            true => Ok(()),
            false => Err(PeerError::Late {
                name: self.name.clone(),
                what,
                within,
            }),
        }
    }

    /// What becomes of the connection of one that has ended is of no interest.
    fn fail(&self, words: String) {
        let mut said = self.said();
        if said.ended.is_none() {
            said.failed.get_or_insert(words);
        }
        drop(said);
        self.news.notify_all();
    }

    fn read(&self, stream: &TcpStream, epoch: Instant) {
        loop {
            let message = wire::receive(stream, FRAME_BYTES_MAX, SILENCE);
            let heard = message.and_then(|message| self.hear(message, epoch));
            if let Err(error) = heard {
                return self.fail(error.to_string());
            }
            self.news.notify_all();
        }
    }

    fn hear(&self, message: FromWorker, epoch: Instant) -> Result<(), WireError> {
        match message {
            FromWorker::Ready => self.said().ready = true,
            FromWorker::Clock {
                sent_ns,
                now_ns,
                wall_us,
            } => {
                let (came_ns, own_us) = (worker::nanoseconds(epoch), worker::wall_us());
                if sent_ns <= came_ns {
                    let sample = Sample::new((sent_ns, came_ns), now_ns, (own_us, wall_us));
                    self.said().clock.add(sample);
                }
            }
            FromWorker::Counts { step, totals } => {
                let mut said = self.said();
                (said.step, said.totals) = (step, totals);
            }
            FromWorker::Window { tick, own, window } => {
                let window = window.unpack()?;
                let mut said = self.said();
                said.window.add(&window);
                said.own = Some(own);
                said.tick = tick.unwrap_or(said.tick);
            }
            FromWorker::Ended { end } => self.said().ended = Some(end),
            FromWorker::Failed { words } => self.fail(worker::words(&words)),
        }
        Ok(())
    }
}

fn dial(address: &str) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "it has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// What is behind these locks is whole at any instant, also after a panic.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
