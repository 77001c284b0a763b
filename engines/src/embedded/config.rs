//! Configuration of the embedded engine: units, defaults, bounds, and what each costs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Wall clock, milliseconds since 1970; used for retention only.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Bytes that can still be written to the disk under a folder; `None` when that is not known.
pub type DiskProbe = Arc<dyn Fn(&Path) -> Option<u64> + Send + Sync>;

/// What "durable" means here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// fsync before every acknowledgement: survives power loss.
    Fsync,
    /// Written to the operating system before every acknowledgement: survives kill -9, not power loss.
    Os,
}

/// How long records of a topic are kept, per partition; whichever bound is reached first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Milliseconds since the record was appended; `u64::MAX` is for ever.
    pub time_ms: u64,
    /// Bytes of keys and values per partition; `u64::MAX` is no bound.
    pub bytes: u64,
}

impl Retention {
    /// Nothing is removed.
    pub(super) const FOREVER: Self = Self {
        time_ms: u64::MAX,
        bytes: u64::MAX,
    };
}

const DAY_MS: u64 = 24 * 3_600 * 1_000;

/// Configuration of [`super::EmbeddedEngine`].
#[derive(Clone)]
pub struct EmbeddedConfig {
    /// Folder of the database; made if it does not exist. One process at a time.
    pub dir: PathBuf,
    /// Partitions of every topic, a power of two from 1 to 1,024; fixed when the folder is made. Default 16.
    pub partitions: u32,
    /// Default `Fsync`.
    pub durability: Durability,
    /// `chat-messages`. Default 7 days, no bound on bytes.
    pub chat_messages: Retention,
    /// `delivery`. Default 24 h, 1 GiB per partition.
    pub delivery: Retention,
    /// `cursors`, `dead-letters`, `audit-logs`. Default 30 days, 256 MiB per partition.
    pub other: Retention,
    /// `chat-typing`, `chat-presence`, `bodies`: kept in memory. Default 60 s, 256 KiB per partition.
    pub ephemeral: Retention,
    /// Below so many free bytes appends are refused, with an alarm, until there is space again.
    /// Default 256 MiB: room for the flushes and compactions of what was accepted before.
    pub disk_reserve_bytes: u64,
    /// Records waiting for the commit thread; more are refused `overloaded`. Default 65,536.
    pub queue_records_max: usize,
    /// Bytes waiting for the commit thread; more are refused `overloaded`. Default 64 MiB.
    pub queue_bytes_max: usize,
    /// Records in one commit. Default 256.
    pub batch_records_max: usize,
    /// Bytes in one commit. Default 4 MiB.
    pub batch_bytes_max: usize,
    /// How long a commit waits for company while others arrive; a lone record never waits.
    /// Default 0.2 ms, at most 2 ms.
    pub linger: Duration,
    /// Records queued for one live consumer; beyond, it reads from the database. Default 1,024.
    pub consumer_records_max: usize,
    /// Bytes queued for one live consumer. Default 4 MiB.
    pub consumer_bytes_max: usize,
    /// Block cache. Default 64 MiB.
    pub cache_bytes: u64,
    /// Unflushed bytes of one table (log and messages; the four others take half or a quarter), from
    /// 64 KiB to 64 MiB; up to five such buffers wait at once. Fixed when the folder is made.
    /// Default 16 MiB.
    pub write_buffer_bytes: u64,
    /// Log bytes whose checksums are verified on opening, newest first, shared by all partitions.
    /// Default 256 MiB; `u64::MAX` verifies everything.
    pub verify_bytes_max: u64,
    /// Default the system's.
    pub clock: Clock,
    /// Default the system's; for tests of a full disk.
    pub disk: DiskProbe,
}

impl EmbeddedConfig {
    /// The defaults, in this folder.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            partitions: 16,
            durability: Durability::Fsync,
            chat_messages: Retention {
                time_ms: 7 * DAY_MS,
                bytes: u64::MAX,
            },
            delivery: Retention {
                time_ms: DAY_MS,
                bytes: 1 << 30,
            },
            other: Retention {
                time_ms: 30 * DAY_MS,
                bytes: 256 << 20,
            },
            ephemeral: Retention {
                time_ms: 60_000,
                bytes: 256 << 10,
            },
            disk_reserve_bytes: 256 << 20,
            queue_records_max: 65_536,
            queue_bytes_max: 64 << 20,
            batch_records_max: 256,
            batch_bytes_max: 4 << 20,
            linger: Duration::from_micros(200),
            consumer_records_max: 1_024,
            consumer_bytes_max: 4 << 20,
            cache_bytes: 64 << 20,
            write_buffer_bytes: 16 << 20,
            verify_bytes_max: 256 << 20,
            clock: Arc::new(system_clock),
            disk: Arc::new(super::disk::free_bytes),
        }
    }

    /// Names the first setting that is out of bounds.
    pub(super) fn check(&self) -> Result<(), String> {
        let fail = |key: &str, rule: &str| Err(format!("{key} must be {rule}"));
        if !self.partitions.is_power_of_two() || self.partitions > 1_024 {
            return fail("partitions", "a power of two from 1 to 1,024");
        }
        if self.queue_records_max == 0 || self.queue_bytes_max == 0 {
            return fail("queue_records_max and queue_bytes_max", "above 0");
        }
        if self.batch_records_max == 0 || self.batch_bytes_max == 0 {
            return fail("batch_records_max and batch_bytes_max", "above 0");
        }
        if self.linger > Duration::from_millis(2) {
            return fail("linger", "at most 2 ms");
        }
        if self.consumer_records_max == 0 || self.consumer_bytes_max == 0 {
            return fail("consumer_records_max and consumer_bytes_max", "above 0");
        }
        if !(64 << 10..=64 << 20).contains(&self.write_buffer_bytes) {
            return fail("write_buffer_bytes", "from 64 KiB to 64 MiB");
        }
        Ok(())
    }
}

impl std::fmt::Debug for EmbeddedConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedConfig")
            .field("dir", &self.dir)
            .field("partitions", &self.partitions)
            .field("durability", &self.durability)
            .finish_non_exhaustive()
    }
}

fn system_clock() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}
