//! Waiting for a descriptor within the core's runtime.
//!
//! monoio waits on its own socket types only; any descriptor that can be polled becomes one here.
//! The wait is an operation of the runtime's ring: nothing is read, no buffer is pinned.

use std::io;
use std::net::TcpStream as StdStream;
use std::os::fd::{AsFd, OwnedFd};

/// A second handle on a descriptor, for waiting only.
pub(crate) struct Readiness {
    stream: monoio::net::TcpStream,
}

impl Readiness {
    /// For `of`, which stays its owner's; costs one descriptor while it lives.
    ///
    /// # Errors
    /// The process is out of descriptors.
    pub(crate) fn of(of: &impl AsFd) -> io::Result<Self> {
        Self::from_owned(of.as_fd().try_clone_to_owned()?)
    }

    /// Takes over a descriptor.
    ///
    /// # Errors
    /// The runtime refuses it.
    pub(crate) fn from_owned(fd: OwnedFd) -> io::Result<Self> {
        let stream = monoio::net::TcpStream::from_std(StdStream::from(fd))?;
        Ok(Self { stream })
    }

    /// Returns when there is something to read, or the other side has gone.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.stream.readable(true).await
    }

    /// Returns when there is room to write, or the other side has gone.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.stream.writable(true).await
    }
}
