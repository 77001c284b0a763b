//! Ownership in storms of a few hundred seeds, and that its oracles can speak.

use hawser_sim::{OwnersBreak, OwnersOptions, OwnersOutcome, run_owners};

/// Seeds of the storm without a break, and those within which each break is noticed.
const SEEDS: u64 = 200;
const SEEDS_OF_A_BREAK: u64 = 400;

#[test]
fn no_seed_has_two_owners_or_none_or_comes_not_to_rest() {
    let options = OwnersOptions::default();
    let mut sum = OwnersOutcome::default();
    for seed in 1..=SEEDS {
        let outcome = run_owners(seed, &options);
        if let Some(violation) = &outcome.violation {
            panic!("seed {seed}: {violation}\nhawser-sim owners --start {seed} --seeds 1 --trace");
        }
        sum.handed_over += outcome.handed_over;
        sum.called_gone += outcome.called_gone;
        sum.fenced += outcome.fenced;
        sum.compacted += outcome.compacted;
    }
    // A storm that never blew proves nothing.
    assert!(sum.handed_over > 0 && sum.called_gone > 0 && sum.fenced > 0 && sum.compacted > 0);
}

#[test]
fn every_rule_that_is_broken_on_purpose_is_noticed() {
    for broken in OwnersBreak::ALL {
        let options = OwnersOptions {
            broken: Some(broken),
            ..OwnersOptions::default()
        };
        let found = (1..=SEEDS_OF_A_BREAK).find_map(|seed| run_owners(seed, &options).violation);
        assert!(found.is_some(), "{broken:?} is not noticed");
    }
}

#[test]
fn one_seed_of_owners_is_one_run() {
    let options = OwnersOptions::default();
    assert_eq!(run_owners(7, &options), run_owners(7, &options));
    assert_ne!(run_owners(7, &options), run_owners(8, &options));
}
