//! The store port on a real Cassandra: `dev/engines up cassandra`, then HAWSER_TEST_CASSANDRA=127.0.0.1:9042.
//! Without that variable every test that needs one says that it was skipped.
#![cfg(feature = "cassandra")]
#![expect(clippy::unwrap_used, reason = "a test may panic, its makers too")]

mod support;

use hawser_engines::bridge::Bridge;
use hawser_engines::cassandra::{CassandraConfig, CassandraStore, Levels, Replication, level};
use hawser_engines::contract::store_suite;
use hawser_engines::store::Store;
use hawser_protocol::ids::ChatId;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::cassandra::{Keyspace, assert_whole, head, message, nodes};
use support::cql_server::refuse_logins;

#[test]
fn the_store_on_cassandra_keeps_the_contract() {
    let Some(nodes) = nodes() else { return };
    let keyspace = Keyspace::new(&nodes, "contract");
    let store: Arc<dyn Store> = Arc::new(keyspace.open());
    store_suite(|| Arc::clone(&store));
}

#[test]
fn another_program_finds_what_the_first_has_written() {
    let Some(nodes) = nodes() else { return };
    let keyspace = Keyspace::new(&nodes, "again");
    let chat = ChatId::new("g:again").unwrap();
    let first = keyspace.open();
    let ops: Vec<_> = (1..=20).map(|o| message(&chat, o)).collect();
    first.write(&ops).unwrap();
    first.write(&[head(&chat, 20)]).unwrap();
    drop(first);
    assert_whole(&keyspace.open(), &chat, 20);
}

#[test]
fn programs_that_start_at_once_make_one_set_of_tables() {
    let Some(nodes) = nodes() else { return };
    let keyspace = Keyspace::new(&nodes, "at_once");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| keyspace.open());
        }
    });
    let tables = "SELECT count(*) FROM system_schema.tables WHERE keyspace_name = 'KS'";
    assert_eq!(keyspace.cql(tables), Some(9));
}

#[test]
fn tables_of_a_newer_version_are_refused_and_the_key_is_named() {
    let Some(nodes) = nodes() else { return };
    let keyspace = Keyspace::new(&nodes, "newer");
    drop(keyspace.open());
    keyspace.cql(
        "INSERT INTO KS.schema_version (one, version, written_by) VALUES ('hawser', 99, 'hawser 9.9')",
    );
    let said = keyspace.refusal(|_| ());
    for part in [
        "99",
        "hawser 9.9",
        "store.keyspace",
        &keyspace.config.keyspace,
    ] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
}

#[test]
fn a_program_that_is_late_does_not_take_a_newer_version_back() {
    let Some(nodes) = nodes() else { return };
    let keyspace = Keyspace::new(&nodes, "late");
    drop(keyspace.open());
    // As a newer program writes it, and as one that looked before writes it after.
    for version in [3, 2] {
        keyspace.cql(&format!(
            "INSERT INTO KS.schema_version (one, version, written_by) VALUES ('hawser', {version}, 'x') USING TIMESTAMP {version}"
        ));
    }
    assert!(keyspace.refusal(|_| ()).contains("schema version 3"));
}

#[test]
fn a_program_that_may_not_make_tables_waits_for_one_that_does() {
    let Some(nodes) = nodes() else { return };
    let keyspace = Keyspace::new(&nodes, "waits");
    let said = keyspace.refusal(|config| {
        config.migrate = false;
        config.open_timeout = Duration::from_millis(1_500);
    });
    assert!(said.contains("store.migrate"), "{said}");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let mut config = keyspace.config.clone();
            config.migrate = false;
            CassandraStore::open(config, keyspace.bridge.clone()).map(drop)
        });
        std::thread::sleep(Duration::from_millis(500));
        drop(keyspace.open());
        waiting.join().unwrap().unwrap();
    });
}

#[test]
fn fewer_than_three_copies_are_refused_unless_allowed() {
    let Some(nodes) = nodes() else { return };
    let keyspace = Keyspace::new(&nodes, "copies");
    let said = keyspace.refusal(|config| {
        config.replication = Replication::Copies(1);
        config.allow_unsafe = false;
    });
    for part in ["1 copies", "store.replication", "store.allow_unsafe = true"] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
    let mut config = keyspace.config.clone();
    config.allow_unsafe = true;
    CassandraStore::open(config, keyspace.bridge.clone()).unwrap();
}

#[test]
fn a_level_that_misses_acknowledged_writes_is_refused() {
    let Some(nodes) = nodes() else { return };
    if nodes.len() < 3 {
        eprintln!("SKIPPED: needs three nodes in HAWSER_TEST_CASSANDRA");
        return;
    }
    let keyspace = Keyspace::new(&nodes, "levels");
    let said = keyspace.refusal(|config| config.levels = Levels::all(level("one").unwrap()));
    assert!(said.contains("store.consistency"), "{said}");
}

#[test]
fn a_datacenter_that_is_not_there_is_named_beside_those_that_are() {
    let Some(nodes) = nodes() else { return };
    let keyspace = Keyspace::new(&nodes, "datacenter");
    let said = keyspace.refusal(|config| config.local_datacenter = "atlantis".to_owned());
    for part in ["store.local_dc", "atlantis", "datacenter1"] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
}

fn refusal(config: CassandraConfig) -> String {
    let bridge = Bridge::start("cassandra-test").unwrap();
    CassandraStore::open(config, bridge)
        .err()
        .unwrap()
        .to_string()
}

#[test]
fn a_cassandra_that_is_not_there_is_waited_for_and_then_named() {
    let mut config = CassandraConfig::new(vec!["127.0.0.1:9".to_owned()]);
    config.open_timeout = Duration::from_millis(2_500);
    let since = Instant::now();
    let said = refusal(config);
    let took = since.elapsed();
    assert!((1..15).contains(&took.as_secs()), "{took:?}");
    for part in ["127.0.0.1:9", "store.contact_points"] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
}

#[test]
fn a_wrong_password_is_not_tried_again_and_the_keys_are_named() {
    let mut config = CassandraConfig::new(vec![refuse_logins()]);
    config.user = "hawser".to_owned();
    config.password = "wrong".to_owned();
    config.open_timeout = Duration::from_secs(600);
    let since = Instant::now();
    let said = refusal(config.clone());
    assert!(since.elapsed() < Duration::from_secs(30));
    for part in ["`hawser`", "store.user", "store.password"] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
    config.user.clear();
    let said = refusal(config);
    assert!(said.contains("store.user"), "no user at all: {said}");
}

#[test]
fn settings_out_of_bounds_are_named() {
    type Change = fn(&mut CassandraConfig);
    let wrong: [(Change, &str); 5] = [
        (|c| c.contact_points.clear(), "store.contact_points"),
        (|c| c.keyspace = "a-b".to_owned(), "store.keyspace"),
        (
            |c| c.replication = Replication::Copies(0),
            "store.replication",
        ),
        (|c| c.dedup_ttl_s = 60, "store.dedup_days"),
        (
            |c| c.deadline = Duration::from_millis(1),
            "store.deadline_ms",
        ),
    ];
    for (change, key) in wrong {
        let mut config = CassandraConfig::new(vec!["127.0.0.1:9".to_owned()]);
        change(&mut config);
        let said = refusal(config);
        assert!(said.contains(key), "{key} is not in: {said}");
    }
}
