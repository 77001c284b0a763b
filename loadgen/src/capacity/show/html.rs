//! A page to print: what is needed, why, and every figure with its formula.

use super::{compared, needs, title};
use crate::capacity::Plan;
use crate::capacity::findings::Level;
use crate::capacity::formula::reached;
use crate::capacity::input::Origin;
use crate::capacity::keys::{self, SECTIONS};
use crate::capacity::number::plain;
use crate::page::plot::{self, Axis, Drawing, Series};
use crate::page::{Cell, Page};

/// Sizes of the plot of nodes over users.
const SIZES: i32 = 48;

/// The plan as one HTML file.
#[must_use]
pub fn html(plan: &Plan) -> String {
    let mut page = Page::new(&title(plan));
    page.paragraph(&format!(
        "Made by hawser-loadgen {} plan. Every number below is calculated from the values at the end by the formula beside it; units \
         are decimal (1 GB is a thousand million bytes).",
        env!("CARGO_PKG_VERSION")
    ));
    page.heading("What is needed");
    let cells = plan.value("cells") > 1.0;
    let mut columns = vec![("", Cell::Text), ("in all", Cell::Number)];
    if cells {
        columns.push(("a cell", Cell::Number));
    }
    columns.extend([("each", Cell::Text), ("", Cell::Text)]);
    let rows: Vec<Vec<String>> = needs(plan)
        .into_iter()
        .map(|need| {
            let cell = cells.then(|| plain(need.per_cell));
            let counts = [need.what.to_owned(), plain(need.total)]
                .into_iter()
                .chain(cell);
            counts.chain([need.each, need.bound]).collect()
        })
        .collect();
    page.table(&columns, &rows);
    headlines(plan, &mut page);
    if !plan.findings.is_empty() {
        page.heading("To be known");
        let lines = plan.findings.iter();
        page.list(lines.map(|finding| (finding.level == Level::Short, finding.text.as_str())));
    }
    page.heading("What binds, and how it grows");
    page.drawings(&drawings(plan));
    beside_the_design(plan, &mut page);
    for section in &plan.sections {
        page.heading(section.title);
        page.paragraph(section.note);
        let columns = [
            ("", Cell::Text),
            ("", Cell::Number),
            ("formula", Cell::Code),
            ("with numbers", Cell::Code),
        ];
        let rows: Vec<Vec<String>> = section
            .figures
            .iter()
            .map(|figure| {
                let formula = format!("{} = {}", figure.name, figure.formula);
                vec![
                    figure.title.to_owned(),
                    figure.shown.clone(),
                    formula,
                    figure.filled.clone(),
                ]
            })
            .collect();
        page.table(&columns, &rows);
    }
    values(plan, &mut page);
    page.finish()
}

/// What one asks first.
fn headlines(plan: &Plan, page: &mut Page) {
    let line = |words: &str, names: &[&str]| {
        let shown: Vec<&str> = names.iter().map(|name| plan.shown(name)).collect();
        vec![words.to_owned(), shown.join(" / ")]
    };
    let rows = [
        line(
            "Messages a day, and a second at the peak",
            &["total_messages_per_day", "total_peak_messages_per_s"],
        ),
        line(
            "Connections of a node: all nodes up / after the losses",
            &["sessions_per_node", "sessions_per_node_after_loss"],
        ),
        line(
            "Of all users, those of one node / of one cell",
            &["blast_node_share", "blast_cell_share"],
        ),
        line(
            "All back after a node is lost / everybody is cut off",
            &["reconnect_one_node_s", "reconnect_everybody_s"],
        ),
        line(
            "A node is drained / all nodes of a cell are restarted",
            &["drain_time_s", "rolling_restart_s"],
        ),
        line(
            "From clients / to clients at the peak, a cell",
            &["client_in_bytes_per_s", "client_out_bytes_per_s"],
        ),
        line(
            "Pushes at the peak, a cell / of the provider's quota",
            &["pushes_per_s", "push_quota_share"],
        ),
        line(
            "Disk in all: Kafka / Cassandra",
            &["total_log_disk_bytes", "total_store_bytes"],
        ),
    ];
    page.table(&[("in short", Cell::Text), ("", Cell::Number)], &rows);
}

