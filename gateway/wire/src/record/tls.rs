//! rustls's unbuffered connection, driven to where it needs the caller.

use std::fmt;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError,
    UnbufferedStatus, WriteTraffic,
};
use rustls::{CommonState, ProtocolVersion};

use super::{CIPHERTEXT_BYTES_MAX, Opened, Progress, RecordError};

/// Bytes of the records of one handshake message that goes on. Real ones (a certificate chain) stay below 16 KiB, but
/// may be cut into records of one byte each.
const HELD_BYTES_MAX: usize = 64 * 1024;

/// One TLS connection.
#[derive(Debug)]
pub struct TlsLayer {
    connection: Connection,
    /// What there rarely is, so that its absence costs one pointer.
    carried: Option<Box<Carried>>,
    /// The peer's close_notify was read.
    peer_closed: bool,
    /// We failed, or closed: nothing can be sent any more.
    ended: Option<Ended>,
}

pub(super) enum Connection {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Closed,
    Failed,
}

#[derive(Debug, Default)]
struct Carried {
    /// Whole records that rustls has decrypted in place and refers to by their place, because a handshake message goes on
    /// in the next one. They must be the beginning of whatever rustls is given.
    incoming: Vec<u8>,
    /// Plaintext that came with the handshake's last bytes.
    plain: Vec<u8>,
}

/// What one turn is for, where the connection is ready for it.
#[derive(Clone, Copy)]
enum Want<'p> {
    Nothing,
    Seal(&'p [u8]),
    Close,
}

/// Where a turn ended.
enum Turn {
    /// Something was done; turn again.
    Again,
    /// The peer's bytes are needed before anything can be sent.
    Blocked,
    /// What was wanted is done.
    Ready,
    /// The peer's close_notify came.
    PeerClosed,
    /// Both ends have closed.
    Closed,
}

impl TlsLayer {
    pub(super) fn new(connection: Connection) -> Self {
        Self {
            connection,
            carried: None,
            peer_closed: false,
            ended: None,
        }
    }

    /// Steps the handshake; plaintext that comes early is carried.
    pub(super) fn handshake(
        &mut self,
        incoming: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Progress, RecordError> {
        let mut plain = Vec::new();
        let result = self.take_in(incoming, &mut plain, out);
        if !plain.is_empty() {
            self.carried
                .get_or_insert_default()
                .plain
                .append(&mut plain);
        }
        let opened = result?;
        match self.connection.common().is_handshaking() {
            true if opened.closed => Err(RecordError::Ended),
            true => Ok(Progress::NeedMore),
            false => Ok(Progress::Done),
        }
    }

    /// See [`super::Layer::open`].
    pub(super) fn open(
        &mut self,
        incoming: &mut Vec<u8>,
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Opened, RecordError> {
        if let Some(carried) = &mut self.carried {
            plain.append(&mut carried.plain);
        }
        self.take_in(incoming, plain, out)
    }

    /// See [`super::Layer::seal`].
    pub(super) fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), RecordError> {
        if self.ended.is_some() {
            return Err(RecordError::Ended);
        }
        if plain.is_empty() {
            return Ok(());
        }
        self.put_out(Want::Seal(plain), out)
    }

    /// See [`super::Layer::close_notify`].
    pub(super) fn close_notify(&mut self, out: &mut Vec<u8>) {
        if self.ended.is_none() {
            // A connection that cannot say goodbye any more is closed all the same.
            let _ = self.put_out(Want::Close, out);
            self.ended = Some(Ended::Closed);
        }
    }

    /// The version agreed on; `None` before it is known.
    #[must_use]
    pub fn version(&self) -> Option<ProtocolVersion> {
        self.connection.common().protocol_version()
    }

    /// The application protocol agreed on (ALPN), where one was.
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.connection.common().alpn_protocol()
    }

