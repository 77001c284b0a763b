//! The store on Cassandra.

use super::{Secrets, link_numbers};
use crate::engines::health::{EngineHealth, Needed};
use crate::engines::numbers::Number;
use crate::engines::open::OpenEnginesError;
use crate::engines::probe::Probe;
use crate::engines::sections::StoreSection;
use crate::engines::waiting::Awaited;
use hawser_engines::bridge::Bridge;
use hawser_engines::cassandra::{
    CassandraConfig, CassandraError, CassandraStats, CassandraStore, Levels, Replication, level,
};
use hawser_engines::store::Store;
use hawser_protocol::ids::ChatId;
use std::sync::Arc;
use std::time::Duration;

const DAY_S: u32 = 24 * 3_600;
/// One try of an open: the wait, and what is said of it, is ours.
const ONE_TRY: Duration = Duration::from_secs(4);

/// Connects, makes and migrates the tables.
pub(super) fn cassandra(
    section: &StoreSection,
    patience: Duration,
    bridge: &Arc<Bridge>,
) -> Result<(Arc<dyn Store>, EngineHealth), OpenEnginesError> {
    let mut config = config(section)?;
    config.open_timeout = ONE_TRY;
    let awaited = Awaited {
        engine: "store",
        key: "store.contact_points",
        patience,
    };
    let open = || CassandraStore::open(config.clone(), bridge.clone());
    let store = awaited.open(open, |error| {
        matches!(
            error,
            CassandraError::Unreachable { .. } | CassandraError::NotMigrated { .. }
        )
    })?;
    let store = Arc::new(store);
    let (asked, counted) = (Arc::downgrade(&store), Arc::downgrade(&store));
    let probed = Arc::downgrade(&store);
    // Nobody's chat: it is looked up and not found.
    let chat = ChatId::new("g:hawser-probe").expect("a group's id");
    let probe = Probe::start("store", move || match probed.upgrade() {
        Some(store) => store.head(&chat).map(drop).map_err(|e| e.to_string()),
        None => Ok(()),
    });
    let probe = probe.map_err(OpenEnginesError::Thread)?;
    let health = EngineHealth::new(
        "store",
        "cassandra",
        Needed::ForReadiness,
        Arc::new(move || asked.upgrade()?.trouble().or_else(|| probe.trouble())),
        Arc::new(move || {
            let store = counted.upgrade();
            store.map_or_else(Vec::new, |store| numbers(&store.stats()))
        }),
    );
    Ok((store, health))
}

fn config(section: &StoreSection) -> Result<CassandraConfig, OpenEnginesError> {
    let secrets = Secrets("store");
    let mut config = CassandraConfig::new(section.contact_points.clone());
    config.keyspace.clone_from(&section.keyspace);
    config.replication = replication(section)?;
    config.migrate = section.migrate;
    config.allow_unsafe = section.allow_unsafe;
    config.local_datacenter.clone_from(&section.local_dc);
    config.user.clone_from(&section.user);
    config.password = secrets
        .password(&section.password_file)?
        .unwrap_or_default();
    config.tls = secrets.tls(&section.tls_ca, &section.tls_cert, &section.tls_key);
    config.levels = levels(&section.consistency)?;
    config.request_timeout = Duration::from_millis(u64::from(section.timeout_ms));
    config.deadline = Duration::from_millis(u64::from(section.deadline_ms));
    config.in_flight_max = section.in_flight_max as usize;
    config.connections = section.connections as usize;
    config.dedup_ttl_s = section.dedup_days * DAY_S;
    config.history_ttl_s = section.history_days * DAY_S;
    Ok(config)
}

fn replication(section: &StoreSection) -> Result<Replication, OpenEnginesError> {
    if section.replication_by_dc.is_empty() {
        return Ok(Replication::Copies(section.replication));
    }
    let each = section.replication_by_dc.iter().map(|pair| {
        let (name, copies) = pair.split_once('=').unwrap_or((pair, ""));
        let copies = copies.trim().parse().ok().filter(|copies| *copies > 0);
        let copies = copies.ok_or_else(|| OpenEnginesError::Setting {
            key: "store.replication_by_dc",
            reason: format!("`{pair}` is no datacenter=copies"),
        })?;
        Ok((name.trim().to_owned(), copies))
    });
    each.collect::<Result<_, _>>()
        .map(Replication::PerDatacenter)
}

/// What is not named is a quorum.
fn levels(pairs: &[String]) -> Result<Levels, OpenEnginesError> {
    let mut levels = CassandraConfig::new(Vec::new()).levels;
    for pair in pairs {
        let wrong = |reason: String| OpenEnginesError::Setting {
            key: "store.consistency",
            reason,
        };
        let (operation, name) = pair.split_once('=').unwrap_or((pair, ""));
        let found = level(name.trim()).ok_or_else(|| {
            wrong(format!(
                "`{name}` is no level: quorum, local_quorum, each_quorum, one, local_one, two, three, all"
            ))
        })?;
        match operation.trim() {
            "all" => levels = Levels::all(found),
            "write" => levels.write = found,
            "write_members" => levels.write_members = found,
            "write_receipts" => levels.write_receipts = found,
            "read" => levels.read = found,
            "read_history" => levels.read_history = found,
            other => {
                return Err(wrong(format!(
                    "`{other}` is no operation: write, write_members, write_receipts, read, read_history, all"
                )));
            }
        }
    }
    Ok(levels)
}

fn numbers(stats: &CassandraStats) -> Vec<Number> {
    let mut numbers = link_numbers(
        "store",
        stats.requests,
        stats.failures,
        stats.gave_up,
        &stats.latency,
    );
    numbers.extend([
        Number::grows(
            "hawser_store_retries_total",
            "Requests that were repetitions.",
            stats.retries,
        ),
        Number::grows(
            "hawser_store_refused_total",
            "Operations that were not tried, because the store had just failed many times.",
            stats.refused,
        ),
        Number::grows(
            "hawser_store_breaker_opened_total",
            "Times that the store was given up for a while.",
            stats.opened,
        ),
        Number::level(
            "hawser_store_in_flight",
            "Requests under way.",
            stats.in_flight,
        ),
    ]);
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consistency_is_by_operation_and_a_wrong_word_is_named() {
        let set = |pairs: &[&str]| {
            let pairs: Vec<String> = pairs.iter().map(|p| (*p).to_owned()).collect();
            levels(&pairs)
        };
        let one = level("one").unwrap();
        let got = set(&["read_history=one"]).unwrap();
        assert_eq!(got.read_history, one);
        assert_eq!(got.write, level("quorum").unwrap());
        assert_eq!(set(&["all=one"]).unwrap(), Levels::all(one));
        for (pair, words) in [("write=most", "no level"), ("wirte=one", "no operation")] {
            let error = set(&[pair]).unwrap_err().to_string();
            assert!(
                error.contains("store.consistency") && error.contains(words),
                "{error}"
            );
        }
    }

    #[test]
    fn copies_by_data_centre_are_read() {
        let mut section = StoreSection::default();
        assert_eq!(replication(&section).unwrap(), Replication::Copies(3));
        section.replication_by_dc = vec!["east=3".to_owned(), "west=2".to_owned()];
        assert_eq!(replication(&section).unwrap().fewest(), 2);
        section.replication_by_dc = vec!["east=many".to_owned()];
        assert!(replication(&section).is_err());
    }
}
