//! A connection in handshake: its socket, its TLS layer once there is one, and what was read of it.
//!
//! Reads and writes are plain system calls; only the wait goes through the core's runtime. So a step may
//! be dropped at any wait (a deadline) without losing a byte.

use crate::accept::acceptor::gone;
use crate::reactor::inbox::Arriving;
use crate::reactor::readiness::Readiness;
use hawser_wire::record::{Layer, Progress, ServerHandshake};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

/// Bytes of one read: small, so that little of what follows the Hello has to be carried.
const READ_BYTES: usize = 4_096;
/// Bytes that a connection may send before its session begins: TLS flights, head, Hello, and what rides along.
const BYTES_MAX: usize = 512 << 10;
/// Bytes read and thrown away after our last word, so that a reset does not overtake it.
const LINGER_BYTES_MAX: usize = 256 << 10;

/// Why a connection in handshake is over without an answer of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The peer closed, or the socket failed.
    Gone,
    /// TLS failed; the alert is sent.
    Tls,
    /// A TLS stream ended without close_notify.
    Truncated,
    /// More bytes than a handshake needs.
    TooMuch,
}

/// See the module.
pub(super) struct Connection {
    stream: TcpStream,
    ready: Readiness,
    layer: Layer,
    /// As it came from the socket.
    incoming: Vec<u8>,
    /// Decrypted, not yet taken.
    pub(super) plain: Vec<u8>,
    read_bytes: usize,
    closed: bool,
}

/// What leaves the handshake: everything that the owner needs to go on.
pub(super) struct Parts {
    pub(super) stream: TcpStream,
    pub(super) layer: Layer,
    pub(super) undecrypted: Vec<u8>,
    pub(super) plain: Vec<u8>,
}

impl Connection {
    /// A plain connection, until `accept_tls`.
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        let ready = Readiness::of(&stream)?;
        Ok(Self {
            stream,
            ready,
            layer: Layer::Plain,
            incoming: Vec::new(),
            plain: Vec::new(),
            read_bytes: 0,
            closed: false,
        })
    }

    /// One that nobody took, to be told so.
    pub(super) fn back(arriving: Arriving) -> io::Result<Self> {
        let mut connection = Self::new(arriving.stream)?;
        connection.layer = arriving.layer;
        connection.incoming = arriving.undecrypted;
        connection.plain = arriving.carried;
        Ok(connection)
    }

    /// Whether there is TLS between the client and us.
    pub(super) fn is_tls(&self) -> bool {
        self.layer.is_tls()
    }

    /// The server's side of a TLS handshake.
    pub(super) async fn accept_tls(
        &mut self,
        config: Arc<rustls::ServerConfig>,
    ) -> Result<(), Ended> {
        self.fill().await?;
        // Signatures are dear: none for a client that gave up while this core was behind.
        if gone(&self.stream) {
            return Err(Ended::Gone);
        }
        let mut handshake = ServerHandshake::new(config).map_err(|_| Ended::Tls)?;
        loop {
            let mut out = Vec::new();
            let progress = handshake.step(&mut self.incoming, &mut out);
            if !out.is_empty() {
                // An alert that cannot be sent changes nothing.
                let sent = self.send(&out).await;
                if progress.is_ok() {
                    sent?;
                }
            }
            match progress {
                Err(_) => return Err(Ended::Tls),
                Ok(Progress::Done) => break,
                Ok(Progress::NeedMore) => self.fill().await?,
            }
        }
        self.layer = handshake.finish().map_err(|_| Ended::Tls)?;
        self.decrypt().await
    }

    /// Waits for more bytes in `plain`.
    pub(super) async fn more(&mut self) -> Result<(), Ended> {
        let before = self.plain.len();
        while self.plain.len() == before {
            if self.closed {
                return Err(Ended::Gone);
            }
            match self.fill().await {
                Ok(()) => self.decrypt().await?,
                Err(Ended::Gone) if self.layer.is_tls() => return Err(Ended::Truncated),
                Err(ended) => return Err(ended),
            }
        }
        Ok(())
    }

    /// Sends plain bytes through the layer.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        let mut out = Vec::with_capacity(bytes.len() + 64);
        self.layer.seal(bytes, &mut out).map_err(|_| Ended::Tls)?;
        self.send(&out).await
    }

    /// Says the last word of the layer, then waits until the peer has read everything and closed.
    /// The caller bounds the time.
    pub(super) async fn finish(&mut self) {
        let mut out = Vec::new();
        self.layer.close_notify(&mut out);
        if self.send(&out).await.is_err() || self.stream.shutdown(Shutdown::Write).is_err() {
            return;
        }
        let mut sunk = 0;
        let mut sink = [0; 1_024];
        while sunk < LINGER_BYTES_MAX {
            match (&self.stream).read(&mut sink) {
                Ok(0) => return,
                Ok(n) => sunk += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    if self.ready.readable().await.is_err() {
                        return;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    /// The parts, for whoever goes on with the connection; nothing of it is in flight.
    pub(super) fn into_parts(self) -> Parts {
        Parts {
            stream: self.stream,
            layer: self.layer,
            undecrypted: self.incoming,
            plain: self.plain,
        }
    }

    /// Opens what has come; an answer of the layer's own (a key update) is sent.
    async fn decrypt(&mut self) -> Result<(), Ended> {
        let mut out = Vec::new();
        let opened = self
            .layer
            .open(&mut self.incoming, &mut self.plain, &mut out);
        if !out.is_empty() {
            let sent = self.send(&out).await;
            if opened.is_ok() {
                sent?;
            }
        }
        self.closed |= opened.map_err(|_| Ended::Tls)?.closed;
        Ok(())
    }

    /// Reads once, waiting until there is something.
    async fn fill(&mut self) -> Result<(), Ended> {
        while !self.read_once()? {
            self.ready.readable().await.map_err(|_| Ended::Gone)?;
        }
        Ok(())
    }

    /// One read; `false`: nothing is there yet.
    fn read_once(&mut self) -> Result<bool, Ended> {
        let mut bytes = [0; READ_BYTES];
        match (&self.stream).read(&mut bytes) {
            Ok(0) => Err(Ended::Gone),
            Ok(n) => {
                self.read_bytes += n;
                if self.read_bytes > BYTES_MAX {
                    return Err(Ended::TooMuch);
                }
                self.incoming.extend_from_slice(&bytes[..n]);
                Ok(true)
            }
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                Ok(false)
            }
            Err(_) => Err(Ended::Gone),
        }
    }

    /// Sends bytes as they are.
    async fn send(&mut self, mut bytes: &[u8]) -> Result<(), Ended> {
        while !bytes.is_empty() {
            match (&self.stream).write(bytes) {
                Ok(0) => return Err(Ended::Gone),
                Ok(n) => bytes = &bytes[n..],
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.ready.writable().await.map_err(|_| Ended::Gone)?;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Ended::Gone),
            }
        }
        Ok(())
    }
}
