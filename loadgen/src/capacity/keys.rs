//! Every figure that the planner takes: name, default, bounds, and where the default is from. Flags, the TOML file, its
//! commented defaults and the symbols of formulas are all made of this table.

/// One figure.
#[derive(Debug)]
pub struct Key {
    /// Table of the TOML file.
    pub section: &'static str,
    /// Key in it, symbol in formulas, and flag with `-` for `_`.
    pub name: &'static str,
    /// What holds without a word.
    pub default: f64,
    /// Least.
    pub min: f64,
    /// Most.
    pub max: f64,
    /// Whole numbers only.
    pub whole: bool,
    /// Unit, for people.
    pub unit: &'static str,
    /// What it is.
    pub meaning: &'static str,
    /// Where the default is from.
    pub source: &'static str,
}

/// Tables of the TOML file in their order, and what they are about.
pub const SECTIONS: [(&str, &str); 10] = [
    ("load", "What users do"),
    ("wire", "Bytes on the wire beside messages"),
    ("receipts", "Delivered and read"),
    ("log", "Kafka"),
    ("store", "Cassandra"),
    ("presence", "Redis"),
    ("push", "Push notifications"),
    ("ingest", "Ingest (hawser-fanout)"),
    ("edge", "Edge nodes (hawser-gateway)"),
    ("loss", "Losing nodes, draining them, cells"),
];

const fn number(
    at: (&'static str, &'static str),
    default: f64,
    (min, max): (f64, f64),
    unit: &'static str,
    meaning: &'static str,
    source: &'static str,
) -> Key {
    Key {
        section: at.0,
        name: at.1,
        default,
        min,
        max,
        whole: false,
        unit,
        meaning,
        source,
    }
}

const fn whole(
    at: (&'static str, &'static str),
    default: f64,
    bounds: (f64, f64),
    unit: &'static str,
    meaning: &'static str,
    source: &'static str,
) -> Key {
    Key {
        whole: true,
        ..number(at, default, bounds, unit, meaning, source)
    }
}

/// Where a default is from that nobody measured.
const ASSUMED: &str = "assumption: put your own figure here";
const SEED: &str = "the original design";

