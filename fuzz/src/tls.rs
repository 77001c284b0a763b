//! The TLS layers, rustls's and the compact one, on garbage: they fail with an alert or wait, never panic, and never make plaintext
//! of what was altered.

use std::sync::{Arc, LazyLock};

use aws_lc_rs::aead;
use hawser_wire::record::{
    ClientHandshake, Layer, Progress, RecordError, ServerHandshake, compact_client, compact_server,
};
use rustls::{
    ClientConfig, ClientConnection, ConnectionTrafficSecrets, RootCertStore, ServerConfig,
};
use rustls_pki_types::{PrivateKeyDer, ServerName};

struct Configs {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    /// Of rustls's own connection, which gives its keys away.
    theirs: Arc<ClientConfig>,
}

static CONFIGS: LazyLock<Configs> =
    LazyLock::new(|| configs(false).expect("a self-made certificate works"));
static COMPACT: LazyLock<Configs> =
    LazyLock::new(|| configs(true).expect("a self-made certificate works"));

fn configs(compact: bool) -> Result<Configs, Box<dyn std::error::Error>> {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![cert.der().clone()],
            PrivateKeyDer::try_from(signing_key.serialize_der())?,
        )?;
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone())?;
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.enable_secret_extraction = true;
    let theirs = client.clone();
    if compact {
        compact_server(&mut server);
        compact_client(&mut client);
    }
    Ok(Configs {
        server: Arc::new(server),
        client: Arc::new(client),
        theirs: Arc::new(theirs),
    })
}

/// Any bytes as a client's first flight.
pub fn handshake(bytes: &[u8]) {
    let mut server =
        ServerHandshake::new(Arc::clone(&CONFIGS.server)).expect("the configuration works");
    let (mut incoming, mut out) = (Vec::new(), Vec::new());
    for part in bytes.chunks(bytes.len() / 3 + 1) {
        incoming.extend_from_slice(part);
        match server.step(&mut incoming, &mut out) {
            Ok(Progress::NeedMore) => {}
            Ok(Progress::Done) => panic!("no client finishes a handshake in its first flight"),
            Err(error) => {
                assert_ne!(error, RecordError::Ended, "told once, with a reason");
                assert_eq!(
                    server.step(&mut incoming, &mut out),
                    Err(RecordError::Ended)
                );
                return;
            }
        }
    }
}

/// Edits of ciphertext: the first byte says how records are cut, pairs of bytes after it are places and values.
pub fn open(bytes: &[u8]) {
    for configs in [&CONFIGS, &COMPACT] {
        open_with(configs, bytes);
    }
}

fn open_with(configs: &Configs, bytes: &[u8]) {
    let (mut client, mut server) = established(configs).expect("our ends agree");
    let mut wire = Vec::new();
    let sent = [[1_u8; 200].as_slice(), &[2; 20_000], b"three"];
    for plain in sent {
        client
            .seal(plain, &mut wire)
            .expect("a fresh connection seals");
    }
    let original = wire.clone();
    let (step, edits) = bytes
        .split_first()
        .map_or((0, bytes), |(first, rest)| (*first, rest));
    for edit in edits.chunks_exact(3) {
        let at = usize::from(u16::from_be_bytes([edit[0], edit[1]])) % wire.len().max(1);
        if edit[2] == 0xff {
            wire.truncate(at);
        } else if let Some(byte) = wire.get_mut(at) {
            *byte = edit[2];
        }
    }
    let (mut incoming, mut plain, mut out) = (Vec::new(), Vec::new(), Vec::new());
    let sent = sent.concat();
    for part in wire.chunks(usize::from(step) * 97 + 1) {
        incoming.extend_from_slice(part);
        let result = server.open(&mut incoming, &mut plain, &mut out);
        assert!(sent.starts_with(&plain), "only what was sent comes out");
        if result.is_err() {
            assert!(server.seal(b"x", &mut out).is_err());
            return;
        }
        server
            .seal(b"between", &mut out)
            .expect("an open connection seals");
    }
    assert!(
        wire == original || plain.len() < sent.len(),
        "an edit is noticed"
    );
}

/// Records of one who has the keys: a byte for the kind, one for the length, the content, and so on. What is taken is what was
/// sent as data; whatever else there is in it ends the connection or is passed over.
pub fn sealed(bytes: &[u8]) {
    let (mut forger, mut server) = forger().expect("rustls agrees with us");
    let (mut sent, mut rest) = (Vec::new(), bytes);
    while let [kind, len, after @ ..] = rest {
        let (content, after) = after.split_at(usize::from(*len).min(after.len()));
        rest = after;
        // Mostly what there is: data, handshake messages, alerts.
        let kind = [23, 22, 21, *kind][usize::from(kind % 4)];
        let (mut incoming, mut plain, mut out) =
            (forger.record(kind, content), Vec::new(), Vec::new());
        let result = server.open(&mut incoming, &mut plain, &mut out);
        if kind == 23 {
            sent.extend_from_slice(content);
        }
        assert!(
            sent.ends_with(&plain),
            "only what was sent as data comes out"
        );
        match result {
            Err(error) => {
                assert_ne!(error, RecordError::Ended, "told once, with a reason");
                assert_eq!(server.seal(b"x", &mut out), Err(RecordError::Ended));
                return;
            }
            Ok(opened) if opened.closed => return,
            Ok(_) => {}
        }
        let before = out.len();
        server
            .seal(b"between", &mut out)
            .expect("an open connection seals");
        // At most a key update goes before it.
        assert!(matches!(out.len() - before, 29 | 56));
        // From a key update on, the old keys are nobody's.
        if kind == 22 && content.first() == Some(&24) {
            return;
        }
    }
}

