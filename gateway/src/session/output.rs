//! What goes out of one connection: plaintext until the socket takes it, then one sealed piece.
//!
//! Bytes are sealed only when no send is in flight and the socket was not found full, so that a slow
//! reader costs at most one sealed tail; what may be waiting in plaintext is bounded by the session's
//! window and by the receiving, which stops while much waits.

use super::pool::Pool;
use hawser_ring::SendOutcome;
use hawser_wire::record::{Layer, RecordError};

/// Plaintext sealed for one send.
const SEAL_BYTES: usize = 64 << 10;
/// The same for a socket that was full a moment ago.
const SEAL_BYTES_SLOW: usize = 4 << 10;
/// What is copied into the ring for its next submit rather than lent to it until a completion.
pub(crate) const POST_BYTES_MAX: usize = SEAL_BYTES;

/// See the module. An idle connection's is a null pointer.
#[derive(Debug, Default)]
pub(crate) struct Output {
    busy: Option<Box<Busy>>,
}

/// What a connection has while bytes of it wait or are on their way.
#[derive(Debug, Default)]
pub(super) struct Busy {
    /// To be sealed, from `plain_at` on.
    plain: Vec<u8>,
    plain_at: usize,
    /// Sealed and not sent, from `sealed_at` on.
    sealed: Vec<u8>,
    sealed_at: usize,
    /// Bytes of the send in flight.
    in_flight: usize,
    /// Since when there is a tail, milliseconds: a byte now and then does not make it younger.
    full_since_ms: Option<u64>,
    /// It waits for the socket to be writable.
    blocked: bool,
    slow: bool,
}

/// What became of a send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Went {
    /// All of it; there may be more to send.
    All,
    /// The socket is full: wait for it to be writable.
    Full,
    /// The connection is broken.
    Broken,
}

impl Output {
    /// Where plaintext is appended.
    pub(crate) fn plain(&mut self, pool: &mut Pool) -> &mut Vec<u8> {
        let busy = self.busy.get_or_insert_with(|| pool.take_busy());
        if busy.plain.capacity() == 0 {
            busy.plain = pool.take();
        }
        &mut busy.plain
    }

    /// Appends bytes that the record layer has made itself, in their order.
    pub(crate) fn put_sealed(&mut self, bytes: &[u8], pool: &mut Pool) {
        if !bytes.is_empty() {
            let busy = self.busy.get_or_insert_with(|| pool.take_busy());
            busy.sealed.extend_from_slice(bytes);
        }
    }

    /// Bytes that have not gone out.
    pub(crate) fn waiting(&self) -> usize {
        self.busy.as_ref().map_or(0, |busy| {
            busy.plain.len() - busy.plain_at + busy.tail() + busy.in_flight
        })
    }

    /// Sealed bytes that the socket did not take.
    pub(crate) fn tail(&self) -> usize {
        self.busy.as_ref().map_or(0, |busy| busy.tail())
    }

    /// Since when there is a tail that the socket does not take as a whole.
    pub(crate) fn full_since_ms(&self) -> Option<u64> {
        self.busy.as_ref()?.full_since_ms
    }

    /// The socket takes bytes again.
    pub(crate) fn writable(&mut self) {
        if let Some(busy) = &mut self.busy {
            busy.blocked = false;
        }
    }

    /// Nothing waits and nothing is in flight: bytes may go past it.
    pub(crate) fn is_idle(&self) -> bool {
        self.busy.is_none()
    }

    /// What waits, where it may be posted: it is small, nothing goes before it and the socket keeps up. Say
    /// [`Output::posted`] once it is.
    pub(crate) fn postable(&self) -> Option<&[u8]> {
        let busy = self.busy.as_ref()?;
        let waits = &busy.plain[busy.plain_at..];
        let free = !busy.blocked && !busy.slow && busy.in_flight == 0 && busy.tail() == 0;
        (free && (1..=POST_BYTES_MAX).contains(&waits.len())).then_some(waits)
    }

