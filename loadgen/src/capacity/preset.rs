//! The two sizes that the original design calculates, and what it said of them.

/// What the original design says of something.
#[derive(Debug)]
pub struct Said {
    /// Of what.
    pub what: &'static str,
    /// Its words; "–": nothing.
    pub said: &'static str,
    /// Figures that say it right.
    pub figures: &'static [&'static str],
    /// Why they differ; empty where they do not.
    pub why: &'static str,
}

/// A named set of values.
#[derive(Debug)]
pub struct Preset {
    /// `20m`.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// Values that are not the defaults.
    pub values: &'static [(&'static str, f64)],
    /// What the original design says.
    pub said: &'static [Said],
}

const fn said(
    what: &'static str,
    said: &'static str,
    figures: &'static [&'static str],
    why: &'static str,
) -> Said {
    Said {
        what,
        said,
        figures,
        why,
    }
}

/// All presets.
pub const PRESETS: [Preset; 2] = [
    Preset {
        name: "20m",
        title: "20 million daily users",
        values: &[],
        said: &SAID_20M,
    },
    Preset {
        name: "200m",
        title: "200 million daily users, ten cells",
        values: &[("users", 200e6), ("log_retention_days", 30.0)],
        said: &SAID_200M,
    },
];

/// The preset of that name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

#[rustfmt::skip]
const SAID_20M: [Said; 17] = [
    said("Messages a day", "400 million", &["messages_per_day"], ""),
    said("Bytes a day", "~2 TB", &["message_bytes_per_day"], ""),
    said("Messages a second, peak", "50 K", &["peak_messages_per_s"], "4,630/s was rounded up to 5,000 before the factor of 10"),
    said("Into Kafka with three copies, peak", "~690 MB/s", &["chat_log_replicated_bytes_per_s", "log_replicated_bytes_per_s"], "right for chat-messages; the second figure has delivery and bodies in it"),
    said("Kafka, 7 days, three copies", "42 GB", &["chat_log_disk_bytes", "log_disk_bytes"], "TB, not GB; the second figure has a day of delivery in it"),
    said("Brokers", "4, then 8–10", &["brokers_by_write_chat_only", "brokers_by_traffic_chat_only", "brokers"], "4 carry the writes of chat-messages and nothing else; 10 its replication and three consumer groups too; delivery was forgotten, and one may be down"),
    said("Partitions", "250, then 500–1,000", &["chat_partitions", "delivery_partitions"], "250 is the next power of two; delivery has its own, four per core"),
    said("Cassandra", "15–30 nodes", &["store_bytes", "store_nodes"], "30 days of 2 TB, three copies, on nodes of 2 TB each; of 4 TB: 45 (store_tb_per_node)"),
    said("Redis", "1–2 shards, 500 MB", &["redis_bytes", "presence_refreshes_per_s", "redis_shards"], "memory, refreshes at one per 30 s, shards: memory was counted, commands were not"),
    said("WebSocket servers", "50–500 of 10–100 K connections", &["edge_nodes", "sessions_per_node_after_loss"], "nodes, and connections of each with one down: a connection is 7.7 KB, not a thread"),
    said("Users offline", "10 M", &["offline_users"], "20 M less 5 M"),
    said("Pushes a second", "10–20 K", &["pushes_one_to_one_per_s", "pushes_uncoalesced_per_s"], "1:1 alone, then with groups; the provider takes 10,000/s"),
    said("Network", "250 MB/s in, 250 MB/s out", &["client_in_bytes_per_s", "client_out_bytes_per_s"], "out is bytes × recipients × share online"),
    said("Recipients of a message", "–", &["mean_recipients"], "one was assumed, though groups are of 100 and more"),
    said("Records of delivery", "–", &["records_per_message", "delivery_all_inline_bytes_per_s", "delivery_bytes_per_s"], "forgotten; of a message, then bytes with it in each, then with references above 1 KiB"),
    said("Receipts", "–", &["receipt_events_one_to_one_per_s", "receipt_events_per_s", "receipts_per_s"], "forgotten; 1:1 alone, with groups, and coalesced"),
    said("Reconnects", "–", &["required_one_per_s_core", "required_all_per_s_core"], "forgotten: a core's share after the loss of one node, and of all connections"),
];

#[rustfmt::skip]
const SAID_200M: [Said; 12] = [
    said("Messages a day", "4 billion", &["total_messages_per_day"], ""),
    said("Bytes a day", "20 TB", &["total_message_bytes_per_day"], ""),
    said("Messages a second, peak", "–", &["total_peak_messages_per_s", "total_peak_message_bytes_per_s"], ""),
    said("Into Kafka with three copies, peak", "6.9 GB/s", &["total_chat_log_replicated_bytes_per_s"], "right for chat-messages; delivery and messages between cells are beside it"),
    said("Kafka, 30 days, three copies", "16–20 TB", &["total_chat_log_disk_bytes", "total_log_disk_bytes"], "16–20 TB is one day, one copy; older segments belong into tiered storage (docs/kafka.md)"),
    said("Partitions", "10–20 K", &["delivery_partitions", "total_delivery_partitions"], "of a cell, of all: no Kafka has more than that of 20 M users"),
    said("Brokers", "80–100", &["total_brokers"], "delivery was forgotten, and 30 days on disk; see what binds"),
    said("Cassandra", "150–300 nodes", &["total_store_bytes", "total_store_nodes"], "on nodes of 2 TB each; of 4 TB: 450 (store_tb_per_node)"),
    said("Redis", "50 shards", &["redis_shards", "total_redis_nodes"], "shards of a cell; nodes of all with their replicas"),
    said("WebSocket servers", "500–1,000", &["total_edge_nodes"], "ten of each cell, one of which may be down"),
    said("Between cells", "–", &["intercell_copies_per_message", "intercell_gbit_per_s_cell"], "other cells that a message goes to, Gbit/s of a cell each way; the dearest case (cell_affinity = 0)"),
    said("Blast radius", "–", &["blast_cell_share", "blast_node_share"], "of all users: a cell is lost, a node is lost"),
];
