//! Opens the engines, runs the roles, and ends them in order.

use super::config::{Config, Roles};
use crate::api::{self, ApiServices};
use crate::auth::{RevocationFeed, Tokens, TokensError, Verifier};
use crate::engines::numbers;
use crate::engines::{Engines, Ingesting, IngestingError, Needed, OpenEnginesError};
use crate::ingest::IngestShare;
use crate::owners::{self, Clock, FollowError, Follower, IngestMember};
use crate::settings::SettingsError;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use hawser_engines::log::Log;
use hawser_protocol::ownership::NodeRecord;
use serde::Serialize;
use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Folder of keys in a data directory; the gateway's.
const KEYS: &str = "keys";
/// How long the API waits for the demo's users before it listens.
const SEED_PATIENCE: Duration = Duration::from_secs(5);
/// Pause before a demo that could not be seeded is tried again.
const SEED_AGAIN: Duration = Duration::from_secs(2);

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Engines(#[from] OpenEnginesError),
    #[error(transparent)]
    Ingest(#[from] IngestingError),
    #[error(transparent)]
    Tokens(#[from] TokensError),
    #[error("{key} = {addr} cannot be listened on: {source}")]
    Listen {
        key: &'static str,
        addr: SocketAddr,
        source: io::Error,
    },
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("cluster: {0}")]
    Cluster(#[from] FollowError),
    #[error("{0}")]
    Displaced(String),
}

impl RunError {
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Settings(_) => 2,
            Self::Tokens(error) => error.exit_code(),
            Self::Engines(error) => error.exit_code(),
            Self::Listen { .. } => 4,
            Self::Ingest(_) | Self::Io(_) | Self::Cluster(_) | Self::Displaced(_) => 1,
        }
    }
}

/// What the admin listener shows.
#[derive(Clone)]
struct Shown {
    engines: Engines,
    ingesting: Option<Ingesting>,
    verifier: Arc<Verifier>,
    lag_max: Duration,
}

/// Answer of `/readyz`.
#[derive(Debug, Serialize)]
struct Ready {
    ready: bool,
    /// Why not; empty when ready.
    reasons: Vec<String>,
    /// What is wrong and does not matter as much.
    degraded: Vec<String>,
}

