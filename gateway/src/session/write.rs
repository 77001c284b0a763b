//! Frames into a connection's output, in the encoding of its session.

use crate::reactor::inbox::Encoding;
use hawser_protocol::frame::ServerFrame;
use hawser_protocol::json;
use hawser_wire::ws::{self, Control, Data, OpCode};

/// Appends a frame as one WebSocket message. `scratch` is left empty. Returns the message's bytes.
pub(crate) fn frame(
    encoding: Encoding,
    frame: &ServerFrame,
    scratch: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> usize {
    match encoding {
        Encoding::Binary => {
            scratch.clear();
            frame.encode(scratch);
            let len = scratch.len();
            ws::encode(OpCode::Data(Data::Binary), scratch, None, out);
            scratch.clear();
            len
        }
        Encoding::Json => text(&json::encode_server(frame), out),
    }
}

/// Appends a text message.
pub(crate) fn text(text: &str, out: &mut Vec<u8>) -> usize {
    ws::encode(OpCode::Data(Data::Text), text.as_bytes(), None, out);
    text.len()
}

/// Appends a binary message of several parts that lie apart.
pub(crate) fn binary(parts: &[&[u8]], out: &mut Vec<u8>) -> usize {
    let len = parts.iter().map(|part| part.len()).sum();
    out.reserve(ws::header_len(len, false) + len);
    ws::header(OpCode::Data(Data::Binary), len, None, out);
    for part in parts {
        out.extend_from_slice(part);
    }
    len
}

/// Appends a pong.
pub(crate) fn pong(payload: &[u8], out: &mut Vec<u8>) {
    ws::encode(OpCode::Control(Control::Pong), payload, None, out);
}