fn beside_the_design(plan: &Plan, page: &mut Page) {
    let said = compared(plan);
    if said.is_empty() {
        return;
    }
    page.heading("Beside the original design");
    let columns = [
        ("", Cell::Text),
        ("the original design", Cell::Text),
        ("this plan", Cell::Text),
        ("why", Cell::Text),
    ];
    page.table(
        &columns,
        &said.into_iter().map(Vec::from).collect::<Vec<_>>(),
    );
}

fn values(plan: &Plan, page: &mut Page) {
    page.heading("What this is calculated with");
    page.paragraph("Values that were given stand beside where they are from; the others are defaults, with where those are from.");
    let columns = [
        ("", Cell::Text),
        ("", Cell::Number),
        ("key", Cell::Code),
        ("from", Cell::Text),
    ];
    let (classes, mix_from) = plan.input.mix();
    let mut rows: Vec<Vec<String>> = classes
        .iter()
        .map(|class| {
            let what = format!(
                "Share of messages to chats of {} members",
                plain(class.members)
            );
            vec![what, plain(class.share), "mix".to_owned(), mix_from.words()]
        })
        .collect();
    for (section, _) in SECTIONS {
        for key in keys::all().filter(|key| key.section == section) {
            let from = match plan.input.origin(key) {
                Origin::Default => key.source.to_owned(),
                given => given.words(),
            };
            let value = plain(plan.input.value(key.name));
            let value = match key.unit {
                "share" | "0 or 1" | "times" => value,
                unit => format!("{value} {unit}"),
            };
            let path = format!("{section}.{}", key.name);
            rows.push(vec![key.meaning.to_owned(), value, path, from]);
        }
    }
    page.table(&columns, &rows);
}

fn drawings(plan: &Plan) -> Vec<(Drawing, &'static str)> {
    let mut all = Vec::new();
    for (figure, axis, heading) in [
        (
            "edge_nodes",
            "nodes of a cell",
            "Edge nodes that carry the peak, by bound",
        ),
        ("brokers", "brokers of a cell", "Kafka brokers, by bound"),
        (
            "store_nodes",
            "nodes of a cell",
            "Cassandra nodes, by bound",
        ),
        ("redis_nodes", "shards of a cell", "Redis shards, by bound"),
    ] {
        let Some(bound) = plan.bound(figure) else {
            continue;
        };
        let rows: Vec<(&str, f64)> = bound
            .candidates
            .iter()
            .map(|one| (one.words, one.value))
            .collect();
        all.push((
            plot::bars(heading, axis, &rows, &short),
            "The longest bar binds; those that may be down, and replicas, come on top.",
        ));
    }
    all.push((
        over_users(plan),
        "The same values with other numbers of users, all cells together; steps are whole nodes and new cells.",
    ));
    all.push((
        records(plan),
        "A message to a group is as many delivery records as partitions are touched; with as many as members, groups would not pay.",
    ));
    all.push((
        back_after(plan),
        "Their sessions come back to those that are left, at the pace of this plan.",
    ));
    all.push((
        pushes(plan),
        "How many messages one push has to tell of until the provider takes them all, all cells together.",
    ));
    all
}

/// How the numbers of nodes grow with users.
fn over_users(plan: &Plan) -> Drawing {
    let users = plan.input.value("users");
    let (low, high) = ((users / 20.0).max(1.0), (users * 10.0).min(1e10));
    let kinds = [
        ("edge nodes", "total_edge_nodes"),
        ("Kafka brokers", "total_brokers"),
        ("Cassandra nodes", "total_store_nodes"),
        ("Redis nodes", "total_redis_nodes"),
    ];
    let mut series: Vec<Series> = kinds
        .iter()
        .map(|(name, _)| Series {
            name: (*name).to_owned(),
            points: Vec::new(),
        })
        .collect();
    for step in 0..=SIZES {
        let at = (low * (high / low).powf(f64::from(step) / f64::from(SIZES))).round();
        let mut input = plan.input.clone();
        let other = input
            .set("users", at, Origin::Default)
            .and_then(|()| Plan::new(input, None));
        // Beyond what can be planned with these values a line ends.
        let Ok(other) = other else { break };
        for (line, (_, name)) in series.iter_mut().zip(kinds) {
            line.points.push((at, other.value(name)));
        }
    }
    let (x, y) = (axis("daily users", true), axis("nodes, all cells", true));
    plot::lines("Nodes by daily users", x, y, &series, &short)
}

