//! Between the upgrade and Welcome: what is told to who says no Hello, says it too late, or with a token that is
//! none (F19).

mod support;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hawser_fanout::auth::{Issuer, IssuerNames, Revocation};
use hawser_gateway::backing;
use hawser_gateway::counters::Counter;
use hawser_protocol::frame::{ClientFrame, FrameType, ServerFrame, split};
use hawser_protocol::ids::{DeviceId, UserId};
use hawser_protocol::pb;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use support::Node;
use support::client::{Closed, Stream, now_ms};
use tungstenite::{Message, WebSocket};

fn hello(token: &str, device: &str) -> ClientFrame {
    ClientFrame::Hello(pb::Hello {
        token: token.to_owned(),
        device: device.to_owned(),
        ..pb::Hello::default()
    })
}

fn binary(frame: &ClientFrame) -> Message {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    Message::Binary(bytes.into())
}

/// The code of the `Error` frame and of the close that end a connection.
fn refused(socket: &mut WebSocket<Stream>) -> (Option<u32>, Closed) {
    let mut code = None;
    loop {
        match socket.read() {
            Ok(Message::Binary(mut bytes)) => {
                let raw = split(&mut bytes).expect("whole frames").expect("a frame");
                match ServerFrame::decode(&raw).expect("a sound frame") {
                    ServerFrame::Error(error) => code = Some(error.code),
                    other => panic!("{other:?} instead of an Error"),
                }
            }
            Ok(Message::Text(text)) => {
                let value: Value = serde_json::from_str(&text).expect("JSON");
                assert_eq!(value["type"], "error", "{text}");
                code = hawser_protocol::json::decode_server(&text).ok().and_then(
                    |frame| match frame {
                        ServerFrame::Error(error) => Some(error.code),
                        _ => None,
                    },
                );
            }
            Ok(Message::Close(frame)) => {
                return (
                    code,
                    frame.map_or(Closed::Abrupt, |f| Closed::Code(f.code.into())),
                );
            }
            Ok(_) => {}
            Err(_) => return (code, Closed::Abrupt),
        }
    }
}

/// How a token is answered.
fn token_refused(node: &Node, token: &str, device: &str) -> (Option<u32>, Closed) {
    let mut socket = node.plain.upgrade("hawser.v1");
    // A node that refuses early may have closed while we write.
    let _ = socket.send(binary(&hello(token, device)));
    refused(&mut socket)
}

#[test]
fn no_hello_by_the_deadline_closes_with_4202() {
    let node = Node::with(|c| c.session.hello_ms = 600, |_| ());
    for (target, protocol) in [(&node.plain, "hawser.v1"), (&node.tls, "hawser.v1+json")] {
        let begun = Instant::now();
        let mut socket = target.upgrade(protocol);
        let (code, closed) = refused(&mut socket);
        assert_eq!((code, closed), (Some(6), Closed::Code(4202)));
        assert!(begun.elapsed() < Duration::from_secs(8));
    }
    node.counted(Counter::HandshakeTimeouts, 2);
}

#[test]
fn a_first_frame_that_is_no_hello_is_hello_expected() {
    let node = Node::start();
    let ping = ClientFrame::Ping(pb::Ping::default());
    let unknown = ClientFrame::Unknown(FrameType(0x3f));
    for (protocol, message) in [
        ("hawser.v1", binary(&ping)),
        ("hawser.v1", binary(&unknown)),
        ("hawser.v1", Message::Binary(Vec::new().into())),
        ("hawser.v1", Message::text("{\"type\":\"hello\"}")),
        ("hawser.v1+json", Message::text("{\"type\":\"ping\"}")),
        ("hawser.v1+json", binary(&hello("x", "y"))),
    ] {
        let mut socket = node.plain.upgrade(protocol);
        let shown = format!("{protocol}: {message:?}");
        socket.send(message).expect("the node reads");
        assert_eq!(
            refused(&mut socket),
            (Some(6), Closed::Code(4000)),
            "{shown}"
        );
    }
    node.counted(Counter::HelloBad, 6);
}

