//! One connection, without its socket: TLS, the upgrade and WebSocket messages.

use std::sync::Arc;

use bytes::Bytes;
use hawser_wire::http::{ClientError, ClientUpgrade, client_request, client_response};
use hawser_wire::record::{ClientHandshake, Layer, Progress, RecordError};
use hawser_wire::ws::Control;
use hawser_wire::ws::{
    Data, Decoder, Deflater, Inflater, Limits, Message, OpCode, Role, WsError, apply_mask,
    deflated_header, encode, encode_close,
};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

/// The subprotocol that this client speaks.
const PROTOCOL: &str = "hawser.v1";

/// Where connections go.
#[derive(Clone)]
pub struct Target {
    /// Authority of the URL.
    pub host: String,
    /// Path of the URL.
    pub path: String,
    /// TLS, unless `ws://`.
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// Offers to compress.
    pub deflate: bool,
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
    /// The server did not choose our subprotocol.
    #[error("the server did not choose {PROTOCOL}")]
    Protocol,
}

/// What came.
#[derive(Debug, PartialEq)]
pub enum Inbound {
    /// The upgrade is done: speak.
    Opened,
    /// One message.
    Message(Bytes),
    /// The server closes, with this code (1005: none).
    Closed(u16),
}

/// Buffers that all connections of a thread share.
#[derive(Default)]
pub struct Scratch {
    plain: Vec<u8>,
    frame: Vec<u8>,
    /// Of connections that agreed to compress.
    inflater: Inflater,
    deflater: Option<Deflater>,
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
    Handshake(Box<ClientHandshake>),
    Upgrading {
        layer: Layer,
        head: Vec<u8>,
        key: [u8; 16],
    },
    Open(Layer),
}

impl Default for Link {
    fn default() -> Self {
        Self {
            stage: Stage::Idle,
            decoder: decoder(),
            incoming: Vec::new(),
        }
    }
}

impl Link {
    /// The socket is connected: appends what goes first.
    ///
    /// # Errors
    /// The TLS configuration cannot be used.
    pub fn begin(
        &mut self,
        target: &Target,
        key: [u8; 16],
        out: &mut Vec<u8>,
    ) -> Result<(), LinkError> {
        match &target.tls {
            Some((config, name)) => {
                let mut handshake = ClientHandshake::new(Arc::clone(config), name.clone())?;
                handshake.step(&mut self.incoming, out)?;
                self.stage = Stage::Handshake(Box::new(handshake));
            }
            None => self.upgrade(target, Layer::Plain, key, out)?,
        }
        Ok(())
    }

    /// Bytes came: appends what they mean to `inbound` and what must be answered to `out`.
    ///
    /// # Errors
    /// The server's fault; send `out`, then close.
    pub fn feed(
        &mut self,
        target: &Target,
        bytes: &[u8],
        key: [u8; 16],
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
        inbound: &mut Vec<Inbound>,
    ) -> Result<(), LinkError> {
        self.incoming.extend_from_slice(bytes);
        if let Stage::Handshake(handshake) = &mut self.stage {
            if handshake.step(&mut self.incoming, out)? == Progress::NeedMore {
                return Ok(());
            }
            if let Stage::Handshake(handshake) = std::mem::replace(&mut self.stage, Stage::Idle) {
                self.upgrade(target, handshake.finish()?, key, out)?;
            }
        }
        scratch.plain.clear();
        let (Stage::Upgrading { layer, .. } | Stage::Open(layer)) = &mut self.stage else {
            return Ok(());
        };
        layer.open(&mut self.incoming, &mut scratch.plain, out)?;
        if self.incoming.is_empty() {
            self.incoming = Vec::new();
        }
        let mut at = 0;
        if let Stage::Upgrading { head, key, .. } = &mut self.stage {
            head.append(&mut scratch.plain);
            let Some(switched) = client_response(head, &asked(target, *key))? else {
                return Ok(());
            };
            if switched.protocol != Some(0) {
                return Err(LinkError::Protocol);
            }
            self.decoder = decoder().deflating(switched.deflate);
            scratch.plain.append(head);
            at = switched.used;
            inbound.push(Inbound::Opened);
            if let Stage::Upgrading { layer, .. } = std::mem::replace(&mut self.stage, Stage::Idle)
            {
                self.stage = Stage::Open(layer);
            }
        }
        self.messages(at, scratch, out, inbound)
    }

