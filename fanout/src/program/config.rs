//! The program's settings.

use crate::auth::AuthSection;
use crate::engines::{
    DirectorySection, EngineSections, EnginesSection, IngestSection, LogSection, PresenceSection,
    StoreSection, Uses,
};
use crate::owners::{ClusterSection, host_name, node_name};
use crate::settings::SettingsError;
use crate::{settings_file, settings_section};
use hawser_protocol::ownership::NodeName;
use std::net::SocketAddr;

settings_section! {
    /// `[fanout]`.
    FanoutSection {
        /// Name of this process among those that ingest, of which no other may have it; empty: the host's name, and the
        /// port of `listen.admin`.
        name: String = String::new();
        /// What this process does: `ingest`, `api`. One of them alone needs all engines elsewhere than in a process.
        roles: Vec<String> = vec!["ingest".to_owned(), "api".to_owned()];
        /// Directory of what is embedded, and of keys that no file is named for; created if missing. One process at a time.
        data_dir: String = "hawser-data".to_owned();
        /// How long an end (SIGTERM) may take before the process exits anyway, milliseconds: an engine may hang.
        drain_ms: u64 = 10000, 100 ..= 600000;
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
        /// Messages, memberships and watermarks: embedded or Cassandra.
        store: StoreSection;
        /// Who is online: embedded or Redis.
        presence: PresenceSection;
        /// Users, devices and groups: embedded or Postgres.
        directory: DirectorySection;
        /// All of them.
        engines: EnginesSection;
        /// How it ingests.
        ingest: IngestSection;
        /// This process among others that ingest the same log.
        cluster: ClusterSection;
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

    /// What this process is called by the others.
    ///
    /// # Errors
    /// It is no name.
    pub fn node_name(&self) -> Result<NodeName, SettingsError> {
        let name = match self.fanout.name.as_str() {
            "" => {
                let port = self.admin_addr()?.map_or(0, |addr| addr.port());
                format!("{}-{port}", host_name())
            }
            name => name.to_owned(),
        };
        node_name("fanout.name", &name)
    }

    /// Where the engines are.
    #[must_use]
    pub fn engine_sections(&self) -> EngineSections<'_> {
        EngineSections {
            log: &self.log,
            store: &self.store,
            presence: &self.presence,
            directory: &self.directory,
            engines: &self.engines,
        }
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
        Ok(roles) => {
            let uses = Uses {
                edge: false,
                ingest: roles.ingest,
                api: roles.api,
                key: "fanout.roles",
            };
            config.engine_sections().check(uses, out);
            // With no engine in this process there are other processes, which must agree with it on keys.
            let shared = config.engine_sections().embedded().is_empty();
            let signs = roles.api && shared;
            config
                .auth
                .check(signs.then_some("fanout.roles"), false, out);
        }
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
    if !config.fanout.name.is_empty()
        && let Err(error) = NodeName::new(&config.fanout.name)
    {
        out.push(wrong("fanout.name", error.to_string()));
    }
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
            ("fanout.roles=api", "belongs to one process"),
            ("fanout.roles=", "at least one"),
            ("fanout.roles=ingest,push", "`push` is no role"),
            ("log.kind=kafk", "neither `embedded` nor `kafka`"),
            ("log.partitions=12", "power of two"),
            ("listen.api=0.0.0.0:80", "plain_anywhere"),
            ("listen.api=here", "is no address"),
            ("log.durabilty=os", "did you mean `log.durability`"),
            ("fanout.name=a b", "is 1 to 64 characters"),
            ("ingest.threads=0", "outside 1 to 64"),
        ] {
            let error = load_with::<Config>(None, &[pair.to_owned()]).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
