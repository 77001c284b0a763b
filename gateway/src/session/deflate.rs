//! permessage-deflate on one core: one compressor and one decompressor for all its connections, none of which has a context.

use crate::node::config::DeflateLimits;
use hawser_wire::ws::{self, Data, Deflate, Deflater, Inflater};

/// Two of these are kept; a longer frame is compressed for every recipient, bytes.
const KEPT_BYTES_MAX: usize = 128 << 10;

/// See the module. Nothing until a connection compresses; then some 420 KiB, and the last message of each kind.
#[derive(Default)]
pub(crate) struct Deflating {
    deflater: Option<Deflater>,
    inflater: Option<Box<Inflater>>,
    text: Last,
    binary: Last,
}

/// The last frame that was compressed. A record that is fanned out is the same frame for all recipients of one encoding,
/// unless a device has an envelope of its own: it is compressed for the first of them.
#[derive(Default)]
struct Last {
    window_bytes: usize,
    frame: Vec<u8>,
    /// Empty: it does not get smaller.
    smaller: Vec<u8>,
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shrunk {
    /// It goes out as it was written: too short.
    Not,
    /// So it does, since it would not get smaller.
    InVain,
    /// It got smaller by so many bytes.
    Fresh(usize),
    /// The same, and it had been compressed for another recipient.
    Shared(usize),
}

impl Deflating {
    /// Compresses the one whole frame of a data message that `out` has from `from` on, if it is long enough and gets smaller.
    pub(crate) fn shrink(
        &mut self,
        limits: DeflateLimits,
        agreed: Deflate,
        out: &mut Vec<u8>,
        from: usize,
    ) -> Shrunk {
        let frame = out.get(from..).unwrap_or_default();
        let Some((data, payload)) = parts(frame).filter(|(_, p)| p.len() >= limits.min_bytes)
        else {
            return Shrunk::Not;
        };
        let last = match data {
            Data::Text => &mut self.text,
            _ => &mut self.binary,
        };
        // Where the message fits into it, the window does not matter.
        let window_bytes = match agreed.window_bytes() {
            bytes if bytes >= payload.len() => usize::MAX,
            bytes => bytes,
        };
        let shared = last.window_bytes == window_bytes && last.frame == frame;
        if !shared {
            let deflater = &mut self.deflater;
            let deflater = deflater.get_or_insert_with(|| Deflater::new(limits.level));
            last.begin(window_bytes, frame);
            if let Some(smaller) = deflater.compress(agreed, payload) {
                ws::deflated_header(data, smaller.len(), None, &mut last.smaller);
                last.smaller.extend_from_slice(smaller);
            }
        }
        let saved = frame.len().saturating_sub(last.smaller.len());
        let shrunk = match (last.smaller.is_empty(), shared) {
            (true, _) => Shrunk::InVain,
            (false, true) => Shrunk::Shared(saved),
            (false, false) => Shrunk::Fresh(saved),
        };
        if shrunk != Shrunk::InVain {
            out.truncate(from);
            out.extend_from_slice(&last.smaller);
        }
        last.end();
        shrunk
    }

    /// The decompressor; give it back with [`Deflating::give`].
    pub(crate) fn take(&mut self) -> Box<Inflater> {
        self.inflater.take().unwrap_or_default()
    }

    /// For the next message.
    pub(crate) fn give(&mut self, inflater: Box<Inflater>) {
        self.inflater = Some(inflater);
    }
}

impl Last {
    fn begin(&mut self, window_bytes: usize, frame: &[u8]) {
        self.window_bytes = window_bytes;
        self.frame.clear();
        self.frame.extend_from_slice(frame);
        self.smaller.clear();
    }

