//! One established connection of a core: record layer, WebSocket state, output, and what it is.

use super::SessionId;
use super::output::Output;
use crate::accept::addresses::AddressPermit;
use crate::node::shared::SessionPermit;
use crate::reactor::inbox::Encoding;
use ahash::AHashSet;
use bytes::Bytes;
use hawser_fanout::auth::Claims;
use hawser_protocol::ids::{ChatId, DeviceId, UserId};
use hawser_protocol::pb;
use hawser_protocol::server::{Session, resume};
use hawser_ring::TimerHandle;
use hawser_wire::record::Layer;
use hawser_wire::ws;
use uuid::Uuid;

/// See the module. What an idle one costs in user space beside its TLS state is asserted below.
pub(crate) struct Connection {
    pub(crate) id: SessionId,
    pub(crate) layer: Layer,
    pub(crate) decoder: ws::Decoder,
    /// Ciphertext that is not a whole record.
    pub(crate) incoming: Option<Box<Begun>>,
    pub(crate) output: Output,
    pub(crate) role: Role,
    pub(crate) stage: Stage,
    /// More may wait in the socket, and nobody has asked for it.
    pub(crate) unread: bool,
    /// A receive is in flight.
    pub(crate) receiving: bool,
    /// The peer sends no more.
    pub(crate) peer_ended: bool,
    /// On the list of what has something to send.
    pub(crate) dirty: bool,
    /// Above its byte rate: nothing is received before this time.
    pub(crate) paused_until_ms: u64,
    pub(crate) timer: Option<(TimerHandle, u64)>,
    pub(crate) address: AddressPermit,
    pub(crate) _place: SessionPermit,
}

const _: () = assert!(size_of::<Connection>() <= 152);
const _: () = assert!(size_of::<Device>() <= 184);

/// The beginning of a record; behind one pointer, since there rarely is one.
pub(crate) struct Begun(pub(crate) Vec<u8>);

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Waits for the log: for its partition to be read here, or to know whether it may resume.
    Resuming,
    /// Without a past: waits for its turn.
    Waiting,
    /// Frames go both ways.
    Open,
    /// Our close frame is on its way; what comes is thrown away. Closed at the latest then.
    Closing {
        /// Monotonic, milliseconds.
        deadline_ms: u64,
        /// Our direction is shut down.
        shut: bool,
    },
}

/// What a connection is.
pub(crate) enum Role {
    /// A device's session.
    Session(Box<Device>),
    /// Echoes every message.
    Echo {
        /// When it last sent a byte, milliseconds.
        heard_ms: u64,
    },
}

/// A device's session.
pub(crate) struct Device {
    pub(crate) user: UserId,
    pub(crate) device: DeviceId,
    pub(crate) partition: u32,
    pub(crate) encoding: Encoding,
    pub(crate) session: Session,
    /// Where the user is among those of this core.
    pub(crate) place: u32,
    /// Where its cursor was the last time.
    pub(crate) cursor: u32,
    pub(crate) grant: Grant,
    pub(crate) watches: Option<Box<Watches>>,
    pub(crate) pending: Option<Box<Pending>>,
    /// On the list of sessions that are behind and may read.
    pub(crate) queued: bool,
    /// It has left the tables of its core.
    pub(crate) departed: bool,
    /// The client cannot go to another node.
    pub(crate) stays: bool,
    /// Which node it was told to go to (a hash of the name); 0: none.
    pub(crate) told: u32,
    /// A read of the log below the ring is under way.
    pub(crate) reading_log: bool,
    /// It reads on when a body is here.
    pub(crate) awaits_body: bool,
    /// When it began, by the node's wall clock, milliseconds.
    pub(crate) began_ms: u64,
    /// When others were last told that it is here, monotonic milliseconds.
    pub(crate) told_of_ms: u64,
    /// When the last resume token was made, monotonic milliseconds; 0: a fresh one is due.
    pub(crate) token_at_ms: u64,
}

/// What the session's token says, besides whose it is and when it expires.
pub(crate) struct Grant {
    issued_at_ms: u64,
    name: Jti,
    admin: bool,
}

