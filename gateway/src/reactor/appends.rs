//! Appends to the log on their way: what each was for, and their outcomes coming back.

use crate::session::SessionId;
use hawser_engines::log::{AppendOutcome, Appended, Log, Produce, ProduceError};
use hawser_protocol::ids::{ChatId, ClientMsgId};
use hawser_protocol::record::SourceRecord;
use hawser_ring::{Receiver, Sender, Waker, mailbox};
use slab::Slab;
use std::sync::Arc;

/// What an append was for.
#[derive(Debug)]
pub(crate) enum Purpose {
    /// A session's Send.
    Send {
        /// Whose; may be gone when the outcome comes.
        session: SessionId,
        /// Which.
        client_msg_id: ClientMsgId,
        /// Where to.
        chat: ChatId,
        /// When it was handed to the log, microseconds.
        at_us: u64,
    },
    /// A receipt, kept so that it can be repeated.
    Receipt(Box<SourceRecord>),
    /// Cursors.
    Cursors,
    /// Who is served here.
    Served,
}

/// One outcome.
pub(crate) struct Outcome {
    pub(crate) purpose: Purpose,
    pub(crate) result: AppendOutcome,
}

/// The appends in flight of one core, at most `max`.
pub(crate) struct Appends {
    log: Arc<dyn Log>,
    in_flight: Slab<Purpose>,
    max: usize,
    done: Arc<dyn Appended>,
    outcomes: Receiver<(u64, AppendOutcome)>,
}

/// Gives outcomes to the core; called on the adapter's thread.
struct Completions {
    outcomes: Sender<(u64, AppendOutcome)>,
}

impl Appended for Completions {
    fn appended(&self, tag: u64, outcome: AppendOutcome) {
        // There is a place for every append in flight: it is full only when the core is gone.
        let _ = self.outcomes.try_send((tag, outcome));
    }
}

impl Appends {
    pub(crate) fn new(log: Arc<dyn Log>, max: usize, waker: Waker) -> Self {
        let (sender, outcomes) = mailbox(max, waker);
        Self {
            log,
            in_flight: Slab::new(),
            max,
            done: Arc::new(Completions { outcomes: sender }),
            outcomes,
        }
    }

    /// Hands a record to the log.
    ///
    /// # Errors
    /// Nothing was appended; the purpose comes back.
    pub(crate) fn produce(
        &mut self,
        record: Produce,
        purpose: Purpose,
    ) -> Result<(), (ProduceError, Purpose)> {
        if self.in_flight.len() >= self.max {
            let full = ProduceError::Refused {
                reason: "too many appends in flight on this core".to_owned(),
                retry_after_ms: 250,
            };
            return Err((full, purpose));
        }
        let tag = self.in_flight.insert(purpose);
        match self.log.produce(record, tag as u64, &self.done) {
            Ok(()) => Ok(()),
            Err(error) => Err((error, self.in_flight.remove(tag))),
        }
    }

    /// The next outcome, if any.
    pub(crate) fn next_outcome(&mut self) -> Option<Outcome> {
        loop {
            let (tag, result) = self.outcomes.try_recv()?;
            let tag = usize::try_from(tag).unwrap_or(usize::MAX);
            if let Some(purpose) = self.in_flight.try_remove(tag) {
                return Some(Outcome { purpose, result });
            }
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }
}
