//! Writing frames.

use tungstenite::protocol::frame::FrameHeader;

use super::{CONTROL_BYTES_MAX, Control, Data, OpCode, RSV1, apply_mask};

/// Bytes of the header of an unfragmented frame with this payload.
#[must_use]
pub fn header_len(payload_len: usize, masked: bool) -> usize {
    let length = match payload_len {
        0..=125 => 2,
        126..=65_535 => 4,
        _ => 10,
    };
    if masked { length + 4 } else { length }
}

/// Appends the header of one unfragmented frame; the payload follows it, masked from place 0 on if `mask` is given.
pub fn header(opcode: OpCode, payload_len: usize, mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
    let header = FrameHeader {
        opcode,
        mask,
        ..FrameHeader::default()
    };
    let written = header.format(payload_len as u64, out);
    debug_assert!(written.is_ok(), "a Vec takes every byte");
}

/// The same for a data message whose payload is compressed.
pub fn deflated_header(data: Data, payload_len: usize, mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
    let at = out.len();
    header(OpCode::Data(data), payload_len, mask, out);
    if let Some(first) = out.get_mut(at) {
        *first |= RSV1;
    }
}

/// Appends one unfragmented frame. A client gives a fresh, unpredictable mask per frame; a server gives none.
/// The payload of a control frame is cut at [`CONTROL_BYTES_MAX`].
pub fn encode(opcode: OpCode, payload: &[u8], mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
    let payload = match opcode {
        OpCode::Control(_) => &payload[..payload.len().min(CONTROL_BYTES_MAX)],
        OpCode::Data(_) => payload,
    };
    out.reserve(header_len(payload.len(), mask.is_some()) + payload.len());
    header(opcode, payload.len(), mask, out);
    let at = out.len();
    out.extend_from_slice(payload);
    if let Some(mask) = mask {
        apply_mask(&mut out[at..], mask, 0);
    }
}

/// Appends a close frame; the reason is cut at a character boundary to the 123 bytes that fit.
pub fn encode_close(code: u16, reason: &str, mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
    let reason = &reason[..reason.floor_char_boundary(CONTROL_BYTES_MAX - 2)];
    let mut payload = [0; CONTROL_BYTES_MAX];
    let len = 2 + reason.len();
    payload[..2].copy_from_slice(&code.to_be_bytes());
    payload[2..len].copy_from_slice(reason.as_bytes());
    encode(OpCode::Control(Control::Close), &payload[..len], mask, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_len_is_what_header_writes() {
        for len in [0, 1, 125, 126, 65_535, 65_536, 1 << 33] {
            for mask in [None, Some([1, 2, 3, 4])] {
                let mut out = Vec::new();
                header(OpCode::Data(Data::Binary), len, mask, &mut out);
                assert_eq!(out.len(), header_len(len, mask.is_some()), "{len}");
            }
        }
    }

    #[test]
    fn examples_of_the_rfc() {
        // RFC 6455 section 5.7.
        let mut out = Vec::new();
        encode(OpCode::Data(Data::Text), b"Hello", None, &mut out);
        assert_eq!(out, [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
        out.clear();
        encode(
            OpCode::Data(Data::Text),
            b"Hello",
            Some([0x37, 0xfa, 0x21, 0x3d]),
            &mut out,
        );
        assert_eq!(
            out,
            [
                0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58
            ]
        );
        out.clear();
        encode(OpCode::Control(Control::Ping), b"Hello", None, &mut out);
        assert_eq!(out, [0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
    }

    #[test]
    fn a_long_close_reason_is_cut_between_characters() {
        let mut out = Vec::new();
        encode_close(4100, &"é".repeat(100), None, &mut out);
        assert_eq!(out[1], 2 + 122);
        assert!(std::str::from_utf8(&out[4..]).is_ok());
    }
}
