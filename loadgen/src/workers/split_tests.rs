#![expect(
    clippy::cast_possible_truncation,
    reason = "a share of a number of users"
)]

use proptest::prelude::*;

use super::*;
use crate::engine::{Load, Phase, Storm};
use crate::scenario::read;

fn split(count: u32, group_size: u32, workers: u32) -> Result<Split, TooFew> {
    let groups = if group_size > 0 {
        format!("group_share = 0.5\n[sessions]\ncount = {count}\ngroup_size = {group_size}\n")
    } else {
        format!("[sessions]\ncount = {count}\n")
    };
    let text = format!(
        "[target]\nurl = \"ws://127.0.0.1:1/\"\nkey = \"k\"\n[[phase]]\nkind = \"ramp\"\nto = {count}\nper_second = 1\n\
         [[phase]]\nkind = \"mix\"\nseconds = 1\nrate = 1\n{groups}"
    );
    Split::new(
        &read::scenario(&text, "s", &[]).expect("a scenario"),
        workers,
    )
}

fn step(sessions: u32) -> Step {
    let mut step = Step::first(Load {
        ramp: 100.0,
        rate: 60.0,
        bodies: vec![(1.0, 100)],
        group_share: 0.0,
        receipt_share: 0.0,
        typing_share: 0.0,
    });
    (step.phase, step.sessions) = (Phase::Load, sessions);
    step
}

#[test]
fn ranges_are_disjoint_and_hold_whole_pairs_and_groups() {
    let parts = |count, group_size, workers| {
        let parts = split(count, group_size, workers).expect("enough").parts();
        let range = |part: &Part| (part.first, part.first + part.count);
        parts.iter().map(range).collect::<Vec<_>>()
    };
    assert_eq!(parts(10, 0, 2), [(0, 6), (6, 10)]);
    assert_eq!(parts(100, 20, 2), [(0, 60), (60, 100)]);
    assert_eq!(parts(30, 5, 2), [(0, 20), (20, 30)], "odd groups by twos");
    assert_eq!(
        parts(50, 20, 2),
        [(0, 30), (30, 50)],
        "who is in no group is the first's"
    );
    let few = split(50, 20, 3).expect_err("two groups for three");
    assert_eq!((few.units, few.what), (2, "groups"));
}

#[test]
fn what_a_step_says_is_divided_and_adds_up() {
    let split = split(100, 0, 3).expect("enough");
    let mut step = step(100);
    step.storm = Some(Storm {
        bystanders: 10,
        fresh: true,
    });
    step.slow_from = 90;
    let parts = split.divide(&step, 40);
    let sessions: Vec<u32> = parts.iter().map(|part| part.sessions).collect();
    assert_eq!(sessions, [34, 34, 32]);
    let stay: Vec<u32> = parts
        .iter()
        .filter_map(|part| Some(part.storm?.bystanders))
        .collect();
    assert_eq!(stay, [4, 4, 2]);
    let slow = parts.iter().map(|part| part.sessions - part.slow_from);
    assert_eq!(slow.sum::<u32>(), 10);
    let rates: Vec<f64> = parts.iter().map(|part| part.load.rate).collect();
    assert_eq!(rates, [24.0, 24.0, 12.0]);
    let ramp: f64 = parts.iter().map(|part| part.load.ramp).sum();
    assert!((ramp - 100.0).abs() < 1e-9, "{ramp}");
    step.slow_from = u32::MAX;
    let parts = split.divide(&step, 100);
    assert!(
        parts
            .iter()
            .all(|part| part.slow_from == u32::MAX && part.load.ramp > 33.0)
    );
}

proptest! {
    #[test]
    fn ranges_cover_all_users_once_and_grow_with_the_ramp(
        pairs in 1_u32..2_000, group_size in 2_u32..60, has_groups in any::<bool>(), workers in 1_u32..20, ramps in prop::collection::vec(0.0..1.0, 1..5)
    ) {
        let count = 2 * pairs;
        let size = if has_groups { group_size } else { 0 };
        let Ok(split) = split(count.max(size.next_multiple_of(2)), size, workers) else { return Ok(()) };
        let parts = split.parts();
        let mut next = 0;
        for part in &parts {
            assert!(part.first == next && part.count >= 2 && part.count % 2 == 0, "{parts:?}");
            next += part.count;
        }
        assert_eq!(next, split.count);
        if has_groups {
            let groups: u32 = parts.iter().map(|part| part.count / size).sum();
            assert_eq!(groups, split.count / size, "as many as in one process");
        }
        let mut ramps: Vec<u32> = ramps.iter().map(|share| (f64::from(split.count / 2) * share) as u32 * 2).collect();
        ramps.sort_unstable();
        let mut before = vec![0; parts.len()];
        for to in ramps {
            let shares = split.shares(to);
            assert_eq!(sum(&shares), u64::from(to));
            for ((share, before), part) in shares.iter().zip(&before).zip(&parts) {
                assert!(share >= before && *share <= part.count && share % 2 == 0, "{shares:?} after {before:?} of {parts:?}");
            }
            before = shares;
        }
    }

    #[test]
    fn portions_add_up_and_fit(rooms in prop::collection::vec(0_u32..500, 1..20), of in 0.0..=1.0) {
        let rooms: Vec<u32> = rooms.iter().map(|pairs| 2 * pairs).collect();
        let users = (sum(&rooms) as f64 / 2.0 * of) as u32 * 2;
        let parts = portion(users, &rooms);
        assert_eq!(sum(&parts), u64::from(users));
        for (part, room) in parts.iter().zip(&rooms) {
            assert!(part <= room && part % 2 == 0, "{parts:?} in {rooms:?}");
        }
    }
}
