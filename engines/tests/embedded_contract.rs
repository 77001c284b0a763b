//! The contract suites of the ports on the embedded engine.

mod support;

use hawser_engines::contract::{directory_suite, log_suite, presence_suite, store_suite};
use hawser_engines::embedded::EmbeddedPresence;
use std::sync::Arc;

#[test]
fn the_embedded_log_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let engine = support::open(dir.path());
    log_suite(|| engine.log());
}

#[test]
fn the_embedded_store_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let engine = support::open(dir.path());
    store_suite(|| engine.store());
}

#[test]
fn the_embedded_directory_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let engine = support::open(dir.path());
    directory_suite(|| engine.directory());
}

#[test]
fn the_embedded_presence_keeps_the_contract() {
    presence_suite(|| Arc::new(EmbeddedPresence::default()));
}
