//! Certificates of the TLS listeners: from files, reloaded without a restart, or self-made (P-256,
//! 13 days, so that browsers accept its fingerprint for WebTransport later), renewed by itself.

use arc_swap::ArcSwap;
use hawser_wire::record::compact_server;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Life of a self-made certificate; browsers take a pinned one only up to 14 days.
pub const SELF_MADE_LIFE: Duration = Duration::from_secs(13 * 24 * 3_600);
/// A self-made certificate is renewed when less than this is left.
pub const SELF_MADE_RENEW: Duration = Duration::from_secs(3 * 24 * 3_600);

/// Where certificate and key come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// PEM files of the operator's.
    Files {
        /// Chain, leaf first.
        cert: PathBuf,
        /// PKCS#8, SEC1 or PKCS#1.
        key: PathBuf,
    },
    /// Made here and kept in this directory as `self-made.pem` and `self-made.key`.
    SelfMade {
        /// Directory, created if missing.
        dir: PathBuf,
        /// Subject alternative names.
        names: Vec<String>,
    },
}

/// Why there is no certificate: the operator's fault, with the file and the way out.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// A file that cannot be read.
    #[error(
        "{what} {path}: {source}; check `tls.cert` and `tls.key` and that this user may read them"
    )]
    Unreadable {
        /// `certificate` or `key`.
        what: &'static str,
        /// Which.
        path: String,
        /// The system's words.
        source: io::Error,
    },
    /// No PEM of the wanted kind in it.
    #[error("{path} holds no {what} in PEM form ({reason})")]
    NotPem {
        /// `certificate` or `private key`.
        what: &'static str,
        /// Which.
        path: String,
        /// The parser's words.
        reason: String,
    },
    /// Key and certificate do not belong together, or an algorithm that is not supported.
    #[error("certificate and key do not work together: {0}")]
    Mismatch(rustls::Error),
    /// The self-made one failed.
    #[error("cannot make a certificate: {0}")]
    Making(String),
}

/// The certificate in force, shared by all listeners and cores.
pub struct Certificates {
    source: Source,
    provider: Arc<CryptoProvider>,
    current: ArcSwap<CertifiedKey>,
    stamp: ArcSwap<Stamp>,
}