/// Every figure, by sections.
#[rustfmt::skip]
pub const KEYS: [Key; 83] = [
    whole(("load", "users"), 20e6, (1.0, 1e10), "users", "Daily users", SEED),
    number(("load", "online_share"), 0.25, (0.0, 1.0), "share", "Share of daily users who are online at the peak", "the original design: 5 M of 20 M"),
    number(("load", "messages_per_user_day"), 20.0, (0.01, 1e4), "messages", "Messages that a user sends in a day", SEED),
    number(("load", "message_bytes"), 5_000.0, (1.0, 65_536.0), "B", "A message as the log and the store hold it; Hawser's own fields are 118 B of it beside the body", "the original design: 5 KB"),
    number(("load", "peak_factor"), 10.0, (1.0, 1_000.0), "times", "The busiest second over the mean of the day", SEED),
    number(("load", "devices_per_user"), 1.0, (1.0, 100.0), "devices", "Devices of a user; all are online when their user is", "the original design counts one"),
    number(("load", "comings_per_user_day"), 10.0, (0.0, 1e4), "times", "How often a user comes online in a day: a connect, and two changes of presence", "docs/adr/0005"),
    number(("load", "typing_per_message"), 1.0, (0.0, 100.0), "signals", "Typing signals for each message", ASSUMED),
    number(("load", "heartbeat_s"), 30.0, (5.0, 300.0), "s", "A client's pause between heartbeats", "session.heartbeat_ms of the gateway"),

    number(("wire", "frame_overhead_bytes"), 300.0, (0.0, 65_536.0), "B", "Headers of a message on the wire: TCP/IP of its segments, TLS, WebSocket, frame", "counted: 4 segments of 1,448 B at 66 B, TLS record 22 B, WebSocket 4 B, frame 8 B"),
    number(("wire", "heartbeat_bytes"), 150.0, (0.0, 65_536.0), "B", "A heartbeat or its answer on the wire", "counted: TCP/IP 66 B, TLS 22 B, WebSocket 8 B, frame, and an empty acknowledgement"),

    whole(("receipts", "receipts_members_max"), 256.0, (2.0, 1e6), "members", "Groups above this have no receipts", "docs/adr/0026"),
    number(("receipts", "receipt_window_s"), 1.0, (0.0, 3_600.0), "s", "A reader's receipts of a chat within this time are one", "the design: one per chat and second"),
    number(("receipts", "chat_rate_per_s"), 0.2, (0.0, 1e4), "1/s", "Messages a second in a chat while people write in it", ASSUMED),
    number(("receipts", "missed_per_return"), 5.0, (1.0, 1e6), "messages", "Messages of a chat that a reader who was offline acknowledges at once", ASSUMED),

    whole(("log", "log_replication"), 3.0, (1.0, 9.0), "copies", "Copies of a topic", SEED),
    number(("log", "log_retention_days"), 7.0, (0.01, 3_650.0), "days", "Retention of chat-messages", SEED),
    number(("log", "delivery_retention_days"), 1.0, (0.01, 365.0), "days", "Retention of delivery", "docs/kafka.md: 24 h"),
    number(("log", "log_compression"), 1.0, (0.01, 1.5), "share", "What compression leaves; ciphertext does not shrink", "docs/kafka.md"),
    whole(("log", "log_consumer_groups"), 3.0, (0.0, 100.0), "groups", "Consumer groups that read all of chat-messages (ingest, index, audit)", "the design: three"),
    whole(("log", "delivery_consumer_groups"), 1.0, (0.0, 100.0), "groups", "Readers of all of delivery (its owners)", "one: the edge nodes, each its own partitions"),
    whole(("log", "reference_bytes"), 1_024.0, (0.0, 1e6), "B", "Messages above this to groups go by reference; 0: none does", "ingest.reference_bytes"),
    whole(("log", "listed_members_max"), 10_000.0, (2.0, 1e6), "members", "Delivery records of larger groups list nobody", "ingest.listed_members_max"),
    number(("log", "record_bytes"), 20.0, (0.0, 1e4), "B", "A delivery record with its message in it, beyond the message and its recipients", "hawser-sim fan-out (docs/performance.md): 138 B beyond the body"),
    number(("log", "reference_record_bytes"), 54.0, (0.0, 1e4), "B", "A delivery record that refers to its message, without recipients", "hawser-sim fan-out (docs/performance.md)"),
    number(("log", "recipient_bytes"), 12.0, (0.0, 1e4), "B", "A recipient in a delivery record", "hawser-sim fan-out (docs/performance.md): 11.7 B"),
    number(("log", "chat_partition_mb_per_s"), 1.0, (0.001, 1e3), "MB/s", "What one partition of chat-messages takes", SEED),
    number(("log", "partitions_per_core"), 4.0, (1.0, 1e3), "partitions", "Partitions of delivery for each core of the edge, at least", "terraform/README.md: 4 per core, 1,024 up to 256 cores"),
    whole(("log", "partitions_min"), 1_024.0, (1.0, 65_536.0), "partitions", "Partitions of delivery, at least; a power of two", "terraform/README.md: 4 per core, 1,024 up to 256 cores"),
    whole(("log", "partitions"), 0.0, (0.0, 65_536.0), "partitions", "Partitions of delivery, a power of two; 0: by the two figures above", "the rule"),
    number(("log", "broker_write_mb_per_s"), 200.0, (0.1, 1e5), "MB/s", "What a broker writes, copies for other leaders included", SEED),
    number(("log", "broker_traffic_mb_per_s"), 200.0, (0.1, 1e5), "MB/s", "What a broker moves in all, in and out: writes, reads of followers and of consumers", "the original design's 200 MB/s, applied to everything; careful"),
    number(("log", "broker_disk_tb"), 20.0, (0.01, 1e4), "TB", "Disk of a broker", ASSUMED),
    number(("log", "broker_disk_share"), 0.7, (0.01, 1.0), "share", "Share of it that may be full", ASSUMED),
    whole(("log", "broker_losses"), 1.0, (0.0, 100.0), "brokers", "Brokers that may be down while the rest carries the peak", "docs/kafka.md: plus one that may be down"),

    number(("store", "history_days"), 30.0, (0.01, 36_500.0), "days", "How long messages are kept", SEED),
    whole(("store", "store_replication"), 3.0, (1.0, 9.0), "copies", "Copies of a row", SEED),
    number(("store", "store_tb_per_node"), 2.0, (0.01, 100.0), "TB", "Live data on a node; its disk is twice that, for compaction", "2 to 4 TB is usual: the careful end"),
    number(("store", "store_rows_per_message"), 4.0, (1.0, 100.0), "rows", "Rows written for a message", "docs/cassandra.md"),
    number(("store", "store_writes_per_node"), 15_000.0, (1.0, 1e7), "1/s", "Rows a second that a node writes", ASSUMED),
    whole(("store", "store_losses"), 1.0, (0.0, 100.0), "nodes", "Nodes that may be down while the rest carries the writes; the data are there as copies anyway", "one"),

    number(("presence", "presence_ttl_s"), 30.0, (1.0, 3_600.0), "s", "Life of presence:<user>, one refresh each in the original design", SEED),
    number(("presence", "presence_refresh_s"), 15.0, (1.0, 3_600.0), "s", "Pause between two refreshes of a user by a gateway", "docs/redis.md"),
    number(("presence", "presence_commands_per_refresh"), 2.0, (1.0, 10.0), "commands", "Commands of a refresh (presence and lastseen)", "docs/redis.md"),
    whole(("presence", "presence_leases"), 0.0, (0.0, 1.0), "0 or 1", "1: a node's lease vouches for its users and replaces their refreshes; 0: as gateways do it now", "docs/redis.md"),
    number(("presence", "lease_s"), 3.0, (0.1, 60.0), "s", "A node's lease, said again every third of it", "cluster.lease_ms"),
    number(("presence", "redis_ops_per_node"), 200_000.0, (1.0, 1e8), "1/s", "Commands a second of a Redis node, pipelined", "docs/redis.md measured 13,300/s at 3 % of a core: less than half of that core"),
    number(("presence", "redis_gb_per_node"), 8.0, (0.01, 1e4), "GB", "Memory of a Redis node for data", ASSUMED),
    number(("presence", "redis_online_bytes"), 280.0, (0.0, 1e5), "B", "Redis's memory for a user who is online", "docs/redis.md, measured"),
    number(("presence", "redis_offline_bytes"), 170.0, (0.0, 1e5), "B", "Redis's memory for a user who is not (last seen)", "docs/redis.md, measured"),
    whole(("presence", "redis_replicas"), 1.0, (0.0, 10.0), "copies", "Replicas of each Redis node", "one, for failover"),

    number(("push", "push_quota_per_s"), 10_000.0, (0.1, 1e9), "1/s", "What the provider takes", "FCM's default: 600,000 a minute"),
    number(("push", "push_coalescing"), 1.0, (1.0, 1e6), "messages", "Messages that one push tells of", "1: none, to see what is needed"),

    number(("ingest", "ingest_us_per_message"), 130.0, (0.1, 1e6), "µs", "CPU time of ingest for a message", "docs/performance.md, measured at 2,000/s"),
    whole(("ingest", "ingest_cores"), 16.0, (1.0, 1_024.0), "cores", "Cores of an ingest node", ASSUMED),
    whole(("ingest", "ingest_losses"), 1.0, (0.0, 100.0), "nodes", "Ingest nodes that may be down", "one"),

    whole(("edge", "edge_cores"), 16.0, (1.0, 1_024.0), "cores", "Cores of an edge node that the gateway runs on", "the design: 10 nodes of 16 cores"),
    number(("edge", "edge_ram_gb"), 64.0, (0.1, 1e5), "GB", "Memory of an edge node", ASSUMED),
    number(("edge", "edge_fixed_gb"), 8.0, (0.0, 1e5), "GB", "Of it, for what is not sessions: replay ring (4 GiB), bodies, prefetch, system", "the design's replay ring, and as much again"),
    number(("edge", "edge_nic_gbit_per_s"), 10.0, (0.01, 1e4), "Gbit/s", "Network card of an edge node, each way", "the original design: 10 Gbps servers"),
    whole(("edge", "edge_connections_max"), 556_000.0, (1.0, 1e8), "connections", "Connections that a node is to hold at most, after the losses that are survived", "the design's goal: 5 M on at most 10 nodes, one of them lost"),
    whole(("edge", "edge_losses"), 1.0, (0.0, 1_000.0), "nodes", "Edge nodes that may be down while the rest carries the peak", "N + 1"),
    number(("edge", "cpu_target"), 0.5, (0.01, 1.0), "share", "CPU that the peak may use", ASSUMED),
    number(("edge", "memory_target"), 0.75, (0.01, 1.0), "share", "Memory that may be used", "node.memory_max_mib: three quarters"),
    number(("edge", "nic_target"), 0.5, (0.01, 1.0), "share", "Network card that the peak may use", "docs/kafka.md: half of its card"),
    number(("edge", "session_user_bytes"), 3_400.0, (1.0, 1e7), "B", "An idle TLS session in the gateway's memory", "README.md, hawser-loadgen --warm at 20,000 sessions"),
    number(("edge", "session_kernel_bytes"), 4_300.0, (0.0, 1e7), "B", "The same in the kernel, one end of the connection", "README.md: half of 8.6 KB of both ends"),
    number(("edge", "cpu_us_one_to_one"), 173.0, (0.01, 1e6), "µs", "The gateways' CPU time for a message: Send, its answers, one delivery, the Kafka client", "docs/performance.md, measured at 2,000/s of 200 B, 1:1"),
    number(("edge", "cpu_us_delivery_200"), 14.5, (0.01, 1e6), "µs", "The gateway's CPU time for a further delivery of 200 B", "measured beside each other, TLS: lean WebSocket servers take 12.6 to 14.5"),
    number(("edge", "cpu_us_delivery_5k"), 25.0, (0.01, 1e6), "µs", "The same of 5 KB", ASSUMED),
    number(("edge", "cpu_us_connect"), 355.0, (0.01, 1e6), "µs", "The gateway's CPU time for a connect with a full TLS handshake", "measured beside each other: lean servers take 219 to 355"),
    number(("edge", "cpu_us_heartbeat"), 10.0, (0.01, 1e6), "µs", "The gateway's CPU time for a heartbeat and its answer", "measured: a hot receive and send 6.6, and TLS"),
    number(("edge", "cpu_us_receipt"), 10.0, (0.01, 1e6), "µs", "The gateway's CPU time for a receipt", ASSUMED),

    number(("loss", "reconnect_one_s"), 30.0, (0.1, 86_400.0), "s", "The sessions of a node that is lost are to be back within", "the design"),
    number(("loss", "reconnect_all_s"), 120.0, (0.1, 86_400.0), "s", "All sessions of a cell are to be back within, when all are cut off", "the design: 2 min"),
    number(("loss", "accepts_per_s_core"), 2_000.0, (0.1, 1e6), "1/s", "Connections that a core lets in a second", "limits.accepts_per_second"),
    number(("loss", "fresh_per_s_node"), 1_000.0, (0.1, 1e7), "1/s", "Sessions without a resume token that a node begins a second", "limits.fresh_per_second"),
    number(("loss", "handshake_cpu_share"), 0.5, (0.01, 1.0), "share", "Share of a core that handshakes may have in a storm", ASSUMED),
    number(("loss", "backoff_s"), 2.0, (0.0, 600.0), "s", "Until the last client begins to come back: the longest first pause and a handshake", "docs/running.md"),
    number(("loss", "drain_window_s"), 60.0, (0.1, 600.0), "s", "Time over which a draining node's sessions are sent elsewhere", "the protocol's SLOT_HORIZON_MS"),
    number(("loss", "restart_s"), 30.0, (0.0, 86_400.0), "s", "From the end of a drained node until it is ready again", ASSUMED),
    whole(("loss", "cell_users_max"), 20e6, (1.0, 1e10), "users", "Users of a cell, at most: beyond, there are several, each with its own engines", "the design: cells of 20 M"),
    number(("loss", "cell_affinity"), 0.0, (0.0, 1.0), "share", "Share of a chat's members who are in its cell because of it; the others are anywhere", "0: nothing is known of who talks to whom, the dearest case"),
];

