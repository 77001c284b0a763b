//! The record layer of an established TLS 1.3 connection in some two hundred bytes: RFC 8446, sections 5 to 7.
//!
//! rustls makes the handshake, judges the peer and derives the secrets; then it is gone, and what stays are two traffic
//! secrets with their keys and sequence numbers. An AEAD's key schedule is made for each batch of records and not kept.

#[cfg(test)]
mod tests;
mod way;

use std::fmt;

use rustls::{AlertDescription, InvalidMessage, PeerMisbehaved};

use super::{Ended, Opened, RECORD_BYTES_MAX, RecordError};
use way::TAG_BYTES;
pub(super) use way::{KEY_BYTES_MAX, SECRET_BYTES_MAX, Suite, Way};

const HEADER_BYTES: usize = 5;
/// Ciphertext of a record at most (section 5.2).
const SEALED_BYTES_MAX: usize = RECORD_BYTES_MAX + 256;
/// What a record adds to its content: header, content type, tag.
const OVERHEAD_BYTES: usize = HEADER_BYTES + 1 + TAG_BYTES;
/// Records in a row that carry nothing for the application, at most: what they cost a peer must not be less than they cost us.
const IDLE_RECORDS_MAX: u8 = 32;
/// A server's ticket is this long at the most.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

const WARNING: u8 = 1;
const FATAL: u8 = 2;

/// One established connection, with room for secrets and keys of so many bytes: of any suite, unless named.
pub struct CompactLayer<const SECRET: usize = SECRET_BYTES_MAX, const KEY: usize = KEY_BYTES_MAX> {
    send: Way<SECRET, KEY>,
    receive: Way<SECRET, KEY>,
    /// The beginning of a handshake message that goes on in the next record; rarely there.
    message: Option<Box<Begun>>,
    suite: Suite,
    is_client: bool,
    /// The peer's close_notify was read.
    peer_closed: bool,
    ended: Option<Ended>,
    /// The peer wishes that our keys are updated; done before anything is sealed next.
    owes_update: bool,
    /// Records in a row without anything for the application.
    idle_records: u8,
}

/// What has come of a message; behind a pointer, since there rarely is one.
#[derive(Debug)]
struct Begun(Vec<u8>);

/// With AES-128 and SHA-256, which browsers choose and most clients can.
pub type ShortLayer = CompactLayer<32, 16>;

const _: () = assert!(size_of::<CompactLayer>() <= 224);
const _: () = assert!(size_of::<ShortLayer>() <= 160);

impl<const SECRET: usize, const KEY: usize> fmt::Debug for CompactLayer<SECRET, KEY> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompactLayer")
            .field("suite", &self.suite)
            .field("is_client", &self.is_client)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

/// What the peer did wrong, and the alert that tells it.
struct Fault(AlertDescription, RecordError);

impl Fault {
    fn misbehaved(what: PeerMisbehaved) -> Self {
        Self(
            AlertDescription::UnexpectedMessage,
            RecordError::Tls(what.into()),
        )
    }

    fn invalid(alert: AlertDescription, what: InvalidMessage) -> Self {
        Self(alert, RecordError::Tls(what.into()))
    }

    fn unexpected(what: &'static str) -> Self {
        Self::invalid(
            AlertDescription::UnexpectedMessage,
            InvalidMessage::UnexpectedMessage(what),
        )
    }
}

impl<const SECRET: usize, const KEY: usize> CompactLayer<SECRET, KEY> {
    /// `send`, `receive`: the traffic secrets as the handshake left them, and the next sequence numbers.
    pub(super) fn new(
        suite: Suite,
        is_client: bool,
        send: Way<SECRET, KEY>,
        receive: Way<SECRET, KEY>,
    ) -> Self {
        Self {
            send,
            receive,
            message: None,
            suite,
            is_client,
            peer_closed: false,
            ended: None,
            owes_update: false,
            idle_records: 0,
        }
    }

