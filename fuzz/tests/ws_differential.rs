//! Streams built of valid frames and of faulty ones in between: our decoder and tungstenite's see the same messages or both
//! refuse.

use hawser_fuzz::ws;
use hawser_wire::ws::{Data, OpCode, Role, apply_mask, encode, header};
use proptest::prelude::*;

/// One frame: its first byte, payload, mask, and a fault.
#[derive(Clone, Debug)]
struct Piece {
    first: u8,
    payload: Vec<u8>,
    mask: [u8; 4],
    masked: bool,
    /// Announce so many bytes more than there are.
    more: usize,
}

fn piece() -> impl Strategy<Value = Piece> {
    let first = prop_oneof![
        4 => Just(0x81_u8),
        4 => Just(0x82_u8),
        3 => Just(0x01_u8),
        3 => Just(0x02_u8),
        6 => Just(0x00_u8),
        4 => Just(0x80_u8),
        4 => Just(0x89_u8),
        2 => Just(0x8a_u8),
        1 => Just(0x88_u8),
        1 => any::<u8>(),
    ];
    let payload = prop_oneof![
        4 => "\\PC{0,40}".prop_map(String::into_bytes),
        2 => proptest::collection::vec(any::<u8>(), 0..140),
        1 => (900_usize..1_010).prop_map(|len| vec![b'x'; len]),
        1 => (any::<u16>(), "\\PC{0,20}").prop_map(|(code, reason)| {
            [(code % 5_000).to_be_bytes().as_slice(), reason.as_bytes()].concat()
        }),
    ];
    let more = prop_oneof![20 => Just(0_usize), 1 => 1_usize..3];
    (
        first,
        payload,
        any::<[u8; 4]>(),
        prop::bool::weighted(0.97),
        more,
    )
        .prop_map(|(first, payload, mask, masked, more)| Piece {
            first,
            payload,
            mask,
            masked,
            more,
        })
}

fn stream(pieces: &[Piece], role: Role) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in pieces {
        let masked = piece.masked == (role == Role::Server);
        let at = out.len();
        let mask = masked.then_some(piece.mask);
        header(
            OpCode::Data(Data::Binary),
            piece.payload.len() + piece.more,
            mask,
            &mut out,
        );
        out[at] = piece.first;
        let body = out.len();
        out.extend_from_slice(&piece.payload);
        if let Some(mask) = mask {
            apply_mask(&mut out[body..], mask, 0);
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_servers_reading_agrees_with_tungstenites(pieces in proptest::collection::vec(piece(), 0..8)) {
        ws::server(&stream(&pieces, Role::Server));
    }

    #[test]
    fn a_clients_reading_agrees_with_tungstenites(pieces in proptest::collection::vec(piece(), 0..8)) {
        ws::client(&stream(&pieces, Role::Client));
    }

    #[test]
    fn whole_messages_come_back_as_they_were(
        payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..1_000), 0..6),
        mask in any::<[u8; 4]>(),
        chunk in 1_usize..200,
    ) {
        let mut out = Vec::new();
        for payload in &payloads {
            encode(OpCode::Data(Data::Binary), payload, Some(mask), &mut out);
        }
        let read = ws::ours(&out, Role::Server, chunk);
        prop_assert_eq!(read.error, None);
        let expected: Vec<_> = payloads.into_iter().map(|payload| ('b', payload)).collect();
        prop_assert_eq!(read.messages, expected);
    }
}
