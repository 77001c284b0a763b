//! Our two ends against each other and against rustls's ordinary connections, over byte vectors.

use std::io::{Read, Write};
use std::sync::Arc;

use aws_lc_rs::aead;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs as provider;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, ConnectionTrafficSecrets, RootCertStore,
    ServerConfig, ServerConnection, SupportedProtocolVersion, version,
};

use super::*;

struct Configs {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    /// Of rustls's own client.
    theirs: Arc<ClientConfig>,
}

/// What becomes of a TLS 1.3 connection after its handshake: rustls's own, or its keys alone.
const FORMS: [bool; 2] = [false, true];

fn configs(compact: bool, versions: &[&'static SupportedProtocolVersion]) -> Configs {
    configs_of(provider::default_provider(), compact, versions)
}

fn configs_of(
    provider: CryptoProvider,
    compact: bool,
    versions: &[&'static SupportedProtocolVersion],
) -> Configs {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let provider = Arc::new(provider);
    let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![cert.der().clone()],
            PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap(),
        )
        .unwrap();
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.enable_secret_extraction = true;
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    let theirs = client.clone();
    if compact {
        compact_server(&mut server);
        compact_client(&mut client);
    }
    Configs {
        server: Arc::new(server),
        client: Arc::new(client),
        theirs: Arc::new(theirs),
    }
}

fn name() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

/// Our client and our server, established; what was on the way is delivered.
fn pair(configs: &Configs) -> (Layer, Layer) {
    let mut client = ClientHandshake::new(Arc::clone(&configs.client), name()).unwrap();
    let mut server = ServerHandshake::new(Arc::clone(&configs.server)).unwrap();
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    let (mut client_done, mut server_done) = (false, false);
    while !client_done || !server_done {
        client_done = client.step(&mut to_client, &mut to_server).unwrap() == Progress::Done;
        server_done = server.step(&mut to_server, &mut to_client).unwrap() == Progress::Done;
    }
    let (mut client, server) = (client.finish().unwrap(), server.finish().unwrap());
    assert_eq!(open(&mut client, &mut to_client), b"", "tickets");
    assert!(to_client.is_empty() && to_server.is_empty());
    (client, server)
}

fn open(layer: &mut Layer, incoming: &mut Vec<u8>) -> Vec<u8> {
    let (mut plain, mut out) = (Vec::new(), Vec::new());
    layer.open(incoming, &mut plain, &mut out).unwrap();
    assert!(out.is_empty());
    plain
}

fn seal(layer: &mut Layer, plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    layer.seal(plain, &mut out).unwrap();
    out
}

/// Takes what rustls's own client wants to send.
fn sent(connection: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// Gives rustls's own client what was sent and returns what it can read.
fn receive(connection: &mut ClientConnection, mut bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    while !bytes.is_empty() {
        connection.read_tls(&mut bytes).unwrap();
        let state = connection.process_new_packets().unwrap();
        let mut part = vec![0; state.plaintext_bytes_to_read()];
        connection.reader().read_exact(&mut part).unwrap();
        plain.append(&mut part);
    }
    plain
}

/// rustls's own client and our server, established; the client's bytes come `chunk` at a time.
fn with_rustls(configs: &Configs, chunk: usize) -> (ClientConnection, Layer) {
    let mut client = ClientConnection::new(Arc::clone(&configs.theirs), name()).unwrap();
    let mut server = ServerHandshake::new(Arc::clone(&configs.server)).unwrap();
    let mut incoming = Vec::new();
    loop {
        let mut progress = Progress::NeedMore;
        let mut out = Vec::new();
        for part in sent(&mut client).chunks(chunk) {
            assert_eq!(progress, Progress::NeedMore);
            incoming.extend_from_slice(part);
            progress = server.step(&mut incoming, &mut out).unwrap();
        }
        assert_eq!(receive(&mut client, &out), b"");
        if progress == Progress::Done {
            return (client, server.finish().unwrap());
        }
    }
}

#[test]
fn every_suite_becomes_its_keys_and_one_is_short() {
    let all = provider::default_provider().cipher_suites;
    let suites = all.iter().filter(|suite| suite.tls13().is_some());
    let mut short = 0;
    for suite in suites {
        let mut only = provider::default_provider();
        only.cipher_suites = vec![*suite];
        let configs = configs_of(only, true, &[&version::TLS13]);
        let (mut client, mut server) = pair(&configs);
        for layer in [&client, &server] {
            let is_short = matches!(layer, Layer::Short(_));
            assert!(is_short || matches!(layer, Layer::Compact(_)), "{suite:?}");
            let expected = suite.suite() == CipherSuite::TLS13_AES_128_GCM_SHA256;
            assert_eq!(is_short, expected, "{suite:?}");
            short += usize::from(is_short);
        }
        let mut wire = seal(&mut client, b"from here");
        assert_eq!(open(&mut server, &mut wire), b"from here");
        let mut wire = seal(&mut server, b"and back");
        assert_eq!(open(&mut client, &mut wire), b"and back");
    }
    assert_eq!(short, 2, "both ends of one suite");
}

#[test]
fn our_ends_talk_to_each_other() {
    for form in FORMS {
        for versions in [&[&version::TLS13], &[&version::TLS12]] {
            let (mut client, mut server) = pair(&configs(form, versions));
            match &server {
                Layer::Plain => panic!("there is TLS"),
                Layer::Compact(_) | Layer::Short(_) => {
                    assert!(form && *versions[0] == version::TLS13);
                }
                Layer::Tls(tls) => {
                    assert!(!form || *versions[0] == version::TLS12);
                    assert_eq!(tls.version(), Some(versions[0].version));
                    assert_eq!(tls.alpn(), Some(b"http/1.1".as_slice()));
                }
            }
            for round in 0..3_u8 {
                let mut wire = seal(&mut client, &[round; 100]);
                assert_eq!(open(&mut server, &mut wire), [round; 100]);
                assert!(wire.is_empty());
                let mut wire = seal(&mut server, &[round; 200]);
                assert_eq!(open(&mut client, &mut wire), [round; 200]);
            }
            assert_eq!(seal(&mut client, b""), b"", "nothing for no bytes");
        }
    }
}

#[test]
fn a_client_hello_a_byte_at_a_time_is_a_client_hello() {
    for form in FORMS {
        for versions in [&[&version::TLS13], &[&version::TLS12]] {
            let (mut client, mut server) = with_rustls(&configs(form, versions), 1);
            client.writer().write_all(b"hello").unwrap();
            let mut wire = sent(&mut client);
            assert_eq!(open(&mut server, &mut wire), b"hello");
            assert_eq!(
                receive(&mut client, &seal(&mut server, b"and back")),
                b"and back"
            );
        }
    }
}

#[test]
fn large_data_is_cut_into_records_and_any_cut_is_read() {
    for form in FORMS {
        let (mut client, mut server) = with_rustls(&configs(form, &[&version::TLS13]), usize::MAX);
        let data: Vec<u8> = (0..200_000_u32).map(|i| i.to_le_bytes()[0]).collect();
        let wire = seal(&mut server, &data);
        assert_eq!(wire.len(), data.len() + 13 * 22, "13 records");
        assert_eq!(receive(&mut client, &wire), data);

        let (mut sender, mut receiver) = pair(&configs(form, &[&version::TLS13]));
        let (mut incoming, mut plain, mut out) = (Vec::new(), Vec::new(), Vec::new());
        for part in seal(&mut sender, &data).chunks(777) {
            incoming.extend_from_slice(part);
            receiver.open(&mut incoming, &mut plain, &mut out).unwrap();
            assert!(incoming.len() < CIPHERTEXT_BYTES_MAX);
        }
        assert_eq!(plain, data);
        assert!(incoming.is_empty() && out.is_empty());
    }
}

#[test]
fn data_that_comes_with_the_last_flight_is_kept() {
    for form in FORMS {
        let configs = configs(form, &[&version::TLS13]);
        let mut client = ClientConnection::new(Arc::clone(&configs.theirs), name()).unwrap();
        let mut server = ServerHandshake::new(Arc::clone(&configs.server)).unwrap();
        let mut out = Vec::new();
        assert_eq!(
            server.step(&mut sent(&mut client), &mut out),
            Ok(Progress::NeedMore)
        );
        receive(&mut client, &out);
        client.writer().write_all(b"GET / ").unwrap();
        client.writer().write_all(b"HTTP/1.1").unwrap();
        let mut incoming = sent(&mut client);
        let held_back = incoming.split_off(incoming.len() - 3);
        assert_eq!(server.step(&mut incoming, &mut out), Ok(Progress::Done));
        let mut server = server.finish().unwrap();
        assert_eq!(open(&mut server, &mut incoming), b"GET / ");
        incoming.extend_from_slice(&held_back);
        assert_eq!(open(&mut server, &mut incoming), b"HTTP/1.1");
    }
}

#[test]
fn a_peers_key_update_is_followed_and_answered() {
    for form in FORMS {
        let (mut client, mut server) = with_rustls(&configs(form, &[&version::TLS13]), usize::MAX);
        for round in 0..3_u8 {
            client.refresh_traffic_keys().unwrap();
            client.writer().write_all(&[round; 50]).unwrap();
            assert_eq!(open(&mut server, &mut sent(&mut client)), [round; 50]);
            let answer = seal(&mut server, &[round; 60]);
            assert!(answer.len() > 60 + 22, "the key update goes first");
            assert_eq!(receive(&mut client, &answer), [round; 60]);
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
    fn new(client: ClientConnection) -> Self {
        let (sequence, secrets) = client.dangerous_extract_secrets().unwrap().tx;
        let ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else {
            panic!("the first suite of the provider");
        };
        let key = aead::UnboundKey::new(&aead::AES_256_GCM, key.as_ref()).unwrap();
        Self {
            key: aead::LessSafeKey::new(key),
            iv: iv.as_ref().try_into().unwrap(),
            sequence,
        }
    }

    fn record(&mut self, content_type: u8, content: &[u8]) -> Vec<u8> {
        let mut inner = [content, &[content_type]].concat();
        let len = u16::try_from(inner.len() + 16).unwrap().to_be_bytes();
        let header = [23, 3, 3, len[0], len[1]];
        let mut nonce = self.iv;
        for (place, byte) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *place ^= byte;
        }
        self.sequence += 1;
        let nonce = aead::Nonce::assume_unique_for_key(nonce);
        let sealed = self
            .key
            .seal_in_place_append_tag(nonce, aead::Aad::from(header), &mut inner);
        sealed.unwrap();
        [header.as_slice(), &inner].concat()
    }
}

#[test]
fn sealing_between_the_two_records_of_a_key_update_works() {
    for form in FORMS {
        let (client, mut server) = with_rustls(&configs(form, &[&version::TLS13]), usize::MAX);
        let mut forger = Forger::new(client);
        let key_update = [24, 0, 0, 1, 1];
        let mut incoming = forger.record(23, b"before");
        incoming.extend(forger.record(22, &key_update[..3]));
        assert_eq!(open(&mut server, &mut incoming), b"before");
        assert!(
            incoming.is_empty(),
            "the layer carries what rustls refers to by place"
        );
        assert_eq!(seal(&mut server, b"meanwhile").len(), 9 + 22);
        // The second record comes in two parts.
        let second = forger.record(22, &key_update[3..]);
        incoming.extend_from_slice(&second[..7]);
        assert_eq!(open(&mut server, &mut incoming), b"");
        assert_eq!(seal(&mut server, b"meanwhile").len(), 9 + 22);
        incoming.extend_from_slice(&second[7..]);
        assert_eq!(open(&mut server, &mut incoming), b"");
        assert!(incoming.is_empty());
        assert_eq!(
            seal(&mut server, b"after").len(),
            (5 + 22) + (5 + 22),
            "the reply goes first"
        );
    }
}

#[test]
fn a_flood_of_key_updates_ends_the_connection() {
    for form in FORMS {
        let (mut client, mut server) = with_rustls(&configs(form, &[&version::TLS13]), usize::MAX);
        let (mut plain, mut out) = (Vec::new(), Vec::new());
        let mut rounds = 0;
        loop {
            client.refresh_traffic_keys().unwrap();
            rounds += 1;
            if server
                .open(&mut sent(&mut client), &mut plain, &mut out)
                .is_err()
            {
                break;
            }
            assert!(rounds < 100, "no end of it");
        }
    }
}

#[test]
fn no_other_handshake_message_is_taken_from_a_client() {
    for form in FORMS {
        for message in [[4_u8, 0, 0, 1, 0], [1, 0, 0, 1, 0], [24, 0, 0, 1, 7]] {
            let (client, mut server) = with_rustls(&configs(form, &[&version::TLS13]), usize::MAX);
            let mut incoming = Forger::new(client).record(22, &message);
            let mut out = Vec::new();
            let result = server.open(&mut incoming, &mut Vec::new(), &mut out);
            assert!(matches!(result, Err(RecordError::Tls(_))), "{result:?}");
            assert_eq!(out.len(), 24, "a sealed alert");
        }
    }
}

#[test]
fn close_notify_goes_both_ways() {
    for form in FORMS {
        for versions in [&[&version::TLS13], &[&version::TLS12]] {
            let configs = configs(form, versions);
            let (mut client, mut server) = pair(&configs);
            let mut wire = seal(&mut client, b"last");
            client.close_notify(&mut wire);
            let once = wire.len();
            client.close_notify(&mut wire);
            assert_eq!(wire.len(), once, "once");
            assert_eq!(client.seal(b"more", &mut wire), Err(RecordError::Ended));
            wire.extend_from_slice(b"what follows is not read");
            let (mut plain, mut out) = (Vec::new(), Vec::new());
            let opened = server.open(&mut wire, &mut plain, &mut out).unwrap();
            assert_eq!(
                (plain.as_slice(), opened.closed),
                (b"last".as_slice(), true)
            );
            assert!(wire.is_empty());
            // The other way is still open; who has closed does not look any more.
            let mut wire = seal(&mut server, b"goodbye");
            server.close_notify(&mut wire);
            wire.extend_from_slice(&[0xff; 100]);
            plain.clear();
            assert!(!client.open(&mut wire, &mut plain, &mut out).unwrap().closed);
            assert!(plain.is_empty() && wire.is_empty() && out.is_empty());
            assert!(server.open(&mut wire, &mut plain, &mut out).unwrap().closed);

            let (mut client, mut server) = with_rustls(&configs, usize::MAX);
            client.send_close_notify();
            let closed = server.open(&mut sent(&mut client), &mut plain, &mut out);
            assert_eq!(closed, Ok(Opened { closed: true }));
            server.close_notify(&mut out);
            client.read_tls(&mut out.as_slice()).unwrap();
            assert!(client.process_new_packets().unwrap().peer_has_closed());
        }
    }
}

#[test]
fn garbage_is_answered_by_an_alert() {
    for form in FORMS {
        let configs = configs(form, &[&version::TLS13]);
        for garbage in [
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".as_slice(),
            &[0xff; 64],
            &[22, 3, 1, 0, 4, 1, 0, 0, 0],
            &[23, 3, 3, 0, 5, 1, 2, 3, 4, 5],
            &[22, 3, 1, 0xff, 0xff, 1, 2, 3],
        ] {
            let mut server = ServerHandshake::new(Arc::clone(&configs.server)).unwrap();
            let mut out = Vec::new();
            let error = server.step(&mut garbage.to_vec(), &mut out).unwrap_err();
            assert!(matches!(error, RecordError::Tls(_)), "{error:?}");
            assert_eq!(out.first(), Some(&21), "{garbage:?}: an alert");
            assert_eq!(
                server.step(&mut Vec::new(), &mut out),
                Err(RecordError::Ended)
            );
        }
    }
}

#[test]
fn a_truncated_or_altered_record_is_never_plaintext() {
    for form in FORMS {
        let configs = configs(form, &[&version::TLS13]);
        let (mut client, mut server) = pair(&configs);
        let mut wire = seal(&mut client, b"secret");
        wire.pop();
        let whole = wire.clone();
        assert_eq!(open(&mut server, &mut wire), b"");
        assert_eq!(wire, whole, "less than a record stays with the caller");
        wire.push(0);
        let (mut plain, mut out) = (Vec::new(), Vec::new());
        let error = server.open(&mut wire, &mut plain, &mut out);
        assert_eq!(error, Err(RecordError::Tls(rustls::Error::DecryptError)));
        assert!(plain.is_empty());
        assert_eq!(server.seal(b"x", &mut Vec::new()), Err(RecordError::Ended));
        let told = client.open(&mut out, &mut plain, &mut Vec::new());
        let alert = rustls::AlertDescription::BadRecordMac;
        assert_eq!(
            told,
            Err(RecordError::Tls(rustls::Error::AlertReceived(alert)))
        );
    }
}

#[test]
fn a_handshake_message_without_end_is_cut_off() {
    for form in FORMS {
        let configs = configs(form, &[&version::TLS13]);
        let mut server = ServerHandshake::new(Arc::clone(&configs.server)).unwrap();
        let mut out = Vec::new();
        // A ClientHello of 60,000 bytes, a byte a record.
        assert_eq!(
            server.step(&mut vec![22, 3, 1, 0, 4, 1, 0, 0xea, 0x60], &mut out),
            Ok(Progress::NeedMore)
        );
        let mut sent = 0;
        let error = loop {
            let mut incoming: Vec<u8> = [22, 3, 1, 0, 1, 0].repeat(100);
            sent += incoming.len();
            if let Err(error) = server.step(&mut incoming, &mut out) {
                break error;
            }
        };
        assert_eq!(error, RecordError::LongHandshake);
        assert!(sent < 70_000);
    }
}

#[test]
fn a_client_refuses_a_server_it_does_not_know() {
    for form in FORMS {
        let (ours, other) = (
            configs(form, &[&version::TLS13]),
            configs(form, &[&version::TLS13]),
        );
        let mut client = ClientHandshake::new(Arc::clone(&ours.client), name()).unwrap();
        let mut server = ServerHandshake::new(Arc::clone(&other.server)).unwrap();
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        client.step(&mut to_client, &mut to_server).unwrap();
        server.step(&mut to_server, &mut to_client).unwrap();
        let error = client.step(&mut to_client, &mut to_server).unwrap_err();
        assert!(
            matches!(
                error,
                RecordError::Tls(rustls::Error::InvalidCertificate(_))
            ),
            "{error}"
        );
        let told = server.step(&mut to_server, &mut to_client);
        assert!(
            matches!(told, Err(RecordError::Tls(rustls::Error::AlertReceived(_)))),
            "{told:?}"
        );
    }
}

#[test]
fn our_client_talks_to_rustls_own_server() {
    for form in FORMS {
        let configs = configs(form, &[&version::TLS13, &version::TLS12]);
        let mut client = ClientHandshake::new(Arc::clone(&configs.client), name()).unwrap();
        let mut server = ServerConnection::new(Arc::clone(&configs.server)).unwrap();
        let mut incoming = Vec::new();
        let mut out = Vec::new();
        while client.step(&mut incoming, &mut out).unwrap() == Progress::NeedMore {
            server.read_tls(&mut out.as_slice()).unwrap();
            out.clear();
            server.process_new_packets().unwrap();
            while server.wants_write() {
                server.write_tls(&mut incoming).unwrap();
            }
        }
        let mut client = client.finish().unwrap();
        client.seal(b"ping", &mut out).unwrap();
        server.read_tls(&mut out.as_slice()).unwrap();
        server.process_new_packets().unwrap();
        let mut read = [0; 4];
        server.reader().read_exact(&mut read).unwrap();
        assert_eq!(&read, b"ping");
        server.refresh_traffic_keys().unwrap();
        server.writer().write_all(b"pong").unwrap();
        while server.wants_write() {
            server.write_tls(&mut incoming).unwrap();
        }
        assert_eq!(open(&mut client, &mut incoming), b"pong");
    }
}

#[test]
fn a_plain_layer_hands_bytes_through() {
    let mut layer = Layer::Plain;
    let mut incoming = b"abc".to_vec();
    let (mut plain, mut out) = (Vec::new(), Vec::new());
    let opened = layer.open(&mut incoming, &mut plain, &mut out).unwrap();
    assert_eq!(
        (plain.as_slice(), opened.closed),
        (b"abc".as_slice(), false)
    );
    layer.seal(b"def", &mut out).unwrap();
    layer.close_notify(&mut out);
    assert_eq!(out, b"def");
}

#[test]
fn layers_move_between_threads() {
    fn is_send<T: Send>() {}
    is_send::<Layer>();
    is_send::<ServerHandshake>();
}