    /// See [`super::Layer::open`].
    pub(super) fn open(
        &mut self,
        incoming: &mut Vec<u8>,
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Opened, RecordError> {
        if let Some(ended) = self.ended {
            return ended.receive(incoming, self.peer_closed);
        }
        let mut at = 0;
        let mut key = None;
        while !self.peer_closed {
            let taken = match whole_record(incoming.get_mut(at..).unwrap_or_default()) {
                Ok(None) => break,
                Ok(Some(record)) => {
                    let key = key.get_or_insert_with(|| self.receive.key(self.suite));
                    self.receive
                        .open(key, record)
                        .map(|content| (record.len(), content))
                }
                Err(fault) => Err(fault),
            };
            let done = taken.and_then(|(len, content)| {
                let record = incoming.get(at + HEADER_BYTES..at + HEADER_BYTES + content.len);
                let before = self.receive.generation();
                self.content(content.kind, record.unwrap_or_default(), plain)?;
                if self.receive.generation() != before {
                    key = None;
                }
                Ok(len)
            });
            match done {
                Ok(len) => at += len,
                Err(Fault(alert, error)) => {
                    incoming.clear();
                    return Err(self.fail(alert, error, out));
                }
            }
        }
        match self.peer_closed {
            true => incoming.clear(),
            false => drop(incoming.drain(..at)),
        }
        Ok(Opened {
            closed: self.peer_closed,
        })
    }

    /// See [`super::Layer::seal`].
    pub(super) fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), RecordError> {
        if self.ended.is_some() {
            return Err(RecordError::Ended);
        }
        if plain.is_empty() {
            return Ok(());
        }
        out.reserve(plain.len() + plain.len().div_ceil(RECORD_BYTES_MAX) * OVERHEAD_BYTES);
        let mut key = None;
        for part in plain.chunks(RECORD_BYTES_MAX) {
            if self.owes_update || self.send.is_worn(self.suite) {
                self.update(out)?;
                key = None;
            }
            let key = key.get_or_insert_with(|| self.send.key(self.suite));
            self.send.seal(key, APPLICATION_DATA, part, out)?;
        }
        Ok(())
    }

    /// See [`super::Layer::close_notify`].
    pub(super) fn close_notify(&mut self, out: &mut Vec<u8>) {
        if self.ended.is_none() {
            self.alert(WARNING, AlertDescription::CloseNotify, out);
            self.ended = Some(Ended::Closed);
        }
    }

    /// What a record held.
    fn content(&mut self, kind: u8, content: &[u8], plain: &mut Vec<u8>) -> Result<(), Fault> {
        if self.message.is_some() && kind != HANDSHAKE {
            let what = PeerMisbehaved::MessageInterleavedWithHandshakeMessage;
            return Err(Fault::misbehaved(what));
        }
        match kind {
            APPLICATION_DATA if !content.is_empty() => {
                self.idle_records = 0;
                plain.extend_from_slice(content);
                return Ok(());
            }
            APPLICATION_DATA => {}
            ALERT => self.told(content)?,
            HANDSHAKE => self.messages(content)?,
            _ => return Err(Fault::unexpected("a record of another kind")),
        }
        self.idle_records += 1;
        match self.idle_records > IDLE_RECORDS_MAX {
            true => Err(Fault::misbehaved(PeerMisbehaved::TooManyEmptyFragments)),
            false => Ok(()),
        }
    }

    /// An alert: whatever its level, all but two end the connection (section 6).
    fn told(&mut self, content: &[u8]) -> Result<(), Fault> {
        let [_, description] = *content else {
            let what = InvalidMessage::MessageTooShort;
            return Err(Fault::invalid(AlertDescription::DecodeError, what));
        };
        match AlertDescription::from(description) {
            AlertDescription::CloseNotify => self.peer_closed = true,
            AlertDescription::UserCanceled => {}
            description => {
                let error = rustls::Error::AlertReceived(description);
                // It is not answered.
                return Err(Fault(
                    AlertDescription::CloseNotify,
                    RecordError::Tls(error),
                ));
            }
        }
        Ok(())
    }

