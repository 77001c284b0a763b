//! The key set at an address: one bounded request over TLS.

use axum::body::Bytes;
use axum::http::header::{ACCEPT, CACHE_CONTROL, HOST, LOCATION, USER_AGENT};
use axum::http::{HeaderMap, Request, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// One request, from the look-up of the name to the last byte.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Shortest and longest time that an answer is taken for fresh, seconds, whatever it says.
const FRESH_S: std::ops::RangeInclusive<u64> = 60..=86_400;

/// Where a key set is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwksUrl {
    uri: Uri,
    /// How long an answer without Cache-Control is fresh, seconds; from 60 to 86,400.
    pub refresh_s: u64,
    /// Authorities, PEM; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// Where the last good set is kept for a start without the server; `None`: nowhere.
    pub cache: Option<PathBuf>,
}

/// Why an address is refused, or gave no key set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwksUrlError {
    /// Not an address of a key set.
    #[error("`{url}` is no address of a key set: {reason}")]
    Address {
        /// As written.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The authorities' certificates.
    #[error("the authorities' certificates of {path}: {reason}; see auth.jwks_ca")]
    Authorities {
        /// File, or `the system`.
        path: String,
        /// What is wrong with them.
        reason: String,
    },
    /// The server did not give it.
    #[error("the key set at {url} cannot be had: {reason}")]
    Unreachable {
        /// Where.
        url: String,
        /// In the words of whoever failed.
        reason: String,
    },
}

/// An answer.
#[derive(Debug)]
pub(super) struct Fetched {
    /// The set.
    pub(super) text: String,
    /// How long it is fresh.
    pub(super) fresh: Duration,
}

impl JwksUrl {
    /// An https:// address, or an http:// one on this machine; elsewhere only with `allow_http`.
    ///
    /// # Errors
    /// It is neither.
    pub fn parse(url: &str, allow_http: bool) -> Result<Self, JwksUrlError> {
        let wrong = |reason| JwksUrlError::Address {
            url: url.to_owned(),
            reason,
        };
        let uri: Uri = url.parse().map_err(|_| wrong("it cannot be read"))?;
        let host = uri.host().ok_or_else(|| wrong("it names no host"))?;
        if uri.authority().is_some_and(|a| a.as_str().contains('@')) {
            return Err(wrong("a user in it is not supported"));
        }
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if allow_http || loopback(host) => {}
            Some("http") => {
                return Err(wrong(
                    "http beyond this machine lets anybody on the way sign tokens: use https, or set \
                     auth.jwks_allow_http = true",
                ));
            }
            _ => return Err(wrong("it begins with neither https:// nor http://")),
        }
        Ok(Self {
            uri,
            refresh_s: 600,
            ca: None,
            cache: None,
        })
    }

    fn secure(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    /// What the address's certificate is verified with; `None` without TLS.
    pub(super) fn tls(&self) -> Result<Option<Arc<rustls::ClientConfig>>, JwksUrlError> {
        if !self.secure() {
            return Ok(None);
        }
        let roots = match &self.ca {
            Some(path) => from_file(path)?,
            None => from_system()?,
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| self.unreachable(e))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Some(Arc::new(config)))
    }

    /// Asks once; `bytes_max` bounds the answer.
    pub(super) async fn fetch(
        &self,
        tls: Option<&Arc<rustls::ClientConfig>>,
        bytes_max: usize,
    ) -> Result<Fetched, JwksUrlError> {
        let asked = tokio::time::timeout(REQUEST_TIMEOUT, self.connect_and_ask(tls, bytes_max));
        let late = |_| self.unreachable(format!("no answer within {REQUEST_TIMEOUT:?}"));
        asked.await.map_err(late)?
    }

    async fn connect_and_ask(
        &self,
        tls: Option<&Arc<rustls::ClientConfig>>,
        bytes_max: usize,
    ) -> Result<Fetched, JwksUrlError> {
        let host = self.uri.host().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let port = self
            .uri
            .port_u16()
            .unwrap_or(if tls.is_some() { 443 } else { 80 });
        let stream = TcpStream::connect((bare, port)).await;
        let stream = stream.map_err(|e| self.unreachable(e))?;
        let Some(tls) = tls else {
            return self.ask(stream, bytes_max).await;
        };
        let name = ServerName::try_from(bare.to_owned()).map_err(|e| self.unreachable(e))?;
        let connector = TlsConnector::from(Arc::clone(tls));
        let stream = connector.connect(name, stream).await;
        self.ask(stream.map_err(|e| self.unreachable(e))?, bytes_max)
            .await
    }

    async fn ask<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        stream: S,
        bytes_max: usize,
    ) -> Result<Fetched, JwksUrlError> {
        let failed = |e: hyper::Error| self.unreachable(e);
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(failed)?;
        // Ends with the sender, or with the runtime.
        let connection = tokio::spawn(connection);
        let path = self.uri.path_and_query().map_or("/", |p| p.as_str());
        let authority = self.uri.authority().map_or("", |a| a.as_str());
        let request = Request::get(path)
            .header(HOST, authority)
            .header(ACCEPT, "application/json, application/jwk-set+json")
            .header(USER_AGENT, concat!("hawser/", env!("CARGO_PKG_VERSION")))
            .body(Empty::<Bytes>::new())
            .map_err(|e| self.unreachable(e))?;
        let response = sender.send_request(request).await.map_err(failed)?;
        let (head, body) = response.into_parts();
        if head.status.is_redirection() {
            let to = head.headers.get(LOCATION).and_then(|v| v.to_str().ok());
            let words = format!(
                "it redirects to {}: name that address",
                to.unwrap_or("nowhere")
            );
            return Err(self.unreachable(words));
        }
        if head.status != axum::http::StatusCode::OK {
            return Err(self.unreachable(format!("the server answers {}", head.status)));
        }
        let body = Limited::new(body, bytes_max).collect().await;
        let body = body.map_err(|e| self.unreachable(e))?.to_bytes();
        connection.abort();
        let text = String::from_utf8(body.to_vec());
        Ok(Fetched {
            text: text.map_err(|_| self.unreachable("the answer is no UTF-8"))?,
            fresh: self.fresh(&head.headers),
        })
    }

    /// How long an answer is fresh: its `max-age` within bounds (RFC 9111 section 5.2.2).
    fn fresh(&self, headers: &HeaderMap) -> Duration {
        let all = headers.get_all(CACHE_CONTROL).into_iter();
        let words: Vec<String> = all
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(|word| word.trim().to_ascii_lowercase())
            .collect();
        let never = words.iter().any(|w| w == "no-store" || w == "no-cache");
        let max_age = words.iter().find_map(|w| {
            let number = w.strip_prefix("max-age=")?.trim_matches('"');
            // More digits than a u64 has are a long time.
            number
                .bytes()
                .all(|b| b.is_ascii_digit())
                .then(|| number.parse().unwrap_or(u64::MAX))
        });
        let seconds = match (never, max_age) {
            (true, _) => 0,
            (false, Some(age)) => age,
            (false, None) => self.refresh_s,
        };
        Duration::from_secs(seconds.clamp(*FRESH_S.start(), *FRESH_S.end()))
    }

    fn unreachable(&self, reason: impl std::fmt::Display) -> JwksUrlError {
        JwksUrlError::Unreachable {
            url: self.to_string(),
            reason: format!("{reason}"),
        }
    }
}

