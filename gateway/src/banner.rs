//! What a person sees when the node is up.

use crate::backing::keys_dir;
use crate::certs::Certificates;
use crate::config::Config;
use crate::node::NodeHandle;
use crate::page;
use std::fmt::{self, Display, Formatter};
use std::net::SocketAddr;

/// Addresses, certificate, data, and how to get a token.
pub(crate) struct Banner<'a> {
    /// In force.
    pub(crate) config: &'a Config,
    /// Running.
    pub(crate) node: &'a NodeHandle,
    /// Of the TLS listeners.
    pub(crate) certificates: &'a Certificates,
    /// What opening the data found.
    pub(crate) recovery: &'a str,
}

impl Banner<'_> {
    fn plain(&self) -> &[SocketAddr] {
        &self.node.addrs()[..self.config.listen.http.len()]
    }

    fn secure(&self) -> &[SocketAddr] {
        &self.node.addrs()[self.config.listen.http.len()..]
    }

    fn addresses(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if page::is_built_in() {
            for addr in self.plain() {
                line(f, "Page", format_args!("http://{addr}"))?;
            }
        } else {
            line(
                f,
                "Page",
                format_args!("not in this build (client/web/dist is empty)"),
            )?;
        }
        for addr in self.plain() {
            line(f, "WebSocket", format_args!("ws://{addr}/v1/ws"))?;
        }
        for addr in self.secure() {
            line(
                f,
                "",
                format_args!("wss://{addr}/v1/ws   (page: https://{addr})"),
            )?;
        }
        if !self.secure().is_empty() {
            let kind = match self.certificates.self_made() {
                Some(path) => format!(
                    "self-made, P-256, 13 days, renewed by itself: {}",
                    path.display()
                ),
                None => self.config.tls.cert.clone(),
            };
            line(f, "Certificate", format_args!("{kind}"))?;
            line(
                f,
                "",
                format_args!("SHA-256 {}", self.certificates.fingerprint()),
            )?;
        }
        if let Some(addr) = self.node.admin_addr() {
            line(
                f,
                "Admin",
                format_args!("http://{addr}/metrics  /healthz  /readyz"),
            )?;
        }
        Ok(())
    }

    fn data(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let config = self.config;
        let recovery = if self.recovery.is_empty() {
            String::new()
        } else {
            format!("  ({})", self.recovery)
        };
        line(
            f,
            "Data",
            format_args!("{}{recovery}", config.node.data_dir),
        )?;
        let durability = match config.log.durability.as_str() {
            "os" => "\"os\": what is acknowledged survives kill -9, NOT power loss",
            _ => "fsync: what is acknowledged survives power loss",
        };
        line(f, "Roles", format_args!("{}", config.node.roles.join(", ")))?;
        let places = [
            ("Log", &config.log.kind, config.log.bootstrap.join(", ")),
            (
                "Store",
                &config.store.kind,
                config.store.contact_points.join(", "),
            ),
            (
                "Presence",
                &config.presence.kind,
                config.presence.servers.join(", "),
            ),
            (
                "Directory",
                &config.directory.kind,
                config.directory.address.clone(),
            ),
        ];
        for (name, kind, place) in places {
            if kind != "embedded" {
                line(f, name, format_args!("{kind} at {place}"))?;
            }
        }
        match config.engine_sections().embedded().is_empty() {
            true => Ok(()),
            false => line(f, "Durability", format_args!("{durability}")),
        }
    }
}

impl Display for Banner<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\nHawser {}, {}\n",
            env!("CARGO_PKG_VERSION"),
            match self.config.engine_sections().real().is_empty() {
                true => "everything in one process",
                false => "an edge node",
            }
        )?;
        self.addresses(f)?;
        self.data(f)?;
        if self.config.auth.demo {
            line(
                f,
                "Demo",
                format_args!(
                    "users alice, bob, carol and dave; anybody may log in as them (auth.demo)"
                ),
            )?;
        }
        if self.config.auth.jwks.is_empty() {
            let dir = &self.config.node.data_dir;
            line(
                f,
                "Token",
                format_args!("hawser-gateway token --user alice --device laptop --data-dir {dir}"),
            )?;
            let keys = keys_dir(self.config);
            line(
                f,
                "",
                format_args!("(signed by the key in {})", keys.display()),
            )?;
        }
        writeln!(f, "\nCtrl-C drains and stops; twice stops at once.\n")
    }
}

fn line(f: &mut Formatter<'_>, name: &str, value: fmt::Arguments<'_>) -> fmt::Result {
    writeln!(f, "  {name:<12} {value}")
}
