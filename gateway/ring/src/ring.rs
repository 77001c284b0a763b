//! The ring itself: submission, completion, and the operations on sockets.

mod config;
mod posts;

pub use config::RingConfig;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use crate::buffers::{Buffers, GROUP};
use crate::key::{Key, Op, pack, unpack};
use crate::outbox::Outbox;
use crate::slots::{InFlight, Slots};
use crate::{Errno, Event, RecvOutcome, RingError, SendOutcome, Waker};

/// Completions are taken from the kernel in batches of this many.
const BATCH: usize = 256;

/// Bytes and sends that wait for one submit.
const OUTBOX_BYTES: usize = 256 << 10;
const POSTED_MAX: usize = 1024;

/// The key of the ring's own eventfd; its operation, not its index, tells it from a slot.
const WAKE_KEY: Key = Key {
    index: 0,
    generation: 0,
};

/// A buffer on its way out; the kernel reads it until the completion.
pub(super) struct Sending {
    pub(super) buf: Vec<u8>,
    pub(super) from: usize,
}

/// One io_uring with its table of sockets. Made and used in one thread (it is not `Send`).
pub struct Ring {
    // The order of the fields matters: the io_uring is dropped before the memory that the kernel may touch.
    pub(super) uring: IoUring,
    buffers: Rc<Buffers>,
    /// The sends in flight; `free_sends` are the empty places.
    sends: Vec<Option<Sending>>,
    free_sends: Vec<u32>,
    pub(super) outbox: Outbox,
    pub(super) slots: Slots,
    waker: Waker,
    /// Completions taken from the kernel and not yet handed out.
    pub(super) batch: VecDeque<cqueue::Entry>,
    /// Operations that found the submission queue full and the kernel unwilling; at most seven per socket.
    pub(super) overdue: VecDeque<squeue::Entry>,
    /// `Gone` events that no completion brings.
    gone: VecDeque<Key>,
    files: u32,
}

impl Ring {
    /// Whether this process may use io_uring at all, for a check at start, before any thread.
    ///
    /// # Errors
    /// As [`Ring::new`]; all are the operator's to mend.
    pub fn probe() -> Result<(), RingError> {
        let config = RingConfig {
            sq_entries: 8,
            cq_entries: 16,
            files: 1,
            buffers: 1,
            buffer_bytes: 64,
        };
        Self::new(config).map(drop)
    }

    /// A ring with an empty table, all buffers with the kernel, and its waker armed.
    ///
    /// # Errors
    /// [`RingError::Unavailable`] where the kernel or a sandbox forbids io_uring, [`RingError::Unsupported`] where the
    /// kernel is too old, [`RingError::TooManyFiles`] and [`RingError::Config`] for the configuration.
    pub fn new(config: RingConfig) -> Result<Self, RingError> {
        config.check()?;
        let uring = build(&config)?;
        uring
            .submitter()
            .register_files_sparse(config.files)
            .map_err(|error| match error.raw_os_error() {
                Some(libc::EMFILE) => RingError::TooManyFiles {
                    asked: config.files,
                    limit: descriptor_limit(),
                },
                Some(libc::EINVAL) => RingError::Unsupported("sparse direct descriptor tables"),
                _ => RingError::kernel("io_uring_register(FILES2)", &error),
            })?;
        let buffers = Buffers::register(&uring, config.buffers, config.buffer_bytes)?;
        let waker = Waker::new().map_err(|error| RingError::kernel("eventfd", &error))?;
        let mut ring = Self {
            uring,
            buffers,
            sends: Vec::new(),
            free_sends: Vec::new(),
            outbox: Outbox::new(OUTBOX_BYTES, POSTED_MAX),
            slots: Slots::new(config.files),
            waker,
            batch: VecDeque::with_capacity(BATCH),
            overdue: VecDeque::new(),
            gone: VecDeque::new(),
            files: config.files,
        };
        ring.arm_waker();
        Ok(ring)
    }

