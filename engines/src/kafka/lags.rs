//! How far ingest is behind the ends of its partitions, for metrics and readiness.

use super::KafkaLog;
use crate::embedded::INGEST_GROUP;
use crate::log::{ReadError, Topic};

/// One partition of `chat-messages`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// The partition.
    pub partition: u32,
    /// Next offset that ingest will process; `None` before its first commit.
    pub committed: Option<u64>,
    /// Next offset to be written.
    pub end: u64,
}

impl Lag {
    /// Records between the two; all there ever were while nothing is committed.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.end.saturating_sub(self.committed.unwrap_or(0))
    }
}

impl KafkaLog {
    /// The lag of ingest on every partition of `chat-messages`: one request to the group's coordinator, and one to
    /// each broker that leads a partition. Blocks for their answers.
    ///
    /// # Errors
    /// The log cannot be reached.
    pub fn lags(&self) -> Result<Vec<Lag>, ReadError> {
        let state = self.shared.state(Topic::ChatMessages);
        let (name, partitions) = (&*state.name, state.partitions);
        let groups = &self.shared.groups;
        // Positions first: an end that is read later is never before them.
        let committed = groups.committed_of_all(INGEST_GROUP, name, partitions)?;
        let ends = self.shared.admin.ends(name, partitions);
        let ends = ends.map_err(|reason| ReadError::Unavailable { reason })?;
        let all = (0..).zip(committed).zip(ends);
        Ok(all
            .map(|((partition, committed), end)| Lag {
                partition,
                committed,
                end,
            })
            .collect())
    }
}
