//! The ports of Hawser's engines and their adapters: `log`, `store`, `presence`, `directory`.
//! Adapters know nothing of one another; the embedded ones share one atomic commit.

#[cfg(feature = "bridge")]
pub mod bridge;
#[cfg(feature = "cassandra")]
pub mod cassandra;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
pub mod directory;
pub mod embedded;
#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(feature = "bridge")]
pub mod latency;
pub mod log;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod presence;
#[cfg(feature = "redis")]
pub mod redis;
pub mod store;
#[cfg(feature = "bridge")]
pub mod tls;
