//! Who calls: the token in `Authorization: Bearer`, and what it may do.

use super::error::ApiError;
use super::{Api, now_ms};
use crate::auth::{Claims, Verifier};
use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use hawser_protocol::codes::ErrorCode;
use hawser_protocol::ids::UserId;

/// A verified caller.
#[derive(Debug, Clone)]
pub(super) struct Caller(pub(super) Claims);

impl Caller {
    pub(super) fn user(&self) -> &UserId {
        &self.0.user
    }

    /// For administrators only.
    pub(super) fn admin(&self) -> Result<(), ApiError> {
        if self.0.admin {
            Ok(())
        } else {
            Err(ApiError::admins_only())
        }
    }

    /// For the user itself and administrators; to anybody else the user is not there.
    pub(super) fn own_or_admin(&self, user: &UserId) -> Result<(), ApiError> {
        if self.0.admin || self.0.user == *user {
            Ok(())
        } else {
            Err(ApiError::not_found())
        }
    }
}

/// What the one token in `Authorization: Bearer` says.
///
/// # Errors
/// There is none, or it is not good at `now_ms`.
pub fn bearer(headers: &HeaderMap, verifier: &Verifier, now_ms: u64) -> Result<Claims, ApiError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().and_then(|value| value.to_str().ok());
    let token = value
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    let (Some(token), None) = (token, values.next()) else {
        let words = "a token is needed: Authorization: Bearer <token>";
        return Err(ApiError::new(ErrorCode::Unauthenticated, words));
    };
    let claims = verifier.verify(token, now_ms);
    claims.map_err(|error| ApiError::new(error.code(), error.to_string()))
}

impl FromRequestParts<Api> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        bearer(&parts.headers, &api.services().verifier, now_ms()).map(Self)
    }
}
