//! Established sessions: what one connection holds once its owner core has it.

pub(crate) mod connection;
pub(crate) mod deflate;
pub(crate) mod output;
pub(crate) mod pool;
pub(crate) mod write;

use hawser_ring::Key;

/// Names one session of one core while it lives; a stale one finds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SessionId {
    /// Which of the core's rings.
    pub(crate) ring: u16,
    /// The socket's place in that ring.
    pub(crate) key: Key,
}
