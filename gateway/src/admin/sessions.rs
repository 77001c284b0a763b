//! `GET /sessions`, `POST /kick`, `POST /relocate`: a user's sessions on this node, and a partition's.

use super::Admin;
use super::asking::{self, SilentCore};
use crate::node::shared::NodeShared;
use crate::owners::Peer;
use crate::reactor::questions::{Bounded, Question, SessionView, Told};
use axum::Json;
use axum::extract::{Query, State};
use hawser_fanout::api::ApiError;
use hawser_protocol::codes::{CloseCode, ErrorCode};
use hawser_protocol::ids::{DeviceId, UserId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What fits into a close frame.
const REASON_BYTES_MAX: usize = 120;

/// Query of `/sessions`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OfUser {
    user: String,
}

/// Answer of `/sessions`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SessionsView {
    pub(crate) node: String,
    pub(crate) user: String,
    pub(crate) partition: u32,
    /// Who owns the partition, as this node knows it; `null`: nobody, or it is alone.
    pub(crate) owner: Option<String>,
    pub(crate) sessions: Vec<SessionView>,
    /// Sessions beyond those listed.
    pub(crate) more: usize,
    /// Cores that did not answer: what they have is missing.
    pub(crate) silent_cores: Vec<SilentCore>,
}

/// Body of `/kick`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kick {
    pub(crate) user: String,
    /// One device's session alone.
    #[serde(default)]
    pub(crate) device: Option<String>,
    /// Close with 4003 (the client does not come back by itself) instead of 4300 (it comes back at once).
    #[serde(default)]
    pub(crate) stay_out: bool,
    /// Told to the client.
    #[serde(default)]
    pub(crate) reason: Option<String>,
}

/// Answer of `/kick`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Kicked {
    pub(crate) node: String,
    /// Devices whose sessions were closed.
    pub(crate) devices: Vec<String>,
    /// Sessions that are left: ask again.
    pub(crate) more: usize,
    /// The close code.
    pub(crate) code: u16,
    pub(crate) silent_cores: Vec<SilentCore>,
}

/// Body of `/relocate`: a user or a partition.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Relocate {
    #[serde(default)]
    pub(crate) user: Option<String>,
    #[serde(default)]
    pub(crate) partition: Option<u32>,
    /// The node's name; `null`: who owns the partition.
    #[serde(default)]
    pub(crate) to: Option<String>,
}

/// Answer of `/relocate`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Relocated {
    pub(crate) node: String,
    pub(crate) partition: u32,
    /// Where they were sent, as far as there is one place.
    pub(crate) to: Option<String>,
    #[serde(flatten)]
    pub(crate) sessions: Told,
    pub(crate) silent_cores: Vec<SilentCore>,
}

/// A user's sessions on this node.
pub(super) async fn sessions(
    State(admin): State<Admin>,
    Query(query): Query<OfUser>,
) -> Result<Json<SessionsView>, ApiError> {
    let _turn = admin.turn()?;
    let node = &admin.node;
    let user = user(&query.user)?;
    let asked = user.clone();
    let answer = asking::core_of(node, user.as_str(), |answer| Question::Sessions {
        user: asked,
        answer,
    });
    let (found, silent_cores) = heard(answer.await);
    let Bounded { items, more } = found.unwrap_or_default();
    let partition = node.shards().partition(user.as_str());
    Ok(Json(SessionsView {
        node: node.name().to_owned(),
        user: query.user,
        partition,
        owner: owner(node, partition),
        sessions: items,
        more,
        silent_cores,
    }))
}