#[derive(Debug, PartialEq, Eq, Default)]
struct Stamp {
    cert: Option<SystemTime>,
    key: Option<SystemTime>,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl Certificates {
    /// Loads (or makes) the certificate.
    ///
    /// # Errors
    /// See [`CertError`].
    pub fn open(source: Source, provider: Arc<CryptoProvider>) -> Result<Arc<Self>, CertError> {
        if let Source::SelfMade { dir, names } = &source {
            make_if_due(dir, names, SystemTime::now())?;
        }
        let (cert, key) = source.paths();
        let stamp = Stamp::of(&cert, &key);
        let current = read_pair(&cert, &key, &provider)?;
        Ok(Arc::new(Self {
            source,
            provider,
            current: ArcSwap::from_pointee(current),
            stamp: ArcSwap::from_pointee(stamp),
        }))
    }

    /// Looks whether the files have changed, or the self-made one is due; swaps in the new pair if it is
    /// sound. Returns whether it swapped. The old one stays in force on an error.
    ///
    /// # Errors
    /// See [`CertError`].
    pub fn reload(&self, now: SystemTime) -> Result<bool, CertError> {
        if let Source::SelfMade { dir, names } = &self.source {
            make_if_due(dir, names, now)?;
        }
        let (cert, key) = self.source.paths();
        let stamp = Stamp::of(&cert, &key);
        if **self.stamp.load() == stamp {
            return Ok(false);
        }
        let fresh = read_pair(&cert, &key, &self.provider)?;
        self.current.store(Arc::new(fresh));
        self.stamp.store(Arc::new(stamp));
        Ok(true)
    }

    /// SHA-256 of the leaf, as browsers and `openssl x509 -fingerprint -sha256` print it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let current = self.current.load();
        let leaf = current.cert.first().map_or(&[][..], AsRef::as_ref);
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, leaf);
        digest
            .as_ref()
            .iter()
            .map(|b| format!("{b:02X}"))
            .collect::<Vec<_>>()
            .join(":")
    }

    /// Whether the certificate is self-made, and where it lies.
    #[must_use]
    pub fn self_made(&self) -> Option<PathBuf> {
        match &self.source {
            Source::SelfMade { .. } => Some(self.source.paths().0),
            Source::Files { .. } => None,
        }
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

impl Source {
    fn paths(&self) -> (PathBuf, PathBuf) {
        match self {
            Self::Files { cert, key } => (cert.clone(), key.clone()),
            Self::SelfMade { dir, .. } => (dir.join("self-made.pem"), dir.join("self-made.key")),
        }
    }
}

impl Stamp {
    fn of(cert: &Path, key: &Path) -> Self {
        let modified = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
        Self {
            cert: modified(cert),
            key: modified(key),
        }
    }
}

/// The server's TLS settings: HTTP/1.1 only by ALPN, stateless tickets, no early data.
///
/// # Errors
/// The provider lacks what is asked: ours.
pub fn server_config(
    certificates: Arc<Certificates>,
    provider: Arc<CryptoProvider>,
    tls12: bool,
) -> Result<Arc<rustls::ServerConfig>, rustls::Error> {
    let only13: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
    let both: &[&rustls::SupportedProtocolVersion] =
        &[&rustls::version::TLS13, &rustls::version::TLS12];
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(if tls12 { both } else { only13 })?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.max_early_data_size = 0;
    config.send_tls13_tickets = 1;
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    compact_server(&mut config);
    Ok(Arc::new(config))
}

fn read_pair(
    cert: &Path,
    key: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<CertifiedKey, CertError> {
    let read = |what: &'static str, path: &Path| {
        fs::read(path).map_err(|source| CertError::Unreadable {
            what,
            path: path.display().to_string(),
            source,
        })
    };
    let not_pem = |what, path: &Path, reason: String| CertError::NotPem {
        what,
        path: path.display().to_string(),
        reason,
    };
    let chain = CertificateDer::pem_slice_iter(&read("certificate", cert)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| not_pem("certificate", cert, e.to_string()))?;
    if chain.is_empty() {
        return Err(not_pem("certificate", cert, "no section found".to_owned()));
    }
    let private = PrivateKeyDer::from_pem_slice(&read("key", key)?)
        .map_err(|e| not_pem("private key", key, e.to_string()))?;
    let signing = provider
        .key_provider
        .load_private_key(private)
        .map_err(CertError::Mismatch)?;
    let pair = CertifiedKey::new(chain, signing);
    pair.keys_match().map_err(CertError::Mismatch)?;
    Ok(pair)
}

fn make_if_due(dir: &Path, names: &[String], now: SystemTime) -> Result<(), CertError> {
    let (cert, key) = (dir.join("self-made.pem"), dir.join("self-made.key"));
    let born = fs::metadata(&cert).and_then(|m| m.modified()).ok();
    let fresh = born
        .and_then(|born| now.duration_since(born).ok())
        .is_some_and(|age| age + SELF_MADE_RENEW < SELF_MADE_LIFE);
    if fresh && key.exists() {
        return Ok(());
    }
    let making = |e: &dyn fmt::Display| CertError::Making(e.to_string());
    let (chain, private) = make(names, now).map_err(|e| making(&e))?;
    fs::create_dir_all(dir).map_err(|e| making(&e))?;
    write_private(&key, private.as_bytes()).map_err(|e| making(&e))?;
    replace(&cert, chain.as_bytes(), 0o644).map_err(|e| making(&e))
}

fn make(names: &[String], now: SystemTime) -> Result<(String, String), rcgen::Error> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut params = rcgen::CertificateParams::new(names.to_vec())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "Hawser self-made");
    // An hour back, for clients whose clocks run behind.
    params.not_before = (now - Duration::from_secs(3_600)).into();
    params.not_after = (now + SELF_MADE_LIFE).into();
    let cert = params.self_signed(&key)?;
    Ok((cert.pem(), key.serialize_pem()))
}

