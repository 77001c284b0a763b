//! What a coordinator and its workers say: frames of a length (4 bytes, big-endian) and JSON, over one TCP connection for each worker.
//!
//! The worker greets with a nonce, the coordinator answers with its own and with proof that it knows the token, and the worker
//! proves the same, or refuses with words. Then one [`Job`], [`ToWorker::Step`]s, and `End`. A `Beat` each second keeps the
//! connection alive from the coordinator's side, its answer from the worker's: whoever hears nothing for [`SILENCE`] gives up.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::engine::{Totals, Window};
use crate::report::Latency;
use crate::scenario::crew::{Part, Step};
use crate::scenario::model::Scenario;
use crate::scenario::record::End;
use crate::usage::Usage;

/// Rises with every change of these messages.
pub const CONTROL: u32 = 1;
/// A frame of whoever has not proved anything yet, bytes at most.
pub const GREETING_BYTES_MAX: usize = 4 << 10;
/// Any other frame: a window of four histograms and [`BACK_MAX`] instants is below 4 MiB.
pub const FRAME_BYTES_MAX: usize = 8 << 20;
/// Whoever was not heard for so long is gone.
pub const SILENCE: Duration = Duration::from_secs(10);
/// Beats are so far apart.
pub const BEAT: Duration = Duration::from_secs(1);
/// Instants of returns in one window at most; more go in further ones.
pub const BACK_MAX: usize = 100_000;
/// A frame is taken by the other's socket within this, each part of it.
const WRITE: Duration = Duration::from_secs(5);

/// First words of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    /// See [`CONTROL`].
    pub control: u32,
    /// Of hawser-loadgen.
    pub version: String,
    /// Random, base64.
    pub nonce: String,
}

/// First words of a coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// As the worker's.
    pub greeting: Greeting,
    /// That it knows the token, base64.
    pub proof: String,
}

/// A worker's answer to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It takes a job.
    Accepted {
        /// That it knows the token too, base64.
        proof: String,
        /// The machine it is on, in a few words.
        machine: String,
    },
    /// It does not.
    Refused {
        /// Why.
        words: String,
    },
}

/// What a worker is to play.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Without expectations, admin addresses and processes, which are the coordinator's.
    pub scenario: Scenario,
    /// The worker's users.
    pub part: Part,
}

/// What a coordinator says to a worker that knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToWorker {
    /// First.
    Job(Box<Job>),
    /// It is there; answered at once.
    Beat {
        /// On its clock, nanoseconds.
        sent_ns: u64,
    },
    /// From an instant on.
    Step {
        /// Counted from 1.
        number: u32,
        /// On the worker's clock, nanoseconds.
        at_ns: u64,
        /// The worker's own part of it.
        step: Box<Step>,
    },
    /// Everything recorded is wanted.
    Tick {
        /// Counted from 1.
        number: u32,
    },
    /// It is over.
    End,
}

/// What a worker says to a coordinator that it knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FromWorker {
    /// Its groups are made and its threads run.
    Ready,
    /// To a `Beat`.
    Clock {
        /// The beat's.
        sent_ns: u64,
        /// On the worker's clock, nanoseconds.
        now_ns: u64,
        /// Time of day, microseconds since 1970.
        wall_us: u64,
    },
    /// How it is, some ten times a second.
    Counts {
        /// The last step it has begun.
        step: u32,
        /// Since the beginning.
        totals: Totals,
    },
    /// To a `Tick`, perhaps in several.
    Window {
        /// The tick's number, in the last of them.
        tick: Option<u32>,
        /// What it uses.
        own: Usage,
        /// What was recorded.
        window: Packed,
    },
    /// To `End`.
    Ended {
        /// Correctness.
        end: Box<End>,
    },
    /// It cannot go on.
    Failed {
        /// Why.
        words: String,
    },
}

/// A [`Window`] with its histograms in HdrHistogram's V2 format, base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed {
    /// Connect, queued, send_result, deliver.
    histograms: [String; 4],
    held_back: u64,
    back_ns: Vec<u64>,
    resumed: u64,
    told: u64,
    errors: u64,
    shed: u64,
}

