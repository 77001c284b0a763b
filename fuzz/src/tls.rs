//! The TLS layer on garbage: it fails with an alert or waits, never panics, and never makes plaintext of what was altered.

use std::sync::{Arc, LazyLock};

use hawser_wire::record::{ClientHandshake, Layer, Progress, RecordError, ServerHandshake};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{PrivateKeyDer, ServerName};

struct Configs {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

static CONFIGS: LazyLock<Configs> =
    LazyLock::new(|| configs().expect("a self-made certificate works"));

fn configs() -> Result<Configs, Box<dyn std::error::Error>> {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![cert.der().clone()],
            PrivateKeyDer::try_from(signing_key.serialize_der())?,
        )?;
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone())?;
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Configs {
        server: Arc::new(server),
        client: Arc::new(client),
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
    let (mut client, mut server) = established().expect("our ends agree");
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

fn established() -> Result<(Layer, Layer), Box<dyn std::error::Error>> {
    let name = ServerName::try_from("localhost")?;
    let mut client = ClientHandshake::new(Arc::clone(&CONFIGS.client), name)?;
    let mut server = ServerHandshake::new(Arc::clone(&CONFIGS.server))?;
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    let mut done = false;
    while !done {
        client.step(&mut to_client, &mut to_server)?;
        done = server.step(&mut to_server, &mut to_client)? == Progress::Done;
    }
    let (mut client, server) = (Layer::from(client.finish()), Layer::from(server.finish()));
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
