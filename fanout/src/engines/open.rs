//! Opens what the sections name: the embedded database for what is embedded, and each real engine.

use super::health::{EngineHealth, Needed};
use super::lag::IngestLag;
use super::numbers::Number;
use super::sections::{EMBEDDED, EngineSections};
use super::waiting::EngineError;
use hawser_engines::directory::Directory;
use hawser_engines::embedded::{
    Durability, EmbeddedConfig, EmbeddedEngine, EmbeddedPresence, OpenError, Retention,
};
use hawser_engines::log::Log;
use hawser_engines::presence::PresenceStore;
use hawser_engines::store::Store;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const HOUR_MS: u64 = 3_600_000;

/// Why there are no engines: the operator's, each with the way out.
#[derive(Debug, thiserror::Error)]
pub enum OpenEnginesError {
    /// The data directory.
    #[error(transparent)]
    Data(#[from] OpenError),
    /// A real engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A file that a key names.
    #[error("{key}: {path} cannot be read: {reason}")]
    File {
        /// The key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// A value that the adapter does not take.
    #[error("{key}: {reason}")]
    Setting {
        /// The key.
        key: &'static str,
        /// What is wrong with it, and what to write.
        reason: String,
    },
    /// The system gives no thread.
    #[error("a thread cannot be had: {0}")]
    Thread(std::io::Error),
}

impl OpenEnginesError {
    /// The exit code of a program that cannot go on for it: 1 (the machine), 2 (the configuration), 5 (the data
    /// directory) or 6 (an engine that does not answer).
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Data(OpenError::Config(_) | OpenError::Partitions { .. })
            | Self::Engine(EngineError::Refused { .. })
            | Self::File { .. }
            | Self::Setting { .. } => 2,
            Self::Data(_) => 5,
            Self::Engine(EngineError::Absent { .. }) => 6,
            Self::Thread(_) => 1,
        }
    }
}

/// The four engines.
#[derive(Clone)]
pub struct Engines {
    /// The log.
    pub log: Arc<dyn Log>,
    /// Messages, memberships, watermarks.
    pub store: Arc<dyn Store>,
    /// Who is online.
    pub presence: Arc<dyn PresenceStore>,
    /// Users, devices, groups as shown.
    pub directory: Arc<dyn Directory>,
    /// The database of what is embedded, if anything is.
    pub embedded: Option<Arc<EmbeddedEngine>>,
    /// How each does.
    pub health: Vec<EngineHealth>,
    /// How far ingest is behind; nothing where it is part of the embedded log's commit.
    pub lag: IngestLag,
}

impl Engines {
    /// Opens them; what is embedded is below `dir`. Blocks while a real engine does not answer, for as long as
    /// `engines.wait_for_engines_s` says.
    ///
    /// # Errors
    /// See [`OpenEnginesError`]; nothing is left open.
    pub fn open(
        sections: EngineSections<'_>,
        dir: &Path,
        api: bool,
    ) -> Result<Self, OpenEnginesError> {
        let embedded = match needs_database(sections) {
            true => {
                let config = embedded_config(sections, dir);
                Some(Arc::new(EmbeddedEngine::open(config)?))
            }
            false => None,
        };
        #[cfg(feature = "engines")]
        return super::real::open(sections, embedded, api);
        #[cfg(not(feature = "engines"))]
        return all_embedded(sections, embedded, api);
    }

    /// Whether the log is in this process.
    #[must_use]
    pub fn log_is_embedded(&self) -> bool {
        self.health
            .iter()
            .any(|engine| engine.engine == "log" && engine.kind == EMBEDDED)
    }
}

/// The log of the embedded database.
pub(super) fn embedded_log(engine: &Arc<EmbeddedEngine>) -> (Arc<dyn Log>, EngineHealth) {
    let log = engine.log();
    let asked = Arc::downgrade(&log);
    let health = EngineHealth::new(
        "log",
        EMBEDDED,
        Needed::ForReadiness,
        Arc::new(move || asked.upgrade()?.writable().err()),
        Arc::new(Vec::new),
    );
    (log, health)
}

/// An engine of this process: its disk's troubles are the log's to tell.
pub(super) fn embedded_health(engine: &'static str) -> EngineHealth {
    EngineHealth::new(
        engine,
        EMBEDDED,
        Needed::ForLess,
        Arc::new(|| None),
        Arc::new(Vec::<Number>::new),
    )
}

/// Presence of this process alone.
pub(super) fn embedded_presence(engine: Option<&Arc<EmbeddedEngine>>) -> Arc<dyn PresenceStore> {
    match engine {
        Some(engine) => engine.presence(),
        None => Arc::new(EmbeddedPresence::default()),
    }
}

#[cfg(not(feature = "engines"))]
fn all_embedded(
    sections: EngineSections<'_>,
    embedded: Option<Arc<EmbeddedEngine>>,
    _api: bool,
) -> Result<Engines, OpenEnginesError> {
    // The sections were checked: another kind is refused before.
    let words = "this build has the embedded engines alone: build with --features engines";
    let engine = embedded.ok_or_else(|| OpenEnginesError::Setting {
        key: "log.kind",
        reason: words.to_owned(),
    })?;
    if let Some(key) = sections.real().first() {
        return Err(OpenEnginesError::Setting {
            key,
            reason: words.to_owned(),
        });
    }
    let (log, health) = embedded_log(&engine);
    Ok(Engines {
        log,
        store: engine.store(),
        presence: embedded_presence(Some(&engine)),
        directory: engine.directory(),
        embedded: Some(engine),
        health: vec![
            health,
            embedded_health("store"),
            embedded_health("presence"),
            embedded_health("directory"),
        ],
        lag: IngestLag::default(),
    })
}

/// Presence alone lives in memory.
fn needs_database(sections: EngineSections<'_>) -> bool {
    let kinds = [
        &sections.log.kind,
        &sections.store.kind,
        &sections.directory.kind,
    ];
    kinds.into_iter().any(|kind| kind == EMBEDDED)
}

/// What a store holds belongs to the log that it came from, so that a log on Kafka has another embedded
/// store than the embedded log.
fn embedded_config(sections: EngineSections<'_>, dir: &Path) -> EmbeddedConfig {
    let settings = sections.log;
    let dir = match sections.on_kafka() {
        true => dir.join("beside-kafka"),
        false => dir.to_owned(),
    };
    let mut embedded = EmbeddedConfig::new(dir);
    embedded.durability = match settings.durability.as_str() {
        "os" => Durability::Os,
        _ => Durability::Fsync,
    };
    embedded.disk_reserve_bytes = u64::from(settings.disk_reserve_mib) << 20;
    // On Kafka the embedded log is not used, so its partitions stay what they were made with.
    if !sections.on_kafka() {
        embedded.partitions = settings.partitions;
        embedded.chat_messages = Retention {
            time_ms: u64::from(settings.retention_hours) * HOUR_MS,
            bytes: u64::MAX,
        };
    }
    embedded
}
