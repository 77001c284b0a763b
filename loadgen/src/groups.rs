//! The groups of a run, made over the HTTP API.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use hawser_protocol::ids::ChatId;
use hawser_wire::http::Response;
use serde::{Deserialize, Serialize};

use crate::engine::wall_ms;
use crate::plan::Plan;
use crate::tokens::Signer;

/// An answer of the API is at most this many bytes here.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// The API answers a change once the log has it.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);

/// Why the groups could not be made.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// The URL is not `http://host:port`.
    #[error("--api {0}: give http://HOST:PORT, or --group-share 0 for a run without groups")]
    Url(String),
    /// No connection, or it broke.
    #[error("the API at {url} does not answer (--group-share 0 runs without groups)")]
    Io {
        /// Which.
        url: String,
        /// The system's words.
        source: std::io::Error,
    },
    /// The API refused.
    #[error("the API answered {status} to a new group: {body}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its words.
        body: String,
    },
}

#[derive(Serialize)]
struct NewGroup<'a> {
    name: String,
    members: &'a [String],
}

#[derive(Deserialize)]
struct Made {
    chat: String,
}

/// Makes the groups that the plan wishes for.
///
/// # Errors
/// See [`GroupError`].
pub fn make(
    api: &str,
    plan: &Plan,
    size: u32,
    signer: &Signer,
    mut each: impl FnMut(),
) -> Result<Vec<(ChatId, Vec<u32>)>, GroupError> {
    let authority = api
        .strip_prefix("http://")
        .map(|rest| rest.trim_end_matches('/'))
        .ok_or_else(|| GroupError::Url(api.to_owned()))?;
    let mut groups = Vec::new();
    for (index, members) in plan.wished_groups(size).into_iter().enumerate() {
        let names: Vec<String> = members.iter().map(|user| plan.name(*user)).collect();
        let Some((first, others)) = names.split_first() else {
            continue;
        };
        let token = signer.token(first, "load", wall_ms() / 1_000, index as u64);
        let new = NewGroup {
            name: format!("Load {index}"),
            members: others,
        };
        let body = serde_json::to_string(&new).unwrap_or_default();
        let (status, answer) =
            post(authority, "/v1/groups", &token, &body).map_err(|source| GroupError::Io {
                url: api.to_owned(),
                source,
            })?;
        let made = serde_json::from_str::<Made>(&answer)
            .ok()
            .and_then(|made| ChatId::new(&made.chat).ok());
        match made {
            Some(chat) if status == 201 => groups.push((chat, members)),
            _ => {
                return Err(GroupError::Refused {
                    status,
                    body: answer.chars().take(300).collect(),
                });
            }
        }
        each();
    }
    Ok(groups)
}

fn post(authority: &str, path: &str, token: &str, body: &str) -> std::io::Result<(u16, String)> {
    let invalid = |what: &'static str| std::io::Error::new(std::io::ErrorKind::InvalidData, what);
    let address = authority
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| invalid("no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_DEADLINE)?;
    stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {authority}\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    let (response, used) = Response::parse(&answer)
        .map_err(|_| invalid("no HTTP answer"))?
        .ok_or_else(|| invalid("a truncated answer"))?;
    let body = answer.get(used..).unwrap_or_default();
    Ok((response.status, String::from_utf8_lossy(body).into_owned()))
}
