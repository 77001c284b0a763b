//! Records between the tiers: what the values of `chat-messages`, `delivery`, `cursors` and the
//! ephemeral topics hold. Internal to a cluster; clients never see them.
//!
//! Every value begins with a version byte and a kind byte; integers are little-endian. Encoding
//! never loses anything, whatever its input; decoding is strict and bounded (lengths, counts, form
//! of ids, nothing left over) and answers a typed error, never a panic. Payload bytes are opaque
//! and come out as they went in.

mod body;
mod cursor;
mod delivery;
mod delivery_view;
mod envelopes;
mod ephemeral;
mod read;
mod revoke;
mod shard;
mod source;
#[cfg(test)]
mod tests;
mod write;

pub use body::{BodyKey, BodyRecord, Referred, body_checksum};
pub use cursor::{CursorRecord, DeviceCursor};
pub use delivery::{Audience, DeliveryKind, DeliveryRecord};
pub use delivery_view::{
    Addressed, DeliveryView, MessageView, ReceiptView, Recipients, ReferenceView, ResultView,
    ViewKind,
};
pub use envelopes::{EnvelopeEntry, Envelopes, encode_envelopes};
pub use ephemeral::{EphemeralPresence, EphemeralRecord, Served};
pub use revoke::RevokeView;
pub use shard::{SHARD_BYTES_MAX, ShardMember, ShardMemberView, ShardView};
pub use source::{GROUP_NAME_BYTES_MAX, GROUP_PICTURE_BYTES_MAX, GroupOp, LaneOp, SourceRecord};

use crate::ids::IdError;

/// Version of all encodings of this module. A record of another version is refused, so that a
/// reader is upgraded before its writers.
pub const RECORD_VERSION: u8 = 1;

/// Why bytes are no record: ours or an older program's fault, never a client's (what the edge
/// writes is made of checked parts).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Written by another version.
    #[error("a record of version {found}, not {RECORD_VERSION}")]
    Version {
        /// First byte.
        found: u8,
    },
    /// No kind of this record.
    #[error("a record of unknown kind {found}")]
    Kind {
        /// Second byte, or the code of a group operation.
        found: u8,
    },
    /// Ends before its fields do.
    #[error("a record that ends too early")]
    Truncated,
    /// Bytes after the last field.
    #[error("a record with {bytes} bytes too many")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// A user, device or chat id of no allowed form.
    #[error("a record with a bad id: {0}")]
    Id(#[from] IdError),
    /// More bytes or elements than allowed.
    #[error("{what}: {found} exceeds the limit of {max}")]
    TooMany {
        /// Field.
        what: &'static str,
        /// Found.
        found: usize,
        /// Allowed.
        max: usize,
    },
    /// A field that holds what it must not: bad UTF-8, a flag that is neither 0 nor 1.
    #[error("{what} has a form that is not allowed")]
    BadForm {
        /// Field.
        what: &'static str,
    },
}
