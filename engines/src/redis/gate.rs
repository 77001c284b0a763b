//! Whether Redis is asked at all. A call without an answer closes the gate; from then on every call is
//! answered "unknown" at once, and one task alone waits for Redis, on a new connection. So a server
//! that is stopped, and not gone, costs each thread one time-out and no more.

use super::config::RedisConfig;
use super::error::RedisError;
use super::link::{Link, Maker};
use super::stats::{Counters, add};
use crate::bridge::Bridge;
use hawser_protocol::limits::PRESENCE_TTL_MS;
use redis::{Cmd, Value};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Pause between two attempts to reach Redis.
const RETRY: Duration = Duration::from_millis(500);
/// An outage longer than this may have cost keys: users are refreshed twice per TTL.
const LAPSES_MS: u64 = PRESENCE_TTL_MS / 2;
/// After such an outage, or after data were lost, every node has refreshed its users.
const SETTLED: Duration = Duration::from_millis(PRESENCE_TTL_MS / 2 + 5_000);

/// The gate. Shared by callers and the task that waits for Redis.
pub(super) struct Gate {
    config: RedisConfig,
    maker: Maker,
    /// Key of the mark.
    mark: String,
    pub(super) counters: Counters,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// `None`: closed.
    link: Option<Link>,
    /// Rises with each link: what a call says about an older one is no news.
    number: u64,
    waiting: bool,
    trouble: Option<RedisError>,
    closed_at: Option<Instant>,
    /// What the mark held when it was last seen.
    seen_mark: Option<Vec<u8>>,
    /// Absence of a key says nothing until then.
    unsettled_until: Option<Instant>,
}

