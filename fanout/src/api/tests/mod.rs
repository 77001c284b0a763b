//! Facts of the API.

mod matrix;
mod operations;

use super::{ApiServices, router, seed_demo};
use crate::auth::{Issuer, Verifier};
use crate::rig::engine::Rig;
use crate::rig::{create, device, plain, sent, user};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, Response, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use tower::ServiceExt as _;

/// A node's API with alice and bob in `g:crew` (alice its admin) and in a 1:1 chat; mallory and zoe
/// are in nothing with them.
struct World {
    rig: Rig,
    services: ApiServices,
    router: Router,
    issuer: Arc<Issuer>,
}

/// An answer.
struct Answer {
    status: StatusCode,
    headers: axum::http::HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    /// Name of the error.
    fn name(&self) -> String {
        self.json()["error"]["name"].as_str().unwrap().to_owned()
    }
}

fn world(demo: bool) -> World {
    let rig = Rig::new();
    let issuer = Arc::new(Issuer::open(rig.dir.path()).unwrap());
    let revocations = rig.dir.path().join("revocations.json");
    let verifier = Verifier::new(issuer.auth_settings(Some(revocations))).unwrap();
    let services = ApiServices {
        log: rig.log.clone(),
        store: rig.store.clone(),
        directory: rig.directory.clone(),
        presence: rig.engine.as_ref().unwrap().presence(),
        verifier: Arc::new(verifier),
        issuer: Some(issuer.clone()),
        demo,
    };
    World {
        router: router(services.clone()),
        services,
        issuer,
        rig,
    }
}

async fn crew() -> World {
    let world = world(false);
    world.rig.append(&[
        create("alice", 900, "g:crew", &["bob"]),
        sent("alice", plain("g:crew", 1)),
        sent("alice", plain("dm:alice:bob", 2)),
    ]);
    for (name, phone) in [
        ("alice", "+4915112345678"),
        ("bob", ""),
        ("mallory", ""),
        ("zoe", ""),
    ] {
        let body = json!({"user": name, "name": format!("Name of {name}"), "phone": phone});
        let answer = world
            .call("POST", "/v1/users", Some("root"), Some(body))
            .await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    }
    world
}

impl World {
    /// A token; `root` has the scope `admin`.
    fn token(&self, name: &str) -> String {
        let (user, device) = (user(name), device("phone"));
        let admin = name == "root";
        self.issuer
            .issue(&user, Some(&device), 600, admin, super::now_ms())
    }

    async fn call(
        &self,
        method: &str,
        path: &str,
        by: Option<&str>,
        body: Option<Value>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(by) = by {
            request = request.header("authorization", format!("Bearer {}", self.token(by)));
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        self.send(request.body(body).unwrap()).await
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response: Response<Body> = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, 16 << 20).await.unwrap();
        Answer {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }
}
