//! Where a run goes: the URL, its address, its certificates.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use hawser_wire::record::compact_client;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CipherSuite, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    SupportedCipherSuite,
};

use crate::args::Args;
use crate::link::Target;

/// Sessions per source address, where they are spread by themselves: below the 28,000 ports of one.
const SESSIONS_PER_SOURCE: u32 = 10_000;

/// Why there is nowhere to go: the caller's to mend.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The URL is none.
    #[error("--url {0}: give ws://HOST[:PORT]/PATH or wss://HOST[:PORT]/PATH")]
    Url(String),
    /// The host has no address.
    #[error("--url {0}: the host has no address")]
    NoAddress(String),
    /// The host is not this machine.
    #[error(
        "{0} is not a loopback address: load goes there only with --anywhere, and only to servers of your own"
    )]
    Elsewhere(SocketAddr),
    /// The certificates cannot be used.
    #[error("--ca: {0}")]
    Certificates(String),
    /// A server beyond this machine is to be authenticated.
    #[error("wss:// beyond loopback needs --ca FILE")]
    NoCertificates,
}

/// The target, the socket addresses of its gateways, and the source addresses.
///
/// # Errors
/// See [`TargetError`].
pub fn resolve(args: &Args) -> Result<(Target, Vec<SocketAddr>, Vec<Ipv4Addr>), TargetError> {
    let no_url = || TargetError::Url(args.url.clone());
    let (scheme, rest) = args.url.split_once("://").ok_or_else(no_url)?;
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let port = match scheme {
        "ws" => 80,
        "wss" => 443,
        _ => return Err(no_url()),
    };
    let (host, with_port) = match authority.rsplit_once(':') {
        Some((host, digits)) if digits.parse::<u16>().is_ok() => (host, authority.to_owned()),
        _ => (authority, format!("{authority}:{port}")),
    };
    let address = with_port
        .to_socket_addrs()
        .ok()
        .and_then(|mut all| all.next())
        .ok_or_else(|| TargetError::NoAddress(args.url.clone()))?;
    let mut addresses = vec![address];
    for more in &args.also {
        let no_address = || TargetError::NoAddress(more.clone());
        let mut found = more.to_socket_addrs().map_err(|_| no_address())?;
        addresses.push(found.next().ok_or_else(no_address)?);
    }
    if let Some(elsewhere) = addresses
        .iter()
        .find(|a| !a.ip().is_loopback() && !args.anywhere)
    {
        return Err(TargetError::Elsewhere(*elsewhere));
    }
    let tls = match scheme {
        "wss" => {
            let name = host.trim_start_matches('[').trim_end_matches(']');
            let name = ServerName::try_from(name.to_owned()).map_err(|_| no_url())?;
            Some((Arc::new(tls(args, address)?), name))
        }
        _ => None,
    };
    let target = Target {
        host: authority.to_owned(),
        path: path.to_owned(),
        tls,
        deflate: args.deflate,
    };
    Ok((target, addresses, sources(args, address)))
}

fn sources(args: &Args, address: SocketAddr) -> Vec<Ipv4Addr> {
    match address.ip() {
        _ if !args.source.is_empty() => args.source.clone(),
        IpAddr::V4(ip) if ip.is_loopback() => {
            // Processes beside this one have the addresses of their own users.
            let base = u32::from(Ipv4Addr::new(127, 0, 1, 1));
            let from = args.first_user / SESSIONS_PER_SOURCE;
            let to = args.first_user.saturating_add(args.connections);
            let to = to
                .div_ceil(SESSIONS_PER_SOURCE)
                .clamp(from + 1, from + 60_000);
            (base + from..base + to).map(Ipv4Addr::from).collect()
        }
        _ => Vec::new(),
    }
}

fn tls(args: &Args, address: SocketAddr) -> Result<ClientConfig, TargetError> {
    let mut provider = aws_lc_rs::default_provider();
    // As browsers do: the suite that costs the least comes first.
    let cheapest =
        |suite: &SupportedCipherSuite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256;
    provider.cipher_suites.sort_by_key(cheapest);
    let provider = Arc::new(provider);
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| TargetError::Certificates(error.to_string()))?;
    let mut config = match &args.ca {
        Some(path) => {
            let bad =
                |words: String| TargetError::Certificates(format!("{}: {words}", path.display()));
            let mut roots = RootCertStore::empty();
            for certificate in
                CertificateDer::pem_file_iter(path).map_err(|error| bad(error.to_string()))?
            {
                let certificate = certificate.map_err(|error| bad(error.to_string()))?;
                roots
                    .add(certificate)
                    .map_err(|error| bad(error.to_string()))?;
            }
            builder.with_root_certificates(roots).with_no_client_auth()
        }
        None if address.ip().is_loopback() => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth(),
        None => return Err(TargetError::NoCertificates),
    };
    // Every session is a device of its own: full handshakes, and no tickets kept.
    config.resumption = Resumption::disabled();
    compact_client(&mut config);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Accepts the self-made certificate of a server on this machine. The handshake's signature is still checked.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn resolved(extra: &[&str]) -> Result<(Target, Vec<SocketAddr>, Vec<Ipv4Addr>), TargetError> {
        let base = ["hawser-loadgen", "--key", "k"];
        resolve(&Args::try_parse_from(base.iter().chain(extra)).expect("parses"))
    }

    #[test]
    fn urls_lead_to_addresses_on_this_machine() {
        let (target, address, sources) =
            resolved(&["--url", "wss://127.0.0.1:9/v1/ws", "-n", "40000"]).expect("ok");
        assert_eq!((&*target.host, &*target.path), ("127.0.0.1:9", "/v1/ws"));
        assert!(target.tls.is_some());
        assert_eq!(address[0].port(), 9);
        assert_eq!(sources.len(), 4);
        let (target, address, _) = resolved(&["--url", "ws://127.0.0.1/x"]).expect("ok");
        assert!(target.tls.is_none());
        assert_eq!(address[0].port(), 80);
    }

    #[test]
    fn other_machines_need_the_callers_word() {
        let elsewhere = resolved(&["--url", "ws://192.0.2.1:80/"]);
        assert!(matches!(elsewhere, Err(TargetError::Elsewhere(_))));
        assert!(resolved(&["--url", "ws://192.0.2.1:80/", "--anywhere"]).is_ok());
        let unknown = resolved(&["--url", "wss://192.0.2.1/", "--anywhere"]);
        assert!(matches!(unknown, Err(TargetError::NoCertificates)));
        assert!(matches!(
            resolved(&["--url", "http://127.0.0.1/"]),
            Err(TargetError::Url(_))
        ));
    }
}
