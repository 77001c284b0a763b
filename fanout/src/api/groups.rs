//! Groups. What may be done is judged by ingest, from the log; here only the form is checked.

use super::caller::Caller;
use super::error::ApiError;
use super::input::{Asked, Body, Named, OpId, chat_id, text, user_id};
use super::{Api, ErrorBody};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use hawser_engines::directory::{Group, GroupPage};
use hawser_protocol::codes::ErrorCode;
use hawser_protocol::ids::{ChatId, UserId};
use hawser_protocol::lanes::Lanes;
use hawser_protocol::limits::{GROUP_CHANGE_MAX, GROUP_LISTED_MAX};
use hawser_protocol::record::{GROUP_NAME_BYTES_MAX, GROUP_PICTURE_BYTES_MAX, GroupOp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Members on a page.
const PAGE_MAX: usize = 1_000;

/// A group.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GroupView {
    /// Chat id, `g:…`.
    chat: String,
    /// Name.
    name: String,
    /// Picture URL.
    picture: String,
    /// Members now; of a group of more than 10,000 the first 1,000 by id, and `GET /v1/groups/{chat}/members` has all.
    members: Vec<String>,
    /// How many members there are.
    member_count: u64,
    /// Admins now.
    admins: Vec<String>,
    /// Seq of the last change, decimal.
    seq: String,
    /// Lanes that its messages are spread over; 0 where the whole group has one order.
    lanes: u8,
}

/// A new group; the caller becomes its first member and admin.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewGroup {
    /// 1 to 128 bytes.
    name: String,
    /// At most 512 bytes.
    #[serde(default)]
    picture: String,
    /// Besides the caller.
    #[serde(default)]
    members: Vec<String>,
}

/// What changes; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupChange {
    /// 1 to 128 bytes.
    name: Option<String>,
    /// At most 512 bytes.
    picture: Option<String>,
}

/// Whom to add.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewMembers {
    /// User ids.
    users: Vec<String>,
}

/// How a group is ordered.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    /// Lanes that its messages are spread over from about now on: 2, 4, 8, 16, 32 or 64.
    lanes: u8,
}

/// Makes a group. With an `Idempotency-Key` (UUIDv7) the same request makes it once.
#[utoipa::path(post, path = "/v1/groups", tag = "groups", security(("token" = [])), request_body = NewGroup,
    params(("Idempotency-Key" = Option<String>, Header, description = "A UUIDv7 of this change")),
    responses((status = 201, body = GroupView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 409, description = "group_full", body = ErrorBody), (status = 503, body = ErrorBody),
        (status = 504, body = ErrorBody)))]
pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
    OpId(op_id): OpId,
    Body(new): Body<NewGroup>,
) -> Result<(StatusCode, Json<GroupView>), ApiError> {
    check(Some(&new.name), Some(&new.picture))?;
    let members = users(&new.members)?;
    // Hexadecimal: of the ids' alphabet and short enough.
    let chat = chat_id(&format!("g:{}", uuid::Uuid::from_bytes(op_id.0).simple()))?;
    api.blocking(move |api| {
        let op = GroupOp::Create {
            name: new.name,
            picture: new.picture,
            members,
        };
        api.services()
            .change_group(caller.user(), op_id, &chat, op)?;
        Ok((StatusCode::CREATED, Json(show(api, &chat)?)))
    })
    .await
}

/// A group. For its members and for administrators.
#[utoipa::path(get, path = "/v1/groups/{chat}", tag = "groups", security(("token" = [])),
    params(("chat" = String, Path, description = "Chat id, `g:…`")),
    responses((status = 200, body = GroupView), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(super) async fn read(
    State(api): State<Api>,
    caller: Caller,
    Named(chat): Named<String>,
) -> Result<Json<GroupView>, ApiError> {
    let chat = group_id(&chat)?;
    api.blocking(move |api| {
        may_read(api, &caller, &chat)?;
        Ok(Json(show(api, &chat)?))
    })
    .await
}

/// Which members.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct MembersPage {
    /// Those after this id, the last one of the page before.
    after: Option<String>,
    /// At most so many: 1 to 1,000, which is the default.
    limit: Option<usize>,
}

/// Members of a group.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MembersView {
    /// In order of their ids; none: there are no more.
    members: Vec<String>,
    /// How many members there are.
    member_count: u64,
}

/// Members of a group, a page at a time. For its members and for administrators.
#[utoipa::path(get, path = "/v1/groups/{chat}/members", tag = "groups", security(("token" = [])),
    params(("chat" = String, Path, description = "Chat id, `g:…`"), MembersPage),
    responses((status = 200, body = MembersView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody)))]
