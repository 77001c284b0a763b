//! Devices of a user: for itself and for administrators.

use super::caller::Caller;
use super::error::ApiError;
use super::input::{Body, Named, device_id, text, user_id};
use super::{Api, ErrorBody, now_ms};
use crate::auth::Revocation;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use hawser_engines::directory::Device;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A device.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeviceView {
    /// Id, unique within the user.
    device: String,
    /// For people.
    name: String,
    /// `ios`, `android`, `web`, `desktop`, `iot` or another word.
    platform: String,
    /// Whether it has a push token.
    push: bool,
    /// When it was made, milliseconds.
    created_ms: u64,
    /// Whether it was signed out; registering it again lifts that.
    revoked: bool,
}

/// Devices of a user.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Devices {
    /// At most 64.
    devices: Vec<DeviceView>,
}

/// A device as registered.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewDevice {
    /// At most 128 bytes.
    #[serde(default)]
    name: String,
    /// At most 32 bytes.
    #[serde(default)]
    platform: String,
    /// At most 4,096 bytes; never shown again.
    #[serde(default)]
    push_token: String,
}

/// A user's devices.
#[utoipa::path(get, path = "/v1/users/{user}/devices", tag = "devices", security(("token" = [])),
    params(("user" = String, Path, description = "User id")),
    responses((status = 200, body = Devices), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    Named(user): Named<String>,
) -> Result<Json<Devices>, ApiError> {
    let user = user_id(&user)?;
    caller.own_or_admin(&user)?;
    api.blocking(move |api| {
        let devices = api.services().directory.devices(&user)?;
        let devices = devices.into_iter().map(view).collect();
        Ok(Json(Devices { devices }))
    })
    .await
}

/// Registers a device, or replaces what is said of it.
#[utoipa::path(put, path = "/v1/users/{user}/devices/{device}", tag = "devices", security(("token" = [])),
    params(("user" = String, Path, description = "User id"), ("device" = String, Path, description = "Device id")),
    request_body = NewDevice,
    responses((status = 200, body = DeviceView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 409, description = "64 devices already", body = ErrorBody)))]
pub(super) async fn put(
    State(api): State<Api>,
    caller: Caller,
    Named((user, device)): Named<(String, String)>,
    Body(new): Body<NewDevice>,
) -> Result<Json<DeviceView>, ApiError> {
    let (user, device) = (user_id(&user)?, device_id(&device)?);
    caller.own_or_admin(&user)?;
    text("name", &new.name, 128)?;
    text("platform", &new.platform, 32)?;
    text("push_token", &new.push_token, 4_096)?;
    api.blocking(move |api| {
        let directory = &api.services().directory;
        let old = directory.device(&user, &device)?;
        let device = Device {
            device_id: device.to_string(),
            name: new.name,
            platform: new.platform,
            push_token: new.push_token,
            created_ms: old.map_or_else(now_ms, |old| old.created_ms),
            revoked: false,
        };
        directory.put_device(&user, &device)?;
        Ok(Json(view(device)))
    })
    .await
}

/// Signs a device out: its tokens issued so far are void, its live sessions are closed.
#[utoipa::path(delete, path = "/v1/users/{user}/devices/{device}", tag = "devices", security(("token" = [])),
    params(("user" = String, Path, description = "User id"), ("device" = String, Path, description = "Device id")),
    responses((status = 204, description = "in force, and told to every node in order with the user's messages"),
        (status = 202, description = "in force; the log could not be told: nodes close live sessions as they read the list"),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(super) async fn revoke(
    State(api): State<Api>,
    caller: Caller,
    Named((user, device)): Named<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let (user, device) = (user_id(&user)?, device_id(&device)?);
    caller.own_or_admin(&user)?;
    api.blocking(move |api| {
        let directory = &api.services().directory;
        // A token can name a device that was never registered: it is signed out all the same.
        if let Some(mut known) = directory.device(&user, &device)? {
            known.revoked = true;
            known.push_token.clear();
            directory.put_device(&user, &known)?;
        }
        let revocation = Revocation::Device {
            user: user.clone(),
            device: device.clone(),
            until_ms: Some(now_ms()),
        };
        let told = super::revocations::write(api, &user, &revocation, "device signed out")?;
        Ok(told.status(StatusCode::NO_CONTENT))
    })
    .await
}

fn view(device: Device) -> DeviceView {
    DeviceView {
        device: device.device_id,
        name: device.name,
        platform: device.platform,
        push: !device.push_token.is_empty(),
        created_ms: device.created_ms,
        revoked: device.revoked,
    }
}
