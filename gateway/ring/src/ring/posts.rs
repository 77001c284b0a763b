//! Posts: sends of bytes that the ring itself holds until its next submit, told of only where something is left over.

use super::{Ring, Sending, tolerate};
use crate::RingError;
use crate::key::{Key, Op, pack, unpack};
use crate::outbox::{Piece, Posted};
use crate::slots::InFlight;
use io_uring::{opcode, squeue, types};

impl Ring {
    /// Copies bytes into the ring, to be sent by [`Ring::post`] to one socket or to many. They are kept until what was
    /// queued has been handed to the kernel: use a piece at once. Submits, where there is no room otherwise. `None`: they
    /// are none or more than 256 KiB, or the kernel takes nothing now; [`Ring::send`] does.
    pub fn put(&mut self, bytes: &[u8]) -> Option<Piece> {
        if let Some(piece) = self.outbox.put(bytes) {
            return Some(piece);
        }
        self.submit().ok()?;
        self.outbox.put(bytes)
    }

    /// The socket is known, not closing, and has no send in flight.
    #[must_use]
    pub fn may_send(&self, key: Key) -> bool {
        self.slots.is_live(key) && self.slots.in_flight(key) & Op::Send.bit() == 0
    }

    /// Sends a piece with the next submit, at once or not at all, as much as the socket takes. Where it takes all, nothing
    /// is told, and the next send may follow after that submit. Otherwise [`crate::Event::Sent`] brings a copy of the piece, as after
    /// a [`Ring::send`] of it.
    ///
    /// # Errors
    /// [`RingError::Stale`] for the key, and for a piece that is not kept any more; [`RingError::Busy`] when a send is in
    /// flight, or when no more fit into one submit: submit first.
    pub fn post(&mut self, key: Key, piece: Piece) -> Result<(), RingError> {
        let Some(bytes) = self.outbox.bytes(piece) else {
            return Err(RingError::Stale);
        };
        let at = bytes.as_ptr();
        if !self.outbox.has_place() {
            return Err(RingError::Busy);
        }
        self.begin(key, Op::Send)?;
        let place = u32::try_from(self.outbox.posted.len()).unwrap_or(u32::MAX);
        self.slots.set_send(key, InFlight::Posted(place));
        self.outbox.posted.push(Posted { key, piece });
        // To wait for all and not to block makes a send of a part one that failed, which is told.
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        let entry = opcode::Send::new(types::Fixed(key.index), at, piece.len32())
            .flags(flags)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS);
        self.push(entry.user_data(pack(Op::Send, key)));
        Ok(())
    }

    /// Once the kernel has taken everything that was queued, every post has ended: those that failed have completions.
    pub(super) fn settle(&mut self) {
        if self.outbox.is_empty() || !self.uring.submission().is_empty() || !self.overdue.is_empty()
        {
            return;
        }
        if !self.outbox.posted.is_empty() {
            loop {
                self.batch.extend(self.uring.completion());
                // What the queue had no room for is with the kernel, and may be a failure too.
                if !self.uring.submission().cq_overflow() || tolerate(self.uring.submit()).is_err()
                {
                    break;
                }
            }
            // Also of those that came before, when the queue was full: a key has one send in flight.
            for at in 0..self.batch.len() {
                if let Some((Op::Send, key)) = unpack(self.batch[at].user_data()) {
                    self.keep_posted(key);
                }
            }
        }
        for at in 0..self.outbox.posted.len() {
            let key = self.outbox.posted[at].key;
            let place = u32::try_from(at).unwrap_or(u32::MAX);
            if self.slots.end_posted(key, place) {
                self.close_if_quiet(key);
            }
        }
        self.outbox.forget();
    }

    /// A post has left something over: its bytes become those of a send.
    pub(super) fn keep_posted(&mut self, key: Key) {
        if let Some(InFlight::Posted(place)) = self.slots.send_of(key)
            && let Some(posted) = self.outbox.posted.get(place as usize)
            && let Some(bytes) = self.outbox.bytes(posted.piece)
        {
            let buf = bytes.to_vec();
            let place = self.keep(Sending { buf, from: 0 });
            self.slots.set_send(key, InFlight::Kept(place));
        }
    }
}
