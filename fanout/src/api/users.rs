//! Users: made and listed by administrators, read and changed by themselves; those who share a chat
//! with a user see its profile without the phone.

use super::caller::Caller;
use super::error::ApiError;
use super::input::{Asked, Body, Named, text, user_id};
use super::revocations::Told;
use super::{Api, ErrorBody, now_ms};
use crate::auth::Revocation;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use hawser_engines::directory::User;
use hawser_protocol::codes::ErrorCode;
use hawser_protocol::ids::{ChatId, UserId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Users in one page.
const PAGE_MAX: usize = 256;
/// Chats of the caller that are looked through for one shared with the other user.
const SHARED_CHATS_MAX: usize = 1_024;

/// A user.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UserView {
    /// Id.
    user: String,
    /// Display name.
    name: String,
    /// E.164; only to the user and to administrators.
    #[serde(skip_serializing_if = "Option::is_none")]
    phone: Option<String>,
    /// Status text.
    status: String,
    /// Picture URL.
    profile_pic: String,
    /// When it was made, milliseconds; only to the user and to administrators.
    #[serde(skip_serializing_if = "Option::is_none")]
    created_ms: Option<u64>,
    /// Whether it may not connect; only to administrators.
    #[serde(skip_serializing_if = "Option::is_none")]
    banned: Option<bool>,
}

/// Users by id.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Users {
    /// At most 256.
    users: Vec<UserView>,
    /// Ask again with this as `after`; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A new user.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewUser {
    /// `[A-Za-z0-9_.@+-]`, 1 to 64 bytes.
    user: String,
    /// At most 128 bytes.
    #[serde(default)]
    name: String,
    /// E.164 or empty; no two users have the same.
    #[serde(default)]
    phone: String,
    /// At most 256 bytes.
    #[serde(default)]
    status: String,
    /// At most 512 bytes.
    #[serde(default)]
    profile_pic: String,
}

/// What changes; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UserChange {
    /// At most 128 bytes.
    name: Option<String>,
    /// E.164 or empty.
    phone: Option<String>,
    /// At most 256 bytes.
    status: Option<String>,
    /// At most 512 bytes.
    profile_pic: Option<String>,
    /// For administrators only: bans at once, live sessions included; or lifts the ban.
    banned: Option<bool>,
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct PageOfUsers {
    /// Users after this id.
    after: Option<String>,
    /// At most 256; default 64.
    limit: Option<usize>,
}

/// Makes a user. For administrators.
#[utoipa::path(post, path = "/v1/users", tag = "users", security(("token" = [])), request_body = NewUser,
    responses((status = 201, body = UserView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 409, description = "id or phone is taken", body = ErrorBody)))]
pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
    Body(new): Body<NewUser>,
) -> Result<(StatusCode, Json<UserView>), ApiError> {
    caller.admin()?;
    user_id(&new.user)?;
    let user = User {
        user_id: new.user,
        name: new.name,
        phone: new.phone,
        status: new.status,
        profile_pic: new.profile_pic,
        created_ms: now_ms(),
        banned: false,
    };
    check(&user)?;
    api.blocking(move |api| {
        api.services().directory.create_user(&user)?;
        Ok((StatusCode::CREATED, Json(view(user, Sees::Everything))))
    })
    .await
}

/// Users by id. For administrators.
#[utoipa::path(get, path = "/v1/users", tag = "users", security(("token" = [])), params(PageOfUsers),
    responses((status = 200, body = Users), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody)))]
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    Asked(page): Asked<PageOfUsers>,
) -> Result<Json<Users>, ApiError> {
    caller.admin()?;
    let after = page.after.as_deref().map(user_id).transpose()?;
    let limit = page.limit.unwrap_or(64).clamp(1, PAGE_MAX);
    api.blocking(move |api| {
        let users = api.services().directory.users(after.as_ref(), limit)?;
        let full = users.len() == limit;
        let next = users.last().filter(|_| full).map(|u| u.user_id.clone());
        let users = users.into_iter().map(|u| view(u, Sees::Everything));
        Ok(Json(Users {
            users: users.collect(),
            next,
        }))
    })
    .await
}