fn records(plan: &Plan) -> Drawing {
    let (partitions, nodes) = (plan.value("delivery_partitions"), plan.value("edge_nodes"));
    let sizes: Vec<f64> = (0..=60)
        .map(|step| 2.0 * 5_000_f64.powf(f64::from(step) / 60.0))
        .collect();
    let line = |name: String, of: &dyn Fn(f64) -> f64| Series {
        name,
        points: sizes.iter().map(|g| (*g, of(*g))).collect(),
    };
    let series = [
        line("one for each recipient".to_owned(), &|g| g),
        line(
            format!(
                "one for each of {} partitions touched (as it is)",
                plain(partitions)
            ),
            &|g| reached(partitions, g, 1.0),
        ),
        line(
            format!("one for each of {} nodes touched", plain(nodes)),
            &|g| reached(nodes, g, 1.0),
        ),
    ];
    let (x, y) = (
        axis("members of the group", true),
        axis("delivery records per message", true),
    );
    plot::lines("Delivery records of a message", x, y, &series, &short)
}

/// Until all are back, over how many nodes are lost at once.
fn back_after(plan: &Plan) -> Drawing {
    let of = |name: &str| plan.input.value(name);
    let (nodes, cores) = (plan.value("edge_nodes"), of("edge_cores"));
    let (sessions, backoff) = (plan.value("sessions"), of("backoff_s"));
    let half = (nodes / 2.0).floor().max(1.0);
    let line = |name: &str, rate: f64| Series {
        name: name.to_owned(),
        points: (1..=40)
            .map(|step| (half * f64::from(step) / 40.0).max(1.0).round())
            .map(|lost| {
                let left = (nodes - lost).max(1.0);
                (
                    lost,
                    1.1 * sessions * lost / nodes / (left * cores * rate) + backoff,
                )
            })
            .collect(),
    };
    let series = [
        line(
            "by CPU of TLS handshakes",
            plan.value("handshakes_per_s_core_by_cpu"),
        ),
        line("by the configured pace", of("accepts_per_s_core")),
    ];
    let (x, y) = (
        axis("edge nodes of a cell lost at once", false),
        axis("seconds until all are back", false),
    );
    plot::lines("Time until all are back", x, y, &series, &short)
}

/// Pushes over how many messages each tells of, beside the quota.
fn pushes(plan: &Plan) -> Drawing {
    let all = plan.value("pushes_uncoalesced_per_s") * plan.value("cells");
    let quota = plan.input.value("push_quota_per_s");
    let most = (plan.value("push_coalescing_needed") * 4.0).max(10.0);
    let line = |name: &str, of: &dyn Fn(f64) -> f64| Series {
        name: name.to_owned(),
        points: (0..=40)
            .map(|step| most.powf(f64::from(step) / 40.0))
            .map(|messages| (messages, of(messages)))
            .collect(),
    };
    let series = [
        line("pushes at the peak", &|messages| all / messages),
        line("the provider's quota", &|_| quota),
    ];
    let (x, y) = (
        axis("messages that one push tells of", true),
        axis("pushes per second", true),
    );
    plot::lines("Pushes, and what the provider takes", x, y, &series, &short)
}

fn axis(title: &str, logarithmic: bool) -> Axis<'_> {
    Axis { title, logarithmic }
}

/// A number in little room.
fn short(value: f64) -> String {
    for (size, letter) in [(1e9, " G"), (1e6, " M"), (1e4, " K")] {
        if value.abs() >= size {
            let unit = if size == 1e4 { 1e3 } else { size };
            return format!("{}{letter}", plain((value / unit * 100.0).round() / 100.0));
        }
    }
    plain((value * 1_000.0).round() / 1_000.0)
}
