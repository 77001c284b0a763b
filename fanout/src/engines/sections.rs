//! The sections of a configuration file that say where the engines are: the same keys in the gateway's
//! file and in fanout's, so that one text describes a cluster.

use crate::settings::SettingsError;
use crate::settings_section;

settings_section! {
    /// `[log]`.
    LogSection {
        /// `embedded`, or `kafka` (in a build with `--features engines`).
        kind: String = "embedded".to_owned();
        /// Goes before the names of topics and consumer groups on Kafka: two clusters on the same brokers have two prefixes.
        prefix: String = "hawser-".to_owned();
        /// Name of this cluster, kept beside the topics: a prefix that is in use under another name refuses to start.
        cluster: String = "hawser".to_owned();
        /// Kafka bootstrap servers, `host:port`.
        bootstrap: Vec<String> = vec!["127.0.0.1:9092".to_owned()];
        /// Partitions of the topics, a power of two; topics with another number refuse to start, but for those that were
        /// grown (`hawser-fanout grow`).
        partitions: u32 = 16, 1 ..= 65536;
        /// Copies of the topics that are made here; 0: three, or one where there are fewer brokers and
        /// `allow_unsafe_log` is set.
        replication: u16 = 0, 0 ..= 9;
        /// Starts although the topics' settings can lose acknowledged messages (one broker, min.insync.replicas of 1),
        /// and says so at every start. `--embedded` sets it.
        allow_unsafe_log: bool = false;
        /// Makes topics that are missing; without it their absence is an error that names them.
        create_topics: bool = true;
        /// Compression of batches on Kafka: `none`, `lz4`, `zstd` or `snappy`. docs/kafka.md has what each costs.
        compression: String = "lz4".to_owned();
        /// How long a record waits for company on its way to a broker, microseconds. Longer batches compress better,
        /// every message is later by that much.
        linger_us: u32 = 500, 0 ..= 100000;
        /// How long a record is tried on Kafka, failovers included, before its outcome is called unknown, milliseconds.
        produce_timeout_ms: u32 = 10000, 1000 ..= 600000;
        /// Bound of every other call to the brokers, milliseconds.
        call_timeout_ms: u32 = 5000, 500 ..= 60000;
        /// Other properties of librdkafka, `name=value`, such as `security.protocol=sasl_plaintext`; a value `@FILE` is the
        /// first line of that file, for `sasl.password`. Those that carry a guarantee are refused.
        properties: Vec<String> = Vec::new();
        /// Embedded: `fsync` (survives power loss) or `os` (survives kill -9 only).
        durability: String = "fsync".to_owned();
        /// Embedded: free space below which appends are refused, MiB.
        disk_reserve_mib: u32 = 256, 1 ..= 1048576;
        /// Retention of chat-messages in the log, hours (history in the store has its own).
        retention_hours: u32 = 168, 1 ..= 87600;
    }
}

settings_section! {
    /// `[store]`.
    StoreSection {
        /// `embedded`, or `cassandra` (in a build with `--features engines`; the log is then on Kafka).
        kind: String = "embedded".to_owned();
        /// Some nodes of the cluster, `host:port`; the others are learnt from them.
        contact_points: Vec<String> = vec!["127.0.0.1:9042".to_owned()];
        /// Keyspace: two clusters on the same nodes have two.
        keyspace: String = "hawser".to_owned();
        /// Makes the keyspace when it is missing, and makes and migrates the tables; without it the start waits for
        /// another process to do it.
        migrate: bool = true;
        /// Copies in a keyspace that is made here.
        replication: u16 = 3, 1 ..= 9;
        /// Copies by data centre instead, `dc1=3`; for a keyspace that is made here.
        replication_by_dc: Vec<String> = Vec::new();
        /// Starts although a keyspace with fewer than three copies, or consistency below a quorum, can lose what was
        /// acknowledged, and says so at every start. `--embedded` sets it.
        allow_unsafe: bool = false;
        /// Data centre whose nodes are asked first; empty: all alike.
        local_dc: String = String::new();
        /// User; empty: no authentication.
        user: String = String::new();
        /// File with the user's password, its first line.
        password_file: String = String::new();
        /// TLS: the authorities' certificates, PEM, or `system`; empty: no TLS.
        tls_ca: String = String::new();
        /// TLS: certificate of this client, PEM; empty: none.
        tls_cert: String = String::new();
        /// TLS: its private key, PEM.
        tls_key: String = String::new();
        /// Consistency by operation, `operation=level`: operations `write`, `write_members`, `write_receipts`, `read`
        /// (of ingest), `read_history`, or `all`; levels `quorum` (what is not named), `local_quorum`, `one`, ...
        consistency: Vec<String> = Vec::new();
        /// Bound of one try of a request, milliseconds.
        timeout_ms: u32 = 2000, 50 ..= 60000;
        /// Bound of a request with its repetitions, milliseconds; then the store is unavailable.
        deadline_ms: u32 = 10000, 50 ..= 300000;
        /// Requests at a time; more wait, which holds ingest up and costs no memory beyond it.
        in_flight_max: u32 = 512, 1 ..= 65536;
        /// Connections to each node.
        connections: u32 = 2, 1 ..= 64;
        /// How long client message ids are remembered, days.
        dedup_days: u32 = 8, 8 ..= 365;
        /// How long messages are kept, days; 0: for ever.
        history_days: u32 = 0, 0 ..= 3650;
    }
}

