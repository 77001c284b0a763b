//! The record layer against other people's TLS: OpenSSL, GnuTLS and Python's `ssl`, each with a WebSocket that echoes.

mod support;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use support::Node;
use support::client::PATIENCE;

/// No byte of a frame may be one that a program takes for the end of a text.
const MASK: [u8; 4] = [b' '; 4];

/// A text frame as a client sends it. The last byte is a line feed, masked.
fn frame(text: &str) -> Vec<u8> {
    let text = format!("{text}*");
    let len = u8::try_from(text.len()).expect("short");
    assert!(len < 126);
    let masked = text.bytes().map(|byte| byte ^ MASK[0]);
    [0x81, 0x80 | len]
        .into_iter()
        .chain(MASK)
        .chain(masked)
        .collect()
}

const UPGRADE: &str = "GET /v1/echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A program that carries what it is given over TLS, and prints what comes.
struct Peer {
    child: Child,
    input: ChildStdin,
    output: Receiver<Vec<u8>>,
    seen: Vec<u8>,
}

impl Peer {
    /// `None`, loudly: the program is not there.
    fn start(program: &str, args: &[&str], package: &str) -> Option<Self> {
        let command = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut child) = command else {
            println!("SKIPPED: there is no {program} (apt-get install {package})");
            return None;
        };
        let input = child.stdin.take().expect("it is piped");
        let mut stdout = child.stdout.take().expect("it is piped");
        let (tell, output) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4_096];
            while let Ok(len) = stdout.read(&mut bytes)
                && len > 0
                && tell.send(bytes[..len].to_vec()).is_ok()
            {}
        });
        Some(Self {
            child,
            input,
            output,
            seen: Vec::new(),
        })
    }

    /// One write, which the program reads as one.
    fn give(&mut self, bytes: &[u8]) {
        self.input.write_all(bytes).expect("it reads");
        self.input.flush().expect("it reads");
        std::thread::sleep(Duration::from_millis(150));
    }

    fn sees(&mut self, words: &str) {
        let until = Instant::now() + PATIENCE;
        let is_there = |seen: &[u8]| seen.windows(words.len()).any(|w| w == words.as_bytes());
        while !is_there(&self.seen) {
            let left = until.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(more) => self.seen.extend(more),
                Err(_) => panic!("no {words:?} in {}", String::from_utf8_lossy(&self.seen)),
            }
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn node() -> (Node, SocketAddr) {
    let node = Node::with(|_| (), |_| ());
    let addr = node.tls.addr;
    (node, addr)
}

#[test]
fn openssl_updates_keys_both_ways_with_every_suite() {
    let (_node, addr) = node();
    for suite in [
        "TLS_AES_128_GCM_SHA256",
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
    ] {
        let at = addr.to_string();
        let args = [
            "s_client",
            "-connect",
            &at,
            "-servername",
            "localhost",
            "-tls1_3",
            "-ciphersuites",
            suite,
        ];
        let Some(mut peer) = Peer::start("openssl", &args, "openssl") else {
            return;
        };
        peer.sees(suite);
        // Before the first byte of the application, too.
        peer.give(b"K\n");
        peer.give(UPGRADE.as_bytes());
        peer.sees("101 Switching Protocols");
        for (round, command) in ["K", "k", "K", "K"].into_iter().enumerate() {
            peer.give(format!("{command}\n").as_bytes());
            let text = format!("{command} round {round} with {suite}");
            peer.give(&frame(&text));
            peer.sees(&text);
        }
        // Its close_notify is answered: it ends by itself.
        peer.give(b"Q\n");
        let until = Instant::now() + PATIENCE;
        while peer.child.try_wait().expect("a child").is_none() {
            assert!(Instant::now() < until, "it hangs");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn gnutls_updates_keys_and_goes_on() {
    let (_node, addr) = node();
    let port = addr.port().to_string();
    let args = [
        "--insecure",
        "--inline-commands",
        "--port",
        &port,
        "127.0.0.1",
    ];
    let Some(mut peer) = Peer::start("gnutls-cli", &args, "gnutls-bin") else {
        return;
    };
    peer.sees("Handshake was completed");
    for line in UPGRADE.split_inclusive('\n') {
        peer.give(line.as_bytes());
    }
    peer.sees("101 Switching Protocols");
    for round in 0..4 {
        peer.give(b"^rekey^\n");
        let text = format!("round {round}");
        peer.give(&frame(&text));
        peer.sees(&text);
    }
}

/// Echoes of many sizes, records longer than ours may be, and an orderly end.
const PYTHON: &str = r#"
import os, socket, ssl, struct, sys
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.set_ciphers("DEFAULT")
s = context.wrap_socket(socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=20), server_hostname="localhost")
assert s.version() == "TLSv1.3", s.version()
s.sendall(sys.argv[2].encode())
head = b""
while b"\r\n\r\n" not in head:
    head += s.recv(4096)
assert head.startswith(b"HTTP/1.1 101"), head
def read(n):
    data = b""
    while len(data) < n:
        more = s.recv(n - len(data))
        assert more, "ended early"
        data += more
    return data
for size in (0, 1, 125, 126, 4000, 16383, 16384, 16385, 60000):
    body = os.urandom(size)
    length = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 126]) + struct.pack(">H", size)
    s.sendall(b"\x82" + length + bytes(4) + body)
    kind, size_now = read(2)
    size_now = struct.unpack(">H", read(2))[0] if size_now == 126 else size_now
    assert (kind, size_now) == (0x82, size), (kind, size_now, size)
    assert read(size) == body
s.sendall(b"\x88\x82" + bytes(4) + struct.pack(">H", 1000))
kind, size = read(2)
assert (kind, read(size)) == (0x88, struct.pack(">H", 1000))
s.unwrap()
print("whole")
"#;

#[test]
fn pythons_ssl_reads_and_writes_records_of_every_size_and_ends_in_order() {
    let (_node, addr) = node();
    let port = addr.port().to_string();
    let done = Command::new("python3")
        .args(["-c", PYTHON, &port, UPGRADE])
        .output();
    let Ok(done) = done else {
        println!("SKIPPED: there is no python3");
        return;
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(text(&done.stdout).trim(), "whole", "{}", text(&done.stderr));
}
