//! A node that cannot read the log asks others whether they can. If none can, the log is away for all and sessions are
//! best left where they are; if one can, this node is cut off alone, and sessions are sent there.

use super::locate::ClusterView;
use super::map::Peer;
use crate::node::shared::NodeShared;
use axum::http::header::HOST;
use axum::http::{HeaderValue, Request, StatusCode};
use bytes::Bytes;
use hawser_protocol::ownership::NodeState;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// How often it is asked.
const EVERY: Duration = Duration::from_millis(500);
/// One answer is waited for so long.
const PATIENCE: Duration = Duration::from_millis(1_000);
/// Others asked per round.
const ASKED_MAX: usize = 4;
/// A longer answer is none: 4,096 partitions and their owners' names.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Looks for a refuge while this node is fenced; never returns.
pub(crate) async fn watch(node: Arc<NodeShared>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let lease_ms = node.config.cluster.as_ref().map_or(0, |c| c.lease_ms);
    let mut fenced_at_ms = None;
    loop {
        ticks.tick().await;
        let (map, now_ms) = (node.owners.map(), node.clock.now_ms());
        if !map.fenced {
            fenced_at_ms = None;
            node.owners.set_refuge(None);
            continue;
        }
        // Whoever is not fenced a lease later has read a beat that it sent after we were: the log serves it, and not us.
        // (Where the log is away for all, they are fenced one after the other.)
        if now_ms < *fenced_at_ms.get_or_insert(now_ms) + lease_ms {
            continue;
        }
        let me = node.config.cluster.as_ref().map(|cluster| &cluster.name);
        let others = map.nodes.iter().filter(|peer| {
            // Clients are sent there: it has to have an address for them.
            let edge = !(peer.url.is_empty() && peer.plain_url.is_empty());
            let asked = edge && !peer.link.is_empty();
            Some(&peer.name) != me && peer.state == NodeState::Active && asked
        });
        let mut refuge = None;
        for peer in others.take(ASKED_MAX) {
            if goes_on(peer).await {
                refuge = Some(peer.clone());
                break;
            }
        }
        // It may have read the log again meanwhile.
        let refuge = refuge.filter(|_| node.owners.map().fenced);
        if refuge.is_some() {
            tracing::debug!("others read the log, and this node does not");
        }
        node.owners.set_refuge(refuge);
    }
}

/// Whether a node says that it reads the log.
async fn goes_on(peer: &Peer) -> bool {
    let view = ask(&peer.link).await;
    view.is_ok_and(|view| view.in_cluster && !view.fenced)
}

/// Why a node did not say who is there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("it answers {0}")]
    Status(StatusCode),
    #[error("its answer is none of ours")]
    Answer,
    #[error("nothing within {} ms", PATIENCE.as_millis())]
    Late,
}

/// What a node's admin listener, `host:port`, says of who is there.
///
/// # Errors
/// See [`AskError`].
pub(crate) async fn ask(link: &str) -> Result<ClusterView, AskError> {
    timeout(PATIENCE, connect_and_ask(link))
        .await
        .unwrap_or(Err(AskError::Late))
}

async fn connect_and_ask(link: &str) -> Result<ClusterView, AskError> {
    let request = Request::get("/cluster").body(Full::default());
    let request = request.map_err(|_| AskError::Answer)?;
    let (status, body) = request_of(link, request, ANSWER_BYTES_MAX).await?;
    if status != StatusCode::OK {
        return Err(AskError::Status(status));
    }
    serde_json::from_slice(&body).map_err(|_| AskError::Answer)
}

/// One request to an admin listener, on a connection of its own: the answer's status and body.
///
/// # Errors
/// No connection, or no whole answer of at most `bytes_max` bytes.
pub(crate) async fn request_of(
    link: &str,
    mut request: Request<Full<Bytes>>,
    bytes_max: usize,
) -> Result<(StatusCode, Bytes), AskError> {
    let stream = TcpStream::connect(link).await?;
    // By address: a name may be one that the other side does not know as its own.
    let host = stream.peer_addr()?.to_string();
    let host = HeaderValue::from_str(&host).map_err(|_| AskError::Answer)?;
    request.headers_mut().insert(HOST, host);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the sender.
    tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), bytes_max);
    let body = body.collect().await.map_err(|_| AskError::Answer)?;
    Ok((status, body.to_bytes()))
}
