//! Where Redis is, and how it is asked.

use super::error::RedisError;
use crate::tls::ClientTls;

/// Settings of [`super::RedisPresence`]. Each says which key of the configuration file it comes from.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// `host:port`; of a Redis Cluster, some of its nodes (`presence.servers`).
    pub servers: Vec<String>,
    /// The servers are a Redis Cluster (`presence.cluster`).
    pub cluster: bool,
    /// Number of the database; 0 in a cluster (`presence.database`).
    pub database: u32,
    /// User; `None`: the default user (`presence.user`).
    pub user: Option<String>,
    /// Password (`presence.password_file`).
    pub password: Option<String>,
    /// Goes before every key, at most 64 bytes; two installations that share a server have two
    /// (`presence.prefix`). Default: none, the keys are as documented.
    pub prefix: String,
    /// TLS; `None`: plain (`presence.tls_ca`).
    pub tls: Option<ClientTls>,
    /// Bound of one call, milliseconds, 10 to 10,000; default 250 (`presence.timeout_ms`).
    pub timeout_ms: u32,
    /// How long opening waits for a server that does not answer, milliseconds; then presence is unknown
    /// until it does. Default 0: opening tries once.
    pub open_timeout_ms: u64,
}

/// Longest prefix of keys, bytes.
const PREFIX_BYTES_MAX: usize = 64;

impl RedisConfig {
    /// Defaults for these servers.
    #[must_use]
    pub fn new(servers: Vec<String>) -> Self {
        Self {
            servers,
            cluster: false,
            database: 0,
            user: None,
            password: None,
            prefix: String::new(),
            tls: None,
            timeout_ms: 250,
            open_timeout_ms: 0,
        }
    }

    /// Refuses what cannot work, by the key to change.
    pub(super) fn check(&self) -> Result<(), RedisError> {
        let refuse = |key, rule: &str| {
            Err(RedisError::Setting {
                key,
                rule: rule.to_owned(),
            })
        };
        if self.servers.is_empty() {
            return refuse("presence.servers", "name at least one server, host:port");
        }
        for server in &self.servers {
            address(server)?;
        }
        if !self.cluster && self.servers.len() > 1 {
            return refuse(
                "presence.servers",
                "several servers are a Redis Cluster: set presence.cluster = true, or name one server",
            );
        }
        if self.cluster && self.database != 0 {
            return refuse("presence.database", "a Redis Cluster has database 0 alone");
        }
        if self.user.is_some() && self.password.is_none() {
            return refuse("presence.password_file", "presence.user needs a password");
        }
        let printable = self.prefix.bytes().all(|b| b.is_ascii_graphic());
        if !printable || self.prefix.len() > PREFIX_BYTES_MAX || self.prefix.contains(['{', '}']) {
            return refuse(
                "presence.prefix",
                "at most 64 printable ASCII characters without spaces and braces",
            );
        }
        if !(10..=10_000).contains(&self.timeout_ms) {
            return refuse("presence.timeout_ms", "10 to 10000");
        }
        Ok(())
    }

    /// For messages: where it is.
    pub(super) fn place(&self) -> String {
        self.servers.join(", ")
    }
}

/// Host and port; an IPv6 address is in brackets.
pub(super) fn address(server: &str) -> Result<(&str, u16), RedisError> {
    let parts = server.rsplit_once(':').and_then(|(host, port)| {
        let host = host
            .strip_prefix('[')
            .map_or(Some(host), |h| h.strip_suffix(']'))?;
        let port = port.parse().ok().filter(|port| *port > 0)?;
        (!host.is_empty()).then_some((host, port))
    });
    parts.ok_or_else(|| RedisError::Setting {
        key: "presence.servers",
        rule: format!("`{server}` is no host:port"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl Fn(&mut RedisConfig)) -> &'static str {
        let mut config = RedisConfig::new(vec!["127.0.0.1:6379".to_owned()]);
        assert_eq!(config.check(), Ok(()));
        change(&mut config);
        match config.check() {
            Err(RedisError::Setting { key, .. }) => key,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_wrong_value_names_its_key() {
        assert_eq!(refused(|c| c.servers.clear()), "presence.servers");
        for server in [
            "redis",
            "redis:",
            ":6379",
            "redis:0",
            "redis:99999",
            "[::1:6379",
        ] {
            let wrong = vec![server.to_owned()];
            assert_eq!(
                refused(|c| c.servers.clone_from(&wrong)),
                "presence.servers"
            );
        }
        assert_eq!(
            refused(|c| c.servers.push("b:1".to_owned())),
            "presence.servers"
        );
        let clustered = |c: &mut RedisConfig| {
            c.cluster = true;
            c.database = 1;
        };
        assert_eq!(refused(clustered), "presence.database");
        assert_eq!(
            refused(|c| c.user = Some("u".to_owned())),
            "presence.password_file"
        );
        for prefix in ["{a}", "a b", "ü", &"x".repeat(65)] {
            assert_eq!(refused(|c| c.prefix = prefix.to_owned()), "presence.prefix");
        }
        assert_eq!(refused(|c| c.timeout_ms = 9), "presence.timeout_ms");
        assert_eq!(address("[::1]:6379"), Ok(("::1", 6379)));
    }
}
