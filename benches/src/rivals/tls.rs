//! One certificate for all servers, and one way of TLS for all connections.

use std::path::Path;
use std::sync::Arc;

use hawser_wire::record::compact_client;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::link::Tls;

/// Files of a certificate's folder.
pub const CERTIFICATE: &str = "cert.pem";
/// See [`CERTIFICATE`].
pub const KEY: &str = "key.pem";

/// Makes a P-256 certificate for loopback, unless the folder has one.
///
/// # Errors
/// The folder cannot be written.
pub fn certificate(folder: &Path) -> anyhow::Result<()> {
    let (cert, key) = (folder.join(CERTIFICATE), folder.join(KEY));
    if cert.is_file() && key.is_file() {
        return Ok(());
    }
    std::fs::create_dir_all(folder)?;
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names)?;
    std::fs::write(key, made.signing_key.serialize_pem())?;
    std::fs::write(cert, made.cert.pem())?;
    Ok(())
}

/// The client's side: TLS 1.3 with AES-128-GCM and X25519 alone, so that every server does the same work, and no
/// resumption, so that every connection is a full handshake.
///
/// # Errors
/// The certificate cannot be read.
pub fn client(folder: &Path) -> anyhow::Result<Tls> {
    let provider = CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(folder.join(CERTIFICATE))? {
        roots.add(certificate?)?;
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    compact_client(&mut config);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some((
        Arc::new(config),
        ServerName::try_from("127.0.0.1")?.to_owned(),
    )))
}

/// A server's side, with rustls as it comes.
///
/// # Errors
/// The certificate cannot be read.
pub fn server(folder: &Path) -> anyhow::Result<Arc<ServerConfig>> {
    let chain =
        CertificateDer::pem_file_iter(folder.join(CERTIFICATE))?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(folder.join(KEY))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
