//! rustls's unbuffered connection, driven to where it needs the caller.

use std::fmt;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError,
    UnbufferedStatus, WriteTraffic,
};
use rustls::{CommonState, ConnectionTrafficSecrets, ProtocolVersion};

use super::caught::{Caught, Secret};
use super::compact::{CompactLayer, Suite, Way};
use super::{CIPHERTEXT_BYTES_MAX, Ended, Layer, Opened, Progress, RecordError};

/// Bytes of the records of one handshake message that goes on. Real ones (a certificate chain) stay below 16 KiB, but
/// may be cut into records of one byte each.
const HELD_BYTES_MAX: usize = 64 * 1024;
/// Pieces of bytes that one handshake takes in, at most: each is an encrypted record or less, and real ones are a handful.
const STEPS_MAX: u8 = 64;

/// One TLS connection.
#[derive(Debug)]
pub struct TlsLayer {
    connection: Connection,
    /// Whole records that rustls has decrypted in place and refers to by their place, because a handshake message goes on in
    /// the next one; rarely there. They must be the beginning of whatever rustls is given.
    carried: Vec<u8>,
    /// The peer's close_notify was read.
    peer_closed: bool,
    /// We failed, or closed: nothing can be sent any more.
    ended: Option<Ended>,
    /// Of the handshake, those that were followed by another.
    steps: u8,
}

pub(super) enum Connection {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
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
            carried: Vec::new(),
            peer_closed: false,
            ended: None,
            steps: 0,
        }
    }

    /// Steps the handshake. Encrypted records are taken one by one, so that what comes behind the last of them is left.
    pub(super) fn handshake(
        &mut self,
        incoming: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Progress, RecordError> {
        loop {
            let now = one_by_one(incoming);
            let later = incoming.split_off(now);
            let is_last = later.is_empty();
            // No plaintext comes of a handshake: early data is an error.
            let opened = self.take_in(incoming, &mut Vec::new(), out);
            incoming.extend(later);
            let closed = opened?.closed;
            if !self.connection.common().is_handshaking() {
                return Ok(Progress::Done);
            }
            if closed {
                return Err(RecordError::Ended);
            }
            if is_last {
                return Ok(Progress::NeedMore);
            }
            self.steps += 1;
            if self.steps > STEPS_MAX {
                self.ended = Some(Ended::Failed);
                return Err(RecordError::LongHandshake);
            }
        }
    }

    /// The connection after its handshake: its keys alone, where they were caught.
    pub(super) fn established(self, caught: Caught) -> Result<Layer, RecordError> {
        let common = self.connection.common();
        let suite = common
            .negotiated_cipher_suite()
            .and_then(|suite| Suite::of(suite.suite()));
        let is_idle = self.ended.is_none()
            && !self.peer_closed
            && self.carried.is_empty()
            && !common.is_handshaking()
            && !common.wants_write();
        let (Some(suite), Some(client), Some(server), true) =
            (suite, caught.client, caught.server, is_idle)
        else {
            return Ok(Layer::Tls(Box::new(self)));
        };
        let (is_client, secrets) = match self.connection {
            Connection::Client(connection) => {
                (true, connection.dangerous_into_kernel_connection()?.0)
            }
            Connection::Server(connection) => {
                (false, connection.dangerous_into_kernel_connection()?.0)
            }
        };
        let (ours, theirs) = match is_client {
            true => (client, server),
            false => (server, client),
        };
        let ways = Ways {
            suite,
            is_client,
            send: (ours, secrets.tx),
            receive: (theirs, secrets.rx),
        };
        let layer = match suite {
            Suite::Aes128 => ways.compact().map(|short| Layer::Short(Box::new(short))),
            Suite::Aes256 | Suite::ChaCha20 => {
                ways.compact().map(|long| Layer::Compact(Box::new(long)))
            }
        };
        let unlike = || rustls::Error::General("the keys are not those of the secrets".to_owned());
        Ok(layer.ok_or_else(unlike)?)
    }

    /// See [`super::Layer::open`].
    pub(super) fn open(
        &mut self,
        incoming: &mut Vec<u8>,
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Opened, RecordError> {
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
        if let Some(ended) = self.ended {
            return ended.receive(incoming, self.peer_closed);
        }
        if !self.carried.is_empty() {
            self.carried.append(incoming);
            *incoming = std::mem::take(&mut self.carried);
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
                self.carried = std::mem::take(incoming);
            }
        }
        Ok(Opened {
            closed: self.peer_closed,
        })
    }

    fn put_out(&mut self, want: Want<'_>, out: &mut Vec<u8>) -> Result<(), RecordError> {
        let held = self.carried.as_mut_slice();
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
    record_len(incoming).is_some_and(|len| incoming.len() >= len)
}

/// Bytes at the front that a handshake is given at once: all records of plain handshake messages, or one of another kind, with which
/// the handshake may be over.
fn one_by_one(incoming: &[u8]) -> usize {
    const HANDSHAKE: u8 = 22;
    let mut at = 0;
    loop {
        let rest = incoming.get(at..).unwrap_or_default();
        let is_plain = rest.first() == Some(&HANDSHAKE);
        if at > 0 && !is_plain {
            return at;
        }
        match record_len(rest) {
            Some(len) if len < rest.len() => at += len,
            _ => return incoming.len(),
        }
        if !is_plain {
            return at;
        }
    }
}

/// Bytes of the record at the front, header included, as it says.
fn record_len(incoming: &[u8]) -> Option<usize> {
    match incoming {
        [_, _, _, high, low, ..] => Some(5 + usize::from(u16::from_be_bytes([*high, *low]))),
        _ => None,
    }
}

/// What a handshake leaves of a connection: for each direction the secret that was caught, and the keys that rustls made of it.
struct Ways {
    suite: Suite,
    is_client: bool,
    send: (Secret, (u64, ConnectionTrafficSecrets)),
    receive: (Secret, (u64, ConnectionTrafficSecrets)),
}

impl Ways {
    /// `None`: the keys are not those of the secrets.
    fn compact<const SECRET: usize, const KEY: usize>(&self) -> Option<CompactLayer<SECRET, KEY>> {
        let way = |(secret, (sequence, keys)): &(Secret, (u64, ConnectionTrafficSecrets))| {
            let (ConnectionTrafficSecrets::Aes128Gcm { key, iv }
            | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
            | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }) = keys
            else {
                return None;
            };
            let way = Way::new(self.suite, secret.bytes(), *sequence)?;
            way.is(self.suite, key.as_ref(), iv.as_ref()).then_some(way)
        };
        let (send, receive) = (way(&self.send)?, way(&self.receive)?);
        Some(CompactLayer::new(self.suite, self.is_client, send, receive))
    }
}
