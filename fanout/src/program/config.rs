//! The program's settings.

use crate::settings::SettingsError;
use crate::{settings_file, settings_section};
use std::net::SocketAddr;

settings_section! {
    /// `[fanout]`.
    FanoutSection {
        /// What this process does: `ingest`, `api`. `api` needs `ingest` beside it while the store is embedded.
        roles: Vec<String> = vec!["ingest".to_owned(), "api".to_owned()];
        /// Directory of store, directory and keys (and of the embedded log); created if missing. One process at a time.
        data_dir: String = "hawser-data".to_owned();
        /// Number of this cell, part of every message id; the same in every process of a cluster.
        cell: u8 = 0, 0 ..= 255;
    }
}

settings_section! {
    /// `[listen]`.
    ListenSection {
        /// The API, plain HTTP; put a proxy that ends TLS in front of it for anything beyond this machine.
        api: String = "127.0.0.1:8090".to_owned();
        /// Metrics, health and readiness; keep it away from clients. Empty: none.
        admin: String = "127.0.0.1:9091".to_owned();
        /// Allows the API beyond loopback, for a proxy on another machine.
        plain_anywhere: bool = false;
    }
}

settings_section! {
    /// `[auth]`.
    AuthSection {
        /// JWKS file with the public keys that tokens are verified with (EdDSA, ES256, RS256). Empty: the key of the
        /// embedded issuer in the data directory.
        jwks: String = String::new();
        /// Required `iss`; empty: not checked.
        issuer: String = String::new();
        /// Required `aud`; empty: not checked.
        audience: String = "hawser".to_owned();
        /// Tenant that this cluster serves; a token that names another one is refused.
        tenant: String = "default".to_owned();
        /// File of revocations (JSON), read again on SIGHUP; empty: kept in the data directory.
        revocations: String = String::new();
        /// Open log-in for demonstrations: POST /v1/demo/login gives anybody a token. Never in production.
        demo: bool = false;
    }
}

settings_section! {
    /// `[log]`.
    LogSection {
        /// `embedded`, or `kafka` (a build with --features engines).
        kind: String = "embedded".to_owned();
        /// Brokers, `host:port`.
        bootstrap: Vec<String> = Vec::new();
        /// Goes before every topic's and group's name on Kafka.
        prefix: String = String::new();
        /// Partitions of topics made here, a power of two; fixed once they are made.
        partitions: u32 = 16, 1 ..= 1024;
        /// Copies of topics made here on Kafka.
        replication: u16 = 3, 1 ..= 15;
        /// Starts in spite of settings of Kafka with which an acknowledged record may be lost.
        allow_unsafe: bool = false;
        /// Of the embedded engines: `fsync` survives power loss; `os` survives kill -9 only.
        durability: String = "fsync".to_owned();
    }
}

settings_section! {
    /// `[ingest]`.
    IngestSection {
        /// Threads that ingest from Kafka; the embedded engine has one of its own.
        threads: u32 = 1, 1 ..= 64;
        /// Records of one thread between log and commit.
        in_flight: u32 = 1024, 1 ..= 65536;
        /// How long delivery records may take to be acknowledged before ingest begins again from its last commit,
        /// milliseconds.
        produce_timeout_ms: u32 = 30000, 1000 ..= 600000;
    }
}

settings_section! {
    /// `[output]`.
    OutputSection {
        /// `text` or `json`.
        format: String = "text".to_owned();
        /// Filter, such as `info` or `hawser_fanout=debug`.
        filter: String = "info".to_owned();
    }
}

settings_file! {
    /// The whole file.
    Config {
        /// The process itself.
        fanout: FanoutSection;
        /// Where it listens.
        listen: ListenSection;
        /// Who may call.
        auth: AuthSection;
        /// The log: embedded or Kafka.
        log: LogSection;
        /// How it ingests.
        ingest: IngestSection;
        /// What it says of itself.
        output: OutputSection;
    }
    contradictions = contradictions
}

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Roles {
    /// Judges `chat-messages`.
    pub ingest: bool,
    /// Serves HTTP.
    pub api: bool,
}

impl Config {
    /// What this process does.
    ///
    /// # Errors
    /// A role that there is not.
    pub fn roles(&self) -> Result<Roles, SettingsError> {
        let mut roles = Roles::default();
        for role in &self.fanout.roles {
            match role.as_str() {
                "ingest" => roles.ingest = true,
                "api" => roles.api = true,
                other => {
                    let words = format!("`{other}` is no role: `ingest` and `api` are");
                    return Err(wrong("fanout.roles", words));
                }
            }
        }
        Ok(roles)
    }