settings_section! {
    /// `[presence]`.
    PresenceSection {
        /// `embedded`, or `redis` (in a build with `--features engines`).
        kind: String = "embedded".to_owned();
        /// The server, `host:port`; of a Redis Cluster, some of its nodes.
        servers: Vec<String> = vec!["127.0.0.1:6379".to_owned()];
        /// The servers are a Redis Cluster.
        cluster: bool = false;
        /// Goes before every key: two clusters on one server have two. Empty: the keys as documented.
        prefix: String = String::new();
        /// Number of the database (not in a cluster).
        database: u32 = 0, 0 ..= 1024;
        /// User; empty: the default user.
        user: String = String::new();
        /// File with the password, its first line; empty: none.
        password_file: String = String::new();
        /// TLS: the authorities' certificates, PEM, or `system`; empty: no TLS.
        tls_ca: String = String::new();
        /// TLS: certificate of this client, PEM; empty: none.
        tls_cert: String = String::new();
        /// TLS: its private key, PEM.
        tls_key: String = String::new();
        /// Bound of one call, milliseconds: presence is unknown then.
        timeout_ms: u32 = 250, 10 ..= 10000;
    }
}

settings_section! {
    /// `[directory]`.
    DirectorySection {
        /// `embedded`, or `postgres` (in a build with `--features engines`).
        kind: String = "embedded".to_owned();
        /// The server, `host:port`.
        address: String = "127.0.0.1:5432".to_owned();
        /// Database; it must exist, the tables are made and migrated.
        database: String = "hawser".to_owned();
        /// Schema of the tables: two clusters in one database have two.
        schema: String = "hawser".to_owned();
        /// User.
        user: String = "hawser".to_owned();
        /// File with the password, its first line; empty: none.
        password_file: String = String::new();
        /// TLS: the authorities' certificates, PEM, or `system`; empty: no TLS.
        tls_ca: String = String::new();
        /// TLS: certificate of this client, PEM; empty: none.
        tls_cert: String = String::new();
        /// TLS: its private key, PEM.
        tls_key: String = String::new();
        /// Connections at most; each costs the server some MiB.
        connections_max: u32 = 8, 1 ..= 256;
        /// Bound of one call, the wait for a connection included, milliseconds.
        timeout_ms: u32 = 2000, 50 ..= 60000;
    }
}

settings_section! {
    /// `[engines]`.
    EnginesSection {
        /// How long a start waits for an engine that does not answer, seconds; it says which, and its key, every five
        /// seconds. Then the program ends with exit code 6. 0: does not wait.
        wait_for_engines_s: u32 = 120, 0 ..= 86400;
        /// `/readyz` says "not ready" while the oldest record of chat-messages that ingest has not processed is older
        /// than this, seconds.
        lag_ready_s: u32 = 60, 1 ..= 86400;
        /// How often revocations are read from the directory, milliseconds; a revoked token is refused that much later
        /// at most. Nodes that serve the user learn of it at once, from the log.
        revocations_ms: u32 = 500, 100 ..= 5000;
    }
}

/// What a process does with the engines, for the checks across sections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uses {
    /// Whether it holds clients' sessions.
    pub edge: bool,
    /// Whether it judges `chat-messages`.
    pub ingest: bool,
    /// Whether it serves the API.
    pub api: bool,
    /// The key that says so.
    pub key: &'static str,
}

/// Where all engines are.
#[derive(Debug, Clone, Copy)]
pub struct EngineSections<'a> {
    /// `[log]`.
    pub log: &'a LogSection,
    /// `[store]`.
    pub store: &'a StoreSection,
    /// `[presence]`.
    pub presence: &'a PresenceSection,
    /// `[directory]`.
    pub directory: &'a DirectorySection,
    /// `[engines]`.
    pub engines: &'a EnginesSection,
}

