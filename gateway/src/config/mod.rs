//! The edge node's configuration file: every key with its meaning, default and bound.
//! `docs/config.md` is generated from here (`hawser-gateway config-reference`).

pub mod node;

use hawser_fanout::auth::AuthSection;
use hawser_fanout::engines::{
    DirectorySection, EngineSections, EnginesSection, IngestSection, LogSection, PresenceSection,
    StoreSection, Uses,
};
use hawser_fanout::owners::ClusterSection;
use hawser_fanout::settings::SettingsError;
use hawser_fanout::{settings_file, settings_section};
use hawser_protocol::limits;
use hawser_protocol::ownership::NodeName;
use std::net::SocketAddr;

settings_section! {
    /// `[node]`.
    NodeSection {
        /// What this node does: `edge` always; `ingest` and `api` here too, or in processes of their own (hawser-fanout),
        /// which needs all engines elsewhere than in a process.
        roles: Vec<String> = vec!["edge".to_owned(), "ingest".to_owned(), "api".to_owned()];
        /// Name of this node in logs, metrics, Welcome and among the nodes of its cluster, of which no other may have it;
        /// empty: the host's name, and the port of its first listener where there is a cluster.
        name: String = String::new();
        /// Cores to run, one pinned thread and io_uring each; 0: all that this process may use.
        cores: u16 = 0, 0 ..= 1024;
        /// Session rings per core. One ring's table of direct descriptors is capped by the process's descriptor
        /// limit, so several rings hold more sessions than that limit; 0: as many as max_sessions needs.
        rings_per_core: u16 = 0, 0 ..= 64;
        /// Sessions this node holds at most, over all cores; beyond, new ones are refused `overloaded`.
        ///
        max_sessions: u32 = 100000, 1 ..= 10000000;
        /// Directory of everything embedded (log, store, directory), and of keys that no file is named for; created if missing.
        data_dir: String = "hawser-data".to_owned();
        /// How long an end (SIGTERM) may take before the node exits anyway, milliseconds: sessions are moved in the first
        /// four fifths, engines are closed in the rest.
        drain_ms: u64 = 10000, 0 ..= 600000;
        /// High memory watermark: above this resident size newcomers wait in the kernel's backlog, MiB; 0: three quarters of
        /// the machine or of the control group.
        memory_max_mib: u32 = 0, 0 ..= 16777216;
        /// Low memory watermark: above it sessions that are not resumed are told to come again, typing and presence are shed,
        /// MiB; 0: nine tenths of the high one. Both are left a twentieth below.
        memory_low_mib: u32 = 0, 0 ..= 16777216;
    }
}

settings_section! {
    /// `[listen]`.
    ListenSection {
        /// Plain HTTP and WebSocket (page, API, /v1/ws); loopback addresses only, unless `plain_anywhere`.
        http: Vec<String> = vec!["127.0.0.1:8080".to_owned()];
        /// TLS WebSocket.
        wss: Vec<String> = vec!["127.0.0.1:8443".to_owned()];
        /// Metrics, health and readiness; keep it away from clients. Empty: none.
        admin: String = "127.0.0.1:9090".to_owned();
        /// Allows plain HTTP beyond loopback, for a proxy that ends TLS in front.
        plain_anywhere: bool = false;
        /// Origins that browsers may connect from, such as `https://chat.example`; the node's own loopback pages are
        /// always allowed; `*` allows any. Requests without an Origin (no browser) are not concerned.
        origins: Vec<String> = Vec::new();
        /// Address of this node for clients that another node sends here (Redirect, Relocate, /v1/locate),
        /// `wss://host:port/v1/ws`; empty: made from the first of `wss`, if that is one address.
        public_url: String = String::new();
        /// The same for clients that came without TLS, `ws://host:port/v1/ws`; empty: made from the first of `http`. Behind
        /// a proxy that ends TLS (`plain_anywhere`) clients are given `public_url`.
        plain_url: String = String::new();
        /// Serves `/v1/echo`, a WebSocket echo inside the session ring, for conformance suites. Not for production.
        echo: bool = false;
    }
}

settings_section! {
    /// `[tls]`.
    TlsSection {
        /// Certificate chain, PEM; empty with `key` empty: a self-made P-256 certificate of 13 days, renewed by itself.
        cert: String = String::new();
        /// Private key, PEM (PKCS#8 or SEC1; P-256 or Ed25519 are seven times cheaper than RSA).
        key: String = String::new();
        /// Host names and addresses in the self-made certificate.
        names: Vec<String> = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        /// Also accepts TLS 1.2 (ECDHE with AEAD only). Default: TLS 1.3 alone.
        tls12: bool = false;
        /// How often the files are looked at for a new certificate, milliseconds; SIGHUP does it at once.
        reload_ms: u64 = 10000, 1000 ..= 3600000;
    }
}

