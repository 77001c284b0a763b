//! Ingest as a program runs it: part of the embedded log's commit, or threads of its own.

use super::numbers::Number;
use super::open::Engines;
use crate::ingest::{
    Driver, DriverConfig, DriverError, EmbeddedIngest, HotChat, IngestConfig, IngestCounters,
    IngestShare, StageTimes,
};
use crate::settings_section;
use hawser_engines::store::StoreError;
use std::sync::{Arc, Weak};
use std::time::Duration;

settings_section! {
    /// `[ingest]`.
    IngestSection {
        /// Number of this cell, part of every message id; the same in every process of a cluster.
        cell: u8 = 0, 0 ..= 255;
        /// Threads that ingest from Kafka; the embedded engine has one of its own.
        threads: u32 = 1, 1 ..= 64;
        /// Records of one partition between log and commit.
        in_flight: u32 = 1024, 1 ..= 65536;
        /// How long delivery records may take to be acknowledged before ingest begins again from its last commit,
        /// milliseconds.
        produce_timeout_ms: u32 = 30000, 1000 ..= 600000;
        /// A chat with more than this share of its partition's records within ten seconds is named as hot, percent.
        hot_share_percent: u32 = 25, 1 ..= 100;
        /// And more records per second than this.
        hot_per_second: u32 = 100, 1 ..= 1000000;
        /// Members of a group that records list; of one that becomes larger the edge nodes know who is in it, for good.
        /// The same in every process of a cluster.
        listed_members_max: u32 = 10000, 1 ..= 10000;
        /// A message record of more bytes that touches more than two delivery partitions travels once per node, and its
        /// delivery records refer to it; 0: never. Every gateway has to know references first (docs/adr/0023).
        reference_bytes: u32 = 1024, 0 ..= 65536;
    }
}