#[test]
fn bytes_that_are_no_frame_are_bad_frame() {
    let node = Node::start();
    for (protocol, message, code, close) in [
        ("hawser.v1", Message::Binary(vec![1, 0, 0].into()), 1, 4000),
        (
            "hawser.v1",
            Message::Binary(vec![1, 0, 0, 0, 255, 255, 255, 255].into()),
            2,
            4004,
        ),
        (
            "hawser.v1",
            Message::Binary(vec![1, 0, 0, 0, 2, 0, 0, 0, 0xff, 0xff].into()),
            1,
            4000,
        ),
        ("hawser.v1+json", Message::text("{\"type\":"), 1, 4000),
        ("hawser.v1+json", Message::text("[]"), 1, 4000),
    ] {
        let mut socket = node.plain.upgrade(protocol);
        let shown = format!("{message:?}");
        socket.send(message).expect("the node reads");
        assert_eq!(
            refused(&mut socket),
            (Some(code), Closed::Code(close)),
            "{shown}"
        );
    }
}

#[test]
fn websocket_faults_before_the_hello_close_with_their_codes() {
    use std::io::Write;
    let node = Node::start();
    for (bytes, close) in [
        (&[0x82, 0x00][..], 1002),
        (&[0xc2, 0x80, 0, 0, 0, 0], 1002),
        (&[0x81, 0x81, 0, 0, 0, 0, 0xff], 1007),
        (&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0], 1009),
    ] {
        let mut socket = node.plain.upgrade("hawser.v1");
        socket.get_mut().write_all(bytes).expect("the node reads");
        assert_eq!(
            refused(&mut socket),
            (None, Closed::Code(close)),
            "{bytes:?}"
        );
    }
    node.counted(Counter::WsProtocolErrors, 4);
}

#[test]
fn pings_before_the_hello_are_answered_but_not_for_ever() {
    let node = Node::start();
    let mut socket = node.plain.upgrade("hawser.v1");
    socket
        .send(Message::Ping(vec![7].into()))
        .expect("the node reads");
    assert_eq!(
        socket.read().expect("a pong"),
        Message::Pong(vec![7].into())
    );
    for _ in 0..20 {
        let _ = socket.send(Message::Ping(Vec::new().into()));
    }
    assert_eq!(refused(&mut socket), (Some(6), Closed::Code(4000)));
}

#[test]
fn a_close_before_the_hello_is_answered_and_a_byte_at_a_time_is_a_hello_too() {
    use std::io::Write;
    let node = Node::start();
    let mut socket = node.plain.upgrade("hawser.v1");
    socket.close(None).expect("sent");
    assert!(matches!(socket.read(), Ok(Message::Close(_))));
    let mut slow = node.plain.upgrade("hawser.v1");
    let mut frame = Vec::new();
    hello(&node.token("alice", "phone"), "phone").encode(&mut frame);
    let mut bytes = vec![0x82, 0xfe];
    bytes.extend_from_slice(&u16::try_from(frame.len()).expect("short").to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&frame);
    for byte in bytes {
        slow.get_mut().write_all(&[byte]).expect("the node reads");
    }
    let Ok(Message::Binary(mut bytes)) = slow.read() else {
        panic!("no Welcome")
    };
    let raw = split(&mut bytes).expect("whole").expect("a frame");
    assert!(matches!(
        ServerFrame::decode(&raw),
        Ok(ServerFrame::Welcome(_))
    ));
}

