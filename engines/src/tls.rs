//! TLS towards engines: whom to trust, and with what to show who we are.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::path::PathBuf;
use std::sync::Arc;

/// How an engine is connected to over TLS.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientTls {
    /// PEM file of the authorities to trust; `None`: those of the system.
    pub ca: Option<PathBuf>,
    /// PEM files of a client certificate chain and its key, where the engine asks for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Why there is no TLS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read or holds nothing of the kind.
    #[error("{path}: {reason}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system has no authorities.
    #[error("the system has no certificate authorities ({reason}); name a file with them")]
    NoRoots {
        /// For the operator.
        reason: String,
    },
    /// Certificate and key do not fit, or TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Config(String),
}

impl ClientTls {
    /// Reads the files.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let failed = |e: rustls::Error| TlsError::Config(e.to_string());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .with_root_certificates(self.roots()?);
        let config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let certificates = certificates(chain)?;
                let private = PrivateKeyDer::from_pem_file(key).map_err(|e| TlsError::File {
                    path: key.clone(),
                    reason: e.to_string(),
                })?;
                builder
                    .with_client_auth_cert(certificates, private)
                    .map_err(failed)?
            }
        };
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(path) => {
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|e| TlsError::File {
                        path: path.clone(),
                        reason: e.to_string(),
                    })?;
                }
            }
            None => {
                let found = rustls_native_certs::load_native_certs();
                let (added, _) = roots.add_parsable_certificates(found.certs);
                if added == 0 {
                    let reason = found.errors.first().map(ToString::to_string);
                    return Err(TlsError::NoRoots {
                        reason: reason.unwrap_or_else(|| "none found".to_owned()),
                    });
                }
            }
        }
        Ok(roots)
    }
}

fn certificates(path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |reason: String| TlsError::File {
        path: path.clone(),
        reason,
    };
    let pems = CertificateDer::pem_file_iter(path).map_err(|e| wrong(e.to_string()))?;
    let read: Result<Vec<_>, _> = pems.collect();
    let read = read.map_err(|e| wrong(e.to_string()))?;
    if read.is_empty() {
        return Err(wrong("no certificate in it".to_owned()));
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_certificate_is_named() {
        let path = std::env::temp_dir().join(format!("hawser-no-ca-{}", std::process::id()));
        std::fs::write(&path, "nothing").expect("a file");
        let tls = ClientTls {
            ca: Some(path.clone()),
            identity: None,
        };
        let error = tls.config().err();
        std::fs::remove_file(&path).expect("removed");
        let reason = "no certificate in it".to_owned();
        assert_eq!(error, Some(TlsError::File { path, reason }));
    }

    #[test]
    fn a_missing_file_is_named() {
        let path = PathBuf::from("/nowhere/ca.pem");
        let tls = ClientTls {
            ca: Some(path.clone()),
            identity: None,
        };
        assert!(matches!(tls.config(), Err(TlsError::File { path: p, .. }) if p == path));
    }
}
