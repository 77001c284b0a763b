//! The key set at an address: fresh keys, a server that is away, and what its answers may cost.

use super::*;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const NOW_MS: u64 = 1_764_060_000_000;
const PATIENCE: Duration = Duration::from_secs(20);

/// What a server of the tests answers with.
#[derive(Clone)]
enum Answer {
    Set(String),
    Words(&'static str),
    Endless,
    Nothing,
}

/// A server that answers each connection once, plain or over TLS.
struct Server {
    addr: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    asked: Arc<AtomicUsize>,
    tls: bool,
}

impl Server {
    fn start(answer: Answer, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            addr: listener.local_addr().unwrap(),
            answer: Arc::new(Mutex::new(answer)),
            asked: Arc::default(),
            tls: tls.is_some(),
        };
        let (answer, asked) = (Arc::clone(&server.answer), Arc::clone(&server.asked));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                asked.fetch_add(1, Ordering::SeqCst);
                let answer = answer.lock().unwrap().clone();
                // What a client breaks off is its own matter.
                let _ = match &tls {
                    None => serve(stream, &answer),
                    Some(tls) => {
                        let connection = rustls::ServerConnection::new(tls.clone()).unwrap();
                        serve(rustls::StreamOwned::new(connection, stream), &answer)
                    }
                };
            }
        });
        server
    }

    fn of(issuer: &Issuer) -> Self {
        Self::start(Answer::Set(issuer.jwks()), None)
    }

    fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}/jwks.json", self.addr)
    }

    fn says(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn serve(mut stream: impl Read + Write, answer: &Answer) -> std::io::Result<()> {
    let mut head = [0; 1_024];
    let mut at = 0;
    while !head[..at].windows(4).any(|w| w == b"\r\n\r\n") {
        match stream.read(&mut head[at..])? {
            0 => return Ok(()),
            n => at += n,
        }
    }
    match answer {
        Answer::Set(text) => write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nCache-Control: max-age=60\r\n\r\n{text}",
            text.len()
        )?,
        Answer::Words(words) => stream.write_all(words.as_bytes())?,
        Answer::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            loop {
                stream.write_all(b"1000\r\n")?;
                stream.write_all(&[b' '; 0x1000])?;
                stream.write_all(b"\r\n")?;
            }
        }
        Answer::Nothing => std::thread::sleep(Duration::from_secs(30)),
    }
    stream.flush()
}

fn issuer(dir: &Path, name: &str) -> Issuer {
    Issuer::open(&dir.join(name)).unwrap()
}

fn token(issuer: &Issuer) -> String {
    let user = UserId::new("alice").unwrap();
    let device = DeviceId::new("laptop").unwrap();
    issuer.issue(&user, Some(&device), 600, false, NOW_MS)
}

fn settings(url: &str, cache: &Path) -> AuthSettings {
    let mut url = JwksUrl::parse(url, false).unwrap();
    url.cache = Some(cache.join("jwks-cache.json"));
    AuthSettings {
        keys: KeySource::Url(url),
        issuer: None,
        audience: None,
        tenant: "default".to_owned(),
        revocations: None,
    }
}

fn until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn tokens_are_judged_by_the_keys_at_the_address() {
    let dir = tempfile::tempdir().unwrap();
    let known = issuer(dir.path(), "known");
    let server = Server::of(&known);
    let verifier = Verifier::new(settings(&server.url(), dir.path())).unwrap();
    assert!(verifier.verify(&token(&known), NOW_MS).is_ok());
    assert_eq!(server.asked(), 1, "a token costs no request");
}

#[test]
fn a_rotated_key_is_read_once_and_no_token_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (issuer(dir.path(), "old"), issuer(dir.path(), "new"));
    let stranger = issuer(dir.path(), "stranger");
    let server = Server::of(&old);
    let verifier = Verifier::new(settings(&server.url(), dir.path())).unwrap();
    server.says(Answer::Set(new.jwks()));
    let since = Instant::now();
    // Few, since the key is asked for ten seconds later whoever is slow.
    for _ in 0..10 {
        assert_eq!(
            verifier.verify(&token(&new), NOW_MS),
            Err(AuthError::KeyPending)
        );
        assert_eq!(
            verifier.verify(&token(&stranger), NOW_MS),
            Err(AuthError::KeyPending)
        );
    }
    assert!(since.elapsed() < Duration::from_secs(2), "none waits");
    until("the new key is known", || {
        verifier.verify(&token(&new), NOW_MS).is_ok()
    });
    assert!(
        since.elapsed() + Duration::from_secs(1) > remote_keys::UNKNOWN_KID_PAUSE,
        "not asked again within ten seconds of the last time"
    );
    assert_eq!(server.asked(), 2);
    // What the answer did not have is refused for good, without asking again.
    assert_eq!(
        verifier.verify(&token(&stranger), NOW_MS),
        Err(AuthError::UnknownKey)
    );
    assert_eq!(
        verifier.verify(&token(&old), NOW_MS),
        Err(AuthError::KeyPending)
    );
}

