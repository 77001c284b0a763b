//! One request: bounded, timed out, repeated where that may help, and refused at once while Cassandra is away.

use super::CassandraConfig;
use super::breaker::Breaker;
use super::error::{Failure, judge, unavailable};
use super::pace::Pace;
use crate::latency::{Latencies, Latency};
use crate::store::StoreError;
use scylla::client::session::Session;
use scylla::errors::ExecutionError;
use scylla::response::query_result::QueryResult;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::serialize::row::SerializeRow;
use scylla::statement::prepared::PreparedStatement;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// First and longest wait before a request is repeated.
const AGAIN_FIRST: Duration = Duration::from_millis(10);
const AGAIN_MAX: Duration = Duration::from_millis(500);

/// What has been asked of Cassandra so far.
#[derive(Debug, Clone, Default)]
pub struct CassandraStats {
    /// Tries.
    pub requests: u64,
    /// Tries that were repetitions.
    pub retries: u64,
    /// Tries that did not end in time or at all.
    pub failures: u64,
    /// Those of them whose outcome is unknown: a write may have been applied.
    pub timeouts: u64,
    /// Operations refused because the breaker was open.
    pub refused: u64,
    /// Times that the breaker opened.
    pub opened: u64,
    /// Requests under way.
    pub in_flight: u64,
    /// Operations that gave up at their deadline.
    pub gave_up: u64,
    /// How long tries that succeeded took.
    pub latency: Latencies,
}

#[derive(Default)]
struct Counters {
    requests: AtomicU64,
    retries: AtomicU64,
    failures: AtomicU64,
    timeouts: AtomicU64,
    refused: AtomicU64,
    opened: AtomicU64,
    gave_up: AtomicU64,
    latency: Latency,
}

/// The session and its bounds.
pub(super) struct Runner {
    session: Session,
    permits: Semaphore,
    permits_max: usize,
    deadline: Duration,
    pace: Pace,
    breaker: Mutex<Breaker>,
    counters: Counters,
}

impl Runner {
    pub(super) fn new(session: Session, config: &CassandraConfig) -> Self {
        Self {
            session,
            permits: Semaphore::new(config.in_flight_max),
            permits_max: config.in_flight_max,
            deadline: config.deadline,
            pace: Pace::new(config.request_timeout, config.deadline),
            breaker: Mutex::default(),
            counters: Counters::default(),
        }
    }

    /// Runs a statement.
    pub(super) async fn run<V: SerializeRow + Sync>(
        &self,
        statement: &PreparedStatement,
        values: V,
    ) -> Result<QueryResult, StoreError> {
        self.until_done(|| self.session.execute_unpaged(statement, &values))
            .await
    }

    /// Reads one page of a statement's rows.
    pub(super) async fn page<V: SerializeRow + Sync>(
        &self,
        statement: &PreparedStatement,
        values: V,
        state: PagingState,
    ) -> Result<(QueryResult, PagingStateResponse), StoreError> {
        let session = &self.session;
        self.until_done(|| session.execute_single_page(statement, &values, state.clone()))
            .await
    }

    /// Tries until it succeeds, cannot succeed, or its time is over. A try that timed out may have been applied: the
    /// identical one is sent again.
    async fn until_done<T, Made>(&self, attempt: impl Fn() -> Made) -> Result<T, StoreError>
    where
        Made: Future<Output = Result<T, ExecutionError>>,
    {
        let until = Instant::now() + self.deadline;
        let counters = &self.counters;
        // Who would be refused does not wait in line for it.
        if let Some(refusal) = self.breaker().refusal(Instant::now()) {
            count(&counters.refused);
            return Err(unavailable(refusal));
        }
        let permit = tokio::time::timeout(self.deadline, self.permits.acquire()).await;
        let Ok(Ok(_permit)) = permit else {
            count(&counters.gave_up);
            return Err(unavailable(
                "too many requests wait for Cassandra (store.in_flight_max)",
            ));
        };
        let mut wait = AGAIN_FIRST;
        loop {
            let admitted = self.breaker().admit(Instant::now(), self.deadline);
            if let Err(refusal) = admitted {
                count(&counters.refused);
                return Err(unavailable(refusal));
            }
            let (reason, unknown) = match self.attempt(&attempt).await {
                Ok(done) => return Ok(done),
                Err(Failure::Never(reason)) => return Err(StoreError::Refused { reason }),
                Err(Failure::Unknown(reason)) => (reason, true),
                Err(Failure::NotDone(reason)) => (reason, false),
            };
            count(&counters.failures);
            if unknown {
                count(&counters.timeouts);
            }
            self.failed(&reason);
            if Instant::now() + wait >= until {
                count(&counters.gave_up);
                return Err(unavailable(reason));
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(AGAIN_MAX);
            count(&counters.retries);
        }
    }

    /// One try.
    async fn attempt<T, Made>(&self, make: impl Fn() -> Made) -> Result<T, Failure>
    where
        Made: Future<Output = Result<T, ExecutionError>>,
    {
        count(&self.counters.requests);
        let (since, timeout) = (Instant::now(), self.pace.timeout());
        let outcome = match tokio::time::timeout(timeout, make()).await {
            Ok(outcome) => outcome.map_err(|error| judge(&error)),
            Err(_) => {
                self.pace.late(timeout);
                Err(Failure::Unknown(format!("no answer within {timeout:?}")))
            }
        };
        // Cassandra has answered also where it refuses for good.
        if matches!(outcome, Ok(_) | Err(Failure::Never(_))) {
            let took = since.elapsed();
            self.pace.answered(took);
            self.counters.latency.record(took);
            if self.breaker().succeeded() {
                tracing::info!("Cassandra answers again");
            }
        }
        outcome
    }

    fn failed(&self, reason: &str) {
        if self.breaker().failed(Instant::now(), reason) {
            count(&self.counters.opened);
            tracing::error!(
                reason,
                "Cassandra does not answer: requests are refused until it does"
            );
        }
    }

    /// Why nothing is asked of Cassandra now.
    pub(super) fn trouble(&self) -> Option<String> {
        let breaker = self.breaker();
        let reason = breaker.reason()?;
        Some(format!("Cassandra does not answer: {reason}"))
    }

    pub(super) fn stats(&self) -> CassandraStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        CassandraStats {
            requests: get(&counters.requests),
            retries: get(&counters.retries),
            failures: get(&counters.failures),
            timeouts: get(&counters.timeouts),
            refused: get(&counters.refused),
            opened: get(&counters.opened),
            in_flight: (self.permits_max - self.permits.available_permits()) as u64,
            gave_up: get(&counters.gave_up),
            latency: counters.latency.counted(),
        }
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