    /// Whether the log is on Kafka.
    #[must_use]
    pub fn on_kafka(&self) -> bool {
        self.log.kind == "kafka"
    }

    /// Where the API listens.
    ///
    /// # Errors
    /// No address.
    pub fn api_addr(&self) -> Result<SocketAddr, SettingsError> {
        address("listen.api", &self.listen.api)
    }

    /// Where metrics are; `None`: nowhere.
    ///
    /// # Errors
    /// No address.
    pub fn admin_addr(&self) -> Result<Option<SocketAddr>, SettingsError> {
        match self.listen.admin.as_str() {
            "" => Ok(None),
            text => address("listen.admin", text).map(Some),
        }
    }
}

fn address(key: &str, text: &str) -> Result<SocketAddr, SettingsError> {
    let words = || format!("`{text}` is no address, such as 127.0.0.1:8090");
    text.parse().map_err(|_| wrong(key, words()))
}

fn wrong(key: &str, reason: impl Into<String>) -> SettingsError {
    SettingsError::Contradiction {
        key: key.to_owned(),
        reason: reason.into(),
    }
}

fn contradictions(config: &Config, out: &mut Vec<SettingsError>) {
    match config.roles() {
        Err(error) => out.push(error),
        Ok(Roles {
            ingest: false,
            api: false,
        }) => {
            out.push(wrong(
                "fanout.roles",
                "name at least one of `ingest` and `api`",
            ));
        }
        Ok(Roles { ingest: false, .. }) => out.push(wrong(
            "fanout.roles",
            "`api` needs `ingest` beside it while the store is embedded: nobody else fills it",
        )),
        Ok(_) => {}
    }
    match config.log.kind.as_str() {
        "embedded" => {}
        "kafka" if cfg!(not(feature = "engines")) => out.push(wrong(
            "log.kind",
            "this build has no Kafka: build with --features engines, or set it to `embedded`",
        )),
        "kafka" if config.log.bootstrap.is_empty() => {
            out.push(wrong(
                "log.bootstrap",
                "name at least one broker, host:port",
            ));
        }
        "kafka" => {}
        other => {
            let words = format!("`{other}` is neither `embedded` nor `kafka`");
            out.push(wrong("log.kind", words));
        }
    }
    if !config.log.partitions.is_power_of_two() {
        out.push(wrong("log.partitions", "must be a power of two"));
    }
    if !["fsync", "os"].contains(&config.log.durability.as_str()) {
        out.push(wrong("log.durability", "must be `fsync` or `os`"));
    }
    if !["text", "json"].contains(&config.output.format.as_str()) {
        out.push(wrong("output.format", "must be `text` or `json`"));
    }
    match config.api_addr() {
        Err(error) => out.push(error),
        Ok(addr) if !addr.ip().is_loopback() && !config.listen.plain_anywhere => out.push(wrong(
            "listen.api",
            "plain HTTP beyond loopback: put a TLS proxy in front and set listen.plain_anywhere = true",
        )),
        Ok(_) => {}
    }
    out.extend(config.admin_addr().err());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{load_with, parse, print};

    #[test]
    fn the_defaults_are_sound_and_print_to_themselves() {
        let config = Config::default();
        assert_eq!(parse::<Config>(&print(&config)), Ok(config));
    }

    #[test]
    fn what_cannot_work_is_named_with_the_way_out() {
        for (pair, words) in [
            ("fanout.roles=api", "needs `ingest`"),
            ("fanout.roles=", "at least one"),
            ("fanout.roles=ingest,push", "`push` is no role"),
            ("log.kind=kafk", "neither"),
            ("log.partitions=12", "power of two"),
            ("listen.api=0.0.0.0:80", "plain_anywhere"),
            ("listen.api=here", "is no address"),
            ("log.durabilty=os", "did you mean `log.durability`"),
            ("ingest.threads=0", "outside 1 to 64"),
        ] {
            let error = load_with::<Config>(None, &[pair.to_owned()]).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[cfg(not(feature = "engines"))]
    #[test]
    fn a_build_without_kafka_names_the_feature() {
        let pairs = ["log.kind=kafka", "log.bootstrap=127.0.0.1:9092"].map(str::to_owned);
        let error = load_with::<Config>(None, &pairs).unwrap_err();
        assert!(error.to_string().contains("--features engines"), "{error}");
    }
}