pub(super) async fn members(
    State(api): State<Api>,
    caller: Caller,
    Named(chat): Named<String>,
    Asked(page): Asked<MembersPage>,
) -> Result<Json<MembersView>, ApiError> {
    let chat = group_id(&chat)?;
    let after = page.after.as_deref().map(user_id).transpose()?;
    let limit = page.limit.unwrap_or(PAGE_MAX);
    if !(1..=PAGE_MAX).contains(&limit) {
        let words = format!("limit: must be from 1 to {PAGE_MAX}");
        return Err(ApiError::new(ErrorCode::BadFrame, words));
    }
    api.blocking(move |api| {
        may_read(api, &caller, &chat)?;
        let directory = &api.services().directory;
        let page = directory.group_page(&chat, after.as_ref(), limit)?;
        let page = page.ok_or_else(ApiError::not_found)?;
        Ok(Json(MembersView {
            members: page.group.members,
            member_count: page.member_count,
        }))
    })
    .await
}

fn may_read(api: &Api, caller: &Caller, chat: &ChatId) -> Result<(), ApiError> {
    if !caller.0.admin {
        let member = api.services().store.member(chat, caller.user())?;
        if !member.is_some_and(|m| m.current()) {
            return Err(ApiError::not_found());
        }
    }
    Ok(())
}

/// Renames a group or changes its picture. For its admins.
#[utoipa::path(patch, path = "/v1/groups/{chat}", tag = "groups", security(("token" = [])), request_body = GroupChange,
    params(("chat" = String, Path, description = "Chat id, `g:…`")),
    responses((status = 200, body = GroupView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(super) async fn update(
    State(api): State<Api>,
    caller: Caller,
    OpId(op_id): OpId,
    Named(chat): Named<String>,
    Body(change): Body<GroupChange>,
) -> Result<Json<GroupView>, ApiError> {
    let chat = group_id(&chat)?;
    check(change.name.as_deref(), change.picture.as_deref())?;
    if change.name.is_none() && change.picture.is_none() {
        let words = "name or picture is needed";
        return Err(ApiError::new(ErrorCode::BadFrame, words));
    }
    api.blocking(move |api| {
        // Whether the caller may is judged by ingest; that it exists is said to nobody before.
        let info = api.services().store.chat(&chat)?.unwrap_or_default();
        let op = GroupOp::Update {
            name: change.name.unwrap_or(info.name),
            picture: change.picture.unwrap_or(info.picture),
        };
        api.services()
            .change_group(caller.user(), op_id, &chat, op)?;
        Ok(Json(show(api, &chat)?))
    })
    .await
}

/// Adds members. For its admins; those who are members already are passed over.
#[utoipa::path(post, path = "/v1/groups/{chat}/members", tag = "groups", security(("token" = [])),
    request_body = NewMembers, params(("chat" = String, Path, description = "Chat id, `g:…`")),
    responses((status = 200, body = GroupView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, description = "all are members already, or group_full", body = ErrorBody)))]
pub(super) async fn add(
    State(api): State<Api>,
    caller: Caller,
    OpId(op_id): OpId,
    Named(chat): Named<String>,
    Body(new): Body<NewMembers>,
) -> Result<Json<GroupView>, ApiError> {
    let op = GroupOp::Add {
        users: users(&new.users)?,
    };
    change(api, caller, op_id, &chat, op).await
}

/// Removes a member. For the group's admins.
#[utoipa::path(delete, path = "/v1/groups/{chat}/members/{user}", tag = "groups", security(("token" = [])),
    params(("chat" = String, Path, description = "Chat id, `g:…`"), ("user" = String, Path, description = "User id")),
    responses((status = 200, body = GroupView), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 409, description = "the last admin, or no member", body = ErrorBody)))]
pub(super) async fn remove(
    State(api): State<Api>,
    caller: Caller,
    OpId(op_id): OpId,
    Named((chat, user)): Named<(String, String)>,
) -> Result<Json<GroupView>, ApiError> {
    let op = GroupOp::Remove {
        users: vec![user_id(&user)?],
    };
    change(api, caller, op_id, &chat, op).await
}

/// Leaves a group. For its members; the last admin of others must make another one first.
#[utoipa::path(post, path = "/v1/groups/{chat}/leave", tag = "groups", security(("token" = [])),
    params(("chat" = String, Path, description = "Chat id, `g:…`")),
    responses((status = 204), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, description = "the last admin", body = ErrorBody)))]
pub(super) async fn leave(
    State(api): State<Api>,
    caller: Caller,
    OpId(op_id): OpId,
    Named(chat): Named<String>,
) -> Result<StatusCode, ApiError> {
    let chat = group_id(&chat)?;
    api.blocking(move |api| {
        let services = api.services();
        services.change_group(caller.user(), op_id, &chat, GroupOp::Leave)?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

/// Makes a member admin. For the group's admins.
#[utoipa::path(put, path = "/v1/groups/{chat}/admins/{user}", tag = "groups", security(("token" = [])),
    params(("chat" = String, Path, description = "Chat id, `g:…`"), ("user" = String, Path, description = "User id")),
    responses((status = 200, body = GroupView), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 409, description = "an admin already", body = ErrorBody)))]
