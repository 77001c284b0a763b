//! A delivery record made ready once for all its recipients: parsed, with what every session's frame
//! has in common.

use crate::reactor::inbox::Encoding;
use crate::session::connection::Device;
use crate::session::write;
use ahash::AHashMap;
use bytes::Bytes;
use hawser_protocol::frame::{
    self, DELIVER_PREFIX_BYTES, DeliverFlags, ServerFrame, deliver_prefix,
};
use hawser_protocol::ids::{ChatId, ClientMsgId, Seq};
use hawser_protocol::json;
use hawser_protocol::pb;
use hawser_protocol::record::{Addressed, DeliveryView, Recipients, RecordError, ViewKind};
use hawser_protocol::shards::ShardTable;

/// From so many recipients of one record on, their acknowledgements are nothing that its sender waits for.
const ACK_LATER_FROM: usize = 64;

/// See the module.
pub(crate) struct Prepared<'a> {
    pub(crate) offset: u64,
    kind: Kind<'a>,
    /// Envelopes by user and device, where many look for theirs.
    envelopes: Option<AHashMap<(&'a str, &'a str), &'a [u8]>>,
}

enum Kind<'a> {
    Message {
        to: Addressed<'a>,
        /// The encoded message record, and what it says.
        bytes: &'a [u8],
        record: frame::MessageView<'a>,
        chat: ChatId,
    },
    /// A message whose record is not here.
    Bodiless {
        to: Addressed<'a>,
        chat: &'a str,
        seq: Seq,
    },
    Result {
        user: &'a str,
        device: &'a str,
        result: pb::SendResult,
        id: Option<ClientMsgId>,
    },
    Receipt {
        recipients: Recipients<'a>,
        update: pb::ReceiptUpdate,
    },
    /// Nothing for clients.
    Control,
}

/// From so many listed recipients on, what they get is made once.
pub(crate) const SHARED_FROM: usize = 4;

/// Whom a message is for; see [`Prepared::audience`].
pub(crate) struct Audience<'a> {
    pub(crate) chat: &'a ChatId,
    pub(crate) sender: &'a str,
    pub(crate) flags: DeliverFlags,
    /// As the record lists them; `None`: the members of the chat.
    pub(crate) listed: Option<&'a str>,
}

/// What went out to one session.
pub(crate) struct Written {
    pub(crate) bytes: usize,
    /// Chat and seq that an ack of it delivers.
    pub(crate) message: Option<(ChatId, Seq)>,
    /// The Send that it answers.
    pub(crate) answers: Option<ClientMsgId>,
}

impl<'a> Prepared<'a> {
    /// Makes a parsed record ready. `body`: the message record that it refers to, if it does and that is here.
    ///
    /// # Errors
    /// A part of it is malformed.
    pub(crate) fn new(
        offset: u64,
        view: &DeliveryView<'a>,
        body: Option<&'a [u8]>,
    ) -> Result<Self, RecordError> {
        let kind = match (&view.kind, body) {
            (ViewKind::Message(message), _) => Kind::message(message.to(), message.record())?,
            (ViewKind::Reference(reference), Some(body)) => Kind::message(reference.to, body)?,
            (ViewKind::Reference(reference), None) => Kind::Bodiless {
                to: reference.to,
                chat: reference.chat,
                seq: view.source_seq,
            },
            (ViewKind::Result(view), _) => {
                let result = view.result()?;
                Kind::Result {
                    user: view.user,
                    device: view.device,
                    id: <[u8; 16]>::try_from(&result.client_msg_id[..])
                        .ok()
                        .map(ClientMsgId),
                    result,
                }
            }
            (ViewKind::Receipt(receipt), _) => Kind::Receipt {
                recipients: receipt.recipients(),
                update: pb::ReceiptUpdate {
                    offset,
                    chat: receipt.chat.to_owned(),
                    user: receipt.user.to_owned(),
                    delivered_seq: receipt.delivered.0,
                    read_seq: receipt.read.0,
                    ts_ms: receipt.ts_ms,
                },
            },
            (ViewKind::Revoke(_) | ViewKind::Shard(_), _) => Kind::Control,
        };
        Ok(Self {
            offset,
            kind,
            envelopes: None,
        })
    }

