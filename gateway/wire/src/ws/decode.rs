//! Reading frames, however the bytes are cut.

use std::borrow::Cow;

use simdutf8::basic::from_utf8;

use super::frame::Frame;
use super::utf8::Utf8Stream;
use super::{
    CloseCode, Control, Data, Deflate, Deflated, HEADER_BYTES_MAX, OpCode, WsError, apply_mask,
};

/// Which end of the connection we are: it decides whose frames are masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// We are the server; incoming frames are masked.
    Server,
    /// We are the client; incoming frames are not masked.
    Client,
}

/// What one message may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one message, all fragments together; default 65,536. Announced lengths count, so nothing is buffered
    /// of a message that will be refused. A compressed message may be so long when it is decompressed, and an eighth and 64
    /// bytes longer before: what does not compress becomes longer.
    pub message_bytes_max: u32,
    /// Frames of one message; default 1,024.
    pub fragments_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_max: 65_536,
            fragments_max: 1_024,
        }
    }
}

/// One whole message, borrowed from the input where it was whole there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'i> {
    /// A text message; valid UTF-8.
    Text(Cow<'i, str>),
    /// A binary message.
    Binary(Cow<'i, [u8]>),
    /// Either, compressed; only of a decoder that was told so by [`Decoder::deflating`].
    Deflated(Deflated<'i>),
    /// To be answered by a pong with the same payload (≤ 125 bytes).
    Ping(Cow<'i, [u8]>),
    /// An answer to a ping, or unsolicited.
    Pong(Cow<'i, [u8]>),
    /// The peer closes; nothing after it is read. To be answered by a close unless we sent one.
    Close(Option<Close<'i>>),
}

impl Message<'_> {
    /// Bytes of its payload; of a close those of its reason.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) | Self::Ping(bytes) | Self::Pong(bytes) => bytes.len(),
            Self::Deflated(deflated) => deflated.len(),
            Self::Close(close) => close.as_ref().map_or(0, |close| close.reason.len()),
        }
    }

    /// It has no payload.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why the peer closes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close<'i> {
    /// 1000..=1003, 1007..=1014 or 3000..=4999.
    pub code: u16,
    /// Valid UTF-8, at most 123 bytes.
    pub reason: Cow<'i, str>,
}

/// Where a connection's input stands. Between messages it holds no buffer (24 bytes in all).
#[derive(Debug)]
pub struct Decoder {
    partial: Option<Box<Partial>>,
    limits: Limits,
    role: Role,
    ended: bool,
    deflate: Option<Deflate>,
}

const _: () = assert!(size_of::<Decoder>() <= 24);

/// What is held of a frame, a control frame or a message that is not whole yet.
#[derive(Debug, Default)]
struct Partial {
    header: [u8; HEADER_BYTES_MAX],
    header_len: u8,
    frame: Option<Frame>,
    /// The data message that frames are added to.
    message: Option<Assembly>,
    /// The payload so far of a control frame.
    control: Vec<u8>,
}

/// A data message in pieces.
#[derive(Debug)]
struct Assembly {
    data: Data,
    /// Where it is text, and not compressed.
    text: Option<Utf8Stream>,
    deflated: bool,
    bytes: Vec<u8>,
    fragments: u32,
}

impl Decoder {
    /// A decoder at the beginning of a connection.
    #[must_use]
    pub fn new(role: Role, limits: Limits) -> Self {
        Self {
            partial: None,
            limits,
            role,
            ended: false,
            deflate: None,
        }
    }

    /// The ends have agreed to compress, or not: what may come, and [`Decoder::deflate`] tells those who send.
    #[must_use]
    pub fn deflating(mut self, deflate: Option<Deflate>) -> Self {
        self.deflate = deflate;
        self
    }

    /// What the ends have agreed on.
    #[inline]
    #[must_use]
    pub fn deflate(&self) -> Option<Deflate> {
        self.deflate
    }

    /// The next message of `input`, looking from `*at` on, which moves past what was taken. `None` when all of the
    /// input is taken and no message is whole; after a close everything is taken and nothing comes. The input is
    /// unmasked in place, so bytes before `*at` must not be given again.
    ///
    /// # Errors
    /// The peer broke the protocol; all later calls take everything and give nothing.
    pub fn next<'i>(
        &mut self,
        input: &'i mut [u8],
        at: &mut usize,
    ) -> Result<Option<Message<'i>>, WsError> {
        if self.ended {
            *at = input.len();
            return Ok(None);
        }
        let mut rest = input.get_mut(*at..).unwrap_or_default();
        let total = rest.len();
        let result = self.step(&mut rest);
        *at += total - rest.len();
        match result {
            Ok(message) => {
                if matches!(message, Some(Message::Close(_))) {
                    self.end();
                }
                Ok(message)
            }
            Err(error) => {
                self.end();
                Err(error)
            }
        }
    }

    /// No part of a frame or message is held.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.partial.is_none()
    }

    /// A close was read, or the peer broke the protocol.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Heap bytes held for what is not whole yet.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| {
            let message = partial
                .message
                .as_ref()
                .map_or(0, |message| message.bytes.capacity());
            size_of::<Partial>() + message + partial.control.capacity()
        })
    }

    fn end(&mut self) {
        self.ended = true;
        self.partial = None;
    }

    /// Takes frames until a message is whole or `rest` is empty.
    fn step<'i>(&mut self, rest: &mut &'i mut [u8]) -> Result<Option<Message<'i>>, WsError> {
        loop {
            let Some(frame) = self.frame(rest)? else {
                return Ok(None);
            };
            let missing = frame.len - frame.taken;
            let Some(payload) = take(rest, missing) else {
                self.absorb(frame, std::mem::take(rest))?;
                return Ok(None);
            };
            if let Some(mask) = frame.mask {
                apply_mask(payload, mask, frame.mask_place());
            }
            if let Some(message) = self.finish(frame, payload)? {
                return Ok(Some(message));
            }
        }
    }

    /// The frame that is under way, or the next one; `None` when its header is not whole.
    fn frame(&mut self, rest: &mut &mut [u8]) -> Result<Option<Frame>, WsError> {
        let held = self.partial.as_deref_mut();
        if let Some(frame) = held.as_ref().and_then(|partial| partial.frame) {
            return Ok(Some(frame));
        }
        let in_message = held
            .as_ref()
            .is_some_and(|partial| partial.message.is_some());
        let (mut header, held_len) = held.map_or(([0; HEADER_BYTES_MAX], 0), |partial| {
            (partial.header, usize::from(partial.header_len))
        });
        let fresh = rest.len().min(HEADER_BYTES_MAX - held_len);
        header[held_len..held_len + fresh].copy_from_slice(&rest[..fresh]);
        let known = &header[..held_len + fresh];
        match Frame::parse(known, self.role, self.deflate.is_some())? {
            Some((frame, used)) => {
                self.admit(frame, in_message)?;
                // A header that was whole before would not have been held.
                let _ = take(rest, used.saturating_sub(held_len) as u64);
                if let Some(partial) = self.partial.as_deref_mut() {
                    partial.header_len = 0;
                }
                Ok(Some(frame))
            }
            None => {
                if !known.is_empty() {
                    let len = u8::try_from(known.len()).unwrap_or(0);
                    let partial = self.partial.get_or_insert_default();
                    partial.header = header;
                    partial.header_len = len;
                }
                *rest = &mut [];
                Ok(None)
            }
        }
    }

    /// Judges a header within its message, before any payload is held.
    fn admit(&mut self, frame: Frame, in_message: bool) -> Result<(), WsError> {
        let OpCode::Data(data) = frame.opcode else {
            return Ok(());
        };
        match (data, in_message) {
            (Data::Continue, false) => return Err(WsError::UnexpectedContinuation),
            (Data::Text | Data::Binary, true) => return Err(WsError::UnfinishedMessage),
            _ => {}
        }
        let message = self
            .partial
            .as_deref_mut()
            .and_then(|partial| partial.message.as_mut());
        let (held, fragments, deflated) = message.map_or((0, 0, frame.deflated), |message| {
            (
                message.bytes.len() as u64,
                message.fragments,
                message.deflated,
            )
        });
        if held.saturating_add(frame.len) > self.limits.wire_bytes_max(deflated) {
            return Err(WsError::TooLong);
        }
        if fragments >= self.limits.fragments_max {
            return Err(WsError::TooManyFragments);
        }
        Ok(())
    }

    /// Holds the beginning of a frame's payload, which is all there is.
    fn absorb(&mut self, mut frame: Frame, payload: &mut [u8]) -> Result<(), WsError> {
        if let Some(mask) = frame.mask {
            apply_mask(payload, mask, frame.mask_place());
        }
        let first = frame.taken == 0;
        frame.taken += payload.len() as u64;
        let partial = self.partial.get_or_insert_default();
        match frame.opcode {
            OpCode::Control(_) => partial.control.extend_from_slice(payload),
            OpCode::Data(data) => {
                let new_frame = first && partial.frame.is_none();
                let message = partial
                    .message
                    .get_or_insert_with(|| Assembly::new(data, frame.deflated));
                message.fragments += u32::from(new_frame);
                message.add(payload)?;
            }
        }
        partial.frame = Some(frame);
        Ok(())
    }

    /// Takes the rest of a frame's payload, already unmasked.
    fn finish<'i>(
        &mut self,
        frame: Frame,
        payload: &'i mut [u8],
    ) -> Result<Option<Message<'i>>, WsError> {
        let Some(partial) = self.partial.as_deref_mut() else {
            return match frame.opcode {
                OpCode::Control(control) => {
                    whole_control(control, Cow::Borrowed(payload)).map(Some)
                }
                OpCode::Data(data) if frame.is_final => {
                    self.limits.whole(data, frame.deflated, payload).map(Some)
                }
                OpCode::Data(data) => {
                    let mut message = Assembly::new(data, frame.deflated);
                    message.fragments = 1;
                    message.add(payload)?;
                    self.partial.get_or_insert_default().message = Some(message);
                    Ok(None)
                }
            };
        };
        let begun = partial.frame.take().is_some();
        let message = match frame.opcode {
            OpCode::Control(control) => {
                let held = std::mem::take(&mut partial.control);
                let payload = if held.is_empty() {
                    Cow::Borrowed(&*payload)
                } else {
                    Cow::Owned([held.as_slice(), payload].concat())
                };
                Some(whole_control(control, payload)?)
            }
            OpCode::Data(data) if partial.message.is_none() && frame.is_final => {
                Some(self.limits.whole(data, frame.deflated, payload)?)
            }
            OpCode::Data(data) => {
                let message = partial
                    .message
                    .get_or_insert_with(|| Assembly::new(data, frame.deflated));
                message.fragments += u32::from(!begun);
                message.add(payload)?;
                match partial.message.take_if(|_| frame.is_final) {
                    Some(message) => Some(message.finish(self.limits)?),
                    None => None,
                }
            }
        };
        if partial.message.is_none() {
            self.partial = None;
        }
        Ok(message)
    }
}

