//! The storm of a few hundred seeds, and that its oracles can speak.

use hawser_sim::{Break, Options, run};

/// `HAWSER_SEEDS=from-to` runs others.
fn seeds(otherwise: std::ops::RangeInclusive<u64>) -> std::ops::RangeInclusive<u64> {
    let wished = std::env::var("HAWSER_SEEDS").ok();
    let wished = wished.as_deref().and_then(|range| range.split_once('-'));
    let range = wished.and_then(|(a, b)| Some(a.parse().ok()?..=b.parse().ok()?));
    range.unwrap_or(otherwise)
}

#[test]
fn g2_g3_g4_g5_no_seed_loses_repeats_reorders_or_half_resumes_anything() {
    let options = Options::default();
    let (mut replayed, mut recovered, mut unrecovered, mut crashes) = (0, 0, 0, 0);
    let (mut in_lanes, mut sent_on, mut fetched) = (0, 0, 0);
    let (mut revoked, mut learnt) = (0, 0);
    for seed in seeds(1..=200) {
        let outcome = run(seed, &options);
        if let Some(violation) = &outcome.violation {
            panic!("seed {seed}: {violation}\nhawser-sim run --start {seed} --seeds 1 --trace");
        }
        replayed += outcome.replayed;
        recovered += outcome.recovered;
        unrecovered += outcome.unrecovered;
        crashes += outcome.ingest_crashes;
        in_lanes += outcome.in_lanes;
        sent_on += outcome.sent_on;
        fetched += outcome.fetched;
        revoked += outcome.revoked;
        learnt += outcome.learnt;
    }
    // A storm that never blew proves nothing.
    assert!(replayed > 0 && recovered > 0 && unrecovered > 0 && crashes > 0);
    assert!(in_lanes > 0 && sent_on > 0 && fetched > 0);
    assert!(revoked > 0 && learnt > 0);
}

#[test]
fn every_fault_made_on_purpose_is_found_within_forty_seeds() {
    for broken in Break::ALL {
        let options = Options {
            broken: Some(broken),
            ..Options::default()
        };
        let found = (1..=40).find_map(|seed| run(seed, &options).violation);
        assert!(found.is_some(), "{broken:?} is not noticed");
    }
}

#[test]
fn one_seed_is_one_run() {
    let options = Options::default();
    assert_eq!(run(7, &options), run(7, &options));
    assert_ne!(run(7, &options), run(8, &options));
}
