//! What stands behind the edge in one process: the embedded engines, or the log on Kafka beside them;
//! ingest, tokens, and the HTTP API.

mod numbers;

use crate::admin::TroubleSource;
use crate::certs::write_private;
use crate::config::Config;
use crate::node::config::Services;
use crate::page;
use aws_lc_rs::{digest, rand};
use hawser_engines::embedded::{Durability, EmbeddedConfig, EmbeddedEngine, OpenError, Retention};
use hawser_engines::log::Log;
use hawser_engines::store::StoreError;
use hawser_fanout::api::{self, ApiServices};
use hawser_fanout::auth::{
    AuthSettings, AuthSetupError, Issuer, IssuerError, IssuerNames, KeySource, Verifier,
};
use hawser_fanout::ingest::{Driver, EmbeddedIngest, IngestConfig, IngestCounters};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// This cell's number, in every message id.
const CELL: u8 = 0;
/// Bytes of the cluster's secret.
const SECRET_BYTES: usize = 32;
const HOUR_MS: u64 = 3_600_000;

/// Why there is nothing to run on: the operator's, each with the way out.
#[derive(Debug, thiserror::Error)]
pub enum BackingError {
    /// The data directory.
    #[error(transparent)]
    Data(#[from] OpenError),
    /// The data directory cannot even be made.
    #[error("the data directory {dir} cannot be made: {source}; choose another with --data-dir")]
    NoDirectory {
        /// Which.
        dir: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// Ingest could not go on where it was.
    #[error("what was accepted before cannot be processed: {0}")]
    Ingest(#[from] StoreError),
    /// The issuer's key.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// Keys or revocations.
    #[error("{0}; see auth.jwks and auth.revocations")]
    Auth(#[from] AuthSetupError),
    /// The cluster's secret.
    #[error("the cluster's secret {path}: {reason}; see auth.cluster_secret")]
    Secret {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Kafka.
    #[error("the log on Kafka cannot be used: {0}")]
    Kafka(String),
    /// Demo users.
    #[error("the demo's users cannot be made: {0}")]
    Demo(String),
}

/// Everything behind the edge. Dropping it commits what is queued and closes.
pub struct Backing {
    /// For the node.
    pub services: Services,
    /// Judges tokens; reloadable.
    pub verifier: Arc<Verifier>,
    /// Seals resume tokens.
    pub resume_key: [u8; 32],
    ingest: Ingest,
    engine: Arc<EmbeddedEngine>,
}

impl Backing {
    /// Opens the data directory and everything on it.
    ///
    /// # Errors
    /// See [`BackingError`].
    pub fn open(config: &Config) -> Result<Self, BackingError> {
        make_data_dir(config)?;
        let engine = Arc::new(EmbeddedEngine::open(embedded_config(config))?);
        let keys = keys_dir(config);
        let resume_key = resume_key(config, &keys)?;
        let (verifier, issuer) = tokens(config, &keys)?;
        let verifier = Arc::new(verifier);
        let parts = Parts::new(config, &engine)?;
        let issuer = issuer.map(Arc::new);
        let api = ApiServices {
            log: parts.log.clone(),
            store: engine.store(),
            directory: engine.directory(),
            presence: engine.presence(),
            verifier: verifier.clone(),
            issuer,
            demo: config.auth.demo,
        };
        if config.auth.demo {
            api::seed_demo(&api).map_err(|e| BackingError::Demo(e.to_string()))?;
        }
        let services = Services {
            log: parts.log,
            store: engine.store(),
            presence: engine.presence(),
            directory: engine.directory(),
            http: page::serve(api::router(api)),
            metrics: vec![numbers::engine(&engine), numbers::ingest(parts.counters)],
            troubles: parts.troubles,
        };
        Ok(Self {
            services,
            verifier,
            resume_key,
            ingest: parts.ingest,
            engine,
        })
    }

    /// What opening the data directory found, for people; empty when there is nothing to say.
    #[must_use]
    pub fn recovery(&self) -> String {
        let report = self.engine.recovery();
        if report.lossy() {
            return "acknowledged records were lost with the disk; clients are told to sync (see the log)".to_owned();
        }
        match report.journal_bytes_cut {
            _ if !report.existed => "new".to_owned(),
            0 => String::new(),
            bytes => {
                format!("recovered from a crash: {bytes} bytes of unacknowledged journal cut off")
            }
        }
    }

    /// Ends ingest and closes the engines, after the node's threads have ended.
    pub fn close(self) {
        if let Ingest::Driver(driver) = self.ingest {
            drop(driver);
        }
        drop(self.services);
        drop(self.engine);
    }
}

/// Makes the data directory if it is missing.
///
/// # Errors
/// It cannot be made, or is no directory.
pub fn make_data_dir(config: &Config) -> Result<(), BackingError> {
    let dir = PathBuf::from(&config.node.data_dir);
    let made = std::fs::create_dir_all(&dir);
    made.map_err(|source| BackingError::NoDirectory { dir, source })
}

/// Where keys and the self-made certificate are kept.
#[must_use]
pub fn keys_dir(config: &Config) -> PathBuf {
    Path::new(&config.node.data_dir).join("keys")
}

/// The issuer of a data directory.
///
/// # Errors
/// Its key cannot be read or made.
pub fn issuer(config: &Config) -> Result<Issuer, BackingError> {
    let keys = keys_dir(config);
    std::fs::create_dir_all(&keys).map_err(|source| BackingError::NoDirectory {
        dir: keys.clone(),
        source,
    })?;
    let mut names = IssuerNames {
        tenant: config.auth.tenant.clone(),
        ..IssuerNames::default()
    };
    if !config.auth.issuer.is_empty() {
        names.issuer.clone_from(&config.auth.issuer);
    }
    if !config.auth.audience.is_empty() {
        names.audience.clone_from(&config.auth.audience);
    }
    Ok(Issuer::open(&keys)?.with_names(names))
}

/// The log and what feeds on it.
struct Parts {
    log: Arc<dyn Log>,
    counters: Arc<IngestCounters>,
    ingest: Ingest,
    troubles: Vec<TroubleSource>,
}

/// Who judges what is in the log.
#[cfg_attr(
    not(feature = "engines"),
    expect(dead_code, reason = "only a log on another engine has a driver")
)]
enum Ingest {
    /// The embedded engine, as it commits.
    Hook,
    /// Threads of their own, which end when this is dropped.
    Driver(Arc<Driver>),
}

impl Parts {
    fn new(config: &Config, engine: &EmbeddedEngine) -> Result<Self, BackingError> {
        if config.on_kafka() {
            return Self::on_kafka(config, engine);
        }
        let log = engine.log();
        let ingest = EmbeddedIngest::new(IngestConfig::of(&*log, CELL));
        let counters = ingest.counters();
        let replayed = engine.set_hook(Box::new(ingest))?;
        if replayed > 0 {
            tracing::info!(replayed, "ingest went on where it was");
        }
        Ok(Self {
            log,
            counters,
            ingest: Ingest::Hook,
            troubles: Vec::new(),
        })
    }

    #[cfg(feature = "engines")]
    fn on_kafka(config: &Config, engine: &EmbeddedEngine) -> Result<Self, BackingError> {
        use hawser_engines::kafka::KafkaConfig;
        let settings = &config.log;
        let mut kafka = KafkaConfig::new(settings.bootstrap.join(","));
        kafka.prefix.clone_from(&settings.prefix);
        kafka.partitions = settings.partitions;
        kafka.allow_unsafe = settings.allow_unsafe;
        kafka.chat_messages.time_ms = u64::from(settings.retention_hours) * HOUR_MS;
        let log: Arc<dyn Log> = Arc::new(open_kafka(kafka, settings.replication)?);
        let ingest_config = IngestConfig::of(&*log, CELL);
        let driver = Driver::start(
            log.clone(),
            engine.store(),
            engine.directory(),
            ingest_config,
        )
        .map_err(|e| BackingError::Kafka(e.to_string()))?;
        let driver = Arc::new(driver);
        // Weak: whoever asks must not keep the threads running.
        let asked = Arc::downgrade(&driver);
        let trouble: TroubleSource = Arc::new(move || asked.upgrade()?.trouble());
        Ok(Self {
            log,
            counters: driver.counters(),
            ingest: Ingest::Driver(driver),
            troubles: vec![trouble],
        })
    }

    #[cfg(not(feature = "engines"))]
    fn on_kafka(_config: &Config, _engine: &EmbeddedEngine) -> Result<Self, BackingError> {
        let text = "this build has no Kafka: build with --features engines";
        Err(BackingError::Kafka(text.to_owned()))
    }
}

/// Opens the log with so many copies of new topics; 0: as many as are safe, or one if that is allowed
/// and there are no more brokers.
#[cfg(feature = "engines")]
fn open_kafka(
    mut kafka: hawser_engines::kafka::KafkaConfig,
    copies: u16,
) -> Result<hawser_engines::kafka::KafkaLog, BackingError> {
    use hawser_engines::kafka::{KafkaError, KafkaLog};
    let failed = |e: KafkaError| BackingError::Kafka(e.to_string());
    if copies > 0 {
        kafka.replication = copies;
        kafka.min_insync = kafka.min_insync.min(copies);
        return KafkaLog::open(kafka).map_err(failed);
    }
    match KafkaLog::open(kafka.clone()) {
        Err(KafkaError::Create { .. }) if kafka.allow_unsafe => {
            tracing::warn!("fewer than three brokers: topics are made with one copy");
            kafka.replication = 1;
            kafka.min_insync = 1;
            KafkaLog::open(kafka).map_err(failed)
        }
        opened => opened.map_err(failed),
    }
}

/// The engine's directory. What a store holds belongs to the log that it came from, so that a log on Kafka
/// has another store than the embedded one.
fn engine_dir(config: &Config) -> PathBuf {
    let dir = Path::new(&config.node.data_dir);
    if config.on_kafka() {
        dir.join("beside-kafka")
    } else {
        dir.to_owned()
    }
}

fn embedded_config(config: &Config) -> EmbeddedConfig {
    let settings = &config.log;
    let mut embedded = EmbeddedConfig::new(engine_dir(config));
    embedded.durability = match settings.durability.as_str() {
        "os" => Durability::Os,
        _ => Durability::Fsync,
    };
    embedded.disk_reserve_bytes = u64::from(settings.disk_reserve_mib) << 20;
    // On Kafka the embedded log is not used, so its partitions stay what they were made with.
    if !config.on_kafka() {
        embedded.partitions = settings.partitions;
        embedded.chat_messages = Retention {
            time_ms: u64::from(settings.retention_hours) * HOUR_MS,
            bytes: u64::MAX,
        };
    }
    embedded
}

/// Who may connect: the operator's keys, or the node's own.
fn tokens(config: &Config, keys: &Path) -> Result<(Verifier, Option<Issuer>), BackingError> {
    let auth = &config.auth;
    let revocations = match auth.revocations.as_str() {
        "" => keys.join("revocations.json"),
        path => PathBuf::from(path),
    };
    if auth.jwks.is_empty() {
        let issuer = issuer(config)?;
        let verifier = Verifier::new(issuer.auth_settings(Some(revocations)))?;
        return Ok((verifier, Some(issuer)));
    }
    let some = |text: &String| (!text.is_empty()).then(|| text.clone());
    let verifier = Verifier::new(AuthSettings {
        keys: KeySource::File(PathBuf::from(&auth.jwks)),
        issuer: some(&auth.issuer),
        audience: some(&auth.audience),
        tenant: auth.tenant.clone(),
        revocations: Some(revocations),
    })?;
    Ok((verifier, None))
}

/// Seals resume tokens: derived from the cluster's secret, which is made once if nobody gave one.
fn resume_key(config: &Config, keys: &Path) -> Result<[u8; 32], BackingError> {
    let given = &config.auth.cluster_secret;
    let path = match given.as_str() {
        "" => keys.join("cluster.secret"),
        path => PathBuf::from(path),
    };
    let wrong = |reason: String| BackingError::Secret {
        path: path.clone(),
        reason,
    };
    let secret = match std::fs::read(&path) {
        Ok(secret) => secret,
        Err(e) if e.kind() == io::ErrorKind::NotFound && given.is_empty() => {
            let mut secret = vec![0; SECRET_BYTES];
            rand::fill(&mut secret).map_err(|_| wrong("no random bytes".to_owned()))?;
            std::fs::create_dir_all(keys).map_err(|e| wrong(e.to_string()))?;
            write_private(&path, &secret).map_err(|e| wrong(e.to_string()))?;
            secret
        }
        Err(e) => return Err(wrong(e.to_string())),
    };
    if secret.len() < SECRET_BYTES {
        return Err(wrong(format!(
            "{} bytes; at least {SECRET_BYTES} are needed",
            secret.len()
        )));
    }
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"hawser resume key, version 1");
    context.update(&secret);
    let mut key = [0; 32];
    key.copy_from_slice(context.finish().as_ref());
    Ok(key)
}