    /// Forgets what is too large to be kept.
    fn end(&mut self) {
        if self.frame.capacity() > KEPT_BYTES_MAX {
            *self = Self::default();
        }
    }
}

/// The kind and the payload of a whole, unmasked frame of a data message.
fn parts(frame: &[u8]) -> Option<(Data, &[u8])> {
    let data = match ws::OpCode::from(frame.first()? & 0x0f) {
        ws::OpCode::Data(data) => data,
        ws::OpCode::Control(_) => return None,
    };
    let header = match frame.get(1)? {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    Some((data, frame.get(header..)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hawser_wire::ws::{Control, Decoder, Limits, Message, OpCode, Role};

    const LIMITS: DeflateLimits = DeflateLimits {
        min_bytes: 100,
        level: 1,
    };

    fn frame(data: Data, payload: &[u8]) -> Vec<u8> {
        let mut out = b"before".to_vec();
        ws::encode(OpCode::Data(data), payload, None, &mut out);
        out
    }

    fn read(frame: &[u8]) -> Vec<u8> {
        let mut decoder =
            Decoder::new(Role::Client, Limits::default()).deflating(Some(Deflate::default()));
        let (mut input, mut inflater) = (frame.to_vec(), Inflater::default());
        match decoder.next(&mut input, &mut 0) {
            Ok(Some(Message::Deflated(deflated))) => match deflated.inflate(&mut inflater) {
                Ok(Message::Text(text)) => text.as_bytes().to_vec(),
                Ok(Message::Binary(bytes)) => bytes.to_vec(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_frame_for_many_is_compressed_once_per_encoding() {
        let mut core = Deflating::default();
        let agreed = Deflate::default();
        let small = Deflate::with_window_bits(8).expect("sound");
        let body = b"what everybody gets ".repeat(20);
        let mut sent = Vec::new();
        for round in 0..3 {
            for data in [Data::Binary, Data::Text] {
                let mut out = frame(data, &body);
                let was = out.len();
                let shrunk = core.shrink(LIMITS, agreed, &mut out, 6);
                let saved = was - out.len();
                match round {
                    0 => assert_eq!(shrunk, Shrunk::Fresh(saved)),
                    _ => assert_eq!(shrunk, Shrunk::Shared(saved)),
                }
                assert_eq!(&out[..6], b"before");
                assert_eq!(read(&out[6..]), body);
                sent.push(out);
            }
        }
        assert_eq!((&sent[0], &sent[1]), (&sent[2], &sent[3]));
        // One who has another window gets its own.
        let mut out = frame(Data::Binary, &body);
        let shrunk = core.shrink(LIMITS, small, &mut out, 6);
        assert!(matches!(shrunk, Shrunk::Fresh(_)), "{shrunk:?}");
        assert_eq!(read(&out[6..]), body);
        // Another message is another message.
        let mut other = frame(Data::Binary, &b"what somebody gets ".repeat(20));
        let shrunk = core.shrink(LIMITS, agreed, &mut other, 6);
        assert!(matches!(shrunk, Shrunk::Fresh(_)), "{shrunk:?}");
    }

    #[test]
    fn what_is_short_or_does_not_get_smaller_or_is_a_control_frame_stays() {
        let mut core = Deflating::default();
        let mut state = 7_u32;
        let noise: Vec<u8> = (0..500)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state.to_be_bytes()[0]
            })
            .collect();
        let mut ping = b"before".to_vec();
        ws::encode(OpCode::Control(Control::Ping), &[0; 120], None, &mut ping);
        for (written, expected) in [
            (frame(Data::Binary, &[7; 99]), Shrunk::Not),
            (frame(Data::Text, b""), Shrunk::Not),
            (ping, Shrunk::Not),
            (frame(Data::Binary, &noise), Shrunk::InVain),
            // Also the second time.
            (frame(Data::Binary, &noise), Shrunk::InVain),
        ] {
            let mut out = written.clone();
            let shrunk = core.shrink(LIMITS, Deflate::default(), &mut out, 6);
            assert_eq!((shrunk, out), (expected, written));
        }
        let mut out = frame(Data::Binary, &[7; 100]);
        let shrunk = core.shrink(LIMITS, Deflate::default(), &mut out, 6);
        assert!(matches!(shrunk, Shrunk::Fresh(_)), "{shrunk:?}");
    }

    #[test]
    fn long_frames_are_not_kept() {
        let mut core = Deflating::default();
        for len in [65_535, 65_536, 200_000] {
            let body = vec![b'x'; len];
            let mut out = frame(Data::Text, &body);
            let shrunk = core.shrink(LIMITS, Deflate::default(), &mut out, 6);
            assert!(matches!(shrunk, Shrunk::Fresh(_)), "{shrunk:?}");
            assert!(core.text.frame.capacity() <= KEPT_BYTES_MAX);
            assert!(out.len() < 2_000);
        }
    }
}
