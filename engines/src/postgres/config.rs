//! Where Postgres is, and how it is asked.

use super::error::PostgresError;
use crate::tls::ClientTls;
use std::time::Duration;

/// Settings of [`super::PostgresDirectory`]. Each says which key of the configuration file it comes from.
#[derive(Debug, Clone)]
pub struct PostgresConfig {
    /// `host:port` (`directory.address`).
    pub address: String,
    /// Database; it must exist (`directory.database`).
    pub database: String,
    /// Schema of the tables, made when it is missing; two installations in one database have two
    /// (`directory.schema`).
    pub schema: String,
    /// User (`directory.user`).
    pub user: String,
    /// Password (`directory.password_file`).
    pub password: Option<String>,
    /// TLS, with the server's certificate and name verified; `None`: plain (`directory.tls_ca`).
    pub tls: Option<ClientTls>,
    /// Connections at most, 1 to 256; default 8. Each costs the server some MiB (`directory.connections_max`).
    pub connections_max: u32,
    /// Bound of one call, the wait for a connection included, milliseconds, 50 to 60,000; default 2,000
    /// (`directory.timeout_ms`).
    pub timeout_ms: u32,
    /// How long opening waits for a server that does not answer, milliseconds. Default 0: it tries once.
    pub open_timeout_ms: u64,
}

/// Longest identifier of Postgres, bytes.
const IDENTIFIER_BYTES_MAX: usize = 63;

impl PostgresConfig {
    /// Defaults for this server.
    #[must_use]
    pub fn new(address: String) -> Self {
        let name = || "hawser".to_owned();
        Self {
            address,
            database: name(),
            schema: name(),
            user: name(),
            password: None,
            tls: None,
            connections_max: 8,
            timeout_ms: 2_000,
            open_timeout_ms: 0,
        }
    }

    /// Refuses what cannot work, by the key to change.
    pub(super) fn check(&self) -> Result<(), PostgresError> {
        let refuse = |key, rule: &str| {
            Err(PostgresError::Setting {
                key,
                rule: rule.to_owned(),
            })
        };
        self.host_port()?;
        if self.database.is_empty() || self.database.contains('\0') {
            return refuse("directory.database", "name the database");
        }
        if self.user.is_empty() || self.user.contains('\0') {
            return refuse("directory.user", "name the user");
        }
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        let starts = self.schema.starts_with(|c: char| c.is_ascii_lowercase());
        let reserved = self.schema.starts_with("pg_");
        let named = self.schema.len() <= IDENTIFIER_BYTES_MAX && self.schema.bytes().all(plain);
        if !starts || !named || reserved {
            return refuse(
                "directory.schema",
                "a lower-case letter, then at most 62 of a-z, 0-9 and _; not pg_...",
            );
        }
        if !(1..=256).contains(&self.connections_max) {
            return refuse("directory.connections_max", "1 to 256");
        }
        if !(50..=60_000).contains(&self.timeout_ms) {
            return refuse("directory.timeout_ms", "50 to 60000");
        }
        Ok(())
    }

    /// Host and port; an IPv6 address is in brackets.
    pub(super) fn host_port(&self) -> Result<(&str, u16), PostgresError> {
        let parts = self.address.rsplit_once(':').and_then(|(host, port)| {
            let host = host
                .strip_prefix('[')
                .map_or(Some(host), |host| host.strip_suffix(']'))?;
            let port = port.parse().ok().filter(|port| *port > 0)?;
            (!host.is_empty()).then_some((host, port))
        });
        parts.ok_or_else(|| PostgresError::Setting {
            key: "directory.address",
            rule: format!("`{}` is no host:port", self.address),
        })
    }

    pub(super) fn timeout(&self) -> Duration {
        Duration::from_millis(u64::from(self.timeout_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_value_names_its_key() {
        let good = PostgresConfig::new("127.0.0.1:5432".to_owned());
        assert_eq!(good.check(), Ok(()));
        let refused = |change: &dyn Fn(&mut PostgresConfig)| {
            let mut config = good.clone();
            change(&mut config);
            match config.check() {
                Err(PostgresError::Setting { key, .. }) => key,
                other => panic!("{other:?}"),
            }
        };
        for address in ["pg", "pg:", ":1", "pg:0", "[::1:5432"] {
            assert_eq!(
                refused(&|c| c.address = address.to_owned()),
                "directory.address"
            );
        }
        for schema in ["", "Hawser", "1a", "a-b", "a;drop", "pg_x", &"a".repeat(64)] {
            assert_eq!(
                refused(&|c| c.schema = schema.to_owned()),
                "directory.schema"
            );
        }
        assert_eq!(refused(&|c| c.database.clear()), "directory.database");
        assert_eq!(refused(&|c| c.user.clear()), "directory.user");
        assert_eq!(
            refused(&|c| c.connections_max = 0),
            "directory.connections_max"
        );
        assert_eq!(refused(&|c| c.timeout_ms = 49), "directory.timeout_ms");
    }
}
