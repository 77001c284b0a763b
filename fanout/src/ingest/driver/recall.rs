//! Rebuilds the dedup window of a session from the log: backwards from where it began, a stretch at a time, while
//! the session goes on. What the window does not know yet, the store is asked.

use crate::ingest::Recollection;
use hawser_engines::log::{Log, ReadError, Topic};
use hawser_protocol::limits::CLOCK_SKEW_MS_MAX;

/// How much of the log is remembered: ten minutes of ids, which may be stamped earlier than their records.
const RECALL_MS: u64 = 600_000 + CLOCK_SKEW_MS_MAX + crate::ingest::window::NODE_SKEW_MS_MAX;
/// Records of one stretch, and bytes of one read.
const STRETCH_RECORDS: u64 = 1_024;
const READ_BYTES: usize = 4 << 20;

/// How far it has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// What is read next ends here; `None`: nothing is read any more.
    to: Option<u64>,
    low: u64,
    reading: bool,
    latest_ms: Option<u64>,
    /// The session begins where the log does.
    at_start: bool,
}

impl Progress {
    /// Of a session that begins at `from`; the log begins at `low`.
    pub(super) fn new(from: u64, low: u64) -> Self {
        Self {
            to: (from > low).then_some(from),
            low,
            at_start: from == low,
            ..Self::default()
        }
    }

    /// Whether the session begins with the log's first record: told once.
    pub(super) fn begins(&mut self) -> bool {
        std::mem::take(&mut self.at_start)
    }

    /// Where the stretch ends that is to be read now; there is room for so many ids.
    pub(super) fn next(&mut self, room: usize) -> Option<u64> {
        if self.reading {
            return None;
        }
        let to = self.to?;
        if room < usize::try_from(STRETCH_RECORDS).unwrap_or(usize::MAX) {
            self.to = None;
            return None;
        }
        self.reading = true;
        Some(to)
    }

    pub(super) fn low(&self) -> u64 {
        self.low
    }

    /// A stretch was read, down to `from`.
    pub(super) fn read(&mut self, from: u64, earliest_ms: u64, latest_ms: u64) {
        self.reading = false;
        let latest = *self.latest_ms.get_or_insert(latest_ms);
        let enough = earliest_ms.saturating_add(RECALL_MS) < latest;
        self.to = (from > self.low && !enough).then_some(from);
    }

    pub(super) fn stop(&mut self) {
        *self = Self::default();
    }
}

/// Reads the records before `to`: where they begin, the earliest and the latest time of them, and what they are.
pub(super) fn stretch(
    log: &dyn Log,
    partition: u32,
    low: u64,
    to: u64,
) -> Result<(u64, (u64, u64), Recollection), ReadError> {
    let from = to.saturating_sub(STRETCH_RECORDS).max(low);
    let (mut records, mut next) = (Vec::new(), from);
    while next < to {
        let max = usize::try_from(to - next).unwrap_or(usize::MAX);
        let mut read = log.read(Topic::ChatMessages, partition, next, max, READ_BYTES)?;
        let Some(last) = read.last() else { break };
        next = last.offset + 1;
        read.retain(|record| record.offset < to);
        records.append(&mut read);
    }
    let times = || records.iter().map(|record| record.timestamp_ms);
    let (earliest, latest) = (times().min().unwrap_or(0), times().max().unwrap_or(0));
    // The first generation began at offset 0, with nothing before it.
    let whole = from == 0 && log.generation(Topic::ChatMessages) == 1;
    Ok((from, (earliest, latest), Recollection::of(&records, whole)))
}
