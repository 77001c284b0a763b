//! Provided buffers: memory that the kernel picks from when a receive has something to put there.

use std::cell::Cell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::{IoUring, types::BufRingEntry};

use crate::RingError;

/// The one buffer group of a ring.
pub(crate) const GROUP: u16 = 0;

/// An anonymous, page-aligned, zeroed mapping; pages cost memory only once touched.
struct Mapping {
    at: NonNull<u8>,
    len: usize,
}

impl Mapping {
    fn new(len: usize) -> Result<Self, RingError> {
        // SAFETY: an anonymous private mapping at an address of the kernel's choice touches no memory of ours.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(RingError::kernel("mmap", &std::io::Error::last_os_error()));
        }
        let at = NonNull::new(at.cast()).ok_or(RingError::Config("mmap gave a null address"))?;
        Ok(Self { at, len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping that `new` made, and nothing borrows from it any more.
        let result = unsafe { libc::munmap(self.at.as_ptr().cast(), self.len) };
        debug_assert_eq!(result, 0, "munmap of a mapping of our own");
    }
}

/// The buffers of one ring and the queue through which they go to the kernel.
pub(crate) struct Buffers {
    entries: Mapping,
    memory: Mapping,
    count: u16,
    buffer_bytes: u32,
    tail: Cell<u16>,
    lent: Cell<u16>,
}

impl Buffers {
    /// Maps `count` (a power of two) buffers of `buffer_bytes` and offers all of them to the kernel.
    pub(crate) fn register(
        ring: &IoUring,
        count: u16,
        buffer_bytes: u32,
    ) -> Result<Rc<Self>, RingError> {
        let buffers = Self {
            entries: Mapping::new(usize::from(count) * size_of::<BufRingEntry>())?,
            memory: Mapping::new(usize::from(count) * buffer_bytes as usize)?,
            count,
            buffer_bytes,
            tail: Cell::new(0),
            lent: Cell::new(0),
        };
        let address = buffers.entries.at.as_ptr() as u64;
        // SAFETY: the mapping holds `count` entries and outlives the ring: `Ring` drops its io_uring first, and
        // every `RecvBuf` keeps these buffers alive.
        unsafe {
            ring.submitter()
                .register_buf_ring_with_flags(address, count, GROUP, 0)
        }
        .map_err(|error| match error.raw_os_error() {
            Some(libc::EINVAL) => RingError::Unsupported("provided buffer rings"),
            _ => RingError::kernel("io_uring_register(PBUF_RING)", &error),
        })?;
        for id in 0..count {
            buffers.offer(id);
        }
        Ok(Rc::new(buffers))
    }

    /// Buffers that are held by [`RecvBuf`]s.
    pub(crate) fn lent(&self) -> u16 {
        self.lent.get()
    }

    pub(crate) fn buffer_bytes(&self) -> u32 {
        self.buffer_bytes
    }

    /// Takes what the kernel wrote. `None` when the kernel named a buffer or a length that cannot be.
    pub(crate) fn lend(self: &Rc<Self>, id: u16, len: u32) -> Option<RecvBuf> {
        if id >= self.count || len > self.buffer_bytes {
            return None;
        }
        self.lent.set(self.lent.get() + 1);
        Some(RecvBuf {
            buffers: Rc::clone(self),
            id,
            len,
        })
    }

    fn address(&self, id: u16) -> *mut u8 {
        let offset = usize::from(id) * self.buffer_bytes as usize;
        // SAFETY: `id < count`, so the buffer lies within the mapping.
        unsafe { self.memory.at.as_ptr().add(offset) }
    }

    fn take_back(&self, id: u16) {
        self.lent.set(self.lent.get() - 1);
        self.offer(id);
    }

    /// Puts a buffer at the tail of the kernel's queue. Never overfull: each id is offered only when it is ours.
    fn offer(&self, id: u16) {
        let tail = self.tail.get();
        let at = usize::from(tail & (self.count - 1));
        let base: *mut BufRingEntry = self.entries.at.as_ptr().cast();
        // SAFETY: `at < count` and the mapping holds `count` entries.
        let entry = unsafe { base.add(at) };
        // SAFETY: the kernel reads an entry only below the tail it sees, and this one is at the tail; one thread
        // writes, because `Buffers` is not `Sync`. Entry 0 shares its reserved field with the tail, which the three
        // setters leave alone.
        let entry = unsafe { &mut *entry };
        entry.set_addr(self.address(id) as u64);
        entry.set_len(self.buffer_bytes);
        entry.set_bid(id);
        let tail = tail.wrapping_add(1);
        self.tail.set(tail);
        // SAFETY: `base` is the first, initialised (zeroed or written) entry of the queue.
        let shared = unsafe { BufRingEntry::tail(base) };
        // SAFETY: aligned, valid for the life of the mapping, and shared with the kernel by atomic access only.
        let shared = unsafe { AtomicU16::from_ptr(shared.cast_mut()) };
        shared.store(tail, Ordering::Release);
    }
}

impl fmt::Debug for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffers")
            .field("count", &self.count)
            .field("buffer_bytes", &self.buffer_bytes)
            .field("lent", &self.lent.get())
            .finish_non_exhaustive()
    }
}

/// Received bytes in a buffer of the ring, writable in place. Dropping it offers the buffer to the kernel again:
/// hold it no longer than one turn of the loop.
pub struct RecvBuf {
    buffers: Rc<Buffers>,
    id: u16,
    len: u32,
}

impl Deref for RecvBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let at = self.buffers.address(self.id);
        // SAFETY: the kernel gave this buffer to us with `len <= buffer_bytes` initialised bytes, and takes it back
        // only after `drop`; the memory lives as long as `buffers`.
        unsafe { std::slice::from_raw_parts(at, self.len as usize) }
    }
}

impl DerefMut for RecvBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        let at = self.buffers.address(self.id);
        // SAFETY: as in `deref`, and there is one `RecvBuf` per lent buffer.
        unsafe { std::slice::from_raw_parts_mut(at, self.len as usize) }
    }
}

impl Drop for RecvBuf {
    fn drop(&mut self) {
        self.buffers.take_back(self.id);
    }
}

impl fmt::Debug for RecvBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvBuf")
            .field("id", &self.id)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}
