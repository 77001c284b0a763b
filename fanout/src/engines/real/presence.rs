//! Presence on Redis.

use super::{Secrets, link_numbers};
use crate::engines::health::{EngineHealth, Needed};
use crate::engines::numbers::Number;
use crate::engines::open::OpenEnginesError;
use crate::engines::probe::Probe;
use crate::engines::sections::PresenceSection;
use crate::engines::waiting::EngineError;
use hawser_engines::bridge::Bridge;
use hawser_engines::presence::{Presence, PresenceStore};
use hawser_engines::redis::{RedisConfig, RedisPresence, RedisStats};
use hawser_protocol::ids::UserId;
use std::sync::Arc;
use std::time::Duration;

/// Presence does not hold up a start for longer: it is unknown then, until Redis answers.
const PATIENCE_MAX: Duration = Duration::from_secs(5);

/// Connects; a server that does not answer is connected to later.
pub(super) fn redis(
    section: &PresenceSection,
    patience: Duration,
    bridge: &Arc<Bridge>,
) -> Result<(Arc<dyn PresenceStore>, EngineHealth), OpenEnginesError> {
    let secrets = Secrets("presence");
    let mut config = RedisConfig::new(section.servers.clone());
    config.cluster = section.cluster;
    config.database = section.database;
    config.prefix.clone_from(&section.prefix);
    config.user = (!section.user.is_empty()).then(|| section.user.clone());
    config.password = secrets.password(&section.password_file)?;
    config.tls = secrets.tls(&section.tls_ca, &section.tls_cert, &section.tls_key);
    config.timeout_ms = section.timeout_ms;
    let patience = patience.min(PATIENCE_MAX).as_millis();
    config.open_timeout_ms = u64::try_from(patience).unwrap_or(u64::MAX);
    let opened = RedisPresence::open(config, bridge.clone());
    let presence = Arc::new(opened.map_err(|error| EngineError::Refused {
        engine: "presence",
        key: "[presence]",
        reason: error.to_string(),
    })?);
    let (asked, counted) = (Arc::downgrade(&presence), Arc::downgrade(&presence));
    let probed = Arc::downgrade(&presence);
    let probe = Probe::start("presence", move || {
        let Some(presence) = probed.upgrade() else {
            return Ok(());
        };
        // Nobody's name: it is looked up and not found. Users are unknown as well for a while after Redis
        // came back without its data: then it answers, and has no trouble.
        let states = presence.get(&[nobody()], 0);
        match states.contains(&Presence::Unknown) {
            true => presence.trouble().map_or(Ok(()), Err),
            false => Ok(()),
        }
    });
    let probe = probe.map_err(OpenEnginesError::Thread)?;
    let health = EngineHealth::new(
        "presence",
        "redis",
        Needed::ForLess,
        Arc::new(move || asked.upgrade()?.trouble().or_else(|| probe.trouble())),
        Arc::new(move || {
            let presence = counted.upgrade();
            presence.map_or_else(Vec::new, |presence| numbers(&presence.stats()))
        }),
    );
    Ok((presence, health))
}

/// A user that the probe asks for.
fn nobody() -> UserId {
    UserId::new("hawser-probe").expect("a plain word")
}

fn numbers(stats: &RedisStats) -> Vec<Number> {
    let mut numbers = link_numbers(
        "presence",
        stats.commands,
        stats.failures,
        stats.timeouts,
        &stats.latency,
    );
    numbers.extend([
        Number::grows(
            "hawser_presence_calls_shed_total",
            "Calls of the presence engine that were not made: it is away, or too many are under way.",
            stats.shed,
        ),
        Number::grows(
            "hawser_presence_engine_outages_total",
            "Times that the presence engine was given up for a while.",
            stats.outages,
        ),
    ]);
    numbers
}
