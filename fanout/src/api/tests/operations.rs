//! What the operations do, and what bad input gets.

use super::{World, crew, router, seed_demo, world};
use crate::api::{BODY_BYTES_MAX, document};
use crate::rig::flaky_log::{FlakyLog, Flaw};
use crate::rig::{device, receipt, user};
use axum::body::Body;
use axum::http::{Request, StatusCode};
use hawser_protocol::record::DeliveryKind;
use hawser_protocol::revocation::Revocation;
use serde_json::{Value, json};
use std::sync::Arc;

fn raw(method: &str, path: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(path)
}

#[test]
fn the_document_in_docs_is_current() {
    let here = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let path = format!("{here}/../docs/openapi.json");
    if std::env::var_os("HAWSER_WRITE_DOCS").is_some() {
        std::fs::write(&path, document()).unwrap();
    }
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let way_out = "cargo run -p hawser-fanout -- openapi > docs/openapi.json";
    assert!(text == document(), "docs/openapi.json is stale: {way_out}");
}

#[tokio::test]
async fn every_refusal_has_the_documented_body() {
    let world = crew().await;
    for (method, path, by, status, name) in [
        ("GET", "/v1/me", None, 401, "unauthenticated"),
        ("GET", "/v1/nowhere", Some("alice"), 404, "not_found"),
        ("DELETE", "/v1/me", Some("alice"), 405, "not_found"),
        ("GET", "/v1/users/a%20b", Some("alice"), 400, "bad_id"),
        ("GET", "/v1/groups/crew", Some("alice"), 400, "bad_id"),
        ("GET", "/v1/groups/%FF", Some("alice"), 400, "bad_id"),
        ("GET", "/v1/chats?limit=x", Some("alice"), 400, "bad_frame"),
        ("GET", "/v1/chats?lmit=3", Some("alice"), 400, "bad_frame"),
        ("POST", "/v1/groups", Some("alice"), 400, "bad_frame"),
        ("GET", "/v1/presence", Some("alice"), 400, "bad_frame"),
    ] {
        let answer = world.call(method, path, by, None).await;
        assert_eq!(
            (answer.status.as_u16(), answer.name().as_str()),
            (status, name),
            "{path}"
        );
        let error = &answer.json()["error"];
        assert!(
            error["code"].is_u64() && error["message"].is_string() && error["retry_after_ms"] == 0
        );
        assert_eq!(
            answer.headers.contains_key("www-authenticate"),
            status == 401
        );
    }
}

#[tokio::test]
async fn f19_bad_tokens_get_401_over_http() {
    let world = crew().await;
    let (alice, phone) = (user("alice"), device("phone"));
    let expired = world.issuer.issue(
        &alice,
        Some(&phone),
        1,
        false,
        super::super::now_ms() - 5_000,
    );
    let good = world.token("alice");
    let none = format!("eyJhbGciOiJub25lIn0.{}.", good.split('.').nth(1).unwrap());
    let huge = "a".repeat(10 << 20);
    for (value, name) in [
        (format!("Bearer {expired}"), "token_expired"),
        (format!("Bearer {none}"), "unauthenticated"),
        (format!("Bearer {huge}"), "unauthenticated"),
        (format!("Basic {good}"), "unauthenticated"),
        (good.clone(), "unauthenticated"),
        ("Bearer".to_owned(), "unauthenticated"),
        (String::new(), "unauthenticated"),
    ] {
        let request = raw("GET", "/v1/me").header("authorization", value);
        let answer = world.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(
            (answer.status.as_u16(), answer.name().as_str()),
            (401, name)
        );
    }
    let twice = raw("GET", "/v1/me")
        .header("authorization", format!("Bearer {good}"))
        .header("authorization", format!("Bearer {good}"));
    let answer = world.send(twice.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, 401);
}

#[tokio::test]
async fn bodies_are_bounded_and_must_be_json() {
    let world = crew().await;
    let token = format!("Bearer {}", world.token("alice"));
    let post = |path: &str, kind: &str, body: String| {
        raw(
            if path.ends_with("alice") {
                "PATCH"
            } else {
                "POST"
            },
            path,
        )
        .header("authorization", &token)
        .header("content-type", kind)
        .body(Body::from(body))
        .unwrap()
    };
    let long = json!({"status": "x".repeat(BODY_BYTES_MAX)}).to_string();
    for (path, kind, body, status, name) in [
        (
            "/v1/users/alice",
            "application/json",
            long,
            413,
            "body_too_large",
        ),
        (
            "/v1/users/alice",
            "text/plain",
            "{}".into(),
            400,
            "bad_frame",
        ),
        (
            "/v1/users/alice",
            "application/json",
            "{".into(),
            400,
            "bad_frame",
        ),
        (
            "/v1/users/alice",
            "application/json",
            "{\"sttus\":\"\"}".into(),
            400,
            "bad_frame",
        ),
        (
            "/v1/users/alice",
            "application/json",
            json!({"name": "x".repeat(129)}).to_string(),
            400,
            "too_many",
        ),
        (
            "/v1/users/alice",
            "application/json",
            json!({"phone": "0151"}).to_string(),
            400,
            "bad_frame",
        ),
        (
            "/v1/groups",
            "application/json",
            json!({"name": " "}).to_string(),
            400,
            "bad_frame",
        ),
        (
            "/v1/groups",
            "application/json",
            json!({"name": "n", "members": ["a b"]}).to_string(),
            400,
            "bad_id",
        ),
    ] {
        let answer = world.send(post(path, kind, body)).await;
        assert_eq!(
            (answer.status.as_u16(), answer.name().as_str()),
            (status, name),
            "{}",
            answer.text
        );
    }
    let members: Vec<String> = (0..9_000).map(|n| format!("member-{n}")).collect();
    let body = json!({"name": "n", "members": members}).to_string();
    let answer = world
        .send(post("/v1/groups", "application/json; charset=utf-8", body))
        .await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.json()["members"].as_array().unwrap().len(), 9_001);
}

