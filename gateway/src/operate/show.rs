//! `nodes`, `partitions`, `lag`.

use super::args::{LagArgs, NodesArgs, PartitionsArgs};
use super::calls::{Caller, Cluster, split};
use super::tables::{Table, or_dash, ranges};
use crate::admin::asking::SilentCore;
use crate::admin::partitions::{KindLag, LagView, PartitionKind, PartitionView, PartitionsView};
use crate::cli::RunArgs;
use crate::owners::locate::ClusterView;
use crate::run::Failure;
use serde::Serialize;

/// Who is there.
pub(super) async fn nodes(run: &RunArgs, args: &NodesArgs) -> Result<(), Failure> {
    let Cluster { view, .. } = Cluster::ask(&super::link(run, &args.ask)?).await?;
    super::print(args.ask.json, &view, |view| {
        let owned = match args.partitions {
            true => owned(view),
            false => String::new(),
        };
        view.to_string() + &owned
    })
}

/// Partitions by owner.
fn owned(view: &ClusterView) -> String {
    let mut table = Table::new(&["owner", "partitions"]);
    let of = |owner: Option<&str>| -> String {
        let all = (0..).zip(&view.partitions);
        let its = all.filter(|(_, known)| known.as_deref() == owner);
        ranges(&its.map(|(partition, _)| partition).collect::<Vec<u32>>())
    };
    for node in &view.nodes {
        table.row(vec![node.name.clone(), of(Some(&node.name))]);
    }
    let nobodys = of(None);
    if !nobodys.is_empty() {
        table.row(vec!["-".to_owned(), nobodys]);
    }
    match view.in_cluster {
        true => format!("\n{}", table.text()),
        false => String::new(),
    }
}

/// Every partition, as all nodes together know it.
#[derive(Debug, Serialize)]
struct Partitions {
    /// Who was asked first.
    node: String,
    in_cluster: bool,
    /// It cannot read the log: owners may be old.
    fenced: bool,
    kind: PartitionKind,
    /// Sessions on all nodes; how far it is read, as its owner says.
    partitions: Vec<PartitionView>,
    /// Nodes and cores without an answer: what they have is missing.
    missing: Vec<String>,
}

impl Partitions {
    /// The rows of the node that was asked first, with what the others add.
    fn of(asked: &str, kind: PartitionKind, views: Vec<PartitionsView>) -> Option<Self> {
        let mut all: Option<Self> = None;
        let (first, others): (Vec<_>, Vec<_>) = views.into_iter().partition(|v| v.node == asked);
        for mut view in first.into_iter().chain(others) {
            let mut missing = silent(&view.node, &view.silent_cores);
            let Some(all) = &mut all else {
                view.partitions.iter_mut().for_each(|row| {
                    if row.owner.as_ref().is_some_and(|owner| *owner != view.node) {
                        (row.position, row.end, row.lag) = (None, None, None);
                    }
                });
                all = Some(Self {
                    node: view.node,
                    in_cluster: view.in_cluster,
                    fenced: view.fenced,
                    kind,
                    partitions: view.partitions,
                    missing,
                });
                continue;
            };
            all.missing.append(&mut missing);
            for (row, its) in all.partitions.iter_mut().zip(view.partitions) {
                row.sessions = sum(row.sessions, its.sessions);
                row.guests = sum(row.guests, its.guests);
                row.stay = sum(row.stay, its.stay);
                if row.owner.as_ref() == Some(&view.node) {
                    (row.position, row.end, row.lag) = (its.position, its.end, its.lag);
                }
            }
        }
        all
    }
}

fn sum(one: Option<usize>, other: Option<usize>) -> Option<usize> {
    match (one, other) {
        (None, None) => None,
        (one, other) => Some(one.unwrap_or(0) + other.unwrap_or(0)),
    }
}

/// Every partition.
pub(super) async fn partitions(run: &RunArgs, args: &PartitionsArgs) -> Result<(), Failure> {
    let mut cluster = Cluster::ask(&super::link(run, &args.ask)?).await?;
    let path = match args.kind {
        PartitionKind::Delivery => "/partitions?kind=delivery",
        PartitionKind::Ingest => "/partitions?kind=ingest",
    };
    let asked = cluster.view.node.clone();
    if args.kind == PartitionKind::Ingest {
        // It stands in the log: every node says the same.
        cluster.nodes.retain(|(name, _)| *name == asked);
    }
    let look = |link: String| async move { Caller::default().get(&link, path).await };
    let (views, missing) = split(cluster.each(look).await);
    let Some(mut all) = Partitions::of(&asked, args.kind, views) else {
        return super::whole(&missing);
    };
    all.missing.extend(missing);
    if let Some(name) = &args.node {
        all.partitions
            .retain(|row| row.owner.as_ref() == Some(name));
    }
    super::print(args.ask.json, &all, partitions_text)?;
    super::whole(&all.missing)
}