/// Every figure.
pub fn all() -> impl Iterator<Item = &'static Key> {
    KEYS.iter()
}

/// The figure of that name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Key> {
    all().find(|key| key.name == name)
}

/// The name that was probably meant: fewest letters changed, at most a third of them.
#[must_use]
pub fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, name) = names
        .map(|name| (edits(word, name), name))
        .min_by_key(|(distance, _)| *distance)?;
    (distance <= word.chars().count().div_ceil(3)).then_some(name)
}

/// Letters to insert, remove or change.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let changed = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_defaults_are_possible() {
        let mut names: Vec<&str> = all().map(|key| key.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        for key in all() {
            assert!(
                SECTIONS.iter().any(|(name, _)| *name == key.section),
                "{}",
                key.name
            );
            assert!((key.min..=key.max).contains(&key.default), "{}", key.name);
            assert!(
                !key.meaning.is_empty() && !key.source.is_empty(),
                "{}",
                key.name
            );
            assert!(!key.whole || key.default.fract() == 0.0, "{}", key.name);
        }
    }

    #[test]
    fn the_nearest_name_is_told_and_nonsense_is_not_guessed() {
        let names = || all().map(|key| key.name);
        assert_eq!(nearest("user", names()), Some("users"));
        assert_eq!(nearest("message_byte", names()), Some("message_bytes"));
        assert_eq!(nearest("qqqqqqqqqq", names()), None);
        assert_eq!((edits("", "abc"), edits("kitten", "sitting")), (3, 3));
    }
}
