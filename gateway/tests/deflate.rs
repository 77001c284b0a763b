//! permessage-deflate over real sockets: who agrees, what a compressed conversation is, and bombs (F18). Other languages'
//! clients do the same by `examples/check`, the Autobahn suite by `dev/autobahn`.

mod support;

use hawser_gateway::config::Config;
use hawser_gateway::counters::Counter;
use hawser_protocol::frame::{Ack, ClientFrame, Deliver, ServerFrame, split};
use hawser_protocol::ids::ChatId;
use hawser_protocol::limits::WS_MESSAGE_BYTES_MAX;
use hawser_protocol::message::{MessageType, Send};
use hawser_protocol::{json, pb};
use hawser_wire::ws::{
    Data, Decoder, Deflate, Deflater, Inflater, Limits, Message, OpCode, Role, apply_mask,
    deflated_header, encode,
};
use std::collections::VecDeque;
use std::io::{Read, Write};
use support::client::{Closed, Stream, Target, new_id, now_ms};
use support::{Node, dm};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A client that compresses what it sends, and notes whether what came was compressed.
struct Compressing {
    stream: Stream,
    decoder: Decoder,
    inflater: Inflater,
    deflater: Deflater,
    is_json: bool,
    unread: Vec<u8>,
    frames: VecDeque<ServerFrame>,
    came_compressed: usize,
}

/// Sends the upgrade by hand; the server's head, and what followed it.
fn upgrade(target: &Target, path: &str, protocol: &str, offer: &str) -> (Stream, String, Vec<u8>) {
    let mut stream = target.open();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: {protocol}\r\nSec-WebSocket-Extensions: {offer}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("it is read");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).expect("a head"), 1, "{head:?}");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("text");
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    (stream, head, Vec::new())
}

/// The answer to an offer.
fn agreed(head: &str) -> Option<&str> {
    let mut lines = head.lines();
    lines.find_map(|line| line.strip_prefix("Sec-WebSocket-Extensions: "))
}

impl Compressing {
    fn connect(target: &Target, protocol: &str, offer: &str) -> Self {
        let (stream, head, unread) = upgrade(target, "/v1/ws", protocol, offer);
        assert!(agreed(&head).is_some(), "{head}");
        let limits = Limits {
            message_bytes_max: 1 << 20,
            ..Limits::default()
        };
        Self {
            stream,
            decoder: Decoder::new(Role::Client, limits).deflating(Some(Deflate::default())),
            inflater: Inflater::default(),
            deflater: Deflater::new(6),
            is_json: protocol.ends_with("json"),
            unread,
            frames: VecDeque::new(),
            came_compressed: 0,
        }
    }

    /// A live session of a device without a past.
    fn live(node: &Node, target: &Target, protocol: &str, user: &str) -> Self {
        let mut client = Self::connect(target, protocol, "permessage-deflate");
        client.send(&ClientFrame::Hello(pb::Hello {
            token: node.token(user, "phone"),
            device: "phone".to_owned(),
            ..pb::Hello::default()
        }));
        client.until(|frame| matches!(frame, ServerFrame::Welcome(_)).then_some(()));
        client.send(&ClientFrame::Ack(Ack { offset: Ack::ADOPT }));
        client.until(|frame| matches!(frame, ServerFrame::CaughtUp(_)).then_some(()));
        client
    }

    /// Sends a message, compressed if that makes it smaller.
    fn message(&mut self, data: Data, payload: &[u8]) {
        let mut out = Vec::new();
        match self.deflater.compress(Deflate::default(), payload) {
            Some(smaller) => {
                deflated_header(data, smaller.len(), Some(MASK), &mut out);
                let at = out.len();
                out.extend_from_slice(smaller);
                apply_mask(&mut out[at..], MASK, 0);
            }
            None => encode(OpCode::Data(data), payload, Some(MASK), &mut out),
        }
        // It may be closed while it writes: reading says how.
        let _ = self.stream.write_all(&out);
    }

    fn send(&mut self, frame: &ClientFrame) {
        if self.is_json {
            let text = json::encode_client(frame);
            return self.message(Data::Text, text.as_bytes());
        }
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        self.message(Data::Binary, &bytes);
    }

    fn say(&mut self, chat: &ChatId, body: &[u8]) {
        self.send(&ClientFrame::Send(Send {
            client_msg_id: new_id(),
            send_ts_ms: now_ms(),
            message_type: MessageType::TEXT,
            retry: false,
            chat: chat.clone(),
            body: body.to_vec().into(),
            envelopes: Vec::new(),
        }));
    }