/// Writes a secret file with mode 0600, atomically.
///
/// # Errors
/// The file system's.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(path, bytes, 0o600)
}

fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&fresh)?;
    io::Write::write_all(&mut file, bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider() -> Arc<CryptoProvider> {
        Arc::new(rustls::crypto::aws_lc_rs::default_provider())
    }

    fn self_made(dir: &Path) -> Source {
        Source::SelfMade {
            dir: dir.to_owned(),
            names: vec!["localhost".to_owned()],
        }
    }

    #[test]
    fn a_self_made_certificate_is_kept_and_renewed_when_due() {
        let dir = tempfile::tempdir().expect("dir");
        let first = Certificates::open(self_made(dir.path()), provider()).expect("made");
        let print = first.fingerprint();
        assert_eq!(print.len(), 32 * 3 - 1);
        let again = Certificates::open(self_made(dir.path()), provider()).expect("kept");
        assert_eq!(again.fingerprint(), print);
        assert!(!again.reload(SystemTime::now()).expect("nothing due"));
        let later = SystemTime::now() + SELF_MADE_LIFE - SELF_MADE_RENEW + Duration::from_secs(60);
        assert!(again.reload(later).expect("due"));
        assert_ne!(again.fingerprint(), print);
    }

    #[test]
    fn a_changed_file_is_loaded_and_a_bad_one_leaves_the_old_in_force() {
        let dir = tempfile::tempdir().expect("dir");
        let (cert, key) = (dir.path().join("c.pem"), dir.path().join("k.pem"));
        let write = |age: u64| {
            let (c, k) = make(&["a.example".to_owned()], SystemTime::now()).expect("make");
            fs::write(&cert, c).expect("write");
            fs::write(&key, k).expect("write");
            let stamp = SystemTime::now() - Duration::from_secs(age);
            fs::File::open(&cert)
                .and_then(|f| f.set_modified(stamp))
                .expect("stamp");
        };
        write(100);
        let certs = Certificates::open(
            Source::Files {
                cert: cert.clone(),
                key: key.clone(),
            },
            provider(),
        )
        .expect("open");
        let first = certs.fingerprint();
        write(50);
        assert!(certs.reload(SystemTime::now()).expect("changed"));
        let second = certs.fingerprint();
        assert_ne!(first, second);
        fs::write(&cert, "rubbish").expect("write");
        assert!(certs.reload(SystemTime::now()).is_err());
        assert_eq!(certs.fingerprint(), second);
    }

    #[test]
    fn an_unreadable_key_names_file_and_setting() {
        let dir = tempfile::tempdir().expect("dir");
        let source = Source::Files {
            cert: dir.path().join("none.pem"),
            key: dir.path().join("none.key"),
        };
        let err = Certificates::open(source, provider())
            .expect_err("missing")
            .to_string();
        assert!(
            err.contains("none.pem") && err.contains("tls.cert"),
            "{err}"
        );
    }

    #[test]
    fn key_and_certificate_of_different_pairs_are_refused() {
        let dir = tempfile::tempdir().expect("dir");
        let (cert, key) = (dir.path().join("c.pem"), dir.path().join("k.pem"));
        let one = make(&["a".to_owned()], SystemTime::now()).expect("make");
        let two = make(&["a".to_owned()], SystemTime::now()).expect("make");
        fs::write(&cert, one.0).expect("write");
        fs::write(&key, two.1).expect("write");
        assert!(matches!(
            Certificates::open(Source::Files { cert, key }, provider()),
            Err(CertError::Mismatch(_))
        ));
    }
}
