//! The demonstration: four users, one group, and a log-in that asks for no password. Only where the
//! operator has turned it on.

use super::error::ApiError;
use super::input::{Body, device_id, user_id};
use super::{Api, ApiServices, ErrorBody, now_ms};
use axum::Json;
use axum::extract::State;
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, Uri};
use hawser_engines::directory::{Device, DirectoryError, User};
use hawser_protocol::codes::ErrorCode;
use hawser_protocol::ids::{ChatId, ClientMsgId, DeviceId, UserId};
use hawser_protocol::record::GroupOp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The demo's users: id, name, status.
pub const DEMO_USERS: [(&str, &str, &str); 4] = [
    ("alice", "Alice Archer", "At the helm"),
    ("bob", "Bob Bosun", "Splicing ropes"),
    ("carol", "Carol Chart", "Reading the tides"),
    ("dave", "Dave Deck", "On watch"),
];

/// The demo's group.
const DEMO_GROUP: &str = "g:harbour";
/// Life of a demo token, seconds.
const TOKEN_S: u64 = 24 * 3_600;

/// Who wants to log in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    /// User id; any.
    user: String,
    /// Device id, made by the client once and kept.
    device: String,
}

/// A token.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LoggedIn {
    /// For `Hello` and for this API.
    token: String,
    /// When it expires, milliseconds.
    expires_at_ms: u64,
    /// User.
    user: String,
    /// Device.
    device: String,
}

/// A user of the demo.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DemoUser {
    /// User id.
    user: String,
    /// Display name.
    name: String,
    /// Status text.
    status: String,
    /// Picture URL.
    profile_pic: String,
}

/// The demo's users.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DemoUsers {
    /// Those seeded.
    users: Vec<DemoUser>,
}

/// Why the demo could not be seeded.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// The directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
}

/// Makes the demo's users and its group where they are not there yet; blocks. A group that cannot be
/// made now (the log is away) is no error: it is said, and made at the next start.
///
/// # Errors
/// The directory cannot be read or written.
pub fn seed_demo(services: &ApiServices) -> Result<(), SeedError> {
    for (id, name, status) in DEMO_USERS {
        let user = User {
            user_id: id.to_owned(),
            name: name.to_owned(),
            status: status.to_owned(),
            created_ms: now_ms(),
            ..User::default()
        };
        match services.directory.create_user(&user) {
            Ok(()) | Err(DirectoryError::Taken { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // Constants of the right form.
    let users = DEMO_USERS.map(|(id, _, _)| UserId::new(id).expect("a plain word"));
    let chat = ChatId::new(DEMO_GROUP).expect("a group's id");
    if services.directory.group(&chat)?.is_some() {
        return Ok(());
    }
    let [first, members @ ..] = users;
    let op = GroupOp::Create {
        name: "Harbour crew".to_owned(),
        picture: String::new(),
        members: members.to_vec(),
    };
    let op_id = ClientMsgId(uuid::Uuid::now_v7().into_bytes());
    match services.change_group(&first, op_id, &chat, op) {
        Err(error) if error.code() != ErrorCode::Conflict => {
            tracing::warn!(?error, "the demo's group was not made");
        }
        _ => {}
    }
    Ok(())
}

/// Gives anybody a token. Exists only where the demo is on; a browser may ask from the node's own
/// pages alone.
#[utoipa::path(post, path = "/v1/demo/login", tag = "demo", request_body = Login,
    responses((status = 200, body = LoggedIn), (status = 400, body = ErrorBody),
        (status = 403, description = "asked by another site's page", body = ErrorBody)))]
pub(super) async fn login(
    State(api): State<Api>,
    headers: HeaderMap,
    Body(login): Body<Login>,
) -> Result<Json<LoggedIn>, ApiError> {
    same_origin(&headers)?;
    let (user, device) = (user_id(&login.user)?, device_id(&login.device)?);
    let issuer = api
        .services()
        .issuer
        .clone()
        .ok_or_else(ApiError::not_found)?;
    let now_ms = now_ms();
    let token = issuer.issue(&user, Some(&device), TOKEN_S, false, now_ms);
    // Banned here as elsewhere.
    let claims = api.services().verifier.verify(&token, now_ms);
    let claims = claims.map_err(|e| ApiError::new(e.code(), e.to_string()))?;
    let logged_in = LoggedIn {
        token,
        expires_at_ms: claims.expires_at_ms,
        user: user.to_string(),
        device: device.to_string(),
    };
    api.blocking(move |api| {
        // Whoever has a token may chat; a directory that is away lists the device some other time.
        if let Err(error) = list_device(api, &user, &device, now_ms) {
            tracing::warn!(code = error.code().name(), "a demo device is not listed");
        }
        Ok(Json(logged_in))
    })
    .await
}

/// Shows a device that logs in among the devices of a user who is known; blocks.
fn list_device(api: &Api, user: &UserId, device: &DeviceId, now_ms: u64) -> Result<(), ApiError> {
    let directory = &api.services().directory;
    if directory.user(user)?.is_none() || directory.device(user, device)?.is_some() {
        return Ok(());
    }
    let known = Device {
        device_id: device.to_string(),
        name: "demo".to_owned(),
        platform: "web".to_owned(),
        created_ms: now_ms,
        ..Device::default()
    };
    match directory.put_device(user, &known) {
        // Beyond 64 devices one is not listed; it may chat all the same.
        Ok(()) | Err(DirectoryError::Taken { .. } | DirectoryError::NotFound) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The demo's users. Exists only where the demo is on.
#[utoipa::path(get, path = "/v1/demo/users", tag = "demo", responses((status = 200, body = DemoUsers)))]
pub(super) async fn users(State(api): State<Api>) -> Result<Json<DemoUsers>, ApiError> {
    api.blocking(|api| {
        let mut users = Vec::new();
        for (id, _, _) in DEMO_USERS {
            if let Some(user) = api.services().directory.user(&user_id(id)?)? {
                users.push(DemoUser {
                    user: user.user_id,
                    name: user.name,
                    status: user.status,
                    profile_pic: user.profile_pic,
                });
            }
        }
        Ok(Json(DemoUsers { users }))
    })
    .await
}

/// Refuses a browser that asks from another site's page; no answer carries CORS headers, so such a
/// page could not read it either. Other clients send no Origin.
fn same_origin(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(origin) = headers.get(ORIGIN) else {
        return Ok(());
    };
    let origin = origin.to_str().ok().and_then(|o| o.parse::<Uri>().ok());
    let authority = origin.as_ref().and_then(Uri::authority);
    let host = headers.get(HOST).and_then(|h| h.to_str().ok());
    if authority.is_some_and(|a| Some(a.as_str()) == host) {
        return Ok(());
    }
    let words = "a page of another site may not log in here";
    Err(ApiError::new(ErrorCode::Forbidden, words))
}
