//! What cores ask of the control thread. Its queue is bounded: full means shed, with an answer to
//! the client where one is due.

use super::http::HttpConnection;
use crate::deliver::partition::Partition;
use crate::session::SessionId;
use hawser_protocol::ids::{ChatId, UserId};
use hawser_protocol::pb;
use hawser_protocol::server::Fetch;
use hawser_ring::Waker;

/// A message into the control thread.
pub(crate) enum ToControl {
    /// Read a page of history; answered by `ToCore::SyncPage`, always.
    Sync {
        /// To be answered there.
        core: usize,
        /// Who asks.
        session: SessionId,
        /// The token's user.
        user: UserId,
        /// What for.
        request: pb::Sync,
    },
    /// Look up presence; answered by `ToCore::PresenceOf`.
    Watch {
        /// To be answered there.
        core: usize,
        /// Who asks.
        session: SessionId,
        /// At most `WATCH_USERS_MAX`.
        users: Vec<UserId>,
    },
    /// Tell the chat's members that a user types, if a member; otherwise `ToCore::Denied`.
    Typing {
        /// To be answered there.
        core: usize,
        /// Who types.
        session: SessionId,
        /// The token's user.
        user: UserId,
        /// Where.
        chat: ChatId,
        /// No longer.
        stopped: bool,
    },
    /// Users whose first session on a core opened (true), or whose last one closed.
    Presence(Vec<(UserId, bool)>),
    /// Read the delivery log below a replay ring; answered by `ToCore::Replay`, always.
    ReadLog {
        /// To be answered there.
        core: usize,
        /// Who lags.
        session: SessionId,
        /// Of `delivery`, that the partition is one of.
        generation: u16,
        /// Delivery partition.
        partition: u32,
        /// First offset.
        from: u64,
        /// At most so many records.
        max: usize,
        /// About so many bytes.
        bytes: usize,
    },
    /// Open a delivery partition for a core; answered by `ToCore::Opened`.
    OpenPartition {
        /// To be answered there.
        core: usize,
        /// Which.
        partition: u32,
        /// Of `delivery`, that it is one of; whose cursors count.
        generation: u16,
        /// Woken by what comes.
        waker: Waker,
    },
    /// Close a delivery partition: its consumers wait for the log.
    ClosePartition(Box<Partition>),
    /// Read a message record that delivery records refer to; answered by `ToCore::BodyFetched` to every core, unless that
    /// answer is on its way.
    FetchBody(Fetch),
    /// A plain HTTP connection for page and API.
    Http(HttpConnection),
}