    /// All that waited is on its way, as far as anybody is told.
    pub(crate) fn posted(&mut self, pool: &mut Pool) {
        pool.give_busy(self.busy.take());
    }

    /// A send is in flight whose end will be told.
    pub(crate) fn in_flight(&self) -> bool {
        self.busy.as_ref().is_some_and(|busy| busy.in_flight > 0)
    }

    /// The next send: buffer and where to begin; `None` when there is nothing, or not yet.
    ///
    /// # Errors
    /// The record layer can seal no more: close.
    pub(crate) fn next(
        &mut self,
        layer: &mut Layer,
        pool: &mut Pool,
    ) -> Result<Option<(Vec<u8>, usize)>, RecordError> {
        let Some(busy) = &mut self.busy else {
            return Ok(None);
        };
        let next = busy.next(layer, pool)?;
        if next.is_none() && busy.is_idle() {
            pool.give_busy(self.busy.take());
        }
        Ok(next)
    }

    /// A send has ended; `buffer` is the one that `next` gave, from `from` on, or what was posted and did not all go.
    pub(crate) fn sent(
        &mut self,
        buffer: Vec<u8>,
        from: usize,
        outcome: SendOutcome,
        now_ms: u64,
        pool: &mut Pool,
    ) -> Went {
        let busy = self.busy.get_or_insert_with(|| pool.take_busy());
        let went = busy.sent(buffer, from, outcome, now_ms, pool);
        if went == Went::All && busy.is_idle() {
            pool.give_busy(self.busy.take());
        }
        went
    }
}

impl Busy {
    fn tail(&self) -> usize {
        self.sealed.len() - self.sealed_at
    }

    /// As it begins; the buffers that it had.
    pub(super) fn reset(&mut self) -> [Vec<u8>; 2] {
        let old = std::mem::take(self);
        [old.plain, old.sealed]
    }

    /// Nothing of it is worth keeping.
    fn is_idle(&self) -> bool {
        self.plain.is_empty() && self.tail() == 0 && self.in_flight == 0
    }

    fn next(
        &mut self,
        layer: &mut Layer,
        pool: &mut Pool,
    ) -> Result<Option<(Vec<u8>, usize)>, RecordError> {
        if self.blocked || self.in_flight > 0 {
            return Ok(None);
        }
        if self.tail() == 0 && self.plain.len() > self.plain_at {
            self.seal(layer, pool)?;
        }
        if self.tail() == 0 {
            return Ok(None);
        }
        self.in_flight = self.tail();
        let from = std::mem::take(&mut self.sealed_at);
        Ok(Some((std::mem::take(&mut self.sealed), from)))
    }

    fn sent(
        &mut self,
        buffer: Vec<u8>,
        from: usize,
        outcome: SendOutcome,
        now_ms: u64,
        pool: &mut Pool,
    ) -> Went {
        self.in_flight = 0;
        let sent = match outcome {
            SendOutcome::Sent(sent) => sent,
            SendOutcome::WouldBlock => 0,
            SendOutcome::Failed(_) => {
                pool.give(buffer);
                return Went::Broken;
            }
        };
        let at = from + sent;
        if at >= buffer.len() {
            pool.give(buffer);
            self.slow = false;
            self.full_since_ms = None;
            return Went::All;
        }
        self.put_back(buffer, at);
        self.full_since_ms = self.full_since_ms.or(Some(now_ms));
        self.blocked = true;
        self.slow = true;
        Went::Full
    }

    /// What could not be sent goes before what was sealed meanwhile.
    fn put_back(&mut self, mut buffer: Vec<u8>, at: usize) {
        buffer.extend_from_slice(&self.sealed[self.sealed_at..]);
        self.sealed = buffer;
        self.sealed_at = at;
    }

