//! The log on Kafka.

use super::Secrets;
use crate::engines::health::{EngineHealth, Needed};
use crate::engines::lag::{IngestLag, LagSource, PartitionLag};
use crate::engines::open::OpenEnginesError;
use crate::engines::sections::LogSection;
use crate::engines::waiting::Awaited;
use hawser_engines::kafka::{KafkaConfig, KafkaError, KafkaLog};
use hawser_engines::log::{Log, ReadError, Topic};
use std::sync::Arc;
use std::time::Duration;

const HOUR_MS: u64 = 3_600_000;
/// Partitions whose oldest waiting record is looked up per second; the others' follow.
const OLDEST_LOOKED_UP_MAX: usize = 64;

/// Opens it, with how far ingest is behind.
pub(super) fn kafka(
    settings: &LogSection,
    patience: Duration,
) -> Result<(Arc<dyn Log>, EngineHealth, IngestLag), OpenEnginesError> {
    let config = config(settings)?;
    let awaited = Awaited {
        engine: "log",
        key: "log.bootstrap",
        patience,
    };
    let open = || open(&config, settings.replication == 0);
    let log = awaited.open(open, |error| {
        matches!(
            error,
            KafkaError::Unreachable { .. } | KafkaError::Create { .. }
        )
    })?;
    let log = Arc::new(log);
    let lag = IngestLag::watch(lags(&log)).map_err(OpenEnginesError::Thread)?;
    let asked = Arc::downgrade(&log);
    let health = EngineHealth::new(
        "log",
        "kafka",
        Needed::ForReadiness,
        Arc::new(move || asked.upgrade()?.writable().err()),
        Arc::new(Vec::new),
    );
    Ok((log, health, lag))
}

/// What a section says, for whoever opens the log.
pub(crate) fn config(settings: &LogSection) -> Result<KafkaConfig, OpenEnginesError> {
    let mut config = KafkaConfig::new(settings.bootstrap.join(","));
    config.prefix.clone_from(&settings.prefix);
    config.cluster.clone_from(&settings.cluster);
    config.partitions = settings.partitions;
    config.allow_unsafe = settings.allow_unsafe_log;
    config.create_topics = settings.create_topics;
    config.chat_messages.time_ms = u64::from(settings.retention_hours) * HOUR_MS;
    config.compression =
        settings
            .compression
            .parse()
            .map_err(|error: KafkaError| OpenEnginesError::Setting {
                key: "log.compression",
                reason: error.to_string(),
            })?;
    config.linger = Duration::from_micros(u64::from(settings.linger_us));
    config.produce_timeout = Duration::from_millis(u64::from(settings.produce_timeout_ms));
    config.call_timeout = Duration::from_millis(u64::from(settings.call_timeout_ms));
    config.properties = properties(&settings.properties)?;
    if settings.replication > 0 {
        config.replication = settings.replication;
        config.min_insync = config.min_insync.min(settings.replication);
    }
    Ok(config)
}

/// With copies that were not configured: as many as are safe, or one if that is allowed and there are
/// no more brokers.
fn open(config: &KafkaConfig, choose_copies: bool) -> Result<KafkaLog, KafkaError> {
    match KafkaLog::open(config.clone()) {
        Err(KafkaError::Create { .. }) if config.allow_unsafe && choose_copies => {
            tracing::warn!("fewer than three brokers: topics are made with one copy");
            let mut single = config.clone();
            single.replication = 1;
            single.min_insync = 1;
            KafkaLog::open(single)
        }
        opened => opened,
    }
}

/// What ingest has committed against what there is; the age is that of the oldest record between.
fn lags(log: &Arc<KafkaLog>) -> LagSource {
    let log = Arc::downgrade(log);
    Box::new(move || {
        let log = log.upgrade().ok_or("the log is closed")?;
        read_lags(&log).map_err(|error| error.to_string())
    })
}

fn read_lags(log: &KafkaLog) -> Result<Vec<PartitionLag>, ReadError> {
    let topic = Topic::ChatMessages;
    let mut lags = Vec::new();
    let mut looked_up = 0;
    for behind in log.lags()? {
        let mut lag = PartitionLag {
            partition: behind.partition,
            records: behind.records(),
            oldest_ms: 0,
        };
        if lag.records > 0 && looked_up < OLDEST_LOOKED_UP_MAX {
            looked_up += 1;
            // Nothing is committed yet, or what was expired: ingest begins at what there is.
            let low = || log.watermarks(topic, lag.partition).map(|marks| marks.low);
            let from = match behind.committed {
                Some(committed) => committed,
                None => low()?,
            };
            let first = match log.read(topic, lag.partition, from, 1, 1) {
                Err(ReadError::OutOfRange { low, .. }) => {
                    log.read(topic, lag.partition, low, 1, 1)?
                }
                read => read?,
            };
            lag.oldest_ms = first.first().map_or(0, |record| record.timestamp_ms);
        }
        lags.push(lag);
    }
    Ok(lags)
}

fn properties(pairs: &[String]) -> Result<Vec<(String, String)>, OpenEnginesError> {
    let mut out = Vec::new();
    for pair in pairs {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = match value.strip_prefix('@') {
            Some(path) => Secrets("log").first_line("log.properties", path)?,
            None => value.to_owned(),
        };
        out.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    Ok(out)
}
