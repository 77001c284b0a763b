//! What F16 and F17 send at a WebSocket: each is refused with its close code, at bounded cost. The differential tests
//! against tungstenite are in the fuzz crate.

use std::time::{Duration, Instant};

use hawser_wire::ws::{
    CloseCode, Control, Data, Decoder, Limits, Message, OpCode, Role, WsError, encode, header,
};

const MASK: Option<[u8; 4]> = Some([0x37, 0xfa, 0x21, 0x3d]);

fn decoder() -> Decoder {
    Decoder::new(Role::Server, Limits::default())
}

/// The first error, given all at once and a byte at a time; both must agree.
fn refused(bytes: &[u8]) -> WsError {
    let (mut input, mut at) = (bytes.to_vec(), 0);
    let mut whole = decoder();
    let error = loop {
        match whole.next(&mut input, &mut at) {
            Ok(Some(_)) => {}
            Ok(None) => panic!("not refused: {bytes:x?}"),
            Err(error) => break error,
        }
    };
    assert!(whole.is_ended() && whole.held_bytes() == 0);
    let mut cut = decoder();
    let by_byte = bytes
        .iter()
        .find_map(|byte| cut.next(&mut [*byte], &mut 0).err());
    assert_eq!(by_byte, Some(error));
    error
}

/// A masked frame with any first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode(OpCode::Data(Data::Binary), payload, MASK, &mut out);
    out[0] = first;
    out
}

#[test]
fn f16_reserved_bits_close_with_1002() {
    for bit in [0x40, 0x20, 0x10] {
        for opcode in [0, 1, 2, 8, 9, 10] {
            let error = refused(&frame(0x80 | bit | opcode, b"x"));
            assert_eq!(error, WsError::ReservedBits);
            assert_eq!(error.close_code(), CloseCode::Protocol);
        }
    }
}

#[test]
fn f16_unmasked_frames_close_with_1002() {
    let mut out = Vec::new();
    encode(OpCode::Data(Data::Binary), b"x", None, &mut out);
    assert_eq!(refused(&out), WsError::Unmasked);
    assert_eq!(WsError::Unmasked.close_code(), CloseCode::Protocol);
    let mut client = Decoder::new(Role::Client, Limits::default());
    let masked = client.next(&mut frame(0x82, b"x"), &mut 0).unwrap_err();
    assert_eq!(masked, WsError::Masked);
}

#[test]
fn f16_bad_opcodes_close_with_1002() {
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        let error = refused(&frame(0x80 | opcode, b""));
        assert_eq!(error, WsError::ReservedOpcode(opcode));
        assert_eq!(error.close_code(), CloseCode::Protocol);
    }
}

#[test]
fn f16_fragmented_and_long_control_frames_close_with_1002() {
    for opcode in [8, 9, 10] {
        assert_eq!(refused(&frame(opcode, b"")), WsError::FragmentedControl);
        assert_eq!(
            refused(&frame(0x80 | opcode, &[b'x'; 126])),
            WsError::LongControl
        );
    }
    assert_eq!(WsError::FragmentedControl.close_code(), CloseCode::Protocol);
    assert_eq!(WsError::LongControl.close_code(), CloseCode::Protocol);
}

#[test]
fn f16_a_length_of_two_to_the_63_is_refused_before_any_payload() {
    let mut bytes = vec![0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4];
    assert_eq!(refused(&bytes), WsError::BadLength);
    assert_eq!(WsError::BadLength.close_code(), CloseCode::Protocol);
    bytes[2] = 0x7f;
    assert_eq!(refused(&bytes), WsError::TooLong);
    assert_eq!(WsError::TooLong.close_code(), CloseCode::Size);
}

#[test]
fn f16_bad_utf8_closes_with_1007_as_soon_as_it_shows() {
    assert_eq!(refused(&frame(0x81, b"\xce\xba\xff")), WsError::BadUtf8);
    assert_eq!(
        refused(&frame(0x81, b"\xe2\x82")),
        WsError::BadUtf8,
        "an unfinished character"
    );
    let pieces = [frame(0x01, b"\xe2\x82"), frame(0x80, b"\x28")].concat();
    assert_eq!(refused(&pieces), WsError::BadUtf8);
    assert_eq!(
        refused(&frame(0x88, b"\x03\xe8\xff")),
        WsError::BadUtf8,
        "a close reason"
    );
    assert_eq!(WsError::BadUtf8.close_code(), CloseCode::Invalid);
    // The rest of the frame is not waited for.
    let text = frame(0x81, &[b"\xff".as_slice(), &[b'a'; 1_000]].concat());
    let mut part = text[..20].to_vec();
    assert_eq!(decoder().next(&mut part, &mut 0), Err(WsError::BadUtf8));
}

