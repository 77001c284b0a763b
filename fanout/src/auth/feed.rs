//! Revocations of the whole cluster: read from the directory, where the API writes them.

use super::Verifier;
use super::revocations::Revocation;
use hawser_engines::directory::{Directory, DirectoryError};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Entries of one read.
const PAGE: usize = 1_000;
/// The thread looks whether it is to end so often.
const NAP: Duration = Duration::from_millis(50);
/// Between two lines about a directory that is away.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// The thread that reads; it ends when this is dropped.
pub struct RevocationFeed {
    _alive: Arc<()>,
}

/// What the thread keeps.
struct Reader {
    directory: Arc<dyn Directory>,
    verifier: Arc<Verifier>,
    changed: Box<dyn Fn() + Send>,
    cursor: u64,
}

impl RevocationFeed {
    /// Reads the list once, then what is new every so often; `changed` is told after each change, and
    /// judges live sessions anew. A directory that is away changes nothing: what is known stays in force.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        directory: Arc<dyn Directory>,
        verifier: Arc<Verifier>,
        every: Duration,
        changed: Box<dyn Fn() + Send>,
    ) -> std::io::Result<Self> {
        let mut reader = Reader {
            directory,
            verifier,
            changed,
            cursor: 0,
        };
        let first = reader.read();
        let alive = Arc::new(());
        let weak = Arc::downgrade(&alive);
        let thread = std::thread::Builder::new().name("hawser-revoked".to_owned());
        // Not joined: a call may take as long as the directory lets it.
        thread.spawn(move || reader.run(first, every, &weak))?;
        Ok(Self { _alive: alive })
    }
}

impl Reader {
    fn run(&mut self, first: Result<(), DirectoryError>, every: Duration, alive: &Weak<()>) {
        let mut outcome = first;
        let mut said: Option<Instant> = None;
        loop {
            match &outcome {
                Ok(()) if said.take().is_some() => {
                    tracing::info!("revocations are read from the directory again");
                }
                Ok(()) => {}
                Err(error) if said.is_none_or(|at| at.elapsed() >= SAY_EVERY) => {
                    said = Some(Instant::now());
                    tracing::warn!(%error, "revocations cannot be read from the directory; those known stay in force");
                }
                Err(_) => {}
            }
            let until = Instant::now() + every;
            while Instant::now() < until {
                if alive.strong_count() == 0 {
                    return;
                }
                std::thread::sleep(NAP.min(every));
            }
            outcome = self.read();
        }
    }

    /// Takes what is new.
    fn read(&mut self) -> Result<(), DirectoryError> {
        let (mut changed, mut kept) = (false, true);
        loop {
            let page = self.directory.revocations_after(self.cursor, PAGE)?;
            let full = page.len() == PAGE;
            if let Some((next, _)) = page.last() {
                self.cursor = *next;
                changed = true;
                let list: Vec<Revocation> = page.into_iter().map(|(_, entry)| entry).collect();
                if let Err(error) = self.verifier.revoke_all(&list, now_ms()) {
                    kept = false;
                    tracing::error!(%error, "revocations of the directory are not all kept");
                }
            }
            if !full && changed && kept {
                // An entry that was put again stands further on: only the whole list has all up to its end.
                self.verifier.read_up_to(self.cursor);
            }
            if changed {
                (self.changed)();
            }
            if !full {
                return Ok(());
            }
        }
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{AuthError, Issuer};
    use hawser_engines::embedded::{EmbeddedConfig, EmbeddedEngine};
    use hawser_protocol::ids::{DeviceId, UserId};
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn what_another_process_revokes_is_refused_here_and_stays_so_without_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let engine = EmbeddedEngine::open(EmbeddedConfig::new(dir.path().join("data"))).unwrap();
        let directory = engine.directory();
        let issuer = Issuer::open(&dir.path().join("keys")).unwrap();
        let file = dir.path().join("revoked.json");
        let settings = issuer.auth_settings(Some(file));
        let verifier = Arc::new(Verifier::new(settings.clone()).unwrap());
        let (alice, bob) = (UserId::new("alice").unwrap(), UserId::new("bob").unwrap());
        let device = DeviceId::new("laptop").unwrap();
        let token = |user| issuer.issue(user, Some(&device), 600, false, now_ms());
        directory
            .put_revocation(&Revocation::User {
                user: alice.clone(),
                until_ms: None,
            })
            .unwrap();
        let told = Arc::new(AtomicUsize::new(0));
        let count = told.clone();
        let feed = RevocationFeed::start(
            directory.clone(),
            verifier.clone(),
            Duration::from_millis(20),
            Box::new(move || {
                count.fetch_add(1, Ordering::SeqCst);
            }),
        );
        let feed = feed.unwrap();
        // The list as it stands is known before anybody is let in.
        let refused = Err(AuthError::Revoked);
        assert_eq!(verifier.verify(&token(&alice), now_ms()), refused);
        assert!(verifier.verify(&token(&bob), now_ms()).is_ok());
        directory
            .put_revocation(&Revocation::User {
                user: bob.clone(),
                until_ms: None,
            })
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        while verifier.verify(&token(&bob), now_ms()).is_ok() {
            assert!(Instant::now() < deadline, "bob is still let in");
            std::thread::sleep(Duration::from_millis(10));
        }
        // Sessions are looked at once the list has changed.
        while told.load(Ordering::SeqCst) < 2 {
            assert!(Instant::now() < deadline, "nobody was told");
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(feed);
        let alone = Verifier::new(settings).unwrap();
        assert_eq!(alone.verify(&token(&alice), now_ms()), refused);
    }
}
