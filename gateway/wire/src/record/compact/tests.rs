//! What no well-behaved peer sends, sealed by the other end's own keys.

use super::*;
use proptest::prelude::*;

const SUITES: [Suite; 3] = [Suite::Aes128, Suite::Aes256, Suite::ChaCha20];

fn secret(suite: Suite, fill: u8) -> Vec<u8> {
    let len = if suite == Suite::Aes256 { 48 } else { 32 };
    vec![fill; len]
}

fn way(suite: Suite, fill: u8) -> Way {
    Way::new(suite, &secret(suite, fill), 0).expect("a secret of the right length")
}

/// A client and a server, as a handshake leaves them.
fn pair(suite: Suite) -> (CompactLayer, CompactLayer) {
    let client = CompactLayer::new(suite, true, way(suite, 1), way(suite, 2));
    let server = CompactLayer::new(suite, false, way(suite, 2), way(suite, 1));
    (client, server)
}

/// A record of any kind, by whoever has the keys.
fn forge(way: &mut Way, suite: Suite, kind: u8, content: &[u8]) -> Vec<u8> {
    let (mut out, key) = (Vec::new(), way.key(suite));
    way.seal(&key, kind, content, &mut out).expect("it fits");
    out
}

type Taken = (Result<Opened, RecordError>, Vec<u8>, Vec<u8>);

/// The result, the plaintext, what is sent.
fn give(layer: &mut CompactLayer, bytes: &[u8]) -> Taken {
    let (mut incoming, mut plain, mut out) = (bytes.to_vec(), Vec::new(), Vec::new());
    let result = layer.open(&mut incoming, &mut plain, &mut out);
    let is_over = result == Err(RecordError::Ended);
    assert!(incoming.is_empty() || result.is_ok() || is_over);
    (result, plain, out)
}

/// The alert that a client reads of what was sent.
fn alert(client: &mut CompactLayer, out: &[u8]) -> AlertDescription {
    match give(client, out).0 {
        Err(RecordError::Tls(rustls::Error::AlertReceived(alert))) => alert,
        other => panic!("{other:?}"),
    }
}

/// What a server does with a record of its client's; the alert that it answers, if it does.
fn judged(kind: u8, content: &[u8]) -> Option<AlertDescription> {
    let (mut client, mut server) = pair(Suite::Aes128);
    let record = forge(&mut way(Suite::Aes128, 1), Suite::Aes128, kind, content);
    let (result, plain, out) = give(&mut server, &record);
    assert!(plain.is_empty());
    if result.is_ok() {
        assert!(out.is_empty());
        return None;
    }
    let mut after = Vec::new();
    assert_eq!(server.seal(b"x", &mut after), Err(RecordError::Ended));
    assert_eq!(give(&mut server, &record).0, Err(RecordError::Ended));
    Some(alert(&mut client, &out))
}

#[test]
fn every_suite_both_ways_and_the_keys_of_rfc_8448() {
    for suite in SUITES {
        let (mut client, mut server) = pair(suite);
        for round in 0..3_u8 {
            let mut wire = Vec::new();
            client.seal(&[round; 100], &mut wire).expect("it seals");
            assert_eq!(give(&mut server, &wire).1, [round; 100]);
            wire.clear();
            server.seal(&[round; 40_000], &mut wire).expect("it seals");
            assert_eq!(give(&mut client, &wire).1, [round; 40_000]);
        }
    }
    // RFC 8448, section 3: server_application_traffic_secret_0 with TLS_AES_128_GCM_SHA256.
    let secret = hex("a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643");
    let way: Way = Way::new(Suite::Aes128, &secret, 0).expect("32 bytes");
    let key = hex("9f02283b6c9c07efc26bb9f2ac92e356");
    let iv = hex("cf782b88dd83549aadf1e984");
    assert!(way.is(Suite::Aes128, &key, &iv));
    assert!(!way.is(Suite::Aes128, &iv, &key));
    assert!(<Way>::new(Suite::Aes256, &secret, 0).is_none());
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    let byte = |pair: &[u32]| u8::try_from(pair[0] * 16 + pair[1]).expect("a byte");
    digits.chunks(2).map(byte).collect()
}

