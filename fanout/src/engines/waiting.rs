//! Waiting for an engine that is not there yet: said clearly, and not for ever.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);
/// Between two lines about it.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// Why an engine cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// It did not answer for as long as was to be waited.
    #[error(
        "the {engine} did not answer within {waited_s} s: {reason}; start it, or correct {key} (engines.wait_for_engines_s \
         is how long a start waits)"
    )]
    Absent {
        /// Which.
        engine: &'static str,
        /// The key that says where it is.
        key: &'static str,
        /// How long it was waited for, seconds.
        waited_s: u64,
        /// Why the last try failed.
        reason: String,
    },
    /// It answers, and waiting changes nothing: credentials, a newer schema, unsafe settings.
    #[error("the {engine} cannot be used: {reason}; see {key}")]
    Refused {
        /// Which.
        engine: &'static str,
        /// The key to look at.
        key: &'static str,
        /// What is wrong and what to do.
        reason: String,
    },
}

/// An engine that is waited for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Awaited {
    /// Which: `log`, `store`, `presence`, `directory`, `key set`.
    pub(crate) engine: &'static str,
    /// The key that says where it is.
    pub(crate) key: &'static str,
    /// How long.
    pub(crate) patience: Duration,
}

impl Awaited {
    /// Tries until it is there, or the patience ends, or an error that does not pass.
    pub(crate) fn open<T, E: Display>(
        self,
        open: impl FnMut() -> Result<T, E>,
        passes: impl Fn(&E) -> bool,
    ) -> Result<T, EngineError> {
        self.every(PAUSE, SAY_EVERY, open, passes)
    }

    fn every<T, E: Display>(
        self,
        pause: Duration,
        say_every: Duration,
        mut open: impl FnMut() -> Result<T, E>,
        passes: impl Fn(&E) -> bool,
    ) -> Result<T, EngineError> {
        let since = Instant::now();
        let mut said: Option<Instant> = None;
        loop {
            let error = match open() {
                Ok(engine) => {
                    if said.is_some() {
                        let waited_s = since.elapsed().as_secs();
                        tracing::info!(engine = self.engine, waited_s, "the engine answers");
                    }
                    return Ok(engine);
                }
                Err(error) => error,
            };
            if !passes(&error) {
                return Err(EngineError::Refused {
                    engine: self.engine,
                    key: self.key,
                    reason: error.to_string(),
                });
            }
            let waited = since.elapsed();
            if waited + pause > self.patience {
                return Err(EngineError::Absent {
                    engine: self.engine,
                    key: self.key,
                    waited_s: waited.as_secs(),
                    reason: error.to_string(),
                });
            }
            if said.is_none_or(|at| at.elapsed() >= say_every) {
                said = Some(Instant::now());
                tracing::warn!(
                    engine = self.engine,
                    key = self.key,
                    %error,
                    waited_s = waited.as_secs(),
                    up_to_s = self.patience.as_secs(),
                    "waiting for an engine that does not answer"
                );
            }
            std::thread::sleep(pause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(1);

    fn wait(
        patience: Duration,
        tries: &mut u32,
        answer: impl Fn(u32) -> Result<(), &'static str>,
    ) -> Result<(), EngineError> {
        let awaited = Awaited {
            engine: "store",
            key: "store.contact_points",
            patience,
        };
        let open = || {
            *tries += 1;
            answer(*tries)
        };
        awaited.every(SHORT, SHORT, open, |error| *error == "away")
    }

    #[test]
    fn an_engine_that_comes_late_is_waited_for() {
        let mut tries = 0;
        let late = |n| if n < 4 { Err("away") } else { Ok(()) };
        assert_eq!(wait(Duration::from_secs(10), &mut tries, late), Ok(()));
        assert_eq!(tries, 4);
    }

    #[test]
    fn one_that_never_comes_is_named_with_its_key_when_the_patience_ends() {
        let mut tries = 0;
        let error = wait(Duration::from_millis(30), &mut tries, |_| Err("away")).unwrap_err();
        assert!(
            matches!(error, EngineError::Absent { .. }) && tries > 1,
            "{error}"
        );
        assert!(
            error.to_string().contains("store.contact_points"),
            "{error}"
        );
        let mut once = 0;
        wait(Duration::ZERO, &mut once, |_| Err("away")).unwrap_err();
        assert_eq!(once, 1, "without patience one try is all");
    }

    #[test]
    fn what_waiting_does_not_mend_is_not_waited_for() {
        let mut tries = 0;
        let error = wait(Duration::from_secs(10), &mut tries, |_| {
            Err("wrong password")
        });
        assert!(matches!(error, Err(EngineError::Refused { .. })));
        assert_eq!(tries, 1);
    }
}