impl EngineSections<'_> {
    /// Key, value and the values that there are, of each kind.
    fn kinds(&self) -> [(&'static str, &str, &'static str); 4] {
        [
            ("log.kind", &self.log.kind, "kafka"),
            ("store.kind", &self.store.kind, "cassandra"),
            ("presence.kind", &self.presence.kind, "redis"),
            ("directory.kind", &self.directory.kind, "postgres"),
        ]
    }

    /// Whether the log is on Kafka.
    #[must_use]
    pub fn on_kafka(&self) -> bool {
        self.log.kind != EMBEDDED
    }

    /// The keys of the engines that are in this process.
    #[must_use]
    pub fn embedded(&self) -> Vec<&'static str> {
        let kinds = self.kinds().into_iter();
        kinds
            .filter(|(_, kind, _)| *kind == EMBEDDED)
            .map(|(key, ..)| key)
            .collect()
    }

    /// The keys of the engines that are elsewhere.
    #[must_use]
    pub fn real(&self) -> Vec<&'static str> {
        let kinds = self.kinds().into_iter();
        kinds
            .filter(|(_, kind, _)| *kind != EMBEDDED)
            .map(|(key, ..)| key)
            .collect()
    }

    /// Appends every value, and every combination, that cannot work.
    pub fn check(&self, uses: Uses, out: &mut Vec<SettingsError>) {
        self.check_kinds(out);
        self.check_values(out);
        self.check_together(uses, out);
    }

    fn check_kinds(&self, out: &mut Vec<SettingsError>) {
        for (key, kind, real) in self.kinds() {
            if kind == real {
                if !cfg!(feature = "engines") {
                    let words = format!(
                        "`{real}` needs a build with the feature: cargo build --features engines; or set it to `embedded`"
                    );
                    out.push(wrong(key, words));
                }
            } else if kind != EMBEDDED {
                let words = format!("`{kind}` is neither `embedded` nor `{real}`");
                out.push(wrong(key, words));
            }
        }
    }

    fn check_values(&self, out: &mut Vec<SettingsError>) {
        let log = self.log;
        if !log.partitions.is_power_of_two() {
            let next = log.partitions.next_power_of_two();
            let words = format!("{} is no power of two; {next} is", log.partitions);
            out.push(wrong("log.partitions", words));
        }
        one_of("log.durability", &log.durability, &["fsync", "os"], out);
        one_of(
            "log.compression",
            &log.compression,
            &["none", "lz4", "zstd", "snappy"],
            out,
        );
        pairs("log.properties", &log.properties, out);
        pairs(
            "store.replication_by_dc",
            &self.store.replication_by_dc,
            out,
        );
        if self.on_kafka() {
            addresses("log.bootstrap", &log.bootstrap, out);
        }
        if self.store.kind != EMBEDDED {
            addresses("store.contact_points", &self.store.contact_points, out);
        }
        if self.presence.kind != EMBEDDED {
            addresses("presence.servers", &self.presence.servers, out);
            if !self.presence.cluster && self.presence.servers.len() > 1 {
                let words = "several servers are a Redis Cluster: set presence.cluster = true, or name one server";
                out.push(wrong("presence.servers", words));
            }
        }
        if self.directory.kind != EMBEDDED {
            let address = std::slice::from_ref(&self.directory.address);
            addresses("directory.address", address, out);
        }
        let tls = [
            ("store", &self.store.tls_cert, &self.store.tls_key),
            ("presence", &self.presence.tls_cert, &self.presence.tls_key),
            (
                "directory",
                &self.directory.tls_cert,
                &self.directory.tls_key,
            ),
        ];
        for (section, cert, key) in tls {
            if cert.is_empty() != key.is_empty() {
                let words = "`tls_cert` and `tls_key` go together: set both or neither";
                out.push(wrong(&format!("{section}.tls_cert"), words));
            }
        }
    }

    fn check_together(&self, uses: Uses, out: &mut Vec<SettingsError>) {
        // The embedded log judges as it commits, into the store and directory of the same database.
        if !self.on_kafka() {
            for (key, kind, real) in [
                ("store.kind", &self.store.kind, "cassandra"),
                ("directory.kind", &self.directory.kind, "postgres"),
            ] {
                if kind == real {
                    let words = format!(
                        "`{real}` needs the log on Kafka: set log.kind = \"kafka\", or this to `embedded`"
                    );
                    out.push(wrong(key, words));
                }
            }
        }
        if uses.ingest {
            return;
        }
        // Without ingest here another process does it, and an embedded engine belongs to one process.
        for (key, kind, real) in self.kinds() {
            if kind == EMBEDDED {
                let words = format!(
                    "an embedded engine belongs to one process, and {} leaves `ingest` to another: set it to `{real}`, \
                     or add `ingest` there",
                    uses.key
                );
                out.push(wrong(key, words));
            }
        }
    }
}

