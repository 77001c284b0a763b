//! What is configured of a process among others.

use crate::settings::SettingsError;
use crate::settings_section;
use hawser_protocol::ownership::NodeName;
use std::net::SocketAddr;

settings_section! {
    /// `[cluster]`.
    ClusterSection {
        /// This process's share of the partitions, beside those of the others of its role; 0: it owns none.
        weight: u32 = 100, 0 ..= 1000000;
        /// A process whose beats the others have not read for so long loses what it owns, milliseconds; the same in all of
        /// a cluster.
        lease_ms: u64 = 3000, 500 ..= 60000;
        /// The admin listener as the other nodes reach it, `host:port`: a gateway that cannot read the log asks them whether
        /// they can. Empty: made from `listen.admin`, if that is one address.
        link: String = String::new();
    }
}

/// Where the other nodes reach a process's admin listener: as configured, or where it listens if that is one address; empty:
/// nowhere.
#[must_use]
pub fn link(configured: &str, admin: Option<SocketAddr>) -> String {
    match configured {
        "" => admin
            .filter(|addr| !addr.ip().is_unspecified())
            .map_or_else(String::new, |addr| addr.to_string()),
        link => link.to_owned(),
    }
}

/// The host's name; empty where the system does not say.
#[must_use]
pub fn host_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    host.trim().to_owned()
}

/// The name of a process among the others, from the `key` of its settings. What came from the host's name may have any
/// characters; those that no name has become hyphens.
///
/// # Errors
/// It is empty or too long.
pub fn node_name(key: &str, name: &str) -> Result<NodeName, SettingsError> {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "_.-".contains(c) {
            c
        } else {
            '-'
        }
    };
    let name: String = name.chars().map(plain).collect();
    NodeName::new(&name).map_err(|error| SettingsError::Contradiction {
        key: key.to_owned(),
        reason: error.to_string(),
    })
}
