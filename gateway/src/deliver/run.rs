//! Records in a row that are the same for the same sessions: written once, and fanned out together, so that what waits
//! for a session is one record of TLS and one send.

use super::prepared::Prepared;
use crate::reactor::inbox::Encoding;
use crate::session::SessionId;
use crate::session::write;
use hawser_protocol::frame::{DeliverFlags, MessageView};
use hawser_protocol::ids::{ChatId, Seq};
use hawser_protocol::json;
use hawser_ring::Piece;
use std::ops::Range;

/// A run ends at so many records, or when its messages are so long; bytes.
const RECORDS_MAX: usize = 64;
const BYTES_MAX: usize = 64 << 10;

/// See the module. Its memory is used again.
#[derive(Default)]
pub(crate) struct Run {
    same: Option<Same>,
    sender: String,
    /// Those that its records list, as they do.
    listed: String,
    /// Whom it is for; not the sender's sessions.
    pub(crate) targets: Vec<SessionId>,
    /// It is for the sender too.
    pub(crate) for_sender: bool,
    items: Vec<Item>,
    binary: Vec<u8>,
    /// Made when somebody wants it.
    json: Vec<u8>,
    /// By ring, where `binary` is in it.
    pub(crate) pieces: Vec<Option<Piece>>,
}

/// What its records have in common.
struct Same {
    chat: ChatId,
    flags: DeliverFlags,
    /// It is for the members of the chat.
    members: bool,
}

/// A record of it.
pub(crate) struct Item {
    pub(crate) offset: u64,
    /// Chat and seq that an ack of it delivers.
    pub(crate) message: Option<(ChatId, Seq)>,
    /// Where its WebSocket messages end, and what of them counts.
    ends: [usize; 2],
    bytes: [usize; 2],
}

impl Item {
    /// Bytes that a session's window counts.
    pub(crate) fn bytes(&self, encoding: Encoding) -> usize {
        self.bytes[place(encoding)]
    }
}

fn place(encoding: Encoding) -> usize {
    match encoding {
        Encoding::Binary => 0,
        Encoding::Json => 1,
    }
}

impl Run {
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(crate) fn items(&self) -> &[Item] {
        &self.items
    }

    /// Whether a record can be added: it is for the same, by the same, and there is room.
    pub(crate) fn takes(&self, prepared: &Prepared<'_>) -> bool {
        let (Some(same), Some(audience)) = (&self.same, prepared.audience()) else {
            return false;
        };
        let room = self.items.len() < RECORDS_MAX && self.binary.len() < BYTES_MAX;
        room && same.chat == *audience.chat
            && self.sender == audience.sender
            && same.flags == audience.flags
            && same.members == audience.listed.is_none()
            && self.listed == audience.listed.unwrap_or_default()
    }

    /// Begins a run; its record is then to be added.
    pub(crate) fn begin(&mut self, prepared: &Prepared<'_>, rings: usize) {
        debug_assert!(self.is_empty());
        self.same = prepared.audience().map(|audience| {
            self.sender.push_str(audience.sender);
            self.listed.push_str(audience.listed.unwrap_or_default());
            Same {
                chat: audience.chat.clone(),
                flags: audience.flags,
                members: audience.listed.is_none(),
            }
        });
        self.pieces.clear();
        self.pieces.resize(rings, None);
    }

    /// Adds a record that it takes.
    pub(crate) fn add(&mut self, prepared: &Prepared<'_>) {
        let bytes = prepared.encode(&mut self.binary);
        self.items.push(Item {
            offset: prepared.offset,
            message: prepared.delivers(),
            ends: [self.binary.len(), 0],
            bytes: [bytes, 0],
        });
    }

    /// Makes the messages in this encoding, if they are not there.
    pub(crate) fn want(&mut self, encoding: Encoding) {
        if encoding == Encoding::Binary || !self.json.is_empty() {
            return;
        }
        let flags = self
            .same
            .as_ref()
            .map_or_else(Default::default, |s| s.flags);
        let mut begin = 0;
        for item in &mut self.items {
            let end = item.ends[0];
            // The record is the end of the message, behind what is in front of every record.
            let record = Prepared::record_of(&self.binary[begin..end], item.bytes[0]);
            if let Ok(record) = MessageView::parse(record) {
                let text = json::deliver(item.offset, flags, &[], &record);
                item.bytes[1] = write::text(&text, &mut self.json);
            }
            item.ends[1] = self.json.len();
            begin = end;
        }
    }

    /// The WebSocket messages of some of its records, in an encoding that was wanted before.
    pub(crate) fn messages(&self, encoding: Encoding, items: &Range<usize>) -> &[u8] {
        let at = place(encoding);
        let end_of = |n: usize| self.items.get(n).map_or(0, |item| item.ends[at]);
        let begin = items.start.checked_sub(1).map_or(0, end_of);
        let end = items.end.checked_sub(1).map_or(0, end_of);
        let all = match encoding {
            Encoding::Binary => &self.binary,
            Encoding::Json => &self.json,
        };
        all.get(begin..end).unwrap_or_default()
    }

    /// It is over; its memory stays.
    pub(crate) fn end(&mut self) {
        self.same = None;
        self.sender.clear();
        self.listed.clear();
        self.targets.clear();
        self.items.clear();
        self.binary.clear();
        self.json.clear();
    }
}
