//! Who is online.

use super::caller::Caller;
use super::error::ApiError;
use super::input::{Asked, user_id};
use super::{Api, ErrorBody, now_ms};
use axum::Json;
use axum::extract::State;
use hawser_engines::presence::Presence;
use hawser_protocol::codes::ErrorCode;
use hawser_protocol::ids::UserId;
use hawser_protocol::limits::WATCH_USERS_MAX;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Of whom.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Whose {
    /// User ids with commas between, at most 256.
    users: String,
}

/// State of one user.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PresenceView {
    /// User.
    user: String,
    /// `online`, `offline` or `unknown`. A user that does not exist is offline.
    state: &'static str,
    /// When last seen, milliseconds; 0: never, or online.
    last_seen_ms: u64,
}

/// States, in the order asked.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Presences {
    /// One per user.
    presence: Vec<PresenceView>,
}

/// Who is online. For anybody with a token, like Watch in a session.
#[utoipa::path(get, path = "/v1/presence", tag = "presence", security(("token" = [])), params(Whose),
    responses((status = 200, body = Presences), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody)))]
pub(super) async fn read(
    State(api): State<Api>,
    _caller: Caller,
    Asked(whose): Asked<Whose>,
) -> Result<Json<Presences>, ApiError> {
    if whose.users.split(',').count() > WATCH_USERS_MAX {
        let words = format!("users: more than {WATCH_USERS_MAX}");
        return Err(ApiError::new(ErrorCode::TooMany, words));
    }
    let users: Result<Vec<UserId>, ApiError> = whose.users.split(',').map(user_id).collect();
    let users = users?;
    api.blocking(move |api| {
        let states = api.services().presence.get(&users, now_ms());
        let view = |(user, state): (&UserId, Presence)| {
            let (state, last_seen_ms) = match state {
                Presence::Online => ("online", 0),
                Presence::Offline { last_seen_ms } => ("offline", last_seen_ms),
                Presence::Unknown => ("unknown", 0),
            };
            PresenceView {
                user: user.to_string(),
                state,
                last_seen_ms,
            }
        };
        let presence = users.iter().zip(states).map(view).collect();
        Ok(Json(Presences { presence }))
    })
    .await
}
