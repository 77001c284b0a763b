//! Message records that delivery records refer to and that came by no lane: read in the store, each once for all cores.

use super::answers::Answers;
use crate::reactor::inbox::ToCore;
use ahash::AHashSet;
use hawser_engines::store::Page;
use hawser_protocol::record::BodyKey;
use hawser_protocol::server::{Body, Fetch, Fetched};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bodies that are being read or wait for a thread: no more than the questions that may wait.
#[derive(Default)]
pub(crate) struct Fetches(Mutex<AHashSet<BodyKey>>);

impl Fetches {
    /// Notes that a body is to be read; `false`: it is being read, and all cores will hear of it.
    pub(super) fn begin(&self, key: BodyKey) -> bool {
        self.lock().insert(key)
    }

    fn end(&self, key: &BodyKey) {
        self.lock().remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, AHashSet<BodyKey>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answers {
    /// Reads a message record and tells every core; blocks for as long as the store takes.
    pub(super) fn fetch_body(&self, fetch: &Fetch) {
        let ordinal = fetch.referred.ordinal;
        let page = Page::one(ordinal);
        let outcome = match self.store.messages(&fetch.chat, page) {
            Ok(rows) => {
                let mut rows = rows.into_iter().filter(|row| row.seq == fetch.key.seq);
                let body = rows.next().map(|row| Body::new(row.record));
                let meant = body.filter(|body| body.is(&fetch.referred));
                meant.map_or(Fetched::Absent, Fetched::Body)
            }
            Err(error) => {
                tracing::debug!(%error, chat = fetch.chat.as_str(), "a body cannot be read now");
                Fetched::Failed
            }
        };
        self.tell_fetched(fetch.key, &outcome);
    }

    pub(super) fn tell_fetched(&self, key: BodyKey, outcome: &Fetched) {
        // Who asks from now on has missed the answer.
        self.fetches.end(&key);
        for core in 0..self.node.cores.len() {
            let outcome = outcome.clone();
            self.tell(core, ToCore::BodyFetched { key, outcome });
        }
    }
}
