//! TLS handshakes, stepped with whatever bytes are there.

use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::{ClientConfig, ServerConfig};

use super::RecordError;
use super::tls::{Connection, TlsLayer};

/// How far a handshake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The peer's next bytes are needed, after `out` was sent.
    NeedMore,
    /// Call `finish`, after `out` was sent.
    Done,
}

/// A server's handshake. Session tickets leave with its last step.
#[derive(Debug)]
pub struct ServerHandshake(TlsLayer);

/// A client's handshake. The first step needs no incoming bytes.
#[derive(Debug)]
pub struct ClientHandshake(TlsLayer);

impl ServerHandshake {
    /// Waits for a ClientHello.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn new(config: Arc<ServerConfig>) -> Result<Self, RecordError> {
        let connection = UnbufferedServerConnection::new(config)?;
        Ok(Self(TlsLayer::new(Connection::Server(connection))))
    }

    /// Takes what it can of `incoming` (the caller bounds it and gives the rest again with more behind it) and appends to
    /// `out` what must be sent.
    ///
    /// # Errors
    /// The peer's fault; send `out`, which ends with the alert, then close.
    pub fn step(
        &mut self,
        incoming: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Progress, RecordError> {
        self.0.handshake(incoming, out)
    }

    /// The established connection. Plaintext that came with the handshake's last bytes is what `open` gives first, even
    /// without bytes more.
    #[must_use]
    pub fn finish(self) -> TlsLayer {
        self.0
    }
}

impl ClientHandshake {
    /// Begins a connection to the server of this name.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn new(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, RecordError> {
        let connection = UnbufferedClientConnection::new(config, name)?;
        Ok(Self(TlsLayer::new(Connection::Client(connection))))
    }

    /// As [`ServerHandshake::step`].
    ///
    /// # Errors
    /// The server's fault, or it could not be authenticated; send `out`, then close.
    pub fn step(
        &mut self,
        incoming: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Progress, RecordError> {
        self.0.handshake(incoming, out)
    }

    /// As [`ServerHandshake::finish`].
    #[must_use]
    pub fn finish(self) -> TlsLayer {
        self.0
    }
}
