//! The directory port on real Postgres: `dev/engines up postgres --tls`, then its `env`. Without
//! HAWSER_TEST_POSTGRES every test here says that it was skipped.
#![cfg(feature = "postgres")]
#![expect(clippy::unwrap_used, reason = "a test may panic, its makers too")]

#[path = "support/postgres_schema.rs"]
mod postgres_schema;
#[path = "support/proxy.rs"]
mod proxy;

use hawser_engines::contract::directory_suite;
use hawser_engines::directory::{Device, Directory, DirectoryError, Group, Revocation, User};
use hawser_engines::postgres::{PostgresConfig, PostgresDirectory, PostgresError};
use hawser_engines::tls::ClientTls;
use hawser_protocol::ids::{ChatId, Seq, UserId};
use postgres_schema::Schema;
use proxy::Proxy;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn id(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn user(name: &str) -> User {
    User {
        user_id: name.to_owned(),
        ..User::default()
    }
}

#[test]
fn the_directory_on_postgres_keeps_the_contract() {
    let Some(schema) = Schema::new() else { return };
    let directory: Arc<dyn Directory> = Arc::new(schema.open().unwrap());
    directory_suite(|| directory.clone());
}

#[test]
fn the_directory_on_postgres_over_tls_keeps_the_contract() {
    let Some(mut schema) = Schema::new() else {
        return;
    };
    let Ok(ca) = std::env::var("HAWSER_TEST_CA") else {
        println!("SKIPPED: HAWSER_TEST_CA is not set (dev/engines up postgres --tls)");
        return;
    };
    schema.config.tls = Some(ClientTls {
        ca: Some(ca.into()),
        identity: None,
    });
    let directory = schema.open().unwrap();
    let ssl = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
               WHERE ssl AND application_name = 'hawser'";
    assert_ne!(schema.sql(ssl), ["0"]);
    let directory: Arc<dyn Directory> = Arc::new(directory);
    directory_suite(|| directory.clone());
    // The system's authorities did not sign it.
    schema.config.tls = Some(ClientTls::default());
    assert_eq!(setting(schema.open()).0, "directory.tls_ca");
}

#[test]
fn many_processes_migrate_at_once_and_each_step_is_made_once() {
    let Some(schema) = Schema::new() else { return };
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| schema.open().unwrap());
        }
    });
    let versions = schema.sql("SELECT version FROM versions ORDER BY version");
    assert_eq!(versions, ["1", "2"]);
    schema.open().unwrap();
    let mut tables = schema.sql(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()",
    );
    tables.sort();
    let expected = [
        "devices",
        "group_admins",
        "group_members",
        "groups",
        "revocation_end",
        "revocations",
        "users",
        "versions",
    ];
    assert_eq!(tables, expected);
}

#[test]
fn an_older_schema_is_migrated_with_its_rows_and_a_step_that_fails_leaves_nothing() {
    let Some(schema) = Schema::new() else { return };
    let directory = schema.open().unwrap();
    directory.create_user(&user("kept")).unwrap();
    schema.sql("DROP TABLE revocations, revocation_end; DELETE FROM versions WHERE version = 2");
    // In the way of the second table of step 2.
    schema.sql("CREATE TABLE revocation_end (x int)");
    let refused = schema.open().err().unwrap();
    assert!(
        matches!(refused, PostgresError::Refused { .. }),
        "{refused}"
    );
    assert_eq!(schema.sql("SELECT to_regclass('revocations')"), ["NULL"]);
    assert_eq!(schema.sql("SELECT max(version) FROM versions"), ["1"]);
    schema.sql("DROP TABLE revocation_end");
    let directory = schema.open().unwrap();
    assert!(directory.user(&id("kept")).unwrap().is_some());
    assert_eq!(directory.revocations_after(0, 10), Ok(Vec::new()));
}

