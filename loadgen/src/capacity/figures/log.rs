//! Kafka: delivery records, bytes, brokers, partitions.

use crate::capacity::number::Unit;
use crate::capacity::sheet::Sheet;

/// Partitions of delivery are a power of two, at most as many as there are slots.
const BY_RULE: &str =
    "min(max(pow2(partitions_per_core × edge_cores × edge_nodes), partitions_min), 65536)";

#[rustfmt::skip]
pub(super) fn records(sheet: &mut Sheet) {
    sheet.section(
        "Delivery records",
        "touched(n; g) = n × (1 − (1 − 1/n)^g): of n places, those that g members reach. reached(n; g; q) is the same where each of \
         them comes to these places with probability q.",
    );
    let given = sheet.value("partitions") > 0.0;
    sheet.figure(
        "delivery_partitions",
        "Partitions of delivery (P)",
        Unit::Count,
        if given { "partitions" } else { BY_RULE },
    );
    let one = sheet.value("cells") <= 1.0;
    if !one {
        sheet.figure("near_share", "Members of a chat who are in its cell", Unit::Share, "cell_affinity + (1 − cell_affinity) / cells");
        sheet.figure("far_share", "Members of a chat who are in a certain other cell", Unit::Share, "(1 − cell_affinity) / cells");
    }
    sheet.figure(
        "records_per_message",
        "Delivery records of a message, one for each partition touched",
        Unit::Ratio,
        if one {
            "Σ(share × touched(delivery_partitions, members))"
        } else {
            "Σ(share × (1 + reached(delivery_partitions, members − 1, near_share) × (1 − 1 / delivery_partitions) + (cells − 1) × reached(delivery_partitions, members − 1, far_share)))"
        },
    );
    sheet.figure("records_per_message_by_recipient", "The same with one for each recipient", Unit::Ratio, "Σ(share × members)");
    sheet.figure("records_per_message_by_node", "The same with one for each node of a cell", Unit::Ratio, "Σ(share × touched(edge_nodes, members))");
    sheet.figure(
        "inline_records_per_message",
        "Of the records, those with the message in them",
        Unit::Ratio,
        if one {
            "Σ[members ≤ inline_members_max](share × touched(delivery_partitions, members))"
        } else {
            "Σ[members ≤ inline_members_max](share × (1 + reached(delivery_partitions, members − 1, near_share) × (1 − 1 / delivery_partitions) + (cells − 1) × reached(delivery_partitions, members − 1, far_share)))"
        },
    );
    sheet.figure("delivery_records_per_s", "Delivery records a second, peak", Unit::PerSecond, "peak_messages_per_s × records_per_message");
    sheet.figure("lanes", "Lanes of bodies", Unit::Count, "min(edge_nodes, 16)");
    sheet.figure(
        "bodies_per_message",
        "Bodies sent over lanes, for a message",
        Unit::Ratio,
        if one {
            "Σ[members > inline_members_max](share × touched(lanes, members))"
        } else {
            "Σ[members > inline_members_max](share × (1 + reached(lanes, members − 1, near_share) × (1 − 1 / lanes) + (cells − 1) × reached(lanes, members − 1, far_share)))"
        },
    );
}

#[rustfmt::skip]
pub(super) fn bytes(sheet: &mut Sheet) {
    sheet.section(
        "Kafka: bytes",
        "Replicated writes are what brokers write in all. chat-messages and delivery are kept, bodies go after a minute.",
    );
    sheet.figure("chat_log_bytes_per_s", "chat-messages, peak", Unit::BytesPerSecond, "peak_message_bytes_per_s × log_compression");
    sheet.figure("delivery_bytes_per_message_all_inline", "delivery with the message in every record, for a message", Unit::Bytes, "records_per_message × (message_bytes × log_compression + record_bytes) + recipient_bytes × Σ[members ≤ listed_members_max](share × members)");
    sheet.figure("delivery_all_inline_bytes_per_s", "delivery with the message in every record, peak", Unit::BytesPerSecond, "peak_messages_per_s × delivery_bytes_per_message_all_inline");
    sheet.figure("delivery_bytes_per_message", "delivery with references where they are used, for a message", Unit::Bytes, "inline_records_per_message × (message_bytes × log_compression + record_bytes) + (records_per_message − inline_records_per_message) × reference_record_bytes + recipient_bytes × Σ[members ≤ listed_members_max](share × members)");
    sheet.figure("delivery_bytes_per_s", "delivery with references where they are used, peak", Unit::BytesPerSecond, "peak_messages_per_s × delivery_bytes_per_message");
    sheet.figure("bodies_bytes_per_s", "bodies, peak", Unit::BytesPerSecond, "peak_messages_per_s × bodies_per_message × message_bytes × log_compression");
    let one = sheet.value("cells") <= 1.0;
    if !one {
        sheet.figure("intercell_in_bytes_per_s", "Messages from other cells, peak", Unit::BytesPerSecond, "peak_message_bytes_per_s × log_compression × (cells − 1) × Σ(share × (1 − (1 − far_share)^(members − 1)))");
    }
    sheet.figure(
        "log_bytes_per_s",
        "All of these, peak",
        Unit::BytesPerSecond,
        if one {
            "chat_log_bytes_per_s + delivery_bytes_per_s + bodies_bytes_per_s"
        } else {
            "chat_log_bytes_per_s + delivery_bytes_per_s + bodies_bytes_per_s + intercell_in_bytes_per_s"
        },
    );
    sheet.figure("chat_log_replicated_bytes_per_s", "chat-messages with its copies, peak", Unit::BytesPerSecond, "chat_log_bytes_per_s × log_replication");
    sheet.figure("log_replicated_bytes_per_s", "Everything with its copies, peak", Unit::BytesPerSecond, "log_bytes_per_s × log_replication");
    sheet.figure("chat_log_disk_bytes", "Disk of chat-messages", Unit::Bytes, "message_bytes_per_day × log_compression × log_retention_days × log_replication");
    sheet.figure("delivery_disk_bytes", "Disk of delivery", Unit::Bytes, "messages_per_day × delivery_bytes_per_message × delivery_retention_days × log_replication");
    if !one {
        sheet.figure("intercell_disk_bytes", "Disk of messages from other cells", Unit::Bytes, "intercell_in_bytes_per_s / peak_factor × 86400 × delivery_retention_days × log_replication");
    }
}