#[test]
fn keys_are_updated_before_they_are_worn() {
    for suite in [Suite::Aes128, Suite::Aes256] {
        let (mut client, mut server) = pair(suite);
        let late = (1 << 24) - 3;
        client.send = Way::new(suite, &secret(suite, 1), late).expect("a secret");
        server.receive = Way::new(suite, &secret(suite, 1), late).expect("a secret");
        let mut lens = Vec::new();
        for round in 0..6_u8 {
            let mut wire = Vec::new();
            client.seal(&[round; 10], &mut wire).expect("it seals");
            lens.push(wire.len());
            assert_eq!(
                give(&mut server, &wire),
                (Ok(Opened::default()), vec![round; 10], Vec::new())
            );
        }
        assert_eq!(lens, [32, 32, 27 + 32, 32, 32, 32], "one key update");
        assert_eq!(
            (client.send.generation(), server.receive.generation()),
            (1, 1)
        );
    }
    let (client, _) = pair(Suite::ChaCha20);
    let worn: Option<Way> = Way::new(Suite::ChaCha20, &secret(Suite::ChaCha20, 1), u64::MAX / 2);
    assert!(
        !worn.expect("a secret").is_worn(client.suite),
        "never, by RFC 8446"
    );
}

#[test]
fn an_update_that_is_asked_for_often_is_answered_once() {
    let (mut client, mut server) = pair(Suite::Aes256);
    let mut wire = Vec::new();
    for _ in 0..5 {
        let request = [KEY_UPDATE, 0, 0, 1, 1];
        let key = client.send.key(client.suite);
        client
            .send
            .seal(&key, HANDSHAKE, &request, &mut wire)
            .expect("it fits");
        client.send.update(client.suite);
    }
    client.seal(b"after", &mut wire).expect("it seals");
    assert_eq!(give(&mut server, &wire).1, b"after");
    let mut out = Vec::new();
    server.seal(b"answer", &mut out).expect("it seals");
    assert_eq!(out.len(), 27 + 28, "one key update, and the answer");
    assert_eq!(give(&mut client, &out).1, b"answer");
}

#[test]
fn nothing_may_follow_a_key_update_in_its_record() {
    let two = [KEY_UPDATE, 0, 0, 1, 0, KEY_UPDATE, 0, 0, 1, 0];
    assert_eq!(
        judged(HANDSHAKE, &two),
        Some(AlertDescription::UnexpectedMessage)
    );
    assert_eq!(
        judged(HANDSHAKE, &two[..6]),
        Some(AlertDescription::UnexpectedMessage)
    );
    assert_eq!(judged(HANDSHAKE, &two[..5]), None);
}

#[test]
fn each_fault_has_the_alert_that_rfc_8446_names() {
    let unexpected = Some(AlertDescription::UnexpectedMessage);
    assert_eq!(
        judged(HANDSHAKE, &[]),
        unexpected,
        "no empty handshake record"
    );
    assert_eq!(
        judged(HANDSHAKE, &[1, 0, 0, 0]),
        unexpected,
        "a ClientHello"
    );
    assert_eq!(
        judged(HANDSHAKE, &[1]),
        unexpected,
        "and the beginning of one"
    );
    assert_eq!(
        judged(HANDSHAKE, &[NEW_SESSION_TICKET, 0]),
        unexpected,
        "of a client"
    );
    assert_eq!(judged(20, &[1]), unexpected, "change_cipher_spec");
    assert_eq!(judged(99, b"?"), unexpected);
    let illegal = Some(AlertDescription::IllegalParameter);
    assert_eq!(judged(HANDSHAKE, &[KEY_UPDATE, 0, 0, 1, 2]), illegal);
    let decode = Some(AlertDescription::DecodeError);
    assert_eq!(judged(HANDSHAKE, &[KEY_UPDATE, 0, 0, 2]), decode);
    assert_eq!(judged(ALERT, &[1]), decode);
    assert_eq!(judged(ALERT, &[2, 0, 0]), decode);
    assert_eq!(
        judged(ALERT, &[1, u8::from(AlertDescription::UserCanceled)]),
        None
    );
    assert_eq!(
        judged(APPLICATION_DATA, &[]),
        None,
        "traffic that says nothing is allowed"
    );
}

#[test]
fn an_alert_ends_the_connection_whatever_its_level_and_is_not_answered() {
    for level in [WARNING, FATAL] {
        let (_, mut server) = pair(Suite::Aes128);
        let content = [level, u8::from(AlertDescription::InternalError)];
        let record = forge(&mut way(Suite::Aes128, 1), Suite::Aes128, ALERT, &content);
        let (result, _, out) = give(&mut server, &record);
        let told = rustls::Error::AlertReceived(AlertDescription::InternalError);
        assert_eq!((result, out), (Err(RecordError::Tls(told)), Vec::new()));
    }
}

