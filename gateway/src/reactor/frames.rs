//! What a client sends: WebSocket messages, the frames in them, and what the session makes of each.

use super::turn::Reactor;
use crate::counters::Counter;
use crate::reactor::inbox::Encoding;
use crate::session::connection::{Connection, Role, Stage};
use crate::session::write;
use bytes::Bytes;
use hawser_protocol::frame::{ClientFrame, FrameError, FrameType, split};
use hawser_protocol::json;
use hawser_protocol::limits::FRAME_HEADER_BYTES;
use hawser_protocol::server::UserRates;
use hawser_wire::ws::{self, CloseCode, Data, Message, OpCode, WsError};

/// RFC 6455: a close frame without a code is answered with this.
const CLOSE_NORMAL: u16 = 1000;

impl Reactor {
    /// Reads all messages in `bytes`, which are unmasked in place.
    pub(super) fn messages(&mut self, connection: &mut Connection, bytes: &mut [u8]) {
        let mut at = 0;
        while connection.is_open() && at < bytes.len() {
            // The decoder is taken out, so that the message may borrow from it no longer than needed.
            match connection.decoder.next(bytes, &mut at) {
                Ok(Some(message)) => self.message(connection, message),
                Ok(None) => {}
                Err(error) => self.broke_websocket(connection, error),
            }
        }
    }

    /// Reads the frames of one binary message.
    pub(super) fn frames(&mut self, connection: &mut Connection, mut message: Bytes) {
        while connection.is_open() {
            let frame_type = FrameType(message.first().copied().unwrap_or(0));
            let frame = match split(&mut message) {
                Ok(None) => return,
                Ok(Some(raw)) => ClientFrame::decode(&raw),
                Err(error) => Err(error),
            };
            self.frame(connection, frame_type, frame);
        }
    }

    pub(super) fn message(&mut self, connection: &mut Connection, message: Message<'_>) {
        match message {
            Message::Ping(payload) => {
                write::pong(&payload, connection.output.plain(&mut self.pool));
                self.touch(connection);
            }
            Message::Pong(_) => {}
            Message::Close(close) => {
                let code = close.map_or(CLOSE_NORMAL, |close| close.code);
                self.close(connection, code, "");
            }
            Message::Text(text) => self.text(connection, &text),
            Message::Binary(bytes) => self.binary(connection, &bytes),
            Message::Deflated(deflated) => self.inflate(connection, deflated),
        }
    }

    fn text(&mut self, connection: &mut Connection, text: &str) {
        match &mut connection.role {
            Role::Echo { .. } => self.echo(connection, Data::Text, text.as_bytes()),
            Role::Session(device) if device.encoding == Encoding::Json => {
                let frame = json::decode_client(text);
                let frame_type = frame.as_ref().map_or(FrameType(0), ClientFrame::frame_type);
                self.frame(connection, frame_type, frame);
            }
            Role::Session(_) => {
                let what = "a text message on hawser.v1";
                self.frame(
                    connection,
                    FrameType(0),
                    Err(FrameError::Malformed { what }),
                );
            }
        }
    }

    fn binary(&mut self, connection: &mut Connection, bytes: &[u8]) {
        match &mut connection.role {
            Role::Echo { .. } => self.echo(connection, Data::Binary, bytes),
            Role::Session(device) if device.encoding == Encoding::Binary => {
                if bytes.len() < FRAME_HEADER_BYTES {
                    let fault = Err(FrameError::Truncated);
                    return self.frame(connection, FrameType(0), fault);
                }
                self.frames(connection, Bytes::copy_from_slice(bytes));
            }
            Role::Session(_) => {
                let what = "a binary message on hawser.v1+json";
                self.frame(
                    connection,
                    FrameType(0),
                    Err(FrameError::Malformed { what }),
                );
            }
        }
    }

    fn frame(
        &mut self,
        connection: &mut Connection,
        frame_type: FrameType,
        frame: Result<ClientFrame, FrameError>,
    ) {
        let now = self.now();
        let mut actions = self.actions();
        let Role::Session(device) = &mut connection.role else {
            return;
        };
        self.counters.inc(Counter::FramesIn);
        match frame {
            Ok(frame) => {
                let session = &mut device.session;
                // One that has left the tables is closing: nothing of it is counted any more.
                let mut gone = UserRates::default();
                let rates = self.users.rates(device.place, &device.user);
                let rates = rates.unwrap_or(&mut gone);
                session.frame(&self.settings, rates, frame, now, &mut actions);
                session.return_window(&mut self.scratch.windows);
            }
            Err(error) => device.session.malformed(&error, frame_type, &mut actions),
        }
        self.perform(connection, actions);
        // An ack, or the adoption of the head, may have made room.
        self.queue_if_behind(connection);
    }

    fn echo(&mut self, connection: &mut Connection, kind: Data, bytes: &[u8]) {
        self.counters.inc(Counter::EchoMessages);
        let out = connection.output.plain(&mut self.pool);
        let from = out.len();
        ws::encode(OpCode::Data(kind), bytes, None, out);
        self.compress(connection, from);
        self.touch(connection);
    }

    pub(super) fn broke_websocket(&mut self, connection: &mut Connection, error: WsError) {
        self.counters.inc(Counter::WsProtocolErrors);
        let code = match (error, error.close_code()) {
            // Each fragment is sound; it is their number that is not.
            (WsError::TooManyFragments, _) => 1008,
            (_, CloseCode::Invalid) => 1007,
            (_, CloseCode::Size) => 1009,
            _ => 1002,
        };
        let text = error.to_string();
        self.close(connection, code, &text);
    }

    /// Says why, and ends our direction.
    pub(super) fn close(&mut self, connection: &mut Connection, code: u16, reason: &str) {
        if !matches!(connection.stage, Stage::Closing { .. }) {
            let out = connection.output.plain(&mut self.pool);
            ws::encode_close(code, reason, None, out);
            self.count_close(code);
        }
        self.begin_closing(connection);
    }
}