/// Runs until SIGTERM or SIGINT.
pub(super) fn run(config: &Config) -> Result<(), RunError> {
    listen_to_ourselves(config);
    let roles = config.roles()?;
    let dir = Path::new(&config.fanout.data_dir);
    let engines = Engines::open(config.engine_sections(), dir, roles.api)?;
    let patience = Duration::from_secs(u64::from(config.engines.wait_for_engines_s));
    let Tokens { verifier, issuer } = config.auth.open_patiently(&dir.join(KEYS), patience)?;
    let every = Duration::from_millis(u64::from(config.engines.revocations_ms));
    let feed = RevocationFeed::start(
        engines.directory.clone(),
        verifier.clone(),
        every,
        Box::new(|| ()),
    )?;
    let ingesting = match roles.ingest {
        true => Some(Ingesting::start(&engines, &config.ingest)?),
        false => None,
    };
    let (tell, displaced) = watch::channel(None);
    let share = ingesting.as_ref().and_then(Ingesting::share);
    let member = match share {
        Some(share) => Some(join(config, engines.log.clone(), share, tell)?),
        None => None,
    };
    let services = ApiServices {
        log: engines.log.clone(),
        store: engines.store.clone(),
        directory: engines.directory.clone(),
        presence: engines.presence.clone(),
        verifier: verifier.clone(),
        issuer,
        demo: config.auth.demo,
    };
    let shown = Shown {
        engines: engines.clone(),
        ingesting: ingesting.clone(),
        verifier,
        lag_max: Duration::from_secs(u64::from(config.engines.lag_ready_s)),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let served = runtime.block_on(serve(config, roles, services, shown, displaced));
    // What is ours goes to others, who go on at our last commit.
    let quarter = Duration::from_millis(config.fanout.drain_ms / 4);
    if let Some(member) = &member
        && !member.drain(quarter)
    {
        tracing::warn!(
            "not all partitions have another owner yet: they get one when this process is gone"
        );
    }
    // What the API had begun is done or given up before its engines close.
    let half = Duration::from_millis(config.fanout.drain_ms / 2);
    runtime.shutdown_timeout(half);
    drop(feed);
    drop(ingesting);
    drop(member);
    drop(engines);
    served
}

fn listen_to_ourselves(config: &Config) {
    let filter = tracing_subscriber::EnvFilter::new(&config.output.filter);
    let output = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    // Refused when a subscriber is there already: then that one is used.
    let _ = match config.output.format.as_str() {
        "json" => output.json().try_init(),
        _ => output.try_init(),
    };
}

async fn serve(
    config: &Config,
    roles: Roles,
    services: ApiServices,
    shown: Shown,
    displaced: watch::Receiver<Option<String>>,
) -> Result<(), RunError> {
    let (stop, stopped) = watch::channel(false);
    let mut servers = Vec::new();
    if let Some(addr) = config.admin_addr()? {
        let listener = bind("listen.admin", addr).await?;
        tracing::info!(addr = %listener.local_addr()?, "metrics, health and readiness");
        servers.push(tokio::spawn(listen(
            listener,
            admin(shown),
            stopped.clone(),
        )));
    }
    if roles.api {
        if services.demo {
            // A directory or an ingest that is away now does not hold up the API for long.
            let services = services.clone();
            let seeding = tokio::task::spawn_blocking(move || seed(&services));
            let _ = tokio::time::timeout(SEED_PATIENCE, seeding).await;
        }
        let listener = bind("listen.api", config.api_addr()?).await?;
        tracing::info!(addr = %listener.local_addr()?, "the API");
        let router = api::router(services.clone());
        servers.push(tokio::spawn(listen(listener, router, stopped)));
    }
    tracing::info!(roles = ?config.fanout.roles, log = config.log.kind, store = config.store.kind,
        presence = config.presence.kind, directory = config.directory.kind, "running");
    let ended = tokio::select! {
        ended = wait_for_the_end(&services.verifier) => ended,
        words = another_has_our_name(displaced) => Err(RunError::Displaced(words)),
    };
    tracing::info!("finishing what is in flight");
    crate::engines::end_by(Duration::from_millis(config.fanout.drain_ms));
    // Nobody listens any more: then there is nobody to tell.
    let _ = stop.send(true);
    for server in servers {
        server.await.map_err(io::Error::other)??;
    }
    ended
}

/// Takes this process's place among those that ingest.
fn join(
    config: &Config,
    log: Arc<dyn Log>,
    share: IngestShare,
    tell: watch::Sender<Option<String>>,
) -> Result<IngestMember, RunError> {
    let follower = Follower {
        name: config.node_name()?,
        name_key: "fanout.name",
        record: NodeRecord::ingest(
            config.cluster.weight,
            owners::link(&config.cluster.link, config.admin_addr()?),
        ),
        lease_ms: config.cluster.lease_ms,
        clock: Clock::start(),
    };
    let member = IngestMember::start(follower, log, share, move |words| {
        // Nobody listens any more: it ends anyway.
        let _ = tell.send(Some(words));
    });
    Ok(member?)
}

/// Says so, once it is so.
async fn another_has_our_name(mut displaced: watch::Receiver<Option<String>>) -> String {
    match displaced.wait_for(Option::is_some).await {
        Ok(words) => words.clone().unwrap_or_default(),
        // Nobody will say it.
        Err(_) => std::future::pending().await,
    }
}

/// Makes the demo's users, once the directory answers.
fn seed(services: &ApiServices) {
    let mut said = false;
    while let Err(error) = api::seed_demo(services) {
        if !std::mem::replace(&mut said, true) {
            tracing::warn!(%error, "the demo's users wait for the directory");
        }
        std::thread::sleep(SEED_AGAIN);
    }
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
            _ = hup.recv() => {
                verifier.refresh();
                match verifier.reload() {
                    Ok(()) => tracing::info!("keys and revocations are reloaded"),
                    Err(error) => tracing::error!(%error, "keys and revocations stay as they were"),
                }
            }
        }
    }
}

fn admin(shown: Shown) -> Router {
    let asked = shown.clone();
    let ready = move || {
        let answer = asked.ready();
        async move {
            let status = match answer.ready {
                true => StatusCode::OK,
                false => StatusCode::SERVICE_UNAVAILABLE,
            };
            (status, Json(answer))
        }
    };
    let metrics = move || {
        let text = shown.metrics();
        async move { text }
    };
    Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
}

impl Shown {
    fn ready(&self) -> Ready {
        let mut reasons = Vec::new();
        let mut degraded = Vec::new();
        for engine in &self.engines.health {
            match engine.needed {
                Needed::ForReadiness => reasons.extend(engine.trouble()),
                Needed::ForLess => degraded.extend(engine.trouble()),
            }
        }
        if let Some(ingesting) = &self.ingesting {
            reasons.extend(ingesting.trouble()());
            reasons.extend(self.engines.lag.trouble(self.lag_max));
        }
        Ready {
            ready: reasons.is_empty(),
            reasons,
            degraded,
        }
    }

    fn metrics(&self) -> String {
        let mut all = Vec::new();
        for engine in &self.engines.health {
            all.extend(engine.numbers());
        }
        if let Some(ingesting) = &self.ingesting {
            all.extend(ingesting.numbers()());
        }
        all.extend(self.engines.lag.numbers());
        all.extend(crate::engines::token_numbers(&self.verifier));
        numbers::text(&all)
    }
}
