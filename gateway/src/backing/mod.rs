//! What stands behind the edge: the engines where the configuration places them, ingest and the HTTP API
//! where they are among this node's roles, and tokens.

mod numbers;

use crate::certs::write_private;
use crate::config::Config;
use crate::node::config::Services;
use crate::page;
use aws_lc_rs::{digest, rand};
use axum::Router;
use axum::http::StatusCode;
use axum::routing::any;
use hawser_engines::embedded::EmbeddedEngine;
use hawser_fanout::api::{self, ApiServices};
use hawser_fanout::auth::{Issuer, IssuerError, RevocationFeed, Tokens, TokensError, Verifier};
use hawser_fanout::engines::{
    EngineHealth, Engines, Ingesting, IngestingError, OpenEnginesError, numbers::token_numbers,
};
use hawser_fanout::settings::SettingsError;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Bytes of the cluster's secret.
const SECRET_BYTES: usize = 32;
/// Pause before a demo that could not be seeded is tried again.
const SEED_AGAIN: Duration = Duration::from_secs(2);

/// Why there is nothing to run on: the operator's, each with the way out.
#[derive(Debug, thiserror::Error)]
pub enum BackingError {
    /// The engines: the data directory, or a real one.
    #[error(transparent)]
    Engines(#[from] OpenEnginesError),
    /// A combination of settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The data directory cannot even be made.
    #[error("the data directory {dir} cannot be made: {source}; choose another with --data-dir")]
    NoDirectory {
        /// Which.
        dir: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// Ingest could not go on where it was.
    #[error(transparent)]
    Ingest(#[from] IngestingError),
    /// The issuer's key.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// Who may connect.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// A thread.
    #[error("a thread cannot be had: {0}")]
    Thread(io::Error),
    /// The cluster's secret.
    #[error("the cluster's secret {path}: {reason}; see auth.cluster_secret")]
    Secret {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Everything behind the edge. Dropping it commits what is queued and closes.
pub struct Backing {
    /// For the node.
    pub services: Services,
    /// Judges tokens; reloadable.
    pub verifier: Arc<Verifier>,
    /// Seals resume tokens.
    pub resume_key: [u8; 32],
    ingesting: Option<Ingesting>,
    embedded: Option<Arc<EmbeddedEngine>>,
    every: Duration,
    feed: Option<RevocationFeed>,
}

impl Backing {
    /// Opens everything. Blocks while an engine does not answer, for as long as the configuration says.
    ///
    /// # Errors
    /// See [`BackingError`].
    pub fn open(config: &Config) -> Result<Self, BackingError> {
        make_data_dir(config)?;
        let roles = config.roles()?;
        let keys = keys_dir(config);
        let resume_key = resume_key(config, &keys)?;
        let dir = Path::new(&config.node.data_dir);
        let engines = Engines::open(config.engine_sections(), dir, roles.api)?;
        let patience = Duration::from_secs(u64::from(config.engines.wait_for_engines_s));
        let Tokens { verifier, issuer } = config.auth.open_patiently(&keys, patience)?;
        let ingesting = match roles.ingest {
            true => Some(Ingesting::start(&engines, &config.ingest)?),
            false => None,
        };
        let api = ApiServices {
            log: engines.log.clone(),
            store: engines.store.clone(),
            directory: engines.directory.clone(),
            presence: engines.presence.clone(),
            verifier: verifier.clone(),
            issuer,
            demo: config.auth.demo,
        };
        let http = match roles.api {
            true => {
                if config.auth.demo {
                    seed(api.clone(), engines.embedded.is_some())?;
                }
                api::router(api)
            }
            false => Router::new().route("/v1/{*rest}", any(elsewhere)),
        };
        let mut metrics = vec![engine_numbers(engines.health.clone())];
        metrics.extend(engines.embedded.as_ref().map(numbers::engine));
        let lag = engines.lag.clone();
        metrics.push(Arc::new(move || lag.numbers()));
        metrics.extend(ingesting.as_ref().map(Ingesting::numbers));
        let judge = verifier.clone();
        metrics.push(Arc::new(move || token_numbers(&judge)));
        let services = Services {
            log: engines.log,
            store: engines.store,
            presence: engines.presence,
            directory: engines.directory,
            http: page::serve(http),
            metrics,
            health: engines.health,
            troubles: ingesting
                .as_ref()
                .map(Ingesting::trouble)
                .into_iter()
                .collect(),
            lag: engines.lag,
            ingest: ingesting.as_ref().and_then(Ingesting::share),
        };
        Ok(Self {
            services,
            verifier,
            resume_key,
            ingesting,
            embedded: engines.embedded,
            every: Duration::from_millis(u64::from(config.engines.revocations_ms)),
            feed: None,
        })
    }

    /// Reads revocations from the directory from now on; `changed` is told after each change.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn follow_revocations(
        &mut self,
        changed: impl Fn() + Send + 'static,
    ) -> Result<(), BackingError> {
        let directory = self.services.directory.clone();
        let verifier = self.verifier.clone();
        let feed = RevocationFeed::start(directory, verifier, self.every, Box::new(changed));
        self.feed = Some(feed.map_err(BackingError::Thread)?);
        Ok(())
    }

    /// What opening the data directory found, for people; empty when there is nothing to say.
    #[must_use]
    pub fn recovery(&self) -> String {
        let Some(engine) = &self.embedded else {
            return String::new();
        };
        let report = engine.recovery();
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
        drop(self.feed);
        drop(self.ingesting);
        drop(self.services);
        drop(self.embedded);
    }
}

/// The demo's users and its group: now where everything is in this process, as soon as it answers elsewhere.
fn seed(services: ApiServices, here: bool) -> Result<(), BackingError> {
    let mut said = false;
    let mut again = move || {
        let Err(error) = api::seed_demo(&services) else {
            return true;
        };
        if !std::mem::replace(&mut said, true) {
            tracing::warn!(%error, "the demo's users wait for the directory");
        }
        false
    };
    if here && again() {
        return Ok(());
    }
    let thread = std::thread::Builder::new().name("hawser-seed".to_owned());
    let spawned = thread.spawn(move || {
        while !again() {
            std::thread::sleep(SEED_AGAIN);
        }
    });
    spawned.map(drop).map_err(BackingError::Thread)
}

/// The API is another process's.
async fn elsewhere() -> (StatusCode, &'static str) {
    let words = "this node does not serve the API: `api` is not among its node.roles\n";
    (StatusCode::NOT_FOUND, words)
}

fn engine_numbers(health: Vec<EngineHealth>) -> crate::admin::MetricsSource {
    Arc::new(move || health.iter().flat_map(EngineHealth::numbers).collect())
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
    Ok(config.auth.issuer(&keys)?)
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
