//! The admin listener: `/metrics` for Prometheus, `/healthz` (the process answers) and `/readyz` (send
//! clients here), kept away from clients.

mod metrics;

pub use metrics::MetricsSource;
pub(crate) use metrics::exporter;

use crate::node::shared::NodeShared;
use crate::owners::locate;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use std::sync::Arc;

/// Says what is wrong behind the edge now, if anything; must not block.
pub type TroubleSource = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// What the endpoints read.
#[derive(Clone)]
struct Admin {
    node: Arc<NodeShared>,
    registry: prometheus::Registry,
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
    Router::new()
        .route("/metrics", get(metrics_text))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/cluster", get(cluster))
        .with_state(Admin { node, registry })
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
