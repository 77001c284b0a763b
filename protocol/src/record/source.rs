//! Value of `chat-messages`, key = chat id: what the edge and the API ask of ingest.

use super::read::{Reader, shared};
use super::write::Writer;
use super::{Envelopes, RecordError, encode_envelopes};
use crate::ids::{ChatId, ClientMsgId, DeviceId, Seq, UserId};
use crate::lanes::Lanes;
use crate::limits::{
    BODY_BYTES_MAX, ENVELOPE_BYTES_MAX, ENVELOPES_MAX, FRAME_BYTES_MAX, GROUP_CHANGE_MAX,
    GROUP_LISTED_MAX,
};
use crate::message::{Envelope, MessageType, Send};
use bytes::Bytes;

/// A group's name, bytes.
pub const GROUP_NAME_BYTES_MAX: usize = 128;
/// A group's picture URL, bytes.
pub const GROUP_PICTURE_BYTES_MAX: usize = 512;

const SEND: u8 = 1;
const RECEIPT: u8 = 2;
const GROUP: u8 = 3;
const LANE: u8 = 4;

/// One request to ingest. Sender, device and actor come from the token, never from the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceRecord {
    /// A message.
    Send {
        /// Token's user.
        sender: UserId,
        /// Token's device.
        device: DeviceId,
        /// As the client made it.
        send: Box<Send>,
    },
    /// Watermarks of one user in one chat.
    Receipt {
        /// Whose.
        user: UserId,
        /// Which device saw it.
        device: DeviceId,
        /// Where.
        chat: ChatId,
        /// Delivered up to; `Seq::NONE`: unchanged.
        delivered: Seq,
        /// Read up to; `Seq::NONE`: unchanged.
        read: Seq,
    },
    /// A change of a group.
    Group {
        /// Who asks for it.
        actor: UserId,
        /// Dedup key together with actor and chat, under device `api`.
        op_id: ClientMsgId,
        /// Which group.
        chat: ChatId,
        /// What.
        op: GroupOp,
    },
    /// What a change of a group in relaxed order means for one of its lanes. Ingest writes it, having judged the
    /// change in the group's own lane.
    Lane {
        /// Who asked for the change.
        actor: UserId,
        /// That change's id: dedup key together with actor and chat, under device `api`.
        op_id: ClientMsgId,
        /// Which lane, from 1.
        chat: ChatId,
        /// What.
        op: LaneOp,
    },
}

/// What happens to a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LaneOp {
    /// It begins, with these members.
    Open {
        /// At most `GROUP_NAME_BYTES_MAX`.
        name: String,
        /// At most `GROUP_PICTURE_BYTES_MAX`.
        picture: String,
        /// Members.
        members: Vec<UserId>,
        /// Those of them who are admins.
        admins: Vec<UserId>,
        /// How the chat is spread.
        lanes: Lanes,
    },
    /// The group was changed so.
    Change(GroupOp),
}

/// A change of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupOp {
    /// The actor becomes first member and admin.
    Create {
        /// At most `GROUP_NAME_BYTES_MAX`.
        name: String,
        /// At most `GROUP_PICTURE_BYTES_MAX`.
        picture: String,
        /// Members besides the actor.
        members: Vec<UserId>,
    },
    /// Adds members.
    Add {
        /// Who.
        users: Vec<UserId>,
    },
    /// Removes members.
    Remove {
        /// Who.
        users: Vec<UserId>,
    },
    /// The actor leaves.
    Leave,
    /// Replaces name and picture.
    Update {
        /// At most `GROUP_NAME_BYTES_MAX`.
        name: String,
        /// At most `GROUP_PICTURE_BYTES_MAX`.
        picture: String,
    },
    /// Makes a member admin, or no longer.
    SetAdmin {
        /// Who.
        user: UserId,
        /// New state.
        admin: bool,
    },
    /// Sets the group to relaxed order, once.
    Relax {
        /// Number of lanes; see [`Lanes::new`].
        lanes: u8,
    },
}

impl SourceRecord {
    /// The chat: the record's key.
    #[must_use]
    pub fn chat(&self) -> &ChatId {
        match self {
            Self::Send { send, .. } => &send.chat,
            Self::Receipt { chat, .. } | Self::Group { chat, .. } | Self::Lane { chat, .. } => chat,
        }
    }

    /// Encodes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Send {
                sender,
                device,
                send,
            } => encode_send(sender, device, send),
            Self::Receipt {
                user,
                device,
                chat,
                delivered,
                read,
            } => {
                let mut out = Writer::new(RECEIPT, 256);
                out.short(user.as_str()).short(device.as_str());
                out.short(chat.as_str()).seq(*delivered).seq(*read);
                out.finish()
            }
            Self::Group {
                actor,
                op_id,
                chat,
                op,
            } => {
                let mut out = Writer::new(GROUP, 256);
                out.short(actor.as_str()).raw(&op_id.0).short(chat.as_str());
                encode_op(&mut out, op);
                out.finish()
            }
            Self::Lane {
                actor,
                op_id,
                chat,
                op,
            } => {
                let mut out = Writer::new(LANE, 256);
                out.short(actor.as_str()).raw(&op_id.0).short(chat.as_str());
                encode_lane_op(&mut out, op);
                out.finish()
            }
        }
    }

    /// Decodes; payloads share the memory of `value`.
    ///
    /// # Errors
    /// The bytes are no source record of this version.
    pub fn decode(value: &Bytes) -> Result<Self, RecordError> {
        let mut reader = Reader::new(value);
        let record = match reader.head()? {
            SEND => decode_send(&mut reader, value)?,
            RECEIPT => Self::Receipt {
                user: reader.user()?,
                device: reader.device()?,
                chat: reader.chat()?,
                delivered: reader.seq()?,
                read: reader.seq()?,
            },
            GROUP => Self::Group {
                actor: reader.user()?,
                op_id: ClientMsgId(reader.array()?),
                chat: reader.chat()?,
                op: decode_op(&mut reader)?,
            },
            LANE => Self::Lane {
                actor: reader.user()?,
                op_id: ClientMsgId(reader.array()?),
                chat: reader.chat()?,
                op: decode_lane_op(&mut reader)?,
            },
            found => return Err(RecordError::Kind { found }),
        };
        reader.end()?;
        Ok(record)
    }
}

