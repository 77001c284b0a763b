//! `sessions`, `kick`, `relocate`: every node is asked, since a user may be a guest anywhere.

use super::args::{KickArgs, RelocateArgs, SessionsArgs};
use super::calls::{Caller, Cluster, split};
use super::progress::Progress;
use super::show::silent;
use super::tables::{Table, or_dash};
use crate::admin::partitions::PartitionsView;
use crate::admin::sessions::{Kick, Kicked, Relocate, Relocated, SessionsView};
use crate::cli::RunArgs;
use crate::run::Failure;
use hawser_protocol::ids::UserId;
use serde::Serialize;
use std::time::{Duration, Instant};

/// Between two looks at how many sessions are left.
const LOOK: Duration = Duration::from_millis(500);

/// What was found or done, by node, and who did not answer.
#[derive(Debug, Serialize)]
struct Report<T> {
    nodes: Vec<T>,
    /// Nodes and cores without an answer: what they have is missing.
    missing: Vec<String>,
}

/// A user's sessions.
pub(super) async fn sessions(run: &RunArgs, args: &SessionsArgs) -> Result<(), Failure> {
    let user = checked(&args.user)?;
    let cluster = Cluster::ask(&super::link(run, &args.ask)?).await?;
    let caller = Caller::new(args.token.token.as_deref());
    let answers = cluster.each(move |link| {
        let (caller, path) = (caller.clone(), format!("/sessions?user={}", query(&user)));
        async move { caller.get::<SessionsView>(&link, &path).await }
    });
    let (nodes, mut missing) = split(answers.await);
    for view in &nodes {
        missing.extend(silent(&view.node, &view.silent_cores));
    }
    let report = Report { nodes, missing };
    super::print(args.ask.json, &report, |report| {
        sessions_text(&args.user, &report.nodes)
    })?;
    super::whole(&report.missing)
}

fn sessions_text(user: &str, views: &[SessionsView]) -> String {
    let mut table = Table::new(&[
        "node",
        "session",
        "device",
        "#core",
        "address",
        "via",
        "state",
        "guest",
        "#position",
        "#head",
        "#lag",
        "#unacked",
        "#bytes",
        "#unsent",
        "#quiet_ms",
    ]);
    let (mut count, mut more) = (0, 0);
    for view in views {
        more += view.more;
        for session in &view.sessions {
            count += 1;
            let guest = match (session.guest, session.stays) {
                (false, _) => "-",
                (true, false) => "guest",
                (true, true) => "stays",
            };
            table.row(vec![
                view.node.clone(),
                session.session.clone(),
                session.device.clone(),
                session.core.to_string(),
                or_dash(session.address.as_ref()),
                format!("{} {}", session.transport, session.encoding),
                session.state.clone(),
                guest.to_owned(),
                session.position.to_string(),
                session.head.to_string(),
                session.lag.to_string(),
                session.unacked_frames.to_string(),
                session.unacked_bytes.to_string(),
                session.unsent_bytes.to_string(),
                session.quiet_ms.to_string(),
            ]);
        }
    }
    let mut text = String::new();
    if let Some(view) = views.first() {
        let partition = view.partition;
        text += &match views.iter().find_map(|view| view.owner.as_ref()) {
            Some(owner) => format!("{user}: partition {partition}, owned by {owner}\n"),
            None => format!("{user}: partition {partition}\n"),
        };
    }
    text += &match count {
        0 if views.is_empty() => String::new(),
        0 => "no sessions\n".to_owned(),
        _ => table.text(),
    };
    if more > 0 {
        text += &format!("and {more} more\n");
    }
    text
}

/// Closes a user's sessions.
pub(super) async fn kick(run: &RunArgs, args: &KickArgs) -> Result<(), Failure> {
    let user = checked(&args.user)?;
    let cluster = Cluster::ask(&super::link(run, &args.ask)?).await?;
    let caller = Caller::new(args.token.token.as_deref());
    let answers = cluster.each(|link| {
        let body = Kick {
            user: user.clone(),
            device: args.device.clone(),
            stay_out: args.stay_out,
            reason: args.reason.clone(),
        };
        let caller = caller.clone();
        async move { caller.post::<Kicked>(&link, "/kick", &body).await }
    });
    let (nodes, mut missing) = split(answers.await);
    for kicked in &nodes {
        missing.extend(silent(&kicked.node, &kicked.silent_cores));
        if kicked.more > 0 {
            let words = format!(
                "{}: {} sessions are left: kick again",
                kicked.node, kicked.more
            );
            missing.push(words);
        }
    }
    let report = Report { nodes, missing };
    super::print(args.ask.json, &report, |report| kicked_text(&report.nodes))?;
    super::whole(&report.missing)
}