/// One user. For itself, for administrators, and (without phone) for those who share a chat with it.
#[utoipa::path(get, path = "/v1/users/{user}", tag = "users", security(("token" = [])),
    params(("user" = String, Path, description = "User id")),
    responses((status = 200, body = UserView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(super) async fn read(
    State(api): State<Api>,
    caller: Caller,
    Named(user): Named<String>,
) -> Result<Json<UserView>, ApiError> {
    let user = user_id(&user)?;
    api.blocking(move |api| {
        let sees = match caller.own_or_admin(&user) {
            Ok(()) if caller.0.admin => Sees::Everything,
            Ok(()) => Sees::Own,
            Err(refused) if !share_a_chat(api, caller.user(), &user)? => return Err(refused),
            Err(_) => Sees::Profile,
        };
        let found = api.services().directory.user(&user)?;
        let found = found.ok_or_else(ApiError::not_found)?;
        Ok(Json(view(found, sees)))
    })
    .await
}

/// Changes a user. For itself and for administrators.
#[utoipa::path(patch, path = "/v1/users/{user}", tag = "users", security(("token" = [])), request_body = UserChange,
    params(("user" = String, Path, description = "User id")),
    responses((status = 200, body = UserView),
        (status = 202, body = UserView, description = "done; the log could not be told of a ban or its end: nodes close live \
            sessions, or let the user in again, as they read the list of revocations"),
        (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, description = "`banned` is for administrators", body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 409, description = "phone is taken", body = ErrorBody)))]
pub(super) async fn update(
    State(api): State<Api>,
    caller: Caller,
    Named(user): Named<String>,
    Body(change): Body<UserChange>,
) -> Result<(StatusCode, Json<UserView>), ApiError> {
    let user = user_id(&user)?;
    caller.own_or_admin(&user)?;
    if change.banned.is_some() {
        caller.admin()?;
    }
    let sees = if caller.0.admin {
        Sees::Everything
    } else {
        Sees::Own
    };
    api.blocking(move |api| {
        let directory = &api.services().directory;
        let mut changed = directory.user(&user)?.ok_or_else(ApiError::not_found)?;
        for (field, value) in [
            (&mut changed.name, change.name),
            (&mut changed.phone, change.phone),
            (&mut changed.status, change.status),
            (&mut changed.profile_pic, change.profile_pic),
        ] {
            if let Some(value) = value {
                *field = value;
            }
        }
        check(&changed)?;
        changed.banned = change.banned.unwrap_or(changed.banned);
        directory.update_user(&changed)?;
        let status = match change.banned {
            Some(banned) => ban(api, &user, banned)?.status(StatusCode::OK),
            None => StatusCode::OK,
        };
        Ok((status, Json(view(changed, sees))))
    })
    .await
}

/// In force for tokens first, then for live sessions.
fn ban(api: &Api, user: &UserId, banned: bool) -> Result<Told, ApiError> {
    let whose = user.clone();
    let revocation = if banned {
        Revocation::User {
            user: whose,
            until_ms: None,
        }
    } else {
        Revocation::Pardon { user: whose }
    };
    super::revocations::write(api, user, &revocation, "banned")
}

/// How much of a user the caller sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sees {
    Profile,
    Own,
    Everything,
}

fn view(user: User, sees: Sees) -> UserView {
    let own = sees != Sees::Profile;
    UserView {
        user: user.user_id,
        name: user.name,
        phone: own.then_some(user.phone),
        status: user.status,
        profile_pic: user.profile_pic,
        created_ms: own.then_some(user.created_ms),
        banned: (sees == Sees::Everything).then_some(user.banned),
    }
}

fn check(user: &User) -> Result<(), ApiError> {
    text("name", &user.name, 128)?;
    text("status", &user.status, 256)?;
    text("profile_pic", &user.profile_pic, 512)?;
    let digits = user.phone.strip_prefix('+').unwrap_or_default();
    let e164 = (7..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    if user.phone.is_empty() || e164 {
        return Ok(());
    }
    let words = "phone: E.164, such as +4915112345678, or empty";
    Err(ApiError::new(ErrorCode::BadFrame, words))
}

fn share_a_chat(api: &Api, one: &UserId, other: &UserId) -> Result<bool, ApiError> {
    let store = &api.services().store;
    if store.head(&ChatId::dm(one, other))?.ordinal > 0 {
        return Ok(true);
    }
    for chat in store.chats_of(one, None, SHARED_CHATS_MAX)? {
        let in_it =
            |user| Ok::<_, ApiError>(store.member(&chat, user)?.is_some_and(|m| m.current()));
        if chat.is_group() && in_it(other)? && in_it(one)? {
            return Ok(true);
        }
    }
    Ok(false)
}
