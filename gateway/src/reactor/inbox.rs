//! What comes into a core from other threads, through its one bounded mailbox.

use super::questions::Question;
use crate::accept::addresses::AddressPermit;
use crate::deliver::partition::Opened;
use crate::node::shared::SessionPermit;
use crate::session::SessionId;
use bytes::Bytes;
use hawser_engines::log::{ReadError, Record};
use hawser_engines::presence::Presence;
use hawser_fanout::auth::Claims;
use hawser_protocol::codes::ErrorCode;
use hawser_protocol::frame::FrameType;
use hawser_protocol::ids::{DeviceId, UserId};
use hawser_protocol::pb;
use hawser_protocol::record::{BodyKey, Served};
use hawser_protocol::server::{Body, Fetched};
use hawser_wire::record::Layer;
use hawser_wire::ws;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

/// A message into a core.
pub(crate) enum ToCore {
    /// A connection whose handshake is done: adopt it.
    Arrive(Box<Arriving>),
    /// Answer to `ToControl::Sync`.
    SyncPage {
        /// Who asked; may be gone.
        session: SessionId,
        /// The page, errors inside it.
        page: Box<pb::SyncPage>,
    },
    /// Answer to `ToControl::Watch`: present state of each watched user.
    PresenceOf {
        /// Who asked; may be gone.
        session: SessionId,
        /// In any order.
        states: Vec<(UserId, Presence)>,
    },
    /// Users who came or went, anywhere in the cluster, and their new states; when last seen is inside it.
    PresenceChanged(Arc<[(UserId, Presence)]>),
    /// A node serves a device as a guest; maybe this one.
    Served(Box<Served>),
    /// Answer to `ToControl::ReadLog`.
    Replay {
        /// Who asked; may be gone.
        session: SessionId,
        /// First offset asked for.
        from: u64,
        /// What the log gave, in order.
        result: Result<Vec<Record>, ReadError>,
    },
    /// Something that the control thread judged is refused: an `Error` frame.
    Denied {
        /// Who asked; may be gone.
        session: SessionId,
        /// The frame that is answered.
        frame_type: FrameType,
        /// Why.
        code: ErrorCode,
    },
    /// The revocation list was reloaded: look at every session's token again.
    Recheck,
    /// Other partitions are this node's, or others': look where each session belongs.
    Owners,
    /// Answer to `ToControl::OpenPartition`.
    Opened {
        /// Of `delivery`, that it is one of.
        generation: u16,
        /// Which.
        partition: u32,
        /// Open, or why not.
        result: Result<Box<Opened>, ReadError>,
    },
    /// A message record of the node's lane.
    Body {
        /// Of which message.
        key: BodyKey,
        /// The record.
        body: Body,
    },
    /// Answer to `ToControl::FetchBody`, to every core.
    BodyFetched {
        /// Of which message.
        key: BodyKey,
        /// What the store has.
        outcome: Fetched,
    },
    /// The last session of a user of this core, on a core that the user does not belong to, has ended.
    LeftElsewhere {
        /// Who.
        user: UserId,
    },
    /// Tell every session to move, then close what is left at the deadline.
    Drain {
        /// Milliseconds from now.
        deadline_ms: u64,
    },
    /// An operator asks.
    Asked(Box<Question>),
    /// Close everything and return.
    Stop,
}

/// How a session's frames are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// `hawser.v1`: binary messages of whole frames.
    Binary,
    /// `hawser.v1+json`: one JSON object per text message.
    Json,
}

/// A connection on its way to its owner core: made only from a completed read, with no operation in
/// flight. The sender reads, seals and parses nothing afterwards.
pub(crate) struct Arriving {
    /// The socket, non-blocking.
    pub(crate) stream: TcpStream,
    /// Record layer with the keys and both sequence numbers.
    pub(crate) layer: Layer,
    /// Bytes of the socket that the layer has not opened.
    pub(crate) undecrypted: Vec<u8>,
    /// Opened bytes that the WebSocket decoder has not been given. With `undecrypted` and `frames`
    /// at most 16 KiB plus one WebSocket message.
    pub(crate) carried: Vec<u8>,
    /// Where the WebSocket stream stands.
    pub(crate) decoder: ws::Decoder,
    /// Who is at the other end.
    pub(crate) peer: SocketAddr,
    /// The address's place.
    pub(crate) permit: AddressPermit,
    /// The session's place.
    pub(crate) place: SessionPermit,
    /// What it is to become.
    pub(crate) kind: Kind,
}

/// What a connection becomes.
pub(crate) enum Kind {
    /// A session.
    Session(Box<Greeting>),
    /// An echo of every message (`/v1/echo`).
    Echo,
}

/// What the Hello established.
pub(crate) struct Greeting {
    /// How frames are written.
    pub(crate) encoding: Encoding,
    /// The Hello, whose token has been verified.
    pub(crate) hello: pb::Hello,
    /// What the token says.
    pub(crate) claims: Claims,
    /// The token's device, which is the Hello's.
    pub(crate) device: DeviceId,
    /// Frames that followed the Hello within its WebSocket message (binary only; usually none).
    pub(crate) frames: Bytes,
}
