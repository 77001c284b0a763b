//! Reaching a server: TCP, TLS (system roots, or one pinned certificate), HTTP/1.1, WebSocket.

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tungstenite::protocol::WebSocketConfig;

/// How long TCP, TLS and HTTP may take together.
const REACH: Duration = Duration::from_secs(10);
/// Largest HTTP answer that is read, bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Whom to trust.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Trust {
    /// The system's certificate authorities.
    #[default]
    System,
    /// One certificate, by the SHA-256 of its DER (as the gateway prints it, colons allowed).
    Pinned(Vec<u8>),
}

impl Trust {
    /// Parses a fingerprint: 32 bytes in hexadecimal, with or without colons.
    #[must_use]
    pub fn fingerprint(text: &str) -> Option<Self> {
        let digits: String = text.chars().filter(|c| *c != ':').collect();
        if digits.len() != 64 || !digits.is_ascii() {
            return None;
        }
        let byte = |i: usize| u8::from_str_radix(digits.get(i..i + 2)?, 16).ok();
        (0..64)
            .step_by(2)
            .map(byte)
            .collect::<Option<Vec<u8>>>()
            .map(Self::Pinned)
    }
}

/// Why a server was not reached.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// No URL of a scheme that is spoken here.
    #[error("`{0}` is no ws, wss, http or https URL")]
    Url(String),
    /// TCP or TLS.
    #[error("cannot reach {host}: {source}")]
    Io {
        /// Host and port.
        host: String,
        /// The system's words.
        source: io::Error,
    },
    /// It took too long.
    #[error("{0} did not answer in time")]
    Slow(String),
    /// The WebSocket upgrade was refused.
    #[error("the server refused the WebSocket: {0}")]
    Refused(String),
    /// HTTP failed.
    #[error("HTTP with the server failed: {0}")]
    Http(String),
    /// The server's answer to an API call.
    #[error("the server answers {status}: {text}")]
    Status {
        /// HTTP status.
        status: u16,
        /// Body, shortened.
        text: String,
    },
}

/// A stream of either kind.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A URL taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// TLS or not.
    pub tls: bool,
    /// Host without port or brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query, `/` at least.
    pub path: String,
}

impl Target {
    /// Parses `ws://`, `wss://`, `http://` and `https://` URLs.
    ///
    /// # Errors
    /// Another scheme, or no host: the caller's fault.
    pub fn parse(url: &str) -> Result<Self, ReachError> {
        let wrong = || ReachError::Url(url.to_owned());
        let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
        let tls = match scheme {
            "wss" | "https" => true,
            "ws" | "http" => false,
            _ => return Err(wrong()),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let default = if tls { 443 } else { 80 };
        let (host, port) = match authority.strip_prefix('[').and_then(|a| a.split_once(']')) {
            Some((host, "")) => (host, default),
            Some((host, port)) => (
                host,
                port.strip_prefix(':')
                    .and_then(|p| p.parse().ok())
                    .ok_or_else(wrong)?,
            ),
            None => match authority.rsplit_once(':') {
                Some((host, port)) => (host, port.parse().map_err(|_| wrong())?),
                None => (authority, default),
            },
        };
        if host.is_empty() || host.contains(['[', ']']) {
            return Err(wrong());
        }
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self {
            tls,
            host: host.to_owned(),
            port,
            path: path.to_owned(),
        })
    }