/// The sending half of a TLS 1.3 client, with its keys in our hand.
struct Forger {
    key: aead::LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
}

impl Forger {
    fn record(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        let mut inner = [content, &[kind]].concat();
        let len = u16::try_from(inner.len() + 16).unwrap_or(u16::MAX);
        let [high, low] = len.to_be_bytes();
        let header = [23, 3, 3, high, low];
        let mut nonce = self.iv;
        for (place, byte) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *place ^= byte;
        }
        self.sequence += 1;
        let nonce = aead::Nonce::assume_unique_for_key(nonce);
        let sealed = self
            .key
            .seal_in_place_append_tag(nonce, aead::Aad::from(header), &mut inner);
        sealed.expect("it is short");
        [header.as_slice(), &inner].concat()
    }
}

/// rustls's own client, of which the keys are taken, and our compact server.
fn forger() -> Result<(Forger, Layer), Box<dyn std::error::Error>> {
    let name = ServerName::try_from("localhost")?;
    let mut client = ClientConnection::new(Arc::clone(&COMPACT.theirs), name)?;
    let mut server = ServerHandshake::new(Arc::clone(&COMPACT.server))?;
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    loop {
        while client.wants_write() {
            client.write_tls(&mut to_server)?;
        }
        let progress = server.step(&mut to_server, &mut to_client)?;
        let mut unread = to_client.as_slice();
        while !unread.is_empty() {
            client.read_tls(&mut unread)?;
            client.process_new_packets()?;
        }
        to_client.clear();
        if progress == Progress::Done {
            break;
        }
    }
    let (sequence, secrets) = client.dangerous_extract_secrets()?.tx;
    let ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else {
        return Err("the provider prefers another suite now".into());
    };
    let key = aead::UnboundKey::new(&aead::AES_256_GCM, key.as_ref())?;
    let forger = Forger {
        key: aead::LessSafeKey::new(key),
        iv: iv.as_ref().try_into()?,
        sequence,
    };
    Ok((forger, server.finish()?))
}

fn established(configs: &Configs) -> Result<(Layer, Layer), Box<dyn std::error::Error>> {
    let name = ServerName::try_from("localhost")?;
    let mut client = ClientHandshake::new(Arc::clone(&configs.client), name)?;
    let mut server = ServerHandshake::new(Arc::clone(&configs.server))?;
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    let mut done = false;
    while !done {
        client.step(&mut to_client, &mut to_server)?;
        done = server.step(&mut to_server, &mut to_client)? == Progress::Done;
    }
    let (mut client, server) = (client.finish()?, server.finish()?);
    client.open(&mut to_client, &mut Vec::new(), &mut to_server)?;
    Ok((client, server))
}

/// A ClientHello, whole and in pieces, and noise.
#[must_use]
pub fn flights() -> Vec<Vec<u8>> {
    let mut hello = Vec::new();
    if let Ok(name) = ServerName::try_from("localhost")
        && let Ok(mut client) = ClientHandshake::new(Arc::clone(&CONFIGS.client), name)
    {
        let _ = client.step(&mut Vec::new(), &mut hello);
    }
    let mut split = Vec::new();
    for part in hello.get(5..).unwrap_or_default().chunks(100) {
        split.extend_from_slice(&[22, 3, 1, 0, u8::try_from(part.len()).unwrap_or(0)]);
        split.extend_from_slice(part);
    }
    vec![hello, split, vec![21, 3, 3, 0, 2, 2, 40], vec![0x80; 64]]
}

/// Data, key updates, alerts, and what is none of these.
#[must_use]
pub fn contents() -> Vec<Vec<u8>> {
    vec![
        vec![0, 4, b'd', b'a', b't', b'a', 1, 5, 24, 0, 0, 1, 1],
        vec![1, 2, 24, 0, 1, 3, 0, 1, 0, 0, 1, b'x'],
        vec![0, 0, 0, 0, 2, 2, 1, 90, 2, 2, 1, 0],
        vec![1, 4, 4, 0, 0, 0],
        vec![2, 2, 2, 80],
        vec![3, 1, 0, 7, 0, 199],
    ]
}

/// No edit, and some.
#[must_use]
pub fn edits() -> Vec<Vec<u8>> {
    vec![
        vec![255],
        vec![3],
        vec![9, 0, 3, 1],
        vec![200, 0x10, 0, 0xff],
        vec![40, 0, 100, 7, 1, 0, 9],
    ]
}