/// A token's `jti`: most are UUIDs in their usual form, and are held as their sixteen bytes.
enum Jti {
    None,
    Uuid(Uuid),
    Text(Box<str>),
}

impl From<Claims> for Grant {
    fn from(claims: Claims) -> Self {
        Self {
            issued_at_ms: claims.issued_at_ms,
            name: claims.jti.map_or(Jti::None, Jti::of),
            admin: claims.admin,
        }
    }
}

impl Jti {
    fn of(text: String) -> Self {
        match Uuid::parse_str(&text) {
            Ok(uuid) if uuid.to_string() == text => Self::Uuid(uuid),
            _ => Self::Text(text.into_boxed_str()),
        }
    }

    fn text(&self) -> Option<String> {
        match self {
            Self::None => None,
            Self::Uuid(uuid) => Some(uuid.to_string()),
            Self::Text(text) => Some(text.to_string()),
        }
    }
}

/// What a session watches; most watch a few.
#[derive(Default)]
pub(crate) struct Watches {
    pub(crate) users: Vec<UserId>,
    pub(crate) chats: AHashSet<ChatId>,
}

/// What a session waits for before it begins.
pub(crate) enum Pending {
    /// Its partition is not read here yet.
    Partition(pb::Hello, Held),
    /// The log has not said whether it may resume.
    Log(Resuming),
    /// It has no past, and it is not its turn yet.
    Turn(Waiting),
}

/// What is kept until the log has been asked.
pub(crate) struct Resuming {
    pub(crate) hello: pb::Hello,
    pub(crate) claim: resume::Claim,
    /// Of the record that the claim is checked against, once known; 0: there is none.
    pub(crate) checksum: Option<u32>,
    /// The place asked for exists.
    pub(crate) from_known: bool,
    pub(crate) held: Held,
}

/// What is kept until it is a session's turn.
pub(crate) struct Waiting {
    pub(crate) at_ms: u64,
    pub(crate) heartbeat_ms: u32,
    pub(crate) held: Held,
}

/// Bytes that came with the connection and have not been looked at.
#[derive(Default)]
pub(crate) struct Held {
    /// Frames of the Hello's own WebSocket message.
    pub(crate) frames: Bytes,
    /// Opened, not decoded.
    pub(crate) carried: Vec<u8>,
    /// Not opened.
    pub(crate) undecrypted: Vec<u8>,
}

impl Connection {
    /// The device, where this is a session.
    pub(crate) fn device(&mut self) -> Option<&mut Device> {
        match &mut self.role {
            Role::Session(device) => Some(device),
            Role::Echo { .. } => None,
        }
    }

    /// Whether frames are exchanged.
    pub(crate) fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }
}

impl Device {
    /// The claims of its token.
    pub(crate) fn claims(&self) -> Claims {
        Claims {
            user: self.user.clone(),
            device: Some(self.device.clone()),
            expires_at_ms: self.session.token_expires_ms(),
            issued_at_ms: self.grant.issued_at_ms,
            admin: self.grant.admin,
            jti: self.grant.name.text(),
        }
    }

    /// Whether it watches typing in a chat.
    pub(crate) fn watches(&self, chat: &ChatId) -> bool {
        self.watches
            .as_ref()
            .is_some_and(|w| w.chats.contains(chat))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tokens_name_is_kept_as_it_was_written() {
        for text in [
            "018f3c1e-7d2a-7c31-9c5e-0242ac120002",
            "018F3C1E-7D2A-7C31-9C5E-0242AC120002",
            "018f3c1e7d2a7c319c5e0242ac120002",
            "web-5",
            "",
        ] {
            assert_eq!(Jti::of(text.to_owned()).text().as_deref(), Some(text));
        }
        let canonical = Jti::of("018f3c1e-7d2a-7c31-9c5e-0242ac120002".to_owned());
        assert!(matches!(canonical, Jti::Uuid(_)));
        assert_eq!(Jti::None.text(), None);
    }
}