#[test]
fn f16_bad_closes_close_with_1002() {
    assert_eq!(refused(&frame(0x88, b"\x03")), WsError::BadClose);
    for code in [
        0_u16, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65_535,
    ] {
        assert_eq!(
            refused(&frame(0x88, &code.to_be_bytes())),
            WsError::BadClose,
            "{code}"
        );
    }
    assert_eq!(WsError::BadClose.close_code(), CloseCode::Protocol);
}

#[test]
fn f16_fragments_out_of_order_close_with_1002() {
    assert_eq!(refused(&frame(0x80, b"x")), WsError::UnexpectedContinuation);
    let twice = [frame(0x01, b"x"), frame(0x81, b"x")].concat();
    assert_eq!(refused(&twice), WsError::UnfinishedMessage);
    let done = [frame(0x01, b"x"), frame(0x80, b"x"), frame(0x80, b"x")].concat();
    assert_eq!(refused(&done), WsError::UnexpectedContinuation);
}

#[test]
fn f17_oversize_by_one_and_by_ten_times_closes_with_1009_by_its_header_alone() {
    let limit = usize::try_from(Limits::default().message_bytes_max).unwrap();
    let mut input = frame(0x82, &vec![0; limit]);
    assert!(matches!(
        decoder().next(&mut input, &mut 0),
        Ok(Some(Message::Binary(_)))
    ));
    for len in [limit + 1, 10 * limit] {
        let mut head = Vec::new();
        header(OpCode::Data(Data::Binary), len, MASK, &mut head);
        assert_eq!(refused(&head), WsError::TooLong);
        // In pieces, too: nothing is held of what is refused.
        let pieces = [frame(0x02, &vec![0; limit]), frame(0x80, b"x")].concat();
        assert_eq!(refused(&pieces), WsError::TooLong);
    }
}

#[test]
fn f17_a_hundred_thousand_one_byte_fragments_cost_bounded_work() {
    let begun = Instant::now();
    let mut decoder = Decoder::new(
        Role::Server,
        Limits {
            fragments_max: u32::MAX,
            ..Limits::default()
        },
    );
    let mut input = frame(0x01, b"a");
    for _ in 0..100_000 {
        input.extend_from_slice(&frame(0x00, b"a"));
    }
    let error = decoder.next(&mut input, &mut 0).unwrap_err();
    assert_eq!(
        error,
        WsError::TooLong,
        "the limit of bytes stands by itself"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );

    let mut decoder = self::decoder();
    let (mut input, mut at, mut held) = (frame(0x02, b"a"), 0, 0);
    for _ in 0..100_000 {
        input.extend_from_slice(&frame(0x00, b"a"));
    }
    let mut end = 0;
    let error = loop {
        end += 7;
        match decoder.next(&mut input[..end], &mut at) {
            Ok(message) => assert_eq!(message, None),
            Err(error) => break error,
        }
        held = decoder.held_bytes().max(held);
    };
    assert_eq!(error, WsError::TooManyFragments);
    assert_eq!(error.close_code(), CloseCode::Policy);
    assert!(held < 4_096, "{held}");
    assert!(end < 7 * 1_100);
}

#[test]
fn f17_empty_fragments_are_counted_too() {
    let empty = [frame(0x02, b""), frame(0x00, b"").repeat(2_000)].concat();
    assert_eq!(refused(&empty), WsError::TooManyFragments);
}

#[test]
fn f17_a_ping_flood_holds_nothing() {
    let mut input = frame(0x89, b"ping").repeat(100_000);
    let (mut decoder, mut at, mut pings) = (decoder(), 0, 0);
    let begun = Instant::now();
    while let Some(message) = decoder.next(&mut input, &mut at).unwrap() {
        assert_eq!(message, Message::Ping(b"ping".into()));
        pings += 1;
    }
    assert_eq!((pings, decoder.held_bytes()), (100_000, 0));
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn control_frames_pass_between_the_pieces_of_a_message() {
    let bytes = [
        frame(0x01, b"\xe2\x82"),
        frame(0x89, b"p"),
        frame(0x80, b"\xac"),
        frame(0x88, b"\x03\xe8bye"),
        frame(0x82, b"never read"),
    ]
    .concat();
    for chunk in [1, 3, bytes.len()] {
        let mut decoder = decoder();
        let mut seen = Vec::new();
        for part in bytes.chunks(chunk) {
            let (mut part, mut at) = (part.to_vec(), 0);
            while let Some(message) = decoder.next(&mut part, &mut at).unwrap() {
                seen.push(format!("{message:?}"));
            }
            assert_eq!(at, part.len());
        }
        assert_eq!(
            seen,
            [
                "Ping([112])",
                "Text(\"€\")",
                "Close(Some(Close { code: 1000, reason: \"bye\" }))"
            ],
            "{chunk}"
        );
    }
}

#[test]
fn an_empty_close_and_a_control_opcode_are_messages() {
    let mut decoder = decoder();
    let mut out = Vec::new();
    encode(OpCode::Control(Control::Close), b"", MASK, &mut out);
    assert_eq!(
        decoder.next(&mut out, &mut 0),
        Ok(Some(Message::Close(None)))
    );
}