    /// A record of handshake messages, of which the first may have begun in an earlier one and the last may go on.
    fn messages(&mut self, content: &[u8]) -> Result<(), Fault> {
        if content.is_empty() {
            let what = InvalidMessage::InvalidEmptyPayload;
            return Err(Fault::invalid(AlertDescription::UnexpectedMessage, what));
        }
        let mut begun = self.message.take();
        if let Some(begun) = &mut begun {
            begun.0.extend_from_slice(content);
        }
        let mut rest = begun.as_deref().map_or(content, |begun| &begun.0);
        while let Some(&kind) = rest.first() {
            let len = match *rest {
                [_, high, middle, low, ..] => Some(u32::from_be_bytes([0, high, middle, low])),
                _ => None,
            };
            self.may_come(kind, len)?;
            let whole = len.and_then(|len| rest.split_at_checked(4 + len as usize));
            let Some((message, after)) = whole else {
                self.message = Some(Box::new(Begun(rest.to_vec())));
                return Ok(());
            };
            if kind == KEY_UPDATE {
                // Nothing of the old key may come behind it (section 5.1).
                if !after.is_empty() {
                    let what = PeerMisbehaved::KeyEpochWithPendingFragment;
                    return Err(Fault::misbehaved(what));
                }
                self.key_update(message.get(4).copied())?;
            }
            rest = after;
        }
        Ok(())
    }

    /// Whether such a message may come after the handshake, judged by its beginning: nothing else is collected.
    fn may_come(&self, kind: u8, len: Option<u32>) -> Result<(), Fault> {
        match kind {
            KEY_UPDATE if len.is_none_or(|len| len == 1) => Ok(()),
            KEY_UPDATE => Err(Fault::invalid(
                AlertDescription::DecodeError,
                InvalidMessage::InvalidKeyUpdate,
            )),
            // Kept by nobody: whoever connects anew makes a whole handshake.
            NEW_SESSION_TICKET if self.is_client => {
                match len.is_none_or(|len| len as usize <= MESSAGE_BYTES_MAX) {
                    true => Ok(()),
                    false => Err(Fault::invalid(
                        AlertDescription::DecodeError,
                        InvalidMessage::HandshakePayloadTooLarge,
                    )),
                }
            }
            _ => Err(Fault::unexpected("a handshake message after the handshake")),
        }
    }

    fn key_update(&mut self, request: Option<u8>) -> Result<(), Fault> {
        match request {
            Some(0) => {}
            // Answered once, however often it is asked for before we send something.
            Some(1) => self.owes_update = true,
            _ => {
                return Err(Fault::invalid(
                    AlertDescription::IllegalParameter,
                    InvalidMessage::InvalidKeyUpdate,
                ));
            }
        }
        self.receive.update(self.suite);
        Ok(())
    }

    /// Says that other keys are used from here on, and does so.
    fn update(&mut self, out: &mut Vec<u8>) -> Result<(), RecordError> {
        const NOT_REQUESTED: [u8; 5] = [KEY_UPDATE, 0, 0, 1, 0];
        self.owes_update = false;
        let key = self.send.key(self.suite);
        self.send.seal(&key, HANDSHAKE, &NOT_REQUESTED, out)?;
        self.send.update(self.suite);
        Ok(())
    }

    fn fail(
        &mut self,
        alert: AlertDescription,
        error: RecordError,
        out: &mut Vec<u8>,
    ) -> RecordError {
        if !matches!(error, RecordError::Tls(rustls::Error::AlertReceived(_))) {
            self.alert(FATAL, alert, out);
        }
        self.ended = Some(Ended::Failed);
        self.message = None;
        error
    }

    fn alert(&mut self, level: u8, alert: AlertDescription, out: &mut Vec<u8>) {
        let key = self.send.key(self.suite);
        // A connection that cannot say it any more is closed all the same.
        let _ = self.send.seal(&key, ALERT, &[level, u8::from(alert)], out);
    }
}

/// The record at the front, if it is whole.
fn whole_record(incoming: &mut [u8]) -> Result<Option<&mut [u8]>, Fault> {
    let &mut [kind, _, _, high, low, ..] = incoming else {
        return Ok(None);
    };
    if kind != APPLICATION_DATA {
        return Err(Fault::unexpected("a record that is not encrypted"));
    }
    let len = usize::from(u16::from_be_bytes([high, low]));
    if len > SEALED_BYTES_MAX {
        let error = rustls::Error::PeerSentOversizedRecord;
        return Err(Fault(AlertDescription::RecordOverflow, error.into()));
    }
    Ok(incoming.get_mut(..HEADER_BYTES + len))
}
