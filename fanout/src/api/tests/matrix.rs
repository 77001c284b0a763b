//! F21: every operation for every role. The document says which operations there are.

use super::{World, crew};
use crate::api::document;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Nobody, a stranger, one who shares the chats, the owner (and the group's admin), an administrator.
const ROLES: [Option<&str>; 5] = [
    None,
    Some("mallory"),
    Some("bob"),
    Some("alice"),
    Some("root"),
];

/// One operation: method, path as the document has it, path as called, body, status per role.
struct Operation {
    method: &'static str,
    path: &'static str,
    called: &'static str,
    body: Option<Value>,
    expected: [u16; 5],
}

fn op(
    method: &'static str,
    path: &'static str,
    called: &'static str,
    body: Option<Value>,
    expected: [u16; 5],
) -> Operation {
    Operation {
        method,
        path,
        called,
        body,
        expected,
    }
}

#[rustfmt::skip]
fn operations() -> Vec<Operation> {
    vec![
        op("GET", "/v1/me", "/v1/me", None, [401, 200, 200, 200, 200]),
        op("POST", "/v1/users", "/v1/users", Some(json!({"user": "new"})), [401, 403, 403, 403, 201]),
        op("GET", "/v1/users", "/v1/users", None, [401, 403, 403, 403, 200]),
        op("GET", "/v1/users/{user}", "/v1/users/alice", None, [401, 404, 200, 200, 200]),
        op("PATCH", "/v1/users/{user}", "/v1/users/alice", Some(json!({"status": "x"})), [401, 404, 404, 200, 200]),
        op("PATCH", "/v1/users/{user}", "/v1/users/alice", Some(json!({"banned": true})), [401, 404, 404, 403, 200]),
        op("GET", "/v1/users/{user}/devices", "/v1/users/alice/devices", None, [401, 404, 404, 200, 200]),
        op("PUT", "/v1/users/{user}/devices/{device}", "/v1/users/alice/devices/tv", Some(json!({})), [401, 404, 404, 200, 200]),
        op("DELETE", "/v1/users/{user}/devices/{device}", "/v1/users/alice/devices/tv", None, [401, 404, 404, 204, 204]),
        op("POST", "/v1/groups", "/v1/groups", Some(json!({"name": "n", "members": ["bob"]})), [401, 201, 201, 201, 201]),
        op("GET", "/v1/groups/{chat}", "/v1/groups/g:crew", None, [401, 404, 200, 200, 200]),
        op("PATCH", "/v1/groups/{chat}", "/v1/groups/g:crew", Some(json!({"name": "n"})), [401, 404, 403, 200, 404]),
        op("GET", "/v1/groups/{chat}/members", "/v1/groups/g:crew/members?after=alice&limit=2", None, [401, 404, 200, 200, 200]),
        op("POST", "/v1/groups/{chat}/members", "/v1/groups/g%3Acrew/members", Some(json!({"users": ["zoe"]})), [401, 404, 403, 200, 404]),
        op("DELETE", "/v1/groups/{chat}/members/{user}", "/v1/groups/g:crew/members/bob", None, [401, 404, 403, 200, 404]),
        op("PUT", "/v1/groups/{chat}/order", "/v1/groups/g:crew/order", Some(json!({"lanes": 8})), [401, 404, 403, 200, 404]),
        op("POST", "/v1/groups/{chat}/leave", "/v1/groups/g:crew/leave", None, [401, 404, 204, 409, 404]),
        op("PUT", "/v1/groups/{chat}/admins/{user}", "/v1/groups/g:crew/admins/bob", None, [401, 404, 403, 200, 404]),
        op("DELETE", "/v1/groups/{chat}/admins/{user}", "/v1/groups/g:crew/admins/alice", None, [401, 404, 403, 409, 404]),
        op("GET", "/v1/chats", "/v1/chats", None, [401, 200, 200, 200, 200]),
        op("GET", "/v1/chats/{chat}/messages", "/v1/chats/g:crew/messages", None, [401, 404, 200, 200, 404]),
        op("GET", "/v1/chats/{chat}/messages", "/v1/chats/dm:alice:bob/messages", None, [401, 404, 200, 200, 404]),
        op("GET", "/v1/presence", "/v1/presence?users=alice,ghost", None, [401, 200, 200, 200, 200]),
        op("POST", "/v1/revocations", "/v1/revocations", Some(json!({"user": "zoe"})), [401, 403, 403, 403, 204]),
    ]
}

#[tokio::test]
async fn f21_every_operation_answers_every_role_as_the_matrix_says() {
    let shared = crew().await;
    for operation in operations() {
        for (role, expected) in ROLES.into_iter().zip(operation.expected) {
            // Only what changes it needs a world of its own.
            let fresh = expected < 400 && operation.method != "GET";
            let own = if fresh { Some(crew().await) } else { None };
            let world = own.as_ref().unwrap_or(&shared);
            let Operation {
                method,
                called,
                body,
                ..
            } = &operation;
            let answer = world.call(method, called, role, body.clone()).await;
            assert_eq!(
                answer.status, expected,
                "{method} {called} by {role:?}: {}",
                answer.text
            );
            if expected >= 400 {
                for secret in ["Name of", "+49151", "m1", "m2", "Crew"] {
                    assert!(
                        !answer.text.contains(secret),
                        "{method} {called} leaks {secret}"
                    );
                }
            }
        }
    }
}

#[test]
fn operations_have_names_of_their_own() {
    let document: Value = serde_json::from_str(&document()).unwrap();
    let mut names = BTreeSet::new();
    for methods in document["paths"].as_object().unwrap().values() {
        for operation in methods.as_object().unwrap().values() {
            let name = operation["operationId"].as_str().unwrap().to_owned();
            assert!(names.insert(name.clone()), "{name}");
        }
    }
}

#[test]
fn f21_the_matrix_holds_every_operation_of_the_document() {
    let document: Value = serde_json::from_str(&document()).unwrap();
    let mut documented = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            documented.insert((method.to_uppercase(), path.clone()));
        }
    }
    let mut covered: BTreeSet<_> = operations()
        .iter()
        .map(|o| (o.method.to_owned(), o.path.to_owned()))
        .collect();
    // Open to anybody, where they exist at all: tested beside.
    covered.insert(("POST".into(), "/v1/demo/login".into()));
    covered.insert(("GET".into(), "/v1/demo/users".into()));
    assert_eq!(documented, covered);
}