#[test]
fn a_message_over_two_records_is_read_and_nothing_may_come_between() {
    let mut theirs = way(Suite::Aes128, 1);
    let mut part = |kind, content: &[u8]| forge(&mut theirs, Suite::Aes128, kind, content);
    let (first, second) = (
        part(HANDSHAKE, &[KEY_UPDATE, 0]),
        part(HANDSHAKE, &[0, 1, 0]),
    );
    let (_, mut server) = pair(Suite::Aes128);
    assert!(give(&mut server, &first).0.is_ok());
    assert!(server.message.is_some());
    assert!(give(&mut server, &second).0.is_ok());
    assert_eq!(
        (server.receive.generation(), server.message.is_none()),
        (1, true)
    );

    let mut theirs = way(Suite::Aes128, 1);
    let mut part = |kind, content: &[u8]| forge(&mut theirs, Suite::Aes128, kind, content);
    let wire = [
        part(HANDSHAKE, &[KEY_UPDATE, 0]),
        part(APPLICATION_DATA, b"between"),
    ]
    .concat();
    let (mut client, mut server) = pair(Suite::Aes128);
    let (result, plain, out) = give(&mut server, &wire);
    assert!(result.is_err() && plain.is_empty());
    assert_eq!(
        alert(&mut client, &out),
        AlertDescription::UnexpectedMessage
    );
}

#[test]
fn tickets_are_taken_from_a_server_and_thrown_away() {
    let suite = Suite::Aes256;
    let (mut client, _) = pair(suite);
    let mut theirs = way(suite, 2);
    let ticket = [&[NEW_SESSION_TICKET, 0, 0x4e, 0x20][..], &[7; 20_000]].concat();
    let two = [ticket.clone(), ticket].concat();
    let mut wire = Vec::new();
    for part in two.chunks(RECORD_BYTES_MAX) {
        wire.extend(forge(&mut theirs, suite, HANDSHAKE, part));
    }
    wire.extend(forge(&mut theirs, suite, APPLICATION_DATA, b"data"));
    assert_eq!(
        give(&mut client, &wire),
        (Ok(Opened::default()), b"data".to_vec(), Vec::new())
    );
    assert!(client.message.is_none());
    let huge = [NEW_SESSION_TICKET, 1, 0, 1];
    let record = forge(&mut theirs, suite, HANDSHAKE, &huge);
    assert!(give(&mut client, &record).0.is_err());
}

#[test]
fn records_are_as_long_as_allowed_and_not_longer() {
    let suite = Suite::Aes128;
    let (_, mut server) = pair(suite);
    let mut theirs = way(suite, 1);
    let longest = forge(&mut theirs, suite, APPLICATION_DATA, &[1; RECORD_BYTES_MAX]);
    assert_eq!(give(&mut server, &longest).1.len(), RECORD_BYTES_MAX);
    // Padding counts.
    let padded = [&[2; 100][..], &[APPLICATION_DATA], &[0; 50]].concat();
    let record = forge(&mut theirs, suite, 0, &padded);
    assert_eq!(give(&mut server, &record).1, [2; 100]);
    let record = forge(&mut theirs, suite, 0, &[0; 100]);
    assert!(give(&mut server, &record).0.is_err(), "nothing but padding");

    let overflow = Some(AlertDescription::RecordOverflow);
    assert_eq!(
        judged(APPLICATION_DATA, &[1; RECORD_BYTES_MAX + 1]),
        overflow
    );
    let (mut client, mut server) = pair(suite);
    // By its header alone.
    let (result, _, out) = give(&mut server, &[23, 3, 3, 0x41, 0x01]);
    assert_eq!(result, Err(rustls::Error::PeerSentOversizedRecord.into()));
    assert_eq!(alert(&mut client, &out), AlertDescription::RecordOverflow);
    let (_, mut server) = pair(suite);
    let mut waits = vec![23, 3, 3, 0x41, 0x00];
    assert!(
        server
            .open(&mut waits, &mut Vec::new(), &mut Vec::new())
            .is_ok()
    );
    assert_eq!(waits.len(), 5, "it may still come");
}

#[test]
fn what_is_not_encrypted_or_not_for_us_ends_the_connection() {
    for bytes in [
        &[22, 3, 3, 0, 5, 24, 0, 0, 1, 0][..],
        &[21, 3, 3, 0, 2, 1, 0],
        &[20, 3, 3, 0, 1, 1],
    ] {
        let (mut client, mut server) = pair(Suite::Aes128);
        let (result, _, out) = give(&mut server, bytes);
        assert!(result.is_err());
        assert_eq!(
            alert(&mut client, &out),
            AlertDescription::UnexpectedMessage
        );
    }
    // Once more, and out of order.
    let (mut client, mut server) = pair(Suite::ChaCha20);
    let mut first = Vec::new();
    client.seal(b"first", &mut first).expect("it seals");
    let (result, plain, out) = give(&mut server, &[first.clone(), first].concat());
    assert_eq!(
        (result, plain),
        (Err(rustls::Error::DecryptError.into()), b"first".to_vec())
    );
    assert_eq!(alert(&mut client, &out), AlertDescription::BadRecordMac);
}