impl Gate {
    /// Closed, until `open` or the waiting task has reached Redis.
    pub(super) fn new(config: RedisConfig, mark: String) -> Result<Self, RedisError> {
        Ok(Self {
            maker: Maker::new(&config)?,
            config,
            mark,
            counters: Counters::default(),
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn timeout(&self) -> Duration {
        Duration::from_millis(u64::from(self.config.timeout_ms))
    }

    /// Reaches Redis once and opens.
    pub(super) async fn reach(&self) -> Result<(), RedisError> {
        let limit = self.timeout().max(Duration::from_millis(50)) * 2;
        let reached = tokio::time::timeout(limit, async {
            let mut link = self.maker.connect().await?;
            let mark = self.probe(&mut link).await?;
            Ok((link, mark))
        });
        let outcome = match reached.await {
            Ok(Ok((link, mark))) => Ok((link, mark)),
            Ok(Err(error)) => Err(RedisError::of(&error, &self.config)),
            Err(_) => Err(RedisError::timed_out(&self.config)),
        };
        match outcome {
            Ok((link, mark)) => {
                self.opened(link, &mark);
                Ok(())
            }
            Err(error) => {
                self.state().trouble = Some(error.clone());
                Err(error)
            }
        }
    }

    /// Writes as calls do, so that a server that reads and cannot write stays closed. Returns the mark.
    async fn probe(&self, link: &mut Link) -> redis::RedisResult<Vec<u8>> {
        let mut make = Cmd::new();
        let unique = format!("{:x}-{:x}", std::process::id(), unix_nanos());
        make.arg("SET").arg(&self.mark).arg(unique).arg("NX");
        let answers = link.run(vec![make, get(&self.mark)]).await?;
        Ok(answers
            .into_iter()
            .nth(1)
            .and_then(bytes)
            .unwrap_or_default())
    }

    fn opened(&self, link: Link, mark: &[u8]) {
        let mut state = self.state();
        let out = state.closed_at.take().map(|at| at.elapsed());
        state.link = Some(link);
        state.number += 1;
        state.trouble = None;
        let lost = state
            .seen_mark
            .replace(mark.to_vec())
            .is_some_and(|seen| seen != mark);
        if lost {
            add(&self.counters.losses, 1);
        }
        if lost || out.is_some_and(|out| out >= Duration::from_millis(LAPSES_MS)) {
            state.unsettled_until = Some(Instant::now() + SETTLED);
        }
        drop(state);
        if let Some(out) = out {
            tracing::info!(
                servers = self.config.place(),
                after_ms = u64::try_from(out.as_millis()).unwrap_or(u64::MAX),
                data_lost = lost,
                "Redis answers again: presence is known"
            );
        }
    }

    /// Asks with all commands in one round trip. `None`: Redis does not answer, nothing is known.
    pub(super) fn call(
        self: &Arc<Self>,
        bridge: &Bridge,
        commands: impl FnOnce(&Link) -> Vec<Cmd>,
    ) -> Option<Vec<Value>> {
        let (link, number) = {
            let state = self.state();
            (state.link.clone(), state.number)
        };
        let Some(mut link) = link else {
            add(&self.counters.shed, 1);
            self.wait_for_redis(bridge);
            return None;
        };
        let commands = commands(&link);
        add(&self.counters.commands, commands.len());
        let began = Instant::now();
        let answered = bridge.wait(self.timeout(), async move { link.run(commands).await });
        let error = match answered {
            Ok(Ok(values)) => {
                self.counters.latency.record(began.elapsed());
                return Some(values);
            }
            Ok(Err(error)) => RedisError::of(&error, &self.config),
            Err(_) => RedisError::timed_out(&self.config),
        };
        add(&self.counters.failures, 1);
        if began.elapsed() >= self.timeout() {
            add(&self.counters.timeouts, 1);
        }
        self.close(number, error);
        self.wait_for_redis(bridge);
        None
    }

    fn close(&self, number: u64, error: RedisError) {
        let mut state = self.state();
        if state.number != number || state.link.is_none() {
            return;
        }
        state.link = None;
        state.closed_at = Some(Instant::now());
        let said = error.to_string();
        state.trouble = Some(error);
        drop(state);
        add(&self.counters.outages, 1);
        tracing::warn!(trouble = said, "Redis is not asked until it answers");
    }

    /// Starts the one task that waits, unless it runs.
    pub(super) fn wait_for_redis(self: &Arc<Self>, bridge: &Bridge) {
        let mut state = self.state();
        if state.waiting || state.link.is_some() {
            return;
        }
        state.waiting = true;
        state.closed_at.get_or_insert_with(Instant::now);
        drop(state);
        let gate = Arc::downgrade(self);
        bridge.spawn(async move {
            let mut said = String::new();
            while let Some(gate) = gate.upgrade() {
                match gate.reach().await {
                    Ok(()) => {
                        gate.state().waiting = false;
                        return;
                    }
                    Err(error) => {
                        let now = error.to_string();
                        if now != said {
                            tracing::warn!(trouble = now, "Redis cannot be used");
                            said = now;
                        }
                    }
                }
                drop(gate);
                tokio::time::sleep(RETRY).await;
            }
        });
    }

    /// Takes the mark as a call has read it: another one, or none, says that the data were lost.
    pub(super) fn saw_mark(self: &Arc<Self>, bridge: &Bridge, mark: Option<&[u8]>) {
        let mut state = self.state();
        if state.seen_mark.as_deref() == mark {
            return;
        }
        state.unsettled_until = Some(Instant::now() + SETTLED);
        state.seen_mark = mark.map(<[u8]>::to_vec);
        let absent = mark.is_none();
        let link = state.link.clone();
        drop(state);
        add(&self.counters.losses, 1);
        tracing::warn!(
            "the data in Redis were lost: who has no key there is unknown until all nodes have refreshed their users"
        );
        let (Some(mut link), true) = (link, absent) else {
            return;
        };
        let gate = Arc::clone(self);
        bridge.spawn(async move {
            if let Ok(mark) = gate.probe(&mut link).await {
                gate.state().seen_mark = Some(mark);
            }
        });
    }

    /// Whether the absence of a key means something.
    pub(super) fn settled(&self) -> bool {
        let until = self.state().unsettled_until;
        until.is_none_or(|until| Instant::now() >= until)
    }

    /// Why Redis is not asked.
    pub(super) fn trouble(&self) -> Option<RedisError> {
        let state = self.state();
        match (&state.link, &state.trouble) {
            (Some(_), _) => None,
            (None, trouble) => trouble.clone(),
        }
    }
}

/// `GET key`.
pub(super) fn get(key: &str) -> Cmd {
    let mut command = Cmd::new();
    command.arg("GET").arg(key);
    command
}

/// A string of an answer; `None` for nil.
pub(super) fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        _ => None,
    }
}

fn unix_nanos() -> u128 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.as_nanos())
}
