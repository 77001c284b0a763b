//! Every target on its seeds and on mutations of them, for a few seconds in all. `HAWSER_FUZZ_RUNS` sets the mutations per
//! target, `HAWSER_FUZZ_SEED` where they begin.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use hawser_fuzz::mutate::{Chance, mutated};
use hawser_fuzz::{TARGETS, Target};

/// Time for one target unless the number of runs is given.
const TARGET_TIME: Duration = Duration::from_millis(400);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn check(target: &Target, input: &[u8], seed: Option<u64>) {
    if catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_err() {
        let again = seed.map_or_else(String::new, |seed| {
            format!("; HAWSER_FUZZ_RUNS=1 HAWSER_FUZZ_SEED={seed} repeats it")
        });
        panic!(
            "{} breaks on {:02x?}{again}",
            target.name,
            &input[..input.len().min(4_096)]
        );
    }
}

#[test]
fn seeds_and_mutations_break_no_target() {
    let runs = number("HAWSER_FUZZ_RUNS");
    let first = number("HAWSER_FUZZ_SEED").unwrap_or(1);
    for target in TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{}", target.name);
        for input in &seeds {
            check(target, input, None);
        }
        let begun = Instant::now();
        let mut done = 0;
        while runs.map_or(begun.elapsed() < TARGET_TIME, |runs| done < runs) {
            let seed = first + done;
            check(target, &mutated(&seeds, &mut Chance::new(seed)), Some(seed));
            done += 1;
        }
        eprintln!("{}: {} seeds, {done} mutations", target.name, seeds.len());
        assert!(done > 0);
    }
}

#[test]
fn mutations_are_repeated_by_their_seed() {
    let seeds = (TARGETS[0].seeds)();
    let make = |seed| mutated(&seeds, &mut Chance::new(seed));
    assert_eq!(make(5), make(5));
    assert!((0..50).any(|seed| make(seed) != make(seed + 50)));
}
