//! What is read again without a restart: certificates, keys and revocations. By the clock, and at once on SIGHUP.

use crate::certs::Certificates;
use crate::node::NodeHandle;
use hawser_fanout::auth::Verifier;
use std::sync::Arc;
use std::time::SystemTime;

/// What can be reloaded.
#[derive(Clone)]
pub struct Reloads {
    /// Of the TLS listeners.
    pub certificates: Arc<Certificates>,
    /// Of tokens.
    pub verifier: Arc<Verifier>,
}

impl Reloads {
    /// Reads everything again; what cannot be read stays as it was, and is told. Blocks on the file system.
    pub fn reload(&self, node: &NodeHandle) {
        match self.certificates.reload(SystemTime::now()) {
            Ok(false) => {}
            Ok(true) => {
                let fingerprint = self.certificates.fingerprint();
                tracing::info!(%fingerprint, "a new certificate is in force");
                node.reloaded(true);
            }
            Err(error) => {
                tracing::error!(%error, "the certificate cannot be reloaded; the old one stays in force");
                node.reloaded(false);
            }
        }
        match self.verifier.reload() {
            Ok(()) => node.recheck(),
            Err(error) => {
                tracing::error!(%error, "keys or revocations cannot be reloaded; the old ones stay in force");
                node.reloaded(false);
            }
        }
    }
}