    fn seal(&mut self, layer: &mut Layer, pool: &mut Pool) -> Result<(), RecordError> {
        debug_assert!(self.sealed_at == self.sealed.len());
        let most = if self.slow {
            SEAL_BYTES_SLOW
        } else {
            SEAL_BYTES
        };
        let whole = self.plain.len() - self.plain_at;
        if !layer.is_tls() {
            // Plain bytes go out as they are: no copy.
            std::mem::swap(&mut self.sealed, &mut self.plain);
            self.sealed_at = std::mem::take(&mut self.plain_at);
            self.plain.clear();
            pool.give(std::mem::take(&mut self.plain));
            return Ok(());
        }
        if self.sealed.capacity() == 0 {
            self.sealed = pool.take();
        }
        self.sealed.clear();
        self.sealed_at = 0;
        let end = self.plain_at + whole.min(most);
        layer.seal(&self.plain[self.plain_at..end], &mut self.sealed)?;
        self.plain_at = end;
        if end == self.plain.len() {
            self.plain_at = 0;
            pool.give(std::mem::take(&mut self.plain));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(output: &mut Output, pool: &mut Pool) -> Option<(Vec<u8>, usize)> {
        output.next(&mut Layer::Plain, pool).expect("plain")
    }

    #[test]
    fn one_send_at_a_time_takes_all_that_waits() {
        let (mut output, mut pool) = (Output::default(), Pool::default());
        output.plain(&mut pool).extend_from_slice(b"one");
        output.plain(&mut pool).extend_from_slice(b"two");
        let (buffer, from) = send(&mut output, &mut pool).expect("bytes");
        assert_eq!((&buffer[from..], output.waiting()), (&b"onetwo"[..], 6));
        output.plain(&mut pool).extend_from_slice(b"three");
        assert_eq!(send(&mut output, &mut pool), None);
        let went = output.sent(buffer, from, SendOutcome::Sent(6), 5, &mut pool);
        assert_eq!(went, Went::All);
        let (buffer, from) = send(&mut output, &mut pool).expect("bytes");
        assert_eq!(&buffer[from..], b"three");
    }

    #[test]
    fn once_everything_is_sent_nothing_is_kept() {
        let (mut output, mut pool) = (Output::default(), Pool::default());
        assert_eq!(send(&mut output, &mut pool), None);
        output.plain(&mut pool).extend_from_slice(b"one");
        let (buffer, from) = send(&mut output, &mut pool).expect("bytes");
        assert_eq!(output.waiting(), 3);
        output.sent(buffer, from, SendOutcome::Sent(3), 5, &mut pool);
        assert!(output.busy.is_none());
        output.put_sealed(b"", &mut pool);
        assert_eq!((output.waiting(), output.tail()), (0, 0));
        assert!(output.busy.is_none());
        // A place for bytes that never came.
        let _ = output.plain(&mut pool);
        assert_eq!(send(&mut output, &mut pool), None);
        assert!(output.busy.is_none());
    }

    #[test]
    fn what_the_socket_did_not_take_goes_first_when_it_is_writable() {
        let (mut output, mut pool) = (Output::default(), Pool::default());
        output.plain(&mut pool).extend_from_slice(b"abcdef");
        let (buffer, from) = send(&mut output, &mut pool).expect("bytes");
        output.put_sealed(b"!", &mut pool);
        let went = output.sent(buffer, from, SendOutcome::Sent(2), 7, &mut pool);
        assert_eq!(went, Went::Full);
        assert_eq!((output.tail(), output.full_since_ms()), (5, Some(7)));
        output.plain(&mut pool).extend_from_slice(b"gh");
        assert_eq!(send(&mut output, &mut pool), None, "blocked");
        output.writable();
        let (buffer, from) = send(&mut output, &mut pool).expect("bytes");
        assert_eq!(&buffer[from..], b"cdef!");
        let went = output.sent(buffer, from, SendOutcome::WouldBlock, 9, &mut pool);
        assert_eq!((went, output.full_since_ms()), (Went::Full, Some(7)));
        output.writable();
        let (buffer, from) = send(&mut output, &mut pool).expect("bytes");
        output.sent(buffer, from, SendOutcome::Sent(5), 9, &mut pool);
        assert_eq!(output.full_since_ms(), None);
        let (buffer, from) = send(&mut output, &mut pool).expect("bytes");
        assert_eq!(&buffer[from..], b"gh");
    }
}
