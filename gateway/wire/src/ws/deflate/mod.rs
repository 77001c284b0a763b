//! permessage-deflate (RFC 7692), always without context takeover in both directions.
//!
//! A connection therefore holds no compressor, no window and no dictionary: [`Deflater`] and [`Inflater`] are one of each
//! per thread, for all its connections. What was agreed on is one byte beside the [`super::Decoder`]'s state; the handshake
//! is in [`crate::http`].
//!
//! The peer's window needs no compressor of its own size either: a message that is longer than the window is compressed
//! in pieces as long as it, and nothing in a piece refers to what is before it. So every size from 256 bytes on is
//! honoured, which zlib itself cannot do for the smallest.

mod compress;
mod inflate;
#[cfg(test)]
mod tests;

pub use compress::Deflater;
pub use inflate::{Deflated, Inflater};

use std::num::NonZeroU8;

/// Bits of the smallest and of the largest window.
const WINDOW_BITS: std::ops::RangeInclusive<u8> = 8..=15;

/// What every flushed stream ends with: an empty stored block, which the sender leaves out.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Buffers of a thread that grew beyond this are not kept, bytes.
const KEPT_BYTES_MAX: usize = 128 << 10;

/// That both ends compress, and how far back the server's stream may refer; the client's may use all of 32 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deflate(NonZeroU8);

const _: () = assert!(size_of::<Option<Deflate>>() == 1);

impl Deflate {
    /// With a window of 2^`bits` bytes for the server's messages; `None`: not 8 to 15.
    #[must_use]
    pub fn with_window_bits(bits: u8) -> Option<Self> {
        let known = WINDOW_BITS.contains(&bits);
        NonZeroU8::new(bits).filter(|_| known).map(Self)
    }

    /// 8 to 15.
    #[must_use]
    pub fn window_bits(self) -> u8 {
        self.0.get()
    }

    /// How far back the server's stream may refer, bytes.
    #[must_use]
    pub fn window_bytes(self) -> usize {
        1 << self.window_bits()
    }
}

impl Default for Deflate {
    /// The largest window, which is what counts where none was spoken of.
    fn default() -> Self {
        Self(const { NonZeroU8::new(*WINDOW_BITS.end()).expect("a constant above zero") })
    }
}