/// What an engine in this process is called.
pub(crate) const EMBEDDED: &str = "embedded";

pub(super) fn wrong(key: &str, reason: impl Into<String>) -> SettingsError {
    SettingsError::Contradiction {
        key: key.to_owned(),
        reason: reason.into(),
    }
}

fn one_of(key: &str, value: &str, allowed: &[&str], out: &mut Vec<SettingsError>) {
    if !allowed.contains(&value) {
        let list: Vec<String> = allowed.iter().map(|a| format!("`{a}`")).collect();
        let words = format!("`{value}` is not one of {}", list.join(", "));
        out.push(wrong(key, words));
    }
}

fn pairs(key: &str, list: &[String], out: &mut Vec<SettingsError>) {
    for pair in list {
        if pair.split_once('=').is_none_or(|(name, _)| name.is_empty()) {
            out.push(wrong(key, format!("write `{pair}` as name=value")));
        }
    }
}

fn addresses(key: &str, list: &[String], out: &mut Vec<SettingsError>) {
    if list.is_empty() {
        out.push(wrong(key, "name at least one, host:port"));
    }
    for address in list {
        let port = address
            .rsplit_once(':')
            .map(|(_, port)| port.parse::<u16>());
        if !matches!(port, Some(Ok(_))) {
            let words = format!("`{address}` is no address; write it as host:port");
            out.push(wrong(key, words));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Uses = Uses {
        edge: false,
        ingest: true,
        api: true,
        key: "fanout.roles",
    };

    #[derive(Default)]
    struct Sections {
        log: LogSection,
        store: StoreSection,
        presence: PresenceSection,
        directory: DirectorySection,
        engines: EnginesSection,
    }

    impl Sections {
        fn problems(&self, uses: Uses) -> Vec<String> {
            let sections = EngineSections {
                log: &self.log,
                store: &self.store,
                presence: &self.presence,
                directory: &self.directory,
                engines: &self.engines,
            };
            let mut out = Vec::new();
            sections.check(uses, &mut out);
            out.iter().map(ToString::to_string).collect()
        }
    }

    #[test]
    fn everything_embedded_is_sound_in_one_process_and_nowhere_else() {
        let sections = Sections::default();
        assert_eq!(sections.problems(ALL), Vec::<String>::new());
        let alone = Uses {
            ingest: false,
            ..ALL
        };
        let said = sections.problems(alone);
        assert_eq!(said.len(), 4, "{said:?}");
        assert!(said[1].contains("`store.kind`") && said[1].contains("`cassandra`"));
    }

    #[test]
    fn the_embedded_log_has_no_other_store() {
        let mut sections = Sections::default();
        sections.store.kind = "cassandra".to_owned();
        let said = sections.problems(ALL);
        assert!(
            said.iter().any(|s| s.contains("needs the log on Kafka")),
            "{said:?}"
        );
    }

    #[test]
    fn a_kind_that_there_is_not_is_named_with_those_that_there_are() {
        let mut sections = Sections::default();
        sections.presence.kind = "memcached".to_owned();
        assert_eq!(
            sections.problems(ALL),
            ["`presence.kind`: `memcached` is neither `embedded` nor `redis`"]
        );
    }

    #[cfg(not(feature = "engines"))]
    #[test]
    fn a_build_without_the_engines_names_the_feature() {
        let mut sections = Sections::default();
        sections.log.kind = "kafka".to_owned();
        sections.directory.kind = "postgres".to_owned();
        let said = sections.problems(ALL);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said.iter().all(|s| s.contains("--features engines")));
    }

    #[cfg(feature = "engines")]
    #[test]
    fn addresses_and_pairs_are_checked_where_they_are_used() {
        let mut sections = Sections::default();
        sections.log.kind = "kafka".to_owned();
        sections.log.bootstrap = vec!["broker".to_owned()];
        sections.log.properties = vec!["acks".to_owned()];
        sections.presence.kind = "redis".to_owned();
        sections.presence.servers = vec!["a:1".to_owned(), "b:1".to_owned()];
        let said = sections.problems(ALL).join("; ");
        for words in [
            "`broker` is no address",
            "`acks` as name=value",
            "presence.cluster = true",
        ] {
            assert!(said.contains(words), "{said}");
        }
    }
}
