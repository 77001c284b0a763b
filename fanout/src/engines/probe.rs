//! Asks an engine something small every second, so that one that hangs is known before a client's request
//! finds out, whatever its adapter has noticed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two questions.
const EVERY: Duration = Duration::from_secs(1);
/// A question that is under way for longer says that the engine hangs.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// The thread looks whether it is to end so often.
const NAP: Duration = Duration::from_millis(100);

/// What the questions have come to; the thread ends with the last clone.
#[derive(Clone)]
pub(super) struct Probe(Arc<Answers>);

struct Answers {
    began: Instant,
    /// When the question under way was asked, milliseconds after `began`, plus one; 0: none is.
    asked_ms: AtomicU64,
    failed: Mutex<Option<String>>,
}

impl Probe {
    /// Asks from now on.
    pub(super) fn start(
        engine: &'static str,
        ask: impl Fn() -> Result<(), String> + Send + 'static,
    ) -> std::io::Result<Self> {
        let answers = Arc::new(Answers {
            began: Instant::now(),
            asked_ms: AtomicU64::new(0),
            failed: Mutex::new(None),
        });
        let weak = Arc::downgrade(&answers);
        let thread = std::thread::Builder::new().name(format!("hawser-{engine}?"));
        // Not joined: a question may take as long as the adapter lets it.
        thread.spawn(move || {
            loop {
                let Some(answers) = weak.upgrade() else {
                    return;
                };
                answers.ask(engine, &ask);
                drop(answers);
                for _ in 0..(EVERY.as_millis() / NAP.as_millis()) {
                    std::thread::sleep(NAP);
                    if weak.strong_count() == 0 {
                        return;
                    }
                }
            }
        })?;
        Ok(Self(answers))
    }

    /// Why the engine cannot be used now, if the last question, or the one under way, says so.
    pub(super) fn trouble(&self) -> Option<String> {
        let failed = self.0.failed().clone();
        failed.or_else(|| {
            let asked_ms = self.0.asked_ms.load(Ordering::Relaxed).checked_sub(1)?;
            let since = self.0.now_ms().saturating_sub(asked_ms);
            (u128::from(since) > PATIENCE.as_millis()).then(|| format!("no answer for {since} ms"))
        })
    }
}

impl Answers {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn failed(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, engine: &'static str, ask: &impl Fn() -> Result<(), String>) {
        self.asked_ms.store(self.now_ms() + 1, Ordering::Relaxed);
        let answer = ask().err();
        self.asked_ms.store(0, Ordering::Relaxed);
        let mut failed = self.failed();
        match (&*failed, &answer) {
            (None, Some(reason)) => tracing::warn!(engine, reason, "an engine does not answer"),
            (Some(_), None) => tracing::info!(engine, "an engine answers again"),
            _ => {}
        }
        *failed = answer;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    fn until(what: &str, done: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !done() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn an_engine_that_fails_is_known_and_so_is_its_return() {
        let down = Arc::new(AtomicBool::new(true));
        let asked = down.clone();
        let probe = Probe::start("store", move || match asked.load(Ordering::SeqCst) {
            true => Err("away".to_owned()),
            false => Ok(()),
        });
        let probe = probe.unwrap();
        until("it is away", || probe.trouble().as_deref() == Some("away"));
        down.store(false, Ordering::SeqCst);
        until("it is back", || probe.trouble().is_none());
    }

    #[test]
    fn an_engine_that_hangs_is_known_while_it_does() {
        let probe = Probe::start("store", || {
            std::thread::sleep(Duration::from_secs(4));
            Ok(())
        });
        let probe = probe.unwrap();
        until("it hangs", || {
            probe
                .trouble()
                .is_some_and(|t| t.starts_with("no answer for"))
        });
    }
}
