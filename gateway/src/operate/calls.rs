//! Requests to admin listeners, and the nodes of a cluster.

use crate::owners::locate::ClusterView;
use crate::owners::peers::{self, AskError};
use crate::run::Failure;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{Method, Request, StatusCode};
use bytes::Bytes;
use hawser_fanout::api::ErrorBody;
use http_body_util::Full;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// One answer is waited for so long: cores and the log have 2 s each.
const PATIENCE: Duration = Duration::from_secs(10);
/// A longer answer is none of ours: 65,536 partitions.
const ANSWER_BYTES_MAX: usize = 32 << 20;
/// Nodes asked at once.
const ASKED_MAX: usize = 16;

/// Why a node did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error("{0}")]
    Ask(#[from] AskError),
    #[error("nothing within {} s", PATIENCE.as_secs())]
    Late,
    #[error("it answers {status}: {text}")]
    Refused { status: StatusCode, text: String },
    #[error("it names no admin listener (cluster.link): ask it with --ask")]
    NoLink,
}

/// Who asks.
#[derive(Debug, Clone, Default)]
pub(super) struct Caller {
    token: Option<Arc<str>>,
}

impl Caller {
    pub(super) fn new(token: Option<&str>) -> Self {
        Self {
            token: token.map(Into::into),
        }
    }

    /// Reads something.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        link: &str,
        path: &str,
    ) -> Result<T, CallError> {
        self.call(link, Method::GET, path, Bytes::new()).await
    }

    /// Changes something.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        link: &str,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CallError> {
        let body = serde_json::to_vec(body).map_err(|_| AskError::Answer)?;
        self.call(link, Method::POST, path, body.into()).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        link: &str,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, CallError> {
        let mut request = Request::builder().method(method).uri(path);
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request
            .body(Full::new(body))
            .map_err(|_| AskError::Answer)?;
        let answer = timeout(PATIENCE, peers::request_of(link, request, ANSWER_BYTES_MAX));
        let (status, body) = answer.await.map_err(|_| CallError::Late)??;
        if !status.is_success() {
            let text = match serde_json::from_slice::<ErrorBody>(&body) {
                Ok(body) => body.error.message,
                Err(_) => String::from_utf8_lossy(&body).trim().to_owned(),
            };
            return Err(CallError::Refused { status, text });
        }
        Ok(serde_json::from_slice(&body).map_err(|_| AskError::Answer)?)
    }
}

/// Every node, and where to ask it.
#[derive(Debug, Clone)]
pub(super) struct Cluster {
    pub(super) view: ClusterView,
    /// Names and admin listeners; empty: none is known.
    pub(super) nodes: Vec<(String, String)>,
}

impl Cluster {
    /// As the node at `link` knows it.
    ///
    /// # Errors
    /// It does not answer.
    pub(super) async fn ask(link: &str) -> Result<Self, Failure> {
        let view = peers::ask(link).await;
        let view = view.map_err(|e| Failure::Running(format!("no answer from {link}: {e}")))?;
        // Who ingests alone has no sessions, and is not asked.
        let others = view
            .nodes
            .iter()
            .filter(|node| node.edge && node.name != view.node);
        let others = others.map(|node| (node.name.clone(), node.link.clone()));
        let mut nodes = vec![(view.node.clone(), link.to_owned())];
        nodes.extend(others);
        Ok(Self { view, nodes })
    }

    /// Does the same with every node, a few at a time; by name.
    pub(super) async fn each<T, F>(
        &self,
        step: impl Fn(String) -> F,
    ) -> Vec<(String, Result<T, CallError>)>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, CallError>> + Send + 'static,
    {
        let places = Arc::new(Semaphore::new(ASKED_MAX));
        let mut asked = JoinSet::new();
        let mut answers = Vec::with_capacity(self.nodes.len());
        for (name, link) in &self.nodes {
            if link.is_empty() {
                answers.push((name.clone(), Err(CallError::NoLink)));
                continue;
            }
            let (name, answer, places) = (name.clone(), step(link.clone()), places.clone());
            asked.spawn(async move {
                let _place = places.acquire().await;
                (name, answer.await)
            });
        }
        while let Some(done) = asked.join_next().await {
            answers.extend(done.ok());
        }
        answers.sort_by(|a, b| a.0.cmp(&b.0));
        answers
    }
}

/// Splits answers from failures, which become words.
pub(super) fn split<T>(answers: Vec<(String, Result<T, CallError>)>) -> (Vec<T>, Vec<String>) {
    let (mut told, mut missing) = (Vec::new(), Vec::new());
    for (name, answer) in answers {
        match answer {
            Ok(answer) => told.push(answer),
            Err(error) => missing.push(format!("{name}: {error}")),
        }
    }
    (told, missing)
}