impl Assembly {
    fn new(data: Data, deflated: bool) -> Self {
        Self {
            data,
            text: (data == Data::Text && !deflated).then(Utf8Stream::default),
            deflated,
            bytes: Vec::new(),
            fragments: 0,
        }
    }

    fn add(&mut self, payload: &[u8]) -> Result<(), WsError> {
        if let Some(text) = &mut self.text {
            text.push(payload).map_err(|_| WsError::BadUtf8)?;
        }
        self.bytes.extend_from_slice(payload);
        Ok(())
    }

    fn finish<'i>(self, limits: Limits) -> Result<Message<'i>, WsError> {
        match self.text {
            None if self.deflated => Ok(Message::Deflated(Deflated {
                data: self.data,
                bytes: Cow::Owned(self.bytes),
                bytes_max: limits.message_bytes_max,
            })),
            None => Ok(Message::Binary(Cow::Owned(self.bytes))),
            Some(text) if text.is_complete() => {
                let text = String::from_utf8(self.bytes).map_err(|_| WsError::BadUtf8)?;
                Ok(Message::Text(Cow::Owned(text)))
            }
            Some(_) => Err(WsError::BadUtf8),
        }
    }
}

impl Limits {
    /// Bytes of a message as it comes.
    fn wire_bytes_max(self, deflated: bool) -> u64 {
        let plain = u64::from(self.message_bytes_max);
        match deflated {
            false => plain,
            true => plain + plain / 8 + 64,
        }
    }