    fn next(&mut self) -> Result<ServerFrame, Closed> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Ok(frame);
            }
            let (mut input, mut at) = (std::mem::take(&mut self.unread), 0);
            while let Some(message) = self.decoder.next(&mut input, &mut at).expect("sound") {
                let message = match message {
                    Message::Deflated(deflated) => {
                        self.came_compressed += 1;
                        deflated.inflate(&mut self.inflater).expect("sound")
                    }
                    message => message,
                };
                match message {
                    Message::Text(text) => {
                        let frame = json::decode_server(&text).expect("a sound frame");
                        self.frames.push_back(frame);
                    }
                    Message::Binary(bytes) => {
                        let mut bytes = bytes.into_owned().into();
                        while let Some(raw) = split(&mut bytes).expect("whole frames") {
                            let frame = ServerFrame::decode(&raw).expect("a sound frame");
                            self.frames.push_back(frame);
                        }
                    }
                    Message::Close(close) => {
                        return Err(Closed::Code(close.expect("a code").code));
                    }
                    other => panic!("{other:?}"),
                }
            }
            if !self.frames.is_empty() {
                continue;
            }
            let mut bytes = [0; 4_096];
            match self.stream.read(&mut bytes) {
                Ok(0) | Err(_) => return Err(Closed::Abrupt),
                Ok(read) => self.unread.extend_from_slice(&bytes[..read]),
            }
        }
    }

    fn until<T>(&mut self, mut fits: impl FnMut(ServerFrame) -> Option<T>) -> T {
        loop {
            if let Some(found) = fits(self.next().expect("a frame")) {
                return found;
            }
        }
    }

    fn deliver(&mut self) -> Deliver {
        self.until(|frame| match frame {
            ServerFrame::Deliver(deliver) => Some(deliver),
            _ => None,
        })
    }

    fn closed(&mut self) -> Closed {
        loop {
            if let Err(closed) = self.next() {
                return closed;
            }
        }
    }
}

fn on(config: &mut Config) {
    config.websocket.deflate = "on".to_owned();
}

/// A masked message whose first reserved bit is set.
fn compressed(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    deflated_header(Data::Binary, payload.len(), Some([0; 4]), &mut out);
    out.extend_from_slice(payload);
    out
}

/// So many zeros.
fn bomb(len: usize) -> Vec<u8> {
    let zeros = vec![0; len];
    let mut deflater = Deflater::new(9);
    let smaller = deflater.compress(Deflate::default(), &zeros);
    smaller.expect("it repeats itself").to_vec()
}

/// A witness: somebody else's conversation goes on.
fn unharmed(node: &Node) {
    let mut carol = node.live("carol", "witness");
    let mut dave = node.live("dave", "witness");
    let id = carol.send(&dm("carol", "dave"), b"undisturbed");
    assert_eq!(carol.result(id).error, 0);
    assert_eq!(&dave.deliver().record.body[..], b"undisturbed");
}

#[test]
fn f18_compression_is_not_negotiated_unless_it_is_switched_on() {
    let node = Node::start();
    let offer = "permessage-deflate; client_max_window_bits";
    for path in ["/v1/ws", "/v1/echo"] {
        let (_, head, _) = upgrade(&node.plain, path, "hawser.v1", offer);
        assert_eq!(agreed(&head), None, "{head}");
    }
    let mut client = node.live("alice", "phone");
    let hello = compressed(b"\xf2\x48\xcd\xc9\xc9\x07\x00");
    client
        .socket
        .get_mut()
        .write_all(&hello)
        .expect("it is read");
    assert_eq!(client.closed(), Closed::Code(1002));
    assert_eq!(node.handle().counters().total(Counter::DeflateAgreed), 0);
}

#[test]
fn an_offer_is_answered_and_one_that_cannot_be_honoured_is_as_if_not_made() {
    let node = Node::with(on, |_| ());
    let both = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    let small = format!("{both}; server_max_window_bits=9");
    for (offer, answer) in [
        ("permessage-deflate", Some(both)),
        ("permessage-deflate; client_max_window_bits", Some(both)),
        (
            "permessage-deflate; server_max_window_bits=9",
            Some(small.as_str()),
        ),
        (
            "permessage-deflate; server_max_window_bits=16, permessage-deflate",
            Some(both),
        ),
        ("permessage-deflate; server_max_window_bits=16", None),
        ("permessage-deflate; unknown", None),
        ("x-unknown", None),
    ] {
        for target in [&node.plain, &node.tls] {
            let (_, head, _) = upgrade(target, "/v1/ws", "hawser.v1", offer);
            assert_eq!(agreed(&head), answer, "{offer}");
        }
    }
    // Who does not offer is not asked, and may not set the bit.
    let mut plain = node.live("alice", "phone");
    let hello = compressed(b"\xf2\x48\xcd\xc9\xc9\x07\x00");
    plain
        .socket
        .get_mut()
        .write_all(&hello)
        .expect("it is read");
    assert_eq!(plain.closed(), Closed::Code(1002));
}