#[test]
fn a_schema_of_a_newer_version_is_refused_and_left_alone() {
    let Some(schema) = Schema::new() else { return };
    schema.open().unwrap();
    schema.sql("INSERT INTO versions (version) VALUES (99)");
    let error = schema.open().err().unwrap();
    let newer = PostgresError::Newer {
        schema: schema.config.schema.clone(),
        found: 99,
        known: 2,
    };
    assert_eq!(error, newer);
    let said = error.to_string();
    assert!(
        !error.passes() && said.contains("directory.schema") && said.contains("newer program"),
        "{said}"
    );
}

#[test]
fn two_installations_in_one_database_do_not_see_one_another() {
    let (Some(one), Some(two)) = (Schema::new(), Schema::new()) else {
        return;
    };
    let (a, b) = (one.open().unwrap(), two.open().unwrap());
    a.create_user(&user("x")).unwrap();
    assert_eq!(b.user(&id("x")), Ok(None));
    b.create_user(&user("x")).unwrap();
}

fn setting(outcome: Result<PostgresDirectory, PostgresError>) -> (&'static str, String) {
    match outcome.err() {
        Some(PostgresError::Setting { key, rule }) => (key, rule),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_the_operator_got_wrong_is_named_by_its_key() {
    let Some(schema) = Schema::new() else { return };
    let with = |change: &dyn Fn(&mut PostgresConfig)| {
        let mut config = schema.config.clone();
        change(&mut config);
        setting(PostgresDirectory::open(config, schema.bridge.clone()))
    };
    let (key, said) = with(&|c| c.password = Some("wrong".to_owned()));
    assert!(
        key == "directory.password_file" && !said.contains("`wrong`"),
        "{said}"
    );
    assert_eq!(with(&|c| c.password = None).0, "directory.password_file");
    assert_eq!(
        with(&|c| c.database = "no_such".to_owned()).0,
        "directory.database"
    );
    assert_eq!(
        with(&|c| c.user = "nobody".to_owned()).0,
        "directory.password_file"
    );
    let missing = || {
        Some(ClientTls {
            ca: Some("/nowhere/ca.pem".into()),
            identity: None,
        })
    };
    let (key, said) = with(&|c| c.tls = missing());
    assert!(
        key == "directory.tls_ca" && said.contains("/nowhere/ca.pem"),
        "{said}"
    );
}

#[test]
fn a_user_without_rights_is_named_and_one_with_just_enough_starts() {
    let Some(schema) = Schema::new() else { return };
    let role = format!("{}_role", schema.config.schema);
    let create = format!("CREATE ROLE {role} LOGIN PASSWORD 'pw'");
    // `dev/engines` gives the superuser the same password.
    let mut admins = [schema.config.user.as_str(), "postgres"].into_iter();
    let Some(admin) = admins.find(|admin| schema.sql_as(admin, &create).is_ok()) else {
        println!("SKIPPED: neither the user of HAWSER_TEST_POSTGRES nor postgres may make a role");
        return;
    };
    let mut config = schema.config.clone();
    config.user.clone_from(&role);
    config.password = Some("pw".to_owned());
    let open = || PostgresDirectory::open(config.clone(), schema.bridge.clone());
    assert_eq!(setting(open()).0, "directory.user");
    schema.open().unwrap();
    let name = &schema.config.schema;
    schema.sql(&format!(
        "GRANT USAGE ON SCHEMA {name} TO {role}; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {name} TO {role}"
    ));
    let directory = open().unwrap();
    directory.create_user(&user("x")).unwrap();
    drop(directory);
    let dropped = schema.sql_as(admin, &format!("DROP OWNED BY {role}; DROP ROLE {role}"));
    assert_eq!(dropped, Ok(Vec::new()));
}

#[test]
fn tables_that_are_gone_are_named() {
    let Some(schema) = Schema::new() else { return };
    let directory = schema.open().unwrap();
    schema.sql("DROP TABLE users CASCADE");
    let outcome = directory.user(&id("x"));
    let Err(DirectoryError::Unavailable { reason }) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(reason.contains("directory.schema"), "{reason}");
    assert_eq!(directory.trouble(), Some(reason));
}

#[test]
fn a_group_is_replaced_whole_and_the_larger_seq_wins_from_many_writers() {
    let Some(schema) = Schema::new() else { return };
    let directory = schema.open().unwrap();
    let chat = ChatId::new("g:big").unwrap();
    let group = |seq: u64| {
        let members: Vec<String> = (0..1_000)
            .map(|n| format!("u{}", (n * 7 + seq) % 5_000))
            .collect();
        Group {
            chat: "g:big".to_owned(),
            name: format!("name {seq}"),
            admins: members[..3].to_vec(),
            members,
            picture: String::new(),
            write_seq: seq,
        }
    };
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let (directory, group) = (&directory, &group);
            scope.spawn(move || {
                for n in 0..10 {
                    let seq = 1 + n * 4 + writer;
                    directory.apply_group(&group(seq), Seq(seq)).unwrap();
                    let read = directory
                        .group(&ChatId::new("g:big").unwrap())
                        .unwrap()
                        .unwrap();
                    assert_eq!(read, group(read.write_seq), "of one state");
                }
            });
        }
    });
    assert_eq!(directory.group(&chat), Ok(Some(group(40))));
    let counted = schema.sql("SELECT count(*) FROM group_members");
    assert_eq!(counted, ["1000"]);
}

