//! Edge nodes: what binds their number, and their network cards.

use crate::capacity::input::InputError;
use crate::capacity::number::Unit;
use crate::capacity::sheet::Sheet;

#[rustfmt::skip]
pub(super) fn nodes(sheet: &mut Sheet) -> Result<(), InputError> {
    sheet.section(
        "Edge nodes",
        "Each bound says how many nodes carry the peak; the largest of them, and as many more as may be down, is what is needed.",
    );
    by_connections(sheet);
    by_cpu(sheet);
    by_nic(sheet)?;
    sheet.figure("edge_nodes_carrying", "Nodes that carry the peak", Unit::Count, "max(edge_nodes_by_connections, edge_nodes_by_memory, edge_nodes_by_cpu, edge_nodes_by_nic)");
    sheet.bound(
        "edge_nodes",
        "edge nodes",
        &[
            ("connections per node", "edge_nodes_by_connections"),
            ("memory", "edge_nodes_by_memory"),
            ("CPU", "edge_nodes_by_cpu"),
            ("network card", "edge_nodes_by_nic"),
        ],
    );
    sheet.figure("edge_nodes", "Edge nodes", Unit::Count, "edge_nodes_carrying + edge_losses");
    sheet.figure("sessions_per_node", "Connections of a node", Unit::Count, "sessions / edge_nodes");
    sheet.figure("sessions_per_node_after_loss", "Connections of a node after the losses", Unit::Count, "sessions / edge_nodes_carrying");
    sheet.figure("memory_per_node_after_loss_bytes", "Memory of a node then", Unit::Bytes, "sessions_per_node_after_loss × session_bytes + edge_fixed_gb × 10^9");
    sheet.figure("cpu_share_after_loss", "CPU of a node then", Unit::Share, "edge_cpu_cores / (edge_nodes_carrying × edge_cores)");
    sheet.figure("deliveries_per_s_core_after_loss", "Deliveries a second and core then", Unit::PerSecond, "deliveries_per_s / (edge_nodes_carrying × edge_cores)");
    Ok(())
}

#[rustfmt::skip]
fn by_connections(sheet: &mut Sheet) {
    sheet.figure("edge_nodes_by_connections", "By connections that a node is to hold", Unit::Count, "ceil(sessions / edge_connections_max)");
    sheet.figure("session_bytes", "Memory of a connection, user space and kernel", Unit::Bytes, "session_user_bytes + session_kernel_bytes");
    sheet.figure("sessions_by_memory", "Connections that a node's memory holds", Unit::Count, "(edge_ram_gb × memory_target − edge_fixed_gb) × 10^9 / session_bytes");
    sheet.figure("edge_nodes_by_memory", "By memory", Unit::Count, "ceil(sessions / sessions_by_memory)");
}

#[rustfmt::skip]
fn by_cpu(sheet: &mut Sheet) {
    sheet.figure("cpu_us_delivery", "CPU time of a further delivery of this size, µs", Unit::Ratio, "cpu_us_delivery_200 + (cpu_us_delivery_5k − cpu_us_delivery_200) × (max(message_bytes, 200) − 200) / 4800");
    sheet.figure("edge_cpu_messages_cores", "Messages with their first delivery", Unit::Cores, "peak_messages_per_s × cpu_us_one_to_one / 10^6");
    sheet.figure("edge_cpu_deliveries_cores", "Further deliveries", Unit::Cores, "max(deliveries_per_s − peak_messages_per_s, 0) × cpu_us_delivery / 10^6");
    sheet.figure("edge_cpu_idle_cores", "Heartbeats, receipts, and connects of ordinary life", Unit::Cores, "(heartbeats_per_s × cpu_us_heartbeat + receipts_per_s × cpu_us_receipt + connects_per_s × cpu_us_connect) / 10^6");
    sheet.figure("edge_cpu_cores", "CPU of all edge nodes at the peak", Unit::Cores, "edge_cpu_messages_cores + edge_cpu_deliveries_cores + edge_cpu_idle_cores");
    sheet.figure("edge_nodes_by_cpu", "By CPU", Unit::Count, "ceil(edge_cpu_cores / (edge_cores × cpu_target))");
}