    /// What wakes this ring's thread: [`Event::Woken`].
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Takes a connected (or connecting) socket into the table and closes its descriptor. Two system calls.
    ///
    /// # Errors
    /// [`RingError::Full`] and kernel failures, with the descriptor, unharmed.
    pub fn adopt(&mut self, fd: OwnedFd) -> Result<Key, (OwnedFd, RingError)> {
        let Some(key) = self.slots.take() else {
            return Err((fd, RingError::Full));
        };
        let raw = [fd.as_raw_fd()];
        match self
            .uring
            .submitter()
            .register_files_update(key.index, &raw)
        {
            Ok(_) => Ok(key),
            Err(error) => {
                self.slots.give_back(key);
                Err((
                    fd,
                    RingError::kernel("io_uring_register(FILES_UPDATE)", &error),
                ))
            }
        }
    }

    /// Arms the poll for incoming bytes; it stays armed (and is armed anew where the kernel ends it) until the close.
    /// 256 bytes of kernel memory.
    ///
    /// # Errors
    /// [`RingError::Stale`]; [`RingError::Busy`] when it is armed already.
    pub fn poll_readable(&mut self, key: Key) -> Result<(), RingError> {
        self.begin(key, Op::PollRead)?;
        self.push(poll_read_entry(key));
        Ok(())
    }

    /// Reports once when the socket takes bytes.
    ///
    /// # Errors
    /// [`RingError::Stale`]; [`RingError::Busy`] when it is armed already.
    pub fn poll_writable(&mut self, key: Key) -> Result<(), RingError> {
        self.begin(key, Op::PollWrite)?;
        let entry = opcode::PollAdd::new(types::Fixed(key.index), POLL_OUT).build();
        self.push(entry.user_data(pack(Op::PollWrite, key)));
        Ok(())
    }

    /// Receives into a provided buffer, at once or not at all.
    ///
    /// # Errors
    /// [`RingError::Stale`]; [`RingError::Busy`] when a receive is in flight.
    pub fn recv(&mut self, key: Key) -> Result<(), RingError> {
        self.begin(key, Op::Recv)?;
        let entry = opcode::Recv::new(
            types::Fixed(key.index),
            std::ptr::null_mut(),
            self.buffers.buffer_bytes(),
        )
        .flags(libc::MSG_DONTWAIT)
        .buf_group(GROUP)
        .build()
        .flags(squeue::Flags::BUFFER_SELECT);
        self.push(entry.user_data(pack(Op::Recv, key)));
        Ok(())
    }

    /// Sends `buf[from..]`, at once or not at all, as much as the socket takes. The ring keeps the buffer and gives it
    /// back in [`Event::Sent`]. One send per socket is in flight at a time, so order is kept.
    ///
    /// # Errors
    /// With the buffer: [`RingError::Stale`], [`RingError::Busy`], or [`RingError::Config`] where nothing would be sent.
    pub fn send(
        &mut self,
        key: Key,
        buf: Vec<u8>,
        from: usize,
    ) -> Result<(), (Vec<u8>, RingError)> {
        let Some(rest) = buf.get(from..).filter(|rest| !rest.is_empty()) else {
            return Err((buf, RingError::Config("a send of no bytes")));
        };
        let at = rest.as_ptr();
        // What does not fit a length of 32 bits is sent by a next call.
        let len = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        if let Err(error) = self.begin(key, Op::Send) {
            return Err((buf, error));
        }
        let place = self.keep(Sending { buf, from });
        self.slots.set_send(key, InFlight::Kept(place));
        let entry = opcode::Send::new(types::Fixed(key.index), at, len)
            .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
            .build();
        self.push(entry.user_data(pack(Op::Send, key)));
        Ok(())
    }

    /// Ends our direction of the connection after what was sent; the peer reads an end of stream.
    ///
    /// # Errors
    /// [`RingError::Stale`]; [`RingError::Busy`] when one is in flight.
    pub fn shutdown_write(&mut self, key: Key) -> Result<(), RingError> {
        self.begin(key, Op::Shutdown)?;
        let entry = opcode::Shutdown::new(types::Fixed(key.index), libc::SHUT_WR).build();
        self.push(entry.user_data(pack(Op::Shutdown, key)));
        Ok(())
    }

