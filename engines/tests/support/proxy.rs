//! A TCP proxy that stalls, cuts, delays and swallows answers: what a network and a stopped server do to a client.
#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Between a client and a server. Ends with the process.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Bytes are read by nobody, connections stay.
    stalled: AtomicBool,
    /// New connections are closed at once.
    refusing: AtomicBool,
    /// What the server says is swallowed; what it is told arrives.
    deaf: AtomicBool,
    /// How much later everything arrives, each way.
    delay_ms: AtomicU64,
    /// Connections that were let through.
    accepted: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// Listens on a free port of loopback.
    pub(crate) fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let shared = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.refusing.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(to) else {
                    continue;
                };
                shared.accepted.fetch_add(1, Ordering::SeqCst);
                let ends = [client.try_clone().unwrap(), server.try_clone().unwrap()];
                shared.open.lock().unwrap().extend(ends);
                forward(&client, &server, &shared, false);
                forward(&server, &client, &shared, true);
            }
        });
        Self { address, state }
    }

    /// `host:port`.
    pub(crate) fn place(&self) -> String {
        self.address.to_string()
    }

    /// Everything hangs, as with SIGSTOP or a firewall that drops; or goes on.
    pub(crate) fn stall(&self, stalled: bool) {
        self.state.stalled.store(stalled, Ordering::SeqCst);
    }

    /// Cuts all connections, and refuses new ones while `refusing`.
    pub(crate) fn cut(&self, refusing: bool) {
        self.state.refusing.store(refusing, Ordering::SeqCst);
        for end in self.state.open.lock().unwrap().drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    /// Answers are lost, questions are not: what was asked is done, and nobody hears of it. Ends with all connections
    /// cut, as there is no telling in the middle of what an answer was lost.
    pub(crate) fn deafen(&self, deaf: bool) {
        if !deaf {
            self.cut(true);
        }
        self.state.deaf.store(deaf, Ordering::SeqCst);
        self.state.refusing.store(false, Ordering::SeqCst);
    }

    /// Everything arrives so much later, each way, and in order.
    pub(crate) fn delay(&self, delay: Duration) {
        let ms = u64::try_from(delay.as_millis()).unwrap();
        self.state.delay_ms.store(ms, Ordering::SeqCst);
    }

    /// Connections so far.
    pub(crate) fn accepted(&self) -> usize {
        self.state.accepted.load(Ordering::SeqCst)
    }
}

/// Reads at once and passes on when it is due, so that a delay takes no throughput.
fn forward(from: &TcpStream, to: &TcpStream, state: &Arc<State>, answers: bool) {
    let (mut from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    let state = state.clone();
    let (sender, due) = channel();
    let passing = state.clone();
    std::thread::spawn(move || pass_on(&due, to, &passing));
    std::thread::spawn(move || {
        let mut buffer = [0; 16_384];
        loop {
            let read = from.read(&mut buffer).unwrap_or(0);
            if read > 0 && answers && state.deaf.load(Ordering::SeqCst) {
                continue;
            }
            let delay = Duration::from_millis(state.delay_ms.load(Ordering::SeqCst));
            let chunk = buffer[..read].to_vec();
            if sender.send((Instant::now() + delay, chunk)).is_err() || read == 0 {
                return;
            }
        }
    });
}

fn pass_on(due: &Receiver<(Instant, Vec<u8>)>, mut to: TcpStream, state: &State) {
    for (at, chunk) in due {
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        while state.stalled.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        if chunk.is_empty() || to.write_all(&chunk).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