fn partitions_text(view: &Partitions) -> String {
    let mut table = Table::new(&[
        "#partition",
        "owner",
        "#lease_epoch",
        "#sessions",
        "#guests",
        "#position",
        "#end",
        "#lag",
    ]);
    for row in &view.partitions {
        table.row(vec![
            row.partition.to_string(),
            or_dash(row.owner.as_ref()),
            row.lease_epoch.to_string(),
            or_dash(row.sessions),
            or_dash(row.guests),
            or_dash(row.position),
            or_dash(row.end),
            or_dash(row.lag),
        ]);
    }
    let mut text = table.text();
    if !view.in_cluster {
        text += &format!("{} is alone: all of them are its own\n", view.node);
    }
    if view.fenced {
        text += &format!("{} does not read the log: owners may be old\n", view.node);
    }
    text
}

/// How far behind all nodes are.
#[derive(Debug, Serialize)]
struct Lags {
    /// Of all nodes.
    delivery: KindLag,
    /// As it stands in the log.
    ingest: KindLag,
    nodes: Vec<LagView>,
    /// Nodes and cores without an answer: what they have is missing.
    missing: Vec<String>,
}

/// How far behind.
pub(super) async fn lag(run: &RunArgs, args: &LagArgs) -> Result<(), Failure> {
    let cluster = Cluster::ask(&super::link(run, &args.ask)?).await?;
    let look = |link: String| async move { Caller::default().get::<LagView>(&link, "/lag").await };
    let (nodes, mut missing) = split(cluster.each(look).await);
    let mut delivery = KindLag::default();
    for view in &nodes {
        delivery.add(view.delivery.clone());
        missing.extend(silent(&view.node, &view.silent_cores));
    }
    // The same wherever it is looked at, but for who has not looked yet.
    let most = nodes.iter().max_by_key(|view| view.ingest.known);
    let all = Lags {
        delivery,
        ingest: most.map(|view| view.ingest.clone()).unwrap_or_default(),
        nodes,
        missing,
    };
    if !all.nodes.is_empty() {
        super::print(args.ask.json, &all, lag_text)?;
    }
    super::whole(&all.missing)
}

fn lag_text(all: &Lags) -> String {
    let mut text = String::new();
    for view in &all.nodes {
        text += &format!("delivery at {}: {}", view.node, behind(&view.delivery));
    }
    text += &worst(&all.delivery);
    match all.ingest.known {
        0 => text += "ingest: no node knows, or ingest is part of the commit\n",
        _ => {
            text += &format!("ingest: {}", behind(&all.ingest));
            text += &worst(&all.ingest);
        }
    }
    text
}

/// A line.
fn behind(lag: &KindLag) -> String {
    let mut text = format!("{} records behind in {} partitions", lag.records, lag.known);
    if lag.unknown > 0 {
        text += &format!(", {} not known", lag.unknown);
    }
    if lag.oldest_ms > 0 {
        text += &format!(", the oldest {} ms old", lag.oldest_ms);
    }
    text + "\n"
}

/// The partitions that are behind, if there are any.
fn worst(lag: &KindLag) -> String {
    let mut table = Table::new(&[
        "node",
        "#partition",
        "#records",
        "#oldest_ms",
        "#position",
        "#end",
    ]);
    if lag.records == 0 {
        return String::new();
    }
    for row in lag.worst.iter().filter(|row| row.records > 0) {
        table.row(vec![
            or_dash(row.node.as_ref()),
            row.partition.to_string(),
            row.records.to_string(),
            row.oldest_ms.to_string(),
            or_dash(row.position),
            or_dash(row.end),
        ]);
    }
    table.text()
}

/// Cores that did not answer, in words.
pub(super) fn silent(node: &str, cores: &[SilentCore]) -> Vec<String> {
    let words = |core: &SilentCore| format!("{node}: core {}: {}", core.core, core.why);
    cores.iter().map(words).collect()
}
