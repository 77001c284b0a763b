//! Waking a ring's thread from any other.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Debug)]
struct Shared {
    eventfd: OwnedFd,
    /// A wake is on its way: further ones need no system call.
    pending: AtomicBool,
}

/// Wakes one thread through an eventfd. Cloned freely; any thread, also one that is not ours, may call
/// [`Waker::wake`]. Many wakes before the thread looks are one.
#[derive(Clone, Debug)]
pub struct Waker {
    shared: Arc<Shared>,
}

impl Waker {
    /// A waker of its own, for a thread that has no ring. A ring brings its own: [`crate::Ring::waker`].
    ///
    /// # Errors
    /// The process is out of descriptors.
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes no pointer.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a fresh descriptor that nothing else owns.
        let eventfd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self {
            shared: Arc::new(Shared {
                eventfd,
                pending: AtomicBool::new(false),
            }),
        })
    }

    /// Wakes the thread. A system call only where no wake is pending. Never blocks, never fails.
    pub fn wake(&self) {
        if self.shared.pending.swap(true, Ordering::AcqRel) {
            return;
        }
        let one = 1_u64.to_ne_bytes();
        // SAFETY: eight readable bytes, as the length says.
        let written = unsafe { libc::write(self.as_raw_fd(), one.as_ptr().cast(), one.len()) };
        // It fails only when the counter is full, and then the descriptor is readable already.
        debug_assert!(
            written == 8 || io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock
        );
    }

    /// Arms the next wake: call it after the descriptor was readable and **before** looking at what the wake is
    /// about. The ring does its own before it reports [`crate::Event::Woken`].
    pub fn acknowledge(&self) {
        let mut count = [0_u8; 8];
        // SAFETY: eight writable bytes, as the length says.
        let read = unsafe { libc::read(self.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
        // It may find nothing (a spurious turn): no harm.
        debug_assert!(read == 8 || io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock);
        self.rearm();
    }

    /// The same without emptying the counter, for an edge-triggered poll. What a sender did before a wake that was
    /// coalesced is visible after this: the exchange reads the sender's.
    pub(crate) fn rearm(&self) {
        self.shared.pending.swap(false, Ordering::AcqRel);
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.eventfd.as_fd()
    }
}

impl AsRawFd for Waker {
    fn as_raw_fd(&self) -> RawFd {
        self.shared.eventfd.as_raw_fd()
    }
}
