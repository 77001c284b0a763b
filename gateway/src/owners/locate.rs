//! `GET /v1/locate`: where the bearer's sessions are best opened. And `GET /cluster` of the admin listener: who is there.

use super::map::{Peer, Place};
use crate::node::shared::NodeShared;
use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use hawser_fanout::api::{ApiError, bearer};
use hawser_protocol::ownership::NodeState;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Clients that are sent elsewhere wait for a random part of this, so that a node's worth of them does not come at once.
pub(crate) const JITTER_MS: u32 = 500;

/// Answer of `/v1/locate`.
#[derive(Debug, Serialize)]
pub(crate) struct Located {
    /// Of the node that owns the user's partition, over TLS; empty: this one.
    url: String,
    /// The same without TLS; empty: this one.
    plain_url: String,
    /// The node's name.
    node: String,
    /// The user's delivery partition.
    partition: u32,
    /// As `Redirect.map_version`.
    map_version: u32,
    /// Wait for a random part of so long before connecting.
    jitter_ms: u32,
}

/// Where the bearer belongs.
pub(crate) async fn locate(
    State(node): State<Arc<NodeShared>>,
    headers: HeaderMap,
) -> Result<Json<Located>, ApiError> {
    let claims = bearer(&headers, &node.verifier, node.clock.wall_ms())?;
    let partition = node.shards().partition(claims.user.as_str());
    let elsewhere = node.owners.elsewhere(partition);
    let (url, plain_url, name) = match &elsewhere {
        Some(peer) => (peer.url.clone(), peer.plain_url.clone(), peer.name.as_str()),
        None => {
            let [url, plain_url] = node.urls.clone();
            (url, plain_url, node.config.name.as_str())
        }
    };
    Ok(Json(Located {
        url,
        plain_url,
        node: name.to_owned(),
        partition,
        map_version: node.owners.version(),
        jitter_ms: elsewhere.map_or(0, |_| JITTER_MS),
    }))
}

/// Answer of `/cluster`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ClusterView {
    /// Whose view it is.
    pub(crate) node: String,
    /// There are others; otherwise all below is empty.
    pub(crate) in_cluster: bool,
    /// It cannot read the log: what it says may be old.
    pub(crate) fenced: bool,
    /// Of the map.
    pub(crate) version: u64,
    /// All nodes that are not gone.
    pub(crate) nodes: Vec<NodeView>,
    /// By partition, the owner's name; `null`: nobody.
    pub(crate) partitions: Vec<Option<String>>,
}

/// A node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct NodeView {
    pub(crate) name: String,
    pub(crate) state: NodeState,
    pub(crate) url: String,
    pub(crate) plain_url: String,
    pub(crate) link: String,
    /// It serves clients.
    #[serde(default = "served")]
    pub(crate) edge: bool,
    /// It ingests.
    #[serde(default)]
    pub(crate) ingest: bool,
    /// Delivery partitions that it owns.
    pub(crate) partitions: usize,
    /// Partitions of chat-messages that it owns.
    #[serde(default)]
    pub(crate) ingest_partitions: usize,
}

/// Nodes that do not say so, of an earlier version, are asked.
fn served() -> bool {
    true
}

impl fmt::Display for ClusterView {
    /// For people: a line per node.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.in_cluster {
            return writeln!(f, "{} is alone: its log is its own", self.node);
        }
        writeln!(
            f,
            "{:<24} {:<9} {:<11} {:>8} {:>6}  address",
            "node", "state", "roles", "delivery", "ingest"
        )?;
        for node in &self.nodes {
            let state = match node.state {
                NodeState::Active => "active",
                NodeState::Draining => "draining",
                NodeState::Gone => "gone",
            };
            let roles = match (node.edge, node.ingest) {
                (true, true) => "edge,ingest",
                (true, false) => "edge",
                (false, true) => "ingest",
                (false, false) => "-",
            };
            let (name, url) = (&node.name, &node.url);
            let (delivery, ingest) = (node.partitions, node.ingest_partitions);
            let line =
                format!("{name:<24} {state:<9} {roles:<11} {delivery:>8} {ingest:>6}  {url}");
            writeln!(f, "{}", line.trim_end())?;
        }
        let nobodys = self
            .partitions
            .iter()
            .filter(|owner| owner.is_none())
            .count();
        if nobodys > 0 {
            writeln!(
                f,
                "{nobodys} of {} delivery partitions are nobody's",
                self.partitions.len()
            )?;
        }
        if self.fenced {
            writeln!(f, "{} does not read the log: this may be old", self.node)?;
        }
        Ok(())
    }
}

/// Who is there and who owns what.
pub(crate) fn cluster(node: &NodeShared) -> ClusterView {
    let map = node.owners.map();
    let me = node.config.cluster.as_ref().map(|cluster| &cluster.name);
    let owner = |place: &Place| match place {
        Place::Ours => me.map(ToString::to_string),
        Place::Of(peer) => Some(peer.name.to_string()),
        Place::Nobody => None,
    };
    let partitions: Vec<Option<String>> = map.places.iter().map(owner).collect();
    let view = |peer: &Arc<Peer>| {
        let name = peer.name.to_string();
        let its = partitions.iter().flatten().filter(|owner| **owner == name);
        let ingests = map
            .ingest
            .iter()
            .filter(|lease| lease.owner.as_ref() == Some(&peer.name));
        NodeView {
            partitions: its.count(),
            ingest_partitions: ingests.count(),
            edge: peer.edge,
            ingest: peer.ingest,
            name,
            state: peer.state,
            url: peer.url.clone(),
            plain_url: peer.plain_url.clone(),
            link: peer.link.clone(),
        }
    };
    ClusterView {
        node: node.name().to_owned(),
        in_cluster: node.owners.in_cluster(),
        fenced: map.fenced,
        version: map.version,
        nodes: map.nodes.iter().map(view).collect(),
        partitions,
    }
}
