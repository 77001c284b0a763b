//! Listeners and admission.

pub(crate) mod acceptor;
pub mod admission;
pub mod listener;
