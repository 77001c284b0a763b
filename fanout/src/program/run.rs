//! Opens the engines, runs the roles, and ends them in order.

use super::config::{Config, Roles};
use crate::api::{self, ApiServices};
use crate::auth::{
    AuthSettings, AuthSetupError, Issuer, IssuerError, IssuerNames, KeySource, Verifier,
};
use crate::ingest::{
    Driver, DriverConfig, DriverError, EmbeddedIngest, IngestConfig, IngestCounters,
};
use crate::settings::SettingsError;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use hawser_engines::embedded::{Durability, EmbeddedConfig, EmbeddedEngine, OpenError};
use hawser_engines::log::Log;
use hawser_engines::store::StoreError;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Folder of keys in a data directory; the gateway's.
const KEYS: &str = "keys";

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Data(#[from] OpenError),
    #[error("what was accepted before cannot be processed: {0}")]
    Ingest(#[from] StoreError),
    #[error("ingest: {0}")]
    Driver(#[from] DriverError),
    #[error("{0}; see auth.jwks and auth.revocations")]
    Auth(#[from] AuthSetupError),
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    #[error("the log on Kafka cannot be used: {0}")]
    Kafka(String),
    #[error("{key} = {addr} cannot be listened on: {source}")]
    Listen {
        key: &'static str,
        addr: SocketAddr,
        source: io::Error,
    },
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl RunError {
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Settings(_) | Self::Auth(_) | Self::Issuer(_) => 2,
            Self::Listen { .. } => 4,
            Self::Data(_) => 5,
            Self::Ingest(_) | Self::Driver(_) | Self::Kafka(_) | Self::Io(_) => 1,
        }
    }
}

/// What ingests: inside the engine's commit, or threads of their own.
struct Ingest {
    log: Arc<dyn Log>,
    counters: Arc<IngestCounters>,
    driver: Option<Driver>,
}

/// Runs until SIGTERM or SIGINT.
pub(super) fn run(config: &Config) -> Result<(), RunError> {
    listen_to_ourselves(config);
    let roles = config.roles()?;
    let dir = PathBuf::from(&config.fanout.data_dir);
    let engine = EmbeddedEngine::open(embedded(config, &dir))?;
    let keys = dir.join(KEYS);
    let (verifier, issuer) = tokens(config, &keys)?;
    let ingest = ingest(config, &engine)?;
    let services = ApiServices {
        log: Arc::clone(&ingest.log),
        store: engine.store(),
        directory: engine.directory(),
        presence: engine.presence(),
        verifier: Arc::new(verifier),
        issuer: issuer.map(Arc::new),
        demo: config.auth.demo,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let served = runtime.block_on(serve(config, roles, services, &ingest));
    // What the API had begun is done or given up before its engines close.
    runtime.shutdown_timeout(Duration::from_secs(10));
    if let Some(driver) = ingest.driver {
        driver.stop();
    }
    drop(ingest.log);
    drop(engine);
    served
}

fn listen_to_ourselves(config: &Config) {
    let filter = tracing_subscriber::EnvFilter::new(&config.output.filter);
    let output = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    // Refused when a subscriber is there already: then that one is used.
    let _ = match config.output.format.as_str() {
        "json" => output.json().try_init(),
        _ => output.try_init(),
    };
}

fn embedded(config: &Config, dir: &Path) -> EmbeddedConfig {
    let mut embedded = EmbeddedConfig::new(dir);
    embedded.durability = match config.log.durability.as_str() {
        "os" => Durability::Os,
        _ => Durability::Fsync,
    };
    // On Kafka the embedded log is not used, so its partitions stay what they were made with.
    if !config.on_kafka() {
        embedded.partitions = config.log.partitions;
    }
    embedded
}

fn ingest(config: &Config, engine: &EmbeddedEngine) -> Result<Ingest, RunError> {
    let cell = config.fanout.cell;
    if config.on_kafka() {
        let log = kafka(config)?;
        let mut settings = DriverConfig::of(&*log, cell);
        settings.threads = config.ingest.threads;
        settings.in_flight_max = config.ingest.in_flight as usize;
        settings.produce_timeout =
            Duration::from_millis(u64::from(config.ingest.produce_timeout_ms));
        let driver = Driver::start(
            Arc::clone(&log),
            engine.store(),
            engine.directory(),
            settings,
        )?;
        return Ok(Ingest {
            log,
            counters: driver.counters(),
            driver: Some(driver),
        });
    }
    let log = engine.log();
    let hook = EmbeddedIngest::new(IngestConfig::of(&*log, cell));
    let counters = hook.counters();
    let replayed = engine.set_hook(Box::new(hook))?;
    if replayed > 0 {
        tracing::info!(replayed, "ingest went on where it was");
    }
    Ok(Ingest {
        log,
        counters,
        driver: None,
    })
}

#[cfg(feature = "engines")]
fn kafka(config: &Config) -> Result<Arc<dyn Log>, RunError> {
    use hawser_engines::kafka::{KafkaConfig, KafkaLog};
    let settings = &config.log;
    let mut kafka = KafkaConfig::new(settings.bootstrap.join(","));
    kafka.prefix.clone_from(&settings.prefix);
    kafka.partitions = settings.partitions;
    kafka.replication = settings.replication;
    kafka.min_insync = kafka.min_insync.min(settings.replication);
    kafka.allow_unsafe = settings.allow_unsafe;
    let log = KafkaLog::open(kafka).map_err(|e| RunError::Kafka(e.to_string()))?;
    Ok(Arc::new(log))
}

#[cfg(not(feature = "engines"))]
fn kafka(_config: &Config) -> Result<Arc<dyn Log>, RunError> {
    let words = "this build has no Kafka: build with --features engines";
    Err(RunError::Kafka(words.to_owned()))
}

fn tokens(config: &Config, keys: &Path) -> Result<(Verifier, Option<Issuer>), RunError> {
    let auth = &config.auth;
    let some = |text: &String| (!text.is_empty()).then(|| text.clone());
    let revocations = match auth.revocations.as_str() {
        "" => keys.join("revocations.json"),
        path => PathBuf::from(path),
    };
    if !auth.jwks.is_empty() {
        let settings = AuthSettings {
            keys: KeySource::File(PathBuf::from(&auth.jwks)),
            issuer: some(&auth.issuer),
            audience: some(&auth.audience),
            tenant: auth.tenant.clone(),
            revocations: Some(revocations),
        };
        return Ok((Verifier::new(settings)?, None));
    }
    let names = IssuerNames::default();
    let names = IssuerNames {
        issuer: some(&auth.issuer).unwrap_or(names.issuer),
        audience: some(&auth.audience).unwrap_or(names.audience),
        tenant: auth.tenant.clone(),
    };
    let issuer = Issuer::open(keys)?.with_names(names);
    let verifier = Verifier::new(issuer.auth_settings(Some(revocations)))?;
    Ok((verifier, Some(issuer)))
}

async fn serve(
    config: &Config,
    roles: Roles,
    services: ApiServices,
    ingest: &Ingest,
) -> Result<(), RunError> {
    let (stop, stopped) = watch::channel(false);
    let mut servers = Vec::new();
    if let Some(addr) = config.admin_addr()? {
        let listener = bind("listen.admin", addr).await?;
        tracing::info!(addr = %listener.local_addr()?, "metrics, health and readiness");
        servers.push(tokio::spawn(listen(
            listener,
            admin(ingest),
            stopped.clone(),
        )));
    }
    if roles.api {
        if services.demo {
            let seeded = api::seed_demo(&services);
            seeded
                .map_err(|e| io::Error::other(format!("the demo's users cannot be made: {e}")))?;
        }
        let listener = bind("listen.api", config.api_addr()?).await?;
        tracing::info!(addr = %listener.local_addr()?, "the API");
        let router = api::router(services.clone());
        servers.push(tokio::spawn(listen(listener, router, stopped)));
    }
    tracing::info!(roles = ?config.fanout.roles, log = config.log.kind, "running");
    wait_for_the_end(&services.verifier).await?;
    tracing::info!("finishing what is in flight");
    // Nobody listens any more: then there is nobody to tell.
    let _ = stop.send(true);
    for server in servers {
        server.await.map_err(io::Error::other)??;
    }
    Ok(())
}

async fn bind(key: &'static str, addr: SocketAddr) -> Result<TcpListener, RunError> {
    let listener = TcpListener::bind(addr).await;
    listener.map_err(|source| RunError::Listen { key, addr, source })
}

async fn listen(
    listener: TcpListener,
    router: Router,
    mut stopped: watch::Receiver<bool>,
) -> io::Result<()> {
    let end = async move {
        // An error says that the sender is gone, which is an end too.
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    axum::serve(listener, router)
        .with_graceful_shutdown(end)
        .await
}

async fn wait_for_the_end(verifier: &Arc<Verifier>) -> Result<(), RunError> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let mut hup: Signal = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = term.recv() => return Ok(()),
            _ = int.recv() => return Ok(()),
            _ = hup.recv() => match verifier.reload() {
                Ok(()) => tracing::info!("keys and revocations are reloaded"),
                Err(error) => tracing::error!(%error, "keys and revocations stay as they were"),
            },
        }
    }
}

fn admin(ingest: &Ingest) -> Router {
    let counters = Arc::clone(&ingest.counters);
    let log = Arc::clone(&ingest.log);
    let ready = move || {
        let log = Arc::clone(&log);
        async move {
            match log.writable() {
                Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
                Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
            }
        }
    };
    let metrics = move || {
        let counters = Arc::clone(&counters);
        async move { metrics(&counters) }
    };
    Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
}

/// Prometheus' text format.
fn metrics(counters: &IngestCounters) -> String {
    let counts = counters.read();
    let families = [
        ("accepted", "Messages accepted.", counts.accepted),
        (
            "duplicates",
            "Messages found to be duplicates.",
            counts.duplicates,
        ),
        ("changes", "Changes of groups.", counts.changes),
        ("receipts", "Receipts.", counts.receipts),
        (
            "rejected",
            "Messages, changes and receipts refused.",
            counts.rejected,
        ),
        ("poison", "Records moved to dead-letters.", counts.poison),
        (
            "retries",
            "Times that ingest began again from its last commit.",
            counts.retries,
        ),
    ];
    let line = |(name, help, value)| {
        let name = format!("hawser_ingest_{name}_total");
        format!("# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}\n")
    };
    families.into_iter().map(line).collect()
}
