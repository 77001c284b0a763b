//! Revocations, for administrators: in force for tokens first, then for live sessions.

use super::caller::Caller;
use super::error::ApiError;
use super::input::{Body, device_id, text, user_id};
use super::{Api, ErrorBody, now_ms};
use crate::auth::Revocation;
use axum::extract::State;
use axum::http::StatusCode;
use hawser_protocol::codes::ErrorCode;
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
    /// Only the token with this `jti`; live sessions are then checked by their nodes within 60 s.
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
    responses((status = 204), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
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
        let single = new.jti.is_some();
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
        write(api, &revocation)?;
        if !single {
            let services = api.services();
            services.close_sessions(&user, device.as_ref(), &new.reason)?;
        }
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

/// Writes a revocation where every node reads it, then into this one; blocks.
pub(super) fn write(api: &Api, revocation: &Revocation) -> Result<(), ApiError> {
    api.services().directory.put_revocation(revocation)?;
    let verifier = &api.services().verifier;
    verifier.revoke(revocation, now_ms()).map_err(|error| {
        tracing::error!(%error, "a revocation was not kept");
        ApiError::new(ErrorCode::Unavailable, "the revocation could not be kept")
    })
}