settings_section! {
    /// `[session]`.
    SessionSection {
        /// Interval at which clients ping, milliseconds; a session without a byte for 1.5 times as long is closed.
        heartbeat_ms: u64 = 30000, 5000 ..= 300000;
        /// Frames delivered without an ack before a session lags.
        window_frames: u16 = 256, 1 ..= 256;
        /// Bytes delivered without an ack before a session lags.
        window_bytes: u32 = 65536, 4096 ..= 1048576;
        /// Messages per second that one user may send, over all its sessions on the node and beyond them, sustained.
        sends_per_second: u32 = 50, 1 ..= 100000;
        /// Messages that one user may send in a burst; in a cluster, a user that comes to a node begins with a second's worth.
        sends_burst: u32 = 200, 1 ..= 1000000;
        /// Bytes per second that one user may send, over all its sessions on the node and beyond them, sustained.
        bytes_per_second: u32 = 1048576, 1024 ..= 1073741824;
        /// How long a resume token is good for, milliseconds.
        resume_ms: u64 = 604800000, 60000 ..= 2592000000;
        /// How long unsent bytes may stay before a slow reader is closed (its cursor lives), milliseconds.
        slow_reader_ms: u64 = 60000, 1000 ..= 600000;
        /// Time for TLS, HTTP upgrade and Hello together, milliseconds.
        hello_ms: u64 = 8000, 500 ..= 60000;
    }
}

settings_section! {
    /// `[websocket]`.
    WebSocketSection {
        /// `on`: agrees to permessage-deflate with clients that offer it, without context in either direction, so a connection
        /// costs no memory by it; `off`: with nobody. It is for JSON and plain text: end-to-end encrypted bodies do not get
        /// smaller, and who can mix chosen text into a message beside a secret learns of it by its length. docs/running.md has
        /// what it costs.
        deflate: String = "off".to_owned();
        /// Messages with a shorter payload go out as they are, bytes.
        deflate_min_bytes: u32 = 256, 1 ..= 65536;
        /// From 1, the fastest, to 9, the smallest.
        deflate_level: u8 = 1, 1 ..= 9;
    }
}

settings_section! {
    /// `[limits]`.
    LimitsSection {
        /// New connections per second and core; more wait in the kernel's backlog until it is their turn.
        accepts_per_second: u32 = 2000, 1 ..= 1000000;
        /// New connections per core in a burst; 0: what comes in 50 ms at that rate, with which a storm is let in flat.
        accepts_burst: u32 = 0, 0 ..= 1000000;
        /// Handshakes in progress per core; more wait in the kernel's backlog.
        handshakes_max: u32 = 4096, 1 ..= 1000000;
        /// Sessions per second of the whole node that begin without being resumed, which costs reads of history. Who has to wait
        /// longer than some seconds is told when to come again. Resumed sessions are paced by `accepts_per_second` alone.
        fresh_per_second: u32 = 1000, 1 ..= 1000000;
        /// Connections per client address (IPv6: per /64); 0: no bound. Loopback is not concerned.
        per_address: u32 = 1024, 0 ..= 10000000;
        /// New connections per second and client address (IPv6: per /64), sustained; beyond, they are closed before TLS and
        /// cost nobody else's turn. 0: no bound. Loopback is not concerned.
        per_address_per_second: u32 = 100, 0 ..= 1000000;
        /// New connections of one client address in a burst: all that it may have come back at once.
        per_address_burst: u32 = 1024, 1 ..= 10000000;
        /// Bytes of recent log kept in memory for resume, per node, MiB.
        replay_mib: u32 = 64, 1 ..= 1048576;
        /// Bytes of recent messages above `ingest.reference_bytes` kept in memory, for their delivery and for resume, per node,
        /// MiB. What is no longer here is read in the store.
        bodies_mib: u32 = 64, 1 ..= 1048576;
        /// Receive buffers per ring (a power of two).
        ring_buffers: u16 = 256, 8 ..= 32768;
        /// Bytes of one receive buffer.
        ring_buffer_bytes: u32 = 16384, 2048 ..= 65536;
        /// Kernel send buffer per connection, bytes; 0: the kernel's own choice.
        send_buffer_bytes: u32 = 65536, 0 ..= 16777216;
    }
}

settings_section! {
    /// `[output]`.
    OutputSection {
        /// `text` or `json`.
        format: String = "text".to_owned();
        /// Filter, such as `info` or `hawser_gateway=debug`.
        filter: String = "info".to_owned();
    }
}