#[tokio::test]
async fn f21_what_is_anothers_and_what_does_not_exist_are_answered_alike() {
    let world = crew().await;
    for operation in operations() {
        let ghost = operation
            .called
            .replace("/users/alice", "/users/ghost")
            .replace("g:crew", "g:ghost")
            .replace("g%3Acrew", "g%3Aghost")
            .replace("dm:alice:bob", "dm:ghost:spook");
        if operation.called == ghost {
            continue;
        }
        for role in ROLES {
            // Whose own it is may see the difference.
            let theirs = operation.expected[ROLES.iter().position(|r| *r == role).unwrap()];
            if !matches!(theirs, 401 | 404) {
                continue;
            }
            let method = operation.method;
            let real = world
                .call(method, operation.called, role, operation.body.clone())
                .await;
            let none = world
                .call(method, &ghost, role, operation.body.clone())
                .await;
            assert_eq!(
                (real.status, &real.text),
                (none.status, &none.text),
                "{method} {ghost} by {role:?}"
            );
        }
    }
}

#[tokio::test]
async fn f21_the_profile_that_members_see_has_no_phone() {
    let world = crew().await;
    let profile = world
        .call("GET", "/v1/users/alice", Some("bob"), None)
        .await
        .json();
    assert_eq!(profile["name"], "Name of alice");
    assert!(profile.get("phone").is_none() && profile.get("banned").is_none());
    let own = world
        .call("GET", "/v1/users/alice", Some("alice"), None)
        .await
        .json();
    assert_eq!(own["phone"], "+4915112345678");
}

#[tokio::test]
async fn f21_history_is_the_readers_intervals_alone() {
    let world: World = crew().await;
    let call = |method: &'static str, path: String, by: &'static str, body: Option<Value>| {
        let world = &world;
        async move { world.call(method, &path, Some(by), body).await }
    };
    let path = || "/v1/chats/g:crew/messages".to_owned();
    let added = call(
        "POST",
        "/v1/groups/g:crew/members".into(),
        "alice",
        Some(json!({"users": ["zoe"]})),
    )
    .await;
    assert_eq!(added.status, 200, "{}", added.text);
    // From the start: from where she may see, the change that added her included.
    let page = call("GET", path(), "zoe", None).await.json();
    let ordinals: Vec<_> = page["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["ordinal"].as_u64().unwrap())
        .collect();
    assert_eq!(ordinals, [3]);
    let before = call(
        "GET",
        path() + "?after_ordinal=3&backwards=true",
        "zoe",
        None,
    )
    .await;
    assert_eq!(
        (before.status.as_u16(), before.name()),
        (403, "not_visible".to_owned())
    );
    assert!(!before.text.contains("m1"));
    call(
        "DELETE",
        "/v1/groups/g:crew/members/zoe".into(),
        "alice",
        None,
    )
    .await;
    call(
        "PATCH",
        "/v1/groups/g:crew".into(),
        "alice",
        Some(json!({"name": "Later"})),
    )
    .await;
    let page = call("GET", path(), "zoe", None).await;
    assert!(!page.text.contains("Later"), "{}", page.text);
    assert_eq!(page.json()["messages"].as_array().unwrap().len(), 2);
    let after = call("GET", path() + "?after_ordinal=4", "zoe", None).await;
    assert_eq!(after.name(), "not_visible");
    let chats = call("GET", "/v1/chats".into(), "zoe", None).await.json();
    assert_eq!(chats["chats"][0]["last_ordinal"], 4);
    assert_eq!(chats["chats"][0]["member_count"], 0);
}
