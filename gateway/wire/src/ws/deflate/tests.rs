use std::borrow::Cow;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use proptest::prelude::*;

use super::super::{
    CloseCode, Control, Data, Decoder, Limits, Message, OpCode, Role, WsError, encode,
};
use super::*;

const MASK: Option<[u8; 4]> = Some([0x37, 0xfa, 0x21, 0x3d]);

fn limits(bytes: u32) -> Limits {
    Limits {
        message_bytes_max: bytes,
        ..Limits::default()
    }
}

fn decoder() -> Decoder {
    Decoder::new(Role::Server, Limits::default()).deflating(Some(Deflate::default()))
}

fn inflated(payload: &[u8], bytes_max: u32) -> Result<Vec<u8>, WsError> {
    let mut inflater = Inflater::default();
    let deflated = Deflated {
        data: Data::Binary,
        bytes: Cow::Borrowed(payload),
        bytes_max,
    };
    match deflated.inflate(&mut inflater)? {
        Message::Binary(bytes) => Ok(bytes.into_owned()),
        other => panic!("{other:?}"),
    }
}

/// As the whole of zlib makes it, without the tail.
fn zlib(payload: &[u8], level: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() * 2 + 64);
    let mut state = Compress::new(Compression::new(level), false);
    state
        .compress_vec(payload, &mut out, FlushCompress::Sync)
        .unwrap();
    assert!(out.len() < out.capacity());
    out.strip_suffix(&TAIL).unwrap().to_vec()
}

/// What nobody can compress.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 7_u32;
    let step = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..len).map(step).collect()
}

/// A frame with any first byte, masked.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode(OpCode::Data(Data::Binary), payload, MASK, &mut out);
    out[0] = first;
    out
}

