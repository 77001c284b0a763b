//! The embedded engines: log, store, directory and presence in one process, on one local database,
//! with one atomic and durable commit over all of them.
//!
//! A dedicated thread is the only writer. It takes what was produced, gives offsets, lets the
//! [`CommitHook`] (ingest) judge each `chat-messages` record, puts log records, rows, derived records
//! and positions into one batch, syncs it once, and only then completes callbacks and feeds consumers.
//! Reads go straight to the database from any thread and see whole batches.
//!
//! Folder: `FORMAT` (version), `LOCK` (pid), `ACKED` (what was about to be acknowledged), `db/` (the
//! database), `damaged/` (what recovery cut off, for people to look at and delete).

mod batch;
mod codec;
mod commit;
mod config;
mod core;
mod directory;
mod disk;
mod ephemeral;
mod error;
mod feed;
mod format;
mod hook;
mod journal;
mod log;
mod maintenance;
mod meta;
mod note;
mod presence;
mod queue;
mod recover;
mod report;
mod revocations;
mod rows;
mod stats;
mod store;
mod store_write;
mod tables;
mod verify;

pub use config::{Clock, DiskProbe, Durability, EmbeddedConfig, Retention};
pub use error::OpenError;
pub use hook::{CommitHook, HookBatch};
pub use presence::EmbeddedPresence;
pub use report::{RecoveryReport, Truncated};
pub use stats::EmbeddedStats;

use self::commit::{Committer, fail};
use self::core::Core;
use self::feed::Refill;
use self::format::DirLock;
use self::queue::{Job, Take, Taken, refused};
use crate::directory::Directory;
use crate::log::Log;
use crate::presence::PresenceStore;
use crate::store::{Store, StoreError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Group under which the hook's position in `chat-messages` is committed.
pub const INGEST_GROUP: &str = "ingest";

/// The open engines. Dropping it commits what is queued, syncs, and closes; handles that are still
/// held then answer `Refused` or `Unavailable`.
pub struct EmbeddedEngine {
    core: Arc<Core>,
    presence: Arc<EmbeddedPresence>,
    report: RecoveryReport,
    committer: Option<JoinHandle<()>>,
    reader: Option<JoinHandle<()>>,
    /// Released last.
    _lock: DirLock,
}

impl EmbeddedEngine {
    /// Opens or creates the database in `config.dir`, and recovers what a crash left.
    ///
    /// # Errors
    /// The operator's: see [`OpenError`], each says the way out.
    pub fn open(config: EmbeddedConfig) -> Result<Self, OpenError> {
        let recovered = recover::open(&config)?;
        let report = recovered.state.report.clone();
        report.log();
        if config.durability == Durability::Os {
            tracing::warn!(
                "durability is \"os\": what is acknowledged survives kill -9, not power loss"
            );
        }
        let dir = config.dir.clone();
        let spawn_error = |source| OpenError::Io {
            dir: dir.clone(),
            what: "cannot start a thread",
            source,
        };
        let (refill, requests) = channel();
        let core = Arc::new(Core::new(config, refill));
        let recover::Recovered {
            tables,
            state,
            note,
            lock,
        } = recovered;
        let mut committer = Committer::new(Arc::clone(&core), tables, state, note);
        let shared = Arc::clone(&core);
        let reader = std::thread::Builder::new()
            .name("hawser-log-read".to_owned())
            .spawn(move || feed::run_reader(&shared, &requests))
            .map_err(spawn_error)?;
        let shared = Arc::clone(&core);
        let committer = std::thread::Builder::new()
            .name("hawser-commit".to_owned())
            .spawn(move || {
                if catch_unwind(AssertUnwindSafe(|| committer.run())).is_err() {
                    ended(&shared);
                }
            })
            .map_err(spawn_error)?;
        Ok(Self {
            core,
            presence: Arc::new(EmbeddedPresence::default()),
            report,
            committer: Some(committer),
            reader: Some(reader),
            _lock: lock,
        })
    }

    /// Installs the hook, and gives it the records beyond its committed position before anything
    /// else is committed. Call it once, before traffic. Returns how many records it was given.
    ///
    /// # Errors
    /// The store cannot be read or written now.
    pub fn set_hook(&self, hook: Box<dyn CommitHook>) -> Result<u64, StoreError> {
        let unavailable = |reason: String| StoreError::Unavailable { reason };
        let (reply, answer) = sync_channel(1);
        self.core
            .queue
            .push(Job::Hook { hook, reply })
            .map_err(|e| unavailable(e.to_string()))?;
        answer
            .recv()
            .unwrap_or_else(|_| Err(unavailable("the commit thread is gone".to_owned())))
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> Arc<dyn Log> {
        Arc::new(log::EmbeddedLog(Arc::clone(&self.core)))
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> Arc<dyn Store> {
        Arc::new(store::EmbeddedStore(Arc::clone(&self.core)))
    }

    /// Presence; soft state of this process.
    #[must_use]
    pub fn presence(&self) -> Arc<dyn PresenceStore> {
        Arc::clone(&self.presence) as Arc<dyn PresenceStore>
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> Arc<dyn Directory> {
        Arc::new(directory::EmbeddedDirectory(Arc::clone(&self.core)))
    }

    /// What opening found.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        &self.report
    }

    /// Counters, for metrics and alarms.
    #[must_use]
    pub fn stats(&self) -> EmbeddedStats {
        self.core.counters.read(self.core.queue.len())
    }
}

impl Drop for EmbeddedEngine {
    fn drop(&mut self) {
        self.core.queue.close();
        // A thread that panicked has been reported by `ended`.
        let _ = self.committer.take().map(JoinHandle::join);
        let _ = self.core.refill.send(Refill::Close);
        let _ = self.reader.take().map(JoinHandle::join);
    }
}

/// The commit thread panicked: everything is refused from now on, with the reason.
fn ended(core: &Core) {
    const REASON: &str = "the commit thread panicked; restart the process";
    tracing::error!("{REASON}");
    core.set_down(Some(REASON));
    core.queue.close();
    let take = Take {
        records_max: usize::MAX,
        bytes_max: usize::MAX,
        idle: Duration::ZERO,
        linger: Duration::ZERO,
    };
    while let Taken::Jobs(jobs) = core.queue.take(&take) {
        jobs.into_iter()
            .for_each(|job| fail(job, &refused(REASON, 1_000)));
    }
    drop(core.set_tables(None));
}
