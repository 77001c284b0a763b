//! Messages on their way out.

use flate2::{Compress, Compression, FlushCompress};

use super::{Deflate, KEPT_BYTES_MAX, TAIL};

/// Compresses one message after the other, none of which knows of another. About 370 KiB, whatever it compresses.
#[derive(Debug)]
pub struct Deflater {
    state: Compress,
    out: Vec<u8>,
}

impl Deflater {
    /// With a level from 1 (fastest) to 9 (smallest); what is beyond is taken for the nearest.
    #[must_use]
    pub fn new(level: u8) -> Self {
        let level = Compression::new(u32::from(level.clamp(1, 9)));
        Self {
            state: Compress::new(level, false),
            out: Vec::new(),
        }
    }

    /// The payload of a message whose first frame is to have RSV1 set; `None`: it would not be smaller, so it goes out as
    /// it is. Holds no more than the payload's length until the next call, then at most 128 KiB.
    pub fn compress(&mut self, agreed: Deflate, payload: &[u8]) -> Option<&[u8]> {
        self.state.reset();
        self.out.clear();
        self.out.shrink_to(KEPT_BYTES_MAX);
        // What does not fit here is of no use.
        self.out.reserve(payload.len() + TAIL.len());
        let mut pieces = payload.chunks(agreed.window_bytes()).peekable();
        while let Some(piece) = pieces.next() {
            let flush = match pieces.peek() {
                // Nothing that comes later refers to this piece.
                Some(_) => FlushCompress::Full,
                None => FlushCompress::Sync,
            };
            let taken = self.state.compress_vec(piece, &mut self.out, flush);
            // Where there is no room left, more is waiting to be written.
            if taken.is_err() || self.out.len() == self.out.capacity() {
                return None;
            }
        }
        let smaller = self.out.strip_suffix(&TAIL)?;
        (smaller.len() < payload.len()).then_some(smaller)
    }
}