#[test]
fn records_that_say_nothing_are_counted() {
    let suite = Suite::Aes128;
    for (kind, content) in [(APPLICATION_DATA, &[][..]), (ALERT, &[1, 90])] {
        let (_, mut server) = pair(suite);
        let mut theirs = way(suite, 1);
        let mut taken = 0;
        while give(&mut server, &forge(&mut theirs, suite, kind, content))
            .0
            .is_ok()
        {
            taken += 1;
        }
        assert_eq!(taken, IDLE_RECORDS_MAX);
        let (_, mut server) = pair(suite);
        let mut theirs = way(suite, 1);
        for round in 0..200 {
            let kind_now = if round % 20 == 0 {
                (APPLICATION_DATA, &b"x"[..])
            } else {
                (kind, content)
            };
            let record = forge(&mut theirs, suite, kind_now.0, kind_now.1);
            assert!(give(&mut server, &record).0.is_ok(), "among data they are");
        }
    }
}

#[test]
fn one_connection_is_one_small_allocation() {
    assert!(size_of::<CompactLayer>() <= 224);
    let (client, _) = pair(Suite::Aes256);
    assert!(client.message.is_none());
    let shown = format!("{client:?}");
    assert!(
        shown.contains("Aes256") && !shown.contains("secret"),
        "{shown}"
    );
}

#[test]
fn a_short_layer_has_room_for_one_suite_and_speaks_as_a_long_one_does() {
    let suite = Suite::Aes128;
    let short = |suite, fill| Way::<32, 16>::new(suite, &secret(suite, fill), 0);
    assert!(short(Suite::Aes256, 1).is_none() && short(Suite::ChaCha20, 1).is_none());
    let way = |fill| short(suite, fill).expect("there is room");
    let mut client: ShortLayer = CompactLayer::new(suite, true, way(1), way(2));
    let (_, mut server) = pair(suite);
    for round in 0..4_u8 {
        let (mut wire, mut out, mut back) = (Vec::new(), Vec::new(), Vec::new());
        client.owes_update = round == 1;
        client.seal(&[round; 300], &mut wire).expect("it seals");
        assert_eq!(give(&mut server, &wire).1, [round; 300]);
        server.owes_update = round == 2;
        server.seal(&[round; 20], &mut back).expect("it seals");
        let mut plain = Vec::new();
        client
            .open(&mut back, &mut plain, &mut out)
            .expect("it opens");
        assert_eq!((plain, out), (vec![round; 20], Vec::new()));
    }
    assert_eq!(client.send.generation(), 1);
    assert_eq!(client.receive.generation(), 1);
}

proptest! {
    #[test]
    fn any_cut_of_any_data_is_read_and_rustls_lengths_hold(
        sizes in proptest::collection::vec(0_usize..40_000, 1..6),
        cut in 1_usize..5_000,
    ) {
        let (mut client, mut server) = pair(Suite::Aes128);
        let (mut wire, mut sent) = (Vec::new(), Vec::new());
        for (round, size) in sizes.iter().enumerate() {
            let data = vec![u8::try_from(round).unwrap_or(0); *size];
            client.seal(&data, &mut wire).expect("it seals");
            sent.extend(data);
        }
        let (mut incoming, mut plain, mut out) = (Vec::new(), Vec::new(), Vec::new());
        for part in wire.chunks(cut) {
            incoming.extend_from_slice(part);
            server.open(&mut incoming, &mut plain, &mut out).expect("it is whole");
            prop_assert!(incoming.len() < super::super::CIPHERTEXT_BYTES_MAX);
        }
        prop_assert_eq!(plain, sent);
        prop_assert!(incoming.is_empty() && out.is_empty());
    }

    #[test]
    fn any_records_of_one_who_has_the_keys_are_read_or_refused(
        records in proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..40)), 1..12),
        is_client in any::<bool>(),
    ) {
        let suite = Suite::Aes128;
        let mut layer = CompactLayer::new(suite, is_client, way(suite, 2), way(suite, 1));
        let (mut theirs, mut said) = (way(suite, 1), Vec::new());
        for (kind, content) in records {
            let kind = [APPLICATION_DATA, HANDSHAKE, ALERT, kind][usize::from(kind % 4)];
            let record = forge(&mut theirs, suite, kind, &content);
            let (result, plain, _) = give(&mut layer, &record);
            if kind == APPLICATION_DATA && result.is_ok() && !layer.peer_closed {
                said.extend(content);
                prop_assert!(said.ends_with(&plain));
            } else {
                prop_assert!(plain.is_empty());
            }
            if result.is_err() {
                prop_assert!(layer.seal(b"x", &mut Vec::new()).is_err());
                break;
            }
            // Keys that it has updated are no longer the forger's.
            if layer.receive.generation() > 0 {
                break;
            }
        }
    }
}
