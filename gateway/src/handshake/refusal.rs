//! How a connection that has no session yet is told no: an HTTP answer before the upgrade, an `Error`
//! frame and a close code after it.

use super::connection::{Connection, Ended};
use crate::reactor::inbox::Encoding;
use hawser_protocol::codes::{CloseCode, ErrorCode};
use hawser_protocol::frame::{FrameType, ServerFrame};
use hawser_protocol::{json, pb};
use hawser_wire::ws::{self, Data, OpCode, WsError};

/// Why a WebSocket connection gets no session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The connection is gone; nobody listens.
    Ended(Ended),
    /// RFC 6455 was broken.
    WebSocket(WsError),
    /// The peer closed with this code.
    Closed(Option<u16>),
    /// Another node is better: a `Redirect`, then a close.
    Redirect(pb::Redirect),
    /// An `Error` frame, then a close.
    Told {
        /// For the frame.
        code: ErrorCode,
        /// For people.
        text: String,
        /// For the close.
        close: CloseCode,
        /// When to try again, milliseconds; 0: not by waiting.
        retry_after_ms: u32,
    },
}

impl From<Ended> for Refusal {
    fn from(ended: Ended) -> Self {
        Self::Ended(ended)
    }
}

impl Refusal {
    /// The peer's fault, which waiting does not mend.
    pub(super) fn told(code: ErrorCode, close: CloseCode, text: impl Into<String>) -> Self {
        Self::Told {
            code,
            text: text.into(),
            close,
            retry_after_ms: 0,
        }
    }

    /// The node has no room for this session now.
    pub(super) fn overloaded(text: &str, retry_after_ms: u32) -> Self {
        Self::Told {
            code: ErrorCode::Overloaded,
            text: text.to_owned(),
            close: CloseCode::Overloaded,
            retry_after_ms,
        }
    }

    /// The node drains, and knows nobody who could have this session; it is connected to another, or later to whoever comes
    /// after this node.
    pub(super) fn draining(retry_after_ms: u32) -> Self {
        Self::Told {
            code: ErrorCode::Unavailable,
            text: "this node drains; connect to another".to_owned(),
            close: CloseCode::Moved,
            retry_after_ms,
        }
    }

    /// No complete Hello by the deadline.
    pub(super) fn too_slow() -> Self {
        let text = "no complete Hello within the deadline";
        Self::told(ErrorCode::HelloExpected, CloseCode::HelloTimeout, text)
    }

    /// Tells the peer and ends the connection. The caller bounds the time.
    pub(super) async fn tell(&self, connection: &mut Connection, encoding: Encoding) {
        let mut out = Vec::new();
        match self {
            Self::Ended(_) => return,
            Self::WebSocket(error) => {
                ws::encode_close(
                    error.close_code().into(),
                    &error.to_string(),
                    None,
                    &mut out,
                );
            }
            Self::Closed(code) => ws::encode_close(code.unwrap_or(1_000), "", None, &mut out),
            Self::Redirect(redirect) => {
                frame(&ServerFrame::Redirect(redirect.clone()), encoding, &mut out);
                let close = CloseCode::Moved;
                ws::encode_close(close.number(), close.name(), None, &mut out);
            }
            Self::Told {
                code,
                text,
                close,
                retry_after_ms,
            } => {
                let error = ServerFrame::Error(pb::Error {
                    code: u32::from(code.number()),
                    text: text.clone(),
                    retry_after_ms: *retry_after_ms,
                    frame_type: u32::from(FrameType::HELLO.0),
                    ..pb::Error::default()
                });
                frame(&error, encoding, &mut out);
                ws::encode_close(close.number(), close.name(), None, &mut out);
            }
        }
        if connection.write(&out).await.is_ok() {
            connection.finish().await;
        }
    }
}

/// Appends a frame as one WebSocket message.
fn frame(frame: &ServerFrame, encoding: Encoding, out: &mut Vec<u8>) {
    match encoding {
        Encoding::Binary => {
            let mut bytes = Vec::new();
            frame.encode(&mut bytes);
            ws::encode(OpCode::Data(Data::Binary), &bytes, None, out);
        }
        Encoding::Json => {
            let text = json::encode_server(frame);
            ws::encode(OpCode::Data(Data::Text), text.as_bytes(), None, out);
        }
    }
}
