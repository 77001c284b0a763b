//! How far ingest is behind `chat-messages`, looked at by a thread of its own: for metrics, readiness
//! and Pong. It reads what ingest has committed, so that every process sees the same, whoever ingests.

use super::numbers::Number;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// The thread looks whether it is to end so often.
const NAP: Duration = Duration::from_millis(100);

/// One partition's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionLag {
    /// Which.
    pub partition: u32,
    /// Records that ingest has not committed.
    pub records: u64,
    /// When the oldest of them was stamped, milliseconds since 1970; 0 when there is none, or it is not known.
    pub oldest_ms: u64,
}

/// Reads the lags; may block.
pub(super) type LagSource = Box<dyn Fn() -> Result<Vec<PartitionLag>, String> + Send>;

/// What was seen last. Cheap to clone; the thread ends with the last clone.
#[derive(Clone, Default)]
pub struct IngestLag(Arc<Seen>);

#[derive(Default)]
struct Seen {
    partitions: Mutex<Vec<PartitionLag>>,
    /// Of all partitions; 0: nothing waits.
    oldest_ms: AtomicU64,
}

impl IngestLag {
    /// Looks every second. Where ingest is part of the commit there is nothing to look at: use the default.
    pub(super) fn watch(source: LagSource) -> std::io::Result<Self> {
        let seen = Arc::new(Seen::default());
        let weak = Arc::downgrade(&seen);
        let thread = std::thread::Builder::new().name("hawser-lag".to_owned());
        // Not joined: a look may hang as long as the log does.
        thread.spawn(move || {
            let mut failing = false;
            loop {
                let Some(seen) = weak.upgrade() else { return };
                match source() {
                    Ok(lags) => {
                        failing = false;
                        seen.take(lags);
                    }
                    // The log's own trouble is said where it is asked.
                    Err(reason) if !failing => {
                        failing = true;
                        tracing::warn!(reason, "the lag of ingest cannot be read");
                    }
                    Err(_) => {}
                }
                drop(seen);
                for _ in 0..(EVERY.as_millis() / NAP.as_millis()) {
                    std::thread::sleep(NAP);
                    if weak.strong_count() == 0 {
                        return;
                    }
                }
            }
        })?;
        Ok(Self(seen))
    }

    /// Age of the oldest record that waits for ingest, milliseconds; 0: none waits.
    #[must_use]
    pub fn age_ms(&self, now_ms: u64) -> u64 {
        match self.0.oldest_ms.load(Ordering::Relaxed) {
            0 => 0,
            oldest => now_ms.saturating_sub(oldest),
        }
    }

    /// Per partition.
    #[must_use]
    pub fn partitions(&self) -> Vec<PartitionLag> {
        self.0.lock().clone()
    }

    /// Why clients should not be sent here, if the oldest record is older than `max`.
    #[must_use]
    pub fn trouble(&self, max: Duration) -> Option<String> {
        let age = Duration::from_millis(self.age_ms(now_ms()));
        (age > max).then(|| {
            format!(
                "ingest is {} s behind, more than engines.lag_ready_s = {}",
                age.as_secs(),
                max.as_secs()
            )
        })
    }

    /// For the exporter.
    #[must_use]
    pub fn numbers(&self) -> Vec<Number> {
        let now = now_ms();
        let mut numbers = Vec::new();
        for lag in self.partitions() {
            let age = match lag.oldest_ms {
                0 => 0,
                oldest => now.saturating_sub(oldest),
            };
            let partition = lag.partition.to_string();
            numbers.push(
                Number::level(
                    "hawser_ingest_lag_records",
                    "Records of chat-messages that ingest has not committed.",
                    lag.records,
                )
                .of("partition", partition.clone()),
            );
            numbers.push(
                Number::level(
                    "hawser_ingest_lag_seconds",
                    "Age of the oldest of them.",
                    age,
                )
                .thousandths()
                .of("partition", partition),
            );
        }
        numbers
    }
}

impl std::fmt::Debug for IngestLag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("IngestLag")
            .field(&self.partitions())
            .finish()
    }
}

impl Seen {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<PartitionLag>> {
        self.partitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, lags: Vec<PartitionLag>) {
        let oldest = lags.iter().map(|lag| lag.oldest_ms).filter(|ms| *ms > 0);
        self.oldest_ms
            .store(oldest.min().unwrap_or(0), Ordering::Relaxed);
        *self.lock() = lags;
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_record_of_any_partition_is_the_lag() {
        let now = now_ms();
        let source = move || {
            Ok(vec![
                PartitionLag {
                    partition: 0,
                    records: 0,
                    oldest_ms: 0,
                },
                PartitionLag {
                    partition: 1,
                    records: 7,
                    oldest_ms: now - 90_000,
                },
            ])
        };
        let lag = IngestLag::watch(Box::new(source)).unwrap();
        while lag.partitions().is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!((90_000..100_000).contains(&lag.age_ms(now_ms())));
        let said = lag.trouble(Duration::from_secs(60)).unwrap();
        assert!(said.contains("lag_ready_s"), "{said}");
        assert_eq!(lag.trouble(Duration::from_secs(600)), None);
        let text = super::super::numbers::text(&lag.numbers());
        assert!(
            text.contains("hawser_ingest_lag_records{partition=\"1\"} 7\n"),
            "{text}"
        );
    }

    #[test]
    fn where_ingest_is_part_of_the_commit_nothing_lags() {
        let lag = IngestLag::default();
        assert_eq!(lag.age_ms(now_ms()), 0);
        assert_eq!(lag.trouble(Duration::from_secs(1)), None);
    }
}