/// Closes a user's sessions on this node.
pub(super) async fn kick(
    State(admin): State<Admin>,
    Json(body): Json<Kick>,
) -> Result<Json<Kicked>, ApiError> {
    let _turn = admin.turn()?;
    let node = &admin.node;
    let user = user(&body.user)?;
    let device = body.device.as_deref().map(DeviceId::new).transpose();
    let device = device.map_err(|e| ApiError::new(ErrorCode::BadId, format!("device: {e}")))?;
    let reason = body.reason.unwrap_or_default();
    if reason.len() > REASON_BYTES_MAX || reason.contains(char::is_control) {
        let words = format!("reason: at most {REASON_BYTES_MAX} bytes without control characters");
        return Err(ApiError::new(ErrorCode::BadFrame, words));
    }
    let reason = match reason.as_str() {
        "" => "closed by an operator".to_owned(),
        _ => reason,
    };
    let (name, stay_out) = (user.as_str().to_owned(), body.stay_out);
    tracing::info!(user = name, ?device, stay_out, reason, "an operator kicks");
    let answer = asking::core_of(node, &name, |answer| Question::Kick {
        user,
        device,
        stay_out,
        reason,
        answer,
    });
    let (closed, silent_cores) = heard(answer.await);
    let Bounded { items, more } = closed.unwrap_or_default();
    let code = match stay_out {
        true => CloseCode::Revoked,
        false => CloseCode::Moved,
    };
    Ok(Json(Kicked {
        node: node.name().to_owned(),
        devices: items,
        more,
        code: code.number(),
        silent_cores,
    }))
}

/// Tells sessions of this node where to go.
pub(super) async fn relocate(
    State(admin): State<Admin>,
    Json(body): Json<Relocate>,
) -> Result<Json<Relocated>, ApiError> {
    let _turn = admin.turn()?;
    let node = &admin.node;
    let to = body
        .to
        .as_deref()
        .map(|name| peer(node, name))
        .transpose()?;
    let wrong = |words: &str| ApiError::new(ErrorCode::BadFrame, words);
    let (partition, sessions, silent_cores) = match (&body.user, body.partition) {
        (Some(name), None) => {
            let user = user(name)?;
            tracing::info!(user = name, to = body.to, "an operator relocates");
            let to = to.clone();
            let answer = asking::core_of(node, name, |answer| Question::RelocateUser {
                user,
                to,
                answer,
            });
            let (told, silent) = heard(answer.await);
            (
                node.shards().partition(name),
                told.unwrap_or_default(),
                silent,
            )
        }
        (None, Some(partition)) if partition < node.shards().partitions() => {
            tracing::info!(partition, to = body.to, "an operator relocates");
            let (told, silent) = relocate_partition(node, partition, to.clone()).await;
            (partition, told, silent)
        }
        (None, Some(_)) => {
            let words = format!("partition: there are {}", node.shards().partitions());
            return Err(ApiError::new(ErrorCode::NotFound, words));
        }
        _ => return Err(wrong("name a user or a partition, one of them")),
    };
    let to = to.or_else(|| node.owners.elsewhere(partition));
    Ok(Json(Relocated {
        node: node.name().to_owned(),
        partition,
        to: to.map(|peer| peer.name.to_string()),
        sessions,
        silent_cores,
    }))
}

async fn relocate_partition(
    node: &Arc<NodeShared>,
    partition: u32,
    to: Option<Arc<Peer>>,
) -> (Told, Vec<SilentCore>) {
    let question = move |from, answer| Question::RelocatePartition {
        partition,
        to: to.clone(),
        from,
        answer,
    };
    let heard = asking::walk(node, Told::default(), question, |sum: &mut Told, slice| {
        let (told, next) = slice;
        sum.add(told);
        next
    });
    let heard = heard.await;
    let mut told = Told::default();
    heard.answers.into_iter().for_each(|core| told.add(core));
    (told, heard.silent)
}

fn heard<T>(answer: Result<T, SilentCore>) -> (Option<T>, Vec<SilentCore>) {
    match answer {
        Ok(answer) => (Some(answer), Vec::new()),
        Err(silent) => (None, vec![silent]),
    }
}

fn user(name: &str) -> Result<UserId, ApiError> {
    UserId::new(name).map_err(|e| ApiError::new(ErrorCode::BadId, format!("user: {e}")))
}

/// A node that is not gone.
fn peer(node: &NodeShared, name: &str) -> Result<Arc<Peer>, ApiError> {
    let map = node.owners.map();
    let found = map.nodes.iter().find(|peer| peer.name.as_str() == name);
    let words = || format!("to: {} knows no node {name}: see /cluster", node.name());
    found
        .cloned()
        .ok_or_else(|| ApiError::new(ErrorCode::NotFound, words()))
}

/// Who owns a delivery partition.
pub(super) fn owner(node: &NodeShared, partition: u32) -> Option<String> {
    let map = node.owners.map();
    let lease = map.delivery.get(partition as usize)?;
    lease.owner.as_ref().map(ToString::to_string)
}