/// Why ingest does not start.
#[derive(Debug, thiserror::Error)]
pub enum IngestingError {
    /// What the embedded log holds cannot be judged.
    #[error("what was accepted before cannot be processed: {0}")]
    Replay(#[from] StoreError),
    /// The threads.
    #[error("ingest: {0}")]
    Driver(#[from] DriverError),
}

/// Running ingest; dropping it ends the threads.
#[derive(Clone)]
pub struct Ingesting {
    counters: Arc<IngestCounters>,
    driver: Option<Arc<Driver>>,
    share: Option<IngestShare>,
}

impl Ingesting {
    /// Begins where the last commit was: with what the share says on a log that others may ingest too, with everything on
    /// an embedded one.
    ///
    /// # Errors
    /// See [`IngestingError`]. Engines that cannot be reached are no error: it waits for them.
    pub fn start(engines: &Engines, section: &IngestSection) -> Result<Self, IngestingError> {
        let log = &engines.log;
        let config = IngestConfig {
            listed_max: section.listed_members_max,
            reference_bytes: section.reference_bytes as usize,
            ..IngestConfig::of(&**log, section.cell)
        };
        if !engines.log_is_embedded() {
            let mut settings = DriverConfig::from(config);
            settings.threads = section.threads;
            settings.in_flight_max = section.in_flight as usize;
            settings.produce_timeout = Duration::from_millis(u64::from(section.produce_timeout_ms));
            settings.hot.share_percent = section.hot_share_percent;
            settings.hot.per_second = section.hot_per_second;
            let share = IngestShare::default();
            settings.share = Some(share.clone());
            let (store, directory) = (engines.store.clone(), engines.directory.clone());
            let driver = Driver::start(log.clone(), store, directory, settings)?;
            return Ok(Self {
                counters: driver.counters(),
                driver: Some(Arc::new(driver)),
                share: Some(share),
            });
        }
        let hook = EmbeddedIngest::new(config);
        let counters = hook.counters();
        if let Some(engine) = &engines.embedded {
            let replayed = engine.set_hook(Box::new(hook))?;
            if replayed > 0 {
                tracing::info!(replayed, "ingest went on where it was");
            }
        }
        Ok(Self {
            counters,
            driver: None,
            share: None,
        })
    }

    /// What of the log is ingested here, where others may ingest too; `None`: all of it, by this process alone.
    #[must_use]
    pub fn share(&self) -> Option<IngestShare> {
        self.share.clone()
    }

    /// Why it makes no progress now; a question that does not keep the threads running.
    #[must_use]
    pub fn trouble(&self) -> Arc<dyn Fn() -> Option<String> + Send + Sync> {
        let asked = self.driver.as_ref().map(Arc::downgrade);
        Arc::new(move || {
            let reason = asked.as_ref()?.upgrade()?.trouble()?;
            Some(format!("ingest: {reason}"))
        })
    }

    /// What it has judged, for the exporter.
    #[must_use]
    pub fn numbers(&self) -> Arc<dyn Fn() -> Vec<Number> + Send + Sync> {
        let counters = Arc::clone(&self.counters);
        let asked = self.driver.as_ref().map(Arc::downgrade);
        let share = self.share.clone();
        Arc::new(move || {
            let mut all = numbers(&counters);
            all.extend(share.as_ref().map(|share| {
                Number::level(
                    "hawser_ingest_partitions_owned",
                    "Partitions of chat-messages that this process ingests.",
                    share.owned() as u64,
                )
            }));
            if let Some(driver) = asked.as_ref().and_then(Weak::upgrade) {
                all.extend(driver.stages().iter().flat_map(stage_numbers));
                all.extend(driver.hot().iter().flat_map(hot_numbers));
            }
            all
        })
    }
}

/// How long one stage takes.
fn stage_numbers(times: &StageTimes) -> Vec<Number> {
    let all = [
        Number::grows(
            "hawser_ingest_stage_records_total",
            "Records that have passed a stage of ingest.",
            times.count,
        ),
        Number::grows(
            "hawser_ingest_stage_microseconds_total",
            "Time that they took for it.",
            times.sum_us,
        ),
        Number::level(
            "hawser_ingest_stage_p50_microseconds",
            "What half of them took at most.",
            times.p50_us,
        ),
        Number::level(
            "hawser_ingest_stage_p99_microseconds",
            "What 99 of 100 took at most.",
            times.p99_us,
        ),
    ];
    let name = times.stage.name();
    all.into_iter()
        .map(|number| number.of("stage", name))
        .collect()
}

/// A chat that is most of its partition: there are never more than some of them.
fn hot_numbers(hot: &HotChat) -> Vec<Number> {
    let of = |name, help, value| {
        let mut number = Number::level(name, help, 0);
        number.value = value;
        number
            .of("chat", hot.chat.clone())
            .of("partition", hot.partition.to_string())
    };
    vec![
        of(
            "hawser_ingest_hot_chat_share",
            "Share that a hot chat has of its partition.",
            hot.share,
        ),
        of(
            "hawser_ingest_hot_chat_records_per_second",
            "Its records per second.",
            hot.per_second,
        ),
    ]
}

fn numbers(counters: &IngestCounters) -> Vec<Number> {
    let counts = counters.read();
    [
        (
            "hawser_ingest_accepted_total",
            "Messages accepted.",
            counts.accepted,
        ),
        (
            "hawser_ingest_duplicates_total",
            "Messages found to be duplicates.",
            counts.duplicates,
        ),
        (
            "hawser_ingest_changes_total",
            "Changes of groups.",
            counts.changes,
        ),
        (
            "hawser_ingest_forwarded_total",
            "Messages sent on to their lane.",
            counts.forwarded,
        ),
        ("hawser_ingest_receipts_total", "Receipts.", counts.receipts),
        (
            "hawser_ingest_rejected_total",
            "Messages, changes and receipts refused.",
            counts.rejected,
        ),
        (
            "hawser_ingest_poison_total",
            "Records moved to dead-letters.",
            counts.poison,
        ),
        (
            "hawser_ingest_retries_total",
            "Times that ingest began again from its last commit.",
            counts.retries,
        ),
        (
            "hawser_ingest_bodies_total",
            "Message records put on a lane of bodies, for the nodes whose delivery records refer to them.",
            counts.bodies,
        ),
        (
            "hawser_ingest_bodies_lost_total",
            "Message records that a lane of bodies did not take: the nodes read them in the store.",
            counts.bodies_lost,
        ),
    ]
    .map(|(name, help, value)| Number::grows(name, help, value))
    .to_vec()
}