fn encode_send(sender: &UserId, device: &DeviceId, send: &Send) -> Bytes {
    let envelopes = encode_envelopes(&send.envelopes);
    let mut out = Writer::new(SEND, 320 + send.body.len() + envelopes.len());
    out.short(sender.as_str()).short(device.as_str());
    out.raw(&send.client_msg_id.0).u64(send.send_ts_ms);
    out.u8(send.message_type.0).u8(u8::from(send.retry));
    out.short(send.chat.as_str()).long(&send.body);
    out.long(&envelopes);
    out.finish()
}

fn decode_send(reader: &mut Reader<'_>, value: &Bytes) -> Result<SourceRecord, RecordError> {
    let sender = reader.user()?;
    let device = reader.device()?;
    let client_msg_id = ClientMsgId(reader.array()?);
    let send_ts_ms = reader.u64()?;
    let message_type = MessageType(reader.u8()?);
    let retry = reader.bool("retry")?;
    let chat = reader.chat()?;
    let body = shared(reader, value, "body", BODY_BYTES_MAX)?;
    let table = shared(reader, value, "envelopes", FRAME_BYTES_MAX)?;
    let mut envelopes = Vec::new();
    for entry in Envelopes::parse(&table)?.iter() {
        envelopes.push(Envelope {
            user: UserId::new(entry.user)?,
            device: DeviceId::new(entry.device)?,
            bytes: table.slice_ref(entry.bytes),
        });
    }
    let send = Box::new(Send {
        client_msg_id,
        send_ts_ms,
        message_type,
        retry,
        chat,
        body,
        envelopes,
    });
    Ok(SourceRecord::Send {
        sender,
        device,
        send,
    })
}

fn encode_op(out: &mut Writer, op: &GroupOp) {
    match op {
        GroupOp::Create {
            name,
            picture,
            members,
        } => {
            out.u8(1).long(name.as_bytes()).long(picture.as_bytes());
            out.users(members);
        }
        GroupOp::Add { users } => {
            out.u8(2).users(users);
        }
        GroupOp::Remove { users } => {
            out.u8(3).users(users);
        }
        GroupOp::Leave => {
            out.u8(4);
        }
        GroupOp::Update { name, picture } => {
            out.u8(5).long(name.as_bytes()).long(picture.as_bytes());
        }
        GroupOp::SetAdmin { user, admin } => {
            out.u8(6).short(user.as_str()).u8(u8::from(*admin));
        }
        GroupOp::Relax { lanes } => {
            out.u8(7).u8(*lanes);
        }
    }
}

fn encode_lane_op(out: &mut Writer, op: &LaneOp) {
    match op {
        LaneOp::Open {
            name,
            picture,
            members,
            admins,
            lanes,
        } => {
            out.u8(1).long(name.as_bytes()).long(picture.as_bytes());
            out.users(members).users(admins);
            out.u8(lanes.lanes).u64(lanes.since_ms);
        }
        LaneOp::Change(op) => {
            out.u8(2);
            encode_op(out, op);
        }
    }
}

fn decode_lane_op(reader: &mut Reader<'_>) -> Result<LaneOp, RecordError> {
    Ok(match reader.u8()? {
        1 => LaneOp::Open {
            name: reader.text("name", GROUP_NAME_BYTES_MAX)?.into(),
            picture: reader.text("picture", GROUP_PICTURE_BYTES_MAX)?.into(),
            members: reader.users(GROUP_LISTED_MAX)?,
            admins: reader.users(GROUP_LISTED_MAX)?,
            lanes: {
                let (lanes, since_ms) = (reader.u8()?, reader.u64()?);
                Lanes::new(lanes, since_ms).ok_or(RecordError::Kind { found: lanes })?
            },
        },
        2 => LaneOp::Change(decode_op(reader)?),
        found => return Err(RecordError::Kind { found }),
    })
}

fn decode_op(reader: &mut Reader<'_>) -> Result<GroupOp, RecordError> {
    Ok(match reader.u8()? {
        1 => GroupOp::Create {
            name: reader.text("name", GROUP_NAME_BYTES_MAX)?.into(),
            picture: reader.text("picture", GROUP_PICTURE_BYTES_MAX)?.into(),
            members: reader.users(GROUP_CHANGE_MAX)?,
        },
        2 => GroupOp::Add {
            users: reader.users(GROUP_CHANGE_MAX)?,
        },
        3 => GroupOp::Remove {
            users: reader.users(GROUP_CHANGE_MAX)?,
        },
        4 => GroupOp::Leave,
        5 => GroupOp::Update {
            name: reader.text("name", GROUP_NAME_BYTES_MAX)?.into(),
            picture: reader.text("picture", GROUP_PICTURE_BYTES_MAX)?.into(),
        },
        6 => GroupOp::SetAdmin {
            user: reader.user()?,
            admin: reader.bool("admin")?,
        },
        7 => GroupOp::Relax {
            lanes: reader.u8()?,
        },
        found => return Err(RecordError::Kind { found }),
    })
}

const _: () = assert!(ENVELOPES_MAX * 4 < FRAME_BYTES_MAX && ENVELOPE_BYTES_MAX < 65_536);