#[test]
fn devices_are_bounded_per_user_also_when_they_come_at_once() {
    let Some(schema) = Schema::new() else { return };
    let directory = schema.open().unwrap();
    directory.create_user(&user("many")).unwrap();
    let device = |n: usize| Device {
        device_id: format!("d{n}"),
        ..Device::default()
    };
    std::thread::scope(|scope| {
        for part in 0..4 {
            let (directory, device) = (&directory, &device);
            scope.spawn(move || {
                for n in 0..20 {
                    let _ = directory.put_device(&id("many"), &device(part * 20 + n));
                }
            });
        }
    });
    assert_eq!(directory.devices(&id("many")).unwrap().len(), 64);
    let full = directory.put_device(&id("many"), &device(1_000));
    assert_eq!(full, Err(DirectoryError::Taken { field: "devices" }));
}

#[test]
fn tokens_that_have_expired_leave_the_list() {
    let Some(schema) = Schema::new() else { return };
    let directory = schema.open().unwrap();
    let token = |n: u32, expires_at_ms| Revocation::Token {
        jti: format!("t{n}"),
        expires_at_ms,
    };
    for n in 0..10 {
        directory.put_revocation(&token(n, 5)).unwrap();
    }
    let lasting = token(99, 4_000_000_000_000);
    directory.put_revocation(&lasting).unwrap();
    assert_eq!(directory.revocations_after(0, 100), Ok(vec![(11, lasting)]));
    assert_eq!(directory.revocations_after(11, 100), Ok(Vec::new()));
}

