//! What a session asks of whoever drives it.

use crate::frame::ServerFrame;
use crate::ids::{ChatId, Seq, UserId};
use crate::message::Send;
use crate::pb;

/// Something to do, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Send this frame.
    Reply(Box<ServerFrame>),
    /// Append to the log; later tell [`super::Session::queued`], and the SendResult passes
    /// [`super::Session::answered`].
    Append(Box<Send>),
    /// This device has everything of the chat up to here.
    Delivered {
        /// Where.
        chat: ChatId,
        /// Up to.
        seq: Seq,
    },
    /// The client says so itself; `Seq::NONE`: unchanged.
    Receipt {
        /// Where.
        chat: ChatId,
        /// Delivered up to.
        delivered: Seq,
        /// Read up to.
        read: Seq,
    },
    /// The device has persisted everything up to and including this delivery offset.
    Cursor {
        /// Delivery offset.
        offset: u64,
    },
    /// Tell the chat's members.
    Typing {
        /// Where.
        chat: ChatId,
        /// No longer.
        stopped: bool,
    },
    /// Replace what this session watches.
    Watch {
        /// Presence of these.
        users: Vec<UserId>,
        /// Typing in these.
        chats: Vec<ChatId>,
    },
    /// Read history; then [`super::Session::synced`].
    Sync(pb::Sync),
    /// Answer a Ping.
    Pong {
        /// To be echoed.
        client_time_ms: u64,
    },
    /// Verify a fresh token; then [`super::Session::token_accepted`] or `token_refused`.
    VerifyToken(String),
    /// End the connection with this WebSocket close code, after the replies before it.
    Close {
        /// RFC 6455's or one of `CloseCode`.
        code: u16,
        /// For people; at most 123 bytes.
        reason: &'static str,
    },
}
