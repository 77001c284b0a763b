//! Hawser's group of all subscribers, made over its HTTP API.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Parser as _;
use hawser_loadgen::args::Args;
use hawser_loadgen::engine::wall_ms;
use hawser_loadgen::tokens::Signer;
use hawser_protocol::ids::ChatId;
use hawser_protocol::limits::GROUP_CHANGE_MAX;
use hawser_wire::http::Response;
use serde::Deserialize;
use uuid::Uuid;

use super::speech::{HawserSetting, Who};

/// A change of many members is answered once it is stored.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);
const ANSWER_BYTES_MAX: u64 = 1 << 20;

#[derive(Deserialize)]
struct Made {
    chat: String,
}

/// Signs with the key of a gateway's data directory, and makes the group.
///
/// # Errors
/// The key cannot be read, or the API refuses.
pub fn setting(api: &str, data: &Path, recipients: u32) -> anyhow::Result<HawserSetting> {
    let signer = Signer::open(&args(data)?)?;
    let names: Vec<String> = (0..recipients)
        .map(|number| Who::Subscriber(number).name())
        .collect();
    let mut parts = names.chunks(GROUP_CHANGE_MAX);
    let first = serde_json::json!({"name": "All", "members": parts.next().unwrap_or_default()});
    let answer = post(api, "/v1/groups", &signer, &first.to_string())?;
    let made: Made = serde_json::from_str(&answer).context("the API's answer to a new group")?;
    for part in parts {
        let path = format!("/v1/groups/{}/members", made.chat);
        let body = serde_json::json!({"users": part});
        post(api, &path, &signer, &body.to_string())?;
    }
    Ok(HawserSetting::new(signer, ChatId::new(&made.chat)?))
}

/// The loadgen's arguments that name a key; its signer takes nothing else.
fn args(key: &Path) -> anyhow::Result<Args> {
    let key = key.to_str().context("--key is not UTF-8")?;
    Ok(Args::try_parse_from(["hawser-loadgen", "--key", key])?)
}

fn post(api: &str, path: &str, signer: &Signer, body: &str) -> anyhow::Result<String> {
    let authority = api
        .strip_prefix("http://")
        .with_context(|| format!("--api {api}: give http://HOST:PORT"))?;
    let id = Uuid::now_v7();
    let low = id.as_u64_pair().1;
    let token = signer.token(
        &Who::Publisher.name(),
        super::speech::DEVICE,
        wall_ms() / 1_000,
        low,
    );
    let mut stream = TcpStream::connect(authority)?;
    stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {authority}\r\nAuthorization: Bearer {token}\r\n\
         Idempotency-Key: {id}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    let (response, used) = Response::parse(&answer)?.context("the API's answer is cut")?;
    let body = String::from_utf8_lossy(answer.get(used..).unwrap_or_default()).into_owned();
    if !matches!(response.status, 200 | 201) {
        bail!("{path}: the API answered {} {body}", response.status);
    }
    Ok(body)
}

/// A key as a gateway makes one, for tests of what is signed with it.
#[cfg(test)]
pub(crate) fn new_key(dir: &Path) -> anyhow::Result<Args> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
    let path = dir.join("issuer-ed25519.p8");
    std::fs::write(&path, key.serialize_der())?;
    args(&path)
}
