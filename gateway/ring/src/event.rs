//! What the ring reports.

use crate::{Errno, Key, RecvBuf};

/// One thing that happened. The event of a key that was closed in the meantime is not delivered, except its
/// [`Event::Sent`] (which returns the buffer) and [`Event::Gone`].
#[derive(Debug)]
pub enum Event {
    /// Bytes, an end of stream or an error wait to be received. The poll stays armed; it reports arrivals, so
    /// receive until [`RecvOutcome::Data`] says that no more waits, or until [`RecvOutcome::WouldBlock`].
    Readable {
        /// The socket.
        key: Key,
        /// The peer has closed its side, or the connection is broken.
        hangup: bool,
    },
    /// The socket takes bytes again (or fails on the next send).
    Writable {
        /// The socket.
        key: Key,
        /// The connection is broken; for a socket that was connecting: it was refused.
        hangup: bool,
    },
    /// A [`crate::Ring::recv`] is done.
    Received {
        /// The socket.
        key: Key,
        /// What came.
        outcome: RecvOutcome,
    },
    /// A [`crate::Ring::send`] is done.
    Sent {
        /// The socket; after [`crate::Ring::close`] it is no longer valid, only the buffer comes back.
        key: Key,
        /// The buffer, unchanged.
        buf: Vec<u8>,
        /// The place that the send began at.
        from: usize,
        /// How much of it went.
        outcome: SendOutcome,
    },
    /// A [`crate::Ring::shutdown_write`] is done.
    ShutDown {
        /// The socket.
        key: Key,
    },
    /// A closed socket's last operation has ended, the socket is closed and its slot may be used again. The last
    /// event of the key: free its state here.
    Gone {
        /// The socket that was.
        key: Key,
    },
    /// The ring's [`crate::Waker`] was used, at least once since the last such event.
    Woken,
}

/// How a receive ended.
#[derive(Debug)]
pub enum RecvOutcome {
    /// Bytes (at least one), and whether more may wait: then receive again.
    Data {
        /// The bytes, writable in place; the buffer goes back to the ring when it is dropped.
        data: RecvBuf,
        /// More may wait in the socket.
        more: bool,
    },
    /// The peer has closed its side.
    End,
    /// Nothing waits; the armed poll will tell.
    WouldBlock,
    /// All provided buffers are in use: drop some, then receive again.
    NoBuffers,
    /// The connection is broken.
    Failed(Errno),
}

/// How a send ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendOutcome {
    /// This many bytes from `from` on were taken, at least one; fewer than asked for when the socket is full.
    Sent(usize),
    /// The socket is full; poll for writable.
    WouldBlock,
    /// The connection is broken.
    Failed(Errno),
}
