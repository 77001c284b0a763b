//! Why Postgres cannot be used, by the key to change.

use super::config::PostgresConfig;
use deadpool_postgres::{PoolError, TimeoutType};
use std::error::Error as _;
use tokio_postgres::error::SqlState;

/// Error of [`super::PostgresDirectory::open`], and what [`super::PostgresDirectory::trouble`] says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PostgresError {
    /// A setting cannot work: the operator's fault.
    #[error("{key}: {rule}")]
    Setting {
        /// The key of the configuration.
        key: &'static str,
        /// What holds for it, or the way out.
        rule: String,
    },
    /// The tables were made by a newer version.
    #[error(
        "directory.schema: `{schema}` has version {found} and this program knows {known}: run the newer program, \
         or name another schema"
    )]
    Newer {
        /// The schema.
        schema: String,
        /// Its version.
        found: i32,
        /// The newest that this program makes.
        known: i32,
    },
    /// The server does not answer: it may yet.
    #[error("directory.address: no answer from {address} ({reason})")]
    Absent {
        /// As configured.
        address: String,
        /// The client's words.
        reason: String,
    },
    /// The server answers and does not do it now.
    #[error("directory.address: {address} refuses ({reason})")]
    Refused {
        /// As configured.
        address: String,
        /// The server's words.
        reason: String,
    },
}

impl PostgresError {
    /// Whether waiting may mend it.
    #[must_use]
    pub fn passes(&self) -> bool {
        matches!(self, Self::Absent { .. } | Self::Refused { .. })
    }

    /// No answer in time.
    pub(super) fn timed_out(config: &PostgresConfig) -> Self {
        Self::Absent {
            address: config.address.clone(),
            reason: format!(
                "nothing within directory.timeout_ms = {}",
                config.timeout_ms
            ),
        }
    }

    /// What an error of the pool means to the operator.
    pub(super) fn of_pool(error: &PoolError, config: &PostgresConfig) -> Self {
        match error {
            PoolError::Backend(error) => Self::of(error, config),
            PoolError::Timeout(TimeoutType::Wait) => Self::Refused {
                address: config.address.clone(),
                reason: format!(
                    "all {} connections are busy: raise directory.connections_max",
                    config.connections_max
                ),
            },
            PoolError::Timeout(_) => Self::timed_out(config),
            other => Self::Absent {
                address: config.address.clone(),
                reason: other.to_string(),
            },
        }
    }

    /// What an error of the client means to the operator.
    pub(super) fn of(error: &tokio_postgres::Error, config: &PostgresConfig) -> Self {
        let reason = words(error);
        let setting = |key, way_out: &str| Self::Setting {
            key,
            rule: format!("{way_out} ({reason})"),
        };
        let address = config.address.clone();
        let Some(code) = error.code() else {
            let said = reason.to_ascii_lowercase();
            return match () {
                () if said.contains("password missing") => setting(
                    "directory.password_file",
                    "the server asks for a password: name the file with it",
                ),
                () if said.contains("does not support tls") => setting(
                    "directory.tls_ca",
                    "the server speaks no TLS: turn it on there (ssl = on), or remove the key",
                ),
                () if said.contains("tls") || said.contains("certificate") => setting(
                    "directory.tls_ca",
                    "TLS fails: name the authority of the server's certificate, and the server as it is in it",
                ),
                () => Self::Absent { address, reason },
            };
        };
        match *code {
            SqlState::INVALID_PASSWORD => setting(
                "directory.password_file",
                "the password, or directory.user, is wrong",
            ),
            SqlState::INVALID_AUTHORIZATION_SPECIFICATION if reason.contains("no encryption") => {
                setting(
                    "directory.tls_ca",
                    "the server takes this user over TLS alone: name its authority, or `system`",
                )
            }
            SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
                setting("directory.user", "the server does not let this user in")
            }
            SqlState::INVALID_CATALOG_NAME => setting(
                "directory.database",
                "the database does not exist: make it (CREATE DATABASE), or name another",
            ),
            SqlState::INSUFFICIENT_PRIVILEGE => setting(
                "directory.user",
                "the user may not do this: see \"Access\" in docs/postgres.md",
            ),
            SqlState::UNDEFINED_TABLE
            | SqlState::INVALID_SCHEMA_NAME
            | SqlState::UNDEFINED_COLUMN => setting(
                "directory.schema",
                "its tables are gone: restore them, or restart to have empty ones made",
            ),
            SqlState::READ_ONLY_SQL_TRANSACTION => setting(
                "directory.address",
                "this is a standby: name the primary, which takes writes",
            ),
            SqlState::TOO_MANY_CONNECTIONS => Self::Refused {
                address,
                reason: format!(
                    "{reason}: raise max_connections there, or lower directory.connections_max"
                ),
            },
            SqlState::QUERY_CANCELED => Self::timed_out(config),
            _ => Self::Refused { address, reason },
        }
    }
}

/// The error with its causes; the client's own text leaves them out.
fn words(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        return db.message().to_owned();
    }
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        cause = error.source();
    }
    words
}