settings_file! {
    /// The whole file.
    Config {
        /// The node itself.
        node: NodeSection;
        /// Where it listens.
        listen: ListenSection;
        /// Certificates.
        tls: TlsSection;
        /// Who may connect.
        auth: AuthSection;
        /// What a session may do.
        session: SessionSection;
        /// How it is spoken.
        websocket: WebSocketSection;
        /// What the node may use.
        limits: LimitsSection;
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
        /// How messages are judged, where `ingest` is among the roles.
        ingest: IngestSection;
        /// This node among others.
        cluster: ClusterSection;
        /// What the node says of itself.
        output: OutputSection;
    }
    contradictions = contradictions
}

impl Config {
    /// Plain listeners.
    ///
    /// # Errors
    /// An address that is none.
    pub fn http_addrs(&self) -> Result<Vec<SocketAddr>, SettingsError> {
        addrs("listen.http", &self.listen.http)
    }

    /// TLS listeners.
    ///
    /// # Errors
    /// An address that is none.
    pub fn wss_addrs(&self) -> Result<Vec<SocketAddr>, SettingsError> {
        addrs("listen.wss", &self.listen.wss)
    }

    /// The admin listener, if any.
    ///
    /// # Errors
    /// An address that is none.
    pub fn admin_addr(&self) -> Result<Option<SocketAddr>, SettingsError> {
        if self.listen.admin.is_empty() {
            return Ok(None);
        }
        Ok(addrs("listen.admin", std::slice::from_ref(&self.listen.admin))?.pop())
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

    /// What this node does.
    ///
    /// # Errors
    /// A role that there is not, or `edge` is missing.
    pub fn roles(&self) -> Result<Uses, SettingsError> {
        let wrong = |reason: String| SettingsError::Contradiction {
            key: ROLES.to_owned(),
            reason,
        };
        let mut uses = Uses {
            edge: false,
            ingest: false,
            api: false,
            key: ROLES,
        };
        for role in &self.node.roles {
            match role.as_str() {
                "edge" => uses.edge = true,
                "ingest" => uses.ingest = true,
                "api" => uses.api = true,
                other => {
                    let words = format!("`{other}` is no role: `edge`, `ingest` and `api` are");
                    return Err(wrong(words));
                }
            }
        }
        if !uses.edge {
            let words =
                "a gateway without `edge` is none: hawser-fanout runs the other roles alone";
            return Err(wrong(words.to_owned()));
        }
        Ok(uses)
    }
}

/// The key of the roles.
const ROLES: &str = "node.roles";

fn addrs(key: &str, texts: &[String]) -> Result<Vec<SocketAddr>, SettingsError> {
    let parse = |text: &String| {
        text.parse().map_err(|_| SettingsError::Contradiction {
            key: key.to_owned(),
            reason: format!("`{text}` is no address; write it as 127.0.0.1:8080 or [::1]:8080"),
        })
    };
    texts.iter().map(parse).collect()
}

fn contradictions(config: &Config, out: &mut Vec<SettingsError>) {
    let mut refuse = |key: &str, reason: String| {
        out.push(SettingsError::Contradiction {
            key: key.to_owned(),
            reason,
        });
    };
    if config.tls.cert.is_empty() != config.tls.key.is_empty() {
        refuse(
            "tls.cert",
            "`tls.cert` and `tls.key` go together: set both or neither".to_owned(),
        );
    }
    if !config.limits.ring_buffers.is_power_of_two() {
        refuse("limits.ring_buffers", "must be a power of two".to_owned());
    }
    if !config.node.name.is_empty()
        && let Err(error) = NodeName::new(&config.node.name)
    {
        refuse("node.name", error.to_string());
    }
    let (low, high) = (config.node.memory_low_mib, config.node.memory_max_mib);
    if low > 0 && high > 0 && low > high {
        let words = format!("{low} is above node.memory_max_mib = {high}: lower it, or raise that");
        refuse("node.memory_low_mib", words);
    }
    let deflate = &config.websocket.deflate;
    if !["off", "on"].contains(&deflate.as_str()) {
        let words = format!("`{deflate}` is neither `off` nor `on`");
        refuse("websocket.deflate", words);
    }
    let format = &config.output.format;
    if !["text", "json"].contains(&format.as_str()) {
        let words = format!("`{format}` is neither `text` nor `json`");
        refuse("output.format", words);
    }
    match config.http_addrs() {
        Ok(list) if !config.listen.plain_anywhere => {
            if let Some(open) = list.iter().find(|a| !a.ip().is_loopback()) {
                refuse(
                    "listen.http",
                    format!(
                        "{open} is not loopback; use listen.wss, or set listen.plain_anywhere = true behind a proxy that ends TLS"
                    ),
                );
            }
        }
        Ok(_) => {}
        Err(e) => out.push(e),
    }
    out.extend(config.wss_addrs().err());
    out.extend(config.admin_addr().err());
    match config.roles() {
        Ok(uses) => {
            config.engine_sections().check(uses, out);
            // Roles elsewhere mean other processes, which must agree with this one on keys.
            let split = !uses.ingest || !uses.api;
            config.auth.check(split.then_some(ROLES), split, out);
        }
        Err(error) => out.push(error),
    }
}

const _: () = assert!(
    limits::HEARTBEAT_MS_MIN == 5_000 && limits::HEARTBEAT_MS_MAX == 300_000,
    "as [session] says"
);

/// Title of the generated page.
pub const REFERENCE_TITLE: &str = "Configuration of hawser-gateway";
/// Introduction of the generated page.
pub const REFERENCE_INTRO: &str = "Generated by `hawser-gateway config-reference`; do not edit. The file is TOML, given with `--config FILE`; \
every key is optional. `--check-config` checks a file, `--print-config` prints the values in force with their documentation. \
A key that does not exist is refused and the nearest one named.";

#[cfg(test)]
mod tests {
    use super::*;
    use hawser_fanout::settings::{Settings, parse, reference};

