//! The key set at an address, kept fresh by a thread of its own: no token waits for a request.
//!
//! The set in force is replaced when another one has been read and is sound; a server that is away, or
//! serves something else, changes nothing. The last good set is also kept in a file, so that a start
//! does not depend on the server.

use super::jwks_url::JwksUrl;
use super::keys::{JWKS_BYTES_MAX, KeySet, KeysError};
use ahash::{AHashSet, RandomState};
use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two requests because of an unknown `kid`.
pub(super) const UNKNOWN_KID_PAUSE: Duration = Duration::from_secs(10);
/// Between two requests to a server that fails: first and longest.
const RETRY_FIRST: Duration = Duration::from_secs(5);
const RETRY_MAX: Duration = Duration::from_secs(300);
/// Unknown `kid`s that wait for the next answer; tokens with others are refused for good.
const PENDING_MAX: usize = 64;
/// `kid`s that the last answer did not have; they are forgotten when there are more.
const ABSENT_MAX: usize = 4_096;
/// How long a `kid` that the server does not have is refused without asking again.
const ABSENT_FOR: Duration = Duration::from_secs(60);

/// The set and the thread that keeps it fresh; dropping it ends the thread.
pub(super) struct RemoteKeys {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What has come of the requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyFetches {
    /// Answers with a sound key set.
    pub good: u64,
    /// Requests without one.
    pub failed: u64,
}

struct Shared {
    url: JwksUrl,
    tls: Option<Arc<rustls::ClientConfig>>,
    keys: ArcSwap<KeySet>,
    asked: Mutex<Asked>,
    changed: Condvar,
    hasher: RandomState,
    good: AtomicU64,
    failed: AtomicU64,
}

#[derive(Default)]
struct Asked {
    stop: bool,
    /// Ask now, whatever the clock says.
    now: bool,
    /// Hashes of unknown `kid`s that the next answer decides about.
    pending: AHashSet<u64>,
    /// Hashes of `kid`s that an answer did not have.
    absent: AHashSet<u64>,
    absent_until: Option<Instant>,
}

/// The file with the last good set.
#[derive(Serialize, Deserialize)]
struct Kept {
    url: String,
    jwks: String,
}

impl RemoteKeys {
    /// Asks once, then keeps asking in a thread. Without an answer the set of the last time is used.
    ///
    /// # Errors
    /// Neither the server nor the file has a sound set; only the server's absence may pass.
    pub(super) fn start(url: JwksUrl) -> Result<Self, KeysError> {
        let tls = url.tls()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| KeysError::Unreadable {
                path: url.to_string(),
                reason: e.to_string(),
            })?;
        let (keys, fresh) = match ask(&runtime, &url, tls.as_ref()) {
            Ok(fetched) => fetched,
            Err(error) => {
                let Some(kept) = kept(&url) else {
                    return Err(error);
                };
                tracing::warn!(%error, "the key set of the last time is in force; see auth.jwks");
                (kept, RETRY_FIRST)
            }
        };
        let shared = Arc::new(Shared {
            url,
            tls,
            keys: ArcSwap::from_pointee(keys),
            asked: Mutex::default(),
            changed: Condvar::new(),
            hasher: RandomState::new(),
            good: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        });
        let thread = std::thread::Builder::new().name("hawser-jwks".to_owned());
        let own = Arc::clone(&shared);
        let thread = thread.spawn(move || {
            own.run(&runtime, fresh);
            // A look-up of a name may still hang.
            runtime.shutdown_background();
        });
        let thread = thread.map_err(|e| KeysError::Unreadable {
            path: shared.url.to_string(),
            reason: e.to_string(),
        })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    pub(super) fn keys(&self) -> &ArcSwap<KeySet> {
        &self.shared.keys
    }

    /// Has the set read soon. Never blocks.
    pub(super) fn refresh(&self) {
        self.shared.asked().now = true;
        self.shared.changed.notify_all();
    }

    /// A token came with this `kid`, which the set does not have: whether the next answer may have it,
    /// which has then been asked for. Never waits, also not for the thread.
    pub(super) fn unknown(&self, kid: &str) -> bool {
        let hash = self.shared.hasher.hash_one(kid);
        let Ok(mut asked) = self.shared.asked.try_lock() else {
            return false;
        };
        if asked.absent.contains(&hash) && asked.absent_until.is_some_and(|t| Instant::now() < t) {
            return false;
        }
        if !asked.pending.contains(&hash) {
            if asked.pending.len() >= PENDING_MAX {
                return false;
            }
            asked.pending.insert(hash);
            self.shared.changed.notify_all();
        }
        true
    }