#[tokio::test]
async fn an_idempotency_key_makes_a_change_once() {
    let world = crew().await;
    let key = uuid::Uuid::now_v7().to_string();
    let mut chats = Vec::new();
    for _ in 0..2 {
        let request = raw("POST", "/v1/groups")
            .header("authorization", format!("Bearer {}", world.token("alice")))
            .header("content-type", "application/json")
            .header("idempotency-key", &key);
        let answer = world
            .send(
                request
                    .body(Body::from(json!({"name": "n"}).to_string()))
                    .unwrap(),
            )
            .await;
        assert_eq!(answer.status, 201);
        chats.push(answer.json()["chat"].clone());
    }
    assert_eq!(chats[0], chats[1]);
    let request = raw("POST", "/v1/groups/g:crew/leave")
        .header("authorization", format!("Bearer {}", world.token("bob")))
        .header("idempotency-key", "7");
    let answer = world.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.name(), "bad_client_msg_id");
}

#[tokio::test]
async fn g9_a_ban_voids_tokens_at_once_and_closes_live_sessions() {
    let world = crew().await;
    let ban = |banned| Some(json!({ "banned": banned }));
    let answer = world
        .call("PATCH", "/v1/users/alice", Some("root"), ban(true))
        .await;
    assert_eq!(answer.json()["banned"], true);
    let refused = world.call("GET", "/v1/me", Some("alice"), None).await;
    assert_eq!(
        (refused.status.as_u16(), refused.name()),
        (401, "revoked".to_owned())
    );
    let revokes = |world: &World| {
        let all = world.rig.delivered().into_iter();
        let revoked = all.filter_map(|(_, record)| match record.kind {
            DeliveryKind::Revoke {
                number, revocation, ..
            } => Some((number, revocation)),
            _ => None,
        });
        let mut revoked: Vec<_> = revoked.collect();
        revoked.sort_by_key(|(place, _)| *place);
        revoked
    };
    let alice = user("alice");
    let for_ever = Revocation::User {
        user: alice.clone(),
        until_ms: None,
    };
    assert_eq!(revokes(&world), [(1, for_ever)]);
    world
        .call("PATCH", "/v1/users/alice", Some("root"), ban(false))
        .await;
    assert_eq!(
        world
            .call("GET", "/v1/me", Some("alice"), None)
            .await
            .status,
        200
    );

    let gone = world
        .call("DELETE", "/v1/users/bob/devices/phone", Some("bob"), None)
        .await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    assert_eq!(
        world.call("GET", "/v1/me", Some("bob"), None).await.name(),
        "revoked"
    );
    let told = revokes(&world);
    let pardon = Revocation::Pardon { user: alice };
    assert_eq!(told[1], (2, pardon), "so that a late ban is outdone");
    let (place, Revocation::Device { device, .. }) = &told[2] else {
        panic!("{told:?}");
    };
    assert_eq!((*place, device.as_str()), (3, "phone"));
}

#[tokio::test]
async fn g9_where_the_log_refuses_a_ban_is_in_the_directory_and_the_answer_says_so() {
    let world = crew().await;
    let flaws = (0..3).map(|_| (0, Flaw::Full)).collect();
    let mut services = world.services.clone();
    services.log = Arc::new(FlakyLog::new(world.rig.log.clone(), flaws));
    let world = World {
        router: router(services),
        ..world
    };
    let ban = Some(json!({ "banned": true }));
    let answer = world
        .call("PATCH", "/v1/users/alice", Some("root"), ban)
        .await;
    assert_eq!(
        (answer.status, &answer.json()["banned"]),
        (StatusCode::ACCEPTED, &json!(true))
    );
    let body = Some(json!({"user": "mallory"}));
    let answer = world
        .call("POST", "/v1/revocations", Some("root"), body)
        .await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    let path = "/v1/users/bob/devices/phone";
    let answer = world.call("DELETE", path, Some("bob"), None).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    for user in ["alice", "bob"] {
        let refused = world.call("GET", "/v1/me", Some(user), None).await;
        assert_eq!(refused.name(), "revoked");
    }
    let list = world.services.directory.revocations_after(0, 10).unwrap();
    assert_eq!(list.len(), 3, "every process reads them there");
    let delivered = world.rig.delivered().into_iter();
    let told = delivered.filter(|(_, d)| matches!(d.kind, DeliveryKind::Revoke { .. }));
    assert_eq!(told.count(), 0);
}

