//! A schema of the test's own on the Postgres of HAWSER_TEST_POSTGRES, dropped at the end.
#![allow(dead_code, reason = "each test file uses its part")]

use hawser_engines::bridge::Bridge;
use hawser_engines::postgres::{PostgresConfig, PostgresDirectory, PostgresError};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio_postgres::{NoTls, SimpleQueryMessage};

const PATIENCE: Duration = Duration::from_secs(30);

/// Where the tables of one test are.
pub(crate) struct Schema {
    pub(crate) config: PostgresConfig,
    pub(crate) bridge: Arc<Bridge>,
}

impl Schema {
    /// A name that no other run has used, or a loud skip.
    pub(crate) fn new() -> Option<Self> {
        static CALLS: AtomicU32 = AtomicU32::new(0);
        let Ok(url) = std::env::var("HAWSER_TEST_POSTGRES") else {
            println!(
                "SKIPPED: HAWSER_TEST_POSTGRES is not set (dev/engines up postgres; dev/engines env)"
            );
            return None;
        };
        let rest = url.strip_prefix("postgres://").unwrap();
        let (login, rest) = rest.rsplit_once('@').unwrap();
        let (user, password) = login.split_once(':').unwrap();
        let (address, database) = rest.split_once('/').unwrap();
        let mut config = PostgresConfig::new(address.to_owned());
        config.user = user.to_owned();
        config.password = Some(password.to_owned());
        config.database = database.to_owned();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        config.schema = format!("t{}_{}_{call}", now.as_nanos(), std::process::id());
        // Another load on the machine must not look like an outage.
        config.timeout_ms = 10_000;
        let bridge = Bridge::start("postgres-test").unwrap();
        Some(Self { config, bridge })
    }

    pub(crate) fn open(&self) -> Result<PostgresDirectory, PostgresError> {
        PostgresDirectory::open(self.config.clone(), self.bridge.clone())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.config
            .address
            .to_socket_addrs()
            .unwrap()
            .next()
            .unwrap()
    }

    /// As `psql` in this schema: the first column of every row.
    pub(crate) fn sql(&self, sql: &str) -> Vec<String> {
        self.sql_as(&self.config.user, sql).unwrap()
    }

    /// As `sql`, by another user with the same password.
    pub(crate) fn sql_as(&self, user: &str, sql: &str) -> Result<Vec<String>, String> {
        let mut client = tokio_postgres::Config::new();
        let address = self.address();
        client
            .host(address.ip().to_string())
            .port(address.port())
            .user(user)
            .password(self.config.password.as_deref().unwrap())
            .dbname(&self.config.database)
            .options(format!("-c search_path={}", self.config.schema));
        let sql = sql.to_owned();
        let rows = self.bridge.wait(PATIENCE, async move {
            let (client, connection) = client.connect(NoTls).await?;
            tokio::spawn(async move {
                let _ = connection.await;
            });
            client.simple_query(&sql).await
        });
        let first = |message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("NULL").to_owned()),
            _ => None,
        };
        let rows = rows.unwrap().map_err(|error| error.to_string())?;
        Ok(rows.into_iter().filter_map(first).collect())
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.sql(&format!(
                "DROP SCHEMA IF EXISTS {} CASCADE",
                self.config.schema
            ));
        }
    }
}
