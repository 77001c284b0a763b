//! Listeners and admission.

pub(crate) mod acceptor;
pub mod addresses;
pub mod admission;
pub mod listener;
pub mod slots;
