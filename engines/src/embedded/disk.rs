//! Free space of the disk under the database.

use std::path::Path;

/// Bytes that an unprivileged process can still write; `None` when the system does not say.
pub(super) fn free_bytes(dir: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(dir).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}