/// All messages of a stream, decompressed, and what it ended with; `chunk` bytes at a time.
fn read(stream: &[u8], chunk: usize) -> (Vec<Vec<u8>>, Option<WsError>) {
    let (mut decoder, mut inflater) = (decoder(), Inflater::default());
    let mut messages = Vec::new();
    for part in stream.chunks(chunk) {
        let (mut part, mut at) = (part.to_vec(), 0);
        loop {
            let message = match decoder.next(&mut part, &mut at) {
                Ok(Some(Message::Deflated(deflated))) => deflated.inflate(&mut inflater),
                Ok(Some(message)) => Ok(message),
                Ok(None) => break,
                Err(error) => Err(error),
            };
            match message {
                Ok(Message::Text(text)) => messages.push(text.as_bytes().to_vec()),
                Ok(Message::Binary(bytes) | Message::Ping(bytes)) => messages.push(bytes.to_vec()),
                Ok(other) => panic!("{other:?}"),
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}

#[test]
fn the_examples_of_the_rfc() {
    // RFC 7692 section 7.2.3, and what they are.
    for (payload, message) in [
        (
            b"\xf2\x48\xcd\xc9\xc9\x07\x00".as_slice(),
            b"Hello".as_slice(),
        ),
        (b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", b"Hello"),
        (b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00", b"Hello"),
        (
            b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
            b"Hello",
        ),
        (b"\x00", b""),
    ] {
        assert_eq!(inflated(payload, 5).unwrap(), message, "{payload:x?}");
        for chunk in [1, 2, 3, 100] {
            let read = read(&frame(0xc1, payload), chunk);
            assert_eq!(read, (vec![message.to_vec()], None));
        }
    }
    // Section 7.2.3.2: what refers to the message before is no DEFLATE here, where no context is kept.
    let takeover = inflated(b"\xf2\x00\x11\x00\x00", 5);
    assert_eq!(takeover, Err(WsError::BadDeflate));
    // Section 7.2.3.1 in two fragments, a ping between them.
    let stream = [
        frame(0x41, b"\xf2\x48\xcd"),
        frame(0x89, b"?"),
        frame(0x80, b"\xc9\xc9\x07\x00"),
    ]
    .concat();
    for chunk in [1, 2, 5, 100] {
        let read = read(&stream, chunk);
        assert_eq!(read, (vec![b"?".to_vec(), b"Hello".to_vec()], None));
    }
}

#[test]
fn a_stream_that_ended_may_be_followed_by_another_and_by_nothing_else() {
    let one = b"\xf3\x48\xcd\xc9\xc9\x07\x00".as_slice();
    let two = [one, b"\xf2\x48\xcd\xc9\xc9\x07\x00"].concat();
    assert_eq!(inflated(&two, 10).unwrap(), b"HelloHello");
    // Without the byte that the RFC wants appended.
    assert_eq!(inflated(one, 5).unwrap(), b"Hello");
    assert_eq!(inflated(b"", 5).unwrap(), b"");
    let behind = [one, b"\xff"].concat();
    assert_eq!(inflated(&behind, 10), Err(WsError::BadDeflate));
}

#[test]
fn plain_messages_may_come_between_compressed_ones() {
    let stream = [
        frame(0x82, b"plain"),
        frame(0xc2, b"\xf2\x48\xcd\xc9\xc9\x07\x00"),
        frame(0x02, b"pl"),
        frame(0x80, b"ain"),
    ]
    .concat();
    let (messages, error) = read(&stream, 3);
    assert_eq!(error, None);
    assert_eq!(messages, [b"plain".as_slice(), b"Hello", b"plain"]);
}

#[test]
fn f16_the_first_reserved_bit_stands_on_the_first_frame_of_a_message_alone() {
    let payload = b"\xf2\x48\xcd\xc9\xc9\x07\x00";
    let (first, rest) = payload.split_at(3);
    for stream in [
        [frame(0x41, first), frame(0xc0, rest)].concat(),
        [frame(0x02, first), frame(0xc0, rest)].concat(),
        frame(0xc9, b"ping"),
        frame(0xca, b"pong"),
        frame(0xc8, b""),
        frame(0xc0, b""),
        frame(0xa1, b"x"),
        frame(0x91, b"x"),
        frame(0xe1, payload),
        frame(0xf2, payload),
    ] {
        let (_, error) = read(&stream, 100);
        assert_eq!(error, Some(WsError::ReservedBits), "{stream:x?}");
    }
    // And on none where it was not agreed on.
    let mut plain = Decoder::new(Role::Server, Limits::default());
    let mut input = frame(0xc1, payload);
    let refused = plain.next(&mut input, &mut 0);
    assert_eq!(refused, Err(WsError::ReservedBits));
    assert_eq!(WsError::ReservedBits.close_code(), CloseCode::Protocol);
}

#[test]
fn every_cut_of_a_compressed_message_is_refused() {
    let text = b"what was cut off is not taken for the whole, however little is missing".repeat(4);
    for level in [1, 6] {
        let whole = zlib(&text, level);
        assert_eq!(inflated(&whole, 1_000).unwrap(), text);
        for cut in 1..whole.len() {
            let refused = inflated(&whole[..cut], 1_000);
            assert_eq!(refused, Err(WsError::BadDeflate), "{cut}");
        }
    }
    assert_eq!(WsError::BadDeflate.close_code(), CloseCode::Invalid);
}

#[test]
fn text_is_judged_once_it_is_decompressed() {
    let (messages, error) = read(&frame(0xc1, &zlib("κόσμε 😀".as_bytes(), 1)), 1);
    assert_eq!((messages.len(), error), (1, None));
    for bad in [b"\xce\xba\xff".as_slice(), b"\xf0\x9f\x98"] {
        let (_, error) = read(&frame(0xc1, &zlib(bad, 1)), 100);
        assert_eq!(error, Some(WsError::BadUtf8));
    }
}

#[test]
fn f18_a_bomb_is_cut_at_the_limit_and_no_more_than_that_is_allocated() {
    for (len, allowed) in [
        (65_536, true),
        (65_537, false),
        (10 * 65_536, false),
        (50 << 20, false),
    ] {
        let bomb = zlib(&vec![0; len], 9);
        let mut inflater = Inflater::default();
        let deflated = Deflated {
            data: Data::Text,
            bytes: Cow::Borrowed(&bomb),
            bytes_max: 65_536,
        };
        let result = deflated.inflate(&mut inflater).map(|_| ());
        let expected = if allowed {
            Ok(())
        } else {
            Err(WsError::TooLong)
        };
        assert_eq!(result, expected, "{len}");
        assert!(inflater.held_bytes() <= 65_537, "{len}");
        // It is as good as before.
        let hello = Deflated {
            data: Data::Text,
            bytes: Cow::Borrowed(b"\xf2\x48\xcd\xc9\xc9\x07\x00"),
            bytes_max: 5,
        };
        let message = hello.inflate(&mut inflater).unwrap();
        assert_eq!(message, Message::Text("Hello".into()));
    }
    assert_eq!(WsError::TooLong.close_code(), CloseCode::Size);
}

#[test]
fn f18_a_bomb_in_fragments_holds_no_more_than_a_message() {
    let bomb = zlib(&vec![0; 60 << 20], 9);
    let mut decoder = decoder();
    let mut first = true;
    let refused = bomb.chunks(1_000).find_map(|piece| {
        let begin = if std::mem::take(&mut first) {
            0x42
        } else {
            0x00
        };
        let mut input = frame(begin, piece);
        let next = decoder.next(&mut input, &mut 0);
        let refused = next.map(|message| assert_eq!(message, None)).err();
        // Vectors double.
        assert!(decoder.held_bytes() <= 2 * 73_792 + 128);
        refused
    });
    assert_eq!(bomb.len() / 1_000, 61);
    assert_eq!(refused, None, "it is short on the wire");
    // What is longer on the wire than any message could be is refused by its header.
    let mut decoder = self::decoder();
    let mut header = frame(0xc2, &vec![0; 65_536 + 8_192 + 65]);
    header.truncate(14);
    assert_eq!(decoder.next(&mut header, &mut 0), Err(WsError::TooLong));
}

#[test]
fn what_does_not_compress_may_have_the_length_of_the_limit() {
    let noise = noise(65_536);
    let compressed = zlib(&noise, 1);
    let mut decoder =
        Decoder::new(Role::Server, limits(65_536)).deflating(Some(Deflate::default()));
    let mut input = frame(0xc2, &compressed);
    let message = decoder.next(&mut input, &mut 0).unwrap();
    let Some(Message::Deflated(deflated)) = message else {
        panic!("{message:?}")
    };
    assert_eq!(deflated.len(), compressed.len());
    let mut inflater = Inflater::default();
    let message = deflated.inflate(&mut inflater).unwrap();
    assert_eq!(message, Message::Binary(Cow::Borrowed(&noise)));
}

#[test]
fn what_would_not_be_smaller_goes_out_as_it_is() {
    let mut deflater = Deflater::new(6);
    let noise = noise(5_000);
    let agreed = Deflate::default();
    for payload in [b"".as_slice(), b"a", b"Hello"] {
        assert_eq!(deflater.compress(agreed, payload), None);
    }
    assert_eq!(deflater.compress(agreed, &noise), None);
    // One message says nothing of the one before.
    let text = b"the same text again and again and again and again";
    let once = deflater.compress(agreed, text).unwrap().to_vec();
    assert_eq!(deflater.compress(agreed, text).unwrap(), once);
    assert!(once.len() < text.len());
}

#[test]
fn windows_are_eight_to_fifteen_bits() {
    assert_eq!(Deflate::default().window_bytes(), 32_768);
    for bits in 0..=u8::MAX {
        let known = Deflate::with_window_bits(bits);
        assert_eq!(known.is_some(), (8..=15).contains(&bits), "{bits}");
        assert_eq!(known.map(Deflate::window_bits), known.map(|_| bits));
    }
}

/// Decompresses as one who has a window of so many bits, and nothing else of what came before.
fn with_window(stream: &[u8], bits: u8) -> Vec<u8> {
    // The smallest that zlib's own end takes.
    let mut state = Decompress::new_with_window_bits(false, bits.max(9));
    let mut out = Vec::new();
    loop {
        let (read, written) = (state.total_in(), state.total_out());
        let at = usize::try_from(read).unwrap();
        let mut piece = [0; 16];
        state
            .decompress(&stream[at..], &mut piece, FlushDecompress::Sync)
            .unwrap();
        let more = usize::try_from(state.total_out() - written).unwrap();
        out.extend_from_slice(&piece[..more]);
        if more == 0 && state.total_in() == read {
            return out;
        }
    }
}

fn payloads() -> impl Strategy<Value = Vec<u8>> {
    let words = proptest::collection::vec("[a-e]{1,4} ", 0..2_000);
    prop_oneof![
        words.prop_map(|words| words.concat().into_bytes()),
        proptest::collection::vec(any::<u8>(), 0..3_000),
        (0_usize..40_000).prop_map(|len| vec![b'x'; len]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_message_comes_back_through_every_window(
        payload in payloads(),
        bits in 8_u8..=15,
        level in 1_u8..=9,
    ) {
        let agreed = Deflate::with_window_bits(bits).unwrap();
        let mut deflater = Deflater::new(level);
        let Some(compressed) = deflater.compress(agreed, &payload) else {
            return Ok(());
        };
        prop_assert!(compressed.len() < payload.len());
        let limit = u32::try_from(payload.len()).unwrap();
        prop_assert_eq!(inflated(compressed, limit).unwrap(), payload.clone());
        prop_assert_eq!(inflated(compressed, limit - 1), Err(WsError::TooLong));
        let stream = [compressed, &TAIL].concat();
        prop_assert_eq!(with_window(&stream, bits), payload);
    }

    #[test]
    fn any_bytes_are_decompressed_or_refused(payload in proptest::collection::vec(any::<u8>(), 0..300), limit in 0_u32..3_000) {
        if let Ok(bytes) = inflated(&payload, limit) {
            prop_assert!(bytes.len() <= limit as usize);
        }
    }
}

#[test]
fn control_frames_are_never_compressed() {
    let mut out = Vec::new();
    encode(OpCode::Control(Control::Ping), &[0; 125], None, &mut out);
    assert_eq!(out[0], 0x89);
    let mut out = Vec::new();
    super::super::deflated_header(Data::Text, 7, None, &mut out);
    assert_eq!(out, [0xc1, 7]);
    super::super::deflated_header(Data::Binary, 300, MASK, &mut out);
    assert_eq!(out[2..], [0xc2, 0xfe, 1, 44, 0x37, 0xfa, 0x21, 0x3d]);
}
