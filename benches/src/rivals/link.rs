//! One connection, without its socket: TLS, the upgrade and WebSocket messages of any server.

use std::sync::Arc;

use hawser_wire::http::{ClientError, ClientUpgrade, client_request, client_response};
use hawser_wire::record::{ClientHandshake, Layer, Progress, RecordError};
use hawser_wire::ws::{
    Control, Data, Decoder, Limits, Message, OpCode, Role, WsError, encode, encode_close,
};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

/// A server's message is at most this long.
const MESSAGE_BYTES_MAX: u32 = 1 << 20;
/// A mask guards intermediaries against scripts, of which there are none here; a server unmasks it all the same.
const MASK: [u8; 4] = [0x51, 0xa3, 0x0e, 0xc7];

/// TLS of all connections, and the name that the certificate is for.
pub type Tls = Option<(Arc<ClientConfig>, ServerName<'static>)>;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The authority of the URL.
    pub host: String,
    /// The path with its query.
    pub path: String,
    /// The subprotocol, where the server wants one.
    pub protocol: Option<&'static str>,
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LinkError {
    /// TLS failed.
    #[error(transparent)]
    Tls(#[from] RecordError),
    /// The upgrade was refused.
    #[error(transparent)]
    Upgrade(#[from] ClientError),
    /// The server broke the WebSocket protocol.
    #[error("the server's frames: {0}")]
    Frames(#[from] WsError),
    /// The server closed, with this code (1005: none).
    #[error("the server closed with {0}")]
    Closed(u16),
}

/// What came.
#[derive(Debug)]
pub enum Inbound<'a> {
    /// The upgrade is done: speak.
    Opened,
    /// One message, text or binary.
    Message(&'a [u8]),
}

/// Buffers that all connections of a thread share.
#[derive(Default)]
pub struct Scratch {
    plain: Vec<u8>,
    frame: Vec<u8>,
}

/// One connection.
pub struct Link {
    stage: Stage,
    decoder: Decoder,
    /// Ciphertext that is not a whole record yet.
    incoming: Vec<u8>,
}

enum Stage {
    Idle,
    Handshake(Box<ClientHandshake>, Box<Ask>),
    Upgrading {
        layer: Layer,
        head: Vec<u8>,
        ask: Box<Ask>,
    },
    Open(Layer),
}

impl Default for Link {
    fn default() -> Self {
        let limits = Limits {
            message_bytes_max: MESSAGE_BYTES_MAX,
            ..Limits::default()
        };
        Self {
            stage: Stage::Idle,
            decoder: Decoder::new(Role::Client, limits),
            incoming: Vec::new(),
        }
    }
}

impl Link {
    /// The socket is connected: appends what goes first.
    ///
    /// # Errors
    /// The TLS configuration cannot be used.
    pub fn begin(&mut self, tls: &Tls, ask: Ask, out: &mut Vec<u8>) -> Result<(), LinkError> {
        match tls {
            Some((config, name)) => {
                let mut handshake = ClientHandshake::new(Arc::clone(config), name.clone())?;
                handshake.step(&mut self.incoming, out)?;
                self.stage = Stage::Handshake(Box::new(handshake), Box::new(ask));
            }
            None => self.upgrade(Box::new(ask), Layer::Plain, out)?,
        }
        Ok(())
    }

    /// Bytes came: calls `each` for what they mean, and appends what the transport answers to `out`.
    ///
    /// # Errors
    /// The server's fault, or it closes; send `out`, then close.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
        mut each: impl FnMut(Inbound<'_>),
    ) -> Result<(), LinkError> {
        self.incoming.extend_from_slice(bytes);
        if let Stage::Handshake(handshake, _) = &mut self.stage {
            if handshake.step(&mut self.incoming, out)? == Progress::NeedMore {
                return Ok(());
            }
            if let Stage::Handshake(handshake, ask) =
                std::mem::replace(&mut self.stage, Stage::Idle)
            {
                self.upgrade(ask, handshake.finish()?, out)?;
            }
        }
        scratch.plain.clear();
        let (Stage::Upgrading { layer, .. } | Stage::Open(layer)) = &mut self.stage else {
            return Ok(());
        };
        let ended = layer
            .open(&mut self.incoming, &mut scratch.plain, out)?
            .closed;
        if self.incoming.is_empty() {
            self.incoming = Vec::new();
        }
        let mut at = 0;
        if let Stage::Upgrading { head, ask, .. } = &mut self.stage {
            head.append(&mut scratch.plain);
            let protocols: Vec<&str> = ask.protocol.into_iter().collect();
            let Some(switched) = client_response(head, &asked(ask, &protocols))? else {
                return Ok(());
            };
            scratch.plain.append(head);
            at = switched.used;
            each(Inbound::Opened);
            if let Stage::Upgrading { layer, .. } = std::mem::replace(&mut self.stage, Stage::Idle)
            {
                self.stage = Stage::Open(layer);
            }
        }
        self.messages(at, scratch, out, &mut each)?;
        if ended {
            return Err(LinkError::Closed(1005));
        }
        Ok(())
    }

    fn messages(
        &mut self,
        mut at: usize,
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
        each: &mut impl FnMut(Inbound<'_>),
    ) -> Result<(), LinkError> {
        let Scratch { plain, frame } = scratch;
        let Stage::Open(layer) = &mut self.stage else {
            return Ok(());
        };
        while let Some(message) = self.decoder.next(plain, &mut at)? {
            match message {
                Message::Pong(_) | Message::Deflated(_) => {}
                Message::Text(text) => each(Inbound::Message(text.as_bytes())),
                Message::Binary(bytes) => each(Inbound::Message(&bytes)),
                Message::Ping(payload) => {
                    frame.clear();
                    encode(OpCode::Control(Control::Pong), &payload, Some(MASK), frame);
                    layer.seal(frame, out)?;
                }
                Message::Close(close) => {
                    frame.clear();
                    encode_close(1000, "", Some(MASK), frame);
                    layer.seal(frame, out)?;
                    let code = close.as_ref().map_or(1005, |close| close.code);
                    return Err(LinkError::Closed(code));
                }
            }
        }
        Ok(())
    }

    /// Appends messages; all of them are sealed together.
    ///
    /// # Errors
    /// The connection is not open, or its keys are used up.
    pub fn send(
        &mut self,
        messages: &[Vec<u8>],
        is_text: bool,
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> Result<(), LinkError> {
        let Stage::Open(layer) = &mut self.stage else {
            return Err(LinkError::Tls(RecordError::Ended));
        };
        let data = if is_text { Data::Text } else { Data::Binary };
        scratch.frame.clear();
        for message in messages {
            encode(OpCode::Data(data), message, Some(MASK), &mut scratch.frame);
        }
        layer.seal(&scratch.frame, out)?;
        Ok(())
    }

    fn upgrade(
        &mut self,
        ask: Box<Ask>,
        mut layer: Layer,
        out: &mut Vec<u8>,
    ) -> Result<(), LinkError> {
        let mut request = Vec::new();
        let protocols: Vec<&str> = ask.protocol.into_iter().collect();
        client_request(&asked(&ask, &protocols), &mut request);
        layer.seal(&request, out)?;
        let head = Vec::new();
        self.stage = Stage::Upgrading { layer, head, ask };
        Ok(())
    }
}

fn asked<'a>(ask: &'a Ask, protocols: &'a [&'a str]) -> ClientUpgrade<'a> {
    ClientUpgrade {
        host: &ask.host,
        target: &ask.path,
        protocols,
        headers: &[],
        deflate: false,
        // No cache is between the two programs, so the key need not differ.
        key: *b"hawser-rivals-01",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask() -> Ask {
        Ask {
            host: "localhost".to_owned(),
            path: "/x".to_owned(),
            protocol: Some("mqtt"),
        }
    }

    fn fed(link: &mut Link, bytes: &[u8]) -> (Result<(), LinkError>, Vec<Vec<u8>>, Vec<u8>) {
        let (mut out, mut came) = (Vec::new(), Vec::new());
        let result = link.feed(
            bytes,
            &mut Scratch::default(),
            &mut out,
            |item| match item {
                Inbound::Opened => came.push(b"opened".to_vec()),
                Inbound::Message(bytes) => came.push(bytes.to_vec()),
            },
        );
        (result, came, out)
    }

    #[test]
    fn an_upgrade_in_pieces_then_messages_of_both_kinds() {
        let mut link = Link::default();
        let mut request = Vec::new();
        link.begin(&None, ask(), &mut request).expect("begins");
        assert!(request.starts_with(b"GET /x HTTP/1.1\r\n"));
        let mut answer = Vec::new();
        let head = hawser_wire::http::Request::parse(&request)
            .expect("a request")
            .expect("whole");
        let accepted = hawser_wire::http::upgrade(&head.0, &["mqtt"]).expect("an upgrade");
        hawser_wire::http::switch(&accepted, Some("mqtt"), &mut answer);
        let (first, second) = answer.split_at(40);
        let (result, came, _) = fed(&mut link, first);
        assert!(result.is_ok() && came.is_empty());
        let mut bytes = second.to_vec();
        encode(OpCode::Data(Data::Text), b"text", None, &mut bytes);
        encode(OpCode::Data(Data::Binary), b"bytes", None, &mut bytes);
        encode(OpCode::Control(Control::Ping), b"p", None, &mut bytes);
        let (result, came, out) = fed(&mut link, &bytes);
        assert!(result.is_ok());
        assert_eq!(came, [&b"opened"[..], b"text", b"bytes"]);
        assert_eq!(out[0], 0x8a, "a pong");
        let mut close = Vec::new();
        encode_close(4001, "", None, &mut close);
        assert_eq!(fed(&mut link, &close).0, Err(LinkError::Closed(4001)));
    }

    #[test]
    fn a_refusal_and_noise_are_errors() {
        for answer in [
            &b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"[..],
            b"\x00\x01\x02 noise\r\n\r\n",
            b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        ] {
            let mut link = Link::default();
            link.begin(&None, ask(), &mut Vec::new()).expect("begins");
            assert!(fed(&mut link, answer).0.is_err());
        }
    }
}
