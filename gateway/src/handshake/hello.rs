//! Reading exactly the Hello, and judging it.

use super::connection::Connection;
use super::refusal::Refusal;
use crate::counters::Counter;
use crate::reactor::core::Core;
use crate::reactor::inbox::{Encoding, Greeting};
use bytes::Bytes;
use hawser_protocol::codes::{CloseCode, ErrorCode};
use hawser_protocol::frame::{ClientFrame, FrameError, split};
use hawser_protocol::ids::DeviceId;
use hawser_protocol::limits::{RESUME_TOKEN_BYTES_MAX, TOKEN_BYTES_MAX};
use hawser_protocol::{json, pb};
use hawser_wire::ws::{self, Control, Message, OpCode, WsError};

/// Pings answered and pongs read before the Hello; more is no client of ours.
const CONTROL_FRAMES_MAX: u32 = 16;

/// The Hello, and whole frames that came in the same message.
struct Heard {
    hello: pb::Hello,
    frames: Bytes,
}

/// Reads the Hello and verifies its token.
///
/// # Errors
/// What the client is to be told.
pub(super) async fn read(
    core: &Core,
    connection: &mut Connection,
    decoder: &mut ws::Decoder,
    encoding: Encoding,
) -> Result<Greeting, Refusal> {
    let heard = hear(core, connection, decoder, encoding).await?;
    let wall_ms = core.node.clock.wall_ms();
    let token = &heard.hello.token;
    if token.len() > TOKEN_BYTES_MAX {
        let text = format!("the token is longer than {TOKEN_BYTES_MAX} bytes");
        return Err(Refusal::told(
            ErrorCode::Unauthenticated,
            CloseCode::BadToken,
            text,
        ));
    }
    let verified = core.node.verifier.verify(token, wall_ms);
    let claims = verified.map_err(|e| Refusal::Told {
        code: e.code(),
        text: e.to_string(),
        close: e.close(),
        retry_after_ms: e.retry_after_ms(),
    })?;
    let device = device(&heard.hello, claims.device.as_ref())?;
    let mut hello = heard.hello;
    if hello.resume_token.len() > RESUME_TOKEN_BYTES_MAX {
        // None of ours: the session begins without recovery, as with any other that does not open.
        core.counters.inc(Counter::ResumeTokenBad);
        hello.resume_token.clear();
    }
    // The token has served: a session keeps no secret that it does not need.
    hello.token = String::new();
    Ok(Greeting {
        encoding,
        hello,
        claims,
        device,
        frames: heard.frames,
    })
}

/// The device that both Hello and token name.
fn device(hello: &pb::Hello, claimed: Option<&DeviceId>) -> Result<DeviceId, Refusal> {
    let Some(claimed) = claimed else {
        let text = "the token names no device (claim `dev`), so it opens no session";
        return Err(Refusal::told(
            ErrorCode::DeviceMismatch,
            CloseCode::DeviceMismatch,
            text,
        ));
    };
    if hello.device != claimed.as_str() {
        let text = "Hello's device is not the token's";
        return Err(Refusal::told(
            ErrorCode::DeviceMismatch,
            CloseCode::DeviceMismatch,
            text,
        ));
    }
    Ok(claimed.clone())
}

/// Reads up to the end of the first data message.
async fn hear(
    core: &Core,
    connection: &mut Connection,
    decoder: &mut ws::Decoder,
    encoding: Encoding,
) -> Result<Heard, Refusal> {
    let mut controls = 0;
    loop {
        let mut at = 0;
        let mut pong = None;
        let mut inflater;
        let message = match decoder.next(&mut connection.plain, &mut at) {
            Ok(Some(Message::Deflated(deflated))) => {
                inflater = ws::Inflater::default();
                let message = deflated.inflate(&mut inflater);
                if message == Err(WsError::TooLong) {
                    core.counters.inc(Counter::InflateTooLarge);
                }
                message.map(Some)
            }
            message => message,
        };
        let message = message.map_err(Refusal::WebSocket)?;
        let heard = match message {
            // It comes decompressed, above.
            None | Some(Message::Deflated(_)) => None,
            Some(Message::Text(text)) => Some(from_text(&text, encoding)),
            Some(Message::Binary(bytes)) => Some(from_binary(&bytes, encoding)),
            Some(Message::Ping(payload)) => {
                pong = Some(payload.into_owned());
                None
            }
            Some(Message::Pong(_)) => {
                pong = Some(Vec::new());
                None
            }
            Some(Message::Close(close)) => return Err(Refusal::Closed(close.map(|c| c.code))),
        };
        connection.plain.drain(..at);
        match (heard, pong) {
            (Some(heard), _) => return heard,
            (None, Some(payload)) => {
                controls += 1;
                if controls > CONTROL_FRAMES_MAX {
                    return Err(hello_expected("control frames only"));
                }
                let mut out = Vec::new();
                ws::encode(OpCode::Control(Control::Pong), &payload, None, &mut out);
                connection.write(&out).await?;
            }
            (None, None) => connection.more().await?,
        }
    }
}

fn from_binary(bytes: &[u8], encoding: Encoding) -> Result<Heard, Refusal> {
    if encoding == Encoding::Json {
        return Err(hello_expected(
            "a binary message; hawser.v1+json is spoken in text messages",
        ));
    }
    let mut rest = Bytes::copy_from_slice(bytes);
    let raw = split(&mut rest).map_err(|e| malformed(&e))?;
    let Some(raw) = raw else {
        return Err(hello_expected("an empty message"));
    };
    match ClientFrame::decode(&raw).map_err(|e| malformed(&e))? {
        ClientFrame::Hello(hello) => Ok(Heard {
            hello,
            frames: rest,
        }),
        other => Err(hello_expected(&format!(
            "a frame of type {:#04x}",
            other.frame_type().0
        ))),
    }
}

fn from_text(text: &str, encoding: Encoding) -> Result<Heard, Refusal> {
    if encoding == Encoding::Binary {
        return Err(hello_expected(
            "a text message; hawser.v1 is spoken in binary messages",
        ));
    }
    match json::decode_client(text).map_err(|e| malformed(&e))? {
        ClientFrame::Hello(hello) => Ok(Heard {
            hello,
            frames: Bytes::new(),
        }),
        other => Err(hello_expected(&format!(
            "a frame of type {:#04x}",
            other.frame_type().0
        ))),
    }
}

fn hello_expected(found: &str) -> Refusal {
    let text = format!("the first frame is a Hello; found {found}");
    Refusal::told(ErrorCode::HelloExpected, CloseCode::ProtocolError, text)
}

fn malformed(error: &FrameError) -> Refusal {
    let close = error.close().unwrap_or(CloseCode::ProtocolError);
    Refusal::told(error.code(), close, error.to_string())
}
