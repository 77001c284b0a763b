//! What a loss costs, and how long it takes until all is as before.

use crate::capacity::number::Unit;
use crate::capacity::sheet::Sheet;

#[rustfmt::skip]
pub(super) fn blast(sheet: &mut Sheet) {
    sheet.section("Blast radius", "Whose sessions end when something is lost.");
    sheet.figure("blast_node_sessions", "Sessions of a node", Unit::Count, "sessions / edge_nodes");
    sheet.figure("blast_node_share", "A node is lost: of all users", Unit::Share, "1 / (edge_nodes × cells)");
    sheet.figure("blast_cell_share", "A cell is lost: of all users", Unit::Share, "1 / cells");
    sheet.figure("blast_cell_users", "A cell is lost: daily users", Unit::Count, "cell_users");
}

#[rustfmt::skip]
pub(super) fn storms(sheet: &mut Sheet) {
    sheet.section(
        "Reconnects",
        "How fast sessions come back: bound by CPU of TLS handshakes or by the configured pace, a tenth more, and the first pause. \
         Required rates are what the wanted times need of each core.",
    );
    sheet.figure("others", "Nodes that take over from one", Unit::Count, "max(edge_nodes − 1, 1)");
    sheet.figure("handshakes_per_s_core_by_cpu", "Connects that a core's CPU allows", Unit::PerSecond, "handshake_cpu_share × 10^6 / cpu_us_connect");
    sheet.figure("connects_per_s_core", "Connects of a core: that, or the pace if it is less", Unit::PerSecond, "min(handshakes_per_s_core_by_cpu, accepts_per_s_core)");
    sheet.figure("required_one_per_s_core", "Required of a core after the loss of a node", Unit::PerSecond, "sessions / edge_nodes / (others × edge_cores × reconnect_one_s)");
    sheet.figure("required_all_per_s_core", "Required of a core when everybody is cut off", Unit::PerSecond, "sessions / (edge_nodes × edge_cores × reconnect_all_s)");
    sheet.figure("reconnect_one_by_cpu_s", "A node is lost: by CPU of TLS handshakes", Unit::Seconds, "1.1 × sessions / edge_nodes / (others × edge_cores × handshakes_per_s_core_by_cpu)");
    sheet.figure("reconnect_one_by_pace_s", "A node is lost: by the configured pace", Unit::Seconds, "1.1 × sessions / edge_nodes / (others × edge_cores × accepts_per_s_core)");
    sheet.figure("reconnect_one_node_s", "A node is lost: all of its sessions are back after", Unit::Seconds, "max(reconnect_one_by_cpu_s, reconnect_one_by_pace_s) + backoff_s");
    sheet.figure("reconnect_all_by_cpu_s", "Everybody is cut off: by CPU of TLS handshakes", Unit::Seconds, "1.1 × sessions / (edge_nodes × edge_cores × handshakes_per_s_core_by_cpu)");
    sheet.figure("reconnect_all_by_pace_s", "Everybody is cut off: by the configured pace", Unit::Seconds, "1.1 × sessions / (edge_nodes × edge_cores × accepts_per_s_core)");
    sheet.figure("reconnect_everybody_s", "Everybody is cut off: all are back after", Unit::Seconds, "max(reconnect_all_by_cpu_s, reconnect_all_by_pace_s) + backoff_s");
    sheet.figure("reconnect_everybody_fresh_s", "The same if nobody can resume, so that history is read", Unit::Seconds, "max(1.1 × sessions / edge_nodes / fresh_per_s_node + backoff_s, reconnect_everybody_s)");
    for (figure, by_cpu, by_pace) in [
        (
            "reconnect_one_node_s",
            "reconnect_one_by_cpu_s",
            "reconnect_one_by_pace_s",
        ),
        (
            "reconnect_everybody_s",
            "reconnect_all_by_cpu_s",
            "reconnect_all_by_pace_s",
        ),
    ] {
        let candidates = [
            ("CPU of TLS handshakes", by_cpu),
            ("the configured pace", by_pace),
        ];
        sheet.bound(figure, "reconnects", &candidates);
    }
}

#[rustfmt::skip]
pub(super) fn drain(sheet: &mut Sheet) {
    sheet.section(
        "Drain and rolling restart",
        "A draining node gives each session a moment of its own within the first 56 % of node.drain_ms (docs/running.md); the others \
         must be able to take them.",
    );
    sheet.figure("drain_time_s", "A node's sessions are elsewhere after", Unit::Seconds, "max(drain_window_s, sessions / edge_nodes / (others × edge_cores × connects_per_s_core))");
    sheet.figure("drain_rate_per_s_core", "Sessions that a core of the others takes a second", Unit::PerSecond, "sessions / edge_nodes / (others × edge_cores × drain_time_s)");
    sheet.figure("drain_ms", "node.drain_ms for that", Unit::Milliseconds, "ceil(drain_time_s × 1000 / 0.56)");
    sheet.figure("rolling_restart_s", "All nodes of a cell restarted, one after the other", Unit::Seconds, "edge_nodes × (drain_time_s + restart_s)");
}