#[test]
fn a_compressed_conversation_is_the_same_conversation() {
    let node = Node::with(on, |_| ());
    let body = "a message of a person, who says the same, and says the same, again. ".repeat(40);
    for (round, target) in [&node.plain, &node.tls].into_iter().enumerate() {
        for (other, protocol) in ["hawser.v1", "hawser.v1+json"].into_iter().enumerate() {
            let (alice, bob) = (
                format!("alice-{round}-{other}"),
                format!("bob-{round}-{other}"),
            );
            let chat = dm(&alice, &bob);
            let mut compressing = Compressing::live(&node, target, protocol, &alice);
            let mut plain = node.live_at(target, &bob, "laptop");
            let mut both = Compressing::live(&node, target, protocol, &bob);
            let before = node.handle().counters().total(Counter::InflateMessages);
            compressing.say(&chat, body.as_bytes());
            for delivered in [plain.deliver(), both.deliver()] {
                assert_eq!(delivered.record.body, body);
            }
            node.counted(Counter::InflateMessages, before + 1);
            plain.send(&chat, body.as_bytes());
            // Bob's own first comes to his other device too.
            for client in [&mut compressing, &mut both] {
                let seen = client.came_compressed;
                assert_eq!(client.deliver().record.body, body);
                assert!(client.came_compressed > 0 && client.came_compressed >= seen);
            }
        }
    }
    let count = |counter| node.handle().counters().total(counter);
    assert!(count(Counter::DeflateMessages) >= 12);
    assert!(count(Counter::DeflateBytesAfter) * 3 < count(Counter::DeflateBytesBefore));
    assert!(count(Counter::InflateBytesBefore) * 3 < count(Counter::InflateBytesAfter));
    assert_eq!(count(Counter::WsProtocolErrors), 0);
}

#[test]
fn a_message_to_many_is_compressed_once_for_each_encoding() {
    let node = Node::with(on, |_| ());
    let body = "what everybody in the room gets to hear, ".repeat(30);
    let chat = dm("alice", "bob");
    let mut alice = node.live("alice", "phone");
    let mut readers: Vec<Compressing> = (0..6)
        .map(|device| {
            let protocol = ["hawser.v1", "hawser.v1+json"][device % 2];
            let mut client = Compressing::connect(&node.plain, protocol, "permessage-deflate");
            let device = format!("device-{device}");
            client.send(&ClientFrame::Hello(pb::Hello {
                token: node.token("bob", &device),
                device,
                ..pb::Hello::default()
            }));
            client.until(|frame| matches!(frame, ServerFrame::Welcome(_)).then_some(()));
            client.send(&ClientFrame::Ack(Ack { offset: Ack::ADOPT }));
            client.until(|frame| matches!(frame, ServerFrame::CaughtUp(_)).then_some(()));
            client
        })
        .collect();
    let count = |counter| node.handle().counters().total(counter);
    let before = count(Counter::DeflateShared);
    alice.send(&chat, body.as_bytes());
    for reader in &mut readers {
        assert_eq!(reader.deliver().record.body, body);
    }
    assert_eq!(count(Counter::DeflateShared) - before, 4);
}

#[test]
fn f18_a_bomb_closes_with_1009_and_others_do_not_notice() {
    let node = Node::with(on, |_| ());
    let fits = bomb(WS_MESSAGE_BYTES_MAX);
    let bombs = [
        bomb(WS_MESSAGE_BYTES_MAX + 1),
        bomb(10 * WS_MESSAGE_BYTES_MAX),
        bomb(40 << 20),
    ];
    let count = |counter| node.handle().counters().total(counter);
    for (target, user) in [(&node.plain, "alice"), (&node.tls, "erin")] {
        for bomb in &bombs {
            assert!(bomb.len() < WS_MESSAGE_BYTES_MAX, "small on the wire");
            let mut client = Compressing::live(&node, target, "hawser.v1", user);
            let _ = client.stream.write_all(&compressed(bomb));
            assert_eq!(client.closed(), Closed::Code(1009));
            // Before a Hello too.
            let mut client = Compressing::connect(target, "hawser.v1", "permessage-deflate");
            let _ = client.stream.write_all(&compressed(bomb));
            assert_eq!(client.closed(), Closed::Code(1009));
        }
    }
    assert_eq!(count(Counter::InflateTooLarge), 12);
    // Of the limit it is a message, if not one that says anything.
    let mut client = Compressing::live(&node, &node.plain, "hawser.v1", "alice");
    let _ = client.stream.write_all(&compressed(&fits));
    assert_ne!(client.closed(), Closed::Code(1009));
    assert_eq!(count(Counter::InflateTooLarge), 12);
    unharmed(&node);
}

#[test]
fn f16_what_is_no_deflate_or_refers_to_messages_before_closes_with_1007() {
    let node = Node::with(on, |_| ());
    for payload in [
        b"\xff\xff\xff".as_slice(),
        // Section 7.2.3.2 of RFC 7692, where a context is kept.
        b"\xf2\x00\x11\x00\x00",
        // Cut short.
        b"\xf2\x48\xcd\xc9",
    ] {
        let mut client = Compressing::live(&node, &node.plain, "hawser.v1", "alice");
        let _ = client.stream.write_all(&compressed(payload));
        assert_eq!(client.closed(), Closed::Code(1007), "{payload:x?}");
    }
    unharmed(&node);
}