#[test]
fn the_last_good_set_stays_when_the_server_fails_and_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let known = issuer(dir.path(), "known");
    let server = Server::of(&known);
    let verifier = Verifier::new(settings(&server.url(), dir.path())).unwrap();
    for answer in [
        "HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{\"keys\": []}",
        "HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/\r\nContent-Length: 0\r\n\r\n",
        "no HTTP at all\r\n\r\n",
    ] {
        server.says(Answer::Words(answer));
        let before = verifier.key_fetches().unwrap().failed;
        verifier.refresh();
        until(answer, || verifier.key_fetches().unwrap().failed > before);
        assert!(verifier.verify(&token(&known), NOW_MS).is_ok(), "{answer}");
    }
    drop(verifier);
    let again = Verifier::new(settings(&server.url(), dir.path())).unwrap();
    assert!(again.verify(&token(&known), NOW_MS).is_ok());
    // What was kept belongs to its address.
    let other = server.url().replace("jwks.json", "others.json");
    let error = Verifier::new(settings(&other, dir.path())).unwrap_err();
    assert!(
        matches!(&error, AuthSetupError::Keys(keys) if keys.transient()),
        "{error}"
    );
}

#[test]
fn an_answer_is_bounded_in_size_and_in_time() {
    let dir = tempfile::tempdir().unwrap();
    for answer in [Answer::Endless, Answer::Nothing] {
        let server = Server::start(answer, None);
        let since = Instant::now();
        let error = Verifier::new(settings(&server.url(), dir.path())).unwrap_err();
        assert!(since.elapsed() < Duration::from_secs(8), "{error}");
    }
}

#[test]
fn over_tls_the_server_must_be_who_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let known = issuer(dir.path(), "known");
    let own = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let pem = dir.path().join("ca.pem");
    std::fs::write(&pem, own.cert.pem()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = rustls::pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    let server = Server::start(Answer::Set(known.jwks()), Some(Arc::new(tls)));
    let mut trusting = settings(&server.url(), dir.path());
    let KeySource::Url(url) = &mut trusting.keys else {
        unreachable!("an address")
    };
    url.ca = Some(pem);
    let verifier = Verifier::new(trusting).unwrap();
    assert!(verifier.verify(&token(&known), NOW_MS).is_ok());
    let elsewhere = tempfile::tempdir().unwrap();
    let error = Verifier::new(settings(&server.url(), elsewhere.path())).unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[test]
fn the_sections_names_reach_verifier_and_issuer() {
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("keys");
    let shared = Issuer::open(&dir.path().join("shared")).unwrap();
    let section = AuthSection {
        issuer_key: Issuer::file(&dir.path().join("shared"))
            .display()
            .to_string(),
        audience: "chat".to_owned(),
        ..AuthSection::default()
    };
    let tokens = section.open(&keys).unwrap();
    let issuer = tokens.issuer.unwrap();
    assert_eq!(issuer.jwks(), shared.jwks(), "the key that was named");
    assert!(tokens.verifier.verify(&token(&issuer), NOW_MS).is_ok());
    let payload = token(&issuer).split('.').nth(1).unwrap().to_owned();
    let payload: Value = serde_json::from_slice(
        &base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, payload)
            .unwrap(),
    )
    .unwrap();
    assert_eq!(payload["aud"], json!("chat"));
    let missing = AuthSection {
        issuer_key: dir.path().join("none").display().to_string(),
        ..AuthSection::default()
    };
    let error = missing.open(&keys).unwrap_err().to_string();
    assert!(error.contains("make-keys"), "{error}");
}
