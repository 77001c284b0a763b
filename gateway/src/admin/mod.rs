//! The admin listener: `/metrics` for Prometheus, `/healthz` (the process answers) and `/readyz` (send
//! clients here), and what operators look at and move; kept away from clients.

mod access;
pub(crate) mod asking;
pub(crate) mod draining;
mod metrics;
pub(crate) mod partitions;
pub(crate) mod sessions;

pub use metrics::MetricsSource;
pub(crate) use metrics::exporter;

use crate::node::shared::NodeShared;
use crate::owners::locate;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use hawser_fanout::api::ApiError;
use hawser_protocol::codes::ErrorCode;
use serde::Serialize;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Questions to cores under way at once; more are refused (503).
const QUESTIONS_MAX: usize = 8;
/// Longest body of a request.
const BODY_BYTES_MAX: usize = 16 << 10;

/// Says what is wrong behind the edge now, if anything; must not block.
pub type TroubleSource = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// What the endpoints read.
#[derive(Clone)]
struct Admin {
    node: Arc<NodeShared>,
    registry: prometheus::Registry,
    questions: Arc<Semaphore>,
    /// One look for the ends of the log at a time.
    ends: Arc<Semaphore>,
}

impl Admin {
    /// A place among the questions to cores, until it is dropped.
    fn turn(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let busy = |_| ApiError::new(ErrorCode::Overloaded, "other questions are being answered");
        self.questions.clone().try_acquire_owned().map_err(busy)
    }
}

/// Answer of `/readyz`.
#[derive(Debug, Serialize)]
struct Ready {
    ready: bool,
    /// Why not; empty when ready.
    reasons: Vec<String>,
    /// What is wrong and costs clients less than moving them would.
    degraded: Vec<String>,
    node: String,
    sessions: usize,
}

/// The endpoints.
pub(crate) fn router(node: Arc<NodeShared>, registry: prometheus::Registry) -> Router {
    let admin = Admin {
        node,
        registry,
        questions: Arc::new(Semaphore::new(QUESTIONS_MAX)),
        ends: Arc::new(Semaphore::new(1)),
    };
    let guarded = Router::new()
        .route("/sessions", get(sessions::sessions))
        .route("/kick", post(sessions::kick))
        .route("/relocate", post(sessions::relocate))
        .route("/drain", post(draining::begin))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .route_layer(middleware::from_fn_with_state(admin.clone(), access::guard));
    Router::new()
        .route("/metrics", get(metrics_text))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/cluster", get(cluster))
        .route("/partitions", get(partitions::partitions))
        .route("/lag", get(partitions::lag))
        .route("/drain", get(draining::progress))
        .merge(guarded)
        .with_state(admin)
}

async fn metrics_text(State(admin): State<Admin>) -> impl IntoResponse {
    let families = admin.registry.gather();
    match prometheus::TextEncoder::new().encode_to_string(&families) {
        Ok(text) => (
            StatusCode::OK,
            [(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)],
            text,
        ),
        Err(e) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
            e.to_string(),
        ),
    }
}

/// Who is there and who owns what, as this node knows it.
async fn cluster(State(admin): State<Admin>) -> impl IntoResponse {
    Json(locate::cluster(&admin.node))
}

async fn ready(State(admin): State<Admin>) -> impl IntoResponse {
    let node = &admin.node;
    let reasons = node.not_ready();
    let status = if reasons.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = Ready {
        ready: reasons.is_empty(),
        reasons,
        degraded: node.degraded(),
        node: node.config.name.clone(),
        sessions: node.sessions.load(std::sync::atomic::Ordering::Relaxed),
    };
    (status, Json(body))
}
