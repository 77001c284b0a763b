//! Messages that came compressed.

use std::borrow::Cow;

use flate2::{Decompress, FlushDecompress, Status};
use simdutf8::basic::from_utf8;
use tungstenite::protocol::frame::coding::Data;

use super::super::{Message, WsError};
use super::{KEPT_BYTES_MAX, TAIL};

/// Bytes for which there is room at first.
const FRESH_BYTES: usize = 4 << 10;

/// What the sender left out, and behind it the end of a stream: only a message that is whole up to here ends with it.
const END: [u8; 9] = {
    let [a, b, c, d] = TAIL;
    [a, b, c, d, 1, 0, 0, 0xff, 0xff]
};

/// A whole message that is compressed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deflated<'i> {
    /// Text or binary.
    pub(in crate::ws) data: Data,
    pub(in crate::ws) bytes: Cow<'i, [u8]>,
    /// It may not be longer than this, bytes.
    pub(in crate::ws) bytes_max: u32,
}

impl<'i> Deflated<'i> {
    /// Bytes as they came.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Of an empty message that somebody compressed to nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The message.
    ///
    /// # Errors
    /// The peer's fault: no DEFLATE, longer than [`super::super::Limits::message_bytes_max`], or text that is not UTF-8. The
    /// connection is to be closed.
    pub fn inflate(self, inflater: &'i mut Inflater) -> Result<Message<'i>, WsError> {
        let bytes_max = usize::try_from(self.bytes_max).unwrap_or(usize::MAX);
        let bytes = inflater.inflate(&self.bytes, bytes_max)?;
        match self.data {
            Data::Text => from_utf8(bytes)
                .map(|text| Message::Text(Cow::Borrowed(text)))
                .map_err(|_| WsError::BadUtf8),
            _ => Ok(Message::Binary(Cow::Borrowed(bytes))),
        }
    }
}

/// Decompresses one message after the other, none of which knows of another. Some 48 KiB, and the last message up to
/// 128 KiB.
#[derive(Debug)]
pub struct Inflater {
    state: Decompress,
    /// Room for the message, of which its first bytes are used.
    room: Vec<u8>,
}

/// How far a stream was read.
enum Read<'p> {
    /// It goes on behind the input.
    Open,
    /// It ended before this.
    Ended(&'p [u8]),
}

impl Default for Inflater {
    fn default() -> Self {
        Self {
            state: Decompress::new(false),
            room: Vec::new(),
        }
    }
}

impl Inflater {
    /// Heap bytes held for the message.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.room.capacity()
    }

    /// Decompresses a message of at most `bytes_max` bytes; at the next one it stops, and has allocated no more than that.
    fn inflate(&mut self, payload: &[u8], bytes_max: usize) -> Result<&[u8], WsError> {
        if self.room.len() > KEPT_BYTES_MAX {
            self.room = Vec::new();
        }
        let mut len = 0;
        let mut rest = payload;
        while !rest.is_empty() {
            self.state.reset(false);
            match self.read(rest, &mut len, bytes_max)? {
                Read::Open => {
                    let end = self.read(&END, &mut len, bytes_max)?;
                    if !matches!(end, Read::Ended([])) {
                        return Err(WsError::BadDeflate);
                    }
                    break;
                }
                // A sender that ends its stream appends a byte for its beginning of the empty block (section 7.2.3.4).
                Read::Ended([0]) => break,
                // It may go on with another stream (section 7.2.1).
                Read::Ended(behind) => rest = behind,
            }
        }
        Ok(&self.room[..len])
    }

    /// Reads `input`, and writes from `len` on.
    fn read<'p>(
        &mut self,
        mut input: &'p [u8],
        len: &mut usize,
        bytes_max: usize,
    ) -> Result<Read<'p>, WsError> {
        // One byte more than may come tells that too many do.
        let most = bytes_max.saturating_add(1);
        loop {
            if *len == self.room.len() {
                let more = (self.room.len() * 2).clamp(FRESH_BYTES, FRESH_BYTES.max(most));
                self.room.reserve_exact(more - self.room.len());
                self.room.resize(more, 0);
            }
            let end = self.room.len().min(most);
            let (read, written) = (self.state.total_in(), self.state.total_out());
            let status =
                self.state
                    .decompress(input, &mut self.room[*len..end], FlushDecompress::Sync);
            let status = status.map_err(|_| WsError::BadDeflate)?;
            input = &input[place(self.state.total_in() - read).min(input.len())..];
            *len += place(self.state.total_out() - written);
            if *len > bytes_max {
                return Err(WsError::TooLong);
            }
            match status {
                Status::StreamEnd => return Ok(Read::Ended(input)),
                _ if *len == end => {}
                _ if input.is_empty() => return Ok(Read::Open),
                _ => return Err(WsError::BadDeflate),
            }
        }
    }
}

/// Totals of one call fit where slices do.
fn place(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
