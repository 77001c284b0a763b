//! The control thread: everything that may wait on an engine, off the hot path.

pub(crate) mod answers;
pub(crate) mod bodies;
pub(crate) mod http;
pub(crate) mod lanes;
pub(crate) mod message;
mod pools;
pub(crate) mod presence;
pub(crate) mod thread;
pub(crate) mod transitions;

pub(crate) use message::ToControl;