    /// Closes the socket: the key is stale at once, what is in flight is cancelled, and [`Event::Gone`] comes when the
    /// last of it has ended. A send in flight still returns its buffer first.
    ///
    /// # Errors
    /// [`RingError::Stale`] when it is closed already.
    pub fn close(&mut self, key: Key) -> Result<(), RingError> {
        if !self.slots.is_live(key) {
            return Err(RingError::Stale);
        }
        self.slots.set_closing(key);
        if self.slots.in_flight(key) == 0 {
            self.push_close(key);
            return Ok(());
        }
        let begun = self.slots.begin(key, Op::Cancel);
        assert!(begun, "only a close cancels, and it comes once");
        let all = types::CancelBuilder::fd(types::Fixed(key.index)).all();
        self.push(
            opcode::AsyncCancel2::new(all)
                .build()
                .user_data(pack(Op::Cancel, key)),
        );
        Ok(())
    }

    /// Hands everything queued to the kernel: one system call, none when nothing is queued.
    ///
    /// # Errors
    /// Only what no retry mends ([`RingError::Kernel`]); a busy or interrupted kernel is not an error.
    pub fn submit(&mut self) -> Result<(), RingError> {
        self.flush_overdue();
        let (idle, pending) = {
            let queue = self.uring.submission();
            (queue.is_empty(), queue.taskrun() || queue.cq_overflow())
        };
        if !idle || pending {
            tolerate(self.uring.submit())?;
        }
        self.settle();
        if self.uring.submission().is_empty() {
            return Ok(());
        }
        // A socket that was to be closed after a post, or what the kernel did not take.
        tolerate(self.uring.submit()).map(drop)
    }

    pub(super) fn close_if_quiet(&mut self, key: Key) {
        if self.slots.is_closing(key) && self.slots.in_flight(key) == 0 {
            self.push_close(key);
        }
    }

    /// Submits, then blocks until at least one completion is there or `timeout` has passed. For threads that are
    /// parked by nothing else.
    ///
    /// # Errors
    /// As [`Ring::submit`].
    pub fn submit_and_wait(&mut self, timeout: Duration) -> Result<(), RingError> {
        self.flush_overdue();
        if self.has_events() || !self.outbox.is_empty() {
            return self.submit();
        }
        let timespec = types::Timespec::from(timeout);
        let args = types::SubmitArgs::new().timespec(&timespec);
        tolerate(self.uring.submitter().submit_with_args(1, &args)).map(drop)
    }

    /// Something waits for [`Ring::next_event`]: do not park.
    pub fn has_events(&mut self) -> bool {
        !self.batch.is_empty() || !self.gone.is_empty() || !self.uring.completion().is_empty()
    }

    /// The next thing that happened, or `None`. No system call.
    pub fn next_event(&mut self) -> Option<Event> {
        loop {
            if let Some(key) = self.gone.pop_front() {
                return Some(Event::Gone { key });
            }
            if self.batch.is_empty() {
                let mut queue = self.uring.completion();
                self.batch.extend(queue.by_ref().take(BATCH));
            }
            let entry = self.batch.pop_front()?;
            if let Some(event) = self.complete(&entry) {
                return Some(event);
            }
        }
    }

    /// Calls `each` for at most `max` events; true when the budget ended it, so that more may wait.
    pub fn drain(&mut self, max: usize, mut each: impl FnMut(&mut Self, Event)) -> bool {
        for _ in 0..max {
            let Some(event) = self.next_event() else {
                return false;
            };
            each(self, event);
        }
        true
    }

    /// Whether the key names an adopted socket that is not closing.
    #[must_use]
    pub fn is_live(&self, key: Key) -> bool {
        self.slots.is_live(key)
    }

    /// How many operations of the key have no completion yet.
    #[must_use]
    pub fn in_flight(&self, key: Key) -> u32 {
        self.slots.in_flight(key).count_ones()
    }

    /// Sockets in the table, closing ones included.
    #[must_use]
    pub fn sockets(&self) -> u32 {
        self.slots.open()
    }