    pub(super) fn fetches(&self) -> KeyFetches {
        KeyFetches {
            good: self.shared.good.load(Ordering::Relaxed),
            failed: self.shared.failed.load(Ordering::Relaxed),
        }
    }
}

impl Drop for RemoteKeys {
    fn drop(&mut self) {
        self.shared.asked().stop = true;
        self.shared.changed.notify_all();
        // A request under way is bounded, but nobody waits for it.
        drop(self.thread.take());
    }
}

impl std::fmt::Debug for RemoteKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteKeys")
            .field("url", &self.shared.url)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, runtime: &tokio::runtime::Runtime, fresh: Duration) {
        let mut last = Instant::now();
        let mut due = last + fresh;
        let mut retry = RETRY_FIRST;
        while self.wait(last, due) {
            last = Instant::now();
            match ask(runtime, &self.url, self.tls.as_ref()) {
                Ok((keys, fresh)) => {
                    self.good.fetch_add(1, Ordering::Relaxed);
                    self.keys.store(Arc::new(keys));
                    self.decide();
                    due = last + fresh;
                    retry = RETRY_FIRST;
                }
                Err(error) => {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(%error, again_in = ?retry, "the key set in force stays; see auth.jwks");
                    due = last + retry;
                    retry = (retry * 2).min(RETRY_MAX);
                }
            }
        }
    }

    /// Waits until the set is to be read; `false`: the end.
    fn wait(&self, last: Instant, due: Instant) -> bool {
        let mut asked = self.asked();
        loop {
            if asked.stop {
                return false;
            }
            let now = Instant::now();
            let at = match (asked.now, asked.pending.is_empty()) {
                (true, _) => now,
                (false, false) => due.min(last + UNKNOWN_KID_PAUSE),
                (false, true) => due,
            };
            if at <= now {
                asked.now = false;
                return true;
            }
            let waited = self.changed.wait_timeout(asked, at - now);
            asked = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What waited for this answer, and is not in it, is refused for a while without asking again.
    fn decide(&self) {
        let keys = self.keys.load();
        let here: AHashSet<u64> = keys.kids().map(|kid| self.hasher.hash_one(kid)).collect();
        let mut asked = self.asked();
        let asked = &mut *asked;
        let now = Instant::now();
        if asked.absent.len() > ABSENT_MAX || asked.absent_until.is_none_or(|t| t <= now) {
            asked.absent.clear();
            asked.absent_until = Some(now + ABSENT_FOR);
        }
        let gone = asked.pending.drain().filter(|hash| !here.contains(hash));
        asked.absent.extend(gone);
    }
}

/// One request; a sound answer is kept in the file.
fn ask(
    runtime: &tokio::runtime::Runtime,
    url: &JwksUrl,
    tls: Option<&Arc<rustls::ClientConfig>>,
) -> Result<(KeySet, Duration), KeysError> {
    let fetched = runtime.block_on(url.fetch(tls, JWKS_BYTES_MAX))?;
    let keys = KeySet::parse(&fetched.text)?;
    if let Some(path) = &url.cache {
        let kept = Kept {
            url: url.to_string(),
            jwks: fetched.text,
        };
        if let Err(error) = keep(path, &kept) {
            tracing::warn!(%error, path = %path.display(), "the key set is not kept for a start without its server");
        }
    }
    Ok((keys, fetched.fresh))
}

/// The last good set of this address, if there is one.
fn kept(url: &JwksUrl) -> Option<KeySet> {
    let text = fs::read_to_string(url.cache.as_ref()?).ok()?;
    let kept: Kept = serde_json::from_str(&text).ok()?;
    (kept.url == url.to_string())
        .then(|| KeySet::parse(&kept.jwks).ok())
        .flatten()
}

fn keep(path: &Path, kept: &Kept) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut aside = path.as_os_str().to_owned();
    aside.push(".new");
    fs::write(
        &aside,
        serde_json::to_vec(kept).map_err(std::io::Error::other)?,
    )?;
    fs::rename(&aside, path)
}
