//! Bytes of the application in and out of a connection: TLS (rustls, unbuffered) or plain.
//!
//! A [`ServerHandshake`] or [`ClientHandshake`] is stepped until it is done and becomes a [`Layer`]: rustls's connection, or,
//! where the configuration allows it ([`compact_server`]) and TLS 1.3 was agreed on, its keys alone. The caller owns the buffers:
//! ciphertext that is not a whole record stays with it, so the layer of an idle connection holds nothing but the connection's
//! keys and state.

mod caught;
mod compact;
mod handshake;
mod tls;

#[cfg(test)]
mod tests;

pub use caught::{compact_client, compact_server};
pub use compact::{CompactLayer, ShortLayer};
pub use handshake::{ClientHandshake, Progress, ServerHandshake};
pub use tls::TlsLayer;

/// The plaintext of one TLS record is at most this many bytes.
pub const RECORD_BYTES_MAX: usize = 16 * 1024;

/// Ciphertext that a caller may hold for a record that is not whole: header, plaintext, and the most that TLS 1.2 lets a
/// record grow.
pub const CIPHERTEXT_BYTES_MAX: usize = 5 + RECORD_BYTES_MAX + 2_048;

/// The way of one established connection.
#[derive(Debug)]
pub enum Layer {
    /// No encryption.
    Plain,
    /// TLS 1.3, by its keys; these are short ones.
    Short(Box<ShortLayer>),
    /// TLS 1.3, by its keys.
    Compact(Box<CompactLayer>),
    /// TLS 1.3 or 1.2, by rustls.
    Tls(Box<TlsLayer>),
}

const _: () = assert!(size_of::<Layer>() <= 16);

/// What [`Layer::open`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// The peer sent close_notify: nothing of it comes any more, though we may still send.
    pub closed: bool,
}

/// Why a connection can no longer be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RecordError {
    /// The peer broke the protocol, could not be authenticated or sent an alert. The alert that answers it is in the output.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// Early data (0-RTT) came, which is never accepted.
    #[error("TLS early data is not accepted")]
    EarlyData,
    /// The records of one handshake message are longer than 64 KiB together.
    #[error("a handshake message of too many bytes")]
    LongHandshake,
    /// The keys of a TLS 1.2 connection have sealed all that they may.
    #[error("the keys of the connection are used up")]
    Exhausted,
    /// The connection failed before, or we closed it.
    #[error("the connection has ended")]
    Ended,
}

/// How a connection ended on our side: nothing can be sent any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// We said close_notify.
    Closed,
    Failed,
}

impl Ended {
    /// What becomes of bytes that still come: after a failure they are refused, after our close thrown away.
    fn receive(self, incoming: &mut Vec<u8>, closed: bool) -> Result<Opened, RecordError> {
        match self {
            Self::Failed => Err(RecordError::Ended),
            Self::Closed => {
                incoming.clear();
                Ok(Opened { closed })
            }
        }
    }
}

impl Layer {
    /// Appends what the peer sent to `plain` and drains from `incoming` what was taken. What rests is less than a record
    /// and stays with the caller. Bytes that must go to the peer (alerts) are appended to `out`. `plain` grows by less
    /// than `incoming` holds.
    ///
    /// # Errors
    /// The peer's fault; send `out`, then close.
    pub fn open(
        &mut self,
        incoming: &mut Vec<u8>,
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Opened, RecordError> {
        match self {
            Self::Plain => {
                plain.append(incoming);
                Ok(Opened::default())
            }
            Self::Short(short) => short.open(incoming, plain, out),
            Self::Compact(compact) => compact.open(incoming, plain, out),
            Self::Tls(tls) => tls.open(incoming, plain, out),
        }
    }

    /// Appends `plain` to `out` as records of at most [`RECORD_BYTES_MAX`]; nothing for no bytes. A key update that the
    /// peer asked for goes before them.
    ///
    /// # Errors
    /// The connection has ended, or its keys are used up: close.
    pub fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), RecordError> {
        match self {
            Self::Plain => {
                out.extend_from_slice(plain);
                Ok(())
            }
            Self::Short(short) => short.seal(plain, out),
            Self::Compact(compact) => compact.seal(plain, out),
            Self::Tls(tls) => tls.seal(plain, out),
        }
    }

    /// Appends close_notify, once; nothing on a plain or failed connection. Nothing can be sealed afterwards, and what
    /// still comes is thrown away: read to the end of the stream, then close it.
    pub fn close_notify(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::Plain => {}
            Self::Short(short) => short.close_notify(out),
            Self::Compact(compact) => compact.close_notify(out),
            Self::Tls(tls) => tls.close_notify(out),
        }
    }

    /// The connection is encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        !matches!(self, Self::Plain)
    }
}
