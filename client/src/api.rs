//! The HTTP API as a client uses it: log in to the demo, who there is, groups.

use crate::transport::{ReachError, Target, Trust, call};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hawser_protocol::ids::{ChatId, DeviceId, UserId};
use serde_json::{Value, json};

/// Where the API is and whom to trust there.
#[derive(Debug, Clone)]
pub struct Api {
    base: String,
    trust: Trust,
}

/// A person of the demo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// User id.
    pub user: String,
    /// Display name.
    pub name: String,
}

impl Api {
    /// The API beside a WebSocket URL: the same host and port, over HTTP(S).
    ///
    /// # Errors
    /// No URL: the caller's fault.
    pub fn beside(ws_url: &str, trust: Trust) -> Result<Self, ReachError> {
        let target = Target::parse(ws_url)?;
        let scheme = if target.tls { "https" } else { "http" };
        let base = format!("{scheme}://{}", target.authority());
        Ok(Self { base, trust })
    }

    /// A token for a seeded user of the demo.
    ///
    /// # Errors
    /// The server's words, or that it cannot be reached.
    pub async fn demo_login(&self, user: &UserId, device: &DeviceId) -> Result<String, ReachError> {
        let body = json!({"user": user.as_str(), "device": device.as_str()});
        let answer = self
            .call("POST", "/v1/demo/login", None, Some(body))
            .await?;
        let token = answer["token"].as_str();
        token
            .map(str::to_owned)
            .ok_or_else(|| ReachError::Http("the answer to the login holds no token".into()))
    }

    /// The seeded users.
    ///
    /// # Errors
    /// The server's words, or that it cannot be reached.
    pub async fn demo_users(&self) -> Result<Vec<Person>, ReachError> {
        let answer = self.call("GET", "/v1/demo/users", None, None).await?;
        let list = answer["users"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let person = |value: &Value| Person {
            user: text(&value["user"]),
            name: text(&value["name"]),
        };
        Ok(list.iter().map(person).collect())
    }

    /// Makes a group; returns its chat.
    ///
    /// # Errors
    /// The server's words, or that it cannot be reached.
    pub async fn create_group(
        &self,
        token: &str,
        name: &str,
        members: &[String],
    ) -> Result<ChatId, ReachError> {
        let body = json!({"name": name, "members": members});
        let answer = self
            .call("POST", "/v1/groups", Some(token), Some(body))
            .await?;
        let chat = answer["chat"].as_str().unwrap_or_default();
        ChatId::new(chat).map_err(|_| ReachError::Http("the answer holds no chat".into()))
    }

    /// Adds members.
    ///
    /// # Errors
    /// The server's words, or that it cannot be reached.
    pub async fn add(
        &self,
        token: &str,
        group: &ChatId,
        users: &[String],
    ) -> Result<(), ReachError> {
        let body = json!({"users": users});
        self.group("POST", "/members", token, group, Some(body))
            .await
    }

    /// Removes a member.
    ///
    /// # Errors
    /// The server's words, or that it cannot be reached.
    pub async fn remove(
        &self,
        token: &str,
        group: &ChatId,
        user: &UserId,
    ) -> Result<(), ReachError> {
        let path = format!("/members/{}", escaped(user.as_str()));
        self.group("DELETE", &path, token, group, None).await
    }

    /// Leaves.
    ///
    /// # Errors
    /// The server's words, or that it cannot be reached.
    pub async fn leave(&self, token: &str, group: &ChatId) -> Result<(), ReachError> {
        self.group("POST", "/leave", token, group, None).await
    }

    /// Renames.
    ///
    /// # Errors
    /// The server's words, or that it cannot be reached.
    pub async fn rename(&self, token: &str, group: &ChatId, name: &str) -> Result<(), ReachError> {
        let body = json!({"name": name});
        self.group("PATCH", "", token, group, Some(body)).await
    }

    /// Makes a member an admin, or no longer.
    ///
    /// # Errors
    /// The server's words, or that it cannot be reached.
    pub async fn set_admin(
        &self,
        token: &str,
        group: &ChatId,
        user: &UserId,
        admin: bool,
    ) -> Result<(), ReachError> {
        let method = if admin { "PUT" } else { "DELETE" };
        let path = format!("/admins/{}", escaped(user.as_str()));
        self.group(method, &path, token, group, None).await
    }

    /// Sets a group to relaxed order, once and for good: its messages are spread over so many lanes (2, 4, … 64).
    ///
    /// # Errors
    /// The server's words, or that it cannot be reached.
    pub async fn relax(&self, token: &str, group: &ChatId, lanes: u8) -> Result<(), ReachError> {
        let body = json!({"lanes": lanes});
        self.group("PUT", "/order", token, group, Some(body)).await
    }

    async fn group(
        &self,
        method: &str,
        rest: &str,
        token: &str,
        group: &ChatId,
        body: Option<Value>,
    ) -> Result<(), ReachError> {
        let path = format!("/v1/groups/{}{rest}", escaped(group.as_str()));
        self.call(method, &path, Some(token), body).await?;
        Ok(())
    }

    async fn call(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> Result<Value, ReachError> {
        let url = format!("{}{path}", self.base);
        call(method, &url, token, body.as_ref(), &self.trust).await
    }
}

/// An id in a path: what RFC 3986 leaves unreserved stays, the rest is escaped.
fn escaped(id: &str) -> String {
    let mut out = String::with_capacity(id.len());
    for byte in id.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// What a token (JWT) says of itself, unverified: verifying is the server's work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenFacts {
    /// `sub`.
    pub user: String,
    /// `dev`.
    pub device: String,
    /// `exp`, milliseconds; `u64::MAX` when it does not say.
    pub expires_at_ms: u64,
}

impl TokenFacts {
    /// Reads them; `None` when it is no JWT.
    #[must_use]
    pub fn of(token: &str) -> Option<Self> {
        let payload = token.trim().split('.').nth(1)?;
        let bytes = URL_SAFE_NO_PAD.decode(payload).ok()?;
        let claims: Value = serde_json::from_slice(&bytes).ok()?;
        let text = |name: &str| claims[name].as_str().unwrap_or_default().to_owned();
        let exp = claims["exp"].as_u64();
        Some(Self {
            user: text("sub"),
            device: text("dev"),
            expires_at_ms: exp.map_or(u64::MAX, |s| s.saturating_mul(1_000)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_is_beside_the_websocket() {
        let base = |url| Api::beside(url, Trust::System).map(|api| api.base).ok();
        assert_eq!(
            base("ws://127.0.0.1:8080/v1/ws").as_deref(),
            Some("http://127.0.0.1:8080")
        );
        assert_eq!(
            base("wss://[::1]:8443/v1/ws").as_deref(),
            Some("https://[::1]:8443")
        );
        assert_eq!(base("nonsense"), None);
    }

    #[test]
    fn ids_are_escaped_in_paths() {
        assert_eq!(escaped("g:a+b@c"), "g%3Aa%2Bb%40c");
    }

    #[test]
    fn a_token_says_who_and_how_long() {
        let payload = URL_SAFE_NO_PAD.encode(r#"{"sub":"alice","dev":"d","exp":12}"#);
        let facts = TokenFacts::of(&format!("x.{payload}.y")).expect("a token");
        assert_eq!(
            (
                facts.user.as_str(),
                facts.device.as_str(),
                facts.expires_at_ms
            ),
            ("alice", "d", 12_000)
        );
        assert_eq!(TokenFacts::of("no token"), None);
    }
}
