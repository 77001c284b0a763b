//! A reactor by itself, with connections that need no handshake.

use super::alone::Alone;
use super::inbox::{Encoding, Greeting, Kind, ToCore};
use super::questions::{Place, Question};
use crate::counters::Counter;
use crate::node::config::{DeflateLimits, NodeConfig};
use crate::session::SessionId;
use hawser_engines::embedded::{EmbeddedConfig, EmbeddedEngine};
use hawser_fanout::auth::Claims;
use hawser_fanout::auth::{Issuer, Verifier};
use hawser_protocol::frame::ClientFrame;
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, UserId};
use hawser_protocol::message::{MessageType, Send};
use hawser_protocol::pb;
use hawser_wire::record::Layer;
use hawser_wire::ws::{Data, Deflate, Deflater, deflated_header};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

/// A binary message "hi", masked with zeros.
const HI: [u8; 8] = [0x82, 0x82, 0, 0, 0, 0, b'h', b'i'];
/// The same from the server.
const HI_BACK: [u8; 4] = [0x82, 0x02, b'h', b'i'];

struct Bench {
    alone: Alone,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::with(NodeConfig::default())
    }

    fn with(config: NodeConfig) -> Self {
        let dir = tempfile::TempDir::new().expect("a directory");
        let engine = EmbeddedEngine::open(EmbeddedConfig::new(dir.path())).expect("an engine");
        let issuer = Issuer::open(dir.path()).expect("a key");
        let verifier = Verifier::new(issuer.auth_settings(None)).expect("sound");
        let alone = Alone::new(config, engine.log(), verifier);
        Self {
            alone: alone.expect("a reactor"),
            _dir: dir,
        }
    }

    /// An echo connection: its name, and the other end.
    fn connect(&mut self) -> (SessionId, TcpStream) {
        let client = self.alone.connect(Kind::Echo, Layer::Plain);
        let client = client.expect("loopback");
        client
            .set_read_timeout(Some(Duration::from_millis(5)))
            .expect("an option");
        let newest = self.reactor.rings[0].connections.iter().flatten().last();
        (newest.expect("it is there").id, client)
    }

    /// A session that begins at the head; the other end.
    fn join(&mut self, user: &str) -> (SessionId, TcpStream) {
        let device = DeviceId::new("phone").expect("an id");
        let greeting = Greeting {
            encoding: Encoding::Binary,
            hello: pb::Hello {
                live_only: true,
                ..pb::Hello::default()
            },
            claims: Claims {
                user: UserId::new(user).expect("an id"),
                device: Some(device.clone()),
                expires_at_ms: u64::MAX,
                issued_at_ms: 0,
                admin: false,
                jti: None,
            },
            device,
            frames: bytes::Bytes::new(),
        };
        let client = self
            .alone
            .connect(Kind::Session(Box::new(greeting)), Layer::Plain);
        let newest = self.reactor.rings[0].connections.iter().flatten().last();
        (newest.expect("it is there").id, client.expect("loopback"))
    }

    /// Turns until the other end has `len` bytes, or its stream has ended.
    fn read(&mut self, client: &mut TcpStream, len: usize) -> Vec<u8> {
        let mut got = Vec::new();
        for _ in 0..2_000 {
            self.reactor.turn();
            let mut buf = [0; 64];
            match client.read(&mut buf) {
                Ok(0) => break,
                Ok(n) => got.extend_from_slice(&buf[..n]),
                Err(_) => {}
            }
            if got.len() >= len {
                break;
            }
        }
        got
    }
}

impl Deref for Bench {
    type Target = Alone;

    fn deref(&self) -> &Alone {
        &self.alone
    }
}

impl DerefMut for Bench {
    fn deref_mut(&mut self) -> &mut Alone {
        &mut self.alone
    }
}

#[test]
fn g12_a_panic_while_serving_one_connection_ends_that_one_alone() {
    let mut bench = Bench::new();
    let (_, mut other) = bench.connect();
    let (doomed, mut client) = bench.connect();
    assert_eq!(bench.reactor.sessions, 2);
    bench.reactor.with(doomed, |_, _| panic!("on purpose"));
    assert_eq!(bench.node.counters.total(Counter::Panics), 1);
    assert_eq!(bench.reactor.sessions, 1);
    assert!(bench.reactor.find(doomed).is_none());
    assert!(bench.read(&mut client, 1).is_empty(), "closed");
    other.write_all(&HI).expect("writes");
    assert_eq!(bench.read(&mut other, HI_BACK.len()), HI_BACK);
}

