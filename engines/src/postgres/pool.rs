//! Calls on pooled connections: bounded in time, repeated once where that is safe, refused at once for
//! a moment after the server was silent.

use super::config::PostgresConfig;
use super::error::PostgresError;
use super::stats::{Counters, PostgresStats};
use crate::bridge::Bridge;
use crate::directory::DirectoryError;
use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime,
};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio_postgres::NoTls;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

/// After a time-out, calls are refused at once for so long; then one is let through.
const SHED: Duration = Duration::from_secs(1);
/// What the wait of a caller has beyond the call's own bound: to be told by the call itself.
const GRACE: Duration = Duration::from_millis(100);

/// What a call does with a connection.
pub(super) type Work<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

/// Why a call has no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// An answer of the directory.
    Said(DirectoryError),
    /// The server or the connection.
    Server(tokio_postgres::Error),
    /// There is no connection.
    Pool(PoolError),
    Silent,
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Server(error)
    }
}

/// Whether a call that may have been applied can be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Done twice is done once.
    Safe,
    /// A second time would answer differently.
    Never,
}

/// The connections.
pub(super) struct Calls {
    pub(super) config: PostgresConfig,
    pool: Pool,
    bridge: Arc<Bridge>,
    counters: Arc<Counters>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    trouble: Option<PostgresError>,
    shed_until: Option<Instant>,
}

