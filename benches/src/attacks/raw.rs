//! TCP, HTTP and WebSocket as an attacker speaks them: raw bytes, none of Hawser's code.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// Bytes of one read.
const READ_BYTES: usize = 16 << 10;
/// An answer's head is no longer than this.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Addresses that the attack comes from: 127.66.0.1 to 127.66.15.250.
const SOURCES: (u64, u64) = (16, 250);

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// It could not be opened.
    Unconnected,
    /// An HTTP answer with this status, then the end.
    Status(u16),
    /// A close frame with this code, then the end.
    Close(u16),
    /// A TLS alert, then the end.
    Alert,
    /// The end, without a word.
    Ended,
    /// A reset.
    Reset,
    /// TLS with it was not possible.
    NoTls,
    /// The attacker gave up: it was still open.
    Open,
}

impl How {
    /// In words.
    #[must_use]
    pub fn words(self) -> String {
        match self {
            Self::Unconnected => "not connected".to_owned(),
            Self::Status(status) => format!("HTTP {status}"),
            Self::Close(code) => format!("close {code}"),
            Self::Alert => "TLS alert".to_owned(),
            Self::Ended => "cut".to_owned(),
            Self::Reset => "reset".to_owned(),
            Self::NoTls => "TLS failed".to_owned(),
            Self::Open => "still open".to_owned(),
        }
    }

    /// Of an error of the socket.
    #[must_use]
    pub fn failed(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Reset,
            _ => Self::Ended,
        }
    }
}

/// Where a connection of this number comes from.
#[must_use]
pub fn source(number: u64) -> Ipv4Addr {
    let (third, fourth) = (number / SOURCES.1 % SOURCES.0, number % SOURCES.1);
    // Both are below 256.
    let byte = |value: u64| u8::try_from(value).unwrap_or(0);
    Ipv4Addr::new(127, 66, byte(third), byte(fourth) + 1)
}

/// Connects from the number's own address. `receive_bytes`: of the kernel's receive buffer, where it is not to be its own choice.
///
/// # Errors
/// The system's.
pub async fn connect(
    to: SocketAddr,
    number: u64,
    receive_bytes: Option<u32>,
) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(IpAddr::V4(source(number)), 0))?;
    if let Some(bytes) = receive_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The request of a session's upgrade.
#[must_use]
pub fn upgrade_request() -> Vec<u8> {
    b"GET /v1/ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
      Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: YXR0YWNrZXItYXQtd29yaw==\r\n\
      Sec-WebSocket-Protocol: hawser.v1\r\n\r\n"
        .to_vec()
}

/// One frame of a client, whatever its first byte means. Its mask is zero, which changes no byte.
pub fn frame(first: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.push(first);
    if payload.len() <= 125 {
        out.push(0x80 | u8::try_from(payload.len()).unwrap_or(125));
    } else if let Ok(short) = u16::try_from(payload.len()) {
        out.push(0x80 | 126);
        out.extend_from_slice(&short.to_be_bytes());
    } else {
        out.push(0x80 | 127);
        out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

/// The next whole frame of a server at the beginning of `bytes`: its opcode, where its payload is, where the next one begins.
#[must_use]
pub fn split(bytes: &[u8]) -> Option<(u8, std::ops::Range<usize>)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    let (len, at): (usize, usize) = match second & 0x7f {
        126 => {
            let two = bytes.get(2..4)?.try_into().ok()?;
            (usize::from(u16::from_be_bytes(two)), 4)
        }
        127 => {
            let eight = bytes.get(2..10)?.try_into().ok()?;
            (usize::try_from(u64::from_be_bytes(eight)).ok()?, 10)
        }
        short => (usize::from(short), 2),
    };
    let end = at.checked_add(len)?;
    (bytes.len() >= end).then_some((first & 0x0f, at..end))
}

/// What was read and not taken yet.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    chunk: Vec<u8>,
}

impl Inbox {
    /// Reads once. `false`: the end.
    ///
    /// # Errors
    /// The system's.
    pub async fn fill<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> io::Result<bool> {
        self.chunk.resize(READ_BYTES, 0);
        let count = stream.read(&mut self.chunk).await?;
        self.bytes.extend_from_slice(&self.chunk[..count]);
        Ok(count > 0)
    }

