//! The presence port on Redis: the keys that `docs/redis.md` names, read and written in one round trip
//! per call, whatever the number of users. Calls never fail and never wait longer than one time-out;
//! without an answer, presence is unknown.

mod config;
mod error;
mod gate;
mod keys;
mod link;
mod local;
mod stats;

pub use config::RedisConfig;
pub use error::RedisError;
pub use stats::RedisStats;

use self::gate::{Gate, bytes, get};
use self::keys::Keys;
use self::link::Link;
use self::local::Local;
use crate::bridge::Bridge;
use crate::presence::{Presence, PresenceStore};
use hawser_protocol::ids::{ChatId, UserId};
use hawser_protocol::limits::{PRESENCE_TTL_MS, TYPING_TTL_MS};
use redis::{Cmd, Value};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Users per round trip; more take several.
const USERS_PER_TRIP: usize = 1_024;
/// Users shown as typing in one chat: the newest.
const TYPISTS_MAX: isize = 64;
/// How long "last seen" is kept, seconds: 90 days.
const LAST_SEEN_KEPT_S: u64 = 90 * 24 * 3_600;
/// A TTL that short is about to run out, milliseconds: nobody else has refreshed the user.
const ABOUT_TO_LAPSE_MS: i64 = 1_000;
/// How often a wait for Redis says so.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// Presence on Redis.
pub struct RedisPresence {
    keys: Keys,
    gate: Arc<Gate>,
    local: Mutex<Local>,
    bridge: Arc<Bridge>,
}

impl RedisPresence {
    /// Connects. A server that does not answer is waited for as long as the configuration says, and then
    /// in the background: presence is unknown until it does.
    ///
    /// # Errors
    /// The operator's: a setting, a certificate, a password, a server that is something else. The text
    /// names the key to change.
    pub fn open(config: RedisConfig, bridge: Arc<Bridge>) -> Result<Self, RedisError> {
        let keys = Keys(config.prefix.clone());
        let began = Instant::now();
        let patience = Duration::from_millis(config.open_timeout_ms);
        let gate = Arc::new(Gate::new(config, keys.mark())?);
        let mut said = None::<Instant>;
        loop {
            let reaching = gate.clone();
            let limit = Duration::from_secs(30);
            let reached = bridge.wait(limit, async move { reaching.reach().await });
            match reached {
                Ok(Ok(())) => break,
                Ok(Err(error)) if !error.passes() => return Err(error),
                _ if began.elapsed() >= patience => {
                    gate.wait_for_redis(&bridge);
                    break;
                }
                Ok(Err(error)) => {
                    if said.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
                        tracing::warn!(trouble = %error, "waiting for Redis");
                        said = Some(Instant::now());
                    }
                    std::thread::sleep(Duration::from_millis(200));
                }
                Err(_) => {}
            }
        }
        Ok(Self {
            keys,
            gate,
            local: Mutex::default(),
            bridge,
        })
    }

    /// Why presence is unknown now, and which key to look at; `None` when it is known.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.gate.trouble().map(|error| error.to_string())
    }

    /// What was counted since the start.
    #[must_use]
    pub fn stats(&self) -> RedisStats {
        self.gate.counters.counted()
    }

    fn local(&self) -> MutexGuard<'_, Local> {
        self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&self, commands: impl FnOnce(&Link) -> Vec<Cmd>) -> Option<Vec<Value>> {
        self.gate.call(&self.bridge, commands)
    }

    /// `SET presence:<user> online EX 30`, with the old value as answer.
    fn set_online(&self, user: &UserId) -> Cmd {
        let mut set = Cmd::new();
        set.arg("SET").arg(self.keys.presence(user)).arg("online");
        set.arg("EX").arg(PRESENCE_TTL_MS / 1_000).arg("GET");
        set
    }

    fn set_last_seen(&self, user: &UserId, at_ms: u64) -> Cmd {
        let mut set = Cmd::new();
        set.arg("SET").arg(self.keys.last_seen(user)).arg(at_ms);
        set.arg("EX").arg(LAST_SEEN_KEPT_S);
        set
    }

    /// The mark, then for each user whether they are online and when they were last seen.
    fn look(&self, users: &[UserId], link: &Link) -> Vec<Cmd> {
        let online = users.iter().map(|user| self.keys.presence(user));
        let seen = users.iter().map(|user| self.keys.last_seen(user));
        let mut commands = vec![get(&self.keys.mark())];
        if link.takes_many_keys() {
            for keys in [online.collect::<Vec<_>>(), seen.collect()] {
                let mut many = Cmd::new();
                many.arg("MGET").arg(keys);
                commands.push(many);
            }
        } else {
            commands.extend(online.chain(seen).map(|key| get(&key)));
        }
        commands
    }

    /// One round trip's answers about users; `None` when there are none.
    fn states(&self, users: &[UserId]) -> Option<Vec<Presence>> {
        let mut answers = self.call(|link| self.look(users, link))?.into_iter();
        let mark = answers.next().and_then(bytes);
        self.gate.saw_mark(&self.bridge, mark.as_deref());
        let settled = self.gate.settled();
        let mut flat = Vec::with_capacity(2 * users.len());
        for answer in answers {
            match answer {
                Value::Array(many) => flat.extend(many),
                one => flat.push(one),
            }
        }
        if flat.len() != 2 * users.len() {
            return None;
        }
        let seen = flat.split_off(users.len());
        let each = |(online, seen): (Value, Value)| {
            let seen = bytes(seen).and_then(|text| String::from_utf8(text).ok()?.parse().ok());
            match (bytes(online), seen) {
                (Some(_), _) => Presence::Online,
                (None, last_seen_ms) if settled => Presence::Offline {
                    last_seen_ms: last_seen_ms.unwrap_or(0),
                },
                // The key may have been lost, or have lapsed while nobody could refresh it.
                (None, _) => Presence::Unknown,
            }
        };
        Some(flat.into_iter().zip(seen).map(each).collect())
    }

    /// Milliseconds that each user's key has left; negative: there is none.
    fn left_ms(&self, users: &[UserId]) -> Option<Vec<i64>> {
        let ask = |user: &UserId| {
            let mut ask = Cmd::new();
            ask.arg("PTTL").arg(self.keys.presence(user));
            ask
        };
        let answers = self.call(|_| users.iter().map(ask).collect())?;
        let number = |value| match value {
            Value::Int(ms) => ms,
            _ => -2,
        };
        (answers.len() == users.len()).then(|| answers.into_iter().map(number).collect())
    }
}