    fn messages(
        &mut self,
        mut at: usize,
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
        inbound: &mut Vec<Inbound>,
    ) -> Result<(), LinkError> {
        let Scratch {
            plain,
            frame,
            inflater,
            ..
        } = scratch;
        let Stage::Open(layer) = &mut self.stage else {
            return Ok(());
        };
        while let Some(message) = self.decoder.next(plain, &mut at)? {
            let message = match message {
                Message::Deflated(deflated) => deflated.inflate(inflater)?,
                message => message,
            };
            match message {
                Message::Text(_) | Message::Pong(_) | Message::Deflated(_) => {}
                Message::Binary(bytes) => {
                    inbound.push(Inbound::Message(Bytes::copy_from_slice(&bytes)));
                }
                Message::Ping(payload) => {
                    frame.clear();
                    encode(OpCode::Control(Control::Pong), &payload, Some(MASK), frame);
                    layer.seal(frame, out)?;
                }
                Message::Close(close) => {
                    frame.clear();
                    let code = close.as_ref().map_or(1005, |close| close.code);
                    encode_close(1000, "", Some(MASK), frame);
                    layer.seal(frame, out)?;
                    layer.close_notify(out);
                    inbound.push(Inbound::Closed(code));
                }
            }
        }
        Ok(())
    }

    /// Appends one binary message.
    ///
    /// # Errors
    /// The connection is not open, or its keys are used up.
    pub fn send(
        &mut self,
        message: &[u8],
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> Result<(), LinkError> {
        let Stage::Open(layer) = &mut self.stage else {
            return Err(LinkError::Tls(RecordError::Ended));
        };
        let Scratch {
            frame, deflater, ..
        } = scratch;
        frame.clear();
        let smaller = match self.decoder.deflate() {
            Some(agreed) => deflater
                .get_or_insert_with(|| Deflater::new(LEVEL))
                .compress(agreed, message),
            None => None,
        };
        match smaller {
            Some(smaller) => {
                deflated_header(Data::Binary, smaller.len(), Some(MASK), frame);
                let at = frame.len();
                frame.extend_from_slice(smaller);
                apply_mask(&mut frame[at..], MASK, 0);
            }
            None => encode(OpCode::Data(Data::Binary), message, Some(MASK), frame),
        }
        layer.seal(frame, out)?;
        Ok(())
    }

    fn upgrade(
        &mut self,
        target: &Target,
        mut layer: Layer,
        key: [u8; 16],
        out: &mut Vec<u8>,
    ) -> Result<(), LinkError> {
        let mut request = Vec::new();
        client_request(&asked(target, key), &mut request);
        layer.seal(&request, out)?;
        let head = Vec::new();
        self.stage = Stage::Upgrading { layer, head, key };
        Ok(())
    }
}

/// Level that messages are compressed with, where that was agreed on.
const LEVEL: u8 = 1;

fn decoder() -> Decoder {
    let limits = Limits {
        message_bytes_max: 1 << 20,
        ..Limits::default()
    };
    Decoder::new(Role::Client, limits)
}

/// A mask guards intermediaries against scripts, of which there are none here; a server unmasks it all the same.
const MASK: [u8; 4] = [0x51, 0xa3, 0x0e, 0xc7];

fn asked(target: &Target, key: [u8; 16]) -> ClientUpgrade<'_> {
    ClientUpgrade {
        host: &target.host,
        target: &target.path,
        protocols: &[PROTOCOL],
        headers: &[],
        deflate: target.deflate,
        key,
    }
}