    /// A message of one frame.
    fn whole(self, data: Data, deflated: bool, payload: &mut [u8]) -> Result<Message<'_>, WsError> {
        match data {
            _ if deflated => Ok(Message::Deflated(Deflated {
                data,
                bytes: Cow::Borrowed(payload),
                bytes_max: self.message_bytes_max,
            })),
            Data::Text => from_utf8(payload)
                .map(|text| Message::Text(Cow::Borrowed(text)))
                .map_err(|_| WsError::BadUtf8),
            _ => Ok(Message::Binary(Cow::Borrowed(payload))),
        }
    }
}

/// Cuts `len` bytes off the front, or nothing where there are fewer.
fn take<'i>(rest: &mut &'i mut [u8], len: u64) -> Option<&'i mut [u8]> {
    let len = usize::try_from(len).ok().filter(|len| *len <= rest.len())?;
    let (front, back) = std::mem::take(rest).split_at_mut(len);
    *rest = back;
    Some(front)
}

fn whole_control(control: Control, payload: Cow<'_, [u8]>) -> Result<Message<'_>, WsError> {
    match control {
        Control::Ping => Ok(Message::Ping(payload)),
        Control::Pong => Ok(Message::Pong(payload)),
        Control::Close => close(payload).map(Message::Close),
        Control::Reserved(code) => Err(WsError::ReservedOpcode(code)),
    }
}

fn close(payload: Cow<'_, [u8]>) -> Result<Option<Close<'_>>, WsError> {
    let code = match payload.as_ref() {
        [] => return Ok(None),
        [high, low, ..] => u16::from_be_bytes([*high, *low]),
        [_] => return Err(WsError::BadClose),
    };
    // 1014 (bad gateway) was registered after tungstenite's list was made.
    if !CloseCode::from(code).is_allowed() && code != 1014 {
        return Err(WsError::BadClose);
    }
    let reason = match payload {
        Cow::Borrowed(payload) => Cow::Borrowed(
            from_utf8(payload.get(2..).unwrap_or_default()).map_err(|_| WsError::BadUtf8)?,
        ),
        Cow::Owned(mut payload) => {
            let reason = payload.split_off(2.min(payload.len()));
            Cow::Owned(String::from_utf8(reason).map_err(|_| WsError::BadUtf8)?)
        }
    };
    Ok(Some(Close { code, reason }))
}