impl PresenceStore for RedisPresence {
    fn refresh(&self, users: &[UserId], now_ms: u64) -> Vec<UserId> {
        let mut came = Vec::new();
        for chunk in users.chunks(USERS_PER_TRIP) {
            let both = |user| [self.set_online(user), self.set_last_seen(user, now_ms)];
            let Some(answers) = self.call(|_| chunk.iter().flat_map(both).collect()) else {
                continue;
            };
            let mut local = self.local();
            for (user, before) in chunk.iter().zip(answers.into_iter().step_by(2)) {
                if local.refreshed(user, bytes(before).is_some(), now_ms) {
                    came.push(user.clone());
                }
            }
        }
        came
    }

    fn leave(&self, user: &UserId, now_ms: u64) {
        self.leave_all(std::slice::from_ref(user), now_ms);
    }

    fn leave_all(&self, users: &[UserId], now_ms: u64) {
        let mut local = self.local();
        users.iter().for_each(|user| local.left(user));
        drop(local);
        for chunk in users.chunks(USERS_PER_TRIP) {
            let both = |user| {
                let mut delete = Cmd::new();
                delete.arg("DEL").arg(self.keys.presence(user));
                [delete, self.set_last_seen(user, now_ms)]
            };
            self.call(|_| chunk.iter().flat_map(both).collect());
        }
    }

    fn get(&self, users: &[UserId], _now_ms: u64) -> Vec<Presence> {
        let chunks = users.chunks(USERS_PER_TRIP);
        let unknown = |chunk: &[UserId]| vec![Presence::Unknown; chunk.len()];
        chunks
            .flat_map(|chunk| self.states(chunk).unwrap_or_else(|| unknown(chunk)))
            .collect()
    }

    fn expired(&self, now_ms: u64) -> Vec<UserId> {
        let mut gone = Vec::new();
        let due = self.local().due(now_ms);
        for chunk in due.chunks(USERS_PER_TRIP) {
            let left = self.left_ms(chunk);
            let mut local = self.local();
            for (i, user) in chunk.iter().enumerate() {
                match left.as_ref().and_then(|left| left.get(i)) {
                    None => {
                        local.lapsed(user.clone());
                        gone.push(user.clone());
                    }
                    Some(ms) if *ms < 0 => gone.push(user.clone()),
                    Some(ms) if *ms <= ABOUT_TO_LAPSE_MS => local.again(user.clone(), now_ms),
                    // Another node refreshes the user.
                    Some(_) => {}
                }
            }
        }
        gone
    }

    fn set_typing(&self, user: &UserId, chat: &ChatId, typing: bool, now_ms: u64) {
        let (key, typists) = (self.keys.typing(user, chat), self.keys.typists(chat));
        let command = |words: &[&str]| {
            let mut command = Cmd::new();
            words.iter().for_each(|word| {
                command.arg(*word);
            });
            command
        };
        let now = now_ms.to_string();
        let until = now_ms.saturating_add(TYPING_TTL_MS).to_string();
        let ttl_s = (TYPING_TTL_MS / 1_000).to_string();
        let kept_ms = (2 * TYPING_TTL_MS).to_string();
        let beyond = (-TYPISTS_MAX - 1).to_string();
        self.call(|_| {
            if !typing {
                return vec![
                    command(&["DEL", &key]),
                    command(&["ZREM", &typists, user.as_str()]),
                ];
            }
            vec![
                command(&["SET", &key, "typing", "EX", &ttl_s]),
                command(&["ZADD", &typists, &until, user.as_str()]),
                command(&["ZREMRANGEBYSCORE", &typists, "-inf", &now]),
                command(&["ZREMRANGEBYRANK", &typists, "0", &beyond]),
                command(&["PEXPIRE", &typists, &kept_ms]),
            ]
        });
    }

    fn typing(&self, chat: &ChatId, now_ms: u64) -> Vec<UserId> {
        let mut ask = Cmd::new();
        ask.arg("ZRANGEBYSCORE").arg(self.keys.typists(chat));
        ask.arg(format!("({now_ms}")).arg("+inf");
        ask.arg("LIMIT").arg(0).arg(TYPISTS_MAX);
        let answers = self.call(|_| vec![ask]).unwrap_or_default();
        let Some(Value::Array(users)) = answers.into_iter().next() else {
            return Vec::new();
        };
        let user = |value| UserId::new(std::str::from_utf8(&bytes(value)?).ok()?).ok();
        users.into_iter().filter_map(user).collect()
    }
}
