//! `nodes`, `partitions`, `lag`.

use super::args::{LagArgs, NodesArgs, PartitionsArgs};
use super::calls::{Caller, Cluster};
use super::tables::{Table, or_dash, ranges};
use crate::admin::asking::SilentCore;
use crate::admin::partitions::{KindLag, LagView, PartitionKind, PartitionsView};
use crate::cli::RunArgs;
use crate::owners::locate::ClusterView;
use crate::run::Failure;

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

/// Every partition.
pub(super) async fn partitions(run: &RunArgs, args: &PartitionsArgs) -> Result<(), Failure> {
    let link = super::link(run, &args.ask)?;
    let path = match args.kind {
        PartitionKind::Delivery => "/partitions?kind=delivery",
        PartitionKind::Ingest => "/partitions?kind=ingest",
    };
    let view = Caller::default().get::<PartitionsView>(&link, path).await;
    let mut view = view.map_err(|e| Failure::Running(format!("{link}: {e}")))?;
    if let Some(name) = &args.node {
        view.partitions
            .retain(|row| row.owner.as_ref() == Some(name));
    }
    super::print(args.ask.json, &view, partitions_text)?;
    super::whole(&silent(&view.node, &view.silent_cores))
}

fn partitions_text(view: &PartitionsView) -> String {
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

/// How far behind.
pub(super) async fn lag(run: &RunArgs, args: &LagArgs) -> Result<(), Failure> {
    let link = super::link(run, &args.ask)?;
    let view = Caller::default().get::<LagView>(&link, "/lag").await;
    let view = view.map_err(|e| Failure::Running(format!("{link}: {e}")))?;
    super::print(args.ask.json, &view, lag_text)?;
    super::whole(&silent(&view.node, &view.silent_cores))
}

fn lag_text(view: &LagView) -> String {
    let mut text = String::new();
    let mut kind = |name: &str, of: &str, lag: &KindLag| {
        let KindLag {
            known,
            unknown,
            records,
            oldest_ms,
            worst,
        } = lag;
        text += &format!("{name}: {records} records behind in {known} partitions {of}");
        if *unknown > 0 {
            text += &format!(", {unknown} not known");
        }
        if *oldest_ms > 0 {
            text += &format!(", the oldest {oldest_ms} ms old");
        }
        text.push('\n');
        let mut table = Table::new(&["#partition", "#records", "#oldest_ms", "#position", "#end"]);
        for row in worst.iter().filter(|row| row.records > 0) {
            table.row(vec![
                row.partition.to_string(),
                row.records.to_string(),
                row.oldest_ms.to_string(),
                or_dash(row.position),
                or_dash(row.end),
            ]);
        }
        if *records > 0 {
            text += &table.text();
        }
    };
    kind(
        "delivery",
        &format!("that {} reads", view.node),
        &view.delivery,
    );
    match view.ingest.known {
        0 => text += "ingest: this process does not know, or ingest is part of the commit\n",
        _ => kind("ingest", "of chat-messages", &view.ingest),
    }
    text
}

/// Cores that did not answer, in words.
pub(super) fn silent(node: &str, cores: &[SilentCore]) -> Vec<String> {
    let words = |core: &SilentCore| format!("{node}: core {}: {}", core.core, core.why);
    cores.iter().map(words).collect()
}