impl Packed {
    /// A window in as many parts as it takes, one at least.
    #[must_use]
    pub fn parts(window: &Window) -> Vec<Self> {
        let of = [
            &window.connect,
            &window.queued,
            &window.send_result,
            &window.deliver,
        ];
        let first = Self {
            histograms: of.map(|latency| BASE64_STANDARD.encode(latency.pack())),
            held_back: window.held_back,
            back_ns: Vec::new(),
            resumed: window.resumed,
            told: window.told,
            errors: window.errors,
            shed: window.shed,
        };
        let empty = || BASE64_STANDARD.encode(Latency::new().pack());
        let more = Self {
            histograms: std::array::from_fn(|_| empty()),
            held_back: 0,
            back_ns: Vec::new(),
            resumed: 0,
            told: 0,
            errors: 0,
            shed: 0,
        };
        let mut parts = vec![first];
        let chunks = window.back_ns.chunks(BACK_MAX);
        for (at, chunk) in chunks.enumerate() {
            if at > 0 {
                parts.push(more.clone());
            }
            if let Some(part) = parts.last_mut() {
                part.back_ns = chunk.to_vec();
            }
        }
        parts
    }

    /// The window.
    ///
    /// # Errors
    /// A histogram is none of ours, or there are too many instants: the peer's fault.
    pub fn unpack(self) -> Result<Window, WireError> {
        if self.back_ns.len() > BACK_MAX {
            return Err(WireError::Form("too many instants in a window".to_owned()));
        }
        let mut latencies = Vec::with_capacity(self.histograms.len());
        for text in &self.histograms {
            let form = |error: String| WireError::Form(error);
            let bytes = BASE64_STANDARD
                .decode(text)
                .map_err(|error| form(error.to_string()))?;
            latencies.push(Latency::unpack(&bytes).map_err(|error| form(error.to_string()))?);
        }
        let [connect, queued, send_result, deliver] = <[Latency; 4]>::try_from(latencies)
            .map_err(|_| WireError::Form("four histograms are a window".to_owned()))?;
        Ok(Window {
            connect,
            queued,
            send_result,
            deliver,
            held_back: self.held_back,
            back_ns: self.back_ns,
            resumed: self.resumed,
            told: self.told,
            errors: self.errors,
            shed: self.shed,
        })
    }
}

/// Why a control connection ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The other ended it.
    #[error("it ended the connection")]
    Ended,
    /// Nothing came, or not all of a frame.
    #[error("nothing was heard of it for {} s", .0.as_secs())]
    Silent(Duration),
    /// It reads nothing.
    #[error("it took nothing of what it was told for {} s", .0.as_secs())]
    Deaf(Duration),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(String),
    /// A frame is too large.
    #[error("a frame of {bytes} bytes is above the {bytes_max} that it may have")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// No message of ours.
    #[error("it does not speak as hawser-loadgen does: {0}")]
    Form(String),
}

fn broken(error: &std::io::Error, within: Duration) -> WireError {
    use std::io::ErrorKind as Kind;
    match error.kind() {
        Kind::WouldBlock | Kind::TimedOut => WireError::Silent(within),
        Kind::UnexpectedEof | Kind::ConnectionReset | Kind::BrokenPipe => WireError::Ended,
        _ => WireError::Io(error.to_string()),
    }
}

/// Sends one message.
///
/// # Errors
/// See [`WireError`].
pub fn send(stream: &TcpStream, message: &impl Serialize) -> Result<(), WireError> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)
        .map_err(|error| WireError::Form(error.to_string()))?;
    let bytes = frame.len() - 4;
    let length = u32::try_from(bytes)
        .ok()
        .filter(|_| bytes <= FRAME_BYTES_MAX);
    let length = length.ok_or(WireError::TooLarge {
        bytes,
        bytes_max: FRAME_BYTES_MAX,
    })?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    let io = |error: std::io::Error| match broken(&error, WRITE) {
        WireError::Silent(within) => WireError::Deaf(within),
        other => other,
    };
    stream.set_write_timeout(Some(WRITE)).map_err(io)?;
    let mut stream = stream;
    stream.write_all(&frame).map_err(io)
}

