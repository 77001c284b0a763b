//! The io_uring driver: rings, direct descriptors, provided buffers, wakers, mailboxes and a timer wheel.
//!
//! It moves bytes and decides nothing: no protocol, no policy, no noun of the product. A [`Ring`] owns a table of
//! sockets as *direct descriptors* (they leave the process's descriptor table) and names each by a [`Key`], whose
//! index is dense (below [`RingConfig::files`]), so that a caller keeps its own state in a plain table by
//! [`Key::index`]. Every completion carries the key's generation: what belongs to an earlier socket of the same
//! slot is dropped, and a slot is used again only when nothing of its last socket is in flight.
//!
//! The life of one socket:
//!
//! 1. [`Ring::adopt`] takes the descriptor, [`Ring::poll_readable`] arms a multishot poll that costs 256 bytes
//!    while the socket is idle and pins no buffer.
//! 2. [`Event::Readable`] → [`Ring::recv`] → [`Event::Received`] with bytes in a provided buffer, given back on drop.
//! 3. [`Ring::send`] never waits: [`SendOutcome::WouldBlock`] → [`Ring::poll_writable`] → [`Event::Writable`].
//!    Cheaper for what fits: [`Ring::put`] and [`Ring::post`], whose completions are told only where something is left over.
//! 4. [`Ring::close`] cancels and closes; [`Event::Gone`] is the last event of the key.
//!
//! One thread turns: [`Ring::next_event`] until its budget is spent, then one [`Ring::submit`]. It parks either by
//! waiting for the ring's own descriptor to be readable ([`Ring`] is `AsFd`) or with [`Ring::submit_and_wait`].
//!
//! This is the only crate with unsafe code; every block has its `SAFETY`.

mod buffers;
mod error;
mod event;
mod key;
mod mailbox;
mod outbox;
mod ring;
mod slots;
mod waker;
mod wheel;

pub use buffers::RecvBuf;
pub use error::{Errno, RingError};
pub use event::{Event, RecvOutcome, SendOutcome};
pub use key::Key;
pub use mailbox::{Full, Receiver, Sender, mailbox};
pub use outbox::Piece;
pub use ring::{Ring, RingConfig};
pub use waker::Waker;
pub use wheel::{TimerHandle, TimerWheel};
