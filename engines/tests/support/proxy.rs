//! A TCP proxy that stalls and cuts: what a network and a stopped server do to a client.
#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

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
                forward(&client, &server, &shared);
                forward(&server, &client, &shared);
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

    /// Connections so far.
    pub(crate) fn accepted(&self) -> usize {
        self.state.accepted.load(Ordering::SeqCst)
    }
}

fn forward(from: &TcpStream, to: &TcpStream, state: &Arc<State>) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    let state = state.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 16_384];
        loop {
            let read = from.read(&mut buffer).unwrap_or(0);
            while state.stalled.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
            if read == 0 || to.write_all(&buffer[..read]).is_err() {
                let _ = to.shutdown(Shutdown::Both);
                return;
            }
        }
    });
}