/// Waits for one message, of `bytes_max` bytes at most, all of it `within` this.
///
/// # Errors
/// See [`WireError`].
pub fn receive<T: DeserializeOwned>(
    stream: &TcpStream,
    bytes_max: usize,
    within: Duration,
) -> Result<T, WireError> {
    let deadline = Instant::now() + within;
    let mut length = [0; 4];
    fill(stream, &mut length, deadline, within)?;
    let bytes = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if bytes > bytes_max {
        return Err(WireError::TooLarge { bytes, bytes_max });
    }
    let mut frame = vec![0; bytes];
    fill(stream, &mut frame, deadline, within)?;
    serde_json::from_slice(&frame).map_err(|error| WireError::Form(error.to_string()))
}

fn fill(
    mut stream: &TcpStream,
    mut into: &mut [u8],
    deadline: Instant,
    within: Duration,
) -> Result<(), WireError> {
    while !into.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(WireError::Silent(within));
        }
        let io = |error: std::io::Error| broken(&error, within);
        stream.set_read_timeout(Some(left)).map_err(io)?;
        match stream.read(into) {
            Ok(0) => return Err(WireError::Ended),
            Ok(read) => into = &mut into[read..],
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(io(error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let here = TcpStream::connect(address).expect("connected");
        (here, listener.accept().expect("accepted").0)
    }

    #[test]
    fn a_window_comes_whole_in_as_many_parts_as_it_takes() {
        let mut window = Window {
            held_back: 7,
            shed: 3,
            back_ns: (0..2 * BACK_MAX as u64 + 5).collect(),
            ..Window::default()
        };
        window.deliver.record(5_000_000);
        window.connect.record(9_000_000);
        let (here, there) = pair();
        let sent = window.clone();
        let sender = std::thread::spawn(move || {
            for part in Packed::parts(&sent) {
                let message = FromWorker::Window {
                    tick: None,
                    own: Usage::default(),
                    window: part,
                };
                send(&here, &message).expect("sent");
            }
        });
        let mut came = Window::default();
        for _ in 0..3 {
            let message = receive(&there, FRAME_BYTES_MAX, SILENCE).expect("came");
            let FromWorker::Window { window, .. } = message else {
                panic!("{message:?}")
            };
            came.add(&window.unpack().expect("ours"));
        }
        sender.join().expect("sent");
        assert_eq!((came.held_back, came.shed), (7, 3));
        assert_eq!(came.back_ns, window.back_ns);
        assert_eq!(came.deliver.summary(), window.deliver.summary());
        assert_eq!(came.connect.summary(), window.connect.summary());
    }

    #[test]
    fn a_frame_above_its_bound_is_refused_before_it_is_read_and_half_a_frame_is_silence() {
        let (here, there) = pair();
        let length = u32::try_from(GREETING_BYTES_MAX + 1).expect("small");
        (&here).write_all(&length.to_be_bytes()).expect("sent");
        let came = receive::<Hello>(&there, GREETING_BYTES_MAX, SILENCE);
        assert!(matches!(came, Err(WireError::TooLarge { .. })), "{came:?}");
        let (here, there) = pair();
        (&here).write_all(&[0, 0, 0, 9, b'{']).expect("sent");
        let within = Duration::from_millis(50);
        let came = receive::<Hello>(&there, GREETING_BYTES_MAX, within);
        assert_eq!(came, Err(WireError::Silent(within)));
        drop(here);
        let came = receive::<Hello>(&there, GREETING_BYTES_MAX, SILENCE);
        assert_eq!(came, Err(WireError::Ended));
        let (here, there) = pair();
        (&here).write_all(b"\0\0\0\x04null").expect("sent");
        let came = receive::<Hello>(&there, GREETING_BYTES_MAX, SILENCE);
        assert!(matches!(came, Err(WireError::Form(_))), "{came:?}");
    }
}