pub(super) async fn promote(
    State(api): State<Api>,
    caller: Caller,
    OpId(op_id): OpId,
    Named((chat, user)): Named<(String, String)>,
) -> Result<Json<GroupView>, ApiError> {
    let user = user_id(&user)?;
    change(
        api,
        caller,
        op_id,
        &chat,
        GroupOp::SetAdmin { user, admin: true },
    )
    .await
}

/// Makes an admin a plain member. For the group's admins.
#[utoipa::path(delete, path = "/v1/groups/{chat}/admins/{user}", tag = "groups", security(("token" = [])),
    params(("chat" = String, Path, description = "Chat id, `g:…`"), ("user" = String, Path, description = "User id")),
    responses((status = 200, body = GroupView), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 409, description = "no admin, or the last", body = ErrorBody)))]
pub(super) async fn demote(
    State(api): State<Api>,
    caller: Caller,
    OpId(op_id): OpId,
    Named((chat, user)): Named<(String, String)>,
) -> Result<Json<GroupView>, ApiError> {
    let user = user_id(&user)?;
    change(
        api,
        caller,
        op_id,
        &chat,
        GroupOp::SetAdmin { user, admin: false },
    )
    .await
}

/// Sets a very busy group to relaxed order, once and for good: its messages are spread over lanes, each with an order
/// of its own. For the group's admins.
#[utoipa::path(put, path = "/v1/groups/{chat}/order", tag = "groups", security(("token" = [])), request_body = Order,
    params(("chat" = String, Path, description = "Chat id, `g:…`")),
    responses((status = 200, body = GroupView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, description = "in relaxed order already", body = ErrorBody)))]
pub(super) async fn relax(
    State(api): State<Api>,
    caller: Caller,
    OpId(op_id): OpId,
    Named(chat): Named<String>,
    Body(order): Body<Order>,
) -> Result<Json<GroupView>, ApiError> {
    let Order { lanes } = order;
    if Lanes::new(lanes, 0).is_none() {
        let words = "lanes: must be 2, 4, 8, 16, 32 or 64";
        return Err(ApiError::new(ErrorCode::BadFrame, words));
    }
    change(api, caller, op_id, &chat, GroupOp::Relax { lanes }).await
}

/// Makes a change and shows what came of it.
async fn change(
    api: Api,
    caller: Caller,
    op_id: hawser_protocol::ids::ClientMsgId,
    chat: &str,
    op: GroupOp,
) -> Result<Json<GroupView>, ApiError> {
    let chat = group_id(chat)?;
    api.blocking(move |api| {
        api.services()
            .change_group(caller.user(), op_id, &chat, op)?;
        Ok(Json(show(api, &chat)?))
    })
    .await
}

fn show(api: &Api, chat: &ChatId) -> Result<GroupView, ApiError> {
    let directory = &api.services().directory;
    // All of a group that lists its members, the beginning of a larger one.
    let mut page = directory.group_page(chat, None, PAGE_MAX)?;
    let count = page.as_ref().map_or(0, |page| page.member_count);
    if (PAGE_MAX as u64 + 1..=GROUP_LISTED_MAX as u64).contains(&count) {
        page = directory.group_page(chat, None, GROUP_LISTED_MAX)?;
    }
    let lanes = api
        .services()
        .store
        .chat(chat)?
        .map_or(0, |info| info.lanes);
    let GroupPage {
        group,
        member_count,
    } = page.ok_or_else(ApiError::not_found)?;
    let Group {
        chat,
        name,
        picture,
        mut members,
        admins,
        write_seq,
    } = group;
    if member_count > members.len() as u64 {
        members.truncate(PAGE_MAX);
    }
    Ok(GroupView {
        member_count,
        chat,
        name,
        picture,
        members,
        admins,
        seq: write_seq.to_string(),
        lanes,
    })
}

/// A group's chat id; a 1:1 chat is no group and is not found, nor is a lane.
fn group_id(text: &str) -> Result<ChatId, ApiError> {
    let chat = chat_id(text)?;
    if chat.is_group() && chat.lane() == 0 {
        Ok(chat)
    } else {
        Err(ApiError::not_found())
    }
}

fn users(names: &[String]) -> Result<Vec<UserId>, ApiError> {
    if names.len() > GROUP_CHANGE_MAX {
        let words = format!("users: more than {GROUP_CHANGE_MAX}");
        return Err(ApiError::new(ErrorCode::TooMany, words));
    }
    names.iter().map(|name| user_id(name)).collect()
}

fn check(name: Option<&str>, picture: Option<&str>) -> Result<(), ApiError> {
    if let Some(name) = name {
        text("name", name, GROUP_NAME_BYTES_MAX)?;
        if name.trim().is_empty() {
            let words = "name: must not be empty";
            return Err(ApiError::new(ErrorCode::BadFrame, words));
        }
    }
    text(
        "picture",
        picture.unwrap_or_default(),
        GROUP_PICTURE_BYTES_MAX,
    )
}