#[tokio::test]
async fn chats_show_the_last_message_what_is_unread_and_the_members() {
    let world = crew().await;
    let chats = |by: &'static str| {
        let world = &world;
        async move { world.call("GET", "/v1/chats", Some(by), None).await.json()["chats"].clone() }
    };
    let of = |chats: &Value, id: &str| {
        chats
            .as_array()
            .unwrap()
            .iter()
            .find(|c| c["chat"] == id)
            .cloned()
            .unwrap()
    };
    let crew = of(&chats("bob").await, "g:crew");
    assert_eq!(
        (&crew["name"], &crew["unread"], &crew["member_count"]),
        (&json!("Crew"), &json!(2), &json!(2))
    );
    assert_eq!(crew["members"][0], json!({"user": "alice", "admin": true}));
    let seq: u64 = crew["last_seq"].as_str().unwrap().parse().unwrap();
    world.rig.append(&[receipt("bob", "g:crew", seq, seq)]);
    let crew = of(&chats("bob").await, "g:crew");
    assert_eq!(
        (&crew["unread"], &crew["read_seq"]),
        (&json!(0), &crew["last_seq"])
    );
    let page = world
        .call("GET", "/v1/chats/g:crew/messages", Some("alice"), None)
        .await
        .json();
    assert_eq!(page["watermarks"][0]["user"], "bob");
    assert_eq!(page["messages"][1]["body"], "m1");
    assert_eq!(page["messages"][0]["message_type"], 3);
}

#[tokio::test]
async fn the_demo_exists_only_where_it_is_on() {
    let off = world(false);
    let login = json!({"user": "alice", "device": "laptop"});
    let answer = off
        .call("POST", "/v1/demo/login", None, Some(login.clone()))
        .await;
    assert_eq!(answer.status, 404);
    assert_eq!(
        off.call("GET", "/v1/demo/users", None, None).await.status,
        404
    );

    let on = world(true);
    seed_demo(&on.services).unwrap();
    seed_demo(&on.services).unwrap();
    let users = on.call("GET", "/v1/demo/users", None, None).await.json();
    let names: Vec<_> = users["users"]
        .as_array()
        .unwrap()
        .iter()
        .map(|u| u["user"].clone())
        .collect();
    assert_eq!(names, ["alice", "bob", "carol", "dave"]);
    let answer = on.call("POST", "/v1/demo/login", None, Some(login)).await;
    let token = answer.json()["token"].as_str().unwrap().to_owned();
    let claims = on
        .services
        .verifier
        .verify(&token, super::super::now_ms())
        .unwrap();
    assert_eq!(
        (claims.user, claims.device),
        (user("alice"), Some(device("laptop")))
    );
    assert!(!claims.admin);
    let chats = on.call("GET", "/v1/chats", Some("dave"), None).await.json();
    assert_eq!(chats["chats"][0]["name"], "Harbour crew");
    let devices = on
        .call("GET", "/v1/users/alice/devices", Some("alice"), None)
        .await
        .json();
    assert_eq!(devices["devices"][0]["device"], "laptop");
}

#[tokio::test]
async fn f25_a_page_of_another_site_cannot_log_in_to_the_demo() {
    let world = world(true);
    let body = json!({"user": "alice", "device": "laptop"}).to_string();
    for (origin, kind, status) in [
        (Some("http://127.0.0.1:8080"), "application/json", 200),
        (None, "application/json", 200),
        (Some("http://evil.example"), "application/json", 403),
        (Some("http://127.0.0.1:9999"), "application/json", 403),
        (Some("null"), "application/json", 403),
        // What a form can send without asking first.
        (None, "text/plain", 400),
        (None, "application/x-www-form-urlencoded", 400),
    ] {
        let mut request = raw("POST", "/v1/demo/login")
            .header("host", "127.0.0.1:8080")
            .header("content-type", kind);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let answer = world
            .send(request.body(Body::from(body.clone())).unwrap())
            .await;
        assert_eq!(answer.status, status, "{origin:?} {kind}: {}", answer.text);
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
    }
}

#[tokio::test]
async fn a_log_that_refuses_is_said_with_a_hint() {
    let mut world = crew().await;
    drop(world.rig.engine.take());
    let body = Some(json!({"name": "n"}));
    let answer = world.call("POST", "/v1/groups", Some("alice"), body).await;
    assert_eq!(
        (answer.status.as_u16(), answer.name()),
        (503, "unavailable".to_owned())
    );
    assert!(answer.json()["error"]["retry_after_ms"].as_u64().unwrap() > 0);
    assert!(answer.headers.contains_key("retry-after"));
}
