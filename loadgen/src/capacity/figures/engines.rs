//! Cassandra, Redis, push, ingest.

use crate::capacity::number::Unit;
use crate::capacity::sheet::Sheet;

#[rustfmt::skip]
pub(super) fn store(sheet: &mut Sheet) {
    sheet.section(
        "Cassandra",
        "Data of a node that is down are on the others, so the loss is counted where writes bind.",
    );
    sheet.figure("history_bytes", "Messages that are kept, one copy", Unit::Bytes, "message_bytes_per_day × history_days");
    sheet.figure("store_bytes", "With their copies", Unit::Bytes, "history_bytes × store_replication");
    sheet.figure("store_nodes_by_disk", "By disk", Unit::Count, "ceil(store_bytes / (store_tb_per_node × 10^12))");
    sheet.figure("store_writes_per_s", "Rows written a second, copies included, peak", Unit::PerSecond, "(peak_messages_per_s × store_rows_per_message + receipts_per_s) × store_replication");
    sheet.figure("store_nodes_by_writes", "By writes", Unit::Count, "ceil(store_writes_per_s / store_writes_per_node) + store_losses");
    sheet.bound(
        "store_nodes",
        "Cassandra nodes",
        &[
            ("disk", "store_nodes_by_disk"),
            ("writes", "store_nodes_by_writes"),
            ("copies", "store_replication"),
        ],
    );
    sheet.figure("store_nodes", "Cassandra nodes", Unit::Count, "max(store_nodes_by_disk, store_nodes_by_writes, store_replication)");
}

#[rustfmt::skip]
pub(super) fn presence(sheet: &mut Sheet) {
    sheet.section(
        "Presence and Redis",
        "A node's lease that vouches for its users would replace their refreshes (presence_leases = 1).",
    );
    sheet.figure("presence_refreshes_per_s", "One refresh per user and time to live, as first designed", Unit::PerSecond, "online_users / presence_ttl_s");
    sheet.figure("presence_commands_per_s", "Commands of refreshes as gateways send them", Unit::PerSecond, "online_users × presence_commands_per_refresh / presence_refresh_s");
    sheet.figure("presence_lease_commands_per_s", "Commands of leases instead: one a node and third of a lease", Unit::PerSecond, "edge_nodes / (lease_s / 3)");
    sheet.figure("presence_changes_per_s", "Users who come and go, peak", Unit::PerSecond, "cell_users × comings_per_user_day × 2 / 86400 × peak_factor");
    sheet.figure("typing_commands_per_s", "Typing, two commands each, peak", Unit::PerSecond, "peak_messages_per_s × typing_per_message × 2");
    let leases = sheet.value("presence_leases") > 0.0;
    sheet.figure(
        "redis_commands_per_s",
        "Commands in all, peak",
        Unit::PerSecond,
        if leases {
            "presence_lease_commands_per_s + presence_changes_per_s + typing_commands_per_s"
        } else {
            "presence_commands_per_s + presence_changes_per_s + typing_commands_per_s"
        },
    );
    sheet.figure("redis_bytes", "Memory of keys", Unit::Bytes, "online_users × redis_online_bytes + offline_users × redis_offline_bytes");
    sheet.figure("redis_shards_by_commands", "Shards by commands", Unit::Count, "ceil(redis_commands_per_s / redis_ops_per_node)");
    sheet.figure("redis_shards_by_memory", "Shards by memory", Unit::Count, "ceil(redis_bytes / (redis_gb_per_node × 10^9))");
    sheet.bound(
        "redis_nodes",
        "Redis nodes",
        &[
            ("commands", "redis_shards_by_commands"),
            ("memory", "redis_shards_by_memory"),
        ],
    );
    sheet.figure("redis_shards", "Shards", Unit::Count, "max(redis_shards_by_commands, redis_shards_by_memory, 1)");
    sheet.figure("redis_nodes", "Redis nodes", Unit::Count, "redis_shards × (1 + redis_replicas)");
}

#[rustfmt::skip]
pub(super) fn push(sheet: &mut Sheet) {
    sheet.section(
        "Push notifications",
        "A recipient who is offline is told on each device. Above the quota, several messages have to share a push.",
    );
    sheet.figure("pushes_one_to_one_per_s", "If every message were 1:1, peak", Unit::PerSecond, "peak_messages_per_s × (1 − online_share)");
    sheet.figure("pushes_uncoalesced_per_s", "One for each message, recipient offline and device, peak", Unit::PerSecond, "peak_messages_per_s × mean_recipients × (1 − online_share) × devices_per_user");
    sheet.figure("pushes_per_s", "Pushes a second, peak", Unit::PerSecond, "pushes_uncoalesced_per_s / push_coalescing");
    sheet.figure("push_quota_share", "Of the provider's quota, all cells together", Unit::Share, "pushes_per_s × cells / push_quota_per_s");
    sheet.figure("push_coalescing_needed", "Messages that one push has to tell of to stay within it", Unit::Ratio, "max(pushes_uncoalesced_per_s × cells / push_quota_per_s, 1)");
}

#[rustfmt::skip]
pub(super) fn ingest(sheet: &mut Sheet) {
    sheet.section(
        "Ingest",
        "The tier between the logs; the API is beside it and is not counted.",
    );
    sheet.figure("ingest_cpu_cores", "CPU at the peak", Unit::Cores, "peak_messages_per_s × ingest_us_per_message / 10^6");
    sheet.figure("ingest_nodes", "Ingest nodes", Unit::Count, "ceil(ingest_cpu_cores / (ingest_cores × cpu_target)) + ingest_losses");
}
