//! What does not go, and what has to be set: said in words, so that nobody has to find it among the figures.

use serde::Serialize;

use super::number::plain;
use super::sheet::Sheet;

/// How grave it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Something that was wanted does not hold with this plan.
    Short,
    /// To be known or set.
    Note,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How grave.
    pub level: Level,
    /// In words, with the keys to turn.
    pub text: String,
}

/// Copies of partitions on a broker that are still well.
const REPLICAS_MAX: f64 = 4_000.0;
/// Highest `node.drain_ms`.
const DRAIN_MS_MAX: f64 = 600_000.0;
/// Default of `node.max_sessions`.
const MAX_SESSIONS_DEFAULT: f64 = 100_000.0;

/// Looks over what was calculated.
#[must_use]
pub fn judge(sheet: &Sheet) -> Vec<Finding> {
    let mut found = Vec::new();
    shortfalls(sheet, &mut found);
    safety(sheet, &mut found);
    settings(sheet, &mut found);
    found.sort_by_key(|finding| finding.level);
    found
}

fn say(found: &mut Vec<Finding>, level: Level, text: String) {
    found.push(Finding { level, text });
}

fn shortfalls(sheet: &Sheet, found: &mut Vec<Finding>) {
    let (value, words) = (
        |name: &str| sheet.value(name),
        |name: &str| sheet.words(name),
    );
    if value("push_quota_share") > 1.0 {
        say(
            found,
            Level::Short,
            format!(
                "Pushes at the peak are {}/s, the provider takes {}/s: one push has to tell of {} messages in the mean \
                 (push_coalescing), or a higher quota is needed.",
                plain((value("pushes_per_s") * value("cells")).round()),
                words("push_quota_per_s"),
                words("push_coalescing_needed")
            ),
        );
    }
    let storms = [
        (
            "the sessions of a lost node",
            "reconnect_one_node_s",
            "reconnect_one_s",
        ),
        ("all sessions", "reconnect_everybody_s", "reconnect_all_s"),
    ];
    for (who, takes, wanted) in storms {
        if value(takes) > value(wanted) {
            say(
                found,
                Level::Short,
                format!(
                    "When {who} come back it takes {} s, and {} s are wanted ({wanted}): more cores, a higher accepts_per_s_core, or \
                     cheaper handshakes.",
                    words(takes),
                    words(wanted)
                ),
            );
        }
    }
    let rule = value("partitions_per_core") * value("edge_cores") * value("edge_nodes");
    if value("delivery_partitions") < rule {
        say(
            found,
            Level::Short,
            format!(
                "{} partitions of delivery are fewer than {} for each core: cores will be loaded unevenly. Raise partitions, or lower \
                 cell_users_max.",
                words("delivery_partitions"),
                words("partitions_per_core")
            ),
        );
    }
    if value("replicas_per_broker") > REPLICAS_MAX {
        say(
            found,
            Level::Short,
            format!(
                "{} copies of partitions on a broker are more than {REPLICAS_MAX}: brokers take long to fail over. More brokers, or \
                 smaller cells.",
                words("replicas_per_broker")
            ),
        );
    }
    let chat = value("peak_message_bytes_per_s") / (value("chat_partition_mb_per_s") * 1e6);
    if chat > value("chat_partitions") {
        let text = "chat-messages needs more than 65,536 partitions at chat_partition_mb_per_s: smaller cells.";
        say(found, Level::Short, text.to_owned());
    }
}

fn safety(sheet: &Sheet, found: &mut Vec<Finding>) {
    for (name, what) in [
        (
            "log_replication",
            "of a topic: an acknowledged message can be lost with one broker",
        ),
        (
            "store_replication",
            "of a row: one Cassandra node down stops quorum writes, or loses rows",
        ),
    ] {
        if sheet.value(name) < 3.0 {
            let text = format!(
                "{name} = {}: fewer than three copies {what}.",
                sheet.words(name)
            );
            say(found, Level::Short, text);
        }
    }
    for (name, what) in [
        ("edge_losses", "edge node"),
        ("broker_losses", "broker"),
        ("ingest_losses", "ingest node"),
    ] {
        if sheet.value(name) < 1.0 {
            let text =
                format!("{name} = 0: with one {what} down, the rest does not carry the peak.");
            say(found, Level::Short, text);
        }
    }
}

fn settings(sheet: &Sheet, found: &mut Vec<Finding>) {
    let (value, words) = (
        |name: &str| sheet.value(name),
        |name: &str| sheet.words(name),
    );
    if value("sessions_per_node_after_loss") > MAX_SESSIONS_DEFAULT {
        say(
            found,
            Level::Note,
            format!(
                "Set node.max_sessions of the gateways to {} at least (default 100,000), the limit of open files likewise.",
                words("sessions_per_node_after_loss")
            ),
        );
    }
    if value("drain_ms") > DRAIN_MS_MAX {
        let text =
            "node.drain_ms is at most 600,000: a drained node closes what has not moved by then.";
        say(found, Level::Short, text.to_owned());
    } else {
        let text = format!(
            "Set node.drain_ms of the gateways to {}.",
            words("drain_ms")
        );
        say(found, Level::Note, text);
    }
    if value("reconnect_everybody_fresh_s") > value("reconnect_all_s") {
        say(
            found,
            Level::Note,
            format!(
                "Where nobody can resume (the log is lost), all are back after {} s, as limits.fresh_per_second has it: it keeps the \
                 store from being read by all at once.",
                words("reconnect_everybody_fresh_s")
            ),
        );
    }
    if value("edge_nodes") > 16.0 {
        let text = "Beyond 16 edge nodes in a cell, lanes of bodies are shared: a node reads large messages that it does not need.";
        say(found, Level::Note, text.to_owned());
    }
    let pairs =
        value("inline_records_per_message") * value("message_bytes") * value("log_compression");
    let part = pairs / value("delivery_bytes_per_message");
    if value("inline_members_max") < 3.0 && part > 0.5 {
        say(
            found,
            Level::Note,
            format!(
                "{:.0} % of what delivery holds are messages of 1:1 chats, which are in two records each: they touch two partitions, and \
                 references begin at three.",
                part * 100.0
            ),
        );
    }
}