    fn take_in(
        &mut self,
        incoming: &mut Vec<u8>,
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Opened, RecordError> {
        match self.ended {
            Some(Ended::Failed) => return Err(RecordError::Ended),
            Some(Ended::Closed) => {
                incoming.clear();
                return Ok(Opened {
                    closed: self.peer_closed,
                });
            }
            None => {}
        }
        if let Some(mut carried) = self.carried.take() {
            carried.incoming.append(incoming);
            std::mem::swap(&mut carried.incoming, incoming);
            if !carried.plain.is_empty() {
                self.carried = Some(carried);
            }
        }
        let mut at = 0;
        loop {
            let rest = incoming.get_mut(at..).unwrap_or_default();
            let (taken, turn) = self.connection.turn(rest, Want::Nothing, plain, out);
            at += taken;
            match turn {
                Ok(Turn::Again) => {}
                Ok(Turn::PeerClosed) => self.peer_closed = true,
                Ok(Turn::Blocked | Turn::Ready | Turn::Closed) => break,
                Err(error) => {
                    self.ended = Some(Ended::Failed);
                    if !matches!(error, RecordError::Tls(rustls::Error::AlertReceived(_))) {
                        self.fail(incoming.get_mut(at..).unwrap_or_default(), out);
                    }
                    incoming.clear();
                    return Err(error);
                }
            }
        }
        if self.peer_closed {
            incoming.clear();
        } else {
            incoming.drain(..at.min(incoming.len()));
            if begins_with_whole_record(incoming) {
                if incoming.len() > HELD_BYTES_MAX {
                    self.ended = Some(Ended::Failed);
                    return Err(RecordError::LongHandshake);
                }
                self.carried.get_or_insert_default().incoming = std::mem::take(incoming);
            }
        }
        Ok(Opened {
            closed: self.peer_closed,
        })
    }

    fn put_out(&mut self, want: Want<'_>, out: &mut Vec<u8>) -> Result<(), RecordError> {
        let held = match &mut self.carried {
            Some(carried) => carried.incoming.as_mut_slice(),
            None => &mut [],
        };
        // What rests here is less than a message, so nothing is taken of it and nothing comes of it.
        let mut nothing = Vec::new();
        loop {
            match self.connection.turn(held, want, &mut nothing, out).1 {
                Ok(Turn::Again) => {}
                Ok(Turn::PeerClosed) => self.peer_closed = true,
                Ok(Turn::Ready) => return Ok(()),
                Ok(Turn::Blocked | Turn::Closed) => return Err(RecordError::Ended),
                Err(error) => {
                    self.ended = Some(Ended::Failed);
                    return Err(error);
                }
            }
        }
    }

    /// Appends the alert that the failure has queued, and what was queued before it.
    fn fail(&mut self, rest: &mut [u8], out: &mut Vec<u8>) {
        let mut nothing = Vec::new();
        loop {
            let at = out.len();
            // rustls gives what is queued before it looks at the input again, and must not look after a fatal alert: it
            // asserts that it sends no second one.
            let (_, turn) = self.connection.turn(rest, Want::Nothing, &mut nothing, out);
            let is_over = nothing.len() > CIPHERTEXT_BYTES_MAX || is_alert(&out[at..]);
            if is_over || !matches!(turn, Ok(Turn::Again)) {
                return;
            }
        }
    }
}

/// Whether a sealed record is an alert: by its type, or in TLS 1.3 by its length, which no handshake message has.
fn is_alert(record: &[u8]) -> bool {
    const ALERT: u8 = 21;
    const APPLICATION_DATA: u8 = 23;
    const SEALED_LEN: usize = 5 + 2 + 1 + 16;
    match record.first() {
        Some(&ALERT) => true,
        Some(&APPLICATION_DATA) => record.len() == SEALED_LEN,
        _ => false,
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = match self {
            Self::Server(_) => "Server",
            Self::Client(_) => "Client",
        };
        write!(f, "{end}({:?})", self.common().protocol_version())
    }
}

impl Connection {
    fn common(&self) -> &CommonState {
        match self {
            Self::Server(connection) => connection,
            Self::Client(connection) => connection,
        }
    }