    /// For whom and by whom it is, where all of them but its sender get the same bytes.
    pub(crate) fn audience(&self) -> Option<Audience<'_>> {
        let Kind::Message {
            to, record, chat, ..
        } = &self.kind
        else {
            return None;
        };
        let listed = match to.members() {
            // Who is told of a change of the members is its own question.
            Some(true) => return None,
            Some(false) => None,
            None => Some(to.recipients()),
        };
        let few = listed.is_some_and(|listed| listed.len() < SHARED_FROM);
        if few || !to.envelopes().is_empty() {
            return None;
        }
        Some(Audience {
            chat,
            sender: record.sender(),
            flags: self.flags(false),
            listed: listed.map(|listed| listed.text()),
        })
    }

    /// Appends the binary WebSocket message that its [`Audience`] gets live. Returns the bytes that count.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> usize {
        let Kind::Message { bytes, .. } = &self.kind else {
            return 0;
        };
        let prefix = deliver_prefix(self.offset, self.flags(false), 0, bytes.len());
        write::binary(&[&prefix, bytes], out)
    }

    /// The message record at the end of a message of [`Prepared::encode`], of which so many bytes count.
    pub(crate) fn record_of(message: &[u8], bytes: usize) -> &[u8] {
        let record = bytes.saturating_sub(DELIVER_PREFIX_BYTES);
        let at = message.len().saturating_sub(record);
        &message[at..]
    }

    /// Chat and seq that an ack of it delivers, for others than its sender.
    pub(crate) fn delivers(&self) -> Option<(ChatId, Seq)> {
        match &self.kind {
            // A hundred thousand receipts of one message are nobody's to read.
            Kind::Message {
                to, record, chat, ..
            } if to.members().is_none() => Some((chat.clone(), record.seq())),
            _ => None,
        }
    }

    /// Of a live message; `own`: to another device of its sender.
    fn flags(&self, own: bool) -> DeliverFlags {
        let later = match &self.kind {
            Kind::Message { to, .. } => {
                own || to.members().is_some() || to.recipients().len() >= ACK_LATER_FROM
            }
            _ => false,
        };
        match later {
            true => DeliverFlags::ACK_LATER,
            false => DeliverFlags::default(),
        }
    }

    /// So many sessions will look for their envelope: each finds it at once.
    pub(crate) fn expect(&mut self, sessions: usize) {
        if let Kind::Message { to, .. } = &self.kind
            && sessions >= SHARED_FROM
            && !to.envelopes().is_empty()
        {
            let mut all = AHashMap::new();
            for entry in to.envelopes().iter() {
                all.entry((entry.user, entry.device)).or_insert(entry.bytes);
            }
            self.envelopes = Some(all);
        }
    }

    fn envelope(&self, to: &Addressed<'a>, user: &str, device: &str) -> &'a [u8] {
        match &self.envelopes {
            Some(all) => all.get(&(user, device)).copied().unwrap_or_default(),
            None => to.envelope(user, device),
        }
    }

    /// Hands out every user that it is for; `shards` knows who is in edge-sharded groups.
    pub(crate) fn recipients<'s>(
        &'s self,
        shards: &'s ShardTable,
    ) -> impl Iterator<Item = &'s str> {
        let group = self.group();
        let members = group.map(|(chat, seq, changed)| shards.members(chat, seq, changed));
        self.listed().chain(members.into_iter().flatten())
    }

    /// The users that the record itself names.
    pub(crate) fn listed(&self) -> impl Iterator<Item = &str> {
        let (many, one) = match &self.kind {
            Kind::Message { to, .. } | Kind::Bodiless { to, .. } => (Some(to.recipients()), None),
            Kind::Receipt { recipients, .. } => (Some(*recipients), None),
            Kind::Result { user, .. } => (None, Some(*user)),
            Kind::Control => (None, None),
        };
        many.into_iter().flatten().chain(one)
    }

    /// The lines of the replay ring that it belongs to: users, and an edge-sharded group.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &str> {
        self.listed().chain(self.group().map(|(chat, ..)| chat))
    }

    /// Of a message to the members of an edge-sharded group: which, its seq, and whether it changes who they are.
    pub(crate) fn group(&self) -> Option<(&str, Seq, bool)> {
        match &self.kind {
            Kind::Message {
                to, record, chat, ..
            } => Some((chat.as_str(), record.seq(), to.members()?)),
            Kind::Bodiless { to, chat, seq } => Some((chat, *seq, to.members()?)),
            _ => None,
        }
    }

    /// Whether it cannot be written before its body is here.
    pub(crate) fn lacks_body(&self) -> bool {
        matches!(self.kind, Kind::Bodiless { .. })
    }

    /// Whether a user is among the recipients.
    pub(crate) fn is_for(&self, user: &str, shards: &ShardTable) -> bool {
        match self.group() {
            Some((chat, seq, changed)) => shards.has(chat, user, seq, changed),
            None => self.listed().any(|recipient| recipient == user),
        }
    }

    /// Appends this device's frame; `None`: it is not for this device. `at`: the offset that the
    /// frame carries, 0 for one that is not to be acknowledged.
    pub(crate) fn write(
        &self,
        device: &Device,
        at: u64,
        flags: DeliverFlags,
        scratch: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Option<Written> {
        let (user, id) = (device.user.as_str(), device.device.as_str());
        let whole = |frame: &ServerFrame, scratch: &mut Vec<u8>, out: &mut Vec<u8>| Written {
            bytes: write::frame(device.encoding, frame, scratch, out),
            message: None,
            answers: None,
        };
        match &self.kind {
            Kind::Message { to, record, .. } if to.sender() == Some((user, id)) => {
                let frame = ServerFrame::SendResult(result_of(record, at));
                let mut written = whole(&frame, scratch, out);
                written.answers = Some(record.client_msg_id());
                Some(written)
            }
            Kind::Message {
                to, bytes, record, ..
            } => {
                let own = record.sender() == user;
                let flags = flags.with(self.flags(own));
                let envelope = self.envelope(to, user, id);
                let bytes = match device.encoding {
                    Encoding::Binary => {
                        let prefix = deliver_prefix(at, flags, envelope.len(), bytes.len());
                        write::binary(&[&prefix, envelope, bytes], out)
                    }
                    Encoding::Json => write::text(&json::deliver(at, flags, envelope, record), out),
                };
                Some(Written {
                    bytes,
                    message: self.delivers().filter(|_| !own),
                    answers: None,
                })
            }
            Kind::Result {
                user: to,
                device: of,
                result,
                id: answers,
            } => {
                if (*to, *of) != (user, id) {
                    return None;
                }
                let frame = ServerFrame::SendResult(pb::SendResult {
                    offset: at,
                    ..result.clone()
                });
                let mut written = whole(&frame, scratch, out);
                written.answers = *answers;
                Some(written)
            }
            Kind::Receipt { update, .. } => Some(whole(
                &ServerFrame::ReceiptUpdate(update.clone()),
                scratch,
                out,
            )),
            Kind::Control | Kind::Bodiless { .. } => None,
        }
    }

    /// Whether it answers a Send of this device.
    pub(crate) fn answers(&self, device: &Device) -> bool {
        let of = (device.user.as_str(), device.device.as_str());
        match &self.kind {
            Kind::Message { to, .. } | Kind::Bodiless { to, .. } => to.sender() == Some(of),
            Kind::Result { user, device, .. } => (*user, *device) == of,
            Kind::Receipt { .. } | Kind::Control => false,
        }
    }
}

impl<'a> Kind<'a> {
    fn message(to: Addressed<'a>, bytes: &'a [u8]) -> Result<Self, RecordError> {
        let bad = |_| RecordError::BadForm {
            what: "message record",
        };
        let record = frame::MessageView::parse(bytes).map_err(bad)?;
        let chat = ChatId::new(record.chat())?;
        Ok(Self::Message {
            to,
            bytes,
            record,
            chat,
        })
    }
}

fn result_of(record: &frame::MessageView<'_>, offset: u64) -> pb::SendResult {
    pb::SendResult {
        offset,
        client_msg_id: Bytes::copy_from_slice(&record.client_msg_id().0),
        chat: record.chat().to_owned(),
        message_id: Bytes::copy_from_slice(&record.message_id().0),
        seq: record.seq().0,
        prev_seq: record.prev_seq().0,
        ordinal: record.ordinal(),
        stored_ts_ms: record.stored_ts_ms(),
        ..pb::SendResult::default()
    }
}