/// What every node gets of each large message does not shrink with more nodes, so it may be that no number of them suffices.
#[rustfmt::skip]
fn by_nic(sheet: &mut Sheet) -> Result<(), InputError> {
    sheet.figure("nic_usable_bytes_per_s", "What a network card may carry, each way", Unit::BytesPerSecond, "edge_nic_gbit_per_s × 10^9 / 8 × nic_target");
    sheet.figure("bodies_per_node_max_bytes_per_s", "Bodies that reach each node, at most all of them once", Unit::BytesPerSecond, "peak_message_bytes_per_s × Σ[members > inline_members_max](share)");
    sheet.figure("edge_out_bytes_per_s", "Out of all edge nodes: deliveries, answers, produced messages", Unit::BytesPerSecond, "deliveries_per_s × (message_bytes + frame_overhead_bytes) + heartbeats_per_s × heartbeat_bytes + peak_message_bytes_per_s × (1 + 2 × frame_overhead_bytes / message_bytes)");
    sheet.figure("edge_in_bytes_per_s", "Into all: messages, heartbeats, delivery records (bodies apart)", Unit::BytesPerSecond, "peak_messages_per_s × (message_bytes + frame_overhead_bytes) + heartbeats_per_s × heartbeat_bytes + peak_messages_per_s × (Σ[members ≤ inline_members_max](share × (min(members, 65536) × (message_bytes + record_bytes) + members × recipient_bytes)) + Σ[members > inline_members_max](share × (min(members, 65536) × reference_record_bytes + members × recipient_bytes)))");
    let (bodies, usable) = (
        sheet.value("bodies_per_node_max_bytes_per_s"),
        sheet.value("nic_usable_bytes_per_s"),
    );
    if bodies >= usable * 0.95 {
        return Err(InputError::Impossible {
            what: format!(
                "no number of edge nodes suffices: the bodies of groups' messages alone are {} at every node, and a network \
                 card may carry {}",
                Unit::BytesPerSecond.show(bodies),
                Unit::BytesPerSecond.show(usable)
            ),
            way_out: "lower cell_users_max, or raise edge_nic_gbit_per_s or nic_target".to_owned(),
        });
    }
    sheet.figure("edge_nodes_by_nic", "By network card, the fuller way", Unit::Count, "ceil(max(edge_in_bytes_per_s / (nic_usable_bytes_per_s − bodies_per_node_max_bytes_per_s), edge_out_bytes_per_s / nic_usable_bytes_per_s))");
    Ok(())
}

#[rustfmt::skip]
pub(super) fn bandwidth(sheet: &mut Sheet) {
    sheet.section(
        "Bandwidth",
        "Of clients is what the internet link carries; a node's card carries the log too. Both at the peak.",
    );
    sheet.figure("client_in_bytes_per_s", "From clients", Unit::BytesPerSecond, "peak_messages_per_s × (message_bytes + frame_overhead_bytes) + heartbeats_per_s × heartbeat_bytes");
    sheet.figure("client_out_bytes_per_s", "To clients: deliveries, two answers to each Send, answers to heartbeats", Unit::BytesPerSecond, "deliveries_per_s × (message_bytes + frame_overhead_bytes) + peak_messages_per_s × 2 × frame_overhead_bytes + heartbeats_per_s × heartbeat_bytes");
    sheet.figure("client_in_gbit_per_s", "From clients, Gbit/s", Unit::Ratio, "client_in_bytes_per_s × 8 / 10^9");
    sheet.figure("client_out_gbit_per_s", "To clients, Gbit/s", Unit::Ratio, "client_out_bytes_per_s × 8 / 10^9");
    sheet.figure("node_in_share", "A node's card after the losses, in", Unit::Share, "(edge_in_bytes_per_s / edge_nodes_carrying + bodies_per_node_max_bytes_per_s) × 8 / 10^9 / edge_nic_gbit_per_s");
    sheet.figure("node_out_share", "A node's card after the losses, out", Unit::Share, "edge_out_bytes_per_s / edge_nodes_carrying × 8 / 10^9 / edge_nic_gbit_per_s");
}
