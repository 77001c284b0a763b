//! Frames: an 8-byte header and a body; hot bodies are fixed layouts, control bodies protobuf.
//! The layouts are specified byte by byte in `docs/protocol.md`.

mod client;
mod header;
mod layout;
mod message;
mod server;

pub use client::{Ack, ClientFrame};
pub use header::{FrameError, FrameType, Header, RawFrame, split};
pub use message::{MessageView, RECORD_FIXED_BYTES, SEND_FIXED_BYTES};
pub use server::{DELIVER_PREFIX_BYTES, Deliver, DeliverFlags, ServerFrame, deliver_prefix};
