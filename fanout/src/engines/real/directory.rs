//! The directory on Postgres.

use super::{Secrets, link_numbers};
use crate::engines::health::{EngineHealth, Needed};
use crate::engines::open::OpenEnginesError;
use crate::engines::probe::Probe;
use crate::engines::sections::DirectorySection;
use crate::engines::waiting::Awaited;
use hawser_engines::bridge::Bridge;
use hawser_engines::directory::Directory;
use hawser_engines::postgres::{PostgresConfig, PostgresDirectory, PostgresError};
use hawser_protocol::ids::UserId;
use std::sync::Arc;
use std::time::Duration;

/// Connects, makes and migrates the tables.
pub(super) fn postgres(
    section: &DirectorySection,
    patience: Duration,
    bridge: &Arc<Bridge>,
    api: bool,
) -> Result<(Arc<dyn Directory>, EngineHealth), OpenEnginesError> {
    let secrets = Secrets("directory");
    let mut config = PostgresConfig::new(section.address.clone());
    config.database.clone_from(&section.database);
    config.schema.clone_from(&section.schema);
    config.user.clone_from(&section.user);
    config.password = secrets.password(&section.password_file)?;
    config.tls = secrets.tls(&section.tls_ca, &section.tls_cert, &section.tls_key);
    config.connections_max = section.connections_max;
    config.timeout_ms = section.timeout_ms;
    let awaited = Awaited {
        engine: "directory",
        key: "directory.address",
        patience,
    };
    let open = || PostgresDirectory::open(config.clone(), bridge.clone());
    let directory = Arc::new(awaited.open(open, PostgresError::passes)?);
    let (asked, counted) = (Arc::downgrade(&directory), Arc::downgrade(&directory));
    let probed = Arc::downgrade(&directory);
    let probe = Probe::start("directory", move || match probed.upgrade() {
        Some(directory) => directory
            .user(&nobody())
            .map(drop)
            .map_err(|e| e.to_string()),
        None => Ok(()),
    });
    let probe = probe.map_err(OpenEnginesError::Thread)?;
    // Tokens and messages do without it: only who serves the API is better left alone.
    let needed = match api {
        true => Needed::ForReadiness,
        false => Needed::ForLess,
    };
    let health = EngineHealth::new(
        "directory",
        "postgres",
        needed,
        Arc::new(move || asked.upgrade()?.trouble().or_else(|| probe.trouble())),
        Arc::new(move || {
            let Some(directory) = counted.upgrade() else {
                return Vec::new();
            };
            let stats = directory.stats();
            link_numbers(
                "directory",
                stats.calls,
                stats.failures,
                stats.timeouts,
                &stats.latency,
            )
        }),
    );
    Ok((directory, health))
}

/// A user that the probe asks for.
fn nobody() -> UserId {
    UserId::new("hawser-probe").expect("a plain word")
}
