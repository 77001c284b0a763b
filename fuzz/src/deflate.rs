//! permessage-deflate: the decompressor against miniz_oxide's, and streams of compressed messages however they are cut.

use hawser_wire::ws::{
    Control, Data, Decoder, Deflate, Deflater, Inflater, Limits, Message, OpCode, Role, WsError,
    apply_mask, deflated_header, encode,
};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// Small, so that bombs meet it.
const MESSAGE_BYTES_MAX: u32 = 3_000;
/// What a sender leaves out, and an empty last block behind it.
const END: [u8; 9] = [0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff];

fn decoder() -> Decoder {
    let limits = Limits {
        message_bytes_max: MESSAGE_BYTES_MAX,
        fragments_max: u32::MAX,
    };
    Decoder::new(Role::Server, limits).deflating(Some(Deflate::default()))
}

/// Any bytes as a client's stream: the same messages however it is cut, and nothing held beyond the limit.
pub fn streams(bytes: &[u8]) {
    let whole = read(bytes, usize::MAX);
    for chunk in [1, 3, 50] {
        assert_eq!(read(bytes, chunk), whole, "cut every {chunk} bytes");
    }
}

/// Messages by their kind, and why the reading stopped.
fn read(bytes: &[u8], chunk: usize) -> (Vec<(char, Vec<u8>)>, Option<WsError>) {
    let (mut decoder, mut inflater) = (decoder(), Inflater::default());
    let mut messages = Vec::new();
    for part in bytes.chunks(chunk) {
        let (mut part, mut at) = (part.to_vec(), 0);
        loop {
            let message = match decoder.next(&mut part, &mut at) {
                Ok(Some(Message::Deflated(deflated))) => deflated.inflate(&mut inflater),
                Ok(Some(message)) => Ok(message),
                Ok(None) => break,
                Err(error) => Err(error),
            };
            match message {
                Ok(Message::Text(text)) => messages.push(('t', text.as_bytes().to_vec())),
                Ok(Message::Binary(bytes)) => messages.push(('b', bytes.to_vec())),
                Ok(other) => messages.push(('o', other.len().to_le_bytes().to_vec())),
                Err(error) => return (messages, Some(error)),
            }
        }
        assert!(decoder.held_bytes() < 8 * 1_024, "bounded by the limit");
        assert!(inflater.held_bytes() <= 4_096, "bounded by the limit");
    }
    (messages, None)
}

/// Any bytes as the payload of a compressed message: what is decompressed is what another decompressor makes of it.
pub fn payloads(payload: &[u8]) {
    let mut stream = frame(payload);
    if payload.len() > MESSAGE_BYTES_MAX as usize {
        return;
    }
    let (mut decoder, mut inflater) = (decoder(), Inflater::default());
    let Ok(Some(Message::Deflated(deflated))) = decoder.next(&mut stream, &mut 0) else {
        panic!("a whole frame is a message");
    };
    let Ok(Message::Binary(ours)) = deflated.inflate(&mut inflater) else {
        // It may be stricter than the other.
        return;
    };
    assert!(ours.len() <= MESSAGE_BYTES_MAX as usize);
    assert_eq!(Some(&*ours), theirs(payload).as_deref());
}

/// What miniz_oxide makes of it.
fn theirs(payload: &[u8]) -> Option<Vec<u8>> {
    let mut out = vec![0; MESSAGE_BYTES_MAX as usize + 1];
    let (mut len, mut rest) = (0, payload);
    while !rest.is_empty() {
        let mut state = DecompressorOxide::new();
        let input = [rest, &END].concat();
        let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        let (status, read, written) = decompress(&mut state, &input, &mut out[len..], 0, flags);
        if status != TINFLStatus::Done {
            return None;
        }
        len += written;
        match rest.get(read..) {
            Some([0]) => break,
            Some(behind) => rest = behind,
            None => {
                assert_eq!(read, input.len(), "it ends with the last block");
                break;
            }
        }
    }
    out.truncate(len);
    Some(out)
}

/// One compressed message.
fn frame(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    deflated_header(Data::Binary, payload.len(), Some(MASK), &mut out);
    let at = out.len();
    out.extend_from_slice(payload);
    apply_mask(&mut out[at..], MASK, 0);
    out
}

/// Payloads of compressed messages.
#[must_use]
pub fn compressed() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = [
        b"\xf2\x48\xcd\xc9\xc9\x07\x00".as_slice(),
        b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",
        b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00",
        b"\xf3\x48\xcd\xc9\xc9\x07\x00\xf2\x48\xcd\xc9\xc9\x07\x00",
        b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
        b"\x00",
    ]
    .map(<[u8]>::to_vec)
    .into();
    let text = "a message of a person, who says the same, and says the same, again. ".repeat(8);
    let varied: Vec<u8> = (0..2_000_u32)
        .map(|i| i.wrapping_mul(i).to_le_bytes()[0] & 0x1f)
        .collect();
    for payload in [
        text.as_bytes(),
        &varied,
        &[0; 3_000],
        &[0; 3_001],
        &[0; 60_000],
    ] {
        for (level, bits) in [(1, 15), (6, 15), (9, 9), (6, 8)] {
            let agreed = Deflate::with_window_bits(bits).unwrap_or_default();
            all.extend(
                Deflater::new(level)
                    .compress(agreed, payload)
                    .map(<[u8]>::to_vec),
            );
        }
    }
    all
}

/// Streams of a client that compresses.
#[must_use]
pub fn client_streams() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = compressed().iter().map(|payload| frame(payload)).collect();
    let mut ping = Vec::new();
    encode(
        OpCode::Control(Control::Ping),
        b"within",
        Some(MASK),
        &mut ping,
    );
    // In two fragments, with a ping between them.
    let (whole, mut parts) = (compressed().concat(), Vec::new());
    for (first, part) in [(0x41, &whole[..3]), (0x80, &whole[3..7])] {
        let mut out = frame(part);
        out[0] = first;
        parts.push(out);
    }
    all.push([parts[0].as_slice(), &ping, &parts[1], &all[0], &ping].concat());
    let mut plain = Vec::new();
    encode(
        OpCode::Data(Data::Text),
        b"not compressed",
        Some(MASK),
        &mut plain,
    );
    all.push([plain.as_slice(), &all[4], &plain].concat());
    all
}