    /// Slots of the table.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.files
    }

    /// Provided buffers that are held by [`crate::RecvBuf`]s right now.
    #[must_use]
    pub fn buffers_lent(&self) -> u16 {
        self.buffers.lent()
    }

    pub(super) fn begin(&mut self, key: Key, op: Op) -> Result<(), RingError> {
        if !self.slots.is_live(key) {
            return Err(RingError::Stale);
        }
        if !self.slots.begin(key, op) {
            return Err(RingError::Busy);
        }
        Ok(())
    }

    pub(super) fn keep(&mut self, sending: Sending) -> u32 {
        if let Some(place) = self.free_sends.pop() {
            self.sends[place as usize] = Some(sending);
            return place;
        }
        self.sends.push(Some(sending));
        u32::try_from(self.sends.len() - 1).unwrap_or(u32::MAX)
    }

    fn arm_waker(&mut self) {
        let fd = types::Fd(self.waker.as_raw_fd());
        let entry = opcode::PollAdd::new(fd, POLL_IN).multi(true).build();
        self.push(entry.user_data(pack(Op::Wake, WAKE_KEY)));
    }

    fn push_close(&mut self, key: Key) {
        let begun = self.slots.begin(key, Op::Close);
        assert!(begun, "a socket is closed once");
        let entry = opcode::Close::new(types::Fixed(key.index)).build();
        self.push(entry.user_data(pack(Op::Close, key)));
    }

    /// Queues an entry; a full queue is submitted first.
    pub(super) fn push(&mut self, entry: squeue::Entry) {
        if !self.overdue.is_empty() || !self.try_push(&entry) {
            self.overdue.push_back(entry);
            self.flush_overdue();
        }
    }

    fn flush_overdue(&mut self) {
        while let Some(entry) = self.overdue.pop_front() {
            if self.try_push(&entry) {
                continue;
            }
            // Full: hand over what is queued. Where the kernel takes nothing now, the next submit tries again.
            let submitted = self.uring.submit();
            if submitted.is_err() || !self.try_push(&entry) {
                self.overdue.push_front(entry);
                return;
            }
        }
    }

    fn try_push(&mut self, entry: &squeue::Entry) -> bool {
        let mut queue = self.uring.submission();
        // SAFETY: what an entry points to stays valid until its completion: send buffers are kept in `sends`, their
        // heap bytes do not move with the `Vec`, and receives name the registered buffer group only.
        unsafe { queue.push(entry) }.is_ok()
    }

    /// Turns a completion into an event; `None` where there is nothing to tell.
    fn complete(&mut self, entry: &cqueue::Entry) -> Option<Event> {
        let (op, key) = unpack(entry.user_data())?;
        let result = entry.result();
        let more = cqueue::more(entry.flags());
        if op == Op::Wake {
            if !more {
                self.arm_waker();
            }
            self.waker.rearm();
            return Some(Event::Woken);
        }
        // A provided buffer goes back also where nobody wants its bytes.
        let data = cqueue::buffer_select(entry.flags())
            .and_then(|id| self.buffers.lend(id, u32::try_from(result).unwrap_or(0)));
        if !self.slots.is_known(key) {
            return None;
        }
        if !more {
            self.slots.end(key, op);
        }
        let live = self.slots.is_live(key);
        if op == Op::Send {
            self.keep_posted(key);
        }
        let event = match op {
            Op::PollRead => live.then(|| self.readable(key, result, more)),
            Op::PollWrite => live.then(|| Event::Writable {
                key,
                hangup: broken(result),
            }),
            Op::Recv => live.then(|| {
                let nonempty = cqueue::sock_nonempty(entry.flags());
                received(key, result, data, nonempty, self.buffers.buffer_bytes())
            }),
            Op::Send => self.sent(key, result),
            Op::Shutdown => live.then_some(Event::ShutDown { key }),
            Op::Cancel | Op::Wake => None,
            Op::Close => {
                self.slots.give_back(key);
                return Some(Event::Gone { key });
            }
        };
        self.close_if_quiet(key);
        event
    }

    fn readable(&mut self, key: Key, result: i32, more: bool) -> Event {
        let hangup = broken(result) || (result > 0 && result.cast_unsigned() & POLL_RDHUP != 0);
        if !more && result >= 0 {
            // The kernel ended the multishot (its completion queue was full): the caller has not, so arm it anew.
            let begun = self.slots.begin(key, Op::PollRead);
            assert!(begun, "the poll has just ended");
            self.push(poll_read_entry(key));
        }
        Event::Readable { key, hangup }
    }

    fn sent(&mut self, key: Key, result: i32) -> Option<Event> {
        let InFlight::Kept(place) = self.slots.take_send(key)? else {
            return None;
        };
        let Sending { buf, from } = self.sends[place as usize].take()?;
        self.free_sends.push(place);
        let outcome = match usize::try_from(result) {
            Ok(sent) => SendOutcome::Sent(sent),
            Err(_) if -result == libc::EAGAIN || -result == libc::EINTR => SendOutcome::WouldBlock,
            Err(_) => SendOutcome::Failed(Errno(-result)),
        };
        Some(Event::Sent {
            key,
            buf,
            from,
            outcome,
        })
    }
}

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        self.uring.as_raw_fd()
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring's descriptor is open as long as the ring, which the result borrows.
        unsafe { BorrowedFd::borrow_raw(self.uring.as_raw_fd()) }
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("fd", &self.uring.as_raw_fd())
            .field("sockets", &self.slots.open())
            .field("capacity", &self.files)
            .field("buffers", &self.buffers)
            .finish_non_exhaustive()
    }
}