#[test]
fn a_slot_that_is_used_again_does_not_answer_to_its_old_name() {
    let mut bench = Bench::new();
    let (first, client) = bench.connect();
    drop(client);
    for _ in 0..200 {
        bench.reactor.turn();
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(bench.reactor.sessions, 0);
    let (second, mut client) = bench.connect();
    assert_eq!(first.key.index(), second.key.index());
    assert!(bench.reactor.find(first).is_none());
    client.write_all(&HI).expect("writes");
    assert_eq!(bench.read(&mut client, HI_BACK.len()), HI_BACK);
}

#[test]
fn a_walk_in_slices_sees_every_connection_once() {
    let mut bench = Bench::new();
    let all: Vec<_> = (0..5).map(|_| bench.connect()).collect();
    for places_max in 1..=6 {
        let (mut seen, mut slices) = (Vec::new(), 0);
        let mut from = Some(Place::default());
        while let Some(place) = from {
            slices += 1;
            let next = bench.reactor.walk(place, places_max, |c| seen.push(c.id));
            from = next;
        }
        let wanted: Vec<_> = all.iter().map(|(id, _)| *id).collect();
        assert_eq!(seen, wanted, "{places_max} at a time");
        assert_eq!(slices, 5_usize.div_ceil(places_max));
    }
}

#[test]
fn a_question_is_answered_within_the_turn_unless_its_asker_has_given_up() {
    let mut bench = Bench::new();
    let (answer, mut answered) = tokio::sync::oneshot::channel();
    let (late, given_up) = tokio::sync::oneshot::channel();
    drop(given_up);
    for answer in [answer, late] {
        let asked = ToCore::Asked(Box::new(Question::Positions { answer }));
        assert!(bench.node.cores[0].try_send(asked).is_ok());
    }
    bench.reactor.woken();
    bench.reactor.turn();
    let positions = answered.try_recv().expect("an answer");
    assert_eq!(positions.len(), bench.reactor.partitions.len());
}

#[test]
fn f18_what_a_message_is_once_it_is_decompressed_counts_towards_its_senders_rate() {
    let mut config = NodeConfig {
        deflate: Some(DeflateLimits {
            min_bytes: 1,
            level: 1,
        }),
        ..NodeConfig::default()
    };
    config.session.bytes_per_second = 1_024;
    let mut bench = Bench::with(config);
    let (id, mut client) = bench.join("alice");
    let user = |name| UserId::new(name).expect("an id");
    let mut frame = Vec::new();
    ClientFrame::Send(Send {
        client_msg_id: ClientMsgId([7; 16]),
        send_ts_ms: 0,
        message_type: MessageType::TEXT,
        retry: false,
        chat: ChatId::dm(&user("alice"), &user("bob")),
        body: vec![b'x'; 8_000].into(),
        envelopes: Vec::new(),
    })
    .encode(&mut frame);
    let mut deflater = Deflater::new(9);
    let smaller = deflater.compress(Deflate::default(), &frame);
    let smaller = smaller.expect("it repeats itself");
    assert!(smaller.len() < 200, "far below the rate");
    let mut wire = Vec::new();
    deflated_header(Data::Binary, smaller.len(), Some([0; 4]), &mut wire);
    wire.extend_from_slice(smaller);
    client.write_all(&wire).expect("writes");
    for _ in 0..2_000 {
        bench.reactor.turn();
        if bench.node.counters.total(Counter::InflateMessages) == 1 {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let counters = &bench.node.counters;
    assert_eq!(counters.total(Counter::InflateMessages), 1);
    assert_eq!(counters.total(Counter::FramesIn), 1);
    assert_eq!(
        counters.total(Counter::InflateBytesAfter),
        frame.len() as u64
    );
    // Four seconds' worth are free.
    let connection = bench.reactor.find(id).expect("open");
    assert!(connection.is_open() && connection.paused_until_ms > 0);
}