#[rustfmt::skip]
pub(super) fn brokers(sheet: &mut Sheet) {
    sheet.section(
        "Kafka: brokers and partitions",
        "A broker's traffic is what it writes, what followers read of it, and what consumers read of it.",
    );
    let one = sheet.value("cells") <= 1.0;
    sheet.figure("brokers_by_write_chat_only", "By writes, if there were chat-messages alone", Unit::Count, "ceil(chat_log_replicated_bytes_per_s / (broker_write_mb_per_s × 10^6))");
    sheet.figure("brokers_by_traffic_chat_only", "By traffic, if there were chat-messages alone", Unit::Count, "ceil(chat_log_bytes_per_s × (2 × log_replication − 1 + log_consumer_groups) / (broker_traffic_mb_per_s × 10^6))");
    sheet.figure("brokers_by_write", "By writes", Unit::Count, "ceil(log_replicated_bytes_per_s / (broker_write_mb_per_s × 10^6))");
    sheet.figure(
        "log_traffic_bytes_per_s",
        "Traffic of all brokers, peak",
        Unit::BytesPerSecond,
        if one {
            "log_bytes_per_s × (2 × log_replication − 1) + chat_log_bytes_per_s × log_consumer_groups + delivery_bytes_per_s × delivery_consumer_groups + bodies_bytes_per_s × edge_nodes / lanes"
        } else {
            "log_bytes_per_s × (2 × log_replication − 1) + chat_log_bytes_per_s × log_consumer_groups + delivery_bytes_per_s × delivery_consumer_groups + bodies_bytes_per_s × edge_nodes / lanes + intercell_in_bytes_per_s"
        },
    );
    sheet.figure("brokers_by_traffic", "By traffic: writes, replication, consumers", Unit::Count, "ceil(log_traffic_bytes_per_s / (broker_traffic_mb_per_s × 10^6))");
    sheet.figure(
        "log_disk_bytes",
        "Disk of all brokers",
        Unit::Bytes,
        if one {
            "chat_log_disk_bytes + delivery_disk_bytes"
        } else {
            "chat_log_disk_bytes + delivery_disk_bytes + intercell_disk_bytes"
        },
    );
    sheet.figure("brokers_by_disk", "By disk", Unit::Count, "ceil(log_disk_bytes / (broker_disk_tb × 10^12 × broker_disk_share))");
    sheet.bound(
        "brokers",
        "brokers",
        &[
            ("writes", "brokers_by_write"),
            ("traffic", "brokers_by_traffic"),
            ("disk", "brokers_by_disk"),
            ("copies", "log_replication"),
        ],
    );
    sheet.figure("brokers", "Brokers", Unit::Count, "max(brokers_by_write, brokers_by_traffic, brokers_by_disk, log_replication) + broker_losses");
    sheet.figure("chat_partitions", "Partitions of chat-messages", Unit::Count, "min(pow2(peak_message_bytes_per_s / (chat_partition_mb_per_s × 10^6)), 65536)");
    sheet.figure("replicas_per_broker", "Partitions' copies on a broker (with cursors and typing)", Unit::Count, "ceil((chat_partitions + 3 × delivery_partitions) × log_replication / brokers)");
}
