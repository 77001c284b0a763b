//! A plan for people and programs: text, JSON, Markdown, and a page to print.

pub mod html;
pub mod json;
pub mod markdown;
pub mod text;

use super::Plan;
use super::number::plain;

/// A line of what is to be bought.
#[derive(Debug, Clone, PartialEq)]
pub struct Need {
    /// Edge nodes, brokers ..
    pub what: &'static str,
    /// How many a cell has.
    pub per_cell: f64,
    /// How many there are in all.
    pub total: f64,
    /// One of them.
    pub each: String,
    /// What binds their number.
    pub bound: String,
}

/// What is to be bought.
#[must_use]
pub fn needs(plan: &Plan) -> Vec<Need> {
    let of = |name: &str| plain(plan.input.value(name));
    let spare = |name: &str| match plan.input.value(name) {
        n if n > 0.0 => format!(", {} of them may be down", plain(n)),
        _ => String::new(),
    };
    let bound = |figure: &str| {
        let bound = plan.bound(figure);
        bound.map_or_else(String::new, |bound| format!("bound by {}", bound.words))
    };
    let need = |what, figure: &str, each: String, bound: String| Need {
        what,
        per_cell: plan.value(figure),
        total: plan.value(&format!("total_{figure}")),
        each,
        bound,
    };
    let edge = format!(
        "{} cores, {} GB, {} Gbit/s",
        of("edge_cores"),
        of("edge_ram_gb"),
        of("edge_nic_gbit_per_s")
    );
    let replicas = match plan.input.value("redis_replicas") {
        n if n > 0.0 => format!(", {} of each shard's a replica", plain(n)),
        _ => String::new(),
    };
    vec![
        need(
            "Edge nodes",
            "edge_nodes",
            edge,
            bound("edge_nodes") + &spare("edge_losses"),
        ),
        need(
            "Ingest nodes",
            "ingest_nodes",
            format!("{} cores", of("ingest_cores")),
            "bound by CPU".to_owned() + &spare("ingest_losses"),
        ),
        need(
            "Kafka brokers",
            "brokers",
            format!(
                "{} TB of disk, {} MB/s of writes",
                of("broker_disk_tb"),
                of("broker_write_mb_per_s")
            ),
            bound("brokers") + &spare("broker_losses"),
        ),
        need(
            "Cassandra nodes",
            "store_nodes",
            format!(
                "{} TB of live data, {} writes/s",
                of("store_tb_per_node"),
                of("store_writes_per_node")
            ),
            bound("store_nodes"),
        ),
        need(
            "Redis nodes",
            "redis_nodes",
            format!(
                "{} GB, {} commands/s",
                of("redis_gb_per_node"),
                of("redis_ops_per_node")
            ),
            bound("redis_nodes") + &replicas,
        ),
    ]
}

/// First line of every form.
#[must_use]
pub fn title(plan: &Plan) -> String {
    let cells = plan.value("cells");
    let cells = if cells > 1.0 {
        format!(" in {} cells", plain(cells))
    } else {
        String::new()
    };
    format!(
        "Capacity plan: {} daily users{cells}, {} online at the peak",
        plain(plan.input.value("users")),
        plain(plan.value("online_users") * plan.value("cells"))
    )
}

/// What a preset's design says, beside the plan: what, its words, the plan's, why.
#[must_use]
pub fn compared(plan: &Plan) -> Vec<[String; 4]> {
    let said = plan.preset.map_or(&[][..], |preset| preset.said);
    said.iter()
        .map(|said| {
            let shown: Vec<&str> = said.figures.iter().map(|name| plan.shown(name)).collect();
            [
                said.what.to_owned(),
                said.said.to_owned(),
                shown.join("; "),
                said.why.to_owned(),
            ]
        })
        .collect()
}
