//! Between cells, and all of them together.

use crate::capacity::number::Unit;
use crate::capacity::sheet::Sheet;

#[rustfmt::skip]
pub(super) fn intercell(sheet: &mut Sheet) {
    sheet.section(
        "Between cells",
        "A message is in the log and the store of its chat's cell, and goes once to each other cell where a member is.",
    );
    sheet.figure("intercell_copies_per_message", "Other cells that a message goes to, mean", Unit::Ratio, "(cells − 1) × Σ(share × (1 − (1 − far_share)^(members − 1)))");
    sheet.figure("intercell_bytes_per_s", "Between all cells, peak", Unit::BytesPerSecond, "cells × peak_message_bytes_per_s × intercell_copies_per_message");
    sheet.figure("intercell_gbit_per_s_cell", "Of one cell, each way, Gbit/s", Unit::Ratio, "intercell_bytes_per_s / cells × 8 / 10^9");
}

#[rustfmt::skip]
pub(super) fn totals(sheet: &mut Sheet) {
    sheet.section("All cells together", "");
    let all: [(&str, &str, Unit, &str); 17] = [
        ("total_messages_per_day", "Messages a day", Unit::PerDay, "messages_per_day × cells"),
        ("total_message_bytes_per_day", "Their bytes a day", Unit::BytesPerDay, "message_bytes_per_day × cells"),
        ("total_peak_messages_per_s", "Messages a second, peak", Unit::PerSecond, "peak_messages_per_s × cells"),
        ("total_peak_message_bytes_per_s", "Their bytes a second, peak", Unit::BytesPerSecond, "peak_message_bytes_per_s × cells"),
        ("total_chat_log_replicated_bytes_per_s", "chat-messages with its copies, peak", Unit::BytesPerSecond, "chat_log_replicated_bytes_per_s × cells"),
        ("total_log_disk_bytes", "Disk of Kafka", Unit::Bytes, "log_disk_bytes × cells"),
        ("total_chat_log_disk_bytes", "Of it, chat-messages", Unit::Bytes, "chat_log_disk_bytes × cells"),
        ("total_store_bytes", "Cassandra, copies included", Unit::Bytes, "store_bytes × cells"),
        ("total_sessions", "Connections at the peak", Unit::Count, "sessions × cells"),
        ("total_deliveries_per_s", "Deliveries to sockets, peak", Unit::PerSecond, "deliveries_per_s × cells"),
        ("total_pushes_per_s", "Pushes a second, peak", Unit::PerSecond, "pushes_per_s × cells"),
        ("total_delivery_partitions", "Partitions of delivery", Unit::Count, "delivery_partitions × cells"),
        ("total_edge_nodes", "Edge nodes", Unit::Count, "edge_nodes × cells"),
        ("total_ingest_nodes", "Ingest nodes", Unit::Count, "ingest_nodes × cells"),
        ("total_brokers", "Brokers", Unit::Count, "brokers × cells"),
        ("total_store_nodes", "Cassandra nodes", Unit::Count, "store_nodes × cells"),
        ("total_redis_nodes", "Redis nodes", Unit::Count, "redis_nodes × cells"),
    ];
    for (name, title, unit, formula) in all {
        sheet.figure(name, title, unit, formula);
    }
}
