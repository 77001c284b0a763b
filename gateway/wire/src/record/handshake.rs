//! TLS handshakes, stepped with whatever bytes are there.

use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::{ClientConfig, ServerConfig};

use super::caught::Caught;
use super::tls::{Connection, TlsLayer};
use super::{Layer, RecordError};

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
pub struct ServerHandshake {
    tls: TlsLayer,
    caught: Caught,
}

/// A client's handshake. The first step needs no incoming bytes.
#[derive(Debug)]
pub struct ClientHandshake {
    tls: TlsLayer,
    caught: Caught,
}

impl ServerHandshake {
    /// Waits for a ClientHello.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn new(config: Arc<ServerConfig>) -> Result<Self, RecordError> {
        let connection = UnbufferedServerConnection::new(config)?;
        Ok(Self {
            tls: TlsLayer::new(Connection::Server(connection)),
            caught: Caught::default(),
        })
    }

    /// Takes what it can of `incoming` (the caller bounds it and gives the rest again with more behind it) and appends to
    /// `out` what must be sent. What came behind the handshake stays in `incoming`, for the layer.
    ///
    /// # Errors
    /// The peer's fault; send `out`, which ends with the alert, then close.
    pub fn step(
        &mut self,
        incoming: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Progress, RecordError> {
        self.caught.during(|| self.tls.handshake(incoming, out))
    }

    /// The established connection: compact where the configuration was made so
    /// ([`compact_server`](super::compact_server)) and TLS 1.3 was agreed on.
    ///
    /// # Errors
    /// rustls does not give up its keys; close.
    pub fn finish(self) -> Result<Layer, RecordError> {
        self.tls.established(self.caught)
    }
}

impl ClientHandshake {
    /// Begins a connection to the server of this name.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn new(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, RecordError> {
        let connection = UnbufferedClientConnection::new(config, name)?;
        Ok(Self {
            tls: TlsLayer::new(Connection::Client(connection)),
            caught: Caught::default(),
        })
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
        self.caught.during(|| self.tls.handshake(incoming, out))
    }

    /// As [`ServerHandshake::finish`].
    ///
    /// # Errors
    /// rustls does not give up its keys; close.
    pub fn finish(self) -> Result<Layer, RecordError> {
        self.tls.established(self.caught)
    }
}
