//! Errors of the API: the protocol's codes, each with its HTTP status.

use axum::Json;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use hawser_engines::directory::DirectoryError;
use hawser_engines::store::StoreError;
use hawser_protocol::codes::ErrorCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    code: ErrorCode,
    status: StatusCode,
    message: String,
    retry_after_ms: u32,
}

/// Body of every refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// The refusal.
    pub error: ErrorDetail,
}

/// What was refused and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorDetail {
    /// Stable number, see docs/errors.md.
    #[schema(example = 33)]
    pub code: u16,
    /// Its stable name.
    #[schema(example = "not_found")]
    pub name: String,
    /// For people.
    pub message: String,
    /// When the same request may be tried again, milliseconds; 0: trying again does not help.
    pub retry_after_ms: u32,
}

impl ApiError {
    /// A refusal with words for people.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let retry_after_ms = if code.may_retry() { 1_000 } else { 0 };
        Self {
            code,
            status: status(code),
            message: message.into(),
            retry_after_ms,
        }
    }

    /// With this hint instead of a second.
    #[must_use]
    pub fn retry_after(mut self, ms: u32) -> Self {
        self.retry_after_ms = ms;
        self
    }

    /// The path exists, the method does not.
    pub(super) fn wrong_method() -> Self {
        let mut error = Self::new(ErrorCode::NotFound, "no such method on this path");
        error.status = StatusCode::METHOD_NOT_ALLOWED;
        error
    }

    /// Not the caller's, or not there at all: the two are told apart by nothing.
    pub(super) fn not_found() -> Self {
        Self::new(ErrorCode::NotFound, "not found, or not yours")
    }

    /// Only for tokens with the scope `admin`.
    pub(super) fn admins_only() -> Self {
        Self::new(ErrorCode::Forbidden, "for administrators only")
    }

    /// The code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        self.code
    }
}

/// The HTTP status of a code.
fn status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::BodyTooLarge | ErrorCode::FrameTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::BadFrame
        | ErrorCode::BadId
        | ErrorCode::BadClientMsgId
        | ErrorCode::HelloExpected
        | ErrorCode::HelloRepeated
        | ErrorCode::AckAhead
        | ErrorCode::TooMany
        | ErrorCode::UnexpectedFrame => StatusCode::BAD_REQUEST,
        ErrorCode::Unauthenticated | ErrorCode::TokenExpired | ErrorCode::Revoked => {
            StatusCode::UNAUTHORIZED
        }
        ErrorCode::Forbidden | ErrorCode::DeviceMismatch | ErrorCode::NotVisible => {
            StatusCode::FORBIDDEN
        }
        ErrorCode::NotMember | ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::TooOld | ErrorCode::Conflict | ErrorCode::GroupFull => StatusCode::CONFLICT,
        ErrorCode::RateLimited | ErrorCode::TooManyInFlight => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::Overloaded | ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::UnknownOutcome => StatusCode::GATEWAY_TIMEOUT,
        ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the API cannot read or write the store");
        match error {
            StoreError::Unavailable { .. } => {
                Self::new(ErrorCode::Unavailable, "the store cannot be reached")
            }
            StoreError::Corrupt { .. } | StoreError::Refused { .. } => {
                Self::new(ErrorCode::Internal, "our fault")
            }
        }
    }
}

impl From<DirectoryError> for ApiError {
    fn from(error: DirectoryError) -> Self {
        match error {
            DirectoryError::Unavailable { reason } => {
                tracing::error!(reason, "the API cannot read or write the directory");
                Self::new(ErrorCode::Unavailable, "the directory cannot be reached")
            }
            DirectoryError::Taken { field } => {
                Self::new(ErrorCode::Conflict, format!("{field}: taken"))
            }
            DirectoryError::NotFound => Self::not_found(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = ErrorBody {
            error: ErrorDetail {
                code: self.code.number(),
                name: self.code.name().to_owned(),
                message: self.message,
                retry_after_ms: self.retry_after_ms,
            },
        };
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        if self.retry_after_ms > 0 {
            let seconds = self.retry_after_ms.div_ceil(1_000);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
