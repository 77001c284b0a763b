//! The client's session, sans-IO: frames, time and reports of the disk in, effects out.
//!
//! ```text
//!            start                 opened: Hello            Welcome
//! stopped ──────────▶ connecting ───────────────▶ (hello) ────┬──────────▶ catching-up ──CaughtUp──▶ live
//!                       ▲    ▲                                │ recovered       ▲
//!                       │    └── at once: 43xx, 1001          │ not recovered   │ Ack::ADOPT, once all is stored
//!        retry_at ──────┤        new token: 41xx              └──▶ syncing ─────┘
//!                       │
//!                    waiting ◀── closed: back off             40xx, 1002, …: refused, for good
//! ```
//!
//! Three rules hold it together. Nothing is acknowledged before the disk has it: an ack follows
//! [`Session::handle_stored`], never a frame. No Send leaves before the disk has it, and it keeps its
//! id until the server has answered for good. An offset is passed only when every message before
//! it is stored, those that had to be fetched included ([`CursorLine`]).
//!
//! The browser client (`client/web/src/session`) is the same machine in TypeScript; a change here
//! is a change there.

mod backoff;
mod chance;
mod inbox;
mod line;
mod outbox;
mod receipts;
mod session;
mod sync;
mod syncer;
mod types;

pub use backoff::{BACKOFF_BASE_MS, BACKOFF_CAP_MS, Backoff};
pub use chance::Chance;
pub use line::CursorLine;
pub use outbox::{OUTBOX_MESSAGES_MAX, SubmitError};
pub use session::Session;
pub use types::{
    Batch, Config, Effect, HistoryDone, Mark, Now, PendingSend, Phase, Place, Position, Refusal,
    Saved, Track,
};