#[test]
fn frames_behind_the_hello_in_one_message_are_not_lost() {
    let node = Node::start();
    let mut socket = node.plain.upgrade("hawser.v1");
    let mut bytes = Vec::new();
    hello(&node.token("alice", "phone"), "phone").encode(&mut bytes);
    ClientFrame::Ping(pb::Ping {
        client_time_ms: 77,
        ..pb::Ping::default()
    })
    .encode(&mut bytes);
    socket
        .send(Message::Binary(bytes.into()))
        .expect("the node reads");
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        assert!(Instant::now() < deadline, "no Pong");
        let Message::Binary(mut bytes) = socket.read().expect("frames") else {
            continue;
        };
        while let Some(raw) = split(&mut bytes).expect("whole") {
            if let Ok(ServerFrame::Pong(pong)) = ServerFrame::decode(&raw) {
                assert_eq!(pong.client_time_ms, 77);
                return;
            }
        }
    }
}

/// Signs any header and claims with the node's own key.
fn signed(node: &Node, header: &Header, claims: &Value) -> String {
    let path = backing::keys_dir(&node.config).join("issuer-ed25519.p8");
    let key = EncodingKey::from_ed_der(&std::fs::read(path).expect("the issuer's key"));
    jsonwebtoken::encode(header, claims, &key).expect("signed")
}

fn claims() -> Value {
    let now = now_ms() / 1_000;
    json!({
        "iss": "hawser-embedded", "aud": "hawser", "tenant": "default", "sub": "alice", "dev": "phone",
        "iat": now, "exp": now + 600,
    })
}

/// The header of a token that the node accepts.
fn good_header(node: &Node) -> Header {
    jsonwebtoken::decode_header(node.token("alice", "phone")).expect("a token")
}

#[test]
fn f19_tokens_that_are_not_what_they_say_close_with_4001() {
    let node = Node::start();
    let header = good_header(&node);
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let kid = header.kid.clone().expect("a kid");
    let spoilt = |key: &str, value: Value| {
        let mut claims = claims();
        claims[key] = value;
        signed(&node, &header, &claims)
    };
    let with_header = |change: &dyn Fn(&mut Header)| {
        let mut header = header.clone();
        change(&mut header);
        signed(&node, &header, &claims())
    };
    let hs256 = {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(kid.clone());
        let secret = EncodingKey::from_secret(node.issuer.jwks().as_bytes());
        jsonwebtoken::encode(&header, &claims(), &secret).expect("signed")
    };
    let good = signed(&node, &header, &claims());
    let (head, _) = good.rsplit_once('.').expect("three parts");
    let tokens = [
        ("empty", String::new()),
        ("no token", "a.b.c".to_owned()),
        (
            "alg none",
            format!(
                "{}.{}.",
                part(&json!({"alg": "none", "typ": "JWT", "kid": kid})),
                part(&claims())
            ),
        ),
        ("no signature", format!("{head}.")),
        (
            "another signature",
            format!("{head}.{}", BASE64_URL_SAFE_NO_PAD.encode([7; 64])),
        ),
        ("HS256 with the public key", hs256),
        (
            "kid traversal",
            with_header(&|h| h.kid = Some("../../../../dev/null".to_owned())),
        ),
        (
            "kid of nobody",
            with_header(&|h| h.kid = Some("nobody".to_owned())),
        ),
        (
            "jku",
            with_header(&|h| h.jku = Some("http://127.0.0.1:1/keys".to_owned())),
        ),
        (
            "x5u",
            with_header(&|h| h.x5u = Some("http://127.0.0.1:1/cert".to_owned())),
        ),
        ("nbf ahead", spoilt("nbf", json!(now_ms() / 1_000 + 3_600))),
        ("another audience", spoilt("aud", json!("somebody"))),
        ("another issuer", spoilt("iss", json!("somebody"))),
        ("another tenant", spoilt("tenant", json!("somebody"))),
        ("sub of no allowed form", spoilt("sub", json!("al ice"))),
        ("9 KB", format!("{good}{}", "a".repeat(9_000))),
    ];
    let count = tokens.len() as u64;
    for (what, token) in tokens {
        let begun = Instant::now();
        assert_eq!(
            token_refused(&node, &token, "phone"),
            (Some(20), Closed::Code(4001)),
            "{what}"
        );
        assert!(begun.elapsed() < Duration::from_secs(5), "{what}");
    }
    node.counted(Counter::AuthRefused, count);
    // 10 MB do not even fit a message.
    let (_, closed) = token_refused(&node, &"a".repeat(10_000_000), "phone");
    assert!(
        matches!(closed, Closed::Code(1009) | Closed::Abrupt),
        "{closed:?}"
    );
    node.counted(Counter::WsProtocolErrors, 1);
    node.live("alice", "phone");
}

