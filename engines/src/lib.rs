//! The ports of Hawser's engines and their adapters: `log`, `store`, `presence`, `directory`.
//! Adapters know nothing of one another; the embedded ones share one atomic commit.

#[cfg(any(test, feature = "contract"))]
pub mod contract;
pub mod directory;
pub mod embedded;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod log;
pub mod presence;
pub mod store;
