//! Why Redis cannot be used, by the key to change.

use super::config::RedisConfig;
use redis::{ErrorKind, ServerErrorKind};

/// Error of [`super::RedisPresence::open`], and what [`super::RedisPresence::trouble`] says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedisError {
    /// A setting cannot work: the operator's fault.
    #[error("{key}: {rule}")]
    Setting {
        /// The key of the configuration.
        key: &'static str,
        /// What holds for it, or the way out.
        rule: String,
    },
    /// The server does not answer: it may yet.
    #[error(
        "presence.servers: no answer from {servers} ({reason}); presence is unknown meanwhile, messages are not affected"
    )]
    Absent {
        /// As configured.
        servers: String,
        /// The client's words.
        reason: String,
    },
    /// The server answers and cannot take writes now.
    #[error("presence.servers: {servers} refuses writes ({reason}); presence is unknown meanwhile")]
    Refused {
        /// As configured.
        servers: String,
        /// The server's words.
        reason: String,
    },
}

impl RedisError {
    /// Whether waiting may mend it.
    #[must_use]
    pub fn passes(&self) -> bool {
        !matches!(self, Self::Setting { .. })
    }

    /// No answer in time.
    pub(super) fn timed_out(config: &RedisConfig) -> Self {
        Self::Absent {
            servers: config.place(),
            reason: format!("nothing within presence.timeout_ms = {}", config.timeout_ms),
        }
    }

    /// What an error of the client means to the operator.
    pub(super) fn of(error: &redis::RedisError, config: &RedisConfig) -> Self {
        let (reason, servers) = (error.to_string(), config.place());
        let setting = |key, way_out: &str| Self::Setting {
            key,
            rule: format!("{way_out} (the server says: {reason})"),
        };
        match (error.kind(), error.code()) {
            _ if error.is_timeout() => Self::timed_out(config),
            (ErrorKind::AuthenticationFailed, _) | (_, Some("WRONGPASS" | "NOAUTH")) => {
                refused_login(config, &reason)
            }
            (_, Some("NOPERM")) => setting(
                "presence.user",
                "the user may not use these keys: see \"Access\" in docs/redis.md",
            ),
            (ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::CrossSlot), _)
                if !config.cluster =>
            {
                setting(
                    "presence.cluster",
                    "this is a Redis Cluster: set it to true",
                )
            }
            (ErrorKind::Server(ServerErrorKind::ReadOnly), _) => setting(
                "presence.servers",
                "this is a replica: name the primary, which takes writes",
            ),
            _ if reason.contains("cluster support disabled") => setting(
                "presence.cluster",
                "this is no Redis Cluster: set it to false",
            ),
            _ if reason.contains("DB index is out of range") => {
                setting("presence.database", "the server has no such database")
            }
            _ if reason.contains("syntax error") => {
                setting("presence.servers", "Redis 6.2 or newer is needed")
            }
            _ if reason.contains("without any password configured") => setting(
                "presence.password_file",
                "the server has no password: remove the key",
            ),
            _ if is_tls(&reason) => setting(
                "presence.tls_ca",
                "TLS fails: name the authority of the server's certificate, and the server as it is in it",
            ),
            (ErrorKind::Io | ErrorKind::ClusterConnectionNotFound, _) => {
                Self::Absent { servers, reason }
            }
            (ErrorKind::Server(_), _) => Self::Refused { servers, reason },
            _ => Self::Absent { servers, reason },
        }
    }
}

fn refused_login(config: &RedisConfig, reason: &str) -> RedisError {
    let rule = match &config.password {
        None => "the server asks for a password: name the file with it",
        Some(_) => "the password, or presence.user, is wrong",
    };
    RedisError::Setting {
        key: "presence.password_file",
        rule: format!("{rule} (the server says: {reason})"),
    }
}

fn is_tls(reason: &str) -> bool {
    let reason = reason.to_ascii_lowercase();
    [
        "certificate",
        "tls",
        "handshake",
        "corrupt message",
        "invalidcontenttype",
    ]
    .iter()
    .any(|word| reason.contains(word))
}
