//! Traffic secrets, caught as rustls derives them.
//!
//! rustls gives up keys and updates of keys only as an object of almost a kilobyte. All that it is made of are the two traffic
//! secrets, which it tells its key log; that log is asked here, and writes nothing anywhere.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use rustls::{ClientConfig, KeyLog, ServerConfig};
use zeroize::Zeroize;

use super::compact::SECRET_BYTES_MAX;

const CLIENTS: &str = "CLIENT_TRAFFIC_SECRET_0";
const SERVERS: &str = "SERVER_TRAFFIC_SECRET_0";

thread_local! {
    /// Of the handshake that this thread steps now.
    static NOW: RefCell<Caught> = RefCell::default();
}

/// Connections of this configuration become compact layers, where they agree on TLS 1.3. Its key log is replaced.
pub fn compact_server(config: &mut ServerConfig) {
    config.enable_secret_extraction = true;
    config.key_log = Arc::new(Catching);
}

/// As [`compact_server`]. Session tickets are thrown away: whoever connects anew makes a whole handshake.
pub fn compact_client(config: &mut ClientConfig) {
    config.enable_secret_extraction = true;
    config.key_log = Arc::new(Catching);
}

#[derive(Debug)]
struct Catching;

impl KeyLog for Catching {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        NOW.with_borrow_mut(|now| match label {
            CLIENTS => now.client = Secret::of(secret),
            SERVERS => now.server = Secret::of(secret),
            _ => {}
        });
    }

    fn will_log(&self, label: &str) -> bool {
        label == CLIENTS || label == SERVERS
    }
}

/// A traffic secret.
pub(super) struct Secret {
    bytes: [u8; SECRET_BYTES_MAX],
    len: usize,
}

impl Secret {
    fn of(secret: &[u8]) -> Option<Self> {
        let mut bytes = [0; SECRET_BYTES_MAX];
        bytes.get_mut(..secret.len())?.copy_from_slice(secret);
        let len = secret.len();
        Some(Self { bytes, len })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

/// Those of one connection.
#[derive(Default)]
pub(super) struct Caught {
    pub(super) client: Option<Secret>,
    pub(super) server: Option<Secret>,
}

impl fmt::Debug for Caught {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caught").finish_non_exhaustive()
    }
}

impl Caught {
    /// Catches what is derived meanwhile.
    pub(super) fn during<T>(&mut self, step: impl FnOnce() -> T) -> T {
        NOW.take();
        let done = step();
        let Self { client, server } = NOW.take();
        self.client = client.or(self.client.take());
        self.server = server.or(self.server.take());
        done
    }
}
