//! Revocations, for administrators: in force for tokens first, then for live sessions. The directory has them before the log:
//! where the log cannot be told, nodes learn of them as they read the directory's list.

use super::caller::Caller;
use super::error::ApiError;
use super::input::{Body, device_id, text, user_id};
use super::{Api, ErrorBody, now_ms};
use crate::auth::Revocation;
use axum::extract::State;
use axum::http::StatusCode;
use hawser_protocol::codes::ErrorCode;
use hawser_protocol::ids::UserId;
use serde::Deserialize;
use utoipa::ToSchema;

/// How long a single revoked token is remembered when the request does not say, milliseconds.
const TOKEN_KEPT_MS: u64 = 30 * 24 * 3_600 * 1_000;

/// What to revoke.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRevocation {
    /// Whose tokens.
    user: String,
    /// Only those of this device.
    device: Option<String>,
    /// Only the token with this `jti`, which is the user's.
    jti: Option<String>,
    /// When that token expires, milliseconds: the entry is kept until then; default in 30 days.
    expires_at_ms: Option<u64>,
    /// Also what is issued later; default: only what was issued so far.
    #[serde(default)]
    forever: bool,
    /// For the closing frame, at most 256 bytes.
    #[serde(default)]
    reason: String,
}

/// Voids tokens and closes their live sessions.
#[utoipa::path(post, path = "/v1/revocations", tag = "admin", security(("token" = [])), request_body = NewRevocation,
    responses((status = 204, description = "in force, and told to every node in order with the user's messages"),
        (status = 202, description = "in force; the log could not be told: nodes close live sessions as they read the list"),
        (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
    Body(new): Body<NewRevocation>,
) -> Result<StatusCode, ApiError> {
    caller.admin()?;
    let user = user_id(&new.user)?;
    let device = new.device.as_deref().map(device_id).transpose()?;
    text("reason", &new.reason, 256)?;
    text("jti", new.jti.as_deref().unwrap_or_default(), 256)?;
    api.blocking(move |api| {
        let now_ms = now_ms();
        let until_ms = (!new.forever).then_some(now_ms);
        let revocation = match (new.jti, &device) {
            (Some(jti), _) => Revocation::Token {
                jti,
                expires_at_ms: new.expires_at_ms.unwrap_or(now_ms + TOKEN_KEPT_MS),
            },
            (None, Some(device)) => Revocation::Device {
                user: user.clone(),
                device: device.clone(),
                until_ms,
            },
            (None, None) => Revocation::User {
                user: user.clone(),
                until_ms,
            },
        };
        let told = write(api, &user, &revocation, &new.reason)?;
        Ok(told.status(StatusCode::NO_CONTENT))
    })
    .await
}

/// How nodes learn of a revocation that the directory has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// By a record in the user's delivery partition.
    InOrder,
    /// As they read the directory's list: the log did not take the record, or did not say so in time.
    ByTheList,
}

impl Told {
    /// The status of an answer that would have `done`.
    pub(super) fn status(self, done: StatusCode) -> StatusCode {
        match self {
            Self::InOrder => done,
            Self::ByTheList => StatusCode::ACCEPTED,
        }
    }
}

/// Writes a revocation of a user's, or a pardon, where every process reads it, puts it into this one, then tells the nodes
/// that serve the user; blocks.
pub(super) fn write(
    api: &Api,
    user: &UserId,
    revocation: &Revocation,
    reason: &str,
) -> Result<Told, ApiError> {
    let services = api.services();
    let place = services.directory.put_revocation(revocation)?;
    services.verifier.learn(user, place, revocation);
    let kept = services.verifier.revoke(revocation, now_ms());
    let told = match services.tell_nodes(user, place, revocation, reason) {
        Ok(()) => Told::InOrder,
        // The log's words are logged where it refused.
        Err(_) => Told::ByTheList,
    };
    match kept {
        Ok(()) => Ok(told),
        Err(error) => {
            tracing::error!(%error, "a revocation was not kept");
            let words = "the revocation could not be kept";
            Err(ApiError::new(ErrorCode::Unavailable, words))
        }
    }
}
