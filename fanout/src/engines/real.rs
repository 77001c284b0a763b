//! The real engines' own clients.

use super::health::{EngineHealth, Needed};
use super::lag::{IngestLag, LagSource, PartitionLag};
use super::open::{Engines, OpenEnginesError, embedded_health, embedded_log, embedded_presence};
use super::sections::{EMBEDDED, EngineSections, LogSection};
use super::waiting::Awaited;
use hawser_engines::embedded::EmbeddedEngine;
use hawser_engines::kafka::{KafkaConfig, KafkaError, KafkaLog};
use hawser_engines::log::{Log, Topic};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const HOUR_MS: u64 = 3_600_000;
/// Partitions whose oldest waiting record is looked up per second; the others' follow.
const OLDEST_LOOKED_UP_MAX: usize = 64;

/// Opens each engine where its section says.
pub(super) fn open(
    sections: EngineSections<'_>,
    embedded: Option<Arc<EmbeddedEngine>>,
    api: bool,
) -> Result<Engines, OpenEnginesError> {
    let _ = api;
    let patience = Duration::from_secs(u64::from(sections.engines.wait_for_engines_s));
    let missing = |key| OpenEnginesError::Setting {
        key,
        reason: "this version opens the embedded one alone".to_owned(),
    };
    if let Some(key) = sections.real().into_iter().find(|key| *key != "log.kind") {
        return Err(missing(key));
    }
    let (log, log_health, lag) = match (&*sections.log.kind, &embedded) {
        (EMBEDDED, engine) => {
            let engine = engine.as_ref().ok_or_else(|| missing("log.kind"))?;
            let (log, health) = embedded_log(engine);
            (log, health, IngestLag::default())
        }
        _ => kafka(sections.log, patience)?,
    };
    let engine = embedded.clone().ok_or_else(|| missing("store.kind"))?;
    Ok(Engines {
        log,
        store: engine.store(),
        presence: embedded_presence(embedded.as_ref()),
        directory: engine.directory(),
        embedded,
        health: vec![
            log_health,
            embedded_health("store"),
            embedded_health("presence"),
            embedded_health("directory"),
        ],
        lag,
    })
}

fn kafka(
    settings: &LogSection,
    patience: Duration,
) -> Result<(Arc<dyn Log>, EngineHealth, IngestLag), OpenEnginesError> {
    let mut config = KafkaConfig::new(settings.bootstrap.join(","));
    config.prefix.clone_from(&settings.prefix);
    config.partitions = settings.partitions;
    config.allow_unsafe = settings.allow_unsafe_log;
    config.create_topics = settings.create_topics;
    config.chat_messages.time_ms = u64::from(settings.retention_hours) * HOUR_MS;
    config.linger = Duration::from_micros(u64::from(settings.linger_us));
    config.produce_timeout = millis(settings.produce_timeout_ms);
    config.call_timeout = millis(settings.call_timeout_ms);
    config.properties = properties(&settings.properties)?;
    if settings.replication > 0 {
        config.replication = settings.replication;
        config.min_insync = config.min_insync.min(settings.replication);
    }
    let awaited = Awaited {
        engine: "log",
        key: "log.bootstrap",
        patience,
    };
    let open = || open_kafka(&config, settings.replication == 0);
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

/// With copies that were not configured: as many as are safe, or one if that is allowed and there are
/// no more brokers.
fn open_kafka(config: &KafkaConfig, choose_copies: bool) -> Result<KafkaLog, KafkaError> {
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
        let topic = Topic::ChatMessages;
        let mut lags = Vec::new();
        for partition in 0..log.partitions(topic) {
            let words = |e: hawser_engines::log::ReadError| e.to_string();
            let group = hawser_engines::embedded::INGEST_GROUP;
            let committed = log.committed(group, topic, partition).map_err(words)?;
            let marks = log.watermarks(topic, partition).map_err(words)?;
            let from = committed.unwrap_or(marks.low).max(marks.low);
            let records = marks.high.saturating_sub(from);
            let mut oldest_ms = 0;
            if records > 0 && lags.len() < OLDEST_LOOKED_UP_MAX {
                let first = log.read(topic, partition, from, 1, 1).map_err(words)?;
                oldest_ms = first.first().map_or(0, |record| record.timestamp_ms);
            }
            lags.push(PartitionLag {
                partition,
                records,
                oldest_ms,
            });
        }
        Ok(lags)
    })
}

fn properties(pairs: &[String]) -> Result<Vec<(String, String)>, OpenEnginesError> {
    let mut out = Vec::new();
    for pair in pairs {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = match value.strip_prefix('@') {
            Some(path) => secret("log.properties", path)?,
            None => value.to_owned(),
        };
        out.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    Ok(out)
}

/// The first line of a file that a key names.
fn secret(key: &'static str, path: &str) -> Result<String, OpenEnginesError> {
    let read = std::fs::read_to_string(path);
    let text = read.map_err(|e| OpenEnginesError::File {
        key,
        path: Path::new(path).to_owned(),
        reason: e.to_string(),
    })?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn millis(ms: u32) -> Duration {
    Duration::from_millis(u64::from(ms))
}
