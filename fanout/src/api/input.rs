//! What comes in: bodies, queries and ids of the path, each refused with a documented error.

use super::error::ApiError;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use hawser_protocol::codes::ErrorCode;
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, UserId};
use serde::de::DeserializeOwned;

/// A JSON body. Asking for the content type keeps other sites' forms out without a preflight.
#[derive(Debug)]
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let kind = request.headers().get(CONTENT_TYPE);
        let kind = kind.and_then(|k| k.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            let words = "the body must be JSON: Content-Type: application/json";
            return Err(ApiError::new(ErrorCode::BadFrame, words));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|e| {
            let code = match e.status() {
                StatusCode::PAYLOAD_TOO_LARGE => ErrorCode::BodyTooLarge,
                _ => ErrorCode::BadFrame,
            };
            ApiError::new(code, "the body cannot be read or is too large")
        })?;
        let body = serde_json::from_slice(&bytes);
        let refused = |e: serde_json::Error| ApiError::new(ErrorCode::BadFrame, e.to_string());
        body.map(Self).map_err(refused)
    }
}

/// A query.
#[derive(Debug)]
pub(super) struct Asked<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let query = Query::try_from_uri(&parts.uri);
        let refused = |e: axum::extract::rejection::QueryRejection| {
            ApiError::new(ErrorCode::BadFrame, e.body_text())
        };
        query.map(|Query(query)| Self(query)).map_err(refused)
    }
}

/// Names in the path.
#[derive(Debug)]
pub(super) struct Named<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Named<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::from_request_parts(parts, state).await;
        let refused = |e: axum::extract::rejection::PathRejection| {
            ApiError::new(ErrorCode::BadId, e.body_text())
        };
        path.map(|Path(names)| Self(names)).map_err(refused)
    }
}

/// A change's own id, from the header `Idempotency-Key` (a UUIDv7), or a new one.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpId(pub(super) ClientMsgId);

impl<S: Send + Sync> FromRequestParts<S> for OpId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let Some(value) = parts.headers.get("idempotency-key") else {
            return Ok(Self(ClientMsgId(uuid::Uuid::now_v7().into_bytes())));
        };
        let given = value
            .to_str()
            .ok()
            .and_then(|text| text.parse::<uuid::Uuid>().ok());
        let given = given.map(|uuid| ClientMsgId(uuid.into_bytes()));
        given.filter(ClientMsgId::is_v7).map(Self).ok_or_else(|| {
            let words = "Idempotency-Key must be a UUIDv7";
            ApiError::new(ErrorCode::BadClientMsgId, words)
        })
    }
}

pub(super) fn user_id(text: &str) -> Result<UserId, ApiError> {
    UserId::new(text).map_err(|e| bad_id("user", &e))
}

pub(super) fn device_id(text: &str) -> Result<DeviceId, ApiError> {
    DeviceId::new(text).map_err(|e| bad_id("device", &e))
}

pub(super) fn chat_id(text: &str) -> Result<ChatId, ApiError> {
    ChatId::new(text).map_err(|e| bad_id("chat", &e))
}

fn bad_id(what: &str, error: &hawser_protocol::ids::IdError) -> ApiError {
    ApiError::new(ErrorCode::BadId, format!("{what}: {error}"))
}

/// A text within its bound, without control characters.
pub(super) fn text(field: &str, value: &str, max: usize) -> Result<(), ApiError> {
    if value.len() > max {
        let words = format!("{field}: {} bytes exceed the limit of {max}", value.len());
        return Err(ApiError::new(ErrorCode::TooMany, words));
    }
    if value.chars().any(char::is_control) {
        let words = format!("{field}: control characters are not allowed");
        return Err(ApiError::new(ErrorCode::BadFrame, words));
    }
    Ok(())
}