    /// Lets rustls go one state further. Says how many bytes at the front of `incoming` it needs no more.
    fn turn(
        &mut self,
        incoming: &mut [u8],
        want: Want<'_>,
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> (usize, Result<Turn, RecordError>) {
        match self {
            Self::Server(connection) => {
                answer(connection.process_tls_records(incoming), want, plain, out)
            }
            Self::Client(connection) => {
                answer(connection.process_tls_records(incoming), want, plain, out)
            }
        }
    }
}

/// Does what the state asks for.
fn answer<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    want: Want<'_>,
    plain: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> (usize, Result<Turn, RecordError>) {
    let UnbufferedStatus { mut discard, state } = status;
    let turn = match state {
        Err(error) => Err(error.into()),
        Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
            match traffic.next_record() {
                None => break Ok(Turn::Again),
                Some(Err(error)) => break Err(error.into()),
                Some(Ok(record)) => {
                    discard += record.discard;
                    plain.extend_from_slice(record.payload);
                }
            }
        },
        Ok(ConnectionState::EncodeTlsData(data)) => encode(data, out).map(|()| Turn::Again),
        Ok(ConnectionState::TransmitTlsData(data)) => {
            // It is in `out`, which is sent before anything later.
            data.done();
            Ok(Turn::Again)
        }
        Ok(ConnectionState::WriteTraffic(traffic)) => write(traffic, want, out),
        Ok(ConnectionState::BlockedHandshake) => Ok(Turn::Blocked),
        Ok(ConnectionState::PeerClosed) => Ok(Turn::PeerClosed),
        Ok(ConnectionState::Closed) => Ok(Turn::Closed),
        Ok(ConnectionState::ReadEarlyData(_)) => Err(RecordError::EarlyData),
        // rustls may grow states for what a configuration of ours would have to ask for.
        Ok(_) => Err(RecordError::Ended),
    };
    (discard, turn)
}

fn encode<Data>(mut data: EncodeTlsData<'_, Data>, out: &mut Vec<u8>) -> Result<(), RecordError> {
    let at = out.len();
    // Asked for its size first: a flight is a few records, and this is no hot path.
    if let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) =
        data.encode(&mut [])
    {
        out.resize(at + required_size, 0);
        let written = data.encode(&mut out[at..]);
        out.truncate(at + written.as_ref().copied().unwrap_or(0));
        written.map_err(|_| RecordError::Ended)?;
    }
    Ok(())
}

fn write<Data>(
    mut traffic: WriteTraffic<'_, Data>,
    want: Want<'_>,
    out: &mut Vec<u8>,
) -> Result<Turn, RecordError> {
    let at = out.len();
    let mut room = match want {
        Want::Nothing => return Ok(Turn::Ready),
        Want::Seal(plain) => sealed_len(plain.len()),
        Want::Close => 64,
    };
    loop {
        out.resize(at + room, 0);
        let space = &mut out[at..];
        let written = match want {
            Want::Nothing => Ok(0),
            Want::Seal(plain) => traffic.encrypt(plain, space),
            Want::Close => traffic.queue_close_notify(space),
        };
        match written {
            Ok(written) => {
                out.truncate(at + written);
                return Ok(Turn::Ready);
            }
            // A key update goes before it, or the cipher adds more than usual.
            Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size }))
                if required_size > room =>
            {
                room = required_size;
            }
            Err(EncryptError::EncryptExhausted | EncryptError::InsufficientSize(_)) => {
                out.truncate(at);
                return Err(RecordError::Exhausted);
            }
        }
    }
}

/// Bytes that a TLS 1.3 connection makes of so many: per record a header of 5, a type of 1 and a tag of 16.
fn sealed_len(plain: usize) -> usize {
    plain + plain.div_ceil(super::RECORD_BYTES_MAX) * 22
}

/// Whether the front of `incoming` is a whole record. rustls leaves one only while it refers to it by its place.
fn begins_with_whole_record(incoming: &[u8]) -> bool {
    match incoming {
        [_, _, _, high, low, rest @ ..] => {
            rest.len() >= usize::from(u16::from_be_bytes([*high, *low]))
        }
        _ => false,
    }
}
