//! The OpenAPI document, made from the handlers themselves; `docs/openapi.json` is its copy.

use super::{chats, demo, devices, error, groups, me, presence, revocations, users};
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Hawser",
        description = "Users, devices, groups, history, presence and revocations. Messages travel over the \
            session protocol (docs/protocol.md). What is not the caller's is answered like what does not exist. \
            64-bit seqs are decimal strings. Every refusal has the body ErrorBody; codes are in docs/errors.md.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        me::me,
        users::create, users::list, users::read, users::update,
        devices::list, devices::put, devices::revoke,
        groups::create, groups::read, groups::members, groups::update, groups::add, groups::remove, groups::leave,
        groups::promote, groups::demote, groups::relax,
        chats::list, chats::messages,
        presence::read,
        revocations::create,
        demo::login, demo::users,
    ),
    components(schemas(error::ErrorBody, error::ErrorDetail)),
    modifiers(&Token, &Names)
)]
struct Document;

struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let token = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("JWT")
            .build();
        if let Some(components) = document.components.as_mut() {
            components.add_security_scheme("token", SecurityScheme::Http(token));
        }
    }
}

/// Names of operations: the tag goes before the handler's name, so that no two are the same.
struct Names;

impl Modify for Names {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        for item in document.paths.paths.values_mut() {
            let operations = [
                &mut item.get,
                &mut item.put,
                &mut item.post,
                &mut item.delete,
                &mut item.patch,
            ];
            for operation in operations.into_iter().flatten() {
                let tag = operation.tags.iter().flatten().next();
                if let (Some(tag), Some(name)) = (tag, &operation.operation_id) {
                    operation.operation_id = Some(format!("{tag}_{name}"));
                }
            }
        }
    }
}

/// The OpenAPI document as JSON.
#[must_use]
pub fn document() -> String {
    // Made of strings and numbers, which always serialize.
    let mut text = Document::openapi().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

/// The document. For anybody.
pub(super) async fn serve() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], document())
}
