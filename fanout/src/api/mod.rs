//! The HTTP API: users, devices, groups, history, presence, revocations; JSON in and out.
//!
//! Every operation is authorised here, from the token alone: what is not the caller's is answered
//! like what does not exist. Changes of groups go through the log like messages, and are answered
//! once ingest has judged them. Engine calls block, so they run on the runtime's blocking threads,
//! a bounded number at a time.

#![allow(unused_qualifications, reason = "utoipa's macro writes them")]

mod caller;
mod changes;
mod chats;
mod demo;
mod devices;
mod error;
mod groups;
mod input;
mod me;
mod openapi;
mod presence;
mod revocations;
#[cfg(test)]
mod tests;
mod users;

pub use caller::bearer;
pub use demo::{DEMO_USERS, SeedError, seed_demo};
pub use error::{ApiError, ErrorBody, ErrorDetail};
pub use openapi::document;

use crate::auth::{Issuer, Verifier};
use crate::history::History;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{any, delete, get, post, put};
use hawser_engines::directory::Directory;
use hawser_engines::log::Log;
use hawser_engines::presence::PresenceStore;
use hawser_engines::store::Store;
use hawser_protocol::codes::ErrorCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::Semaphore;

/// Body of most requests, bytes.
pub const BODY_BYTES_MAX: usize = 64 << 10;
/// Body of a request that lists a group's members, bytes.
pub const GROUP_BODY_BYTES_MAX: usize = 1 << 20;
/// Calls of engines at one time; more are refused `overloaded`.
const BLOCKING_MAX: usize = 64;
/// Hint with `overloaded`, milliseconds.
const OVERLOADED_RETRY_MS: u32 = 500;

/// What the API stands on.
#[derive(Clone)]
pub struct ApiServices {
    /// The log: changes of groups and revocations go there.
    pub log: Arc<dyn Log>,
    /// Messages, memberships, watermarks.
    pub store: Arc<dyn Store>,
    /// Users, devices, groups as shown.
    pub directory: Arc<dyn Directory>,
    /// Who is online.
    pub presence: Arc<dyn PresenceStore>,
    /// Judges tokens.
    pub verifier: Arc<Verifier>,
    /// Signs the demo's tokens; without it there is no demo.
    pub issuer: Option<Arc<Issuer>>,
    /// Whether anybody may log in as anybody: for demonstrations only.
    pub demo: bool,
}

/// State of the router.
#[derive(Clone)]
struct Api(Arc<Inner>);

struct Inner {
    services: ApiServices,
    history: History,
    blocking: Arc<Semaphore>,
}

/// All routes below `/v1`; other paths are the caller's to add.
pub fn router(services: ApiServices) -> Router {
    let demo = services.demo && services.issuer.is_some();
    let api = Api(Arc::new(Inner {
        history: History::new(Arc::clone(&services.store)),
        services,
        blocking: Arc::new(Semaphore::new(BLOCKING_MAX)),
    }));
    let members = Router::new()
        .route("/v1/groups", post(groups::create))
        .route(
            "/v1/groups/{chat}/members",
            get(groups::members).post(groups::add),
        )
        .layer(DefaultBodyLimit::max(GROUP_BODY_BYTES_MAX));
    let mut router = Router::new()
        .route("/v1/me", get(me::me))
        .route("/v1/users", get(users::list).post(users::create))
        .route("/v1/users/{user}", get(users::read).patch(users::update))
        .route("/v1/users/{user}/devices", get(devices::list))
        .route(
            "/v1/users/{user}/devices/{device}",
            put(devices::put).delete(devices::revoke),
        )
        .route("/v1/groups/{chat}", get(groups::read).patch(groups::update))
        .route("/v1/groups/{chat}/leave", post(groups::leave))
        .route("/v1/groups/{chat}/order", put(groups::relax))
        .route("/v1/groups/{chat}/members/{user}", delete(groups::remove))
        .route(
            "/v1/groups/{chat}/admins/{user}",
            put(groups::promote).delete(groups::demote),
        )
        .route("/v1/chats", get(chats::list))
        .route("/v1/chats/{chat}/messages", get(chats::messages))
        .route("/v1/presence", get(presence::read))
        .route("/v1/revocations", post(revocations::create))
        .route("/v1/openapi.json", get(openapi::serve))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .merge(members);
    if demo {
        let open = Router::new()
            .route("/v1/demo/login", post(demo::login))
            .route("/v1/demo/users", get(demo::users))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
        router = router.merge(open);
    }
    router
        .route("/v1/{*rest}", any(nowhere))
        .method_not_allowed_fallback(wrong_method)
        .with_state(api)
}

async fn nowhere() -> ApiError {
    ApiError::new(ErrorCode::NotFound, "no such path")
}

async fn wrong_method() -> ApiError {
    ApiError::wrong_method()
}

impl Api {
    fn services(&self) -> &ApiServices {
        &self.0.services
    }

    fn history(&self) -> &History {
        &self.0.history
    }

    /// Runs what blocks on a blocking thread, if there is room.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Api) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let permit = Arc::clone(&self.0.blocking).try_acquire_owned();
        let permit = permit.map_err(|_| {
            ApiError::new(ErrorCode::Overloaded, "too many requests at once")
                .retry_after(OVERLOADED_RETRY_MS)
        })?;
        let api = self.clone();
        let work = tokio::task::spawn_blocking(move || {
            let outcome = work(&api);
            drop(permit);
            outcome
        });
        work.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a request panicked");
            Err(ApiError::new(ErrorCode::Internal, "our fault"))
        })
    }
}

/// Wall clock, milliseconds since 1970.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or(Duration::ZERO).as_millis()).unwrap_or(u64::MAX)
}
