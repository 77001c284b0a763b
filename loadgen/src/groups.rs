//! The groups of a run, made over the HTTP API.

use std::time::Duration;

use hawser_protocol::ids::ChatId;
use hawser_protocol::limits::GROUP_CHANGE_MAX;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::engine::wall_ms;
use crate::http::exchange;
use crate::plan::Plan;
use crate::tokens::Signer;

/// An answer of the API is at most this many bytes here.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// The API answers a change once the log has it.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);
/// A change that the API answers too late, or has no room for, is repeated so often, after so long.
const REPEATED_MAX: u32 = 10;
const REPEATED_AFTER: Duration = Duration::from_secs(1);

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
    /// Whoever wanted them does no more.
    #[error("stopped while groups were made")]
    Stopped,
}

#[derive(Serialize)]
struct NewGroup<'a> {
    name: String,
    members: &'a [String],
}

#[derive(Serialize)]
struct NewMembers<'a> {
    users: &'a [String],
}

#[derive(Deserialize)]
struct Made {
    chat: String,
}

/// How large groups are.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Users of the run in each.
    pub users: u32,
    /// Members besides, who never connect.
    pub away: u32,
}

impl Sizes {
    /// Calls of the API that make all groups of a plan.
    #[must_use]
    pub fn changes(self, plan: &Plan) -> u64 {
        let per_change = u32::try_from(GROUP_CHANGE_MAX).unwrap_or(u32::MAX);
        let each = 1 + u64::from(self.away.div_ceil(per_change));
        plan.wished_groups(self.users).len() as u64 * each
    }
}

/// Makes the groups that the plan wishes for; `each` is called after every change, and says whether to go on.
///
/// # Errors
/// See [`GroupError`].
pub fn make(
    api: &str,
    plan: &Plan,
    sizes: Sizes,
    signer: &Signer,
    mut each: impl FnMut() -> bool,
) -> Result<Vec<(ChatId, Vec<u32>)>, GroupError> {
    let authority = api
        .strip_prefix("http://")
        .map(|rest| rest.trim_end_matches('/'))
        .ok_or_else(|| GroupError::Url(api.to_owned()))?;
    let mut groups = Vec::new();
    for (index, members) in plan.wished_groups(sizes.users).into_iter().enumerate() {
        let names: Vec<String> = members.iter().map(|user| plan.name(*user)).collect();
        let Some((first, others)) = names.split_first() else {
            continue;
        };
        let change = |path: &str, body: String| {
            let call = Call {
                authority,
                path,
                token: &signer.token(first, "load", wall_ms() / 1_000, index as u64),
                key: Uuid::now_v7(),
                body,
            };
            let answer = call.patiently().map_err(|source| GroupError::Io {
                url: api.to_owned(),
                source,
            })?;
            match answer {
                (200 | 201, answer) => Ok(answer),
                (status, answer) => Err(GroupError::Refused {
                    status,
                    body: answer.chars().take(300).collect(),
                }),
            }
        };
        let new = NewGroup {
            name: format!("Load {index}"),
            members: others,
        };
        let answer = change("/v1/groups", json(&new))?;
        let made = serde_json::from_str::<Made>(&answer).ok();
        let chat =
            made.and_then(|made| ChatId::new(&made.chat).ok())
                .ok_or(GroupError::Refused {
                    status: 201,
                    body: answer.chars().take(300).collect(),
                })?;
        go_on(each())?;
        // No name of a user of the run: those end in digits after the prefix.
        let away = (0..sizes.away).map(|i| format!("{first}away{i}"));
        let away: Vec<String> = away.collect();
        for part in away.chunks(GROUP_CHANGE_MAX) {
            let path = format!("/v1/groups/{}/members", chat.as_str());
            change(&path, json(&NewMembers { users: part }))?;
            go_on(each())?;
        }
        groups.push((chat, members));
    }
    Ok(groups)
}

fn go_on(wished: bool) -> Result<(), GroupError> {
    if wished {
        Ok(())
    } else {
        Err(GroupError::Stopped)
    }
}

fn json(body: &impl Serialize) -> String {
    serde_json::to_string(body).unwrap_or_default()
}

/// A change of a group.
struct Call<'a> {
    authority: &'a str,
    path: &'a str,
    token: &'a str,
    /// By which the API knows it again.
    key: Uuid,
    body: String,
}

impl Call<'_> {
    /// Repeated where it may have come to nothing; a connection that is never made fails at once.
    fn patiently(&self) -> std::io::Result<(u16, String)> {
        let mut left = REPEATED_MAX;
        loop {
            let answer = self.once()?;
            if left == 0 || !matches!(answer.0, 503 | 504) {
                return Ok(answer);
            }
            left -= 1;
            std::thread::sleep(REPEATED_AFTER);
        }
    }

    fn once(&self) -> std::io::Result<(u16, String)> {
        let Self {
            authority,
            path,
            token,
            key,
            body,
        } = self;
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {authority}\r\nAuthorization: Bearer {token}\r\n\
         Idempotency-Key: {key}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        exchange(authority, &request, ANSWER_DEADLINE, ANSWER_BYTES_MAX)
    }
}
