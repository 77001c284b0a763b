//! The target that `HAWSER_FUZZ_TARGET` names (all are in `hawser_fuzz::TARGETS`).
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static RUN: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("HAWSER_FUZZ_TARGET").unwrap_or_default();
    let known: Vec<&str> = hawser_fuzz::TARGETS.iter().map(|target| target.name).collect();
    match hawser_fuzz::TARGETS.iter().find(|target| target.name == name) {
        Some(target) => target.run,
        None => panic!("HAWSER_FUZZ_TARGET is one of {known:?}"),
    }
});

fuzz_target!(|data: &[u8]| RUN(data));
