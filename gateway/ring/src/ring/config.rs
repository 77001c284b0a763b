//! What a ring is made of.

use crate::RingError;

/// What a ring is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingConfig {
    /// Places of the submission queue: a power of two in 1..=32,768. More operations in one turn cost one more
    /// system call each time the queue is full. Default 1,024; 64 bytes each.
    pub sq_entries: u32,
    /// Places of the completion queue: a power of two, at least `sq_entries`, at most 65,536. What overflows is kept
    /// by the kernel and costs more. Default 8,192; 16 bytes each.
    pub cq_entries: u32,
    /// Slots for direct descriptors, 1..=RLIMIT_NOFILE (they are not counted in it). Default 16,384; 8 bytes each in
    /// the kernel and 12 here once used.
    pub files: u32,
    /// Provided buffers: a power of two in 1..=32,768. Default 256.
    pub buffers: u16,
    /// Bytes of each provided buffer, 64..=1 MiB; one receive takes at most this. Default 16,384.
    pub buffer_bytes: u32,
}

impl Default for RingConfig {
    fn default() -> Self {
        Self {
            sq_entries: 1024,
            cq_entries: 8192,
            files: 16_384,
            buffers: 256,
            buffer_bytes: 16_384,
        }
    }
}

impl RingConfig {
    pub(super) fn check(&self) -> Result<(), RingError> {
        let faults = [
            (
                !self.sq_entries.is_power_of_two() || self.sq_entries > 32_768,
                "sq_entries must be a power of two up to 32,768",
            ),
            (
                !self.cq_entries.is_power_of_two()
                    || self.cq_entries > 65_536
                    || self.cq_entries < self.sq_entries,
                "cq_entries must be a power of two from sq_entries up to 65,536",
            ),
            (
                self.files == 0 || self.files > (1 << 20),
                "files must be in 1..=1,048,576",
            ),
            (
                !self.buffers.is_power_of_two() || self.buffers > 32_768,
                "buffers must be a power of two up to 32,768",
            ),
            (
                !(64..=1 << 20).contains(&self.buffer_bytes),
                "buffer_bytes must be in 64..=1,048,576",
            ),
        ];
        match faults.into_iter().find(|(broken, _)| *broken) {
            Some((_, what)) => Err(RingError::Config(what)),
            None => Ok(()),
        }
    }
}