#[test]
fn connections_are_bounded_and_a_call_that_finds_none_says_which_key() {
    let Some(mut schema) = Schema::new() else {
        return;
    };
    schema.config.connections_max = 1;
    schema.config.timeout_ms = 500;
    let directory = schema.open().unwrap();
    let name = schema.config.schema.clone();
    std::thread::scope(|scope| {
        let hold = scope.spawn(|| {
            schema.sql(&format!(
                "BEGIN; LOCK TABLE {name}.users; SELECT pg_sleep(2); COMMIT"
            ));
        });
        std::thread::sleep(Duration::from_millis(300));
        let waits: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let began = Instant::now();
                    let outcome = directory.user(&id("x"));
                    (outcome, began.elapsed())
                })
            })
            .collect();
        for wait in waits {
            let (outcome, took) = wait.join().unwrap();
            assert!(
                matches!(outcome, Err(DirectoryError::Unavailable { .. })),
                "{outcome:?}"
            );
            assert!(took < Duration::from_millis(1_500), "{took:?}");
        }
        assert!(directory.stats().connections <= 1);
        hold.join().unwrap();
    });
    until("it is asked again", || directory.user(&id("x")) == Ok(None));
    assert_eq!(directory.trouble(), None);
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(20), "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_server_that_was_restarted_costs_no_call_that_can_be_repeated() {
    let Some(schema) = Schema::new() else { return };
    let proxy = Proxy::start(schema.address());
    let mut config = schema.config.clone();
    config.address = proxy.place();
    let directory = PostgresDirectory::open(config, schema.bridge.clone()).unwrap();
    for n in 0..20 {
        directory.create_user(&user(&format!("u{n}"))).unwrap();
        proxy.cut(false);
        assert!(directory.user(&id(&format!("u{n}"))).unwrap().is_some());
    }
    schema.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hawser' AND state = 'idle'");
    assert!(directory.user(&id("u0")).unwrap().is_some());
    assert_eq!(directory.trouble(), None);
}

#[test]
fn a_server_that_is_gone_is_named_at_once_and_used_when_it_is_back() {
    let Some(schema) = Schema::new() else { return };
    let proxy = Proxy::start(schema.address());
    let mut config = schema.config.clone();
    config.address = proxy.place();
    let directory = PostgresDirectory::open(config, schema.bridge.clone()).unwrap();
    proxy.cut(true);
    let outcome = directory.user(&id("x"));
    assert!(
        matches!(outcome, Err(DirectoryError::Unavailable { .. })),
        "{outcome:?}"
    );
    assert!(directory.trouble().unwrap().contains("directory.address"));
    proxy.cut(false);
    assert_eq!(directory.user(&id("x")), Ok(None));
    assert_eq!(directory.trouble(), None);
}

#[test]
fn a_silent_server_costs_one_timeout_and_then_nobody_waits_until_it_answers() {
    let Some(schema) = Schema::new() else { return };
    let proxy = Proxy::start(schema.address());
    let mut config = schema.config.clone();
    config.address = proxy.place();
    config.timeout_ms = 400;
    let directory = PostgresDirectory::open(config, schema.bridge.clone()).unwrap();
    proxy.stall(true);
    let began = Instant::now();
    assert!(directory.user(&id("x")).is_err());
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(400) && took < Duration::from_millis(800),
        "{took:?}"
    );
    let began = Instant::now();
    for _ in 0..100 {
        assert!(directory.user(&id("x")).is_err());
    }
    assert!(began.elapsed() < Duration::from_millis(300));
    assert!(
        directory
            .trouble()
            .unwrap()
            .contains("directory.timeout_ms")
    );
    assert!(directory.stats().shed >= 100 && directory.stats().timeouts == 1);
    proxy.stall(false);
    until("it is asked again", || directory.user(&id("x")) == Ok(None));
    assert_eq!(directory.trouble(), None);
}

#[test]
fn a_server_absent_at_start_is_waited_for_and_named_when_it_does_not_come() {
    let Some(schema) = Schema::new() else { return };
    let proxy = Proxy::start(schema.address());
    proxy.cut(true);
    let mut config = schema.config.clone();
    config.address = proxy.place();
    config.open_timeout_ms = 500;
    let began = Instant::now();
    let error = PostgresDirectory::open(config.clone(), schema.bridge.clone())
        .err()
        .unwrap();
    assert!(
        error.passes() && error.to_string().contains("directory.address"),
        "{error}"
    );
    assert!(
        began.elapsed() >= Duration::from_millis(500) && began.elapsed() < Duration::from_secs(5)
    );
    config.open_timeout_ms = 20_000;
    std::thread::scope(|scope| {
        let opening = scope.spawn(|| PostgresDirectory::open(config, schema.bridge.clone()));
        std::thread::sleep(Duration::from_millis(600));
        proxy.cut(false);
        opening.join().unwrap().unwrap();
    });
}