fn kicked_text(kicked: &[Kicked]) -> String {
    if kicked.is_empty() {
        return String::new();
    }
    let closed: usize = kicked.iter().map(|node| node.devices.len()).sum();
    let mut text = format!("{closed} sessions closed");
    if let Some(node) = kicked.first() {
        text += &format!(" with {}", node.code);
    }
    text.push('\n');
    for node in kicked.iter().filter(|node| !node.devices.is_empty()) {
        text += &format!("{}: {}\n", node.node, node.devices.join(", "));
    }
    text
}

/// Sends sessions elsewhere.
pub(super) async fn relocate(run: &RunArgs, args: &RelocateArgs) -> Result<(), Failure> {
    let user = args.user.as_deref().map(checked).transpose()?;
    let cluster = Cluster::ask(&super::link(run, &args.ask)?).await?;
    let caller = Caller::new(args.token.token.as_deref());
    let told = cluster.each(|link| {
        let body = Relocate {
            user: user.clone(),
            partition: args.partition,
            to: args.to.clone(),
        };
        let caller = caller.clone();
        async move { caller.post::<Relocated>(&link, "/relocate", &body).await }
    });
    let (nodes, mut missing) = split(told.await);
    for node in &nodes {
        missing.extend(silent(&node.node, &node.silent_cores));
        if node.sessions.more > 0 {
            let more = node.sessions.more;
            missing.push(format!(
                "{}: {more} sessions were not told: relocate again",
                node.node
            ));
        }
    }
    let any = nodes.iter().any(|node| node.sessions.told > 0);
    if let Some(partition) = args.partition.filter(|_| any) {
        let until = Instant::now() + Duration::from_secs(args.timeout_s);
        let going: Vec<String> = nodes
            .iter()
            .filter(|node| node.sessions.told > 0)
            .map(|node| node.node.clone())
            .collect();
        missing.extend(wait_gone(&cluster, partition, &going, until).await);
    }
    if let (Some(to), Some(partition)) = (&args.to, nodes.first().map(|node| node.partition)) {
        let owner = cluster
            .view
            .partitions
            .get(partition as usize)
            .cloned()
            .flatten();
        if let Some(owner) = owner.filter(|owner| owner != to) {
            super::say(&format!(
                "{owner} owns partition {partition}: {to} sends clients on to it, unless they say redirect_never"
            ));
        }
    }
    let report = Report { nodes, missing };
    super::print(args.ask.json, &report, |report| {
        relocated_text(&report.nodes)
    })?;
    super::whole(&report.missing)
}

/// Waits until the sessions of a partition that can go have left these nodes; returns what is missing then.
async fn wait_gone(
    cluster: &Cluster,
    partition: u32,
    going: &[String],
    until: Instant,
) -> Vec<String> {
    let mut progress = Progress::new("relocating");
    let mut from = Cluster {
        nodes: cluster.nodes.clone(),
        ..cluster.clone()
    };
    from.nodes.retain(|(name, _)| going.contains(name));
    let path = format!("/partitions?partition={partition}");
    loop {
        let looks = from.each(|link| {
            let path = path.clone();
            async move { Caller::default().get::<PartitionsView>(&link, &path).await }
        });
        let (views, missing) = split(looks.await);
        let rows = views.iter().flat_map(|view| &view.partitions);
        let left: usize = rows
            .map(|row| {
                row.sessions
                    .unwrap_or(0)
                    .saturating_sub(row.stay.unwrap_or(0))
            })
            .sum();
        progress.left(
            left,
            &format!("partition {partition}: {left} sessions left"),
        );
        if left == 0 {
            return missing;
        }
        if Instant::now() >= until {
            let words = format!("{left} sessions of partition {partition} are still there");
            return missing.into_iter().chain([words]).collect();
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn relocated_text(nodes: &[Relocated]) -> String {
    if nodes.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["node", "to", "#told", "#stay", "#no_address", "#here"]);
    for node in nodes {
        let sessions = &node.sessions;
        table.row(vec![
            node.node.clone(),
            or_dash(node.to.as_ref()),
            sessions.told.to_string(),
            sessions.stay.to_string(),
            sessions.no_address.to_string(),
            sessions.here.to_string(),
        ]);
    }
    table.text()
}

/// A query's value: of the alphabet of ids, what means something else there.
fn query(user: &str) -> String {
    user.replace('+', "%2B")
        .replace('=', "%3D")
        .replace('&', "%26")
}

fn checked(user: &str) -> Result<String, Failure> {
    let sound = UserId::new(user).map_err(|e| Failure::Argument(format!("--user: {e}")))?;
    Ok(sound.as_str().to_owned())
}
