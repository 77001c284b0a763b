//! Engines that fail beside load, with real processes: `dev/faults` brings up gateways and fanout on Kafka, Cassandra, Redis
//! and Postgres, injects the fault, and judges the history. Runs when HAWSER_TEST_FAULTS is `short` (as in CI) or `full`
//! (nightly); a cluster that is up already (`dev/cluster up`) is used and left.

use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// One fault at a time: they share the system.
static SYSTEM: Mutex<()> = Mutex::new(());

/// These, in the nightly run only.
fn holds_nightly(names: &[&str]) {
    match std::env::var("HAWSER_TEST_FAULTS").as_deref() {
        Ok("full") => holds(names, &[]),
        _ => println!("SKIPPED: HAWSER_TEST_FAULTS is not full (dev/test --nightly sets it)"),
    }
}

/// These, and in the nightly run more of the kind.
fn holds(names: &[&str], more: &[&str]) {
    let Ok(mode) = std::env::var("HAWSER_TEST_FAULTS") else {
        println!("SKIPPED: HAWSER_TEST_FAULTS is not set (short or full; dev/test sets it)");
        return;
    };
    let _one = SYSTEM.lock().unwrap_or_else(PoisonError::into_inner);
    let here = std::env::var("CARGO_MANIFEST_DIR").expect("cargo test says where it is");
    let program = format!("{here}/../dev/faults");
    let mut command = Command::new(program);
    command
        .args(names)
        .env("HAWSER_LOADGEN", env!("CARGO_BIN_EXE_hawser-loadgen"));
    if mode == "full" {
        command.args(more).arg("--full");
    } else {
        // Programs that are not optimized share two cores with four engines.
        command.args(["--connections", "100", "--rate", "40"]);
    }
    let done = command.output().expect("dev/faults runs");
    assert!(
        done.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
}

#[test]
fn f2_a_killed_partition_leader_loses_nothing_and_connections_stay() {
    holds(&["f2-leader"], &[]);
}

#[test]
fn f2_without_any_broker_every_send_is_answered_with_a_hint_and_all_is_drained_after() {
    holds(&["f2-brokers"], &[]);
}

#[test]
fn f3_redis_killed_or_stopped_leaves_deliveries_as_they_were() {
    holds(&["f3-redis-stopped"], &["f3-redis-killed"]);
}

#[test]
fn f4_cassandra_away_makes_lag_that_drains_and_rows_neither_missing_nor_double() {
    holds(&["f4-down"], &[]);
}

#[test]
fn f4_a_slow_cassandra_and_answers_that_never_come_leave_every_row_once() {
    holds(&["f4-applied"], &["f4-slow"]);
}

#[test]
fn f12_connections_broken_off_anywhere_leave_descriptors_and_memory_flat_and_every_send_once() {
    holds(&["f12"], &[]);
}

#[test]
fn postgres_and_ingest_killed_beside_load_lose_nothing() {
    holds(&["postgres", "ingest"], &["ingest-paused"]);
}

#[test]
fn f1_killed_edge_nodes_lose_nothing_and_their_users_resume_elsewhere() {
    holds(&["f1"], &["f1-paused", "f1-redis"]);
}

#[test]
fn f5_an_edge_node_cut_off_from_the_log_fences_itself_and_sends_its_users_elsewhere() {
    holds_nightly(&["f5"]);
}

#[test]
fn f6_an_edge_node_that_comes_and_goes_moves_its_own_users_and_refuses_nothing() {
    holds_nightly(&["f6"]);
}

#[test]
fn f10_readers_at_nothing_on_every_node_harm_nobody_and_miss_nothing() {
    holds_nightly(&["f10"]);
}

#[test]
fn f11_connections_that_are_silently_gone_are_noticed_and_their_users_lose_nothing() {
    holds_nightly(&["f11"]);
}

#[test]
fn f13_all_that_come_back_at_once_are_let_in_by_every_node_at_its_pace() {
    holds_nightly(&["f13"]);
}

#[test]
fn f20_what_was_captured_opens_one_session_of_its_device_and_sends_one_message_on_any_node() {
    holds_nightly(&["f20"]);
}

#[test]
fn f24_limits_are_kept_around_devices_addresses_reconnects_and_nodes() {
    holds_nightly(&["f24"]);
}

#[test]
fn killed_nodes_brokers_and_the_command_itself_leave_a_growth_of_delivery_without_a_loss() {
    holds_nightly(&["grow"]);
}

#[test]
fn killed_nodes_beside_a_group_of_100_000_lose_nothing_of_it() {
    holds_nightly(&["giant"]);
}

#[test]
fn f26_a_rolling_restart_of_everything_fails_no_send_and_cuts_no_session_off() {
    holds(&["rolling"], &[]);
}