    pub(crate) fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

/// Opens TCP, and TLS where the URL asks for it.
///
/// # Errors
/// See [`ReachError`].
pub async fn open(target: &Target, trust: &Trust) -> Result<Box<dyn Stream>, ReachError> {
    let host = target.authority();
    let io = |source| ReachError::Io {
        host: host.clone(),
        source,
    };
    let work = async {
        let tcp = TcpStream::connect((target.host.as_str(), target.port))
            .await
            .map_err(io)?;
        tcp.set_nodelay(true).map_err(io)?;
        if !target.tls {
            return Ok(Box::new(tcp) as Box<dyn Stream>);
        }
        let name =
            ServerName::try_from(target.host.clone()).map_err(|e| io(io::Error::other(e)))?;
        let connector = tokio_rustls::TlsConnector::from(tls(trust).map_err(io)?);
        let tls = connector.connect(name, tcp).await.map_err(io)?;
        Ok(Box::new(tls) as Box<dyn Stream>)
    };
    tokio::time::timeout(REACH, work)
        .await
        .map_err(|_| ReachError::Slow(host.clone()))?
}

/// Opens a WebSocket with one subprotocol; messages above 128 KiB are refused.
///
/// # Errors
/// See [`ReachError`].
pub async fn websocket(
    url: &str,
    protocol: &str,
    trust: &Trust,
) -> Result<WebSocketStream<Box<dyn Stream>>, ReachError> {
    let target = Target::parse(url)?;
    let stream = open(&target, trust).await?;
    let refused = |e: tungstenite::Error| ReachError::Refused(e.to_string());
    let mut request =
        tungstenite::client::IntoClientRequest::into_client_request(url).map_err(refused)?;
    let value = protocol
        .parse()
        .map_err(|_| ReachError::Refused(format!("bad subprotocol {protocol}")))?;
    request
        .headers_mut()
        .insert("Sec-WebSocket-Protocol", value);
    let config = WebSocketConfig::default()
        .read_buffer_size(16 << 10)
        .max_message_size(Some(128 << 10))
        .max_frame_size(Some(128 << 10));
    let upgrade = tokio_tungstenite::client_async_with_config(request, stream, Some(config));
    let (socket, _) = tokio::time::timeout(REACH, upgrade)
        .await
        .map_err(|_| ReachError::Slow(target.authority()))?
        .map_err(refused)?;
    Ok(socket)
}

/// One call of the HTTP API with a JSON body and answer; `Null` where there is none.
///
/// # Errors
/// See [`ReachError`]; a status of 400 or more is [`ReachError::Status`].
pub async fn call(
    method: &str,
    url: &str,
    token: Option<&str>,
    body: Option<&serde_json::Value>,
    trust: &Trust,
) -> Result<serde_json::Value, ReachError> {
    let target = Target::parse(url)?;
    let http = |e: &dyn std::fmt::Display| ReachError::Http(e.to_string());
    let stream = open(&target, trust).await?;
    let exchange = async {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| http(&e))?;
        let driver = tokio::spawn(connection);
        let mut request = hyper::Request::builder()
            .method(method)
            .uri(&target.path)
            .header("host", target.authority())
            .header("content-type", "application/json");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let bytes = body.map(serde_json::Value::to_string).unwrap_or_default();
        let request = request
            .body(Full::new(Bytes::from(bytes)))
            .map_err(|e| http(&e))?;
        let answer = sender.send_request(request).await.map_err(|e| http(&e))?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|e| http(&e))?
            .to_bytes();
        driver.abort();
        if status >= 400 {
            let text: String = String::from_utf8_lossy(&body).chars().take(300).collect();
            return Err(ReachError::Status { status, text });
        }
        if body.is_empty() {
            return Ok(serde_json::Value::Null);
        }
        serde_json::from_slice(&body).map_err(|e| http(&e))
    };
    tokio::time::timeout(REACH, exchange)
        .await
        .map_err(|_| ReachError::Slow(target.authority()))?
}

fn tls(trust: &Trust) -> io::Result<Arc<rustls::ClientConfig>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let mut config = match trust {
        Trust::System => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            builder.with_root_certificates(roots).with_no_client_auth()
        }
        Trust::Pinned(digest) => {
            let verifier = Pinned {
                digest: digest.clone(),
                provider,
            };
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(verifier))
                .with_no_client_auth()
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Accepts exactly one certificate; its key must still sign the handshake.
#[derive(Debug)]
struct Pinned {
    digest: Vec<u8>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, leaf);
        match digest.as_ref() == self.digest {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(rustls::Error::InvalidCertificate(
                rustls::CertificateError::ApplicationVerificationFailure,
            )),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let target = Target::parse("wss://chat.example/v1/ws?x=1").expect("url");
        assert_eq!(
            (
                target.tls,
                target.host.as_str(),
                target.port,
                target.path.as_str()
            ),
            (true, "chat.example", 443, "/v1/ws?x=1")
        );
        let target = Target::parse("http://[::1]:8080").expect("url");
        assert_eq!(
            (
                target.tls,
                target.host.as_str(),
                target.port,
                target.path.as_str()
            ),
            (false, "::1", 8080, "/")
        );
        for bad in ["ftp://x", "ws://", "alice", "ws://h:port/", "ws://[::1/"] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn fingerprints_are_read_with_and_without_colons() {
        let plain = "ab".repeat(32);
        let colons = vec!["AB"; 32].join(":");
        assert_eq!(
            Trust::fingerprint(&plain),
            Some(Trust::Pinned(vec![0xab; 32]))
        );
        assert_eq!(
            Trust::fingerprint(&colons),
            Some(Trust::Pinned(vec![0xab; 32]))
        );
        assert_eq!(Trust::fingerprint("ab"), None);
        assert_eq!(Trust::fingerprint(&"é".repeat(32)), None);
    }
}