impl Calls {
    /// Reads certificates, connects nowhere.
    pub(super) fn new(config: PostgresConfig, bridge: Arc<Bridge>) -> Result<Self, PostgresError> {
        config.check()?;
        let pool = pool(&config)?;
        Ok(Self {
            config,
            pool,
            bridge,
            counters: Arc::default(),
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks, and blocks for at most the configured time.
    pub(super) fn call<T, W>(&self, repeat: Repeat, work: W) -> Result<T, DirectoryError>
    where
        T: Send + 'static,
        W: for<'a> Fn(&'a mut Object) -> Work<'a, T> + Send + Sync + 'static,
    {
        if let Some(reason) = self.shed() {
            self.counters.shed.fetch_add(1, Relaxed);
            return Err(DirectoryError::Unavailable { reason });
        }
        self.counters.calls.fetch_add(1, Relaxed);
        let (began, limit) = (Instant::now(), self.config.timeout());
        let (pool, counters) = (self.pool.clone(), self.counters.clone());
        let call = async move {
            let answered = tokio::time::timeout(limit, attempts(&pool, repeat, &work, &counters));
            let outcome = answered.await.unwrap_or(Err(Failure::Silent));
            if let Err(Failure::Silent | Failure::Pool(_)) = &outcome {
                // What else is in the pool goes to the same server: the next call connects anew.
                pool.retain(|_, _| false);
            }
            outcome
        };
        let outcome = self.bridge.wait(limit + GRACE, call);
        self.judge(outcome.unwrap_or(Err(Failure::Silent)), began)
    }

    fn judge<T>(&self, outcome: Result<T, Failure>, began: Instant) -> Result<T, DirectoryError> {
        let error = match outcome {
            Err(Failure::Server(error)) => PostgresError::of(&error, &self.config),
            Err(Failure::Pool(error)) => PostgresError::of_pool(&error, &self.config),
            Err(Failure::Silent) => PostgresError::timed_out(&self.config),
            Ok(_) | Err(Failure::Said(_)) => {
                self.counters.latency.record(began.elapsed());
                self.answered();
                return outcome.map_err(|failure| match failure {
                    Failure::Said(error) => error,
                    _ => DirectoryError::NotFound,
                });
            }
        };
        self.counters.failures.fetch_add(1, Relaxed);
        let silent = began.elapsed() >= self.config.timeout();
        if silent {
            self.counters.timeouts.fetch_add(1, Relaxed);
        }
        let reason = error.to_string();
        let mut state = self.state();
        let news = state.trouble.as_ref() != Some(&error);
        state.trouble = Some(error);
        state.shed_until = silent.then(|| Instant::now() + SHED);
        drop(state);
        if news {
            tracing::warn!(trouble = reason, "the directory is unavailable");
        }
        Err(DirectoryError::Unavailable { reason })
    }

    fn answered(&self) {
        let mut state = self.state();
        state.shed_until = None;
        let back = state.trouble.take().is_some();
        drop(state);
        if back {
            tracing::info!(
                address = self.config.address,
                "the directory is available again"
            );
        }
    }

    /// Why a call is refused at once. When the moment is over, the first that asks is let through, and
    /// others wait for what becomes of it.
    fn shed(&self) -> Option<String> {
        let mut state = self.state();
        let until = state.shed_until?;
        if Instant::now() >= until {
            state.shed_until = Some(Instant::now() + self.config.timeout() + GRACE);
            return None;
        }
        state.trouble.as_ref().map(ToString::to_string)
    }

    /// One connection, outside of calls: for migrations.
    pub(super) fn alone<T, W>(&self, limit: Duration, work: W) -> Result<T, PostgresError>
    where
        T: Send + 'static,
        W: for<'a> FnOnce(
                &'a mut Object,
            )
                -> Pin<Box<dyn Future<Output = Result<T, PostgresError>> + Send + 'a>>
            + Send
            + 'static,
    {
        let (pool, config) = (self.pool.clone(), self.config.clone());
        let outcome = self.bridge.wait(limit, async move {
            let got = pool.get().await;
            let mut client = got.map_err(|error| PostgresError::of_pool(&error, &config))?;
            work(&mut client).await
        });
        outcome.unwrap_or_else(|_| Err(PostgresError::timed_out(&self.config)))
    }

    pub(super) fn trouble(&self) -> Option<String> {
        self.state().trouble.as_ref().map(ToString::to_string)
    }

    pub(super) fn stats(&self) -> PostgresStats {
        let counters = &self.counters;
        let pool = self.pool.status();
        PostgresStats {
            calls: counters.calls.load(Relaxed),
            failures: counters.failures.load(Relaxed),
            timeouts: counters.timeouts.load(Relaxed),
            shed: counters.shed.load(Relaxed),
            retries: counters.retries.load(Relaxed),
            connections: pool.size,
            waiting: pool.waiting,
            latency: counters.latency.counted(),
        }
    }
}

/// A connection that a restart of the server has closed is noticed with its first use: then once more.
async fn attempts<T>(
    pool: &Pool,
    repeat: Repeat,
    work: &(impl for<'a> Fn(&'a mut Object) -> Work<'a, T> + Sync),
    counters: &Counters,
) -> Result<T, Failure> {
    let mut client = InCall(Some(pool.get().await.map_err(Failure::Pool)?));
    let outcome = match &mut client.0 {
        Some(client) => work(client).await,
        None => Err(Failure::Silent),
    };
    let gone = match &outcome {
        Err(Failure::Server(error)) => error.is_closed() || is_ending(error),
        _ => false,
    };
    if !gone {
        client.give_back();
        return outcome;
    }
    drop(client);
    pool.retain(|_, _| false);
    if repeat == Repeat::Never {
        return outcome;
    }
    counters.retries.fetch_add(1, Relaxed);
    let mut client = InCall(Some(pool.get().await.map_err(Failure::Pool)?));
    let outcome = match &mut client.0 {
        Some(client) => work(client).await,
        None => Err(Failure::Silent),
    };
    client.give_back();
    outcome
}

/// The server is going down: 57P01 to 57P03.
fn is_ending(error: &tokio_postgres::Error) -> bool {
    error
        .code()
        .is_some_and(|code| code.code().starts_with("57P"))
}

/// A connection in use. One whose call was given up has an answer on its way, and does not go back.
struct InCall(Option<Object>);

impl InCall {
    fn give_back(mut self) {
        self.0 = None;
    }
}

impl Drop for InCall {
    fn drop(&mut self) {
        if let Some(object) = self.0.take() {
            drop(Object::take(object));
        }
    }
}

fn pool(config: &PostgresConfig) -> Result<Pool, PostgresError> {
    let (host, port) = config.host_port()?;
    let limit = config.timeout();
    let mut client = tokio_postgres::Config::new();
    client
        .host(host)
        .port(port)
        .user(&config.user)
        .dbname(&config.database)
        .application_name("hawser")
        .connect_timeout(limit)
        .tcp_user_timeout(limit * 2)
        .keepalives_idle(Duration::from_secs(30))
        .options(format!(
            "-c search_path={} -c statement_timeout={} -c lock_timeout={} -c idle_in_transaction_session_timeout=60000",
            config.schema, config.timeout_ms, config.timeout_ms
        ));
    if let Some(password) = &config.password {
        client.password(password);
    }
    let manager = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    let manager = match &config.tls {
        None => {
            client.ssl_mode(SslMode::Disable);
            Manager::from_config(client, NoTls, manager)
        }
        Some(tls) => {
            client.ssl_mode(SslMode::Require);
            let tls = tls.config().map_err(|error| PostgresError::Setting {
                key: "directory.tls_ca",
                rule: error.to_string(),
            })?;
            let tls = MakeRustlsConnect::new(rustls::ClientConfig::clone(&tls));
            Manager::from_config(client, tls, manager)
        }
    };
    let built = Pool::builder(manager)
        .max_size(usize::try_from(config.connections_max).unwrap_or(1))
        .wait_timeout(Some(limit))
        .create_timeout(Some(limit))
        .recycle_timeout(Some(limit))
        .runtime(Runtime::Tokio1)
        .build();
    built.map_err(|error| PostgresError::Setting {
        key: "directory.connections_max",
        rule: error.to_string(),
    })
}