    /// Bytes that came another way.
    pub fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next frame of the server, its opcode and payload.
    pub fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let (opcode, range) = split(&self.bytes)?;
        let payload = self.bytes[range.clone()].to_vec();
        self.bytes.drain(..range.end);
        Some((opcode, payload))
    }

    /// Asks for the upgrade and reads the head of the answer.
    ///
    /// # Errors
    /// How it ended, where that is no upgrade.
    pub async fn upgrade<S>(&mut self, stream: &mut S) -> Result<(), How>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let sent = stream.write_all(&upgrade_request()).await;
        sent.map_err(|error| How::failed(&error))?;
        loop {
            if let Some(end) = self.bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                let status = status(&self.bytes);
                self.bytes.drain(..end + 4);
                return match status {
                    Some(101) => Ok(()),
                    Some(status) => Err(How::Status(status)),
                    None => Err(How::Ended),
                };
            }
            let read = self.fill(stream).await;
            if !read.map_err(|error| How::failed(&error))? || self.bytes.len() > HEAD_BYTES_MAX {
                return Err(How::Ended);
            }
        }
    }

    /// Reads frames to the end, and says what the last word was.
    pub async fn last_word<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> How {
        let mut close = None;
        loop {
            while let Some((opcode, payload)) = self.frame() {
                if opcode == 8 {
                    close = close.or(Some(code(&payload)));
                }
            }
            let end = match self.fill(stream).await {
                Ok(true) => continue,
                Ok(false) => How::Ended,
                Err(error) => How::failed(&error),
            };
            return close.map_or(end, How::Close);
        }
    }

    /// What is to be made of an answer that was cut off, of a server that may speak HTTP or TLS.
    #[must_use]
    pub fn answer(&self, end: How) -> How {
        match (status(&self.bytes), alert(&self.bytes)) {
            (Some(status), _) => How::Status(status),
            (None, true) => How::Alert,
            (None, false) => end,
        }
    }
}

/// The code of a close frame; 1005: there is none.
#[must_use]
pub fn code(payload: &[u8]) -> u16 {
    payload
        .first_chunk()
        .map_or(1005, |two| u16::from_be_bytes(*two))
}

fn status(bytes: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(bytes.get(..12)?).ok()?;
    text.strip_prefix("HTTP/1.1 ")?.parse().ok()
}

/// Whether the last of these TLS records is an alert.
fn alert(mut bytes: &[u8]) -> bool {
    let mut last = 0;
    while let [kind, _, _, high, low, rest @ ..] = bytes {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        last = *kind;
        bytes = rest.get(len..).unwrap_or_default();
    }
    last == 21
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_many_and_of_this_machine() {
        let all: std::collections::BTreeSet<Ipv4Addr> = (0..10_000).map(source).collect();
        assert_eq!(all.len(), 4_000);
        assert!(all.iter().all(Ipv4Addr::is_loopback));
    }

    #[test]
    fn frames_of_servers_are_split_and_cut_ones_wait() {
        let mut inbox = Inbox::default();
        inbox.put(&[0x82, 3, 1, 2]);
        assert_eq!(inbox.frame(), None);
        inbox.put(&[3, 0x88, 2, 0x03]);
        assert_eq!(inbox.frame(), Some((2, vec![1, 2, 3])));
        assert_eq!(inbox.frame(), None);
        inbox.put(&[0xea]);
        let (opcode, payload) = inbox.frame().expect("a close");
        assert_eq!((opcode, code(&payload)), (8, 1002));
        assert_eq!(code(&[]), 1005);
        assert_eq!(
            split(&[0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            None
        );
    }

    #[test]
    fn frames_of_clients_have_the_length_that_fits() {
        for (len, header) in [(0, 6), (125, 6), (126, 8), (65_535, 8), (65_536, 14)] {
            let mut out = Vec::new();
            frame(0x82, &vec![7; len], &mut out);
            assert_eq!(out.len(), len + header);
        }
    }

    #[test]
    fn what_a_server_said_last_is_known_from_its_bytes() {
        let said = |bytes: &[u8]| {
            let mut inbox = Inbox::default();
            inbox.put(bytes);
            inbox.answer(How::Ended)
        };
        assert_eq!(said(b"HTTP/1.1 408 Request Timeout\r\n"), How::Status(408));
        assert_eq!(
            said(&[22, 3, 3, 0, 1, 9, 21, 3, 3, 0, 2, 2, 50]),
            How::Alert
        );
        assert_eq!(said(&[22, 3, 3, 0, 1, 9]), How::Ended);
        assert_eq!(said(&[21]), How::Ended);
    }
}
