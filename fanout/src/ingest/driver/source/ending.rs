//! How a session ends: because something failed, because the partition is another's now, or at the end of all.

use super::{Failed, Phase, RETRY_FIRST, RETRY_MAX, Source, core};
use crate::ingest::IngestConfig;
use crate::ingest::driver::DRAIN;
use crate::ingest::driver::bell::lock;
use crate::ingest::driver::known::Known;
use crate::ingest::driver::pipe::Pipe;
use crate::ingest::driver::writes::Writes;
use hawser_engines::embedded::INGEST_GROUP;
use hawser_engines::log::Topic;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

impl Source {
    /// Whether it is ours from now on.
    pub(in crate::ingest::driver) fn set_owned(&mut self, owned: bool, now: Instant) {
        match (&self.phase, owned) {
            (Phase::Away, true) => self.phase = Phase::Rest(now),
            (Phase::Away, false) => {}
            (_, true) => self.leaving = None,
            (_, false) => {
                self.leaving.get_or_insert(now);
            }
        }
    }

    /// Does what can be done now. When to come again, if nothing happens before.
    pub(in crate::ingest::driver) fn turn(
        &mut self,
        draining: bool,
        now: Instant,
    ) -> Option<Instant> {
        let Some(since) = self.leaving else {
            return self.turn_ours(draining, now);
        };
        let next = self.turn_ours(true, now);
        let until = since + DRAIN;
        if self.leaving.is_some() && (self.at_rest() || now >= until) {
            self.leave();
            return None;
        }
        Some(next.map_or(until, |next| next.min(until)))
    }

    /// Whether nothing is on its way.
    pub(in crate::ingest::driver) fn at_rest(&self) -> bool {
        self.pipe.is_empty() || !matches!(self.phase, Phase::Open(_))
    }

    /// Commits what is done, now; for the end.
    pub(in crate::ingest::driver) fn commit_last(&mut self) {
        let next = self.pipe.low();
        if !matches!(self.phase, Phase::Open(_)) || next <= self.committed {
            return;
        }
        let (log, topic) = (&self.shared.log, Topic::ChatMessages);
        if let Err(error) =
            log.commit_in(self.generation, INGEST_GROUP, topic, self.partition, next)
        {
            tracing::warn!(%error, partition = self.partition, "the last commit failed: some records are seen again");
        }
    }

    /// Another goes on with it, from the last commit: what is done is committed, for it not to be done again.
    fn leave(&mut self) {
        let next = self.pipe.low();
        if matches!(self.phase, Phase::Open(_)) && next > self.committed {
            let shared = Arc::clone(&self.shared);
            let (generation, partition) = (self.generation, self.partition);
            // What it does not say in time is done twice. The other may be ahead by now.
            self.shared.calls.run(move || {
                let (log, topic) = (&shared.log, Topic::ChatMessages);
                let behind = log.committed(INGEST_GROUP, topic, partition);
                if behind.is_ok_and(|at| at.is_none_or(|at| at < next)) {
                    let _ = log.commit_in(generation, INGEST_GROUP, topic, partition, next);
                }
            });
        }
        self.forget();
        self.phase = Phase::Away;
        self.leaving = None;
        self.backoff = RETRY_FIRST;
        self.troubled = false;
        self.shared.forget(self.partition);
    }

    /// Forgets the session; the next begins at the last commit, after a pause and once the log has said what came of
    /// all that it was given.
    pub(super) fn fail(&mut self, failed: &Failed, now: Instant) {
        self.shared.counters.retried();
        let (partition, reason) = (self.partition, failed.to_string());
        tracing::error!(
            partition,
            reason,
            "ingest begins again from its last commit"
        );
        self.troubled = true;
        lock(&self.shared.troubles).insert(partition, reason);
        self.forget();
        self.phase = Phase::Rest(now + self.backoff);
        self.backoff = (self.backoff * 2).min(RETRY_MAX);
    }

    /// `delivery` has another generation: what was planned for the one before, and is not in it, never will be. Begins again
    /// from the last commit.
    pub(in crate::ingest::driver) fn plan_anew(
        &mut self,
        config: IngestConfig,
        delivery: u16,
        now: Instant,
    ) {
        (self.config, self.delivery) = (config, delivery);
        self.forget();
        self.backoff = RETRY_FIRST;
        if !matches!(self.phase, Phase::Away) {
            self.phase = Phase::Rest(now);
        }
    }

    /// Ends the session; news of it are nobody's.
    fn forget(&mut self) {
        self.lingering += self.pipe.outstanding();
        // What of it is not on its way yet is to stay out of the log.
        self.address.stream.break_off();
        self.address.stream = Arc::default();
        self.address.session = self.shared.sessions.fetch_add(1, Ordering::Relaxed);
        self.done = Arc::new(self.address.clone());
        self.core = core(&self.shared, self.config, self.generation);
        self.waiting.clear();
        self.known = Known::default();
        (self.asking, self.ask_failures, self.ask_at) = (false, 0, None);
        self.pipe = Pipe::new(0);
        self.writes = Writes::new(true);
        self.committing = false;
        self.recall.stop();
        self.refused_since = None;
    }
}
