//! `POST /drain` begins what SIGTERM begins; `GET /drain` says how far it is. There is no way back but a new start.

use super::Admin;
use crate::node::shared::NodeShared;
use crate::reactor::inbox::ToCore;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// Pause before a full mailbox is tried again, and how often.
const MAILBOX_PAUSE: Duration = Duration::from_millis(20);
const MAILBOX_TRIES: usize = 500;

/// An end that was asked for waits so long.
const END_PAUSE: Duration = Duration::from_millis(100);

/// Body of `POST /drain`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DrainWish {
    /// End the process afterwards, as SIGTERM does; otherwise it stays up, without clients and partitions.
    #[serde(default)]
    pub(crate) exit: bool,
}

/// How far a drain is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DrainView {
    pub(crate) node: String,
    pub(crate) draining: bool,
    /// Sessions that are left.
    pub(crate) sessions: usize,
    /// Delivery partitions that the log still calls this node's.
    pub(crate) partitions: usize,
    /// Other nodes that could take them.
    pub(crate) others: usize,
    /// What is left of the sessions is closed after so long from the beginning, milliseconds.
    pub(crate) drain_ms: u64,
    /// Nothing is left that another node could take.
    pub(crate) done: bool,
}

/// How far it is.
pub(super) async fn progress(State(admin): State<Admin>) -> Json<DrainView> {
    Json(view(&admin.node))
}

/// Begins; begun before, it says how far it is.
pub(super) async fn begin(
    State(admin): State<Admin>,
    Json(wish): Json<DrainWish>,
) -> (StatusCode, Json<DrainView>) {
    let node = &admin.node;
    if node.begin_draining() {
        tracing::info!(exit = wish.exit, "an operator drains this node");
        tokio::spawn(tell_cores(node.clone()));
    }
    if wish.exit {
        let node = node.clone();
        tokio::spawn(async move {
            // The answer goes out first.
            tokio::time::sleep(END_PAUSE).await;
            node.end_asked.notify_one();
        });
    }
    (StatusCode::ACCEPTED, Json(view(node)))
}

async fn tell_cores(node: Arc<NodeShared>) {
    let deadline_ms = node.config.drain_ms;
    for core in &node.cores {
        let mut tries = MAILBOX_TRIES;
        while core.try_send(ToCore::Drain { deadline_ms }).is_err() {
            tries -= 1;
            if tries == 0 {
                tracing::warn!("a core's mailbox stays full: its sessions are not told to move");
                break;
            }
            tokio::time::sleep(MAILBOX_PAUSE).await;
        }
    }
}

fn view(node: &NodeShared) -> DrainView {
    let left = node.left();
    let draining = node.is_draining();
    DrainView {
        node: node.name().to_owned(),
        draining,
        sessions: left.sessions,
        partitions: left.partitions,
        others: left.others,
        drain_ms: node.config.drain_ms,
        done: draining && left.is_nothing(),
    }
}