    #[test]
    fn the_defaults_are_sound() {
        assert_eq!(Config::default().problems(), []);
    }

    #[test]
    fn a_typo_names_the_right_key() {
        let err = parse::<Config>("[session]\nhearbeat_ms = 10000").expect_err("typo");
        assert_eq!(
            err.to_string(),
            "unknown key `session.hearbeat_ms`: did you mean `session.heartbeat_ms`?"
        );
    }

    #[test]
    fn plain_beyond_loopback_is_refused() {
        let err = parse::<Config>("[listen]\nhttp = [\"0.0.0.0:8080\"]").expect_err("open");
        assert!(
            err.to_string()
                .starts_with("`listen.http`: 0.0.0.0:8080 is not loopback"),
            "{err}"
        );
    }

    #[test]
    fn compression_is_off_unless_it_is_switched_on_and_bad_values_are_named() {
        let of = |text: &str| node::deflate(&parse::<Config>(text).expect("sound"));
        assert_eq!(of(""), None);
        assert_eq!(of("[websocket]\ndeflate_level = 9"), None);
        let limits = of("[websocket]\ndeflate = \"on\"\ndeflate_min_bytes = 1000");
        let limits = limits.expect("on");
        assert_eq!((limits.min_bytes, limits.level), (1_000, 1));
        for (text, words) in [
            (
                "deflate = \"yes\"",
                "`websocket.deflate`: `yes` is neither `off` nor `on`",
            ),
            ("deflate_level = 0", "`websocket.deflate_level`"),
            ("deflate_level = 10", "`websocket.deflate_level`"),
            ("deflate_min_bytes = 0", "`websocket.deflate_min_bytes`"),
        ] {
            let error = parse::<Config>(&format!("[websocket]\n{text}")).expect_err(text);
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn roles_elsewhere_need_engines_and_keys_that_are_shared() {
        let err = parse::<Config>("[node]\nroles = [\"edge\"]").expect_err("embedded engines");
        assert!(err.to_string().contains("belongs to one process"), "{err}");
        let mut config = Config::default();
        config.node.roles = vec!["edge".to_owned()];
        let said: Vec<String> = config.problems().iter().map(ToString::to_string).collect();
        for key in [
            "`log.kind`",
            "`store.kind`",
            "`auth.jwks`",
            "`auth.cluster_secret`",
        ] {
            assert!(said.iter().any(|s| s.starts_with(key)), "{key}: {said:?}");
        }
        config.node.roles = vec!["ingest".to_owned()];
        let said = config.problems();
        assert!(said[0].to_string().contains("without `edge`"), "{said:?}");
    }

    #[cfg(not(feature = "engines"))]
    #[test]
    fn kafka_without_the_feature_names_it() {
        let err = parse::<Config>("[log]\nkind = \"kafka\"").expect_err("no feature");
        assert!(err.to_string().contains("--features engines"), "{err}");
    }

    #[test]
    fn the_reference_page_is_current() {
        let page = reference::<Config>(REFERENCE_TITLE, REFERENCE_INTRO);
        let here = std::env::var("CARGO_MANIFEST_DIR").unwrap();
        let path = format!("{here}/../docs/config.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            page == written,
            "run `cargo run -p hawser-gateway -- config-reference > docs/config.md`"
        );
    }
}
