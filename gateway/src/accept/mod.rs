//! Listeners and admission.

pub mod admission;