impl std::fmt::Display for JwksUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.uri)
    }
}

fn loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn from_file(path: &Path) -> Result<rustls::RootCertStore, JwksUrlError> {
    let wrong = |reason: String| JwksUrlError::Authorities {
        path: path.display().to_string(),
        reason,
    };
    let mut roots = rustls::RootCertStore::empty();
    let list = CertificateDer::pem_file_iter(path).map_err(|e| wrong(e.to_string()))?;
    for certificate in list {
        let certificate = certificate.map_err(|e| wrong(e.to_string()))?;
        roots.add(certificate).map_err(|e| wrong(e.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("no certificate in PEM form in it".to_owned()));
    }
    Ok(roots)
}

fn from_system() -> Result<rustls::RootCertStore, JwksUrlError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(JwksUrlError::Authorities {
            path: "the system".to_owned(),
            reason: "there are none: install ca-certificates, or name a file".to_owned(),
        });
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_alone_unless_allowed() {
        for url in [
            "https://id.example/jwks.json",
            "http://127.0.0.1:8080/jwks",
            "http://localhost/jwks",
            "http://[::1]:1/k",
        ] {
            assert!(JwksUrl::parse(url, false).is_ok(), "{url}");
        }
        for url in [
            "http://id.example/jwks.json",
            "http://127.0.0.1.example/k",
            "ftp://id.example/k",
            "https://user@id.example/k",
            "https:///k",
        ] {
            assert!(JwksUrl::parse(url, false).is_err(), "{url}");
        }
        assert!(JwksUrl::parse("http://id.example/jwks.json", true).is_ok());
    }

    #[test]
    fn what_an_answer_says_of_its_age_is_taken_within_bounds() {
        let url = JwksUrl::parse("https://id.example/k", false).unwrap();
        for (words, seconds) in [
            ("max-age=3600", 3_600),
            ("public, max-age=\"120\"", 120),
            ("max-age=0", 60),
            ("max-age=99999999999999999999", 86_400),
            ("no-store, max-age=3600", 60),
            ("max-age=soon", 600),
            ("public", 600),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_CONTROL, words.parse().unwrap());
            assert_eq!(url.fresh(&headers), Duration::from_secs(seconds), "{words}");
        }
        assert_eq!(url.fresh(&HeaderMap::new()), Duration::from_secs(600));
    }
}
