//! Buffers that are used again: a session holds one only while it has something to say.

use super::output::Busy;

/// Buffers kept, and the largest that is.
const KEPT: usize = 256;
const KEPT_BYTES_MAX: usize = 128 << 10;
const FRESH_BYTES: usize = 4 << 10;

/// One core's spare buffers; at most 32 MiB, in practice what the last busy moment needed.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    spare: Vec<Vec<u8>>,
    #[expect(clippy::vec_box, reason = "the boxes are what is used again")]
    busy: Vec<Box<Busy>>,
}

impl Pool {
    /// An empty buffer.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.spare
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(FRESH_BYTES))
    }

    /// Gives one back.
    pub(crate) fn give(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < KEPT && (1..=KEPT_BYTES_MAX).contains(&buffer.capacity()) {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    /// State of a connection that is to have output.
    pub(super) fn take_busy(&mut self) -> Box<Busy> {
        self.busy.pop().unwrap_or_default()
    }

    /// Gives it back, its buffers too.
    pub(super) fn give_busy(&mut self, busy: Option<Box<Busy>>) {
        let Some(mut busy) = busy else { return };
        for buffer in busy.reset() {
            self.give(buffer);
        }
        if self.busy.len() < KEPT {
            self.busy.push(busy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_empty_and_huge_ones_do_not() {
        let mut pool = Pool::default();
        pool.give(vec![1; 100]);
        let buffer = pool.take();
        assert!(buffer.is_empty() && buffer.capacity() >= 100);
        pool.give(Vec::with_capacity(KEPT_BYTES_MAX + 1));
        pool.give(Vec::new());
        assert!(pool.spare.is_empty());
    }
}