const POLL_IN: u32 = libc::POLLIN.cast_unsigned() as u32;
const POLL_OUT: u32 = libc::POLLOUT.cast_unsigned() as u32;
const POLL_RDHUP: u32 = libc::POLLRDHUP.cast_unsigned() as u32;
const POLL_BROKEN: u32 = (libc::POLLERR | libc::POLLHUP).cast_unsigned() as u32;

fn poll_read_entry(key: Key) -> squeue::Entry {
    opcode::PollAdd::new(types::Fixed(key.index), POLL_IN | POLL_RDHUP)
        .multi(true)
        .build()
        .user_data(pack(Op::PollRead, key))
}

/// Whether a poll's result tells of a broken connection.
fn broken(result: i32) -> bool {
    result < 0 || result.cast_unsigned() & POLL_BROKEN != 0
}

fn received(
    key: Key,
    result: i32,
    data: Option<crate::RecvBuf>,
    nonempty: bool,
    buffer_bytes: u32,
) -> Event {
    let outcome = match (u32::try_from(result), data) {
        (Ok(0), _) => RecvOutcome::End,
        (Ok(len), Some(data)) => RecvOutcome::Data {
            data,
            more: nonempty || len == buffer_bytes,
        },
        (Ok(_), None) => RecvOutcome::Failed(Errno(libc::EIO)),
        (Err(_), _) if -result == libc::ENOBUFS => RecvOutcome::NoBuffers,
        (Err(_), _) if -result == libc::EAGAIN || -result == libc::EINTR => RecvOutcome::WouldBlock,
        (Err(_), _) => RecvOutcome::Failed(Errno(-result)),
    };
    Event::Received { key, outcome }
}

fn build(config: &RingConfig) -> Result<IoUring, RingError> {
    // Completions then run when the thread enters the kernel anyway instead of interrupting it; not DEFER_TASKRUN,
    // under which the ring's descriptor never becomes readable to a waiting runtime.
    let uring: IoUring = IoUring::builder()
        .dontfork()
        .setup_clamp()
        .setup_cqsize(config.cq_entries)
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .build(config.sq_entries)
        .map_err(|error| match error.raw_os_error() {
            Some(libc::ENOSYS | libc::EPERM | libc::EACCES) => {
                RingError::Unavailable(Errno::of(&error))
            }
            Some(libc::EINVAL) => RingError::Unsupported("cooperative task running"),
            _ => RingError::kernel("io_uring_setup", &error),
        })?;
    if !uring.params().is_feature_nodrop() || !uring.params().is_feature_ext_arg() {
        return Err(RingError::Unsupported("lossless completion queues"));
    }
    if !uring.params().is_feature_skip_cqe_on_success() {
        return Err(RingError::Unsupported("silence about what succeeds"));
    }
    Ok(uring)
}

/// A busy, interrupted or timed-out kernel is met again in the next turn.
pub(super) fn tolerate(result: io::Result<usize>) -> Result<usize, RingError> {
    result.or_else(|error| match error.raw_os_error() {
        Some(libc::EINTR | libc::EBUSY | libc::EAGAIN | libc::ETIME) => Ok(0),
        _ => Err(RingError::kernel("io_uring_enter", &error)),
    })
}

fn descriptor_limit() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: a valid pointer to write one `rlimit` through.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    if result == 0 { limit.rlim_cur } else { 0 }
}
