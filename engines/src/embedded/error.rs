//! Why the embedded engine refuses to start: the operator's errors, each with the way out.

use std::path::PathBuf;

/// Why the database cannot be opened. Nothing was changed on disk unless the variant says so.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A setting is out of bounds.
    #[error("embedded engine: {0}")]
    Config(String),
    /// Another process (or engine of this process) has it open.
    #[error(
        "{dir} is open in another process (pid {pid}, as its LOCK file says): stop it first, \
         or give this one another folder"
    )]
    Locked {
        /// Folder.
        dir: PathBuf,
        /// As written by the holder; "unknown" when it cannot be read.
        pid: String,
    },
    /// The folder was written by a version that this one does not know.
    #[error(
        "{dir} has format {found} (written by {written_by}), and this version knows format {known}: \
         start the version that wrote it, or restore a backup that this version wrote"
    )]
    UnknownFormat {
        /// Folder.
        dir: PathBuf,
        /// Format there.
        found: u64,
        /// Who wrote it.
        written_by: String,
        /// Format known here.
        known: u64,
    },
    /// The FORMAT file is missing beside a database, or unreadable.
    #[error(
        "{dir}/FORMAT is missing or unreadable ({reason}), but there is a database beside it: \
         restore FORMAT from a backup; do not delete the database"
    )]
    NoFormat {
        /// Folder.
        dir: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The folder was made with another number of partitions.
    #[error(
        "{dir} has {stored} partitions, and {wanted} are configured: configure {stored}; \
         the number is fixed when the folder is made"
    )]
    Partitions {
        /// Folder.
        dir: PathBuf,
        /// On disk.
        stored: u32,
        /// Configured.
        wanted: u32,
    },
    /// The database's own files cannot be read.
    #[error(
        "the database in {dir} cannot be opened: {reason}. A copy of what recovery set aside is in \
         {dir}/damaged. Restore {dir} from a backup, or move it away and start empty"
    )]
    Damaged {
        /// Folder.
        dir: PathBuf,
        /// From the storage engine.
        reason: String,
    },
    /// The operating system refused.
    #[error("{what} in {dir}: {source}")]
    Io {
        /// Folder.
        dir: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Its answer.
        source: std::io::Error,
    },
}