#[test]
fn f19_an_expired_token_closes_with_the_new_token_code() {
    let node = Node::start();
    let expired = node.token_for("alice", "phone", 0);
    assert_eq!(
        token_refused(&node, &expired, "phone"),
        (Some(21), Closed::Code(4100))
    );
    node.counted(Counter::AuthExpired, 1);
}

#[test]
fn f20_a_token_opens_a_session_only_for_its_own_device() {
    let node = Node::start();
    let token = node.token("alice", "phone");
    assert_eq!(
        token_refused(&node, &token, "laptop"),
        (Some(23), Closed::Code(4002))
    );
    let user = UserId::new("alice").expect("an id");
    let no_device = node.issuer.issue(&user, None, 600, false, now_ms());
    assert_eq!(
        token_refused(&node, &no_device, ""),
        (Some(23), Closed::Code(4002))
    );
    node.counted(Counter::DeviceMismatch, 2);
}

#[test]
fn g9_a_revoked_device_and_a_banned_user_are_refused_and_others_are_not() {
    let node = Node::start();
    let user = |name| UserId::new(name).expect("an id");
    let (phone, banned) = (node.token("alice", "phone"), node.token("bob", "laptop"));
    let verifier = &node.backing().verifier;
    let device = Revocation::Device {
        user: user("alice"),
        device: DeviceId::new("phone").expect("an id"),
        until_ms: None,
    };
    let ban = Revocation::User {
        user: user("bob"),
        until_ms: None,
    };
    verifier.revoke(&device, now_ms()).expect("kept");
    verifier.revoke(&ban, now_ms()).expect("kept");
    assert_eq!(
        token_refused(&node, &phone, "phone"),
        (Some(22), Closed::Code(4003))
    );
    assert_eq!(
        token_refused(&node, &banned, "laptop"),
        (Some(22), Closed::Code(4003))
    );
    node.counted(Counter::AuthRevoked, 2);
    node.live("alice", "tablet");
}

#[test]
fn a_token_of_another_audience_of_the_same_key_is_refused() {
    let node = Node::start();
    let names = IssuerNames {
        audience: "other".to_owned(),
        ..IssuerNames::default()
    };
    let other = Issuer::open(&backing::keys_dir(&node.config))
        .expect("a key")
        .with_names(names);
    let device = DeviceId::new("phone").expect("an id");
    let token = other.issue(
        &UserId::new("alice").expect("an id"),
        Some(&device),
        600,
        false,
        now_ms(),
    );
    assert_eq!(
        token_refused(&node, &token, "phone"),
        (Some(20), Closed::Code(4001))
    );
}

#[test]
fn a_full_node_refuses_before_anything_is_read_until_a_place_is_free() {
    use std::io::Read;
    let node = Node::with(|_| (), |n| n.admission.sessions_max = 2);
    let held = [node.live("alice", "a"), node.live("bob", "b")];
    let mut third = std::net::TcpStream::connect(node.plain.addr).expect("the backlog takes it");
    assert!(
        matches!(third.read(&mut [0]), Ok(0) | Err(_)),
        "closed without a word"
    );
    node.counted(Counter::RefusedSessions, 1);
    drop(held);
    node.counted(Counter::SessionsClosed, 2);
    node.live("carol", "c");
}
