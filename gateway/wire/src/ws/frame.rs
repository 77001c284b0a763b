//! The header of a frame.

use super::{CONTROL_BYTES_MAX, Control, Data, OpCode, RSV1, Role, WsError};

/// A frame whose header is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) opcode: OpCode,
    pub(super) is_final: bool,
    /// It begins a compressed message.
    pub(super) deflated: bool,
    pub(super) mask: Option<[u8; 4]>,
    pub(super) len: u64,
    /// Payload bytes taken so far.
    pub(super) taken: u64,
}

impl Frame {
    /// The header at the front of `bytes` and its length; `None` when more bytes are needed. What is wrong is told by the
    /// first byte that shows it.
    pub(super) fn parse(
        bytes: &[u8],
        role: Role,
        deflates: bool,
    ) -> Result<Option<(Self, usize)>, WsError> {
        let Some(first) = bytes.first() else {
            return Ok(None);
        };
        let is_final = first & 0x80 != 0;
        let opcode = OpCode::from(first & 0x0f);
        let begins = matches!(opcode, OpCode::Data(Data::Text | Data::Binary));
        let known = if deflates && begins { RSV1 } else { 0 };
        if first & 0x70 & !known != 0 {
            return Err(WsError::ReservedBits);
        }
        let is_control = match opcode {
            OpCode::Data(Data::Reserved(code)) | OpCode::Control(Control::Reserved(code)) => {
                return Err(WsError::ReservedOpcode(code));
            }
            OpCode::Control(_) if !is_final => return Err(WsError::FragmentedControl),
            OpCode::Control(_) => true,
            OpCode::Data(_) => false,
        };
        let Some(second) = bytes.get(1) else {
            return Ok(None);
        };
        let masked = second & 0x80 != 0;
        match role {
            Role::Server if !masked => return Err(WsError::Unmasked),
            Role::Client if masked => return Err(WsError::Masked),
            _ => {}
        }
        let short = second & 0x7f;
        if is_control && usize::from(short) > CONTROL_BYTES_MAX {
            return Err(WsError::LongControl);
        }
        let (len, mut used) = match short {
            126 => match bytes.get(2..4).and_then(|len| len.try_into().ok()) {
                Some(len) => (u64::from(u16::from_be_bytes(len)), 4),
                None => return Ok(None),
            },
            127 => {
                if bytes.get(2).is_some_and(|top| top & 0x80 != 0) {
                    return Err(WsError::BadLength);
                }
                match bytes.get(2..10).and_then(|len| len.try_into().ok()) {
                    Some(len) => (u64::from_be_bytes(len), 10),
                    None => return Ok(None),
                }
            }
            short => (u64::from(short), 2),
        };
        let mut mask = None;
        if masked {
            mask = bytes
                .get(used..used + 4)
                .and_then(|mask| mask.try_into().ok());
            if mask.is_none() {
                return Ok(None);
            }
            used += 4;
        }
        let frame = Self {
            opcode,
            is_final,
            deflated: first & RSV1 != 0,
            mask,
            len,
            taken: 0,
        };
        Ok(Some((frame, used)))
    }

    /// The mask repeats every four bytes.
    pub(super) fn mask_place(&self) -> usize {
        usize::from(self.taken.to_le_bytes()[0] % 4)
    }
}
