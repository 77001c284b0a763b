//! The WebSocket decoder against tungstenite's own, and against itself with the bytes cut elsewhere.

use std::io::{Cursor, Read, Write};

use hawser_wire::ws::{
    Control, Data, Decoder, Limits, Message, OpCode, Role, WsError, encode, encode_close,
};
use tungstenite::protocol::{self, WebSocketConfig};
use tungstenite::{Error, WebSocket};

/// Small, so that mutations meet it.
const MESSAGE_BYTES_MAX: u32 = 1_000;

/// What a reader made of a stream.
#[derive(Debug, PartialEq)]
pub struct Outcome<E> {
    /// Whole messages, as `kind:payload`.
    pub messages: Vec<(char, Vec<u8>)>,
    /// Why it stopped before the end.
    pub error: Option<E>,
}

/// A client's bytes, read as a server.
pub fn server(bytes: &[u8]) {
    agree(bytes, Role::Server);
}

/// A server's bytes, read as a client.
pub fn client(bytes: &[u8]) {
    agree(bytes, Role::Client);
}

/// Panics unless both readers see the same messages and the same end.
fn agree(bytes: &[u8], role: Role) {
    let whole = ours(bytes, role, usize::MAX);
    for chunk in [1, 2, 7, 64] {
        assert_eq!(ours(bytes, role, chunk), whole, "cut every {chunk} bytes");
    }
    let theirs = theirs(bytes, role);
    match (&whole.error, &theirs.error) {
        // It answers a bad close code with 1002 and hands the close out all the same.
        (Some(WsError::BadClose), None) if theirs.messages.len() == whole.messages.len() + 1 => {}
        // We refuse by the first byte that shows it, it by the end of the header or frame.
        (Some(_), None) => assert_eq!(whole.messages, theirs.messages),
        (ours, theirs_error) => {
            assert_eq!(
                whole.messages, theirs.messages,
                "{ours:?}, {theirs_error:?}"
            );
            assert_eq!(
                ours.is_some(),
                theirs_error.is_some(),
                "{ours:?}, {theirs_error:?}"
            );
        }
    }
}

/// Our reading of a stream that comes `chunk` bytes at a time.
#[must_use]
pub fn ours(bytes: &[u8], role: Role, chunk: usize) -> Outcome<WsError> {
    let limits = Limits {
        message_bytes_max: MESSAGE_BYTES_MAX,
        fragments_max: u32::MAX,
    };
    let mut decoder = Decoder::new(role, limits);
    let mut messages = Vec::new();
    for part in bytes.chunks(chunk) {
        let (mut part, mut at) = (part.to_vec(), 0);
        loop {
            let message = match decoder.next(&mut part, &mut at) {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(error) => {
                    return Outcome {
                        messages,
                        error: Some(error),
                    };
                }
            };
            messages.push(match message {
                Message::Text(text) => ('t', text.as_bytes().to_vec()),
                Message::Binary(bytes) => ('b', bytes.to_vec()),
                Message::Ping(bytes) => ('i', bytes.to_vec()),
                Message::Pong(bytes) => ('o', bytes.to_vec()),
                Message::Close(close) => (
                    'c',
                    close.map_or_else(Vec::new, |close| closing(close.code, &close.reason)),
                ),
                Message::Deflated(_) => unreachable!("nobody agreed to compress"),
            });
        }
        assert!(
            decoder.held_bytes() < 4 * 1_024,
            "bounded by the limit of a message"
        );
    }
    Outcome {
        messages,
        error: None,
    }
}

/// tungstenite's reading; `None` is the end of the bytes or of the conversation.
fn theirs(bytes: &[u8], role: Role) -> Outcome<Error> {
    let limit = usize::try_from(MESSAGE_BYTES_MAX).ok();
    let config = WebSocketConfig::default()
        .read_buffer_size(512)
        .max_message_size(limit)
        .max_frame_size(limit);
    let role = match role {
        Role::Server => protocol::Role::Server,
        Role::Client => protocol::Role::Client,
    };
    let mut socket = WebSocket::from_raw_socket(Deaf(Cursor::new(bytes)), role, Some(config));
    let mut messages = Vec::new();
    loop {
        let message = match socket.read() {
            Ok(message) => message,
            Err(Error::Io(_) | Error::ConnectionClosed | Error::AlreadyClosed) => break,
            Err(Error::Protocol(
                tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
            )) => break,
            Err(error) => {
                return Outcome {
                    messages,
                    error: Some(error),
                };
            }
        };
        let ended = message.is_close();
        messages.push(match message {
            tungstenite::Message::Text(text) => ('t', text.as_bytes().to_vec()),
            tungstenite::Message::Binary(bytes) => ('b', bytes.to_vec()),
            tungstenite::Message::Ping(bytes) => ('i', bytes.to_vec()),
            tungstenite::Message::Pong(bytes) => ('o', bytes.to_vec()),
            tungstenite::Message::Close(close) => (
                'c',
                close.map_or_else(Vec::new, |close| closing(close.code.into(), &close.reason)),
            ),
            tungstenite::Message::Frame(_) => break,
        });
        if ended {
            break;
        }
    }
    Outcome {
        messages,
        error: None,
    }
}

fn closing(code: u16, reason: &str) -> Vec<u8> {
    [code.to_be_bytes().as_slice(), reason.as_bytes()].concat()
}

/// Bytes to be read; what is written is dropped.
struct Deaf<'b>(Cursor<&'b [u8]>);

impl Read for Deaf<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        match self.0.read(buf)? {
            0 => Err(std::io::ErrorKind::WouldBlock.into()),
            read => Ok(read),
        }
    }
}

impl Write for Deaf<'_> {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        Ok(buf.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Streams of a client.
#[must_use]
pub fn client_streams() -> Vec<Vec<u8>> {
    streams(Some([0x37, 0xfa, 0x21, 0x3d]))
}

/// Streams of a server.
#[must_use]
pub fn server_streams() -> Vec<Vec<u8>> {
    streams(None)
}

fn streams(mask: Option<[u8; 4]>) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    let mut piece = |first: Option<u8>, opcode, payload: &[u8]| {
        let mut out = Vec::new();
        encode(opcode, payload, mask, &mut out);
        if let Some(first) = first {
            out[0] = first;
        }
        pieces.push(out);
    };
    let (text, binary) = (OpCode::Data(Data::Text), OpCode::Data(Data::Binary));
    let ping = OpCode::Control(Control::Ping);
    piece(None, text, "Hello, κόσμε 😀".as_bytes());
    piece(None, binary, &[7; 300]);
    piece(None, ping, b"ping");
    piece(None, OpCode::Control(Control::Pong), b"");
    piece(Some(0x01), text, "half a 😀".split_at(7).0.as_bytes());
    piece(Some(0x01), text, b"\xf0\x9f");
    piece(None, ping, b"within");
    piece(Some(0x00), text, b"\x98\x80");
    piece(Some(0x80), text, b"end");
    piece(None, binary, &[1; 1_000]);
    piece(None, binary, &[1; 1_001]);
    let mut all: Vec<Vec<u8>> = pieces.clone();
    all.push(pieces[..4].concat());
    all.push(pieces[5..9].concat());
    let mut close = Vec::new();
    encode_close(1000, "bye", mask, &mut close);
    all.push([pieces[0].as_slice(), &close, &pieces[1]].concat());
    all.push(close);
    all
}
