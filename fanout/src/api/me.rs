//! `/v1/me`: what the caller's token says.

use super::caller::Caller;
use axum::Json;
use serde::Serialize;
use utoipa::ToSchema;

/// What a token says.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Me {
    /// User.
    user: String,
    /// Device, if the token names one.
    device: Option<String>,
    /// Whether the token has the scope `admin`.
    admin: bool,
    /// When the token expires, milliseconds since 1970.
    expires_at_ms: u64,
}

/// What the caller's token says.
#[utoipa::path(get, path = "/v1/me", tag = "me", security(("token" = [])),
    responses((status = 200, body = Me), (status = 401, body = super::ErrorBody)))]
pub(super) async fn me(Caller(claims): Caller) -> Json<Me> {
    Json(Me {
        user: claims.user.to_string(),
        device: claims.device.map(|device| device.to_string()),
        admin: claims.admin,
        expires_at_ms: claims.expires_at_ms,
    })
}
