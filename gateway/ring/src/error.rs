//! What can go wrong, by whose fault.

use std::fmt;
use std::io;

/// An `errno` value as a completion or a system call gave it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl Errno {
    /// The errno of an `io::Error`, or `EIO` where it carries none.
    #[must_use]
    pub fn of(error: &io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or(libc::EIO))
    }

    /// The same as an `io::Error`.
    #[must_use]
    pub fn to_io(self) -> io::Error {
        io::Error::from_raw_os_error(self.0)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_io().fmt(f)
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Errno({}, {})", self.0, self.to_io())
    }
}

/// Why the ring refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// The kernel has no io_uring for this process (operator's fault).
    #[error(
        "io_uring is missing ({0}): it needs Linux 6.1 or newer, kernel.io_uring_disabled=0, and a container \
         runtime whose seccomp profile allows io_uring_setup, io_uring_enter and io_uring_register"
    )]
    Unavailable(Errno),
    /// The kernel has io_uring but lacks something this driver needs (operator's fault).
    #[error("this kernel's io_uring lacks {0}: Linux 6.1 or newer is needed")]
    Unsupported(&'static str),
    /// More direct descriptors were asked for than the descriptor limit allows in one ring (operator's fault).
    #[error(
        "a ring cannot hold {asked} direct descriptors: RLIMIT_NOFILE is {limit}; lower it or use several rings"
    )]
    TooManyFiles {
        /// What the configuration asked for.
        asked: u32,
        /// The process's soft limit of descriptors.
        limit: u64,
    },
    /// A value of [`crate::RingConfig`] is out of its range (the caller's fault).
    #[error("ring configuration: {0}")]
    Config(&'static str),
    /// Every direct descriptor slot is taken: shed the connection.
    #[error("every direct descriptor slot of the ring is taken")]
    Full,
    /// The key's socket is gone or closing.
    #[error("the key names no open socket")]
    Stale,
    /// The same kind of operation is already in flight for the key.
    #[error("an operation of this kind is already in flight for the key")]
    Busy,
    /// A system call failed for another reason.
    #[error("{call} failed: {errno}")]
    Kernel {
        /// The system call, or the register operation.
        call: &'static str,
        /// Its error.
        errno: Errno,
    },
}

impl RingError {
    pub(crate) fn kernel(call: &'static str, error: &io::Error) -> Self {
        Self::Kernel {
            call,
            errno: Errno::of(error),
        }
    }
}
